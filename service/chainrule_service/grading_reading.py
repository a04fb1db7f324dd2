"""Reading what is to be graded: tasks, of which the last ones are remembered, and submissions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.diagnosis import catalogue
from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading import Task, read_task
from chainrule_engine.grading.truth import TrainingTruth
from chainrule_service import training
from chainrule_service.exchange import service
from chainrule_service.grading_fields import GradingItem, SubmittedAnswers
from chainrule_service.problems import problem_of
from chainrule_service.settings import Settings
from chainrule_service.task_cache import TaskCache

#: In bytes, measured, roughly, what a task holds on to once it was graded by: of a graph for each node, for each at
#: each point, and for each number of a Jacobian; of its catalogue for each node, and for each two nodes.
_NODE, _AT_A_POINT, _IN_JACOBIAN, _WRONG, _WRONG_TWICE = 1_500, 160, 32, 62_000, 55


def weight(task: Task) -> int:
    """Return about how many bytes a task holds on to once it was graded by."""
    if isinstance(task.truth, TrainingTruth):
        return task.truth.training.memory
    graph = task.truth.graph
    nodes, points = len(graph.inputs) + len(graph.nodes), graph.points or 1
    held = nodes * (_NODE + _AT_A_POINT * points)
    if "jacobian" in task.truth.members:
        held += _IN_JACOBIAN * len(graph.outputs) * len(graph.inputs) * points
    if task.diagnose and graph.points is None and len(graph.nodes) <= catalogue.MAX_NODES:
        held += nodes * (_WRONG + _WRONG_TWICE * nodes)
    return held


_TASKS: TaskCache[Task] = TaskCache(weight)
_ITEM, _SUBMITTED = GradingItem(), SubmittedAnswers()


@dataclass(frozen=True)
class Entry:
    """What is to be graded; the members are those of a request, and how many values its answers hold."""

    task: Task
    answers: object
    submission: Mapping[str, Any] = field(default_factory=dict)
    supersedes: str | None = None
    size: int = 0


#: An entry that could be read, or its problem.
Read = Entry | Mapping[str, Any]


@dataclass(frozen=True)
class Bounds:
    """Within what something is read.

    Attributes:
        settings: the limits.
        room: what to hold while so many node evaluations go into the reading itself.
        training: the limit that a training, whose numbers are the right ones, keeps to.
    """

    settings: Settings
    room: Callable[[int], AbstractContextManager[None]]
    training: str = "grading_work"

    @classmethod
    def here(cls) -> Bounds:
        """Return those of the request that is being answered."""
        return cls(service().settings, service().room_for)


def read_task_cached(data: object, bounds: Bounds | None = None) -> Task:
    """Return the task that JSON data is, read or remembered.

    Args:
        data: what a request has as its `task`.
        bounds: within what; without, those of the request that is being answered.

    Raises:
        InvalidInput, LimitExceeded: it is none, or too large; paths are relative to it.
        RequestError: there is no room now for the work of reading it (503).
    """
    bounds = bounds or Bounds.here()
    limits = bounds.settings.limits
    work = limits[bounds.training if _trains(data) else "evaluation_work"]
    most = {"max_nodes": limits["nodes"], "max_points": limits["points"], "max_work": work}
    # Not with sorted keys: the order of the inputs is that of the checks, where a task lists none.
    text = json.dumps([most, data], separators=(",", ":"))
    return _TASKS.get(text.encode(), lambda: _read_task(data, bounds, most))


def _trains(data: object) -> bool:
    return isinstance(data, dict) and isinstance(data.get("training"), dict)


def _read_task(data: object, bounds: Bounds, most: Mapping[str, int]) -> Task:
    # The engine leaves the types in a training to its caller. It is given what was sent, without our defaults: a task
    # has the same digest in the service and outside.
    if isinstance(data, dict) and _trains(data):
        try:
            spec = training.read(data["training"])
            with bounds.room(training.preparing(spec)):
                training.prepare(spec, bounds.settings)
        except (InvalidInput, LimitExceeded) as error:
            raise error.under("training") from None
    try:
        with bounds.room(min(_evaluated(data), most["max_work"])):
            return read_task(data, **most)
    except LimitExceeded as error:
        if error.limit != "work":
            raise
        limit = bounds.training if _trains(data) else "evaluation_work"
        raise LimitExceeded(limit, error.maximum, error.requested, error.path, error.advice) from None


def _evaluated(data: object) -> int:
    """Return at most how many nodes, times points, are evaluated to read a task: to fit seeds, or to see kinks."""
    evaluation = data.get("evaluation") if isinstance(data, dict) else None
    graph = evaluation.get("graph") if isinstance(evaluation, dict) else None
    if not isinstance(data, dict) or not isinstance(evaluation, dict) or not isinstance(graph, dict):
        return 0
    checks = data["checks"] if isinstance(data.get("checks"), list) else []
    avoids = any(isinstance(check, dict) and check.get("kink") == "avoid" for check in checks)
    if evaluation.get("seeds") is None and not avoids:
        return 0
    inputs, nodes, program = (graph.get(name) for name in ("inputs", "nodes", "program"))
    columns = list(inputs.values()) if isinstance(inputs, dict) else []
    count = len(nodes) if isinstance(nodes, list) else len(program) if isinstance(program, str) else 0
    return (len(columns) + count) * max((len(column) for column in columns if isinstance(column, list)), default=1)


def read(loaded: Mapping[str, Any], bounds: Bounds) -> Entry:
    """Return the entry of one grading that a schema has loaded.

    Raises:
        InvalidInput, LimitExceeded: the task is none, or something is too large; paths are relative to the request.
    """
    try:
        task = read_task_cached(loaded["task"], bounds)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("task") from None
    return entry_of(task, loaded, bounds.settings)


def read_batch(loaded: Mapping[str, Any], bounds: Bounds) -> list[Read]:
    """Return the entries of a batch that `GradingBatchRequest` has loaded, in order, or their problems.

    Raises:
        InvalidInput, LimitExceeded: the task that all share is none, or there are too many.
    """
    kind = kind_of(loaded)
    sent, most = loaded[kind], bounds.settings.limits["submissions"]
    if len(sent) > most:
        raise LimitExceeded("submissions", most, len(sent), (kind,), "send several batches")
    if kind == "submissions":
        try:
            task = read_task_cached(loaded["task"], bounds)
        except (InvalidInput, LimitExceeded) as error:
            raise error.under("task") from None
    entries: list[Read] = []
    for place, item in enumerate(sent):
        try:
            if kind == "items":
                entries.append(read(_ITEM.load(item), bounds))
            else:
                entries.append(entry_of(task, _SUBMITTED.load(item), bounds.settings))
        except (InvalidInput, LimitExceeded) as error:
            entries.append(problem_of(error, under=(kind, place)))
    return entries


def kind_of(loaded: Mapping[str, Any]) -> str:
    """Return the member of a batch that holds what is to be graded."""
    return "items" if "items" in loaded else "submissions"


def entry_of(task: Task, loaded: Mapping[str, Any], settings: Settings) -> Entry:
    """Return the entry of a task and the other members of a request.

    Raises:
        LimitExceeded: the answers are too large; the path is relative to the request.
    """
    size, most = count_values(loaded["answers"]), settings.limits["submission_values"]
    if size > most:
        raise LimitExceeded("submission_values", most, size, ("answers",), "send what the task asks for, and no more")
    return Entry(task, loaded["answers"], loaded["submission"], loaded["supersedes"], size)


def count_values(data: object) -> int:
    """Count the values in JSON data: numbers, texts, lists, objects."""
    count, todo = 0, [data]
    while todo:
        value = todo.pop()
        count += 1
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return count
