"""Webhooks: the end of a job is told to a URL that the job named, by the Standard Webhooks scheme, version 1.0.

The message is a row of a table, written in the transaction that ends the job: no end is told that did not happen, and
none that happened is forgotten. It is delivered at least once: a claim of a row is a lease, and a process that dies
between the receiver's answer and its record leaves the row to another. `webhook-id` stays the same over all of that,
for the receiver to tell a repetition by.

A receiver that answers 410 disables its URL for its owner, until a replay to it succeeds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import random
import secrets
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from chainrule_engine import ENGINE
from chainrule_service import egress, jsonio
from chainrule_service.database import METADATA, Database
from chainrule_service.egress import MAX_URL, Resolve
from chainrule_service.fields import Choice, Envelope, ListOf, Text, refuse
from chainrule_service.settings import Settings

Delivery = dict[str, Any]

EVENTS = ("job.succeeded", "job.failed", "job.cancelled", "job.expired")
#: pending: it will be tried, perhaps again; failed: no further try; disabled: its URL has answered 410.
STATES = ("pending", "delivered", "failed", "disabled")

#: The seconds before each attempt. Each wait is longer by a random part, so that receivers are not all tried at once.
DELAYS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
#: The seconds for which an attempt is its process's alone: the time limit of a request, and ample for a name's lookup.
LEASE = 120
#: After a rotation messages carry the signature of the secret before, too, for so many seconds.
OVERLAP = 86_400
#: Attempts at once in a process: they wait for others, and cost next to nothing.
AT_ONCE = 8

_GONE = 410
_log = logging.getLogger(__name__)

DELIVERIES = sql.Table(
    "webhook_deliveries",
    METADATA,
    sql.Column("seq", sql.Integer, primary_key=True),  # the order of events: what pages of a list hold on to
    sql.Column("id", sql.String(36), nullable=False, unique=True),
    sql.Column("owner", sql.String(64), nullable=False),
    sql.Column("job_id", sql.String(36), nullable=False),
    sql.Column("type", sql.String(20), nullable=False),
    sql.Column("url", sql.String(MAX_URL), nullable=False),
    sql.Column("payload", sql.Text, nullable=False),
    sql.Column("state", sql.String(10), nullable=False),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("due_at", sql.Float(53), nullable=False),  # epoch seconds; while an attempt runs, the end of its lease
    sql.Column("status", sql.Integer),  # the last attempt's answer
    sql.Column("detail", sql.String(300)),  # why the last attempt failed
    sql.Column("created_at", sql.String(27), nullable=False),
    sql.Column("finished_at", sql.String(27)),
    sql.Index("ix_webhook_deliveries_due", "state", "due_at"),
    sql.Index("ix_webhook_deliveries_url", "owner", "url"),
    sqlite_autoincrement=True,  # a number is never given twice, so no page shows a delivery twice
)
SECRETS = sql.Table(
    "webhook_secrets",
    METADATA,
    sql.Column("owner", sql.String(64), primary_key=True),
    sql.Column("secret", sql.String(64), nullable=False),  # as it is: a signature cannot be made of a digest
    sql.Column("previous", sql.String(64)),
    sql.Column("previous_until", sql.Float(53)),
)


class WebhookRequest(Envelope):
    """Where the end of a job is told."""

    url = Text("An https URL on port 443 or 8443, at public addresses only.", most=MAX_URL, required=True)
    events = ListOf(
        Choice(EVENTS),
        "The ends that are told; all when left out.",
        least=1,
        distinct=True,
        load_default=lambda: list(EVENTS),
    )


def check(webhook: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a webhook that could never be delivered.

    Args:
        webhook: what `WebhookRequest` has read.
        settings: the service's.

    Raises:
        InvalidInput: it could not; paths are relative to the webhook.
    """
    if not settings.webhooks:
        raise refuse(
            "webhooks are off on this service: leave the field out, or have them turned on: CHAINRULE_WEBHOOKS=1"
        )
    try:
        egress.check_url(webhook["url"], settings.webhook_networks)
    except egress.Refused as error:
        raise refuse(str(error), ("url",)) from None


# ------------------------------------------------------------------------------------------------------------ messages


def job_ended(connection: sql.Connection, job: Mapping[str, Any]) -> None:
    """Record, in the transaction that ends a job, the message about it, if the job asks for one.

    Args:
        connection: the transaction.
        job: the job's row as it is now.
    """
    webhook, event = job["webhook"], f"job.{job['state']}"
    if webhook is None or event not in webhook["events"]:
        return
    told = ("id", "type", "state", "labels", "created_at", "started_at", "finished_at")
    data = {name: job[name] for name in told} | {"links": {"self": f"/v1/jobs/{job['id']}"}}
    endpoint = (DELIVERIES.c.owner == job["owner"]) & (DELIVERIES.c.url == webhook["url"])
    last = sql.select(DELIVERIES.c.state).where(endpoint & (DELIVERIES.c.state != "pending"))
    last = last.order_by(DELIVERIES.c.finished_at.desc(), DELIVERIES.c.seq.desc()).limit(1)
    is_disabled = connection.execute(last).scalar() == "disabled"
    delivery = {
        "id": "msg_" + secrets.token_hex(16),
        "owner": job["owner"],
        "job_id": job["id"],
        "type": event,
        "url": webhook["url"],
        "payload": jsonio.dumps({"type": event, "timestamp": job["finished_at"], "data": data}),
        "attempts": 0,
        "due_at": 0.0,
        "created_at": _now(),
    }
    connection.execute(sql.insert(DELIVERIES).values(delivery | (_disabled() if is_disabled else {"state": "pending"})))


def _disabled() -> dict[str, Any]:
    detail = "this URL has answered 410 Gone, and nothing more is sent to it until a replay succeeds"
    return {"state": "disabled", "detail": detail, "finished_at": _now()}


def forget(connection: sql.Connection, before: str) -> None:
    """Delete the deliveries that ended before a time."""
    connection.execute(sql.delete(DELIVERIES).where(DELIVERIES.c.finished_at < before))


def get(database: Database, delivery_id: str, owner: str | None) -> Delivery | None:
    """Return a delivery, or None; `owner` None stands for all."""
    query = sql.select(DELIVERIES).where((DELIVERIES.c.id == delivery_id) & _owned(owner))
    with database.transaction(reads=True) as connection:
        row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def page(
    database: Database,
    owner: str | None,
    size: int,
    *,
    before: int | None = None,
    state: str | None = None,
    job_id: str | None = None,
) -> list[Delivery]:
    """Return the newest deliveries of an owner: at most `size`, all older than number `before`."""
    query = sql.select(DELIVERIES).where(_owned(owner)).order_by(DELIVERIES.c.seq.desc()).limit(size)
    if before is not None:
        query = query.where(DELIVERIES.c.seq < before)
    if state is not None:
        query = query.where(DELIVERIES.c.state == state)
    if job_id is not None:
        query = query.where(DELIVERIES.c.job_id == job_id)
    with database.transaction(reads=True) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def replay(database: Database, delivery_id: str, owner: str | None) -> bool:
    """Let a delivery that has ended be tried anew, as if for the first time; return whether there was one."""
    ended = (DELIVERIES.c.id == delivery_id) & (DELIVERIES.c.state != "pending") & _owned(owner)
    fresh = {"state": "pending", "attempts": 0, "due_at": 0.0, "finished_at": None}
    with database.transaction() as connection:
        return connection.execute(sql.update(DELIVERIES).where(ended).values(fresh)).rowcount == 1


def _owned(owner: str | None) -> sql.ColumnElement[bool]:
    return sql.true() if owner is None else DELIVERIES.c.owner == owner


# ------------------------------------------------------------------------------------------------------------- secrets


def signing_secrets(database: Database, owner: str) -> list[str]:
    """Return the secrets that an owner's messages are signed with, the present one first; the first is made here."""
    with database.transaction() as connection:
        return _secrets_of(connection, owner, database.now(connection))


def rotate(database: Database, owner: str) -> list[str]:
    """Give an owner a new secret; for a day messages are signed with the one before, too. Return both."""
    with database.transaction() as connection:
        now = database.now(connection)
        previous = _secrets_of(connection, owner, now)[0]
        values = {"secret": _new_secret(), "previous": previous, "previous_until": now + OVERLAP}
        connection.execute(sql.update(SECRETS).where(SECRETS.c.owner == owner).values(values))
        return _secrets_of(connection, owner, now)


def _secrets_of(connection: sql.Connection, owner: str, now: float) -> list[str]:
    query = sql.select(SECRETS).where(SECRETS.c.owner == owner)
    row = connection.execute(query).first()
    if row is None:
        try:
            with connection.begin_nested():
                connection.execute(sql.insert(SECRETS).values(owner=owner, secret=_new_secret()))
        except IntegrityError:
            pass  # another process was first
        row = connection.execute(query).one()
    return [row.secret] + ([row.previous] if row.previous is not None and now < row.previous_until else [])


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, payload: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 over id, time and payload, as the header has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + payload, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


# ------------------------------------------------------------------------------------------------------------ delivery


def retry_delay(attempt: int, chance: float, retry_after: float | None = None) -> float | None:
    """Return the seconds from a failed attempt to the next one, or None when it was the last.

    Args:
        attempt: the number of the attempt that failed, from 1.
        chance: a random number from 0 to 1, for the jitter.
        retry_after: what the receiver asked for; it is waited for, up to a day.
    """
    if attempt >= len(DELAYS):
        return None
    return max(DELAYS[attempt] * (1 + JITTER * chance), min(retry_after or 0, DELAYS[-1]))


def deliver_forever(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Deliver what falls due until `stop` is set, which is seen within the time limit of one attempt."""
    pause = 0.0
    while not stop.wait(pause):
        pause = 1.0
        try:
            deliver_due(database, settings, stop)
        except (SQLAlchemyError, OSError):
            _log.exception("the table of webhook deliveries cannot be read or written now")
            pause = 5.0


def deliver_due(
    database: Database,
    settings: Settings,
    stop: threading.Event | None = None,
    *,
    resolve: Resolve = socket.getaddrinfo,
) -> int:
    """Attempt every delivery that is due, several at once; return the number of attempts.

    Any number of threads and processes may do this at the same time: each attempt is made by one of them.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, OSError: the table cannot be read or written.
    """
    due = sql.select(sql.func.count()).select_from(DELIVERIES)
    with database.transaction(reads=True) as connection:
        waiting = connection.execute(due.where(_is_due(database.now(connection)))).scalar_one()
    if not waiting:
        return 0

    def deliver(_: int) -> int:
        count = 0
        while not (stop and stop.is_set()) and (claimed := _claim(database)):
            _attempt(database, settings, *claimed, resolve)
            count += 1
        return count

    threads = min(waiting, AT_ONCE)
    with ThreadPoolExecutor(threads, "webhooks") as pool:
        return sum(pool.map(deliver, range(threads)))


def _is_due(now: float) -> sql.ColumnElement[bool]:
    return (DELIVERIES.c.state == "pending") & (DELIVERIES.c.due_at <= now)


def _claim(database: Database) -> tuple[Delivery, list[str]] | None:
    """Take the delivery that has been due for longest, with the secrets to sign it with, if one is due."""
    with database.transaction() as connection:
        now = database.now(connection)
        due = sql.select(DELIVERIES).where(_is_due(now)).order_by(DELIVERIES.c.due_at, DELIVERIES.c.seq).limit(1)
        row = connection.execute(due.with_for_update(skip_locked=True)).mappings().first()
        if row is None:
            return None
        taken = {"attempts": row["attempts"] + 1, "due_at": now + LEASE}
        connection.execute(sql.update(DELIVERIES).where(DELIVERIES.c.seq == row["seq"]).values(taken))
        return dict(row) | taken, _secrets_of(connection, row["owner"], now)


def _attempt(
    database: Database, settings: Settings, delivery: Delivery, signed_with: list[str], resolve: Resolve
) -> None:
    payload = delivery["payload"].encode()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"chainrule/{ENGINE['version']}",
        "webhook-id": delivery["id"],
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, delivery["id"], timestamp, payload) for secret in signed_with),
    }
    status = retry_after = None
    try:
        answer = egress.post(delivery["url"], payload, headers, settings.webhook_networks, resolve=resolve)
        status, retry_after = answer.status, answer.retry_after
        detail = None if 200 <= status < 300 else f"the answer was {status}"
    except (egress.Refused, egress.NoAnswer) as error:
        detail = str(error)
    with database.transaction() as connection:
        _record(connection, database.now(connection), delivery, status, detail, retry_after)


def _record(
    connection: sql.Connection,
    now: float,
    delivery: Delivery,
    status: int | None,
    detail: str | None,
    retry_after: float | None,
) -> None:
    """Write down what came of an attempt, unless its lease ended and another one was made."""
    values: dict[str, Any] = {"status": status, "detail": detail and detail[:300]}
    delay = retry_delay(delivery["attempts"], random.random(), retry_after)
    if detail is None:
        values |= {"state": "delivered", "finished_at": _now()}
    elif status == _GONE:
        values |= _disabled()
    elif delay is None:
        values |= {"state": "failed", "finished_at": _now()}
    else:
        values["due_at"] = now + delay
    mine = (DELIVERIES.c.seq == delivery["seq"]) & (DELIVERIES.c.attempts == delivery["attempts"])
    pending = DELIVERIES.c.state == "pending"
    written = connection.execute(sql.update(DELIVERIES).where(mine & pending).values(values)).rowcount == 1
    if written and status == _GONE:
        endpoint = (DELIVERIES.c.owner == delivery["owner"]) & (DELIVERIES.c.url == delivery["url"])
        connection.execute(sql.update(DELIVERIES).where(endpoint & pending).values(_disabled()))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
