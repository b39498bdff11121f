"""The state of a stage between two epochs: all that decides how it goes on.

Everything is handed out as tensors and plain values, which can be read back from a file without
executing anything in it.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from skxmc.ops.row_table import RowTable
from skxmc.training.callbacks import Callback

__all__ = [
    "RunState",
    "generators",
    "pack_generator",
    "row_tables",
    "set_generators",
    "unpack_generator",
]


def row_tables(module: nn.Module) -> dict[str, RowTable]:
    """Find the row tables of a module by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, RowTable)}


def pack_generator(generator: np.random.RandomState | np.random.Generator) -> str:
    """Write the state of a numpy generator down; its integers may have 128 bits."""
    if isinstance(generator, np.random.Generator):
        state: Any = generator.bit_generator.state
    else:
        state = generator.get_state(legacy=False)
    return json.dumps(state, default=lambda array: array.tolist())


def unpack_generator(generator: np.random.RandomState | np.random.Generator, state: str) -> None:
    """Put a numpy generator where `pack_generator` found it."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = json.loads(state)
    else:
        generator.set_state(json.loads(state))


def generators(rng: np.random.RandomState, device: torch.device) -> dict[str, Any]:
    """Return the states of numpy's generator and of torch's on the CPU and on `device`."""
    states = {"numpy": pack_generator(rng), "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(
    rng: np.random.RandomState, device: torch.device, states: dict[str, Any]
) -> None:
    """Put all generators where `generators` found them."""
    unpack_generator(rng, states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@dataclass
class RunState:
    """What a training loop holds between two epochs.

    Attributes
    ----------
    objective : Objective
        Holds the module, and what else changes in training.
    optimizer : torch.optim.Optimizer or None
        Of the dense parameters.
    callbacks : list of Callback
        May hold a best epoch.
    rng : RandomState
        Shuffles the rows.
    device : torch.device
        Where training happens.
    records : list of dict
        One record a finished epoch: their number says where the schedule is.
    stopped : bool
        Whether a callback has ended the training.
    """

    objective: Any
    optimizer: torch.optim.Optimizer | None
    callbacks: list[Callback]
    rng: np.random.RandomState
    device: torch.device
    records: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, which are shared, and plain values."""
        module = self.objective.module
        return {
            "module": dict(module.state_dict()),
            "tables": {n: table.optimizer_state() for n, table in row_tables(module).items()},
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "objective": self.objective.state_dict(),
            "callbacks": {type(c).__name__: c.state_dict() for c in self.callbacks},
            "generators": generators(self.rng, self.device),
            "records": self.records,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned for the same objective."""
        module = self.objective.module
        module.load_state_dict(state["module"])
        for name, table in row_tables(module).items():
            table.load_optimizer_state(state["tables"][name])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        for callback in self.callbacks:
            # a progress bar may be new
            if type(callback).__name__ in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][type(callback).__name__])
        self.records, self.stopped = list(state["records"]), state["stopped"]
        # last: nothing above may draw
        set_generators(self.rng, self.device, state["generators"])
