"""Jobs: trainings, evaluations, gradings that are recorded, and run in the request if cheap, else by a worker."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.graph import describe
from chainrule_engine.training import STOP_REASONS
from chainrule_service import jobs, runner, training
from chainrule_service.access import QuotaRefused
from chainrule_service.documented import NEURON, documented, or_null, record, ref
from chainrule_service.exchange import (
    answer,
    answer_page,
    charge,
    demand,
    flag_parameter,
    give_back,
    needs,
    own_limit,
    owner,
    read_body,
    read_bytes,
    request_id,
    service,
    takes_query,
)
from chainrule_service.fields import (
    Choice,
    Envelope,
    Field,
    JsonSchema,
    ListOf,
    Number,
    Object,
    Raw,
    WholeNumber,
    refuse,
)
from chainrule_service.finding import find
from chainrule_service.grading_fields import GradingJobRequest
from chainrule_service.idempotency import idempotency_key
from chainrule_service.preferences import Preferences, preferences
from chainrule_service.problems import RequestError, problem_of
from chainrule_service.store import JOB_ID, STATES, TERMINAL, Job, Submission, worker_name
from chainrule_service.waiting import wait_for
from chainrule_service.webhooks import WebhookRequest, check

blueprint = Blueprint("jobs", __name__, description="Trainings and evaluations that are recorded.")

_LABEL_NAME, _LABEL_TEXT = r"[A-Za-z0-9._-]{1,64}", r"[^\x00-\x1f\x7f]{1,64}"
_MOST_LABELS = 16


class Labels(Field):
    """Short texts by name, for people to find things by."""

    json_schema: Mapping[str, Any] = {
        "type": "object",
        "maxProperties": _MOST_LABELS,
        "propertyNames": {"pattern": f"^{_LABEL_NAME}$"},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 64},
    }

    def read(self, value: Any) -> dict[str, str]:
        """Return the labels.

        Raises:
            InvalidInput: they are no such texts, or too many.
        """
        if type(value) is not dict:
            raise refuse(f"an object with a text for each label is needed here, and this is {describe(value)}")
        if len(value) > _MOST_LABELS:
            raise refuse(f"there are {len(value):,} labels; at most {_MOST_LABELS} are kept")
        for name, text in value.items():
            if not re.fullmatch(_LABEL_NAME, name):
                detail = "the name of a label is 1 to 64 of the letters A to Z and a to z, digits, and . _ -"
                raise refuse(detail, (name,))
            if type(text) is not str or not re.fullmatch(_LABEL_TEXT, text):
                raise refuse("a label is a string of 1 to 64 characters, without control characters", (name,))
        return value


class JobRequest(Envelope):
    """What a job is."""

    answer_places = tuple(("spec", *place) for place in GradingJobRequest.answer_places)

    type = Choice(jobs.TYPES, required=True)
    spec = Raw(
        {
            "anyOf": [
                ref("NetworkTrainingRequest"),
                ref("GraphTrainingRequest"),
                ref("EvaluationRequest"),
                ref("GradingJobRequest"),
            ]
        },
        required=True,
    )
    labels = Labels("To find the job by.", load_default=dict)
    priority = WholeNumber("Jobs with a higher one start first.", least=-100, most=100, load_default=0)
    deadline_seconds = Number(
        "A job that has not ended so many seconds after it was accepted is `expired`, whether it runs or not.",
        above=0,
        most=2_592_000,
        load_default=None,
    )
    webhook = Object(WebhookRequest, "Where its end is told, if the service tells.", load_default=None)


class JobBatchRequest(Envelope):
    """Several jobs; each item is read on its own, so that a bad one spoils no other."""

    answer_places = tuple(("items", None, *place) for place in JobRequest.answer_places)

    items = ListOf(Raw(ref("JobRequest")), least=1, required=True)


_REQUEST, _BATCH = JobRequest(), JobBatchRequest()
_NEVER = threading.Event()  # what runs in a request is not stopped midway

_TIME = {"type": "string", "format": "date-time"}
_JOB: dict[str, JsonSchema] = {
    "id": {"type": "string", "pattern": f"^{JOB_ID}$"},
    "type": {"type": "string", "enum": list(jobs.TYPES)},
    "state": {
        "type": "string",
        "description": (
            "queued: it waits for a worker; cancelling: it runs, and was asked to stop; the last four are final, and "
            "expired is that of a job that came to its deadline."
        ),
        "enum": list(STATES),
    },
    "progress": or_null(
        record(
            "How far a training has come, or a grading: its loss is the share of the points that a submission lost.",
            {"step": {"type": "integer"}, "steps": {"type": "integer"}, "loss": ref("Number")},
        )
    ),
    "result": {
        "anyOf": [ref("TrainingResult"), ref("EvaluationResult"), ref("GradingBatch"), {"type": "null"}],
    },
    "failure": or_null(
        record(
            "Why there is no result.",
            {
                "code": {"type": "string"},
                "detail": {"type": "string"},
                "fault": {
                    "type": "string",
                    "description": "Who can do something about it.",
                    "enum": ["client", "service"],
                },
            },
            optional=("fault",),
        )
    ),
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
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "priority": {"type": "integer"},
    "queue_position": {
        "type": ["integer", "null"],
        "description": "How many queued jobs come before it, while it is queued itself; not in a list.",
    },
    "attempts": {
        "type": "integer",
        "description": "How often a worker began it. It goes on from its last checkpoint where one died.",
    },
    "created_at": _TIME,
    "started_at": or_null(_TIME),
    "finished_at": or_null(_TIME),
    "deadline_at": or_null(_TIME),
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
    "JobRequest": JobRequest,
    "GradingJobRequest": GradingJobRequest,
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
    "JobEstimate": record(
        "What a job would take.",
        {
            "type": _JOB["type"],
            "cost": {"type": "integer", "description": "In the unit of the limit job_work."},
            "memory": {"type": ["integer", "null"], "description": "In bytes, for a training."},
            "inline": {"type": "boolean", "description": "Whether the request that submits it would run it."},
        },
    ),
    "JobBatch": record(
        "One entry for each item, in order: a job or a problem, whose pointers start at the whole request.",
        {
            "data": {
                "type": "array",
                "items": {
                    "oneOf": [
                        record("It was accepted.", {"job": ref("Job")}),
                        record("It was not.", {"problem": ref("Problem")}),
                    ]
                },
            }
        },
    ),
    "JobPage": record(
        "Jobs, newest first, without spec, result and queue_position.",
        {
            "data": {
                "type": "array",
                "items": record(
                    "A job.", {k: v for k, v in _JOB.items() if k not in ("spec", "result", "queue_position")}
                ),
            },
            "next_cursor": {"type": ["string", "null"]},
        },
    ),
}  # fmt: skip

_KEY_HEADER: JsonSchema = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string"},
    "description": (
        "A string of up to 128 characters of the client's choice. A request that is repeated with the same one makes "
        "no second job: it is answered with the first one's, and the header Idempotency-Replayed: true, for as long as "
        "the job is kept; with another body it is refused (422). Where the first request is still being answered, the "
        "second one is told to come back (409, with Retry-After)."
    ),
}
_PREFER_WAIT = "`wait=N` waits up to N seconds (30 at most) for its end"


# ------------------------------------------------------------------------------------------------ submitting


@blueprint.post("/v1/jobs")
@takes_query("validate_only")
@documented(
    body=JobRequest,
    examples={
        "a network that learns exclusive or": {"type": "training", "spec": training.NETWORK_EXAMPLE},
        "a line through three points": {"type": "training", "spec": training.GRAPH_EXAMPLE},
        "an evaluation": {"type": "evaluation", "spec": {"graph": NEURON}},
    },
    answers={
        200: ("Only with validate_only: what the job would take.", ref("JobEstimate")),
        201: ("The job, which has ended: its state says how.", ref("Job")),
        202: (
            "The job, which a worker will run: ask for it at Location, after Retry-After seconds or with Prefer: wait.",
            ref("Job"),
        ),
    },
    errors=(409,),
    parameters=(
        {
            "name": "validate_only",
            "schema": {"type": "boolean", "default": False},
            "description": "Whether the request is only to be checked, and nothing recorded.",
        },
        _KEY_HEADER,
        {
            "in": "header",
            "name": "Prefer",
            "schema": {"type": "string", "examples": ["respond-async", "wait=10"]},
            "description": (
                f"`respond-async` leaves even a cheap job to a worker; {_PREFER_WAIT}. What was heeded is in the "
                "header Preference-Applied. A service without workers, such as that of `Client.local()`, runs every "
                "job in its request."
            ),
        },
    ),
)
@needs("jobs")
def create_job() -> Response:
    """Record a job. A cheap one is run at once, any other one by a worker."""
    shared = service()
    body = read_bytes()
    task, options = _read(read_body(_REQUEST, body))
    wanted = preferences(request.headers.get("Prefer", ""))
    inline = not shared.has_workers or (not wanted.respond_async and jobs.runs_inline(task, shared.settings))
    if flag_parameter("validate_only"):
        return answer({"type": task.type, "cost": task.cost, "memory": task.memory, "inline": inline})
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    submission = _submit(task, options, (key, _sha256(body)) if key else None, inline=inline)
    job, waited = _ended(submission.job, wanted)
    applied = ["respond-async"] if wanted.respond_async and not inline else []
    applied += [f"wait={wanted.wait}"] if waited else []
    headers = {"Location": f"/v1/jobs/{job['id']}"}
    if applied:
        headers["Preference-Applied"] = ", ".join(applied)
    if not submission.new:
        headers["Idempotency-Replayed"] = "true"
    return _answer(job, headers, ended=201, other=202)


@blueprint.post("/v1/jobs/batch")
@documented(
    body=JobBatchRequest,
    examples={
        "two trainings": {
            "items": [
                {"type": "training", "spec": training.NETWORK_EXAMPLE, "labels": {"learning_rate": "0.1"}},
                {"type": "training", "spec": training.GRAPH_EXAMPLE},
            ]
        }
    },
    answers={200: ("What became of each item, in order.", ref("JobBatch"))},
    parameters=(_KEY_HEADER | {"description": "As for a single job; this one is for the whole batch."},),
)
@needs("jobs")
def create_jobs() -> Response:
    """Record several jobs, cheap ones too for workers to run."""
    shared = service()
    body = read_bytes()
    items = read_body(_BATCH, body)["items"]
    most = shared.settings.limits["batch_jobs"]
    if len(items) > most:
        raise LimitExceeded("batch_jobs", most, len(items), ("items",), "send several batches")
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    digest = _sha256(body)
    read: list[tuple[jobs.Task, dict[str, Any]] | dict[str, Any]] = []
    for place, item in enumerate(items):
        try:
            read.append(_read(_REQUEST.load(item)))
        except (InvalidInput, LimitExceeded) as error:
            read.append({"problem": problem_of(error, under=("items", place))})
    data, replayed = [], False
    for place, entry in enumerate(read):
        if isinstance(entry, tuple):
            # No key holds a line feed, so that of an item is nobody's else.
            named = (f"{key}\n{place}", digest) if key else None
            try:
                submission = _submit(*entry, named, inline=not shared.has_workers)
            except (QuotaRefused, LimitExceeded) as error:
                data.append({"problem": problem_of(error, under=("items", place))})
                continue
            replayed |= not submission.new
            data.append({"job": submission.job})
        else:
            data.append(entry)
    for entry in data:
        if "job" in entry:  # a position counts the later items as well
            entry["job"] = jobs.to_wire(_with_position(entry["job"]))
    return answer({"data": data}, headers={"Idempotency-Replayed": "true"} if replayed else None)


def _read(loaded: dict[str, Any]) -> tuple[jobs.Task, dict[str, Any]]:
    """Return the task of a request, and what the jobs table is told besides.

    Raises:
        InvalidInput, LimitExceeded: the specification is wrong, or too large.
    """
    shared, spec = service(), loaded.pop("spec")
    try:
        task = jobs.read(loaded.pop("type"), spec, shared.settings, shared.room_for)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("spec") from None
    for scope, what in task.scopes:
        demand(scope, what)
    jobs.check_cost(task, shared.settings)
    if loaded["webhook"] is not None:
        try:
            check(loaded["webhook"], shared.settings)
        except InvalidInput as error:
            raise error.under("webhook") from None
    return task, loaded


def _submit(
    task: jobs.Task, options: dict[str, Any], idempotency: tuple[str, str] | None, *, inline: bool
) -> Submission:
    """Record a job and charge its work, and run it if that is to be done here.

    Raises:
        QuotaRefused: its work is more than is left of its API key's day (429).
        LimitExceeded: it is more than the key's whole day (422).
        RequestError: there is no place to run it now (503), or the idempotency key is that of another request (422) or
            of one that is being answered (409).
    """
    shared = service()
    # A replay is not charged, so it is looked for before; where nobody is charged, `submit` finds it soon enough.
    found = shared.store.find_by_key(owner(), idempotency[0]) if idempotency and owner() else None
    if found is not None:
        return _replay(found, idempotency)
    row = jobs.record_of(task) | options
    row |= {"owner": owner(), "request_id": request_id(), "concurrent_jobs": own_limit("concurrent_jobs")}
    claimed_by = worker_name() if inline else None
    with shared.room_for(task.cost) if inline else nullcontext():
        charge(task.cost)
        recorded = False
        try:
            submission = shared.store.submit(
                row, idempotency=idempotency, claimed_by=claimed_by, lease=shared.settings.lease_seconds
            )
            recorded = submission.new
        finally:
            if not recorded:
                give_back(task.cost)
        if submission.claim is not None:
            runner.run(submission.claim, shared.store, shared.settings, _NEVER, task=task)
            return submission._replace(job=find(submission.job["id"]))
    if not submission.new:
        return _replay(submission.job, idempotency)
    shared.ring(submission.job["id"])
    return submission


def _replay(job: Job, idempotency: tuple[str, str] | None) -> Submission:
    """Return what came of the request that made the job, for one that has the same idempotency key.

    Raises:
        RequestError: it is another request (422), or the first one is being answered (409).
    """
    if idempotency is not None and job["body_sha256"] != idempotency[1]:
        detail = "the header Idempotency-Key names a request with another body; give each request its own key"
        raise RequestError("idempotency-key-reused", detail)
    if job["inline"] and job["state"] in ("running", "cancelling"):
        detail = "the request with this Idempotency-Key is still being answered; ask again in a second"
        raise RequestError("request-in-progress", detail, headers={"Retry-After": "1"})
    return Submission(job, False, None)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# --------------------------------------------------------------------------------------------------- reading


@blueprint.get("/v1/jobs")
@takes_query("state", "type", "label", "created_after", "limit", "cursor")
@documented(
    answers={200: ("A page of jobs; the header Link leads to the next.", ref("JobPage"))},
    parameters=(
        {"name": "state", "schema": {"type": "string", "enum": list(STATES)}, "description": "Only in this state."},
        {"name": "type", "schema": _JOB["type"], "description": "Only of this type."},
        {
            "name": "label",
            "schema": {"type": "string", "examples": ["course:ml"]},
            "description": "Only with this label, as `name:text`.",
        },
        {"name": "created_after", "schema": _TIME, "description": "Only newer ones."},
        {"name": "limit", "schema": {"type": "integer", "minimum": 1, "default": 20}, "description": "Jobs on a page."},
        {
            "name": "cursor",
            "schema": {"type": "string"},
            "description": "The next_cursor of the page before; everything else but limit must be as it was there.",
        },
    ),
)
@needs("jobs")
def list_jobs() -> Response:
    """List the jobs, newest first."""
    given = {name: text for name, text in request.args.items() if name not in ("limit", "cursor")}
    filters, store = _filters(given), service().store
    return answer_page(given, lambda size, before: store.page(size, before, owner=owner(), **filters), jobs.to_wire)


def _filters(given: Mapping[str, str]) -> dict[str, Any]:
    """Return what the list is to be kept to.

    Raises:
        RequestError: one of the parameters is none that can be.
    """
    filters: dict[str, Any] = dict(given)
    for name, words in (("state", STATES), ("type", jobs.TYPES)):
        if given.get(name, words[0]) not in words:
            raise RequestError("invalid-request", f"{name} must be one of {', '.join(words)}", parameter=name)
    if "label" in given:
        match = re.fullmatch(f"({_LABEL_NAME}):({_LABEL_TEXT})", given["label"])
        if not match:
            raise RequestError("invalid-request", "write a label as name:text, e.g. course:ml", parameter="label")
        filters["label"] = (match[1], match[2])
    if "created_after" in given:
        filters["created_after"] = _moment(given["created_after"])
    return filters


#: Times are told in whole microseconds: a job is not newer than the time that is told of it.
_HALF_A_MICROSECOND = 5e-7


def _moment(text: str) -> float:
    """Return the seconds since 1970 of a time in the format of RFC 3339.

    Raises:
        RequestError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not escaped arrives as a space
        if moment.tzinfo is not None:
            return moment.timestamp() + _HALF_A_MICROSECOND
    except (ValueError, OverflowError):
        pass
    detail = "created_after must be a time with its zone, such as 2026-01-31T12:00:00Z"
    raise RequestError("invalid-request", detail, parameter="created_after")


@blueprint.get("/v1/jobs/<job_id>")
@documented(
    answers={
        200: ("The job. One that has ended comes with an ETag, any other one with Retry-After.", ref("Job")),
        304: ("It is the one that If-None-Match names.", None),
    },
    errors=(404,),
    parameters=(
        {"in": "header", "name": "Prefer", "schema": {"type": "string"}, "description": f"{_PREFER_WAIT}."},
        {"in": "header", "name": "If-None-Match", "schema": {"type": "string"}, "description": "The ETag of before."},
    ),
)
@needs("jobs")
def get_job(job_id: str) -> Response:
    """Return a job with its specification and its result."""
    wanted = preferences(request.headers.get("Prefer", ""))
    job, waited = _ended(find(job_id), wanted)
    response = _answer(job, {"Preference-Applied": f"wait={wanted.wait}"} if waited else {}, ended=200, other=200)
    if job["state"] in TERMINAL:
        response.set_etag("sha256-" + _sha256(response.get_data()))
        response.headers["Cache-Control"] = "private, no-cache"  # it stays as it is, until it is deleted
        response.make_conditional(request)
    return response


@blueprint.post("/v1/jobs/<job_id>/cancel")
@documented(
    answers={
        200: ("The job, which has ended: it was not running, or had ended before.", ref("Job")),
        202: ("The job, whose worker is to stop it within a moment; it may still succeed.", ref("Job")),
    },
    errors=(404, 411),
)
@needs("jobs")
def cancel_job(job_id: str) -> Response:
    """Cancel a job: one that waits at once, one that runs as soon as its worker sees it."""
    find(job_id)
    job = service().store.cancel(job_id, owner())
    return _answer(job or find(job_id), {}, ended=200, other=202)


@blueprint.delete("/v1/jobs/<job_id>")
@documented(answers={204: ("It is deleted.", None)}, errors=(404, 409))
@needs("jobs")
def delete_job(job_id: str) -> Response:
    """Delete a job that has ended."""
    state = find(job_id, brief=True)["state"]
    if not service().store.delete(job_id, owner()):
        raise RequestError("conflict", f"the job is {state}; cancel it, and delete it once it has ended")
    return Response(status=204)


def _ended(job: Job, wanted: Preferences) -> tuple[Job, bool]:
    """Return a job as it is once it has ended, or the client has waited enough, and whether it has waited."""
    if not wanted.wait:
        return job, False
    seen, waited = wait_for(
        job, lambda: find(job["id"], brief=True), lambda seen: seen["state"] in TERMINAL, wanted.wait, service()
    )
    return (find(job["id"]) if seen["state"] != job["state"] else job | seen), waited


def _answer(job: Job, headers: Mapping[str, str], *, ended: int, other: int) -> Response:
    """Return the answer with a job: its status is that of a job that has ended, or of any other."""
    if job["state"] in TERMINAL:
        return answer(jobs.to_wire(job | {"queue_position": None}), ended, dict(headers))
    return answer(jobs.to_wire(_with_position(job)), other, {**headers, "Retry-After": "1"})


def _with_position(job: Job) -> Job:
    queued = job["state"] == "queued"
    return job | {"queue_position": service().store.queue_position(job["id"]) if queued else None}
