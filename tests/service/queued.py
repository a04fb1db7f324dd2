"""Jobs for tests that run them without HTTP: submitted to a jobs table, and looked at in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from chainrule_engine import acceleration
from chainrule_engine.training import train
from chainrule_service import jobs
from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import TERMINAL, Store
from chainrule_service.training import NETWORK_EXAMPLE, read

#: Limits under which everything here may run.
ROOMY = {"job_work": 10**10, "answer_numbers": 10**7, "evaluation_work": 10**8}
#: For other processes.
ROOMY_ENVIRONMENT = {f"CHAINRULE_LIMIT_{name.upper()}": str(limit) for name, limit in ROOMY.items()}


def network(steps: int, **changes: Any) -> dict[str, Any]:
    """Return the specification of a training with batches, momentum and a metric: all that a checkpoint must hold."""
    optimizer = {"name": "sgd", "momentum": 0.9, "learning_rate": {"schedule": "cosine", "start": 0.05, "end": 0.01}}
    return NETWORK_EXAMPLE | {"steps": steps, "batch_size": 3, "batch_seed": 7, "optimizer": optimizer} | changes


def long_network(seconds: float) -> dict[str, Any]:
    """Return the specification of a training of about so long, on a machine that has nothing else to do."""
    steps_a_second = 20_000 if acceleration.load() else 20
    model = NETWORK_EXAMPLE["model"] | {"layers": [40, 40, 1]}  # type: ignore[operator]  # the example holds more than one type
    return network(int(seconds * steps_a_second), model=model)


def twenty_networks() -> list[dict[str, Any]]:
    """Return the specifications that have the same bits wherever, and by however many workers, they are run."""
    return [network(200 * (number + 1) if number % 2 else 20_000, batch_seed=number) for number in range(20)]


def undisturbed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a training that nothing ever stopped."""
    return train(read(spec))


def settings_for(folder: Any, **limits: int) -> Settings:
    """Return settings with the jobs table in a folder, or in memory for None."""
    return Settings(data=folder, limits=ROOMY | limits)


def open_store(settings: Settings) -> Store:
    """Return the jobs table of the settings."""
    return Store(Database(settings.database), settings)


def submit(store: Store, spec: dict[str, Any], kind: str = "training", **more: Any) -> str:
    """Queue a job, and return its id."""
    task = jobs.read(kind, spec, settings_for(None))
    return str(store.submit(jobs.record_of(task) | more).job["id"])


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until a condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return found


def ended(store: Store, job_id: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until a job has ended, and return it."""

    def look() -> Any:
        job = store.get(job_id)
        assert job is not None
        return job if job["state"] in TERMINAL else None

    return dict(until(look, f"the job {job_id} ends", seconds))


def check_exact(store: Store, job: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Insist on the bits of an undisturbed run, and on a history that has each step exactly once."""
    assert job["state"] == "succeeded", job["failure"]
    assert repr(job["result"]) == repr(wanted)  # of floats, repr is exact
    history = store.history(job["id"])
    assert list(history.losses) == wanted["loss_history"]
    assert {name: list(column) for name, column in history.metrics.items()} == wanted["metrics"]


def worker_of(store: Store, job_id: str) -> int:
    """Return the process that runs a job, once one does."""

    def look() -> Any:
        job = store.get(job_id, brief=True)
        return job and job["worker"]

    return int(until(look, "a worker has the job").rpartition(":")[2])
