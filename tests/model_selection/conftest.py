"""Data for these tests; worker processes find `toy_rankers` by sys.path."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "metrics"))

N, N_LABELS, N_FEATURES = 90, 20, 30


@pytest.fixture
def data(csr_container):
    """X and Y in both of scipy's containers, from 20 labels of falling frequency."""
    rng = np.random.default_rng(0)
    Y = (rng.random((N, N_LABELS)) < 3 / (np.arange(N_LABELS) + 3) ** 1.2).astype(np.int8)
    X = Y @ (rng.random((N_LABELS, N_FEATURES)) < 0.15) + 2 * (rng.random((N, N_FEATURES)) < 0.1)
    return csr_container(X.astype(np.float32)), csr_container(Y)
