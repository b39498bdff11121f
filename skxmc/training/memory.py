"""How much memory a fit will take, and the refusal of one that cannot fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import scipy.sparse as sp
import torch

from skxmc.encoders.size import EncoderSize
from skxmc.heads.start import start_bytes
from skxmc.ops.row_table import table_bytes
from skxmc.training.fitting import resolve_pool
from skxmc.training.snm import DENSE_ENTRIES, DENSE_SHARE

__all__ = [
    "Need",
    "available_memory",
    "check_memory",
    "data_bytes",
    "label_start_need",
    "mining_need",
    "shared_needs",
    "total",
]

GIB = 2**30
# Under "auto" a fit is refused only if it needs so many times what is available: an estimate may
# be wrong by a fifth, and nobody should be told no for that.
CLEARLY = 1.2
_MEMINFO = Path("/proc/meminfo")
# Control groups of containers, version 2 and 1: bound, use, and the caches within it that can go.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


class Need(NamedTuple):
    """Memory that one part of a fit takes.

    Attributes
    ----------
    what : str
        What it is for.
    n_bytes : int
        How much.
    lower : str
        What to do to need less of it; "" where nothing helps.
    passing : bool
        Whether it is given back after one phase of the fit. Phases follow each other, so only the
        largest of these counts.
    host : bool
        Whether it is in main memory even where training happens on an accelerator.
    """

    what: str
    n_bytes: int
    lower: str = ""
    passing: bool = False
    host: bool = False


def total(needs: Sequence[Need]) -> int:
    """Add up what lasts and the largest of what passes.

    Parameters
    ----------
    needs : sequence of Need
        Parts of a fit.

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> from skxmc.training.memory import Need, total
    >>> total([Need("a", 5), Need("b", 1, passing=True), Need("c", 2, passing=True)])
    7
    """
    lasting = sum(need.n_bytes for need in needs if not need.passing)
    return lasting + max((need.n_bytes for need in needs if need.passing), default=0)


def shared_needs(
    X: Any, Y: sp.csr_array, encoder: EncoderSize, held_out: float, weights: int = 0
) -> list[Need]:
    """List what a fit of any estimator needs.

    Parameters
    ----------
    X : csr_array, ndarray or list of str
        Validated rows.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    encoder : EncoderSize
        What the encoder takes.
    held_out : float
        Share of the rows held out for validation, 0 without early stopping.
    weights : int
        Bytes of the estimator's weights beside label head and encoder.

    Returns
    -------
    needs : list of Need
    """
    n_labels, width = Y.shape[1], encoder.embedding_dim
    narrower = "a smaller embedding_dim of the encoder"
    smaller = f"{narrower}, or fewer features"
    needs = [
        Need("label vectors with their optimiser", table_bytes(n_labels, width), narrower),
        Need("encoder with its optimiser", encoder.training, smaller),
        Need("rows as the encoder takes them", encoder.rows, "fewer rows or features", host=True),
        Need("start of the encoder", encoder.start, smaller, passing=True, host=True),
    ]
    if held_out:
        best = 4 * n_labels * (width + 1) + encoder.training + weights
        needs.append(Need("copy of the best epoch", best, "early_stopping=False"))
        rows = data_bytes(Y) + (0 if isinstance(X, list) else data_bytes(X))
        needs.append(Need("rows split for validation", rows, "early_stopping=False", host=True))
    return needs


class MiningSizes(Protocol):
    """The parameters that the memory of mined negatives depends on."""

    pool_size: Any
    n_negatives: Any


def mining_need(
    settings: MiningSizes, Y: sp.csr_array, batch_size: int, embedding_dim: int
) -> Need:
    """Return what a step takes that mines its negatives from a pool.

    Parameters
    ----------
    settings : MiningSizes
        Parameters of the estimator.
    Y : csr_array of shape (n_rows, n_labels)
        Truth.
    batch_size, embedding_dim : int
        Rows of a step and width of an embedding.

    Returns
    -------
    need : Need
    """
    pool_size, k = resolve_pool(settings.pool_size, settings.n_negatives, Y.shape[1])
    k = min(k, pool_size)
    scores = 4 * batch_size * pool_size
    if k * DENSE_SHARE >= pool_size:
        # scores, margins and their gradients, of some rows at a time; the gradient of the pool's
        # vectors, and those before and after
        n_bytes = 6 * min(scores, 4 * DENSE_ENTRIES) + 20 * pool_size * embedding_dim
    else:
        # the pool's vectors, their scores, and a kept negative's labels, scores and places
        n_bytes = 4 * pool_size * embedding_dim + 2 * scores + 60 * batch_size * k
    return Need("step that mines negatives", n_bytes, "a smaller pool_size", passing=True)


def label_start_need(label_init: str, Y: sp.csr_array, embedding_dim: int) -> Need:
    """Return what the start of the label vectors takes.

    Parameters
    ----------
    label_init : {"zeros", "centroids"}
        The start.
    Y : csr_array of shape (n_rows, n_labels)
        Truth.
    embedding_dim : int
        Width of an embedding.

    Returns
    -------
    need : Need
    """
    wanted = label_init == "centroids"
    n_bytes = start_bytes(Y.shape[0], Y.shape[1], Y.nnz, embedding_dim) if wanted else 0
    what, lower = "embeddings of all rows, for the start of the labels", "label_init='zeros'"
    return Need(what, n_bytes, lower, passing=True, host=True)


def data_bytes(X: Any) -> int:
    """Count the bytes of a CSR or dense array."""
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if sp.issparse(X) else X.nbytes


def check_memory(
    owner: Any, needs: Sequence[Need], limit: float | str | None, device: torch.device
) -> str:
    """Describe what a fit needs; refuse it if that is more than there may be.

    Parameters
    ----------
    owner : estimator
        Whose fit it is.
    needs : sequence of Need
        Its parts.
    limit : float, "auto" or None
        GiB that the fit may take on top of its input (on an accelerator: main memory and the
        accelerator's, each); "auto" is what is available now, and refuses only what clearly
        exceeds it; None never refuses.
    device : torch.device
        Where training happens.

    Returns
    -------
    description : str
        One line a part.

    Raises
    ------
    MemoryError
        Saying how much is needed, for what, and what to lower.
    """
    if device.type == "cpu":
        return _check_pool(owner, needs, limit, "memory", available_memory())
    host = [need for need in needs if need.host]
    theirs = [need for need in needs if not need.host]
    found = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    return "\n".join(
        (
            _check_pool(owner, host, limit, "main memory", available_memory()),
            _check_pool(owner, theirs, limit, f"memory of {device}", found),
        )
    )


def _check_pool(owner, needs, limit, name: str, available: int | None) -> str:
    needed = total(needs)
    bound, refused = "", False
    if limit == "auto":
        if available is not None:
            bound = f", {available / GIB:.2f} GiB are available"
            refused = needed > CLEARLY * available
    elif limit is not None:
        bound = f", memory_limit is {limit:g} GiB"
        refused = needed > limit * GIB
    description = (
        f"{type(owner).__name__}: fit needs about {needed / GIB:.2f} GiB of {name}{bound}:\n"
        + _table(needs)
    )
    if refused:
        raise MemoryError(f"{description}\n{_advice(needs)}")
    return description


def _table(needs: Sequence[Need]) -> str:
    """One line a part, largest first; those that pass come after those that last."""
    ordered = sorted(needs, key=lambda need: (need.passing, -need.n_bytes))
    return "\n".join(
        f"{need.n_bytes / GIB:10.2f}  {need.what}{' (for a while)' if need.passing else ''}"
        for need in ordered
        if need.n_bytes
    )


def _advice(needs: Sequence[Need]) -> str:
    helped = [need for need in needs if need.lower]
    largest = max(helped, key=lambda need: need.n_bytes)
    return (
        f"What helps most is {largest.lower}, for the {largest.what}. To train all the same, raise "
        "memory_limit, or set it to None."
    )


def available_memory() -> int | None:
    """Find how many bytes of main memory a process may still take.

    Returns
    -------
    n_bytes : int or None
        The least of what the machine has and what the control group of a container leaves; None
        where the system does not say.

    Examples
    --------
    >>> from skxmc.training.memory import available_memory
    >>> available = available_memory()
    >>> available is None or available > 0
    True
    """
    bounds = [_machine_memory(), *(_group_memory(*names) for names in _CGROUPS)]
    return min((bound for bound in bounds if bound is not None), default=None)


def _machine_memory() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _group_memory(folder: Path, bound: str, used: str, cached: str) -> int | None:
    try:
        most = int((folder / bound).read_text())  # "max" is no bound
        now = int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return max(0, most - now + int(stat.get(cached, 0)))
