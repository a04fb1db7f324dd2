"""sin and cos, of every float64."""

from __future__ import annotations

from chainrule_engine.elementary.basic import INF, NAN, ROUND, SPLIT, power_of_two, split

_TWO_OVER_PI = 0.6366197723675814
# π/2 in three parts of 33 bits and a rest: the product of a part with an integer below 2**20 is exact.
_HALF_PI_1 = 1.5707963267341256
_HALF_PI_2 = 6.077100506303966e-11
_HALF_PI_3 = 2.0222662487111665e-21
_HALF_PI_4 = 8.4784276603689e-32
# π/2 as head and tail, and the head's upper and lower half.
_HALF_PI = 1.5707963267948966
_HALF_PI_TAIL = 6.123233995736766e-17
_HALF_PI_UPPER = 1.5707963109016418
_HALF_PI_LOWER = _HALF_PI - _HALF_PI_UPPER
# Above this the product of x with those parts is no longer exact.
MODERATE_ANGLE = 2.0**20

# 2/π after the point, in digits of 24 bits; four zeros stand for the digits before the point.
_TWO_OVER_PI_DIGITS = (
    0, 0, 0, 0,
    10680707, 7228996, 1387004, 2578385, 16069853, 12639074, 9804092, 4427841, 16666979, 11263675, 12935607,
    2387514, 4345298, 14681673, 3074569, 13734428, 16653803, 1880361, 10960616, 8533493, 3062596, 8710556, 7349940,
    6258241, 3772886, 3769171, 3798172, 8675211, 12450088, 3874808, 9961438, 366607, 15675153, 9132554, 7151469,
    3571407, 2607881, 12013382, 4155038, 6285869, 7677882, 13102053, 15825725, 473591, 9065106, 15363067, 6271263,
    9264392, 5636912,
)  # fmt: skip


def _sine_kernel(y: float, tail: float) -> float:
    """The sine of y + tail, for |y| <= π/4."""
    z = y * y
    p = -0.16666666666666632 + z * (
        (0.00833333333332249 + z * -0.0001984126982985795)
        + (z * z) * (2.7557313707070068e-06 + z * (-2.5050760253406863e-08 + z * 1.58969099521155e-10))
    )
    return y + ((y * z) * p + (tail - (0.5 * z) * tail))


def _cosine_kernel(y: float, tail: float) -> float:
    """The cosine of y + tail, for |y| <= π/4."""
    z = y * y
    p = (0.0416666666666666 + z * -0.001388888888887411) + (z * z) * (
        (2.480158728947673e-05 + z * -2.7557314351390663e-07)
        + (z * z) * (2.087572321298175e-09 + z * -1.1359647557788195e-11)
    )
    w = 0.5 * z
    h = 1.0 - w
    return h + (((1.0 - h) - w) + ((z * z) * p - y * tail))


def _reduced_angle(x: float) -> tuple[float, float, float]:
    """(quarter, y, tail): x = (4·quarter + integer·4)·π/2 + y + tail, |quarter| <= 0.5; for |x| <= MODERATE_ANGLE."""
    n = (x * _TWO_OVER_PI + ROUND) - ROUND
    a = x - n * _HALF_PI_1
    w = n * _HALF_PI_2
    b = a - w
    v = b - a
    lost = (a - (b - v)) - (w + v)
    w = n * _HALF_PI_3
    c = b - w
    v = c - b
    lost += ((b - (c - v)) - (w + v)) - n * _HALF_PI_4
    y = c + lost
    quarter = 0.25 * n
    return quarter - ((quarter + ROUND) - ROUND), y, lost - (y - c)


def _digit(i: int) -> int:
    return _TWO_OVER_PI_DIGITS[i]


def _reduced_huge_angle(x: float) -> tuple[float, float, float]:
    """As `_reduced_angle`, for any finite x from 1 on: in exact integers, from the digits of 2/π that matter."""
    m, e = split(x)
    exponent = int(e)
    place = exponent // 24
    # x = (x0 + x1/2**24 + x2/2**48 + x3/2**72)·2**(24·place), each digit below 2**24.
    m *= power_of_two(e - 24.0 * place)
    x0 = int(m)
    m = (m - x0) * 16777216.0
    x1 = int(m)
    m = (m - x1) * 16777216.0
    x2 = int(m)
    x3 = int((m - x2) * 16777216.0)
    # The digits of x·2/π at 2**0, 2**-24, ..., 2**-168. All above are multiples of four: whole turns.
    c0 = _digit(place)
    c1 = _digit(place + 1)
    c2 = _digit(place + 2)
    c3 = _digit(place + 3)
    c4 = _digit(place + 4)
    c5 = _digit(place + 5)
    c6 = _digit(place + 6)
    c7 = _digit(place + 7)
    c8 = _digit(place + 8)
    c9 = _digit(place + 9)
    c10 = _digit(place + 10)
    # Each column is below 2**50.
    d7 = x0 * c10 + x1 * c9 + x2 * c8 + x3 * c7
    d6 = x0 * c9 + x1 * c8 + x2 * c7 + x3 * c6 + (d7 >> 24)
    d5 = x0 * c8 + x1 * c7 + x2 * c6 + x3 * c5 + (d6 >> 24)
    d4 = x0 * c7 + x1 * c6 + x2 * c5 + x3 * c4 + (d5 >> 24)
    d3 = x0 * c6 + x1 * c5 + x2 * c4 + x3 * c3 + (d4 >> 24)
    d2 = x0 * c5 + x1 * c4 + x2 * c3 + x3 * c2 + (d3 >> 24)
    d1 = x0 * c4 + x1 * c3 + x2 * c2 + x3 * c1 + (d2 >> 24)
    d0 = x0 * c3 + x1 * c2 + x2 * c1 + x3 * c0 + (d1 >> 24)
    first = d1 & 0xFFFFFF
    if first >= 0x800000:  # to the nearest quarter turn: the fraction becomes negative
        first -= 0x1000000
        d0 += 1
    quarter = 0.25 * (d0 & 3)
    high = (first * 16777216.0 + (d2 & 0xFFFFFF)) * 2.0**-48
    middle = ((d3 & 0xFFFFFF) * 16777216.0 + (d4 & 0xFFFFFF)) * 2.0**-96
    low = ((d5 & 0xFFFFFF) * 16777216.0 + (d6 & 0xFFFFFF)) * 2.0**-144 + (d7 & 0xFFFFFF) * 2.0**-168
    s = high + middle
    rest = (middle - (s - high)) + low
    f = s + rest
    rest = rest - (f - s)
    # The fraction times π/2.
    t = SPLIT * f
    upper = t - (t - f)
    lower = f - upper
    p = f * _HALF_PI
    lost = (((upper * _HALF_PI_UPPER - p) + upper * _HALF_PI_LOWER) + lower * _HALF_PI_UPPER) + lower * _HALF_PI_LOWER
    lost += f * _HALF_PI_TAIL + rest * _HALF_PI
    y = p + lost
    return (quarter - 1.0 if quarter > 0.5 else quarter), y, lost - (y - p)


def _sine_at(quarter: float, y: float, tail: float) -> float:
    value = _cosine_kernel(y, tail) if abs(quarter) == 0.25 else _sine_kernel(y, tail)
    return -value if quarter == -0.25 or abs(quarter) == 0.5 else value


def _cosine_at(quarter: float, y: float, tail: float) -> float:
    value = _sine_kernel(y, tail) if abs(quarter) == 0.25 else _cosine_kernel(y, tail)
    return -value if quarter == 0.25 or abs(quarter) == 0.5 else value


def sin_moderate(x: float) -> float:
    """The sine of x for |x| <= MODERATE_ANGLE, where it equals `sin`; without the branch that keeps a loop scalar."""
    quarter, y, tail = _reduced_angle(x)
    return x if x == 0.0 else _sine_at(quarter, y, tail)


def cos_moderate(x: float) -> float:
    """The cosine of x for |x| <= MODERATE_ANGLE, where it equals `cos`; as `sin_moderate`."""
    quarter, y, tail = _reduced_angle(x)
    return _cosine_at(quarter, y, tail)


def sin(x: float) -> float:
    """The sine of x radians, of every float64; NaN at ±inf."""
    a = abs(x)
    if a <= MODERATE_ANGLE:
        return sin_moderate(x)
    if not a < INF:
        return NAN
    quarter, y, tail = _reduced_huge_angle(a)
    value = _sine_at(quarter, y, tail)
    return -value if x < 0.0 else value


def cos(x: float) -> float:
    """The cosine of x radians, of every float64; NaN at ±inf."""
    a = abs(x)
    if a <= MODERATE_ANGLE:
        return cos_moderate(x)
    if not a < INF:
        return NAN
    quarter, y, tail = _reduced_huge_angle(a)
    return _cosine_at(quarter, y, tail)
