"""X and y in every form: the same data give the same model, and answers come in y's own form."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import DataConversionWarning

from .estimators import assert_same_topk, data, single_labels

X, Y = data(n_samples=80, n_features=60, n_labels=12)
DENSE_X, DENSE_Y = X.toarray().astype(np.float64), Y.toarray()
N_ROWS, N_LABELS = DENSE_Y.shape
# one fixture for all examples: the estimator is the same in each
slow_examples = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def expected(kind):
    """Predictions of the model of the data as they are."""
    model = kind.make().fit(X, Y)
    predicted = model.predict(X).toarray()
    assert 0 < predicted.sum() < predicted.size, "the tests see both answers"
    return model.predict_topk(X, k=N_LABELS), predicted


def freeze_arrays(matrix):
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix


def with_index_dtype(matrix, dtype):
    out = matrix.copy()
    out.indices, out.indptr = out.indices.astype(dtype), out.indptr.astype(dtype)
    return out


def reversed_rows(matrix):
    """The same entries, the columns of each row in falling order."""
    out = sp.csr_array(matrix)
    for i in range(out.shape[0]):
        part = slice(out.indptr[i], out.indptr[i + 1])
        out.indices[part], out.data[part] = out.indices[part][::-1], out.data[part][::-1]
    out.has_sorted_indices = False
    return out


def halves(matrix):
    """Every entry twice, with half its value."""
    out = sp.csr_array(matrix)
    return sp.csr_array(
        (np.repeat(out.data / 2, 2), np.repeat(out.indices, 2), out.indptr * 2), shape=out.shape
    )


def with_stored_zeros(matrix):
    """An entry at every cell."""
    n_rows, n_columns = matrix.shape
    columns = np.tile(np.arange(n_columns), n_rows)
    indptr = np.arange(0, n_rows * n_columns + 1, n_columns)
    return sp.csr_array((matrix.toarray().ravel(), columns, indptr), shape=matrix.shape)


def memmapped(array, tmp_path):
    np.save(tmp_path / "array.npy", array)
    return np.load(tmp_path / "array.npy", mmap_mode="r")


X_FORMS = {
    "csr_matrix": lambda: sp.csr_matrix(X),
    "csr_array": lambda: sp.csr_array(X),
    "csr float64": lambda: X.astype(np.float64),
    "csc_matrix": lambda: sp.csc_matrix(X),
    "csc_array": lambda: sp.csc_array(X),
    "coo_matrix": lambda: sp.coo_matrix(X),
    "coo_array": lambda: sp.coo_array(X),
    "lil": lambda: sp.lil_array(X),
    "int64 indices": lambda: with_index_dtype(X, np.int64),
    "unsorted": lambda: reversed_rows(X),
    "duplicates": lambda: halves(X),
    "stored zeros": lambda: with_stored_zeros(X),
    "read-only": lambda: freeze_arrays(X.copy()),
    "read-only unsorted": lambda: freeze_arrays(reversed_rows(X)),
    "float64": lambda: DENSE_X,
    "float32": lambda: DENSE_X.astype(np.float32),
    "Fortran": lambda: np.asfortranarray(DENSE_X),
    "strided": lambda: np.repeat(DENSE_X, 2, axis=1)[:, ::2],
    "list": lambda: DENSE_X.tolist(),
    "object": lambda: DENSE_X.astype(object),
    "DataFrame": lambda: pd.DataFrame(DENSE_X),
    "sparse DataFrame": lambda: pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X)),
}


def contents(data):
    """A copy of what a container holds, down to its arrays."""
    if sp.issparse(data):
        arrays = ("data", "indices", "indptr", "row", "col")
        found = [np.array(getattr(data, a)) for a in arrays if hasattr(data, a)]
        return [*found, data.toarray()]
    return [np.array(data)]


def assert_unchanged(data, before):
    for now, then in zip(contents(data), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("form", X_FORMS)
def test_x_forms_are_one_to_the_model(kind, expected, form):
    given_X = X_FORMS[form]()
    before = contents(given_X)
    model = kind.make().fit(given_X, Y)
    assert_same_topk(model.predict_topk(given_X, k=N_LABELS), expected[0])
    # trained on one form, asked in another
    assert_same_topk(model.predict_topk(X, k=N_LABELS), expected[0])
    assert_unchanged(given_X, before)


def test_x_read_only_memmap(kind, expected, tmp_path):
    given_X = memmapped(DENSE_X, tmp_path)
    model = kind.make().fit(given_X, Y)
    assert_same_topk(model.predict_topk(given_X, k=N_LABELS), expected[0])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_x_of_integers(kind, dtype):
    counts = (DENSE_X > 0).astype(dtype)
    expected = kind.make().fit(counts.astype(float), Y).predict_topk(counts, k=5)
    for given_X in (counts, sp.csr_array(counts)):
        assert_same_topk(kind.make().fit(given_X, Y).predict_topk(given_X, k=5), expected)


def test_x_column_names(kind):
    frame = pd.DataFrame(DENSE_X, columns=[f"word {i}" for i in range(X.shape[1])])
    model = kind.make().fit(frame, Y)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    assert model.n_features_in_ == X.shape[1]
    with pytest.raises(ValueError, match="feature names"):
        model.predict_topk(frame[frame.columns[::-1]])
    assert not hasattr(kind.make().fit(X, Y), "feature_names_in_")


SPARSE_FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr"]
INTEGERS = ["?", "i1", "u1", "i4", "i8", "u8", "f4", "f8"]


@slow_examples
@given(data=st.data())
def test_sparse_y_comes_back_as_it_was(kind, expected, data):
    family = data.draw(st.sampled_from([sp.csr_matrix, sp.csr_array]))
    fmt = data.draw(st.sampled_from(SPARSE_FORMATS))
    dtype = data.draw(st.sampled_from(INTEGERS))
    twist = data.draw(
        st.sampled_from([None, with_stored_zeros, reversed_rows, with_index_dtype, freeze_arrays])
    )
    y = family(DENSE_Y.astype(dtype)).asformat(fmt)
    if fmt == "csr" and twist is with_index_dtype:
        y = with_index_dtype(y, np.int64)
    elif fmt == "csr" and twist is freeze_arrays:
        y = freeze_arrays(y)
    elif fmt == "csr" and twist is not None:
        y = family(twist(y).astype(dtype))
    before = contents(y)
    model = kind.make().fit(X, y)
    assert_same_topk(model.predict_topk(X, k=N_LABELS), expected[0])
    answer = model.predict(X)
    assert sp.issparse(answer)
    assert isinstance(answer, sp.sparray) == (family is sp.csr_array)
    # formats that say nothing about data, only about how they were made, come back as CSR
    assert answer.format == (fmt if fmt in ("csr", "csc", "coo") else "csr")
    assert answer.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(answer.toarray(), expected[1])
    assert set(np.unique(answer.data)) <= {1}
    assert_unchanged(y, before)


@slow_examples
@given(
    st.sampled_from([*INTEGERS, "f2", "g", "O"]),
    st.sampled_from(["C", "F", "list", "DataFrame", "read-only"]),
)
def test_dense_y_comes_back_as_it_was(kind, expected, dtype, how):
    y = DENSE_Y.astype(dtype, order="F" if how == "F" else "C")
    if how == "list":
        y = y.tolist()
    elif how == "DataFrame":
        y = pd.DataFrame(y)
    elif how == "read-only":
        y.flags.writeable = False
    before = contents(y)
    model = kind.make().fit(X, y)
    assert_same_topk(model.predict_topk(X, k=N_LABELS), expected[0])
    answer = model.predict(X)
    assert type(answer) is np.ndarray
    assert answer.dtype == (np.asarray(y).dtype if how == "list" else np.dtype(dtype))
    np.testing.assert_array_equal(answer, expected[1])
    assert_unchanged(y, before)


def test_y_memmap(kind, expected, tmp_path):
    model = kind.make().fit(X, memmapped(DENSE_Y, tmp_path))
    np.testing.assert_array_equal(model.predict(X), expected[1])


def test_duplicate_entries_of_y_count_once(kind, expected):
    coo = sp.coo_array(Y)
    rows, columns = (np.concatenate([c, c]) for c in coo.coords)
    y = sp.coo_array((np.ones(2 * coo.nnz), (rows, columns)), shape=Y.shape)
    model = kind.make().fit(X, y)
    assert_same_topk(model.predict_topk(X, k=N_LABELS), expected[0])


NAMES = {
    "int": np.arange(N_LABELS) * 7 - 20,
    "str": np.array([f"label {i:02}" for i in range(N_LABELS)]),
    "object": np.array([f"label {i:02}" for i in range(N_LABELS)], dtype=object),
    "float": np.arange(N_LABELS) * 1.0,
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("how", ["array", "list", "Series", "column"])
def test_one_label_a_row(kind, names, how):
    codes = single_labels(Y)
    y = names[codes]
    shown = {"list": y.tolist(), "Series": pd.Series(y), "column": y[:, None]}.get(how, y)
    if how == "column":
        with pytest.warns(DataConversionWarning):
            model = kind.make().fit(X, shown)
    else:
        model = kind.make().fit(X, shown)
    classes = np.unique(y)
    np.testing.assert_array_equal(model.classes_, classes)
    answer = model.predict(X)
    assert answer.shape == (N_ROWS,)
    if how == "list":  # numpy chooses the type
        assert answer.dtype == np.asarray(shown).dtype
    elif how != "Series":  # pandas has string types of its own
        assert answer.dtype == y.dtype
    # the same data with codes for names: the best label, by its name
    twin = kind.make().fit(X, np.searchsorted(classes, y))
    np.testing.assert_array_equal(answer, classes[twin.predict_topk(X, k=1).indices[:, 0]])
    # the indicator of the same labels trains the same model
    indicator = kind.make().fit(X, y[:, None] == classes)
    assert_same_topk(model.predict_topk(X, k=3), indicator.predict_topk(X, k=3))
    accuracy = sum(a == b for a, b in zip(answer, y, strict=True)) / N_ROWS
    assert model.score(X, shown) == pytest.approx(accuracy, abs=1e-12)


def test_one_label_a_row_of_bools(kind):
    y = DENSE_Y[:, DENSE_Y.sum(axis=0).argmax()].astype(bool)
    model = kind.make().fit(X, y)
    assert model.classes_.tolist() == [False, True]
    assert model.predict(X).dtype == bool
    np.testing.assert_array_equal(model.predict(X), model.decision_function(X) > 0)


def test_sparse_column_stays_an_indicator(kind, csr_container):
    y = csr_container(DENSE_Y[:, :1])
    model = kind.make().fit(X, y)
    answer = model.predict(X)
    assert type(answer) is csr_container
    assert answer.shape == (N_ROWS, 1)
    assert model.decision_function(X).shape == (N_ROWS, 1)
