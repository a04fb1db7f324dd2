"""Who may do what: keys over HTTP, their scopes and quotas, from the open service to the closed one."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import sqlite3
import time

import pytest

from chainrule_service.access import Access, _Failures
from chainrule_service.app import create_app, openapi_json
from chainrule_service.database import Database
from chainrule_service.documented import NEURON
from chainrule_service.keys import SCOPES, Keys
from chainrule_service.rates import Rates
from chainrule_service.settings import Settings
from chainrule_service.training import NETWORK_EXAMPLE

PUBLIC = {
    "/", "/docs", "/evaluate/health", "/livez", "/openapi.json", "/problems/<slug>", "/readyz",
    "/static/<path:filename>", "/v1/limits", "/v1/operations", "/v1/version",
}  # fmt: skip
EVALUATION = {"graph": NEURON}
#: Long enough for an open service, and for a process that knows a key, to look again.
A_LOOK = 0.6


class Closed:
    """A service of its own with keys, called in this process as a server's worker calls it."""

    def __init__(self, folder, **limits):
        self.settings = Settings(data=folder, limits=limits)
        self.app = create_app(self.settings)
        self.shared = self.app.extensions["chainrule"]
        self.database = Database(self.settings.database)
        self.keys = Keys(self.database)

    def key(self, *scopes, **options):
        return self.keys.create("a test", scopes or SCOPES, **options)[1]

    def call(self, method, path, key=None, *, address="192.0.2.1", headers=None, **options):
        headers = {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}
        environ = {"REMOTE_ADDR": address}
        return self.app.test_client().open(path, method=method, headers=headers, environ_overrides=environ, **options)

    def evaluate(self, key=None, **options):
        return self.call("POST", "/v1/evaluations", key, json=EVALUATION, **options)

    def close(self):
        self.database.close()
        self.shared.store.close()


@pytest.fixture
def closed(tmp_path):
    with contextlib.closing(Closed(tmp_path)) as service:
        yield service


def problem(answer, status):
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    return answer.json


def quotas(answer):
    """Return what the headers tell: name → (quota, window, left, seconds)."""
    policies = re.findall(r'"(\w+)";q=(\d+);w=(\d+)(?:, |$)', answer.headers["RateLimit-Policy"])
    standings = re.findall(r'"(\w+)";r=(\d+);t=(\d+)(?:, |$)', answer.headers["RateLimit"])
    assert [name for name, *_ in policies] == [name for name, *_ in standings]
    return {p[0]: tuple(map(int, (*p[1:], *s[1:]))) for p, s in zip(policies, standings, strict=True)}


# ---------------------------------------------------------------------------------------------------- open and closed


def test_without_keys_everybody_is_let_in(closed):
    answer = closed.evaluate()
    assert answer.status_code == 200
    assert "RateLimit" not in answer.headers
    assert closed.evaluate("whatever a client sends").status_code == 200


def test_a_first_key_closes_the_service_within_a_second(closed):
    assert closed.evaluate().status_code == 200
    key = closed.key()
    time.sleep(A_LOOK)
    assert problem(closed.evaluate(), 401)["type"] == "/problems/unauthorized"
    assert closed.evaluate(key).status_code == 200


def test_it_stays_closed_when_the_last_key_is_revoked(closed):
    key = closed.key()
    closed.keys.revoke(closed.keys.listed()[0].id)
    assert "revoked" in problem(closed.evaluate(key), 401)["detail"]
    time.sleep(A_LOOK)
    problem(closed.evaluate(), 401)


@pytest.mark.parametrize("private", [{"host": "127.0.0.1"}, {"host": "::1"}, {"host": "0.0.0.0", "insecure": True}])
def test_where_it_is_open(tmp_path, private):
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'db'}")) as database:
        for keys in (None, Keys(database)):
            assert Access(Settings(**private), keys, Rates(database)).is_open()
            assert not Access(Settings(host="0.0.0.0"), keys, Rates(database)).is_open()
        Keys(database).create("ada", ["jobs"])
        assert not Access(Settings(**private), Keys(database), Rates(database)).is_open()


def test_what_was_open_stays_open_while_the_database_is_away(closed, tmp_path, caplog):
    assert closed.evaluate().status_code == 200
    for file in tmp_path.iterdir():
        file.unlink()
    time.sleep(A_LOOK)
    assert closed.evaluate().status_code == 200
    assert "cannot be found out now" in caplog.text


def test_what_was_closed_stays_closed_while_the_database_is_away(closed, tmp_path):
    key = closed.key()
    assert closed.evaluate(key).status_code == 200
    for file in tmp_path.iterdir():
        file.unlink()
    time.sleep(A_LOOK)
    problem(closed.evaluate(), 401)
    answer = closed.evaluate(key)
    assert problem(answer, 503)["type"] == "/problems/service-unavailable"
    assert answer.headers["Retry-After"]


def test_what_is_public_asks_nothing_of_the_database():
    """It is answered while the database answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/chainrule"
        client = create_app(Settings(database_url=url)).test_client()
        for path in PUBLIC - {"/readyz", "/evaluate/health"}:  # which say whether it does
            answer = client.get(path.replace("<slug>", "forbidden").replace("<path:filename>", "docs.css"))
            assert answer.status_code == 200, path
            answer.close()
        with pytest.raises(BlockingIOError):
            silent.accept()


# ---------------------------------------------------------------------------------------------------- who


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": ""}, "Bearer"),
        ({"Authorization": "Basic YTpi"}, "Bearer"),
        ({"X-Api-Key": "KEY"}, "Bearer"),
        ({"Authorization": "KEY"}, "Bearer"),
        ({"Authorization": "Bearer"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer KEY KEY"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer KEYx"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer \xff"}, 'Bearer error="invalid_token"'),
    ],
)
def test_what_is_no_good_key(closed, headers, challenge):
    key = closed.key()
    answer = closed.evaluate(headers={name: text.replace("KEY", key) for name, text in headers.items()})
    assert problem(answer, 401)["detail"]
    assert answer.headers["WWW-Authenticate"] == challenge
    assert "RateLimit" not in answer.headers
    assert key not in answer.get_data(as_text=True)


def test_a_key_in_the_address_is_none(closed):
    key = closed.key()
    problem(closed.call("POST", f"/v1/evaluations?api_key={key}", json=EVALUATION), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(closed, scheme):
    assert closed.evaluate(headers={"Authorization": f"{scheme}  {closed.key()} "}).status_code == 200


def test_nothing_is_read_of_a_body_that_comes_without_a_key(closed):
    closed.key()
    problem(closed.call("POST", "/v1/evaluations", data=b"{", content_type="text/plain"), 401)


# ---------------------------------------------------------------------------------------------------- what for


def test_every_view_says_what_it_needs(app):
    """Deny by default: a view that says nothing is closed to all keys, and fails this test."""
    needed = {}
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "static":
            view = app.view_functions[rule.endpoint]
            assert hasattr(view, "scope"), f"{rule} does not say which scope it needs (exchange.needs)"
            needed.setdefault(rule.rule, set()).add(view.scope)
    assert {path for path, scopes in needed.items() if None in scopes} == PUBLIC - {"/static/<path:filename>"}
    assert set().union(*needed.values()) <= {None, *SCOPES}


def test_every_path_is_closed_without_the_scope_that_it_needs(closed):
    keys = {scope: closed.key(*(SCOPES.keys() - {scope})) for scope in SCOPES}
    tried = 0
    for rule in closed.app.url_map.iter_rules():
        path = re.sub("<[^>]+>", "x", rule.rule)
        for method in rule.methods - {"OPTIONS"}:
            anonymous = closed.call(method, path)
            if rule.rule in PUBLIC:
                assert anonymous.status_code in (200, 404, 503)  # a page, no such problem, not ready
                continue
            scope = closed.app.view_functions[rule.endpoint].scope
            if method == "HEAD":
                assert anonymous.status_code == 401
                continue
            problem(anonymous, 401)
            answer = closed.call(method, path, keys[scope])
            told = problem(answer, 403)
            assert (told["type"], told["scope"]) == ("/problems/forbidden", scope)
            assert repr(scope) in told["detail"]
            assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
            tried += 1
    assert tried >= 7


def test_a_view_that_says_nothing_is_closed_to_every_key(closed):
    closed.app.add_url_rule("/v1/forgotten", view_func=lambda: "open")
    assert closed.call("GET", "/v1/forgotten").status_code == 200
    key = closed.key()
    time.sleep(A_LOOK)
    assert "nobody has said" in problem(closed.call("GET", "/v1/forgotten", key), 403)["detail"]


def test_the_description_tells_the_scopes(app):
    description = json.loads(openapi_json())
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        scope = app.view_functions[rule.endpoint].scope
        path = description["paths"][re.sub("<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)]
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            operation = path[method.lower()]
            assert operation.get("security") == ([{"key": [scope]}, {}] if scope else None)
            assert ({"401", "403", "429"} <= operation["responses"].keys()) is bool(scope)


# ---------------------------------------------------------------------------------------------------- how much


def test_requests_up_to_the_limit_and_not_one_more(closed):
    key = closed.key(limits={"requests_per_minute": 5})
    answers = [closed.evaluate(key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [quotas(answer)["requests"][:3] for answer in answers] == [(5, 60, left) for left in (4, 3, 2, 1, 0)]
    refused = closed.evaluate(key)
    told = problem(refused, 429)
    assert told["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert told["violated-policies"] == ["requests"]
    quota, window, left, seconds = quotas(refused)["requests"]
    assert (quota, window, left) == (5, 60, 0)
    assert 1 <= seconds <= 12
    assert int(refused.headers["Retry-After"]) >= seconds
    assert closed.evaluate(closed.key()).status_code == 200


def test_the_limit_of_the_settings_counts_where_a_key_has_none(tmp_path):
    with contextlib.closing(Closed(tmp_path, requests_per_minute=3)) as closed:
        key, own = closed.key(), closed.key(limits={"requests_per_minute": 4})
        assert [closed.evaluate(key).status_code for _ in range(4)] == [200] * 3 + [429]
        assert [closed.evaluate(own).status_code for _ in range(5)] == [200] * 4 + [429]


def test_a_request_beyond_its_scope_counts_too(closed):
    key = closed.key("jobs", limits={"requests_per_minute": 2})
    assert [closed.evaluate(key).status_code for _ in range(3)] == [403, 403, 429]


def test_public_pages_cost_nothing(closed):
    key = closed.key(limits={"requests_per_minute": 1})
    assert [closed.call("GET", "/v1/limits", key).status_code for _ in range(3)] == [200] * 3
    assert closed.evaluate(key).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "work"),
    [
        ("/v1/evaluations", EVALUATION, 10),
        ("/v1/evaluations/batch", {"items": [EVALUATION] * 3}, 30),
        ("/v1/gradient-checks", EVALUATION, 10),
        ("/v1/jobs", {"type": "evaluation", "spec": EVALUATION}, 10),
    ],
)
def test_work_is_charged(closed, path, body, work):
    # The neuron has 10 inputs and nodes. In a second a tenth of a unit comes back.
    key = closed.key(limits={"work_per_day": 10_000})
    before, after = (quotas(closed.call("POST", path, key, json=body))["work"] for _ in range(2))
    assert (before[:2], after[:2]) == ((10_000, 86_400),) * 2
    assert before[2] - after[2] >= work - 1


def test_work_up_to_the_limit_and_not_one_more(closed):
    key = closed.key(limits={"work_per_day": 39})
    answers = [closed.evaluate(key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert problem(answers[-1], 429)["violated-policies"] == ["work"]
    assert int(answers[-1].headers["Retry-After"]) > 60


def test_more_work_than_a_whole_day_has_is_never_possible(closed):
    told = problem(closed.evaluate(closed.key(limits={"work_per_day": 5})), 422)
    assert (told["type"], told["limit"], told["maximum"]) == ("/problems/limit-exceeded", "work_per_day", 5)


def test_two_workers_share_the_quota(tmp_path):
    with contextlib.closing(Closed(tmp_path)) as one, contextlib.closing(Closed(tmp_path)) as other:
        key = one.key(limits={"requests_per_minute": 9})
        answers = [service.evaluate(key).status_code for service in itertools.islice(itertools.cycle([one, other]), 11)]
        assert answers == [200] * 9 + [429] * 2


# ---------------------------------------------------------------------------------------------------- failures


def test_an_address_with_many_bad_keys_waits_and_good_keys_behind_it_do_not(closed):
    good = closed.key()
    answers = [closed.evaluate("cr_wrong") for _ in range(22)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 2
    assert problem(answers[-1], 429)["violated-policies"] == ["failures"]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 3
    assert closed.evaluate(good).status_code == 200
    assert closed.evaluate("cr_wrong", address="192.0.2.2").status_code == 401


def test_requests_without_a_key_are_no_failures(closed):
    key = closed.key()
    assert {closed.evaluate().status_code for _ in range(30)} == {401}
    assert closed.evaluate(key).status_code == 200


def test_failures_take_bounded_memory():
    failures = _Failures()
    assert [failures.count("10.0.0.1") for _ in range(22)] == [0] * 20 + [3, 3]
    for number in range(10_050):
        failures.count(f"10.1.{number >> 8}.{number & 255}")
    assert len(failures._full_at) == 10_000
    assert failures.count("10.0.0.1") == 0  # the oldest are forgotten


def test_a_network_of_ipv6_is_one_address():
    failures = _Failures()
    assert {failures.count(f"2001:db8::{number:x}") for number in range(20)} == {0}
    assert failures.count("2001:db8::ffff") > 0
    assert failures.count("2001:db8:0:1::1") == 0


# ---------------------------------------------------------------------------------------------------- whose


def submit(closed, key, **headers):
    """Return the record of a job that has ended, in the form of the wire."""
    answer = closed.call("POST", "/v1/jobs", key, json={"type": "evaluation", "spec": EVALUATION}, headers=headers)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return answer.json


def test_what_a_key_did_is_its_own(closed):
    ours, theirs = closed.key(), closed.key()
    job = submit(closed, ours)
    assert closed.call("GET", job["links"]["self"], ours).json == job
    assert [entry["id"] for entry in closed.call("GET", "/v1/jobs", ours).json["data"]] == [job["id"]]
    assert closed.call("GET", "/v1/jobs", theirs).json["data"] == []


def test_another_keys_objects_are_not_there_on_any_route(closed):
    """Every path that names an object, by every method: to another key it is as if there were none."""
    ours, theirs = closed.key(), closed.key()
    job = submit(closed, ours)
    tried = 0
    for rule in closed.app.url_map.iter_rules():
        if not rule.arguments or rule.rule in PUBLIC:
            continue
        path, missing = (re.sub("<[^>]+>", name, rule.rule) for name in (job["id"], "job_" + "0" * 32))
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
            told, as_if = (problem(closed.call(method, where, theirs, **body), 404) for where in (path, missing))
            assert told["type"] == as_if["type"] == "/problems/not-found"
            assert told["detail"].replace(job["id"], "job_" + "0" * 32) == as_if["detail"]
            tried += 1
    assert tried >= 4
    assert closed.call("GET", job["links"]["self"], ours).json == job


def test_two_keys_may_choose_the_same_idempotency_key(closed):
    ours, theirs = closed.key(), closed.key()
    first, again, other = (submit(closed, key, **{"Idempotency-Key": '"once"'}) for key in (ours, ours, theirs))
    assert first["id"] == again["id"] != other["id"]


def test_a_replay_uses_up_no_work(closed):
    key = closed.key(limits={"work_per_day": 39})
    assert len({submit(closed, key, **{"Idempotency-Key": '"once"'})["id"] for _ in range(6)}) == 1


def test_a_replay_is_answered_when_the_quota_is_used_up(closed):
    key = closed.key(limits={"work_per_day": 19})
    once = {"Idempotency-Key": '"once"'}
    job = submit(closed, key, **once)
    problem(closed.evaluate(key), 429)
    assert submit(closed, key, **once) == job


def test_a_replayed_batch_is_answered_when_the_quota_is_used_up(closed):
    key = closed.key(limits={"work_per_day": 29})
    batch = {"items": [{"type": "evaluation", "spec": EVALUATION}] * 2}
    first, again = (
        closed.call("POST", "/v1/jobs/batch", key, json=batch, headers={"Idempotency-Key": '"once"'}) for _ in range(2)
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json == first.json


def test_a_job_that_is_not_recorded_costs_nothing(closed):
    key = closed.key(limits={"work_per_day": 1_000})
    body = {"type": "evaluation", "spec": EVALUATION}
    assert quotas(closed.call("POST", "/v1/jobs", key, json=body))["work"][2] == 990
    with contextlib.closing(sqlite3.connect(closed.database.file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        problem(closed.call("POST", "/v1/jobs", key, json=body), 503)
    assert quotas(closed.call("POST", "/v1/jobs", key, json=body))["work"][2] == 980


def test_a_job_for_which_there_is_no_place_costs_nothing(tmp_path):
    with contextlib.closing(Closed(tmp_path, inline_work=10_000_000)) as closed:
        key = closed.key(limits={"work_per_day": 10_000_000})
        body = {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 200_000}}
        cost = closed.call("POST", "/v1/jobs?validate_only=true", key, json=body).json["cost"]
        with contextlib.ExitStack() as taken:
            for _ in range(3):
                taken.enter_context(closed.shared.room_for(cost))
            answer = closed.call("POST", "/v1/jobs", key, json=body)
        problem(answer, 503)
        assert "work" not in quotas(answer)


def test_each_quota_is_told_once_however_often_it_is_used(closed):
    batch = {"items": [{"type": "evaluation", "spec": EVALUATION}] * 20}
    answer = closed.call("POST", "/v1/jobs/batch", closed.key(limits={"work_per_day": 1_000}), json=batch)
    assert answer.headers["RateLimit"].count('"work"') == answer.headers["RateLimit-Policy"].count('"work"') == 1
    assert quotas(answer)["work"][2] == 800


def test_jobs_of_before_the_first_key_are_nobodys(closed):
    job = submit(closed, None)
    key = closed.key()
    time.sleep(A_LOOK)
    problem(closed.call("GET", job["links"]["self"], key), 404)


def test_a_batch_beyond_the_quota_is_told_item_by_item(closed):
    key = closed.key(limits={"work_per_day": 25})
    items = [{"type": "evaluation", "spec": EVALUATION}] * 4
    answer = closed.call("POST", "/v1/jobs/batch", key, json={"items": items})
    assert answer.status_code == 200
    told = [entry["job"]["type"] if "job" in entry else entry["problem"]["status"] for entry in answer.json["data"]]
    assert told == ["evaluation", "evaluation", 429, 429]


def test_a_keys_own_limit_of_concurrent_jobs_goes_with_its_jobs(closed):
    key = closed.key(limits={"concurrent_jobs": 1})
    items = [{"type": "evaluation", "spec": EVALUATION}] * 2
    assert closed.call("POST", "/v1/jobs/batch", key, json={"items": items}).status_code == 200
    store = closed.shared.store
    claim = store.claim("a test:1", 60)
    assert claim is not None
    assert store.claim("a test:1", 60) is None
    store.finish(claim, result={})
    assert store.claim("a test:1", 60) is not None


def test_one_that_waits_much_leaves_places_for_others(closed):
    record, key = closed.keys.create("waits much", SCOPES)
    other, body = closed.key(), {"type": "training", "spec": NETWORK_EXAMPLE}
    while closed.shared.seats.take(record.id):
        pass
    for secret, waits in ((key, False), (other, True)):
        links = closed.call("POST", "/v1/jobs", secret, json=body, headers={"Prefer": "respond-async"}).json["links"]
        answer = closed.call("GET", links["self"], secret, headers={"Prefer": "wait=1"})
        assert ("Preference-Applied" in answer.headers) == waits
        with closed.call("GET", links["metrics"], secret, headers={"Accept": "text/event-stream"}) as stream:
            assert stream.status_code == (200 if waits else 503)
