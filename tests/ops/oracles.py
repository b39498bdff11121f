"""Tables on every engine, random CSR batches and the dense optimisers they are held to."""

import numpy as np
import torch
from hypothesis import strategies as st

from skxmc.ops import _torch_engine
from skxmc.ops.row_table import CsrBatch, RowTable


class TorchTable(RowTable):
    """A table that runs the torch engine wherever it lives."""

    _engine = _torch_engine


TABLES = {"numba": (RowTable, "cpu"), "torch": (TorchTable, "cpu")}
if torch.cuda.is_available():
    TABLES["cuda"] = (RowTable, "cuda")


def make_table(engine, weight, bias=None, **kwargs):
    cls, device = TABLES[engine]
    weight = torch.tensor(weight, dtype=torch.float32, device=device)
    if bias is not None:
        bias = torch.tensor(bias, dtype=torch.float32, device=device)
    return cls(weight, bias=bias, **kwargs).to(device)


def make_batch(lists, values, engine="numba", dtype=torch.int32):
    """CSR of the columns in each row; values None leaves a pattern."""
    device = TABLES[engine][1]
    indptr = np.cumsum([0, *map(len, lists)])
    indices = np.array([column for row in lists for column in row])
    indptr = torch.tensor(indptr, dtype=dtype, device=device)
    indices = torch.tensor(indices, dtype=dtype, device=device)
    if values is not None:
        values = torch.tensor(values, dtype=torch.float32, device=device)
    return CsrBatch(indptr, indices, values)


def row_of_entry(lists):
    return np.repeat(np.arange(len(lists)), [len(row) for row in lists]).astype(np.int64)


def columns_of(lists):
    return np.array([column for row in lists for column in row], dtype=np.int64)


def grid(rng, *shape):
    """Multiples of 1/8 in [-2, 2]: float32 sums of products of a few of them are exact."""
    return rng.integers(-16, 17, size=shape) / 8.0


@st.composite
def column_lists(draw, n_columns):
    """Draw rows of columns: rows may be empty, columns may repeat, there may be no row."""
    row = st.lists(st.integers(0, n_columns - 1), max_size=6)
    return draw(st.lists(row, max_size=5))


@st.composite
def problems(draw):
    """Draw (n_columns, width, lists of columns, generator of values)."""
    n_columns, width = draw(st.integers(1, 7)), draw(st.sampled_from([1, 3, 8, 17]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return n_columns, width, draw(column_lists(n_columns)), rng


class DenseAdagrad:
    """Row-wise Adagrad with decoupled decay on whole matrices, in float64."""

    def __init__(self, weight, bias, lr, decay):
        self.weight = weight.astype(np.float64)
        self.bias = None if bias is None else bias.astype(np.float64)
        self.lr, self.decay = lr, decay
        self.squares = np.zeros(len(weight))

    def step(self, gradient, bias_gradient, touched, factor=1.0):
        lr = self.lr * factor
        for c in touched:
            self.squares[c] += np.mean(gradient[c] ** 2)
            rate = lr / (np.sqrt(self.squares[c]) + 1e-8)
            self.weight[c] = (1 - lr * self.decay) * self.weight[c] - rate * gradient[c]
            if self.bias is not None:
                self.bias[c] -= np.clip(rate * bias_gradient[c], -30 * lr, 30 * lr)


def dense_gradient(n_columns, lists, values, vectors):
    """Gradient of table and biases: column c gets the sum of value * vector of its rows."""
    gradient = np.zeros((n_columns, vectors.shape[1]))
    bias_gradient = np.zeros(n_columns)
    p = 0
    for i, row in enumerate(lists):
        for column in row:
            gradient[column] += values[p] * vectors[i]
            bias_gradient[column] += values[p]
            p += 1
    return gradient, bias_gradient
