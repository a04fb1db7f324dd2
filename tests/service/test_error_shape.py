"""Every error leaves in one shape: application/problem+json of a known type, with the request's id."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
from werkzeug.exceptions import default_exceptions

from chainrule_engine import errors
from chainrule_service.app import create_app
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.fields import Envelope, ListOf, Object, Text, WholeNumber
from chainrule_service.jsonio import MalformedJSON
from chainrule_service.problems import PROBLEM_TYPES, RequestError, pointer, problem_of

PROBLEM = errors.Problem(("a", 0), "is wrong")


def subclasses(base):
    for cls in base.__subclasses__():
        yield cls
        yield from subclasses(cls)


def example(cls):
    return cls([PROBLEM]) if issubclass(cls, errors.InvalidInput) else cls("nodes", 3, 4, ("a", 0))


RAISED = [
    *((example(cls), 422) for cls in subclasses(errors.EngineError) if not cls.__module__.startswith("test")),
    (MalformedJSON(PROBLEM), 400),
    (DatabaseUnavailable("database is locked at /secret/place"), 503),
    (errors.EngineError("/secret/place"), 500),
    (RuntimeError("/secret/place"), 500),
    (RecursionError("/secret/place"), 500),
    (KeyError("/secret/place"), 500),
    (MemoryError(), 500),
    *((RequestError(slug, "words", parameter="limit"), kind.status) for slug, kind in PROBLEM_TYPES.items()),
]


@pytest.fixture(scope="module")
def raising():
    """A function that has a view raise an error, and returns the answer."""
    app, errors_to_raise = create_app(), []

    @app.get("/raise")
    def view():
        raise errors_to_raise.pop()

    def answer(error):
        errors_to_raise.append(error)
        return app.test_client().get("/raise", headers={"X-Request-Id": "abc-1"})

    return answer


@pytest.mark.parametrize(("error", "status"), RAISED, ids=lambda value: type(value).__name__)
def test_whatever_a_view_raises(error, status, raising, caplog):
    with caplog.at_level(logging.CRITICAL):
        answer = raising(error)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    problem = answer.json
    (kind,) = (kind for kind in PROBLEM_TYPES.values() if kind.type == problem["type"])
    assert (problem["title"], problem["status"]) == (kind.title, kind.status) == (kind.title, status)
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"] == "abc-1"
    assert "secret" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("status", sorted(code for code in default_exceptions if code >= 400))
def test_whatever_the_framework_raises(status, raising, caplog):
    with caplog.at_level(logging.CRITICAL):
        answer = raising(default_exceptions[status]())
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["type"] in {"about:blank", *(kind.type for kind in PROBLEM_TYPES.values())}


def test_a_mistake_of_ours_is_logged_under_the_request_id(raising, caplog):
    answer = raising(ZeroDivisionError("of ours"))
    assert answer.json["request_id"] in caplog.text
    assert "ZeroDivisionError: of ours" in caplog.text


@pytest.mark.parametrize("cls", list(subclasses(errors.EngineError)), ids=lambda cls: cls.__name__)
def test_every_engine_error_has_a_type(cls):
    assert problem_of(example(cls))["status"] == 422


def test_a_limit_is_told_in_numbers():
    problem = problem_of(errors.LimitExceeded("nodes", 3, 4, ("nodes",), "split the graph"), under=("items", 2))
    assert (problem["limit"], problem["maximum"], problem["requested"]) == ("nodes", 3, 4)
    assert "split the graph" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "#/items/2/nodes"


def test_one_detail_speaks_for_all():
    assert problem_of(errors.GraphError([PROBLEM]))["detail"] == "is wrong"
    assert problem_of(errors.GraphError([PROBLEM] * 3))["detail"] == "is wrong (and 2 more)"


class Inner(Envelope):
    count = WholeNumber(least=0, required=True)
    title = Text()


class Outer(Envelope):
    inner = Object(Inner, required=True)
    items = ListOf(Object(Inner), load_default=list)
    note = Text(load_default=None)


def test_all_faults_of_an_object_are_told_in_their_places():
    with pytest.raises(errors.InvalidInput) as caught:
        Outer().load({"note": 1, "items": [{"count": 1}, {"count": -1, "title": None}, 3], "colour": 0, "size": None})
    assert [(pointer(problem.path), problem.detail.partition(",")[0]) for problem in caught.value.problems] == [
        ("#/inner", "this field is missing"),
        ("#/items/1/count", "this must be a whole number from 0 up"),
        ("#/items/1/title", "null is not allowed here; leave the field out instead"),
        ("#/items/2", "an object with count"),
        ("#/note", "a string of 1 to 200 characters is needed here"),
        ("#/colour", "unknown field: the fields here are inner"),
        ("#/size", "unknown field: the fields here are inner"),
    ]


def test_what_is_left_out_has_its_default_and_nothing_is_shared():
    outer = Outer()
    first, second = (outer.load({"inner": {"count": 0}}) for _ in range(2))
    assert first == second == {"inner": {"count": 0}, "items": [], "note": None}
    assert first["items"] is not second["items"]
    assert outer.load({"note": None, "inner": {"count": 0}})["note"] is None


def test_of_very_many_unknown_fields_some_are_told():
    with pytest.raises(errors.InvalidInput) as caught:
        Inner().load({"count": 1} | dict.fromkeys(map(str, range(10_000))))
    assert len(caught.value.problems) == errors.MAX_PROBLEMS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((), "#"),
        (("nodes", 3, "args", 1), "#/nodes/3/args/1"),
        (("a/b", "c~d"), "#/a~1b/c~0d"),
        (("", "é %"), "#//%C3%A9%20%25"),
        (('"<\\>^`{|}',), "#/%22%3C%5C%3E%5E%60%7B%7C%7D"),
    ],
)
def test_pointers_are_fragments_of_a_uri(path, expected):
    assert pointer(path) == expected


# ---------------------------------------------------------------------------------------------------- paths and methods


UNKNOWN = """
    /nope /v1 /v1/ /v1/evaluations/ /v1/evaluations/x /v2/evaluations /static/ /static/../app.py /static/nope.js
    /problems/ /%00 /%ff
"""


@pytest.mark.parametrize("path", UNKNOWN.split())
def test_unknown_paths(call, path):
    assert call(path, status=404)["type"] == "/problems/not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/evaluations", {"POST", "OPTIONS"}),
        ("PUT", "/v1/jobs", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/v1/operations", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/v1/jobs/job_0", {"DELETE", "GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/livez", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/livez", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_wrong_methods(client, method, path, allowed):
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.json["type"]) == (405, "/problems/method-not-allowed")
    assert set(re.split(", *", answer.headers["Allow"])) == allowed
    for name in allowed:
        assert name in answer.json["detail"]


def test_options_and_head(client):
    options = client.options("/v1/jobs")
    assert (options.status_code, options.get_data()) == (200, b"")
    assert "POST" in options.headers["Allow"]
    head = client.head("/v1/limits")
    assert (head.status_code, head.get_data()) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(client.get("/v1/limits").get_data())


@pytest.mark.parametrize("given", ["abc", "A.b_c-1", "x" * 128])
def test_a_good_request_id_is_echoed(client, given):
    assert client.get("/livez", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a;b", "<x>"])
def test_a_bad_request_id_is_replaced(client, given):
    answer = client.get("/livez", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_processes_that_are_forked_give_other_request_ids():
    code = """
import os
from chainrule_service.app import create_app
client = create_app().test_client()
for _ in range(2):
    if (child := os.fork()) == 0:
        print(client.get("/livez").headers["X-Request-Id"], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(client.get("/livez").headers["X-Request-Id"])
"""
    ids = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(ids)) == 3


def test_answers_are_not_kept_and_not_guessed_at(client, neuron):
    for answer in (
        client.get("/v1/limits"),
        client.post("/v1/evaluations", json={"graph": neuron}),
        client.get("/nope"),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/operations", "/docs", "/openapi.json"])
def test_unknown_query_parameters_are_refused(call, path):
    problem = call(f"{path}?verbose=1", status=422)
    assert problem["errors"] == [{"detail": problem["detail"], "parameter": "verbose"}]
