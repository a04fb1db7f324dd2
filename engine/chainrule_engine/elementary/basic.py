"""What the elementary functions are made of: scaling by powers of two, quotients in head and tail, and division.

The first three functions have another form in machine code, on the bits of the number (`chainrule_engine.compiled`),
with the same results.
"""

from __future__ import annotations

import math

INF = math.inf
NAN = math.nan

#: Added and subtracted again, it rounds a number below 2**51 to the nearest integer.
ROUND = 1.5 * 2.0**52
#: Multiplied by it, a number can be cut into two parts of 26 bits.
SPLIT = 2.0**27 + 1.0

_POWERS_OF_TWO = {float(k): math.ldexp(1.0, k) for k in range(-1022, 1024)}


def power_of_two(k: float) -> float:
    """2**k for an integral k from -1022 to 1023; elsewhere undefined."""
    return _POWERS_OF_TWO[k]


def split(x: float) -> tuple[float, float]:
    """(m, e) with x = m·2**e and 0.5 <= m < 1, for a positive finite x, subnormal too; elsewhere undefined."""
    m, e = math.frexp(x)
    return m, e + 0.0


def divide(x: float, y: float) -> float:
    """x / y, with a signed infinity for a division by zero and NaN for 0/0."""
    if y == 0.0:
        if x == 0.0 or x != x:
            return NAN
        return math.copysign(INF, x) * math.copysign(1.0, y)
    return x / y


def scaled(x: float, k: float) -> float:
    """x·2**k, rounded once, for 2**-60 < |x| < 2**60 and an integral |k| <= 1080."""
    half = (0.5 * k + ROUND) - ROUND
    return (x * power_of_two(half)) * power_of_two(k - half)


def quotient(a: float, a_tail: float, b: float, b_tail: float) -> tuple[float, float]:
    """Head and tail of (a + a_tail) / (b + b_tail), for 1 <= b <= 2**100."""
    inverse = 1.0 / b
    q = a * inverse
    t = SPLIT * q
    head = t - (t - q)
    t = SPLIT * b
    upper = t - (t - b)
    rest = ((a - head * upper) - head * (b - upper)) + (a_tail - head * b_tail)
    return head, rest * inverse


def sqrt(x: float) -> float:
    """The square root, correctly rounded; NaN below zero, -0.0 at -0.0."""
    return math.sqrt(x) if x >= 0.0 else (x if x == 0.0 else NAN)
