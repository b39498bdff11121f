"""The training loop: epochs over shuffled mini-batches, one schedule for all learning rates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skxmc.training.callbacks import Callback
from skxmc.training.state import RunState, row_tables

__all__ = ["Objective", "Plan", "Trainer", "TrainingInterrupted", "schedule"]


# Steps after which an accelerator is asked whether the loss is still finite.
_LOOK_EVERY = 64


class TrainingInterrupted(Exception):
    """Ctrl-C came after at least one step: the module is as far as it got, and usable.

    Parameters
    ----------
    records : list of dict
        Records of the epochs that were finished.
    """

    def __init__(self, records: list[dict[str, Any]]):
        super().__init__("training was interrupted")
        self.records = records


class Objective(Protocol):
    """What is trained: a module, its dense parameters' learning rates, and a loss of rows."""

    @property
    def module(self) -> nn.Module:
        """What is trained; its row tables are found by themselves."""
        ...

    @property
    def table_factor(self) -> float:
        """Factor on the row tables' own learning rates."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return dense parameters by learning rate, in the form torch optimisers take."""
        ...

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a mini-batch and scalars worth recording."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what changes in training beside the module, as tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how to train.

    Attributes
    ----------
    n_epochs : int
        Passes over the rows.
    batch_size : int
        Rows of a mini-batch.
    warmup : float
        Share of the steps over which the rates rise from 0; they fall linearly to 0 after.
    max_grad_norm : float or None
        Bound on the norm of the dense parameters' gradient.
    precision : {"float32", "bfloat16"}
        Arithmetic of the dense layers.
    """

    n_epochs: int
    batch_size: int
    warmup: float = 0.1
    max_grad_norm: float | None = None
    precision: str = "float32"


class Trainer:
    """Runs a plan on an objective.

    Parameters
    ----------
    objective : Objective
        What to train.
    plan : Plan
        How.
    callbacks : list of Callback
        Told of every epoch and batch; one may end the training.
    """

    def __init__(self, objective: Objective, plan: Plan, callbacks: list[Callback]):
        self.objective = objective
        self.plan = plan
        self.callbacks = callbacks
        self._n_steps = 0

    def run(
        self,
        n_rows: int,
        rng: np.random.RandomState,
        saved: dict[str, Any] | None = None,
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> list[dict[str, float]]:
        """Train; returns one record an epoch.

        Parameters
        ----------
        n_rows : int
            Rows of the training data.
        rng : RandomState
            Shuffles them.
        saved : dict or None
            State of an earlier run of the same plan, to go on from.
        keep : callable or None
            Is handed the state of the run after each epoch.

        Raises
        ------
        TrainingInterrupted
            If a KeyboardInterrupt came after the first step; before it, the interrupt passes.
        FloatingPointError
            If the loss or the weights are no longer finite.
        """
        plan, module = self.plan, self.objective.module
        optimizer = _dense_optimizer(self.objective)
        rates = [group["lr"] for group in optimizer.param_groups] if optimizer else []
        n_batches = -(-n_rows // plan.batch_size)
        state = RunState(self.objective, optimizer, self.callbacks, rng, _device_of(module))
        self._n_steps = 0
        interrupted = False
        self._tell("on_train_begin", plan.n_epochs, n_batches)
        try:
            if saved is not None:
                state.load_state_dict(saved)
                self._n_steps = len(state.records) * n_batches
            while len(state.records) < plan.n_epochs and not state.stopped:
                self._epoch(state, rates, rng.permutation(n_rows), n_batches)
                if keep is not None:
                    self._check_weights()
                    keep(state.state_dict())
        except KeyboardInterrupt:
            if self._n_steps == 0:
                raise
            interrupted = True
        finally:
            module.eval()
            self._tell("on_train_end")
        # the loss has not seen what the last step did
        self._check_weights()
        if interrupted:
            raise TrainingInterrupted(state.records)
        return state.records

    def _epoch(self, state: RunState, rates: list[float], order: np.ndarray, n_batches: int):
        """Train on all rows once and add the epoch's record."""
        plan, module = self.plan, self.objective.module
        tables = list(row_tables(module).values())
        module.train()
        meter = _Meter()
        for batch in range(n_batches):
            rows = order[batch * plan.batch_size : (batch + 1) * plan.batch_size]
            factor = schedule(self._n_steps, n_batches * plan.n_epochs, plan.warmup)
            if state.optimizer:
                for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            meter.add(self._step(rows, state.optimizer, tables, factor), rows.size)
            self._n_steps += 1
            self._tell("on_batch_end")
        module.eval()
        record = {"epoch": float(len(state.records) + 1), **meter.means()}
        state.records.append(record)
        # every callback hears of the epoch, also after one has asked to stop
        wishes = [callback.on_epoch_end(record) for callback in self.callbacks]
        state.stopped = any(wishes)

    def _check_weights(self) -> None:
        module = self.objective.module
        weights = [table.weight for table in row_tables(module).values()]
        _check_finite(*module.parameters(), *weights)

    def _step(self, rows, optimizer, tables, factor) -> dict[str, Tensor]:
        device = _device_of(self.objective.module)
        half = self.plan.precision == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            loss, scalars = self.objective.loss(rows)
        # elsewhere a look at the loss waits for the device: a loss that is lost stays so
        if device.type == "cpu" or self._n_steps % _LOOK_EVERY == 0:
            _check_finite(loss)
        if optimizer:
            optimizer.zero_grad(set_to_none=True)
        for table in tables:
            table.backward_factor = factor * self.objective.table_factor
        loss.backward()
        if optimizer:
            if self.plan.max_grad_norm is not None:
                dense = [p for group in optimizer.param_groups for p in group["params"]]
                nn.utils.clip_grad_norm_(dense, self.plan.max_grad_norm)
            optimizer.step()
        for table in tables:
            table.step(factor * self.objective.table_factor)
            table.backward_factor = None
        return {"loss": loss.detach(), **scalars}

    def _tell(self, hook: str, *args) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*args)


def _device_of(module: nn.Module) -> torch.device:
    return next(module.buffers()).device


def schedule(step: int, n_steps: int, warmup: float) -> float:
    """Factor on all learning rates: a linear rise over `warmup` of the steps, then a linear fall.

    Parameters
    ----------
    step : int
        Steps done so far.
    n_steps : int
        Steps of the whole run.
    warmup : float
        Share of the steps that the rise takes.

    Returns
    -------
    factor : float
        In (0, 1].

    Examples
    --------
    >>> from skxmc.training.loop import schedule
    >>> [schedule(step, 10, 0.2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    """
    rise = round(warmup * n_steps)
    if step < rise:
        return (step + 1) / rise
    return (n_steps - step) / max(1, n_steps - rise)


def _dense_optimizer(objective: Objective) -> torch.optim.Optimizer | None:
    groups = []
    for group in objective.parameter_groups():
        # a RowTable's anchor is a parameter of no elements
        parameters = [p for p in group["params"] if p.numel() and p.requires_grad]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups += [{**group, "params": decayed}] if decayed else []
        groups += [{**group, "params": plain, "weight_decay": 0.0}] if plain else []
    # fused: one sweep over weights, gradients and moments instead of one an operation
    return torch.optim.AdamW(groups, fused=True) if groups else None


def _check_finite(*tensors: Tensor) -> None:
    # the sum of a tensor is finite only if its entries are, and needs no mask of its size
    if not all(math.isfinite(tensor.detach().sum().item()) for tensor in tensors):
        raise FloatingPointError(
            "training has diverged, its loss or weights are no longer finite: lower the learning "
            "rates (lr_labels, lr_encoder, the encoder's own lr; in EliasClassifier lr_clusters "
            "and lr_edges too) and fit again."
        )


class _Meter:
    """Running means of an epoch, each batch weighed by its rows."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.weight = 0

    def add(self, scalars: dict[str, Tensor], weight: int) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.float() * weight
        self.weight += weight

    def means(self) -> dict[str, float]:
        return {name: float(total) / max(1, self.weight) for name, total in self.sums.items()}
