"""The database: one SQLite file, PostgreSQL by URL, or this process's memory; and the one way into it, a transaction.

Each module that has tables declares them on METADATA. Those of a file and of PostgreSQL are made by the migrations in
`migrations/`, those of a memory by METADATA itself; a test holds the two to be the same.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy import exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.functions import GenericFunction

from chainrule_service import jsonio

METADATA = sql.MetaData()

_MIGRATIONS = Path(__file__).with_name("migrations")
#: The revision that the code of this version needs. Its file says so: Alembic, slow to import, is for upgrades alone.
HEAD = max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("v*.py")).removeprefix("v")

_SQLITE = "sqlite:///"
_UPGRADES = 0x636872  # the advisory lock of PostgreSQL under which migrations run
_IDLE_SECONDS = 5
_AGAIN_SECONDS = 0.01  # between two attempts at what SQLite does not wait for
#: A PostgreSQL that is cut off without a word is noticed after some 10 seconds: options of libpq, in ms and in seconds.
_VIGILANCE = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
#: What a request, a statement or its parameters are to blame for; any other error of a driver is the database's.
_OUR_FAULT = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


class DatabaseUnavailable(Exception):
    """The database cannot be reached, or cannot be read or written now; nothing of the transaction was recorded.

    What failed may be tried again: the cause can be a lock that is held too long, a full disk, a file that only may be
    read, a server that is down or that starts.
    """


class Written(str):
    """JSON text, for a JSON column that takes it as it is."""


class clock(GenericFunction[float]):  # noqa: N801  # a function of SQL
    """Now, in seconds since 1970, by the database's clock: that of PostgreSQL, or of the process that uses SQLite."""

    type = sql.Double()
    inherit_cache = True


@compiles(clock, "postgresql")
def _postgresql_clock(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) AS double precision)"


class _Engines(NamedTuple):
    """One engine, told in three ways what its transactions are for."""

    durable: sql.Engine
    late: sql.Engine
    reader: sql.Engine


class Database:
    """Transactions, from many threads, and from children forked before or after its first use.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://…`; None keeps everything in this process's memory.
        patience: the seconds to wait for another process that writes.
        now: this process's clock, in seconds since 1970; SQLite goes by it.
        upgrades: whether a file that is opened is made, or brought to HEAD; else it is used as it is, or not at all.
    """

    def __init__(
        self,
        url: str | None,
        patience: float = 30,
        now: Callable[[], float] = time.time,
        *,
        upgrades: bool = True,
    ) -> None:
        if url is None or url.startswith(_SQLITE):
            # A path is taken as it is, even with signs that mean something in a URL.
            self.url = sql.URL.create("sqlite", database=url and url.removeprefix(_SQLITE))
        else:
            self.url = sql.make_url(url)
        self._patience, self._now, self._upgrades = patience, now, upgrades
        self._lock = threading.RLock()
        self._engines: _Engines | None = None
        self._pid = 0
        self._inherited: list[_Engines | None] = []
        self._opened: os.stat_result | None = None

    @property
    def file(self) -> Path | None:
        """The file of SQLite, if there is one."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite: a file, or memory."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self, *, reads: bool = False, durable: bool = True) -> Iterator[sql.Connection]:
        """Give a connection whose changes are recorded together at the end, or not at all after an exception.

        Args:
            reads: nothing will be written; then it waits for no writer.
            durable: at its end everything is on the disk. Else a crash of the machine, or of PostgreSQL, may undo it,
                and spares others the wait for the disk.

        Raises:
            DatabaseUnavailable: nothing was recorded, and it may be tried again.
        """
        engines = self._ready()
        engine = engines.reader if reads else engines.durable if durable else engines.late
        # In memory all threads share one connection, hence one transaction at a time.
        alone = self._lock if self.is_sqlite and self.file is None else nullcontext()
        with self._told(), alone, engine.begin() as connection:
            yield connection

    def now(self, connection: sql.Connection) -> float:
        """Return the time by the database's clock, in seconds since 1970."""
        return connection.execute(_NOW).scalar_one()

    def upgrade(self) -> None:
        """Bring the tables to HEAD, with what is in them; several processes may do so at once.

        Raises:
            DatabaseUnavailable: the database cannot be reached or written, or is of a newer version.
        """
        if not self.url.database and self.is_sqlite:
            return  # memory: its tables were made as they should be
        try:
            engine = self._open().durable
        except OSError as error:
            raise DatabaseUnavailable(f"{self.url.render_as_string()} cannot be opened: {error}") from error
        try:
            with self._told():
                self._migrate(engine)
        finally:
            engine.dispose()

    def check(self) -> None:
        """Find out whether the database can be read and, as far as a look tells, written.

        Raises:
            DatabaseUnavailable: it cannot; the message says why.
        """
        with self.transaction(reads=True) as connection:
            self.now(connection)
        self._check_writable()

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            if self._engines is not None and self._pid == os.getpid():
                self._engines.durable.dispose()
                self._engines = None

    def _ready(self) -> _Engines:
        """Return this process's engines, with tables in the database."""
        if self._engines is None or self._pid != os.getpid():
            try:
                with self._lock, self._told():
                    self._connect()
            except OSError as error:
                raise DatabaseUnavailable(f"{self.url.render_as_string()} cannot be opened: {error}") from error
        self._check_file()
        assert self._engines is not None
        return self._engines

    def _connect(self) -> None:
        if self._pid != os.getpid():
            # A connection must not cross a fork, not even to be closed: this keeps the parent's from it.
            self._inherited.append(self._engines)
            self._engines, self._pid = None, os.getpid()
        if self._engines is None:
            if self.file is not None and not self._upgrades and not self.file.exists():
                raise DatabaseUnavailable(f"{self.file} does not exist yet; `chainrule serve` makes it")
            engines = self._open()
            try:
                self._prepare(engines.durable)
            except BaseException:
                engines.durable.dispose()
                raise
            self._engines = engines

    def _open(self) -> _Engines:
        options: dict[str, Any] = {"json_serializer": _json_text, "json_deserializer": json.loads}
        if not self.is_sqlite:
            # A process that is stopped in the middle of a transaction would hold up all others with its locks.
            limits = f"-c idle_in_transaction_session_timeout={_IDLE_SECONDS * 1000}"
            limits += f" -c lock_timeout={int(self._patience * 1000)}"
            options |= {
                "connect_args": {"connect_timeout": 5, "options": limits, **_VIGILANCE},
                "pool_pre_ping": True,
                "pool_timeout": self._patience,
            }
            try:
                engine = sql.create_engine(self.url, **options)
            except ModuleNotFoundError as error:
                raise DatabaseUnavailable(
                    f"PostgreSQL needs {error.name}: pip install 'chainrule[service,postgres]'"
                ) from error

            @sql.event.listens_for(engine, "begin")
            def begin_late(connection: Any) -> None:
                if not connection.get_execution_options().get("durable", True):
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

            reader = engine.execution_options(isolation_level="AUTOCOMMIT")
            return _Engines(engine, engine.execution_options(durable=False), reader)
        connect: dict[str, Any] = {"timeout": self._patience, "check_same_thread": False}
        if self.file is None:
            # One connection for all threads: with one each, each would have an empty database of its own.
            options["poolclass"] = StaticPool
        else:
            options |= {"max_overflow": -1}  # a connection for each thread that wants one
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = sql.create_engine(self.url, connect_args=connect, **options)

        @sql.event.listens_for(engine, "do_connect")
        def refuse(*_: Any) -> None:
            # SQLite would open it for reading alone, and this process might keep to that when it may be written again.
            self._check_writable()

        @sql.event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # the driver would begin transactions by rules of its own
            if self._upgrades:
                _keep_in_wal(connection, self._patience)
            connection.execute("PRAGMA foreign_keys=ON")  # rows go with the job that they belong to
            connection.create_function("clock", 0, self._now)

        @sql.event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            options = connection.get_execution_options()
            if options.get("reads"):
                connection.exec_driver_sql("BEGIN")
                return
            # FULL waits for the disk at each commit; NORMAL leaves that to the next one that does, in the same order.
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('durable', True) else 'NORMAL'}")
            # A transaction that starts as a reader and writes later fails at once when another has written meanwhile.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return _Engines(engine, engine.execution_options(durable=False), engine.execution_options(reads=True))

    def _prepare(self, engine: sql.Engine) -> None:
        """See to it that the tables are those of HEAD: a file is upgraded on the way, if that is wanted."""
        if self.is_sqlite and self.file is None:
            METADATA.create_all(engine)
            return
        with engine.connect() as connection:
            found = _revision(connection)
        if found != HEAD:
            if not self.is_sqlite or not self._upgrades:
                what = "there are no tables yet" if found is None else f"the tables are at revision {found}"
                newer = "" if found is None else ", or a newer chainrule"
                raise DatabaseUnavailable(
                    f"{what}, and this version of chainrule needs {HEAD}: run `chainrule db upgrade`{newer}"
                )
            self._migrate(engine)
        self._opened = None if self.file is None else os.stat(self.file)

    def _migrate(self, engine: sql.Engine) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_UPGRADES)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, HEAD)
            except CommandError as error:
                raise DatabaseUnavailable(f"the tables cannot be upgraded to revision {HEAD}: {error}") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the many errors that mean "not now" into one."""
        try:
            yield
        except _OUR_FAULT:
            raise
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise DatabaseUnavailable(str(getattr(error, "orig", None) or error).strip()) from error

    def _check_file(self) -> None:
        """Refuse to go on with a file that has been deleted: what is written to it would be lost with this process."""
        if self.file is None or self._opened is None:
            return
        try:
            if os.path.samestat(os.stat(self.file), self._opened):
                return
        except OSError:
            pass
        raise DatabaseUnavailable(f"{self.file} was deleted or replaced; start the server again")

    def _check_writable(self) -> None:
        """Refuse a file that only may be read, or is in a folder or has companions of which that is true."""
        if self.file is None:
            return
        files = (self.file.with_name(self.file.name + suffix) for suffix in ("", "-wal", "-shm"))
        if not os.access(self.file.parent, os.W_OK | os.X_OK) or not all(
            os.access(file, os.W_OK) for file in files if file.exists()
        ):
            raise DatabaseUnavailable(f"the file {self.file.name!r} or its folder cannot be written to")


_NOW = sql.select(clock())


def _keep_in_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Have a file use a write-ahead log, so that readers never wait; it keeps to that.

    While another process is about to write to a file that does not use one yet, SQLite refuses the change at once,
    whatever its timeout is: so this tries again, for so many seconds.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _json_text(data: Any) -> str:
    return data if isinstance(data, Written) else jsonio.dumps(data)


def _revision(connection: sql.Connection) -> str | None:
    """Return the revision of the tables; None where there are none, or those that no migration made."""
    if not sql.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(sql.text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)
