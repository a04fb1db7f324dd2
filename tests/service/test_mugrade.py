"""The routes of mugrade, called as its client calls them, with its own encoding of values."""

from __future__ import annotations

import contextlib
import datetime
import json
import pickle
import threading
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.service.servers import Server

from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.keys import Keys
from chainrule_service.published import PUBLISHED_RESULTS, Published
from chainrule_service.resources.mugrade import MAX_VALUES, matches
from chainrule_service.settings import Settings
from chainrule_service.store import Store
from chainrule_service.upkeep import TIDY_SECONDS, _Upkeep

PLACE = {"assignment": "hw0", "problem": "softmax loss"}


def encoded(data):
    """What mugrade's `encode_json` makes of a value: written anew from its documented form."""
    if isinstance(data, dict):
        return {name: encoded(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [encoded(value) for value in data]
    if isinstance(data, np.ndarray):
        return {"_encoded_type": "np.ndarray", "data": encoded(data.tolist())}
    if isinstance(data, datetime.datetime):
        return {"_encoded_type": "datetime", "data": data.isoformat()}
    if isinstance(data, type | np.dtype):
        return {"_encoded_type": "type", "data": repr(data)}
    if isinstance(data, np.floating):
        return float(data)
    if isinstance(data, np.integer):
        return int(data)
    return data


VALUES = [
    np.float32(0.2503), np.array([[1.5, -2.0], [0.0, 3e-9]]), 7, (1.0, "text"), True, None, np.dtype("float32"),
    {"b": np.arange(3), "a": [datetime.datetime(2026, 11, 30, 12)]}, np.float64(1e300), [],
]  # fmt: skip


@pytest.fixture
def send(call_with):
    """Return a function that sends as mugrade's client does, to a service of its own."""
    call = call_with()

    def send(what, body=None, status=200, **query):
        raw = b"" if body is None else json.dumps(body, allow_nan=False).encode()
        return call(f"/mugrade/{what}?{urllib.parse.urlencode(query)}", status=status, raw=raw, method="POST")

    return send


def test_a_whole_round(send):
    published = send("publish", encoded(VALUES), user_key="none is needed", **PLACE)
    assert (published["version"], published["values"], published["new"]) == (1, len(VALUES), True)
    submission = send("submit", user_key="x", **PLACE)["submission_id"]
    for index, value in enumerate(VALUES):
        told = send("submit_test", encoded(value), submission_id=submission, test_case_index=index)
        assert told == {"correct": True}
    assert send("submit_test", 0.26, submission_id=submission, test_case_index=0) == {"correct": False}


def test_what_is_published_has_versions_and_a_submission_stays_with_its_own(send, call):
    send("publish", [1.0], **PLACE)
    old = send("submit", **PLACE)["submission_id"]
    assert send("publish", [1.0], **PLACE)["new"] is False
    assert send("submit", **PLACE)["submission_id"] == old
    assert send("publish", [2.0], **PLACE)["new"] is True
    new = send("submit", **PLACE)["submission_id"]
    assert new != old
    for submission, value in ((old, 1.0), (new, 2.0)):
        assert send("submit_test", value, submission_id=submission, test_case_index=0)["correct"] is True
        assert send("submit_test", 3 - value, submission_id=submission, test_case_index=0)["correct"] is False
    assert send("publish", [1.0], **PLACE)["version"] == 3
    send("submit", status=404, assignment="hw0", problem="another")


def test_a_test_can_be_sent_again_and_what_was_right_once_stays_so(call_with):
    call = call_with()

    def post(what, body, **query):
        return call(f"/mugrade/{what}?{urllib.parse.urlencode(query)}", raw=json.dumps(body).encode(), method="POST")

    post("publish", [1.0, 2.0], **PLACE)
    submission = post("submit", None, **PLACE)["submission_id"]
    for index, value in ((0, 9.0), (0, 1.0), (0, 1.0), (0, 9.0), (1, 9.0)):
        post("submit_test", value, submission_id=submission, test_case_index=index)
    results = call(f"/mugrade/results?{urllib.parse.urlencode(PLACE)}")
    assert (results["version"], results["values"]) == (1, 2)
    (row,) = results["data"]
    assert (row["key"], row["passed"]) == ("", 1)


def test_results_of_an_older_version_can_be_seen_and_results_be_deleted(call_with):
    call = call_with()

    def ask(what, body=None, method="POST", status=200, **query):
        raw = None if method == "GET" else json.dumps(body).encode() if body is not None else b""
        return call(f"/mugrade/{what}?{urllib.parse.urlencode(query)}", raw=raw, method=method, status=status)

    other = PLACE | {"problem": "another"}
    for place, values in ((PLACE, [1.0]), (PLACE, [2.0]), (other, [3.0])):
        ask("publish", values, **place)
        submission = ask("submit", **place)["submission_id"]
        ask("submit_test", values[0], submission_id=submission, test_case_index=0)
    for version in (1, 2):
        told = ask("results", method="GET", version=version, **PLACE)
        assert (told["version"], [row["passed"] for row in told["data"]]) == (version, [1])
    assert ask("results", method="GET", **PLACE)["version"] == 2
    for place, version in ((PLACE, 3), (PLACE, 9), (other, 1)):
        ask("results", method="GET", status=404, version=version, **place)
    ask("results", method="GET", status=422, version="x", **PLACE)

    def deleted(**query):
        return ask("results", method="DELETE", **query)["deleted"]

    ask("results", method="DELETE", status=422)
    assert deleted(assignment="hw1") == deleted(key="somebody", **PLACE) == deleted(version=3, **PLACE) == 0
    assert deleted(version=1, key="", **PLACE) == 1
    assert ask("results", method="GET", version=1, **PLACE)["data"] == []
    assert len(ask("results", method="GET", version=2, **PLACE)["data"]) == 1
    assert deleted(assignment="hw0") == 2
    assert ask("results", method="GET", **other)["data"] == []
    assert ask("submit", **PLACE)["submission_id"] == "s2"  # what is published stays


def test_results_are_swept_by_their_age(database):
    published = Published(database)
    version, _ = published.publish("hw0", "p", [1.0], "")
    for test, age in ((0, 3), (1, 0)):
        published.record(version.seq, "one", test, True)
        with database.transaction() as connection:
            aged = sql.update(PUBLISHED_RESULTS).where(PUBLISHED_RESULTS.c.test == test)
            connection.execute(aged.values(created=PUBLISHED_RESULTS.c.created - age * 86_400))
    upkeep = _Upkeep(Store(database), Settings(limits={"retention_days": 4}), "host:1")
    upkeep.do()
    assert published.results(version.seq)[0]["passed"] == 2
    upkeep._settings = Settings(limits={"retention_days": 2})
    upkeep._swept -= 100
    upkeep.do()
    assert published.results(version.seq)[0]["passed"] == 2  # there is no index: it is looked for seldom
    upkeep._swept -= 100
    upkeep._tidied -= TIDY_SECONDS
    upkeep.do()
    assert published.results(version.seq)[0]["passed"] == 1
    assert published.version(version.seq) == version


def test_every_database_keeps_what_was_published(database):
    published = Published(database)
    values = [1.0, 1, None, True, "é\0\u2028", {"_encoded_type": "np.ndarray", "data": [[1e-300, -0.0]]}, [], 2**53]
    first, is_new = published.publish("hw0", "p", values, "somebody")
    assert is_new
    again, is_new = published.publish("hw0", "p", json.loads(json.dumps(values)), "somebody else")
    assert (again, is_new) == (first, False)
    second, _ = published.publish("hw0", "p", [2.0], "")
    assert second.seq > first.seq
    assert published.newest("hw0", "p") == second
    assert published.newest("hw0", "q") is None
    kept = published.version(first.seq)
    assert [(type(value), value) for value in kept.values] == [(type(value), value) for value in values]
    for test, correct in ((0, True), (1, False), (0, False), (1, True), (2, False)):
        published.record(first.seq, "one", test, correct)
    published.record(first.seq, "two", 0, False)
    published.record(second.seq, "one", 0, False)
    assert [(row["owner"], row["passed"]) for row in published.results(first.seq)] == [("one", 2), ("two", 0)]
    assert published.delete_results("hw0", "p", first.seq, "one") == 1
    assert published.delete_results("hw0") == 2
    assert published.results(first.seq) == published.results(second.seq) == []


# ---------------------------------------------------------------------------------------------------- comparison


@pytest.mark.parametrize(
    ("value", "expected", "correct"),
    [
        (1.00009, 1.0, True), (1.0002, 1.0, False), (5e-7, 0.0, True), (2e-6, 0.0, False),
        (1, 1.0, True), (100_000, 100_001, False), (100_000.0, 100_001, True), (True, 1, False), (1, True, False),
        (None, None, True), (None, 0, False), ("a", "a", True), ("a", "b", False), ("1.0", 1.0, False),
        ([1.0, 2.0], np.array([1.0, 2.0]), True), (np.array([1.0]), [1.0], True), ([1.0], 1.0, False),
        (np.zeros((2, 3)), np.zeros((3, 2)), False), (np.zeros((1, 0)), np.zeros((1, 0)), True),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, False), ({"a": 1.0, "b": 2.0}, {"a": 1.0}, False), ({}, [], False),
        (np.dtype("float32"), np.dtype("float64"), False), (float, np.array([1.0]), False),
    ],
)  # fmt: skip
def test_numbers_are_compared_nearly_and_the_rest_exactly(value, expected, correct):
    assert matches(encoded(value), encoded(expected)) is correct


finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | finite | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_everything_is_itself(value):
    assert matches(value, json.loads(json.dumps(value)))


@given(st.lists(finite, min_size=1, max_size=9), st.data())
def test_one_number_that_is_off_spoils_the_whole(numbers, data):
    place = data.draw(st.integers(0, len(numbers) - 1))
    other = list(numbers)
    other[place] = numbers[place] * 1.01 + 1.0
    assert matches(encoded(np.array(other)), encoded(np.array(numbers))) is (other == numbers)
    assert matches(numbers, numbers)


# ------------------------------------------------------------------------------------------------------ hostile input


BAD_BODIES = [b" ", b"{", b"NaN", b"[NaN]", b'{"a": 1, "a": 2}', b"\xff", b"[" * 5000, b"1e999", pickle.dumps([1.0])]


@pytest.mark.parametrize("body", BAD_BODIES)
@pytest.mark.parametrize("what", ["publish", "submit_test"])
def test_what_is_no_json_is_refused(call_with, body, what):
    call = call_with()
    call(f"/mugrade/publish?{urllib.parse.urlencode(PLACE)}", [1.0])
    query = PLACE if what == "publish" else {"submission_id": "s1", "test_case_index": 0}
    call(f"/mugrade/{what}?{urllib.parse.urlencode(query)}", raw=body, method="POST", status=400)


BAD_VALUES = [
    {}, [], 3, None, "text", [{"_encoded_type": "pickle", "data": "gASVCw=="}], [{"_encoded_type": "np.ndarray"}],
    [{"_encoded_type": ["np.ndarray"], "data": 1}], [{"_encoded_type": None, "data": 1}],
    [{"_encoded_type": "np.ndarray", "data": [], "more": 1}], [1] * (MAX_VALUES + 1),
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_VALUES, ids=lambda body: str(body)[:40])
def test_what_cannot_be_published_is_refused(send, body):
    send("publish", body, status=422, **PLACE) if body is not None else send("publish", status=400, **PLACE)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "submission_id"),
        ({"submission_id": "s1"}, "test_case_index"),
        ({"submission_id": "1", "test_case_index": 0}, "submission_id"),
        ({"submission_id": "s1\n", "test_case_index": 0}, "submission_id"),
        ({"submission_id": "s" + "9" * 30, "test_case_index": 0}, "submission_id"),
        ({"submission_id": "s1", "test_case_index": -1}, "test_case_index"),
        ({"submission_id": "s1", "test_case_index": 1}, "test_case_index"),
        ({"submission_id": "s1", "test_case_index": "1e3"}, "test_case_index"),
        ({"submission_id": "s1", "test_case_index": 0, "output": "gASVCw=="}, "output"),
    ],
)
def test_a_bad_query_is_refused(send, query, parameter):
    send("publish", [1.0], **PLACE)
    problem = send("submit_test", 1.0, status=422, **query)
    assert problem["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "a\nb"])
def test_a_bad_name_is_refused(send, name):
    for what in ("publish", "submit"):
        send(what, [1.0] if what == "publish" else None, status=422, assignment=name, problem="p")


def test_a_submission_that_is_none(send):
    send("submit_test", 1.0, status=404, submission_id="s999999999999999", test_case_index=0)


# -------------------------------------------------------------------------------------------------- keys, in the query


@pytest.fixture
def closed(tmp_path):
    closed = Settings(data=tmp_path)
    app = create_app(closed)
    with contextlib.closing(Database(closed.database)) as database:
        keys = Keys(database)
        made = {scope: keys.create(f"a test of {scope}", [scope]) for scope in ("grade", "staff", "evaluate")}
        yield app.test_client(), made
        app.extensions["chainrule"].store.close()


def test_the_key_in_the_query_counts_as_the_header_does(closed):
    http, made = closed
    texts = {scope: text for scope, (_, text) in made.items()}

    def post(what, key, body=None, **query):
        query = query | ({} if key is None else {"user_key": key})
        path = f"/mugrade/{what}?{urllib.parse.urlencode(query)}"
        if body is None:
            return http.post(path, data=b"", environ_overrides={"CONTENT_LENGTH": "0"})
        return http.post(path, json=body)

    told = post("publish", None, [1.0], **PLACE)
    assert told.status_code == 401
    assert "MUGRADE_KEY" in told.json["detail"]
    assert told.headers["WWW-Authenticate"] == "Bearer"
    assert "MUGRADE_KEY" not in http.get("/v1/jobs").json["detail"]
    assert post("publish", "cr_live_nonsense", [1.0], **PLACE).status_code == 401
    assert post("publish", texts["grade"], [1.0], **PLACE).json["scope"] == "staff"
    assert post("publish", texts["staff"], [1.0], **PLACE).status_code == 200
    assert post("submit", texts["evaluate"], **PLACE).json["scope"] == "grade"
    submission = post("submit", texts["grade"], **PLACE).json["submission_id"]
    query = {"submission_id": submission, "test_case_index": 0}
    assert post("submit_test", texts["grade"], 1.0, **query).json == {"correct": True}
    header = {"Authorization": f"Bearer {texts['staff']}"}
    results = http.get(f"/mugrade/results?{urllib.parse.urlencode(PLACE)}", headers=header).json
    assert [(row["key"], row["passed"]) for row in results["data"]] == [(made["grade"][0].id, 1)]
    for _ in range(30):  # a missing key is no key that is not good
        assert post("submit", None, **PLACE).status_code == 401
    # Nowhere else does a key in the query open anything, and it is not taken from the address of another path.
    assert http.get(f"/v1/jobs?user_key={texts['grade']}").status_code == 401


@pytest.mark.slow
def test_no_key_stands_in_the_log(tmp_path):
    with Server(tmp_path, environment={"CHAINRULE_LOG_LEVEL": "debug"}) as server:
        with contextlib.closing(Database(Settings(data=tmp_path).database)) as database:
            _, key = Keys(database).create("staff", ["staff", "grade"])

        def post(what, body, **query):
            address = f"http://127.0.0.1:{server.port}/mugrade/{what}?{urllib.parse.urlencode(query)}"
            request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        threading.Event().wait(1.1)  # until the server has looked whether there is a key
        assert post("publish", [1.0], user_key=key, **PLACE) == 200
        assert post("publish", [], user_key=key, **PLACE) == 422
        assert post("submit_test", 1.0, user_key=key, submission_id=key, test_case_index=0) == 422
        assert post("submit_test", 1.0, user_key=key[:-1], submission_id="s1", test_case_index=0) == 401
        secret = key.split("_")[3]
        assert "/mugrade/publish" in server.logged()
        assert secret not in server.logged()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(
    values,
    values,
    st.dictionaries(
        st.sampled_from(["user_key", "assignment", "problem", "submission_id", "test_case_index", "else"]),
        st.text(max_size=8),
    ),
)
def test_nothing_makes_it_fail(client, published, value, query):
    for what in ("publish", "submit", "submit_test"):
        for asked in (query, PLACE | {"submission_id": "s1", "test_case_index": "0"} | query, PLACE):
            path = f"/mugrade/{what}?{urllib.parse.urlencode(asked, errors='replace')}"
            raw = json.dumps(published if what == "publish" else value)
            answer = client.post(path, data=raw, content_type="application/json")
            assert answer.status_code in (200, 404, 422), answer.text
