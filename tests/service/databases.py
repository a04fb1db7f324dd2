"""Databases for tests: real ones, each test module's own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.exc import OperationalError
from tests.service.queued import until

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


class OwnPostgreSQL:
    """A PostgreSQL server of a test's own, which stops as in a crash: what it had not written to the disk is gone.

    Attributes:
        url: of its one database, which is empty.
    """

    def __init__(self, folder: str) -> None:
        self._programs = _programs_of_postgresql()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.url, self._folder = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", folder
        # It does not run as the superuser, who then is another one for it.
        self._user: dict[str, str] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(folder, **self._user)
        initdb = [self._programs / "initdb", "-A", "trust", "-U", "postgres", "-D", folder]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._user)  # type: ignore[call-overload]  # any options
        self._options = [*("-p", str(port)), *("-h", "127.0.0.1"), *("-k", "")]  # no socket in a folder
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._programs / "postgres", "-D", self._folder, *self._options]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._folder, **self._user)  # type: ignore[call-overload]  # the same
        engine = sql.create_engine(self.url, connect_args={"connect_timeout": 5})
        try:
            until(lambda: _answers(engine), "PostgreSQL answers")
        except BaseException:
            self.stop()
            raise
        finally:
            engine.dispose()

    def stop(self) -> None:
        """Stop it at once."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()


def _programs_of_postgresql() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian does not have where one looks for programs."""
    found = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL's initdb is not installed")
        pytest.skip("PostgreSQL's initdb is not installed")
    return Path(found).parent


def _answers(engine: sql.Engine) -> bool:
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


def start(script: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start a script in a process of its own: a test must not fork one that has threads."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # the same
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
