"""What an operation should give, by mpmath at 50 digits, and how far from it a float64 is.

One entry of ORACLES per operation of the engine's table: its true value, its true partial derivatives, and where to
look. The accuracy document and its test, and the tests of the operations, all measure with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

from chainrule_engine.operations import OPERATIONS

#: Fifty digits to keep, and some to lose: a power's error grows by the size of its exponent.
mp.dps = 60

Point = tuple[float, ...]
#: A number of mpmath, which has no types of its own.
Real = Any

TINY = math.ulp(0.0)
LARGEST = math.nextafter(math.inf, 0.0)
#: Beyond this an exponential is far outside float64, whatever it is multiplied by: mpmath need not work it out.
_SATURATED = 5000


def ulps(computed: float, true: Real) -> float:
    """How far `computed` is from `true`, in units in the last place of float64 at `true`.

    An infinity stands for 2**1024, the first number that rounds to it; beyond the largest float64 it is no error at
    all. Below the smallest normal number the unit is that of the subnormals. NaN is infinitely wrong.
    """
    if math.isnan(computed):
        return math.inf
    # The unit of the binade of the true number: 2**(magnitude - 53), where 2**(magnitude - 1) ≤ |true| < 2**magnitude.
    magnitude = int(mp.mag(true)) if true else -1074
    unit = mp.ldexp(1, min(max(magnitude - 53, -1074), 971))
    limit = mp.ldexp(1, 1024)
    seen = mp.mpf(computed) if math.isfinite(computed) else math.copysign(1.0, computed) * limit
    aim = max(-limit, min(limit, true))
    return float(abs(seen - aim) / unit)


def _exp(x: Real) -> Real:
    return mp.exp(max(-_SATURATED, min(_SATURATED, x)))


def _power(x: Real, y: Real) -> Real:
    if x == 0:
        return mp.mpf(1) if y == 0 else mp.mpf(0)
    sign = -1 if x < 0 and y % 2 else 1
    return sign * _exp(y * mp.log(abs(x)))


def _sigmoid(x: Real) -> Real:
    return 1 / (1 + _exp(-x))


def _sigmoid_partial(x: Real) -> Real:
    e = _exp(-abs(x))
    return e / (1 + e) ** 2


def _zero(*_: Real) -> Real:
    return mp.mpf(0)


def _one(*_: Real) -> Real:
    return mp.mpf(1)


# ------------------------------------------------------------------------------------------------------ where to look

#: Places where a formula changes: of ours, of a C library's, or of mathematics.
_LANDMARKS = (
    *(1.0, 0.5, 2.0, 3.0, 10.0, 0.34657359027997264, 0.6931471805599453, 0.55, 0.625, 1.0397207708399179),
    *(18.0, 20.0, 22.0, 36.7, 37.0, 40.0, 354.0, 372.5, 708.3964185322641, 709.782712893384, 745.1332191019411),
    *(k * math.pi / 4 for k in (1, 2, 3, 4, 6, 8, 355, 710, 2**20, 10**15)),
    *(1e-300, 1e-154, 1e-20, 1e-16, 1e-9, 1e-8, 1e8, 1e15, 1e16, 1e154, 1e300, 2.0**53, 2.0**-1022, TINY, LARGEST),
)


def _signed_power_of_ten(rng: random.Random, low: float, high: float) -> float:
    return float(rng.choice((-1.0, 1.0)) * 10.0 ** rng.uniform(low, high))


def any_number(rng: random.Random) -> float:
    """A finite number: of everyday size, of any size from 1e-300 to 1e300, near a landmark, or subnormal."""
    kind = rng.random()
    if kind < 0.4:
        return rng.gauss(0.0, 2.0) * rng.choice((0.1, 1.0, 1.0, 10.0, 100.0))
    if kind < 0.7:
        return _signed_power_of_ten(rng, -300.0, 300.0)
    if kind < 0.8:
        return _signed_power_of_ten(rng, -20.0, 3.0)
    sign = rng.choice((-1.0, 1.0))
    if kind < 0.95:
        x = rng.choice(_LANDMARKS)
        for _ in range(rng.randrange(4)):
            x = math.nextafter(x, rng.choice((0.0, LARGEST)))
        return sign * x
    return sign * TINY * rng.randrange(1, 2 ** rng.randrange(1, 53))


def positive(rng: random.Random) -> float:
    """A positive number of any size."""
    return abs(any_number(rng)) or 1.0


def _one_argument(draw: Callable[[random.Random], float] = any_number) -> Callable[[random.Random], Point]:
    return lambda rng: (draw(rng),)


def _nearly_saturating(rng: random.Random) -> float:
    # 1 - tanh|x|, of which the derivative is made, is hardest to have between 8 and 20.
    return rng.uniform(-25.0, 25.0) if rng.random() < 0.5 else any_number(rng)


def _two_numbers(rng: random.Random) -> Point:
    x = any_number(rng)
    # Every third pair lies close together, where a difference cancels.
    y = x * (1.0 + rng.uniform(-1e-3, 1e-3) * rng.choice((1.0, 1e-9))) if rng.random() < 0.3 else any_number(rng)
    return x, y if math.isfinite(y) else -x


def _quotient(rng: random.Random) -> Point:
    x, y = _two_numbers(rng)
    return x, y or 1.0


def _base_and_exponent(rng: random.Random) -> Point:
    kind = rng.random()
    if kind < 0.25:
        # Whole exponents, for which the base may be negative.
        return any_number(rng) or 1.0, float(rng.randrange(-12, 13))
    x = positive(rng)
    if kind < 0.4:
        return x, rng.choice((0.5, -0.5, 1.5, 1 / 3, 0.1, -0.1, 2.5, 1e-20, -1e-9, 1.0 + 2**-52))
    if kind < 0.55:
        # A base close to 1 and a large exponent.
        x = 1.0 + _signed_power_of_ten(rng, -15.0, -1.0)
    logarithm = math.log(x)
    if kind < 0.9 and logarithm:
        # An exponent that leads to any result that is not 0 and not infinite.
        return x, rng.uniform(-760.0, 720.0) / logarithm
    return x, any_number(rng)


def _untied(rng: random.Random) -> Point:
    x, y = _two_numbers(rng)
    return (x, y) if x != y else (x, x + 1.0 if abs(x) < 1e15 else -x)


def _not_zero(rng: random.Random) -> float:
    return any_number(rng) or 1.0


def _three_numbers(rng: random.Random) -> Point:
    return rng.choice((0.0, -0.0, 1.0, any_number(rng))), any_number(rng), any_number(rng)


@dataclass(frozen=True)
class Oracle:
    """The truth about one operation, away from its kinks.

    draw      a random point of its domain
    value     its value there, in mpmath's numbers
    partials  its partial derivatives there
    """

    draw: Callable[[random.Random], Point]
    value: Callable[..., Real]
    partials: tuple[Callable[..., Real], ...]


def _comparison(holds: Callable[[Real, Real], bool]) -> Oracle:
    return Oracle(_two_numbers, lambda x, y: mp.mpf(holds(x, y)), (_zero, _zero))


#: Every operation of the engine's table by its name.
ORACLES: dict[str, Oracle] = {
    "add": Oracle(_two_numbers, lambda x, y: x + y, (_one, _one)),
    "sub": Oracle(_two_numbers, lambda x, y: x - y, (_one, lambda x, y: mp.mpf(-1))),
    "mul": Oracle(_two_numbers, lambda x, y: x * y, (lambda x, y: y, lambda x, y: x)),
    "div": Oracle(_quotient, lambda x, y: x / y, (lambda x, y: 1 / y, lambda x, y: -x / y / y)),
    "neg": Oracle(_one_argument(), lambda x: -x, (lambda x: mp.mpf(-1),)),
    "pow": Oracle(
        _base_and_exponent,
        _power,
        (
            lambda x, y: y * _power(x, y - 1),
            # Where the base is negative there is no neighbouring exponent, and no derivative: see `measured`.
            lambda x, y: _power(x, y) * mp.log(abs(x)),
        ),
    ),
    "abs": Oracle(_one_argument(_not_zero), abs, (mp.sign,)),
    "exp": Oracle(_one_argument(), _exp, (_exp,)),
    "log": Oracle(_one_argument(positive), mp.log, (lambda x: 1 / x,)),
    "sqrt": Oracle(_one_argument(positive), mp.sqrt, (lambda x: 1 / (2 * mp.sqrt(x)),)),
    "sin": Oracle(_one_argument(), mp.sin, (mp.cos,)),
    "cos": Oracle(_one_argument(), mp.cos, (lambda x: -mp.sin(x),)),
    # tanh x = 2σ(2x) - 1 would cancel; mpmath's own does not, but takes its time over a large argument.
    "tanh": Oracle(
        _one_argument(_nearly_saturating),
        lambda x: mp.tanh(max(-_SATURATED, min(_SATURATED, x))),
        (lambda x: 4 * _sigmoid_partial(2 * x),),
    ),
    "sigmoid": Oracle(_one_argument(), _sigmoid, (_sigmoid_partial,)),
    "relu": Oracle(_one_argument(_not_zero), lambda x: max(x, mp.mpf(0)), (lambda x: mp.mpf(x > 0),)),
    "softplus": Oracle(_one_argument(), lambda x: max(x, mp.mpf(0)) + mp.log1p(_exp(-abs(x))), (_sigmoid,)),
    "max": Oracle(_untied, max, (lambda x, y: mp.mpf(x > y), lambda x, y: mp.mpf(y > x))),
    "min": Oracle(_untied, min, (lambda x, y: mp.mpf(x < y), lambda x, y: mp.mpf(y < x))),
    "where": Oracle(
        _three_numbers,
        lambda c, x, y: x if c else y,
        (_zero, lambda c, x, y: mp.mpf(c != 0), lambda c, x, y: mp.mpf(c == 0)),
    ),
    "stop_gradient": Oracle(_one_argument(), lambda x: x, (_zero,)),
    "gt": _comparison(lambda x, y: x > y),
    "ge": _comparison(lambda x, y: x >= y),
    "lt": _comparison(lambda x, y: x < y),
    "le": _comparison(lambda x, y: x <= y),
    "eq": _comparison(lambda x, y: x == y),
    "ne": _comparison(lambda x, y: x != y),
}


# ---------------------------------------------------------------------------------------------------------- measuring


def points(name: str, count: int, seed: int) -> Iterator[Point]:
    """Draw `count` points of an operation's domain; the same ones for the same seed."""
    # A seed of its own per operation, so that one more operation moves no other's points.
    rng = random.Random(f"{name} {seed}")
    for _ in range(count):
        yield ORACLES[name].draw(rng)


def quantities(name: str) -> list[str]:
    """What an operation computes: `value`, then `∂1` for its first partial derivative, and so on."""
    return ["value", *(f"∂{number}" for number in range(1, OPERATIONS[name].arity + 1))]


@dataclass
class Worst:
    """The largest error seen, in ulp, and where."""

    error: float = 0.0
    at: Point = ()


def worst_errors(name: str, sample: Iterable[Point]) -> dict[str, Worst]:
    """Compare an operation with its oracle at every point; return the worst error of each quantity."""
    operation, oracle = OPERATIONS[name], ORACLES[name]
    worst = {quantity: Worst() for quantity in quantities(name)}
    for point in sample:
        exact = [mp.mpf(x) for x in point]
        value = operation.value(*point)
        computed = [value, *(partial(*point, value) for partial in operation.partials)]
        true = [oracle.value(*exact), *(partial(*exact) for partial in oracle.partials)]
        for quantity, ours, aim in zip(worst, computed, true, strict=True):
            if (name, quantity) == ("pow", "∂2") and point[0] < 0.0:
                if not math.isnan(ours):
                    worst[quantity] = Worst(math.inf, point)
                continue
            error = ulps(ours, aim)
            if error > worst[quantity].error:
                worst[quantity] = Worst(error, point)
    return worst
