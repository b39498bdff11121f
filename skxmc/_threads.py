"""Threads: how many a call may use, put back as they were afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import effective_n_jobs

# Multiply-adds below which handing work to a second thread costs more than it brings.
SMALL_WORK = 4_000_000


@contextmanager
def limited_threads(n_jobs: int | None, work: float = float("inf")) -> Iterator[int]:
    """Let Numba and torch use `n_jobs` threads inside the block.

    None leaves their settings as they are, unless one call's `work` (multiply-adds of a step or a
    batch) is so small that one thread does it best. Yields the number of threads that Numba
    kernels will use.
    """
    import numba
    import torch

    # in this order: numba's first call starts its threads, and where the two share an OpenMP that
    # sets torch's number too
    torch_before = torch.get_num_threads()
    numba_before = numba.get_num_threads()
    if n_jobs is None and work < SMALL_WORK:
        n_jobs = 1
    torch_wanted = torch_before if n_jobs is None else effective_n_jobs(n_jobs)
    numba_wanted = numba_before if n_jobs is None else torch_wanted
    try:
        numba.set_num_threads(min(numba_wanted, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(torch_wanted)
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(numba_before)
        torch.set_num_threads(torch_before)
