"""Jobs: trainings and evaluations that are recorded."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.training import STOP_REASONS
from chainrule_service import jobs, runner, training
from chainrule_service.documented import NEURON, documented, or_null, record, ref
from chainrule_service.exchange import answer, charge, needs, read_body, service, takes_query, whole_number_parameter
from chainrule_service.fields import Choice, Envelope, JsonSchema, Raw
from chainrule_service.problems import RequestError
from chainrule_service.store import TERMINAL, Job, worker_name

blueprint = Blueprint("jobs", __name__, description="Trainings and evaluations that are recorded.")


class JobRequest(Envelope):
    """What a job is."""

    type = Choice(jobs.TYPES, required=True)
    spec = Raw(
        {"anyOf": [ref("NetworkTrainingRequest"), ref("GraphTrainingRequest"), ref("EvaluationRequest")]}, required=True
    )


_REQUEST = JobRequest()
_NEVER = threading.Event()  # a request is not stopped midway

_TIME = {"type": "string", "format": "date-time"}
_JOB: dict[str, JsonSchema] = {
    "id": {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
    "type": {"type": "string", "enum": list(jobs.TYPES)},
    "state": {"type": "string", "enum": ["running", *TERMINAL]},
    "progress": or_null(
        record(
            "How far a training has come.",
            {"step": {"type": "integer"}, "steps": {"type": "integer"}, "loss": ref("Number")},
        )
    ),
    "result": {"anyOf": [ref("TrainingResult"), ref("EvaluationResult"), {"type": "null"}]},
    "failure": or_null(record("Why there is no result.", {"code": {"type": "string"}, "detail": {"type": "string"}})),
    "spec": {
        "type": "object",
        "description": (
            "What was asked for; in that of a training, fields that were left out have their defaults, except `init` "
            "and the settings of the optimiser."
        ),
    },
    "spec_digest": {
        "type": "string",
        "description": (
            "SHA-256 of `spec` as JSON text with sorted keys and no spaces. Equal digests tell of equal "
            "specifications; two that mean the same may differ in it, by `2` for `2.0` or by a default spelt out."
        ),
        "pattern": "^sha256:[0-9a-f]{64}$",
    },
    "engine": ref("Engine"),
    "attempts": {"type": "integer"},
    "created_at": _TIME,
    "started_at": or_null(_TIME),
    "finished_at": or_null(_TIME),
    "links": {"type": "object", "additionalProperties": {"type": "string"}},
}
_NUMBERS = {"type": "array", "items": ref("Number")}
_PARAMETERS = {
    "type": "object",
    "description": "A network's are in the form of the request, a graph's by name.",
}
SCHEMAS: Mapping[str, JsonSchema | type[Envelope]] = {
    schema.__name__: schema for schema in training.SCHEMAS
} | {
    "TrainingResult": record(
        "The loss of step k, its metrics and gradients are those before update k.",
        {
            "loss_history": _NUMBERS,
            "metrics": {"type": "object", "additionalProperties": _NUMBERS},
            "parameters": _PARAMETERS,
            "gradients": or_null(_PARAMETERS),
            "predictions": or_null({"type": "array", "items": {"anyOf": [ref("Number"), _NUMBERS]}}),
            "stop_reason": {"type": "string", "enum": list(STOP_REASONS)},
        },
    ),
    "EvaluationResult": {"type": "object", "description": "An Evaluation without engine and digest."},
    "Job": record("A job.", _JOB),
    "JobPage": record(
        "Jobs, newest first, without spec and result.",
        {
            "data": {
                "type": "array",
                "items": record("A job.", {k: v for k, v in _JOB.items() if k not in ("spec", "result")}),
            },
            "next_cursor": {"type": ["string", "null"]},
        },
    ),
}  # fmt: skip


@blueprint.post("/v1/jobs")
@documented(
    body=JobRequest,
    examples={
        "a network that learns exclusive or": {"type": "training", "spec": training.NETWORK_EXAMPLE},
        "a line through three points": {"type": "training", "spec": training.GRAPH_EXAMPLE},
        "an evaluation": {"type": "evaluation", "spec": {"graph": NEURON}},
    },
    answers={201: ("The job, which has ended: its state says how.", ref("Job"))},
)
@needs("jobs")
def create_job() -> Response:
    """Run a job and record it. One that would take too long is refused."""
    shared = service()
    loaded = read_body(_REQUEST)
    try:
        task = jobs.read(loaded["type"], loaded["spec"], shared.settings, shared.room_for)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("spec") from None
    jobs.check_cost(task, shared.settings)
    with shared.room_for(task.cost):
        charge(task.cost)
        submission = shared.store.submit(
            jobs.record_of(task), claimed_by=worker_name(), lease=shared.settings.lease_seconds
        )
        if submission.claim is not None:
            runner.run(submission.claim, shared.store, shared.settings, _NEVER, task=task)
    job = jobs.to_wire(_find(submission.job["id"]))
    return answer(job, 201, {"Location": job["links"]["self"]})


@blueprint.get("/v1/jobs")
@takes_query("limit", "cursor")
@documented(
    answers={200: ("A page of jobs; the header Link leads to the next.", ref("JobPage"))},
    parameters=(
        {"name": "limit", "schema": {"type": "integer", "minimum": 1, "default": 20}, "description": "Jobs on a page."},
        {"name": "cursor", "schema": {"type": "string"}, "description": "The next_cursor of the page before."},
    ),
)
@needs("jobs")
def list_jobs() -> Response:
    """List the jobs, newest first."""
    shared = service()
    size = min(whole_number_parameter("limit", 20, 1) or 20, shared.settings.limits["page_items"])
    cursor = request.args.get("cursor")
    if cursor is not None and not re.fullmatch("[0-9a-f]{1,15}", cursor):
        raise RequestError("invalid-request", "send the next_cursor of the page before, as it is", parameter="cursor")
    found = shared.store.page(size + 1, int(cursor, 16) if cursor else None)
    page, more = found[:size], len(found) > size
    next_cursor = f"{page[-1]['seq']:x}" if more else None
    headers = {"Link": f'</v1/jobs?limit={size}&cursor={next_cursor}>; rel="next"'} if more else None
    return answer({"data": [jobs.to_wire(job) for job in page], "next_cursor": next_cursor}, headers=headers)


@blueprint.get("/v1/jobs/<job_id>")
@documented(answers={200: ("The job.", ref("Job"))}, errors=(404,))
@needs("jobs")
def get_job(job_id: str) -> Response:
    """Return a job with its specification and its result."""
    return answer(jobs.to_wire(_find(job_id)))


@blueprint.delete("/v1/jobs/<job_id>")
@documented(answers={204: ("It is deleted.", None)}, errors=(404, 409))
@needs("jobs")
def delete_job(job_id: str) -> Response:
    """Delete a job that has ended."""
    if not service().store.delete(job_id):
        state = _find(job_id)["state"]
        raise RequestError("conflict", f"the job is {state}; only a job that has ended can be deleted")
    return Response(status=204)


def _find(job_id: str) -> Job:
    job = service().store.get(job_id)
    if job is None:
        raise RequestError("not-found", f"there is no job {job_id[:60]!r}")
    return job
