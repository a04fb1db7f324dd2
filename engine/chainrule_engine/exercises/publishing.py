"""Whether a task may be published: its key holds, its tolerances make sense, and no known-wrong engine passes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule_engine.checking import check_gradients
from chainrule_engine.diagnosis.loop_mistakes import LOOP_MISTAKES
from chainrule_engine.diagnosis.mistakes import MISTAKES
from chainrule_engine.errors import Path, Problem
from chainrule_engine.exercises.errors import ExerciseError
from chainrule_engine.exercises.extension import Extension, extend
from chainrule_engine.exercises.loops import loop_strength
from chainrule_engine.exercises.point import Point, points_of
from chainrule_engine.exercises.reasons import REASONS
from chainrule_engine.exercises.strength import Exercise, Strength
from chainrule_engine.exercises.suggestion import Suggestion, suggest
from chainrule_engine.grading import Task, pointer, read_task
from chainrule_engine.grading.lint import look_at
from chainrule_engine.graph import Graph, describe, unnamed
from chainrule_engine.nodes import Node, Nodes
from chainrule_engine.refusals import closest

_GRAPH: Path = ("evaluation", "graph")
_INPUTS: Path = (*_GRAPH, "inputs")
#: Points of a batch whose gradients are compared with differences.
_POINTS_CHECKED = 20


@dataclass(frozen=True)
class ExerciseCheck:
    """What is to be known of an exercise before students see it.

    strength    None for a training that is too large to be tried with mistakes
    key         the outcomes of the finite differences: {"passed", "checks"}; None for a training
    problems    why it should not be published; paths into the task
    warnings    what is probably not meant
    suggestion  inputs that tell more, where there are any
    extension   nodes on top of the graph with which it tells more, where there are any
    """

    strength: Strength | None
    key: dict[str, Any] | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    suggestion: Suggestion | None
    extension: Extension | None

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
            "extension": self.extension.to_dict() if self.extension else None,
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
    """Say what an exercise can tell, whether it may be published, and what would tell more.

    exercise           a task; a graph stands for the task that asks for its value and the gradients of its inputs
    accept_undetected  names of mistakes that may get full marks: an entry for each that is meant to go unnoticed
    suggestions        whether to look for better inputs, and for nodes to add
    program            whether the graph was sent as program text, which paths then lead to

    Of a batch of points a mistake is caught if it is at any of them. Of a training, which runs for it, mistakes in the
    loop are tried, and the losses are what shows them.

    Raises ExerciseError with the path ("accept_undetected", place) for a name that no mistake has.
    """
    task = exercise if isinstance(exercise, Task) else read_task({"evaluation": {"graph": exercise.to_dict()}})
    _read_accepted(accept_undetected)
    problems, warnings = _look_at_checks(task)
    if task.graph is None:
        told = loop_strength(task)
        if told is None:
            warnings.append(
                Problem(("training",), "known mistakes were not tried: the training is large, or draws batches")
            )
        else:
            problems += _undetected(task, told, accept_undetected, program)
        return ExerciseCheck(told, None, tuple(problems), tuple(warnings), None, None)
    points = points_of(task.graph, task.seeds)
    key, wrong = _check_key(task, points[:_POINTS_CHECKED], program)
    strength = Exercise(task).strength()
    problems += wrong
    problems += _undetected(task, strength, accept_undetected, program)
    suggestion = suggest(task, strength) if suggestions else None
    extension = extend(task, strength) if suggestions else None
    return ExerciseCheck(strength, key, tuple(problems), tuple(warnings), suggestion, extension)


def _read_accepted(names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ExerciseError.at(("accept_undetected",), f"a list of mistakes is needed, and this is {describe(names)}")
    problems = []
    known = MISTAKES | LOOP_MISTAKES
    for place, name in enumerate(names):
        if not isinstance(name, str) or name not in known:
            hint = closest(name, known) if isinstance(name, str) else ""
            problems.append(Problem(("accept_undetected", place), f"no mistake has this name{hint}"))
    if problems:
        raise ExerciseError(problems)


# ------------------------------------------------------------------------------------------------------ the key


def _check_key(task: Task, points: Sequence[Point], program: bool) -> tuple[dict[str, Any], list[Problem]]:
    """Compare the gradients with central differences, at each point."""
    assert task.graph is not None
    checks: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for p, point in enumerate(points):
        for check in check_gradients(_weighted(point)).checks:
            checks.append(check.to_dict() | ({"point": p} if task.graph.points else {}))
            if check.outcome != "failed":
                continue
            what = f"the gradient by {check.input} is {check.gradient!r}, and differences give {check.numeric!r}"
            place = (p,) if isinstance(task.graph.inputs[check.input], list) else ()
            problems.append(Problem((*_INPUTS, check.input, *place), f"the key fails its own check: {what}"))
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


def _undetected(task: Task, strength: Strength, accepted: Collection[str], program: bool) -> list[Problem]:
    """Make a problem of each reason for which mistakes of the catalogue get full marks."""
    groups: dict[tuple[str, str | None, str], list[str]] = {}
    for item in strength.missed:
        if item.matters and item.name not in accepted:
            key = item.reason.kind, item.reason.node, item.reason.why
            groups.setdefault(key, []).append(item.name)
    problems = []
    for (kind, node, why), names in groups.items():
        who = "whoever makes the mistake" if len(names) == 1 else "whoever makes one of the mistakes"
        detail = (
            f"{who} {', '.join(names)} gets full marks: {why}; {REASONS[kind].advice}, or list what is meant to go "
            "unnoticed in accept_undetected"
        )
        problems.append(Problem(_node_path(task, node, program), detail))
    return problems


def _node_path(task: Task, node: str | None, program: bool) -> Path:
    """Return where a node is written; of a program, the program."""
    graph = task.graph
    if graph is None:
        return ("training",)
    if node is None:
        return _GRAPH
    if node in graph.inputs:
        return (*_INPUTS, node)
    if program:
        return (*_GRAPH, "program")
    return (*_GRAPH, "nodes", graph.nodes.slots[node] - graph.nodes.first)


# ------------------------------------------------------------------------------------------------- tolerances


def _look_at_checks(task: Task) -> tuple[list[Problem], list[Problem]]:
    """Return the problems, that a check fails the right answers, and the warnings."""
    found = look_at(task)
    warned = {problem.path for problem, _ in found}
    warnings = [problem for problem, fails in found if not fails]
    for place, check in enumerate(task.checks):
        settings, path = check.compare.settings, ("checks", place, "compare")
        if path not in warned and settings.get("atol") == 0.0 and settings.get("rtol", 0.0) > 0.0:
            detail = "atol is 0: near 0 a relative tolerance alone allows nothing; give an atol as well"
            warnings.append(Problem(path, detail))
    return [problem for problem, fails in found if fails], warnings
