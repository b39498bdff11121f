"""Threads: limited inside, as before outside, and never changed by Numba's first start."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import pytest
import torch

from skxmc._threads import SMALL_WORK, limited_threads

ROOT = Path(__file__).resolve().parent.parent


def counts():
    # this order: reading numba's number may start its threads
    return torch.get_num_threads(), numba.get_num_threads()


def test_none_changes_nothing():
    before = counts()
    with limited_threads(None) as n_threads:
        assert counts() == before
        assert n_threads == before[1]
    assert counts() == before


def test_small_work_takes_one_thread_unless_told():
    before = counts()
    with limited_threads(None, work=SMALL_WORK - 1) as n_threads:
        assert (n_threads, *counts()) == (1, 1, 1)
    assert counts() == before
    with limited_threads(None, work=SMALL_WORK):
        assert counts() == before
    with limited_threads(3, work=1):
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 500])
def test_limits_torch_and_numba(n_jobs):
    before = counts()
    with limited_threads(n_jobs) as n_threads:
        assert torch.get_num_threads() == n_jobs
        assert n_threads == numba.get_num_threads() == min(n_jobs, numba.config.NUMBA_NUM_THREADS)
        with limited_threads(1):
            assert counts() == (1, 1)
        assert torch.get_num_threads() == n_jobs
    assert counts() == before


def test_minus_one_is_all_cores():
    with limited_threads(-1):
        inside = torch.get_num_threads()
    affinity = getattr(os, "sched_getaffinity", None)
    assert 1 <= inside <= (len(affinity(0)) if affinity else os.cpu_count())


def test_restored_after_an_error():
    before = counts()
    with pytest.raises(KeyError), limited_threads(before[0] + 1):
        raise KeyError
    assert counts() == before


def test_zero_is_refused_and_nothing_changes():
    before = counts()
    with pytest.raises(ValueError, match="n_jobs == 0"), limited_threads(0):
        pass
    assert counts() == before


def run_python(code, **environment):
    ours = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_starting_numba_does_not_change_torch():
    """Numba's first call sets the threads of the OpenMP library it shares with torch."""
    out = run_python(
        """
        import torch
        from skxmc._threads import limited_threads

        before = torch.get_num_threads()
        with limited_threads(None):
            inside = torch.get_num_threads()
        print(before, inside, torch.get_num_threads())
        """,
        OMP_NUM_THREADS="1",
        NUMBA_NUM_THREADS="2",
    )
    assert out == ["1", "1", "1"]
