"""Jobs: from a specification to a record with a result.

A job runs in the request that submits it. Its row is written before it starts, so that a server that dies leaves a
trace, and whatever goes wrong while it runs ends as a failure in its record.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chainrule_engine import ENGINE
from chainrule_engine.errors import EngineError, LimitExceeded
from chainrule_service import evaluation, jsonio, training
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.problems import problem_of
from chainrule_service.settings import Settings
from chainrule_service.store import Job, LeaseLost, Store, worker_name
from chainrule_service.training import Report

_log = logging.getLogger(__name__)
_LEASE = 5.0


@dataclass(frozen=True)
class Task:
    """A job that may run.

    Attributes:
        type: its word on the wire.
        spec: the specification as it is recorded.
        cost: node evaluations over the whole job.
        advice: how to make it smaller.
        run: does the work, reports progress on the way, and returns the result.
    """

    type: str
    spec: Mapping[str, Any]
    cost: int
    advice: str
    run: Callable[[Report], Mapping[str, Any]]


def training_task(spec: dict[str, Any], settings: Settings) -> Task:
    """Return the task of a training whose specification has been read.

    Raises:
        TrainingError, LimitExceeded: it contradicts itself, or is too large; paths are relative to the spec.
    """
    compiled = training.prepare(spec, settings)
    advice = "take fewer steps, a smaller batch_size or fewer points, or a smaller model"
    cost = compiled.cost + training.preparing(spec)
    return Task("training", spec, cost, advice, lambda report: training.run(compiled, report))


def evaluation_task(request: dict[str, Any], spec: Mapping[str, Any], settings: Settings) -> Task:
    """Return the task of an evaluation: `request` is the specification `spec` as it has been read.

    Raises:
        LimitExceeded: it is too large; the path is relative to the spec.
    """
    size = evaluation.size_of(request)
    evaluation.check_size(size, settings)
    advice = "send fewer points or a smaller graph"
    return Task("evaluation", spec, size.work, advice, lambda report: evaluation.run(request).to_dict())


def check_cost(task: Task, settings: Settings) -> None:
    """Refuse a task that would take longer than a request may.

    Raises:
        LimitExceeded: its cost is above job_work.
    """
    most = settings.limits["job_work"]
    if task.cost > most:
        raise LimitExceeded("job_work", most, task.cost, ("spec",), task.advice)


def run(task: Task, store: Store) -> Job:
    """Run a task, record what comes of it, and return the record."""
    submitted = {"type": task.type, "spec": task.spec, "spec_digest": _digest(task.spec), "engine": ENGINE}
    _, _, claim = store.submit(submitted | {"cost": task.cost}, claimed_by=worker_name(), lease=_LEASE)
    if claim is None:
        raise AssertionError("a job that is submitted claimed comes with its claim")
    progress: Mapping[str, Any] | None = None

    def report(now: Mapping[str, Any]) -> None:
        nonlocal progress
        progress = now
        try:
            store.heartbeat(claim, _LEASE, now)
        except DatabaseUnavailable:
            _log.warning("the progress of job %s could not be recorded", claim.id, exc_info=True)

    try:
        try:
            store.finish(claim, result=task.run(report), progress=progress)
        except EngineError as error:
            code = str(problem_of(error)["type"]).removeprefix("/problems/")
            store.finish(claim, state="failed", failure={"code": code, "detail": str(error)}, progress=progress)
        except MemoryError:
            detail = "the job needs more memory than the server has; send fewer points or a smaller model"
            store.finish(claim, state="failed", failure={"code": "out-of-memory", "detail": detail}, progress=progress)
        except LeaseLost:
            raise
        except Exception:
            _log.exception("job %s failed", claim.id)
            detail = "the service made a mistake; its log has the cause under this job's id"
            store.finish(claim, state="failed", failure={"code": "internal-error", "detail": detail}, progress=progress)
    except LeaseLost:
        _log.warning("job %s was taken over by another worker", claim.id)
    job_now = store.get(claim.id)
    if job_now is None:
        raise LookupError(f"job {claim.id} vanished while it ran")
    return job_now


def to_wire(job: Job) -> dict[str, Any]:
    """Return a job's record as the wire has it; an entry of a list has neither spec nor result."""
    names = ("id", "type", "state", "progress", "result", "failure", "spec", "spec_digest", "engine", "attempts",
             "created_at", "started_at", "finished_at")  # fmt: skip
    return {name: job[name] for name in names if name in job} | {"links": {"self": f"/v1/jobs/{job['id']}"}}


def _digest(spec: Mapping[str, Any]) -> str:
    """Return the digest of a specification, which the order of its members does not change."""
    text = json.dumps(jsonio.finite(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
