"""Metrics over labels: whether the long tail is predicted at all.

The first k predictions of a row count as its predicted label set. Every label weighs the same,
however rare it is. These metrics cost O(n_labels) for each k beside the pass over the data.
"""

from skxmc.metrics._evaluate import measure_one


def coverage_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Share of the labels that are predicted correctly in at least one row's first k.

    The share is of the labels which are true in at least one row of `y_true`, so that 1 can be
    reached. Rows of weight 0 are left out; the weights have no other effect. If no row has true
    labels the value is 0.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
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
    The coverage of the LEVER paper, with napkinXC's denominator (`coverage_at_k` there).

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import coverage_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> coverage_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2])
    array([0.33333333, 0.66666667])
    """
    return measure_one("coverage", y_true, y_score, k, sample_weight)


def macro_precision_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Precision of each label's top-k predictions, averaged over all labels.

    Precision of a label = rows where it is rightly among the first k / rows where it is among the
    first k; 0 for a label that is never predicted. All labels take part, also those that are
    never true.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
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
    `sklearn.metrics.precision_score` with ``average="macro", zero_division=0`` on the
    indicator of the top k.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import macro_precision_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> macro_precision_at_k(truth, np.array([[0, 1], [0, 1]]), k=2)
    0.3333333333333333
    """
    return measure_one("macro_precision", y_true, y_score, k, sample_weight)


def macro_recall_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Recall of each label by the top-k predictions, averaged over all labels.

    Recall of a label = rows where it is rightly among the first k / rows where it is true; 0 for a
    label that is never true. All labels take part, so that where many labels are missing from
    `y_true` even a perfect ranking stays far below 1.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
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
    `sklearn.metrics.recall_score` with ``average="macro", zero_division=0`` on the
    indicator of the top k.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import macro_recall_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> macro_recall_at_k(truth, np.array([[0, 1], [0, 1]]), k=2)
    0.6666666666666666
    """
    return measure_one("macro_recall", y_true, y_score, k, sample_weight)


def macro_f1_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """F1 of each label's top-k predictions, averaged over all labels.

    F1 of a label = 2 * correct / (predicted + true), counted in rows; 0 for a label that is neither
    predicted nor true. All labels take part.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    k : int or sequence of int, each >= 1
        Number of labels to look at; a sequence is answered in one pass.
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
    `sklearn.metrics.f1_score` with ``average="macro", zero_division=0`` on the
    indicator of the top k.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import macro_f1_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> macro_f1_at_k(truth, np.array([[0, 1], [0, 1]]), k=2)
    0.4444444444444444
    """
    return measure_one("macro_f1", y_true, y_score, k, sample_weight)
