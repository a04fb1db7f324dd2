"""What can go wrong, one class for each kind of trouble.

    ChainruleError
    ├── MissingExtraError             an optional part of chainrule is not installed
    ├── JobFailedError                the service ran the job, and the job failed
    ├── APIResponseError              the service's answer is not what the service is documented to send
    ├── APIConnectionError            no answer came
    │   └── APITimeoutError               ... within the timeout
    └── APIStatusError                the answer is an error; `problem` says what, where, and what to do
        ├── BadRequestError               400  not JSON, or not a request that the service can read
        ├── AuthenticationError           401  an API key is missing or wrong
        ├── PermissionDeniedError         403  the API key does not allow this
        ├── NotFoundError                 404  no such path or object
        ├── ConflictError                 409  the object is in a state that does not allow this
        ├── LengthRequiredError           411  a body without Content-Length
        ├── ContentTooLargeError          413  a body over the limit
        ├── UnsupportedMediaTypeError     415  a body that is not JSON
        ├── UnprocessableContentError     422  JSON, but not a valid graph, specification or size
        ├── RateLimitError                429  too many requests
        └── ServerError                   500 and above
            └── ServiceUnavailableError   503  busy, starting or stopping

Wrong arguments are Python's own TypeError and ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ChainruleError(Exception):
    """The base of everything that this package raises on purpose."""


class MissingExtraError(ChainruleError):
    """An optional part of chainrule is not installed."""


class JobFailedError(ChainruleError):
    """The service ran the job and the job did not succeed; `job` is its record."""

    def __init__(self, job: Any) -> None:
        self.job = job
        failure = job.failure or {}
        detail = failure.get("detail") or f"it ended as {job.state!r}"
        super().__init__(f"job {job.id} did not succeed: {detail}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job,)


class APIResponseError(ChainruleError):
    """The answer cannot be read: perhaps `base_url` is the address of something else."""


class APIConnectionError(ChainruleError):
    """The request brought no answer: nothing listens there, or the connection broke."""


class APITimeoutError(APIConnectionError):
    """The request brought no answer in time."""


@dataclass(frozen=True)
class FieldError:
    """One fault in a request: `pointer` is a JSON Pointer into the request (`#/graph/nodes/3/args/1`)."""

    detail: str
    pointer: str = ""

    def __str__(self) -> str:
        return f"{self.pointer}: {self.detail}" if self.pointer else self.detail


@dataclass(frozen=True)
class Problem:
    """The service's account of an error (RFC 9457): `raw` is all that it sent."""

    status: int
    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    errors: tuple[FieldError, ...] = ()
    request_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """Read the wire's form; unknown members stay in `raw`, missing ones take their defaults."""
        listed = data.get("errors")
        errors = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
        status = data.get("status")
        request_id = data.get("request_id")
        return cls(
            status=status if isinstance(status, int) else 0,
            title=str(data.get("title") or ""),
            detail=str(data.get("detail") or ""),
            type=str(data.get("type") or "about:blank"),
            errors=tuple(FieldError(str(e.get("detail", "")), str(e.get("pointer", ""))) for e in errors),
            request_id=None if request_id is None else str(request_id),
            raw=dict(data),
        )

    def __str__(self) -> str:
        lines = [f"{self.status} {self.detail or self.title}".strip()]
        lines += [f"  {error}" for error in self.errors]
        if self.request_id:
            lines.append(f"  request id: {self.request_id}")
        return "\n".join(lines)


class APIStatusError(ChainruleError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status.
        problem: what was wrong, where, and what to do.
        headers: the answer's headers.
    """

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.problem = problem
        self.status = problem.status
        self.headers = dict(headers or {})
        super().__init__(str(problem))

    @property
    def request_id(self) -> str | None:
        """The request's id in the service's log."""
        return self.problem.request_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.headers)


class BadRequestError(APIStatusError):
    """400: not JSON, or not a request that the service can read."""


class AuthenticationError(APIStatusError):
    """401: an API key is missing or wrong."""


class PermissionDeniedError(APIStatusError):
    """403: the API key does not allow this."""


class NotFoundError(APIStatusError):
    """404: no such path or object."""


class ConflictError(APIStatusError):
    """409: the object is in a state that does not allow this."""


class LengthRequiredError(APIStatusError):
    """411: a body without Content-Length."""


class ContentTooLargeError(APIStatusError):
    """413: a body over the limit."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: a body that is not JSON."""


class UnprocessableContentError(APIStatusError):
    """422: JSON, but not a valid graph or specification, or one over a limit."""


class RateLimitError(APIStatusError):
    """429: too many requests."""


class ServerError(APIStatusError):
    """500 and above: the fault is the service's."""


class ServiceUnavailableError(ServerError):
    """503: busy, starting or stopping; a later try may succeed."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    411: LengthRequiredError,
    413: ContentTooLargeError,
    415: UnsupportedMediaTypeError,
    422: UnprocessableContentError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}


def status_error(problem: Problem, headers: Mapping[str, str]) -> APIStatusError:
    """Return the error of the class that fits the problem's status."""
    default = ServerError if problem.status >= 500 else APIStatusError
    return _BY_STATUS.get(problem.status, default)(problem, headers)
