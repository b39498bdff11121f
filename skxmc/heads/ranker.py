"""The sparse ranker of ELIAS++: a linear SVM a label, which re-orders any top-k."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from skxmc._sparse import as_csr
from skxmc._targets import indicator_csr
from skxmc._threads import limited_threads
from skxmc._validation import check_int, check_number, check_option
from skxmc.heads import _kernels
from skxmc.heads.candidates import (
    candidate_dots,
    checked_labels,
    log_scores,
    sort_candidates,
    unit_csr,
)
from skxmc.topk import TopK, topk_to_csr

__all__ = ["SparseRanker"]

COMBINATIONS = ("l3_hinge", "linear")
# Weights of a chunk of labels before pruning: 32 MiB, whatever the number of labels.
_CHUNK = 4 * 1024**2


class SparseRanker:
    """One linear classifier a label on the sparse features, for the candidates of a shortlist.

    Label l has weights w_l and a bias b_l that minimise ::

        (|w_l|^2 + b_l^2) / 2 + sum_i C_i max(0, 1 - y_il (w_l . x_i + b_l))^2

    over the rows i whose shortlist holds l and over all rows that l belongs to. The negatives are
    thus the rows on which the first search confuses l with others. Rows x_i are scaled to unit
    length. Weights remember rare features that an embedding blurs.

    Parameters
    ----------
    cost_positive : float, default=1.0
        C_i of the rows that a label belongs to.
    cost_negative : float, default=1.0
        C_i of the others.
    threshold : float, default=0.1
        Weights smaller than this are dropped, as in PECOS; 0 keeps all.
    tol : float, default=0.1
        Spread of the projected gradients at which a label is done, LIBLINEAR's ``-e``.
    max_iter : int, default=100
        Sweeps over a label's rows at most.
    n_jobs : int or None, default=None
        Threads; None leaves Numba's setting alone. Results do not depend on it.
    random_state : int, RandomState or None, default=None
        Order in which a label's rows are visited.

    Attributes
    ----------
    weight_ : csr_array of shape (n_labels, n_features), float32
        Weights of each label; a label without training rows has none.
    bias_ : ndarray of shape (n_labels,), float32
        Weight of the bias feature 1.0, never pruned; 0 for a label without training rows.

    References
    ----------
    ELIAS++, the re-ranked variant of ELIAS (Gupta et al., NeurIPS 2022). C.-J. Hsieh, K.-W. Chang,
    C.-J. Lin, S. S. Keerthi, S. Sundararajan, "A dual coordinate descent method for large-scale
    linear SVM", ICML 2008, algorithm 3.

    Examples
    --------
    >>> from skxmc import SNMClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> from skxmc.heads import SparseRanker
    >>> X, Y = make_xmc_classification(n_samples=500, n_labels=50, random_state=0)
    >>> clf = SNMClassifier(max_epochs=2, random_state=0).fit(X, Y)
    >>> top = clf.predict_topk(X, k=20)
    >>> ranker = SparseRanker(random_state=0).fit(X, Y, top)
    >>> ranker.rerank(X, top, form="logit").indices.shape
    (500, 20)
    """

    weight_: sp.csr_array
    bias_: np.ndarray

    def __init__(
        self,
        *,
        cost_positive: float = 1.0,
        cost_negative: float = 1.0,
        threshold: float = 0.1,
        tol: float = 0.1,
        max_iter: int = 100,
        n_jobs: int | None = None,
        random_state=None,
    ):
        self.cost_positive = cost_positive
        self.cost_negative = cost_negative
        self.threshold = threshold
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, Y, shortlist: TopK) -> "SparseRanker":
        """Train every label on its positives and on the rows whose shortlist holds it.

        Parameters
        ----------
        X : sparse or dense array of shape (n_rows, n_features)
            Features, scaled to unit length here.
        Y : sparse or dense array of shape (n_rows, n_labels)
            0/1 indicator.
        shortlist : TopK
            Candidates of the training rows; the scores are not read. Shortlists of a model that
            was not trained on the row (out of fold) hold the confusions of new rows.

        Returns
        -------
        self : SparseRanker
            The fitted ranker.

        Raises
        ------
        ValueError
            If a parameter is out of bounds, X is not finite, Y is no indicator, or rows or labels
            do not fit together.
        TypeError
            If a parameter is no number.
        """
        self._check_parameters()
        X = unit_csr(X)
        Y = indicator_csr(Y, name="Y")
        if Y.shape[0] != X.shape[0]:
            raise ValueError(
                f"SparseRanker: X and Y must have the same rows, got {X.shape[0]} and {Y.shape[0]}."
            )
        pairs = _training_pairs(Y, checked_labels(shortlist, X.shape[0], Y.shape[1]))
        with limited_threads(self.n_jobs) as n_threads:
            self.weight_, self.bias_ = self._solve(X, pairs, n_threads)
        return self

    def margins(self, X, topk: TopK) -> np.ndarray:
        """Compute w_l . x + b_l for each row and its candidates.

        Parameters
        ----------
        X : sparse or dense array of shape (n_rows, n_features)
            Features, scaled to unit length here.
        topk : TopK
            Candidates of the rows; the scores are not read.

        Returns
        -------
        margins : ndarray of shape (n_rows, k), float32
            In the order of the candidates, -inf where `topk` is padded.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If features, rows or labels do not fit.
        """
        if not hasattr(self, "weight_"):
            raise NotFittedError("This SparseRanker is not fitted yet: call fit first.")
        with limited_threads(self.n_jobs):
            return candidate_dots(X, self.weight_, topk, bias=self.bias_)

    def rerank(
        self,
        X,
        topk: TopK,
        *,
        form: str = "probability",
        combination: str = "l3_hinge",
        weight: float = 1.0,
    ) -> TopK:
        """Re-order candidates by log p + weight * g(margin).

        Parameters
        ----------
        X : sparse or dense array of shape (n_rows, n_features)
            Features, scaled to unit length here.
        topk : TopK
            Candidates and scores of any first search.
        form : {"probability", "log_probability", "logit"}, default="probability"
            What its scores are: p (`EliasClassifier`), log p, or the log-odds of p
            (`SNMClassifier` with its binary loss).
        combination : {"l3_hinge", "linear"}, default="l3_hinge"
            g(m) is -max(0, 1 - m)^3, the paper's product p exp(-max(0, 1 - m)^3) where `weight` is
            1, or m itself, which goes on rewarding margins above 1.
        weight : float, default=1.0
            Weight of the ranker; 0 gives the order of the first search.

        Returns
        -------
        topk : TopK
            The same candidates, best first, ties by the smaller label. The scores are in log
            space, where no product underflows.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If an option is unknown, or features, rows, labels or scores do not fit.
        """
        check_option(self, "combination", combination, COMBINATIONS)
        check_number(self, "weight", weight, minimum=0)
        log_p = log_scores(topk, form)
        margins = self.margins(X, topk)
        if combination == "l3_hinge":
            margins = -(np.maximum(0, 1 - margins) ** 3)
        found = np.asarray(topk.indices) >= 0
        margins = np.where(found, margins, 0)
        return sort_candidates(topk.indices, log_p + np.float32(weight) * margins)

    def _check_parameters(self) -> None:
        for name in ("cost_positive", "cost_negative"):
            check_number(self, name, getattr(self, name), above=0)
        for name in ("threshold", "tol"):
            check_number(self, name, getattr(self, name), minimum=0)
        check_int(self, "max_iter", self.max_iter, minimum=1)

    def _solve(self, X, pairs, n_threads: int) -> tuple[sp.csr_array, np.ndarray]:
        """Train labels chunk by chunk, so that unpruned weights never pile up."""
        n_labels, n_features = pairs.shape[0], X.shape[1]
        random = check_random_state(self.random_state)
        seeds = random.randint(1, 2**63 - 1, size=n_labels, dtype=np.int64).astype(np.uint64)
        costs = (float(self.cost_negative), float(self.cost_positive))
        csr = (X.indptr, X.indices, X.data)
        positive = (pairs.indptr, pairs.indices, pairs.data > 1)
        bias = np.zeros(n_labels, dtype=np.float32)
        lengths = np.zeros(n_labels, dtype=np.int64)
        parts = [(np.empty(0, np.int32), np.empty(0, np.float32))]
        for first, last, starts in _chunks(_weight_bounds(X, pairs)):
            features = np.empty(starts[-1], dtype=np.int32)
            weights = np.empty(starts[-1], dtype=np.float32)
            out = (features, weights, lengths[first:last], bias[first:last])
            _kernels.fit_labels(
                csr, n_features, positive, np.arange(first, last), seeds[first:last], costs,
                float(self.tol), self.max_iter, float(self.threshold), starts, out, n_threads,
            )  # fmt: skip
            offsets = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
            kept = offsets < np.repeat(lengths[first:last], np.diff(starts))
            parts.append((features[kept], weights[kept]))
        columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        weight = sp.csr_array((values, columns, indptr), shape=(n_labels, n_features))
        weight.sort_indices()
        return as_csr(weight), bias


def _training_pairs(Y: sp.csr_array, candidates: np.ndarray) -> sp.csr_array:
    """Label x row: 1 where the row's shortlist holds the label, 2 or 3 where it belongs to it."""
    shortlist = as_csr(topk_to_csr(TopK(candidates, np.ones(candidates.shape)), Y.shape[1]))
    shortlist.data[:] = 1
    return as_csr((shortlist + 2 * Y).T)


def _weight_bounds(X: sp.csr_array, pairs: sp.csr_array) -> np.ndarray:
    """Features a label can have weights for, at most: the entries of its rows, or all."""
    entries = np.concatenate(([0], np.cumsum(np.diff(X.indptr)[pairs.indices], dtype=np.int64)))
    return np.minimum(np.diff(entries[pairs.indptr]), X.shape[1])


def _chunks(bounds: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Cut labels into runs of at most `_CHUNK` weights; with each, where a label's ones start."""
    ends = np.cumsum(bounds)
    first = 0
    while first < bounds.size:
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        yield first, last, np.concatenate(([0], ends[first:last] - done))
        first = last
