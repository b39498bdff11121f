"""The loss of ELIAS: against probability space in float64, decimals and figures by hand."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.losses import elias_loss, log1mexp

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def exact_log1mexp(x: float) -> float:
    with localcontext() as context:
        context.prec = 80
        return float((1 - Decimal(x).exp()).ln())


POINTS = [-1.01e-6, -1e-5, -1e-3, -0.1, -0.5, -0.69, math.log(0.5), -0.7, -1.0, -5.0, -16.0, -40.0]


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 5e-7), (torch.float64, 1e-14)])
def test_log1mexp_against_decimals(dtype, rtol):
    x = torch.tensor(POINTS, dtype=dtype)
    got = log1mexp(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, [exact_log1mexp(float(v)) for v in x], rtol=rtol)


@given(x=st.floats(-80, -(2.0**-19), width=32))
def test_log1mexp_and_its_gradient(x):
    tensor = torch.tensor(x, requires_grad=True)
    value = log1mexp(tensor)
    value.backward()
    assert value.item() == pytest.approx(exact_log1mexp(x), rel=1e-6, abs=1e-37)
    slope = -1.0 / math.expm1(-x)  # -e^x / (1 - e^x)
    assert tensor.grad.item() == pytest.approx(slope, rel=1e-5, abs=1e-34)


@pytest.mark.parametrize("x", [0.0, -0.0, -1e-9, 0.3, -1e-6, -104.0, -1e9, -math.inf])
def test_log1mexp_at_the_ends(x):
    tensor = torch.tensor(x, requires_grad=True)
    value = log1mexp(tensor)
    value.backward()
    certain = math.log(-math.expm1(-1e-6))
    expected = certain if x > -1 else 0.0
    assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-40)
    assert math.isfinite(tensor.grad.item())


def naive(log_path, logits, positive, rows, n_rows, path_power=1.0):
    """Row by row, entry by entry, with probabilities."""
    classification, shortlist = 0.0, 0.0
    for i in range(n_rows):
        entries = [q for q in range(len(rows)) if rows[q] == i]
        for q in entries:
            p = math.exp(log_path[q]) ** path_power / (1 + math.exp(-logits[q]))
            classification -= math.log(p) if positive[q] else math.log(1 - p)
        costs = [-log_path[q] for q in entries if positive[q]]
        shortlist += sum(costs) / len(costs) if costs else 0.0
    return classification / n_rows, shortlist / n_rows


@st.composite
def problems(draw):
    n_rows = draw(st.integers(1, 4))
    entry = st.tuples(
        st.floats(-8, 0, width=32),
        st.floats(-8, 8, width=32),
        st.booleans(),
        st.integers(0, n_rows - 1),
    )
    entries = draw(st.lists(entry, max_size=9))
    columns = zip(*entries, strict=True) if entries else ([], [], [], [])
    return *map(list, columns), n_rows


def tensors(log_path, logits, positive, rows, n_rows, dtype=torch.float64, device="cpu"):
    return (
        torch.tensor(log_path, dtype=dtype, device=device, requires_grad=True),
        torch.tensor(logits, dtype=dtype, device=device, requires_grad=True),
        torch.tensor(positive, dtype=torch.bool, device=device),
        torch.tensor(rows, dtype=torch.int64, device=device),
        n_rows,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
@given(problem=problems(), path_power=st.sampled_from([1.0, 0.5]))
def test_against_probability_space(device, dtype, rtol, problem, path_power):
    got = elias_loss(*tensors(*problem, dtype=dtype, device=device), path_power)
    expected = naive(*problem, path_power)
    np.testing.assert_allclose([float(x.detach()) for x in got], expected, rtol=rtol, atol=1e-6)


@given(problem=problems(), weight=st.sampled_from([0.0, 0.05, 1.0]))
def test_gradient_by_finite_differences(problem, weight):
    log_path, logits, *rest = problem
    log_path = [min(value, -0.01) for value in log_path]  # away from the cut

    def total(path, z):
        classification, shortlist = elias_loss(path, z, *tensors(log_path, logits, *rest)[2:])
        return classification + weight * shortlist

    inputs = tensors(log_path, logits, *rest)[:2]
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_scores_have_finite_values_and_gradients(dtype):
    ends = [
        (path, z, positive)
        for path in (0.0, -1e-8, -90.0, -600.0)
        for z in (-500.0, -20.0, 0.0, 20.0, 500.0)
        for positive in (True, False)
    ]
    path, logits, positive = map(list, zip(*ends, strict=True))
    inputs = tensors(path, logits, positive, range(len(ends)), len(ends), dtype=dtype)
    classification, shortlist = elias_loss(*inputs)
    (classification + shortlist).backward()
    assert torch.isfinite(classification)
    assert torch.isfinite(shortlist)
    for leaf in inputs[:2]:
        assert torch.isfinite(leaf.grad).all()
    # a hopeless positive keeps its pull: the gradient of -log p does not fade
    hopeless = ends.index((-600.0, -500.0, True))
    np.testing.assert_allclose(inputs[1].grad[hopeless] * len(ends), -1.0)
    np.testing.assert_allclose(inputs[0].grad[hopeless] * len(ends), -2.0)


def loss_of(paths, positive, rows, n_rows):
    zeros = np.zeros(len(paths))
    losses = elias_loss(*tensors(np.log(paths), zeros, positive, rows, n_rows))
    return [float(x.detach()) for x in losses]


def test_by_hand():
    # row 0: positives with r = 0.5 and 0.25, a negative with r = 1; row 1: a negative; row 2: none
    got = loss_of([0.5, 0.25, 1.0, 0.5], [True, True, False, False], [0, 0, 0, 1], 3)
    # all logits are 0, so that p = r / 2
    costs = math.log(4) + math.log(8) - math.log(0.5) - math.log(0.75)
    np.testing.assert_allclose(got, [costs / 3, (math.log(2) + math.log(4)) / 2 / 3], rtol=1e-6)


@given(
    paths=st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
    factor=st.floats(0.001, 0.9),
    data=st.data(),
)
def test_a_positive_that_is_harder_to_reach_costs_more(paths, factor, data):
    harder = data.draw(st.integers(0, len(paths) - 1))
    everywhere = [True] * len(paths), [0] * len(paths), 1
    before = loss_of(paths, *everywhere)
    paths = [path * factor if q == harder else path for q, path in enumerate(paths)]
    after = loss_of(paths, *everywhere)
    assert after[0] > before[0]
    assert after[1] > before[1]


@given(path=st.floats(0.01, 0.99), missed=st.integers(1, 4))
def test_positives_that_are_missed_never_lower_the_loss(path, missed):
    """The reference code's mean fell with every positive that the beam did not reach."""
    reached = loss_of([path], [True], [0], 1)
    with_missed = loss_of([path] + [1e-6] * missed, [True] * (1 + missed), [0] * (1 + missed), 1)
    assert with_missed[0] > reached[0]
    assert with_missed[1] > reached[1]


@given(path=st.floats(0.01, 1), n_labels=st.integers(1, 30))
def test_rows_count_the_same_whatever_their_number_of_labels(path, n_labels):
    one = loss_of([path, 0.5], [True] * 2, [0, 1], 2)[1]
    many = loss_of([path] * n_labels + [0.5], [True] * (n_labels + 1), [0] * n_labels + [1], 2)[1]
    assert many == pytest.approx(one, rel=1e-6)


@given(problem=problems(), n_labels=st.integers(1, 30))
def test_a_row_is_not_altered_by_its_neighbours(problem, n_labels):
    """Another row's labels add their own share and leave the gradient of the rest as it was."""
    alone = tensors(*problem)
    sum(elias_loss(*alone)).backward()
    log_path, logits, positive, rows, n_rows = problem
    extra = [-3.0] * n_labels, [0.5] * n_labels, [True] * n_labels, [n_rows] * n_labels
    together = tensors(log_path + extra[0], logits + extra[1], positive + extra[2],
                       rows + extra[3], n_rows + 1)  # fmt: skip
    sum(elias_loss(*together)).backward()
    for one, both in zip(alone[:2], together[:2], strict=True):
        scale = (n_rows + 1) / n_rows
        torch.testing.assert_close(both.grad[: len(rows)] * scale, one.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_rows_without_positives_have_no_path_cost(device):
    inputs = tensors([-1.0, -2.0], [0.0, 1.0], [False, False], [0, 1], 2, device=device)
    classification, shortlist = elias_loss(*inputs)
    assert shortlist.item() == 0
    assert classification.item() > 0
    empty = elias_loss(*tensors([], [], [], [], 2, device=device))
    assert [x.item() for x in empty] == [0, 0]
