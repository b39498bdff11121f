"""Each estimator in turn, and one fitted on an indicator to look at."""

from functools import cache

import pytest

from .estimators import KINDS, data


@pytest.fixture(params=KINDS, scope="session")
def kind(request):
    return KINDS[request.param]


@cache
def fitted_on_indicator(name):
    X, Y = data()
    return KINDS[name].make().fit(X, Y), X, Y


@pytest.fixture
def fitted(kind):
    """A fitted estimator, its X and its Y. Shared: tests do not change it."""
    name = next(name for name, known in KINDS.items() if known is kind)
    return fitted_on_indicator(name)
