"""Webhooks on every database, against real receivers: told once and only of what happened, until somebody listens."""

from __future__ import annotations

import ast
import contextlib
import ipaddress
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st
from tests.service import databases
from tests.service.receivers import Receiver, answers, receiver
from tests.service.test_serving import Server

from chainrule.webhooks import WebhookVerificationError, verify
from chainrule_engine import ENGINE
from chainrule_engine.errors import InvalidInput
from chainrule_service import webhooks
from chainrule_service.database import Database
from chainrule_service.documented import NEURON
from chainrule_service.opening import open_store
from chainrule_service.settings import Settings
from chainrule_service.store import JOBS, Store, worker_name
from chainrule_service.webhooks import DELAYS, DELIVERIES, EVENTS, JITTER, SECRETS, deliver_due, retry_delay

SETTINGS = Settings(webhooks=True, webhook_networks=(ipaddress.ip_network("127.0.0.0/8"),))
ME = worker_name()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """Give a database of PostgreSQL with the tables."""
    with databases.postgresql() as url:
        with contextlib.closing(Database(url)) as database:
            database.upgrade()
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Give a database of each kind."""
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgresql")
        return server
    return None if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.sqlite3'}"


@pytest.fixture
def store(url: str | None) -> Iterator[Store]:
    store = Store(Database(url), SETTINGS, webhooks.jobs_ended)
    with store.database.transaction() as connection:  # what the test before has left
        for table in (JOBS, SECRETS):
            connection.execute(sql.delete(table))
    yield store
    store.close()


def job(url: str | None, *, owner: str = "", events: tuple[str, ...] = EVENTS, **more: Any) -> dict[str, Any]:
    asked = {"webhook": {"url": url, "events": list(events)}} if url else {}
    spec = {"type": "evaluation", "spec": {"graph": {}}, "spec_digest": "sha256:" + "0" * 64, "engine": ENGINE}
    return spec | {"owner": owner} | asked | more


def end(store: Store, url: str | None, state: str = "succeeded", **of_job: Any) -> str:
    """Run a job to its end, and return its id."""
    submission = store.submit(job(url, **of_job), claimed_by=ME, lease=60)
    assert submission.claim is not None
    store.finish(submission.claim, state=state, result={"value": 1.0} if state == "succeeded" else None)
    return submission.claim.id


def deliveries(store: Store, **wanted: Any) -> list[dict[str, Any]]:
    return webhooks.page(store.database, None, 1000, **wanted)


def let_time_pass(store: Store) -> None:
    """Bring on the next attempt of every delivery."""
    with store.database.transaction() as connection:
        connection.execute(sql.update(DELIVERIES).values(due=0))


def wait_in_seconds(store: Store, delivery: dict[str, Any]) -> float:
    with store.database.transaction(reads=True) as connection:
        return float(delivery["due"] - store.database.now(connection))


# ---------------------------------------------------------------------------------------------------------- one message


def test_the_end_of_a_job_is_told(store: Store):
    with receiver(answers(204)) as there:
        job_id = end(store, there.url, labels={"course": "ml"})
        assert deliver_due(store.database, SETTINGS) == 1
        assert deliver_due(store.database, SETTINGS) == 0
    [(path, headers, body)] = there.requests
    assert path == "/hook"
    assert headers["content-type"] == "application/json"
    [secret] = webhooks.signing_secrets(store.database, "")
    message = verify(body, headers, secret)
    record = store.get(job_id)
    assert record is not None
    told = ("id", "type", "state", "labels", "created_at", "started_at", "finished_at")
    assert message == {
        "type": "job.succeeded",
        "timestamp": record["finished_at"],
        "data": {name: record[name] for name in told} | {"links": {"self": f"/v1/jobs/{job_id}"}},
    }
    [delivery] = deliveries(store)
    assert delivery["id"] == headers["webhook-id"]
    assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("delivered", 1, 204)
    assert delivery["finished"] >= delivery["created"]


def test_a_message_is_small_whatever_the_job(store: Store):
    labels = {f"{number:02}" + "k" * 62: "\u00fc" * 200 for number in range(16)}
    end(store, "https://example.org/", labels=labels, result=None)
    [delivery] = deliveries(store)
    assert len(delivery["payload"].encode()) < 20_000


def test_every_way_to_end_is_told(store: Store):
    url = "https://example.org/"
    end(store, url, "succeeded")
    end(store, url, "failed")
    cancelled = store.submit(job(url)).job["id"]
    store.cancel(cancelled)
    expired = store.submit(job(url, deadline_seconds=0)).job["id"]
    dead = store.submit(job(url), claimed_by="elsewhere:1", lease=60).job["id"]
    store.expire_worker("elsewhere:1", failure={"code": "time-limit", "detail": "it took too long"})
    store.sweep()
    told = {delivery["job_id"]: delivery["type"] for delivery in deliveries(store)}
    assert sorted(told.values()) == sorted([*EVENTS, "job.failed"])
    assert (told[cancelled], told[expired], told[dead]) == ("job.cancelled", "job.expired", "job.failed")
    for delivery in deliveries(store):
        assert json.loads(delivery["payload"])["data"]["state"] == delivery["type"].removeprefix("job.")


def test_only_the_events_that_were_asked_for_are_told(store: Store):
    end(store, "https://example.org/", "succeeded", events=("job.failed",))
    end(store, None, "failed")
    assert deliveries(store) == []
    end(store, "https://example.org/", "failed", events=("job.failed",))
    assert len(deliveries(store)) == 1


def test_a_job_that_ends_twice_is_told_once(store: Store):
    job_id = end(store, "https://example.org/")
    store.cancel(job_id)
    store.sweep()
    assert len(deliveries(store)) == 1


def test_deliveries_go_with_their_job(store: Store):
    job_id = end(store, "https://example.org/")
    assert store.delete(job_id)
    assert deliveries(store) == []


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_failed_attempt_is_repeated_with_the_same_id(store: Store):
    with receiver(answers(500, 302, 200)) as there:
        end(store, there.url)
        for attempt, (detail, delay) in enumerate((("the answer was 500", 5), ("the answer was 302", 300)), 1):
            assert deliver_due(store.database, SETTINGS) == 1
            [delivery] = deliveries(store)
            assert (delivery["state"], delivery["attempts"], delivery["detail"]) == ("pending", attempt, detail)
            assert delay - 2 < wait_in_seconds(store, delivery) <= delay * (1 + JITTER)
            assert deliver_due(store.database, SETTINGS) == 0
            let_time_pass(store)
        assert deliver_due(store.database, SETTINGS) == 1
    [delivery] = deliveries(store)
    assert (delivery["state"], delivery["attempts"], delivery["status"], delivery["detail"]) == (
        "delivered",
        3,
        200,
        None,
    )
    assert there.header("webhook-id") == [delivery["id"]] * 3
    [secret] = webhooks.signing_secrets(store.database, "")
    for _, headers, body in there.requests:
        assert verify(body, headers, secret)


def test_nobody_listens(store: Store):
    with receiver(answers(200)) as gone:
        pass
    end(store, gone.url)
    assert deliver_due(store.database, SETTINGS) == 1
    [delivery] = deliveries(store)
    assert (delivery["state"], delivery["status"]) == ("pending", None)
    assert "refused" in delivery["detail"]


def test_the_last_attempt_and_a_replay(store: Store):
    with receiver(answers(*[500] * len(DELAYS), 200)) as there:
        end(store, there.url)
        for _ in DELAYS:
            assert deliver_due(store.database, SETTINGS) == 1
            let_time_pass(store)
        assert deliver_due(store.database, SETTINGS) == 0
        [delivery] = deliveries(store, state="failed")
        assert delivery["attempts"] == len(DELAYS)
        assert not webhooks.replay(store.database, delivery["id"], "somebody else")
        assert webhooks.replay(store.database, delivery["id"], "")
        assert not webhooks.replay(store.database, delivery["id"], "")  # it is pending
        assert deliver_due(store.database, SETTINGS) == 1
    [delivery] = deliveries(store)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
    assert len(set(there.header("webhook-id"))) == 1


def test_retry_after_is_waited_for(store: Store):
    with receiver(answers(503, headers={"Retry-After": "3600"})) as there:
        end(store, there.url)
        deliver_due(store.database, SETTINGS)
    [delivery] = deliveries(store)
    assert 3590 < wait_in_seconds(store, delivery) <= 3600


def test_an_attempt_that_breaks_is_a_failed_one(store: Store, caplog: pytest.LogCaptureFixture):
    """Whatever is wrong, it is recorded, and the attempts come to an end."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no resolver is like this")

    end(store, "http://name.example/hook")
    end(store, "http://name.example/other")
    for attempt in range(1, len(DELAYS) + 1):
        assert deliver_due(store.database, SETTINGS, resolve=broken) == 2
        for delivery in deliveries(store):
            assert (delivery["attempts"], delivery["status"]) == (attempt, None)
            assert delivery["detail"] == "the attempt broke off within the service (RuntimeError)"
        let_time_pass(store)
    assert {delivery["state"] for delivery in deliveries(store)} == {"failed"}
    assert "no resolver is like this" in caplog.text


def test_410_disables_the_url_until_a_replay_succeeds(store: Store):
    with receiver(answers(410, 410, 200)) as there, receiver(answers(200)) as other:
        end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 1
        first = deliveries(store)[0]
        assert (first["state"], first["status"]) == ("disabled", 410)
        end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 0
        assert [delivery["state"] for delivery in deliveries(store)] == ["disabled", "disabled"]
        end(store, other.url)  # another URL
        assert deliver_due(store.database, SETTINGS) == 1
        assert webhooks.replay(store.database, first["id"], None)
        assert deliver_due(store.database, SETTINGS) == 1  # 410 again
        end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 0
        assert webhooks.replay(store.database, first["id"], None)
        assert deliver_due(store.database, SETTINGS) == 1
        end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 1
    assert len(there.requests) == 4


def test_410_ends_what_waits_for_the_same_url_and_owner(store: Store):
    with receiver(answers(500, 500, 410)) as there:
        end(store, there.url, owner="a")
        end(store, there.url, owner="b")
        assert deliver_due(store.database, SETTINGS) == 2
        end(store, there.url, owner="a")
        assert deliver_due(store.database, SETTINGS) == 1
    states = sorted((delivery["owner"], delivery["state"]) for delivery in deliveries(store))
    assert states == [("a", "disabled"), ("a", "disabled"), ("b", "pending")]


def test_a_url_that_leads_inside_is_not_followed(store: Store):
    closed = Settings(webhooks=True)
    with receiver(answers(200)) as there:
        end(store, there.url.replace("http:", "https:").replace("127.0.0.1", "localhost"))
        assert deliver_due(store.database, closed) == 1
    assert not there.requests
    [delivery] = deliveries(store)
    assert (delivery["state"], delivery["status"]) == ("pending", None)
    assert "public addresses" in delivery["detail"]


def test_a_large_answer_is_dropped(store: Store):
    def behave(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"." * 1_000_000)

    with receiver(behave) as there:
        end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 1
    assert deliveries(store)[0]["state"] == "delivered"


def test_a_slow_receiver_does_not_hold_up_the_others(store: Store):
    others_done = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        assert others_done.wait(10)
        answers(200)(handler, number)

    def behave_well(handler: BaseHTTPRequestHandler, number: int) -> None:
        answers(200)(handler, number)
        if number == 20:
            others_done.set()

    with receiver(behave) as slow, receiver(behave_well) as there:
        end(store, slow.url)
        for _ in range(20):
            end(store, there.url)
        assert deliver_due(store.database, SETTINGS) == 21
    assert {delivery["state"] for delivery in deliveries(store)} == {"delivered"}


# --------------------------------------------------------------------------------------------------------- many at once

PROGRAM = """
import ipaddress, os, signal, sys
from chainrule_service import webhooks
from chainrule_service.database import Database
from chainrule_service.documented import NEURON
from chainrule_service.settings import Settings
from chainrule_service.store import Store
settings = Settings(webhooks=True, webhook_networks=(ipaddress.ip_network("127.0.0.0/8"),))
database = Database(sys.argv[1])
"""


@contextlib.contextmanager
def process(url: str, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process, which does not outlive the test."""
    command = [sys.executable, "-c", PROGRAM + program, url, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


in_several_processes = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@in_several_processes
@pytest.mark.slow
def test_deliverers_in_several_processes_send_each_message_once(store: Store, url: str):
    program = "print(webhooks.deliver_due(database, settings))"
    with receiver(answers(200)) as there, contextlib.ExitStack() as stack:
        for number in range(40):
            end(store, there.url, owner=f"owner{number % 3}")
        running = [stack.enter_context(process(url, program)) for _ in range(3)]
        attempts = [int(deliverer.communicate(timeout=60)[0]) for deliverer in running]
    assert sum(attempts) == 40
    assert sorted(there.header("webhook-id")) == sorted(delivery["id"] for delivery in deliveries(store))


@in_several_processes
def test_the_end_of_a_job_and_its_message_are_recorded_together_or_not_at_all(store: Store, url: str):
    """The process is killed when both are written, before either is committed."""
    submission = store.submit(job("https://example.org/"), claimed_by="other:1", lease=60)
    store.expire_worker("other:1")
    program = """
def die(connection, ids):
    webhooks.jobs_ended(connection, ids)
    assert connection.exec_driver_sql("SELECT count(*) FROM webhook_deliveries").scalar() == 1
    os.kill(os.getpid(), signal.SIGKILL)
store = Store(database, settings, die)
claim = store.claim("me", 60)
store.finish(claim, result={})
"""
    with process(url, program) as victim:
        victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL
    assert deliveries(store) == []
    record = store.get(submission.job["id"])
    assert record is not None
    assert record["state"] == "running"
    assert store.expire_worker("me") == [submission.job["id"]]
    claim = store.claim(ME, 60)
    assert claim is not None
    store.finish(claim, result={})
    assert len(deliveries(store)) == 1


@in_several_processes
def test_a_deliverer_that_dies_leaves_the_message_to_another(store: Store, url: str):
    """It is killed when the receiver has the message, before it has the answer."""

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            victim.kill()
            victim.wait(10)
        answers(200)(handler, number)

    with receiver(behave) as there:
        end(store, there.url)
        with process(url, "webhooks.deliver_due(database, settings)") as victim:
            victim.communicate(timeout=60)
        assert victim.returncode == -signal.SIGKILL
        [delivery] = deliveries(store)
        assert (delivery["state"], delivery["attempts"]) == ("pending", 1)
        assert 60 < wait_in_seconds(store, delivery) <= webhooks.LEASE
        assert deliver_due(store.database, SETTINGS) == 0  # its lease lasts
        let_time_pass(store)
        assert deliver_due(store.database, SETTINGS) == 1
    assert there.header("webhook-id") == [delivery["id"]] * 2
    assert deliveries(store)[0]["state"] == "delivered"


def test_an_attempt_whose_lease_has_ended_does_not_count(store: Store):
    """The first attempt fails after the second has succeeded."""
    second_done = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            assert second_done.wait(10)
        answers(500, 200)(handler, number)

    with receiver(behave) as there, ThreadPoolExecutor(1) as pool:
        end(store, there.url)
        first = pool.submit(deliver_due, store.database, SETTINGS)
        ends = time.monotonic() + 10
        while not there.requests and time.monotonic() < ends:
            time.sleep(0.01)
        let_time_pass(store)
        assert deliver_due(store.database, SETTINGS) == 1
        second_done.set()
        assert first.result(20) == 1
    [delivery] = deliveries(store)
    assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("delivered", 2, 200)


def test_the_loop_delivers_and_stops(store: Store):
    stop = threading.Event()
    arrived = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        answers(200)(handler, number)
        arrived.set()

    with receiver(behave) as there:
        thread = threading.Thread(target=webhooks.deliver_forever, args=(store.database, SETTINGS, stop))
        thread.start()
        end(store, there.url)
        assert arrived.wait(20)
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_the_loop_outlives_a_database_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "jobs.sqlite3"
    store = Store(Database(f"sqlite:///{file}"), SETTINGS)
    store.check()
    file.unlink()
    stop = threading.Event()
    thread = threading.Thread(target=webhooks.deliver_forever, args=(store.database, SETTINGS, stop))
    thread.start()
    ends = time.monotonic() + 10
    while "webhooks wait for the database" not in caplog.text and time.monotonic() < ends:
        time.sleep(0.01)
    alive = thread.is_alive()
    stop.set()
    thread.join(20)
    store.close()
    assert "webhooks wait for the database" in caplog.text
    assert alive


def test_the_process_delivers_until_it_is_told_to_end(tmp_path: Path):
    settings = replace(SETTINGS, data=tmp_path)
    store = open_store(settings)
    begun, told_to_end = threading.Event(), threading.Event()

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        begun.set()
        assert told_to_end.wait(10)
        answers(200)(handler, number)

    program = "from dataclasses import replace; from pathlib import Path\n"
    program += "webhooks.run(replace(settings, data=Path(sys.argv[2])))"
    with receiver(behave) as there, process(str(settings.database), program, str(tmp_path)) as deliverer:
        end(store, there.url)
        assert begun.wait(30)
        deliverer.terminate()
        told_to_end.set()
        deliverer.communicate(timeout=30)
    assert deliverer.returncode == 0
    assert deliveries(store)[0]["state"] == "delivered"  # the attempt that ran was waited for
    store.close()


# -------------------------------------------------------------------------------------------------------------- secrets


def received(store: Store, there: Receiver, **of_job: Any) -> tuple[dict[str, str], bytes]:
    end(store, there.url, **of_job)
    assert deliver_due(store.database, SETTINGS) == 1
    _, headers, body = there.requests[-1]
    return headers, body


def test_each_owner_has_a_secret(store: Store):
    with receiver(answers(200)) as there:
        headers, body = received(store, there, owner="a")
    [mine], [theirs] = (webhooks.signing_secrets(store.database, owner) for owner in "ab")
    assert verify(body, headers, mine)
    with pytest.raises(WebhookVerificationError):
        verify(body, headers, theirs)
    assert webhooks.signing_secrets(store.database, "a") == [mine]


def test_a_rotation_lets_both_secrets_hold_for_a_day(store: Store):
    with receiver(answers(200)) as there:
        [old] = webhooks.signing_secrets(store.database, "")
        new, previous = webhooks.rotate(store.database, "")
        assert previous == old != new
        headers, body = received(store, there)
        assert len(headers["webhook-signature"].split()) == 2
        assert verify(body, headers, old) == verify(body, headers, new)
        with store.database.transaction() as connection:
            connection.execute(sql.update(SECRETS).values(previous_until=SECRETS.c.previous_until - webhooks.OVERLAP))
        assert webhooks.signing_secrets(store.database, "") == [new]
        headers, body = received(store, there)
        assert verify(body, headers, new)
        with pytest.raises(WebhookVerificationError):
            verify(body, headers, old)


def test_who_asks_first_at_once_gets_the_same_secret(store: Store):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tuple(webhooks.signing_secrets(store.database, "new")), range(16)))
    assert len(set(found)) == 1


def test_the_signature_is_the_published_one():
    """The vector of the Standard Webhooks project: libraries/go/webhook_symmetric_test.go in its repository."""
    signature = webhooks.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# -------------------------------------------------------------------------------------------------- schedule and schema


def test_the_schedule():
    """The waits that the Standard Webhooks specification recommends, in seconds."""
    waits = [retry_delay(attempt, 0.0) for attempt in range(1, 11)]
    assert waits == [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600, None]


@given(st.integers(1, len(DELAYS) - 1), st.floats(0, 1), st.none() | st.floats(0, 1e12))
def test_waits_keep_to_their_bounds(attempt: int, chance: float, retry_after: float | None):
    wait = retry_delay(attempt, chance, retry_after)
    assert wait is not None
    assert DELAYS[attempt] <= wait <= max(DELAYS[attempt] * (1 + JITTER), DELAYS[-1])
    assert wait >= min(retry_after or 0, 86_400)


def test_a_webhook_as_a_request_has_it():
    schema = webhooks.WebhookRequest()
    assert schema.load({"url": "https://example.org/"}) == {"url": "https://example.org/", "events": list(EVENTS)}
    asked = {"url": "https://example.org/", "events": ["job.failed"]}
    webhooks.check(schema.load(asked), SETTINGS)


@pytest.mark.parametrize(
    ("webhook", "path", "words"),
    [
        ({}, ("url",), "missing"),
        ({"url": 1}, ("url",), "string"),
        ({"url": "https://example.org/", "events": []}, ("events",), "give at least 1"),
        ({"url": "https://example.org/", "events": ["job.done"]}, ("events", 0), "job.succeeded"),
        ({"url": "https://example.org/", "events": ["job.failed"] * 2}, ("events", 1), "twice"),
        ({"url": "https://example.org/", "secret": "x"}, ("secret",), "unknown"),
        ({"url": "https://user@example.org/"}, ("url",), "user's name"),
        ({"url": "https://10.0.0.1/"}, ("url",), "public"),
    ],
)
def test_wrong_webhooks(webhook: dict[str, Any], path: tuple[Any, ...], words: str):
    with pytest.raises(InvalidInput) as caught:
        webhooks.check(webhooks.WebhookRequest().load(webhook), SETTINGS)
    [problem] = caught.value.problems
    assert problem.path == path
    assert words in problem.detail


def test_webhooks_are_off_by_default():
    with pytest.raises(InvalidInput, match="CHAINRULE_WEBHOOKS=1"):
        webhooks.check({"url": "https://example.org/", "events": list(EVENTS)}, Settings())


# ---------------------------------------------------------------------------------------------------- the service whole


def test_every_store_of_the_service_tells():
    """A process that opened its store in another way would end jobs in silence."""
    package = Path(webhooks.__file__).parent
    made = {
        module.relative_to(package).as_posix()
        for module in package.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Store"
    }
    assert made == {"opening.py"}


def test_a_store_tells_where_webhooks_are_on():
    for settings, told in ((SETTINGS, 1), (Settings(), 0)):
        store = open_store(settings)
        end(store, "https://example.org/")
        assert len(deliveries(store)) == told
        store.close()


@pytest.mark.slow
def test_a_server_tells_of_a_job_that_it_was_sent(tmp_path: Path):
    """The whole of it: gunicorn, a job worker and the process that delivers, under their supervisor."""
    environment = {"CHAINRULE_WEBHOOKS": "1", "CHAINRULE_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    arrived = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        answers(204)(handler, number)
        arrived.set()

    with receiver(behave) as there, Server(tmp_path, environment=environment) as server:
        spec = {"type": "evaluation", "spec": {"graph": NEURON}, "webhook": {"url": there.url}}
        job_id = server.call("/v1/jobs/batch", {"items": [spec]})["data"][0]["job"]["id"]
        assert arrived.wait(30)
        [secret] = server.call("/v1/webhook-secret")["secrets"]
        _, headers, body = there.requests[0]
        message = verify(body, headers, secret)
        assert (message["type"], message["data"]["id"]) == ("job.succeeded", job_id)
