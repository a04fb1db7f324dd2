"""Open edX's external grader: the protocol by which a grader pulls submissions and puts results back.

Shapes: openedx/edx-submissions `submissions/views/xqueue.py`, openedx/xqueue, openedx/xqueue-watcher. Answers are
`{"return_code": 0 or 1, "content": ...}`; a submission is JSON text in JSON text in JSON text. A submission that was
pulled and not answered is served again after some minutes, so each may come more than once; edx-submissions serves it
before all that came later, again and again, until it is answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from ._transport import _is_loopback
from ._version import __version__

TIMEOUT = (5.0, 30.0)  # seconds for a connection, and for an answer
MAX_REPLY = 32 << 20  # bytes that are read of an answer: what is larger, no service would take
_SIGNED_OUT = (301, 302, 303, 401, 403)  # Django redirects to its login page, edx-submissions answers 401 or 403
_GONE = (403, 404, 409, 410)  # somebody else has answered it, or may


class QueueError(Exception):
    """The queue cannot be reached, or its answer is not that of a queue; it may be tried again later."""


class Refused(Exception):
    """The queue does not want this result."""


class Superseded(Refused):
    """The queue does not want this result because the submission is answered, or somebody else's by now."""


class Unreadable(Exception):
    """A submission does not have the form that the protocol gives it.

    Attributes:
        submission: its id; where it has none, a digest of it.
        header: the text that goes back with a result; "" where there is none.
    """

    def __init__(self, detail: str, submission: str = "", header: str = "") -> None:
        self.submission, self.header = submission, header
        super().__init__(detail)


@dataclass(frozen=True)
class _Answer:
    """What a server has answered: of its body no more than a byte above `MAX_REPLY`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Pulled:
    """A submission from a queue.

    Attributes:
        header: the text that goes back with the result, unchanged.
        id: what the queue calls the submission.
        grader: which task it answers: the member `grader` of the problem's `grader_payload`.
        response: what the student has sent, as text.
    """

    header: str
    id: str
    grader: str
    response: str


class XQueue:
    """One queue of one server, and the session with it.

    Args:
        server: its address, in front of `/xqueue/`.
        queue: the queue's name.
        user: who pulls from it; "" does not log in.
        password: that user's.
    """

    def __init__(self, server: str, queue: str, *, user: str = "", password: str = "") -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"the server of a queue must be an address such as https://host, not {server!r}")
        self.queue = queue
        self._server = server.rstrip("/").removesuffix("/xqueue")
        self._user, self._password = user, password
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"chainrule/{__version__}"
        if _is_loopback(parts.hostname or ""):
            self._session.trust_env = False
        self._known = not user

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def take(self) -> Pulled | None:
        """Return the next submission, or None while there is none.

        Raises:
            QueueError: the queue cannot be asked.
            Unreadable: there is a submission, and it has not the form of one.
        """
        response = self._call("GET", "get_submission", params={"queue_name": self.queue})
        if response.status != 200:
            raise QueueError(f"get_submission answered {response.status}")
        if len(response.body) > MAX_REPLY:
            raise Unreadable(f"a submission of more than {MAX_REPLY:,} bytes", _digest(response.body))
        done, content = _reply(response)
        if done:
            try:
                return _pulled(content)
            except Unreadable as error:
                error.submission = error.submission or _digest(response.body)
                raise
        if "empty" not in str(content).lower():
            raise QueueError(f"get_submission answered: {str(content)[:200]}")
        return None

    def put(self, header: str, body: str) -> None:
        """Give a result back.

        Args:
            header: that of the submission, as it came.
            body: the result as JSON text.

        Raises:
            QueueError: it could not be given back; perhaps later.
            Refused: the queue does not want it.
        """
        response = self._call("POST", "put_result", data={"xqueue_header": header, "xqueue_body": body})
        if response.status in _GONE:
            # In the queue's own words; where it is a proxy or Django that refuses, nobody has the result.
            raise Superseded(f"put_result answered {response.status}: {str(_reply(response)[1])[:200]}")
        if 400 <= response.status < 500 and response.status not in (408, 429):
            raise Refused(f"put_result answered {response.status}: {response.body[:200].decode(errors='replace')}")
        if response.status != 200:
            raise QueueError(f"put_result answered {response.status}")
        done, content = _reply(response)
        if not done:
            raise Refused(f"put_result answered: {str(content)[:200]}")

    def _call(self, method: str, what: str, **options: Any) -> _Answer:
        """Send a request, and once more after a new login where the session has ended."""
        fresh = not self._known
        if fresh:
            self._log_in()
        response = self._send(method, what, **options)
        if response.status in _SIGNED_OUT and self._user and not fresh:
            self._log_in()
            response = self._send(method, what, **options)
        if response.status == 401 or 300 <= response.status < 400:
            self._known = not self._user
            raise QueueError(f"{what} answered {response.status}: the queue does not know who asks")
        return response

    def _log_in(self) -> None:
        self._known = False
        self._session.cookies.clear()
        self._send("GET", "login")  # whatever it answers: Django sets the cookie that a form must repeat
        response = self._send("POST", "login", data={"username": self._user, "password": self._password})
        if 300 <= response.status < 400:
            raise QueueError(f"login leads to {response.headers.get('Location')}; give the address of the queue itself")
        if response.status != 200 or not _reply(response)[0]:
            raise QueueError(f"login as {self._user!r} answered {response.status}: check user and password")
        self._known = True

    def _send(self, method: str, what: str, **options: Any) -> _Answer:
        url = f"{self._server}/xqueue/{what}/"
        headers = {}
        token = next((cookie.value for cookie in self._session.cookies if cookie.name == "csrftoken"), None)
        if method == "POST" and token:
            headers = {"X-CSRFToken": token, "Referer": url}  # Django asks for both
        try:
            with self._session.request(
                method, url, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True, **options
            ) as response:
                body = bytearray()
                for part in response.iter_content(1 << 16):
                    body += part
                    if len(body) > MAX_REPLY:
                        break
                return _Answer(response.status_code, response.headers, bytes(body[: MAX_REPLY + 1]))
        except requests.RequestException as error:
            # A message of requests may hold the URL, which holds no secret, but never the form.
            raise QueueError(f"{what}: no answer ({type(error).__name__})") from error


def _reply(response: _Answer) -> tuple[bool, Any]:
    """Return whether a reply says that it went well, and what it holds."""
    try:
        reply = json.loads(response.body)
        return reply["return_code"] == 0, reply.get("content", "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        kind = response.headers.get("Content-Type", "no content type")
        raise QueueError(f"the answer is {kind} and not that of a queue; is the address right?") from None


def _pulled(content: Any) -> Pulled:
    """Return what a submission holds; each value of `content` is JSON text once more."""
    whole = _object(content, "the submission")
    header = whole.get("xqueue_header")
    named = _object(header, "xqueue_header")
    given = named.get("submission_id")
    if not isinstance(header, str) or type(given) not in (int, str) or not str(given):
        raise Unreadable("xqueue_header does not name a submission")
    submission = str(given)[:200]
    try:
        body = _object(whole.get("xqueue_body"), "xqueue_body")
        grader = _object(body.get("grader_payload"), "grader_payload").get("grader")
        if not isinstance(grader, str) or not grader:
            raise Unreadable('grader_payload does not name a task; the problem needs {"grader": "name"}')
    except Unreadable as error:
        error.submission, error.header = submission, header
        raise
    response = body.get("student_response")
    if not isinstance(response, str):
        response = json.dumps(response)
    return Pulled(header, submission, grader, response)


def _object(text: Any, what: str) -> Mapping[str, Any]:
    """Return the object that JSON text holds; one that comes as an object is taken as it is."""
    try:
        data = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, Mapping):
        raise Unreadable(f"{what} is not a JSON object")
    return data


def _digest(body: bytes) -> str:
    """Return what stands for the id of a submission that has none: unanswered, it comes again in the same bytes."""
    return f"sha256:{hashlib.sha256(body).hexdigest()[:32]}"
