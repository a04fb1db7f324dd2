"""Second partial derivatives that take more than a formula to be right, or a number at all, everywhere in float64.

Total, like the functions of `elementary`, whose conventions they continue; each receives the arguments of its operation
and then the result, as the table of operations wants it.
"""

from __future__ import annotations

import math

from chainrule_engine.elementary import (
    INF,
    NAN,
    divide,
    divide_derivative,
    log,
    power,
    power_exponent_derivative,
    sigmoid_derivative,
    tanh,
    tanh_derivative,
)

# Below this the numbers are subnormal, and keep fewer digits the smaller they are.
_SMALLEST_NORMAL = 2.0**-1022


def divide_mixed(x: float, y: float, z: float) -> float:
    """-1/y², of z = x/y in both arguments."""
    return divide(divide(-1.0, y), y)


def divide_second(x: float, y: float, z: float) -> float:
    """2x/y³, of z = x/y in y twice."""
    if 0.0 < abs(z) < _SMALLEST_NORMAL:
        # As in `divide_derivative`: the quotient has lost digits that a small y would show.
        return divide(2.0 * x, y * y * y)
    return -2.0 * divide(divide_derivative(x, y, z), y)


def log_second(x: float, z: float) -> float:
    """-1/x², of z = log(x)."""
    return divide(divide(-1.0, x), x)


def sqrt_second(x: float, z: float) -> float:
    """-¼·x^(-3/2), of z = sqrt(x); not by x·z, which is subnormal before the quotient overflows."""
    return divide(divide(-0.25, x), z)


def tanh_second(x: float, z: float) -> float:
    """-2·tanh·tanh′, of z = tanh(x)."""
    return -2.0 * z * tanh_derivative(x)


def sigmoid_second(x: float, z: float) -> float:
    """σ′·(1 - 2σ), of z = σ(x); 1 - 2σ is -tanh(x/2), which cancels nowhere."""
    return -tanh(0.5 * x) * sigmoid_derivative(x)


def power_base_second(x: float, y: float, z: float) -> float:
    """y·(y-1)·x^(y-2), of z = x^y in x twice; 0 where y is 0 or 1, whatever x is."""
    if y == 0.0 or y == 1.0:
        return 0.0
    if y == 2.0:
        return 2.0
    # A power that is no number has no derivative, though y - 2 may be rounded to a whole exponent.
    return z if z != z else _times_power(y, y - 1.0, x, y, 2.0)


def power_mixed(x: float, y: float, z: float) -> float:
    """x^(y-1)·(1 + y·log x), of z = x^y in both arguments; 0 where x is 0 and y is not negative, NaN where x is."""
    if x == 0.0 and y >= 0.0:
        return 0.0
    if x < 0.0:
        return NAN
    return _times_power(1.0, 1.0 + y * log(x), x, y, 1.0)


def power_exponent_second(x: float, y: float, z: float) -> float:
    """z·log²x, of z = x^y in y twice; 0 where x is 0 and y is not negative, NaN where x is."""
    if x == 0.0 and y >= 0.0:
        return 0.0
    logarithm = log(x)
    if _SMALLEST_NORMAL <= z < INF or not 0.0 < x < INF:
        return power_exponent_derivative(x, y, z) * logarithm
    # By the square root of a power that is too large or too small for float64, where the product need not be.
    root = power(x, 0.5 * y)
    return (root * logarithm) * (root * logarithm)


def _times_power(a: float, b: float, x: float, y: float, shift: float) -> float:
    """a·b·x^(y - shift), with what the rounding of y - shift takes away put back."""
    exponent = y - shift
    p = power(x, exponent)
    if p != p or x == 0.0 or abs(x) == INF or abs(y) == INF:
        return a * (b * p)
    # The error of the difference, exactly: 0 for most exponents that people write.
    taken = exponent - y
    lost = (y - (exponent - taken)) - (shift + taken)
    # The logarithm magnifies it, up to 745 times; where it does so further, the power is 0 or infinite anyway.
    kept = 1.0 + max(-0.5, lost * log(abs(x))) if lost != 0.0 else 1.0
    if _SMALLEST_NORMAL <= abs(p) < INF:
        return a * (b * (p * kept))
    root = power(abs(x), 0.5 * exponent)
    if root == 0.0:
        # So small that nothing makes up for it; but b may be infinite.
        return a * math.copysign(1.0, b) * p
    return math.copysign(1.0, p) * ((a * root) * (b * root) * kept)
