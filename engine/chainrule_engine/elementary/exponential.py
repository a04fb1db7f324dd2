"""exp, log, tanh, the logistic function and softplus."""

from __future__ import annotations

import math

from chainrule_engine.elementary.basic import INF, NAN, ROUND, power_of_two, quotient, scaled, split

_LOG2_E = 1.4426950408889634
# ln 2, cut after 42 bits, so that its product with the exponent of a float64 is exact; and the rest.
LN2_HIGH = 0.6931471805598903
LN2_LOW = 5.497923018708371e-14


def exp_parts(x: float, tail: float) -> tuple[float, float, float, float]:
    """(k, r, w, c) with exp(x + tail) = (1 + r + w + c)·2**k, for |x| <= 746: r is exact, w = r²/2, c < 0.008."""
    k = (x * _LOG2_E + ROUND) - ROUND
    r = x - k * LN2_HIGH
    z = r * r
    w = 0.5 * z
    # (e^r - 1 - r - r²/2) / r³ for |r| < 0.3466: e^r - 1 within 2**-61.7 of itself.
    q = (0.16666666666666677 + r * 0.04166666666666669) + z * (
        ((0.008333333333321704 + r * 0.0013888888888870243) + z * (0.0001984126988596437 + r * 2.4801587355910418e-05))
        + (z * z)
        * (
            (2.755724436012679e-06 + r * 2.755724575028054e-07)
            + z * (2.5108986996394326e-08 + r * 2.0923707543913506e-09)
        )
    )
    c = (r * z) * q
    c = c - (k * LN2_LOW - tail) * ((1.0 + r) + (w + c))
    return k, r, w, c


def exp(x: float) -> float:
    """E to the power of x."""
    a = x if x < 710.0 else 710.0
    k, r, w, c = exp_parts(a if a > -746.0 else -746.0, 0.0)
    s = 1.0 + r
    u = s + w
    value = scaled(u + ((r - (s - 1.0)) + ((w - (u - s)) + c)), k)
    return value if x == x else x


def log_head_tail(f: float, k: float, c: float) -> tuple[float, float]:
    """(h, t) with h + t = log((1 + f)·2**k) + c, for -0.293 <= f <= 0.415 and a small c."""
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    # (log((1 + s)/(1 - s)) - 2s) / s for |s| < 0.1716, within 2**-58.4.
    p = z * (
        (0.6666666666666734 + z * 0.3999999999941434)
        + w
        * (
            (0.28571428742472477 + z * 0.22222198563643672)
            + w * ((0.1818356486176062 + z * 0.1531403589841261) + w * 0.14796105287419947)
        )
    )
    q = 0.5 * f * f
    a = k * LN2_HIGH
    h = a + f
    return h, (f - (h - a)) + ((s * (q + p) + (k * LN2_LOW + c)) - q)


def log(x: float) -> float:
    """The natural logarithm; -inf at ±0, NaN below."""
    usable = 0.0 < x < INF
    m, k = split(x if usable else 1.0)
    below = m < 0.7071067811865476
    h, t = log_head_tail((m + m if below else m) - 1.0, k - 1.0 if below else k, 0.0)
    if usable:
        return h + t
    return -INF if x == 0.0 else (x if x > 0.0 else NAN)


def _tanh_parts(a: float) -> tuple[float, float, float, float, float]:
    """(n, n_tail, d, d_tail, k): n = exp(2a)·2**k - 1 and d = n + 2 in head and tail, for 0 <= a <= 374.

    k = 0 while exp(2a) < 2**63; from there on k keeps it below 2**65, and the 1 and the 2 no longer count.
    """
    k, r, w, c = exp_parts(2.0 * a, 0.0)
    usable = k if k < 64.0 else 64.0
    p = power_of_two(usable)
    one = p - 1.0
    lost = (p - one) - 1.0
    r *= p
    w *= p
    s = one + r
    u = s + w
    v = (r - (s - one)) + ((w - (u - s)) + (p * c + lost))
    n = u + v
    n_tail = v - (n - u)
    d = 2.0 + n
    e = d - n
    return n, n_tail, d, ((n - (d - e)) + (2.0 - e)) + n_tail, usable - k


def tanh(x: float) -> float:
    """The hyperbolic tangent, as n / (n + 2) with n = exp(2|x|) - 1 in head and tail."""
    a = abs(x)
    n, n_tail, d, d_tail, _ = _tanh_parts(a if a < 374.0 else 374.0)
    head, tail = quotient(n, n_tail, d, d_tail)
    # Below 2**-28, x - x³/3 rounds to x; and NaN.
    return math.copysign(head + tail, x) if a >= 3.725290298461914e-09 else x


def tanh_derivative(x: float) -> float:
    """1 - tanh(x)², as y + (y - y²) with y = 1 - tanh|x| in head and tail: no cancellation, right at 20 too."""
    a = abs(x)
    n, n_tail, d, d_tail, k = _tanh_parts(a if a < 374.0 else 374.0)
    head, tail = quotient(n, n_tail, d, d_tail)
    # The head has 26 bits, so that 1 - head is exact; where it is 0, the tail is -2 / (n + 2).
    y = (1.0 - head) - tail
    value = (y + (y - y * y)) * power_of_two(k)
    return value if x == x else x


def _logistic_parts(a: float) -> tuple[float, float, float, float, float]:
    """(h, t, k, d, d_tail): exp(-a) = (h + t)·2**k and 1 + exp(-a) = d + d_tail, for 0 <= a <= 746."""
    k, r, w, c = exp_parts(-a, 0.0)
    s = 1.0 + r
    u = s + w
    v = (r - (s - 1.0)) + ((w - (u - s)) + c)
    h = u + v
    t = v - (h - u)
    p = power_of_two(k if k > -1000.0 else -1000.0)
    e = p * h
    d = 1.0 + e
    return h, t, k, d, (e - (d - 1.0)) + p * t


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), from the exponential that cannot overflow."""
    a = abs(x)
    h, t, k, d, d_tail = _logistic_parts(a if a < 746.0 else 746.0)
    above = x >= 0.0
    head, tail = quotient(1.0 if above else h, 0.0 if above else t, d, d_tail)
    value = scaled(head + tail, 0.0 if above else k)
    return value if x == x else x


def sigmoid_derivative(x: float) -> float:
    """sigmoid(x)·sigmoid(-x), as e / (1 + e)² with e = exp(-|x|): no cancellation on either side."""
    a = abs(x)
    h, t, k, d, d_tail = _logistic_parts(a if a < 746.0 else 746.0)
    head, tail = quotient(h, t, d, d_tail)
    a = head + tail
    head, tail = quotient(a, tail - (a - head), d, d_tail)
    value = scaled(head + tail, k)
    return value if x == x else x


def softplus(x: float) -> float:
    """log(1 + exp(x)), as max(x, 0) + log(1 + exp(-|x|)): neither overflows nor cancels."""
    a = abs(x)
    h, t, k, u, lost = _logistic_parts(a if a < 746.0 else 746.0)
    # e - e²/2, where e³ is below the last bit: e = exp(x) may be subnormal, and lost in 1 + e.
    small = scaled(h + (t - (0.5 * h) * ((u - 1.0) + lost)), k)
    above = u > 1.4142135623730951
    lost = lost / u
    h, t = log_head_tail((0.5 * u if above else u) - 1.0, 1.0 if above else 0.0, lost - 0.5 * (lost * lost))
    a = x if x > 0.0 else 0.0
    s = a + h
    b = s - a
    value = s + (((a - (s - b)) + (h - b)) + t)
    if x < -20.0:
        value = small
    return value if x <= 746.0 else x
