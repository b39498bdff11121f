"""The sparse ranker of ELIAS++: a linear SVM a label, which re-orders any top-k."""

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skxmc._sparse import as_csr
from skxmc._targets import indicator_csr
from skxmc._threads import limited_threads
from skxmc._validation import check_int, check_number
from skxmc.heads.blend import Blend, blend_rows, fit_blend, is_relevant, label_signals
from skxmc.heads.candidates import (
    candidate_dots,
    checked_labels,
    log_scores,
    sort_candidates,
    unit_csr,
)
from skxmc.heads.one_vs_all import fit_one_vs_all
from skxmc.heads.svm import SvmSettings, fit_svms, training_pairs
from skxmc.topk import TopK

__all__ = ["SparseRanker"]

# Pairs of a row and a label up to which all are trained on.
_ALL_PAIRS = 20_000_000
# Share of a label's rows that may stay held out: so few hardly change what it learns.
_LEFT_OUT = 0.03
# Labels from which a block of them takes less time than each by itself.
_BLOCK_FROM = 16
# Margin of a label that no row has.
_NEVER = -10.0
# Rows that "auto" holds out, at least and at most.
_HOLDOUT = (50, 1000)
# Training rows and the share that suits them; between the two it falls with the log of the rows.
_FEW_ROWS, _MANY_ROWS = (2_000, 0.9), (32_000, 0.75)


class SparseRanker(BaseEstimator):
    """One linear classifier a label on the sparse features, for the candidates of a shortlist.

    Label l has weights w_l and a bias b_l that minimise ::

        (|w_l|^2 + b_l^2) / 2 + sum_i C_i max(0, 1 - y_il (w_l . x_i + b_l))^2

    over the rows i that l belongs to, the rows whose shortlist holds l (on these the first search
    confuses l with others), and rows drawn at random, each of which stands for its share of all
    other rows (or over all rows, see `n_random`). Rows x_i are scaled to unit length. Weights
    remember rare features that an embedding blurs.

    Parameters
    ----------
    cost_positive : float or array of shape (n_labels,), default=0.5
        C_i of the rows that a label belongs to, for all labels or for each. Inverse propensities
        (see the examples) make a propensity-weighted loss, which favours rare labels.
    cost_negative : float, default=0.5
        C_i of the others; times its share for a row that was drawn.
    n_random : int, "auto" or "all", default="auto"
        Rows drawn for each label. "all" takes every row: one-vs-all.
        "auto" is that where rows x labels are at most 20 million, else 50 and another 10 for each
        row of the label. 0 is the paper's ranker, whose margins mean nothing outside of
        the shortlists.
    n_holdout : int or "auto", default="auto"
        Rows, of those with candidates, on which further signals are weighed (see the notes); "auto"
        is a tenth of the rows, at most 1000, and none where that is fewer than 50. 0 leaves the
        margins as they are.
    share : float or "auto", default="auto"
        Weight of the ranker in the final score, between 0 (the first search alone) and 1; "auto" is
        0.75 from 32,000 rows on and rises to 0.9 at 2,000 or fewer, where a network learns less.
    threshold : float, default=0.1
        Weights smaller than about this are dropped, as in PECOS, but more of features whose values
        are small and fewer of the others, see `skxmc.heads.svm.feature_thresholds`; 0 keeps all.
    tol : float, default=0.1
        Spread of the projected gradients at which a label is done, LIBLINEAR's ``-e``. Where all
        rows are taken, below 1e-6 counts as 1e-6.
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
        Weight of the bias feature 1.0, never pruned; -10 for a label without training rows.
    share_ : float
        `share`, with "auto" resolved.
    blend_ : Blend or None
        What margin, centroid and frequency count for in `weight_` and `bias_`; None where these
        are those of the margins alone.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names of X, if it had any.

    Notes
    -----
    Parameters can be read, set, searched and cloned as in any scikit-learn estimator; inside an
    `EliasClassifier` they are called ``ranker__share`` and so on.

    Few rows make a poor SVM. Where most labels have a handful of rows, two further signals are as
    good: the cosine c of a row with the label's centroid, and the number n of the label's rows. On
    rows held out from a first round of training the weights of ::

        log-odds = margin (w . x + b) + centroid c + frequency log(1 + n) + intercept

    are learned (`skxmc.heads.blend.fit_blend`), and kept if they are a clear gain over the
    margin alone. All four being linear in x, `weight_` and `bias_` then hold half of these
    log-odds, one sparse row a label as before, and the search costs no more. The held-out rows
    are given back: labels that miss more than 3% of their rows are trained once more, with them.

    References
    ----------
    ELIAS++, the re-ranked variant of ELIAS (Gupta et al., NeurIPS 2022). C.-J. Hsieh, K.-W. Chang,
    C.-J. Lin, S. S. Keerthi, S. Sundararajan, "A dual coordinate descent method for large-scale
    linear SVM", ICML 2008: algorithm 3 where labels have rows of their own; where all take all rows
    64 labels side by side, without shrinking (16 labels or more).

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

    A propensity-weighted loss, for better PSP@k at some price in P@k:

    >>> from skxmc.metrics import propensities
    >>> costs = 0.5 / propensities(Y) ** 0.5
    >>> ranker = SparseRanker(cost_positive=costs, random_state=0).fit(X, Y, top)
    """

    weight_: sp.csr_array
    bias_: np.ndarray
    share_: float
    blend_: Blend | None

    def __init__(
        self,
        *,
        cost_positive: float = 0.5,
        cost_negative: float = 0.5,
        n_random: int | str = "auto",
        n_holdout: int | str = "auto",
        share: float | str = "auto",
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
        self.n_holdout = n_holdout
        self.share = share
        self.threshold = threshold
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, Y, shortlist: TopK | None = None) -> "SparseRanker":
        """Train labels on all rows, or on positives, rows whose shortlists hold them, and others.

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
        validate_data(self, X, skip_check_array=True)  # which takes down number and names
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
        self._check_costs(Y.shape[1])
        self.share_ = _auto_share(Y.shape[0]) if self.share == "auto" else float(self.share)
        rng = check_random_state(self.random_state)
        seed, held_out = rng.randint(2**31 - 1), self._held_out_rows(candidates, rng)
        with limited_threads(self.n_jobs) as n_threads:
            solve = partial(self._solve, self.takes_all_rows(*Y.shape), seed, n_threads)
            if held_out.any():
                self._fit_blended(X, Y, candidates, held_out, solve)
            else:
                self.blend_ = None
                self.weight_, self.bias_ = solve(X, Y, candidates)
        self._silence(np.bincount(Y.indices, minlength=Y.shape[1]) == 0)
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
        check_is_fitted(self, "weight_")
        validate_data(self, X, reset=False, skip_check_array=True)
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
        share = np.float32(self.share_)
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
        check_number(self, "cost_negative", self.cost_negative, above=0)
        if np.ndim(self.cost_positive) == 0:
            check_number(self, "cost_positive", self.cost_positive, above=0)
        if self.n_holdout != "auto":
            check_int(self, "n_holdout", self.n_holdout, minimum=0)
        for name in ("threshold", "tol"):
            check_number(self, name, getattr(self, name), minimum=0)
        if self.share != "auto":
            check_number(self, "share", self.share, minimum=0, maximum=1)
        check_int(self, "max_iter", self.max_iter, minimum=1)
        if self.n_random not in ("auto", "all"):
            check_int(self, "n_random", self.n_random, minimum=0)

    def takes_all_rows(self, n_rows: int, n_labels: int) -> bool:
        """Say whether each label learns from each row, which needs no shortlists.

        Parameters
        ----------
        n_rows, n_labels : int
            Size of the training data.

        Returns
        -------
        all_rows : bool
            What `n_random` comes to.
        """
        few = self.n_random == "auto" and n_rows * n_labels <= _ALL_PAIRS
        return few or self.n_random == "all"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    def _check_costs(self, n_labels: int) -> None:
        costs = np.asarray(self.cost_positive)
        if costs.ndim and (costs.shape != (n_labels,) or costs.dtype.kind not in "iuf"):
            raise ValueError(
                f"SparseRanker: cost_positive must be a number or {n_labels} numbers, one for each "
                f"label, got an array of shape {costs.shape} and dtype {costs.dtype}."
            )
        if costs.ndim and not (np.isfinite(costs).all() and (costs > 0).all()):
            raise ValueError(
                "SparseRanker: cost_positive must be > 0 and finite for each label, got "
                f"{costs.min()} to {costs.max()}."
            )

    def _held_out_rows(self, candidates: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Mark the rows, with candidates, on which the signals are weighed."""
        able = np.flatnonzero((candidates >= 0).any(axis=1))
        n_rows = candidates.shape[0]
        auto = min(_HOLDOUT[1], n_rows // 10)
        size = auto * (auto >= _HOLDOUT[0]) if self.n_holdout == "auto" else int(self.n_holdout)
        if size >= n_rows > 0:
            raise ValueError(
                f"SparseRanker: n_holdout must leave rows to learn from, got {size} of {n_rows}."
            )
        chosen = np.zeros(n_rows, dtype=bool)
        chosen[rng.permutation(able)[:size]] = True
        return chosen

    def _silence(self, labels: np.ndarray) -> None:
        """Take the weights of some labels, a mask, away, and make them never likely."""
        self.weight_.data[np.repeat(labels, np.diff(self.weight_.indptr))] = 0
        self.weight_.eliminate_zeros()
        self.bias_[labels] = _NEVER

    def _fit_blended(self, X, Y, candidates, held_out: np.ndarray, solve: Callable) -> None:
        """Weigh the signals on held-out rows, then let labels that miss rows of theirs learn them.

        All others only miss some of many negatives, or hardly any of many positives.
        """
        rest = ~held_out
        X_rest, Y_rest, X_held, Y_held = X[rest], as_csr(Y[rest]), X[held_out], as_csr(Y[held_out])
        weight, bias = solve(X_rest, Y_rest, candidates[rest])
        # a label that the others do not have is a sure sign of its row: it has no place here
        known = np.append(np.bincount(Y_rest.indices, minlength=Y.shape[1]) > 0, False)
        indices = np.where(known[candidates[held_out]], candidates[held_out], -1)
        top = TopK(indices, np.zeros(indices.shape, np.float32))
        margins = candidate_dots(X_held, weight, top, bias=bias)
        signals = label_signals(X_rest, Y_rest, margins, top, X_held)
        relevant = is_relevant(Y_held, top)
        self.blend_ = fit_blend(signals, top.indices >= 0, relevant)
        missed, counts = (np.bincount(y.indices, minlength=Y.shape[1]) for y in (Y_held, Y))
        labels = np.flatnonzero(missed > _LEFT_OUT * counts)
        again = solve(X, Y, candidates, labels)
        order = np.arange(Y.shape[1])
        order[labels] = Y.shape[1] + np.arange(labels.size)
        self.weight_ = as_csr(sp.vstack((weight, again[0]), format="csr")[order])
        self.bias_ = np.concatenate((bias, again[1]))[order]
        if self.blend_ is not None:
            self.weight_, self.bias_ = blend_rows(
                self.blend_, self.weight_, self.bias_, X, Y, self.threshold
            )

    def _n_draws(self, Y: sp.csr_array) -> np.ndarray:
        """Rows to draw for each label, where it does not learn from all."""
        n_rows, n_labels = Y.shape
        if isinstance(self.n_random, str):
            return np.minimum(50 + 10 * np.bincount(Y.indices, minlength=n_labels), n_rows)
        return np.full(n_labels, min(int(self.n_random), n_rows))

    def _solve(
        self, all_rows: bool, seed: int, n_threads: int, X, Y, candidates, labels=None
    ) -> tuple[sp.csr_array, np.ndarray]:
        """Train labels, all or some."""
        labels = np.arange(Y.shape[1]) if labels is None else labels
        cost = np.broadcast_to(np.asarray(self.cost_positive, dtype=np.float64), Y.shape[1])
        settings = SvmSettings(
            float(self.cost_negative),
            cost[labels],
            float(self.tol),
            self.max_iter,
            float(self.threshold),
        )
        how = settings, seed, n_threads, self.verbose
        if all_rows and labels.size >= _BLOCK_FROM:
            return fit_one_vs_all(X, as_csr(Y[:, labels]), *how)
        pairs = training_pairs(Y, candidates)
        draws = np.full(Y.shape[1], Y.shape[0]) if all_rows else self._n_draws(Y)
        return fit_svms(X, as_csr(pairs[labels]), draws[labels], *how)


def _auto_share(n_rows: int) -> float:
    """Weight of the ranker for a number of training rows."""
    rows, shares = zip(_FEW_ROWS, _MANY_ROWS, strict=True)
    return float(np.interp(np.log(max(n_rows, 1)), np.log(rows), shares))
