"""Canonical CSR: same numbers, one form, input untouched."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skxmc._plain_row import as_plain_row, is_plain_row
from skxmc._sparse import as_csr, normalize_rows

DENSE = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.sampled_from([0.0, 0.0, 1.0, -2.5, 3.0]),
)


def shuffled(dense, container, dtype, index_dtype):
    """CSR with indices in falling order and every entry split in two halves."""
    rows, columns = np.nonzero(dense)
    order = np.lexsort((-columns, rows))
    columns, values = np.repeat(columns[order], 2), np.repeat(dense[rows, columns][order] / 2, 2)
    indptr = np.concatenate(([0], np.cumsum(2 * np.count_nonzero(dense, axis=1))))
    out = container(dense.shape, dtype=dtype)
    out.data, out.indices = values.astype(dtype), columns.astype(index_dtype)
    out.indptr = indptr.astype(index_dtype)
    return out


def arrays_of(X):
    return [X.data, X.indices, X.indptr]


def assert_canonical(out, dense):
    assert isinstance(out, sp.csr_array)
    assert out.dtype == np.float32
    assert out.indices.dtype == out.indptr.dtype == np.int32
    for i in range(out.shape[0]):
        columns = out.indices[out.indptr[i] : out.indptr[i + 1]]
        assert (np.diff(columns) > 0).all(), "sorted, no duplicates"
    np.testing.assert_array_equal(out.toarray(), dense.astype(np.float32))


@given(
    DENSE,
    st.sampled_from([sp.csr_matrix, sp.csr_array]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([np.int32, np.int64]),
    st.booleans(),
)
def test_unsorted_duplicates(dense, container, dtype, index_dtype, read_only):
    X = shuffled(dense, container, dtype, index_dtype)
    before = [array.copy() for array in arrays_of(X)]
    for array in arrays_of(X):
        array.flags.writeable = not read_only
    assert_canonical(as_csr(X), dense)
    for array, old in zip(arrays_of(X), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("fmt", ["dense", "csr", "csc", "coo", "lil", "dok", "bsr"])
@pytest.mark.parametrize("family", ["matrix", "array"])
def test_any_container(fmt, family, dtype):
    dense = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]]).astype(dtype)
    X = dense
    if fmt != "dense":
        X = (sp.csr_matrix if family == "matrix" else sp.csr_array)(dense).asformat(fmt)
    assert_canonical(as_csr(X), dense)


def test_canonical_data_are_not_copied():
    X = sp.csr_array(np.eye(3, dtype=np.float32))
    assert X.indices.dtype == np.int32
    out = as_csr(X)
    for mine, theirs in zip(arrays_of(out), arrays_of(X), strict=True):
        assert np.shares_memory(mine, theirs)


def test_explicit_zeros_stay_entries():
    X = sp.csr_array(([0.0, 1.0], [0, 1], [0, 2]), shape=(1, 2))
    assert as_csr(X).nnz == 2


@given(DENSE)
def test_normalize_rows_against_numpy(dense):
    X = as_csr(dense)
    kept = X.data.copy()
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    expected = np.divide(dense, lengths, out=np.zeros_like(dense), where=lengths > 0)
    out = normalize_rows(X)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.toarray(), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(X.data, kept)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_normalize_rows_of_extreme_size(size):
    """The squares of these leave the range of float32."""
    out = normalize_rows(as_csr(np.array([[3 * size, 4 * size], [0, 0]])))
    np.testing.assert_allclose(out.toarray(), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def plain_row(data=(0.5, 2.0), indices=(1, 3), dtype=np.float32, index_dtype=np.int32):
    arrays = (np.array(data, dtype), np.array(indices, index_dtype))
    return *arrays, np.array([0, len(data)], index_dtype)


def test_plain_rows_are_told_from_all_others(csr_container):
    row = csr_container(plain_row(), shape=(1, 5))
    assert is_plain_row(row, 5)
    assert is_plain_row(csr_container((1, 5), dtype=np.float32), 5)
    others = [
        csr_container(plain_row(), shape=(1, 6)),
        csr_container(plain_row((0.5, np.nan)), shape=(1, 5)),
        csr_container(plain_row((0.5, np.inf)), shape=(1, 5)),
        csr_container(plain_row(indices=(3, 1)), shape=(1, 5)),
        csr_container(plain_row(indices=(3, 3)), shape=(1, 5)),
        csr_container(plain_row(dtype=np.float64), shape=(1, 5)),
        row.tocsc(),
        row.toarray(),
        csr_container(row.toarray().repeat(2, axis=0)),
    ]
    assert not any(is_plain_row(other, 5) for other in others)
    changed = csr_container(plain_row(), shape=(1, 5))
    assert changed.has_canonical_format
    changed.indices[:] = [3, 1]
    assert not is_plain_row(changed, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_rows_are_sorted_and_cast_where_that_is_all(csr_container, dtype, index_dtype):
    row = csr_container((1, 5), dtype=dtype)
    row.data, row.indices = np.array([2, 1], dtype), np.array([3, 1], index_dtype)
    row.indptr = np.array([0, 2], index_dtype)
    got = as_plain_row(row, 5)
    assert isinstance(got, sp.csr_array)
    assert is_plain_row(got, 5)
    np.testing.assert_array_equal(got.toarray(), [[0, 1, 0, 2, 0]])
    assert row.indices.tolist() == [3, 1]
    plain = csr_container(plain_row(), shape=(1, 5))
    np.testing.assert_array_equal(as_plain_row(plain, 5).toarray(), plain.toarray())


def test_rows_that_want_the_full_check(csr_container):
    broken = csr_container(plain_row(dtype=np.float64), shape=(1, 5))
    broken.indices[:] = [1, 5]
    negative = csr_container(plain_row(dtype=np.float64), shape=(1, 5))
    negative.indices[:] = [-1, 1]
    for other in (
        csr_container(plain_row(), shape=(1, 6)),
        csr_container(plain_row((0.5, np.nan), dtype=np.float64), shape=(1, 5)),
        csr_container(plain_row((0.5, 1e300), dtype=np.float64), shape=(1, 5)),
        csr_container(plain_row(indices=(3, 3)), shape=(1, 5)),
        csr_container(plain_row(dtype=np.complex64), shape=(1, 5)),
        csr_container(plain_row(), shape=(1, 5)).tocsc(),
        broken,
        negative,
    ):
        assert as_plain_row(other, 5) is None
