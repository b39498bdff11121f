"""Slow, plain twins of the readers and small data for the tests."""

import bz2
import gzip

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st

OPENERS = {"": open, ".gz": gzip.open, ".bz2": bz2.open}
SUFFIXES = list(OPENERS)


def write_text(path, text: str):
    with OPENERS.get(path.suffix, open)(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def read_slowly(path):
    """Read the repository's format cell by cell into dense arrays."""
    with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
        n_rows, n_features, n_labels = map(int, file.readline().split())
        X, Y = np.zeros((n_rows, n_features)), np.zeros((n_rows, n_labels), dtype=int)
        for i in range(n_rows):
            labels, _, pairs = file.readline().rstrip("\n").partition(" ")
            for label in filter(None, labels.split(",")):
                Y[i, int(label)] = 1
            for pair in pairs.split():
                feature, value = pair.split(":")
                X[i, int(feature)] = float(value)
    return X, Y


def random_csr(rng, shape, density, dtype):
    """Draw CSR whose rows, some of them empty, hold values in random order of size."""
    mask = rng.random(shape) < density
    values = rng.normal(scale=10.0 ** rng.integers(-6, 6, size=shape))
    dense = np.where(mask, np.ones(shape) if dtype == np.int8 else values, 0)
    return sp.csr_array(dense.astype(dtype))


@st.composite
def matrix_pairs(draw):
    """Draw X float32 and Y int8 of equally many rows; rows and whole matrices may be empty."""
    n_rows = draw(st.integers(0, 6))
    n_features, n_labels = draw(st.integers(0, 7)), draw(st.integers(0, 7))
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    cells = st.lists(
        st.one_of(st.just(0.0), floats), min_size=n_rows * n_features, max_size=n_rows * n_features
    )
    bits = st.lists(st.booleans(), min_size=n_rows * n_labels, max_size=n_rows * n_labels)
    X = np.array(draw(cells), dtype=np.float32).reshape(n_rows, n_features)
    Y = np.array(draw(bits), dtype=np.int8).reshape(n_rows, n_labels)
    return sp.csr_array(X), sp.csr_array(Y)


def assert_same(actual, expected, dtype):
    """Check equal content and the canonical form."""
    assert isinstance(actual, sp.csr_array)
    assert actual.dtype == dtype
    assert actual.indices.dtype == actual.indptr.dtype == np.int32
    assert actual.shape == expected.shape
    assert actual.has_canonical_format
    dense = expected.toarray() if sp.issparse(expected) else np.asarray(expected)
    np.testing.assert_array_equal(actual.toarray(), dense.astype(dtype))
