"""The metrics themselves, as short functions of the hits.

A row metric gives each row a gain and an ideal; its value is the ratio of their weighted sums.
Metrics that are plain means over rows have an ideal of 1. A label metric is a function of three
counts per label. Both kinds take all values of k at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxmc.metrics._hits import Hits


class RowTerms(NamedTuple):
    """Gain and ideal of each row and k, shape (n_rows, n_ks); no ideal stands for ones."""

    gain: np.ndarray
    ideal: np.ndarray | None = None

    def ratio(self, weights: np.ndarray) -> np.ndarray:
        """Return weighted gain over weighted ideal, shape (..., n_ks); 0 where the ideal is 0.

        `weights` has shape (..., n_rows).
        """
        plain = self.ideal is None
        ideal = weights.sum(axis=-1, keepdims=True) if plain else weights @ self.ideal
        return safe_divide(weights @ self.gain, ideal)


class LabelCounts(NamedTuple):
    """Weighted number of rows per label, shape (n_labels,): correct, predicted, true."""

    correct: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


def count_labels(hits: Hits, k: int, weights: np.ndarray) -> LabelCounts:
    """Count per label in how many rows it is correctly predicted, predicted and true at `k`."""
    indices, correct = hits.indices[:, :k], hits.correct[:, :k]
    of_entry = np.broadcast_to(weights[:, None], indices.shape)

    def count(labels, of_label):
        return np.bincount(labels, of_label, minlength=hits.truth.shape[1])

    found = indices >= 0
    return LabelCounts(
        count(indices[correct], of_entry[correct]),
        count(indices[found], of_entry[found]),
        count(hits.truth.indices, np.repeat(weights, hits.n_true)),
    )


def safe_divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; 0 where the denominator is 0."""
    out = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _precision(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    return RowTerms(_summed(hits.correct, hits, ks) / ks)


def _recall(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    return RowTerms(safe_divide(_summed(hits.correct, hits, ks), hits.n_true[:, None]))


def _ndcg(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    gain = _summed(hits.correct * _discounts(hits), hits, ks)
    return RowTerms(safe_divide(gain, _ideal_dcg(hits, ks)))


def _mrr(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    rank = hits.correct.argmax(axis=1)[:, None] + 1
    found = hits.correct.any(axis=1, keepdims=True) & (rank <= ks)
    return RowTerms(found / rank)


def _map(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    ranks = np.arange(1, hits.correct.shape[1] + 1)
    precision_at_hit = hits.correct * np.cumsum(hits.correct, axis=1) / ranks
    possible = np.minimum(hits.n_true[:, None], ks)
    return RowTerms(safe_divide(_summed(precision_at_hit, hits, ks), possible))


def _psp(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    gain = _summed(hits.correct * inverse[hits.indices], hits, ks)
    ideal = _summed(_largest(hits.truth, inverse, hits.indices.shape[1]), hits, ks)
    return RowTerms(gain / ks, ideal / ks)


def _psndcg(hits: Hits, ks: np.ndarray, inverse: np.ndarray) -> RowTerms:
    discounts, dcg = _discounts(hits), _ideal_dcg(hits, ks)
    gain = _summed(hits.correct * inverse[hits.indices] * discounts, hits, ks)
    largest = _largest(hits.truth, inverse, hits.indices.shape[1])
    ideal = _summed(largest * discounts, hits, ks)
    return RowTerms(safe_divide(gain, dcg), safe_divide(ideal, dcg))


def _summed(values: np.ndarray, hits: Hits, ks: np.ndarray) -> np.ndarray:
    """Sum each row's values up to every k, shape (n_rows, n_ks)."""
    return np.cumsum(values, axis=1)[:, hits.last(ks)]


def _discounts(hits: Hits) -> np.ndarray:
    return 1.0 / np.log2(np.arange(hits.indices.shape[1]) + 2.0)


def _ideal_dcg(hits: Hits, ks: np.ndarray) -> np.ndarray:
    """DCG of a row that ranks its own labels first, shape (n_rows, n_ks)."""
    best = np.concatenate(([0.0], np.cumsum(_discounts(hits))))
    return best[np.minimum(hits.n_true[:, None], ks)]


def _largest(truth: sp.csr_array, weight: np.ndarray, width: int) -> np.ndarray:
    """Return the largest weights among each row's true labels, descending, filled up with 0."""
    values, lengths = weight[truth.indices], np.diff(truth.indptr)
    rows = np.repeat(np.arange(truth.shape[0]), lengths)
    values = values[np.lexsort((-values, rows))]  # rows stay in place, so `rows` still fits
    rank = np.arange(truth.nnz) - np.repeat(truth.indptr[:-1], lengths)
    kept = rank < width
    out = np.zeros((truth.shape[0], width))
    out[rows[kept], rank[kept]] = values[kept]
    return out


ROW_METRICS: dict[str, Callable[[Hits, np.ndarray, np.ndarray], RowTerms]] = {
    "precision": _precision,
    "recall": _recall,
    "ndcg": _ndcg,
    "psp": _psp,
    "psndcg": _psndcg,
    "mrr": _mrr,
    "map": _map,
}

PROPENSITY_METRICS = ("psp", "psndcg")


def _coverage(counts: LabelCounts) -> float:
    return float(safe_divide((counts.correct > 0).sum(), (counts.true > 0).sum()))


def _macro_precision(counts: LabelCounts) -> float:
    return safe_divide(counts.correct, counts.predicted).mean()


def _macro_recall(counts: LabelCounts) -> float:
    return safe_divide(counts.correct, counts.true).mean()


def _macro_f1(counts: LabelCounts) -> float:
    return safe_divide(2 * counts.correct, counts.predicted + counts.true).mean()


LABEL_METRICS: dict[str, Callable[[LabelCounts], float]] = {
    "coverage": _coverage,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
    "macro_f1": _macro_f1,
}
