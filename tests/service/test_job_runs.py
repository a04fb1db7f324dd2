"""Whatever goes wrong while a job runs ends as a failure in its record."""

from __future__ import annotations

import copy
import sqlite3

import pytest

from chainrule_engine.errors import LimitExceeded, Problem, TrainingError
from chainrule_service import jobs
from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import Store
from chainrule_service.training import GRAPH_EXAMPLE, NETWORK_EXAMPLE, prepare, read


def task(run):
    return jobs.Task("training", {"steps": 1}, 1, "", run)


@pytest.fixture
def store():
    store = Store(Database(None))
    yield store
    store.close()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TrainingError([Problem(("steps",), "is wrong")]), "invalid-request", "steps: is wrong"),
        (LimitExceeded("nodes", 3, 4), "limit-exceeded", "nodes is limited to 3"),
        (MemoryError(), "out-of-memory", "more memory"),
        (RecursionError("/secret"), "internal-error", "its log"),
        (ZeroDivisionError("/secret"), "internal-error", "its log"),
    ],
)
def test_an_error_in_the_middle_is_recorded(store, caplog, error, code, words):
    def run(report):
        report({"step": 1, "steps": 2, "loss": 0.5})
        raise error

    job = jobs.to_wire(jobs.run(task(run), store))
    assert (job["state"], job["result"], job["failure"]["code"]) == ("failed", None, code)
    assert words in job["failure"]["detail"]
    assert "secret" not in job["failure"]["detail"]
    assert job["progress"] == {"step": 1, "steps": 2, "loss": 0.5}
    assert (job["id"] in caplog.text) == (code == "internal-error")


def test_progress_is_recorded_on_the_way(store):
    """A training reports after each chunk of work, and the last report is its end."""
    seen = []
    compiled = prepare(read(GRAPH_EXAMPLE), Settings())

    def run(report):
        result = jobs.training.run(compiled, lambda progress: (report(progress), seen.append(store.page(1)[0])))
        assert store.page(1)[0]["state"] == "running"
        return result

    job = jobs.run(task(run), store)
    assert [entry["progress"]["step"] for entry in seen][-1] == GRAPH_EXAMPLE["steps"] == job["progress"]["step"]
    assert job["state"] == "succeeded"


@pytest.mark.parametrize("spec", [NETWORK_EXAMPLE | {"steps": 400_000}, GRAPH_EXAMPLE | {"steps": 900_000}])
def test_progress_does_not_wait_for_the_end(spec):
    """A training of more than a moment is seen on its way."""
    compiled = prepare(read(copy.deepcopy(spec)), Settings())

    class Seen(Exception):
        pass

    def report(progress):
        assert 0 < progress["step"] < spec["steps"]
        raise Seen

    with pytest.raises(Seen):
        jobs.training.run(compiled, report)


def test_a_job_survives_a_database_that_is_locked_meanwhile(tmp_path):
    store = Store(Database(f"sqlite:///{tmp_path}/chainrule.sqlite3", patience=0.01))
    writer = sqlite3.connect(tmp_path / "chainrule.sqlite3", isolation_level=None)

    def run(report):
        writer.execute("BEGIN IMMEDIATE")
        report({"step": 1, "steps": 2, "loss": 0.5})
        return {"loss_history": [0.5]}

    job = jobs.to_wire(jobs.run(task(run), store))
    assert (job["state"], job["result"]) == ("succeeded", {"loss_history": [0.5]})
    assert job["finished_at"]
    writer.close()
    store.check()
    store.submit({"type": "training", "spec": {}, "spec_digest": "", "engine": {}})
    assert {entry["state"] for entry in store.page(9)} == {"succeeded", "queued"}
    store.close()


def test_a_task_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        jobs.check_cost(jobs.Task("training", {}, 11, "take fewer steps", dict), Settings(limits={"job_work": 10}))
    assert (caught.value.maximum, caught.value.requested, caught.value.path) == (10, 11, ("spec",))
    jobs.check_cost(jobs.Task("training", {}, 10, "", dict), Settings(limits={"job_work": 10}))
