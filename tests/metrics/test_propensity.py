"""The propensity model against its formula, and the table of constants."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxmc.metrics import (
    PROPENSITY_CONSTANTS,
    propensities,
    propensities_from_counts,
    propensity_constants,
)

from . import reference


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.5, 0.4), (0.6, 2.6)])
def test_formula(a, b):
    rng = np.random.default_rng(0)
    Y = (rng.random((200, 30)) < 0.1).astype(int)
    Y[:, 0] = 0
    expected = [reference.propensity(count, 200, a, b) for count in Y.sum(axis=0)]
    np.testing.assert_allclose(propensities(Y, a=a, b=b), expected)
    np.testing.assert_allclose(propensities(sp.csc_matrix(Y), a=a, b=b), expected)
    np.testing.assert_allclose(propensities_from_counts(Y.sum(axis=0), 200, a=a, b=b), expected)


def test_grows_with_the_frequency_within_its_range():
    p = propensities_from_counts([0, 1, 10, 1000, 10**6], 10**6)
    assert (np.diff(p) > 0).all()
    assert p.min() > 0
    assert p.max() <= 1


@pytest.mark.parametrize("n_rows", [1, 2])
def test_tiny_data_has_propensity_one(n_rows):
    assert propensities(np.ones((n_rows, 2))).tolist() == [1.0, 1.0]


def test_explicit_zeros_do_not_count():
    Y = sp.csr_array((np.array([1, 0, 1]), np.array([0, 1, 0]), np.array([0, 2, 3, 3])), (3, 2))
    np.testing.assert_array_equal(propensities(Y), propensities_from_counts([2, 0], 3))


def test_constants_by_exact_name():
    assert propensity_constants("Amazon-670K") == {"a": 0.6, "b": 2.6}
    assert propensity_constants("WikiLSHTC-325K") == {"a": 0.5, "b": 0.4}
    # The two that a search by substring gets wrong.
    assert propensity_constants("AmazonCat-13K") == {"a": 0.55, "b": 1.5}
    assert propensity_constants("Wiki10-31K") == {"a": 0.55, "b": 1.5}
    assert all(0 < a < 1 and b > 0 for a, b in PROPENSITY_CONSTANTS.values())


@pytest.mark.parametrize("name", ["Amazon", "amazon-670k", "my data", None])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=r"exactly.*a=0\.55, b=1\.5"):
        propensity_constants(name)


def test_nearest_names_are_offered():
    with pytest.raises(ValueError, match=r"nearest are .*Amazon-670K"):
        propensity_constants("Amazon670K")


def test_refused():
    with pytest.raises(ValueError, match="a must be a number >= 0, got -1"):
        propensities(np.ones((3, 2)), a=-1)
    with pytest.raises(ValueError, match="b must be a number > 0, got 0"):
        propensities(np.ones((3, 2)), b=0)
    with pytest.raises(TypeError, match="a must be a number"):
        propensities(np.ones((3, 2)), a="0.55")
    with pytest.raises(ValueError, match="only 0 and 1"):
        propensities(np.full((3, 2), 2))
    for counts in ([-1, 2], [[1, 2]], [np.nan, 1]):
        with pytest.raises(ValueError, match="label_counts must be one count >= 0"):
            propensities_from_counts(counts, 3)
    with pytest.raises(ValueError, match="n_rows must be"):
        propensities_from_counts([1], 0)
