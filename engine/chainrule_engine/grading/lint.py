"""What is questionable about a task though it breaks no rule: to be looked at before it is published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule_engine.errors import Problem
from chainrule_engine.grading.answers import read_answers
from chainrule_engine.grading.canonical import wire
from chainrule_engine.grading.judging import Judgement, judge
from chainrule_engine.grading.tasks import Check, Task

#: Comparisons whose settings hold what is right.
_HOLDING_KEYS = ("range", "any_of", "threshold")

#: Comparisons that ask nothing of the right numbers.
_FREE = ("monotone", "range", "threshold")


def right_answers(task: Task) -> dict[str, Any]:
    """Return the answers that are right, with every number that a student can give: for the staff alone.

    A Jacobian is there if a check asks for it. In the form of the wire: numbers that are not finite are words.
    """
    return {member: wire(task.truth.member(member)) for member in task.truth.members if _is_given(task, member)}


def lint(task: Task) -> list[Problem]:
    """Return what is questionable, with paths into the task: tolerances of 0, or larger than what is
    expected, checks that right answers fail, keys that could be found by trying, kinks.

    It computes the right numbers, so a training runs.
    """
    return [problem for problem, _ in look_at(task)]


def look_at(task: Task) -> list[tuple[Problem, bool]]:
    """Return what `lint` does, and of each whether it is that right answers fail a check."""
    answers = read_answers(task.truth, right_answers(task))
    found: list[tuple[Problem, bool]] = []
    invented = _takes_invented_losses(task.checks)
    for place, check in enumerate(task.checks):
        judged = judge(check, task.truth, answers)
        detail = _questionable(check, judged)
        if detail is None and invented and "loss_history" in check.keys:
            detail = (
                f"no check compares the losses with the right ones, and invented ones pass {check.compare.mode}: ask "
                "for them in the mode sequence as well, or for some of them"
            )
        if detail is not None:
            found.append((Problem(("checks", place, "compare"), detail), not judged.passed))
        if check.compare.mode in _HOLDING_KEYS and task.salt is None:
            detail = (
                "this key stands in the task: whoever tries keys finds it by the id of a report; give the task a "
                '"salt", as random as a password'
            )
            found.append((Problem(("checks", place, "compare", "mode"), detail), False))
    kinked = ("gradients", "jacobian")
    at_kinks = [check for check in task.checks if any(key.partition(".")[0] in kinked for key in check.keys)]
    if task.truth.kinks and at_kinks:
        nodes = ", ".join(task.truth.kinks[:5])
        detail = (
            f"the graph is evaluated exactly at a kink or a jump ({nodes}): other engines may choose other gradients"
        )
        found.append((Problem(("evaluation", "graph"), detail), False))
    return found


def _takes_invented_losses(checks: Sequence[Check]) -> bool:
    looking = [check for check in checks if any(key.partition(".")[0] == "loss_history" for key in check.keys)]
    return all(check.compare.mode in _FREE for check in looking)


def _is_given(task: Task, member: str) -> bool:
    if member == "jacobian" and not any(key.partition(".")[0] == member for check in task.checks for key in check.keys):
        return False
    return task.truth.member(member) not in (None, {}, [])


def _questionable(check: Check, judged: Judgement) -> str | None:
    """Say what is questionable about a comparison, the right answers being judged."""
    expected = [element.expected for element in judged.elements if element.expected is not None]
    if not judged.passed:
        if any(map(math.isnan, expected)):
            return "NaN is expected, and nothing is right: set equal_nan, or change the inputs"
        return f"the right numbers themselves do not pass: mend the settings of {check.compare.mode}"
    if check.compare.rule.each is None or not check.compare.rule.banded:
        return None
    finite = list(filter(math.isfinite, expected))
    # Of 0 the next number is so small that even a sum of roundings is above it.
    exact = [number for number in finite if not _accepts(check, math.nextafter(number, math.inf), number)]
    if exact and not all(exact):
        return "the tolerance is 0 where 0 is expected: any rounding error is wrong; give an atol, or a zero_level"
    if exact:
        return "the tolerance is 0: any rounding error is wrong"
    if any(number and _accepts(check, 0.0, number) for number in finite):
        return "0 would be right as well: the tolerance is larger than a number that is expected"
    return None


def _accepts(check: Check, student: float, expected: float) -> bool:
    return check.compare.measure(student, expected).within()
