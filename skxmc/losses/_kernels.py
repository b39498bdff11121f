"""Numba kernel of the loss of ELIAS: values and gradients of a batch's shortlists in one sweep."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from skxmc._numba_cache import CACHE
from skxmc.ops._kernels import splitmix

# p never counts as closer to 1 than this, as in `log1mexp`
_CERTAIN = math.exp(-1e-6)


class Entries(NamedTuple):
    """Shortlists of a batch, padded to one width, and what their scores are made of."""

    indptr: np.ndarray  # (n_rows + 1,) int, entries of each row without padding
    clusters: np.ndarray  # (n_rows, beam_width) int, followed from each row
    scores: np.ndarray  # (n_rows, beam_width) float32, their log scores
    log_weights: np.ndarray  # (n_clusters, n_edges) float32
    slots: np.ndarray  # (n_rows, k) int32, place in the beam of an entry's cluster
    columns: np.ndarray  # (n_rows, k) int32, place in the cluster's row of edges
    positive: np.ndarray  # (n_rows, k) bool


@njit(cache=CACHE, parallel=True)
def elias_losses(entries, logits, path_power, path_weight, costs, on_logits, on_paths, on_scores):
    """Costs of each row as `elias_loss` defines them, and the gradients of their weighted total.

    `costs` (n_rows, 2) receives classification and path cost of each row, not yet divided by the
    number of rows. The gradients are those of the means' total: `on_logits` one an entry,
    `on_paths` (n_rows, k) of log path scores, `on_scores` (n_rows, beam_width) of log cluster
    scores, summed over the paths that lead over them.
    """
    n_rows = entries.slots.shape[0]
    for i in prange(n_rows):
        start, n = entries.indptr[i], entries.indptr[i + 1] - entries.indptr[i]
        n_positive = max(1, entries.positive[i, :n].sum())
        pull = -path_weight / n_positive
        on_scores[i] = 0
        classification, path = 0.0, 0.0
        for r in range(n):
            slot = entries.slots[i, r]
            cluster = entries.clusters[i, slot]
            log_path = np.float64(entries.scores[i, slot])
            log_path += entries.log_weights[cluster, entries.columns[i, r]]
            positive = entries.positive[i, r]
            cost, slope, off = _cost(path_power * log_path, np.float64(logits[start + r]), positive)
            classification += cost
            on_path = path_power * slope
            if positive:
                path -= log_path / n_positive
                on_path += pull
            on_logits[start + r] = slope * off / n_rows
            on_paths[i, r] = on_path / n_rows
            on_scores[i, slot] += np.float32(on_path / n_rows)
        costs[i, 0], costs[i, 1] = classification, path


@njit(cache=CACHE)
def _cost(log_share, logit, positive):
    """Return cost of log p = log_share + log sigmoid(logit), its slope in log p, sigmoid(-logit).

    In float64, where 1 - p loses no digits that count.
    """
    small = math.exp(-abs(logit))
    sigmoid = (1.0 if logit > 0 else small) / (1.0 + small)
    off = (small if logit > 0 else 1.0) / (1.0 + small)
    if positive:
        return math.log1p(small) - min(logit, 0.0) - log_share, -1.0, off
    p = math.exp(log_share) * sigmoid
    if p > _CERTAIN:
        return -math.log(1.0 - _CERTAIN), 0.0, off
    return -math.log1p(-p), p / (1.0 - p), off


@njit(cache=CACHE, parallel=True)
def thin(values, least, seed):
    """Round what is smaller than `least` in size to that or to 0 at random, in place.

    The chance is such that the expectation stays. Most negatives of a shortlist are as good as
    learned: together they pull about as much as rounding makes of a few of them.
    """
    for j in prange(values.shape[0]):
        value = values[j]
        size = abs(value)
        if size < least:
            share = np.float32(splitmix(seed, j) >> np.uint64(40)) * np.float32(2.0**-24)
            kept = share * least < size
            values[j] = math.copysign(least, value) if kept else np.float32(0.0)
