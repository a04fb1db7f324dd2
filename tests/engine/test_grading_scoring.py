"""Points: exact sums, groups, caps, rounding; properties of what comes together."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine.grading.scoring import SNAP, Earned, Scores, add_up, maximum, snap
from chainrule_engine.grading.tasks import Group

portions = st.fractions(0, 1, max_denominator=12)
points = st.decimals(0, 20, places=2).map(Fraction)


@st.composite
def sheets(draw: st.DrawFn, *, whole: bool = False) -> tuple[list[Earned], list[Group]]:
    names = ["g", "h"][: draw(st.integers(0, 2))]
    groups = [
        Group(
            name,
            name,
            draw(st.sampled_from(["sum", "all_or_nothing"])),
            None if whole else draw(st.none() | points),
        )
        for name in names
    ]
    checks = []
    for _ in range(draw(st.integers(1, 8))):
        worth = Fraction(draw(st.integers(0, 9))) if whole else draw(points)
        credit = draw(portions)
        checks.append(Earned(credit * worth, worth, credit == 1, draw(st.sampled_from([None, *names]))))
    return checks, groups


def earned(*scores: Any, group: str | None = None) -> list[Earned]:
    return [Earned(Fraction(str(score)), Fraction(str(of)), score == of, group) for score, of in scores]


@settings(deadline=None)
@given(sheets(), st.sampled_from([None, "floor"]))
def test_a_score_is_between_zero_and_the_maximum(sheet: tuple[list[Earned], list[Group]], rounding: str | None) -> None:
    checks, groups = sheet
    scores = add_up(checks, groups, rounding)
    assert 0 <= scores.score <= scores.maximum == maximum(checks, groups)
    assert all(0 <= score <= check.points for score, check in zip(scores.checks, checks, strict=True))
    assert all(0 <= score <= most for score, most, _ in scores.groups.values())


@settings(deadline=None)
@given(sheets())
def test_who_is_right_everywhere_has_everything(sheet: tuple[list[Earned], list[Group]]) -> None:
    checks, groups = sheet
    right = [Earned(check.points, check.points, True, check.group) for check in checks]
    assert add_up(right, groups, None).score == maximum(checks, groups)


@settings(deadline=None)
@given(sheets(whole=True))
def test_largest_remainders(sheet: tuple[list[Earned], list[Group]]) -> None:
    checks, groups = sheet
    exact = add_up(checks, groups, None)
    rounded = add_up(checks, groups, "largest_remainder")
    assert rounded.score == math.floor(exact.score) == sum(rounded.checks)
    for score, before, check in zip(rounded.checks, exact.checks, checks, strict=True):
        assert score.denominator == 1
        assert abs(score - before) < 1
        assert score <= check.points
    assert sum(score for score, _, _ in rounded.groups.values()) <= rounded.score


def test_sums_are_exact() -> None:
    scores = add_up(earned(*[(0.1, 0.1)] * 10), [], None)
    assert scores.score == scores.maximum == 1
    thirds = [Earned(Fraction("0.3333333333333333"), Fraction("0.3333333333333333"), True)] * 3
    assert add_up(thirds, [], None).score == add_up(thirds, [], None).maximum == 1


def test_snapping() -> None:
    assert snap(Fraction(3) - SNAP) == 3
    assert snap(Fraction(3) + SNAP) == 3
    assert snap(Fraction(3) - 2 * SNAP) < 3
    assert snap(Fraction(1, 2)) == Fraction(1, 2)


def test_all_or_nothing() -> None:
    groups = [Group("g", "G", "all_or_nothing")]
    checks = earned((1, 1), (1, 2), group="g") + earned((3, 4))
    scores = add_up(checks, groups, None)
    assert scores == Scores(
        [Fraction(0), Fraction(0), Fraction(3)], {"g": (Fraction(0), Fraction(3), False)}, Fraction(3), Fraction(7)
    )
    scores = add_up(earned((1, 1), (2, 2), group="g"), groups, None)
    assert scores.groups == {"g": (Fraction(3), Fraction(3), True)}


def test_caps() -> None:
    groups = [Group("g", "G", cap=Fraction(5, 2)), Group("empty", "E")]
    scores = add_up(earned((1, 1), (2, 2), group="g") + earned((1, 1)), groups, None)
    assert scores.groups == {"g": (Fraction(5, 2), Fraction(5, 2), True)}
    assert scores.score == scores.maximum == Fraction(7, 2)
    assert add_up(earned((1, 1), (0, 2), group="g"), groups, None).score == 1


@pytest.mark.parametrize(("scores", "floor"), [([0.5, 0.5], 1), ([0.9, 0.9], 1), ([0.99], 0), ([2], 2)])
def test_floor(scores: list[float], floor: int) -> None:
    checks = [Earned(Fraction(Decimal(str(score))), Fraction(3), False) for score in scores]
    assert add_up(checks, [], "floor").score == floor


def test_nothing_to_earn() -> None:
    assert add_up(earned((0, 0)), [], None).maximum == 0
