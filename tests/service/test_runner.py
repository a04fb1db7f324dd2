"""One claim of a job: in chunks, with checkpoints, until its end or until it is given back."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.service.queued import (
    check_exact,
    ended,
    long_network,
    network,
    open_store,
    settings_for,
    submit,
    undisturbed,
    until,
)

from chainrule_engine.training import Training
from chainrule_service import jobs, runner, training
from chainrule_service.database import Database
from chainrule_service.store import Store
from chainrule_service.training import GRAPH_EXAMPLE

NEVER = threading.Event()
ALREADY = threading.Event()
ALREADY.set()


@pytest.fixture
def settings():
    return settings_for(None)


@pytest.fixture
def store(settings):
    store = open_store(settings)
    yield store
    store.close()


def claimed(store, worker="here:1"):
    claim = store.claim(worker, 60)
    assert claim is not None
    return claim


SPECS = [
    network(60),
    network(60, batch_size=None, metrics=[]),
    network(60, optimizer={"name": "adam", "learning_rate": 0.05}, target_loss=0.5),
    network(60, optimizer={"name": "sgd", "learning_rate": 1e200}),  # diverges
    GRAPH_EXAMPLE,
]


@pytest.fixture(scope="class")
def single_steps():
    """Chunks that are as small as they can be: a quick job has many then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_FIRST_CHUNK", 0)
        patch.setattr(training, "_SECONDS", (0.0, 0.0))
        yield


@pytest.mark.usefixtures("single_steps")
@pytest.mark.parametrize("spec", SPECS)
@hypothesis_settings(max_examples=15, deadline=None)
@given(stops=st.lists(st.booleans(), max_size=12))
def test_a_job_that_is_stopped_and_resumed_anywhere_has_the_same_bits(spec, stops):
    settings = settings_for(None)
    with closing(open_store(settings)) as store:
        job_id = submit(store, spec)
        for number, stop in enumerate(stops):
            claim = store.claim(f"host:{number}", 60)
            if claim is None:
                break
            # The end of the process, or that of the slice.
            event, slice_seconds = (ALREADY, None) if stop else (NEVER, 0.0)
            assert runner.run(claim, store, settings, event, slice_seconds=slice_seconds) in ("released", "succeeded")
        if store.get(job_id)["state"] == "queued":
            assert runner.run(claimed(store), store, settings, NEVER) == "succeeded"
        job = store.get(job_id)
        check_exact(store, job, undisturbed(spec))
        assert job["attempts"] == 1


@pytest.mark.parametrize(("recording", "seconds"), [(0.002, 0.1), (0.015, 0.15), (3.0, 0.2)])
def test_chunks_are_longer_where_recording_takes_long(monkeypatch, recording, seconds):
    """By a clock on which a step takes 1 ms."""
    now, advance = [0.0], Training.advance

    def timed(self, state, steps):
        now[0] += steps * 0.001
        return advance(self, state, steps)

    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(training, "_FIRST_CHUNK", 0)  # else it holds all steps
    monkeypatch.setattr(Training, "advance", timed)
    sizes, step = [], 0
    for chunk in training.run(Training(training.read(network(20_000)))):
        sizes.append(chunk.step - step)
        step, now[0] = chunk.step, now[0] + recording
    settled = sizes[20:-1]
    assert len(settled) > 50
    assert set(settled) <= {int(1000 * seconds), int(1000 * seconds) - 1}


def test_an_evaluation_is_one_chunk(store, settings, neuron):
    job_id = submit(store, {"graph": neuron}, "evaluation")
    assert runner.run(claimed(store), store, settings, ALREADY) == "succeeded"
    job = store.get(job_id)
    assert job["result"]["value"] == pytest.approx(0.7071, abs=1e-4)
    assert job["progress"] is None


def test_progress_is_recorded_on_the_way(tmp_path):
    """What another process sees of a job that runs, and how soon."""
    settings = settings_for(tmp_path)
    with closing(open_store(settings)) as store, closing(open_store(settings)) as other:
        job_id = submit(store, network(5 * 10**6))
        claim, stop = claimed(store), threading.Event()
        runs = threading.Thread(target=runner.run, args=(claim, store, settings, stop))
        runs.start()
        seen = [until(lambda: other.get(job_id, brief=True)["progress"], "progress is seen")]
        for _ in range(3):
            seen.append(until(lambda: more(other.get(job_id, brief=True)["progress"], seen[-1]), "more progress"))
        stop.set()
        runs.join()
        job = other.get(job_id)
        assert (job["state"], job["attempts"]) == ("queued", 0)
        assert len(other.history(job_id).losses) == job["progress"]["step"]


def more(progress, than):
    return progress if progress["step"] > than["step"] else None


@pytest.mark.usefixtures("single_steps")
class TestEnds:
    """What can end a job, or a run, between two chunks."""

    def test_a_cancel(self, store, settings):
        job_id = submit(store, network(50))
        claim = claimed(store)
        assert store.cancel(job_id)["state"] == "cancelling"
        assert runner.run(claim, store, settings, NEVER) == "cancelled"
        job = store.get(job_id)
        assert (job["state"], job["progress"]["step"], job["result"]) == ("cancelled", 1, None)

    def test_a_deadline(self, store, settings):
        job_id = submit(store, network(10**6), deadline_seconds=0.2)
        assert runner.run(claimed(store), store, settings, NEVER) == "expired"
        job = store.get(job_id)
        assert job["state"] == "expired"
        assert len(store.history(job_id).losses) == job["progress"]["step"] > 0

    @pytest.mark.parametrize("claimed_at_once", [True, False])
    @pytest.mark.parametrize("hours", [1, -1])
    def test_a_deadline_goes_by_the_clock_of_the_database(self, settings, hours, claimed_at_once):
        database = Database(None, now=lambda: time.time() + 3600 * hours)
        with closing(Store(database, settings)) as store:
            for seconds, steps, end in ((600, 50, "succeeded"), (0.2, 10**6, "expired")):
                record = jobs.record_of(jobs.read("training", network(steps), settings)) | {"deadline_seconds": seconds}
                claimed_by = "here:1" if claimed_at_once else None
                claim = store.submit(record, claimed_by=claimed_by, lease=60).claim or claimed(store)
                assert runner.run(claim, store, settings, NEVER) == end

    def test_the_limit_of_time_is_for_all_attempts_together(self, store):
        job_id = submit(store, network(10**6))
        settings = settings_for(None, job_seconds=1)
        began = time.monotonic()
        assert runner.run(claimed(store), store, settings, NEVER, slice_seconds=0.6) == "released"
        assert runner.run(claimed(store), store, settings, NEVER) == "failed"
        assert time.monotonic() - began > 1
        failure = store.get(job_id)["failure"]
        assert (failure["code"], failure["fault"]) == ("time-limit", "client")
        assert "job_seconds" in failure["detail"]

    def test_a_lease_that_is_lost(self, store, settings):
        """Another has claimed the job meanwhile: nothing is written."""
        job_id = submit(store, network(50))
        claim = claimed(store)
        store.expire_worker(claim.worker)
        other = claimed(store, "there:2")
        assert runner.run(claim, store, settings, NEVER) == "lost"
        assert not store.history(job_id).losses
        assert store.get(job_id)["progress"] is None
        assert runner.run(other, store, settings, NEVER) == "succeeded"
        check_exact(store, store.get(job_id), undisturbed(network(50)))

    def test_a_deadline_that_somebody_else_sees_first(self, store, settings):
        job_id = submit(store, network(50), deadline_seconds=0.05)
        claim = claimed(store)
        until(lambda: store.sweep() or store.get(job_id)["state"] == "expired", "it is swept")
        assert runner.run(claim, store, settings, NEVER) == "expired"

    def test_a_job_that_is_deleted(self, store, settings):
        job_id = submit(store, network(50), deadline_seconds=0.05)
        claim = claimed(store)
        until(lambda: store.sweep() or store.delete(job_id), "it expires, and is deleted")
        assert runner.run(claim, store, settings, NEVER) == "lost"
        assert store.get(job_id) is None


@pytest.mark.parametrize(
    ("spec", "kind", "limits", "code", "fault", "words"),
    [
        (network(5), "training", {"parameters": 3}, "limit-exceeded", "client", "parameters is limited to 3"),
        (network(5) | {"batch_size": 99}, "training", {}, "invalid-request", "client", "batch_size"),
        (network(5), "no such type", {}, "internal-error", "service", "its log"),
    ],
)
def test_an_error_is_a_failure_that_names_the_fault(store, caplog, spec, kind, limits, code, fault, words):
    record = jobs.record_of(jobs.read("training", network(5), settings_for(None))) | {"type": kind, "spec": spec}
    job_id = store.submit(record).job["id"]
    assert runner.run(claimed(store), store, settings_for(None, **limits), NEVER) == "failed"
    job = store.get(job_id)
    assert (job["state"], job["result"], job["failure"]["code"], job["failure"]["fault"]) == (
        "failed", None, code, fault,
    )  # fmt: skip
    assert words in job["failure"]["detail"]
    assert (job_id in caplog.text) == (fault == "service")


@pytest.mark.slow
def test_the_lease_is_renewed_while_a_chunk_takes_long(store):
    settings = replace(settings_for(None), lease_seconds=1)
    spec = network(5)
    submit(store, spec)
    task, over = jobs.read("training", spec, settings), time.monotonic() + 2.5

    def run(state, history):
        while time.monotonic() < over:
            assert store.claim("there:2", 1) is None
            time.sleep(0.05)
        yield from task.run(state, history)

    claim = store.claim("here:1", 1)
    assert runner.run(replace(claim, cost=10**9), store, settings, NEVER, task=replace(task, run=run)) == "succeeded"


@pytest.mark.usefixtures("single_steps")
@pytest.mark.parametrize("end", ["expired", "failed"])
def test_an_end_brings_the_steps_that_have_no_checkpoint(tmp_path, caplog, end):
    """The deadline and the limit of time come while the database is away."""
    settings = settings_for(tmp_path, **({"job_seconds": 1} if end == "failed" else {}))
    with closing(Store(Database(settings.database, patience=0.01), settings)) as store:
        job_id = submit(store, network(10**6), **({"deadline_seconds": 1} if end == "expired" else {}))
        claim = claimed(store)
        with closing(sqlite3.connect(tmp_path / "chainrule.sqlite3", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert runner.run(claim, store, settings, NEVER) == end
        job = ended(store, job_id)
        until(lambda: store.history(job_id).losses, "what is owed is recorded")
        assert job["state"] == end
        assert len(store.history(job_id).losses) == job["progress"]["step"] > 0


def test_the_work_goes_on_while_the_database_is_away(tmp_path, caplog):
    """A writer holds the lock for a while: what was done meanwhile is recorded afterwards, each step once."""
    settings = settings_for(tmp_path)
    with closing(Store(Database(settings.database, patience=0.05), settings)) as store:
        spec = long_network(2)
        job_id = submit(store, spec)
        claim = claimed(store)
        run = threading.Thread(target=runner.run, args=(claim, store, settings, NEVER))
        run.start()
        until(lambda: store.get(job_id)["progress"], "it has begun")
        with closing(sqlite3.connect(tmp_path / "chainrule.sqlite3", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            until(lambda: "has no checkpoint" in caplog.text, "a checkpoint fails")
        run.join()
        check_exact(store, ended(store, job_id), undisturbed(spec))
