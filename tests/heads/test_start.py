"""Where label vectors start, against dense matrices."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.heads import LabelHead, start
from skxmc.heads.start import start_at_centroids, start_bytes

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def make_head(n_labels, width, unit_rows=False, device="cpu"):
    bias = torch.linspace(-3, 0, n_labels)
    return LabelHead(bias, width, lr=0.1, unit_rows=unit_rows).to(device)


def dense_centroids(E, Y):
    """Unit vectors along sums of unit rows, label by label in float64; 0 where there is none."""
    E, Y = E.astype(np.float64), Y.toarray()
    directions = np.zeros((Y.shape[1], E.shape[1]))
    for label in range(Y.shape[1]):
        for row in np.flatnonzero(Y[:, label]):
            length = np.sqrt((E[row] ** 2).sum())
            directions[label] += E[row] / length if length else 0
        length = np.sqrt((directions[label] ** 2).sum())
        # vectors that cancel out leave some rounding even here
        directions[label] *= 1 / length if length > 1e-9 else 0
    return directions


@st.composite
def problems(draw):
    """Draw embeddings, some of them 0, and a truth in which some labels have no row."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_labels, width = draw(st.tuples(*[st.integers(1, 9)] * 3))
    E = rng.standard_normal((n_rows, width)) * rng.uniform(0.1, 10, (n_rows, 1))
    E[rng.random(n_rows) < 0.2] = 0
    Y = rng.random((n_rows, n_labels)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return E.astype(np.float32), sp.csr_array(Y.astype(np.float32))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at_once", [1, 3, 1000])
@given(problem=problems())
def test_vectors_against_dense(device, at_once, problem):
    E, Y = problem
    head = make_head(Y.shape[1], E.shape[1], device=device)
    bias = head.rows.bias.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "_LABELS_AT_ONCE", at_once)
        start_at_centroids(head, E, Y)
    length = np.sqrt((E.astype(np.float64) ** 2).sum(axis=1).mean())
    expected = dense_centroids(E, Y) * (start.GAIN / length if length else 0)
    np.testing.assert_allclose(head.rows.weight.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(head.rows.bias, bias)
    assert head.rows.weight.dtype == torch.float32


@given(problem=problems())
def test_vectors_of_length_one(problem):
    """Labels without a direction of their own keep the one that was drawn."""
    E, Y = problem
    head = make_head(Y.shape[1], E.shape[1], unit_rows=True)
    drawn = head.rows.weight.numpy().copy()
    start_at_centroids(head, E, Y)
    expected = dense_centroids(E, Y)
    unknown = ~expected.any(axis=1)
    expected[unknown] = drawn[unknown]
    np.testing.assert_allclose(head.rows.weight, expected, rtol=1e-4, atol=1e-4)


def test_scores_are_multiples_of_the_cosine():
    """However long embeddings are in general: an encoder may have any scale."""
    E = np.float32([[3, 0], [0, 3], [3, 0]])
    Y = sp.csr_array(np.float32([[1, 0], [0, 1], [1, 1]]))
    scores = []
    for scale in (1.0, 100.0):
        head = make_head(2, 2)
        start_at_centroids(head, np.float32(scale) * E, Y)
        scores.append(scale * E @ head.rows.weight.numpy().T)
    half = start.GAIN / np.sqrt(2)
    np.testing.assert_allclose(scores[0], [[start.GAIN, half], [0, half], [start.GAIN, half]])
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-6)


def test_bytes_by_the_allocator():
    rng = np.random.default_rng(0)
    n_rows, n_labels, width = 20_000, 5000, 32
    indices = rng.integers(0, n_labels, 4 * n_rows).astype(np.int32)
    arrays = (np.ones(4 * n_rows, np.float32), indices, 4 * np.arange(n_rows + 1, dtype=np.int32))
    Y = sp.csr_array(arrays, shape=(n_rows, n_labels))
    head = make_head(n_labels, width)
    make = rng.standard_normal
    start_at_centroids(head, make((n_rows, width), dtype=np.float32), Y)
    tracemalloc.start()
    start_at_centroids(head, make((n_rows, width), dtype=np.float32), Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.8 < start_bytes(n_rows, n_labels, Y.nnz, width) / peak < 1.5
