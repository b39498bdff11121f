"""Fixtures and settings for the whole test session."""

import os
from importlib.util import find_spec

import hypothesis
import pytest
import scipy.sparse as sp

# No deadline: the first call of a kernel compiles it, and machines are shared. In continuous
# integration the examples are the same in every run.
hypothesis.settings.register_profile(
    "skxmc", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("skxmc")

if find_spec("torch") is not None:
    import torch

    # Small data: threads cost more than they bring, and results depend on their number.
    torch.set_num_threads(1)

CSR_CONTAINERS = [sp.csr_matrix, sp.csr_array]


@pytest.fixture(params=CSR_CONTAINERS, ids=lambda container: container.__name__)
def csr_container(request):
    """Both of scipy's CSR classes, one after the other: `csr_container(dense)` makes one."""
    return request.param
