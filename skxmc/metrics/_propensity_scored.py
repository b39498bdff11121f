"""Metrics that weight a hit by 1 / propensity, so that rare labels count for more."""

from skxmc.metrics._evaluate import measure_one


def psp_at_k(y_true, y_score, k=5, *, propensities, sample_weight=None):
    """Propensity-scored precision at k.

    A hit on label l is worth 1 / p_l. The value is a ratio of data-set means, not a mean of row
    ratios: mean over rows of (1/k) * (worth of the hits among the first k), divided by the mean
    over rows of (1/k) * (sum of the k largest 1 / p among the row's true labels). A row without
    true labels adds 0 to both; if no row has any, the value is 0.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
    propensities : array-like of shape (n_labels,)
        Propensity of each label, in (0, 1], from `propensities(Y_train)`.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    value : float or ndarray of shape (len(k),), dtype float64
        In [0, 1]; an array if `k` is a sequence.

    Raises
    ------
    ValueError
        If `y_true` is not a 0/1 indicator, `y_score` does not fit it or holds fewer than
        min(k, n_labels) columns, or an argument is out of range.
    TypeError
        If `k` is no int, or `y_score` has none of the forms.

    References
    ----------
    Jain, Prabhu, Varma, "Extreme Multi-label Loss Functions for Recommendation, Tagging, Ranking
    & Other Missing Label Applications", KDD 2016; reported as a ratio of data-set means by
    the Extreme Classification Repository and its evaluation tools.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import psp_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> psp_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2], propensities=[0.5, 1.0, 0.25])
    array([0.4       , 0.42857143])
    """
    return measure_one("psp", y_true, y_score, k, sample_weight, propensities)


def psndcg_at_k(y_true, y_score, k=5, *, propensities, sample_weight=None):
    """Propensity-scored nDCG at k.

    PSDCG@k of a row sums 1 / (p_l log2(rank + 1)) over the true labels l among the first k, and is
    divided by the row's plain ideal DCG (the sum of 1 / log2(rank + 1) over the first
    min(k, number of true labels) ranks). The value is the mean of that over rows, divided by the
    mean for a ranking of each row's own labels by falling 1 / p. A row without true labels adds 0
    to both; if no row has any, the value is 0.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
    propensities : array-like of shape (n_labels,)
        Propensity of each label, in (0, 1], from `propensities(Y_train)`.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    value : float or ndarray of shape (len(k),), dtype float64
        In [0, 1]; an array if `k` is a sequence.

    Raises
    ------
    ValueError
        If `y_true` is not a 0/1 indicator, `y_score` does not fit it or holds fewer than
        min(k, n_labels) columns, or an argument is out of range.
    TypeError
        If `k` is no int, or `y_score` has none of the forms.

    References
    ----------
    Jain, Prabhu, Varma, "Extreme Multi-label Loss Functions for Recommendation, Tagging, Ranking
    & Other Missing Label Applications", KDD 2016; reported as a ratio of data-set means by
    the Extreme Classification Repository and its evaluation tools.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import psndcg_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> psndcg_at_k(truth, np.array([[0, 1], [0, 1]]), k=1, propensities=[0.5, 1.0, 0.25])
    0.4
    """
    return measure_one("psndcg", y_true, y_score, k, sample_weight, propensities)
