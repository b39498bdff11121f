"""Targets: y in all the forms scikit-learn users have, as one canonical 0/1 CSR and a way back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from skxmc._sparse import as_csr

__all__ = ["Targets", "encode_targets", "indicator_csr"]

LISTS_ADVICE = (
    "Lists of label names or ids become an indicator by "
    "binarizer = sklearn.preprocessing.MultiLabelBinarizer(sparse_output=True); "
    "Y = binarizer.fit_transform(y); column j of Y is then the label binarizer.classes_[j]."
)


@dataclass(frozen=True)
class Targets:
    """Encoded training targets.

    Attributes
    ----------
    Y : csr_array of shape (n_rows, n_labels), float32
        Canonical 0/1 indicator.
    classes : ndarray of shape (n_labels,)
        Label values of 1-d y, column numbers of an indicator.
    single_label : bool
        Whether y was 1-d.
    """

    Y: sp.csr_array
    classes: np.ndarray
    single_label: bool


def encode_targets(y: Any) -> Targets:
    """Check y and encode it.

    Parameters
    ----------
    y : sparse or dense array of shape (n_rows, n_labels), or array-like of shape (n_rows,)
        0/1 indicator, or one label a row.

    Returns
    -------
    targets : Targets

    Raises
    ------
    ValueError
        If y is missing, not finite, not a 0/1 indicator, continuous or ragged.
    """
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    if sp.issparse(y):
        Y = indicator_csr(y)
        return Targets(Y, np.arange(Y.shape[1]), False)
    y = _as_array(y)
    if y.ndim == 2 and y.shape[1] > 1:
        Y = indicator_csr(y)
        return Targets(Y, np.arange(Y.shape[1]), False)
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinity; every row needs a label.")
    try:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError:
        types = ", ".join(sorted({type(label).__name__ for label in y}))
        raise TypeError(f"y must hold labels of one type, got a mix of {types}.") from None
    ones = np.ones(y.size, dtype=np.float32)
    indptr = np.arange(y.size + 1)
    Y = sp.csr_array((ones, codes, indptr), shape=(y.size, classes.size))
    return Targets(as_csr(Y), classes, True)


def indicator_csr(y: Any, name: str = "y") -> sp.csr_array:
    """Check a 2-d indicator (stored zeros are dropped) and convert it to float32 CSR."""
    if getattr(y, "ndim", 2) != 2:
        raise ValueError(f"{name} must be 2-d of shape (n_rows, n_labels), got {y.ndim}-d.")
    values = y.data if sp.issparse(y) and y.format in ("csr", "csc", "coo", "bsr") else None
    if values is None:
        values = y.tocoo().data if sp.issparse(y) else np.asarray(y)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be a numeric 0/1 indicator, got dtype {values.dtype}.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} contains NaN or infinity; an indicator holds only 0 and 1.")
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise ValueError(
            f"{name} must be a 0/1 indicator of shape (n_rows, n_labels), got the value "
            f"{wrong.flat[0].item()!r}. {LISTS_ADVICE}"
        )
    # float32 before duplicates are summed, where small integers would overflow
    Y = as_csr(y.astype(np.float32) if sp.issparse(y) else np.asarray(y, dtype=np.float32))
    if Y.nnz and (Y.data.min() < 1 or Y.data.max() > 1):
        Y = sp.csr_array((np.minimum(Y.data, 1), Y.indices, Y.indptr), shape=Y.shape, copy=True)
        Y.eliminate_zeros()
    if Y.shape[1] == 0:
        raise ValueError(f"{name} has no columns: there is no label to learn.")
    return Y


def _as_array(y: Any) -> np.ndarray:
    """Array of a dense y; ragged or nested lists get a message that names the way out."""
    try:
        array = np.asarray(y)
    except ValueError:
        array = np.empty(0, dtype=object)
        ragged = True
    else:
        ragged = array.dtype == object and any(
            isinstance(item, (list, tuple, set, frozenset, np.ndarray))
            for item in array.ravel()[:1000]
        )
    if ragged:
        raise ValueError(
            f"y holds a list of labels for each row, not a 0/1 indicator. {LISTS_ADVICE}"
        )
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "OUS":
        if array.dtype.kind in "US":
            raise ValueError(f"y holds rows of strings, not a 0/1 indicator. {LISTS_ADVICE}")
        array = check_array(array, dtype="numeric", input_name="y")
    if array.ndim == 0 or array.ndim > 2:
        raise ValueError(f"y must be 1-d or 2-d, got {array.ndim}-d.")
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must hold labels or 0/1.")
    return array
