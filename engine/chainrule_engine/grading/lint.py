"""What is questionable about a task though it breaks no rule: to be looked at before it is published."""

from __future__ import annotations

import math
from typing import Any

from chainrule_engine.errors import Problem
from chainrule_engine.grading.answers import read_answers
from chainrule_engine.grading.canonical import wire
from chainrule_engine.grading.comparison import Distance
from chainrule_engine.grading.judging import Element, judge
from chainrule_engine.grading.tasks import Check, Task
from chainrule_engine.grading.truth import Truth


def right_answers(task: Task) -> dict[str, Any]:
    """Return the answers that are right, with every number that a student can give: for the staff alone.

    In the form of the wire: numbers that are not finite are words.
    """
    return {member: wire(task.truth.member(member)) for member in task.truth.members if _is_given(task.truth, member)}


def lint(task: Task) -> list[Problem]:
    """Return what is questionable, with paths into the task: tolerances of 0, checks that right answers fail, kinks.

    It computes the right numbers, so a training runs.
    """
    answers = read_answers(task.truth, right_answers(task))
    problems: list[Problem] = []
    for place, check in enumerate(task.checks):
        path = ("checks", place, "compare")
        judged = judge(check, task.truth, answers)
        if not judged.passed:
            problems.append(Problem(path, _why_wrong(check, judged.elements)))
        elif any(map(_has_no_tolerance, [check] * len(judged.elements), judged.elements)):
            detail = "the tolerance is 0 where 0 is expected: any rounding error is wrong; give an atol or a zero_level"
            if all(element.expected for element in judged.elements):
                detail = "the tolerance is 0: any rounding error is wrong"
            problems.append(Problem(path, detail))
    at_kinks = [check for check in task.checks if any(key.startswith("gradients.") for key in check.keys)]
    if task.truth.kinks and at_kinks:
        nodes = ", ".join(task.truth.kinks[:5])
        detail = (
            f"the graph is evaluated exactly at a kink or a jump ({nodes}): other engines may choose other gradients"
        )
        problems.append(Problem(("evaluation", "graph"), detail))
    return problems


def _is_given(truth: Truth, member: str) -> bool:
    return member != "jacobian" and truth.member(member) not in (None, {}, [])


def _why_wrong(check: Check, elements: list[Element]) -> str:
    if any(element.expected is not None and math.isnan(element.expected) for element in elements):
        return "NaN is expected, and nothing is right: set equal_nan, or change the inputs"
    return f"the right numbers themselves do not pass: mend the settings of {check.compare.mode}"


def _has_no_tolerance(check: Check, element: Element) -> bool:
    """Tell whether the number next to the right one would be wrong."""
    expected = element.expected
    if check.compare.rule.each is None or not check.compare.rule.banded or expected is None:
        return False
    if not math.isfinite(expected):
        return False
    nearest: Distance = check.compare.measure(math.nextafter(expected, math.inf), expected)
    return not nearest.within()
