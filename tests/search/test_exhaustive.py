"""Exhaustive search against a full sort."""

import numpy as np
import pytest

from skxmc.search import exhaustive
from skxmc.search.exhaustive import exhaustive_topk


@pytest.mark.parametrize("k", [1, 3, 17])
def test_against_a_full_sort(k, monkeypatch):
    rng = np.random.default_rng(0)
    # small integers: exact in float32, and full of ties
    queries = rng.integers(-2, 3, size=(23, 4)).astype(np.float32)
    weight = rng.integers(-2, 3, size=(17, 4)).astype(np.float32)
    bias = rng.integers(-1, 2, size=17).astype(np.float32)
    scores = queries @ weight.T + bias
    expected = np.lexsort((np.broadcast_to(np.arange(17), scores.shape), -scores))[:, :k]
    monkeypatch.setattr(exhaustive, "_SCORES", 17 * 5)  # five rows at a time
    top = exhaustive_topk(queries, weight, bias, k)
    np.testing.assert_array_equal(top.indices, expected)
    np.testing.assert_array_equal(top.scores, np.take_along_axis(scores, expected, axis=1))
    assert top.indices.dtype == np.int64
    assert top.scores.dtype == np.float32
