"""What grading answers, as typed values. Members that this version does not know are kept in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import FieldError
from ._results import numbers_in


@dataclass(frozen=True)
class CheckResult:
    """One check of a report.

    Attributes:
        id: the check's.
        title: its words for people.
        score: what was earned, of `max_score`.
        passed: whether all of it is right.
        student: the number that was answered, or lists and objects of them; None without an answer.
        message: what is said of it.
        visibility: from when on students may see it.
    """

    id: str
    title: str
    score: float
    max_score: float
    passed: bool
    student: Any
    message: str
    visibility: str = "visible"
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CheckResult:
        """Read the wire's form."""
        return cls(
            id=data["id"],
            title=data.get("title", ""),
            score=data["score"],
            max_score=data["max_score"],
            passed=data["passed"],
            student=numbers_in(data.get("student")),
            message=data.get("message", ""),
            visibility=data.get("visibility", "visible"),
            raw=data,
        )


@dataclass(frozen=True)
class Mistake:
    """A known mistake that gives exactly the wrong numbers of the checks whose ids are in `explains`."""

    name: str
    message: str
    explains: tuple[str, ...]
    title: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Mistake:
        """Read the wire's form."""
        explains = tuple(data.get("explains", ()))
        return cls(data["name"], data.get("message", ""), explains, data.get("title", ""), raw=data)


@dataclass(frozen=True)
class Report:
    """What became of a submission.

    Attributes:
        id: the same for the same task, answers and submission, from the same engine.
        outcome: "graded"; "not_gradable": the answers cannot be read, which is no attempt and no zero; or
            "infrastructure_error": the service failed at this one of several, and has not recorded it.
        score: what was earned, of `max_score`; in a student's report, by the checks that students may see.
        fraction: the two divided.
        checks: one by one.
        mistakes: what may be behind wrong numbers, the likeliest first.
        notes: what else there is to say.
        format_errors: what cannot be read, with its place in the answers.
        withheld: how many checks the report does not show.
        staff: expected numbers and all that was found, in a report for staff.
        regrade: what it supersedes and what has changed, if it is a regrade.
        digest: the fingerprint of the report's text.
        retryable: whether the same may be sent again, of an infrastructure_error.
    """

    id: str
    outcome: str
    score: float
    max_score: float
    fraction: float
    checks: tuple[CheckResult, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()
    format_errors: tuple[FieldError, ...] = ()
    withheld: int = 0
    staff: Mapping[str, Any] | None = None
    regrade: Mapping[str, Any] | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    submission: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    retryable: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read the wire's form."""
        faults = data.get("format_errors", ())
        return cls(
            id=data["id"],
            outcome=data["outcome"],
            score=data["score"],
            max_score=data["max_score"],
            fraction=data["fraction"],
            checks=tuple(map(CheckResult.from_dict, data.get("checks", ()))),
            mistakes=tuple(map(Mistake.from_dict, data.get("mistakes", ()))),
            notes=tuple(data.get("notes", ())),
            format_errors=tuple(FieldError(item["detail"], item.get("pointer", "")) for item in faults),
            withheld=data.get("withheld", 0),
            staff=data.get("staff"),
            regrade=data.get("regrade"),
            task=data.get("task", {}),
            submission=data.get("submission", {}),
            engine=data.get("engine", {}),
            digest=data.get("digest", ""),
            retryable=data.get("retryable", False),
            raw=data,
        )


@dataclass(frozen=True)
class Rendering:
    """A report in the form that a grading platform reads; `exit_status` is what a grader there should end with."""

    text: str
    content_type: str
    exit_status: int = 0


@dataclass(frozen=True)
class GradingRecord:
    """A grading in a list: no report, but what was recorded beside it. The score is that of all checks."""

    id: str
    outcome: str
    score: float
    max_score: float
    task: Mapping[str, Any] = field(default_factory=dict)
    submission: Mapping[str, Any] = field(default_factory=dict)
    supersedes: str | None = None
    superseded_by: str | None = None
    reason: str | None = None
    created_at: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GradingRecord:
        """Read the wire's form."""
        return cls(
            id=data["id"],
            outcome=data["outcome"],
            score=data["score"],
            max_score=data["max_score"],
            task=data.get("task", {}),
            submission=data.get("submission", {}),
            supersedes=data.get("supersedes"),
            superseded_by=data.get("superseded_by"),
            reason=data.get("reason"),
            created_at=data.get("created_at", ""),
            raw=data,
        )


@dataclass(frozen=True)
class MissedMistake:
    """A mistake with which an engine gets full marks: `why`, at which `node` if at one, and what could be done."""

    name: str
    reason: str
    why: str
    node: str | None = None
    advice: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MissedMistake:
        """Read the wire's form."""
        words = {name: data.get(name, "") for name in ("reason", "why", "advice")}
        return cls(data["name"], node=data.get("node"), **words, raw=data)


@dataclass(frozen=True)
class ExerciseCheck:
    """What an exercise can tell.

    Attributes:
        publishable: whether there is no problem.
        problems: why it should not be published; the pointers lead into the task.
        warnings: what is probably not meant.
        caught: the names of the known mistakes that never get full marks.
        partly: name → how those engines work that get full marks with a mistake with which others do not.
        missed: those that do.
        not_applicable: those that cannot be made in it.
        ambiguous: groups of those that give the same numbers.
        suggestion: better `inputs`, and how many mistakes they catch, where there are any.
        extension: `nodes` to add, of which the last is the new `output`, and what is caught then, where there are any.
        key: the right gradients against central differences; None for a training.
    """

    publishable: bool
    problems: tuple[FieldError, ...]
    warnings: tuple[FieldError, ...]
    caught: tuple[str, ...]
    missed: tuple[MissedMistake, ...]
    not_applicable: tuple[str, ...]
    ambiguous: tuple[tuple[str, ...], ...]
    suggestion: Mapping[str, Any] | None = None
    key: Mapping[str, Any] | None = None
    partly: Mapping[str, str] = field(default_factory=dict)
    extension: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExerciseCheck:
        """Read the wire's form."""
        problems, warnings = (
            tuple(FieldError(item["detail"], item.get("pointer", "")) for item in data.get(name, ()))
            for name in ("problems", "warnings")
        )
        return cls(
            publishable=data["publishable"],
            problems=problems,
            warnings=warnings,
            caught=tuple(data.get("caught", ())),
            missed=tuple(map(MissedMistake.from_dict, data.get("missed", ()))),
            not_applicable=tuple(data.get("not_applicable", ())),
            ambiguous=tuple(map(tuple, data.get("ambiguous", ()))),
            suggestion=numbers_in(data.get("suggestion")),
            key=numbers_in(data.get("key")),
            partly={item["name"]: item.get("passes_with", "") for item in data.get("partly", ())},
            extension=data.get("extension"),
            raw=data,
        )
