"""The ELIAS objective: encoder, cluster index and label head trained on shortlists."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from skxmc.encoders.base import Encoder, check_embeddings
from skxmc.encoders.bow import BagOfWordsEncoder
from skxmc.heads.label_head import LabelHead
from skxmc.index import ClusterIndex, best_parents
from skxmc.index.cluster_index import cap_log
from skxmc.losses.elias import elias_loss
from skxmc.ops.embeddings import dropout
from skxmc.ops.row_table import CsrBatch
from skxmc.search._kernels import top_columns
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import FeatureTable
from skxmc.search.shortlist import Shortlist, build_shortlist, contains
from skxmc.training.mining import pattern_of

__all__ = ["EliasModel", "EliasObjective", "EliasRates", "StageObjective", "freeze"]


# Log path score of an entry that only fills a shortlist up.
_NO_PATH = -1e6
# Weight of a label's bias beside path_power times its log path, where labels are shortlisted for
# prediction. Paths know little of how common a label is; with it half the shortlist does as well.
PRIOR_WEIGHT = 0.15


class EliasModel(nn.Module):
    """The three parts data flows through, held together as one module.

    Parameters
    ----------
    encoder : Encoder
        Rows to embeddings.
    index : ClusterIndex
        Embeddings to clusters, clusters to labels.
    head : LabelHead
        Embeddings to label logits.
    path_power : float, default=1.0
        Exponent of the path score in the final score p = r^path_power sigmoid(z).
    """

    def __init__(
        self, encoder: Encoder, index: ClusterIndex, head: LabelHead, path_power: float = 1.0
    ):
        super().__init__()
        self.path_power = path_power
        self.encoder = encoder
        self.index = index
        self.head = head


@dataclass(frozen=True)
class EliasRates:
    """Rates and weights of one stage.

    Attributes
    ----------
    lr_encoder, lr_clusters, lr_edges : float
        Learning rates of the encoder's dense layers, the cluster layer and the edge logits.
    lr_factor_tables : float
        Factor on the rates of the feature and label tables.
    weight_decay : float
        Decoupled decay of dense weight matrices.
    dropout : float
        Dropout of the embedding.
    lambda_shortlist : float
        Weight of the positives' path cost in the loss.
    beam_width, shortlist_size : int
        Clusters followed and labels scored for each training row.
    exploration : float
        1 draws the shortlist in proportion to the path scores, 0 takes the best.
    """

    lr_encoder: float
    lr_clusters: float
    lr_edges: float
    lr_factor_tables: float
    weight_decay: float
    dropout: float
    lambda_shortlist: float
    beam_width: int
    shortlist_size: int
    exploration: float


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
        pattern = pattern_of(self.Y, rows)
        positives = pattern.on(self.device)
        embeddings = model.encoder(model.encoder.collate(self.data, rows, self.device))
        check_embeddings(model.encoder, embeddings, rows.size)
        embeddings = dropout(embeddings.float(), rates.dropout)
        log_shares = model.index.log_shares(embeddings)
        # uncapped, as in the search: clusters that are fully on must not tie
        most = int(pattern.lengths().max())
        beam, recall = self._beam(log_shares.detach(), positives, most)
        used, local = _rows_followed(beam, model.index.n_clusters)
        beam_scores = cap_log(log_shares.gather(1, beam.clamp(min=0)), model.index.alpha)
        log_weights = model.index.log_weights(used)
        edges = model.index.edges[used]
        shortlist = build_shortlist(
            local,
            beam_scores,
            edges,
            self._explored(edges, log_weights.detach()),
            self.Y.shape[1],
            rates.shortlist_size,
            positives,
        )
        log_path = _log_path(shortlist, local, beam_scores, log_weights)
        logits = model.head(embeddings, shortlist.labels)
        n_labels = self.Y.shape[1]
        positive = contains(positives, shortlist.rows, shortlist.labels.indices.long(), n_labels)
        if shortlist.found is not None:
            # a path that cannot be costs nothing, neither as a loss nor as a gradient
            positive = positive & shortlist.found
            log_path = log_path.masked_fill(~shortlist.found, _NO_PATH)
        classification, path = elias_loss(
            log_path, logits, positive, shortlist.rows, embeddings.shape[0], model.path_power
        )
        total = classification + rates.lambda_shortlist * path
        return total, {"path_loss": path.detach(), "beam_recall": recall}

    def _explored(self, edges: Tensor, log_weights: Tensor) -> Tensor:
        """Add Gumbel noise, one number a label, to the weights that choose the shortlists.

        Each row's labels are then drawn without replacement in proportion to their path scores.
        Rows of a batch share the noise, so that they draw the same labels where they can: far
        fewer label vectors have to be fetched and updated than if each drew for itself.
        """
        if self.rates.exploration == 0:
            return log_weights
        seed = int(torch.randint(2**31 - 1, (1,), generator=self.generator))
        wait = _exponential(self.Y.shape[1], seed, self.device)
        gumbel = wait.clamp_(min=1e-30).log_().mul_(-self.rates.exploration)
        return gumbel[edges.clamp(min=0)].add_(log_weights)

    def _beam(self, log_shares: Tensor, positives: CsrBatch, most: int) -> tuple[Tensor, Tensor]:
        """Best clusters of each row plus its positives' parents, ascending; and beam recall.

        `most` is the largest number of positives of a row. Unused places, at the end, are -1.
        """
        n_rows, n_clusters = log_shares.shape
        width = min(self.rates.beam_width, n_clusters)
        best = _best_columns(log_shares, width)
        rows, parents = positives.rows(), self.parents[positives.indices.long()]
        hits = (best[rows] == parents[:, None]).any(dim=1).float()
        recall = hits.mean() if hits.numel() else torch.ones((), device=self.device)
        place = torch.arange(rows.shape[0], device=self.device) - positives.indptr.long()[rows]
        others = torch.full((n_rows, most), n_clusters, device=self.device)
        others[rows, place] = parents
        beam = torch.cat((best, others), dim=1).sort(dim=1).values
        again = beam[:, 1:] == beam[:, :-1]
        beam[:, 1:] = beam[:, 1:].masked_fill(again, n_clusters)
        beam = beam.sort(dim=1).values
        return beam.masked_fill(beam == n_clusters, -1), recall


def _exponential(size: int, seed: int, device: torch.device) -> Tensor:
    """Exponential random numbers; on the CPU by numpy, which draws them eight times as fast."""
    if device.type == "cpu":
        numbers = np.random.default_rng(seed).standard_exponential(size, dtype=np.float32)
        return torch.from_numpy(numbers)
    generator = torch.Generator(device).manual_seed(seed)
    return torch.empty(size, device=device).exponential_(generator=generator)


def _best_columns(scores: Tensor, k: int) -> Tensor:
    """Columns of the k largest entries of each row; on the CPU several times faster than topk."""
    if scores.device.type != "cpu":
        return scores.topk(k, dim=1).indices
    return torch.from_numpy(top_columns(scores.numpy(), k)[0])


def _rows_followed(beam: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Rows of the graph that take part in the softmax, and the beam as places among them."""
    if beam.device.type != "cpu":  # all: to count them would wait for the device
        return torch.arange(n_clusters, device=beam.device), beam
    used, local = torch.unique(beam.clamp(min=0), return_inverse=True)
    return used, local.masked_fill(beam < 0, -1)


def _log_path(shortlist: Shortlist, beam, beam_scores, log_weights) -> Tensor:
    """Log path score of each entry; gradients flow through its winning path only."""
    cluster = beam[shortlist.rows, shortlist.slots]
    return beam_scores[shortlist.rows, shortlist.slots] + log_weights[cluster, shortlist.columns]


def freeze(model: EliasModel) -> SearchGraph:
    """Take the trained model's arrays; they share memory with the model where it is on the CPU."""
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
