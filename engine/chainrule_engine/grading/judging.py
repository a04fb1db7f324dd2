"""One check of one student's answers: the credit it earns, before anything that other checks have a say in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.distances import NEVER, Distance
from chainrule_engine.grading.kinks import Interval
from chainrule_engine.grading.tasks import Band, Check
from chainrule_engine.grading.truth import Quantity, Truth, quantity

#: A distance this near to the edge of a band, as a part of it, may fall on the other side on another machine.
BORDER = 0.1


@dataclass(frozen=True, slots=True)
class Element:
    """One number of a check.

    student   what was given; None where there is none
    expected  the right number, at a kink the admissible one nearest to the student's; None where there should be none
    distance  how far apart they are; of modes that judge all numbers together, that of all
    credit    what it earns by the bands
    """

    key: str
    student: float | None
    expected: float | None
    distance: Distance
    credit: Fraction


@dataclass(frozen=True)
class Judgement:
    """What a check found."""

    check: Check
    elements: list[Element]
    credit: Fraction
    borderline: bool

    @property
    def passed(self) -> bool:
        """Whether it earns all."""
        return self.credit == 1

    @property
    def answered(self) -> bool:
        """Whether there is any number."""
        return any(element.student is not None for element in self.elements)

    @property
    def first_wrong(self) -> int | None:
        """The position of the first number that does not earn all; None where there is none."""
        return next((place for place, element in enumerate(self.elements) if element.credit != 1), None)


def judge(check: Check, truth: Truth, answers: Answers, instead: Mapping[str, float] | None = None) -> Judgement:
    """Compare the answers to a check with the right numbers, or with others: key → number."""
    pairs: list[_Pair] = []
    for key in check.keys:
        expected = quantity(truth, key) if instead is None else instead.get(key, math.nan)
        intervals = truth.intervals(key) if check.kink == "any_subgradient" and instead is None else None
        pairs += _pairs(key, answers.find(key), expected, intervals)
    if check.compare.rule.each is not None:
        elements = [_compare(check, pair) for pair in pairs]
        credit = _together(check.credit, elements)
    else:
        elements = _compare_all(check, pairs)
        credit = elements[0].credit if elements else Fraction(0)
    borderline = any(_is_borderline(element.distance, check.bands) for element in elements)
    return Judgement(check, elements, credit, borderline)


class _Pair(NamedTuple):
    key: str
    student: float | None
    expected: float | None
    interval: Interval | None = None


def _pairs(key: str, student: Quantity, expected: Quantity, interval: Any) -> Iterator[_Pair]:
    """Yield the numbers of two quantities side by side; the recursion is as deep as the expected one."""
    if isinstance(expected, dict):
        given = student if isinstance(student, dict) else {}
        for name, item in expected.items():
            yield from _pairs(key, given.get(name), item, interval.get(name) if interval is not None else None)
    elif isinstance(expected, list):
        numbers = student if isinstance(student, list) else []
        for place, item in enumerate(expected):
            ends = interval[place] if interval is not None else None
            yield from _pairs(key, numbers[place] if place < len(numbers) else None, item, ends)
        for number in numbers[len(expected) :]:
            yield _Pair(key, number, None)
    else:
        yield _Pair(key, student if isinstance(student, float) else None, expected, interval)


def _compare(check: Check, pair: _Pair) -> Element:
    key, student, expected, interval = pair
    if student is None or expected is None:
        return Element(key, student, expected, NEVER, Fraction(0))
    if interval is not None and interval[0] <= interval[1] and student == student:
        expected = min(max(student, interval[0]), interval[1])
    distance = check.compare.measure(student, expected)
    return Element(key, student, expected, distance, _credit(distance, check.bands))


def _compare_all(check: Check, pairs: list[_Pair]) -> list[Element]:
    rule = check.compare.rule.whole
    assert rule is not None
    students = [pair.student for pair in pairs if pair.student is not None]
    expected = [pair.expected for pair in pairs if pair.expected is not None]
    # No number may be missing; where there are too many, the rule sees that.
    whole = len(students) == len(pairs)
    distance = rule(students, expected, check.compare.settings) if whole and students else NEVER
    credit = _credit(distance, check.bands)
    return [Element(pair.key, pair.student, pair.expected, distance, credit) for pair in pairs]


def _credit(distance: Distance, bands: tuple[Band, ...]) -> Fraction:
    return next((credit for within, credit in bands if distance.within(within)), Fraction(0))


def _together(how: str, elements: list[Element]) -> Fraction:
    if not elements:
        return Fraction(0)
    if how == "all":
        return min(element.credit for element in elements)
    if how == "fraction":
        return sum((element.credit for element in elements), Fraction(0)) / len(elements)
    right = next((place for place, element in enumerate(elements) if element.credit != 1), len(elements))
    return Fraction(right, len(elements))


def _is_borderline(distance: Distance, bands: tuple[Band, ...]) -> bool:
    multiple = distance.multiple
    return any((1.0 - BORDER) * within <= multiple <= (1.0 + BORDER) * within for within, _ in bands)
