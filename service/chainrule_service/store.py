"""The jobs table: the only truth about jobs. SQLite in the data folder, or in memory."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from chainrule_service import jsonio

Job = dict[str, Any]
TERMINAL = ("succeeded", "failed")

FILE = "chainrule.sqlite3"
_log = logging.getLogger(__name__)

METADATA = sql.MetaData()
JOBS = sql.Table(
    "jobs",
    METADATA,
    sql.Column("seq", sql.Integer, primary_key=True),  # the order of submission: what pages of a list hold on to
    sql.Column("id", sql.String(36), nullable=False, unique=True),
    sql.Column("type", sql.String(32), nullable=False),
    sql.Column("state", sql.String(10), nullable=False, index=True),
    sql.Column("spec", sql.JSON, nullable=False),
    sql.Column("spec_digest", sql.String(71), nullable=False),
    sql.Column("engine", sql.JSON, nullable=False),
    sql.Column("progress", sql.JSON(none_as_null=True)),
    sql.Column("result", sql.JSON(none_as_null=True)),
    sql.Column("failure", sql.JSON(none_as_null=True)),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("worker", sql.String(80)),  # host:pid, while it runs
    sql.Column("created_at", sql.String(27), nullable=False),
    sql.Column("started_at", sql.String(27)),
    sql.Column("finished_at", sql.String(27)),
    sqlite_autoincrement=True,  # a number is never given twice, so no page shows a job twice
)
_LISTED = [column for column in JOBS.columns if column.name not in ("spec", "result")]


class Store:
    """Reads and writes jobs; safe to use from many threads, and from children forked before its first use.

    Args:
        folder: where the database file lies; None keeps the table in this process's memory.
        patience: the seconds to wait for another process that writes.
    """

    def __init__(self, folder: Path | None, patience: float = 30) -> None:
        self.folder, self._patience = folder, patience
        self._engine: sql.Engine | None = None
        self._pid = 0
        self._opened: os.stat_result | None = None
        self._lock = threading.RLock()
        self._owed: dict[str, dict[str, Any]] = {}  # endings that could not be written yet, by the job's id

    def create(self, job: Mapping[str, Any]) -> str:
        """Record a job that starts to run now, and return its new id."""
        now = _now()
        row = {
            "id": "job_" + secrets.token_hex(16), "state": "running", "attempts": 1, "worker": _worker(),
            "created_at": now, "started_at": now,
        }  # fmt: skip
        with self._transaction() as connection:
            connection.execute(sql.insert(JOBS).values(row | dict(job)))
        return row["id"]  # type: ignore[return-value]

    def progress(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Record how far a running job has come; where that fails, it is logged and nothing more."""
        try:
            with self._transaction() as connection:
                connection.execute(sql.update(JOBS).where(_running(job_id)).values(progress=dict(progress)))
        except SQLAlchemyError:
            _log.warning("the progress of job %s could not be recorded", job_id, exc_info=True)

    def finish(self, job_id: str, *, result: Any = None, failure: Mapping[str, Any] | None = None) -> None:
        """Record how a running job ended: with a result, or with a failure.

        If that cannot be written now, it is kept, told to whoever asks this process, and written with the next change
        to the table: work that is done is not lost to a database that is locked for a while.
        """
        values = {
            "state": "failed" if failure else "succeeded", "result": result, "failure": failure and dict(failure),
            "worker": None, "finished_at": _now(),
        }  # fmt: skip
        self._owed[job_id] = values
        try:
            with self._transaction():
                pass  # it writes what is owed
        except OperationalError:
            _log.exception("the end of job %s could not be recorded yet", job_id)
        except BaseException:
            del self._owed[job_id]  # it can never be written, and would keep everything else from it
            raise

    def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        with self._transaction(reads=True) as connection:
            row = connection.execute(sql.select(JOBS).where(JOBS.c.id == job_id)).mappings().first()
        return self._told(dict(row)) if row else None

    def page(self, size: int, before: int | None = None) -> list[Job]:
        """Return the newest jobs without their specs and results: at most `size`, all older than number `before`."""
        query = sql.select(*_LISTED).order_by(JOBS.c.seq.desc()).limit(size)
        if before is not None:
            query = query.where(JOBS.c.seq < before)
        with self._transaction(reads=True) as connection:
            rows = connection.execute(query).mappings().all()
        listed = {column.name for column in _LISTED}
        return [{name: value for name, value in self._told(dict(row)).items() if name in listed} for row in rows]

    def delete(self, job_id: str) -> bool:
        """Delete a job that has ended; return whether there was one."""
        ended = (JOBS.c.id == job_id) & JOBS.c.state.in_(TERMINAL)
        with self._transaction() as connection:
            return connection.execute(sql.delete(JOBS).where(ended)).rowcount == 1

    def fail_abandoned(self, pid: int | None = None) -> int:
        """Mark the jobs of a server that is gone as failed, and return their number.

        Args:
            pid: the process of this machine that is gone. None stands for every process: only for a server that starts
                and knows that no other one uses the same folder.
        """
        abandoned = JOBS.c.state == "running"
        failure = {"code": "server-stopped", "detail": "the server stopped while the job ran; submit it again"}
        if pid is not None:
            abandoned &= JOBS.c.worker == _worker(pid)
            detail = "the process that ran the job died, perhaps for want of memory; submit it again, or a smaller one"
            failure = {"code": "worker-died", "detail": detail}
        ended = {"state": "failed", "failure": failure, "worker": None, "finished_at": _now()}
        with self._transaction() as connection:
            return connection.execute(sql.update(JOBS).where(abandoned).values(ended)).rowcount

    def check(self) -> None:
        """Find out whether jobs can be read and written.

        Raises:
            OSError, sqlalchemy.exc.SQLAlchemyError: they cannot; the message says why.
        """
        with self._transaction(reads=True) as connection:
            connection.execute(sql.text("SELECT 1"))
        if self.folder is not None and not os.access(self.folder, os.W_OK | os.X_OK):
            raise OSError(f"the data folder {self.folder.name!r} is missing or cannot be written to")

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            if self._engine is not None and self._pid == os.getpid():
                self._engine.dispose()
            self._engine = None

    @contextmanager
    def _transaction(self, *, reads: bool = False) -> Iterator[sql.Connection]:
        with self._lock:
            # A connection must not cross a fork, so each process opens its own at its first use.
            if self._engine is None or self._pid != os.getpid():
                self._engine, self._pid = _open(self.folder, self._patience), os.getpid()
                self._opened = None if self.folder is None else os.stat(self.folder / FILE)
            engine = self._engine
        self._check_file()
        # In memory all threads share one connection, hence one transaction at a time.
        with (
            self._lock if self.folder is None else nullcontext(),
            engine.connect().execution_options(reads=reads) as connection,
            connection.begin(),
        ):
            owed = {} if reads else dict(self._owed)
            for job_id, ending in owed.items():
                connection.execute(sql.update(JOBS).where(_running(job_id)).values(ending))
            yield connection
        for job_id in owed:
            self._owed.pop(job_id, None)

    def _check_file(self) -> None:
        """Refuse to go on with a file that has been deleted: what is written to it would be lost with this process."""
        if self.folder is None or self._opened is None:
            return
        try:
            if os.path.samestat(os.stat(self.folder / FILE), self._opened):
                return
        except FileNotFoundError:
            pass
        gone = FileNotFoundError(f"{self.folder / FILE} was deleted or replaced; start the server again")
        raise OperationalError("open the jobs table", None, gone)

    def _told(self, job: Job) -> Job:
        return job | self._owed.get(job["id"], {})


def _open(folder: Path | None, patience: float) -> sql.Engine:
    options: dict[str, Any] = {"json_serializer": jsonio.dumps, "json_deserializer": json.loads}
    if folder is None:
        # One connection for all threads: with one each, each would have an empty database of its own.
        options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        engine = sql.create_engine("sqlite://", **options)
    else:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = URL.create("sqlite", database=str(folder / FILE))
        engine = sql.create_engine(url, connect_args={"timeout": patience}, **options)

        @sql.event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # the driver would begin transactions by rules of its own
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):  # readers never wait; a power cut loses nothing
                connection.execute(f"PRAGMA {pragma}")

        @sql.event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            # A transaction that starts as a reader and writes later fails at once when another has written meanwhile.
            reads = connection.get_execution_options().get("reads")
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    METADATA.create_all(engine)
    return engine


def _running(job_id: str) -> Any:
    return (JOBS.c.id == job_id) & (JOBS.c.state == "running")


def _worker(pid: int | None = None) -> str:
    return f"{socket.gethostname()[:60]}:{pid or os.getpid()}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
