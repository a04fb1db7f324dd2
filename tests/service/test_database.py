"""The database: its tables, its migrations, and what happens when it is away, full, read-only or damaged."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import stat
import sys
import tempfile
import time

import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.service.databases import output, postgresql, server, start

from chainrule_service import app  # noqa: F401  # all tables of the service are declared
from chainrule_service.database import HEAD, METADATA, Database, DatabaseUnavailable, clock
from chainrule_service.problems import problem_of
from chainrule_service.store import JOBS, LeaseLost, Store

JOB = {"type": "training", "spec": {"b": 1, "a": [2.5]}, "spec_digest": "sha256:0", "engine": {"version": "0"}}
LEASE = 60.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
def file_url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def server_url():
    with postgresql() as url:
        yield url


@pytest.fixture(params=["file", "server"])
def url(request):
    """Return the URL of each kind of database that outlives a process, without tables."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(url):
    database = Database(url, patience=2)
    yield database
    database.close()


@pytest.fixture
def ready(database):
    """Return a store on tables at HEAD."""
    database.upgrade()
    return Store(database)


# --------------------------------------------------------------------------------------------------- migrations


def differences(database):
    with database.transaction(reads=True) as connection:
        return compare_metadata(MigrationContext.configure(connection), METADATA)


def test_the_migrations_make_the_tables_that_the_code_declares(database):
    database.upgrade()
    assert differences(database) == []
    with database.transaction(reads=True) as connection:
        assert connection.scalar(sql.text("SELECT version_num FROM alembic_version")) == HEAD
        indexes = {index["name"] for index in sql.inspect(connection).get_indexes("jobs")}
    assert {index.name for index in JOBS.indexes} <= indexes
    database.upgrade()


def test_a_memory_has_the_same_tables():
    database = Database(None)
    assert differences(database) == []
    database.upgrade()
    database.check()
    database.close()


@pytest.mark.slow
def test_several_processes_upgrade_at_once(url, database):
    script = """
import sys
from chainrule_service.database import Database
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
database.upgrade()
database.check()
database.close()
"""
    processes = [start(script, url) for _ in range(4)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output(process)
    assert differences(database) == []


def test_a_new_file_that_another_is_about_to_write_is_waited_for(path, file_url, monkeypatch):
    """SQLite itself does not wait for that: it refuses at once to switch the file to its log of writes."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            other.execute("COMMIT")

    monkeypatch.setattr(time, "sleep", pause)
    database = Database(file_url)
    database.check()
    assert len(pauses) == 2
    with database.transaction(reads=True) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()
    other.close()


def test_a_new_file_that_another_keeps_locked_is_not_waited_for_for_ever(path, file_url):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(file_url, patience=0.01)
    assert "locked" in fails(database.check)
    database.close()
    other.close()


def test_a_file_is_upgraded_when_it_is_opened(path, file_url):
    database = Database(file_url)
    database.check()
    database.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o700 == 0o700
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()


def test_a_folder_may_have_any_name(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a folder? 100%20#1/://jobs.sqlite3")
    database.check()
    assert database.file.parent.parent.name == "a folder? 100%20#1"
    assert database.file.is_file()
    database.close()


def test_a_database_of_a_server_is_upgraded_only_on_request(server_url):
    database = Database(server_url)
    with pytest.raises(DatabaseUnavailable, match="chainrule db upgrade"):
        database.check()
    database.upgrade()
    database.check()
    database.close()


def test_tables_of_a_newer_version_are_left_alone(database):
    database.upgrade()
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(DatabaseUnavailable):
        database.check()
    with pytest.raises(DatabaseUnavailable, match="9999"):
        database.upgrade()


#: The table that the first version made, without any migration.
FIRST_VERSION = """
CREATE TABLE jobs (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(36) NOT NULL, type VARCHAR(32) NOT NULL,
    state VARCHAR(10) NOT NULL, spec JSON NOT NULL, spec_digest VARCHAR(71) NOT NULL, engine JSON NOT NULL,
    progress JSON, result JSON, failure JSON, attempts INTEGER NOT NULL, worker VARCHAR(80),
    created_at VARCHAR(27) NOT NULL, started_at VARCHAR(27), finished_at VARCHAR(27), UNIQUE (id)
);
CREATE INDEX ix_jobs_state ON jobs (state);
"""


def test_a_file_of_the_first_version_is_taken_over_with_its_jobs(path, file_url):
    times = ("2026-11-01T10:00:00.123456Z", "2026-11-01T10:00:01.5Z", "2026-11-01T10:00:02.000001Z")
    result, failure = {"loss_history": [1.5, "NaN"]}, {"code": "x", "detail": "y"}
    old = [
        ("job_1", "succeeded", {"step": 2}, result, None, None, times),
        ("job_2", "failed", None, None, failure, None, times),
        ("job_3", "running", {"step": 1}, None, None, "gone:1", (*times[:2], None)),
        ("job_4", "succeeded", None, {}, None, None, times),
    ]
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_VERSION)
    for job_id, state, progress, result_, failure_, worker, (created, started, finished) in old:
        texts = [None if value is None else json.dumps(value) for value in (progress, result_, failure_)]
        connection.execute(
            "INSERT INTO jobs (id, type, state, spec, spec_digest, engine, progress, result, failure, attempts, worker,"
            " created_at, started_at, finished_at) VALUES (?, 'training', ?, ?, 'sha256:0', ?, ?, ?, ?, 1, ?, ?, ?, ?)",
            (job_id, state, '{"b": 1, "a": [2.5]}', '{"version": "0"}', *texts, worker, created, started, finished),
        )
    connection.execute("DELETE FROM jobs WHERE id = 'job_4'")
    connection.commit()
    connection.close()

    store = Store(Database(file_url))
    assert differences(store.database) == []
    done, failed = store.get("job_1"), store.get("job_2")
    assert {name: done[name] for name in JOB} == JOB
    assert list(done["spec"]) == ["b", "a"]
    assert (done["state"], done["result"], done["progress"], done["attempts"]) == ("succeeded", result, {"step": 2}, 1)
    assert [done[f"{name}_at"] for name in ("created", "started", "finished")] == [
        times[0], "2026-11-01T10:00:01.500000Z", times[2],
    ]  # fmt: skip
    assert (failed["state"], failed["failure"], failed["result"]) == ("failed", failure, None)
    assert (done["owner"], done["labels"], done["priority"]) == ("", {}, 0)
    claim = store.claim("host:1", LEASE)
    assert (claim.id, claim.spec, claim.attempt, claim.step) == ("job_3", JOB["spec"], 2, 0)
    assert [job["id"] for job in store.page(9)] == ["job_3", "job_2", "job_1"]
    assert store.submit(JOB).job["seq"] == 5, "the number of a deleted job is not given again"
    store.close()


# ----------------------------------------------------------------------------------------------------- durability


def test_a_power_cut_loses_nothing_that_was_accepted(file_url):
    database = Database(file_url)
    for durable, synchronous in ((True, 2), (False, 1), (True, 2)):
        with database.transaction(durable=durable) as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous
    database.close()


def test_a_crash_of_the_server_loses_nothing_that_was_accepted(server_url):
    database = Database(server_url)
    database.upgrade()
    for durable, synchronous in ((True, "on"), (False, "off"), (True, "on")):
        with database.transaction(durable=durable) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == synchronous
    database.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no such options")
def test_a_server_that_is_cut_off_is_noticed_after_10_seconds(server_url):
    """Wherever the connection goes by TCP."""
    database = Database(sql.make_url(server_url).set(host="127.0.0.1").render_as_string(hide_password=False))
    database.upgrade()
    with database.transaction() as connection:
        duplicate = os.dup(connection.connection.driver_connection.fileno())
        with socket.socket(fileno=duplicate) as way:
            assert way.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert way.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert way.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
            assert way.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2
            assert way.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
    database.close()


def test_a_transaction_is_all_or_nothing(ready, database):
    job_id = ready.submit(JOB).job["id"]

    def stop_halfway():
        with database.transaction() as connection:
            connection.execute(sql.delete(JOBS))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_halfway()
    assert ready.get(job_id) is not None


def test_readers_do_not_wait_for_a_writer(ready, database, url):
    job_id = ready.submit(JOB).job["id"]
    writer = Database(url)
    with writer.transaction() as connection:
        connection.execute(sql.update(JOBS).values(state="running"))
        assert ready.get(job_id)["state"] == "queued"
        ready.check()
    writer.close()
    assert ready.get(job_id)["state"] == "running"


def test_a_file_outlives_its_store(file_url):
    first = Store(Database(file_url))
    job_id = first.submit(JOB).job["id"]
    first.close()
    second = Store(Database(file_url))
    assert second.get(job_id)["spec"] == JOB["spec"]
    second.close()


@pytest.mark.slow
def test_a_process_that_is_stopped_in_a_transaction_holds_up_nobody_for_long(server_url):
    database = Database(server_url)
    database.upgrade()
    store = Store(database)
    store.submit(JOB)
    script = """
import os, signal, sys
from chainrule_service.database import Database
from chainrule_service.store import JOBS, _ONE_CLAIM_AT_A_TIME
with Database(sys.argv[1]).transaction() as connection:
    connection.execute(_ONE_CLAIM_AT_A_TIME)
    connection.exec_driver_sql("UPDATE jobs SET priority = 1")
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    process = start(script, server_url)
    try:
        assert process.stdout.readline() == "ready\n"
        assert store.claim("host:1", LEASE) is not None
    finally:
        process.kill()
        process.communicate()
        database.close()


# --------------------------------------------------------------------------------------------------------- clocks


class Clock:
    """The process's clock, which can be set."""

    def __init__(self):
        self.moved = 0.0

    def __call__(self):
        return time.time() + self.moved


@pytest.mark.parametrize("hour", [3600, -3600])
@pytest.mark.parametrize("at_work", [True, False], ids=["worker-alive", "worker-dead"])
def test_jobs_survive_a_clock_that_is_moved_by_an_hour(file_url, hour, at_work):
    clock_of_process = Clock()
    database = Database(file_url, now=clock_of_process)
    store = Store(database)
    waiting, running = store.submit(JOB).job["id"], store.submit(JOB).job["id"]
    claim = store.claim("host:1", 5, job_id=running)
    store.checkpoint(claim, 5, step=1, state={"at": 1}, progress={}, losses=[1.0], metrics={})
    clock_of_process.moved = hour
    if at_work:
        assert store.heartbeat(claim, 5) is False
        assert store.claim("host:2", 5, job_id=running) is None
        store.finish(claim, result={})
    else:
        taken = store.claim("host:2", 5, job_id=running)
        assert (taken.step, taken.checkpoint) == (1, {"at": 1})
        with pytest.raises(LeaseLost):
            store.heartbeat(claim, 5)
        store.finish(taken, result={})
    store.sweep()
    store.finish(store.claim("host:2", 5), result={})
    assert [store.get(job_id)["state"] for job_id in (waiting, running)] == ["succeeded"] * 2
    assert store.counts().oldest_queued == 0
    store.close()


def test_jobs_are_rung_although_the_clock_was_set_back(file_url):
    clock_of_process = Clock()
    store = Store(Database(file_url, now=clock_of_process))
    job_id = store.submit(JOB).job["id"]
    clock_of_process.moved = -3600
    assert store.ring(after=10) == [job_id]
    store.close()


def test_the_clock_is_the_database_s(database, ready):
    with database.transaction(reads=True) as connection:
        assert abs(database.now(connection) - time.time()) < 60
        first, second = connection.scalar(sql.select(clock())), connection.scalar(sql.select(clock()))
    assert first < second


# --------------------------------------------------------------------------------------------------------- faults


def fails(use):
    """Tell how a use of the database fails: with the one error that says so, and is answered with 503."""
    with pytest.raises(DatabaseUnavailable) as caught:
        use()
    assert problem_of(caught.value)["status"] == 503
    assert str(caught.value) not in json.dumps(problem_of(caught.value)), "its cause is for the log"
    return str(caught.value)


def test_a_lock_that_is_held_too_long(path, file_url):
    store = Store(Database(file_url, patience=0.01))
    job_id = store.submit(JOB).job["id"]
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    for use in (lambda: store.submit(JOB), lambda: store.claim("host:1", LEASE), lambda: store.cancel(job_id)):
        assert "locked" in fails(use)
    assert store.get(job_id)["state"] == "queued"
    writer.execute("ROLLBACK")
    writer.close()
    assert store.claim("host:1", LEASE).id == job_id
    store.close()


@pytest.mark.parametrize(
    "ending",
    [{"result": {"loss_history": [1.0, math.nan]}}, {"state": "failed", "failure": {"code": "x", "detail": "y"}}],
    ids=["result", "failure"],
)
def test_an_end_that_cannot_be_recorded_is_told_and_recorded_later(path, file_url, caplog, ending):
    store = Store(Database(file_url, patience=0.01))
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    other = Store(Database(file_url))
    other.check()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    store.finish(claim, progress={"step": 1}, step=1, losses=[1.0], **ending)
    assert claim.id in caplog.text
    told = store.get(claim.id)
    assert (told["state"], told["progress"]) == (ending.get("state", "succeeded"), {"step": 1})
    assert told["result"] == ({"loss_history": [1.0, "NaN"]} if "result" in ending else None)
    assert [job["state"] for job in store.page(1)] == [told["state"]]
    assert "result" not in store.page(1)[0]
    assert other.get(claim.id)["state"] == "running"
    writer.execute("ROLLBACK")
    writer.close()
    assert store.claim("host:1", LEASE) is None
    written = other.get(claim.id)
    assert written == store.get(claim.id)
    visible = ("state", "result", "failure", "progress", "worker", "finished_at")
    assert {name: written[name] for name in visible} == {name: told[name] for name in visible}
    assert list(other.history(claim.id).losses) == [1.0]
    other.close()
    store.close()


def test_an_end_that_is_owed_yields_to_whoever_took_the_job_over(path, file_url, caplog):
    store, other = Store(Database(file_url, patience=0.01)), Store(Database(file_url))
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        store.finish(claim, result={"by": "the first"})
        writer.execute("ROLLBACK")
    writer.close()
    other.expire_worker("host:1")
    second = other.claim("host:2", LEASE)
    assert store.claim("host:1", LEASE) is None
    assert "not recorded" in caplog.text
    other.finish(second, result={"by": "the second"})
    assert store.get(claim.id)["result"] == {"by": "the second"}
    other.close()
    store.close()


def test_an_end_that_nothing_can_record_holds_up_nothing_else(ready):
    claim = ready.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    with pytest.raises(TypeError):
        ready.finish(claim, result=object())
    ready.finish(claim, state="failed", failure={"code": "x", "detail": "y"})
    assert ready.get(claim.id)["state"] == "failed"


def test_a_full_disk(file_url):
    """SQLite's own limit of pages gives the very error of a disk without room."""
    store = Store(Database(file_url))
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    waiting = store.submit(JOB).job["id"]
    large = {"loss_history": [0.5] * 100_000}
    with store.database.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    assert "full" in fails(lambda: store.submit(JOB | {"spec": large}))
    store.finish(claim, result=large)
    assert store.get(claim.id)["state"] == "succeeded"
    with store.database.transaction(reads=True) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert store.claim("host:1", LEASE).id == waiting
    assert store.get(claim.id)["result"] == large
    store.close()


@pytest.mark.slow
def test_a_file_system_that_refuses_to_write(path, file_url):
    """A limit on the size of files stands for a disk without room: the operating system says no."""
    Store(Database(file_url)).close()
    script = """
import resource, signal, sys
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.store import Store
store = Store(Database(sys.argv[1]))
job = {"type": "training", "spec": {}, "spec_digest": "", "engine": {}}
print(store.submit(job).job["id"])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
try:
    store.submit(job)
except DatabaseUnavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(store.submit(job).job["id"])
store.close()
"""
    first, error, second = output(start(script, file_url)).splitlines()
    assert "disk" in error
    store = Store(Database(file_url))
    assert [job["id"] for job in store.page(9)] == [second, first]
    store.close()


@pytest.mark.slow
def test_a_file_that_only_may_be_read():
    script = """
import os, sys
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.store import Store
Database(None).check()  # imports all that is imported late
if os.geteuid() == 0:  # whom no permission stops
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = Store(Database(sys.argv[1]))
for use in (lambda: store.submit({"type": "", "spec": {}, "spec_digest": "", "engine": {}}), store.check):
    try:
        use()
    except DatabaseUnavailable as error:
        print(error)
store.close()
"""
    with tempfile.TemporaryDirectory() as folder:  # that of a test lies where only its owner comes
        url = f"sqlite:///{folder}/jobs.sqlite3"
        store = Store(Database(url))
        job_id = store.submit(JOB).job["id"]
        store.close()
        os.chmod(f"{folder}/jobs.sqlite3", 0o444)
        os.chmod(folder, 0o555)
        errors = output(start(script, url)).splitlines()
        os.chmod(folder, 0o755)
        assert len(errors) == 2
        assert all("cannot be written to" in error for error in errors)
        assert store.get(job_id)["state"] == "queued"
        store.close()


def test_a_file_that_is_gone_is_noticed(tmp_path):
    """SQLite would go on with it, and all would be lost with the process."""
    folder = tmp_path / "data"
    store = Store(Database(f"sqlite:///{folder}/jobs.sqlite3"))
    job_id = store.submit(JOB).job["id"]
    for path in folder.iterdir():
        path.rename(tmp_path / path.name)
    for use in (store.check, lambda: store.submit(JOB), lambda: store.get(job_id)):
        assert "deleted or replaced" in fails(use)
    (folder / "jobs.sqlite3").write_bytes(b"")
    assert "deleted or replaced" in fails(store.check)
    store.close()
    store.check()
    store.close()


def test_a_file_that_is_no_database(path, file_url):
    path.write_bytes(b"these are not the bytes you are looking for" * 100)
    database = Database(file_url)
    assert "not a database" in fails(database.check)
    assert "not a database" in fails(database.upgrade)
    database.close()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    database = Database(f"sqlite:///{tmp_path}/file/jobs.sqlite3")
    fails(database.check)
    fails(database.upgrade)
    database.close()


def test_a_server_that_does_not_answer():
    database = Database("postgresql+psycopg://postgres@127.0.0.1:1/none", patience=1)
    fails(database.check)
    fails(database.upgrade)
    database.close()


def test_a_server_whose_driver_is_not_installed():
    script = """
import sys
from chainrule_service.database import Database, DatabaseUnavailable
sys.modules["psycopg"] = None
try:
    Database("postgresql+psycopg://user:secret@host/name").upgrade()
except DatabaseUnavailable as error:
    print(error)
"""
    error = output(start(script))
    assert "pip install 'chainrule[service,postgres]'" in error
    assert "secret" not in error


def test_a_server_that_is_away_for_a_while(server_url):
    """Its connections are cut, and it lets nobody in; then it does, and all goes on."""
    database = Database(server_url, patience=2)
    database.upgrade()
    store = Store(database)
    waiting = store.submit(JOB).job["id"]
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    name = sql.make_url(server_url).database
    with server() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        for use in (lambda: store.submit(JOB), lambda: store.get(waiting), lambda: store.heartbeat(claim, LEASE)):
            fails(use)
        store.finish(claim, result={"by": "patience"})
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert store.claim("host:1", LEASE).id == waiting
    assert store.get(claim.id)["result"] == {"by": "patience"}
    store.close()


def test_connections_that_broke_unnoticed_are_replaced(server_url):
    database = Database(server_url)
    database.upgrade()
    store = Store(database)
    store.submit(JOB)
    name = sql.make_url(server_url).database
    with server() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert store.claim("host:1", LEASE) is not None
    store.close()


def test_a_server_s_database_that_only_may_be_read(server_url):
    database = Database(server_url)
    database.upgrade()
    database.close()
    name = sql.make_url(server_url).database
    store = Store(database)
    with server() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert "read-only" in fails(lambda: store.submit(JOB))
        assert store.page(1) == []
    store.close()


def test_mistakes_of_ours_are_no_fault_of_the_database(database, ready):
    """They are not to be tried again."""
    with pytest.raises(sql.exc.IntegrityError):
        ready.submit(JOB | {"spec_digest": None})
