"""Shortlists: both engines against loops, and the law of the random draw."""

from itertools import pairwise

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from skxmc.search import _kernels, shortlist
from skxmc.search.shortlist import build_shortlist, contains

from .oracles import csr_of, paths_of, shortlist_problems, shortlist_slowly

# (device, engine); the torch engine runs on the CPU as well when it is called by name
ENGINES = ["numba", "torch", *(["cuda"] if torch.cuda.is_available() else [])]
engines = pytest.mark.parametrize("engine", ENGINES)


def build(engine, beam, scores, edges, log_weights, n_labels, k, positives=None, noise=0.0, seed=0):
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
        found = shortlist._torch(*tensors, n_labels, min(k, n_labels), positives, noise, seed)
        return shortlist._pad(*found)
    generator = torch.Generator().manual_seed(seed)
    return build_shortlist(*tensors, n_labels, k, positives, noise, generator)


def rows_of(found):
    """label -> (slot, column) of each row; checks the form on the way."""
    (indptr, indices, data), rows, slots, columns, kept = found
    assert data is None
    kept = [True] * len(rows) if kept is None else kept.tolist()
    lengths = np.diff(indptr.cpu())
    np.testing.assert_array_equal(rows.cpu(), np.repeat(np.arange(len(lengths)), lengths))
    paths = list(zip(slots.tolist(), columns.tolist(), strict=True))
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
        {label: (slot, column) for label, (_, slot, column) in row.items()} for row in expected
    ]


@engines
@given(problem=shortlist_problems(), seed=st.integers(0, 2**31 - 1))
def test_a_draw_keeps_positives_and_holds_the_right_number(engine, problem, seed):
    beam, scores, edges, log_weights, _, k, positives = problem
    got = rows_of(build(engine, *problem, noise=1.0, seed=seed))
    for i, row in enumerate(got):
        paths = paths_of(beam[i], scores[i], edges, log_weights)
        assert len(row) == min(k, len(paths))
        assert {label: paths[label][1:] for label in row} == row
        own = set(positives[i]) & paths.keys()
        kept = own & row.keys()
        assert kept == own if len(own) <= k else len(kept) == k


@engines
@given(problem=shortlist_problems(), seed=st.integers(0, 2**31 - 1))
def test_the_generator_decides_the_draw(engine, problem, seed):
    first, second = (build(engine, *problem, noise=1.0, seed=seed) for _ in range(2))
    assert torch.equal(first.labels.indices, second.labels.indices)


STAR = np.array([[0, 1, 2], [3, 4, 2]], dtype=np.int32)
STAR_WEIGHTS = np.log([[0.9, 0.3, 0.2], [0.5, 0.05, 0.8]])
STAR_SCORES = np.log([0.6, 0.4])
# best path of each label: label 2 is better reached through the second cluster
STAR_PATHS = np.array([0.54, 0.18, 0.32, 0.2, 0.02])


def drawn(engine, n_rows, k, noise, seed=7):
    """Labels of many rows that share one beam, as an indicator matrix."""
    beam, scores = np.tile([0, 1], (n_rows, 1)), np.tile(STAR_SCORES, (n_rows, 1))
    found = build(engine, beam, scores, STAR, STAR_WEIGHTS, 5, k, noise=noise, seed=seed)
    out = np.zeros((n_rows, 5), dtype=bool)
    out[found.rows.cpu(), found.labels.indices.cpu()] = True
    return out


@engines
@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_one_label_is_drawn_in_proportion_to_its_path(engine, noise):
    counts = drawn(engine, 20_000, 1, noise).sum(axis=0)
    law = STAR_PATHS ** (1 / noise)
    assert chisquare(counts, 20_000 * law / law.sum()).pvalue > 1e-3


@engines
def test_two_labels_are_drawn_one_after_the_other_without_replacement(engine):
    law = STAR_PATHS / STAR_PATHS.sum()
    pairs = {
        (a, b): law[a] * law[b] / (1 - law[a]) + law[b] * law[a] / (1 - law[b])
        for a in range(5)
        for b in range(a + 1, 5)
    }
    rows = drawn(engine, 20_000, 2, 1.0)
    counts = [(rows[:, a] & rows[:, b]).sum() for a, b in pairs]
    assert chisquare(counts, 20_000 * np.array(list(pairs.values()))).pvalue > 1e-3


@engines
def test_rows_and_seeds_are_drawn_independently(engine):
    # labels 0 and 3 of the star on their own: two outcomes, of known probability
    first, second = (drawn(engine, 20_000, 1, 1.0, seed=seed)[:, 0] for seed in (1, 2))
    p = STAR_PATHS[0] / STAR_PATHS.sum()
    for one, other in [(first, second), (first[1:], first[:-1])]:
        together = np.mean(one & other)
        assert abs(together - p * p) < 5 * np.sqrt(p * p / 20_000)


def test_a_generator_gives_other_draws_each_time():
    generator = torch.Generator().manual_seed(0)
    arguments = (
        torch.tensor([[0, 1]] * 50),
        torch.tensor(STAR_SCORES, dtype=torch.float32).repeat(50, 1),
        torch.tensor(STAR),
        torch.tensor(STAR_WEIGHTS, dtype=torch.float32),
    )
    draws = [build_shortlist(*arguments, 5, 1, None, 1.0, generator) for _ in range(2)]
    assert not torch.equal(draws[0].labels.indices, draws[1].labels.indices)
    state = generator.get_state()
    build_shortlist(*arguments, 5, 1, None, 0.0, generator)
    assert torch.equal(generator.get_state(), state)


def test_a_draw_without_generator_leaves_nothing_but_torchs_own_state():
    torch.manual_seed(3)
    first = drawn_globally()
    torch.manual_seed(3)
    assert torch.equal(first, drawn_globally())


def drawn_globally():
    scores = torch.tensor(STAR_SCORES, dtype=torch.float32).repeat(50, 1)
    weights = torch.tensor(STAR_WEIGHTS, dtype=torch.float32)
    beam = torch.tensor([[0, 1]] * 50)
    found = build_shortlist(beam, scores, torch.tensor(STAR), weights, 5, 2, None, 1.0)
    return found.labels.indices


@given(problem=shortlist_problems(), n_parts=st.integers(1, 5), noise=st.sampled_from([0.0, 1.0]))
def test_the_split_into_parts_changes_nothing(problem, n_parts, noise):
    beam, scores, edges, log_weights, n_labels, k, positives = problem
    pattern = csr_of(positives)
    arguments = (beam, scores.astype("f4"), edges, log_weights.astype("f4"), n_labels, k,
                 pattern.indptr.numpy(), pattern.indices.numpy(), noise, 5)  # fmt: skip
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
        found.append(build("numba", *arguments, noise=0.3, seed=1))
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


def test_noise_follows_the_gumbel_law_and_rows_differ():
    labels, noise = np.arange(50_000, dtype=np.int32), np.zeros((2, 50_000), dtype=np.float32)
    for row in range(2):
        waits = np.empty(labels.size, dtype=np.float32)
        _kernels._add_gumbel(3, row, labels, np.float32(1.0), waits, noise[row])
        assert kstest(noise[row], "gumbel_r").pvalue > 1e-3
        assert abs(np.corrcoef(noise[row, 1:], noise[row, :-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02


@given(seed=st.integers(0, 2**32 - 1))
def test_logarithm_against_float64(seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate([2.0 ** rng.uniform(-100, 100, 200), 1 + rng.uniform(-1e-3, 1e-3, 200)])
    x = x.astype(np.float32)
    got = x.copy()
    _kernels._minus_log(got)
    np.testing.assert_allclose(got, -np.log(x.astype(np.float64)), rtol=4e-7, atol=1e-30)
