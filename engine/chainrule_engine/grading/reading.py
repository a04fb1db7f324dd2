"""Reading a task: every rule that it can break has a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from typing import Any

import chainrule_engine
from chainrule_engine.errors import Path
from chainrule_engine.grading.comparison import MODES, Compare, read_compare
from chainrule_engine.grading.defaults import (
    default_checks,
    default_id,
    default_preset,
    default_title,
    what_there_is,
)
from chainrule_engine.grading.fields import MAX_TEXT, Reader
from chainrule_engine.grading.scoring import maximum
from chainrule_engine.grading.sources import Limits, read_source
from chainrule_engine.grading.tasks import (
    CREDITS,
    ENGINE_PIN,
    FULL_BAND,
    GROUP_RULES,
    KINKS,
    LEVELS,
    PHASES,
    ROUNDINGS,
    VISIBILITIES,
    Band,
    Check,
    Feedback,
    Group,
    Task,
    exact,
    same_engine,
)
from chainrule_engine.grading.truth import GraphTruth, Truth, quantity
from chainrule_engine.graph import describe
from chainrule_engine.refusals import closest, quote

MAX_CHECKS, MAX_GROUPS, MAX_KEYS, MAX_BANDS, MAX_ATTEMPTS = 1_000, 100, 1_000, 20, 100
#: Enough for anything random.
MAX_SALT = 200
#: Points are no more than this, for a check or a group.
MAX_POINTS = 1e6

_TASK_FIELDS = (
    "id", "title", "engine", "evaluation", "training", "checks", "groups", "feedback", "diagnose", "rounding",
    "salt",
)  # fmt: skip
_CHECK_FIELDS = (
    "id", "title", "of", "points", "compare", "visibility", "bands", "credit", "kink", "requires", "follow_through",
    "group", "number",
)  # fmt: skip
_GROUP_FIELDS = ("id", "title", "rule", "cap", "points")


def read_task(
    data: object, *, max_nodes: int | None = None, max_points: int | None = None, max_work: int | None = None
) -> Task:
    """Read the wire's form of a task.

    max_nodes, max_points   of its graph
    max_work   of its training, in evaluations of a node at a point by plain Python; of its graph, in nodes times points

    Raises TaskError with every problem that was found (32 at most), LimitExceeded beyond a limit. Nothing is trained
    here.
    """
    return _TaskReader(Limits(max_nodes, max_points, max_work)).task(data)


def _is_seen_with(required: Check, check: Check) -> bool:
    """Tell whether students see a required check whenever they see the one that requires it."""
    return all(required.visibility in seen for seen in PHASES.values() if check.visibility in seen)


class _TaskReader(Reader):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits

    def task(self, data: object) -> Task:
        fields = self.mapping(data, (), _TASK_FIELDS, "a task")
        source, truth = read_source(self, fields, self.limits)
        if truth is None:
            self.stop_if_wrong()
            raise AssertionError("without a problem there are right numbers")  # pragma: no cover
        groups = self.groups([] if fields.get("groups") is None else fields["groups"])
        if fields.get("checks") is None:
            checks = default_checks(truth)
        else:
            items = self.items(fields["checks"], ("checks",), "the checks", least=1, most=MAX_CHECKS)
            checks = [self.check(item, path, truth, groups) for path, item in items]
        self.ids(checks, "checks")
        self.requirements(checks)
        rounding = self.optional(fields, "rounding", lambda value, path: self.choice(value, path, ROUNDINGS))
        checks = self.points(checks, groups, rounding)
        task = Task(
            id=self.optional(fields, "id", lambda value, path: self.text(value, path, "an id")),
            title=self.optional(fields, "title", lambda value, path: self.text(value, path, "a title")) or "",
            source=source,
            truth=truth,
            checks=tuple(checks),
            groups=tuple(groups),
            feedback=self.feedback(fields.get("feedback")),
            diagnose=self.flag(fields.get("diagnose", True), ("diagnose",)),
            rounding=rounding,
            engine=self.optional(fields, "engine", self.pin),
            salt=self.optional(fields, "salt", lambda value, path: self.text(value, path, "a salt", MAX_SALT)),
        )
        self.stop_if_wrong()
        return task

    def optional(
        self, fields: Mapping[str, Any], name: str, read: Callable[[Any, Path], Any], *under: str | int
    ) -> Any:
        return None if fields.get(name) is None else read(fields[name], (*under, name))

    def pin(self, value: object, path: Path) -> str:
        text = self.text(value, path, "a version of the engine")
        version = chainrule_engine.__version__
        if text and not ENGINE_PIN.fullmatch(text):
            self.problem(path, "a version is two or three numbers with points between them, such as 0.1")
        elif text and not same_engine(text, version):
            self.problem(path, f"this is engine {version}, and the task is pinned to {text}: change one of them")
        return text

    # -------------------------------------------------------------------------------------------- the checks

    def check(self, data: object, path: Path, truth: Truth, groups: Sequence[Group]) -> Check:
        fields = self.mapping(data, path, _CHECK_FIELDS, "a check")
        keys, single = self.keys(fields, path, truth)
        compare = self.compare(fields.get("compare"), (*path, "compare"), keys)
        bands = FULL_BAND
        if fields.get("bands") is not None:
            bands = self.bands(fields["bands"], (*path, "bands"), compare)
        credit = self.word(fields, path, "credit", CREDITS, "all")
        if credit != "all" and compare.rule.each is None:
            self.problem((*path, "credit"), f"{compare.mode} judges all numbers together: leave credit out")
        kink = self.word(fields, path, "kink", KINKS, "any_subgradient")
        if kink == "avoid" and truth.kinks:
            at = ", ".join(truth.kinks[:5])
            self.problem((*path, "kink"), f"the graph is evaluated exactly at a kink: at {at}; move an input")
        name = fields["id"] if "id" in fields else default_id(keys) if single else None
        if name is None and (keys or not single):
            self.problem(path, "a check of several quantities needs an id")
        group = self.optional(fields, "group", lambda value, place: self.text(value, place, "a group's id"), *path)
        if group is not None and group not in {known.id for known in groups}:
            self.problem((*path, "group"), f"no group has the id {quote(group)}")
        follow = self.fraction(fields.get("follow_through", 0), (*path, "follow_through"))
        if follow and (not isinstance(truth, GraphTruth) or truth.graph.points is not None):
            self.problem((*path, "follow_through"), "only the numbers of a graph at one point can be followed through")
        requires: list[str] = []
        if fields.get("requires") is not None:
            for place, item in self.items(fields["requires"], (*path, "requires"), "requires", most=MAX_CHECKS):
                requires.append(self.text(item, place, "a check's id"))
        title = self.optional(fields, "title", lambda value, place: self.text(value, place, "a title"), *path)
        return Check(
            id=self.text(name, (*path, "id"), "an id") if name is not None else "",
            title=title or default_title(keys, truth),
            keys=tuple(keys),
            points=self.points_of(fields.get("points", 1), (*path, "points")),
            compare=compare,
            single=single,
            visibility=self.word(fields, path, "visibility", VISIBILITIES, "visible"),
            bands=bands,
            credit=credit,
            kink=kink,
            requires=tuple(requires),
            follow_through=follow,
            group=group,
            number=self.optional(fields, "number", lambda value, place: self.text(value, place, "a number"), *path),
        )

    def word(self, fields: Mapping[str, Any], path: Path, name: str, words: Any, default: str) -> str:
        return default if fields.get(name) is None else self.choice(fields[name], (*path, name), words) or default

    def keys(self, fields: Mapping[str, Any], path: Path, truth: Truth) -> tuple[list[str], bool]:
        if "of" not in fields:
            self.problem(path, "say in `of` what the check looks at, such as gradients.a")
            return [], True
        of, place = fields["of"], (*path, "of")
        single = not isinstance(of, list)
        items = [(place, of)] if single else list(self.items(of, place, "of", least=1, most=MAX_KEYS))
        keys = []
        for where, item in items:
            if not isinstance(item, str):
                self.problem(where, f"a quantity is named by a string, and this is {describe(item)}")
                continue
            if len(item) > MAX_TEXT:
                self.problem(where, f"a quantity has a name of {MAX_TEXT} characters at most")
                continue
            if item in keys:
                self.problem(where, f"{quote(item)} is listed already")
            try:
                quantity(truth, item, shape=True)
            except KeyError:
                self.problem(
                    where, f"the task has no quantity {quote(item)}{_meant(item, truth)}: {what_there_is(truth)}"
                )
            else:
                keys.append(item)
        return keys, single

    def compare(self, data: object, path: Path, keys: Sequence[str]) -> Compare:
        preset = default_preset(keys)
        return read_compare(self, preset if data is None else data, path, preset)

    def bands(self, data: object, path: Path, compare: Compare) -> tuple[Band, ...]:
        if not compare.rule.banded:
            banded = ", ".join(name for name, mode in MODES.items() if mode.banded)
            self.problem(path, f"{compare.mode} has no tolerance that bands could be multiples of: take {banded}")
        bands: list[Band] = []
        for place, item in self.items(data, path, "bands", least=1, most=MAX_BANDS):
            fields = self.mapping(item, place, ("within", "credit"), "a band")
            within = self.number(fields.get("within"), (*place, "within"), above=0.0)
            credit = self.fraction(fields.get("credit"), (*place, "credit"))
            if bands and within is not None and not (within > bands[-1][0] and credit < bands[-1][1]):
                self.problem(
                    place, "bands go from the narrowest to the widest, their credit from the most to the least"
                )
            elif not bands and credit != 1:
                self.problem((*place, "credit"), "the first band's credit is 1, or nobody could earn all the points")
            if within is not None:
                bands.append((within, credit))
        return tuple(bands) or FULL_BAND

    def fraction(self, data: object, path: Path) -> Fraction:
        number = self.number(data, path, least=0, most=1)
        return Fraction(0) if number is None else exact(number)

    def points_of(self, data: object, path: Path) -> Fraction:
        number = self.number(data, path, least=0, most=MAX_POINTS)
        return Fraction(0) if number is None else exact(number)

    def some_points(self, data: object, path: Path) -> Fraction:
        number = self.number(data, path, above=0.0, most=MAX_POINTS)
        return Fraction(1) if number is None else exact(number)

    # ------------------------------------------------------------------------------------- groups and the whole

    def groups(self, data: object) -> list[Group]:
        groups = []
        for path, item in self.items(data, ("groups",), "groups", most=MAX_GROUPS):
            fields = self.mapping(item, path, _GROUP_FIELDS, "a group")
            name = self.text(fields.get("id"), (*path, "id"), "a group's id")
            title = self.optional(fields, "title", lambda value, place: self.text(value, place, "a title"), *path)
            groups.append(
                Group(
                    id=name,
                    title=title or name,
                    rule=self.word(fields, path, "rule", GROUP_RULES, "sum"),
                    cap=self.optional(fields, "cap", self.points_of, *path),
                    points=self.optional(fields, "points", self.some_points, *path),
                )
            )
        self.ids(groups, "groups")
        return groups

    def ids(self, things: Sequence[Check | Group], member: str) -> None:
        seen: set[str] = set()
        for place, thing in enumerate(things):
            if thing.id and thing.id in seen:
                self.problem((member, place, "id"), f"{quote(thing.id)} is the id of one before it: each is used once")
            seen.add(thing.id)

    def requirements(self, checks: Sequence[Check]) -> None:
        """Refuse requirements of unknown checks, of checks that students see later, and circles of them."""
        places = {check.id: place for place, check in enumerate(checks)}
        for place, check in enumerate(checks):
            for nth, wanted in enumerate(check.requires):
                if wanted and wanted not in places:
                    self.problem(("checks", place, "requires", nth), f"no check has the id {quote(wanted)}")
                elif wanted and not _is_seen_with(checks[places[wanted]], check):
                    self.problem(
                        ("checks", place, "requires", nth),
                        f"students see this check before {quote(wanted)}, and it would tell them that that is wrong: "
                        "show both at once, or require another",
                    )
        known = {check.id: [wanted for wanted in check.requires if wanted in places] for check in checks}
        try:
            TopologicalSorter(known).prepare()
        except CycleError as error:
            place = min(places[name] for name in error.args[1])
            self.problem(("checks", place, "requires"), "these requirements make a circle, so that none could be met")

    def points(self, checks: Sequence[Check], groups: Sequence[Group], rounding: str | None) -> list[Check]:
        """Give the checks of a group with points their shares of these; refuse what rounding would spoil."""
        shared = list(checks)
        for nth, group in enumerate(groups):
            members = [place for place, check in enumerate(checks) if check.group == group.id]
            if not members:
                self.problem(("groups", nth), "no check is in this group: name it in the checks' `group`")
            total = sum((checks[place].points for place in members), Fraction(0))
            if group.points is not None and members:
                if not total:
                    self.problem(("groups", nth, "points"), "these are shared among checks that are worth nothing")
                    continue
                for place in members:
                    shared[place] = replace(checks[place], points=checks[place].points * group.points / total)
        if rounding == "largest_remainder":
            for place, check in enumerate(shared):
                if check.points.denominator != 1:
                    self.problem(("checks", place, "points"), "to be rounded, a check is worth a whole number")
            for nth, group in enumerate(groups):
                if group.cap is not None:
                    self.problem(("groups", nth, "cap"), "largest_remainder shares the total out: leave cap out")
        elif rounding == "floor" and maximum(shared, groups).denominator != 1:
            self.problem(("rounding",), "nobody could earn all the points: their sum is no whole number")
        return shared

    def feedback(self, data: object) -> Feedback:
        if data is None:
            return Feedback()
        path: Path = ("feedback",)
        if not isinstance(data, dict):
            return Feedback(self.choice(data, path, LEVELS) or LEVELS[0])
        fields = self.mapping(data, path, ("level", "attempts"), "feedback")
        given = [] if fields.get("attempts") is None else fields["attempts"]
        attempts: list[tuple[int, str]] = []
        for place, item in self.items(given, (*path, "attempts"), "attempts", most=MAX_ATTEMPTS):
            entry = self.mapping(item, place, ("from", "level"), "an entry")
            first = self.number(entry.get("from"), (*place, "from"), least=1, whole=True)
            level = self.choice(entry.get("level"), (*place, "level"), LEVELS) or LEVELS[0]
            if first is not None and attempts and first <= attempts[-1][0]:
                self.problem((*place, "from"), "entries go from the first attempt to later ones")
            elif first is not None:
                attempts.append((int(first), level))
        return Feedback(self.word(fields, path, "level", LEVELS, Feedback().level), tuple(attempts))


def _meant(key: str, truth: Truth) -> str:
    """Ask whether another quantity was meant: the same of another member, or another of the same member."""
    member, dot, path = key.partition(".")
    if member in truth.members:
        inside = truth.shape(member)
        return closest(path, inside) if isinstance(inside, dict) else ""
    return closest(key, [name + dot + path for name in truth.members if _is_there(name + dot + path, truth)])


def _is_there(key: str, truth: Truth) -> bool:
    try:
        quantity(truth, key, shape=True)
    except KeyError:
        return False
    return True
