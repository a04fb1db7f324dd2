"""Otter and nbgrader, which grade notebooks. `chainrule_engine.testing` has what goes into their cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule_engine.rendering.form import JSON, TEXT, Format, Option, Rendering, RenderingError
from chainrule_engine.rendering.view import View


def write_otter(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write one case for each check, with the arguments of Otter's `@test_case` and whether it is passed.

    A test file goes through the cases and raises AssertionError(failure_message) for those that are not; Otter itself
    hides what is `hidden`. What was not graded is one case that is failed.
    """
    del options
    if view.outcome == "graded":
        cases: list[dict[str, Any]] = [
            {
                "name": check.title,
                "points": check.max_score,
                "hidden": not check.shown,
                "passed": check.passed,
                "success_message": check.text if check.passed else None,
                "failure_message": None if check.passed else check.text or "not correct",
            }
            for check in view.checks
        ]
    else:
        told = {"success_message": None, "failure_message": "\n".join(view.lines())}
        cases = [{"name": view.title, "points": view.max_score, "hidden": False, "passed": False} | told]
    data = {"name": view.title, "points": view.max_score, "all_or_nothing": False, "test_cases": cases}
    return Rendering(JSON, json.dumps(data, indent=1), exit_status=int(view.outcome == "infrastructure_error"))


def write_nbgrader(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write the points as Python writes a float, from 0 to the cell's points: nbgrader takes all else for full points.

    With the option `check`, those of that check alone: one cell for each.
    """
    points = earned(view, options["points"], options["check"])
    return Rendering(TEXT, repr(points), exit_status=int(view.outcome == "infrastructure_error"))


def earned(view: View, top: float | None, check: str | None) -> float:
    """Return the points, of a check or of all, out of `top`; 0 for what was not graded.

    Raises RenderingError where there is no such check.
    """
    score, most = view.score, view.max_score
    if check is not None and view.outcome == "graded":
        found = [each for each in view.checks if each.id == check]
        if not found:
            raise RenderingError.at(("options", "check"), f"there are {', '.join(each.id for each in view.checks)}")
        score, most = found[0].score, found[0].max_score
    if view.outcome != "graded" or not most > 0:
        return 0.0
    top = float(most if top is None else top)
    return min(top, max(0.0, score / most * top))


OTTER = Format(write_otter, "Otter: cases of an exception-based test file", "a test file of the autograder")
NBGRADER = Format(
    write_nbgrader,
    "nbgrader: the last expression of an autograder test cell",
    "the last line of the cell",
    (
        Option("points", int, "the points of the cell; left out, those of the task or of the check"),
        Option("check", str, "the id of the one check that the cell is for"),
    ),
)
