"""Metrics over rows: the quality of the first k of each ranking."""

from skxmc.metrics._evaluate import measure_one


def precision_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Share of true labels among the k best predicted ones, averaged over rows.

    P@k = mean over rows of (1/k) * (number of true labels among the first k). The divisor is k even
    where a row has fewer true labels, fewer predictions, or the data fewer labels than k. A row
    without true labels counts as 0.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions, in one of four forms: a `TopK`; an integer array (n_rows, >= k) of label
        columns, best first, padded with -1; sparse scores (n_rows, n_labels), of which only the
        stored entries are predicted, explicit zeros among them; float scores (n_rows, n_labels).
        Equal scores are ordered by the smaller index; -inf is not predicted.
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
    The Extreme Classification Repository (Bhatia et al. 2016), "Performance metrics".

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import precision_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> precision_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2])
    array([0.5, 0.5])
    """
    return measure_one("precision", y_true, y_score, k, sample_weight)


def recall_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Share of each row's true labels found among the k best, averaged over rows.

    R@k = mean over rows of (number of true labels among the first k) / (number of true labels). A
    row without true labels counts as 0, so that the mean is over all rows, as it is for P@k.

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
    Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4; rows
    without true labels as in the Extreme Classification Repository's tools.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import recall_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> recall_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2])
    array([0.25, 0.75])
    """
    return measure_one("recall", y_true, y_score, k, sample_weight)


def ndcg_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Normalised discounted cumulative gain of the k best, averaged over rows.

    DCG@k sums 1 / log2(rank + 1) over the true labels among the first k; nDCG@k divides it by the
    same sum over the first min(k, number of true labels) ranks. A row without true labels counts
    as 0. With 0/1 truth and no ties this is `sklearn.metrics.ndcg_score`.

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
    Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; the Extreme
    Classification Repository, "Performance metrics".

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import ndcg_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> ndcg_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2]).round(3)
    array([0.5  , 0.622])
    """
    return measure_one("ndcg", y_true, y_score, k, sample_weight)


def mrr_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Mean over rows of 1 / rank of the first true label, 0 where it is not in the first k.

    A row without true labels counts as 0.

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
    Voorhees, "The TREC-8 Question Answering Track Report", 1999 (mean reciprocal rank), cut off
    at k.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import mrr_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> mrr_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2])
    array([0.5 , 0.75])
    """
    return measure_one("mrr", y_true, y_score, k, sample_weight)


def map_at_k(y_true, y_score, k=5, *, sample_weight=None):
    """Mean over rows of the average precision among the k best.

    AP@k sums P@i over the ranks i <= k that hold a true label, and divides by
    min(k, number of true labels), so that a perfect ranking has 1 at every k. A row without true
    labels counts as 0.

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
    Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4 (mean
    average precision), cut off at k.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import map_at_k
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> map_at_k(truth, np.array([[0, 1], [0, 1]]), k=[1, 2])
    array([0.5, 0.5])
    """
    return measure_one("map", y_true, y_score, k, sample_weight)
