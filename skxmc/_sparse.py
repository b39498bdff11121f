"""Canonical CSR: the one form in which sparse data travels through the package."""

import itertools
from typing import Any

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


def is_bag_of_words(X: sp.csr_array | np.ndarray) -> bool:
    """Whether values look like counts or weights of words: none negative, and most of them zero."""
    values: Any = X.data if sp.issparse(X) else X
    counts_like = values.size == 0 or values.min() >= 0
    return bool(counts_like and np.count_nonzero(values) < 0.5 * X.shape[0] * X.shape[1])


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
