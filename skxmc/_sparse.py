"""Canonical CSR: the one form in which sparse data travels through the package."""

import numpy as np
import scipy.sparse as sp


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
    )


def normalize_rows(X: sp.csr_array) -> sp.csr_array:
    """Scale each row to unit Euclidean length; empty rows stay empty."""
    lengths = np.diff(X.indptr)
    rows = np.repeat(np.arange(X.shape[0]), lengths)
    # in float64, where no square of a float32 is lost
    squares = np.bincount(rows, np.square(X.data, dtype=np.float64), minlength=X.shape[0])
    scale = np.divide(1.0, np.sqrt(squares), out=np.zeros(X.shape[0]), where=squares > 0)
    data = (X.data * scale[rows]).astype(X.dtype)
    return sp.csr_array((data, X.indices, X.indptr), shape=X.shape)
