"""The real application, through Flask's test client, and one way to call it."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sql
from flask import Flask
from flask.testing import FlaskClient

from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.documented import NEURON

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
    from chainrule_service.settings import Settings

    return lambda **settings: caller(create_app(Settings(**settings)))


@pytest.fixture
def neuron() -> dict[str, Any]:
    """The lecture's neuron, to change at will."""
    copy: dict[str, Any] = json.loads(json.dumps(NEURON))
    return copy


POSTGRES = sql.make_url(
    os.environ.get("CHAINRULE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
)


@contextlib.contextmanager
def postgres():
    """A database of its own on a real server, which is gone afterwards."""
    server = sql.create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    name = f"keys_{uuid.uuid4().hex}"
    try:
        with server.connect() as connection:
            connection.execute(sql.text(f"CREATE DATABASE {name}"))
    except sql.exc.OperationalError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL answers at {POSTGRES.host}:{POSTGRES.port}")
    try:
        yield POSTGRES.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sql.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request, tmp_path):
    """Where a database is that nobody else uses."""
    if request.param == "postgresql":
        with postgres() as url:
            yield url
    else:
        yield None if request.param == "memory" else f"sqlite:///{tmp_path / 'chainrule.sqlite3'}"


@pytest.fixture
def database(url):
    with contextlib.closing(Database(url)) as database:
        database.upgrade()
        yield database
