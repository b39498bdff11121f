"""Checkpoints: a fit that was killed goes on from the last epoch it finished."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skxmc.training.identity import differences
from skxmc.training.state import generators, set_generators

__all__ = ["Checkpoint", "Progress"]

# Raised whenever what a checkpoint holds changes.
FORMAT = 1


class Checkpoint:
    """The one file of a folder that holds a fit between two epochs.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    identity : dict
        Of the fit, from `fit_identity`: only a checkpoint of the same one is taken up.

    Examples
    --------
    >>> import tempfile
    >>> from skxmc.training.checkpoint import Checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(folder, {"lr": "0.1"})
    ...     checkpoint.save({"epochs": 3})
    ...     checkpoint.load()
    {'epochs': 3}
    """

    def __init__(self, folder: str | os.PathLike, identity: dict[str, str]):
        self.folder = Path(folder)
        self.identity = identity
        self.path = self.folder / "checkpoint.pt"
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: dict[str, Any]) -> None:
        """Put `state` in the place of the last one; there is a whole file at every moment.

        Parameters
        ----------
        state : dict
            Tensors and plain values.
        """
        part = self._part()
        torch.save({"format": FORMAT, "identity": self.identity, "state": state}, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, self.path)
        if os.name == "posix":  # the new name, too, must survive a power cut
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def load(self) -> dict[str, Any] | None:
        """Read the state of a fit that did not finish; nothing in the file is executed.

        Returns
        -------
        state : dict or None
            None if there is none.

        Raises
        ------
        ValueError
            If the file is of another fit or of another version, or no checkpoint at all.
        """
        if not self.path.exists():
            return None
        try:
            # mapped, not read: what is copied into the model is not held twice
            mapped = os.name == "posix"  # elsewhere a mapped file cannot be replaced
            found = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)
            version, identity, state = found["format"], found["identity"], found["state"]
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as e:
            reason = str(e).splitlines()[0]
            raise ValueError(f"{self.path} is no readable checkpoint: {reason} {_ADVICE}") from None
        if version != FORMAT:
            raise ValueError(
                f"{self.path} has format {version}, and this version of skxmc writes {FORMAT}. "
                f"{_ADVICE}"
            )
        if identity != self.identity:
            listed = "; ".join(differences(identity, self.identity))
            raise ValueError(
                f"{self.path} is the checkpoint of another fit: {listed}. To go on from it, fit "
                f"with the parameters and data it was made with. {_ADVICE}"
            )
        return state

    def remove(self) -> None:
        """Delete the file, and what a killed `save` may have left."""
        self.path.unlink(missing_ok=True)
        self._part().unlink(missing_ok=True)

    def _part(self) -> Path:
        return self.path.with_suffix(".part")


_ADVICE = "To start anew, delete the file or choose another checkpoint_dir."


class Progress:
    """Where a fit stands among its stages, and how it is written down.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        None writes nothing down and finds nothing.
    rng : RandomState
        Of the fit. Put where it was when the fit first began, as torch's are, so that all that
        comes before the stages happens again as it did then.
    device : torch.device
        Where training happens.

    Attributes
    ----------
    stage : int
        The stage to go on with; 0 where a fit begins.
    history : list of dict
        Records of the stages that are finished.
    interrupted : bool
        Whether Ctrl-C ended the training, so that the checkpoint is of use still.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, rng: np.random.RandomState, device: torch.device
    ):
        self.checkpoint = checkpoint
        self.interrupted = False
        self.stage = 0
        self.history: list[dict[str, Any]] = []
        self._run: dict[str, Any] | None = None
        found = checkpoint.load() if checkpoint is not None else None
        if found is None:
            self._start = generators(rng, device)
        else:
            self._start, self._run = found["start"], found["run"]
            self.stage, self.history = found["stage"], list(found["history"])
            set_generators(rng, device, self._start)

    @property
    def module(self) -> dict[str, Any] | None:
        """State of the module as it was saved; None where a fit begins."""
        return None if self._run is None else self._run["module"]

    def resume(self, stage: int) -> dict[str, Any] | None:
        """Hand out the state that the stage goes on from, once; None if it is to begin."""
        run, self._run = (self._run, None) if stage == self.stage else (None, self._run)
        return run

    def keeper(self, stage: int) -> Callable[[dict[str, Any]], None] | None:
        """Return what writes the state of the stage's run down; None if nothing does."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return None
        # without the epochs of this stage: those are part of its run
        before = list(self.history)

        def keep(run: dict[str, Any]) -> None:
            checkpoint.save({"start": self._start, "stage": stage, "history": before, "run": run})

        return keep

    def finish(self) -> None:
        """Remove the checkpoint, unless training was interrupted and may go on."""
        if self.checkpoint is not None and not self.interrupted:
            self.checkpoint.remove()
