"""Jobs: from a specification to a task that can run, and from a record to the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from chainrule_engine import ENGINE
from chainrule_engine.errors import LimitExceeded
from chainrule_service import evaluation, grading, grading_jobs, jsonio, training
from chainrule_service.data_fields import reading_under
from chainrule_service.database import Database
from chainrule_service.fields import Object
from chainrule_service.grading_fields import GradingJobRequest
from chainrule_service.grading_reading import Bounds, Entry, read_batch
from chainrule_service.gradings import Gradings
from chainrule_service.settings import Settings
from chainrule_service.store import History, Job
from chainrule_service.training import Chunk

#: What may have to be held while so many node evaluations run.
Room = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Task:
    """A job that may run.

    Attributes:
        type: its word on the wire.
        spec: the specification as it is recorded.
        cost: node evaluations over the whole job.
        advice: how to make it smaller.
        run: does the work, chunk by chunk; the last chunk has the result. To go on with a job it is given the state of
            a chunk, and what happened at all steps up to it.
        memory: about the bytes that it takes while it runs, where that is known.
        conclude: makes the job's result of the last chunk's, given the database and the job's owner.
        scopes: what a key needs besides to submit it, each with the words for what needs it.
    """

    type: str
    spec: Mapping[str, Any]
    cost: int
    advice: str
    run: Callable[[Mapping[str, Any] | None, History | None], Iterator[Chunk]]
    memory: int | None = None
    conclude: Callable[[Database, str, Mapping[str, Any]], Mapping[str, Any]] = lambda _database, _owner, result: result
    scopes: Sequence[tuple[str, str]] = ()


def read(kind: str, spec: Any, settings: Settings, room: Room = lambda _: nullcontext()) -> Task:
    """Read the specification of a job of some type, one of `TYPES`.

    Args:
        kind: the type's word on the wire.
        spec: the specification, as it was sent or as it was recorded.
        settings: the limits.
        room: what to hold while so much work goes into the reading itself.

    Raises:
        InvalidInput, LimitExceeded: it breaks a rule, contradicts itself, or is too large; paths are relative to it.
    """
    return _READERS[kind](spec, settings, room)


def _training(spec: Any, settings: Settings, room: Room) -> Task:
    loaded = training.read(spec)
    preparing = training.preparing(loaded)
    with room(preparing):  # a large model is long work before its first step
        compiled = training.prepare(loaded, settings)
    advice = "take fewer steps, a smaller batch_size or fewer points, or a smaller model"
    cost = compiled.cost + preparing
    return Task("training", loaded, cost, advice, partial(training.run, compiled), compiled.memory)


def _evaluation(spec: Any, settings: Settings, _: Room) -> Task:
    with reading_under(settings):
        request = _EVALUATION.read(spec)
    size = evaluation.size_of(request)
    evaluation.check_size(size, settings)
    advice = "send fewer points or a smaller graph"

    def run(*_: Any) -> Iterator[Chunk]:
        yield Chunk(result=evaluation.run(request).to_dict())  # all of it is one chunk

    return Task("evaluation", spec, size.work, advice, run)


def _grading(spec: Any, settings: Settings, room: Room) -> Task:
    loaded = _GRADING.read(spec)
    entries = read_batch(loaded, Bounds(settings, room, "job_work"))
    known = [entry for entry in entries if isinstance(entry, Entry)]
    scopes = [("grade", "a job of gradings")]
    if loaded["audience"] == "staff" or any(entry.supersedes for entry in known):
        scopes.append(("staff", "a regrade, or a report for staff,"))

    def conclude(database: Database, owner: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
        return grading_jobs.result_of(Gradings(database), owner, loaded, entries, result["reports"])

    return Task(
        "grading",
        spec,
        grading.work_of(known, settings),
        grading.ADVICE,
        lambda state, _: grading_jobs.run(entries, state),
        conclude=conclude,
        scopes=scopes,
    )


_EVALUATION = Object(evaluation.EvaluationRequest)
_GRADING = Object(GradingJobRequest)
_READERS: Mapping[str, Callable[[Any, Settings, Room], Task]] = {
    "training": _training,
    "evaluation": _evaluation,
    "grading": _grading,
}
TYPES = tuple(_READERS)


def check_cost(task: Task, settings: Settings) -> None:
    """Refuse a task that would take longer than a request may.

    Raises:
        LimitExceeded: its cost is above job_work.
    """
    most = settings.limits["job_work"]
    if task.cost > most:
        raise LimitExceeded("job_work", most, task.cost, ("spec",), task.advice)


def runs_inline(task: Task, settings: Settings) -> bool:
    """Tell whether a task is so cheap that the request that submits it may run it."""
    return task.cost <= settings.limits["inline_work"]


def record_of(task: Task) -> dict[str, Any]:
    """Return what the jobs table is told of a task."""
    return {
        "type": task.type,
        "spec": task.spec,
        "spec_digest": _digest(task.spec),
        "engine": ENGINE,
        "cost": task.cost,
    }


def to_wire(job: Job) -> dict[str, Any]:
    """Return a job's record as the wire has it; an entry of a list has neither spec nor result."""
    path = f"/v1/jobs/{job['id']}"
    links = {"self": path, "cancel": f"{path}/cancel", "metrics": f"{path}/metrics"}
    return {name: job[name] for name in _MEMBERS if name in job} | {"links": links}


_MEMBERS = (
    *("id", "type", "state", "progress", "result", "failure", "spec", "spec_digest", "engine", "labels", "priority"),
    *("queue_position", "attempts", "created_at", "started_at", "finished_at", "deadline_at"),
)


def _digest(spec: Mapping[str, Any]) -> str:
    """Return the digest of a specification, which the order of its members does not change."""
    text = json.dumps(jsonio.finite(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
