"""From a beam of clusters to a shortlist of labels, on any device."""

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skxmc.ops.row_table import CsrBatch
from skxmc.search import _kernels

__all__ = ["Shortlist", "best_columns", "build_shortlist"]


class Shortlist(NamedTuple):
    """The labels kept for each row, and the path each was reached by.

    Attributes
    ----------
    labels : CsrBatch
        Pattern of label columns, rows in order.
    rows : Tensor of shape (n_entries,), int64
        Row of each entry.
    slots : Tensor of shape (n_entries,), int64
        Place in the row's beam of the cluster on the winning path.
    columns : Tensor of shape (n_entries,), int64
        Column of that cluster's row of edges.
    positive : Tensor of shape (n_entries,), bool
        Whether the label is one of those that are kept in any case.
    found : Tensor of shape (n_entries,), bool, or None
        False where an entry only fills a row up, as on an accelerator; None where none does.
    """

    labels: CsrBatch
    rows: Tensor
    slots: Tensor
    columns: Tensor
    positive: Tensor
    found: Tensor | None = None


def build_shortlist(
    beam: Tensor,
    beam_scores: Tensor,
    edges: Tensor,
    log_weights: Tensor,
    n_labels: int,
    k: int,
    positives: CsrBatch | None = None,
) -> Shortlist:
    """Keep the k labels of each row with the best path score max_c (log s_c + log a_cl).

    Parameters
    ----------
    beam : Tensor of shape (n_rows, width), int64
        Rows of `edges` to follow, each at most once a row, -1 where unused.
    beam_scores : Tensor of shape (n_rows, width), float32
        Log cluster scores.
    edges : Tensor of shape (n_clusters, n_edges), int32
        Label columns, -1 where unused.
    log_weights : Tensor of shape (n_clusters, n_edges), float32
        Log edge weights.
    n_labels : int
        Number of labels.
    k : int
        Labels kept a row; fewer where the beam leads to fewer.
    positives : CsrBatch or None
        Labels kept in any case, if the beam leads to them.

    Returns
    -------
    shortlist : Shortlist
        No label that is found occurs twice in a row.
    """
    beam_scores, log_weights = beam_scores.detach(), log_weights.detach()
    k = min(k, n_labels)
    if beam.device.type == "cpu":
        found = _numba(beam, beam_scores, edges, log_weights, n_labels, k, positives)
    else:
        found = _torch(beam, beam_scores, edges, log_weights, n_labels, k, positives)
    # how many labels there are, an accelerator would have to be asked, and waited for
    return _compress(*found) if beam.device.type == "cpu" else _pad(*found)


def _numba(beam, beam_scores, edges, log_weights, n_labels, k, positives):
    if positives is None:
        indptr, indices = np.zeros(beam.shape[0] + 1, np.int32), np.zeros(0, np.int32)
    else:
        indptr, indices = positives.indptr.numpy(), positives.indices.numpy()
    beam, edges, keys = beam.numpy(), edges.numpy(), log_weights.numpy()
    graph = (edges, keys, *_kernels.row_lengths(edges, keys, np.arange(edges.shape[0])))
    found = _kernels.shortlist(
        beam, beam_scores.numpy(), *graph, k, indptr, indices, numba.get_num_threads()
    )
    return tuple(torch.from_numpy(array) for array in found)


def _torch(beam, beam_scores, edges, log_weights, n_labels, k, positives):
    """Sort all paths of a row by label, keep each label's best, then take the top k."""
    n_rows, n_edges = beam.shape[0], edges.shape[1]
    followed = beam.clamp(min=0)
    labels = edges[followed].masked_fill((beam < 0)[:, :, None], -1).flatten(1).long()
    scores = (beam_scores[:, :, None] + log_weights[followed]).flatten(1)
    scores = scores.masked_fill(labels < 0, -torch.inf)
    by_score = torch.argsort(scores, dim=1, descending=True, stable=True)
    labels_by_score = labels.gather(1, by_score)
    order = by_score.gather(1, torch.argsort(labels_by_score, dim=1, stable=True))
    labels, scores = labels.gather(1, order), scores.gather(1, order)
    first = torch.ones_like(labels, dtype=torch.bool)
    first[:, 1:] = labels[:, 1:] != labels[:, :-1]
    usable = first & (labels >= 0)
    kept = torch.zeros_like(usable)
    if positives is not None:
        rows = torch.arange(n_rows, device=labels.device)[:, None].expand_as(labels)
        kept = contains(positives, rows.reshape(-1), labels.reshape(-1), n_labels)
        kept = kept.reshape(labels.shape)
        scores = scores.masked_fill(kept, torch.inf)
    scores = scores.masked_fill(~usable, -torch.inf)
    # labels ascend within a row, so a stable sort breaks ties by the smaller label
    top = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :k]
    found = usable.gather(1, top)
    path = order.gather(1, top)
    labels = labels.gather(1, top).masked_fill(~found, -1)
    return labels, path % n_edges, path // n_edges, kept.gather(1, top)


def _compress(labels, columns, slots, positive) -> Shortlist:
    """Drop the padding of (n_rows, k) arrays."""
    found = labels >= 0
    indptr = F.pad(torch.cumsum(found.sum(dim=1), dim=0), (1, 0))
    at = found.flatten().nonzero(as_tuple=True)[0]
    rows = at // found.shape[1]
    arrays = (labels, slots, columns, positive)
    labels, slots, columns, positive = (array.flatten()[at] for array in arrays)
    return Shortlist(CsrBatch(indptr, labels), rows, slots.long(), columns.long(), positive)


def _pad(labels, columns, slots, positive) -> Shortlist:
    """Keep the padding of (n_rows, k) arrays as entries of label 0 that are not `found`."""
    n_rows, k = labels.shape
    places = torch.arange(n_rows * k, device=labels.device)
    indptr = k * torch.arange(n_rows + 1, device=labels.device)
    labels = labels.flatten()
    batch = CsrBatch(indptr, labels.clamp(min=0))
    slots, columns = slots.flatten().long(), columns.flatten().long()
    return Shortlist(batch, places // k, slots, columns, positive.flatten(), labels >= 0)


def best_columns(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest entries of each row, largest first; on the CPU in a fraction of `topk`.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_columns), float32
        Any scores, without a gradient.
    k : int
        At most n_columns.

    Returns
    -------
    values, columns : Tensor of shape (n_rows, k)
        As `topk` returns them.

    Examples
    --------
    >>> import torch
    >>> from skxmc.search.shortlist import best_columns
    >>> best_columns(torch.tensor([[1.0, 3.0, 2.0]]), 2)[1]
    tensor([[1, 2]])
    """
    if scores.device.type != "cpu":
        found = scores.topk(k, dim=1)
        return found.values, found.indices
    columns, values = _kernels.top_columns(scores.numpy(), k)
    return torch.from_numpy(values), torch.from_numpy(columns)


def contains(positives: CsrBatch, rows: Tensor, labels: Tensor, n_labels: int) -> Tensor:
    """Whether each (row, label) pair is an entry of `positives` (sorted within rows)."""
    keys = positives.rows() * n_labels + positives.indices
    if keys.shape[0] == 0:
        return torch.zeros_like(rows, dtype=torch.bool)
    wanted = rows * n_labels + labels
    place = torch.searchsorted(keys, wanted).clamp(max=keys.shape[0] - 1)
    return keys[place] == wanted
