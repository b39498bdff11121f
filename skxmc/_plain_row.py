"""Single rows that need no check but a glance: scikit-learn's takes longer than a search does."""

import numpy as np
import scipy.sparse as sp
from numba import njit

from skxmc._numba_cache import CACHE

_FLOAT, _INT = np.dtype(np.float32), np.dtype(np.int32)


def is_plain_row(X, n_features: int) -> bool:
    """Whether X is one row that needs no change and no complaint.

    That is finite CSR of float32 and int32, columns ascending. False says nothing about X but that
    it wants the full check. SciPy's own flag is not asked: it outlives changes of the arrays.
    """
    if not (sp.issparse(X) and X.format == "csr" and X.shape == (1, n_features)):
        return False
    indptr, indices, data = X.indptr, X.indices, X.data
    if not (data.dtype == _FLOAT and indices.dtype == indptr.dtype == _INT):
        return False
    # a handful of NumPy's calls would take as long as the search does
    return bool(_is_plain(indptr, indices, data, n_features))


@njit(cache=CACHE, nogil=True)
def _is_plain(indptr, indices, data, n_features):
    """Whether a row has ascending columns and finite values other than zero.

    Zeros are dropped elsewhere: sums would round otherwise where they stand in between.
    """
    n = indices.shape[0]
    if not (indptr[0] == 0 and indptr[1] == n and data.shape[0] == n):
        return False
    last = -1
    for p in range(n):
        if not (last < indices[p] < n_features and data[p] != 0 and np.isfinite(data[p])):
            return False
        last = indices[p]
    return True


def as_plain_row(X, n_features: int) -> sp.csr_array | None:
    """Return X as a row that `is_plain_row` would pass, if it takes no more than sorting and casts.

    None says nothing about X but that it wants the full check: it may be no single row of CSR, have
    duplicates, or values that float32 does not hold.
    """
    if is_plain_row(X, n_features):
        return sp.csr_array(X) if isinstance(X, sp.spmatrix) else X
    if not (sp.issparse(X) and X.format == "csr" and X.shape == (1, n_features)):
        return None
    indptr, indices, data = X.indptr, X.indices, X.data
    if data.dtype.kind not in "fiu" or not (indptr[0] == 0 and indptr[1] == indices.size):
        return None
    if data.size != indices.size or (indices.size and not indices.min() >= 0):
        return None
    if indices.size and indices.max() >= n_features:
        return None
    order = np.argsort(indices, kind="stable")
    with np.errstate(over="ignore"):
        data = data[order].astype(np.float32)
    indices = indices[order].astype(np.int32)
    row = sp.csr_array((data, indices, indptr.astype(np.int32)), shape=X.shape)
    return row if is_plain_row(row, n_features) else None
