"""The ELIAS objective: encoder, cluster index and label head trained on shortlists."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skxmc.encoders.base import Encoder, check_embeddings
from skxmc.encoders.bow import BagOfWordsEncoder
from skxmc.index import best_parents
from skxmc.ops.embeddings import dropout
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import FeatureTable
from skxmc.training import elias_numba, elias_torch
from skxmc.training.elias_model import EliasBatch, EliasModel, EliasRates
from skxmc.training.mining import pattern_of

__all__ = ["EliasModel", "EliasObjective", "EliasRates", "StageObjective", "freeze"]


# Weight of a label's bias beside path_power times its log path, where labels are shortlisted for
# prediction. Paths know little of how common a label is; three times this crowds out rare labels.
PRIOR_WEIGHT = 0.05


class StageObjective:
    """What the objectives of both stages share: rates of the parameters, parents of the labels.

    Parameters
    ----------
    module : EliasModel
        What is trained.
    data : object
        Training rows as the encoder's `prepare` returned them.
    Y : csr_array of shape (n_rows, n_labels), float32
        Canonical 0/1 indicator.
    rates : EliasRates
        Settings of the stage.
    device : torch.device
        Where the module lives.
    """

    def __init__(
        self,
        module: EliasModel,
        data: Any,
        Y: sp.csr_array,
        rates: EliasRates,
        device: torch.device,
    ):
        self.module = module
        self.data = data
        self.Y = Y
        self.rates = rates
        self.device = device
        self.refresh_parents()

    def refresh_parents(self) -> None:
        """Find each label's heaviest edge anew; call it when edge weights have changed."""
        index = self.module.index
        with torch.no_grad():
            weights = index.log_weights().cpu().numpy()
        parents = best_parents(index.edges.cpu().numpy(), weights, self.Y.shape[1])
        self.parents = torch.from_numpy(parents).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the parents, which are those of the graph as the stage began."""
        return {"parents": self.parents}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the parents of an earlier run."""
        self.parents = state["parents"].to(self.device)

    @property
    def table_factor(self) -> float:
        """Factor on the tables' own learning rates."""
        return self.rates.lr_factor_tables

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the dense parameters with their learning rates."""
        index, rates = self.module.index, self.rates
        groups = [
            {"params": list(self.module.encoder.parameters()), "lr": rates.lr_encoder},
            {"params": list(index.clusters.parameters()), "lr": rates.lr_clusters},
        ]
        for group in groups:
            group["weight_decay"] = rates.weight_decay
        if index.edge_logits is not None:
            # the softmax over a row's edges would fight a decay towards equal weights
            edges = {"params": [index.edge_logits], "lr": rates.lr_edges, "weight_decay": 0.0}
            groups.append(edges)
        return groups


class EliasObjective(StageObjective):
    """Loss of stage 2 on mini-batches: shortlists found by the model itself.

    What comes between embeddings and loss is `elias_numba` on the CPU and `elias_torch` elsewhere.
    Parameters are those of `StageObjective`.
    """

    def __init__(
        self,
        module: EliasModel,
        data: Any,
        Y: sp.csr_array,
        rates: EliasRates,
        device: torch.device,
    ):
        super().__init__(module, data, Y, rates, device)
        self.engine = elias_numba if device.type == "cpu" else elias_torch
        # on the host, so that drawing a seed never waits for the device
        self.generator = torch.Generator()
        self.generator.manual_seed(int(torch.randint(2**31 - 1, (1,))))

    def state_dict(self) -> dict[str, Any]:
        """Return the parents and where the draw of shortlists is."""
        return {**super().state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict(state)
        self.generator.set_state(state["generator"])

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a mini-batch, with the share of positives the beam alone found."""
        model, rates = self.module, self.rates
        positives = pattern_of(self.Y, rows)
        embeddings = model.encoder(model.encoder.collate(self.data, rows, self.device))
        check_embeddings(model.encoder, embeddings, rows.size)
        embeddings = dropout(embeddings.float(), rates.dropout)
        seed = int(torch.randint(2**31 - 1, (1,), generator=self.generator))
        batch = EliasBatch(embeddings, positives, self.parents, seed)
        total, path, recall = self.engine.losses(model, rates, batch)
        return total, {"path_loss": path, "beam_recall": recall}


def freeze(model: EliasModel) -> SearchGraph:
    """Take the trained model's arrays; on the CPU some share memory with the model."""
    index, rows = model.index, model.head.rows
    with torch.no_grad():
        tensors = (
            index.clusters.weight,
            index.clusters.bias,
            index.edges,
            index.log_weights(),
            rows.weight,
            rows.bias,
        )
        weight, bias, edges, log_weights, label_weight, label_bias = (
            tensor.detach().cpu().numpy() for tensor in tensors
        )
    return SearchGraph.from_padded(
        weight,
        bias,
        index.alpha,
        edges,
        log_weights,
        label_weight,
        label_bias,
        freeze_encoder(model.encoder),
        model.path_power,
        PRIOR_WEIGHT / model.path_power,
    )


def freeze_encoder(encoder: Encoder) -> FeatureTable | None:
    """Take a bag-of-words encoder's arrays; None for any other, which torch has to run."""
    if type(encoder) is not BagOfWordsEncoder or len(encoder.layers):
        return None
    scale = encoder.column_scale if encoder.normalize == "scale" else None
    return FeatureTable.from_floats(
        encoder.table.weight.detach().cpu().numpy(),
        np.zeros(0, np.float32) if scale is None else scale,
        encoder.normalize == "rows",
        float(encoder.length),
    )
