"""TopK and its conversions, against plain Python."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skxmc.topk import TopK, empty_topk, topk_from_csr, topk_to_csr

FORMATS = ["csr", "csc", "coo", "lil"]
# few different values, so that ties are common; 0 is stored explicitly
SCORES = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 0.25, 1.5])
PATTERNS = hnp.arrays(
    np.int8, st.tuples(st.integers(0, 6), st.integers(1, 8)), elements=st.integers(0, 1)
)


def stored(pattern, values):
    """A CSR array with an entry wherever pattern is 1, zeros among them."""
    columns = np.nonzero(pattern)[1]
    indptr = np.concatenate(([0], np.cumsum(pattern.sum(axis=1, dtype=np.int64))))
    return sp.csr_array((np.array(values[: columns.size]), columns, indptr), shape=pattern.shape)


@given(data=st.data(), k=st.integers(1, 10))
def test_from_csr_sorts_by_score_then_index(data, k):
    pattern = data.draw(PATTERNS)
    values = data.draw(st.lists(SCORES, min_size=48, max_size=48))
    scores = stored(pattern, values)
    top = topk_from_csr(scores, k)
    assert top.indices.shape == top.scores.shape == (pattern.shape[0], k)
    for i in range(pattern.shape[0]):
        entries = scores.indices[scores.indptr[i] : scores.indptr[i + 1]]
        numbers = scores.data[scores.indptr[i] : scores.indptr[i + 1]]
        best = sorted(zip(-numbers, entries, strict=True))[:k]
        padding = k - len(best)
        assert top.indices[i].tolist() == [c for _, c in best] + [-1] * padding
        assert top.scores[i].tolist() == [-s for s, _ in best] + [-np.inf] * padding


@given(data=st.data())
def test_to_csr_undoes_from_csr(data):
    pattern = data.draw(PATTERNS)
    scores = stored(pattern, data.draw(st.lists(SCORES, min_size=48, max_size=48)))
    back = topk_to_csr(topk_from_csr(scores, pattern.shape[1]), pattern.shape[1])
    assert back.nnz == scores.nnz, "explicit zeros are entries"
    np.testing.assert_array_equal(back.indptr, scores.indptr)
    np.testing.assert_array_equal(back.indices, scores.indices)
    np.testing.assert_array_equal(back.data, scores.data)


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array])
@pytest.mark.parametrize("fmt", FORMATS)
def test_from_csr_takes_any_container(container, fmt):
    scores = container([[0.5, 0.0, 2.0], [0.0, -1.0, 0.0]]).asformat(fmt)
    top = topk_from_csr(scores, k=2)
    assert top.indices.tolist() == [[2, 0], [1, -1]]
    assert top.scores.tolist() == [[2.0, 0.5], [-1.0, -np.inf]]


def test_from_csr_sums_duplicates_and_leaves_its_input_alone():
    scores = sp.csr_array(([0.5, 0.4, 0.3], [2, 0, 2], [0, 3]), shape=(1, 3))
    top = topk_from_csr(scores, k=3)
    assert top.indices.tolist() == [[2, 0, -1]]
    np.testing.assert_allclose(top.scores[0, :2], [0.8, 0.4], rtol=1e-6)
    assert scores.nnz == 3
    assert scores.indices.tolist() == [2, 0, 2]


def test_from_csr_compares_in_full_precision():
    """Two doubles that are one float32 are no tie."""
    scores = sp.csr_array([[1.0, 1.0 + 1e-12]])
    assert topk_from_csr(scores, k=2).indices.tolist() == [[1, 0]]


def test_to_csr_drops_padding_and_sorts_columns():
    top = TopK(np.array([[3, 1], [-1, -1], [0, -1]]), np.array([[2, 1], [-np.inf] * 2, [5, -1]]))
    out = topk_to_csr(top, n_labels=4)
    assert isinstance(out, sp.csr_array)
    assert out.dtype == np.float32
    assert out.has_sorted_indices
    np.testing.assert_array_equal(out.toarray(), [[0, 1, 0, 2], [0, 0, 0, 0], [5, 0, 0, 0]])
    assert out.nnz == 3


def test_empty_topk_is_all_padding():
    top = empty_topk(2, 3)
    assert top.indices.dtype == np.int64
    assert top.scores.dtype == np.float32
    assert (top.indices == -1).all()
    assert (top.scores == -np.inf).all()
    assert top.indices.shape == top.scores.shape == (2, 3)
    assert topk_to_csr(top, 5).nnz == 0


def test_unpacks_and_pickles():
    top = topk_from_csr(sp.csr_array([[0.0, 1.0]]), k=1)
    indices, scores = pickle.loads(pickle.dumps(top))
    assert indices.tolist() == [[1]]
    assert scores.tolist() == [[1.0]]
