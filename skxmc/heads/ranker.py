"""The sparse ranker of ELIAS++: a linear SVM a label, which re-orders any top-k."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from skxmc._sparse import as_csr
from skxmc._targets import indicator_csr
from skxmc._threads import limited_threads
from skxmc._validation import check_int, check_number
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

# Pairs of a row and a label up to which all are trained on.
_ALL_PAIRS = 20_000_000
# Weights of a chunk of labels before pruning: 32 MiB, whatever the number of labels.
_CHUNK = 4 * 1024**2


class SparseRanker:
    """One linear classifier a label on the sparse features, for the candidates of a shortlist.

    Label l has weights w_l and a bias b_l that minimise ::

        (|w_l|^2 + b_l^2) / 2 + sum_i C_i max(0, 1 - y_il (w_l . x_i + b_l))^2

    over the rows i that l belongs to, the rows whose shortlist holds l (on these the first search
    confuses l with others), and rows drawn at random, each of which stands for its share of all
    other rows. Rows x_i are scaled to unit length. Weights remember rare features that an embedding
    blurs.

    Parameters
    ----------
    cost_positive : float, default=0.5
        C_i of the rows that a label belongs to.
    cost_negative : float, default=0.5
        C_i of the others; times its share for a row that was drawn.
    n_random : int, "auto" or "all", default="auto"
        Rows drawn for each label. "all" takes every row: one-vs-all, which reads no shortlists.
        "auto" is that where rows x labels are at most 20 million, else 50 and another 10 for each
        row of the label. 0 is the paper's ranker, whose margins mean nothing outside of
        the shortlists.
    share : float, default=0.75
        Weight of the ranker in the final score, between 0 (the first search alone) and 1.
    threshold : float, default=0.1
        Weights smaller than this are dropped, as in PECOS; 0 keeps all.
    tol : float, default=0.1
        Spread of the projected gradients at which a label is done, LIBLINEAR's ``-e``.
    max_iter : int, default=100
        Sweeps over a label's rows at most.
    n_jobs : int or None, default=None
        Threads; None leaves Numba's setting alone. Results do not depend on it.
    random_state : int, RandomState or None, default=None
        Rows drawn, and the order in which a label's rows are visited.
    verbose : int, default=0
        1 shows a progress bar.

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
        cost_positive: float = 0.5,
        cost_negative: float = 0.5,
        n_random: int | str = "auto",
        share: float = 0.75,
        threshold: float = 0.1,
        tol: float = 0.1,
        max_iter: int = 100,
        n_jobs: int | None = None,
        random_state=None,
        verbose: int = 0,
    ):
        self.cost_positive = cost_positive
        self.cost_negative = cost_negative
        self.n_random = n_random
        self.share = share
        self.threshold = threshold
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def takes_all_rows(self, n_rows: int, n_labels: int) -> bool:
        """Say whether every label learns from every row, so that `fit` needs no shortlists.

        Parameters
        ----------
        n_rows, n_labels : int
            Shape of Y.

        Returns
        -------
        all : bool
            True for ``n_random="all"``, and for "auto" on few rows and labels.
        """
        return self.n_random == "all" or (
            self.n_random == "auto" and n_rows * n_labels <= _ALL_PAIRS
        )

    def fit(self, X, Y, shortlist: TopK | None = None) -> "SparseRanker":
        """Train every label on its positives, the rows whose shortlist holds it, and drawn rows.

        Parameters
        ----------
        X : sparse or dense array of shape (n_rows, n_features)
            Features, scaled to unit length here.
        Y : sparse or dense array of shape (n_rows, n_labels)
            0/1 indicator.
        shortlist : TopK or None, default=None
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
        self.check_parameters()
        X = unit_csr(X)
        Y = indicator_csr(Y, name="Y")
        if Y.shape[0] != X.shape[0]:
            raise ValueError(
                f"SparseRanker: X and Y must have the same rows, got {X.shape[0]} and {Y.shape[0]}."
            )
        if shortlist is None:
            candidates = np.full((Y.shape[0], 1), -1)
        else:
            candidates = checked_labels(shortlist, *Y.shape)
        draws = self._n_draws(Y)
        with limited_threads(self.n_jobs) as n_threads:
            pairs = _training_pairs(Y, candidates)
            self.weight_, self.bias_ = self._solve(X, pairs, draws, n_threads)
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

    def rerank(self, X, topk: TopK, *, form: str = "probability") -> TopK:
        """Re-order candidates by the weighted geometric mean p^(1 - share) sigmoid(2 margin)^share.

        Parameters
        ----------
        X : sparse or dense array of shape (n_rows, n_features)
            Features, scaled to unit length here.
        topk : TopK
            Candidates and scores of any first search.
        form : {"probability", "log_probability", "logit"}, default="probability"
            What its scores are: p (`EliasClassifier`), log p, or the log-odds of p
            (`SNMClassifier` with its binary loss).

        Returns
        -------
        topk : TopK
            The same candidates, best first, ties by the smaller label. The scores are the log of
            the mean, which does not underflow.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If an option is unknown, or features, rows, labels or scores do not fit.

        Notes
        -----
        A margin of 0 is as even as p = 1/2: where both say so the mean is 1/2, too.
        """
        margins = self.margins(X, topk)
        found = np.asarray(topk.indices) >= 0
        log_p = np.where(found, log_scores(topk, form), 0)
        share = np.float32(self.share)
        sure = -np.logaddexp(np.float32(0), -2 * np.where(found, margins, 0))
        return sort_candidates(topk.indices, (1 - share) * log_p + share * sure)

    def check_parameters(self) -> None:
        """Raise if a parameter is out of its range.

        Raises
        ------
        ValueError
            If it is out of bounds.
        TypeError
            If it is no number.
        """
        for name in ("cost_positive", "cost_negative"):
            check_number(self, name, getattr(self, name), above=0)
        for name in ("threshold", "tol"):
            check_number(self, name, getattr(self, name), minimum=0)
        check_number(self, "share", self.share, minimum=0, maximum=1)
        check_int(self, "max_iter", self.max_iter, minimum=1)
        if self.n_random not in ("auto", "all"):
            check_int(self, "n_random", self.n_random, minimum=0)

    def _n_draws(self, Y: sp.csr_array) -> np.ndarray:
        """Rows to draw for each label."""
        n_rows, n_labels = Y.shape
        if self.takes_all_rows(n_rows, n_labels):
            return np.full(n_labels, n_rows)
        if self.n_random == "auto":
            return np.minimum(50 + 10 * np.bincount(Y.indices, minlength=n_labels), n_rows)
        return np.full(n_labels, min(int(self.n_random), n_rows))

    def _solve(self, X, pairs, draws, n_threads: int) -> tuple[sp.csr_array, np.ndarray]:
        """Train labels chunk by chunk, so that unpruned weights never pile up."""
        n_labels, n_features = pairs.shape[0], X.shape[1]
        seeds = _seeds(pairs, check_random_state(self.random_state).randint(2**31 - 1))
        costs = (float(self.cost_negative), float(self.cost_positive))
        csr = (X.indptr, X.indices, X.data)
        positive = (pairs.indptr, pairs.indices, pairs.data > 1)
        bias = np.zeros(n_labels, dtype=np.float32)
        lengths = np.zeros(n_labels, dtype=np.int64)
        parts = [(np.empty(0, np.int32), np.empty(0, np.float32))]
        bar = tqdm(total=n_labels, desc="ranker", unit="label", disable=not self.verbose)
        for first, last, starts in _chunks(_weight_bounds(X, pairs, draws)):
            features = np.empty(starts[-1], dtype=np.int32)
            weights = np.empty(starts[-1], dtype=np.float32)
            out = (features, weights, lengths[first:last], bias[first:last])
            _kernels.fit_labels(
                csr, n_features, positive, np.arange(first, last), draws[first:last],
                seeds[first:last], costs, float(self.tol), self.max_iter, float(self.threshold),
                starts, out, n_threads,
            )  # fmt: skip
            offsets = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
            kept = offsets < np.repeat(lengths[first:last], np.diff(starts))
            parts.append((features[kept], weights[kept]))
            bar.update(last - first)
        bar.close()
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
