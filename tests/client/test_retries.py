"""When a request is sent again."""

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError

import chainrule
from chainrule import _errors
from chainrule._errors import APIStatusError, FieldError, Problem, status_error
from chainrule._retries import LONGEST_DELAY, never_arrived, retry_after, retry_delay

REFUSED = requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "refused")))
LATE = requests.ConnectionError(ReadTimeoutError(None, "/", "Read timed out."))
BROKEN = requests.ConnectionError("reset by peer")


def delay(outcome, headers=None, attempt=1, safe=True, jitter=0.0):
    return retry_delay(attempt, outcome, headers or {}, max_retries=2, safe=safe, jitter=jitter)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_passing_troubles_are_tried_again(status):
    assert delay(status) == 0.5
    assert delay(status, attempt=2) == 1.0
    assert delay(status, attempt=3) is None


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 411, 413, 415, 422, 500])
def test_what_would_come_back_is_not(status):
    assert delay(status) is None


@pytest.mark.parametrize("outcome", [BROKEN, requests.ConnectTimeout(), REFUSED])
def test_a_computation_is_tried_again_whatever_broke(outcome):
    assert delay(outcome) == 0.5


@pytest.mark.parametrize(
    ("outcome", "headers", "expected"),
    [
        (REFUSED, {}, 0.5),
        (requests.ConnectTimeout(), {}, 0.5),
        (BROKEN, {}, None),
        (requests.ReadTimeout(), {}, None),
        (429, {}, 0.5),
        (503, {"Retry-After": "3"}, 3.0),
        (409, {"Retry-After": "1"}, 1.0),  # the first request with the same idempotency key is still being answered
        (409, {}, None),
        (503, {}, None),
        (502, {}, None),
        (504, {"Retry-After": "3"}, None),
    ],
)
def test_what_changes_something_is_sent_again_only_if_the_service_did_not_take_it(outcome, headers, expected):
    assert delay(outcome, headers, safe=False) == expected


def test_a_request_that_cannot_be_sent_is_not_tried_again():
    assert delay(requests.exceptions.InvalidHeader()) is None
    assert delay(requests.exceptions.ChunkedEncodingError()) == 0.5


@pytest.mark.parametrize("outcome", [requests.ReadTimeout(), LATE])
def test_what_takes_too_long_is_not_asked_for_twice(outcome):
    """The first request still computes."""
    assert delay(outcome) is None


def test_retry_after_is_honoured_up_to_two_minutes():
    assert delay(429, {"Retry-After": "120"}) == 120.0
    assert delay(429, {"Retry-After": "121"}) is None
    assert delay(429, {"Retry-After": "soon"}) == 0.5


def test_retry_after_may_be_a_date():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=30), usegmt=True)
    assert retry_after({"Retry-After": later}, now) == 30.0
    assert retry_after({"Retry-After": format_datetime(now - timedelta(days=1), usegmt=True)}, now) == 0.0
    assert retry_after({"Retry-After": "Fri, 02 Jan 2026 03:04:35 -0000"}, now) == 30.0
    assert retry_after({}) is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delays_grow_to_a_bound_and_jitter_only_shortens(attempt, jitter):
    plain = retry_delay(attempt, 503, {}, max_retries=10_000, safe=True)
    jittered = retry_delay(attempt, 503, {}, max_retries=10_000, safe=True, jitter=jitter)
    assert plain == (LONGEST_DELAY if attempt > 4 else 0.5 * 2 ** (attempt - 1))
    assert 0.75 * plain <= jittered <= plain


def test_a_refused_connection_surely_brought_nothing_over():
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.ConnectionError) as caught:
            session.get("http://127.0.0.1:1/")
    assert never_arrived(caught.value)
    assert not never_arrived(BROKEN)
    assert not never_arrived(ValueError())


# Errors


def test_each_status_has_its_class():
    named = {
        400: "BadRequestError",
        401: "AuthenticationError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        409: "ConflictError",
        411: "LengthRequiredError",
        413: "ContentTooLargeError",
        415: "UnsupportedMediaTypeError",
        418: "APIStatusError",
        422: "UnprocessableContentError",
        429: "RateLimitError",
        500: "ServerError",
        502: "ServerError",
        503: "ServiceUnavailableError",
    }
    assert {s: type(status_error(Problem(s), {})).__name__ for s in named} == named


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {word for word in (_errors.__doc__ or "").replace("─", " ").split() if word.endswith("Error")}
    drawn -= {"ValueError."}
    defined = {
        name for name, value in vars(_errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == {name for name in drawn if name not in ("TypeError", "ValueError")}
    assert defined <= set(chainrule.__all__)


def test_a_problem_says_what_where_and_which_request():
    problem = Problem.from_dict(
        {
            "status": 422,
            "title": "Unprocessable Content",
            "detail": "the graph breaks a rule",
            "errors": [{"detail": "there is no node 'x'", "pointer": "#/graph/nodes/3/args/1"}],
            "request_id": "abc",
            "limit": "nodes",
        }
    )
    error = status_error(problem, {"X-Request-Id": "abc"})
    assert str(error).splitlines() == [
        "422 the graph breaks a rule",
        "  #/graph/nodes/3/args/1: there is no node 'x'",
        "  request id: abc",
    ]
    assert error.problem.errors == (FieldError("there is no node 'x'", "#/graph/nodes/3/args/1"),)
    assert error.problem.raw["limit"] == "nodes"
    assert error.request_id == "abc"


def test_errors_can_be_pickled():
    error = status_error(Problem(422, detail="no", errors=(FieldError("x", "#/y"),)), {"A": "b"})
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert (twin.problem, twin.headers, str(twin)) == (error.problem, error.headers, str(error))


@pytest.mark.parametrize("data", [{}, {"errors": None}, {"errors": ["?"]}, {"status": "x", "errors": 3}])
def test_a_problem_of_another_shape_is_still_one(data):
    assert isinstance(status_error(Problem.from_dict(data), {}), APIStatusError)
