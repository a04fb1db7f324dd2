"""Grading: a task and a student's answers give a report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import chainrule_engine
from chainrule_engine.grading.answers import read_answers
from chainrule_engine.grading.canonical import digest, digest_of_anything, wire
from chainrule_engine.grading.credit import earn
from chainrule_engine.grading.fields import pointer
from chainrule_engine.grading.judging import Judgement
from chainrule_engine.grading.messages import message
from chainrule_engine.grading.mistakes import find_mistakes
from chainrule_engine.grading.report import SCHEMA, Report, totals
from chainrule_engine.grading.tasks import PHASES, Check, Task, tidy
from chainrule_engine.grading.truth import quantity

#: What a submission is called is no longer than this.
MAX_ID = 200
#: What it may be called, as a regular expression: an id, which has no spaces, and no e-mail address. (A name without
#: spaces cannot be told from an id.)
SUBMISSION_ID = rf"(?!.*[^@]@[^@]*[^@.]\.[^@.])[A-Za-z0-9._:@/+=-]{{1,{MAX_ID}}}"
_SUBMISSION_ID = re.compile(SUBMISSION_ID, re.ASCII)


def is_submission_id(name: object) -> bool:
    """Tell whether something may be the id of a submission."""
    return isinstance(name, str) and len(name) <= MAX_ID and _SUBMISSION_ID.fullmatch(name) is not None


def grade(task: Task, answers: object, submission: Mapping[str, Any] | None = None, *, diagnose: bool = True) -> Report:
    """Grade a student's answers; never raises, whatever they are.

    answers     the wire's object: member → numbers; see `truth` for the members
    submission  {"id": an opaque name, "attempt": a number from 1}; anything else in it is left out of the report
    diagnose    whether to look for the mistakes behind wrong numbers, if the task wants it

    A missing, malformed or incomparable number earns nothing. Answers of which some cannot be read, or that hold none
    of what is asked, are `not_gradable`, with pointers into them.
    """
    return _Grading(task, answers, submission if isinstance(submission, Mapping) else {}, diagnose).report()


class _Grading:
    def __init__(self, task: Task, answers: object, submission: Mapping[str, Any], diagnose: bool) -> None:
        self.task, self.wants_diagnosis = task, diagnose and task.diagnose
        self.answers = read_answers(task.truth, answers)
        self.submission = _submission(submission) | {"digest": digest_of_anything(answers)}
        self.level = task.feedback.at(self.submission["attempt"])

    def report(self) -> Report:
        task = self.task
        problems = [{"detail": problem.detail, "pointer": pointer(problem.path)} for problem in self.answers.problems]
        if not problems and not any(self.is_given(check) for check in task.checks):
            # Of checks that students do not see, they are not told what these look at.
            seen = [check for check in task.checks if check.visibility == "visible"]
            asked = list(dict.fromkeys(key for check in seen for key in check.keys))
            some = (": " if asked else "") + ", ".join(asked[:5]) + (", …" if len(asked) > 5 else "")
            problems = [{"detail": f"none of the numbers that are asked for is given{some}", "pointer": "#"}]
        head = {
            "schema": SCHEMA,
            "task": {"id": task.id, "title": task.title, "digest": task.digest},
            "engine": dict(chainrule_engine.ENGINE),
            "submission": self.submission,
        }
        report: dict[str, Any] = {
            **head,
            "id": digest(head if self.wants_diagnosis == task.diagnose else {**head, "diagnose": False}),
            "outcome": "not_gradable" if problems else "graded",
            "feedback": self.level,
            "mistakes": [],
            "notes": self.answers.notes,
            "format_errors": problems,
            "withheld": 0,
            "staff": {"checks": {}, "mistakes": [], "blame": None},
        }
        if task.rounding is not None:
            report["rounding"] = task.rounding
        groups = [group.to_dict() for group in task.groups]
        if problems:
            checks = [self.entry(check, Fraction(0), False) for check in task.checks]
            report |= totals(checks, groups, task.rounding) | {"checks": []}
            report["staff"]["seen"] = {
                phase: totals([check for check in checks if check["visibility"] in seen], groups, None) | {"checks": []}
                for phase, seen in PHASES.items()
            }
        else:
            report |= self.graded(groups, report["staff"])
        return Report(report)

    def is_given(self, check: Check) -> bool:
        return any(not _is_empty(self.answers.find(key)) for key in check.keys)

    def graded(self, groups: list[dict[str, Any]], staff: dict[str, Any]) -> dict[str, Any]:
        found = earn(self.task, self.answers)
        entries = []
        for credited in found:
            judged, check = credited.judged, credited.judged.check
            said = message(judged, self.level, self.task.truth, self.answers)
            staff["checks"][check.id] = self.staff_entry(judged)
            if credited.follows:
                said = f"{said} It follows from your own earlier numbers, though, which are not right."
                staff["checks"][check.id]["followed_through"] = True
            if not credited.met:
                said = f"{said} It counts once the checks that it builds on are right."
            entry = self.entry(check, credited.earned.earned, credited.passed)
            entry |= {"student": self.student(check), "message": said}
            if judged.borderline:
                entry["borderline"] = True
            entries.append(entry)
        judgements = [credited.judged for credited in found]
        return totals(entries, groups, self.task.rounding) | self.mistakes(judgements, staff)

    def mistakes(self, judgements: Sequence[Judgement], staff: dict[str, Any]) -> dict[str, Any]:
        """Return the members of the report that name mistakes to students; those of all checks go to the staff."""
        failed = {judged.check.id: judged.check.keys for judged in judgements if not judged.passed}
        if not failed or not self.wants_diagnosis:
            return {}
        found = find_mistakes(self.task, self.answers, failed)
        staff["mistakes"], staff["blame"] = found.ranked, found.blame
        if found.failure is not None:
            staff["diagnosis_failed"] = found.failure
        if self.level == "pass_fail":
            return {}
        seen = {check.id: check.keys for check in self.task.checks if check.visibility == "visible"}
        if len(seen) < len(self.task.checks):
            # What students are told is not to depend on answers that they are told nothing of.
            failed = {name: keys for name, keys in failed.items() if name in seen}
            found = find_mistakes(self.task, self.answers, failed, {key for keys in seen.values() for key in keys})
        members: dict[str, Any] = {"mistakes": found.ranked[: found.told]}
        if self.level == "full" and found.blame is not None:
            # The ratio to the right number would give that away.
            members["blame"] = {name: entry for name, entry in found.blame.items() if name != "ratio"}
        return members

    def entry(self, check: Check, score: Fraction, passed: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": check.id,
            "number": check.number,
            "title": check.title,
            "of": check.of,
            "score": tidy(score),
            "max_score": tidy(check.points),
            "passed": passed,
            "visibility": check.visibility,
            "mode": check.compare.mode,
            **check.compare.shown(),
        }
        return entry if check.group is None else entry | {"group": check.group}

    def student(self, check: Check) -> Any:
        given = [wire(self.answers.find(key)) for key in check.keys]
        return given[0] if check.single else given

    def staff_entry(self, judged: Judgement) -> dict[str, Any]:
        check = judged.check
        expected = [wire(quantity(self.task.truth, key)) for key in check.keys]
        pairs = [
            (element.student, element.expected)
            for element in judged.elements
            if element.student is not None and element.expected is not None
        ]
        errors = [abs(student - number) for student, number in pairs]
        relative = [
            error / abs(number) if number else (0.0 if error == 0.0 else math.inf)
            for error, (_, number) in zip(errors, pairs, strict=True)
        ]
        intervals = [self.task.truth.intervals(key) for key in check.keys] if check.kink == "any_subgradient" else []
        worst = max((element.distance.multiple for element in judged.elements), default=math.inf)
        entry = {
            "expected": expected[0] if check.single else expected,
            "abs_err": wire(max(errors)) if errors else None,
            "rel_err": wire(max(relative)) if relative else None,
            "distance": wire(worst),
            "detail": f"{sum(element.credit == 1 for element in judged.elements)} of {len(judged.elements)} right",
        }
        if any(interval is not None for interval in intervals):
            entry["interval"] = wire(intervals[0] if check.single else intervals)
        return entry


def _submission(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the opaque id and the attempt, nothing else: a report holds no personal data."""
    name, attempt = given.get("id"), given.get("attempt")
    if not is_submission_id(name):
        name = None
    if not (type(attempt) is int and 0 < attempt < 2**53):
        attempt = None
    return {"id": name, "attempt": attempt}


def _is_empty(quantity: Any) -> bool:
    """Tell whether a quantity, as deep as the right one, holds no number."""
    if isinstance(quantity, dict):
        return all(map(_is_empty, quantity.values()))
    if isinstance(quantity, list):
        return all(map(_is_empty, quantity))
    return quantity is None
