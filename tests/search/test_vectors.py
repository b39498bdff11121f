"""Products in vectors against NumPy, with and without the processor's own instruction."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from skxmc.search.numeric._vectors import (
    BYTES,
    EDGES,
    common_of_eight,
    products_of_four_halves,
    products_of_sixteen,
)


@njit
def products(codes, blocks, numbers, rows, out):
    products_of_sixteen(
        codes,
        (blocks[0], blocks[1], blocks[2], blocks[3]),
        numbers,
        (rows[0], rows[1], rows[2], rows[3]),
        out,
    )


@njit
def products_of_halves(rows, q, row, out):
    products_of_four_halves(rows, q[0], q[1], q[2], q[3], row, out)


@njit
def common(bits, planes, out):
    common_of_eight(bits, planes, out)


SEEDS = st.integers(0, 2**32 - 1)


def interleave(rows):
    """Sixteen rows to a block, four columns of each side by side."""
    blocks = rows.reshape(rows.shape[0] // 16, 16, rows.shape[1] // 4, 4)
    return np.ascontiguousarray(blocks.swapaxes(1, 2))


@given(st.integers(0, 9), st.sampled_from([np.int32, np.int64]), SEEDS)
def test_products_of_bytes(n_fours, kind, seed):
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 256, (48, 4 * n_fours)).astype(np.uint8)
    numbers = rng.integers(-128, 128, (7, 4 * n_fours)).astype(np.int8)
    blocks, rows = rng.integers(0, 3, 4).astype(kind), rng.integers(0, 7, 4).astype(kind)
    out = np.full((7, 48), -1, np.float32)
    expected = out.copy()
    products(interleave(clusters), blocks, numbers, rows, out)
    for b, row in zip(blocks, rows, strict=True):
        part = slice(16 * b, 16 * b + 16)
        expected[row, part] = clusters[part].astype(int) @ numbers[row].astype(int)
    np.testing.assert_array_equal(out, expected)


def test_extreme_products():
    clusters, numbers = np.full((16, 256), 255, np.uint8), np.full((1, 256), -128, np.int8)
    out, q = np.empty((1, 16), np.float32), np.zeros(4, np.int64)
    products(interleave(clusters), q, numbers, q, out)
    assert (out == -255 * 128 * 256).all()


@given(st.integers(0, 5), SEEDS)
def test_products_of_halves(n_vectors, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (7, n_vectors * BYTES)).astype(np.uint8)
    row = rng.integers(-128, 128, 2 * n_vectors * BYTES).astype(np.int8)
    q, out = rng.integers(0, 7, 4), np.empty(4, np.float32)
    products_of_halves(rows, q, row, out)
    numbers = np.hstack([rows & 15, rows >> 4]).astype(int)
    np.testing.assert_array_equal(out, numbers[q] @ row.astype(int))


@given(st.integers(1, 9), SEEDS)
def test_sums_over_common_bits(n_words, seed):
    rng = np.random.default_rng(seed)
    set_bits = rng.integers(0, 2, (n_words, EDGES, 64))
    numbers = rng.integers(-8, 8, (n_words, 64))
    weights = 1 << np.arange(64, dtype=np.uint64)
    bits = (set_bits.astype(np.uint64) * weights).sum(axis=2, dtype=np.uint64)
    digits = (numbers >> np.arange(4)[:, None, None]) & 1
    planes = (digits.astype(np.uint64) * weights).sum(axis=2, dtype=np.uint64)
    out = np.full(EDGES + 1, -999)
    common(bits.reshape(EDGES, n_words), planes, out)
    np.testing.assert_array_equal(out[:EDGES], np.einsum("wec,wc->e", set_bits, numbers))
    assert out[EDGES] == -999


@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="this is such a process")
def test_other_processors_find_the_same():
    """For a processor without the instruction, LLVM has to find another way."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed, 1 skipped" in ran.stdout
