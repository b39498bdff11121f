"""The SNM objective: encoder and label head trained on mined negatives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skxmc.encoders.base import Encoder, csr_batch
from skxmc.heads.label_head import LabelHead
from skxmc.losses.owl import ordered_weighted_loss
from skxmc.negatives import Pool
from skxmc.ops.row_table import CsrBatch

__all__ = ["SNMModel", "SNMObjective", "SNMRates", "kept_negatives", "mine"]

# From one in this many of the pool kept, the whole pool takes part in dense products.
_DENSE_SHARE = 4
# Entries of a batch x pool matrix of scores held at once: 64 MiB.
_DENSE_ENTRIES = 2**24


class SNMModel(nn.Module):
    """Encoder and label head, held together as one module.

    Parameters
    ----------
    encoder : Encoder
        Rows to embeddings.
    head : LabelHead
        Embeddings to label scores.
    cosine_scale : float or None, default=None
        If given, embeddings are brought to this length; label vectors have length 1, so that
        scores are cosines times it.
    """

    def __init__(self, encoder: Encoder, head: LabelHead, cosine_scale: float | None = None):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.cosine_scale = cosine_scale

    def forward(self, inputs: Any) -> Tensor:
        """Embed a batch as the head scores it."""
        embeddings = self.encoder(inputs).float()
        if self.cosine_scale is None:
            return embeddings
        return self.cosine_scale * F.normalize(embeddings)

    def embed(self, embeddings: np.ndarray) -> np.ndarray:
        """Bring the encoder's embeddings of query rows to the length the head expects."""
        if self.cosine_scale is None:
            return embeddings
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings * (np.float32(self.cosine_scale) / np.maximum(lengths, 1e-12))


@dataclass(frozen=True)
class SNMRates:
    """Settings of the objective; `SNMClassifier` documents them.

    Attributes
    ----------
    weights : Tensor of shape (k,)
        Weights of the kept negatives, hardest first.
    margin : str
        Margin loss.
    pairwise : bool
        POWL instead of BOWL.
    treatment : str
        What becomes of several positives.
    pool : Pool
        Draws the candidates.
    anneal_steps : int
        Steps over which the number of kept negatives falls from the whole pool to k.
    lr_encoder, weight_decay : float
        Rate and decay of the encoder's dense layers.
    dropout : float
        Dropout of the embedding.
    """

    weights: Tensor
    margin: str
    pairwise: bool
    treatment: str
    pool: Pool
    anneal_steps: int
    lr_encoder: float
    weight_decay: float
    dropout: float


class SNMObjective:
    """Ordered weighted loss over the hardest of a random pool of negatives.

    Parameters
    ----------
    module : SNMModel
        What is trained.
    data : object
        Training rows as the encoder's `prepare` returned them.
    Y : csr_array of shape (n_rows, n_labels), float32
        Canonical 0/1 indicator.
    rates : SNMRates
        Settings.
    device : torch.device
        Where the module lives.
    rng : Generator
        Draws pools and positives.

    References
    ----------
    Reddi et al., "Stochastic negative mining for learning with large output spaces", AISTATS 2019.
    """

    table_factor = 1.0

    def __init__(
        self,
        module: SNMModel,
        data: Any,
        Y: sp.csr_array,
        rates: SNMRates,
        device: torch.device,
        rng: np.random.Generator,
    ):
        self.module = module
        self.data = data
        self.Y = Y
        self.rates = rates
        self.device = device
        self.rng = rng
        self.label_counts = np.bincount(Y.indices, minlength=Y.shape[1])
        self.n_steps = 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the dense parameters with their learning rate."""
        parameters = list(self.module.encoder.parameters())
        rates = self.rates
        return [{"params": parameters, "lr": rates.lr_encoder, "weight_decay": rates.weight_decay}]

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a mini-batch's rows."""
        model = self.module
        positives = csr_batch(self.Y, rows, self.device)
        embeddings = model(model.encoder.collate(self.data, rows, self.device))
        embeddings = F.dropout(embeddings, self.rates.dropout)
        return self.mined_loss(embeddings, positives), {}

    def mined_loss(self, embeddings: Tensor, positives: CsrBatch) -> Tensor:
        """Draw a pool, mine it, and return the mean loss of rows that are embedded already."""
        model, rates = self.module, self.rates
        drawn = rates.pool.draw(positives.indices.cpu().numpy(), self.label_counts, self.rng)
        pool = torch.from_numpy(drawn).to(self.device)
        k = kept_negatives(self.n_steps, rates.anneal_steps, pool.shape[0], rates.weights.shape[0])
        self.n_steps += 1
        wanted = self._pick_one(positives) if rates.treatment == "pick_one" else positives
        if k * _DENSE_SHARE >= pool.shape[0]:
            loss = self._dense_loss(embeddings, positives, wanted, pool, k)
        else:
            negatives = mine(model.head, embeddings.detach(), pool, positives, k)
            loss = self._sparse_loss(embeddings, wanted, negatives)
        return loss / embeddings.shape[0]

    def _dense_loss(self, embeddings, positives, wanted, pool, k) -> Tensor:
        """Score the whole pool in one product, where most of it is kept: nothing is gathered."""
        outside = _outside(wanted, pool)
        # once for the whole batch, since a label's row is to be updated once
        scores = self.module.head(embeddings, outside)
        size = max(1, _DENSE_ENTRIES // pool.shape[0])
        n_rows = embeddings.shape[0]
        if n_rows <= size:
            return self._pool_loss(embeddings, positives, wanted, outside, scores, pool, k)
        total = embeddings.new_zeros(())
        for start in range(0, n_rows, size):
            part = slice(start, start + size)
            bounds = outside.indptr[part.start : part.stop + 1]
            # what a part needs for its gradient is made again in `backward`, not kept
            total = total + checkpoint(
                self._pool_loss,
                embeddings[part],
                _cut(positives, part),
                _cut(wanted, part),
                _cut(outside, part),
                scores[bounds[0] : bounds[-1]],
                pool,
                k,
                use_reentrant=False,
            )
        return total

    def _pool_loss(self, embeddings, positives, wanted, outside, outside_scores, pool, k) -> Tensor:
        """Loss of rows of which the wanted positives `outside` of the pool are scored already."""
        scores = self.module.head.rows.product(embeddings, pool)
        rows, at, inside = _locate(wanted, pool)
        own = torch.cat((scores[rows[inside], at[inside]], outside_scores))
        rows = torch.cat((rows[inside], _rows_of(outside)))
        masked_rows, masked_at, masked = _locate(positives, pool)
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[masked_rows[masked], masked_at[masked]] = True
        return self._ordered_loss(own, rows, scores.masked_fill(mask, -torch.inf), k)

    def _sparse_loss(self, embeddings: Tensor, positives: CsrBatch, negatives: Tensor) -> Tensor:
        """Score positives and kept negatives in one pass, so that each label row moves once."""
        found = negatives >= 0
        n_positive = (positives.indptr[1:] - positives.indptr[:-1]).long()
        n_entries = n_positive + found.sum(dim=1)
        indptr = F.pad(torch.cumsum(n_entries, 0), (1, 0))
        rows = torch.arange(embeddings.shape[0], device=self.device)
        positive_rows = torch.repeat_interleave(rows, n_positive)
        first = torch.repeat_interleave(indptr[:-1] - positives.indptr[:-1], n_positive)
        positive_at = first + torch.arange(positive_rows.shape[0], device=self.device)
        rank = torch.cumsum(found, dim=1) - 1
        negative_at = ((indptr[:-1] + n_positive)[:, None] + rank)[found]
        labels = torch.empty(int(indptr[-1]), dtype=torch.int64, device=self.device)
        labels[positive_at] = positives.indices.long()
        labels[negative_at] = negatives[found]
        scores = self.module.head(embeddings, CsrBatch(indptr, labels))
        against = torch.full(negatives.shape, -torch.inf, device=self.device)
        against = against.masked_scatter(found, scores[negative_at])
        own = scores[positive_at]
        return self._ordered_loss(own, positive_rows, against, negatives.shape[1])

    def _ordered_loss(self, own: Tensor, rows: Tensor, against: Tensor, k: int) -> Tensor:
        rates = self.rates
        # while more than their number are kept, all beyond the last weigh as much as it
        beyond = max(0, k - rates.weights.shape[0])
        weights = F.pad(rates.weights[None, :k], (0, beyond), mode="replicate")[0]
        return ordered_weighted_loss(
            own,
            rows,
            against,
            weights,
            margin=rates.margin,
            pairwise=rates.pairwise,
            treatment=rates.treatment,
        )

    def _pick_one(self, positives: CsrBatch) -> CsrBatch:
        """Keep one random positive of each row that has any."""
        lengths = (positives.indptr[1:] - positives.indptr[:-1]).cpu().numpy()
        some = lengths > 0
        offset = (self.rng.random(lengths.size) * lengths).astype(np.int64)[some]
        at = positives.indptr[:-1].long().cpu().numpy()[some] + offset
        indptr = torch.from_numpy(np.concatenate(([0], np.cumsum(some)))).to(self.device)
        return CsrBatch(indptr, positives.indices[torch.from_numpy(at).to(self.device)])


def kept_negatives(step: int, anneal_steps: int, pool_size: int, k: int) -> int:
    """Count the negatives kept at a step: from the whole pool down to k, geometrically.

    Parameters
    ----------
    step, anneal_steps : int
        Steps done, and steps that the descent takes.
    pool_size, k : int
        Where it starts and ends; k is clipped to the pool.

    Returns
    -------
    n_kept : int

    Examples
    --------
    >>> from skxmc.training.snm import kept_negatives
    >>> [kept_negatives(step, 2, pool_size=100, k=1) for step in range(4)]
    [100, 10, 1, 1]
    """
    k = min(k, pool_size)
    if step >= anneal_steps:
        return k
    return max(k, round(pool_size * (k / pool_size) ** (step / anneal_steps)))


@torch.no_grad()
def mine(head: LabelHead, embeddings: Tensor, pool: Tensor, positives: CsrBatch, k: int) -> Tensor:
    """Keep the k highest-scoring labels of the pool that are no positives of the row.

    Parameters
    ----------
    head : LabelHead
        Scores labels.
    embeddings : Tensor of shape (n_rows, embedding_dim)
        The batch.
    pool : Tensor of shape (n_pool,), int64
        Distinct labels, ascending.
    positives : CsrBatch
        Each row's positives.
    k : int
        Labels kept.

    Returns
    -------
    labels : Tensor of shape (n_rows, min(k, n_pool)), int64
        Hardest first, -1 where a row has no more.
    """
    table = head.rows
    # one product of the batch with the pool's rows
    scores = torch.addmm(table.bias[pool], embeddings, table.weight[pool].T)
    rows, at, inside = _locate(positives, pool)
    scores[rows[inside], at[inside]] = -torch.inf
    top = scores.topk(min(k, pool.shape[0]), dim=1)
    return pool[top.indices].masked_fill(top.values == -torch.inf, -1)


def _rows_of(batch: CsrBatch) -> Tensor:
    lengths = (batch.indptr[1:] - batch.indptr[:-1]).long()
    rows = torch.arange(lengths.shape[0], device=lengths.device)
    return torch.repeat_interleave(rows, lengths)


def _locate(batch: CsrBatch, pool: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row of each entry, its place in the ascending pool, and whether it is there at all."""
    labels = batch.indices.long()
    at = torch.searchsorted(pool, labels).clamp(max=pool.shape[0] - 1)
    return _rows_of(batch), at, pool[at] == labels


def _outside(batch: CsrBatch, pool: Tensor) -> CsrBatch:
    """Keep the entries that are not in the pool."""
    rows, _, inside = _locate(batch, pool)
    lengths = torch.bincount(rows[~inside], minlength=batch.indptr.shape[0] - 1)
    return CsrBatch(F.pad(torch.cumsum(lengths, 0), (1, 0)), batch.indices[~inside])


def _cut(batch: CsrBatch, part: slice) -> CsrBatch:
    """Cut consecutive rows out of a pattern."""
    indptr = batch.indptr[part.start : part.stop + 1]
    return CsrBatch(indptr - indptr[0], batch.indices[indptr[0] : indptr[-1]])
