"""One or two nodes on top of an exercise with which it tells more: what no choice of inputs can mend.

A tree has no shared results, and a root's upstream gradient is its seed. A product of the output with an earlier result
shares that, and gives the old output an upstream gradient of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chainrule_engine.exercises.numbers import suits
from chainrule_engine.exercises.point import Point
from chainrule_engine.exercises.strength import Exercise, Strength
from chainrule_engine.grading.tasks import Task
from chainrule_engine.grading.truth import GraphTruth
from chainrule_engine.graph import Graph
from chainrule_engine.nodes import Node
from chainrule_engine.operations import OPERATIONS

#: So many ways to go on are tried; the same in nodes, as each takes longer in a larger graph.
_TRIED, _WORK = 60, 2_000


@dataclass(frozen=True)
class Extension:
    """Nodes to add.

    nodes   in the order of evaluation; the last one is the new output
    newly   the names of the mistakes that are caught then and were not
    missed  the names of those that still are not
    """

    nodes: tuple[Node, ...]
    newly: tuple[str, ...]
    missed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form."""
        return {
            "nodes": [{"id": node.id, "op": node.op, "args": list(node.args)} for node in self.nodes],
            "output": self.nodes[-1].id,
            "newly_caught": list(self.newly),
            "still_missed": list(self.missed),
        }

    def applied_to(self, task: Task) -> Task:
        """Return the task with these nodes; its checks ask for the same keys."""
        return _extended(task, self.nodes)


def extend(task: Task, strength: Strength) -> Extension | None:
    """Look for an extension with which more of the 46 mistakes are caught; None where there is none, or no need.

    Tried for a graph with one output, at one point, whose seed nobody has chosen and whose Jacobian nobody asks for.
    """
    graph = task.graph
    before = [missed.name for missed in strength.missed]
    if graph is None or graph.points is not None or not graph.single or task.seeds is not None:
        return None
    if any(key.startswith("jacobian") for check in task.checks for key in check.keys):
        return None
    fewest = sum(missed.matters for missed in strength.missed)
    best: Extension | None = None
    point = Point(graph, None)
    left = min(_TRIED, max(1, _WORK // max(1, len(graph.nodes))))
    for nodes in _ways_on(point):
        if left == 0 or fewest == 0:
            break
        left -= 1
        moved = _extended(task, nodes)
        weak = Exercise(moved).weaknesses()
        count = sum(missed.matters for missed in weak)
        if count < fewest:
            fewest = count
            after = tuple(missed.name for missed in weak)
            best = Extension(nodes, tuple(name for name in before if name not in after), after)
    return best


def _ways_on(point: Point) -> Iterator[tuple[Node, ...]]:
    """Yield the nodes to add: a product with an earlier result, the deepest first; else a product and a difference."""
    graph = point.graph
    (output,) = graph.outputs
    first, second = _new_names(graph, output)
    earlier = [place.id for place in reversed(point.places) if place.id != output]
    for name in earlier:
        if _fits(point, "mul", output, name):
            yield (Node(first, "mul", (output, name)),)
    for name in [*graph.inputs, *earlier]:
        product = point.value(output) * point.value(name)
        if name != output and _fits(point, "mul", output, name) and product != point.value(output):
            yield Node(first, "mul", (output, name)), Node(second, "sub", (first, output))


def _fits(point: Point, op: str, *args: str) -> bool:
    operation, numbers = OPERATIONS[op], [point.value(name) for name in args]
    return suits(operation, numbers, operation.value(*numbers), [True] * len(args))


def _new_names(graph: Graph, output: str) -> list[str]:
    """Return two ids that the graph does not have."""
    taken = graph.nodes.slots
    stem = output.lstrip("_")[:100] or "y"
    free = (name for k in range(2, len(taken) + 5) if (name := f"{stem}{k}") not in taken)
    return [next(free), next(free)]


def _extended(task: Task, nodes: Sequence[Node]) -> Task:
    assert task.graph is not None
    wire: dict[str, Any] = task.graph.to_dict()
    wire["nodes"] += [{"id": node.id, "op": node.op, "args": list(node.args)} for node in nodes]
    wire["output"] = nodes[-1].id
    graph = Graph.from_dict(wire)
    return replace(task, source={"evaluation": {"graph": wire, "seeds": None}}, truth=GraphTruth(graph, None))
