"""Targets: every form of y becomes the same 0/1 CSR, and what is no y is refused with advice."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import DataConversionWarning

from skxmc._targets import encode_targets, indicator_csr

INDICATORS = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 6), st.integers(2, 6)), elements=st.integers(0, 1)
)
DTYPES = ["?", "i1", "u1", "i4", "i8", "u8", "f4", "f8"]
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr"]


def assert_canonical(Y, expected):
    assert isinstance(Y, sp.csr_array)
    assert Y.dtype == np.float32
    assert Y.indices.dtype == np.int32
    assert Y.has_sorted_indices
    assert (Y.data == 1).all(), "no stored zeros, no sums"
    np.testing.assert_array_equal(Y.toarray(), expected)


@given(
    INDICATORS,
    st.sampled_from(DTYPES),
    st.sampled_from(FORMATS),
    st.sampled_from([sp.csr_matrix, sp.csr_array]),
)
def test_sparse_indicators(dense, dtype, fmt, container):
    y = container(dense.astype(dtype)).asformat(fmt)
    targets = encode_targets(y)
    assert_canonical(targets.Y, dense)
    assert not targets.single_label
    np.testing.assert_array_equal(targets.classes, np.arange(dense.shape[1]))
    np.testing.assert_array_equal(y.toarray(), dense, err_msg="y was changed")


@given(INDICATORS, st.sampled_from([*DTYPES, "f2", "g", "O"]), st.booleans())
def test_dense_indicators(dense, dtype, fortran):
    y = dense.astype(dtype, order="F" if fortran else "C")
    y.flags.writeable = False
    assert_canonical(encode_targets(y).Y, dense)
    assert_canonical(encode_targets(y.tolist()).Y, dense)
    assert_canonical(encode_targets(pd.DataFrame(y)).Y, dense)
    assert_canonical(encode_targets(list(y)).Y, dense)


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array, sp.coo_matrix, sp.csc_array])
@pytest.mark.parametrize("times", [2, 128, 256])
@pytest.mark.parametrize("dtype", ["i1", "u1", "f8", "?"])
def test_duplicate_entries_count_once(container, times, dtype):
    """Also where their sum in a small integer type would be negative, or 0."""
    ones, places = np.ones(times + 1, dtype), np.r_[np.zeros(times, int), 2]
    parts = {
        "csr": (ones, places, [0, times + 1]),
        "csc": (ones, np.zeros(times + 1, int), [0, times, times, times + 1]),
        "coo": (ones, (np.zeros(times + 1, int), places)),
    }
    y = container(parts[container.__name__[:3]], shape=(1, 3))
    assert_canonical(encode_targets(y).Y, [[1, 0, 1]])
    assert y.nnz == times + 1, "y was changed"


@pytest.mark.parametrize("dtype", ["i4", "f8", "?"])
def test_stored_zeros_are_dropped(csr_container, dtype):
    y = csr_container((np.array([0, 1, 0], dtype), [0, 1, 0], [0, 2, 3]), shape=(2, 2))
    assert_canonical(encode_targets(y).Y, [[0, 1], [0, 0]])
    assert y.nnz == 3


def test_int64_indices_and_read_only(csr_container):
    y = csr_container(np.eye(3))
    y.indices, y.indptr = y.indices.astype(np.int64), y.indptr.astype(np.int64)
    for array in (y.data, y.indices, y.indptr):
        array.flags.writeable = False
    assert_canonical(encode_targets(y).Y, np.eye(3))


ONE_LABEL = {
    "int": [3, 1, 3, -7],
    "float": [1.0, 2.0, 1.0, 0.0],
    "bool": [True, False, False, True],
    "str": ["b", "a", "b", "ccc"],
    "object": np.array(["b", "a", "b", "ccc"], dtype=object),
    "series": pd.Series(["b", "a", "b", "ccc"]),
    "categorical": pd.Series(["b", "a", "b", "c"]).astype("category"),
    "dates": np.array(["2020-01-02", "2020-01-01"] * 2, dtype="datetime64[D]"),
    "one class": ["x"] * 4,
}


@pytest.mark.parametrize("y", ONE_LABEL.values(), ids=ONE_LABEL)
def test_one_label_a_row(y):
    targets = encode_targets(y)
    assert targets.single_label
    values = list(y)
    assert list(targets.classes) == sorted(set(values))
    expected = [[value == label for label in sorted(set(values))] for value in values]
    assert_canonical(targets.Y, np.array(expected))


def test_column_vector_warns_and_is_one_label_a_row():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        targets = encode_targets(np.array([[2], [5], [2]]))
    assert targets.single_label
    assert targets.classes.tolist() == [2, 5]


def test_sparse_column_is_an_indicator_of_one_label(csr_container):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        targets = encode_targets(csr_container([[1], [0]]))
    assert not targets.single_label
    assert_canonical(targets.Y, [[1], [0]])


LISTS = {
    "ids": [[1, 2]] * 4,
    "ids of equal length": [[1, 2, 3], [4, 5, 6]],
    "ragged ids": [[1], [2, 3]],
    "ragged with empty": [[], [2, 3]],
    "sets": [{1, 2}, {3}],
    "tuples of names": [("a", "b"), ("c", "d")],
    "ragged names": [["a"], ["b", "c"]],
    "arrays": [np.array([1, 2]), np.array([3])],
    "frozensets": [frozenset({"a"}), frozenset({"b", "c"})],
    "series of lists": pd.Series([["a"], ["b", "c"]]),
    "object array of lists": np.array([[1], [2, 3]], dtype=object),
}


@pytest.mark.parametrize("y", LISTS.values(), ids=LISTS)
def test_lists_of_labels_are_told_of_multilabelbinarizer(y):
    advice = r"MultiLabelBinarizer\(sparse_output=True\).*fit_transform\(y\).*classes_\[j\]"
    with pytest.raises(ValueError, match=advice):
        encode_targets(y)


@pytest.mark.parametrize("wrong", [-1, 2, 0.5, 1 + 1e-12])
@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, sp.csr_array, sp.coo_matrix])
def test_values_other_than_0_and_1(wrong, form):
    y = np.array([[0, 1.0], [wrong, 0]])
    y = y.astype(int) if wrong in (-1, 2) else y
    with pytest.raises(ValueError, match=r"0/1 indicator.*got the value " + re.escape(repr(wrong))):
        encode_targets(form(y))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, sp.csr_array, sp.csc_matrix])
def test_not_finite(wrong, form):
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        encode_targets(form(np.array([[0, 1.0], [wrong, 0]])))
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        encode_targets([1.0, wrong])


REFUSED = {
    "missing": (None, ValueError, "requires y"),
    "continuous": ([0.1, 0.2, 0.7], ValueError, "continuous"),
    "complex": (np.eye(2) * 1j, ValueError, "Complex"),
    "complex sparse": (sp.csr_array(np.eye(2) * 1j), ValueError, "numeric"),
    "3-d": (np.zeros((2, 2, 2)), ValueError, "3-d"),
    "scalar": (3, ValueError, "0-d"),
    "no columns": (sp.csr_array((3, 0)), ValueError, "no columns"),
    "strings in a table": (np.array([["0", "1"]]), ValueError, "strings"),
    "mixed types": (np.array(["a", 1], object), TypeError, "mix of int, str"),
}


@pytest.mark.parametrize(("y", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(y, kind, words):
    with pytest.raises(kind, match=words):
        encode_targets(y)


def test_indicator_names_what_is_wrong():
    with pytest.raises(ValueError, match="truth must be 2-d"):
        indicator_csr(np.zeros(3), name="truth")
    with pytest.raises(ValueError, match="truth must be a 0/1 indicator"):
        indicator_csr(np.full((2, 2), 3), name="truth")
