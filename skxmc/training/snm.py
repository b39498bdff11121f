"""The SNM objective: encoder and label head trained on mined negatives."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skxmc.encoders.base import Encoder
from skxmc.heads.label_head import LabelHead
from skxmc.losses.owl import margin_loss, ordered_weighted_loss
from skxmc.negatives import Pool
from skxmc.ops.embeddings import dropout
from skxmc.ops.row_table import CsrBatch
from skxmc.ops.transfer import to_device
from skxmc.training._kernels import join_labels
from skxmc.training.mining import Candidates, Pattern, mine, pattern_of, pick_one
from skxmc.training.state import pack_generator, unpack_generator

__all__ = ["SNMModel", "SNMObjective", "SNMRates", "kept_negatives"]

# From one in this many of the pool kept, the whole pool takes part in dense products.
DENSE_SHARE = 4
# Entries of a batch x pool matrix of scores held at once: 64 MiB.
DENSE_ENTRIES = 2**24


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

    @cached_property
    def counts_once(self) -> bool:
        """Whether the loss is a plain sum over positives and kept negatives: no order, no pairs."""
        return self.treatment == "one_vs_all" and bool((self.weights == 1).all())


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

    def state_dict(self) -> dict[str, Any]:
        """Return the steps done and where the draw of pools is."""
        return {"n_steps": self.n_steps, "generator": pack_generator(self.rng)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.n_steps = state["n_steps"]
        unpack_generator(self.rng, state["generator"])

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a mini-batch's rows."""
        model = self.module
        embeddings = model(model.encoder.collate(self.data, rows, self.device))
        embeddings = dropout(embeddings, self.rates.dropout)
        return self.mined_loss(embeddings, pattern_of(self.Y, rows)), {}

    def mined_loss(self, embeddings: Tensor, positives: Pattern) -> Tensor:
        """Draw a pool, mine it, and return the mean loss of rows that are embedded already."""
        rates = self.rates
        drawn = rates.pool.draw(positives.indices, self.label_counts, self.rng)
        pool = Candidates(drawn, self.device)
        k = kept_negatives(self.n_steps, rates.anneal_steps, pool.size, rates.weights.shape[0])
        self.n_steps += 1
        wanted = pick_one(positives, self.rng) if rates.treatment == "pick_one" else positives
        if k * DENSE_SHARE >= pool.size:
            loss = self._dense_loss(embeddings, positives, wanted, pool, k)
        else:
            mined = mine(self.module.head, embeddings.detach(), pool, positives, k)
            loss = self._sparse_loss(embeddings, wanted, *mined)
        return loss / embeddings.shape[0]

    def _dense_loss(self, embeddings, positives, wanted, pool, k) -> Tensor:
        """Score the whole pool in one product, where most of it is kept: nothing is gathered."""
        outside = wanted.keep(~pool.holds(wanted))
        # once for the whole batch, since a label's row is to be updated once
        scores = self.module.head(embeddings, outside.on(self.device))
        size = max(1, DENSE_ENTRIES // pool.size)
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
                positives.cut(part),
                wanted.cut(part),
                outside.cut(part),
                scores[int(bounds[0]) : int(bounds[-1])],
                pool,
                k,
                use_reentrant=False,
            )
        return total

    def _pool_loss(self, embeddings, positives, wanted, outside, outside_scores, pool, k) -> Tensor:
        """Loss of rows of which the wanted positives `outside` of the pool are scored already."""
        scores = self.module.head.rows.product(embeddings, pool.labels)
        rows, at = pool.places(wanted)
        own = torch.cat((scores[rows, at], outside_scores))
        rows = torch.cat((rows, to_device(outside.rows(), self.device)))
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[pool.places(positives)] = True
        return self._ordered_loss(own, rows, scores.masked_fill(mask, -torch.inf), k)

    def _sparse_loss(
        self, embeddings: Tensor, positives: Pattern, negatives: Tensor, n_found: np.ndarray
    ) -> Tensor:
        """Score positives and kept negatives in one pass, so that each label row moves once."""
        if self.rates.counts_once and embeddings.device.type == "cpu":
            return self._labelled_loss(embeddings, positives, negatives, n_found)
        n_rows, k = negatives.shape
        n_positive = positives.lengths()
        indptr = np.concatenate(([0], np.cumsum(n_positive + n_found)))
        rows = positives.rows()
        # a row's positives come first, then its negatives
        own_at = np.arange(rows.size) + (indptr[:-1] - positives.indptr[:-1])[rows]
        found = np.flatnonzero(np.arange(k) < n_found[:, None])
        found_at = (indptr[:-1] + n_positive)[found // k] + found % k
        arrays = (indptr, rows, positives.indices, own_at, found, found_at)
        starts, row_of, own, own_place, kept, kept_place = (
            to_device(array, self.device) for array in arrays
        )
        labels = torch.empty(rows.size + found.size, dtype=torch.int64, device=self.device)
        labels[own_place] = own.long()
        labels[kept_place] = negatives.flatten()[kept]
        scores = self.module.head(embeddings, CsrBatch(starts, labels))
        against = torch.full((n_rows * k,), -torch.inf, device=self.device)
        against = against.scatter(0, kept, scores[kept_place]).reshape(n_rows, k)
        return self._ordered_loss(scores[own_place], row_of, against, k)

    def _labelled_loss(self, embeddings, positives, negatives, n_found) -> Tensor:
        """Sum the margin losses of all scores, where each label's counts once and for itself."""
        indptr, labels, signs = join_labels(
            positives.indptr, positives.indices, negatives.numpy(), n_found
        )
        pattern = CsrBatch(torch.from_numpy(indptr), torch.from_numpy(labels))
        scores = self.module.head(embeddings, pattern)
        return margin_loss(torch.from_numpy(signs) * scores, self.rates.margin).sum()

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
