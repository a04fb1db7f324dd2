"""JSON, Classroom 50, check50 and JUnit: records of tests that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule_engine.drawing.svg import escape
from chainrule_engine.grading import canonical
from chainrule_engine.rendering.form import JSON, XML, Format, Option, Rendering
from chainrule_engine.rendering.rounding import share, whole
from chainrule_engine.rendering.view import FAILED, Check, View


def write_json(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write the report itself as students may see it, in the bytes that digests are taken of."""
    del options
    return Rendering(JSON, canonical(view.student), exit_status=int(view.outcome == "infrastructure_error"))


def write_classroom50(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write `result.json`, schema `classroom50/result/v1`: whole points, and failing tests are no failure.

    The tests' points are shares of the total; those of checks that are not shown are in the total alone.
    """
    graded = view.outcome == "graded"
    score, most = whole(view.score if graded else 0, view.max_score, options["points"])
    maxima = share(most, [check.max_score for check in view.checks])
    scores = share(score, [check.score for check in view.checks], maxima)
    tests = [
        {"test-name": check.title, "passed": check.passed, "score": got, "max-score": of}
        for check, got, of in zip(view.checks, scores, maxima, strict=True)
        if check.shown
    ]
    if not graded:
        tests = [{"test-name": " ".join(view.lines()), "passed": False, "score": 0, "max-score": most}]
    result = {
        "schema": "classroom50/result/v1",
        **{name: options[name] or "" for name in ("classroom", "assignment")},
        "usernames": [options["username"]] if options["username"] else [],
        **{name: options[name] or "" for name in ("submission", "commit", "release", "review")},
        "datetime": options["datetime"] or "",
        "score": score,
        "max-score": most,
        "tests": tests,
    }
    return Rendering(JSON, json.dumps(result, indent=1), exit_status=int(view.outcome == "infrastructure_error"))


def write_check50(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write what `check50 -o json` prints; `expected` and `actual` of a cause are left out for good."""
    if view.outcome == "infrastructure_error":
        error = {"type": "InfrastructureError", "value": FAILED, "traceback": [], "data": {}}
        data: dict[str, Any] = {"slug": options["slug"], "error": error}
        return Rendering(JSON, json.dumps(data | {"version": view.source["chainrule"]}), exit_status=1)
    if view.outcome == "not_gradable":
        results = [_result("answers", "the answers can be read", None, "; ".join(view.errors) or "not gradable")]
    else:
        results = [_result(c.id, c.title, c.passed, c.text or "not correct") for c in view.shown]
    data = {"slug": options["slug"], "results": results, "version": view.source["chainrule"]}
    return Rendering(JSON, json.dumps(data, indent=1))


def _result(name: str, description: str, passed: bool | None, rationale: str) -> dict[str, Any]:
    cause = None if passed else {"rationale": rationale, "help": None}
    return {
        "name": name,
        "description": description,
        "passed": passed,
        "log": [],
        "cause": cause,
        "data": {},
        "dependency": None,
    }


def write_junit(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write JUnit's XML: `failure` is the student's, `error` the grader's. Cases are named by the checks' ids."""
    del options
    failures = errors = 0
    if view.outcome == "graded":
        cases = [_case(view, check) for check in view.shown]
        failures = sum(not check.passed for check in view.shown)
    else:
        kind = "failure" if view.outcome == "not_gradable" else "error"
        failures, errors = int(kind == "failure"), int(kind == "error")
        message = f'<{kind} message="{escape(" ".join(view.lines()))}"/>'
        cases = [f'<testcase classname="{escape(view.task_id)}" name="answers">{message}</testcase>']
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" skipped="0"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="{escape(view.title)}" {counts}>',
        *cases,
        "</testsuite>",
        "",
    ]
    return Rendering(XML, "\n".join(lines), exit_status=errors)


def _case(view: View, check: Check) -> str:
    start = f'<testcase classname="{escape(view.task_id)}" name="{escape(check.id)}"'
    if check.passed:
        return start + "/>"
    return f'{start}><failure message="{escape(f"{check.title}: {check.text}")}"/></testcase>'


JSON_REPORT = Format(write_json, "chainrule.report/1 as students may see it", "anywhere")
CLASSROOM50 = Format(
    write_classroom50,
    "Classroom 50",
    "./result.json",
    (
        Option("points", int, "the points of the assignment; left out, those of the task"),
        Option("classroom", str, "the classroom", environment="CLASSROOM"),
        Option("assignment", str, "the assignment", environment="ASSIGNMENT"),
        Option("username", str, "the student's account", environment="USERNAME"),
        Option("submission", str, "the tag of the submission", environment="SUBMISSION_TAG"),
        Option("commit", str, "its address", environment="COMMIT_URL"),
        Option("release", str, "its address", environment="RELEASE_URL"),
        Option("review", str, "its address", environment="REVIEW_URL"),
        Option("datetime", str, "YYYY-MM-DDTHH:MM:SSZ; left out, the command says now", now=True),
    ),
)
CHECK50 = Format(
    write_check50,
    "check50 -o json",
    "stdout",
    (Option("slug", str, "the name of the checks", default="chainrule"),),
)
JUNIT = Format(write_junit, "JUnit XML (Artemis, CI)", "a file of test results")
