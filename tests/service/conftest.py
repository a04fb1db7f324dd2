"""The real application, through Flask's test client, and one way to call it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tests.service.databases import postgresql

from chainrule_service import runner
from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.documented import NEURON
from chainrule_service.exchange import Service
from chainrule_service.settings import Settings
from chainrule_service.store import Store

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def app() -> Flask:
    return create_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def caller(application: Flask) -> Call:
    """Return a function that sends JSON and insists on a status; errors must be problems."""
    http = application.test_client()

    def call(
        path: str, data: Any = None, status: int = 200, method: str | None = None, headers: Any = None, raw: Any = None
    ) -> Any:
        body = raw if raw is not None else None if data is None else json.dumps(data).encode()
        answer = http.open(
            path,
            method=method or ("GET" if body is None else "POST"),
            data=body,
            content_type=None if body is None else "application/json",
            headers=headers,
            # Spelt out, for the test client leaves it out for an empty body.
            environ_overrides=None if body is None else {"CONTENT_LENGTH": str(len(body))},
        )
        assert answer.status_code == status, answer.get_data(as_text=True)[:2000]
        assert answer.headers["X-Request-Id"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if status >= 400:
            assert answer.content_type == "application/problem+json"
            assert answer.json["status"] == status
            assert answer.json["request_id"] == answer.headers["X-Request-Id"]
            assert len(answer.json.get("errors", [])) <= 32
        return answer.json if answer.mimetype in ("application/json", "application/problem+json") else answer

    return call


@pytest.fixture
def call(app: Flask) -> Call:
    return caller(app)


@pytest.fixture
def call_with() -> Callable[..., Call]:
    """Return a function that makes an application with other settings, and the way to call it."""
    return lambda **settings: caller(create_app(Settings(**settings)))


@pytest.fixture
def neuron() -> dict[str, Any]:
    """The lecture's neuron, to change at will."""
    copy: dict[str, Any] = json.loads(json.dumps(NEURON))
    return copy


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The URL of a database that nobody else uses, without tables; None stands for memory."""
    if request.param == "postgresql":
        with postgresql() as url:
            yield url
    else:
        yield None if request.param == "memory" else f"sqlite:///{tmp_path / 'chainrule.sqlite3'}"


@pytest.fixture
def database(url: str | None) -> Iterator[Database]:
    """That database, with tables."""
    with closing(Database(url)) as database:
        database.upgrade()
        yield database


@dataclass(frozen=True)
class Queue:
    """A service whose jobs other processes may take: in a test, a thread does, and only inside `working`."""

    app: Flask
    call: Call

    @property
    def service(self) -> Service:
        found: Service = self.app.extensions["chainrule"]
        return found

    @property
    def store(self) -> Store:
        return self.service.store

    @contextmanager
    def working(self, after: float = 0) -> Iterator[None]:
        """Have a worker run jobs, from so many seconds after the beginning until the block ends."""
        stop = threading.Event()

        def work() -> None:
            time.sleep(after)
            while not stop.is_set():
                claim = self.store.claim("worker:1", 5)
                if claim is None:
                    stop.wait(0.01)
                else:
                    runner.run(claim, self.store, self.service.settings, stop)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings_of_a_queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The settings of a service over a database of its own."""
    if request.param == "sqlite":
        yield {"data": tmp_path}
    else:
        with postgresql() as url:
            yield {"database_url": url}


@pytest.fixture
def queue_with(settings_of_a_queue: dict[str, Any]) -> Iterator[Callable[..., Queue]]:
    """Return a function that makes a service with other settings, for which only the very least is cheap."""
    made: list[Queue] = []

    def make(*, inline_work: int = 5_000, **settings: Any) -> Queue:
        app = create_app(Settings(**settings_of_a_queue, **settings, limits={"inline_work": inline_work}))
        made.append(Queue(app, caller(app)))
        made[-1].store.database.upgrade()
        return made[-1]

    yield make
    for queue in made:
        queue.store.close()


@pytest.fixture
def queue(queue_with: Callable[..., Queue]) -> Queue:
    return queue_with()
