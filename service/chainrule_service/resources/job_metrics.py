"""The losses and metrics of a job's steps, while it runs and afterwards: at once, by long poll, or as a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_service import jsonio
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.documented import JSON, documented, record, ref
from chainrule_service.exchange import (
    Service,
    accepted,
    answer,
    needs,
    owner,
    service,
    takes_query,
    whole_number_parameter,
)
from chainrule_service.fields import JsonSchema
from chainrule_service.finding import find
from chainrule_service.preferences import preferences
from chainrule_service.problems import RequestError
from chainrule_service.store import STATES, TERMINAL, History
from chainrule_service.waiting import pauses, wait_for

blueprint = Blueprint("job metrics", __name__, description="The losses and metrics of trainings as they go.")

_EVENTS, _CSV = "text/event-stream", "text/csv"
#: Of a stream: after how many seconds it ends, and the client comes back; after how many of silence it says something.
_STREAM_SECONDS, _SILENCE = 60, 15
#: How long a client is to wait before it comes back, in milliseconds.
_RETRY = 1_000

_NUMBERS = {"type": "array", "items": ref("Number")}
SCHEMAS: Mapping[str, JsonSchema] = {
    "JobMetrics": record(
        "Columns with one entry for each step, in the order of the steps.",
        {
            "step": {"type": "array", "items": {"type": "integer"}},
            "loss": _NUMBERS,
            "metrics": {"type": "object", "additionalProperties": _NUMBERS},
            "next": {
                "type": ["integer", "null"],
                "description": "What to send as `after` for what follows; null before the first step.",
            },
            "state": {"type": "string", "enum": list(STATES), "description": "That of the job."},
        },
    ),
    "JobEvents": {
        "type": "string",
        "description": (
            "Server-sent events. `event: progress` brings a JobMetrics with the steps since the event before; its `id` "
            "is the last step, and with it in the header Last-Event-ID (which browsers send by themselves) the stream "
            "goes on there. `event: end` says that the job has ended, with its `state`; it is the last one. A stream "
            "that ends without it, after a minute at the latest, is to be asked for again."
        ),
    },
}


@blueprint.get("/v1/jobs/<job_id>/metrics")
@takes_query("after", "max_points")
@documented(
    answers={
        200: (
            "The steps that are recorded so far: a running job records them a few times a second.",
            {
                JSON: ref("JobMetrics"),
                _EVENTS: ref("JobEvents"),
                _CSV: {
                    "type": "string",
                    "description": "A line of names, then one for each step.",
                },
            },
        )
    },
    errors=(404, 406, 503),
    parameters=(
        {
            "name": "after",
            "schema": {"type": "integer", "minimum": 0},
            "description": "Leave out the steps up to this one: the `next` of the answer before.",
        },
        {
            "name": "max_points",
            "schema": {"type": "integer", "minimum": 1},
            "description": "At most so many steps, evenly spread; the last one is always among them.",
        },
        {
            "in": "header",
            "name": "Prefer",
            "schema": {"type": "string"},
            "description": "`wait=N` waits up to N seconds (30 at most) for a step that is new, or the job's end.",
        },
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "string"},
            "description": "In place of `after`, for a stream: the id of the last event that came.",
        },
    ),
)
@needs("jobs")
def get_job_metrics(job_id: str) -> Response:
    """Return the losses and metrics of a job's steps; as text/event-stream, while they come."""
    shared = service()
    state = find(job_id, brief=True)["state"]
    after, most = _after(), whole_number_parameter("max_points", None, 1)
    form = accepted(JSON, _EVENTS, _CSV)
    if form == _EVENTS:
        return _stream(job_id, after, most, shared)

    def look() -> tuple[str, History]:
        # The state first: where it is final, there will be no more steps than are read then.
        state = find(job_id, brief=True)["state"]
        return state, shared.store.history(job_id, after)

    wanted = preferences(request.headers.get("Prefer", ""))
    seen, waited = (state, shared.store.history(job_id, after)), False
    if wanted.wait:
        seen, waited = wait_for(
            seen, look, lambda seen: bool(seen[1].losses) or seen[0] in TERMINAL, wanted.wait, shared
        )
    headers = {"Preference-Applied": f"wait={wanted.wait}"} if waited else {}
    state, history = seen
    if state not in TERMINAL:
        headers["Retry-After"] = "1"
    columns = _columns(history, after, most) | {"state": state}
    if form == _CSV:
        return Response(_csv(columns), content_type="text/csv; charset=utf-8; header=present", headers=headers)
    return answer(columns, headers=headers)


def _after() -> int:
    """Return the last step that the client knows, or -1.

    Raises:
        RequestError: it is no whole number.
    """
    last = request.headers.get("Last-Event-ID")
    if not last:
        after = whole_number_parameter("after", None, 0)
        return -1 if after is None else after
    if not (last.isascii() and last.isdigit() and len(last) <= 9):
        raise RequestError("invalid-request", "the header Last-Event-ID must be the id of an event of this stream")
    return int(last)


def _columns(history: History, after: int, most: int | None) -> dict[str, Any]:
    """Return steps as the wire has them, at most so many of them."""
    count = len(history.losses)
    stride = 1 if most is None else -(-count // most)
    # Counted from the end, so that the last step is there.
    kept = range((count - 1) % stride, count, stride) if count else range(0)
    last = history.first + count - 1 if count else after
    return {
        "step": [history.first + place for place in kept],
        "loss": [history.losses[place] for place in kept],
        "metrics": {name: [column[place] for place in kept] for name, column in history.metrics.items()},
        "next": last if last >= 0 else None,
    }


def _csv(columns: Mapping[str, Any]) -> str:
    table = {"step": columns["step"], "loss": columns["loss"], **columns["metrics"]}
    rows = zip(*table.values(), strict=True)
    return "".join(",".join(map(str, row)) + "\r\n" for row in ([*table], *(map(jsonio.finite, row) for row in rows)))


# ------------------------------------------------------------------------------------------------- streaming


def _stream(job_id: str, after: int, most: int | None, shared: Service) -> Response:
    """Return the steps as a stream of events.

    Raises:
        RequestError: too many requests wait already (503).
    """
    caller = owner()
    if not shared.seats.take(caller):
        detail = "this server keeps as many streams open as it may; try again in a few seconds, or use Prefer: wait"
        raise RequestError("service-unavailable", detail, headers={"Retry-After": "2"})
    response = Response(
        _events(job_id, after, most, shared),
        content_type=_EVENTS,
        headers={"X-Accel-Buffering": "no"},  # a proxy is to hand on each event as it comes
    )
    response.call_on_close(lambda: shared.seats.leave(caller))
    return response


def _events(job_id: str, after: int, most: int | None, shared: Service) -> Iterator[str]:
    """Go through the events of a stream: until the job or the minute has ended, or the server stops."""
    yield f"retry: {_RETRY}\n\n"
    began = heard = time.monotonic()
    waits = pauses()
    while True:
        try:
            job = shared.store.get(job_id, brief=True)
            history = shared.store.history(job_id, after)
        except DatabaseUnavailable:
            return  # the client comes back, and is told then
        if job is None:
            return
        now = time.monotonic()
        if history.losses:
            columns = _columns(history, after, most) | {"state": job["state"]}
            after, heard, waits = columns["next"], now, pauses()
            yield _event("progress", after, columns)
        if job["state"] in TERMINAL:
            yield _event("end", after, {"state": job["state"]})
            return
        if now - heard >= _SILENCE:
            heard = now
            yield ": ping\n\n"
        if now - began >= _STREAM_SECONDS or shared.draining.wait(next(waits)):
            return


def _event(name: str, step: int, data: Mapping[str, Any]) -> str:
    # JSON text has no line feed, hence the one line of data.
    number = f"id: {step}\n" if step >= 0 else ""
    return f"{number}event: {name}\ndata: {jsonio.dumps(data)}\n\n"
