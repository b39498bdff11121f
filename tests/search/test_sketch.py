"""The sketch of clusters: exact where it leaves none out, close where it does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skxmc.search import graph as graph_module
from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import search_topk
from skxmc.search.clusters import _kernels
from skxmc.search.codes import sketch_rows
from skxmc.search.graph import SearchGraph

from .test_beam import assert_same_ranking, problems


def many_clusters(seed=0, n_clusters=512, width=48):
    """Clusters around a few centres, one label each, and rows near some of the clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(16, width)) * 2
    weight = np.repeat(centres, n_clusters // 16, axis=0) + rng.normal(size=(n_clusters, width))
    weight = weight.astype(np.float32)
    graph = SearchGraph.from_padded(
        weight,
        rng.normal(size=n_clusters).astype(np.float32),
        5.0,
        np.arange(n_clusters, dtype=np.int32)[:, None],
        np.zeros((n_clusters, 1), np.float32),
        weight,
        np.full(n_clusters, -50, np.float32),
    )
    rows = weight[rng.integers(0, n_clusters, 70)] + rng.normal(size=(70, width)) / 2
    return graph, rows.astype(np.float32)


NARROW = {"beam_width": 4, "shortlist_size": 100}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_all_directions_keep_every_product(n_rows, width, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, width)).astype(np.float32)
    basis, sketch = sketch_rows(rows, width)
    np.testing.assert_allclose(basis @ basis.T, np.eye(width), atol=1e-5)
    query = rng.normal(size=width).astype(np.float32)
    np.testing.assert_allclose(sketch @ (basis @ query), rows @ query, rtol=1e-4, atol=1e-4)


def test_directions_are_those_that_keep_most():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12))).astype(np.float32)
    basis, sketch = sketch_rows(rows, 3)
    np.testing.assert_allclose(sketch @ basis, rows, atol=1e-4)


@given(problem=problems())
def test_a_sketch_of_all_directions_against_the_reference(problem):
    graph, embeddings, k, width, size = problem
    with pytest.MonkeyPatch.context() as patch:
        # one cluster in full for each in the beam: the sketch alone chooses
        patch.setattr(_kernels, "EXACT_PER_BEAM", 1)
        got = search_topk(graph.sketched(4), embeddings, k, beam_width=width, shortlist_size=size)
    expected = search_topk_reference(graph, embeddings, k, beam_width=width, shortlist_size=size)
    logits = embeddings @ graph.cluster_weight.T + graph.cluster_bias
    apart = [np.diff(np.sort(row)).min(initial=1) > 1e-4 for row in logits]
    for top in (got, expected):  # where clusters tie, rounding chooses
        top.indices[~np.array(apart, bool)] = -1
        top.scores[~np.array(apart, bool)] = -np.inf
    assert_same_ranking(got, expected)


def test_with_full_width_nothing_changes():
    graph, embeddings = many_clusters()
    wide = {"beam_width": -(-512 // _kernels.EXACT_PER_BEAM), "shortlist_size": 100}
    flat = search_topk(graph, embeddings, 5, **wide)
    got = search_topk(graph.sketched(6), embeddings, 5, **wide)
    np.testing.assert_array_equal(got.indices, flat.indices)
    np.testing.assert_array_equal(got.scores, flat.scores)


def test_few_directions_find_nearly_all():
    graph, embeddings = many_clusters()
    flat = search_topk(graph, embeddings, 4, **NARROW)
    got = search_topk(graph.sketched(24), embeddings, 4, **NARROW)
    hits = [np.isin(a, b).mean() for a, b in zip(got.indices, flat.indices, strict=True)]
    assert np.mean(hits) >= 0.95
    same = (got.indices == flat.indices).all(axis=1)
    np.testing.assert_allclose(got.scores[same], flat.scores[same], rtol=0.05)


def test_a_sketched_row_does_not_depend_on_its_batch():
    graph, embeddings = many_clusters()
    graph = graph.sketched(12)
    whole = search_topk(graph, embeddings, 4, **NARROW)
    for i in (0, 31, 32, 69):
        alone = search_topk(graph, embeddings[i : i + 1], 4, **NARROW)
        np.testing.assert_array_equal(alone.indices[0], whole.indices[i])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[i])


def test_thousands_of_clusters_get_a_sketch(monkeypatch, tmp_path):
    graph, embeddings = many_clusters()
    assert graph.sketch.size == 0
    monkeypatch.setattr(graph_module, "_SKETCH_FROM", 512)
    large, _ = many_clusters()
    assert large.sketch.shape == (512, 12)
    large.save(tmp_path / "model")
    expected = search_topk(graph.sketched(12), embeddings, 4, **NARROW)
    got = search_topk(SearchGraph.load(tmp_path / "model"), embeddings, 4, **NARROW)
    np.testing.assert_array_equal(got.scores, expected.scores)
    assert large.sketched(0).sketch.size == 0
