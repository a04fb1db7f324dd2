"""What happens to jobs when processes die, stand still or are told to end: real processes, killed for real."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace

import pytest
import sqlalchemy as sql
from tests.service.databases import postgresql
from tests.service.processes import children
from tests.service.queued import (
    ROOMY_ENVIRONMENT,
    check_exact,
    ended,
    long_network,
    network,
    open_store,
    settings_for,
    submit,
    undisturbed,
    until,
    worker_of,
)
from tests.service.roads import Road
from tests.service.servers import ENVIRON, SCRIPT, Server

from chainrule_service import workers
from chainrule_service.supervisor import REPORT_SECONDS, cause_of_death

#: `chainrule worker`, in a process that the test can tell from the job workers that it starts.
WORKERS = "import sys; from chainrule.cli import main; sys.exit(main(['worker', *sys.argv[1:]]))"


@contextmanager
def job_workers(folder, number=1, *, before="", **environment):
    """Run `chainrule worker` after some code, and give its process; at the end of the block it is told to, and ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + WORKERS, "--data", str(folder), "--job-workers", str(number)],
        env=ENVIRON | ROOMY_ENVIRONMENT | environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, process.errors = process.communicate(timeout=60)
        assert process.returncode == 0, process.errors
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def store(tmp_path):
    with closing(open_store(settings_for(tmp_path))) as store:
        store.check()
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def queue(request, tmp_path):
    """A jobs table, and the environment of the workers on it."""
    with ExitStack() as held:
        url = held.enter_context(postgresql()) if request.param == "postgresql" else None
        store = held.enter_context(closing(open_store(replace(settings_for(tmp_path), database_url=url))))
        store.database.upgrade()
        yield store, {} if url is None else {"CHAINRULE_DATABASE_URL": url}


def step_of(store, job_id):
    job = store.get(job_id, brief=True)
    return job["progress"]["step"] if job["progress"] else 0


def begun(store, job_id, after=0):
    """Wait for progress, and return the step."""
    return until(lambda: max(step_of(store, job_id) - after, 0), "the job comes forward") + after


# ------------------------------------------------------------------------------------------------- workers that die


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_goes_on_at_once(tmp_path, queue):
    """In half a second it is another's; its history is exact, its bits are those of an undisturbed run."""
    (store, environment), spec = queue, long_network(3)
    with job_workers(tmp_path, 2, **environment) as process:
        job_id = submit(store, spec)
        begun(store, job_id)
        killed = worker_of(store, job_id)
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: store.get(job_id, brief=True)["attempts"] == 2, "another has it")
        assert time.monotonic() - began < 0.5
        job = ended(store, job_id)
    check_exact(store, job, undisturbed(spec))
    assert job["attempts"] == 2
    assert "was killed by SIGKILL" in process.errors


@pytest.mark.slow
def test_the_only_worker_is_started_anew(tmp_path, store):
    spec = long_network(2)
    with job_workers(tmp_path, 1):
        job_id = submit(store, spec)
        begun(store, job_id)
        killed = worker_of(store, job_id)
        os.kill(killed, signal.SIGKILL)
        assert until(lambda: other_than(worker_of(store, job_id), killed), "a new process has it") != killed
        check_exact(store, ended(store, job_id), undisturbed(spec))


def other_than(pid, former):
    return pid if pid != former else None


@pytest.mark.slow
def test_a_job_that_kills_its_worker_three_times_is_failed(tmp_path, store):
    with job_workers(tmp_path, 1, CHAINRULE_ENGINE="python"):
        job_id = submit(store, wide_evaluation(400, 20_000), "evaluation")  # never comes forward
        killed = 0
        for _ in range(3):
            killed = until(lambda: other_than(worker_of(store, job_id), killed), "a new process has it")  # noqa: B023  # called before the loop goes on
            os.kill(killed, signal.SIGSEGV)
        job = ended(store, job_id)
    assert (job["state"], job["attempts"]) == ("failed", 3)
    assert (job["failure"]["code"], job["failure"]["fault"]) == ("worker-lost", "service")
    assert "was killed by SIGSEGV" in job["failure"]["detail"]


@pytest.mark.slow
def test_a_worker_that_stood_still_past_its_lease_writes_nothing(tmp_path, store):
    spec = long_network(5)
    with job_workers(tmp_path, 2, CHAINRULE_LEASE_SECONDS="1") as process:
        job_id = submit(store, spec)
        begun(store, job_id)
        stopped = worker_of(store, job_id)
        until(lambda: stops_outside_of_a_transaction(stopped, tmp_path), "it stands still")
        until(lambda: store.get(job_id, brief=True)["attempts"] == 2, "another has it")
        os.kill(stopped, signal.SIGCONT)
        job = ended(store, job_id)
        check_exact(store, job, undisturbed(spec))
        assert job["attempts"] == 2
        # It lives, and takes other jobs.
        os.kill(stopped, 0)
    assert f"attempt 1 at job {job_id} has lost it" in process.errors


def stops_outside_of_a_transaction(pid, folder):
    """Stop a process, unless it is just writing: it would go on holding the lock of the file, against everybody."""
    os.kill(pid, signal.SIGSTOP)
    with closing(sqlite3.connect(folder / "chainrule.sqlite3", timeout=0.1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            return False
    return True


# ---------------------------------------------------------------------------------------------- the end, and the start


@pytest.mark.slow
def test_everything_is_told_to_end_during_20_jobs_and_started_anew(tmp_path, queue):
    store, environment = queue
    specs = [network(200 * (number + 1) if number % 2 else 40_000, batch_seed=number) for number in range(20)]
    with job_workers(tmp_path, 2, **environment):
        ids = [submit(store, spec) for spec in specs]
        until(lambda: any(store.get(job_id, brief=True)["state"] == "succeeded" for job_id in ids), "one has ended")
    states = store.counts().states
    assert states["running"] == 0
    assert states["queued"] > 0
    with job_workers(tmp_path, 2, **environment):
        for job_id, spec in zip(ids, specs, strict=True):
            job = ended(store, job_id)
            check_exact(store, job, undisturbed(spec))
            assert job["attempts"] == 1  # to give a job back is no failure of it


@pytest.mark.slow
def test_the_supervisor_is_killed_and_started_anew_at_once(tmp_path, store):
    """The new server gets the address and the folder, whatever the old one's processes still do."""
    spec = long_network(4)
    with Server(tmp_path, environment=ROOMY_ENVIRONMENT, job_workers=2) as server:
        job_id = submit(store, spec)
        begun(store, job_id)
        old = worker_of(store, job_id)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        with Server(tmp_path, environment=ROOMY_ENVIRONMENT, job_workers=2, port=server.port) as anew:
            assert anew.call("/livez") == {"status": "ok"}
            job = ended(store, job_id)
            check_exact(store, job, undisturbed(spec))
            until(lambda: not is_alive(old), "the old worker has ended")
            assert anew.stop(signal.SIGTERM) == 0


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_gunicorn_is_killed_and_started_anew(tmp_path):
    """The address stays taken meanwhile: connections wait, and none is refused."""
    with Server(tmp_path, environment=ROOMY_ENVIRONMENT, job_workers=1) as server:
        assert server.call("/livez") == {"status": "ok"}
        masters = [pid for pid in children(server.process.pid) if children(pid)]
        assert len(masters) == 1
        os.kill(masters[0], signal.SIGKILL)
        for _ in range(20):
            assert server.call("/livez") == {"status": "ok"}
        until(lambda: any(children(pid) for pid in children(server.process.pid)), "a new gunicorn has workers")
        assert server.call("/livez") == {"status": "ok"}
        assert server.stop(signal.SIGTERM) == 0
    assert "gunicorn (process" in server.errors


@pytest.mark.slow
def test_a_hangup_replaces_every_process_but_the_supervisor(tmp_path, store):
    spec = long_network(2)
    with Server(tmp_path, environment=ROOMY_ENVIRONMENT, job_workers=1) as server:
        job_id = submit(store, spec)
        begun(store, job_id)
        old = worker_of(store, job_id)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: not is_alive(old), "the job worker has ended")
        assert server.call("/livez") == {"status": "ok"}
        job = ended(store, job_id)
        check_exact(store, job, undisturbed(spec))
        assert job["attempts"] == 1
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.slow
def test_once_all_have_ended_nothing_is_waited_for(tmp_path, store):
    """With reports this rare it would be waited for them, and for the moment when children are killed."""
    rare = "from chainrule_service import supervisor\nsupervisor.REPORT_SECONDS = 3600.0\n"
    with job_workers(tmp_path, before=rare):
        ended(store, submit(store, network(5)))


@pytest.mark.slow
def test_a_database_that_falls_silent_keeps_nobody_from_ending():
    """Nothing tells that it will never answer: the connections stand, and what is sent arrives somewhere."""
    with postgresql() as url, closing(open_store(replace(settings_for(None), database_url=url))) as store:
        store.database.upgrade()
        there = sql.make_url(url)
        road = Road(there.host, there.port or 5432)
        through = there.set(host="127.0.0.1", port=road.port).render_as_string(hide_password=False)
        try:
            with job_workers("nowhere", 0, CHAINRULE_DATABASE_URL=through) as process:
                ended(store, submit(store, network(5), deadline_seconds=0))  # it is swept
                road.fall_silent()
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=30) == 0
        finally:
            road.cut()


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_not_counted(tmp_path, store):
    broken = SCRIPT.replace(
        "from chainrule_service.settings",
        "from chainrule_service import serving\nserving.work = lambda settings: 1 / 0\nfrom chainrule_service.settings",
    )
    with Server(tmp_path, broken) as server:
        until(lambda: workers.alive(store.database), "the server is heard of")
        until(lambda: not workers.alive(store.database), "none of them stays", 10)
    assert "ZeroDivisionError" in server.errors


@pytest.mark.slow
def test_one_that_dies_once_counts_on(tmp_path, store):
    with Server(tmp_path, job_workers=2) as server:
        until(lambda: workers.alive(store.database) == 2, "both are heard of")
        os.kill(worker_of(store, submit(store, long_network(3))), signal.SIGKILL)
        until(lambda: "was killed" in server.logged(), "it is noticed")
        time.sleep(3 * REPORT_SECONDS / 2)  # for one report at least
        assert workers.alive(store.database) == 2


# ------------------------------------------------------------------------------------------------- cancel, and limits


@pytest.mark.slow
def test_a_cancel_takes_effect_within_half_a_second(tmp_path, store):
    with job_workers(tmp_path, 1):
        job_id = submit(store, long_network(60))
        begun(store, job_id)
        began = time.monotonic()
        store.cancel(job_id)
        job = ended(store, job_id)
        assert time.monotonic() - began < 0.5
    assert job["state"] == "cancelled"
    assert len(store.history(job_id).losses) == job["progress"]["step"]


def wide_evaluation(nodes, points):
    """Return a specification with so many numbers in each of so many nodes, half of them slow in plain Python."""
    program = "\n".join(f"n{i + 1} = (n{i} ** 0.9) ** 0.9 + x" for i in range(nodes // 2))
    return {"graph": {"inputs": {"n0": 0.5, "x": [p / points for p in range(points)]}, "program": program}}


@pytest.mark.slow
def test_more_memory_than_a_job_may_have_is_its_failure(tmp_path, store):
    with job_workers(tmp_path, 1, CHAINRULE_LIMIT_JOB_MEMORY=str(40 << 20), CHAINRULE_ENGINE="python"):
        too_large = submit(store, wide_evaluation(40, 25_000), "evaluation")
        job = ended(store, too_large)
        assert (job["state"], job["failure"]["code"], job["attempts"]) == ("failed", "out-of-memory", 1)
        # The process has survived it, and can do with less.
        assert ended(store, submit(store, network(5)))["state"] == "succeeded"


@pytest.mark.slow
def test_a_chunk_that_takes_longer_than_a_job_may_is_ended_from_outside(tmp_path, store):
    """Plain Python takes much longer than a second for this, and looks up nowhere on the way.

    A fast machine comes to a gigabyte before it is ended, which by default is all that a job may have.
    """
    environment = {"CHAINRULE_LIMIT_JOB_SECONDS": "1", "CHAINRULE_ENGINE": "python"}
    environment["CHAINRULE_LIMIT_JOB_MEMORY"] = str(4 << 30)
    with job_workers(tmp_path, 1, **environment):
        job = ended(store, submit(store, wide_evaluation(490, 20_000), "evaluation"))
        assert (job["state"], job["failure"]["code"], job["attempts"]) == ("failed", "time-limit", 1)
        assert ended(store, submit(store, network(5)))["state"] == "succeeded"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit code 0"),
        (3 << 8, "ended with exit code 3"),
        (signal.SIGKILL, "was killed by SIGKILL, perhaps for want of memory"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
    ],
)
def test_how_a_process_died_is_said_in_words(status, words):
    assert cause_of_death(status) == words
