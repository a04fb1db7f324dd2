"""Powers, and the derivatives of powers and quotients in every argument."""

from __future__ import annotations

import math

from chainrule_engine.elementary.basic import INF, NAN, SPLIT, divide, quotient, scaled, split
from chainrule_engine.elementary.exponential import LN2_HIGH, LN2_LOW, exp_parts, log

# ln 1.5, cut at the same bit, 2**-42; and the rest.
_LN1_5_HIGH = 0.4054651081080465
_LN1_5_LOW = 1.1790280407716567e-13
# 2/3, cut after 26 bits; and the rest.
_TWO_THIRDS_HIGH = 0.6666666567325592
_TWO_THIRDS_LOW = 9.934107462565104e-09

# Below this the numbers are subnormal, and keep fewer digits the smaller they are.
_SMALLEST_NORMAL = 2.0**-1022


def _is_whole(a: float) -> bool:
    """Whether a >= 0 has no fraction."""
    return a >= 4503599627370496.0 or (a + 4503599627370496.0) - 4503599627370496.0 == a  # 2**52


def _power_of_positive(x: float, y: float) -> float:
    """X to the power of y for a positive finite x and any y but NaN: exp(y·log(x)), both in head and tail."""
    # No float64 but 1 is so near 1 that its 2**64th power would be finite and not 0.
    y = y if y < 18446744073709551616.0 else 18446744073709551616.0
    y = y if y > -18446744073709551616.0 else -18446744073709551616.0
    # x = m·2**k with m near a base of 1 or 1.5: within a factor of sqrt(1.5).
    m, k = split(x)
    below = m < 0.8660254037844386  # sqrt(3)/2
    middle = below and m >= 0.6123724356957945  # sqrt(1.5)/2
    m = m + m if below else m
    k = k - 1.0 if below else k
    base = 1.5 if middle else 1.0
    # s = (m - base) / (m + base) in two parts, the first of 26 bits; log(m / base) = 2/3·s·(3 + s² + 3/5·s⁴ + ...).
    f = m - base
    d = m + base
    e = d - base
    s, s_tail = quotient(f, 0.0, d, (m - e) + (base - (d - e)))
    ss = s * s
    z_tail = s_tail * (s + s + s_tail)
    z = ss + z_tail
    w = z * z
    # (3·atanh(s)/s - 3 - s²) / s⁴ for |s| < 0.1011, within 2**-69.7.
    p = (0.5999999999999946 + z * 0.4285714285784843) + w * (
        (0.3333333298434972 + z * 0.27272811935592983) + w * (0.230661118110274 + z * 0.20696314455485462)
    )
    p = z_tail + w * p
    t = 3.0 + ss
    t_tail = (ss - (t - 3.0)) + p
    v = SPLIT * (t + t_tail)
    upper = v - (v - (t + t_tail))
    t_tail = (t - upper) + t_tail
    # Their product, cut again, times 2/3.
    a = s * upper
    a_tail = s_tail * upper + (s + s_tail) * t_tail
    b = a + a_tail
    v = SPLIT * b
    upper = v - (v - b)
    a_tail = (a - upper) + a_tail
    b = _TWO_THIRDS_HIGH * upper
    b_tail = _TWO_THIRDS_HIGH * a_tail + _TWO_THIRDS_LOW * (upper + a_tail)
    # log(x), the first part of 26 bits.
    a = k * LN2_HIGH + (_LN1_5_HIGH if middle else 0.0)
    h = a + b
    h_tail = (b - (h - a)) + (b_tail + (k * LN2_LOW + (_LN1_5_LOW if middle else 0.0)))
    a = h + h_tail
    v = SPLIT * a
    upper = v - (v - a)
    h_tail = (h - upper) + h_tail
    # Times y.
    v = SPLIT * y
    y_upper = v - (v - y)
    a = y_upper * upper
    b = (y - y_upper) * upper + y * h_tail
    p = a + b
    tail = b - (p - a)
    inside = -746.0 < p < 710.0
    k, r, w, c = exp_parts(p if inside else (710.0 if p > 0.0 else -746.0), tail if inside else 0.0)
    s = 1.0 + r
    u = s + w
    return scaled(u + ((r - (s - 1.0)) + ((w - (u - s)) + c)), k)


def power(x: float, y: float) -> float:
    """X to the power of y, with the special cases of IEEE 754: 1 for a zero exponent and for a base of 1, even of NaN.

    NaN for a negative base with a fractional exponent, never a complex number. Exact where float64 holds the result.
    """
    return x * x if y == 2.0 else power_general(x, y)


def power_general(x: float, y: float) -> float:
    """`power` for every exponent but 2, where the product is right to the last bit; without a branch."""
    a = abs(x)
    b = abs(y)
    ordinary = 0.0 < a < INF
    value = _power_of_positive(a if ordinary else 1.0, y)
    if not ordinary:
        value = INF if (a == INF) == (y > 0.0) else 0.0
    if math.copysign(1.0, x) < 0.0:
        if not _is_whole(b):
            value = NAN if ordinary else value
        elif not _is_whole(0.5 * b):
            value = -value
    if x != x or y != y:
        value = NAN
    return 1.0 if x == 1.0 or y == 0.0 else value


def _is_full(x: float) -> bool:
    """Whether x carries all 53 bits: neither subnormal, nor zero, nor infinite, nor NaN."""
    return _SMALLEST_NORMAL <= abs(x) < INF


def divide_derivative(x: float, y: float, z: float) -> float:
    """-x/y², the derivative of z = x/y in y."""
    if z == 0.0 or abs(z) >= _SMALLEST_NORMAL or z != z:
        return divide(-z, y)
    # A subnormal quotient has lost digits, and dividing it by a small y would show that. Here y exceeds 2**-53, so
    # that its square loses none; where the square overflows, the result is far below the smallest number.
    return divide(-x, y * y)


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
        missing = lost * log(abs(x))
        missing = missing if missing > -0.5 else -0.5
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
    return (root * log(x)) * root
