"""Tasks: what is asked, how it is compared, and what it is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from graphlib import TopologicalSorter
from typing import Any

from chainrule_engine.diagnosis import Catalogue
from chainrule_engine.grading.canonical import digest
from chainrule_engine.grading.comparison import Compare
from chainrule_engine.grading.truth import Truth, count, quantity
from chainrule_engine.graph import Graph
from chainrule_engine.lazily import lazy

#: Who sees a check: students at once, from the due date or from publication on, or never; or the staff alone.
VISIBILITIES = ("visible", "after_due_date", "after_published", "hidden", "staff")
#: The phases of an assignment → the visibilities that students see in it.
PHASES = {
    "open": frozenset(VISIBILITIES[:1]),
    "due": frozenset(VISIBILITIES[:2]),
    "published": frozenset(VISIBILITIES[:3]),
}
#: What feedback tells, from the least to the most.
LEVELS = ("pass_fail", "hint", "full")
#: How the credit of several numbers comes together.
CREDITS = {
    "all": "all of them must be right",
    "fraction": "the mean of the numbers' credits",
    "prefix": "how many are right before the first wrong one, of how many",
}
#: What is right at a kink.
KINKS = {
    "any_subgradient": "every number that a choice of subgradients gives",
    "zero": "the engine's convention: relu'(0) = 0, abs'(0) = 0, ties split evenly",
    "avoid": "a task that has one is refused",
}
GROUP_RULES = {"sum": "the sum of its checks", "all_or_nothing": "its points if every check is right, else 0"}
ROUNDINGS = {
    "floor": "the total is rounded down to a whole number",
    "largest_remainder": "the checks' scores are rounded to whole numbers whose sum is the total, rounded down",
}

Band = tuple[float, Fraction]
FULL_BAND: tuple[Band, ...] = ((1.0, Fraction(1)),)


def exact(number: float) -> Fraction:
    """Return a number as it is written in decimals: 0.1 is a tenth."""
    return Fraction(repr(number))


def tidy(number: Fraction | float) -> int | float:
    """Return a number as it is sent: a whole one as an integer."""
    return int(number) if number == int(number) else float(number)


@dataclass(frozen=True)
class Check:
    """One thing that is asked.

    keys        the quantities it looks at
    single      whether the task gave one key and not a list
    points      what it is worth
    bands       (multiple of the tolerance, credit), from the narrowest
    requires    ids of checks that have to be right, or this earns nothing
    follow_through   the credit of a number that follows from the student's own wrong ones, of those that checks ask for
    """

    id: str
    title: str
    keys: tuple[str, ...]
    points: Fraction
    compare: Compare
    single: bool = True
    visibility: str = "visible"
    bands: tuple[Band, ...] = FULL_BAND
    credit: str = "all"
    kink: str = "any_subgradient"
    requires: tuple[str, ...] = ()
    follow_through: Fraction = Fraction(0)
    group: str | None = None
    number: str | None = None

    @property
    def of(self) -> str | list[str]:
        """The quantity or quantities in the form of the wire."""
        return self.keys[0] if self.single else list(self.keys)

    def to_dict(self) -> dict[str, Any]:
        """Write the form that is read."""
        bands = [{"within": within, "credit": tidy(credit)} for within, credit in self.bands]
        return {
            "id": self.id,
            "title": self.title,
            "of": self.of,
            "points": tidy(self.points),
            "compare": self.compare.to_dict(),
            "visibility": self.visibility,
            "bands": bands if self.bands != FULL_BAND else None,
            "credit": self.credit,
            "kink": self.kink,
            "requires": list(self.requires),
            "follow_through": tidy(self.follow_through),
            "group": self.group,
            "number": self.number,
        }


@dataclass(frozen=True)
class Group:
    """Checks whose points come together.

    points   what they are worth together, the checks' points being their shares; None for the sum of these
    cap      more than this the group never earns
    """

    id: str
    title: str
    rule: str = "sum"
    cap: Fraction | None = None
    points: Fraction | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the form that is read."""
        return {
            "id": self.id,
            "title": self.title,
            "rule": self.rule,
            "cap": None if self.cap is None else tidy(self.cap),
            "points": None if self.points is None else tidy(self.points),
        }


@dataclass(frozen=True)
class Feedback:
    """How much is told: never more than `level`, and at an attempt never more than the last entry from it or before."""

    level: str = "hint"
    attempts: tuple[tuple[int, str], ...] = ()

    def at(self, attempt: int | None) -> str:
        """Return the level at an attempt; where that is not known, the least."""
        levels = [level for first, level in self.attempts if attempt is None or first <= attempt]
        if attempt is not None:
            levels = levels[-1:]
        return min([self.level, *levels], key=LEVELS.index)

    def to_dict(self) -> dict[str, Any]:
        """Write the form that is read."""
        return {"level": self.level, "attempts": [{"from": first, "level": level} for first, level in self.attempts]}


@dataclass(frozen=True)
class Task:
    """What is asked of students: a graph or a training, and the checks of its numbers. `read_task` makes one.

    source    the evaluation or the training in the form of the wire
    graph     of an evaluation, else None
    salt      goes into the digest, so that nobody finds a key that stands in the task by trying; no report has it
    """

    id: str | None
    title: str
    source: Mapping[str, Any]
    truth: Truth = field(repr=False, compare=False)
    checks: tuple[Check, ...] = ()
    groups: tuple[Group, ...] = ()
    feedback: Feedback = Feedback()
    diagnose: bool = True
    rounding: str | None = None
    engine: str | None = None
    salt: str | None = None

    @property
    def graph(self) -> Graph | None:
        """The graph of an evaluation; None for a training."""
        return getattr(self.truth, "graph", None)

    @property
    def training(self) -> Mapping[str, Any] | None:
        """The specification of a training; None for an evaluation."""
        return self.source.get("training")

    @property
    def seeds(self) -> Mapping[str, Any] | None:
        """The seeds of an evaluation, where there are any."""
        return getattr(self.truth, "seeds", None)

    @property
    def cost(self) -> int:
        """The work of the right numbers, once for the task: in evaluations of a node at a point by plain Python."""
        return self.truth.cost

    @lazy
    def required_first(self) -> list[Check]:
        """The checks, each after those that it requires."""
        by_id = {check.id: check for check in self.checks}
        order = TopologicalSorter({check.id: check.requires for check in self.checks}).static_order()
        return [by_id[name] for name in order]

    @lazy
    def cost_each(self) -> int:
        """The work of a student's answers, in the same unit; without the diagnosis of mistakes."""
        numbers = sum(map(count, (quantity(self.truth, key, shape=True) for c in self.checks for key in c.keys)))
        return 100 + 20 * len(self.checks) + 5 * numbers

    def to_dict(self) -> dict[str, Any]:
        """Write the form that is read, with everything that was left out."""
        return {
            "id": self.id,
            "title": self.title or None,
            "engine": self.engine,
            **self.source,
            "checks": [check.to_dict() for check in self.checks],
            "groups": [group.to_dict() for group in self.groups],
            "feedback": self.feedback.to_dict(),
            "diagnose": self.diagnose,
            "rounding": self.rounding,
            **({} if self.salt is None else {"salt": self.salt}),
        }

    @lazy
    def digest(self) -> str:
        """The digest of what `to_dict` writes: equal for tasks that are written alike, names in any order."""
        return digest(self.to_dict())

    @lazy
    def catalogue(self) -> Catalogue | None:
        """The wrong numbers of known mistakes; None where none are made: for trainings and batches of points."""
        if self.graph is None or self.graph.points is not None:
            return None
        return Catalogue(self.graph, seeds=self.seeds)


ENGINE_PIN = re.compile(r"(\d{1,6})\.(\d{1,6})(\.\d{1,6})?", re.ASCII)


def same_engine(pin: str, version: str) -> bool:
    """Tell whether a version is of the major and minor version that a task is pinned to."""
    return pin.split(".")[:2] == version.split(".")[:2]
