"""What goes to another server: µEd, mugrade, Open edX's XQueue, LTI 1.3 Assignment and Grade Services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule_engine.drawing.svg import escape
from chainrule_engine.rendering.form import JSON, Format, Option, Rendering, RenderingError
from chainrule_engine.rendering.rounding import whole
from chainrule_engine.rendering.view import FAILED, UNREADABLE, Check, View


def write_mued(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write the answer of µEd's `POST /evaluate`, version 0.1.0: a list of Feedback, or an ErrorResponse.

    Left out: checks that are not shown. Source: schemas/muEd/openapi-v0_1_0.yml of the reference layer.
    """
    del options
    if view.outcome == "infrastructure_error":
        error: dict[str, Any] = {"title": "The grader failed", "message": FAILED, "code": "infrastructure_error"}
        return Rendering(JSON, json.dumps(error), exit_status=1, http_status=500)
    if view.outcome == "not_gradable":
        error = {"title": "Not gradable", "message": "; ".join(view.errors), "code": "not_gradable"}
        return Rendering(JSON, json.dumps(error | {"details": {"errors": view.errors}}), http_status=400)
    return Rendering(JSON, json.dumps([_feedback(check) for check in view.shown], indent=1))


def _feedback(check: Check) -> dict[str, Any]:
    feedback = {
        "feedbackId": check.id,
        "title": check.title,
        "message": check.text,
        "awardedPoints": float(check.score),
        "criterion": {"criterionId": check.id, "name": check.title},
    }
    if len(check.keys) == 1:
        # Ids may hold dots, so a key is divided at its first alone; parameters are a tree.
        head, _, rest = check.keys[0].partition(".")
        steps = [head, *(rest.split(".") if head == "parameters" else [rest] if rest else [])]
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
        locator = {"type": "json-pointer", "pointer": pointer}
        feedback["target"] = {"artefactType": "OTHER", "locator": locator}
    return feedback


def write_mugrade(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write mugrade's `{"correct": …}`: of one check, counted from 0 in the order of the task, or of all."""
    correct = view.full
    if options["index"] is not None and view.outcome == "graded":
        if options["index"] >= len(view.checks):
            raise RenderingError.at(("options", "index"), f"there are {len(view.checks)} checks, counted from 0")
        correct = view.checks[options["index"]].passed
    failed = view.outcome == "infrastructure_error"
    return Rendering(JSON, json.dumps({"correct": correct}), int(failed), 500 if failed else 200)


def write_xqueue(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write the `xqueue_body` of Open edX's `put_result`: whole points, and a message that is well-formed XML.

    The LMS drops a reply whose `msg` is no XML. Where the grader failed the text is empty and nothing is to be put:
    the queue serves the submission again.
    """
    if view.outcome == "infrastructure_error":
        return Rendering(JSON, "", exit_status=1, http_status=503)
    first: list[str] = []
    rest = view.lines()
    if view.outcome == "not_gradable":
        first, rest = [f"<p>{escape(UNREADABLE)}</p>"], view.errors
    items = "".join(f"<li>{escape(text)}</li>" for text in rest)
    message = "".join(["<div>", *first, *([f"<ul>{items}</ul>"] if items else []), "</div>"])
    score, _ = whole(view.score if view.outcome == "graded" else 0, view.max_score, options["points"])
    return Rendering(JSON, json.dumps({"correct": view.full, "score": score, "msg": message}))


def write_lti(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write an LTI-AGS score. The line item's `/scores` goes before its query string; timestamps must increase.

    Only `FullyGraded` comes with a score: platforms ignore it with anything else. A score of 0 is sent as such.
    """
    graded = view.outcome == "graded"
    score: dict[str, Any] = {"userId": options["user"], "timestamp": options["timestamp"]}
    if graded:
        score |= {"scoreGiven": view.score, "scoreMaximum": view.max_score}
    score |= {
        "comment": "\n".join(view.lines()),
        "activityProgress": "Completed" if graded else "Submitted",
        "gradingProgress": "FullyGraded" if graded else "Failed",
    }
    if options["submitted_at"] is not None:
        score["submission"] = {"submittedAt": options["submitted_at"]}
    status = int(view.outcome == "infrastructure_error")
    return Rendering("application/vnd.ims.lis.v1.score+json", json.dumps(score), exit_status=status)


MUED = Format(write_mued, "µEd 0.1.0: list of Feedback", "the answer of POST /evaluate")
MUGRADE = Format(
    write_mugrade,
    "mugrade",
    "the answer of POST /submit_test",
    (Option("index", int, "test_case_index: the check, counted from 0; left out, all of them", least=0),),
)
XQUEUE = Format(
    write_xqueue,
    "Open edX XQueue",
    "the form field xqueue_body of POST /xqueue/put_result/",
    (Option("points", int, "the points of the problem in the course; left out, those of the task"),),
)
LTI = Format(
    write_lti,
    "LTI 1.3 Assignment and Grade Services",
    "the body of POST {lineitem}/scores",
    (
        Option("user", str, "the userId that the platform gave", required=True),
        Option("timestamp", str, "now, in ISO 8601 with an offset; later than that of the score before", required=True),
        Option("submitted_at", str, "when the student submitted; without it, submissions may be shown as late"),
    ),
)
