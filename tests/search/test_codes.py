"""Labels in few bits: how far off they are, and what they choose."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skxmc.search import beam as beam_module
from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import search_topk
from skxmc.search.codes import pack_rows, round_rows
from skxmc.search.fused import _kernels
from skxmc.search.graph import SearchGraph

from .test_beam import assert_same_ranking, big_problem, problems


def unpack(codes, scale, width):
    numbers = np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.float64) - 8
    return numbers[:, :width] * scale[:, None]


def random_rows(rng, n_rows, width):
    rows = (rng.normal(size=(n_rows, width)) * rng.exponential(size=(n_rows, 1))).astype(np.float32)
    rows[rng.random(n_rows) < 0.2] = 0
    return rows


def many_labels(seed=0, n_labels=2000, width=33):
    """Vectors around cluster centres; a cluster leads to its own labels and to some others."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, width))
    own = np.arange(n_labels).reshape(20, -1)
    edges = np.hstack([own, rng.permutation(n_labels).reshape(20, -1)[:, :50]])
    edges = np.array([np.pad(row := np.unique(e), (0, 150 - row.size), constant_values=-1)
                      for e in edges], dtype=np.int32)  # fmt: skip
    weight = np.repeat(centres, n_labels // 20, axis=0) + rng.normal(size=(n_labels, width))
    graph = SearchGraph.from_padded(
        centres.astype(np.float32),
        np.zeros(20, np.float32),
        10.0,
        edges,
        np.where(edges >= 0, -rng.exponential(size=edges.shape), -np.inf).astype(np.float32),
        weight.astype(np.float32),
        np.full(n_labels, -20, np.float32),
    )
    rows = rng.integers(0, n_labels, 60)
    return graph, (weight[rows] + rng.normal(size=(60, width)) / 2).astype(np.float32)


MANY = {"beam_width": 8, "shortlist_size": 900}


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([7, 127]), st.integers(0, 2**32 - 1))
def test_rounding_is_off_by_half_a_step(n_rows, width, largest, seed):
    rows = random_rows(np.random.default_rng(seed), n_rows, width)
    rounded, scale = round_rows(rows, largest)
    assert rounded.dtype == np.int8
    assert np.abs(rounded).max(initial=0) <= largest
    error = np.abs(rounded * scale.astype(np.float64)[:, None] - rows)
    assert (error <= scale[:, None] * 0.5001).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_packed_rows_hold_the_rounded_ones(n_rows, width, seed):
    rows = random_rows(np.random.default_rng(seed), n_rows, width)
    codes, scale = pack_rows(rows)
    assert codes.dtype == np.uint8
    assert codes.shape == (n_rows, (width + 1) // 2)
    rounded, steps = round_rows(rows, 7)
    np.testing.assert_array_equal(scale, steps)
    np.testing.assert_allclose(unpack(codes, scale, width), rounded * steps[:, None], rtol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_logits_by_code_are_those_of_the_unpacked_rows(width):
    rng = np.random.default_rng(width)
    graph, _ = big_problem()
    rows, bias = random_rows(rng, 80, width), rng.normal(size=80).astype(np.float32)
    codes, scale = pack_rows(rows)
    arrays = graph.arrays._replace(label_codes=codes, code_scale=scale, label_bias=bias)
    embedding = rng.normal(size=width).astype(np.float32)
    query = np.empty((2, codes.shape[1]), np.float32)
    _kernels._prepare_query(embedding, query)
    expected = unpack(codes, scale, width) @ embedding + bias
    for n in (1, 3, 4, 13):
        labels, out = rng.permutation(80)[:n].astype(np.int32), np.empty(n, np.float32)
        _kernels._code_logits(arrays, query, labels, n, out)
        np.testing.assert_allclose(out, expected[labels], rtol=1e-4, atol=1e-4)


def test_quick_log_scores_are_close():
    z = np.linspace(-30, 30, 10001, dtype=np.float32)
    path = np.full_like(z, -2)
    got = z.copy()
    _kernels._log_scores(path, np.float32(0.5), z.size, got)
    np.testing.assert_allclose(got, -1 - np.logaddexp(0, -z.astype(np.float64)), atol=0.0065)


def test_what_codes_choose_is_scored_by_the_rows():
    graph, embeddings = many_labels()
    for k in (1, 5, 100):
        got = search_topk(graph, embeddings, k, **MANY)
        exact = search_topk_reference(graph, embeddings, k, **MANY)
        same = [np.intersect1d(a, b).size for a, b in zip(got.indices, exact.indices, strict=True)]
        assert np.mean(same) >= 0.99 * k
        for i, row in enumerate(got.indices):
            wanted = dict(zip(exact.indices[i], exact.scores[i], strict=True))
            found = [j for j, label in enumerate(row) if label in wanted]
            expected = [wanted[row[j]] for j in found]
            np.testing.assert_allclose(got.scores[i, found], expected, rtol=1e-4)


def test_with_every_label_scored_again_the_result_is_exact(monkeypatch):
    graph, embeddings = many_labels()
    monkeypatch.setattr(beam_module, "SPARE", 900)
    got = search_topk(graph, embeddings, 5, **MANY)
    assert_same_ranking(got, search_topk_reference(graph, embeddings, 5, **MANY))


@given(problem=problems())
def test_codes_alone_choose_as_the_unpacked_rows_would(problem):
    """With no label to spare, the first pass decides which labels come back."""
    graph, embeddings, k, width, size = problem
    unpacked = unpack(graph.label_codes, graph.code_scale, graph.embedding_dim).astype(np.float32)
    # the same labels by row and by code: whatever the codes choose, the rows agree with
    same = replace(graph, label_weight=unpacked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam_module, "SPARE", 0)
        got = search_topk(same, embeddings, k, beam_width=width, shortlist_size=size)
    expected = search_topk_reference(same, embeddings, k, beam_width=width, shortlist_size=size)
    # the quick log scores are off by 0.0065 at most
    np.testing.assert_array_equal(got.indices >= 0, expected.indices >= 0)
    found = got.indices >= 0
    assert (got.scores[found] >= expected.scores[found] * 0.98 - 1e-30).all()


def test_int8_logits_keep_their_bound():
    graph, embeddings = many_labels()
    small = graph.reduced()
    error = np.abs(small.label_weight * small.label_scale[:, None] - graph.label_weight)
    assert (error <= small.label_scale[:, None] * 0.5001).all()
    off = np.abs(embeddings @ (small.label_weight * small.label_scale[:, None]).T
                 - embeddings @ graph.label_weight.T)  # fmt: skip
    bound = 0.5 * np.abs(embeddings).sum(axis=1)[:, None] * small.label_scale
    assert (off <= bound * 1.001 + 1e-5).all()
    assert small.label_weight.nbytes * 4 == graph.label_weight.nbytes
