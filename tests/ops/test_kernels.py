"""The kernels themselves: grouping, read-only arrays, threads."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skxmc._sparse import as_csr
from skxmc.ops import _kernels
from skxmc.ops.row_table import CsrBatch

from .oracles import columns_of, grid, make_batch, make_table, problems, row_of_entry


@given(problem=problems())
def test_group_by_column_against_numpy(problem):
    n_columns, _, lists, _ = problem
    batch = make_batch(lists, None)
    touched, starts, rows, positions = _kernels.group_by_column(
        batch.indptr.numpy(), batch.indices.numpy(), n_columns
    )
    columns, row_of = columns_of(lists), row_of_entry(lists)
    np.testing.assert_array_equal(touched, np.unique(columns))
    assert len(starts) == len(touched) + 1
    for t, column in enumerate(touched):
        group = slice(starts[t], starts[t + 1])
        where = np.flatnonzero(columns == column)
        np.testing.assert_array_equal(positions[group], where)
        np.testing.assert_array_equal(rows[group], row_of[where])
    assert starts[-1] == columns.size


@pytest.mark.parametrize("n_columns", [1, 2048, 2049, 3_000_000])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_groups_of_many_columns(n_columns, dtype):
    """More columns than the radix sort has buckets, up to the last one."""
    rng = np.random.default_rng(0)
    columns = np.append(rng.integers(0, n_columns, 500), [n_columns - 1, 0]).astype(dtype)
    indptr = np.array([0, 100, 100, columns.size])
    touched, starts, rows, positions = _kernels.group_by_column(indptr, columns, n_columns)
    order = np.argsort(columns, kind="stable")
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(touched, np.unique(columns))
    np.testing.assert_array_equal(starts[:-1], np.searchsorted(columns[order], touched))
    np.testing.assert_array_equal(rows, np.where(order < 100, 0, 2))


@given(
    hnp.arrays(np.float32, (5, 4), elements=st.sampled_from([0.0, 1.0, 2.5])),
    st.lists(st.integers(0, 4), max_size=8),
)
def test_rows_are_cut_as_scipy_cuts_them(dense, rows):
    X = as_csr(dense)
    rows = np.array(rows, dtype=np.int64)
    indptr, indices, data = _kernels.cut_rows(X.indptr, X.indices, X.data, rows)
    expected = X[rows]
    assert np.array_equal(indptr, expected.indptr)
    assert np.array_equal(indices, expected.indices)
    assert np.array_equal(data, expected.data)
    assert indptr.dtype == indices.dtype == np.int32


@numba.njit(parallel=True)
def take_turns(n_parts, n_turns, taken, counter):
    for _ in numba.prange(n_parts):
        turn = _kernels.next_turn(counter)
        while turn < n_turns:
            taken[turn] += 1
            turn = _kernels.next_turn(counter)


@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_every_turn_is_taken_once(n_parts):
    taken = np.zeros(1000, dtype=np.int64)
    counter = np.zeros(1, dtype=np.int64)
    take_turns(n_parts, 1000, taken, counter)
    assert counter[0] == 1000 + n_parts
    assert (taken == 1).all()


def read_only(array, dtype):
    array = np.asarray(array, dtype=dtype)
    array.flags.writeable = False
    return array


def test_kernels_take_read_only_arrays():
    """What a memory-mapped model hands over."""
    rng = np.random.default_rng(0)
    lists = [[0, 3], [], [3, 1]]
    indptr, indices = read_only([0, 2, 2, 4], np.int32), read_only(columns_of(lists), np.int32)
    data, table = (
        read_only(rng.normal(size=4), np.float32),
        read_only(rng.normal(size=(5, 3)), "f4"),
    )
    queries, bias = read_only(rng.normal(size=(3, 3)), "f4"), read_only(rng.normal(size=5), "f4")
    out = np.empty((3, 3), dtype=np.float32)
    _kernels.bag(indptr, indices, data, table, out)
    pattern = sp.csr_array((data, indices, indptr), shape=(3, 5))
    np.testing.assert_allclose(out, pattern.toarray() @ table, rtol=1e-5, atol=1e-6)
    dots = np.empty(4, dtype=np.float32)
    groups = _kernels.group_by_column(indptr, indices, 5)
    _kernels.grouped_dot(*groups, queries, table, bias, dots)
    scores = queries @ table.T + bias
    np.testing.assert_allclose(dots, scores[row_of_entry(lists), columns_of(lists)], rtol=1e-5)


@pytest.fixture
def two_threads():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs NUMBA_NUM_THREADS of 2 or more")
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def test_results_do_not_depend_on_the_number_of_threads(two_threads):
    def results(n_threads):
        numba.set_num_threads(n_threads)
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, 40, size=n).tolist() for n in rng.integers(0, 30, size=50)]
        weight, values = rng.normal(size=(40, 17)), rng.normal(size=columns_of(lists).size)
        table = make_table("numba", weight, lr=0.1)
        batch = make_batch(lists, values)
        out = [table.bag(batch).detach(), table.dot(table.bag(batch), batch).detach()]
        for _ in range(2):
            table.note(batch, torch.tensor(rng.normal(size=(50, 17))).float())
            table.step()
        return [*out, table.weight, table.bias]

    for one, two in zip(results(1), results(2), strict=True):
        assert torch.equal(one, two)


@given(problem=problems())
def test_a_row_does_not_depend_on_its_neighbours(problem):
    n_columns, width, lists, rng = problem
    values, table = (
        rng.normal(size=columns_of(lists).size),
        make_table("numba", rng.normal(size=(n_columns, width)), grid(rng, n_columns)),
    )
    batch, queries = make_batch(lists, values), torch.tensor(rng.normal(size=(len(lists), width)))
    bags, dots = table.bag(batch), table.dot(queries.float(), batch)
    for i in range(len(lists)):
        part = slice(int(batch.indptr[i]), int(batch.indptr[i + 1]))
        # index types as in the batch: each combination of types is code of its own
        indptr = torch.tensor([0, part.stop - part.start], dtype=batch.indptr.dtype)
        alone = CsrBatch(indptr, batch.indices[part], batch.data[part])
        assert torch.equal(table.bag(alone)[0], bags[i])
        assert torch.equal(table.dot(queries[i : i + 1].float(), alone), dots[part])


@given(values=st.lists(st.floats(allow_nan=False, width=32), max_size=12))
def test_largest(values):
    assert _kernels.largest(np.array(values, dtype=np.float32)) == max(values, default=-np.inf)


@pytest.mark.parametrize("n_edges", [0, 1, 3])
def test_row_length(n_edges):
    row = np.array([7] * n_edges + [-1] * 2, dtype=np.int32)
    assert _kernels.row_length(row) == n_edges
