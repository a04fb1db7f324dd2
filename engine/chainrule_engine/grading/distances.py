"""How far a number is off, and how far it may be: the rules that the modes of `comparison` are made of."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple


class Distance(NamedTuple):
    """How far off a number is, and how far it may be.

    strict  whether it has to be less than that
    """

    error: float
    tolerance: float
    strict: bool = False

    def within(self, multiple: float = 1.0) -> bool:
        """Tell whether the error is within so many tolerances."""
        allowed = multiple * self.tolerance
        if self.error == 0.0:
            return True
        return math.isfinite(self.error) and (self.error < allowed if self.strict else self.error <= allowed)

    @property
    def multiple(self) -> float:
        """The error in tolerances; infinite where there is no tolerance."""
        if self.error == 0.0:
            return 0.0
        return self.error / self.tolerance if self.tolerance > 0.0 else math.inf


MATCH = Distance(0.0, 0.0)
NEVER = Distance(math.inf, 0.0)

#: The settings of a comparison by name.
Settings = Mapping[str, Any]


def _unusual(student: float, expected: float, settings: Settings) -> Distance | None:
    """Compare where one of the two is no finite number, or they are equal; None elsewhere."""
    if math.isfinite(student) and math.isfinite(expected):
        return MATCH if student == expected else None
    if student != student or expected != expected:
        return MATCH if student != student and expected != expected and settings.get("equal_nan") else NEVER
    infinity = settings.get("infinity", "same")
    if infinity == "same":
        return MATCH if student == expected else NEVER
    if infinity == "arithmetic":
        # What |student - expected| <= rtol·|expected| gives in plain float64: inf <= inf holds.
        return MATCH if abs(student - expected) <= abs(expected) else NEVER
    return NEVER


def by_tolerance(tolerance: Callable[[float, float, Settings], float], *, strict: bool | None = None) -> Any:
    """Make a rule (student, expected, settings) → distance of its tolerance, (the same) → the error allowed.

    strict  whether the error has to be less than that; as `strict` of the settings says where left out
    """

    def measure(student: float, expected: float, settings: Settings) -> Distance:
        unusual = _unusual(student, expected, settings)
        if unusual is not None:
            return unusual
        is_strict = bool(settings.get("strict")) if strict is None else strict
        return Distance(abs(student - expected), tolerance(student, expected, settings), is_strict)

    return measure


def allclose(student: float, expected: float, settings: Settings) -> float:
    """The tolerance of NumPy's allclose: atol + rtol·|expected|."""
    return float(settings["atol"] + settings["rtol"] * abs(expected))


def isclose(student: float, expected: float, settings: Settings) -> float:
    """The tolerance of Python's isclose, or the same with the size of the expected number alone."""
    size = abs(expected)
    if settings["relative_to"] == "larger":
        size = max(size, abs(student))
    return float(max(settings["rtol"] * size, settings["atol"]))


def _relative_to(rtol: float, student: float, expected: float, settings: Settings) -> float:
    if min(abs(student), abs(expected)) < settings["zero_level"]:
        return float(settings["zero_atol"])
    return rtol * abs(expected)


def relative(student: float, expected: float, settings: Settings) -> float:
    """A part of the expected number; near zero, where one of the two is below a level, a tolerance of its own."""
    return _relative_to(settings["rtol"], student, expected, settings)


def percent(student: float, expected: float, settings: Settings) -> float:
    """The same in percent."""
    return _relative_to(settings["percent"] / 100.0, student, expected, settings)


def _half_a_unit(decimals: int) -> float:
    """Return a little more than half a unit of the given decimal place, as 0.5 would be lost to rounding."""
    return 0.51 * float(f"1e{-decimals}")


def sigfig(student: float, expected: float, settings: Settings) -> float:
    """Half a unit of the last of so many significant digits of the expected number; of 0, decimals after the first."""
    exponent = Decimal(expected).adjusted() if expected else 0
    return _half_a_unit(int(settings["digits"]) - 1 - exponent)


def decimals(student: float, expected: float, settings: Settings) -> float:
    """Half a unit of the last of so many decimal places."""
    return _half_a_unit(int(settings["digits"]))


def exact(student: float, expected: float, settings: Settings) -> Distance:
    """Equal or not."""
    return _unusual(student, expected, settings) or NEVER


def _place(number: float) -> int:
    """Return the place of a float64 among all, in order: neighbours differ by 1, and both zeros are 0."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits) if bits >= 0 else -(int(bits) & 0x7FFF_FFFF_FFFF_FFFF)


def ulp(student: float, expected: float, settings: Settings) -> Distance:
    """Count the float64 numbers from one to the other."""
    unusual = _unusual(student, expected, settings)
    if unusual is not None:
        return unusual
    return Distance(float(abs(_place(student) - _place(expected))), settings["ulps"])


def between(student: float, expected: float, settings: Settings) -> Distance:
    """Tell whether a finite number is within bounds, whatever is expected."""
    low, high = settings.get("low"), settings.get("high")
    inside = (low is None or student >= low) and (high is None or student <= high)
    return MATCH if inside and math.isfinite(student) else NEVER


def any_of(student: float, expected: float, settings: Settings) -> Distance:
    """Take the nearest of the expected number and the accepted values."""
    measure = by_tolerance(allclose)
    found = [measure(student, value, settings) for value in (expected, *settings["values"])]
    return Distance(*min(found, key=lambda distance: distance.multiple))


# -------------------------------------------------------------------------------------- all numbers together


def direction(students: Sequence[float], expected: Sequence[float], settings: Settings) -> Distance:
    """Measure 1 - cosine of the angle between the two, as half the squared distance of the unit vectors."""
    if not any(expected) and not any(students):
        return MATCH
    units = [_unit(students), _unit(expected)]
    if units[0] is None or units[1] is None or len(students) != len(expected):
        return NEVER
    apart = math.fsum((s - e) * (s - e) for s, e in zip(units[0], units[1], strict=True)) / 2.0
    return Distance(apart, 1.0 - settings["min_cosine"])


def _unit(vector: Sequence[float]) -> list[float] | None:
    size = max(map(abs, vector), default=0.0)
    if not 0.0 < size < math.inf or any(map(math.isnan, vector)):
        return None
    scaled = [number / size for number in vector]
    length = math.sqrt(math.fsum(number * number for number in scaled))
    return [number / length for number in scaled]


def monotone(students: Sequence[float], expected: Sequence[float], settings: Settings) -> Distance:
    """Tell whether as many finite numbers as expected go in one direction."""
    sign = -1.0 if settings["order"] == "decreasing" else 1.0
    steps = [sign * (after - before) for before, after in pairwise(students)]
    holds = all(step > 0.0 if settings["strict"] else step >= 0.0 for step in steps)
    return MATCH if holds and len(students) == len(expected) and all(map(math.isfinite, students)) else NEVER


def threshold(students: Sequence[float], expected: Sequence[float], settings: Settings) -> Distance:
    """Tell whether the last number, of as many as expected, is finite and within bounds."""
    at_most, at_least = settings.get("at_most"), settings.get("at_least")
    last = students[-1] if students else math.nan
    holds = (at_most is None or last <= at_most) and (at_least is None or last >= at_least)
    return MATCH if holds and len(students) == len(expected) and math.isfinite(last) else NEVER
