"""RowTable: forward and backward against dense autograd, updates against dense optimisers."""

import copy
import pickle
from itertools import pairwise

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.ops import _numba_engine, _torch_engine
from skxmc.ops.row_table import RowTable

from .oracles import (
    TABLES,
    DenseAdagrad,
    columns_of,
    dense_gradient,
    grid,
    make_batch,
    make_table,
    problems,
    row_of_entry,
)

engines = pytest.mark.parametrize("engine", TABLES)


def noted(table):
    """Record what backward notes, instead of keeping it for `step`."""
    notes = []
    table.note = lambda batch, vectors: notes.append((batch, vectors.detach()))
    return notes


def gradient_of(notes, n_columns, width):
    """Dense gradient of the table and its biases, from the notes."""
    gradient, bias_gradient = np.zeros((n_columns, width)), np.zeros(n_columns)
    for batch, vectors in notes:
        indptr, indices, data = (part.cpu().numpy() for part in batch)
        lists = [indices[a:b].tolist() for a, b in pairwise(indptr)]
        parts = dense_gradient(n_columns, lists, data, vectors.cpu().numpy())
        gradient += parts[0]
        bias_gradient += parts[1]
    return gradient, bias_gradient


@engines
@given(problem=problems(), dtype=st.sampled_from([torch.int32, torch.int64]))
def test_bag_against_dense_autograd(engine, problem, dtype):
    n_columns, width, lists, rng = problem
    rows, columns = row_of_entry(lists), columns_of(lists)
    weight, values = rng.normal(size=(n_columns, width)), rng.normal(size=columns.size)
    upstream = rng.normal(size=(len(lists), width))
    dense = torch.tensor(weight.astype(np.float32), dtype=torch.float64, requires_grad=True)
    data = torch.tensor(values.astype(np.float32), dtype=torch.float64)
    expected = torch.zeros(len(lists), width, dtype=torch.float64)
    expected = expected.index_add(0, torch.tensor(rows), data[:, None] * dense[columns])
    expected.backward(torch.tensor(upstream))

    table = make_table(engine, weight)
    notes = noted(table)
    out = table.bag(make_batch(lists, values, engine, dtype))
    assert out.dtype == torch.float32
    out.backward(torch.tensor(upstream, dtype=torch.float32, device=out.device))
    np.testing.assert_allclose(out.detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-5)
    gradient, _ = gradient_of(notes, n_columns, width)
    np.testing.assert_allclose(gradient, dense.grad, rtol=1e-5, atol=1e-5)


@engines
@given(problem=problems(), with_bias=st.booleans())
def test_dot_against_dense_autograd(engine, problem, with_bias):
    n_columns, width, lists, rng = problem
    rows, columns = row_of_entry(lists), columns_of(lists)
    weight, bias = rng.normal(size=(n_columns, width)), rng.normal(size=n_columns) * with_bias
    queries = rng.normal(size=(len(lists), width))
    upstream = rng.normal(size=columns.size)
    dense, dense_bias, dense_queries = (
        torch.tensor(part.astype(np.float32), dtype=torch.float64, requires_grad=True)
        for part in (weight, bias, queries)
    )
    expected = (dense_queries[rows] * dense[columns]).sum(dim=1) + dense_bias[columns]
    expected.backward(torch.tensor(upstream))

    table = make_table(engine, weight, bias if with_bias else None)
    notes = noted(table)
    # a transposed view: the engine must cope with queries that are not contiguous
    leaf = torch.tensor(queries.T, dtype=torch.float32, device=table.weight.device)
    leaf.requires_grad_()
    out = table.dot(leaf.T, make_batch(lists, None, engine))
    out.backward(torch.tensor(upstream, dtype=torch.float32, device=out.device))
    np.testing.assert_allclose(out.detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(leaf.grad.T.cpu(), dense_queries.grad, rtol=1e-5, atol=1e-5)
    gradient, bias_gradient = gradient_of(notes, n_columns, width)
    np.testing.assert_allclose(gradient, dense.grad, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bias_gradient, dense_bias.grad, rtol=1e-5, atol=1e-5)


@engines
def test_queries_that_want_no_gradient_still_train_the_table(engine):
    table = make_table(engine, np.eye(3))
    notes = noted(table)
    out = table.dot(torch.ones(1, 3, device=table.weight.device), make_batch([[2]], None, engine))
    out.sum().backward()
    gradient, _ = gradient_of(notes, 3, 3)
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [0, 0, 0], [1, 1, 1]])


def test_the_torch_engine_takes_entries_a_chunk_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 20, size=n).tolist() for n in (7, 0, 9, 1)]
    weight, queries = rng.normal(size=(20, 5)), torch.tensor(rng.normal(size=(4, 5)))
    table, batch = make_table("torch", weight, np.arange(20)), make_batch(lists, None)
    expected = (queries.numpy()[row_of_entry(lists)] * weight[columns_of(lists)]).sum(1)
    expected += columns_of(lists)
    monkeypatch.setattr(_torch_engine, "_CHUNK", 4)
    np.testing.assert_allclose(table.dot(queries.float(), batch).detach(), expected, rtol=1e-5)


def test_the_engine_follows_the_device():
    table = RowTable(torch.zeros(2, 2))
    assert table._engine is _numba_engine
    assert table.to("meta")._engine is _torch_engine


@engines
@given(problem=problems(), decay=st.sampled_from([0.0, 0.3]), n_steps=st.integers(1, 4))
def test_updates_against_a_dense_optimiser(engine, problem, decay, n_steps):
    n_columns, width, lists, rng = problem
    weight = rng.normal(size=(n_columns, width)).astype(np.float32)
    bias = rng.normal(size=n_columns).astype(np.float32)
    table = make_table(engine, weight, bias, lr=0.05, weight_decay=decay)
    dense = DenseAdagrad(weight, bias, 0.05, decay)
    untouched = np.ones(n_columns, dtype=bool)
    for step in range(n_steps):
        # other rows of the batch each time, so that table rows miss some of the steps
        part = lists[step % 2 :: 2] if n_steps > 1 else lists
        values, vectors = grid(rng, columns_of(part).size), grid(rng, len(part), width)
        device_vectors = torch.tensor(vectors, dtype=torch.float32, device=table.weight.device)
        table.note(make_batch(part, values, engine), device_vectors)
        table.step(factor=0.5 + step)
        touched = np.unique(columns_of(part))
        dense.step(*dense_gradient(n_columns, part, values, vectors), touched, 0.5 + step)
        untouched[touched] = False
    got = table.weight.cpu().numpy()
    np.testing.assert_allclose(got, dense.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[untouched], weight[untouched])
    if bias is not None:
        np.testing.assert_allclose(table.bias.cpu(), dense.bias, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(table.bias.cpu().numpy()[untouched], bias[untouched])


@engines
@given(problem=problems())
def test_unit_rows_are_brought_back_to_length_one(engine, problem):
    n_columns, width, lists, rng = problem
    weight = rng.normal(size=(n_columns, width)).astype(np.float32)
    table = make_table(engine, weight, lr=0.05, unit_rows=True)
    dense = DenseAdagrad(weight, None, 0.05, 0.0)
    touched = np.unique(columns_of(lists))
    for _ in range(2):
        values, vectors = grid(rng, columns_of(lists).size), grid(rng, len(lists), width)
        device_vectors = torch.tensor(vectors, dtype=torch.float32, device=table.weight.device)
        table.note(make_batch(lists, values, engine), device_vectors)
        table.step()
        dense.step(*dense_gradient(n_columns, lists, values, vectors), touched)
        dense.weight[touched] /= np.linalg.norm(dense.weight[touched], axis=1, keepdims=True)
    got = table.weight.cpu().numpy()
    # a row of one number close to 0 is brought to 1 or -1 by the sign of a rounding error
    firm = np.abs(got).max(axis=1) > 1e-2 if width > 1 else np.zeros(n_columns, dtype=bool)
    np.testing.assert_allclose(got[firm], dense.weight[firm], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(got[touched], axis=1), 1, rtol=1e-5)
    untouched = np.setdiff1d(np.arange(n_columns), touched)
    np.testing.assert_array_equal(got[untouched], weight[untouched])


@engines
def test_steps_through_autograd_against_a_dense_optimiser(engine):
    """Both uses of a table in one graph: rows are summed, then met by dot products."""
    rng = np.random.default_rng(1)
    lists, weight = [[0, 2, 2], [], [3, 0]], rng.normal(size=(6, 4)).astype(np.float32)
    values = rng.normal(size=5)
    table = make_table(engine, weight, lr=0.1)
    dense = DenseAdagrad(weight, None, 0.1, 0.0)
    for _ in range(3):
        out = table.bag(make_batch(lists, values, engine))
        (table.dot(out, make_batch([[1], [3], [0, 1]], None, engine)) ** 2).sum().backward()
        current = torch.tensor(dense.weight, requires_grad=True)
        rows = torch.zeros(3, 4, dtype=torch.float64).index_add(
            0,
            torch.tensor([0, 0, 0, 2, 2]),
            torch.tensor(values)[:, None] * current[[0, 2, 2, 3, 0]],
        )
        ((rows[[0, 1, 2, 2]] * current[[1, 3, 0, 1]]).sum(dim=1) ** 2).sum().backward()
        # the two notes are two updates: dot's comes first, as backward runs
        dot_grad, bag_grad = split_notes(table)
        np.testing.assert_allclose(dot_grad + bag_grad, current.grad, rtol=1e-4, atol=1e-4)
        dense.step(dot_grad, np.zeros(6), [0, 1, 3])
        dense.step(bag_grad, np.zeros(6), [0, 2, 3])
        table.step()
        np.testing.assert_allclose(table.weight.cpu(), dense.weight, rtol=1e-3, atol=1e-4)


def split_notes(table):
    return [gradient_of([note], *table.weight.shape)[0] for note in table._notes]


@given(problem=problems())
def test_engines_agree(problem):
    n_columns, width, lists, rng = problem
    weight, values = rng.normal(size=(n_columns, width)), grid(rng, columns_of(lists).size)
    bias = rng.normal(size=n_columns)
    batch, vectors = make_batch(lists, values), torch.tensor(grid(rng, len(lists), width)).float()
    tables = [
        make_table(engine, weight, bias, lr=0.1, weight_decay=0.1) for engine in ("numba", "torch")
    ]
    ours, theirs = tables
    for name in ("bag", "dot"):
        queries = () if name == "bag" else (vectors,)
        torch.testing.assert_close(
            getattr(_numba_engine, name)(ours, *queries, batch),
            getattr(_torch_engine, name)(theirs, *queries, batch),
            rtol=1e-5,
            atol=1e-5,
        )
    for _ in range(2):
        _numba_engine.update(ours, batch, vectors, 0.1)
        _torch_engine.update(theirs, batch, vectors, 0.1)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-4, atol=1e-5)
    assert ours._state.keys() == theirs._state.keys() == {"squares"}
    for name in ours._state:
        torch.testing.assert_close(ours._state[name], theirs._state[name], rtol=5e-5, atol=1e-6)


@engines
def test_empty_batches_change_nothing(engine):
    weight = np.arange(6.0).reshape(3, 2)
    table = make_table(engine, weight, weight_decay=0.5)
    for lists in ([], [[]], [[], []]):
        out = table.bag(make_batch(lists, [], engine))
        assert out.shape == (len(lists), 2)
        assert not out.detach().any()
        out.sum().backward()
        queries = torch.ones(len(lists), 2, device=table.weight.device, requires_grad=True)
        table.dot(queries, make_batch(lists, None, engine)).sum().backward()
        assert not queries.grad.any()
    table.step()
    np.testing.assert_array_equal(table.weight.cpu(), weight)


@engines
def test_a_step_uses_its_notes_once(engine):
    table = make_table(engine, np.ones((2, 2)), lr=0.1)
    table.note(make_batch([[1]], [1.0], engine), torch.ones(1, 2, device=table.weight.device))
    table.step()
    # row-wise Adagrad's first step on an all-ones gradient is exactly the rate
    np.testing.assert_allclose(table.weight.cpu(), [[1, 1], [0.9, 0.9]], rtol=1e-6)
    before = table.weight.clone()
    table.step()
    assert torch.equal(table.weight, before)


@engines
def test_forget_drops_notes_and_state(engine):
    def note(table, value):
        vectors = torch.tensor([[value, -1.0]], device=table.weight.device)
        table.note(make_batch([[0, 2]], [1.0, 2.0], engine), vectors)

    weight = np.ones((3, 2))
    table = make_table(engine, weight)
    note(table, 5.0)
    table.step()
    weight = table.weight.cpu().numpy().copy()
    note(table, 3.0)
    table.forget()
    table.step()
    np.testing.assert_array_equal(table.weight.cpu(), weight)
    fresh = make_table(engine, weight)
    for one in (table, fresh):
        note(one, 0.5)
        one.step()
    assert torch.equal(table.weight, fresh.weight)
    assert not np.array_equal(table.weight.cpu(), weight)


@engines
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_go_on_as_the_original_and_on_their_own(engine, duplicate):
    table = make_table(engine, np.eye(3), lr=0.2, weight_decay=0.1)

    def train(one, value):
        queries = torch.full((1, 3), value, device=one.weight.device, requires_grad=True) * 1.0
        one.dot(queries, make_batch([[0, 1]], None, engine)).pow(2).sum().backward()

    train(table, 1.0)
    table.step()
    train(table, 2.0)  # copied with a gradient noted
    other = duplicate(table)
    kept = table.weight.clone()
    other.step()
    assert torch.equal(table.weight, kept)
    table.step()
    assert torch.equal(table.weight, other.weight)
    for one in (table, other):
        train(one, -0.5)
        one.step()
    assert torch.equal(table.weight, other.weight)
    assert not torch.equal(table.weight, kept)


def test_biases_are_saved_only_where_there_are_some():
    assert set(RowTable(torch.zeros(2, 2)).state_dict()) == {"weight", "_anchor"}
    table = RowTable(torch.zeros(2, 2), bias=torch.ones(2))
    assert set(table.state_dict()) == {"weight", "bias", "_anchor"}


def test_notes_hold_no_graph():
    """A note must not keep the encoder's activations alive until the step."""
    table = RowTable(torch.eye(2))
    leaf = torch.ones(1, 2, requires_grad=True)
    table.dot(leaf * 2.0, make_batch([[0]], None)).sum().backward()
    ((_, vectors),) = table._notes
    assert vectors.grad_fn is None


@engines
@given(
    problem=problems(),
    unit_rows=st.booleans(),
    factor=st.sampled_from([0.5, 1.0]),
    n_threads=st.sampled_from([1, 2]),
)
def test_an_update_in_the_backward_pass_is_backward_and_step(
    engine, problem, unit_rows, factor, n_threads
):
    n_columns, width, lists, rng = problem
    weight, bias = rng.normal(size=(n_columns, width)), rng.normal(size=n_columns)
    values, upstream = rng.normal(size=(len(lists), width)), grid(rng, columns_of(lists).size)
    before = numba.get_num_threads()
    results = []
    for in_backward in (False, True):
        table = make_table(
            engine, weight, None if unit_rows else bias, lr=0.1, unit_rows=unit_rows,
            weight_decay=0.1, initial_square=0.5,
        )  # fmt: skip
        table.backward_factor = factor if in_backward else None
        device = table.weight.device
        queries = torch.tensor(values, dtype=torch.float32, device=device, requires_grad=True)
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        out = table.dot(queries, make_batch(lists, None, engine))
        out.backward(torch.tensor(upstream, dtype=torch.float32, device=device))
        numba.set_num_threads(before)
        assert bool(table._notes) != in_backward
        table.step(factor)
        results.append((queries.grad, table.weight, table.bias))
    for separate, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, separate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@given(problem=problems())
def test_a_backward_pass_of_zeros_does_no_more_than_decay(decay, problem):
    """Entries of no gradient, and rows that have no others."""
    n_columns, width, lists, rng = problem
    weight, bias = rng.normal(size=(n_columns, width)), grid(rng, n_columns)
    values = rng.normal(size=(len(lists), width))
    columns, idle = columns_of(lists), rng.random(n_columns) < 0.5
    upstream = rng.normal(size=columns.size) * (rng.random(columns.size) < 0.5)
    upstream[idle[columns]] = 0
    table = make_table("numba", weight, bias, lr=0.1, weight_decay=decay)
    table.backward_factor = 1.0
    queries = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    table.dot(queries, make_batch(lists, None)).backward(torch.tensor(upstream).float())

    dense = DenseAdagrad(weight, bias, 0.1, decay)
    dense.step(*dense_gradient(n_columns, lists, upstream, values), np.unique(columns))
    expected = np.zeros_like(values)
    np.add.at(expected, row_of_entry(lists), upstream[:, None] * weight[columns])
    np.testing.assert_allclose(queries.grad, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table.weight, dense.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table.bias, dense.bias, rtol=1e-4, atol=1e-5)
    if decay == 0:
        assert torch.equal(table.weight[idle], torch.tensor(weight).float()[idle])
