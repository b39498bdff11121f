"""What every estimator's fit shares: device, seeds, sizes, embedding, a run with validation."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from skxmc.encoders.base import Encoder, check_embeddings
from skxmc.heads.start import start_at_centroids
from skxmc.metrics import evaluate_topk, propensities
from skxmc.topk import TopK
from skxmc.training.callbacks import Callback, EarlyStopping, ProgressBar, Timer
from skxmc.training.loop import Objective, Plan, Trainer, TrainingInterrupted

__all__ = [
    "Validation",
    "embed_rows",
    "hold_out",
    "isolated_torch_seed",
    "n_rows_of",
    "resolve_batch_size",
    "resolve_device",
    "resolve_epochs",
    "resolve_pool",
    "run_stage",
    "start_labels",
    "take_rows",
]

# Fewer steps than this leave a network at its start, however few rows there are.
MIN_STEPS = 400
_EMBED_BATCH = 2048


def resolve_device(device: str) -> torch.device:
    """Turn "auto" or a device name into a device that is there.

    Parameters
    ----------
    device : str
        "auto" takes CUDA where there is some, else the CPU.

    Returns
    -------
    device : torch.device

    Raises
    ------
    ValueError
        If the name is no device, or the device is not there.

    Examples
    --------
    >>> from skxmc.training.fitting import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be 'auto', 'cpu' or an accelerator torch can use, got {device!r}: "
            f"{reason}"
        ) from None
    return found


@contextmanager
def isolated_torch_seed(
    random_state: np.random.RandomState, device: torch.device
) -> Iterator[None]:
    """Seed torch from `random_state` inside the block; put its global state back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(random_state.randint(2**31 - 1))
        yield


def resolve_batch_size(batch_size: int | str, n_rows: int) -> int:
    """Turn "auto" into 256 rows, fewer where the data are few.

    Parameters
    ----------
    batch_size : int or "auto"
        What the user asked for.
    n_rows : int
        Training rows.

    Returns
    -------
    batch_size : int

    Examples
    --------
    >>> from skxmc.training.fitting import resolve_batch_size
    >>> resolve_batch_size("auto", 100_000), resolve_batch_size("auto", 300)
    (256, 32)
    """
    if batch_size != "auto":
        return int(batch_size)
    return int(min(256, max(32, n_rows // 64)))


def resolve_epochs(n_epochs: int | str, default: int, n_rows: int, batch_size: int) -> int:
    """Turn "auto" into the default number of epochs, more where an epoch has few steps.

    Parameters
    ----------
    n_epochs : int or "auto"
        What the user asked for.
    default : int
        Epochs that suit large data.
    n_rows, batch_size : int
        Training rows, and rows of a step.

    Returns
    -------
    n_epochs : int

    Examples
    --------
    >>> from skxmc.training.fitting import resolve_epochs
    >>> resolve_epochs("auto", 10, 100_000, 256), resolve_epochs("auto", 10, 64, 32)
    (10, 200)
    """
    if n_epochs != "auto":
        return int(n_epochs)
    steps = -(-n_rows // batch_size)
    return max(default, -(-MIN_STEPS // steps)) if default else 0


def resolve_pool(pool_size: int | str, n_negatives: int | str, n_labels: int) -> tuple[int, int]:
    """Turn "auto" into 4096 labels drawn for a batch, 64 of them kept for a row.

    Parameters
    ----------
    pool_size, n_negatives : int or "auto"
        What the user asked for.
    n_labels : int
        Number of labels; the pool holds no more.

    Returns
    -------
    pool_size, n_negatives : int

    Examples
    --------
    >>> from skxmc.training.fitting import resolve_pool
    >>> resolve_pool("auto", "auto", 100_000), resolve_pool("auto", "auto", 50)
    ((4096, 64), (50, 50))
    """
    pool_size = min(4096 if pool_size == "auto" else int(pool_size), n_labels)
    return pool_size, min(64, pool_size) if n_negatives == "auto" else int(n_negatives)


def hold_out(X: Any, Y: sp.csr_array, fraction: float, random_state: np.random.RandomState):
    """Split validation rows off before anything looks at them.

    Parameters
    ----------
    X : csr_array, ndarray or list
        Rows.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    fraction : float
        Share to hold out; 0 holds nothing out.
    random_state : RandomState
        Chooses the rows.

    Returns
    -------
    X_train, Y_train, X_valid, Y_valid
        The last two are None if nothing is held out.

    Raises
    ------
    ValueError
        If the share leaves no row on one side.
    """
    if fraction == 0:
        return X, Y, None, None
    n_rows = Y.shape[0]
    n_valid = round(fraction * n_rows)
    if not 1 <= n_valid < n_rows:
        raise ValueError(
            f"early_stopping=True with validation_fraction={fraction} leaves {n_valid} of {n_rows} "
            "rows for validation; change the fraction or set early_stopping=False."
        )
    order = random_state.permutation(n_rows)
    train, valid = np.sort(order[n_valid:]), np.sort(order[:n_valid])
    return take_rows(X, train), Y[train], take_rows(X, valid), Y[valid]


def n_rows_of(X: Any) -> int:
    """Count the rows of an array or a list."""
    return len(X) if isinstance(X, list) else X.shape[0]


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Cut rows out of an array or a list."""
    return [X[i] for i in rows] if isinstance(X, list) else X[rows]


@torch.no_grad()
def embed_rows(encoder: Encoder, data: Any, n_rows: int, device: torch.device) -> np.ndarray:
    """Embed prepared rows in evaluation mode.

    Parameters
    ----------
    encoder : Encoder
        Left in evaluation mode.
    data : object
        What `encoder.prepare` returned.
    n_rows : int
        Rows in it.
    device : torch.device
        Where the encoder lives.

    Returns
    -------
    embeddings : ndarray of shape (n_rows, embedding_dim), float32
    """
    encoder.eval()
    out = np.empty((n_rows, encoder.embedding_dim), dtype=np.float32)
    for part in gen_batches(n_rows, _EMBED_BATCH):
        rows = np.arange(part.start, part.stop)
        embeddings = encoder(encoder.collate(data, rows, device))
        check_embeddings(encoder, embeddings, rows.size)
        out[part] = embeddings.float().cpu().numpy()
    return out


def start_labels(
    label_init: str, model: Any, data: Any, Y: sp.csr_array, device: torch.device
) -> None:
    """Bring the label vectors of a new model to the start that was asked for.

    Parameters
    ----------
    label_init : {"zeros", "centroids"}
        "zeros" leaves them as they were made.
    model : EliasModel or SNMModel
        Its `head` is changed, its `encoder` is left in evaluation mode.
    data : object
        Training rows as the encoder's `prepare` returned them.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    device : torch.device
        Where the model lives.
    """
    if label_init == "centroids":
        start_at_centroids(model.head, embed_rows(model.encoder, data, Y.shape[0], device), Y)


class Validation:
    """Held-out rows and the metric they are measured by.

    Parameters
    ----------
    predict : callable
        From k to the TopK of the held-out rows under the model as it is.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    Y_train : csr_array
        Training truth, for propensities.
    metric : str
        Name such as "ndcg_at_5".
    patience : int
        Epochs without a new best before a stage ends.
    """

    def __init__(
        self,
        predict: Callable[[int], TopK],
        Y: sp.csr_array,
        Y_train: sp.csr_array,
        metric: str,
        patience: int,
    ):
        self.predict = predict
        self.Y = Y
        self.metric = metric
        self.patience = patience
        self.name, _, k = metric.rpartition("_at_")
        self.k = int(k)
        self.propensities = propensities(Y_train) if self.name.startswith("ps") else None

    def measure(self) -> float:
        """Return the metric under the model as it is."""
        top = self.predict(min(self.k, self.Y.shape[1]))
        found = evaluate_topk(
            self.Y, top, ks=(self.k,), metrics=(self.name,), propensities=self.propensities
        )
        return float(found[self.metric])


def run_stage(
    title: str,
    objective: Objective,
    plan: Plan,
    n_rows: int,
    random_state: np.random.RandomState,
    validation: Validation | None,
    verbose: int,
    saved: dict[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Train one stage; returns its records, each with the stage's title.

    `saved` is the state that an earlier run handed to its `keep` after an epoch: training goes on
    from there. An interrupt becomes a warning and `TrainingInterrupted`: no further stage should
    run.
    """
    callbacks: list[Callback] = [Timer()]
    if validation is not None:
        module, patience = objective.module, validation.patience
        callbacks.append(EarlyStopping(validation.metric, validation.measure, module, patience))
    if verbose:
        callbacks.append(ProgressBar(title))
    try:
        records = Trainer(objective, plan, callbacks).run(n_rows, random_state, saved, keep)
    except TrainingInterrupted as stop:
        again = "a full training" if keep is None else "going on from the last whole epoch"
        warnings.warn(
            f"{title} was interrupted after {len(stop.records)} of {plan.n_epochs} epochs: the "
            f"model is kept as it was then. Call fit again for {again}.",
            ConvergenceWarning,
            stacklevel=2,
        )
        raise TrainingInterrupted([{"stage": title, **r} for r in stop.records]) from None
    return [{"stage": title, **record} for record in records]
