"""Finds expected numbers in texts that students see, however they are written."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
#: Digests are digits by chance, escapes of JSON are the numbers of characters, and times are what the platform said.
_NO_NUMBERS = re.compile(r"sha256:[0-9a-f]+|\\u[0-9a-f]{4}|\d{4}-\d\d-\d\dT[\d:.+]+")


def digits_of(number):
    """The significant digits of a number as text, without zeros at either end."""
    digits = "".join(map(str, Decimal(number).as_tuple().digits))
    return digits.strip("0")


def roundings(number, least=2):
    """The significant digits of a number rounded, and cut off, to so many digits and more."""
    exact = digits_of(repr(abs(number)))
    found = {exact} if len(exact) >= least else set()
    for count in range(least, len(exact) + 1):
        found.add(exact[:count].rstrip("0"))
        found.add(digits_of(f"{abs(number):.{count - 1}e}".partition("e")[0]))
    return {digits for digits in found if len(digits) >= least}


def leaks(text, numbers, own=()):
    """The numbers in a text that are one of `numbers`, to 2 significant digits or more, at any power of ten.

    own   numbers that the student has written: where they stand as Python writes them, they are no leak
    """
    text = _NO_NUMBERS.sub(" ", text)
    for number in own:
        text = re.sub(rf"(?<![\d.]){re.escape(repr(abs(number)))}(?![\d])", " ", text)
    forbidden = _all_roundings(tuple(numbers))
    return [number for number in _NUMBER.findall(text) if number.replace(".", "").strip("0") in forbidden]


@lru_cache(maxsize=1000)
def _all_roundings(numbers):
    return frozenset().union(*map(roundings, numbers))
