"""Bytes of clusters: what they choose, and that scores are those of the clusters in full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import search_topk
from skxmc.search.clusters import _kernels
from skxmc.search.graph import SearchGraph

from .test_beam import assert_rows_stand_alone, assert_same_ranking, problems


def many_clusters(seed=0, n_clusters=512, width=48):
    """Clusters around a few centres, one label each, and rows near some of the clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(16, width)) * 2
    weight = np.repeat(centres, n_clusters // 16, axis=0) + rng.normal(size=(n_clusters, width))
    weight = weight.astype(np.float32)
    graph = one_label_each(weight, rng.normal(size=n_clusters).astype(np.float32))
    rows = weight[rng.integers(0, n_clusters, 70)] + rng.normal(size=(70, width)) / 2
    return graph, rows.astype(np.float32)


def one_label_each(weight, bias):
    return SearchGraph.from_padded(
        weight,
        bias,
        5.0,
        np.arange(len(weight), dtype=np.int32)[:, None],
        np.zeros((len(weight), 1), np.float32),
        weight,
        np.full(len(weight), -50, np.float32),
    )


NARROW = {"beam_width": 4, "shortlist_size": 100}


@pytest.fixture
def always_bytes(monkeypatch):
    """Let bytes choose the clusters of any graph, and spare none beyond half the beam's width."""
    monkeypatch.setattr(_kernels, "BYTES_FROM", 4)
    monkeypatch.setattr(_kernels, "SPARE", 0)


@given(
    st.sampled_from([1, 4, 16, 17, 70, 100]),
    st.sampled_from([1, 3, 33, 130]),
    st.sampled_from([1, 3, 4, 9]),
    st.integers(0, 2**32 - 1),
)
def test_logits_by_bytes_are_off_by_a_step_at_most(n_clusters, width, n_rows, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(n_clusters, width)).astype(np.float32)
    bias = rng.normal(size=n_clusters).astype(np.float32)
    graph = one_label_each(weight, bias)
    rows = rng.normal(size=(n_rows, width)).astype(np.float32)
    scratch = _kernels.make_cluster_scratch(n_clusters, graph.cluster_codes.shape, 1)
    _kernels._logits_by_bytes(rows, graph.arrays, scratch)
    logits = scratch.logits[:n_rows, :n_clusters]
    steps = np.abs(rows).max(axis=1, keepdims=True) / 127
    off = steps / 2 * np.abs(weight).sum(axis=1)
    off += graph.cluster_scale / 2 * (np.abs(rows).sum(axis=1, keepdims=True) + steps / 2 * width)
    assert (np.abs(logits - (rows @ weight.T + bias)) <= off + 1e-4).all()


@given(problem=problems())
def test_few_clusters_against_the_reference(problem):
    graph, embeddings, k, width, size = problem
    with pytest.MonkeyPatch.context() as patch:
        # the beam and twice itself are scored in full
        patch.setattr(_kernels, "BYTES_FROM", 0)
        got = search_topk(graph, embeddings, k, beam_width=width, shortlist_size=size)
    expected = search_topk_reference(graph, embeddings, k, beam_width=width, shortlist_size=size)
    assert_same_ranking(got, expected)


def test_bytes_find_nearly_all(always_bytes):
    graph, embeddings = many_clusters()
    expected = search_topk_reference(graph, embeddings, 4, **NARROW)
    got = search_topk(graph, embeddings, 4, **NARROW)
    hits = [np.isin(a, b).mean() for a, b in zip(got.indices, expected.indices, strict=True)]
    assert np.mean(hits) >= 0.99
    same = (got.indices == expected.indices).all(axis=1)
    # clusters that bytes leave out keep their byte logits in the softmax
    np.testing.assert_allclose(got.scores[same], expected.scores[same], rtol=0.01)


def test_with_some_to_spare_the_beam_is_exact():
    graph, embeddings = many_clusters()
    assert graph.n_clusters >= _kernels.BYTES_FROM
    expected = search_topk_reference(graph, embeddings, 4, **NARROW)
    got = search_topk(graph, embeddings, 4, **NARROW)
    np.testing.assert_array_equal(got.indices, expected.indices)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_groups_in_front_hold_the_best_clusters_and_all_ties(n_clusters, size, n_values, seed):
    logits = np.random.default_rng(seed).integers(-n_values, n_values, n_clusters)
    logits = logits.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kernels, "GROUPS_EACH", 0)
        scratch = _kernels.make_cluster_scratch(n_clusters, (1, 1, 16, 4), 1)
    n = _kernels._find_front(logits, size, scratch)
    front = scratch.front[:n]
    np.testing.assert_array_equal(scratch.front_logit[:n], logits[front])
    worst = np.sort(logits)[::-1][:size][-1]
    assert len(set(front)) == n
    assert set(front) >= set(np.flatnonzero(logits >= worst))


def test_groups_lead_to_the_same_labels(monkeypatch):
    graph, embeddings = many_clusters()
    expected = search_topk(graph, embeddings, 4, **NARROW)
    monkeypatch.setattr(_kernels, "GROUPS_EACH", 0)
    got = search_topk(many_clusters()[0], embeddings, 4, **NARROW)
    np.testing.assert_array_equal(got.indices, expected.indices)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-3)


def test_a_row_chosen_by_bytes_does_not_depend_on_its_batch(always_bytes):
    graph, embeddings = many_clusters()
    assert_rows_stand_alone(graph, embeddings, 4, (0, 31, 32, 69), **NARROW)
