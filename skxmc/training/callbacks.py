"""Callbacks of the training loop: progress bars, validation and early stopping."""

import copy
import logging
import time
from collections.abc import Callable
from typing import Any

from torch import nn
from tqdm.auto import tqdm

__all__ = ["Callback", "EarlyStopping", "ProgressBar", "Timer"]

_logger = logging.getLogger(__name__)


class Callback:
    """Hooks of a training run; all do nothing here."""

    def on_train_begin(self, n_epochs: int, n_batches: int) -> None:
        """Prepare for a run of so many epochs of so many batches."""

    def on_batch_end(self) -> None:
        """Note that a step is done; its loss stays on the device until the epoch's end."""

    def on_epoch_end(self, record: dict[str, float]) -> bool:
        """Look at, or add to, the epoch's record; True ends the training."""
        return False

    def on_train_end(self) -> None:
        """Clean up, also after an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to survive from one epoch to the next, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; comes after `on_train_begin`."""


class Timer(Callback):
    """Adds the wall and CPU seconds of the epoch to its record."""

    def on_train_begin(self, n_epochs: int, n_batches: int) -> None:
        """Start the clocks."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def on_epoch_end(self, record: dict[str, float]) -> bool:
        """Read the clocks and start them anew."""
        wall, cpu = time.perf_counter(), time.process_time()
        record["seconds"] = wall - self._wall
        record["cpu_seconds"] = cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        return False


class ProgressBar(Callback):
    """A tqdm bar over all batches of a run.

    Parameters
    ----------
    title : str
        What is being trained.
    """

    def __init__(self, title: str):
        self.title = title

    def on_train_begin(self, n_epochs: int, n_batches: int) -> None:
        """Open the bar."""
        self._bar = tqdm(total=n_epochs * n_batches, desc=self.title, unit="batch")

    def on_batch_end(self) -> None:
        """Move on by one batch."""
        self._bar.update(1)

    def on_epoch_end(self, record: dict[str, float]) -> bool:
        """Show the epoch's means."""
        shown = {k: v for k, v in record.items() if k not in ("seconds", "cpu_seconds", "stage")}
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()})
        return False

    def on_train_end(self) -> None:
        """Close the bar."""
        self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches are done."""
        return {"n": self._bar.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move on to where an earlier run was."""
        self._bar.update(state["n"])


class EarlyStopping(Callback):
    """Measures validation rows each epoch, keeps the best model, ends when it stays unbeaten.

    Parameters
    ----------
    name : str
        Name of the metric in the record, prefixed with ``valid_``.
    measure : callable
        Returns the metric of the module as it is, larger is better.
    module : torch.nn.Module
        What is trained; at the end it is put back to its best epoch.
    patience : int
        Epochs without a new best before training ends.
    """

    def __init__(self, name: str, measure: Callable[[], float], module: nn.Module, patience: int):
        self.name = f"valid_{name}"
        self.measure = measure
        self.module = module
        self.patience = patience
        self._best, self._waited = float("-inf"), 0
        self._state: dict[str, Any] | None = None

    def on_train_begin(self, n_epochs: int, n_batches: int) -> None:
        """Forget earlier runs."""
        self._best, self._waited, self._state = float("-inf"), 0, None

    def on_epoch_end(self, record: dict[str, float]) -> bool:
        """Measure; True when the best has stood for `patience` epochs."""
        score = record[self.name] = self.measure()
        if score > self._best:
            self._best, self._waited = score, 0
            self._state = copy.deepcopy(dict(self.module.state_dict()))
            return False
        self._waited += 1
        return self._waited >= self.patience

    def on_train_end(self) -> None:
        """Put the best epoch back."""
        if self._state is not None:
            self.module.load_state_dict(self._state)
            _logger.info("restored the epoch with %s = %.4f", self.name, self._best)
            self._state = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far."""
        return {"best": self._best, "waited": self._waited, "module": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier run's best epoch."""
        self._best, self._waited = state["best"], state["waited"]
        self._state = state["module"]
