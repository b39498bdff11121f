"""Where the hits come from: frequent labels or rare ones."""

from itertools import pairwise

import numpy as np

from skxmc._validation import check_int
from skxmc.metrics._hits import find_hits
from skxmc.metrics._inputs import as_weights
from skxmc.metrics._terms import LabelCounts, count_labels, safe_divide


def breakdown_by_frequency(
    y_true, y_score, label_counts, k: int = 5, *, bins=(0, 1, 6, 21, 101), sample_weight=None
) -> dict[str, np.ndarray]:
    """Split the quality of the top k by how often each label occurs in the training data.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    label_counts : array-like of shape (n_labels,)
        Number of *training* rows that carry each label.
    k : int
        Number of labels to look at, >= 1.
    bins : sequence of int
        Smallest count of each bin, rising, the first 0; the last bin has no upper end. The
        default makes 0, 1-5, 6-20, 21-100 and >=101.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    table : dict of str to ndarray of shape (n_bins,)
        Ready for `pandas.DataFrame`. "bin": its name; "n_labels": labels in it; "n_true",
        "n_predicted", "n_correct": weighted number of true, predicted and correctly predicted
        entries; "precision" = n_correct / n_predicted; "recall" = n_correct / n_true;
        "coverage": share of the bin's labels true in `y_true` that are correctly predicted in some
        row; "contribution": the bin's part of P@k, which sum up to it. 0 replaces 0 / 0.

    Raises
    ------
    ValueError
        If `bins` do not rise from 0, `label_counts` does not fit, or the data do not.
    TypeError
        If `k` is no int.

    References
    ----------
    Recall by bin is what head-and-tail tables of the field show; "contribution" is linear in the
    hits, so P@k is the sum over bins by its definition in the Extreme Classification Repository.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import breakdown_by_frequency
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> table = breakdown_by_frequency(
    ...     truth, np.array([[0], [1]]), label_counts=[9, 2, 0], k=1, bins=[0, 1, 5]
    ... )
    >>> table["bin"].tolist(), table["recall"].tolist()
    (['0', '1-4', '>=5'], [0.0, 1.0, 1.0])
    """
    check_int("breakdown_by_frequency", "k", k, minimum=1)
    edges = _check_bins(bins)
    hits = find_hits(y_true, y_score, k)
    n_rows, n_labels = hits.truth.shape
    weights = as_weights(sample_weight, n_rows)
    which = np.searchsorted(edges, _check_counts(label_counts, n_labels), side="right") - 1
    counts = count_labels(hits, k, weights)

    def total(of_label):
        return np.bincount(which, of_label, minlength=len(edges))

    correct, predicted, true = LabelCounts(*map(total, counts))
    return {
        "bin": np.array(_bin_names(edges)),
        "n_labels": np.bincount(which, minlength=len(edges)),
        "n_true": true,
        "n_predicted": predicted,
        "n_correct": correct,
        "precision": safe_divide(correct, predicted),
        "recall": safe_divide(correct, true),
        "coverage": safe_divide(total(counts.correct > 0), total(counts.true > 0)),
        "contribution": correct / (k * weights.sum()),
    }


def _check_bins(bins) -> np.ndarray:
    edges = np.asarray(bins)
    whole = edges.ndim == 1 and edges.size > 0 and np.issubdtype(edges.dtype, np.integer)
    if not whole or edges[0] != 0 or (np.diff(edges) <= 0).any():
        raise ValueError(
            f"bins must be rising ints that start with 0, such as (0, 1, 6, 21, 101), got {bins!r}."
        )
    return edges


def _check_counts(label_counts, n_labels: int) -> np.ndarray:
    counts = np.asarray(label_counts)
    if counts.shape != (n_labels,) or not (counts >= 0).all():
        raise ValueError(
            f"label_counts must hold {n_labels} counts >= 0, one per label, got an array of shape "
            f"{counts.shape}. Count them in the training targets: Y_train.sum(axis=0)."
        )
    return counts


def _bin_names(edges: np.ndarray) -> list[str]:
    ends = [(low, high - 1) for low, high in pairwise(edges)]
    return [f"{a}" if a == b else f"{a}-{b}" for a, b in ends] + [f">={edges[-1]}"]
