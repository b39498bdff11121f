"""The propensity model: how likely a true label is to have been written down at all."""

import difflib

import numpy as np

from skxmc._validation import check_int, check_number
from skxmc.metrics._inputs import as_truth

_WIKIPEDIA = (0.5, 0.4)
_AMAZON = (0.6, 2.6)
_OTHER = (0.55, 1.5)

# Jain et al. 2016, section 5, fitted the constants of the first set of each group; the others
# follow the Extreme Classification Repository. Names are matched whole: by substring
# AmazonCat-13K would get Amazon's constants and Wiki10-31K Wikipedia's, both of which are wrong.
PROPENSITY_CONSTANTS: dict[str, tuple[float, float]] = {
    "WikiLSHTC-325K": _WIKIPEDIA,
    "Wikipedia-500K": _WIKIPEDIA,
    "LF-Wikipedia-500K": _WIKIPEDIA,
    "WikiTitles-500K": _WIKIPEDIA,
    "LF-WikiTitles-500K": _WIKIPEDIA,
    "Amazon-670K": _AMAZON,
    "Amazon-3M": _AMAZON,
    "AmazonTitles-670K": _AMAZON,
    "AmazonTitles-3M": _AMAZON,
    "LF-Amazon-131K": _AMAZON,
    "LF-AmazonTitles-131K": _AMAZON,
    "LF-AmazonTitles-1.3M": _AMAZON,
    "AmazonCat-13K": _OTHER,
    "AmazonCat-14K": _OTHER,
    "Bibtex": _OTHER,
    "Delicious": _OTHER,
    "Delicious-200K": _OTHER,
    "EURLex-4K": _OTHER,
    "LF-WikiSeeAlso-320K": _OTHER,
    "LF-WikiSeeAlsoTitles-320K": _OTHER,
    "Mediamill": _OTHER,
    "RCV1-2K": _OTHER,
    "Wiki10-31K": _OTHER,
    "WikiSeeAlsoTitles-350K": _OTHER,
}


def propensity_constants(name: str) -> dict[str, float]:
    """Return the constants a and b of the propensity model for a known data set.

    Parameters
    ----------
    name : str
        A key of `PROPENSITY_CONSTANTS`, spelt as the Extreme Classification Repository spells it.

    Returns
    -------
    constants : dict
        ``{"a": float, "b": float}``, ready to be passed on to `propensities`.

    Raises
    ------
    ValueError
        If the name is not known; the nearest known names are listed.

    References
    ----------
    Jain, Prabhu, Varma, "Extreme Multi-label Loss Functions for Recommendation, Tagging, Ranking
    & Other Missing Label Applications", KDD 2016, section 5.

    Examples
    --------
    >>> from skxmc.metrics import propensity_constants
    >>> propensity_constants("Amazon-670K")
    {'a': 0.6, 'b': 2.6}
    """
    if name not in PROPENSITY_CONSTANTS:
        near = difflib.get_close_matches(str(name), PROPENSITY_CONSTANTS, n=3, cutoff=0.4)
        hint = f"nearest are {', '.join(near)}" if near else "see PROPENSITY_CONSTANTS"
        raise ValueError(
            f"No propensity constants are known for {name!r} ({hint}). Names must match exactly; "
            "data sets without constants of their own use a=0.55, b=1.5."
        )
    a, b = PROPENSITY_CONSTANTS[name]
    return {"a": a, "b": b}


def propensities(Y_train, *, a: float = 0.55, b: float = 1.5) -> np.ndarray:
    """Estimate the propensity of each label from the training targets.

    With N rows, of which N_l carry label l, the propensity is 1 / (1 + C (N_l + b)^-a), where
    C = (ln N - 1) (b + 1)^a. C would be negative for N < 3 and propensities above 1; there it is
    taken as 0, so that every propensity is 1.

    Parameters
    ----------
    Y_train : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the training labels (never of the test labels).
    a, b : float
        Constants of the model, a >= 0 and b > 0; see `propensity_constants`.

    Returns
    -------
    propensities : ndarray of shape (n_labels,), dtype float64
        In (0, 1], larger for more frequent labels.

    Raises
    ------
    ValueError
        If `Y_train` is not a 0/1 indicator, or a constant is out of range.
    TypeError
        If a constant is not a number.

    References
    ----------
    Jain, Prabhu, Varma, "Extreme Multi-label Loss Functions for Recommendation, Tagging, Ranking
    & Other Missing Label Applications", KDD 2016, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import propensities
    >>> propensities(np.array([[1, 0], [1, 0], [1, 1], [1, 0]])).round(3)
    array([0.8  , 0.721])
    """
    truth = as_truth(Y_train)
    counts = np.bincount(truth.indices, minlength=truth.shape[1])
    return propensities_from_counts(counts, truth.shape[0], a=a, b=b)


def propensities_from_counts(
    label_counts, n_rows: int, *, a: float = 0.55, b: float = 1.5
) -> np.ndarray:
    """Estimate propensities from label frequencies; see `propensities` for the model.

    Parameters
    ----------
    label_counts : array-like of shape (n_labels,)
        Number of training rows that carry each label.
    n_rows : int
        Number of training rows.
    a, b : float
        Constants of the model, a >= 0 and b > 0.

    Returns
    -------
    propensities : ndarray of shape (n_labels,), dtype float64
        In (0, 1].

    Raises
    ------
    ValueError
        If `label_counts` is not one number >= 0 per label, or another value is out of range.
    TypeError
        If a constant is not a number or `n_rows` no int.

    References
    ----------
    Jain, Prabhu, Varma, KDD 2016, section 5.

    Examples
    --------
    >>> from skxmc.metrics import propensities_from_counts
    >>> propensities_from_counts([4, 1], 4).round(3)
    array([0.8  , 0.721])
    """
    check_number("propensities", "a", a, minimum=0)
    check_number("propensities", "b", b, above=0)
    check_int("propensities", "n_rows", n_rows, minimum=1)
    counts = np.asarray(label_counts, dtype=np.float64)
    if counts.ndim != 1 or not (counts >= 0).all():
        raise ValueError(
            "label_counts must be one count >= 0 per label, got an array of shape "
            f"{counts.shape} with smallest value {counts.min() if counts.size else None}."
        )
    scale = max(np.log(n_rows) - 1.0, 0.0) * (b + 1.0) ** a
    return 1.0 / (1.0 + scale * (counts + b) ** -a)


def inverse_propensities(propensities, n_labels: int) -> np.ndarray:
    """Check given propensities and return the weight 1/p of each label."""
    if propensities is None:
        raise ValueError(
            "Propensity-scored metrics need propensities, got None. Estimate them from the "
            "training targets: propensities=skxmc.metrics.propensities(Y_train)."
        )
    values = np.asarray(propensities, dtype=np.float64)
    if values.shape != (n_labels,):
        raise ValueError(f"propensities must have shape ({n_labels},), got {values.shape}.")
    if not ((values > 0) & (values <= 1)).all():
        raise ValueError(
            f"propensities must lie in (0, 1], got values from {values.min()} to {values.max()}. "
            "If these are inverse propensities, pass 1 / them."
        )
    return 1.0 / values
