"""How many digits a student's numbers have, and whether a number is one of them.

Numbers arrive as floats: in full, in single precision, or as they were printed, rounded to significant digits or to
decimals. What was done is read from all numbers together, by the shortest decimal text of each: one that happens to be
6.0 among others with seventeen digits is exactly 6.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

#: Relative: what another order of roundings may do to a number in double precision, and in single.
DOUBLE_NOISE, SINGLE_NOISE = 1e-9, 4e-6
#: With so many significant digits a number was not printed by hand, nor from single precision.
_FULL = 11
#: Printed from single precision perhaps.
_SINGLE_DIGITS = 7
#: Of a unit in the last place: what rounding takes or adds at most, and what cutting takes.
_ROUNDED, _CUT = 0.50001, 0.999
#: With fewer significant digits, or decimals, almost anything would agree with a mistake: then only what is exact does.
_FEWEST_DIGITS, _FEWEST_DECIMALS = 3, 2


class Precision(NamedTuple):
    """What numbers were read to have.

    kind      "double", "single" or "rounded"
    digits    the largest number of significant digits
    decimals  the largest number of decimals
    """

    kind: str
    digits: int
    decimals: int

    @property
    def noise(self) -> float:
        """The relative error of a number that is not rounded."""
        return DOUBLE_NOISE if self.kind == "double" else SINGLE_NOISE

    def unit(self, number: float) -> float:
        """Return one unit in the last place that was kept of a number; 0.0 where all were."""
        return self._unit(number, self.digits, self.decimals)

    def short_unit(self, number: float) -> float:
        """Return the unit in the last place of a right number that may have been rounded or cut."""
        # Of two digits, or decimals, the second may have been a zero each time.
        return self._unit(number, max(self.digits, 2), max(self.decimals, 2))

    def slack(self, number: float) -> float:
        """Return by how much a right number may be off that was rounded or cut to this; not by a whole unit."""
        return _CUT * self.short_unit(number)

    def _unit(self, number: float, digits: int, decimals: int) -> float:
        if self.kind != "rounded" or not math.isfinite(number):
            return 0.0
        by_digits = 10.0 ** (math.floor(math.log10(abs(number))) + 1 - digits) if number else 0.0
        by_decimals = 10.0**-decimals if decimals else 0.0
        return max(by_digits, by_decimals)

    @property
    def tells(self) -> bool:
        """Whether there are digits enough to recognise a rounded number by them."""
        return self.digits >= _FEWEST_DIGITS or self.decimals >= _FEWEST_DECIMALS


#: Of numbers with all their digits.
EXACT = Precision("double", 17, 17)
#: Of no numbers, and of zeros alone: they may stand for anything that has no digit among the first decimals.
NOTHING = Precision("rounded", 0, _FEWEST_DECIMALS)


def read_precision(numbers: Iterable[float]) -> Precision:
    """Read what digits the numbers have; numbers that are not finite say nothing."""
    digits = decimals = 0
    single = True
    for number in numbers:
        if not number or not math.isfinite(number):
            continue
        some, after = count_digits(number)
        digits, decimals = max(digits, some), max(decimals, after)
        single = single and _is_single(number)
    if not digits:
        # Nothing but zeros: of what was too small, perhaps.
        return NOTHING
    if digits >= _FULL:
        return Precision("single" if single else "double", digits, decimals)
    return Precision("rounded", digits, decimals)


def count_digits(number: float) -> tuple[int, int]:
    """Return the significant digits and the decimals of the shortest text of a finite number."""
    text = repr(number)
    if "e" not in text and "n" not in text:
        whole, _, fraction = text.lstrip("-").partition(".")
        fraction = fraction.rstrip("0")
        figures = (whole + fraction).lstrip("0")
        return len(figures if fraction else figures.rstrip("0")), len(fraction)
    exponent = Decimal(text).normalize().as_tuple()
    after = -exponent.exponent if isinstance(exponent.exponent, int) else 0
    return len(exponent.digits), max(0, after)


def _is_single(number: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", number))[0] == number)
    except OverflowError:
        return False


def agree(x: float, y: float, tolerance: float) -> bool:
    """Whether two numbers differ by no more than this; NaN agrees with NaN, an infinity with itself."""
    if x == y:
        return True
    if math.isfinite(x) and math.isfinite(y):
        return abs(x - y) <= tolerance
    return x != x and y != y


def is_kept_of(number: float, exact: float, unit: float, noise: float, off: float = 0.0) -> bool:
    """Whether a number is an exact one that was rounded, or cut towards zero, to a multiple of a unit.

    noise  by how much the exact one may differ from that which was shortened, where that is more than a part of a unit
    off    the same, on top of what shortening does
    """
    if agree(number, exact, max(noise, _ROUNDED * unit) + off):
        return True
    return abs(number) <= abs(exact) + off and agree(number, exact, max(noise, _CUT * unit) + off)
