"""What became of the messages about jobs that have ended, and the secret that signs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_service import webhooks
from chainrule_service.documented import documented, or_null, record, ref
from chainrule_service.exchange import answer, needs, owner, service, takes_query, whole_number_parameter
from chainrule_service.fields import Envelope, JsonSchema
from chainrule_service.problems import RequestError
from chainrule_service.store import JOB_ID, TERMINAL, iso
from chainrule_service.webhooks import EVENTS, MESSAGE_ID, STATES, Delivery, WebhookRequest

blueprint = Blueprint("webhooks", __name__, description="Messages about jobs that have ended.")

_TIME = {"type": "string", "format": "date-time"}
_LINKS = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMAS: Mapping[str, JsonSchema | type[Envelope]] = {
    "WebhookRequest": WebhookRequest,
    "WebhookMessage": record(
        "What a webhook is sent, with the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of "
        "Standard Webhooks 1.0. It is sent at least once, with the same `webhook-id` each time.",
        {
            "type": {"type": "string", "enum": list(EVENTS)},
            "timestamp": _TIME,
            "data": record(
                "The job, without specification and result.",
                {
                    "id": {"type": "string"},
                    "type": {"type": "string"},
                    "state": {"type": "string", "enum": list(TERMINAL)},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "created_at": _TIME,
                    "started_at": or_null(_TIME),
                    "finished_at": _TIME,
                    "links": _LINKS,
                },
            ),
        },
    ),
    "WebhookDelivery": record(
        "A message about a job that has ended, and what became of it.",
        {
            "id": {"type": "string", "description": "The message's `webhook-id`.", "pattern": f"^{MESSAGE_ID}$"},
            "type": {"type": "string", "enum": list(EVENTS)},
            "job": {"type": "string", "description": "The job's id."},
            "url": {"type": "string"},
            "state": {
                "type": "string",
                "enum": list(STATES),
                "description": (
                    "`pending`: it will be tried, perhaps again. `failed`: ten attempts have failed. `disabled`: the "
                    "URL has answered 410, and gets no more messages until a replay to it succeeds."
                ),
            },
            "attempts": {"type": "integer"},
            "status": or_null({"type": "integer", "description": "What the last attempt was answered."}),
            "detail": or_null({"type": "string", "description": "Why the last attempt failed."}),
            "created_at": _TIME,
            "next_attempt_at": or_null(_TIME),
            "finished_at": or_null(_TIME),
            "links": _LINKS,
        },
    ),
    "WebhookDeliveryPage": record(
        "Deliveries, newest first.",
        {"data": {"type": "array", "items": ref("WebhookDelivery")}, "next_cursor": {"type": ["string", "null"]}},
    ),
    "WebhookSecrets": record(
        "What messages are signed with: the present secret first, and for a day after a rotation the one before.",
        {"secrets": {"type": "array", "items": {"type": "string", "pattern": "^whsec_"}, "minItems": 1, "maxItems": 2}},
    ),
}


@blueprint.get("/v1/webhook-deliveries")
@takes_query("limit", "cursor", "state", "job")
@documented(
    answers={200: ("A page of deliveries; the header Link leads to the next.", ref("WebhookDeliveryPage"))},
    parameters=(
        {
            "name": "limit",
            "schema": {"type": "integer", "minimum": 1, "default": 20},
            "description": "Deliveries on it.",
        },
        {"name": "cursor", "schema": {"type": "string"}, "description": "The next_cursor of the page before."},
        {
            "name": "state",
            "schema": {"type": "string", "enum": list(STATES)},
            "description": "Only those in this state.",
        },
        {"name": "job", "schema": {"type": "string"}, "description": "Only those about the job with this id."},
    ),
)
@needs("jobs")
def list_deliveries() -> Response:
    """List the deliveries, newest first."""
    shared = service()
    size = min(whole_number_parameter("limit", 20, 1) or 20, shared.settings.limits["page_items"])
    cursor, state, job = (request.args.get(name) for name in ("cursor", "state", "job"))
    if cursor is not None and not re.fullmatch("[0-9a-f]{1,15}", cursor):
        raise RequestError("invalid-request", "send the next_cursor of the page before, as it is", parameter="cursor")
    if state is not None and state not in STATES:
        raise RequestError("invalid-request", f"state must be one of {', '.join(STATES)}", parameter="state")
    if job is not None and not re.fullmatch(JOB_ID, job):
        raise RequestError("invalid-request", "job must be the id of a job: job_ and 32 hex digits", parameter="job")
    before = int(cursor, 16) if cursor else None
    found = webhooks.page(shared.store.database, owner(), size + 1, before=before, state=state, job_id=job)
    page, more = found[:size], len(found) > size
    next_cursor = f"{page[-1]['seq']:x}" if more else None
    kept = "".join(f"&{name}={value}" for name, value in (("state", state), ("job", job)) if value)
    link = f'</v1/webhook-deliveries?limit={size}{kept}&cursor={next_cursor}>; rel="next"'
    data = {"data": [_to_wire(delivery) for delivery in page], "next_cursor": next_cursor}
    return answer(data, headers={"Link": link} if more else None)


@blueprint.get("/v1/webhook-deliveries/<delivery_id>")
@documented(answers={200: ("The delivery.", ref("WebhookDelivery"))}, errors=(404,))
@needs("jobs")
def get_delivery(delivery_id: str) -> Response:
    """Return a delivery."""
    return answer(_to_wire(_find(delivery_id)))


@blueprint.post("/v1/webhook-deliveries/<delivery_id>/replay")
@documented(answers={202: ("It is pending again.", ref("WebhookDelivery"))}, errors=(404, 409, 411))
@needs("jobs")
def replay_delivery(delivery_id: str) -> Response:
    """Send a message once more, whatever became of it, with the same id and as many attempts as the first time."""
    shared = service()
    delivery = _find(delivery_id)
    if not shared.settings.webhooks:
        raise RequestError("conflict", "this service sends no webhooks; its operator can set CHAINRULE_WEBHOOKS=1")
    if not webhooks.replay(shared.store.database, delivery["id"], owner()):
        raise RequestError("conflict", f"it is pending already; its next attempt is due at {iso(delivery['due'])}")
    told = _to_wire(_find(delivery_id))
    return answer(told, 202, {"Location": told["links"]["self"]})


@blueprint.get("/v1/webhook-secret")
@documented(answers={200: ("The secrets.", ref("WebhookSecrets"))})
@needs("jobs")
def get_secret() -> Response:
    """Return what messages to you are signed with; your first call, or your first message, makes it."""
    return answer({"secrets": webhooks.signing_secrets(service().store.database, owner())})


@blueprint.post("/v1/webhook-secret/rotate")
@documented(answers={200: ("The new secret, and the one before.", ref("WebhookSecrets"))}, errors=(411,))
@needs("jobs")
def rotate_secret() -> Response:
    """Replace the secret; for a day, messages carry signatures by the new one and the one before."""
    return answer({"secrets": webhooks.rotate(service().store.database, owner())})


def _find(delivery_id: str) -> Delivery:
    delivery = None
    # PostgreSQL knows no text with a NUL in it, which a path may hold.
    if re.fullmatch(MESSAGE_ID, delivery_id):
        delivery = webhooks.get(service().store.database, delivery_id, owner())
    if delivery is None:
        raise RequestError("not-found", f"there is no webhook delivery {delivery_id[:60]!r}")
    return delivery


def _to_wire(delivery: Delivery) -> dict[str, Any]:
    same = ("id", "type", "url", "state", "attempts", "status", "detail")
    return {name: delivery[name] for name in same} | {
        "job": delivery["job_id"],
        "created_at": iso(delivery["created"]),
        "next_attempt_at": iso(delivery["due"]) if delivery["state"] == "pending" else None,
        "finished_at": iso(delivery["finished"]),
        "links": {
            "self": f"/v1/webhook-deliveries/{delivery['id']}",
            "job": f"/v1/jobs/{delivery['job_id']}",
        },
    }
