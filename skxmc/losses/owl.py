"""Ordered weighted losses: negatives sorted by score, the hardest weighing most."""

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor
from torch.nn import functional as F

from skxmc._validation import check_int, check_number, check_option

__all__ = [
    "MARGINS",
    "TREATMENTS",
    "effective_hardness",
    "expected_weights",
    "margin_loss",
    "ordered_weighted_loss",
    "ordered_weights",
]

MARGINS = ("logistic", "hinge", "squared_hinge")
TREATMENTS = ("one_vs_all", "pick_all", "pick_one")


def margin_loss(t: Tensor, margin: str) -> Tensor:
    """Evaluate a margin loss phi: convex, non-increasing, small where t is large.

    Parameters
    ----------
    t : Tensor
        Margins; +inf costs nothing.
    margin : {"logistic", "hinge", "squared_hinge"}
        log(1 + exp(-t)), max(0, 1 - t), or max(0, 1 - t) squared.

    Returns
    -------
    costs : Tensor
        Shaped like t.

    Raises
    ------
    ValueError
        If `margin` is none of these.

    References
    ----------
    Reddi et al., "Stochastic negative mining for learning with large output spaces", AISTATS 2019.

    Examples
    --------
    >>> import torch
    >>> from skxmc.losses import margin_loss
    >>> margin_loss(torch.tensor([-1.0, 0.5, 2.0]), "squared_hinge")
    tensor([4.0000, 0.2500, 0.0000])
    """
    check_option("margin_loss", "margin", margin, MARGINS)
    if margin == "logistic":
        return F.softplus(-t)
    slack = torch.clamp(1 - t, min=0)
    return slack if margin == "hinge" else slack.square()


def ordered_weights(kind, size: int, *, ratio: float = 0.5) -> np.ndarray:
    """Make the weights theta_1 >= theta_2 >= ... >= 0 of the sorted negatives.

    Parameters
    ----------
    kind : {"topk", "geometric", "linear"} or array-like of shape (size,)
        "topk" gives every one of the `size` hardest negatives weight 1; "geometric" the powers of
        `ratio` from 1 down; "linear" falls from 1 to 1 / size. An array is checked and taken.
    size : int
        Number of negatives that weigh anything.
    ratio : float, default=0.5
        Ratio of "geometric", in (0, 1].

    Returns
    -------
    weights : ndarray of shape (size,), float32
        Not normalised: with "topk" and all negatives kept the loss is one-vs-all.

    Raises
    ------
    ValueError
        If `kind` is unknown, or the array is increasing somewhere, negative, not finite, of another
        length or all zero: a loss with increasing weights is not convex.

    References
    ----------
    Reddi et al., AISTATS 2019 (ordered weighted losses); Usunier et al., ICML 2009.

    Examples
    --------
    >>> from skxmc.losses import ordered_weights
    >>> ordered_weights("geometric", 3, ratio=0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    check_int("ordered_weights", "size", size, minimum=1)
    if not isinstance(kind, str):
        return _checked_weights(kind, size)
    check_option("ordered_weights", "kind", kind, ("topk", "geometric", "linear"))
    rank = np.arange(size)
    weights: np.ndarray
    if kind == "topk":
        weights = np.ones(size)
    elif kind == "geometric":
        check_number("ordered_weights", "ratio", ratio, above=0, maximum=1)
        weights = float(ratio) ** rank
    else:
        weights = 1 - rank / size
    return weights.astype(np.float32)


def _checked_weights(weights, size: int) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (size,):
        raise ValueError(
            f"weights must have one entry for each of the k={size} kept negatives, got shape "
            f"{weights.shape}."
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise ValueError("weights must be finite, non-negative and not all zero.")
    rises = np.flatnonzero(np.diff(weights) > 0)
    if rises.size:
        at = int(rises[0])
        raise ValueError(
            f"weights must not increase, since the loss would not be convex; entry {at + 1} "
            f"({weights[at + 1]:g}) is larger than entry {at} ({weights[at]:g})."
        )
    return weights.astype(np.float32)


def ordered_weighted_loss(
    positives: Tensor,
    rows: Tensor,
    negatives: Tensor,
    weights: Tensor,
    *,
    margin: str = "logistic",
    pairwise: bool = False,
    treatment: str = "one_vs_all",
) -> Tensor:
    """Sum the binary (BOWL) or pairwise (POWL) ordered weighted loss of a batch.

    With negatives sorted from the highest score down, a positive y costs
    ``phi(s_y) + sum_i theta_i phi(-s_[i])`` (binary) or ``sum_i theta_i phi(s_y - s_[i])``
    (pairwise). Given all negatives this is the exact loss; given the k highest of a random pool it
    is the estimator of stochastic negative mining.

    Parameters
    ----------
    positives : Tensor of shape (n_positives,)
        Scores of all positives of the batch.
    rows : Tensor of shape (n_positives,), int64
        Row of each positive.
    negatives : Tensor of shape (n_rows, n_negatives)
        Scores of each row's negatives in any order; -inf where a row has fewer.
    weights : Tensor of shape (k,)
        Non-increasing, k <= n_negatives or more; those beyond n_negatives are not used.
    margin : {"logistic", "hinge", "squared_hinge"}, default="logistic"
        Margin loss phi.
    pairwise : bool, default=False
        POWL instead of BOWL.
    treatment : {"one_vs_all", "pick_all", "pick_one"}, default="one_vs_all"
        What becomes of a row with several positives. "one_vs_all" adds up its positives and counts
        its negatives once; "pick_all" and "pick_one" average the loss over its positives (for
        "pick_one" the caller passes one drawn positive a row).

    Returns
    -------
    loss : Tensor, scalar
        Sum over rows. A row without positives still pays for its negatives in "one_vs_all", and
        nothing otherwise.

    Raises
    ------
    ValueError
        If `pairwise` goes with "one_vs_all", which has no pairs to count once.

    References
    ----------
    Reddi et al., AISTATS 2019, section 3.

    Examples
    --------
    >>> import torch
    >>> from skxmc.losses import ordered_weighted_loss
    >>> s = torch.tensor([[2.0, 0.0, -1.0]])  # the first label is the true one
    >>> top2 = torch.ones(2)
    >>> row = torch.tensor([0])
    >>> round(ordered_weighted_loss(s[0, :1], row, s[:, 1:], top2, margin="hinge").item(), 4)
    1.0
    """
    check_option("ordered_weighted_loss", "treatment", treatment, TREATMENTS)
    if pairwise and treatment == "one_vs_all":
        raise ValueError(
            "ordered_weighted_loss: a pairwise loss needs treatment='pick_all' or 'pick_one', got "
            "'one_vs_all', in which the negatives of a row are counted once."
        )
    k = min(weights.shape[0], negatives.shape[1])
    theta = weights[:k]
    # equal weights on everything need no order
    unsorted = k == negatives.shape[1] and bool((theta == theta[:1]).all())
    hardest = negatives if unsorted else negatives.topk(k, dim=1).values
    n_rows = negatives.shape[0]
    counts = torch.zeros(n_rows, device=rows.device).index_add_(
        0, rows, torch.ones_like(rows, dtype=torch.float32)
    )
    share = (1.0 / counts.clamp(min=1))[rows]
    if pairwise:
        pairs = margin_loss(positives[:, None] - hardest[rows], margin)
        return ((pairs * theta).sum(dim=1) * share).sum()
    against = (margin_loss(-hardest, margin) * theta).sum(dim=1)
    if treatment == "one_vs_all":
        return margin_loss(positives, margin).sum() + against.sum()
    return (margin_loss(positives, margin) * share).sum() + (against * (counts > 0)).sum()


def expected_weights(n_negatives: int, pool_size: int, k: int) -> np.ndarray:
    """Compute the weights that mining k of a random pool gives the sorted negatives on average.

    Parameters
    ----------
    n_negatives : int
        Number m of negatives.
    pool_size : int
        Number B of them drawn uniformly without replacement.
    k : int
        Number kept, those with the highest scores.

    Returns
    -------
    weights : ndarray of shape (n_negatives,), float64
        Probability theta_i that the i-th hardest negative is drawn and kept: non-increasing,
        summing to k.

    Raises
    ------
    ValueError
        Unless 1 <= k <= pool_size <= n_negatives.

    Notes
    -----
    theta_i = sum_{r<k} C(i-1, r) C(m-i, B-1-r) / C(m, B), that is B/m times the probability that
    fewer than k of the B - 1 others are among the i - 1 harder ones. It is summed up from the last
    rank: i weighs more than i + 1 by the share of pools that have both and k - 1 harder ones,
    theta_i - theta_{i+1} = C(i-1, k-1) C(m-i-1, B-k-1) / C(m, B), and theta_m = 0 for k < B.

    References
    ----------
    Reddi et al., AISTATS 2019, section 4 (the estimator's expectation is an ordered weighted loss).

    Examples
    --------
    >>> from skxmc.losses import expected_weights
    >>> expected_weights(3, pool_size=2, k=1).round(4).tolist()
    [0.6667, 0.3333, 0.0]
    """
    _check_pool(n_negatives, pool_size, k)
    share = pool_size / n_negatives
    if k == pool_size:
        return np.full(n_negatives, share)
    rank = np.arange(k, n_negatives - pool_size + k + 1)
    steps = np.zeros(n_negatives)
    steps[rank - 1] = np.exp(
        _log_binomial(rank - 1, k - 1)
        + _log_binomial(n_negatives - rank - 1, pool_size - k - 1)
        - _log_binomial(n_negatives, pool_size)
    )
    return np.cumsum(steps[::-1])[::-1]


def effective_hardness(n_negatives: int, pool_size: int, k: int) -> float:
    """Count the hardest negatives that mining k of a pool aims at: about k m / B.

    Parameters
    ----------
    n_negatives : int
        Number m of negatives.
    pool_size : int
        Size B of the pool.
    k : int
        Number kept.

    Returns
    -------
    n_hard : float
        (sum of theta) squared over the sum of theta squared (the participation ratio of
        `expected_weights`): m where all negatives weigh the same, k where the pool is everything.

    Raises
    ------
    ValueError
        Unless 1 <= k <= pool_size <= n_negatives.

    Examples
    --------
    >>> from skxmc.losses import effective_hardness
    >>> round(effective_hardness(1000, pool_size=1000, k=10)), round(
    ...     effective_hardness(1000, pool_size=100, k=100))
    (10, 1000)
    """
    theta = expected_weights(n_negatives, pool_size, k)
    return float(theta.sum() ** 2 / np.square(theta).sum())


def _log_binomial(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _check_pool(n_negatives, pool_size, k):
    check_int("expected_weights", "n_negatives", n_negatives, minimum=1)
    check_int("expected_weights", "pool_size", pool_size, minimum=1, maximum=n_negatives)
    check_int("expected_weights", "k", k, minimum=1, maximum=pool_size)
