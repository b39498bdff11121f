"""Canonical CSR: the one form in which sparse data travels through the package."""

import itertools

import numpy as np
import scipy.sparse as sp

# Entries whose rows `normalize_rows` scales at once.
_ENTRIES_AT_ONCE = 2**20


def as_csr(X, dtype=np.float32) -> sp.csr_array:
    """Convert dense or sparse data to a `csr_array` with sorted indices and no duplicates.

    The input is never changed; data that is canonical already is not copied. Index arrays become
    int32 where they fit, so that Numba compiles each kernel once.
    """
    out = sp.csr_array(X, dtype=dtype)
    if not out.has_canonical_format:
        out = out.copy()  # its arrays may be those of X
        out.sum_duplicates()
    limit = np.iinfo(np.int32).max
    if out.indices.dtype != np.int32 and max(out.nnz, *out.shape) <= limit:
        indices, indptr = out.indices.astype(np.int32), out.indptr.astype(np.int32)
        out = sp.csr_array((out.data, indices, indptr), shape=out.shape)
    return out


def is_plain_row(X, n_features: int) -> bool:
    """Whether X is one row that needs no change and no complaint.

    That is finite CSR of float32 and int32, columns ascending. False says nothing about X but that
    it wants the full check. SciPy's own flag is not asked: it outlives changes of the arrays.
    """
    if not (sp.issparse(X) and X.format == "csr" and X.shape == (1, n_features)):
        return False
    indices, data = X.indices, X.data
    return bool(
        data.dtype == np.float32
        and indices.dtype == X.indptr.dtype == np.int32
        and X.indptr[0] == 0
        and X.indptr[1] == indices.size == data.size
        and (indices.size == 0 or (indices[0] >= 0 and indices[-1] < n_features))
        and (indices[1:] > indices[:-1]).all()
        and np.isfinite(data).all()
        and data.all()  # zeros are dropped: sums would round otherwise where they stand in between
    )


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


def is_bag_of_words(X: sp.csr_array) -> bool:
    """Whether values look like counts or weights of words: none negative, and most of them zero."""
    counts_like = X.nnz == 0 or X.data.min() >= 0
    return bool(counts_like and np.count_nonzero(X.data) < 0.5 * X.shape[0] * X.shape[1])


def normalize_rows(X: sp.csr_array) -> sp.csr_array:
    """Scale each row to unit Euclidean length; empty rows stay empty. Indices are shared."""
    data = np.empty_like(X.data)
    # some rows at a time: the work in float64 would take many times the memory of the data
    bounds = np.searchsorted(X.indptr, np.arange(0, X.nnz, _ENTRIES_AT_ONCE))
    for first, last in itertools.pairwise((*np.unique(bounds), X.shape[0])):
        start, stop = X.indptr[first], X.indptr[last]
        lengths = np.diff(X.indptr[first : last + 1])
        rows = np.repeat(np.arange(lengths.size), lengths)
        # in float64, where no square of a float32 is lost
        squares = np.square(X.data[start:stop], dtype=np.float64)
        squares = np.bincount(rows, squares, minlength=lengths.size)
        scale = np.divide(1.0, np.sqrt(squares), out=np.zeros(lengths.size), where=squares > 0)
        data[start:stop] = X.data[start:stop] * scale[rows]
    return sp.csr_array((data, X.indices, X.indptr), shape=X.shape)
