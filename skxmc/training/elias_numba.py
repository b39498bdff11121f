"""From embeddings to the loss of ELIAS in fused kernels: the engine of the CPU.

Losses and gradients are those of `elias_torch`, found in one sweep over the shortlists: autograd
would take a pass over all entries, or all edges, for each of some thirty small operations.
"""

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from skxmc.index import ClusterIndex
from skxmc.index._kernels import edge_weights, edge_weights_backward
from skxmc.losses._kernels import Entries, elias_losses, thin
from skxmc.ops.row_table import CsrBatch
from skxmc.search import _kernels as search_kernels
from skxmc.training import _kernels
from skxmc.training.elias_model import EliasBatch, EliasModel, EliasRates, rows_taught
from skxmc.training.mining import Pattern

__all__ = ["losses"]

# Quantiles of the Gumbel distribution that a label's noise is drawn from.
_SHARES = (np.arange(2**14) + 0.5) / 2**14
_GUMBEL = -np.log(-np.log(_SHARES)).astype(np.float32)


class _Beams(NamedTuple):
    """Clusters followed from each row, -1 behind."""

    clusters: np.ndarray  # (n_rows, width) int64
    log_scores: np.ndarray  # (n_rows, width) float32, not yet cut at 0
    shares: Tensor  # (n_rows, n_clusters), softmax over all clusters


class _Edges(NamedTuple):
    """Weights of the edges of the clusters that some row follows; other rows are not written."""

    rows: np.ndarray  # (n_rows,) int64, these clusters
    log_weights: np.ndarray  # (n_clusters, n_edges) float32
    log_sums: np.ndarray  # (n_clusters,) float32, normalisers


def losses(
    model: EliasModel, rates: EliasRates, batch: EliasBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `elias_torch.losses` does, but thin gradients below `rates.least_pull`.

    Where clusters are thousands, they learn from `rows_taught` alone, whose pull is the stronger.
    """
    index, (embeddings, pattern, parents, seed) = model.index, batch
    n_taught = rows_taught(embeddings.shape[0], index.n_clusters)
    # a slice of all rows would cost its backward a copy
    whole = n_taught == embeddings.shape[0]
    taught = index.logits(embeddings if whole else embeddings[:n_taught])
    with torch.no_grad():
        others = [] if whole else [index.logits(embeddings[n_taught:])]
    beams, recall = _follow([taught, *others], pattern, parents, rates.beam_width, index.alpha)
    edges = _weigh(index, beams)
    keys = _explored(index, edges, seed, rates.exploration)
    scores = np.minimum(beams.log_scores, np.float32(0))
    k = min(rates.shortlist_size, parents.shape[0])
    labels, columns, slots, positive = search_kernels.shortlist(
        beams.clusters, scores, index.edges.numpy(), *keys, k, *pattern, numba.get_num_threads()
    )
    shortlist = _without_padding(labels)
    label_logits = model.head(embeddings, shortlist)
    indptr = shortlist.indptr.numpy()
    entries = Entries(indptr, beams.clusters, scores, edges.log_weights, slots, columns, positive)
    least = np.float32(rates.least_pull / embeddings.shape[0])
    settings = (model.path_power, rates.lambda_shortlist, least, np.uint64(seed))
    step = _Step(index, beams, edges, entries, *settings)
    total, path = _Losses.apply(taught, index.edge_logits, label_logits, step)
    return total, path, recall


def _follow(
    logits: list[Tensor], pattern: Pattern, parents: Tensor, width: int, alpha: float
) -> tuple[_Beams, Tensor]:
    """Find the clusters each row follows, and the share of the positives the beam alone found.

    `logits` come in runs of rows.
    """
    n_clusters, n_rows = logits[0].shape[1], sum(part.shape[0] for part in logits)
    own, width = parents.numpy()[pattern.indices], min(width, n_clusters)
    clusters = np.empty((n_rows, width + pattern.lengths().max()), dtype=np.int64)
    log_scores, shares = np.empty(clusters.shape, np.float32), torch.empty(n_rows, n_clusters)
    start, hits = 0, 0
    for part in logits:
        rows = slice(start, start + part.shape[0])
        positives = (pattern.indptr[start : rows.stop + 1], own)
        out = (shares[rows].numpy(), clusters[rows], log_scores[rows])
        # chosen uncapped, as in the search: clusters that are fully on must not tie
        arguments = (part.detach().numpy(), width, *positives, np.float32(np.log(alpha)), *out)
        hits += _kernels.find_beams(*arguments).sum()
        start = rows.stop
    recall = torch.tensor(hits / own.size if own.size else 1.0, dtype=torch.float32)
    return _Beams(clusters, log_scores, shares), recall


def _weigh(index: ClusterIndex, beams: _Beams) -> _Edges:
    """Take the weights of the edges of all clusters that some row follows."""
    followed = np.zeros(index.n_clusters + 1, dtype=bool)
    followed[beams.clusters] = True  # the last one for -1
    rows = np.flatnonzero(followed[:-1])
    log_sums = np.empty(index.n_clusters, dtype=np.float32)
    if index.edge_logits is None:
        return _Edges(rows, index.fixed_log_weights.numpy(), log_sums)
    log_weights = np.empty(index.edges.shape, dtype=np.float32)
    logits, edges = index.edge_logits.detach().numpy(), index.edges.numpy()
    edge_weights(logits, edges, rows, _log_gain(index), log_weights, log_sums)
    return _Edges(rows, log_weights, log_sums)


def _log_gain(index: ClusterIndex) -> np.float32:
    assert index.beta is not None
    return np.float32(np.log(index.beta))


def _explored(index: ClusterIndex, edges: _Edges, seed: int, exploration: float):
    """Add Gumbel noise, one number a label, to the weights that choose the shortlists.

    Why, `elias_torch` says. A label's number is a hash: only those that are met are drawn. Returns
    what `noisy_keys` does.
    """
    noise = (np.float32(exploration), _GUMBEL, np.uint32(seed))
    return _kernels.noisy_keys(index.edges.numpy(), edges.rows, edges.log_weights, *noise)


def _without_padding(labels: np.ndarray) -> CsrBatch:
    """Turn rows of labels, -1 behind, into CSR."""
    found = labels >= 0
    indptr = np.zeros(labels.shape[0] + 1, dtype=np.int64)
    np.cumsum(found.sum(axis=1), out=indptr[1:])
    flat = labels.ravel() if indptr[-1] == labels.size else labels[found]
    return CsrBatch(torch.from_numpy(indptr), torch.from_numpy(flat))


class _Step(NamedTuple):
    """What `_Losses` needs beside the tensors that gradients flow to."""

    index: ClusterIndex
    beams: _Beams
    edges: _Edges
    entries: Entries
    path_power: float
    path_weight: float
    least: np.float32  # of the gradients in label logits
    seed: np.uint64


class _Losses(torch.autograd.Function):
    """Total loss and path cost; forward finds the gradients in the scores as well."""

    @staticmethod
    def forward(ctx, cluster_logits, edge_logits, label_logits, step):
        entries = step.entries
        n_rows, width = entries.clusters.shape
        costs, on_logits = np.empty((n_rows, 2)), torch.empty_like(label_logits)
        on_paths = np.empty(entries.slots.shape, dtype=np.float32)
        on_scores = np.empty((n_rows, width), dtype=np.float32)
        settings = (float(step.path_power), float(step.path_weight))
        gradients = (on_logits.numpy(), on_paths, on_scores)
        elias_losses(entries, label_logits.numpy(), *settings, costs, *gradients)
        thin(on_logits.numpy(), step.least, step.seed)
        ctx.gradients = on_logits, on_paths, on_scores
        ctx.step, ctx.n_taught = step, cluster_logits.shape[0]
        # by numpy: the order of the sum is always the same
        classification, path = costs.mean(axis=0)
        total = torch.tensor(classification + step.path_weight * path, dtype=torch.float32)
        path = torch.tensor(path, dtype=torch.float32)
        ctx.mark_non_differentiable(path)
        return total, path

    @staticmethod
    def backward(ctx, grad, _):
        on_logits, on_paths, on_scores = ctx.gradients
        step, scale = ctx.step, float(grad)
        if scale != 1:
            on_logits, on_paths, on_scores = (
                scale * part for part in (on_logits, on_paths, on_scores)
            )
        on_clusters = _on_clusters(step.beams, on_scores, ctx.n_taught)
        on_edges = _on_edges(step, on_paths) if ctx.needs_input_grad[1] else None
        return on_clusters, on_edges, on_logits, None


def _on_clusters(beams: _Beams, on_scores: np.ndarray, n_taught: int) -> Tensor:
    """Gradient of the clusters' logits of the rows that they learn from."""
    shares = beams.shares[:n_taught].clone()
    on_scores = on_scores[:n_taught] * np.float32(on_scores.shape[0] / n_taught)
    own = beams.clusters[:n_taught], beams.log_scores[:n_taught]
    _kernels.beams_backward(*own, on_scores, shares.numpy())
    return shares


def _on_edges(step: _Step, on_paths: np.ndarray) -> Tensor:
    """Gradient of the edges' logits; zero for clusters that no row follows."""
    index, edges, entries = step.index, step.edges, step.entries
    assert index.edge_logits is not None
    logits, grad = index.edge_logits.detach(), torch.zeros_like(index.edge_logits)
    _kernels.scatter_paths(
        entries.indptr, entries.clusters, entries.slots, entries.columns, on_paths,
        numba.get_num_threads(), grad.numpy(),
    )  # fmt: skip
    arrays = (logits.numpy(), index.edges.numpy(), edges.rows, _log_gain(index), edges.log_sums)
    edge_weights_backward(*arrays, grad.numpy())
    return grad
