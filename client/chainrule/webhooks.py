"""Messages that the service sends when a job has ended: what a receiver does before it believes one.

    from chainrule import webhooks

    event = webhooks.verify(request.data, request.headers, secret)
    if event["type"] == "job.succeeded":
        ...  # event["data"]["id"] is the job's id

A message may arrive more than once; the header `webhook-id` is the same each time. This module needs nothing but
Python's standard library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from ._errors import ChainruleError

__all__ = ["WebhookVerificationError", "verify"]

_PREFIX = "whsec_"


class WebhookVerificationError(ChainruleError):
    """The message is not one that the service has just sent: do not act on it, and answer 400."""


def verify(payload: bytes | str, headers: Mapping[str, str], secret: str, tolerance: float = 300) -> Any:
    """Return what a message says, once its signature has shown that the service sent it, and its time that it is new.

    The scheme is that of Standard Webhooks 1.0, in its symmetric form.

    Args:
        payload: the body of the request as it arrived: JSON that was read and written again has other bytes.
        headers: the request's headers, in whatever case.
        secret: what `GET /v1/webhook-secret` shows: `whsec_` and base64.
        tolerance: by how many seconds the clocks may differ, and for how long a message that somebody listened to could
            be repeated.

    Raises:
        WebhookVerificationError: the message must not be believed; the error says why.
        ValueError: `secret` is no secret.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"secret must be {_PREFIX} followed by base64, as GET /v1/webhook-secret shows it")
    body = payload.encode() if isinstance(payload, str) else payload
    found = {name.lower(): value for name, value in headers.items()}
    message_id, sent, signatures = (_header(found, name) for name in ("id", "timestamp", "signature"))
    if not (sent.isascii() and sent.isdigit()):
        raise WebhookVerificationError("the header webhook-timestamp is not a whole number of seconds")
    digest = hmac.digest(key, f"{message_id}.{sent}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    # Of all that are there, for while a secret is replaced, messages are signed with the old one and the new one.
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures.split()):
        raise WebhookVerificationError("no signature fits: the secret is another one, or the message was changed")
    if abs(time.time() - int(sent)) > tolerance:
        detail = f"the message was sent more than {tolerance:g} s from now: it is a repetition, or a clock is wrong"
        raise WebhookVerificationError(detail)
    return json.loads(body)


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(f"webhook-{name}")
    if not value:
        raise WebhookVerificationError(f"the header webhook-{name} is missing")
    return value
