"""The loss of ELIAS: classification over the shortlist, and a pull of positives into it."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["elias_loss", "log1mexp"]

_LOG_HALF = -math.log(2.0)
# A score never counts as closer to 1 than this: keeps the loss of a wrong, certain score finite.
_CERTAIN = -1e-6


def log1mexp(x: Tensor) -> Tensor:
    """Compute log(1 - exp(x)) for x < 0 without cancellation.

    Parameters
    ----------
    x : Tensor
        Log-probabilities; values above -1e-6 are taken as -1e-6.

    Returns
    -------
    log_complement : Tensor
        Log-probabilities of the complements, shaped like x.

    References
    ----------
    M. Maechler, "Accurately computing ``log(1 - exp(-|a|))``", 2012.

    Examples
    --------
    >>> import math, torch
    >>> from skxmc.losses import log1mexp
    >>> log1mexp(torch.tensor([math.log(0.25)])).exp()
    tensor([0.7500])
    """
    x = torch.clamp(x, max=_CERTAIN)
    # each branch gets a harmless input where the other one counts, so that no NaN flows back
    near_zero = x > _LOG_HALF
    small = torch.log(-torch.expm1(torch.where(near_zero, x, _LOG_HALF)))
    large = torch.log1p(-torch.exp(torch.where(near_zero, _LOG_HALF, x)))
    return torch.where(near_zero, small, large)


def elias_loss(
    log_path: Tensor,
    logits: Tensor,
    positive: Tensor,
    rows: Tensor,
    n_rows: int,
    path_power: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of the final scores, and the mean cost of the positives' paths.

    Parameters
    ----------
    log_path : Tensor of shape (n_entries,)
        Log path score log r of each shortlisted (row, label) pair.
    logits : Tensor of shape (n_entries,)
        Label logits z; the final score is p = r^path_power sigmoid(z).
    positive : Tensor of shape (n_entries,), bool
        Whether the row carries the label.
    rows : Tensor of shape (n_entries,), int64
        Row of each pair.
    n_rows : int
        Rows of the batch.
    path_power : float, default=1.0
        Exponent of the path score in the final score; 1 in the paper.

    Returns
    -------
    classification : Tensor, scalar
        Sum over a row's shortlist of -log p for positives and -log(1 - p) for the rest, averaged
        over rows.
    shortlist : Tensor, scalar
        Mean over a row's positives of -log r, averaged over rows: each row counts the same
        whatever its number of labels, and a positive that is hard to reach costs more.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.3.

    Examples
    --------
    >>> import torch
    >>> from skxmc.losses import elias_loss
    >>> log_r = torch.log(torch.tensor([1.0, 0.5]))
    >>> rows, positive = torch.tensor([0, 0]), torch.tensor([True, False])
    >>> [abs(round(float(x), 4)) for x in elias_loss(log_r, torch.zeros(2), positive, rows, 1)]
    [0.9808, 0.0]
    """
    log_p = path_power * log_path + F.logsigmoid(logits)
    costs = -torch.where(positive, log_p, log1mexp(log_p))
    n_positive = torch.zeros(n_rows, device=logits.device).index_add_(0, rows, positive.float())
    share = positive / n_positive.clamp(min=1.0)[rows]
    return costs.sum() / n_rows, -(share * log_path.masked_fill(~positive, 0.0)).sum() / n_rows
