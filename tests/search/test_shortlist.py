"""Shortlists: both engines against loops."""

from itertools import pairwise

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.search import _kernels, shortlist
from skxmc.search.shortlist import best_columns, build_shortlist, contains

from .oracles import csr_of, shortlist_problems, shortlist_slowly

# (device, engine); the torch engine runs on the CPU as well when it is called by name
ENGINES = ["numba", "torch", *(["cuda"] if torch.cuda.is_available() else [])]
engines = pytest.mark.parametrize("engine", ENGINES)


def build(engine, beam, scores, edges, log_weights, n_labels, k, positives=None):
    """Run `build_shortlist`, or what an accelerator runs on CPU tensors."""
    device = "cuda" if engine == "cuda" else "cpu"
    tensors = [
        torch.tensor(beam, dtype=torch.int64, device=device),
        torch.tensor(scores, dtype=torch.float32, device=device),
        torch.tensor(edges, dtype=torch.int32, device=device),
        torch.tensor(log_weights, dtype=torch.float32, device=device),
    ]
    if positives is not None:
        positives = csr_of(positives)._replace(data=None)
        positives = positives._replace(
            indptr=positives.indptr.to(device), indices=positives.indices.to(device)
        )
    if engine == "torch":
        found = shortlist._torch(*tensors, n_labels, min(k, n_labels), positives)
        return shortlist._pad(*found)
    return build_shortlist(*tensors, n_labels, k, positives)


def rows_of(found):
    """label -> (slot, column, whether a positive) of each row; checks the form on the way."""
    (indptr, indices, data), rows, slots, columns, positive, kept = found
    assert data is None
    kept = [True] * len(rows) if kept is None else kept.tolist()
    lengths = np.diff(indptr.cpu())
    np.testing.assert_array_equal(rows.cpu(), np.repeat(np.arange(len(lengths)), lengths))
    paths = list(zip(slots.tolist(), columns.tolist(), positive.tolist(), strict=True))
    out = []
    for start, stop in pairwise(indptr.tolist()):
        entries = [p for p in range(start, stop) if kept[p]]
        labels = [int(indices[p]) for p in entries]
        assert len(set(labels)) == len(labels), "a label twice in a row"
        out.append({label: paths[p] for label, p in zip(labels, entries, strict=True)})
    return out


@engines
@given(problem=shortlist_problems(), with_positives=st.booleans())
def test_against_brute_force(engine, problem, with_positives):
    *arguments, positives = problem
    positives = positives if with_positives else None
    got = rows_of(build(engine, *arguments, positives))
    expected = shortlist_slowly(*arguments, positives)
    assert got == [
        {
            label: (slot, column, with_positives and label in own)
            for label, (_, slot, column) in row.items()
        }
        for own, row in zip(problem[-1], expected, strict=True)
    ]


def big_problem(seed, n_rows=6, n_clusters=40, n_labels=3000, n_edges=200):
    """More paths than are looked at one by one: clusters that share labels, rows that are short."""
    rng = np.random.default_rng(seed)
    edges = np.stack([rng.permutation(n_labels)[:n_edges] for _ in range(n_clusters)])
    edges[np.arange(n_edges) >= rng.integers(1, n_edges + 1, n_clusters)[:, None]] = -1
    # multiples of 1/8 sum exactly, and tie
    log_weights = np.where(edges >= 0, -rng.integers(0, 60, edges.shape) / 8, -np.inf)
    beam = np.stack([np.sort(rng.permutation(n_clusters)[:25]) for _ in range(n_rows)])
    beam[:, 20:] = np.where(rng.random((n_rows, 5)) < 0.5, -1, beam[:, 20:])
    scores = -rng.integers(0, 60, beam.shape) / 8
    positives = [sorted(rng.permutation(n_labels)[:30].tolist()) for _ in range(n_rows)]
    return beam, scores, edges.astype(np.int32), log_weights, n_labels, positives


@pytest.mark.parametrize("k", [1, 20, 150, 1000, 2500])
@pytest.mark.parametrize("same", [False, True], ids=["spread", "one cluster's labels again"])
def test_many_paths_against_brute_force(k, same):
    """Bounds from samples; clusters of the same labels have many times more paths than labels."""
    *problem, positives = big_problem(k)
    if same:
        problem[2][:] = problem[2][:1]
    got = rows_of(build("numba", *problem, k, positives))
    expected = shortlist_slowly(*problem, k, positives)
    for own, row, paths in zip(positives, expected, got, strict=True):
        assert paths == {label: (*row[label][1:], label in own) for label in row}


def test_scores_that_are_no_numbers_end_the_search():
    beam, scores, edges, log_weights, n_labels, _ = big_problem(0)
    log_weights[::2] = np.nan
    found = build("numba", beam, scores, edges, log_weights, n_labels, 100)
    assert all(len(row) == 100 for row in rows_of(found))


STAR = np.array([[0, 1, 2], [3, 4, 2]], dtype=np.int32)
STAR_WEIGHTS = np.log([[0.9, 0.3, 0.2], [0.5, 0.05, 0.8]])


@given(problem=shortlist_problems(), n_parts=st.integers(1, 5))
def test_the_split_into_parts_changes_nothing(problem, n_parts):
    beam, scores, edges, log_weights, n_labels, k, positives = problem
    pattern = csr_of(positives)
    keys, clusters = log_weights.astype("f4"), np.arange(len(edges))
    arguments = (beam, scores.astype("f4"), edges, keys,
                 *_kernels.row_lengths(edges, keys, clusters), min(k, n_labels),
                 pattern.indptr.numpy(), pattern.indices.numpy())  # fmt: skip
    for one, several in zip(
        _kernels.shortlist(*arguments, 1), _kernels.shortlist(*arguments, n_parts), strict=True
    ):
        np.testing.assert_array_equal(one, several)


def test_the_number_of_threads_changes_nothing():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs NUMBA_NUM_THREADS of 2 or more")
    rng = np.random.default_rng(0)
    edges = np.array([rng.permutation(60)[:20] for _ in range(12)], dtype=np.int32)
    beam = np.array([rng.permutation(12)[:5] for _ in range(40)])
    arguments = beam, -rng.random((40, 5)), edges, -rng.random(edges.shape), 60, 9
    before = numba.get_num_threads()
    found = []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        found.append(build("numba", *arguments))
    numba.set_num_threads(before)
    assert torch.equal(found[0].labels.indices, found[1].labels.indices)
    assert torch.equal(found[0].slots, found[1].slots)


def test_scores_that_want_gradients_are_taken():
    scores = torch.zeros(1, 2, requires_grad=True)
    weights = torch.tensor(STAR_WEIGHTS, dtype=torch.float32, requires_grad=True)
    found = build_shortlist(torch.tensor([[0, 1]]), scores, torch.tensor(STAR), weights, 5, 2)
    assert sorted(found.labels.indices.tolist()) == [0, 2]


@given(data=st.data())
def test_contains_against_sets(data):
    n_rows, n_labels = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    row = st.lists(st.integers(0, n_labels - 1), unique=True).map(sorted)
    lists = [data.draw(row) for _ in range(n_rows)]
    pairs = [(i, label) for i in range(n_rows) for label in range(n_labels)]
    pairs = data.draw(st.permutations(pairs))[: data.draw(st.integers(0, len(pairs)))]
    rows, labels = (torch.tensor([pair[j] for pair in pairs], dtype=torch.int64) for j in (0, 1))
    got = contains(csr_of(lists), rows, labels, n_labels)
    assert got.dtype == torch.bool
    assert got.tolist() == [label in lists[i] for i, label in pairs]


def test_contains_beyond_the_range_of_int32():
    n_labels, rows = 2_000_000, 3_000
    lists = [[] for _ in range(rows - 1)] + [[5, n_labels - 1]]
    positives = csr_of(lists)._replace(indices=torch.tensor([5, n_labels - 1], dtype=torch.int32))
    asked = torch.tensor([5, 6, n_labels - 1])
    got = contains(positives, torch.full((3,), rows - 1), asked, n_labels)
    assert got.tolist() == [True, False, True]


@given(
    scores=st.lists(st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 1.0, np.inf]), max_size=12),
    k=st.integers(1, 14),
    seed=st.integers(0, 2**32 - 1),
)
def test_select_top_against_a_sort(scores, k, seed):
    labels = np.random.default_rng(seed).permutation(50)[: len(scores)].astype(np.int32)
    scores = np.array(scores, dtype=np.float32)
    kept = _kernels.select_top(scores, labels, k)
    assert sorted(kept) == sorted(np.lexsort((labels, -scores))[:k])


@given(
    n=st.integers(600, 900),
    shape=st.sampled_from(["spread", "ties", "outlier", "flat"]),
    share=st.floats(0, 1),
    n_infinite=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_select_top_of_many_against_a_sort(n, shape, share, n_infinite, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).astype(np.float32)
    if shape == "ties":
        scores = np.round(2 * scores)
    elif shape == "outlier":  # all others fall into one bin
        scores[0] = 1e6
    elif shape == "flat":
        scores[:] = 0.5
    scores[rng.permutation(n)[:n_infinite]] = np.inf
    labels, k = rng.permutation(n).astype(np.int32), 1 + int(share * (n - 1))
    kept = _kernels.select_top(scores, labels, k)
    assert sorted(kept) == sorted(np.lexsort((labels, -scores))[:k])


@pytest.mark.parametrize("n_columns", [1, 30, 5000])
def test_best_columns_are_those_of_topk(n_columns):
    scores = torch.randn(6, n_columns, generator=torch.Generator().manual_seed(0))
    scores[1] = scores[1].round()
    k = min(20, n_columns)
    values, columns = best_columns(scores, k)
    assert torch.equal(values, scores.topk(k, dim=1).values)
    assert torch.equal(scores.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())
