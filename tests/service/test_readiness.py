"""/readyz tells what is missing, by name; /livez looks at nothing."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from chainrule_service import readiness, workers
from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.settings import Settings

BROKERS = ("redis://127.0.0.1:6379/0", "amqp://guest:guest@127.0.0.1:5672//")


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path)


@pytest.fixture
def database(settings):
    database = Database(settings.database)
    yield database
    database.close()


def ask(settings, path="/readyz"):
    app = create_app(settings)
    try:
        answer = app.test_client().get(path)
    finally:
        app.extensions["chainrule"].store.close()
    return answer.status_code, answer.json.get("detail", ""), answer


def test_in_a_memory_nothing_can_be_missing():
    assert ask(Settings())[0] == 200


def test_ready_with_a_worker(settings, database):
    workers.announce(database, "here:1", 1)
    assert ask(settings)[0] == 200


def test_no_worker(settings):
    status, detail, answer = ask(settings)
    assert status == 503
    assert "workers: no job worker has been heard of" in detail
    assert answer.headers["Retry-After"]
    assert ask(settings, "/livez")[0] == 200


def test_the_database_is_gone(settings, database, tmp_path):
    workers.announce(database, "here:1", 1)
    app = create_app(settings)
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    for path in tmp_path.glob("chainrule.sqlite3*"):
        path.unlink()
    answer = client.get("/readyz")
    app.extensions["chainrule"].store.close()
    assert answer.status_code == 503
    assert "database: " in answer.json["detail"]
    assert str(tmp_path) not in answer.json["detail"]
    assert client.get("/livez").status_code == 200


def test_a_server_that_ends(settings, database):
    workers.announce(database, "here:1", 1)
    app = create_app(settings)
    app.extensions["chainrule"].draining.set()
    answer = app.test_client().get("/readyz")
    app.extensions["chainrule"].store.close()
    assert answer.status_code == 503
    assert answer.json["detail"].startswith("not ready: server: ")


@pytest.mark.parametrize("url", BROKERS)
def test_a_broker_that_answers(url):
    host, port = url.rpartition("@")[2].removeprefix("redis://").split("/")[0].split(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"nothing listens on {host}:{port}")
    assert readiness.ask_broker(url) == ""


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there(scheme, settings, database, tmp_path):
    workers.announce(database, "here:1", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, detail, _ = ask(Settings(data=tmp_path, broker_url=f"{scheme}://ada:s3cret@127.0.0.1:{port}//"))
    assert status == 503
    assert detail.startswith("not ready: broker: ")
    assert "s3cret" not in detail


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_silent_is_not_waited_for(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}//"
        problem: list[str] = []
        asking = threading.Thread(target=lambda: problem.append(readiness.ask_broker(url)), daemon=True)
        asking.start()
        asking.join(20)
    assert problem
    assert "does not answer" in problem[0]


def test_the_broker_is_asked_once_a_second(monkeypatch):
    asked = []
    monkeypatch.setattr(readiness, "ask_broker", lambda url: asked.append(url) or "")
    check = readiness.BrokerCheck("redis://there")
    for _ in range(50):
        check()
    later = time.monotonic() + 1.5
    monkeypatch.setattr(time, "monotonic", lambda: later)
    check()
    assert len(asked) == 2


# ------------------------------------------------------------------------------------------------------ workers


def test_workers_of_all_processes_are_added_up(database):
    assert workers.alive(database) == 0
    workers.announce(database, "here:1", 2)
    workers.announce(database, "there:1", 3)
    workers.announce(database, "here:1", 4)
    assert workers.alive(database) == 7
    workers.announce(database, "there:1", 0)
    assert workers.alive(database) == 4


@pytest.mark.parametrize("elsewhen", [-workers.ALIVE_SECONDS - 1, 3600.0])
def test_who_has_not_been_heard_of_lately_does_not_count(database, tmp_path, elsewhen):
    """Nor does one whose word is from the future: the clock was set back since."""
    other = Database(str(database.url), now=lambda: time.time() + elsewhen)
    workers.announce(other, "here:1", 1)
    other.close()
    assert workers.alive(database) == 0


def test_who_is_long_gone_is_forgotten(database):
    other = Database(str(database.url), now=lambda: time.time() - 7200)
    workers.announce(other, "here:1", 1)
    other.close()
    workers.announce(database, "there:1", 1)
    with database.transaction(reads=True) as connection:
        assert [row.name for row in connection.execute(workers.WORKERS.select())] == ["there:1"]
