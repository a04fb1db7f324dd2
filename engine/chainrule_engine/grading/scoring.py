"""Points: exact sums, groups, caps and rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

#: A total as near as this to a whole number is meant to be it: thirds and the like, written in decimals.
SNAP = Fraction(1, 10**9)


class Worth(Protocol):
    """What scoring needs to know of a check."""

    @property
    def points(self) -> Fraction: ...  # noqa: D102 - see the class
    @property
    def group(self) -> str | None: ...  # noqa: D102 - see the class


class GroupRule(Protocol):
    """What scoring needs to know of a group."""

    @property
    def id(self) -> str: ...  # noqa: D102 - see the class
    @property
    def rule(self) -> str: ...  # noqa: D102 - see the class
    @property
    def cap(self) -> Fraction | None: ...  # noqa: D102 - see the class


@dataclass(frozen=True)
class Earned:
    """A check's share: what it earned on its own, of how much, and whether it is right as a whole."""

    earned: Fraction
    points: Fraction
    passed: bool
    group: str | None = None


@dataclass(frozen=True)
class Scores:
    """What came together.

    checks   the score of each check, after the rules of its group and rounding
    groups   id → (score, maximum, whether all its checks passed), for groups that have checks
    """

    checks: list[Fraction]
    groups: dict[str, tuple[Fraction, Fraction, bool]]
    score: Fraction
    maximum: Fraction


def snap(number: Fraction) -> Fraction:
    """Return the whole number that is meant, where one is very near."""
    whole = Fraction(round(number))
    return whole if abs(number - whole) <= SNAP else number


def add_up(checks: Sequence[Earned], groups: Sequence[GroupRule], rounding: str | None) -> Scores:
    """Add the checks up by the rules of their groups; every sum is exact."""
    scores = [check.earned for check in checks]
    found: dict[str, tuple[Fraction, Fraction, bool]] = {}
    total = sum((check.earned for check in checks if check.group is None), Fraction(0))
    for group in groups:
        places = [place for place, check in enumerate(checks) if check.group == group.id]
        if not places:
            continue
        passed = all(checks[place].passed for place in places)
        if group.rule == "all_or_nothing" and not passed:
            for place in places:
                scores[place] = Fraction(0)
        score = snap(sum((scores[place] for place in places), Fraction(0)))
        most = _group_maximum([checks[place].points for place in places], group)
        score = min(score, most)
        found[group.id] = (score, most, passed)
        total += score
    most = maximum(checks, groups)
    total = min(snap(total), most)
    if rounding is not None:
        total = Fraction(math.floor(total))
    if rounding == "largest_remainder":
        scores = _largest_remainder(scores, int(total))
        for group in groups:
            if group.id in found:
                _, most_of_group, passed = found[group.id]
                places = [place for place, check in enumerate(checks) if check.group == group.id]
                found[group.id] = (sum((scores[place] for place in places), Fraction(0)), most_of_group, passed)
    return Scores(scores, found, total, most)


def maximum(checks: Sequence[Worth], groups: Sequence[GroupRule]) -> Fraction:
    """Return what can be earned."""
    total = sum((check.points for check in checks if check.group is None), Fraction(0))
    for group in groups:
        total += _group_maximum([check.points for check in checks if check.group == group.id], group)
    return snap(total)


def _group_maximum(points: Sequence[Fraction], group: GroupRule) -> Fraction:
    total = snap(sum(points, Fraction(0)))
    return total if group.cap is None else min(total, group.cap)


def _largest_remainder(scores: Sequence[Fraction], total: int) -> list[Fraction]:
    """Round to whole numbers whose sum is the total: down, and up again where most was lost (Hamilton's method)."""
    rounded = [math.floor(score) for score in scores]
    lost = sorted(range(len(scores)), key=lambda place: (rounded[place] - scores[place], place))
    for place in lost[: total - sum(rounded)]:
        rounded[place] += 1
    return [Fraction(score) for score in rounded]
