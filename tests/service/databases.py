"""Databases for tests: real ones, each test module's own."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sql
from sqlalchemy.exc import OperationalError

POSTGRESQL = os.environ.get("CHAINRULE_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")


@contextlib.contextmanager
def server() -> Iterator[sql.Connection]:
    """Give a connection to the PostgreSQL server, outside of any database of a test."""
    engine = sql.create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Give the URL of a new, empty database, which is dropped at the end."""
    name = f"chainrule_test_{secrets.token_hex(6)}"
    try:
        with server() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except OperationalError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no PostgreSQL server answers (CHAINRULE_TEST_POSTGRESQL)")
    try:
        yield sql.make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    finally:
        with server() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def start(script: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start a script in a process of its own: a test must not fork one that has threads."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )


def output(process: subprocess.Popen[str], timeout: float = 60) -> str:
    """Wait for a process to end well, and return what it wrote."""
    try:
        written, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    return written
