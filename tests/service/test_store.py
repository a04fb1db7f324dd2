"""The jobs table: the same tests for a memory, a file of SQLite, and PostgreSQL."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import struct
import threading
import time
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.service.databases import output, postgresql, start

from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import CHECKPOINTS, JOBS, PROGRESS, SPECS, TERMINAL, LeaseLost, Store, worker_name

JOB = {"type": "training", "spec": {"b": 1, "a": [2.5]}, "spec_digest": "sha256:0", "engine": {"version": "0"}}
LEASE = 60.0
KINDS = ("memory", "file", "postgresql")


@pytest.fixture(scope="module")
def server_url():
    with postgresql() as url:
        database = Database(url)
        database.upgrade()
        database.close()
        yield url


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    """Return the URL of each kind of database, empty."""
    if request.param == "postgresql":
        found = request.getfixturevalue("server_url")
        database = Database(found)
        with database.transaction() as connection:
            connection.execute(sql.delete(JOBS))
        database.close()
        return found
    return None if request.param == "memory" else f"sqlite:///{tmp_path}/new/jobs.sqlite3"


#: What several processes can share.
shared = pytest.mark.parametrize("url", KINDS[1:], indirect=True)


@pytest.fixture
def make(url):
    """Return a function that makes stores on the same database, with other limits or hooks."""
    made = []
    database = Database(url)

    def make(limits=None, **options):
        made.append(Store(database, Settings(limits=limits or {}), **options))
        return made[-1]

    yield make
    database.close()


@pytest.fixture
def store(make):
    return make()


def queued(store, **more):
    return store.submit(JOB | more).job["id"]


def rows(store, table, job_id):
    with store.database.transaction(reads=True) as connection:
        key = table.c.id if table is JOBS else table.c.job_id
        return connection.execute(sql.select(table).where(key == job_id)).all()


def advance(store, claim, step, losses, **more):
    values = {"state": {"step": step}, "progress": {"step": step}, "metrics": {}} | more
    return store.checkpoint(claim, LEASE, step=step, losses=losses, **values)


# ------------------------------------------------------------------------------------------------- submitting


def test_a_job_that_is_submitted_is_queued(store):
    submitted = store.submit(JOB | {"labels": {"course": "ml"}, "priority": 3, "request_id": "r", "cost": 7})
    assert (submitted.new, submitted.claim) == (True, None)
    job = store.get(submitted.job["id"])
    assert job == submitted.job
    assert {name: job[name] for name in JOB} == JOB
    assert list(job["spec"]) == ["b", "a"]
    assert (job["state"], job["attempts"], job["labels"], job["priority"]) == ("queued", 0, {"course": "ml"}, 3)
    assert (job["started_at"], job["finished_at"], job["result"], job["failure"]) == (None, None, None, None)


def test_a_job_that_is_submitted_claimed_runs(store):
    job, new, claim = store.submit(JOB, claimed_by=worker_name(), lease=LEASE)
    assert new
    assert (job["state"], job["attempts"], job["inline"]) == ("running", 1, True)
    assert job["worker"].endswith(f":{os.getpid()}")
    assert (claim.id, claim.spec, claim.attempt, claim.checkpoint) == (job["id"], JOB["spec"], 1, None)
    assert store.claim("other:1", LEASE) is None
    store.finish(claim, result={})
    assert store.get(claim.id)["created_at"] <= job["started_at"] <= store.get(claim.id)["finished_at"]


def test_one_idempotency_key_makes_one_job_for_each_owner(store):
    first = store.submit(JOB, idempotency=("key", "hash"))
    again = store.submit(JOB | {"priority": 9}, idempotency=("key", "other"))
    assert (first.new, again.new, again.claim) == (True, False, None)
    assert again.job == first.job
    assert again.job["body_sha256"] == "hash"
    assert store.submit(JOB | {"owner": "b"}, idempotency=("key", "hash")).new
    assert store.submit(JOB, idempotency=("another", "hash")).new


SUBMITTER = """
import sys
from chainrule_service.database import Database
from chainrule_service.store import Store
store = Store(Database(sys.argv[1]))
store.check()
print("ready", flush=True)
sys.stdin.readline()
job = {"type": "training", "spec": {}, "spec_digest": "", "engine": {}}
for number in range(20):
    submitted = store.submit(job, idempotency=(f"key {number}", "hash"))
    print(submitted.new, submitted.job["id"])
store.close()
"""


@shared
@pytest.mark.slow
def test_one_idempotency_key_makes_one_job_from_several_processes(url, store):
    processes = [start(SUBMITTER, url) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [line.split() for process in processes for line in output(process).splitlines()]
    assert len(answers) == 80
    assert sum(new == "True" for new, _ in answers) == 20
    assert {job["id"] for job in store.page(100)} == {job_id for _, job_id in answers}


# --------------------------------------------------------------------------------------------------- claiming


def test_a_job_from_start_to_end(store):
    job_id = queued(store, owner="a", request_id="r")
    claim = store.claim("host:1", LEASE)
    assert (claim.id, claim.type, claim.spec, claim.step, claim.attempt) == (job_id, "training", JOB["spec"], 0, 1)
    assert (claim.owner, claim.request_id, claim.worker, claim.expires_in) == ("a", "r", "host:1", None)
    assert store.claim("host:2", LEASE) is None
    assert store.get(job_id)["state"] == "running"
    assert store.heartbeat(claim, LEASE) is False
    assert advance(store, claim, 2, [1.0, 0.5]) is False
    assert store.get(job_id)["progress"] == {"step": 2}
    store.finish(
        claim, result={"loss_history": [1.0, math.nan, -math.inf]}, progress={"step": 3}, step=3, losses=[0.25]
    )
    job = store.get(job_id)
    assert (job["state"], job["worker"], job["token"], job["failure"]) == ("succeeded", None, None, None)
    assert job["result"] == {"loss_history": [1.0, "NaN", "-Infinity"]}
    assert job["progress"] == {"step": 3}
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert list(store.history(job_id).losses) == [1.0, 0.5, 0.25]
    assert not rows(store, CHECKPOINTS, job_id)


def test_claims_go_by_priority_then_fairly_by_owner_then_by_age(store):
    """One owner's many jobs do not keep others waiting, whenever those come."""
    names = {}

    def submit(name, owner, priority=0):
        names[queued(store, owner=owner, priority=priority)] = name

    def claimed(count):
        return [names[store.claim("host:1", LEASE).id] for _ in range(count)]

    for number in range(6):
        submit(f"a{number}", "a")
    assert claimed(2) == ["a0", "a1"]
    for number in range(2):
        submit(f"b{number}", "b")
    submit("c0", "c", priority=-1)
    submit("a6", "a", priority=1)
    assert claimed(8) == ["a6", "a2", "b0", "a3", "b1", "a4", "a5", "c0"]
    assert store.claim("host:1", LEASE) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("aaab"), min_size=1, max_size=25), st.data())
def test_nobody_is_overtaken_twice_by_the_same_owner(owners, data):
    """While a job waits that is its owner's next, another owner is served at most twice."""
    database = Database(None)
    store = Store(database)
    waiting: dict[str, list[str]] = {"a": [], "b": []}
    overtaken = {"a": 0, "b": 0}
    for owner in owners:
        waiting[owner].append(queued(store, owner=owner))
        if data.draw(st.booleans()):
            claim = store.claim("host:1", LEASE)
            assert waiting[claim.owner].pop(0) == claim.id
            other = "b" if claim.owner == "a" else "a"
            overtaken[claim.owner] = 0
            overtaken[other] = overtaken[other] + 1 if waiting[other] else 0
            assert overtaken[other] <= 2
    database.close()


def test_a_job_can_be_claimed_by_its_id(store):
    first, second = queued(store), queued(store)
    claim = store.claim("host:1", LEASE, job_id=second)
    assert claim.id == second
    assert store.claim("host:2", LEASE, job_id=second) is None
    assert store.claim("host:2", LEASE, job_id="job_none") is None
    assert store.claim("host:2", LEASE).id == first


def test_an_owner_has_so_many_jobs_running(make):
    store = make({"concurrent_jobs": 2})
    for _ in range(4):
        queued(store, owner="a")
    generous = queued(store, owner="b", concurrent_jobs=1)
    queued(store, owner="b", concurrent_jobs=1)
    claims = [store.claim("host:1", LEASE) for _ in range(3)]
    assert sorted(claim.owner for claim in claims) == ["a", "a", "b"]
    assert store.claim("host:1", LEASE) is None
    assert store.claim("host:1", LEASE, job_id=store.page(1, state="queued")[0]["id"]) is None
    store.finish(next(claim for claim in claims if claim.owner == "a"))
    assert store.claim("host:1", LEASE).owner == "a"
    store.finish(next(claim for claim in claims if claim.id == generous))
    assert store.claim("host:1", LEASE).owner == "b"


def test_jobs_that_run_in_requests_do_not_count_for_that(make):
    store = make({"concurrent_jobs": 1})
    store.submit(JOB, claimed_by="web:1", lease=LEASE)
    queued(store)
    assert store.claim("host:1", LEASE) is not None


CLAIMER = """
import os, sys, time
from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import JOBS, Store
import sqlalchemy as sql
store = Store(Database(sys.argv[1]), Settings(limits={"concurrent_jobs": 2}))
store.check()
print("ready", flush=True)
sys.stdin.readline()
running = sql.select(sql.func.count()).where(JOBS.c.state == "running").group_by(JOBS.c.owner)
idle = 0
while idle < 20:
    claim = store.claim(f"host:{os.getpid()}", 60)
    with store.database.transaction(reads=True) as connection:
        most = max(connection.scalars(running).all(), default=0)
    if claim is None:
        idle += 1
        time.sleep(0.005)
        continue
    idle = 0
    print(claim.id, most)
    store.finish(claim, result={})
store.close()
"""


@pytest.mark.slow
@shared
def test_the_limit_of_an_owner_holds_among_processes(url, store):
    for _ in range(80):
        queued(store, owner="a")
        queued(store, owner="b")
    processes = [start(CLAIMER, url) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [line.split() for process in processes for line in output(process).splitlines()]
    assert len(lines) == len({job_id for job_id, _ in lines}) == 160, "each job runs once"
    assert max(int(most) for _, most in lines) == 2
    assert store.counts().states["succeeded"] == 160


# ------------------------------------------------------------------------------------------------------ leases


def test_a_lease_that_has_ended_gives_the_job_to_another(store):
    job_id = queued(store)
    zombie = store.claim("host:1", LEASE)
    advance(store, zombie, 2, [1.0, 0.5], state={"at": 2})
    assert store.expire_worker("host:1", cause="killed by SIGKILL") == [job_id]
    claim = store.claim("host:2", LEASE)
    assert (claim.id, claim.step, claim.attempt, claim.checkpoint) == (job_id, 2, 2, {"at": 2})
    before = [rows(store, table, job_id) for table in (JOBS, CHECKPOINTS, PROGRESS)]
    for use in (
        lambda: store.heartbeat(zombie, LEASE),
        lambda: advance(store, zombie, 4, [9.0, 9.0]),
        lambda: advance(store, zombie, 2, [9.0, 9.0]),
        lambda: store.finish(zombie, result={"by": "the zombie"}, step=3, losses=[9.0]),
        lambda: store.finish(zombie, state="failed", failure={"code": "x", "detail": "y"}),
        lambda: store.release(zombie),
    ):
        with pytest.raises(LeaseLost):
            use()
        assert [rows(store, table, job_id) for table in (JOBS, CHECKPOINTS, PROGRESS)] == before
    store.finish(claim, result={"by": "the second"})
    assert store.get(job_id)["result"] == {"by": "the second"}


def test_a_short_lease_ends_by_itself_unless_it_is_renewed(store):
    queued(store)
    claim = store.claim("host:1", 0.2)
    store.heartbeat(claim, LEASE)
    time.sleep(0.3)
    assert store.claim("host:2", LEASE) is None
    store.heartbeat(claim, 0.01)
    deadline = time.monotonic() + 10
    while (second := store.claim("host:2", LEASE)) is None:
        assert time.monotonic() < deadline
    assert second.attempt == 2


def test_a_worker_whose_lease_ended_unnoticed_goes_on(store):
    queued(store)
    claim = store.claim("host:1", 0)
    assert store.heartbeat(claim, LEASE) is False
    assert store.claim("host:2", LEASE) is None


def test_a_job_that_is_given_back_continues_and_the_attempt_does_not_count(store):
    job_id = queued(store)
    for _ in range(5):
        claim = store.claim("host:1", LEASE)
        step = claim.step + 1
        advance(store, claim, step, [float(step)])
        store.release(claim)
        assert store.get(job_id)["state"] == "queued"
    claim = store.claim("host:1", LEASE)
    assert (claim.attempt, claim.step) == (1, 5)
    assert list(store.history(job_id).losses) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_job_that_ends_its_worker_each_time_has_failed(make):
    store = make({"attempts": 3})
    job_id = queued(store)
    for attempt in (1, 2, 3):
        claim = store.claim("host:1", LEASE)
        assert claim.attempt == attempt
        store.sweep()
        assert store.get(job_id)["state"] == "running"
        store.expire_worker("host:1", cause="killed by SIGKILL")
    assert store.claim("host:2", LEASE) is None
    store.sweep()
    job = store.get(job_id)
    assert (job["state"], job["failure"]["code"], job["failure"]["fault"]) == ("failed", "worker-lost", "service")
    assert "3 times" in job["failure"]["detail"]
    assert "SIGKILL" in job["failure"]["detail"]


def test_a_job_that_waits_fails_when_a_lowered_limit_leaves_it_no_attempts(make):
    store = make({"attempts": 3})
    job_id = queued(store)
    for _ in range(2):
        store.claim("host:1", LEASE)
        store.expire_worker("host:1", cause="killed by SIGKILL")
    store.release(store.claim("host:1", LEASE))
    lower = make({"attempts": 2})
    store.sweep()
    assert store.get(job_id)["state"] == "queued"
    assert lower.claim("host:2", LEASE) is None
    lower.sweep()
    assert (lower.get(job_id)["state"], lower.get(job_id)["failure"]["code"]) == ("failed", "worker-lost")


@pytest.mark.parametrize("cause", ["", "ended with code 1", "was killed by SIGKILL, perhaps for want of memory"])
def test_a_smaller_job_is_advised_where_memory_may_have_been_the_cause(make, cause):
    store = make({"attempts": 1})
    job_id = queued(store)
    store.claim("host:1", LEASE)
    store.expire_worker("host:1", cause=cause)
    store.sweep()
    detail = store.get(job_id)["failure"]["detail"]
    assert cause in detail
    assert ("smaller" in detail) == ("memory" in cause)


def test_a_job_that_comes_forward_between_the_deaths_of_its_workers_goes_on(make):
    """Three deaths in a long life are bad luck; three at the same step are its own doing."""
    store = make({"attempts": 3})
    job_id = queued(store)
    for attempt in range(1, 7):
        claim = store.claim("host:1", LEASE)
        assert claim.attempt == attempt
        if attempt <= 4:
            advance(store, claim, attempt, [float(attempt)])
        store.heartbeat(claim, LEASE)
        store.expire_worker("host:1")
        assert store.get(job_id)["state"] == "running"
        store.sweep()
    assert store.claim("host:2", LEASE) is None
    job = store.get(job_id)
    assert (job["state"], job["failure"]["code"], job["attempts"]) == ("failed", "worker-lost", 6)
    assert "3 times" in job["failure"]["detail"]


def test_a_checkpoint_that_brings_no_step_does_not_count_as_one(make):
    store = make({"attempts": 2})
    job_id = queued(store)
    for _ in range(2):
        claim = store.claim("host:1", LEASE)
        advance(store, claim, 0, [])
        store.expire_worker("host:1")
    store.sweep()
    assert store.get(job_id)["failure"]["code"] == "worker-lost"


def test_a_worker_s_job_can_fail_at_once(store):
    job_id, other = queued(store), queued(store)
    claim = store.claim("host:1", LEASE)
    store.claim("host:2", LEASE)
    failure = {"code": "time-limit", "detail": "too long"}
    assert store.expire_worker("host:1", failure=failure) == [job_id]
    assert (store.get(job_id)["state"], store.get(job_id)["failure"]) == ("failed", failure)
    assert store.get(other)["state"] == "running"
    with pytest.raises(LeaseLost):
        store.heartbeat(claim, LEASE)


# -------------------------------------------------------------------------------------------------- checkpoints

numbers = st.floats(width=64, allow_nan=True, allow_infinity=True)


def bits(values):
    return struct.pack(f"<{len(values)}d", *values)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=4), after=st.integers(-1, 9))
def test_numbers_come_back_with_the_same_bits(store, chunks, after):
    job_id = queued(store)
    claim = store.claim("host:1", LEASE, job_id=job_id)
    made: list[float] = []
    for chunk in chunks:
        made += chunk
        metrics = {"accuracy": chunk[::-1], "margin": chunk}
        advance(store, claim, len(made), chunk, state={"parameters": made, "step": len(made)}, metrics=metrics)
    store.expire_worker("host:1")
    again = store.claim("host:2", LEASE, job_id=job_id)
    assert bits(again.checkpoint["parameters"]) == bits(made)
    assert again.step == again.checkpoint["step"] == len(made)
    history = store.history(job_id, after, 3)
    assert history.first == after + 1
    assert bits(history.losses) == bits(made[after + 1 :][:3])
    whole = store.history(job_id)
    assert bits(whole.losses) == bits(whole.metrics["margin"]) == bits(made)
    assert bits(whole.metrics["accuracy"]) == bits([x for chunk in chunks for x in chunk[::-1]])
    store.finish(again)


def test_a_checkpoint_can_be_repeated(store):
    """A connection that breaks while a transaction is committed does not tell whether it was."""
    job_id = queued(store)
    claim = store.claim("host:1", LEASE)
    for _ in range(2):
        assert advance(store, claim, 2, [1.0, 0.5]) is False
    assert list(store.history(job_id).losses) == [1.0, 0.5]
    with pytest.raises(LeaseLost):
        advance(store, claim, 9, [0.1])
    advance(store, claim, 3, [0.1])
    assert list(store.history(job_id).losses) == [1.0, 0.5, 0.1]


@pytest.mark.parametrize("by", ["checkpoint", "finish"])
def test_steps_that_were_recorded_unnoticed_are_not_recorded_again(store, by):
    """What was told as not recorded comes again, with the steps that were made since."""
    job_id = queued(store)
    claim = store.claim("host:1", LEASE)
    advance(store, claim, 1, [1.0], metrics={"margin": [3.0]})
    advance(store, claim, 3, [0.5, 0.25], metrics={"margin": [2.0, 1.0]})
    merged = {"step": 4, "losses": [0.5, 0.25, 0.125], "metrics": {"margin": [2.0, 1.0, 0.0]}}
    if by == "checkpoint":
        assert advance(store, claim, **merged) is False
        assert store.get(job_id)["step"] == 4
    store.finish(claim, result={}, **merged)
    history = store.history(job_id)
    assert (list(history.losses), history.metrics) == ([1.0, 0.5, 0.25, 0.125], {"margin": [3.0, 2.0, 1.0, 0.0]})
    assert store.get(job_id)["state"] == "succeeded"


def test_steps_that_leave_a_gap_are_refused(store):
    queued(store)
    claim = store.claim("host:1", LEASE)
    advance(store, claim, 2, [1.0, 0.5])
    before = [rows(store, table, claim.id) for table in (JOBS, CHECKPOINTS, PROGRESS)]
    for use in (
        lambda: advance(store, claim, 4, [0.1]),
        lambda: advance(store, claim, 1, [1.0]),
        lambda: store.finish(claim, result={}, step=4, losses=[0.1]),
    ):
        with pytest.raises(LeaseLost):
            use()
        assert [rows(store, table, claim.id) for table in (JOBS, CHECKPOINTS, PROGRESS)] == before


@pytest.mark.parametrize("damage", ["flipped", "shorter", "empty", "gone"])
def test_a_damaged_checkpoint_is_noticed(store, caplog, damage):
    job_id = queued(store)
    advance(store, store.claim("host:1", LEASE), 2, [1.0, 0.5])
    (row,) = rows(store, CHECKPOINTS, job_id)
    raw = bytes(row.state)
    damaged = {"flipped": raw[:-1] + bytes([raw[-1] ^ 1]), "shorter": raw[:-1], "empty": b""}.get(damage)
    with store.database.transaction() as connection:
        if damaged is None:
            connection.execute(sql.delete(CHECKPOINTS))
        else:
            connection.execute(sql.update(CHECKPOINTS).values(state=damaged))
    store.expire_worker("host:1")
    claim = store.claim("host:2", LEASE)
    assert (claim.step, claim.checkpoint, claim.spec) == (0, None, JOB["spec"])
    assert job_id in caplog.text
    assert not store.history(job_id).losses
    assert store.get(job_id)["progress"] is None
    advance(store, claim, 1, [1.0])
    assert list(store.history(job_id).losses) == [1.0]


# ---------------------------------------------------------------------------------------------------- stopping


def test_a_job_that_waits_is_cancelled_at_once(store):
    job_id = queued(store)
    assert store.cancel(job_id)["state"] == "cancelled"
    assert store.get(job_id)["finished_at"]
    assert store.claim("host:1", LEASE) is None
    assert store.cancel(job_id)["state"] == "cancelled"
    assert store.cancel("job_none") is None


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_job_that_is_given_back_while_it_is_cancelled_is_cancelled(store):
    """Two transactions that meet in the middle: each statement sees what was committed when it began."""
    job_id = queued(store)
    store.claim("host:1", LEASE)
    cancel = threading.Thread(target=store.cancel, args=(job_id,))
    waiting = sql.text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with store.database.transaction() as connection:
        connection.execute(sql.update(JOBS).values(state="queued", token=None, worker=None, lease=None, heartbeat=None))
        cancel.start()
        deadline = time.monotonic() + 10
        while True:
            with store.database.transaction(reads=True) as other:
                if other.scalar(waiting):
                    break
            assert time.monotonic() < deadline
    cancel.join()
    assert store.get(job_id)["state"] == "cancelled"
    assert store.claim("host:2", LEASE) is None


def test_the_worker_of_a_running_job_sees_that_it_is_to_be_cancelled(store):
    job_id = queued(store)
    claim = store.claim("host:1", LEASE)
    assert store.cancel(job_id)["state"] == "cancelling"
    assert [job["id"] for job in store.page(9, state="cancelling")] == [job_id]
    assert not store.page(9, state="running")
    assert store.heartbeat(claim, LEASE) is True
    assert advance(store, claim, 1, [1.0]) is True
    store.finish(claim, state="cancelled")
    assert store.get(job_id)["state"] == "cancelled"


def test_a_cancelled_job_whose_worker_died_is_not_begun_again(store):
    job_id = queued(store)
    store.claim("host:1", LEASE)
    store.cancel(job_id)
    store.expire_worker("host:1")
    assert store.claim("host:2", LEASE) is None
    store.sweep()
    assert store.get(job_id)["state"] == "cancelled"


def test_what_has_ended_stays_as_it_is(store):
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    store.finish(claim, state="failed", failure={"code": "x", "detail": "y"})
    before = store.get(claim.id)
    with pytest.raises(LeaseLost):
        store.finish(claim, result={})
    store.cancel(claim.id)
    store.expire_worker("host:1", failure={"code": "z", "detail": ""})
    store.sweep()
    assert store.get(claim.id) == before
    assert (before["state"], before["failure"]) == ("failed", {"code": "x", "detail": "y"})


def test_a_deadline_ends_a_job_wherever_it_is(store):
    waiting, running = queued(store, deadline_seconds=0.2), queued(store, deadline_seconds=0.2)
    later = queued(store, deadline_seconds=3600)
    claim = store.claim("host:1", LEASE, job_id=running)
    assert claim.expires_in <= 0.2
    store.sweep()
    assert store.counts().states["expired"] == 0
    time.sleep(0.3)
    assert store.claim("host:1", LEASE, job_id=waiting) is None
    store.sweep()
    assert [store.get(job_id)["state"] for job_id in (waiting, running, later)] == ["expired", "expired", "queued"]
    assert store.get(waiting)["failure"]["code"] == "deadline-passed"
    with pytest.raises(LeaseLost):
        store.heartbeat(claim, LEASE)


def test_jobs_are_deleted_when_they_have_been_kept_long_enough(make):
    store = make({"retention_days": 2})
    ids = [store.submit(JOB, claimed_by="host:1", lease=LEASE).claim for _ in range(3)]
    for claim in ids:
        advance(store, claim, 1, [1.0])
    for claim in ids[:2]:
        store.finish(claim, result={})
    days = {ids[0].id: 2.1, ids[1].id: 1.9}
    with store.database.transaction() as connection:
        for job_id, age in days.items():
            connection.execute(sql.update(JOBS).where(JOBS.c.id == job_id).values(finished=time.time() - age * 86400))
    store.sweep()
    assert [store.get(claim.id) is None for claim in ids] == [True, False, False]
    assert not rows(store, PROGRESS, ids[0].id)
    assert not rows(store, SPECS, ids[0].id)
    assert rows(store, PROGRESS, ids[1].id)


def test_only_what_has_ended_is_deleted(store):
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    waiting = queued(store)
    advance(store, claim, 1, [1.0])
    assert store.delete(claim.id) is False
    assert store.delete(waiting) is False
    store.finish(claim, result={})
    assert store.delete(claim.id, "another") is False
    assert store.delete(claim.id) is True
    assert store.delete(claim.id) is False
    assert store.get(claim.id) is None
    assert not any(rows(store, table, claim.id) for table in (SPECS, PROGRESS, CHECKPOINTS))


def test_the_end_of_every_job_is_told_in_its_transaction(make):
    told = []

    def ended(connection, ids):
        told.extend(ids)
        states = sql.select(JOBS.c.state).where(JOBS.c.id.in_(ids))
        assert set(connection.scalars(states)) <= set(TERMINAL)
        if refuse:
            raise RuntimeError("the hook fails")

    refuse = False
    store = make({"attempts": 1}, on_end=ended)
    finished = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    store.finish(finished, result={})
    cancelled, late = queued(store), queued(store, deadline_seconds=-1)
    store.cancel(cancelled)
    lost = store.submit(JOB, claimed_by="host:1", lease=0).claim
    store.sweep()
    assert told == [finished.id, cancelled, late, lost.id]
    refuse = True
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    with pytest.raises(RuntimeError):
        store.finish(claim, result={})
    assert store.get(claim.id)["state"] == "running"


# ------------------------------------------------------------------------------------------- ends that are owed


@contextmanager
def locked(path):
    """Keep everybody from writing the file of a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield


def test_an_end_that_cannot_be_recorded_ever_holds_up_nothing_else(tmp_path, caplog):
    refused = []

    def ended(connection, ids):
        if refused == ids:
            raise RuntimeError("the hook fails")

    path = tmp_path / "jobs.sqlite3"
    with closing(Store(Database(f"sqlite:///{path}", patience=0.01), on_end=ended)) as store:
        bad, good = (store.submit(JOB, claimed_by="host:1", lease=LEASE).claim for _ in range(2))
        refused.append(bad.id)
        with locked(path):
            store.finish(bad, result={})
            store.finish(good, result={"good": True})
        for _ in range(2):
            assert store.submit(JOB).new
        assert [store.get(claim.id)["state"] for claim in (bad, good)] == ["running", "succeeded"]
        assert store.get(good.id)["result"] == {"good": True}
        assert bad.id in caplog.text
        assert "the hook fails" in caplog.text


@pytest.fixture
def patient(monkeypatch):
    """Nobody but the test brings what is owed."""
    monkeypatch.setattr("chainrule_service.store._OWED_SECONDS", 3600.0)


@pytest.fixture
def owing(tmp_path):
    """Give a store that owes the end of a job to a file that can be written again, the job's id, and the URL."""
    url = f"sqlite:///{tmp_path}/jobs.sqlite3"
    with closing(Store(Database(url, patience=0.01))) as store:
        claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
        with locked(tmp_path / "jobs.sqlite3"):
            store.finish(claim, result={"loss": 1.0})
        yield store, claim.id, url


def test_an_end_that_is_owed_is_recorded_though_nothing_else_is_written(owing):
    _, job_id, url = owing
    with closing(Store(Database(url))) as other:
        deadline = time.monotonic() + 20
        while other.get(job_id)["state"] != "succeeded":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert other.get(job_id)["result"] == {"loss": 1.0}


@pytest.mark.usefixtures("patient")
def test_an_end_that_is_owed_is_recorded_before_the_store_is_closed(owing):
    store, job_id, url = owing
    store.close()
    with closing(Store(Database(url))) as other:
        assert other.get(job_id)["state"] == "succeeded"


@pytest.mark.usefixtures("patient")
def test_an_end_that_is_owed_when_the_store_is_closed_may_be_lost_but_not_silently(owing, tmp_path, caplog):
    store, job_id, url = owing
    caplog.clear()
    with locked(tmp_path / "jobs.sqlite3"):
        store.close()
    assert job_id in caplog.text
    with closing(Store(Database(url))) as other:
        assert other.get(job_id)["state"] == "running"


# ------------------------------------------------------------------------------------------------------ ringing


def test_messages_that_may_be_lost_are_sent_again(store):
    first, second = queued(store), queued(store, priority=1)
    assert store.ring(after=60) == []
    assert store.ring(after=0, most=1) == [second]
    assert store.ring(after=60) == []
    dead = store.claim("host:1", LEASE, job_id=first)
    store.expire_worker("host:1")
    assert store.ring(after=60) == [dead.id]
    assert store.ring(after=60) == []
    assert set(store.ring(after=0)) == {first, second}
    store.claim("host:2", LEASE, job_id=first)
    assert store.ring(after=0) == [second]


# ------------------------------------------------------------------------------------------------------ reading


def test_an_owner_sees_only_their_own(store):
    mine, theirs = queued(store, owner="me"), queued(store, owner="them")
    assert store.get(theirs, "me") is None
    assert store.cancel(theirs, "me") is None
    assert store.get(theirs)["state"] == "queued"
    assert [job["id"] for job in store.page(9, owner="me")] == [mine]
    assert [job["id"] for job in store.page(9)] == [theirs, mine]


def test_a_job_is_found_by_the_key_of_its_submission(store):
    job = store.submit(JOB | {"owner": "me"}, idempotency=("key", "0" * 64)).job
    assert store.find_by_key("me", "key") == job == store.get(job["id"])
    assert store.find_by_key("them", "key") is store.find_by_key("me", "other") is None


def test_pages(store):
    ids = [queued(store) for _ in range(5)]
    first = store.page(2)
    rest = store.page(10, before=first[-1]["seq"])
    assert [job["id"] for job in first + rest] == ids[::-1]
    assert not {"spec", "result"} & first[0].keys()
    assert store.get(ids[0], brief=True) == rest[-1]


def test_filters(store):
    plain = queued(store)
    labelled = store.submit(JOB | {"type": "evaluation", "labels": {"course": "ml", "week 1": 'a"b'}}).job
    done = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    store.finish(done, result={})

    def found(**filters):
        return [job["id"] for job in store.page(9, **filters)]

    assert found(state="queued") == [labelled["id"], plain]
    assert found(state="succeeded") == [done.id]
    assert found(type="evaluation") == found(label=("course", "ml")) == found(label=("week 1", 'a"b'))
    assert found(type="evaluation") == [labelled["id"]]
    assert found(label=("course", "other")) == found(label=("none", "ml")) == found(state="failed") == []
    assert found(created_after=labelled["created"]) == [done.id]
    assert found(state="queued", type="training") == [plain]


def test_numbers_of_deleted_jobs_are_not_given_again(store):
    claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
    number = store.page(1)[0]["seq"]
    store.finish(claim, result={})
    store.delete(claim.id)
    assert store.submit(JOB).job["seq"] > number


def test_the_place_in_the_queue(store):
    first, second, urgent = queued(store), queued(store), queued(store, priority=1)
    assert [store.queue_position(job_id) for job_id in (first, second, urgent)] == [1, 2, 0]
    store.claim("host:1", LEASE)
    assert [store.queue_position(job_id) for job_id in (first, second, urgent, "none")] == [0, 1, None, None]


def test_counts(store):
    assert sum(store.counts().states.values()) == store.counts().oldest_queued == 0
    running, _ = queued(store), queued(store)
    store.claim("host:1", LEASE)
    store.cancel(running)
    counts = store.counts()
    assert {state: count for state, count in counts.states.items() if count} == {"queued": 1, "cancelling": 1}
    assert 0 < counts.oldest_queued < 60


# ------------------------------------------------------------------------------------------- threads and processes


def test_many_threads(store):
    def work():
        for _ in range(10):
            claim = store.submit(JOB, claimed_by="host:1", lease=LEASE).claim
            store.finish(claim, result={"ok": True})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    page = store.page(100)
    assert len({job["id"] for job in page}) == 40
    assert {job["state"] for job in page} == {"succeeded"}


@shared
@pytest.mark.slow
def test_a_child_process_opens_its_own_connection(url, store):
    """A store that was used before a fork works in parent and child."""
    first, second = queued(store), queued(store)
    script = """
import os, sys
from chainrule_service.database import Database
from chainrule_service.store import Store
store = Store(Database(sys.argv[1]))
store.check()
child = os.fork()
claim = store.claim(f"host:{os.getpid()}", 60, job_id=sys.argv[2] if child else sys.argv[3])
store.finish(claim, result={"by": "parent" if child else "child"})
if not child:
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
store.check()
store.close()
sys.exit(code)
"""
    output(start(script, url, first, second))
    assert store.get(first)["result"] == {"by": "parent"}
    assert store.get(second)["result"] == {"by": "child"}


@shared
def test_a_writer_that_dies_in_the_middle_leaves_the_table_whole(url, store):
    job_id = queued(store)
    script = """
import os, signal, sys
from chainrule_service.database import Database
with Database(sys.argv[1]).transaction() as connection:
    connection.exec_driver_sql("UPDATE jobs SET state = 'broken'")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = start(script, url)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert store.get(job_id)["state"] == "queued"
    claim = store.claim("host:1", LEASE)
    store.finish(claim, result={})
    assert store.get(job_id)["state"] == "succeeded"
