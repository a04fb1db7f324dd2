"""The elementary functions: total, with IEEE 754's results where Python's `math` raises, and without seams."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from tests.engine.oracle import ulps

from chainrule_engine import elementary
from chainrule_engine.elementary import (
    circular,
    cos,
    divide,
    exp,
    log,
    power,
    power_base_derivative,
    power_exponent_derivative,
    sigmoid,
    sigmoid_derivative,
    sin,
    softplus,
    sqrt,
    tanh,
    tanh_derivative,
)

FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(elementary, inspect.isfunction)
    if function.__module__.startswith(elementary.__name__)
}

NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 709.782712893384, -745.2, inf, -inf, nan])
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def same(x, y):
    """Equal, signs of zeros included; NaN equals NaN."""
    return (math.isnan(x) and math.isnan(y)) or (x == y and math.copysign(1.0, x) == math.copysign(1.0, y))


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=40)
@given(data=st.data())
def test_total(name, data):
    function = FUNCTIONS[name]
    args = data.draw(st.tuples(*[NUMBERS] * len(inspect.signature(function).parameters)))
    assert type(function(*args)) is float


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_in_nan_out(name):
    function = FUNCTIONS[name]
    count = len(inspect.signature(function).parameters)
    # Each argument in turn; 3.0 is a number that no special case swallows. A third one is the result of the first two.
    for place in range(min(count, 2)):
        args = [nan if position in (place, 2) else 3.0 for position in range(count)]
        assert math.isnan(function(*args)), args


# ----------------------------------------------------------------------------------------------- edges of domains


@given(x=NUMBERS, y=NUMBERS)
def test_division_is_python_s_where_python_divides(x, y):
    if y != 0.0:
        assert same(divide(x, y), x / y)


@pytest.mark.parametrize(
    ("x", "y", "quotient"),
    [
        *((1.0, 0.0, inf), (1.0, -0.0, -inf), (-1.0, 0.0, -inf), (-1.0, -0.0, inf)),
        *((inf, 0.0, inf), (-inf, 0.0, -inf), (5e-324, -0.0, -inf)),
        *((0.0, 0.0, nan), (-0.0, 0.0, nan), (nan, 0.0, nan)),
    ],
)
def test_division_by_zero(x, y, quotient):
    assert same(divide(x, y), quotient)


def test_the_exponential_is_finite_up_to_the_last_number_where_it_should_be():
    last = 709.782712893384
    assert ulps(exp(last), mp.exp(mp.mpf(last))) < 1.0
    assert exp(last) < inf
    assert exp(math.nextafter(last, inf)) == inf
    assert mp.exp(mp.mpf(last)) < mp.ldexp(1, 1024) < mp.exp(mp.mpf(math.nextafter(last, inf)))
    assert exp(-745.13) == 5e-324
    assert exp(-745.14) == 0.0


@given(x=st.floats(min_value=0.0, exclude_min=True))
def test_the_logarithm_and_the_root_of_what_has_none(x):
    assert math.isnan(log(-x))
    assert math.isnan(sqrt(-x))
    assert log(0.0) == log(-0.0) == -inf
    assert same(sqrt(-0.0), -0.0)


@given(x=NUMBERS, y=NUMBERS)
def test_power_has_the_special_cases_of_the_c_library_s(x, y):
    try:
        expected = math.pow(x, y)
    except (ValueError, OverflowError):
        return
    if y != 2.0:
        # Each within a unit of the truth.
        assert same(power(x, y), expected) or power(x, y) == pytest.approx(expected, rel=5e-16, abs=1e-323)


@pytest.mark.parametrize(
    ("x", "y", "result"),
    [
        # Zero to a negative power: a pole, whose sign survives an odd exponent only.
        *((0.0, -1.0, inf), (-0.0, -1.0, -inf), (-0.0, -2.0, inf), (-0.0, -0.5, inf), (-0.0, -inf, inf)),
        *((-0.0, -(2.0**53 - 1.0), -inf), (-0.0, -(2.0**53), inf)),
        # Overflow, likewise.
        *((1e200, 2.0, inf), (-1e200, 2.0, inf), (1e200, 3.0, inf), (-1e200, 3.0, -inf), (-1e200, 4.0, inf)),
        *((1e-200, -3.0, inf), (-1e-200, -3.0, -inf), (-1e-200, -4.0, inf)),
        # No real result.
        *((-8.0, 1 / 3, nan), (-1e-300, 0.5, nan), (-2.0, -0.5, nan)),
        # Infinite arguments have one: no rule of sign or of fraction applies.
        *((-inf, 0.5, inf), (-inf, 3.0, -inf), (-inf, -3.0, -0.0), (-1.0, inf, 1.0), (-0.5, -inf, inf)),
        # Not a number to the power of 0 is 1, by C's Annex F.
        *((nan, 0.0, 1.0), (1.0, nan, 1.0)),
    ],
)
def test_power_at_its_edges(x, y, result):
    assert same(power(x, y), result)


def test_a_power_is_exact_where_float64_holds_it():
    count = 0
    for x in (*map(float, range(-20, 21)), 0.375, 7.0 * 2.0**-30, 3.0 * 2.0**100, 94906265.0, 5.0 * 2.0**-500):
        for y in range(-40, 80):
            if x:
                exact = Fraction(x) ** y
                if abs(exact) < 2**1024 and Fraction(float(exact)) == exact:
                    count += 1
                    assert power(x, float(y)) == float(exact), (x, y)
    assert count > 1000
    for root in range(1, 500):
        assert power(float(root**2), 0.5) == power(float(root**4), 0.25) == root
    for k in range(-1074, 1024):
        assert power(2.0, float(k)) == math.ldexp(1.0, k)


@given(x=FINITE)
def test_a_square_is_rounded_once(x):
    assert same(power(x, 2.0), x * x)
    assert same(power_base_derivative(x, 2.0), 2.0 * x)


@pytest.mark.parametrize(
    ("function", "x", "result"),
    [
        *(
            (exp, -0.0, 1.0),
            (exp, inf, inf),
            (exp, -inf, 0.0),
            (exp, 5e-324, 1.0),
            (exp, 1e308, inf),
            (exp, 1.0, math.e),
        ),
        *((log, 1.0, 0.0), (log, inf, inf), (log, -inf, nan), (log, -5e-324, nan)),
        *((tanh, -0.0, -0.0), (tanh, -inf, -1.0), (tanh, -1e-310, -1e-310), (tanh, 22.0, 1.0), (tanh, 1e308, 1.0)),
        *(
            (sigmoid, -0.0, 0.5),
            (sigmoid, inf, 1.0),
            (sigmoid, -inf, 0.0),
            (sigmoid, -746.0, 0.0),
            (sigmoid, 38.0, 1.0),
        ),
        *((softplus, inf, inf), (softplus, -inf, 0.0), (softplus, -1e308, 0.0), (softplus, 0.0, math.log(2.0))),
        *((softplus, 746.0, 746.0), (softplus, 1e308, 1e308)),
        *((tanh_derivative, 0.0, 1.0), (tanh_derivative, inf, 0.0), (tanh_derivative, 374.0, 0.0)),
        *((sigmoid_derivative, 0.0, 0.25), (sigmoid_derivative, -inf, 0.0), (sigmoid_derivative, 746.0, 0.0)),
        *((sin, -0.0, -0.0), (sin, inf, nan), (sin, -1e-310, -1e-310), (sin, 1e-9, 1e-9)),
        *((cos, -0.0, 1.0), (cos, -inf, nan), (cos, 5e-324, 1.0)),
    ],
)
def test_edges(function, x, result):
    assert same(function(x), result)


@pytest.mark.parametrize(("ours", "true"), [(sin, mp.sin), (cos, mp.cos)])
def test_angles_that_are_hard_to_reduce(ours, true):
    # The float64 nearest of all to a multiple of π/2; the largest; both sides of the change of method; powers of two.
    hard = [6381956970095103 * 2.0**797, 1.7976931348623157e308, 2.0**20, math.nextafter(2.0**20, inf), 1e22]
    hard += [k * math.pi / 2 for k in (1, 2, 3, 355)] + [2.0**k for k in range(-60, 1024, 7)]
    for x in hard:
        with mp.workprec(1400):
            assert ulps(ours(x), true(mp.mpf(x))) < 0.85, x


@given(x=st.floats(1.0, 2.0**20))
def test_both_reductions_of_an_angle_agree_far_beyond_their_last_bit(x):
    quarter, y, tail = circular._reduced_angle(x)
    huge_quarter, huge_y, huge_tail = circular._reduced_huge_angle(x)
    assert (quarter - huge_quarter) % 1.0 == 0.0
    assert abs((mp.mpf(y) + tail) - (mp.mpf(huge_y) + huge_tail)) <= mp.ldexp(abs(mp.mpf(y)), -64)


# ------------------------------------------------------------------------------------------ symmetries, and no seams


@given(x=st.floats(allow_nan=False))
def test_odd_and_even_functions_are_so_to_the_bit(x):
    assert same(tanh(-x), -tanh(x))
    assert same(sin(-x), -sin(x))
    assert same(cos(-x), cos(x))
    assert tanh_derivative(-x) == tanh_derivative(x)
    assert sigmoid_derivative(-x) == sigmoid_derivative(x)


@given(x=st.floats(allow_nan=False))
def test_ranges(x):
    assert -1.0 <= tanh(x) <= 1.0
    assert 0.0 <= sigmoid(x) <= 1.0
    # Next to 0 these two may round to the number above their largest value, as any rounding may.
    assert 0.0 <= tanh_derivative(x) <= 1.0 + 2.0**-52
    assert 0.0 <= sigmoid_derivative(x) <= 0.25 + 2.0**-54
    assert softplus(x) >= max(x, 0.0)


@given(x=st.floats(-700.0, 700.0))
def test_the_two_sides_of_the_sigmoid_add_up_to_one(x):
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1.0, rel=4e-16, abs=0)


@pytest.mark.parametrize("function", [sigmoid, softplus, tanh])
@given(x=FINITE)
def test_the_next_number_never_gives_less_than_two_roundings_allow(function, x):
    here, there = function(x), function(math.nextafter(x, inf))
    assert there >= here - 4.0 * math.ulp(here)


@given(
    y=st.integers(-40, 40).map(float) | st.sampled_from([0.5, -0.5, 1.5]),
    x=st.floats(1e-3, 1e3),
)
def test_the_derivative_of_a_plain_power_is_the_textbook_s_to_the_bit(x, y):
    # y - 1 is exact here and nothing leaves float64, so the formula of every textbook serves as it is.
    assert power_base_derivative(x, y) == y * power(x, y - 1.0)
    assert power_exponent_derivative(x, y, power(x, y)) == power(x, y) * log(x)


@given(x=st.floats(1e-300, 1e300), y=st.floats(-2.0, 2.0))
def test_the_derivative_of_a_power_with_a_rounded_exponent(x, y):
    true = mp.mpf(y) * mp.exp((mp.mpf(y) - 1) * mp.log(mp.mpf(x))) if y else mp.mpf(0)
    assert ulps(power_base_derivative(x, y), true) <= 3.0


@given(y=st.integers(2**52, 2**56).map(float), nearness=st.integers(1, 300))
def test_the_sign_of_the_derivative_for_exponents_too_large_to_be_odd(y, nearness):
    x = -1.0 + nearness * 2.0**-53
    odd_before = int(y) % 2 == 0
    derivative = power_base_derivative(x, y)
    assert derivative == 0.0 or (derivative < 0.0) == odd_before
