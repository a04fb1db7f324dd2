"""Errors on the wire: the one table of problem types, and the one way from an exception to an answer.

Every error leaves as `application/problem+json` (RFC 9457). `type` is a path on this service and not an absolute URI:
it is the same whatever name or proxy the service is reached by, and a browser still resolves it to a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from werkzeug.exceptions import HTTPException

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, LimitExceeded, Path, Problem
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.jsonio import MalformedJSON


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem; `explanation` is for people and is shown at /problems/{slug}.

    `uri` is the member `type`, where others have given the problem one.
    """

    slug: str
    status: int
    title: str
    explanation: str
    uri: str = ""

    @property
    def type(self) -> str:
        """The member `type` of such a problem."""
        return self.uri or f"/problems/{self.slug}"


_TABLE = (
    ProblemType("malformed-request", 400, "Malformed request",
                "The request cannot be read: the body is not JSON in UTF-8, or it is JSON that two readers could "
                "understand differently (a key twice, NaN, a number that no double holds, very deep nesting)."),
    ProblemType("unauthorized", 401, "Unauthorized",
                "This service asks for an API key, in the header Authorization: Bearer cr_... None came, or one that "
                "is not known, has expired or has been revoked. Keys are made by `chainrule keys create`."),
    ProblemType("forbidden", 403, "Forbidden",
                "The API key is good, but lacks the scope that this path needs. A key's scopes are chosen when it is "
                "made: `chainrule keys create --scopes`."),
    ProblemType("not-found", 404, "Not found",
                "Nothing lives at this path, or the object named in it does not exist (any more)."),
    ProblemType("method-not-allowed", 405, "Method not allowed",
                "The path exists, but not for this method. The Allow header lists the methods that it has."),
    ProblemType("not-acceptable", 406, "Not acceptable",
                "The Accept header admits none of the media types that this path can answer with."),
    ProblemType("request-timeout", 408, "Request timeout",
                "The client was silent for longer than the limit silent_seconds, or its request did not arrive within "
                "the limit request_seconds; /v1/limits shows both."),
    ProblemType("conflict", 409, "Conflict",
                "The object is in a state that does not allow this."),
    ProblemType("request-in-progress", 409, "Request in progress",
                "A request with the same Idempotency-Key is still being answered. Send this one again after the number "
                "of seconds in the Retry-After header."),
    ProblemType("length-required", 411, "Length required",
                "A body must come with a Content-Length header; chunked bodies are not read."),
    ProblemType("content-too-large", 413, "Content too large",
                "The body is longer than the limit body_bytes, which /v1/limits shows."),
    ProblemType("unsupported-media-type", 415, "Unsupported media type",
                "The body must be JSON in UTF-8, sent as Content-Type: application/json, and not compressed."),
    ProblemType("invalid-request", 422, "Invalid request",
                "The JSON was read, but it breaks a rule. Each entry of errors says what and where: pointer is a JSON "
                "Pointer into the body, parameter the name of a query parameter. At most 32 are listed."),
    ProblemType("limit-exceeded", 422, "Limit exceeded",
                "The request is well-formed but larger than this service allows. The member limit names the limit, "
                "maximum is its value here, requested what the request needs. /v1/limits shows all of them."),
    ProblemType("idempotency-key-reused", 422, "Idempotency key reused",
                "A request with the same Idempotency-Key had another body. Send each new request with a key of its "
                "own, and one that is repeated with the same key and the same bytes."),
    ProblemType("quota-exceeded", 429, "Quota exceeded",
                "The API key has used up what it may have in a time, or too many requests of this address came with "
                "keys that are not good. The member violated-policies names the quotas, as the header RateLimit-Policy "
                "does. Try again after the number of seconds in the Retry-After header.",
                "https://iana.org/assignments/http-problem-types#quota-exceeded"),
    ProblemType("headers-too-large", 431, "Request header fields too large",
                "The request line and the headers are together longer than 64 KiB."),
    ProblemType("internal-error", 500, "Internal error",
                "The service made a mistake. Its log has the cause under the request_id; please report it."),
    ProblemType("service-unavailable", 503, "Service unavailable",
                "The service is busy, starting or stopping, or cannot reach its store. Try again after the number of "
                "seconds in the Retry-After header."),
)  # fmt: skip
PROBLEM_TYPES: Mapping[str, ProblemType] = {kind.slug: kind for kind in _TABLE}
_BY_STATUS = {kind.status: kind for kind in reversed(_TABLE) if kind.slug != "limit-exceeded"}

#: Which exception is which problem: the first class that fits counts.
_BY_EXCEPTION: tuple[tuple[type[Exception], str], ...] = (
    (MalformedJSON, "malformed-request"),
    (LimitExceeded, "limit-exceeded"),
    (InvalidInput, "invalid-request"),
    (DatabaseUnavailable, "service-unavailable"),
)

#: What is said where the cause is only for the log.
_UNTOLD = {
    "internal-error": "the service made a mistake; its log has the cause under this request's id",
    "service-unavailable": "the database cannot be read or written now; the service's log has the cause",
}


class RequestError(Exception):
    """A refusal that the service itself decides on.

    Attributes:
        kind: the problem's type.
        parameter: the query parameter that is at fault, if one is.
        headers: what the answer carries besides.
        members: what its problem does.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.parameter = PROBLEM_TYPES[slug], parameter
        self.headers, self.members = dict(headers or {}), dict(members or {})
        super().__init__(detail)


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer in a URI fragment (RFC 6901, section 6)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join("/" + quote(step, safe="!$&'()*+,;=:@~", errors="replace") for step in steps)


def problem_of(error: Exception, *, under: Path = ()) -> dict[str, Any]:
    """Return the members of the problem that `error` is, `under` being the place of its subject in the request.

    What is no error of ours or of HTTP is an internal error, and nothing about it is told.
    """
    if isinstance(error, RequestError):
        place = [{"detail": str(error), "parameter": error.parameter}] if error.parameter else None
        return _members(error.kind, str(error), place) | error.members
    if isinstance(error, HTTPException):
        return _of_http(error)
    kind = PROBLEM_TYPES[next((slug for base, slug in _BY_EXCEPTION if isinstance(error, base)), "internal-error")]
    if isinstance(error, LimitExceeded):
        members = _members(kind, str(error), _listed([Problem(error.path, str(error))], under))
        return members | {"limit": error.limit, "maximum": error.maximum, "requested": error.requested}
    if isinstance(error, InvalidInput | MalformedJSON):
        more = len(error.problems) - 1
        detail = error.problems[0].detail + (f" (and {more} more)" if more else "")
        return _members(kind, detail, _listed(error.problems, under))
    return _members(kind, _UNTOLD[kind.slug], None)


def _of_http(error: HTTPException) -> dict[str, Any]:
    status = error.code or 500
    kind = _BY_STATUS.get(status)
    detail = error.description or ""
    if kind is None:
        return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if kind.slug == "not-found":
        detail = "nothing lives at this path; /docs shows what there is"
    elif kind.slug == "method-not-allowed":
        methods = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        detail = f"this path takes {methods}" if methods else "this path does not take this method"
    elif kind.slug == "internal-error":
        detail = _UNTOLD[kind.slug]
    return _members(kind, detail, None)


def _members(kind: ProblemType, detail: str, errors: list[dict[str, str]] | None) -> dict[str, Any]:
    members: dict[str, Any] = {
        "type": kind.type, "title": kind.title, "status": kind.status, "detail": detail,
    }  # fmt: skip
    return members | {"errors": errors} if errors else members


def _listed(problems: Iterable[Problem], under: Path) -> list[dict[str, str]]:
    return [{"detail": problem.detail, "pointer": pointer(under + problem.path)} for problem in problems][:MAX_PROBLEMS]
