"""What a script prints on CodeRunner, CodeGrade, Autolab, Submitty, INGInious, and writes for Coursera."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from shlex import quote
from typing import Any

from chainrule_engine.drawing.svg import escape
from chainrule_engine.rendering.form import JSON, REASON, TEXT, Format, Option, Rendering
from chainrule_engine.rendering.view import FAILED, View, line, points


def write_coderunner(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write what a template grader prints: JSON in every case, and the process ends well, or CodeRunner says it broke.

    A combinator may have no other fields than CodeRunner knows, so it has no way to abort; it gives 0 and the reasons,
    and staff alone is shown why the grader failed. A per-test template aborts.
    """
    fraction = view.fraction if view.outcome == "graded" else 0.0
    if options["grader"] == "template":
        got = {"fraction": fraction, "got": "\n".join(view.lines()), "abort": view.outcome != "graded"}
        return Rendering(JSON, json.dumps(got))
    rows: list[list[Any]] = [["iscorrect", "Check", "Got", "Comment", "Points", "ishidden"]]
    for check in view.checks:
        earned = f"{points(check.score)} / {points(check.max_score)}"
        rows.append([check.passed, check.title, check.student, check.text, earned, not check.shown])
    above = [] if view.outcome == "graded" else view.lines()
    data = {
        "fraction": fraction,
        "prologuehtml": "".join(f"<p>{escape(text)}</p>" for text in above),
        "testresults": rows,
        "epiloguehtml": "".join(f"<p>{escape(text)}</p>" for text in view.notes),
        "columnformats": ["%s"] * 4,
        "showdifferences": False,
    }
    if view.outcome == "infrastructure_error" and options["reason"]:
        data["instructorhtml"] = f"<p>{escape(line(options['reason']))}</p>"
    return Rendering(JSON, json.dumps(data))


def write_codegrade(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write what a Custom Test of CodeGrade's AutoTest prints: texts for the student, then the line with the points."""
    del options
    if view.outcome == "infrastructure_error":
        return Rendering(TEXT, FAILED + "\n", exit_status=1)
    score, most = (Fraction(x).limit_denominator(10**6) for x in (view.score, view.max_score))
    if view.outcome != "graded" or not most:
        score, most = Fraction(0), most or Fraction(1)
    if score.denominator > 1 or most.denominator > 1:
        # k of n are whole numbers.
        score, most = map(Fraction, (score / most).as_integer_ratio())
    last = json.dumps({"tag": "points", "points": f"{score}/{most}"})
    return Rendering(TEXT, "\n".join([*map(_unlike_json, view.lines()), last, ""]))


def write_autolab(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write what Autolab's autodriver prints: texts, the table of tests, and on the last line the score.

    Without that line Autolab gives no score: so it is where the grader failed.
    """
    if view.outcome == "infrastructure_error":
        return Rendering(TEXT, FAILED + "\n", exit_status=1)
    tests: dict[str, Any] = {}
    for check in view.shown:
        name = check.title if check.title not in tests else f"{check.title} ({check.id})"
        tests[name] = {"passed": True} if check.passed else {"passed": False, "hint": check.text}
    score = view.score if view.outcome == "graded" else 0
    table = {"_presentation": "semantic", "stages": ["Checks"], "Checks": tests}
    lines = [json.dumps(table), json.dumps({"scores": {options["problem"]: score}})]
    return Rendering(TEXT, "\n".join([*map(_unlike_json, view.lines()), *lines]) + "\n")


def write_submitty(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write what a custom validator of Submitty prints on stdout, where nothing else may be."""
    del options
    if view.outcome == "infrastructure_error":
        return Rendering(JSON, json.dumps({"status": "failure", "message": FAILED}), exit_status=1)
    if view.outcome == "not_gradable":
        messages = [{"message": text, "status": "failure"} for text in view.lines()]
    else:
        messages = [
            {
                "message": f"{c.title}: {c.text}",
                "status": "success" if c.passed else "warning" if c.score else "failure",
            }
            for c in view.shown
        ]
        messages += [{"message": text, "status": "information"} for text in view.notes]
    score = view.fraction if view.outcome == "graded" else 0.0
    data = {"score": score, "message": messages, "status": _status(view.full, score)}
    return Rendering(JSON, json.dumps({"status": "success", "data": data}))


def _status(full: bool, score: float) -> str:
    return "success" if full else "warning" if score else "failure"


def write_inginious(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write the feedback commands of INGInious as a shell script, for the task's `run` to execute."""
    result = "success" if view.full else "crash" if view.outcome == "infrastructure_error" else "failed"
    grade = 100.0 * view.fraction if view.outcome == "graded" else 0.0
    message = "\n".join("- \\" + _RST.sub(r"\\\g<0>", text) for text in view.lines())
    problem = [] if options["problem"] is None else ["-i", quote(options["problem"])]
    commands = [
        ["feedback-result", result],
        ["feedback-grade", f"{grade:.10g}"],
        ["feedback-msg", *problem, "-m", quote(message)],
        ["feedback-custom", "report", quote(view.source["report_id"])],
    ]
    if problem:
        commands.insert(1, ["feedback-result", *problem, result])
    text = "".join(" ".join(command) + "\n" for command in commands)
    return Rendering("text/x-shellscript; charset=utf-8", text)


def write_coursera(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write `feedback.json` of Coursera's custom graders; the score is a number and never a bool."""
    del options
    score = view.fraction if view.outcome == "graded" else 0.0
    data = {"fractionalScore": score, "feedback": "\n".join(view.lines())}
    return Rendering(JSON, json.dumps(data), exit_status=int(view.outcome == "infrastructure_error"))


def _unlike_json(text: str) -> str:
    """A line that no platform takes for its JSON, whatever a student called a value."""
    return text.replace("{", "(").replace("}", ")")


#: What reStructuredText may take for markup inside a line; at its start a backslash keeps it from being a block's.
_RST = re.compile(r"[\\*`|_]|:(?=:|$)")

CODERUNNER = Format(
    write_coderunner,
    "CodeRunner (Moodle) template grader",
    "stdout",
    (
        Option(
            "grader", str, "what the question's template is: a combinator, or one for each test",
            default="combinator", choices=("combinator", "template"),
        ),
        REASON,
    ),
    silent=True,
)  # fmt: skip
CODEGRADE = Format(write_codegrade, "CodeGrade AutoTest v2 Custom Test", "stdout")
AUTOLAB = Format(
    write_autolab,
    "Autolab",
    "the end of stdout",
    (Option("problem", str, "the problem's name in Autolab", default="Correctness"),),
)
SUBMITTY = Format(write_submitty, "Submitty custom validator", "stdout or validation_results.json")
INGINIOUS = Format(
    write_inginious,
    "INGInious: commands of a run file",
    "sh",
    (Option("problem", str, "the id of the problem that the message is for; left out, the whole task"),),
)
COURSERA = Format(write_coursera, "Coursera custom grader", "/shared/feedback.json")
