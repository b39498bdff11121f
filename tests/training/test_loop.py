"""The training loop on toy objectives whose every step can be followed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skxmc.ops.row_table import CsrBatch, RowTable
from skxmc.training.callbacks import Callback
from skxmc.training.loop import Plan, Trainer, TrainingInterrupted, schedule


class Toy:
    """A linear module under a squared loss of given rows; remembers what it is asked."""

    table_factor = 1.0

    def __init__(self, X, y, groups=None):
        self.module = nn.Linear(X.shape[1], 1)
        self.module.register_buffer("place", torch.zeros(1))
        nn.init.zeros_(self.module.weight)
        nn.init.zeros_(self.module.bias)
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)
        self.groups = groups
        self.batches, self.losses, self.modes, self.dtypes = [], [], [], []

    def parameter_groups(self):
        return self.groups or [{"params": list(self.module.parameters()), "lr": 0.1}]

    def loss(self, rows):
        out = self.module(self.X[rows]).squeeze(1)
        loss = (out.float() - self.y[rows]).square().mean()
        self.batches.append(rows.copy())
        self.losses.append(float(loss.detach()))
        self.modes.append(self.module.training)
        self.dtypes.append(out.dtype)
        return loss, {"double": 2 * loss.detach()}


@pytest.fixture
def toy():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 3)).astype(np.float32)
    return Toy(X, X @ np.array([1, -2, 0.5], dtype=np.float32))


class Log(Callback):
    """Writes down every hook; ends the training in the epoch it is told to."""

    def __init__(self, events, name="", last_epoch=None, module=None):
        self.events, self.name, self.last_epoch, self.module = events, name, last_epoch, module

    def on_train_begin(self, n_epochs, n_batches):
        self.events.append((self.name, "begin", n_epochs, n_batches))

    def on_batch_end(self):
        self.events.append((self.name, "batch"))

    def on_epoch_end(self, record):
        self.events.append((self.name, "epoch", record["epoch"]))
        if self.module is not None:
            assert not self.module.training
        return record["epoch"] == self.last_epoch

    def on_train_end(self):
        self.events.append((self.name, "end"))


class OptimizerSpy:
    """Records rates and gradients at every step of any AdamW."""

    def __init__(self, monkeypatch):
        self.rates, self.norms, self.groups = [], [], None
        step = torch.optim.AdamW.step

        def spy(optimizer, *args, **kwargs):
            self.groups = optimizer.param_groups
            self.rates.append([group["lr"] for group in optimizer.param_groups])
            grads = [p.grad.ravel() for group in optimizer.param_groups for p in group["params"]]
            self.norms.append(float(torch.cat(grads).norm()))
            return step(optimizer, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", spy)


@pytest.fixture
def spy(monkeypatch):
    return OptimizerSpy(monkeypatch)


# --- schedule


@given(st.integers(1, 300), st.floats(0, 1))
def test_schedule_rises_then_falls(n_steps, warmup):
    factors = [schedule(step, n_steps, warmup) for step in range(n_steps)]
    rise = round(warmup * n_steps)
    assert all(0 < factor <= 1 for factor in factors)
    assert (np.diff(factors[:rise]) > 0).all()
    assert (np.diff(factors[rise:]) < 0).all()
    assert max(factors) == 1
    # linear on both sides: equal differences
    for part in (factors[:rise], factors[rise:]):
        np.testing.assert_allclose(np.diff(part, 2), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("n_steps", "warmup", "expected"),
    [
        (4, 0.0, [1, 3 / 4, 2 / 4, 1 / 4]),
        (4, 0.5, [1 / 2, 1, 1, 1 / 2]),
        (4, 1.0, [1 / 4, 2 / 4, 3 / 4, 1]),
        (1, 0.1, [1]),
    ],
)
def test_schedule_by_hand(n_steps, warmup, expected):
    assert [schedule(step, n_steps, warmup) for step in range(n_steps)] == expected


# --- batches and rates


@pytest.mark.parametrize("batch_size", [1, 4, 10, 99])
def test_every_row_once_an_epoch(toy, batch_size):
    Trainer(toy, Plan(3, batch_size), []).run(10, np.random.RandomState(7))
    rng = np.random.RandomState(7)
    n_batches = -(-10 // batch_size)
    assert len(toy.batches) == 3 * n_batches
    epochs = [toy.batches[i * n_batches : (i + 1) * n_batches] for i in range(3)]
    for batches in epochs:
        assert all(rows.size == batch_size for rows in batches[:-1])
        np.testing.assert_array_equal(np.concatenate(batches), rng.permutation(10))


def test_rates_follow_the_schedule(toy, spy):
    toy.groups = [
        {"params": [toy.module.weight], "lr": 0.4},
        {"params": [toy.module.bias], "lr": 0.01},
    ]
    Trainer(toy, Plan(2, 4, warmup=0.5), []).run(10, np.random.RandomState(0))
    factors = [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]
    np.testing.assert_allclose(spy.rates, [[0.4 * f, 0.01 * f] for f in factors])


def test_decay_is_of_matrices_only_and_frozen_parameters_stay_out(toy, spy):
    frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    anchor = nn.Parameter(torch.zeros(0))
    parameters = [*toy.module.parameters(), frozen, anchor]
    toy.groups = [{"params": parameters, "lr": 0.1, "weight_decay": 0.25}]
    Trainer(toy, Plan(1, 4), []).run(10, np.random.RandomState(0))
    found = {id(p): group["weight_decay"] for group in spy.groups for p in group["params"]}
    assert found == {id(toy.module.weight): 0.25, id(toy.module.bias): 0.0}


def test_learns_the_toy(toy):
    records = Trainer(toy, Plan(150, 4), []).run(10, np.random.RandomState(0))
    assert records[-1]["loss"] < 1e-2 * records[0]["loss"]
    np.testing.assert_allclose(toy.module.weight.detach()[0], [1, -2, 0.5], atol=0.05)


def test_records_are_means_over_rows(toy):
    records = Trainer(toy, Plan(2, 4), []).run(10, np.random.RandomState(0))
    sizes = [4, 4, 2]
    for epoch, record in enumerate(records):
        losses = toy.losses[3 * epoch : 3 * epoch + 3]
        assert record["epoch"] == epoch + 1
        assert record["loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)
        assert record["double"] == pytest.approx(2 * record["loss"], rel=1e-6)


def test_same_generator_same_run(toy):
    other = Toy(toy.X, toy.y)
    first = Trainer(toy, Plan(3, 4), []).run(10, np.random.RandomState(5))
    second = Trainer(other, Plan(3, 4), []).run(10, np.random.RandomState(5))
    assert first == second
    assert torch.equal(toy.module.weight, other.module.weight)


def test_training_mode_inside_evaluation_mode_outside(toy):
    toy.module.eval()
    Trainer(toy, Plan(2, 5), [Log([], module=toy.module)]).run(10, np.random.RandomState(0))
    assert all(toy.modes)
    assert not toy.module.training


def test_no_epochs(toy):
    events = []
    assert Trainer(toy, Plan(0, 5), [Log(events)]).run(10, np.random.RandomState(0)) == []
    assert events == [("", "begin", 0, 2), ("", "end")]
    assert not toy.batches


# --- gradient norm, precision, tables


def test_gradient_norm_is_bounded(toy, spy):
    Trainer(toy, Plan(1, 5), []).run(10, np.random.RandomState(0))
    assert min(spy.norms) > 0.1, "the bound below is in force"
    spy.norms.clear()
    other = Toy(toy.X, toy.y)
    Trainer(other, Plan(1, 5, max_grad_norm=0.01), []).run(10, np.random.RandomState(0))
    np.testing.assert_allclose(spy.norms, 0.01, rtol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_of_dense_layers(toy, precision):
    Trainer(toy, Plan(1, 5, precision=precision), []).run(10, np.random.RandomState(0))
    assert set(toy.dtypes) == {getattr(torch, precision)}
    assert toy.module.weight.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


class TableToy:
    """Only a row table: nothing for the dense optimiser."""

    table_factor = 0.5

    def __init__(self):
        self.module = RowTable(torch.ones(4, 2), lr=0.1)

    def parameter_groups(self):
        return [{"params": list(self.module.parameters()), "lr": 1.0}]

    def loss(self, rows):
        indices = torch.as_tensor(rows % 3)  # row 3 of the table is never touched
        batch = CsrBatch(torch.arange(rows.size + 1), indices, torch.ones(rows.size))
        return self.module.bag(batch).square().sum(), {}


def test_tables_step_once_a_batch_at_their_own_factor(monkeypatch):
    toy, factors = TableToy(), []
    step = RowTable.step

    def spy(table, factor=1.0):
        factors.append(factor)
        return step(table, factor)

    monkeypatch.setattr(RowTable, "step", spy)
    Trainer(toy, Plan(2, 3, warmup=0.0), []).run(6, np.random.RandomState(0))
    np.testing.assert_allclose(factors, [0.5 * f for f in (1, 3 / 4, 2 / 4, 1 / 4)])
    assert (toy.module.weight[:3] < 1).all(), "towards 0, where the loss is least"
    assert (toy.module.weight[3] == 1).all()


# --- callbacks


def test_order_of_hooks(toy):
    events = []
    Trainer(toy, Plan(2, 5), [Log(events, "a"), Log(events, "b")]).run(10, np.random.RandomState(0))
    hooks = ["begin", "batch", "batch", "epoch", "batch", "batch", "epoch", "end"]
    assert [event[1] for event in events] == [hook for hook in hooks for _ in "ab"]
    assert [event[0] for event in events] == list("ab") * len(hooks)
    assert events[0][2:] == (2, 2)


def test_a_callback_ends_the_training_and_all_hear_of_the_epoch(toy):
    events = []
    callbacks = [Log(events, "a", last_epoch=2), Log(events, "b")]
    records = Trainer(toy, Plan(5, 5), callbacks).run(10, np.random.RandomState(0))
    assert [record["epoch"] for record in records] == [1, 2]
    assert ("b", "epoch", 2.0) in events
    assert events[-2:] == [("a", "end"), ("b", "end")]


def test_what_a_callback_adds_is_in_the_record(toy):
    class Adds(Callback):
        def on_epoch_end(self, record):
            record["extra"] = 7.0
            return False

    records = Trainer(toy, Plan(2, 5), [Adds()]).run(10, np.random.RandomState(0))
    assert [record["extra"] for record in records] == [7.0, 7.0]


def test_callbacks_clean_up_after_an_error(toy):
    events = []
    toy.y[:] = torch.nan
    with pytest.raises(FloatingPointError):
        Trainer(toy, Plan(2, 5), [Log(events)]).run(10, np.random.RandomState(0))
    assert events[-1] == ("", "end")
    assert not toy.module.training


# --- divergence


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_loss_that_is_not_finite(toy, value):
    toy.y[3] = value
    before = toy.module.weight.clone()
    with pytest.raises(FloatingPointError, match=r"lower the learning rates \(lr_labels"):
        Trainer(toy, Plan(2, 10), []).run(10, np.random.RandomState(0))
    assert torch.equal(toy.module.weight, before), "no step with such a loss"


def test_last_step_that_leaves_weights_not_finite(toy):
    """No loss is computed after it."""

    class Breaks(Callback):
        def on_epoch_end(self, record):
            toy.module.weight.data[0, 1] = torch.inf
            return True

    with pytest.raises(FloatingPointError, match="lower the learning rates"):
        Trainer(toy, Plan(1, 10), [Breaks()]).run(10, np.random.RandomState(0))


def test_last_step_that_leaves_a_table_not_finite():
    toy = TableToy()
    toy.module.lr = 3e38
    with pytest.raises(FloatingPointError, match="lower the learning rates"):
        Trainer(toy, Plan(1, 6, warmup=0.0), []).run(6, np.random.RandomState(0))


# --- interrupts


@pytest.mark.parametrize("n_steps", [1, 4])
def test_an_interrupt_keeps_the_steps_done(toy, n_steps):
    weights, loss = [], toy.loss

    def interrupted(rows):
        if len(weights) == n_steps:
            raise KeyboardInterrupt
        weights.append(toy.module.weight.detach().clone())
        return loss(rows)

    toy.loss = interrupted
    events = []
    with pytest.raises(TrainingInterrupted) as caught:
        Trainer(toy, Plan(9, 4), [Log(events)]).run(10, np.random.RandomState(0))
    # three steps an epoch
    assert [record["epoch"] for record in caught.value.records] == [1.0][: n_steps // 3]
    assert events[-1] == ("", "end")
    assert not toy.module.training
    assert not torch.equal(toy.module.weight, weights[-1])


def test_an_interrupt_before_the_first_step_passes(toy):
    def interrupted(rows):
        raise KeyboardInterrupt

    toy.loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        Trainer(toy, Plan(1, 4), []).run(10, np.random.RandomState(0))
