"""When to send a request again: one pure function, so that the whole policy can be read and tested in one
place.

What only computes (evaluations, gradient checks, every GET) may be sent again whatever broke. But where the
service has the request and the answer takes too long, nothing is sent again: the first one still computes,
and a second would double the load and take as long. What changes something may have been done although its
answer was lost, so it is sent again only where the service surely did not take it: nothing listened, or the
answer says to come back later. A new job goes with an idempotency key, so that the service knows it again, and
may be sent as often as a computation; while the first request still runs, the service says 409 and when to
come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError

FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
LONGEST_RETRY_AFTER = 120.0
#: A computation gives the same answer each time, so a plain 500 would come back: only passing troubles are
#: here.
PASSING = frozenset({408, 429, 502, 503, 504})
#: Trouble on the way; whatever else keeps a request from being sent would keep it again.
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def retry_delay(
    attempt: int,
    outcome: int | Exception,
    headers: Mapping[str, str],
    *,
    max_retries: int,
    safe: bool,
    jitter: float = 0.0,
) -> float | None:
    """Return the seconds to wait before sending again, or None to give up.

    Args:
        attempt: how many times the request has been sent, from 1.
        outcome: the answer's status, or the exception that came instead of an answer.
        headers: the answer's headers.
        max_retries: how many times it may be sent again.
        safe: whether sending it twice does no harm.
        jitter: from 0 to 1, takes up to a quarter off the delay, so that many clients do not return at one
            instant.
    """
    if attempt > max_retries:
        return None
    if isinstance(outcome, Exception):
        if not isinstance(outcome, _BROKEN) or took_too_long(outcome) or not (safe or never_arrived(outcome)):
            return None
        return _backoff(attempt, jitter)
    after = retry_after(headers)
    refused = outcome == 429 or (outcome in (409, 503) and after is not None)
    if not refused and not (safe and outcome in PASSING):
        return None
    if after is None:
        return _backoff(attempt, jitter)
    return after if after <= LONGEST_RETRY_AFTER else None


def never_arrived(error: Exception) -> bool:
    """Whether the service surely did not see the request: there was no connection to send it over."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    if isinstance(cause, MaxRetryError):
        cause = cause.reason
    return isinstance(cause, NewConnectionError)


def took_too_long(error: Exception) -> bool:
    """Whether the service may still be at work on the request: it was sent, and the answer did not come in time."""
    # While the answer's body is read, requests hands on urllib3's timeout inside of a ConnectionError.
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(error, requests.ReadTimeout) or isinstance(cause, ReadTimeoutError)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as a number or as a date; None without a readable
    one.
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC by RFC 5322
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _backoff(attempt: int, jitter: float) -> float:
    # The exponent is bounded first: 2**attempt has no largest value of its own.
    return float(min(FIRST_DELAY * 2 ** min(attempt - 1, 10), LONGEST_DELAY)) * (1.0 - 0.25 * jitter)
