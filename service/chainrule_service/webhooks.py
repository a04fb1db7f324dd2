"""Webhooks: the end of a job is told to a URL that the job named, by the Standard Webhooks scheme, version 1.0.

The message is a row of a table, written in the transaction that ends the job: no end is told that did not happen, and
none that happened is forgotten. It is delivered at least once: a claim of a row is a lease, and a process that dies
between the receiver's answer and its record leaves the row to another. `webhook-id` stays the same over all of that,
for the receiver to tell a repetition by.

A receiver that answers 410 disables its URL for its owner, until a replay to it succeeds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import queue
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from chainrule_engine import ENGINE
from chainrule_service import egress, jsonio, metrics
from chainrule_service.database import METADATA, Database, DatabaseUnavailable, clock
from chainrule_service.egress import MAX_URL, Resolve
from chainrule_service.fields import Choice, Envelope, ListOf, Text, refuse
from chainrule_service.settings import Settings
from chainrule_service.store import JOBS, TERMINAL, iso

Delivery = dict[str, Any]

EVENTS = tuple(f"job.{state}" for state in TERMINAL)
#: What the id of a message looks like, as a regular expression.
MESSAGE_ID = "msg_[0-9a-f]{32}"
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
_TOLD = [
    JOBS.c[name] for name in ("id", "owner", "type", "state", "labels", "webhook", "created", "started", "finished")
]
_log = logging.getLogger(__name__)

DELIVERIES = sql.Table(
    "webhook_deliveries",
    METADATA,
    # The order of events: what pages of a list hold on to.
    sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("id", sql.String(36), nullable=False, unique=True),
    sql.Column("job_id", sql.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sql.Column("owner", sql.String(64), nullable=False),
    sql.Column("type", sql.String(20), nullable=False),
    sql.Column("url", sql.String(MAX_URL), nullable=False),
    sql.Column("payload", sql.Text, nullable=False),  # the bytes that are signed and sent
    sql.Column("state", sql.String(10), nullable=False),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("due", sql.Double, nullable=False),  # while an attempt runs, the end of its lease
    sql.Column("status", sql.Integer),  # what the last attempt was answered
    sql.Column("detail", sql.String(300)),  # why the last attempt failed
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("finished", sql.Double),
    sqlite_autoincrement=True,  # a number is never given twice, so no page shows a delivery twice
)
_PENDING = DELIVERIES.c.state == "pending"
_DUE = _PENDING & (DELIVERIES.c.due <= clock())
_DISABLED = {
    "state": "disabled", "finished": clock(),
    "detail": "this URL has answered 410 Gone, and nothing more is sent to it until a replay succeeds",
}  # fmt: skip
sql.Index("ix_webhook_deliveries_due", DELIVERIES.c.state, DELIVERIES.c.due)
sql.Index("ix_webhook_deliveries_url", DELIVERIES.c.owner, DELIVERIES.c.url, DELIVERIES.c.finished)
sql.Index("ix_webhook_deliveries_owner", DELIVERIES.c.owner, DELIVERIES.c.seq)
SECRETS = sql.Table(
    "webhook_secrets",
    METADATA,
    sql.Column("owner", sql.String(64), primary_key=True),
    sql.Column("secret", sql.String(64), nullable=False),  # as it is: a signature cannot be made of a digest
    sql.Column("previous", sql.String(64)),
    sql.Column("previous_until", sql.Double),
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
            "this service sends no webhooks; leave the field out, or have its operator set CHAINRULE_WEBHOOKS=1"
        )
    try:
        egress.check_url(webhook["url"], settings.webhook_networks)
    except egress.Refused as error:
        raise refuse(str(error), ("url",)) from None


# ------------------------------------------------------------------------------------------------------------ messages


def jobs_ended(connection: sql.Connection, ids: Sequence[str]) -> None:
    """Record, in the transaction that ends jobs, a message about each of them that asks for one."""
    asking = sql.select(*_TOLD).where(JOBS.c.id.in_(ids) & JOBS.c.webhook.is_not(None))
    for job in connection.execute(asking).mappings().all():
        event, url = f"job.{job['state']}", job["webhook"]["url"]
        if event not in job["webhook"]["events"]:
            continue
        delivery = {
            "id": "msg_" + secrets.token_hex(16), "job_id": job["id"], "owner": job["owner"], "type": event, "url": url,
            "payload": _payload(event, job), "state": "pending", "attempts": 0, "due": clock(), "created": clock(),
        }  # fmt: skip
        ended = sql.select(DELIVERIES.c.state).where(_endpoint(job["owner"], url) & DELIVERIES.c.finished.is_not(None))
        last = ended.order_by(DELIVERIES.c.finished.desc()).limit(1)
        if connection.scalar(last) == "disabled":
            delivery |= _DISABLED
        connection.execute(sql.insert(DELIVERIES).values(delivery))


def _payload(event: str, job: sql.RowMapping) -> str:
    """Return a message: small whatever the job, for it has neither specification nor result."""
    times = {f"{name}_at": iso(job[name]) for name in ("created", "started", "finished")}
    data = {name: job[name] for name in ("id", "type", "state", "labels")} | times
    data["links"] = {"self": f"/v1/jobs/{job['id']}"}
    return jsonio.dumps({"type": event, "timestamp": times["finished_at"], "data": data})


def _endpoint(owner: str, url: str) -> sql.ColumnElement[bool]:
    return (DELIVERIES.c.owner == owner) & (DELIVERIES.c.url == url)


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
    fresh = {"state": "pending", "attempts": 0, "due": clock(), "finished": None}
    with database.transaction() as connection:
        return connection.execute(sql.update(DELIVERIES).where(ended).values(fresh)).rowcount == 1


def _owned(owner: str | None) -> sql.ColumnElement[bool]:
    return sql.true() if owner is None else DELIVERIES.c.owner == owner


# ------------------------------------------------------------------------------------------------------------- secrets


def signing_secrets(database: Database, owner: str) -> list[str]:
    """Return the secrets that an owner's messages are signed with, the present one first; the first is made here."""
    with database.transaction() as connection:
        return _secrets_of(connection, owner)


def rotate(database: Database, owner: str) -> list[str]:
    """Give an owner a new secret, and return it and the one before, with which messages are signed for a day more."""
    with database.transaction() as connection:
        previous = _secrets_of(connection, owner)[0]
        values = {"secret": _new_secret(), "previous": previous, "previous_until": clock() + OVERLAP}
        connection.execute(sql.update(SECRETS).where(SECRETS.c.owner == owner).values(values))
        return _secrets_of(connection, owner)


def _secrets_of(connection: sql.Connection, owner: str) -> list[str]:
    overlap = (SECRETS.c.previous_until > clock()).label("overlap")
    query = sql.select(SECRETS.c.secret, SECRETS.c.previous, overlap).where(SECRETS.c.owner == owner)
    row = connection.execute(query).first()
    if row is None:
        with contextlib.suppress(IntegrityError), connection.begin_nested():  # another process may be first
            connection.execute(sql.insert(SECRETS).values(owner=owner, secret=_new_secret()))
        row = connection.execute(query).one()
    return [row.secret, row.previous] if row.overlap else [row.secret]


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


def run(settings: Settings) -> None:
    """Deliver until a signal ends this process; it is for a child of the supervisor, which itself must run no threads.

    Attempts that run then are waited for, some 15 s at most.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.put(number))
    stop, parent = threading.Event(), os.getppid()
    with contextlib.closing(Database(settings.database)) as database:
        thread = threading.Thread(target=deliver_forever, args=(database, settings, stop))
        thread.start()
        while os.getppid() == parent:  # where no signal tells of its end
            with contextlib.suppress(queue.Empty):
                signals.get(timeout=1)
                break
        stop.set()
        thread.join()


def deliver_forever(database: Database, settings: Settings, stop: threading.Event) -> None:
    """Deliver what falls due until `stop` is set; then no further attempt begins."""
    pause = 0.0
    while not stop.wait(pause):
        pause = 1.0
        try:
            deliver_due(database, settings, stop)
        except DatabaseUnavailable as error:
            _log.warning("webhooks wait for the database: %s", error)
            pause = 5.0
        except Exception:  # whatever is wrong with one message, the others are not given up
            _log.exception("an attempt to deliver a webhook failed")
            pause = 5.0


def deliver_due(
    database: Database,
    settings: Settings,
    stop: threading.Event | None = None,
    *,
    resolve: Resolve = socket.getaddrinfo,
) -> int:
    """Attempt every delivery that is due, several at once, and return the number of attempts.

    Any number of threads and processes may do this at the same time: each attempt is made by one of them.

    Args:
        database: where the deliveries are.
        settings: the service's.
        stop: when it is set, no further attempt begins.
        resolve: finds the addresses of a URL's host.

    Raises:
        DatabaseUnavailable: the database cannot be read or written now.
    """
    with database.transaction(reads=True) as connection:
        waiting = connection.scalar(sql.select(sql.func.count()).where(_DUE)) or 0

    def deliver(_: int) -> int:
        attempts = 0
        while not (stop and stop.is_set()) and (delivery := _claim(database)):
            _attempt(database, settings, delivery, resolve)
            attempts += 1
        return attempts

    threads = min(waiting, AT_ONCE)
    if not threads:
        return 0
    with ThreadPoolExecutor(threads, "webhooks") as pool:
        return sum(pool.map(deliver, range(threads)))


def _claim(database: Database) -> Delivery | None:
    """Take the delivery that has been due for longest, if one is due, together with its owner's `secrets`."""
    due = sql.select(DELIVERIES).where(_DUE).order_by(DELIVERIES.c.due, DELIVERIES.c.seq).limit(1)
    with database.transaction() as connection:
        row = connection.execute(due.with_for_update(skip_locked=True)).mappings().first()
        if row is None:
            return None
        attempts = row["attempts"] + 1
        taken = sql.update(DELIVERIES).where(DELIVERIES.c.seq == row["seq"])
        connection.execute(taken.values(attempts=attempts, due=clock() + LEASE))
        return {**row, "attempts": attempts, "secrets": _secrets_of(connection, row["owner"])}


def _attempt(database: Database, settings: Settings, delivery: Delivery, resolve: Resolve) -> None:
    message_id, sent, payload = delivery["id"], int(time.time()), delivery["payload"].encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"chainrule/{ENGINE['version']}",
        "webhook-id": message_id,
        "webhook-timestamp": str(sent),
        "webhook-signature": " ".join(sign(secret, message_id, sent, payload) for secret in delivery["secrets"]),
    }
    status = retry_after = None
    try:
        answer = egress.post(delivery["url"], payload, headers, settings.webhook_networks, resolve=resolve)
        status, retry_after = answer.status, answer.retry_after
        detail = None if 200 <= status < 300 else f"the answer was {status}"
    except (egress.Refused, egress.NoAnswer) as error:
        detail = str(error)[:300]
    except Exception as error:  # a mistake of ours must not have this one tried for ever, and the others wait for it
        _log.exception("an attempt to deliver %s broke off", message_id)
        detail = f"the attempt broke off within the service ({type(error).__name__})"
    metrics.DELIVERIES.count("delivered" if detail is None else "failed")
    delay = retry_delay(delivery["attempts"], random.random(), retry_after)
    outcome: dict[str, Any]
    if detail is None:
        outcome = {"state": "delivered", "finished": clock()}
    elif status == _GONE:
        outcome = _DISABLED
    elif delay is None:
        outcome = {"state": "failed", "finished": clock()}
    else:
        outcome = {"due": clock() + delay}
    # If the lease has ended, another process makes or has made the next attempt, and this one does not count.
    mine = _PENDING & (DELIVERIES.c.seq == delivery["seq"]) & (DELIVERIES.c.attempts == delivery["attempts"])
    with database.transaction() as connection:
        connection.execute(sql.update(DELIVERIES).where(mine).values({"status": status, "detail": detail} | outcome))
        if status == _GONE:
            waiting = _PENDING & _endpoint(delivery["owner"], delivery["url"])
            connection.execute(sql.update(DELIVERIES).where(waiting).values(_DISABLED))
