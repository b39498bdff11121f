"""Which labels take part in a step: patterns made on the host, from what the host knows.

The rows' own labels and the pool are drawn on the host, so how many entries a pattern has is known
there, and no accelerator has to be asked, and waited for.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skxmc.heads.label_head import LabelHead
from skxmc.ops._kernels import cut_rows
from skxmc.ops.half import HALF_WORK, has_bfloat16
from skxmc.ops.row_table import CsrBatch, RowTable
from skxmc.ops.transfer import to_device
from skxmc.training import _kernels

__all__ = ["Candidates", "Pattern", "mine", "pattern_of", "pick_one"]


class Pattern(NamedTuple):
    """Labels of the rows of a mini-batch, on the host.

    Attributes
    ----------
    indptr : ndarray of shape (n_rows + 1,), int
    indices : ndarray of shape (nnz,), int
        Label columns, ascending within a row.
    """

    indptr: np.ndarray
    indices: np.ndarray

    def lengths(self) -> np.ndarray:
        """Count the labels of each row."""
        return np.diff(self.indptr)

    def rows(self) -> np.ndarray:
        """Row of each entry."""
        return np.repeat(np.arange(self.indptr.size - 1), self.lengths())

    def cut(self, part: slice) -> "Pattern":
        """Cut consecutive rows out."""
        indptr = self.indptr[part.start : part.stop + 1]
        return Pattern(indptr - indptr[0], self.indices[indptr[0] : indptr[-1]])

    def keep(self, entries: np.ndarray) -> "Pattern":
        """Keep the entries that are True."""
        lengths = np.bincount(self.rows()[entries], minlength=self.indptr.size - 1)
        return Pattern(np.concatenate(([0], np.cumsum(lengths))), self.indices[entries])

    def on(self, device: torch.device) -> CsrBatch:
        """Hand the pattern to a device."""
        return CsrBatch(to_device(self.indptr, device), to_device(self.indices, device))


def pattern_of(Y: sp.csr_array, rows: np.ndarray) -> Pattern:
    """Cut the labels of some rows out of an indicator."""
    return Pattern(*cut_rows(Y.indptr, Y.indices, Y.data, rows)[:2])


def pick_one(pattern: Pattern, rng: np.random.Generator) -> Pattern:
    """Keep one random entry of each row that has any.

    Parameters
    ----------
    pattern : Pattern
        Of a mini-batch.
    rng : Generator
        Draws the entries.

    Returns
    -------
    picked : Pattern
    """
    lengths = pattern.lengths()
    some = lengths > 0
    offset = (rng.random(lengths.size) * lengths).astype(np.int64)[some]
    indptr = np.concatenate(([0], np.cumsum(some)))
    return Pattern(indptr, pattern.indices[pattern.indptr[:-1][some] + offset])


class Candidates:
    """The pool of a step, and where the rows' own labels are in it.

    Parameters
    ----------
    drawn : ndarray of shape (n_pool,), int64
        Distinct labels, ascending.
    device : torch.device
        Where the step runs.
    """

    def __init__(self, drawn: np.ndarray, device: torch.device):
        self.drawn = drawn
        self.labels = to_device(drawn, device)

    @property
    def size(self) -> int:
        """Labels in the pool."""
        return self.drawn.size

    def holds(self, pattern: Pattern) -> np.ndarray:
        """Whether each entry of a pattern is in the pool."""
        place = np.searchsorted(self.drawn, pattern.indices).clip(max=self.size - 1)
        return self.drawn[place] == pattern.indices

    def find(self, pattern: Pattern) -> Pattern:
        """Places in the pool of the entries that are in it, row by row."""
        return Pattern(*_kernels.find_own(self.drawn, *pattern))

    def places(self, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Row and place in the pool of the entries that are in it, on the device."""
        found, device = self.find(pattern), self.labels.device
        return to_device(found.rows(), device), to_device(found.indices, device)


@torch.no_grad()
def mine(
    head: LabelHead, embeddings: Tensor, pool: Candidates, positives: Pattern, k: int
) -> tuple[Tensor, np.ndarray]:
    """Keep the k highest-scoring labels of the pool that are no positives of the row.

    Parameters
    ----------
    head : LabelHead
        Scores labels.
    embeddings : Tensor of shape (n_rows, embedding_dim)
        The batch.
    pool : Candidates
        Labels to choose from.
    positives : Pattern
        Each row's positives.
    k : int
        Labels kept, at most the pool.

    Returns
    -------
    labels : Tensor of shape (n_rows, k), int64
        In no particular order, but those that are found come first.
    n_found : ndarray of shape (n_rows,), int64
        How many of these a row has; the others are positives of the row.
    """
    table, labels = head.rows, pool.labels
    own = pool.find(positives)
    n_found = np.minimum(k, pool.size - own.lengths())
    if labels.device.type == "cpu":
        return _hardest(table, embeddings, pool, own, k), n_found
    # one product of the batch with the pool's rows
    scores = torch.addmm(table.bias[labels], embeddings, table.weight[labels].T)
    scores[pool.places(positives)] = -torch.inf
    return labels[scores.topk(k, dim=1).indices], n_found


def _hardest(table: RowTable, embeddings: Tensor, pool: Candidates, own: Pattern, k: int) -> Tensor:
    """Choose on the CPU: several times faster than `topk`, and in half precision where it pays.

    `own` holds places in the pool. Scores only choose here; those that enter the loss are computed
    anew, in float32.
    """
    found = np.empty((embeddings.shape[0], k), dtype=np.int64)
    bias = table.bias[pool.labels]
    chosen = (pool.drawn, *own, found)
    if embeddings.numel() * pool.size >= HALF_WORK and has_bfloat16():
        vectors = np.empty((pool.size, embeddings.shape[1]), dtype=np.uint16)
        _kernels.take_bfloat16(table.weight.numpy().view(np.uint32), pool.drawn, vectors)
        half = torch.from_numpy(vectors).view(torch.bfloat16)
        products = embeddings.bfloat16() @ half.T
        _kernels.hardest_of_halves(products.view(torch.uint16).numpy(), bias.numpy(), *chosen)
    else:
        scores = torch.addmm(bias, embeddings, table.weight[pool.labels].T)
        _kernels.hardest(scores.float().numpy(), *chosen)
    return torch.from_numpy(found)
