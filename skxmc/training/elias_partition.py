"""The objective of stage 1: label head and cluster layer on a fixed partition of the labels."""

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skxmc.encoders.base import check_embeddings
from skxmc.index.cluster_index import cap_log
from skxmc.ops.embeddings import dropout
from skxmc.search.shortlist import best_columns
from skxmc.training import _kernels
from skxmc.training.elias import EliasModel, EliasRates, StageObjective
from skxmc.training.elias_model import rows_taught
from skxmc.training.mining import Pattern, pattern_of
from skxmc.training.snm import SNMModel, SNMObjective, SNMRates

__all__ = ["PartitionObjective"]

# Rows of a mini-batch on which beam recall is measured.
_RECALL_ROWS = 64


class PartitionObjective(StageObjective):
    """Labels learn from mined negatives, clusters from the parents of the positives.

    On a fixed partition all labels of a cluster share one path, so a path says nothing of which of
    them are hard: negatives drawn along paths are mostly easy. The label head therefore learns
    from the hardest of a pool shared by the batch (stochastic negative mining), at the price of
    one matrix product, and the cluster layer learns to put the positives' parents in the beam,
    through the same embeddings.

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
    mining : SNMRates
        Settings of the label head's loss.
    device : torch.device
        Where the module lives.
    rng : Generator
        Draws pools.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.2 (staged training); Reddi et al., "Stochastic
    negative mining for learning with large output spaces", AISTATS 2019.
    """

    def __init__(
        self,
        module: EliasModel,
        data: Any,
        Y: sp.csr_array,
        rates: EliasRates,
        mining: SNMRates,
        device: torch.device,
        rng: np.random.Generator,
    ):
        super().__init__(module, data, Y, rates, device)
        scorer = SNMModel(module.encoder, module.head)
        self.mining = SNMObjective(scorer, data, Y, mining, device, rng)

    def state_dict(self) -> dict[str, Any]:
        """Return the parents and where the mining is."""
        return {**super().state_dict(), "mining": self.mining.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict(state)
        self.mining.load_state_dict(state["mining"])

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a mini-batch, with the share of positives the beam finds."""
        model, rates = self.module, self.rates
        positives = pattern_of(self.Y, rows)
        embeddings = model.encoder(model.encoder.collate(self.data, rows, self.device))
        check_embeddings(model.encoder, embeddings, rows.size)
        embeddings = dropout(embeddings.float(), rates.dropout)
        classification = self.mining.mined_loss(embeddings, positives)
        n_rows = rows_taught(rows.size, model.index.n_clusters)
        # a slice of all rows would cost its backward a copy
        some = embeddings if n_rows == rows.size else embeddings[:n_rows]
        logits = model.index.logits(some)
        taught = positives.cut(slice(0, n_rows))
        find = self._paths_in_one_sweep if self.device.type == "cpu" else self._paths
        path, recall = find(logits, taught)
        total = classification + rates.lambda_shortlist * path
        return total, {"path_loss": path.detach(), "beam_recall": recall}

    def _paths(self, logits: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Mean over a row's positives of -log s of their clusters, averaged; and beam recall."""
        log_shares = torch.log_softmax(logits, dim=1)
        positives = pattern.on(self.device)
        lengths = (positives.indptr[1:] - positives.indptr[:-1]).long()
        rows = positives.rows()
        own = log_shares[rows, self.parents[positives.indices.long()]]
        cost = -cap_log(own, self.module.index.alpha) / lengths[rows]
        # recall is only looked at, and wants a sort
        seen = log_shares.detach()[:_RECALL_ROWS]
        width = min(self.rates.beam_width, log_shares.shape[1])
        worst_followed = best_columns(seen, width)[0][:, -1]
        n_seen = int(pattern.indptr[seen.shape[0]])
        hits = (own.detach()[:n_seen] >= worst_followed[rows[:n_seen]]).float()
        recall = hits.mean() if hits.numel() else torch.ones((), device=self.device)
        return cost.sum() / lengths.shape[0], recall

    def _paths_in_one_sweep(self, logits: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Do what `_paths` does on the CPU, where small operations cost more than what they do."""
        own = self.parents.numpy()[pattern.indices]
        gain = np.float32(math.log(self.module.index.alpha))
        settings = (gain, min(self.rates.beam_width, logits.shape[1]), _RECALL_ROWS)
        return _Paths.apply(logits, pattern.indptr, own, settings)


class _Paths(torch.autograd.Function):
    """Mean path cost and beam recall; forward finds the gradient in the logits as well."""

    @staticmethod
    def forward(ctx, logits, indptr, own, settings):
        grad = torch.empty_like(logits)
        costs, hits = np.empty(logits.shape[0]), np.zeros(logits.shape[0], dtype=np.int64)
        _kernels.partition_paths(logits.numpy(), indptr, own, *settings, costs, hits, grad.numpy())
        ctx.grad = grad
        n_seen = int(indptr[min(settings[-1], logits.shape[0])])
        recall = torch.tensor(hits.sum() / n_seen if n_seen else 1.0, dtype=torch.float32)
        ctx.mark_non_differentiable(recall)
        return torch.tensor(costs.mean(), dtype=torch.float32), recall

    @staticmethod
    def backward(ctx, grad, _):
        return grad * ctx.grad, None, None, None
