"""Random numbers that are the same on every machine, in every version of Python, and in any other language.

SplitMix64 of G. L. Steele Jr., D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014:
64-bit integers alone. Python promises the same of `random.Random(seed).random()` only, and folds the seeds s and -s
into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class SplitMix64:
    """A stream of random numbers from a seed: any integer, of which the lowest 64 bits count."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """Return the next integer of 64 bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, count: int) -> int:
        """Return an integer from 0 to count - 1: the high half of a product, uneven by less than count / 2⁶⁴."""
        return (self.next() * count) >> 64

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def take(self, items: list[T]) -> T:
        """Remove one of the items and return it."""
        return items.pop(self.below(len(items)))

    def split(self) -> SplitMix64:
        """Return a stream of its own, seeded from this one."""
        return SplitMix64(self.next())
