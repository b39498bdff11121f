"""Whether Numba keeps what it compiles on disk, for all kernels."""

import os

__all__ = ["CACHE"]

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
