"""Elementary functions on float64 that are total: an infinity or a NaN where Python's `math` would raise.

The results are those of IEEE 754 (and of C's Annex F): `log(0.0)` is -inf, `log(-1.0)` is NaN, `exp(1000.0)` is inf,
`divide(1.0, 0.0)` is inf. Everything else is the C library's scalar function, as `math` gives it, so this module is the
one place where the bits of an elementary function are decided.
"""

from __future__ import annotations

import math

INF = math.inf
NAN = math.nan

# Below this the numbers are subnormal, and keep fewer digits the smaller they are.
_SMALLEST_NORMAL = 2.0**-1022


def _is_full(x: float) -> bool:
    """Whether x carries all 53 bits: neither subnormal, nor zero, nor infinite, nor NaN."""
    return _SMALLEST_NORMAL <= abs(x) < INF


def divide(x: float, y: float) -> float:
    """x / y, with a signed infinity for a division by zero and NaN for 0/0."""
    if y == 0.0:
        if x == 0.0 or x != x:
            return NAN
        return math.copysign(INF, x) * math.copysign(1.0, y)
    return x / y


def divide_derivative(x: float, y: float, z: float) -> float:
    """-x/y², the derivative of z = x/y in y."""
    if z == 0.0 or abs(z) >= _SMALLEST_NORMAL or z != z:
        return divide(-z, y)
    # A subnormal quotient has lost digits, and dividing it by a small y would show that. Here y exceeds 2**-53, so
    # that its square loses none; where the square overflows, the result is far below the smallest number.
    return -x / (y * y)


def exp(x: float) -> float:
    """e to the power of x; inf above 709.78."""
    # The largest float64 whose exponential is finite; math.exp raises above it.
    if x > 709.782712893384:
        return INF
    return math.exp(x)


def log(x: float) -> float:
    """The natural logarithm; -inf at ±0, NaN below."""
    if x > 0.0:
        return math.log(x)
    return -INF if x == 0.0 else NAN


def sqrt(x: float) -> float:
    """The square root, correctly rounded; NaN below zero, -0.0 at -0.0."""
    if x < 0.0:
        return NAN
    return math.sqrt(x)


def sin(x: float) -> float:
    """The sine of x radians; NaN at ±inf."""
    return NAN if math.isinf(x) else math.sin(x)


def cos(x: float) -> float:
    """The cosine of x radians; NaN at ±inf."""
    return NAN if math.isinf(x) else math.cos(x)


def tanh(x: float) -> float:
    """The hyperbolic tangent; ±1 at ±inf."""
    return math.tanh(x)


def tanh_derivative(x: float) -> float:
    """1 - tanh(x)², as 4e / (1 + e)² with e = exp(-2|x|): no cancellation, so right to the last bits at 20 too."""
    e = math.exp(-2.0 * abs(x))
    d = 1.0 + e
    return 4.0 * e / (d * d)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), from the exponential that cannot overflow."""
    if x < 0.0:
        e = math.exp(x)
        return e / (1.0 + e)
    return 1.0 / (1.0 + math.exp(-x))


def sigmoid_derivative(x: float) -> float:
    """sigmoid(x)·sigmoid(-x), as e / (1 + e)² with e = exp(-|x|): no cancellation on either side."""
    e = math.exp(-abs(x))
    d = 1.0 + e
    return e / (d * d)


def softplus(x: float) -> float:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|)): neither overflows nor cancels."""
    if x > 0.0:
        return x + math.log1p(math.exp(-x))
    return math.log1p(math.exp(x))


def power(x: float, y: float) -> float:
    """x to the power of y. NaN for a negative base with a fractional exponent, never a complex number.

    `power(x, 2.0)` is x·x, correctly rounded, which a C library's pow need not be.
    """
    if y == 2.0:
        return x * x
    if x == 0.0 and y < 0.0:
        # IEEE 754 pow: the sign of the zero survives an odd exponent only.
        return math.copysign(INF, x) if _is_odd(y) else INF
    try:
        return math.pow(x, y)
    except ValueError:
        return NAN
    except OverflowError:
        return -INF if x < 0.0 and _is_odd(y) else INF


def power_base_derivative(x: float, y: float) -> float:
    """y·x^(y-1), the derivative of x^y in x; 0 where y is 0."""
    if y == 2.0:
        return x + x
    if y == 0.0:
        return 0.0
    exponent = y - 1.0
    p = power(x, exponent)
    # What the rounding of y - 1 took away, exactly: 0 for most exponents that people write.
    taken = exponent - y
    lost = (y - (exponent - taken)) - (1.0 + taken)
    if (lost == 0.0 and _is_full(p)) or p != p or x == 0.0 or math.isinf(x) or math.isinf(y):
        return y * p
    missing = 0.0
    if lost != 0.0:
        # The logarithm magnifies it, up to 745 times; where it does so further, the power is 0 or infinite anyway.
        missing = max(-0.5, lost * math.log(abs(x)))
        if x < 0.0:
            # So large an exponent is even, and y - 1 odd, though it cannot be told from y.
            p = -p
    if _is_full(p):
        return y * (p + p * missing)
    # The power is too large or too small for float64, and the product need not be: go by its square root.
    root = power(abs(x), 0.5 * exponent)
    return math.copysign(1.0, p) * ((y * root) * root * (1.0 + missing))


def power_exponent_derivative(x: float, y: float, z: float) -> float:
    """z·log(x), the derivative of z = x^y in y; 0 where x is 0 and y is not negative, NaN where x is negative."""
    if x == 0.0 and y >= 0.0:
        return 0.0
    if _is_full(z) or not 0.0 < x < INF:
        return z * log(x)
    # As above: by the square root of a power that is too large or too small.
    root = power(x, 0.5 * y)
    return (root * math.log(x)) * root


def _is_odd(y: float) -> bool:
    return math.isfinite(y) and math.fmod(y, 2.0) in (-1.0, 1.0)
