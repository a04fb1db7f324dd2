"""Requests and answers: one session, the retries, and the step from HTTP to this package's errors."""

from __future__ import annotations

import ipaddress
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from ._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ChainruleError,
    Problem,
    status_error,
)
from ._events import Event, events
from ._expression import Expression, to_graph
from ._retries import retry_delay
from ._version import __version__

Timeout = float | tuple[float, float] | None

#: Of a stream of events: the seconds in which at least a sign of life comes, and those until it is asked for again.
_SILENCE, _PAUSE = 30, 1.0


class _Key(AuthBase):
    """Send the API key, or nothing; as an `auth` object it keeps a netrc file from replacing the header.

    Raises:
        ValueError: no header can hold it; the message does not show it.
    """

    def __init__(self, api_key: str | None) -> None:
        # The HTTP library refuses such a header too, with a message that shows the key.
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("api_key must be ASCII characters without spaces or line breaks; send it as it was shown")
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class Transport:
    """Sends one kind of request after another to one service."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: Timeout,
        max_retries: int,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"base_url must be an address such as http://127.0.0.1:8000, not {base_url!r}")
        if max_retries < 0:
            raise ValueError(f"max_retries must be 0 or more, not {max_retries}")
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.max_retries = max_retries
        self.sleep = sleep
        self.jitter = jitter
        self.session = requests.Session()
        self.session.auth = _Key(api_key)
        self.session.headers["User-Agent"] = f"chainrule/{__version__}"
        if _is_loopback(parts.hostname or ""):
            # A proxy of the environment cannot reach this machine's own loopback.
            self.session.trust_env = False

    def json(self, method: str, path: str, body: Any = None, *, safe: bool = True, **options: Any) -> Any:
        """Send a request and return its JSON answer.

        Raises:
            APIStatusError: the answer is an error.
            APIConnectionError: no answer came.
            APIResponseError: the answer is not JSON.
        """
        response = self.send(method, path, body, safe=safe, **options)
        if response.status_code == 204:
            return None
        return decoded(response)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        safe: bool = True,
        accept: str = "application/json",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0,
        stream: bool = False,
        max_retries: int | None = None,
    ) -> requests.Response:
        """Send a request, again where that is right, and return its answer, which is a success.

        Args:
            method: the HTTP method.
            path: the path on the service.
            body: what to send as JSON, if anything.
            safe: whether sending it twice does no harm.
            accept: the media type to ask for.
            params: the query.
            headers: what to send besides.
            wait: the seconds for which the service may keep the answer back, besides the timeout.
            stream: whether the caller reads the answer's body as it comes.
            max_retries: how often to send again, if not as often as the client does.
        """
        headers = {"Accept": accept, **(headers or {})}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = _encoded(body)
        retries = self.max_retries if max_retries is None else max_retries
        attempt = 0
        while True:
            attempt += 1
            outcome: requests.Response | Exception
            seen: int | Exception
            answer_headers: Mapping[str, str] = {}
            try:
                # Not following redirects: a POST would arrive as a GET, and the key at another host.
                outcome = self.session.request(
                    method,
                    self.base_url + path,
                    params=params,
                    data=data,
                    headers=headers,
                    timeout=_lengthened(self.timeout, wait),
                    stream=stream,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                outcome = seen = error
            else:
                if outcome.status_code < 300:
                    return outcome
                seen, answer_headers = outcome.status_code, outcome.headers
            delay = retry_delay(attempt, seen, answer_headers, max_retries=retries, safe=safe, jitter=self.jitter())
            if delay is None:
                raise self._error(method, path, outcome) from (outcome if isinstance(outcome, Exception) else None)
            self.sleep(delay)

    def events(self, path: str, last: str = "") -> Iterator[Event]:
        """Go through server-sent events, for ever: the caller knows which is the last one.

        Where an answer ends, or the connection breaks, the service is asked for what came after the last event.

        Args:
            path: the path on the service.
            last: the id of the event to go on after; every event when empty.

        Raises:
            ChainruleError: as `send`; and the connection broke time and again without an event in between.
        """
        broken = 0
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            answer = self.send("GET", path, accept="text/event-stream", headers=headers, wait=_SILENCE, stream=True)
            with closing(answer):
                try:
                    for event in events(answer.iter_content(chunk_size=None)):
                        broken, last = 0, event.id
                        yield event
                except requests.RequestException as error:
                    broken += 1
                    if broken > self.max_retries:
                        raise self._error("GET", path, error) from error
            self.sleep(_PAUSE)

    def _error(self, method: str, path: str, outcome: requests.Response | Exception) -> ChainruleError:
        if isinstance(outcome, requests.Response):
            return _status_error(outcome)
        where = f"{method} {self.base_url}{path}"
        if isinstance(outcome, requests.Timeout):
            return APITimeoutError(f"{where}: no answer within the timeout of {self.timeout} s")
        if isinstance(outcome, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
            return APIConnectionError(
                f"{where}: no connection, or a broken one; is the service running there? `chainrule serve` starts one. "
                f"({outcome})"
            )
        return APIConnectionError(f"{where}: {outcome}")


def _lengthened(timeout: Timeout, seconds: float) -> Timeout:
    """Return a timeout whose part for the answer is longer by some seconds."""
    if timeout is None or not seconds:
        return timeout
    connecting, answering = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    return connecting, answering + seconds


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False, default=_plain).encode()
    except ValueError as error:
        raise ValueError(f"this cannot be sent as JSON, where every number is finite: {error}") from error


def _plain(value: Any) -> Any:
    # An expression answers to any name, so it comes before the question for `tolist`.
    if isinstance(value, Expression):
        return to_graph(value)
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return value.tolist()
    raise TypeError(f"{value!r} cannot be sent: a request is made of numbers, texts, lists, dictionaries and graphs")


def decoded(response: requests.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError as error:
        kind = response.headers.get("Content-Type", "no content type")
        raise APIResponseError(
            f"{response.url} answered {response.status_code} with {kind} instead of JSON; is it a chainrule service?"
        ) from error


def _status_error(response: requests.Response) -> APIStatusError:
    data: Any = None
    if "json" in response.headers.get("Content-Type", ""):
        try:
            data = json.loads(response.content)
        except ValueError:
            data = None
    if not isinstance(data, Mapping):
        # A proxy between here and the service answers in a form of its own.
        data = {"title": response.reason or "Error", "detail": response.text[:200].strip()}
    request_id = data.get("request_id") or response.headers.get("X-Request-Id")
    problem = Problem.from_dict({**data, "status": response.status_code, "request_id": request_id})
    return status_error(problem, response.headers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
