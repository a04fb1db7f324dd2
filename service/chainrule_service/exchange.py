"""One HTTP exchange: what every request must keep to, how a body is read, how an answer is written."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from flask import Flask, Request, Response, current_app, has_request_context, request
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from chainrule_service import jsonio
from chainrule_service.access import Access, Caller
from chainrule_service.fields import Envelope
from chainrule_service.problems import RequestError, problem_of
from chainrule_service.seats import Seats
from chainrule_service.settings import SHORT, Settings
from chainrule_service.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_MARK = "chainrule.request_id"  # in the environment of a request
_CALLER = "chainrule.caller"  # there too, where a key was asked for
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_NOTHING = nullcontext()
_LAST = {"Connection": "close"}  # of an answer after which nobody knows where the next request begins
_MANY = 10**17  # bytes, of which nobody needs the exact number
_LARGE = 65_536  # bytes of a body from which the garbage collector would have much to search
# Ids of requests are no secrets, and the system's source of those costs as much as the reading of a small body.
_ids = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)
_LONG = 3  # long computations at once in one process: more would be no faster, and each may need much memory

View = TypeVar("View", bound=Callable[..., Any])

#: For pages with scripts of our own; nothing is loaded from or sent to another host.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: For drawings: opened as a page of its own, one can run and load nothing.
DRAWING_POLICY = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Service:
    """What the views of one application share.

    Attributes:
        ring: tells workers of a job that waits, where they have to be told.
        draining: set when the process has begun to end: no answer is kept back any longer.
        slots: a place for each request that may do long work.
        seats: a place for each request that may wait for something to happen.
    """

    settings: Settings
    store: Store
    access: Access
    ring: Callable[[str], object]
    draining: threading.Event = field(default_factory=threading.Event)
    slots: threading.BoundedSemaphore = field(init=False)
    seats: Seats = field(init=False)

    def __post_init__(self) -> None:
        # At least one thread stays free of both, so that the server answers whatever else it is asked meanwhile.
        free = self.settings.threads - 1
        slots = min(_LONG, free)
        object.__setattr__(self, "slots", threading.BoundedSemaphore(slots))
        object.__setattr__(self, "seats", Seats(free - slots))

    @property
    def has_workers(self) -> bool:
        """Whether another process may take jobs from the table: none can where it is in this one's memory."""
        return self.settings.database is not None

    def room_for(self, work: int) -> AbstractContextManager[None]:
        """Hold one of the places for long work while so many node evaluations run; short work needs none.

        Raises:
            RequestError: all are taken (503).
        """
        return _NOTHING if work <= SHORT else self._slot()

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self.slots.acquire(blocking=False):
            detail = "this server is busy with other long work; try again in a few seconds"
            raise RequestError("service-unavailable", detail, headers={"Retry-After": "2"})
        try:
            yield
        finally:
            self.slots.release()


# An attribute of one of Flask's proxies takes eight times as long as the object behind it, and a request asks for many.


def current() -> Request:
    """Return the request that this thread answers."""
    found: Request = request_ctx._get_current_object().request  # type: ignore[attr-defined]  # a proxy's method
    return found


def service() -> Service:
    """Return what the current application's views share."""
    found: Service = current_app._get_current_object().extensions["chainrule"]  # type: ignore[attr-defined]  # the same
    return found


def owner() -> str:
    """Return whose the objects of this request are: the id of its API key, or "" where none is asked for."""
    caller: Caller | None = current().environ.get(_CALLER)
    return caller.key.id if caller else ""


def own_limit(name: str) -> int | None:
    """Return the value that this request's API key has of its own for a limit, or None: then the setting counts."""
    caller: Caller | None = current().environ.get(_CALLER)
    return caller.key.limits.get(name) if caller else None


def demand(scope: str, what: str) -> None:
    """Refuse a part of what a view does to an API key that lacks a scope, besides the one that the view needs.

    Raises:
        RequestError: this request's key lacks it (403).
    """
    caller: Caller | None = current().environ.get(_CALLER)
    if caller:
        caller.demand(scope, what)


def charge(work: int) -> None:
    """Count work, in node evaluations, that this request is going to cause.

    Raises:
        QuotaRefused: its key has used up its day (429).
        LimitExceeded: its key may not do as much in a whole day (422).
    """
    caller: Caller | None = current().environ.get(_CALLER)
    if caller:
        service().access.charge(caller, work)


def give_back(work: int) -> None:
    """Take back that work was charged, which is not going to be done."""
    caller: Caller | None = current().environ.get(_CALLER)
    if caller:
        service().access.give_back(caller, work)


def needs(scope: str | None) -> Callable[[View], View]:
    """Declare which scope of an API key a view needs; None opens it to everybody. Without, nobody's key opens it."""

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]  # a function takes any
        return view

    return mark


def takes_query(*names: str) -> Callable[[View], View]:
    """Name the query parameters that a view reads; every other one is refused."""

    def mark(view: View) -> View:
        view.query_parameters = names  # type: ignore[attr-defined]  # a function takes any
        return view

    return mark


def takes_key(name: str, advice: str) -> Callable[[View], View]:
    """Name the query parameter in which a view's clients send their API key, and what those hear that send no good one.

    They know no header for it.
    """

    def mark(view: View) -> View:
        view.key_parameter, view.key_advice = name, advice  # type: ignore[attr-defined]  # a function takes any
        return view

    return mark


def whole_number_parameter(name: str, default: int | None, low: int) -> int | None:
    """Return a query parameter that is a whole number from `low`, or the default.

    Raises:
        RequestError: it is something else.
    """
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= low):
        raise RequestError("invalid-request", f"{name} must be a whole number from {low}", parameter=name)
    return int(text)


def answer_page(
    kept_to: Mapping[str, str],
    find: Callable[[int, int | None], list[dict[str, Any]]],
    write: Callable[[dict[str, Any]], Any],
) -> Response:
    """Return the answer with the page of a list that the query parameters `limit` and `cursor` ask for.

    Args:
        kept_to: the other query parameters, which say what the list is kept to.
        find: returns at most so many entries, the newest first and each with its number `seq`: all older than a number.
        write: returns an entry as the wire has it.

    Raises:
        RequestError: `limit` is none, or the cursor, or it belongs to another list.
    """
    size = min(whole_number_parameter("limit", 20, 1) or 20, service().settings.limits["page_items"])
    # A cursor is the number of an entry, and a digest of what it was made for.
    purpose = hashlib.sha256(repr((owner(), sorted(kept_to.items()))).encode()).hexdigest()[:8]
    found = find(size + 1, _read_cursor(purpose))
    page = found[:size]
    next_cursor = f"{page[-1]['seq']:x}-{purpose}" if len(found) > size else None
    headers = {}
    if next_cursor:
        query = urlencode({**kept_to, "limit": size, "cursor": next_cursor})
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return answer({"data": [write(entry) for entry in page], "next_cursor": next_cursor}, headers=headers)


def _read_cursor(purpose: str) -> int | None:
    """Return the number of the entry that the page before ended with."""
    cursor = request.args.get("cursor")
    if cursor is None:
        return None
    match = re.fullmatch("([0-9a-f]{1,15})-([0-9a-f]{8})", cursor)
    if not match:
        raise RequestError("invalid-request", "send the next_cursor of the page before, as it is", parameter="cursor")
    if match[2] != purpose:
        detail = "this cursor belongs to a list with other parameters; repeat those of the page before"
        raise RequestError("invalid-request", detail, parameter="cursor")
    return int(match[1], 16)


def flag_parameter(name: str) -> bool:
    """Return a query parameter that is true or false, and false where it is left out.

    Raises:
        RequestError: it is something else.
    """
    text = request.args.get(name, "false")
    if text not in ("true", "false"):
        raise RequestError("invalid-request", f"{name} must be true or false", parameter=name)
    return text == "true"


def accepted(*types: str) -> str:
    """Return which of the media types the client likes best.

    Raises:
        RequestError: none (406).
    """
    if not request.accept_mimetypes:
        return types[0]
    found: str | None = request.accept_mimetypes.best_match(types)
    if found is None:
        raise RequestError("not-acceptable", f"this path answers with {', '.join(types)}")
    return found


def new_request_id() -> str:
    """Return an id for a request that brings none."""
    return f"{_ids.getrandbits(128):032x}"


def request_id() -> str:
    """Return the id of the request that this thread answers, or "" when it answers none."""
    return current().environ.get(_MARK, "") if has_request_context() else ""


# What runs in every request is given the request itself: each look through Flask's `request` takes a microsecond.


def guard(request: Request, app: Flask) -> None:
    """Refuse, before its view runs, a request that no view should see."""
    environ = request.environ
    given = environ.get("HTTP_X_REQUEST_ID", "")
    environ[_MARK] = given if _REQUEST_ID.fullmatch(given) else new_request_id()
    if request.routing_exception is not None:
        return
    # First: what is public asks nothing of the database, which "is it open" may.
    scope = _scope(request, app)
    if scope is not None:
        _admit(request, app, scope)
    if environ.get("HTTP_TRANSFER_ENCODING"):
        detail = "send the body with a Content-Length; chunked bodies are not read"
        raise RequestError("length-required", detail, headers=_LAST)
    if environ["REQUEST_METHOD"] == "POST" and _content_length(environ) is None:
        # What follows would be taken for the next request.
        raise RequestError("length-required", "send the body with a Content-Length header", headers=_LAST)
    if environ.get("QUERY_STRING") and request.endpoint != "static":
        known = getattr(app.view_functions[str(request.endpoint)], "query_parameters", ())
        for name, values in request.args.lists():
            if name not in known:
                names = f"this path takes {', '.join(known)}" if known else "this path takes none"
                detail = f"there is no query parameter {name!r}; {names}"
                raise RequestError("invalid-request", detail, parameter=name)
            if len(values) > 1:
                detail = f"the query parameter {name!r} appears more than once"
                raise RequestError("invalid-request", detail, parameter=name)


def announced(digits: str) -> int:
    """Return the number of bytes that a Content-Length announces; one with very many digits is cut, and too large."""
    return int(digits.lstrip("0")[:18] or "0")


def _content_length(environ: WSGIEnvironment) -> int | None:
    """Return how many bytes a request's body has, None where it does not say."""
    text: str = environ.get("CONTENT_LENGTH") or ""
    return announced(text) if text.isdecimal() else None


def _scope(request: Request, app: Flask) -> str | None:
    """Return the scope that a request's view needs: None where it needs no key, "" where nobody has said."""
    endpoint = request.endpoint
    return None if endpoint == "static" else getattr(app.view_functions[str(endpoint)], "scope", "")


def _admit(request: Request, app: Flask, scope: str) -> None:
    """Refuse a request whose key does not open its view, or that has none, unless nobody needs one."""
    access: Access = app.extensions["chainrule"].access
    if access.is_open():
        return
    if not scope:
        raise RequestError("forbidden", "nobody has said which API keys open this path, so none does")
    environ = request.environ
    view: Any = app.view_functions[str(request.endpoint)]
    name = getattr(view, "key_parameter", None)
    if name and (given := request.args.get(name)):
        environ.setdefault("HTTP_AUTHORIZATION", f"Bearer {given}")
    try:
        caller = environ[_CALLER] = access.authenticate(environ)
    except RequestError as error:
        if not name or error.kind.slug != "unauthorized":
            raise
        raise RequestError("unauthorized", f"{error}; {view.key_advice}", headers=error.headers) from None
    access.authorise(caller, scope)


def finish(request: Request, response: Response) -> Response:
    """Add the headers that every answer carries."""
    headers = response.headers
    headers.add("X-Request-Id", request.environ.get(_MARK, ""))
    headers.add("X-Content-Type-Options", "nosniff")
    if caller := request.environ.get(_CALLER):
        headers.update(caller.headers())
    present = {name.lower(): value for name, value in headers}
    if "cache-control" not in present and request.endpoint != "static":
        headers.add("Cache-Control", "no-store")
    if response.status_code == 204 or (request.method == "OPTIONS" and response.status_code == 200):
        del headers["Content-Type"]  # there is no content: the second one is Flask's own answer
        present["content-type"] = ""
    kind = present.get("content-type", "")
    if kind.startswith("text/html"):
        headers["Content-Security-Policy"] = PAGE_POLICY
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
    elif kind.startswith("image/svg"):
        headers["Content-Security-Policy"] = DRAWING_POLICY
    return response


def read_bytes() -> bytes:
    """Return the request's body, which says that it is JSON.

    Raises:
        RequestError: the body is of another type (415), too long (413) or shorter than announced (400).
    """
    return _read_bytes(service().settings.limits)


def _read_bytes(limits: Mapping[str, int]) -> bytes:
    request = current()
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" and not (
        request.is_json and request.mimetype_params.get("charset", "utf-8").lower() in ("utf-8", "utf8")
    ):
        detail = "send JSON in UTF-8, with the header Content-Type: application/json"
        raise RequestError("unsupported-media-type", detail, headers={"Accept": "application/json"})
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        detail = "send the body as it is; compressed bodies are not read"
        raise RequestError("unsupported-media-type", detail, headers={"Accept-Encoding": "identity"})
    length, limit = _content_length(environ) or 0, limits["body_bytes"]
    if length > limit:
        detail = f"the body has {length:,} bytes{' or more' if length > _MANY else ''}; at most {limit:,} are read"
        raise RequestError("content-too-large", detail, headers=_LAST)
    body: bytes = environ["wsgi.input"].read(length)
    if len(body) < length:
        raise RequestError("malformed-request", f"the body ended early: Content-Length announced {length:,} bytes")
    return body


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector at rest, where very many objects are made and none of them is garbage.

    It would search them over and over: half of the time that a large body takes. Threads share it, so when two do this
    at once, it may be back before the second one has finished, which then only takes longer.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def read_body(schema: Envelope, body: bytes | None = None) -> dict[str, Any]:
    """Return the request's body as `schema` loads it; `body` is what `read_bytes` returned, if it was called.

    Raises:
        RequestError: as `read_bytes`.
        MalformedJSON: it is no JSON (400).
        InvalidInput, LimitExceeded: it breaks a rule of the schema (422).
    """
    limits = service().settings.limits
    body = _read_bytes(limits) if body is None else body
    with without_collector() if len(body) > _LARGE else _NOTHING:
        return schema.load(jsonio.loads(body, max_depth=limits["json_depth"], answers=schema.answer_places))


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that holds `data` as JSON."""
    return json_answer(jsonio.dumps(data), status, headers)


def json_answer(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that holds JSON text."""
    body = text.encode()
    response = _Whole([body], status, content_type="application/json")
    response.headers.add("Content-Length", str(len(body)))
    for name, value in (headers or {}).items():
        response.headers.add(name, value)
    return response


class _Whole(Response):
    """An answer with its one part and all its headers: werkzeug's look at what may be missing is left out."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or self.status_code == 304:
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.iter_encoded()


def answer_error(error: Exception) -> Any:
    """Return the answer that tells the client of `error`."""
    if isinstance(error, HTTPException) and (error.response is not None or (error.code or 500) < 400):
        return error  # a redirection, or an answer made already
    members = problem_of(error)
    members["request_id"] = request.environ.get(_MARK, "")
    if members["status"] >= 500 and not isinstance(error, RequestError):
        cause = getattr(error, "original_exception", None) or error
        current_app.logger.error("request %s failed", members["request_id"], exc_info=cause)
    response = Response(jsonio.dumps(members), members["status"], content_type="application/problem+json")
    if isinstance(error, HTTPException):
        response.headers.extend([(k, v) for k, v in error.get_headers() if k.lower() != "content-type"])
    elif isinstance(error, RequestError):
        response.headers.extend(error.headers)
    if members["status"] == 503:  # the page about it promises this header
        response.headers.setdefault("Retry-After", "5")
    return response
