"""Rules for parameters: every message says what was got, what is allowed and who asked."""

import numbers
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np


def check_number(owner, name, value, *, minimum=None, maximum=None, above=None, below=None):
    """Raise unless `value` is a finite real number inside the bounds."""
    rule = _describe("a number", minimum, maximum, above, below)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{_who(owner)}: {name} must be {rule}, got {value!r}.")
    _check_bounds(owner, name, value, rule, minimum, maximum, above, below)


def check_int(owner, name, value, *, minimum=None, maximum=None):
    """Raise unless `value` is an integer inside the bounds."""
    rule = _describe("an int", minimum, maximum, None, None)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{_who(owner)}: {name} must be {rule}, got {value!r}.")
    _check_bounds(owner, name, value, rule, minimum, maximum, None, None)


def check_option(owner, name, value, options: Iterable):
    """Raise unless `value` is one of `options`."""
    options = list(options)
    if not any(type(value) is type(o) and value == o for o in options):
        listed = ", ".join(repr(o) for o in options)
        raise ValueError(f"{_who(owner)}: {name} must be one of {listed}, got {value!r}.")


def check_bool(owner, name, value):
    """Raise unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{_who(owner)}: {name} must be True or False, got {value!r}.")


@contextmanager
def blaming(owner, name, value) -> Iterator[None]:
    """Put owner, parameter and value before the message of a TypeError or ValueError inside."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{_who(owner)}: invalid {name}={value!r}: {error}") from None


def _who(owner) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def _describe(kind, minimum, maximum, above, below) -> str:
    signs = ((">=", minimum), (">", above), ("<=", maximum), ("<", below))
    bounds = [f"{sign} {bound}" for sign, bound in signs if bound is not None]
    return " and ".join([f"{kind} {bounds[0]}", *bounds[1:]]) if bounds else kind


def _check_bounds(owner, name, value, rule, minimum, maximum, above, below):
    inside = (
        (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (above is None or value > above)
        and (below is None or value < below)
        and abs(value) != float("inf")
    )
    if not inside or value != value:
        raise ValueError(f"{_who(owner)}: {name} must be {rule}, got {value!r}.")
