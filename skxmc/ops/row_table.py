"""RowTable: a matrix of vectors whose rows are read and updated sparsely.

Both ends of an extreme classifier are such tables: one vector a feature in front, one vector a
label behind. A mini-batch touches few rows, so no gradient of the table's size is ever built:
`backward` only notes what the batch did (a CSR pattern with values, and the dense vectors it
met), and `step` turns the notes into an update of the touched rows.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skxmc.ops import _numba_engine, _torch_engine


class CsrBatch(NamedTuple):
    """A CSR pattern as tensors on one device.

    Attributes
    ----------
    indptr : Tensor of shape (n_rows + 1,), int64 or int32
    indices : Tensor of shape (nnz,), int64 or int32
        Rows of the table.
    data : Tensor of shape (nnz,), float32, or None where only the pattern counts
    """

    indptr: Tensor
    indices: Tensor
    data: Tensor | None = None

    def rows(self) -> Tensor:
        """Row of each entry; how many there are is known, so no device has to be waited for."""
        lengths = (self.indptr[1:] - self.indptr[:-1]).long()
        rows = torch.arange(lengths.shape[0], device=lengths.device)
        return torch.repeat_interleave(rows, lengths, output_size=self.indices.shape[0])


def table_bytes(n_rows: int, width: int) -> int:
    """Count the bytes of a `RowTable` in training.

    Parameters
    ----------
    n_rows, width : int
        Shape of its vectors.

    Returns
    -------
    n_bytes : int
        Vectors, biases and accumulated squares.

    Examples
    --------
    >>> from skxmc.ops.row_table import table_bytes
    >>> table_bytes(1000, 256)
    1032000
    """
    return n_rows * (4 * width + 4 + 4)


class RowTable(nn.Module):
    """A table of float32 vectors, with an optional bias a row, trained by sparse row updates.

    Parameters
    ----------
    weight : Tensor of shape (n_rows, width), float32
        The starting vectors; the table takes the tensor over.
    bias : Tensor of shape (n_rows,), float32, or None
        The starting biases; None means that there are none.
    lr : float
        Learning rate of row-wise Adagrad; `step` multiplies it by the factor of the schedule.
    weight_decay : float
        Decoupled decay of touched rows, as in AdamW.
    initial_square : float
        Mean square gradient that every row is taken to have seen before its first update. Above
        0, a row that is met but a few times moves in proportion to its gradient instead of by
        full steps.
    unit_rows : bool
        Bring each touched row back to length 1 after its update.

    Notes
    -----
    The engine follows the device: Numba kernels on the CPU, torch operations elsewhere; tests hold
    the two to the same numbers. Row-wise Adagrad divides by the root of the accumulated *mean*
    square of a row's gradient.

    References
    ----------
    Duchi et al., "Adaptive subgradient methods", JMLR 2011.

    Examples
    --------
    >>> import torch
    >>> from skxmc.ops.row_table import CsrBatch, RowTable
    >>> table = RowTable(torch.eye(3))
    >>> rows = CsrBatch(torch.tensor([0, 2]), torch.tensor([0, 2]), torch.tensor([1.0, 0.5]))
    >>> table.bag(rows).detach()
    tensor([[1.0000, 0.0000, 0.5000]])
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        *,
        bias: Tensor | None = None,
        lr: float = 0.1,
        weight_decay: float = 0.0,
        unit_rows: bool = False,
        initial_square: float = 0.0,
    ):
        super().__init__()
        self.register_buffer("weight", weight)
        self.has_bias = bias is not None
        empty = torch.zeros(weight.shape[0]) if bias is None else bias
        self.register_buffer("bias", empty, persistent=self.has_bias)
        self.lr = lr
        self.weight_decay = weight_decay
        self.unit_rows = unit_rows
        self.initial_square = initial_square
        # Autograd calls a Function's backward only if some input of it wants a gradient.
        self._anchor = nn.Parameter(torch.zeros(0))
        self._notes: list[tuple[CsrBatch, Tensor]] = []
        self._dense_notes: list[tuple[Tensor, Tensor, Tensor]] = []
        self._state: dict[str, Tensor] = {}
        # If given, the backward pass of `dot` updates the rows itself, at this factor of the
        # rate: one sweep instead of two. For losses that use the table in one `dot` only.
        self.backward_factor: float | None = None
        # the CPU engine's last pattern, grouped by column
        self.grouped: tuple[Tensor, tuple[np.ndarray, ...]] | None = None

    def bag(self, batch: CsrBatch) -> Tensor:
        """Sum table rows: out[i] = sum of data[p] * weight[indices[p]] over row i's entries."""
        return _Bag.apply(self._anchor, self, batch)

    def dot(self, queries: Tensor, batch: CsrBatch) -> Tensor:
        """Dot products at the pattern: out[p] = <queries[i], weight[indices[p]]> + bias."""
        return _Dot.apply(queries, self._anchor, self, batch)

    def product(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Dot products with all of the distinct `rows`: out[i, j] = <queries[i], rows[j]> + bias.

        Where most entries of a batch x rows pattern are wanted, one product of matrices is many
        times faster than `dot`. Several products with one and the same `rows` tensor count as one
        batch: their gradients add up before the update.
        """
        return _Product.apply(queries, self._anchor, self, rows)

    def note(self, batch: CsrBatch, vectors: Tensor) -> None:
        """Remember a gradient: row c gets the sum of data[p] * vectors[row of p]."""
        self._notes.append((batch, vectors.detach()))

    def note_rows(self, rows: Tensor, gradient: Tensor, bias_gradient: Tensor) -> None:
        """Remember the gradient of distinct rows as a matrix; adds to a note of the same tensor."""
        for noted, total, bias_total in self._dense_notes:
            if noted is rows:
                total += gradient
                bias_total += bias_gradient
                return
        self._dense_notes.append((rows, gradient, bias_gradient))

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Apply the noted gradients to the rows they touch, at `factor` times the rate."""
        for batch, vectors in self._notes:
            self._engine.update(self, batch, vectors, self.lr * factor)
        for rows, gradient, bias_gradient in self._dense_notes:
            # whole matrices: torch is as fast as a kernel of our own, on every device
            _torch_engine.update_rows(self, rows, gradient, bias_gradient, self.lr * factor)
        self._notes.clear()
        self._dense_notes.clear()
        self.grouped = None

    def forget(self) -> None:
        """Drop noted gradients and the optimiser's state."""
        self._notes.clear()
        self._dense_notes.clear()
        self._state.clear()
        self.backward_factor = None
        self.grouped = None

    def state(self, name: str, *shape: int, fill: float = 0, dtype=torch.float32) -> Tensor:
        """Return a tensor of optimiser state, made on first use."""
        if name not in self._state:
            device = self.weight.device
            self._state[name] = torch.full(shape, fill, dtype=dtype, device=device)
        return self._state[name]

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return what the optimiser remembers of each row; empty before the first step."""
        return dict(self._state)

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `optimizer_state` returned."""
        self.forget()
        device = self.weight.device
        self._state = {name: value.to(device, copy=True) for name, value in state.items()}

    @property
    def _engine(self):
        return _numba_engine if self.weight.device.type == "cpu" else _torch_engine


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor, table, batch):
        ctx.table, ctx.batch = table, batch
        return table._engine.bag(table, batch)

    @staticmethod
    def backward(ctx, grad):
        ctx.table.note(ctx.batch, grad.contiguous())
        return torch.zeros_like(ctx.table._anchor), None, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, queries, anchor, table, batch):
        ctx.table, ctx.batch = table, batch
        ctx.save_for_backward(queries)
        return table._engine.dot(table, queries.contiguous(), batch)

    @staticmethod
    def backward(ctx, grad):
        (queries,) = ctx.saved_tensors
        table, queries = ctx.table, queries.contiguous()
        anchor = torch.zeros_like(table._anchor)
        noted = ctx.batch._replace(data=grad.contiguous())
        if table.backward_factor is not None:
            with torch.no_grad():
                rate = table.lr * table.backward_factor
                return table._engine.dot_backward(table, noted, queries, rate), anchor, None, None
        table.note(noted, queries)
        return table._engine.bag(table, noted), anchor, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, queries, anchor, table, rows):
        ctx.table, ctx.rows = table, rows
        ctx.save_for_backward(queries)
        with torch.autocast(queries.device.type, enabled=False):  # float32, as `dot`
            return torch.addmm(table.bias[rows], queries, _take(table.weight, rows).T)

    @staticmethod
    def backward(ctx, grad):
        (queries,) = ctx.saved_tensors
        table, rows = ctx.table, ctx.rows
        table.note_rows(rows, grad.T @ queries, grad.sum(dim=0))
        anchor = torch.zeros_like(table._anchor)
        return grad @ _take(table.weight, rows), anchor, None, None


def _take(weight: Tensor, rows: Tensor) -> Tensor:
    """Gather distinct rows; the table itself, uncopied, where those are all of them in order."""
    # an accelerator is asked only where as many rows as the table has are wanted
    whole = rows.shape[0] == weight.shape[0] and bool((rows[1:] > rows[:-1]).all())
    return weight if whole else weight[rows]
