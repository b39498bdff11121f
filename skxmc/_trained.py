"""BaseTrainedClassifier: what estimators with a torch training run share beyond the contract."""

import copy
import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_random_state
from torch import nn
from tqdm.auto import tqdm

from skxmc._threads import limited_threads
from skxmc._validation import blaming
from skxmc.base import BaseXMCClassifier
from skxmc.ops.row_table import RowTable
from skxmc.training.checkpoint import Checkpoint, Progress
from skxmc.training.fitting import embed_rows, isolated_torch_seed, n_rows_of, resolve_device
from skxmc.training.identity import fit_identity
from skxmc.training.memory import Need, check_memory

__all__ = ["BaseTrainedClassifier", "Training"]


class Training(Protocol):
    """One fit of an estimator."""

    def run(
        self, X: Any, Y: sp.csr_array, model: Any = None, progress: Progress | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Train a new model, or an earlier one further; return it with its history."""
        ...

    def work_of_step(self, X: Any, Y: sp.csr_array) -> float:
        """Estimate the multiply-adds of a step."""
        ...

    def needs(self, X: Any, Y: sp.csr_array) -> list[Need] | None:
        """List the memory that `run` takes; None where the encoder does not say."""
        ...


class BaseTrainedClassifier(BaseXMCClassifier):
    """Base class of classifiers whose model is a torch module with an encoder in front.

    A subclass writes `_training(rng, device)`, `_check_params()`, `_freeze(model)`, which makes the
    arrays that prediction searches, and the hooks of `BaseXMCClassifier`.
    """

    model_: Any

    @abstractmethod
    def _training(self, rng: np.random.RandomState, device: torch.device) -> Training:
        """Return the training run that the parameters ask for."""

    @abstractmethod
    def _check_params(self) -> None:
        """Raise on parameters out of range."""

    @abstractmethod
    def _freeze(self, model: Any) -> Any:
        """Return the arrays of a trained model that prediction reads."""

    def _fit(self, X: Any, Y: sp.csr_array) -> None:
        self._train(X, Y, model=None)

    def _can_continue(self, targets) -> bool:
        if not self.warm_start or not hasattr(self, "model_"):
            return False
        if not np.array_equal(self.classes_, targets.classes):
            raise ValueError(
                f"warm_start=True needs the labels of the last fit ({self.n_labels_}), got "
                f"{targets.classes.size} labels; set warm_start=False to start anew."
            )
        return True

    def _continue_fit(self, X: Any, Y: sp.csr_array) -> None:
        # a copy, so that the model is still there if training fails
        self._train(X, Y, model=copy.deepcopy(self.model_), history=self.history_)

    def _train(self, X, Y, model: Any, history: Sequence[dict] = ()) -> None:
        self._check_params()
        with blaming(self, "random_state", self.random_state):
            rng = check_random_state(self.random_state)
        with blaming(self, "device", self.device):
            device = resolve_device(self.device)
        training = self._training(rng, device)
        needs = training.needs(X, Y)
        if needs is not None:
            description = check_memory(self, needs, self.memory_limit, device)
            if self.verbose:
                tqdm.write(description, file=sys.stderr)
        checkpoint = None
        if self.checkpoint_dir is not None:
            identity = fit_identity(self, X, Y, model, device)
            checkpoint = Checkpoint(self.checkpoint_dir, identity)
        work = training.work_of_step(X, Y)
        with limited_threads(self.n_jobs, work), isolated_torch_seed(rng, device):
            progress = Progress(checkpoint, rng, device)
            model, records = training.run(X, Y, model, progress)
        self._keep(model, [*history, *records])
        self._finish(X, Y)
        progress.finish()

    def _finish(self, X: Any, Y: sp.csr_array) -> None:
        """Fit what builds on the trained model."""

    def _keep(self, model: nn.Module, history: list[dict[str, Any]]) -> None:
        """Put the fitted state on self, on the CPU, without what only training needs."""
        model.cpu().eval()
        for module in model.modules():
            if isinstance(module, RowTable):
                module.forget()
        self.model_ = model
        self.history_ = history
        self.n_epochs_ = len(history)
        self._frozen = self._freeze(model)

    def _embed(self, X: Any) -> np.ndarray:
        """Embed validated rows."""
        encoder = self.model_.encoder
        device = next(encoder.buffers(), torch.empty(0)).device
        return embed_rows(encoder, encoder.prepare(X), n_rows_of(X), device)

    def _accepts_text(self) -> bool:
        return getattr(self.encoder, "accepts_text", False)

    def __getstate__(self):
        state = super().__getstate__().copy()
        # views of the model's arrays: made anew on the other side
        state.pop("_frozen", None)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "model_"):
            self._frozen = self._freeze(self.model_)
