"""Pools: distinct ascending labels, drawn as each promises."""

import numpy as np
import pytest

from skxmc.negatives import FrequencyPool, InBatchPool, MixedPool, UniformPool

COUNTS = np.array([0, 1, 4, 9, 16, 25, 100, 400])
POSITIVES = np.array([6, 7, 6, 1])


@pytest.mark.parametrize(
    "pool",
    [UniformPool(3), FrequencyPool(3), InBatchPool(), MixedPool(InBatchPool(), UniformPool(2))],
    ids=lambda pool: type(pool).__name__,
)
def test_distinct_ascending_and_repeatable(pool):
    drawn = pool.draw(POSITIVES, COUNTS, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < COUNTS.size
    again = pool.draw(POSITIVES, COUNTS, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def share_of_draws(pool, n_draws=4000):
    rng = np.random.default_rng(0)
    hits = np.zeros(COUNTS.size)
    for _ in range(n_draws):
        hits[pool.draw(POSITIVES, COUNTS, rng)] += 1
    return hits / n_draws


def test_uniform_draws_each_label_alike():
    np.testing.assert_allclose(share_of_draws(UniformPool(3)), 3 / 8, atol=0.04)


def test_frequency_draws_in_proportion():
    # a pool of one is drawn in exact proportion to the weights
    weights = np.maximum(COUNTS, 0.5) ** 0.5
    shares = share_of_draws(FrequencyPool(1, power=0.5))
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.03)
    flat = share_of_draws(FrequencyPool(2, power=0))
    np.testing.assert_allclose(flat, 2 / 8, atol=0.04)


def test_in_batch_and_mixed():
    rng = np.random.default_rng(0)
    assert InBatchPool().draw(POSITIVES, COUNTS, rng).tolist() == [1, 6, 7]
    mixed = MixedPool(InBatchPool(), UniformPool(8)).draw(POSITIVES, COUNTS, rng)
    assert mixed.tolist() == list(range(8))


def test_a_pool_larger_than_the_labels_is_all_of_them():
    rng = np.random.default_rng(0)
    for pool in (UniformPool(100), FrequencyPool(100)):
        assert pool.draw(POSITIVES, COUNTS, rng).tolist() == list(range(8))


def test_bad_parameters():
    with pytest.raises(ValueError, match="size"):
        UniformPool(0)
    with pytest.raises(ValueError, match="power"):
        FrequencyPool(3, power=-1)
    with pytest.raises(ValueError, match="at least one"):
        MixedPool()
