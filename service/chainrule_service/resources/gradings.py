"""Gradings: answers against the right numbers of a task, and the reports that come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_engine.errors import InvalidInput
from chainrule_engine.grading import AUDIENCES, PHASES, canonical
from chainrule_engine.grading.fields import MAX_TEXT
from chainrule_engine.rendering import FORMATS, RenderingError, render
from chainrule_service import grading
from chainrule_service.documented import JSON, documented, ref
from chainrule_service.exchange import (
    answer,
    answer_page,
    demand,
    json_answer,
    needs,
    owner,
    read_body,
    service,
    takes_query,
)
from chainrule_service.fields import JsonSchema, refuse
from chainrule_service.grading_fields import GradingBatchRequest, GradingRequest
from chainrule_service.grading_reading import Bounds, Entry, read, read_batch
from chainrule_service.grading_schemas import EXAMPLE, SCHEMAS
from chainrule_service.gradings import OUTCOMES, REPORT_ID, Grading, Gradings
from chainrule_service.problems import RequestError

blueprint = Blueprint("gradings", __name__, description="Answers against the right numbers.")

__all__ = ["SCHEMAS", "blueprint"]

_REQUEST, _BATCH = GradingRequest(), GradingBatchRequest()

_AUDIENCE: JsonSchema = {
    "name": "audience",
    "schema": {"type": "string", "enum": list(AUDIENCES), "default": AUDIENCES[0]},
    "description": "Who the report is for. With `staff` it has the expected numbers; a key needs the scope staff.",
}
_PHASE: JsonSchema = {
    "name": "phase",
    "schema": {"type": "string", "enum": list(PHASES), "default": next(iter(PHASES))},
    "description": "How far the work on the task has come: which checks students may see depends on it.",
}
_FORMAT: JsonSchema = {
    "name": "format",
    "schema": {"type": "string", "enum": list(FORMATS)},
    "description": (
        "Answer in the form that a platform reads, with what students may see and the totals of all checks: "
        + "; ".join(f"`{name}`: {form.description}" for name, form in FORMATS.items())
        + ". The header Chainrule-Exit-Status has the exit status that a grader there should end with."
    ),
}
_TYPED = {JSON: ref("Report"), "text/plain": {"type": "string"}, "application/xml": {"type": "string"}}


@blueprint.post("/v1/gradings")
@takes_query("audience", "phase", "format")
@documented(
    body=GradingRequest,
    examples={
        "gradients in which a way was forgotten": EXAMPLE,
    },
    answers={
        200: ("The report: the same was graded before, or it was not to be kept.", _TYPED),
        201: ("The report, which is now kept at Location.", _TYPED),
    },
    parameters=(_AUDIENCE, _PHASE, _FORMAT),
)
@needs("grade")
def create_grading() -> Response:
    """Grade answers: whatever they are, they get a report, with `outcome` not_gradable where they cannot be read."""
    seen = _Seen()
    loaded = read_body(_REQUEST)
    entry = _allowed(read(loaded, Bounds.here()))
    options = loaded["options"]
    seen.check(options)
    (done,) = grading.grade_now([entry], store=loaded["store"], reason=loaded["reason"])
    if isinstance(done, InvalidInput):
        raise done
    headers = {"Location": f"/v1/gradings/{done.report.id}"} if done.new else {}
    return seen.answer(done, options, 201 if done.new else 200, headers)


@blueprint.post("/v1/gradings/batch")
@takes_query("audience", "phase")
@documented(
    body=GradingBatchRequest,
    examples={
        "two submissions of one task": {
            "task": EXAMPLE["task"],
            "submissions": [
                {"answers": EXAMPLE["answers"], "submission": {"id": "s-1"}},
                {"answers": {"value": "-8.0"}, "submission": {"id": "s-2"}},
            ],
        }
    },
    answers={200: ("A report or a problem for each, in order.", ref("GradingBatch"))},
    parameters=(_AUDIENCE, _PHASE),
)
@needs("grade")
def create_gradings() -> Response:
    """Grade several submissions, each by itself; all reports are recorded, or none.

    One that cannot be graded for a fault of the service has a report with `outcome` infrastructure_error, which is not
    recorded.
    """
    seen = _Seen()
    loaded = read_body(_BATCH)
    entries = read_batch(loaded, Bounds.here())
    known = [_allowed(entry) for entry in entries if isinstance(entry, Entry)]
    done = grading.grade_now(known, store=loaded["store"], reason=loaded["reason"], by=grading.grade_or_fail)
    told = grading.told(loaded, entries, done, *seen.by)
    return json_answer(f'{{"data":[{",".join(map(canonical, told))}]}}')


@blueprint.get("/v1/gradings")
@takes_query("task", "submission", "outcome", "limit", "cursor")
@documented(
    answers={200: ("A page of gradings; the header Link leads to the next.", ref("GradingPage"))},
    parameters=(
        {
            "name": "task",
            "schema": {"type": "string"},
            "description": "Only of this task, by its id, or by its digest: then of this version alone.",
        },
        {"name": "submission", "schema": {"type": "string"}, "description": "Only of this submission."},
        {
            "name": "outcome",
            "schema": {"type": "string", "enum": list(OUTCOMES)},
            "description": "Only with this outcome.",
        },
        {
            "name": "limit",
            "schema": {"type": "integer", "minimum": 1, "default": 20},
            "description": "Gradings on a page.",
        },
        {
            "name": "cursor",
            "schema": {"type": "string"},
            "description": "The next_cursor of the page before; everything else but limit must be as it was there.",
        },
    ),
)
@needs("staff")
def list_gradings() -> Response:
    """List the gradings that are kept, newest first and without their reports; scores are those of all checks."""
    filters = {name: _name(name) for name in ("task", "submission") if name in request.args}
    if "outcome" in request.args:
        filters["outcome"] = _choice("outcome", OUTCOMES)
    kept = Gradings(service().store.database)
    return answer_page(
        filters,
        lambda size, before: kept.page(owner(), size, before, **filters),
        lambda entry: {name: member for name, member in entry.items() if name != "seq"},
    )


@blueprint.get("/v1/gradings/<report_id>")
@takes_query("audience", "phase", "format")
@documented(
    answers={
        200: ("The report. Where it has been superseded, the header Link leads to the one that did it.", _TYPED),
    },
    errors=(404,),
    parameters=(_AUDIENCE, _PHASE, _FORMAT),
)
@needs("grade")
def get_grading(report_id: str) -> Response:
    """Return a report that is kept, in the same bytes as when it was made."""
    seen = _Seen()
    try:
        seen.check({})
    except RenderingError as error:
        detail = f"{error.problems[0].detail}; send the grading again, with options"
        raise RequestError("invalid-request", detail, parameter="format") from None
    found = _find(report_id)
    done = grading.Graded.of(found, _kept(found.supersedes))
    headers = {}
    if found.superseded_by:
        headers["Link"] = f'</v1/gradings/{found.superseded_by}>; rel="successor-version"'
    return seen.answer(done, {}, 200, headers)


@blueprint.delete("/v1/gradings")
@takes_query("submission")
@documented(
    answers={200: ("How many were deleted; none is no error.", ref("DeletedGradings"))},
    parameters=(
        {
            "name": "submission",
            "required": True,
            "schema": {"type": "string"},
            "description": "The submission's id: all that is kept of its gradings is deleted.",
        },
    ),
)
@needs("staff")
def delete_gradings() -> Response:
    """Delete all gradings of a submission."""
    if "submission" not in request.args:
        raise RequestError("invalid-request", "name the submission whose gradings to delete", parameter="submission")
    return answer({"deleted": Gradings(service().store.database).delete(owner(), _name("submission"))})


# --------------------------------------------------------------------------------------------------- one by one


class _Seen:
    """Who is to see the answer to this request, and in what form.

    Raises:
        RequestError: a parameter is none (422), or the key may not see as much (403).
    """

    def __init__(self) -> None:
        self.audience = _choice("audience", AUDIENCES)
        self.phase = _choice("phase", tuple(PHASES))
        self.format = _choice("format", tuple(FORMATS)) if "format" in request.args else None
        if self.audience == "staff":
            if self.format is not None:
                detail = "a format holds what students may see; leave the audience out"
                raise RequestError("invalid-request", detail, parameter="audience")
            demand("staff", "audience=staff")

    @property
    def by(self) -> tuple[str, str]:
        return self.audience, self.phase

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that are none of the format.

        Raises:
            InvalidInput: paths are relative to the request.
        """
        if "phase" in options:
            raise refuse("the phase is a query parameter", ("options", "phase"))
        if self.format is not None:
            FORMATS[self.format].settle(options)
        elif options:
            raise refuse("options are those of a format, and the query names none", ("options",))

    def answer(
        self, done: grading.Graded, options: Mapping[str, Any], status: int, headers: dict[str, str]
    ) -> Response:
        """Return the answer with a report."""
        if self.format is None:
            return json_answer(canonical(done.to_dict(*self.by)), status, headers)
        written = render(done.report.to_dict("staff"), self.format, phase=self.phase, **options)
        headers = headers | {"Chainrule-Exit-Status": str(written.exit_status)}
        return Response(written.text, status, headers, content_type=written.content_type)


def _choice(name: str, words: tuple[str, ...]) -> str:
    word = request.args.get(name, words[0])
    if word not in words:
        raise RequestError("invalid-request", f"{name} must be one of {', '.join(words)}", parameter=name)
    return word


def _name(name: str) -> str:
    text = request.args[name]
    if not (0 < len(text) <= MAX_TEXT and text.isprintable()):
        detail = f"{name} must be 1 to {MAX_TEXT} printable characters"
        raise RequestError("invalid-request", detail, parameter=name)
    return text


def _allowed(entry: Entry) -> Entry:
    """Return the entry, unless it is a regrade and the key is not for that."""
    if entry.supersedes is not None:
        demand("staff", "a regrade")
    return entry


def _find(report_id: str) -> Grading:
    found = _kept(report_id) if re.fullmatch(REPORT_ID, report_id) else None
    if found is None:
        raise RequestError("not-found", f"there is no grading {report_id[:71]!r}")
    return found


def _kept(report_id: str | None) -> Grading | None:
    return None if report_id is None else Gradings(service().store.database).get(owner(), report_id)
