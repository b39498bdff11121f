"""The ranker's step in the search: margins by columns, and the final scores."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from skxmc._sparse import as_csr
from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import auto_rerank_size, search_topk
from skxmc.search.parts import RankerColumns
from skxmc.search.ranking._kernels import find_margins, make_rank_scratch

from .test_beam import SIZES, assert_same_ranking, big_problem
from .test_codes import MANY, many_labels

N_FEATURES = 30


def random_ranker(rng, n_labels, density=0.3, n_features=N_FEATURES, size=0, share=0.6):
    """Make a ranker whose labels stand in any order; returns also its weights, not rounded."""
    rows = sp.random_array((n_labels, n_features), density=density, rng=rng, dtype=np.float32)
    rows = rows.tocsr()
    rows.data -= 0.5
    bias, order = rng.normal(size=n_labels).astype(np.float32), rng.permutation(n_labels)
    ranker = RankerColumns.from_rows(as_csr(rows), bias, share=share, size=size, order=order)
    return ranker, rows.toarray()


def read_slowly(ranker):
    """Read the weights, in float64, bit by bit."""
    label_at = np.argsort(ranker.place)
    found = np.zeros((ranker.place.size, ranker.columns.shape[0]))
    for f, (start, stop, table, is_long) in enumerate(ranker.columns):
        if is_long:
            words = ranker.words[table : table + -(-found.shape[0] // 512)]
            groups = [
                32 * w + bit for w, word in enumerate(words) for bit in range(32) if word >> bit & 1
            ]
            # the upper half of a word numbers the first record of its groups
            for w in {group // 32 for group in groups}:
                assert words[w] >> 32 == start + sum(group < 32 * w for group in groups)
        else:
            groups = ranker.groups[table : table + stop - start]
        assert len(groups) == stop - start
        for group, record in zip(groups, ranker.records[start:stop], strict=True):
            record = int(record)
            bits = [bit for bit in range(16) if record >> bit & 1]
            if len(bits) > 3:
                weights = ranker.blocks[record >> 16][bits]
            else:
                weights = np.array([record >> 16, record >> 32, record >> 48]) & 0xFFFF
                weights = weights.astype(np.uint16).view(np.int16)
            for bit, weight in zip(bits, weights, strict=False):
                found[label_at[16 * group + bit], f] = weight
    return found * ranker.scale[:, None].astype(np.float64)


def random_features(rng, n_rows, n_features=N_FEATURES):
    X = sp.random_array((n_rows, n_features), density=0.3, rng=rng, dtype=np.float32).tocsr()
    X.data[X.indptr[1] : X.indptr[2]] = 0
    return as_csr(X)


def unit(X):
    X = X.toarray().astype(np.float64)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-30)


@given(st.integers(1, 3000), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_margins_against_dense(n_labels, n, seed):
    """Columns that are read through and columns that are looked up, of few and of many labels."""
    rng = np.random.default_rng(seed)
    ranker, _ = random_ranker(rng, n_labels, density=rng.choice([0.02, 0.1, 0.5]))
    X, n, weight = random_features(rng, 3), min(n, n_labels), read_slowly(ranker)
    scratch = make_rank_scratch(n_labels, n)
    for i in range(3):
        labels = rng.permutation(n_labels)[:n].astype(np.int32)
        find_margins(X.indptr, X.indices, X.data, i, ranker.arrays, labels, n, scratch)
        expected = weight[labels] @ unit(X)[i] + ranker.bias[labels]
        np.testing.assert_allclose(scratch.margin[:n], expected, rtol=1e-5, atol=1e-5)
        assert (scratch.at == -1).all()


def test_rows_of_more_features_than_a_batch_holds():
    rng = np.random.default_rng(4)
    ranker, _ = random_ranker(rng, 40, density=0.5, n_features=9000)
    X = as_csr(rng.normal(size=(1, 9000)).astype(np.float32))
    labels, scratch = rng.permutation(40)[:20].astype(np.int32), make_rank_scratch(40, 20)
    find_margins(X.indptr, X.indices, X.data, 0, ranker.arrays, labels, 20, scratch)
    expected = read_slowly(ranker)[labels] @ unit(X)[0] + ranker.bias[labels]
    np.testing.assert_allclose(scratch.margin[:20], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("density", [0.005, 0.1, 0.6])
def test_weights_are_rounded_to_16_bits(density):
    rng = np.random.default_rng(0)
    ranker, weight = random_ranker(rng, 4000, density=density)
    kinds = {0.005: (True, False), 0.1: (False, True), 0.6: (False, True)}[density]
    assert (not ranker.columns[:, 3].any(), bool(ranker.columns[:, 3].all())) == kinds
    assert bool(ranker.blocks.size) == (density > 0.05)
    found = read_slowly(ranker)
    np.testing.assert_array_equal(ranker.scale, abs(weight).max(axis=1) / np.float32(32767))
    assert (abs(found - weight) <= 0.501 * ranker.scale[:, None]).all()


def test_a_label_of_zeros_has_its_bias_for_a_margin():
    rows = sp.csr_array((np.float32([0, 2]), [0, 1], [0, 1, 2]), shape=(2, 2))
    ranker = RankerColumns.from_rows(rows, np.float32([3, 4]), share=0.5, size=0)
    np.testing.assert_allclose(read_slowly(ranker), [[0, 0], [0, 2]])


def ranked_slowly(graph, embeddings, X, k, size, **sizes):
    """Score the best `size` labels of the reference anew, in float64."""
    ranker = graph.ranker
    first = search_topk_reference(graph, embeddings, max(k, size), **sizes)
    weight = read_slowly(ranker)
    margins = unit(X) @ weight.T + ranker.bias
    out = search_topk_reference(graph, embeddings, k, **sizes)
    for i, row in enumerate(first.indices):
        labels = row[row >= 0]
        sure = 1 / (1 + np.exp(-2 * margins[i, labels]))
        p = first.scores[i, : labels.size].astype(np.float64)
        scores = p ** (1 - ranker.share) * sure**ranker.share
        order = np.lexsort((labels, -scores))[:k]
        out.indices[i, : order.size], out.scores[i, : order.size] = labels[order], scores[order]
    return out


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_ranked_search_against_the_reference(share):
    graph, embeddings = big_problem()
    rng = np.random.default_rng(1)
    ranker, _ = random_ranker(rng, graph.n_labels, share=share, size=20)
    X, graph = random_features(rng, len(embeddings)), replace(graph, ranker=ranker)
    for k in (1, 7, 20):  # no more are found than are ranked
        got = search_topk(graph, embeddings, k, features=X, **SIZES)
        expected = ranked_slowly(graph, embeddings, X, k, 20, **SIZES)
        assert_same_ranking(got, expected)
        for i in (0, 1, 49):
            row = sp.csr_array(X[i : i + 1])
            alone = search_topk(graph, embeddings[i : i + 1], k, features=row, **SIZES)
            np.testing.assert_array_equal(alone.scores[0], got.scores[i])
            np.testing.assert_array_equal(alone.indices[0], got.indices[i])


def test_equal_labels_tie_under_a_ranker():
    graph, embeddings = big_problem()
    same = replace(
        graph,
        edge_keys=0 * graph.edge_keys,
        log_weights=0 * graph.log_weights,
        label_weight=0 * graph.label_weight,
        code_scale=0 * graph.code_scale,
        label_bias=0 * graph.label_bias,
        cluster_weight=0 * graph.cluster_weight,
        cluster_bias=0 * graph.cluster_bias,
        ranker=RankerColumns.from_rows(
            sp.csr_array((80, N_FEATURES), dtype=np.float32),
            np.zeros(80, np.float32),
            share=0.5,
            size=3,
        ),
    )
    X = random_features(np.random.default_rng(2), len(embeddings))
    top = search_topk(same, embeddings, 4, features=X, **SIZES)
    expected = search_topk_reference(same, embeddings, 4, **SIZES)
    np.testing.assert_array_equal(top.indices, expected.indices)


@pytest.mark.parametrize("width", [33, 256])
def test_codes_choose_what_is_ranked(width):
    graph, embeddings = many_labels(width=width)
    rng = np.random.default_rng(3)
    X = random_features(rng, len(embeddings))
    for k, size in ((5, 0), (5, 50), (100, 0)):
        ranker, _ = random_ranker(rng, graph.n_labels, size=size)
        ranked = replace(graph, ranker=ranker)
        got = search_topk(ranked, embeddings, k, features=X, **MANY)
        wanted = ranked_slowly(ranked, embeddings, X, k, size or auto_rerank_size(k), **MANY)
        same = [np.intersect1d(a, b).size for a, b in zip(got.indices, wanted.indices, strict=True)]
        # margins are noise here: who is last of those ranked matters as much as who is first
        assert np.mean(same) >= 0.9 * k


def test_a_search_may_say_how_many_are_ranked():
    graph, embeddings = big_problem()
    rng = np.random.default_rng(3)
    X = random_features(rng, len(embeddings))
    ranker, _ = random_ranker(rng, graph.n_labels, size=3)

    def search(own, **asked):
        graph_of_size = replace(graph, ranker=replace(ranker, size=own))
        return search_topk(graph_of_size, embeddings, 2, features=X, **SIZES, **asked)

    for own, asked in ((3, None), (50, 3), (0, 3)):
        got = search(own, rerank_size=asked)
        np.testing.assert_array_equal(got.scores, search(3).scores)
    np.testing.assert_array_equal(search(3, rerank_size="auto").scores, search(0).scores)
    assert not np.array_equal(search(0).scores, search(3).scores)
    without = search_topk(graph, embeddings, 2, **SIZES)
    np.testing.assert_array_equal(
        search_topk(graph, embeddings, 2, **SIZES, rerank_size=5).scores, without.scores
    )
