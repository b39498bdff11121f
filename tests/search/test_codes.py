"""Labels in few bits: how far off they are, and what they choose."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skxmc.search import beam as beam_module
from skxmc.search._reference import search_topk_reference
from skxmc.search.beam import search_topk
from skxmc.search.coded import _kernels
from skxmc.search.codes import by_word, byte_rows, half_width, pack_rows, round_rows, sign_rows
from skxmc.search.graph import SearchGraph
from skxmc.search.paths._kernels import (
    ENOUGH,
    N_LEVELS,
    NEXT,
    bound_paths,
    count_levels,
    make_path_scratch,
)

from .oracles import label_rows
from .test_beam import assert_rows_stand_alone, assert_same_ranking, big_problem, problems


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


@given(st.integers(1, 9), st.sampled_from([1, 9, 32, 33, 70]), st.integers(0, 2**32 - 1))
def test_packed_rows_hold_the_rounded_ones(n_rows, width, seed):
    rows = random_rows(np.random.default_rng(seed), n_rows, width)
    codes, scale = pack_rows(rows)
    assert codes.dtype == np.uint8
    assert codes.shape == (n_rows, half_width(width))
    rounded, steps = round_rows(rows, 7)
    np.testing.assert_array_equal(scale, steps)
    np.testing.assert_allclose(unpack(codes, scale, width), rounded * steps[:, None], rtol=1e-6)
    assert (unpack(codes, np.ones_like(scale), None)[:, width:] == 0).all()


@given(st.integers(1, 40), st.sampled_from([1, 9, 64, 65]), st.integers(0, 2**32 - 1))
def test_bytes_hold_the_rounded_rows(n_rows, width, seed):
    rows = random_rows(np.random.default_rng(seed), n_rows, width)
    blocks, scale = byte_rows(rows)
    assert blocks.flags.c_contiguous
    codes = blocks.swapaxes(1, 2).reshape(16 * blocks.shape[0], 4 * blocks.shape[1])
    assert 0 <= codes.shape[0] - n_rows < 16
    assert 0 <= codes.shape[1] - width < 4
    rounded, steps = round_rows(rows, 127)
    np.testing.assert_array_equal(scale, steps)
    np.testing.assert_array_equal(codes[:n_rows, :width].astype(int) - 128, rounded)
    assert (codes[n_rows:] == 128).all()
    assert (codes[:, width:] == 128).all()


@pytest.mark.parametrize("width", [1, 2, 7, 64, 129])
def test_logits_by_code_are_those_of_the_unpacked_rows(width):
    rng = np.random.default_rng(width)
    graph, _ = big_problem()
    rows, bias = random_rows(rng, 80, width), rng.normal(size=80).astype(np.float32)
    codes, scale = pack_rows(rows)
    arrays = graph.arrays._replace(label_codes=codes, code_scale=scale, label_bias=bias)
    embedding = rng.integers(-127, 128, width).astype(np.float32)
    embedding[0] = 127  # the step is 1 then, and nothing is lost
    scratch = _kernels.make_code_scratch(codes.shape[1], 0, 0)
    expected = unpack(codes, scale, width) @ embedding + bias
    for n in (1, 3, 4, 13):
        labels, out = rng.permutation(80)[:n].astype(np.int32), np.empty(max(n, 4), np.float32)
        _kernels.code_logits(arrays, embedding, labels, n, scratch, out)
        np.testing.assert_allclose(out[:n], expected[labels], rtol=1e-4, atol=1e-3)


def test_quick_log_scores_are_close():
    z = np.linspace(-30, 30, 10001, dtype=np.float32)
    path, got = np.full_like(z, -2), np.empty_like(z)
    half, twice = np.float32(0.5), np.float32(2.0)
    _kernels.add_log_sigmoid(path, half, z, twice, z.size, got)
    np.testing.assert_allclose(got, -1 - 2 * np.logaddexp(0, -z.astype(np.float64)), atol=0.013)


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
    # the same rows and labels in whole numbers: whatever the codes choose, the rows agree with
    same = replace(graph, label_weight=unpacked, label_scale=np.ones_like(graph.label_scale))
    steps = np.maximum(np.abs(embeddings).max(axis=1, initial=0, keepdims=True), 1e-30) / 127
    embeddings = (np.rint(embeddings / steps) * steps).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam_module, "SPARE", 0)
        got = search_topk(same, embeddings, k, beam_width=width, shortlist_size=size)
    expected = search_topk_reference(same, embeddings, k, beam_width=width, shortlist_size=size)
    # the quick log scores are off by 0.0065 at most
    np.testing.assert_array_equal(got.indices >= 0, expected.indices >= 0)
    found = got.indices >= 0
    assert (got.scores[found] >= expected.scores[found] * 0.98 - 1e-30).all()


def spread(bits, scale, axes):
    """Rows that bits stand for."""
    octets = bits.astype("<u8").view(np.uint8).reshape(*bits.shape, 8)
    signs = np.unpackbits(octets, axis=2, bitorder="little").swapaxes(1, 2)
    signs = signs.reshape(len(bits), -1)[:, : axes.shape[1]] * 2.0 - 1
    return axes[0] + scale[:, None] * axes[1] * signs


@pytest.mark.parametrize("width", [1, 63, 64, 200, 512])
def test_bits_stand_for_rows_about_their_mean(width):
    rng = np.random.default_rng(width)
    rows = rng.normal(size=(300, width)) * rng.exponential(size=(300, 1))
    rows = (rows * rng.exponential(size=width) + 3 * rng.normal(size=width)).astype(np.float32)
    bits, scale, axes = sign_rows(rows)
    assert bits.shape == (300, -(-width // 64))
    np.testing.assert_allclose(axes[0], rows.mean(axis=0), rtol=1e-5)
    near, rest = spread(bits, scale, axes), rows - axes[0]
    assert ((near > axes[0]) == (rest > 0)).all()
    # a row's product with itself is what it should be
    np.testing.assert_allclose(
        ((near - axes[0]) * rest).sum(axis=1), (rest**2).sum(axis=1), rtol=1e-3, atol=1e-4
    )


def test_bits_of_equal_rows_and_of_zeros():
    for rows in (np.zeros((3, 5), np.float32), np.full((3, 5), 2.0, np.float32)):
        bits, scale, axes = sign_rows(rows)
        np.testing.assert_allclose(spread(bits, scale, axes), rows)


@pytest.mark.parametrize("width", [3, 64, 200])
def test_paths_come_with_logits_of_the_spread_rows(width):
    """Follow all paths of two clusters; an embedding is rounded by half a step at most."""
    graph, embeddings = wide_labels(width=width)
    bits, scale, axes = sign_rows(label_rows(graph))
    arrays = graph.arrays._replace(
        edge_bits=by_word(bits, graph.labels, graph.indptr), edge_scale=scale[graph.labels],
        edge_bias=graph.label_bias[graph.labels], bit_axes=axes,
    )  # fmt: skip
    beam = np.array([2, 0], np.int32)
    reach = int(np.diff(graph.indptr)[beam].sum())
    paths = make_path_scratch(graph.n_labels, 2, reach)
    scratch = _kernels.make_code_scratch(1, bits.shape[1], reach)
    logit = np.empty(reach, np.float32)
    paths.base[:] = [-1, -2]
    levels = np.empty((len(graph.indptr) - 1, N_LEVELS), np.int32)
    count_levels(graph.indptr, graph.edge_keys, levels)
    assert bound_paths(graph.indptr, graph.edge_keys, levels, beam, reach, paths) == reach
    assert _kernels.follow_paths(arrays, embeddings[0], paths, scratch, logit) == reach
    edges = np.concatenate([np.arange(*graph.indptr[c : c + 2]) for c in beam])
    labels = graph.labels[edges]
    np.testing.assert_array_equal(paths.label, labels)
    base = np.repeat([-1, -2], np.diff(graph.indptr)[beam])
    np.testing.assert_allclose(paths.path, base + graph.log_weights[edges], rtol=1e-6)
    scaled = embeddings[0] * axes[1]
    step = np.abs(scaled).max() / 7
    rounded = np.rint(scaled / step) * step
    near = (spread(bits, scale, axes)[labels] - axes[0]) / axes[1]
    wanted = near @ rounded + axes[0] @ embeddings[0] + graph.label_bias[labels]
    np.testing.assert_allclose(logit, wanted, rtol=1e-3, atol=1e-2)


@given(st.integers(1, 6), st.integers(0, 400), st.floats(0.001, 30), st.integers(0, 2**32 - 1))
def test_stops_leave_about_the_best_paths(n_clusters, size, spread_of_keys, seed):
    """Of all paths `size` or a quarter more, and none that is much better is left out."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 200, n_clusters)
    indptr = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    keys = [-np.sort(rng.exponential(spread_of_keys, n)) for n in lengths]
    keys = np.concatenate(keys).astype(np.float32)
    levels = np.empty((n_clusters, N_LEVELS), np.int32)
    count_levels(indptr, keys, levels)
    np.testing.assert_array_equal(levels[:, -1], lengths)
    beam = rng.permutation(n_clusters).astype(np.int32)
    paths = make_path_scratch(1, n_clusters, int(indptr[-1]))
    paths.base[:] = -rng.exponential(5, n_clusters)
    found = bound_paths(indptr, keys, levels, beam, size, paths)
    assert found == (paths.place[:, ENOUGH] - paths.place[:, NEXT]).sum()
    assert min(size, indptr[-1]) <= found <= max(size + size // 4 + 16, size)
    scores = [paths.base[b] + keys[indptr[c] : indptr[c + 1]] for b, c in enumerate(beam)]
    taken = [paths.place[b, ENOUGH] - indptr[c] for b, c in enumerate(beam)]
    left = np.concatenate([s[n:] for s, n in zip(scores, taken, strict=True)])
    worst = min((s[:n].min() for s, n in zip(scores, taken, strict=True) if n), default=np.inf)
    # a level is an eighth of a nat, for clusters as for edges, and the last one is 16 nats down
    far = paths.base.max() + keys.max(initial=0) - 15.7
    assert (left[left > far] <= worst + 0.251).all()


def wide_labels(width=256):
    return many_labels(seed=3, width=width)


def test_what_bits_and_codes_choose_is_nearly_what_the_rows_would():
    graph, embeddings = wide_labels()
    assert graph.edge_bits.shape == (graph.labels.size, 4)
    for k in (1, 5, 100):
        got = search_topk(graph, embeddings, k, **MANY)
        exact = search_topk_reference(graph, embeddings, k, **MANY)
        same = [np.intersect1d(a, b).size for a, b in zip(got.indices, exact.indices, strict=True)]
        assert np.mean(same) >= 0.98 * k
        assert (np.diff(got.scores, axis=1) <= 0).all()


def test_with_bits_a_row_does_not_depend_on_its_batch_and_finds_all_there_is():
    graph, embeddings = wide_labels()
    assert_rows_stand_alone(graph, embeddings, 5, (0, 31, 33, 59), **MANY)
    # every label is in a cluster, and every cluster is followed
    everything = search_topk(graph, embeddings[:2], 2000, beam_width=20, shortlist_size=2000)
    assert (np.sort(everything.indices, axis=1) == np.arange(2000)).all()
    exact = search_topk_reference(graph, embeddings[:2], 2000, beam_width=20, shortlist_size=2000)
    assert_same_ranking(everything, exact)


def test_labels_of_many_clusters_leave_room_for_others():
    """All clusters lead to the same few labels first: k others are found nevertheless."""
    graph, embeddings = wide_labels()
    n_clusters, few = 20, np.arange(40)
    edges = np.array([np.r_[few, 40 + 90 * c + np.arange(90)] for c in range(n_clusters)])
    weights = np.where(np.arange(130) < 40, 0, -9).astype(np.float32)
    crowded = SearchGraph.from_padded(
        graph.cluster_weight, graph.cluster_bias, 10.0, edges.astype(np.int32),
        np.tile(weights, (n_clusters, 1)), label_rows(graph), graph.label_bias + 20,
    )  # fmt: skip
    top = search_topk(crowded, embeddings, 60, beam_width=20, shortlist_size=300)
    assert (top.indices >= 0).all()


def test_int8_logits_keep_their_bound():
    graph, embeddings = many_labels()
    small = graph.reduced()
    error = np.abs(label_rows(small) - label_rows(graph))
    assert (error <= small.label_scale[:, None] * 0.5001).all()
    off = np.abs(embeddings @ (label_rows(small) - label_rows(graph)).T)
    bound = 0.5 * np.abs(embeddings).sum(axis=1)[:, None] * small.label_scale
    assert (off <= bound * 1.001 + 1e-5).all()
    assert small.label_weight.nbytes * 2 == graph.label_weight.nbytes
