"""Linear SVMs, one a label: what they are trained on, and their training in chunks of labels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from tqdm.auto import tqdm

from skxmc._sparse import as_csr
from skxmc.heads import _kernels
from skxmc.topk import TopK, topk_to_csr

__all__ = ["SvmSettings", "feature_thresholds", "fit_svms", "training_pairs"]

# Weights of a chunk of labels before pruning: 32 MiB, whatever the number of labels.
_CHUNK = 4 * 1024**2


class SvmSettings(NamedTuple):
    """Settings of the training, as `SparseRanker` documents them."""

    cost_negative: float
    cost_positive: np.ndarray  # of each label, float64
    tol: float
    max_iter: int
    threshold: float


def fit_svms(
    X: sp.csr_array,
    pairs: sp.csr_array,
    draws: np.ndarray,
    settings: SvmSettings,
    seed: int,
    n_threads: int,
    verbose: int = 0,
) -> tuple[sp.csr_array, np.ndarray]:
    """Train labels chunk by chunk, so that unpruned weights never pile up.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        Rows of unit length.
    pairs : csr_array of shape (n_labels, n_rows), float32
        The rows of each label, as `training_pairs` returns them.
    draws : ndarray of shape (n_labels,), int64
        Further rows to draw for each label.
    settings : SvmSettings
        Costs, and when to stop.
    seed : int
        Rows drawn, and the order in which rows are visited.
    n_threads : int
        Threads; results do not depend on it.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    weight : csr_array of shape (n_labels, n_features), float32
        Weights of at least `feature_thresholds`.
    bias : ndarray of shape (n_labels,), float32
        Weights of the bias feature.
    """
    n_labels, n_features = pairs.shape[0], X.shape[1]
    seeds = _seeds(pairs, seed)
    csr, least = (X.indptr, X.indices, X.data), feature_thresholds(X, settings.threshold)
    positive = (pairs.indptr, pairs.indices, pairs.data > 1)
    n_rows_of = np.diff(pairs.indptr) + draws
    bias = np.zeros(n_labels, dtype=np.float32)
    lengths = np.zeros(n_labels, dtype=np.int64)
    parts = [(np.empty(0, np.int32), np.empty(0, np.float32))]
    bar = tqdm(total=n_labels, desc="ranker", unit="label", disable=not verbose)
    for first, last, starts in _chunks(_weight_bounds(X, pairs, draws)):
        features = np.empty(starts[-1], dtype=np.int32)
        weights = np.empty(starts[-1], dtype=np.float32)
        out = (features, weights, lengths[first:last], bias[first:last])
        _kernels.fit_labels(
            csr, least, positive, np.arange(first, last), draws[first:last],
            seeds[first:last], (settings.cost_negative, settings.cost_positive[first:last]),
            settings.tol, settings.max_iter, starts, out,
            np.argsort(-n_rows_of[first:last], kind="stable"), np.zeros(1, np.int64), n_threads,
        )  # fmt: skip
        ends = starts[:-1] + lengths[first:last]
        kept = [slice(*own) for own in zip(starts[:-1], ends, strict=True)]
        parts.append(
            (
                np.concatenate([features[own] for own in kept]),
                np.concatenate([weights[own] for own in kept]),
            )
        )
        bar.update(last - first)
    bar.close()
    columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    weight = sp.csr_array((values, columns, indptr), shape=(n_labels, n_features))
    weight.sort_indices()
    return as_csr(weight), bias


def feature_thresholds(X: sp.csr_array, threshold: float) -> np.ndarray:
    """Find the size below which a weight counts for little, for each feature.

    What a weight adds to a margin is its size times its feature's value, and frequent features,
    which a search meets most often, tend to have small values: in TF-IDF by design. But they come
    many at a time, so that a threshold of products alone drops too much of them; this is the
    geometric mean of that one and one that is the same for all features.

    Parameters
    ----------
    X : csr_array of shape (n_rows, n_features), float32
        Rows.
    threshold : float
        Of a feature whose values are as large as all values are, in the root mean square.

    Returns
    -------
    least : ndarray of shape (n_features,), float32
        `threshold` times the square root of the ratio of two root mean squares, of all values and
        of the feature's own, zeros left out; `threshold` where a feature has none.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.heads.svm import feature_thresholds
    >>> X = sp.csr_array(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 7.0]]))
    >>> feature_thresholds(X, 0.1).round(3)
    array([0.1  , 0.203, 0.077], dtype=float32)
    """
    squares = np.square(X.data, dtype=np.float64)
    n_values = np.bincount(X.indices, squares > 0, minlength=X.shape[1])
    sums = np.bincount(X.indices, squares, minlength=X.shape[1])
    own = np.sqrt(sums / np.maximum(n_values, 1))
    overall = np.sqrt(sums.sum() / max(n_values.sum(), 1))
    ratio = np.sqrt(np.divide(overall, own, out=np.ones(X.shape[1]), where=own > 0))
    return (threshold * ratio).astype(np.float32)


def training_pairs(Y: sp.csr_array, candidates: np.ndarray) -> sp.csr_array:
    """Label x row: 1 where the row's shortlist holds the label, 2 or 3 where it belongs to it."""
    shortlist = as_csr(topk_to_csr(TopK(candidates, np.ones(candidates.shape)), Y.shape[1]))
    shortlist.data[:] = 1
    return as_csr((shortlist + 2 * Y).T)


def _seeds(pairs: sp.csr_array, seed: int) -> np.ndarray:
    """Mix a seed for each label from the first of its rows: labels of equal rows come out equal."""
    first = np.append(pairs.indices, 0)[np.minimum(pairs.indptr[:-1], pairs.nnz)]
    mixed = np.uint64(seed) * np.uint64(2**32) + first.astype(np.uint64) + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)  # splitmix64
    return mixed | np.uint64(1)


def _weight_bounds(X: sp.csr_array, pairs: sp.csr_array, draws: np.ndarray) -> np.ndarray:
    """Features a label can have weights for, at most: the entries of its rows, or all."""
    lengths = np.diff(X.indptr)
    entries = np.concatenate(([0], np.cumsum(lengths[pairs.indices], dtype=np.int64)))
    drawn = draws * lengths.max(initial=0)
    return np.minimum(np.diff(entries[pairs.indptr]) + drawn, X.shape[1])


def _chunks(bounds: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Cut labels into runs of at most `_CHUNK` weights; with each, where a label's ones start."""
    ends = np.cumsum(bounds)
    first = 0
    while first < bounds.size:
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        yield first, last, np.concatenate(([0], ends[first:last] - done))
        first = last
