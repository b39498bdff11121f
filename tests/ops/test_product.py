"""`RowTable.product` against `dot` at every entry of the same pattern."""

import numpy as np
import pytest
import torch

from skxmc.ops.row_table import CsrBatch, RowTable

N_ROWS, WIDTH, N_QUERIES = 9, 5, 4
ROWS = {"some": [6, 1, 3], "all": list(range(N_ROWS)), "all, shuffled": [3, 1, 0, 2, 8, 7, 6, 5, 4]}


def make(**options):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(N_ROWS, WIDTH, generator=generator)
    if options.pop("with_bias", False):
        options["bias"] = torch.randn(N_ROWS, generator=generator)
    return RowTable(weight, lr=0.3, **options)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize(
    "options",
    [
        {"with_bias": True},
        {"with_bias": True, "weight_decay": 0.1},
        {"unit_rows": True},
        {"initial_square": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("cuts", [[4], [1, 3]], ids=["one product", "two products"])
def test_product_is_dot_at_every_entry(rows, options, cuts):
    rng = np.random.default_rng(1)
    slow, fast = make(**options), make(**options)
    columns = torch.tensor(rows)
    pattern = CsrBatch(torch.arange(N_QUERIES + 1) * len(rows), columns.repeat(N_QUERIES))
    for _ in range(3):
        start = torch.from_numpy(rng.normal(size=(N_QUERIES, WIDTH)).astype(np.float32))
        costs = torch.from_numpy(rng.normal(size=(N_QUERIES, len(rows))).astype(np.float32))
        one, other = start.clone().requires_grad_(), start.clone().requires_grad_()
        expected = slow.dot(one, pattern).reshape(N_QUERIES, len(rows))
        found = torch.cat([fast.product(part, columns) for part in other.split(cuts)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        (expected.square() * costs).sum().backward()
        (found.square() * costs).sum().backward()
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-4)
        slow.step(0.5)
        fast.step(0.5)
        torch.testing.assert_close(fast.weight, slow.weight, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fast.bias, slow.bias, rtol=1e-4, atol=1e-4)
