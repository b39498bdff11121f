"""The search: the kernels against the slow reference, the reference against dense matrices."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from skxmc._sparse import as_csr
from skxmc.search import beam as beam_module
from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import search_csr, search_topk
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import FeatureTable, RankerColumns

from .oracles import draw_edges, scores_slowly


def random_graph(
    rng, edges, n_labels, *, width=4, alpha=2.0, scale=1.0, path_power=1.0, prior_weight=0.0
):
    """Continuous weights, but few values of edge weights and biases: ties are exact ties."""
    n_clusters = len(edges)
    label_weight = rng.normal(size=(n_labels, width)) * scale
    label_weight[rng.random(n_labels) < 0.3] = 0
    return SearchGraph.from_padded(
        rng.normal(size=(n_clusters, width)).astype(np.float32),
        rng.integers(0, 2, n_clusters).astype(np.float32),
        alpha,
        edges,
        np.where(edges >= 0, rng.choice([0.0, -0.3, -0.7], edges.shape), -np.inf).astype("f4"),
        label_weight.astype(np.float32),
        rng.integers(0, 2, n_labels).astype(np.float32),
        path_power=path_power,
        prior_weight=prior_weight,
    )


@st.composite
def problems(draw):
    """Draw (graph, embeddings, k, beam_width, shortlist_size)."""
    n_clusters, n_labels = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph = random_graph(
        rng,
        draw_edges(draw, n_clusters, n_labels),
        n_labels,
        alpha=draw(st.sampled_from([0.5, 2.0, 10])),
        scale=draw(st.sampled_from([1.0, 40.0])),  # 40 saturates the sigmoid
        path_power=draw(st.sampled_from([1.0, 0.5])),
        prior_weight=draw(st.sampled_from([0.0, 0.0, 0.5])),
    )
    embeddings = rng.normal(size=(draw(st.integers(0, 4)), 4)).astype(np.float32)
    embeddings[rng.random(len(embeddings)) < 0.3] = 0  # nothing but biases: ties everywhere
    sizes = st.integers(1, n_labels + 2), st.integers(1, n_clusters + 2), st.integers(1, 12)
    return graph, embeddings, *(draw(size) for size in sizes)


def assert_same_ranking(got, expected):
    """Equal labels but where neighbouring scores differ by no more than float32 rounding."""
    assert got.indices.dtype == np.int64
    assert got.scores.dtype == np.float32
    assert got.indices.shape == got.scores.shape == expected.indices.shape
    np.testing.assert_allclose(got.scores, expected.scores, rtol=2e-5, atol=1e-30)
    np.testing.assert_array_equal(got.indices == -1, expected.indices == -1)
    k = got.indices.shape[1]
    for i, j in np.argwhere(got.indices != expected.indices):
        row = expected.scores[i]
        others = [row[q] for q in (j - 1, j + 1) if 0 <= q < k]
        near = [abs(row[j] - other) <= 2e-5 * row[j] + 1e-30 for other in others]
        assert any(near) or j == k - 1, f"row {i}: {got.indices[i]} for {expected.indices[i]}"


@given(problem=problems())
def test_against_the_reference(problem):
    graph, embeddings, k, width, size = problem
    got = search_topk(graph, embeddings, k, beam_width=width, shortlist_size=size)
    expected = search_topk_reference(graph, embeddings, k, beam_width=width, shortlist_size=size)
    assert_same_ranking(got, expected)


@given(problem=problems())
def test_with_every_cluster_followed_against_dense_matrices(problem):
    graph, embeddings, k, *_ = problem
    everything = {"beam_width": graph.n_clusters, "shortlist_size": graph.n_labels}
    got = search_topk(graph, embeddings, k, **everything)
    reference = search_topk_reference(graph, embeddings, k, **everything)
    for i, embedding in enumerate(embeddings.astype(np.float64)):
        with np.errstate(over="ignore"):
            scores = scores_slowly(graph, embedding)
        best = np.sort(scores)[::-1][:k]
        best = np.r_[best, np.full(k - len(best), -np.inf)]
        for topk in (got, reference):
            np.testing.assert_allclose(topk.scores[i], best, rtol=2e-5, atol=1e-30)
            found = topk.indices[i] >= 0
            wanted = scores[topk.indices[i][found]]
            np.testing.assert_allclose(topk.scores[i][found], wanted, rtol=2e-5, atol=1e-30)


def big_problem(seed=0):
    rng = np.random.default_rng(seed)
    edges = np.array([rng.permutation(80)[:15] for _ in range(16)], dtype=np.int32)
    edges[3] = -1
    edges[4, 5:] = -1
    graph = random_graph(rng, edges, 80, width=9)
    return graph, rng.normal(size=(50, 9)).astype(np.float32)


SIZES = {"beam_width": 4, "shortlist_size": 20}


def test_a_larger_problem_against_the_reference():
    graph, embeddings = big_problem()
    got = search_topk(graph, embeddings, 7, **SIZES)
    assert_same_ranking(got, search_topk_reference(graph, embeddings, 7, **SIZES))
    assert (got.indices >= 0).all()
    wider = search_topk(graph, embeddings, 7, beam_width=16, shortlist_size=80)
    assert not np.array_equal(got.indices, wider.indices)


def assert_rows_stand_alone(graph, embeddings, k, rows, **sizes):
    """Rows searched alone get what they get in the whole batch, bit for bit."""
    whole = search_topk(graph, embeddings, k, **sizes)
    for i in rows:
        alone = search_topk(graph, embeddings[i : i + 1], k, **sizes)
        np.testing.assert_array_equal(alone.indices[0], whole.indices[i])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[i])


def test_a_row_does_not_depend_on_its_batch(monkeypatch):
    graph, embeddings = big_problem()
    whole = search_topk(graph, embeddings, 7, **SIZES)
    order = np.random.default_rng(1).permutation(50)
    for got, rows in [
        (search_topk(graph, embeddings[order], 7, **SIZES), order),
        (search_topk(graph, embeddings[11:12], 7, **SIZES), [11]),
    ]:
        np.testing.assert_array_equal(got.indices, whole.indices[rows])
        np.testing.assert_array_equal(got.scores, whole.scores[rows])
    monkeypatch.setattr(beam_module, "ROWS_AT_ONCE", 8)
    cut = search_topk(graph, embeddings, 7, **SIZES)
    np.testing.assert_array_equal(cut.indices, whole.indices)
    np.testing.assert_array_equal(cut.scores, whole.scores)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs NUMBA_NUM_THREADS of 2 or more")
    graph, embeddings = big_problem()
    monkeypatch.setattr(beam_module, "ROWS_AT_ONCE", 8)
    before = numba.get_num_threads()
    found = []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        found.append(search_topk(graph, embeddings, 7, **SIZES))
    numba.set_num_threads(before)
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


def test_sparse_rows_are_encoded_and_searched():
    graph, _ = big_problem()
    rng = np.random.default_rng(4)
    X = sp.random_array((60, 30), density=0.2, rng=rng, dtype=np.float32).tocsr()
    X.data[X.indptr[5] : X.indptr[6]] = 0
    table = rng.normal(size=(30, 9)).astype(np.float32)
    scale = rng.random(30).astype(np.float32)
    for column_scale, unit_rows in [(scale[:0], True), (scale, False), (scale[:0], False)]:
        with_encoder = replace(
            graph, encoder=FeatureTable.from_floats(table, column_scale, unit_rows, 3.0)
        )
        got = search_csr(with_encoder, as_csr(X), 7, **SIZES)
        dense = X.toarray().astype(np.float64) * (column_scale if column_scale.size else 1)
        encoder = with_encoder.encoder
        rounded = encoder.table * encoder.table_scale.astype(np.float64)[:, None]
        np.testing.assert_allclose(rounded, table, atol=np.abs(table).max() / 65000)
        embeddings = dense @ rounded
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        embeddings = 3.0 * embeddings / np.maximum(norms, 1e-12)
        expected = search_topk_reference(graph, embeddings, 7, **SIZES)
        assert_same_ranking(got, expected)
        rows = np.array([7, 3, 59])
        some = search_csr(with_encoder, as_csr(X[rows]), 7, **SIZES)
        np.testing.assert_array_equal(some.scores, got.scores[rows])


def test_int8_labels_against_the_reference():
    graph, embeddings = big_problem()
    small = graph.reduced()
    assert small.label_weight.dtype == np.int8
    got = search_topk(small, embeddings, 7, **SIZES)
    assert_same_ranking(got, search_topk_reference(small, embeddings, 7, **SIZES))
    assert not np.array_equal(got.scores, search_topk(graph, embeddings, 7, **SIZES).scores)


def test_a_pickled_graph_finds_the_same():
    graph, embeddings = big_problem()
    other = pickle.loads(pickle.dumps(graph))
    for got, expected in zip(
        search_topk(other, embeddings, 7, **SIZES),
        search_topk(graph, embeddings, 7, **SIZES),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)
    assert not other.label_weight.flags.writeable


def test_python_threads_share_a_graph():
    graph, embeddings = big_problem()
    expected = search_topk(graph, embeddings, 7, **SIZES)
    with ThreadPoolExecutor(4) as pool:
        rows = [embeddings[i : i + 1] for i in range(50)]
        found = list(pool.map(lambda row: search_topk(graph, row, 7, **SIZES), rows))
    np.testing.assert_array_equal(np.vstack([top.scores for top in found]), expected.scores)


@pytest.mark.parametrize("n_sorted", [6, 13, 1000])
@pytest.mark.parametrize("n_threads", [1, 2, 64])
def test_the_split_into_parts_changes_nothing(monkeypatch, n_threads, n_sorted):
    """Neither runs of a thread, nor rows that are sorted together, encoded here or by the caller.

    A ranker reads the rows' own features, so that a row taken for another would show.
    """
    graph, embeddings = big_problem()
    eye, zero = np.eye(embeddings.shape[1], dtype=np.float32), np.zeros(0, np.float32)
    rng = np.random.default_rng(3)
    weights = sp.random_array((graph.n_labels, len(eye)), density=0.5, rng=rng, dtype=np.float32)
    bias = np.zeros(graph.n_labels, np.float32)
    ranker = RankerColumns.from_rows(as_csr(weights), bias, share=0.5, size=20)
    length = 3.0
    graph = replace(
        graph, encoder=FeatureTable.from_floats(eye, zero, False, length), ranker=ranker
    )
    X = as_csr(embeddings)
    embeddings = length * embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def search():
        yield search_csr(graph, X, 7, **SIZES)
        yield search_topk(graph, embeddings.astype(np.float32), 7, features=X, **SIZES)

    whole = list(search())
    monkeypatch.setattr(beam_module, "ROWS_AT_ONCE", 6)
    monkeypatch.setattr(beam_module, "_SORTED_AT_ONCE", n_sorted)
    monkeypatch.setattr(beam_module.numba, "get_num_threads", lambda: n_threads)
    for parts, expected in zip(search(), whole, strict=True):
        np.testing.assert_array_equal(parts.indices, expected.indices)
        np.testing.assert_array_equal(parts.scores, expected.scores)


def test_read_only_arrays_are_searched():
    """What a memory-mapped model hands over."""
    graph, embeddings = big_problem()
    expected = search_topk(graph, embeddings, 3, **SIZES)
    names = [
        "cluster_weight",
        "cluster_bias",
        "indptr",
        "labels",
        "log_weights",
        "label_weight",
        "label_bias",
    ]
    arrays = {name: getattr(graph, name).copy() for name in names}
    embeddings = embeddings.copy()
    for array in (*arrays.values(), embeddings):
        array.flags.writeable = False
    got = search_topk(replace(graph, **arrays), embeddings, 3, **SIZES)
    np.testing.assert_array_equal(got.indices, expected.indices)


def test_ties_go_to_the_smaller_label_and_cluster():
    edges = np.array([[9, 4, 2], [7, 3, -1], [1, 0, -1]], dtype=np.int32)
    log_weights = np.where(edges >= 0, 0.0, -np.inf).astype(np.float32)
    zeros = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    labels = np.zeros((10, 2), np.float32), np.zeros(10, np.float32)
    graph = SearchGraph.from_padded(*zeros, 1.5, edges, log_weights, *labels)
    query = np.ones((1, 2), dtype=np.float32)
    got = search_topk(graph, query, 5, beam_width=2, shortlist_size=4)
    # clusters 0 and 1 tie for the beam with 2, all their labels for the shortlist
    np.testing.assert_array_equal(got.indices, [[2, 3, 4, 7, 9]])
    np.testing.assert_allclose(got.scores, 0.25)
    got = search_topk(graph, query, 2, beam_width=2, shortlist_size=3)
    np.testing.assert_array_equal(got.indices, [[2, 3]])


def test_k_beyond_what_is_reachable_is_padded():
    edges = np.array([[1, -1], [-1, -1]], dtype=np.int32)
    log_weights = np.array([[0, -np.inf], [-np.inf, -np.inf]], dtype=np.float32)
    clusters = np.array([[0.0], [10.0]], np.float32), np.zeros(2, np.float32)
    graph = SearchGraph.from_padded(
        *clusters, 1.0, edges, log_weights, np.zeros((3, 1), "f4"), np.zeros(3, "f4")
    )
    query = np.ones((2, 1), dtype=np.float32)
    got = search_topk(graph, query, 4, beam_width=9, shortlist_size=9)
    np.testing.assert_array_equal(got.indices, [[1, -1, -1, -1]] * 2)
    np.testing.assert_array_equal(got.scores[:, 1:], -np.inf)
    np.testing.assert_allclose(got.scores[:, 0], 0.5 / (1 + np.exp(10)), rtol=1e-5)
    # the one cluster in the beam has no label
    nothing = search_topk(graph, query, 2, beam_width=1, shortlist_size=9)
    np.testing.assert_array_equal(nothing.indices, -1)
    np.testing.assert_array_equal(nothing.scores, -np.inf)
    none = search_topk(graph, query[:0], 2, beam_width=1, shortlist_size=9)
    assert none.indices.shape == none.scores.shape == (0, 2)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_give_finite_scores(size):
    graph, embeddings = big_problem()
    extreme = replace(
        graph,
        cluster_weight=graph.cluster_weight * np.float32(100),
        label_bias=np.full_like(graph.label_bias, size),
    )
    got = search_topk(extreme, embeddings, 3, **SIZES)
    assert np.isfinite(got.scores[got.indices >= 0]).all()
    assert (got.scores <= 1).all()
    assert (got.indices >= 0).any()


@pytest.mark.parametrize("width", [4, 256])
def test_warm_up_leaves_nothing_to_compile(width):
    beam_module.warm_up()
    kernel, encoder = beam_module._kernels.search_rows, beam_module._kernels.encode_rows
    before = len(kernel.signatures), len(encoder.signatures)
    rng = np.random.default_rng(0)
    edges = np.arange(80, dtype=np.int32).reshape(4, 20)
    graph = random_graph(rng, edges, 80, width=width)
    assert (graph.edge_bits.size > 0) == (width == 256)
    table = rng.normal(size=(30, width)).astype(np.float32)
    encoding = FeatureTable.from_floats(table, np.zeros(0, np.float32), True, 1.0)
    X = as_csr(rng.random((3, 30)))
    for g in (graph, graph.reduced()):
        search_csr(replace(g, encoder=encoding), X, 2, beam_width=2)
        search_topk(g, rng.normal(size=(3, width)).astype(np.float32), 2, beam_width=2)
    assert (len(kernel.signatures), len(encoder.signatures)) == before
