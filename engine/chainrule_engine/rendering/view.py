"""A report read for its renderers: what students may see, with texts that are safe to write, and nothing of `staff`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from chainrule_engine.grading import PHASES, Report

#: Control characters steer terminals, end texts early (NUL) or are no characters of XML; none has a place in a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
#: UTF-8 has no form for half of a surrogate pair.
_HALF = re.compile("[\ud800-\udfff]")

#: A list of numbers is shown by its first so many.
_SHOWN_NUMBERS = 5
#: No text of a check or an error is longer: the platforms' caps are on the whole.
_LONGEST = 2000

FAILED = "The grader failed. This is not about your answers: they have not been graded. Please tell the course staff."
UNREADABLE = "The answers could not be read, and nothing was graded:"


@dataclass(frozen=True)
class Check:
    """One check.

    keys      the quantities that it is about, e.g. ("gradients.a",)
    shown     students may see it in this phase
    student   their number as text; "" without one
    lines     what is said about it: the message, then the mistakes that explain it
    group     the id of its group; None without one
    """

    id: str
    number: str
    title: str
    keys: tuple[str, ...]
    score: float
    max_score: float
    passed: bool
    visibility: str
    shown: bool
    student: str
    lines: tuple[str, ...]
    group: str | None

    @property
    def text(self) -> str:
        """All that is said about it, in one line."""
        return ". ".join([text.removesuffix(".") for text in self.lines[:-1]] + list(self.lines[-1:]))


@dataclass(frozen=True)
class View:
    """A report without `staff`.

    outcome    "graded", "not_gradable", "infrastructure_error"
    score, max_score, fraction   of all checks, shown or not: they are for the gradebook
    checks     all, in order; a renderer leaves out or marks those that are not `shown`
    faults     of answers that are not gradable: (pointer into them, what is wrong there)
    notes      for the student
    source     the report's id, the engine's version
    student    the report itself as students may see it
    """

    outcome: str
    task_id: str
    title: str
    score: float
    max_score: float
    fraction: float
    checks: tuple[Check, ...]
    faults: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    source: Mapping[str, str]
    student: Mapping[str, Any]

    @property
    def errors(self) -> list[str]:
        """The faults as texts: "/gradients/a: must be a number"."""
        places = [unquote(pointer.removeprefix("#")) for pointer, _ in self.faults]
        return [line(f"{at}: {said}" if at else said) for at, (_, said) in zip(places, self.faults, strict=True)]

    @property
    def shown(self) -> list[Check]:
        """The checks that students may see."""
        return [check for check in self.checks if check.shown]

    @property
    def withheld(self) -> list[str]:
        """A line that says how many checks are not shown; none where all are."""
        count = len(self.checks) - len(self.shown)
        return [f"{count} more check{'s are' if count > 1 else ' is'} not shown here."] if count else []

    @property
    def full(self) -> bool:
        """All points, and all checks passed: points alone can come from following through, or up to a cap."""
        return self.outcome == "graded" and self.score >= self.max_score and all(c.passed for c in self.checks)

    def lines(self) -> list[str]:
        """All that students are told, a line for each thing; no total where it would tell of what is not shown."""
        if self.outcome == "infrastructure_error":
            return [FAILED]
        if self.outcome == "not_gradable":
            return [UNREADABLE, *self.errors]
        checks = [f"{c.title}: {points(c.score)} of {points(c.max_score)}. {c.text}".rstrip() for c in self.shown]
        total = self.withheld or [f"Total: {points(self.score)} of {points(self.max_score)}."]
        return [*checks, *total, *self.notes]


def read(report: Mapping[str, Any], phase: str) -> View:
    """Read a report of the staff audience for students in a phase."""
    student = Report.from_dict(report).to_dict("student", phase)
    blame = student.get("blame")
    texts: dict[str, list[str]] = {}
    for mistake in report["mistakes"]:
        for check in mistake["explains"]:
            texts.setdefault(check, []).append(line(mistake["message"]))
    task, engine = report["task"], report["engine"]
    return View(
        outcome=report["outcome"],
        task_id=line(task.get("id") or ""),
        title=line(task.get("title") or task.get("id") or "Task"),
        score=report["score"],
        max_score=report["max_score"],
        fraction=min(1.0, max(0.0, float(report["fraction"]))),
        checks=tuple(_read_check(check, place, texts, phase) for place, check in enumerate(report["checks"], start=1)),
        faults=tuple((line(error["pointer"] or ""), line(error["detail"])) for error in report["format_errors"]),
        notes=tuple(map(line, [*([blame["message"]] if blame else []), *student["notes"]])),
        source={
            "report_id": line(report.get("id") or ""),
            "chainrule": line(engine["version"]),
        },
        student=student,
    )


def _read_check(check: Mapping[str, Any], place: int, mistakes: Mapping[str, list[str]], phase: str) -> Check:
    of = check["of"]
    lines = [line(check["message"] or ""), *mistakes.get(check["id"], ())]
    return Check(
        id=line(check["id"]),
        number=line(str(check.get("number") or place)),
        title=line(check.get("title") or check["id"]),
        keys=(of,) if isinstance(of, str) else tuple(of),
        score=check["score"],
        max_score=check["max_score"],
        passed=check["passed"] is True,
        visibility=check["visibility"],
        shown=check["visibility"] in PHASES[phase],
        student=_number(check.get("student")),
        lines=tuple(dict.fromkeys(filter(None, lines))),
        group=check.get("group"),
    )


def _number(student: object) -> str:
    if student is None:
        return ""
    if isinstance(student, str):
        return line(student)
    if isinstance(student, Mapping):
        return f"{len(student)} values"
    if isinstance(student, Sequence):
        first = ", ".join(map(_number, student[:_SHOWN_NUMBERS]))
        return f"[{first}]" if len(student) <= _SHOWN_NUMBERS else f"[{first}, …] ({len(student)} numbers)"
    return repr(student)


def line(text: str) -> str:
    """Return a text as one line of bounded length that can be written anywhere as UTF-8."""
    text = " ".join(text[: _LONGEST + 1].split())
    text = _HALF.sub("\ufffd", _CONTROL.sub("", text))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def points(score: float) -> str:
    """Write a score: at most six digits, none after the point where it is whole."""
    return f"{score:.6g}"
