"""The jobs table."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy.exc import OperationalError, StatementError

from chainrule_service.store import Store

JOB = {"type": "training", "spec": {"b": 1, "a": [2.5]}, "spec_digest": "sha256:0", "engine": {"version": "0"}}


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    store = Store(None if request.param == "memory" else tmp_path / "new" / "folder")
    yield store
    store.close()


def test_a_job_from_start_to_end(store):
    job_id = store.create(JOB)
    job = store.get(job_id)
    assert {name: job[name] for name in JOB} == JOB
    assert list(job["spec"]) == ["b", "a"]
    assert (job["state"], job["attempts"], job["result"], job["progress"]) == ("running", 1, None, None)
    assert job["worker"].endswith(f":{os.getpid()}")
    store.progress(job_id, {"step": 1})
    assert store.get(job_id)["progress"] == {"step": 1}
    store.finish(job_id, result={"loss_history": [1.0, math.nan, math.inf]})
    done = store.get(job_id)
    assert (done["state"], done["worker"], done["failure"]) == ("succeeded", None, None)
    assert done["result"] == {"loss_history": [1.0, "NaN", "Infinity"]}
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


def test_what_has_ended_stays_as_it_is(store):
    job_id = store.create(JOB)
    store.finish(job_id, failure={"code": "x", "detail": "y"})
    before = store.get(job_id)
    store.finish(job_id, result={})
    store.progress(job_id, {"step": 9})
    assert store.get(job_id) == before
    assert (before["state"], before["failure"]) == ("failed", {"code": "x", "detail": "y"})


def test_only_what_has_ended_is_deleted(store):
    job_id = store.create(JOB)
    assert store.delete(job_id) is False
    store.finish(job_id, result={})
    assert store.delete(job_id) is True
    assert store.delete(job_id) is False
    assert store.get(job_id) is None


def test_pages(store):
    ids = [store.create(JOB) for _ in range(5)]
    first = store.page(2)
    rest = store.page(10, before=first[-1]["seq"])
    assert [job["id"] for job in first + rest] == ids[::-1]
    assert "spec" not in first[0]


def test_numbers_of_deleted_jobs_are_not_given_again(store):
    job_id = store.create(JOB)
    number = store.page(1)[0]["seq"]
    store.finish(job_id, result={})
    store.delete(job_id)
    store.create(JOB)
    assert store.page(1)[0]["seq"] > number


def test_jobs_of_a_dead_server_become_failed(store):
    running, done = store.create(JOB), store.create(JOB)
    store.finish(done, result={})
    assert store.fail_abandoned() == 1
    assert store.get(running)["failure"]["code"] == "server-stopped"
    assert store.get(running)["finished_at"]
    assert store.get(done)["state"] == "succeeded"
    assert store.fail_abandoned() == 0


def test_jobs_of_a_dead_process_become_failed(store):
    job_id = store.create(JOB)
    assert store.fail_abandoned(os.getpid() + 1) == 0
    assert store.get(job_id)["state"] == "running"
    assert store.fail_abandoned(os.getpid()) == 1
    assert store.get(job_id)["failure"]["code"] == "worker-died"


@pytest.fixture
def locked(tmp_path):
    """Return a store with little patience, and a function that locks its database or frees it."""
    store = Store(tmp_path, patience=0.01)
    writer = sqlite3.connect(tmp_path / "chainrule.sqlite3", isolation_level=None)
    yield store, writer.execute
    writer.close()
    store.close()


def test_progress_that_cannot_be_recorded_stops_nothing(locked, caplog):
    store, execute = locked
    job_id = store.create(JOB)
    execute("BEGIN IMMEDIATE")
    store.progress(job_id, {"step": 1})
    assert job_id in caplog.text
    assert store.get(job_id)["progress"] is None


@pytest.mark.parametrize("ending", [{"result": {"loss_history": [1.0]}}, {"failure": {"code": "x", "detail": "y"}}])
def test_an_end_that_cannot_be_recorded_is_told_and_recorded_later(locked, caplog, ending):
    store, execute = locked
    job_id = store.create(JOB)
    other = Store(store.folder)
    other.check()
    execute("BEGIN IMMEDIATE")
    store.finish(job_id, **ending)
    assert job_id in caplog.text
    told = store.get(job_id)
    assert told["state"] != "running"
    assert told["result"] == ending.get("result")
    assert [job["state"] for job in store.page(1)] == [told["state"]]
    assert "result" not in store.page(1)[0]
    assert other.get(job_id)["state"] == "running"
    execute("ROLLBACK")
    store.create(JOB)
    assert other.get(job_id) == told == store.get(job_id)
    other.close()


def test_an_end_that_nothing_can_record_holds_up_nothing_else(store):
    job_id = store.create(JOB)
    with pytest.raises(StatementError):
        store.finish(job_id, result=object())
    store.finish(job_id, failure={"code": "x", "detail": "y"})
    assert store.get(job_id)["state"] == "failed"


def test_many_threads(store):
    def work():
        for _ in range(10):
            store.finish(store.create(JOB), result={"ok": True})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    page = store.page(100)
    assert len({job["id"] for job in page}) == 40
    assert {job["state"] for job in page} == {"succeeded"}


def test_a_file_outlives_its_store(tmp_path):
    first = Store(tmp_path)
    job_id = first.create(JOB)
    first.close()
    second = Store(tmp_path)
    assert second.get(job_id)["spec"] == JOB["spec"]
    second.check()
    second.close()


def test_a_power_cut_loses_nothing(tmp_path):
    store = Store(tmp_path)
    store.create(JOB)
    with store._transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_readers_do_not_wait_for_a_writer(tmp_path):
    store = Store(tmp_path)
    job_id = store.create(JOB)
    writer = sqlite3.connect(tmp_path / "chainrule.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert store.get(job_id)["state"] == "running"
    store.check()
    writer.execute("ROLLBACK")
    writer.close()
    store.close()


def run(script, folder, *arguments):
    """Run a script in a process of its own: a test must not fork one that has threads."""
    code = f"import os, signal, sys\nfrom pathlib import Path\nfrom chainrule_service.store import Store\n{script}"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(folder), *arguments]
    return subprocess.run(command, env=environ, check=False, timeout=60).returncode


def test_a_child_process_opens_its_own_connection(tmp_path):
    """A store that was used before a fork works in parent and child."""
    store = Store(tmp_path)
    first, second = store.create(JOB), store.create(JOB)
    script = """
store = Store(Path(sys.argv[1]))
store.check()
child = os.fork()
store.finish(sys.argv[2] if child else sys.argv[3], result={"by": "parent" if child else "child"})
if not child:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(script, tmp_path, first, second) == 0
    assert store.get(first)["result"] == {"by": "parent"}
    assert store.get(second)["result"] == {"by": "child"}
    store.close()


def test_a_writer_that_dies_in_the_middle_leaves_the_table_whole(tmp_path):
    store = Store(tmp_path)
    job_id = store.create(JOB)
    script = """
with Store(Path(sys.argv[1]))._transaction() as connection:
    connection.exec_driver_sql("UPDATE jobs SET state = 'broken'")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(script, tmp_path) == -signal.SIGKILL
    assert store.get(job_id)["state"] == "running"
    store.finish(job_id, result={})
    assert store.get(job_id)["state"] == "succeeded"
    store.close()


def test_a_file_that_is_gone_is_noticed(tmp_path):
    """SQLite would go on with it, and all would be lost with the process."""
    store = Store(tmp_path)
    job_id = store.create(JOB)
    for path in tmp_path.iterdir():
        path.rename(tmp_path.parent / path.name)
    for use in (store.check, lambda: store.create(JOB), lambda: store.get(job_id)):
        with pytest.raises(OperationalError, match="deleted or replaced"):
            use()
    (tmp_path / "chainrule.sqlite3").write_bytes(b"")
    with pytest.raises(OperationalError, match="deleted or replaced"):
        store.check()
    store.close()
    store.check()
    store.close()
