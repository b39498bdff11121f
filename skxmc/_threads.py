"""Threads: how many a call may use, put back as they were afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import effective_n_jobs


@contextmanager
def limited_threads(n_jobs: int | None) -> Iterator[int]:
    """Let Numba and torch use `n_jobs` threads inside the block; None leaves them as they are.

    Yields the number of threads that Numba kernels will use.
    """
    import numba
    import torch

    numba_before, torch_before = numba.get_num_threads(), torch.get_num_threads()
    if n_jobs is None:
        yield numba_before
        return
    wanted = effective_n_jobs(n_jobs)
    try:
        numba.set_num_threads(min(wanted, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(wanted)
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(numba_before)
        torch.set_num_threads(torch_before)
