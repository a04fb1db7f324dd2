"""Gradescope: `results.json` of an autograder.

The form is that of gradescope/autograder_samples, docs/specs.md. Gradescope itself shows each test when its visibility
says so, so tests are marked and none is left out. While one is not shown yet, students do not see the total either: the
text over the tests says what they have of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule_engine.rendering.form import JSON, Format, Rendering
from chainrule_engine.rendering.view import FAILED, UNREADABLE, Check, View, points

_VISIBILITY = {"visible": "visible", "after_due_date": "after_due_date", "after_published": "after_published"}


def write(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write `results.json`; also where the grader failed, for without it students see nothing at all."""
    del options
    if view.outcome == "not_gradable":
        tests = [_unreadable(view)]
        output = UNREADABLE + " see the test below, correct the file and submit again."
    elif view.outcome == "infrastructure_error":
        tests, output = [], FAILED
    else:
        tests, output = [_test(check) for check in view.checks], "\n".join([_standing(view), *view.notes])
    results = {
        "score": view.score,
        "output": output,
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {**view.source, "outcome": view.outcome},
        "tests": tests,
    }
    return Rendering(JSON, json.dumps(results, indent=1))


def _test(check: Check) -> dict[str, Any]:
    return {
        "number": check.number,
        "name": check.title,
        "score": check.score,
        "max_score": check.max_score,
        "status": "passed" if check.passed else "failed",
        "output": "\n".join(check.lines),
        "visibility": _VISIBILITY.get(check.visibility, "hidden"),
        "tags": sorted({key.partition(".")[0] for key in check.keys}),
    }


def _unreadable(view: View) -> dict[str, Any]:
    return {
        "number": "0",
        "name": "Answers can be read",
        "score": 0,
        "max_score": view.max_score,
        "status": "failed",
        "output": "\n".join(view.errors),
        "visibility": "visible",
        "tags": [],
    }


def _standing(view: View) -> str:
    """What students have of the tests that they see at once."""
    later = sum(check.visibility != "visible" for check in view.checks)
    if not later:
        return f"{points(view.score)} of {points(view.max_score)} points."
    passed = sum(check.passed for check in view.checks if check.visibility == "visible")
    return f"Tests shown at once: {passed} of {len(view.checks) - later} passed. Others, shown later or never: {later}."


FORMAT = Format(write, "Gradescope autograder", "results/results.json")
