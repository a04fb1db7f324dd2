"""Whether a task may be published: its key holds, its tolerances make sense, and no known-wrong engine passes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule_engine.checking import check_gradients
from chainrule_engine.diagnosis.mistakes import MISTAKES
from chainrule_engine.errors import Path, Problem
from chainrule_engine.exercises.errors import ExerciseError
from chainrule_engine.exercises.numbers import is_clean
from chainrule_engine.exercises.point import Point, points_of
from chainrule_engine.exercises.reasons import REASONS
from chainrule_engine.exercises.strength import Exercise, Missed, Strength, flat
from chainrule_engine.exercises.suggestion import Suggestion, suggest
from chainrule_engine.grading import Check, Task, pointer, read_task
from chainrule_engine.grading.truth import quantity
from chainrule_engine.graph import Graph, describe, unnamed
from chainrule_engine.nodes import Node, Nodes
from chainrule_engine.refusals import closest

#: Points of a batch whose gradients are compared with differences.
_POINTS_CHECKED = 20
#: A tolerance of so few units in the last place is one for the same order of operations alone.
_FEW_ULPS = 4.0


@dataclass(frozen=True)
class ExerciseCheck:
    """What is to be known of an exercise before students see it.

    strength    None for a training
    key         the outcomes of the finite differences: {"passed", "checks"}; None for a training
    problems    why it should not be published; paths into the task
    warnings    what is probably not meant
    suggestion  inputs that tell more, where there are any
    """

    strength: Strength | None
    key: dict[str, Any] | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    suggestion: Suggestion | None

    @property
    def publishable(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form; numbers that are not finite stay floats."""
        strength = self.strength or Strength((), {}, (), (), ())
        return {
            "publishable": self.publishable,
            "problems": [_written(problem) for problem in self.problems],
            "warnings": [_written(problem) for problem in self.warnings],
            "key": self.key,
            **strength.to_dict(),
            "suggestion": self.suggestion.to_dict() if self.suggestion else None,
        }


def _written(problem: Problem) -> dict[str, str]:
    return {"detail": problem.detail, "pointer": pointer(problem.path)}


def examine(
    exercise: Task | Graph,
    *,
    accept_undetected: Collection[str] = (),
    suggestions: bool = True,
    program: bool = False,
) -> ExerciseCheck:
    """Say what an exercise can tell, whether it may be published, and which inputs would tell more.

    exercise           a task; a graph stands for the task that asks for its value and the gradients of its inputs
    accept_undetected  names of mistakes that may get full marks: an entry for each that is meant to go unnoticed
    suggestions        whether to look for better inputs
    program            whether the graph was sent as program text, which paths then lead to

    Of a batch of points a mistake is caught if it is at any of them. Of a training only the tolerances are looked at.

    Raises ExerciseError with the path ("accept_undetected", place) for a name that no mistake has.
    """
    task = exercise if isinstance(exercise, Task) else read_task({"evaluation": {"graph": exercise.to_dict()}})
    _read_accepted(accept_undetected)
    warnings = [warning for place, check in enumerate(task.checks) for warning in _lint(task, check, place)]
    if task.graph is None:
        return ExerciseCheck(None, None, (), tuple(warnings), None)
    points = points_of(task.graph, task.seeds)
    key, problems = _check_key(task, points[:_POINTS_CHECKED], program)
    strength = Exercise(task).strength()
    problems += _undetected(task, [m for m in strength.missed if m.name not in set(accept_undetected)], program)
    suggestion = suggest(task, strength) if suggestions else None
    return ExerciseCheck(strength, key, tuple(problems), tuple(warnings), suggestion)


def _read_accepted(names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ExerciseError.at(("accept_undetected",), f"a list of mistakes is needed, and this is {describe(names)}")
    problems = []
    for place, name in enumerate(names):
        if not isinstance(name, str) or name not in MISTAKES:
            hint = closest(name, MISTAKES) if isinstance(name, str) else ""
            problems.append(Problem(("accept_undetected", place), f"no mistake has this name{hint}"))
    if problems:
        raise ExerciseError(problems)


# ------------------------------------------------------------------------------------------------------ the key


def _check_key(task: Task, points: Sequence[Point], program: bool) -> tuple[dict[str, Any], list[Problem]]:
    """Compare the gradients with central differences, at each point."""
    checks: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for p, point in enumerate(points):
        place = () if len(points) == 1 else (p,)
        for check in check_gradients(_weighted(point)).checks:
            checks.append(check.to_dict() | ({"point": p} if place else {}))
            if check.outcome != "failed":
                continue
            what = f"the gradient by {check.input} is {check.gradient!r}, and differences give {check.numeric!r}"
            problems.append(Problem((*_inputs_path(task), check.input, *place), f"the key fails its own check: {what}"))
        for name in point.graph.outputs:
            if not math.isfinite(point.value(name)):
                problems.append(
                    Problem(_node_path(task, name, program), f"{name} is {point.value(name)!r}: choose other inputs")
                )
    return {"passed": not any(check["outcome"] == "failed" for check in checks), "checks": checks}, problems


def _weighted(point: Point) -> Graph:
    """Return the graph of Σ seed·output: differences know of no seeds."""
    graph = point.graph
    if all(seed == 1.0 for seed in point.cotangents.values()) and len(point.cotangents) == len(graph.outputs):
        return graph
    names = unnamed(graph.nodes.names)
    nodes = list(graph.nodes)
    terms = []
    for output, seed in point.cotangents.items():
        nodes.append(Node(next(names), "mul", (output, seed)))
        terms.append(nodes[-1].id)
    return Graph.from_dict(Graph(graph.inputs, Nodes.of(graph.inputs, nodes), tuple(terms), single=False).to_dict())


# ---------------------------------------------------------------------------------------------- wrong engines


def _undetected(task: Task, missed: Sequence[Missed], program: bool) -> list[Problem]:
    """Make a problem of each reason for which mistakes of the catalogue get full marks."""
    groups: dict[tuple[str, str | None, str], list[str]] = {}
    for item in missed:
        if item.matters:
            key = item.reason.kind, item.reason.node, item.reason.why
            groups.setdefault(key, []).append(item.name)
    problems = []
    for (kind, node, why), names in groups.items():
        who = "an engine that has the mistake" if len(names) == 1 else "an engine that has one of the mistakes"
        detail = (
            f"{who} {', '.join(names)} gets full marks: {why}; {REASONS[kind].advice}, or list what is meant to go "
            "unnoticed in accept_undetected"
        )
        problems.append(Problem(_node_path(task, node, program), detail))
    return problems


def _graph_path(task: Task) -> Path:
    return ("evaluation", "graph")


def _inputs_path(task: Task) -> Path:
    return (*_graph_path(task), "inputs")


def _node_path(task: Task, node: str | None, program: bool) -> Path:
    """Return where a node is written; of a program, the program."""
    graph = task.graph
    assert graph is not None
    if node is None:
        return _graph_path(task)
    if node in graph.inputs:
        return (*_inputs_path(task), node)
    if program:
        return (*_graph_path(task), "program")
    return (*_graph_path(task), "nodes", graph.nodes.slots[node] - graph.nodes.first)


# ------------------------------------------------------------------------------------------------- tolerances


def _lint(task: Task, check: Check, place: int) -> Iterator[Problem]:
    """Warn of comparisons that fail right answers."""
    settings = check.compare.settings
    path = ("checks", place, "compare")
    # A training would have to run first.
    expected = [] if task.graph is None else [x for key in check.keys for x in flat(quantity(task.truth, key))]
    if check.compare.mode == "exact":
        if not all(map(is_clean, expected)) or task.graph is None:
            yield Problem(path, "no tolerance: a right answer that was rounded, or computed in another order, fails")
        return
    relative = settings.get("rtol", settings.get("percent", 0.0))
    absolute = settings.get("atol", settings.get("ulps"))
    if "rtol" in settings and 0.0 < relative < _FEW_ULPS * math.ulp(1.0) and not absolute:
        yield Problem(path, "the tolerance is below the rounding of float64: a right answer in another order fails")
    elif absolute == 0.0 or (absolute is None and relative == 0.0 and ("rtol" in settings or "percent" in settings)):
        if relative == 0.0:
            yield Problem(path, "no tolerance: a right answer that was rounded, or computed in another order, fails")
        elif 0.0 in expected:
            yield Problem(path, "atol is 0 and 0 is expected: whatever differs by rounding alone fails; give an atol")
        else:
            yield Problem(path, "atol is 0: near 0 a relative tolerance alone allows nothing; give an atol as well")
