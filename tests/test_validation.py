"""Parameter rules: what passes, what does not, and that messages name all there is to know."""

import re

import numpy as np
import pytest

from skxmc._validation import blaming, check_bool, check_int, check_number, check_option


class Owner:
    pass


NUMBER_RULES = {
    "minimum": ({"minimum": 0}, [0, 0.5, np.float32(2), np.int64(3)], [-1e-9, -5]),
    "above": ({"above": 0}, [1e-12, 7], [0, 0.0, -1]),
    "maximum": ({"maximum": 1}, [1, -3], [1.0001]),
    "below": ({"below": 1}, [0.999], [1, 1.0, 2]),
    "both": ({"minimum": 0, "below": 1}, [0, 0.5], [-0.1, 1]),
    "none": ({}, [-5, 1e300], [np.nan, np.inf, -np.inf]),
}


@pytest.mark.parametrize(("bounds", "good", "bad"), NUMBER_RULES.values(), ids=NUMBER_RULES)
def test_number_bounds(bounds, good, bad):
    for value in good:
        check_number("Owner", "rate", value, **bounds)
    for value in [*bad, np.nan, np.inf]:
        with pytest.raises(ValueError, match="Owner: rate must be a number") as caught:
            check_number("Owner", "rate", value, **bounds)
        assert repr(value) in str(caught.value)
        for bound in bounds.values():
            assert str(bound) in str(caught.value)


@pytest.mark.parametrize("value", ["1", None, True, [1], 1j, np.array([1.0])])
def test_number_types(value):
    with pytest.raises(TypeError, match=r"rate must be a number, got " + re.escape(repr(value))):
        check_number("Owner", "rate", value)


def test_int_bounds():
    for value in (1, 4, np.int32(2), np.uint8(3)):
        check_int(Owner(), "width", value, minimum=1, maximum=4)
    for value in (0, 5, -3):
        with pytest.raises(
            ValueError, match=f"^Owner: width must be an int >= 1 and <= 4, got {value}"
        ):
            check_int(Owner(), "width", value, minimum=1, maximum=4)


@pytest.mark.parametrize("value", [1.0, "1", None, True, False, np.float64(2), np.bool_(True)])
def test_int_types(value):
    with pytest.raises(TypeError, match=re.escape(f"an int >= 1, got {value!r}")):
        check_int(Owner(), "width", value, minimum=1)


def test_option():
    check_option("Owner", "mode", "b", iter("abc"))
    for value in ("d", None, 1, b"a"):
        with pytest.raises(
            ValueError,
            match=re.escape(f"Owner: mode must be one of 'a', 'b', 'c', got {value!r}."),
        ):
            check_option("Owner", "mode", value, iter("abc"))


def test_option_does_not_mistake_types():
    """1 == True == 1.0, but they are different options."""
    check_option("Owner", "mode", 1, [1, "x"])
    for value in (True, 1.0):
        with pytest.raises(ValueError, match="must be one of 1, 'x'"):
            check_option("Owner", "mode", value, [1, "x"])


def test_bool():
    for value in (True, False, np.True_):
        check_bool("Owner", "flag", value)
    for value in (1, 0, "yes", None):
        with pytest.raises(TypeError, match=f"Owner: flag must be True or False, got {value!r}"):
            check_bool("Owner", "flag", value)


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_blaming_keeps_the_kind_and_the_reason(kind):
    with (
        pytest.raises(kind, match="Owner: invalid device='x': no such thing"),
        blaming(Owner(), "device", "x"),
    ):
        raise kind("no such thing")


def test_blaming_lets_other_errors_through():
    with pytest.raises(KeyError, match=r"^'x'$"), blaming("Owner", "device", "x"):
        raise KeyError("x")
