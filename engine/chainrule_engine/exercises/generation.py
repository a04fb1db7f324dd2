"""Exercises from a seed: a random graph for each student, the same on every machine.

    generate(1234, nodes=8, inputs=3, operations=("add", "mul", "tanh"), sharing=1)

The number generator is our own (`randomness`), the numbers are IEEE float64 and the elementary functions are the
engine's, so the same version of chainrule makes the same bytes from the same arguments wherever it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chainrule_engine.derivatives import evaluate
from chainrule_engine.errors import MAX_PROBLEMS, Problem
from chainrule_engine.exercises.building import Builder, Corner, Shape
from chainrule_engine.exercises.errors import ExerciseError
from chainrule_engine.exercises.point import formula
from chainrule_engine.exercises.randomness import SplitMix64
from chainrule_engine.exercises.strength import Exercise
from chainrule_engine.grading import read_task
from chainrule_engine.graph import Graph, describe
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.refusals import LARGEST_EXACT_INTEGER, closest

#: More is no exercise for a person, and few larger graphs keep to moderate numbers.
MAX_NODES = 50
DEFAULT_OPERATIONS = ("add", "sub", "mul", "pow", "tanh")
FORMS = ("nodes", "program")

#: The magnitudes of the gradients of an exercise: of all, and of the inputs.
_LARGEST_GRADIENT, _SMALLEST_GRADIENT = 1000.0, 0.01
#: So many nodes are drawn at most, for so many graphs at most, and of the graphs that suit so many are compared.
_DRAWN, _BUILDS, _COMPARED = 5000, 400, 20

#: By the reason for which most attempts ended: where the request is to change, and how.
_REFUSALS = {
    "depth": (("depth",), "no graph of this depth was found: choose another depth, or leave it out"),
    "sharing": (("sharing",), "no graph that shares so many nodes was found: lower the sharing, or ask for more nodes"),
    "numbers": (("operations",), "no numbers were found that keep these operations moderate and away from kinks"),
    "gradients": (
        ("operations",),
        "no graph was found in which every input has a gradient: add operations through which gradients flow, "
        "or nodes, or ask for fewer inputs",
    ),
}  # fmt: skip


def generate(
    seed: int,
    *,
    nodes: int = 8,
    inputs: int = 3,
    operations: Sequence[str] = DEFAULT_OPERATIONS,
    depth: int | None = None,
    sharing: int = 1,
    form: str = "nodes",
) -> dict[str, Any]:
    """Return the wire's form of a random graph: inputs x1, x2, …, nodes n1, n2, …, and the output y.

    seed        any integer that JSON carries exactly; another seed is another graph
    nodes       how many, the output included
    inputs      how many; each feeds the output and has a gradient that is not 0
    operations  what the nodes are made of; each occurs at least once. An exponent is a literal number.
    depth       the number of operations on the longest way from an input to the output; any when left out
    sharing     at least so many nodes, inputs not counted, are used more than once: without one, mistakes in the order
                of the backward pass do not show
    form        "nodes" or "program"

    Inputs are small multiples of ½ or ¼; sums, products and the like have few digits where that was possible. Nothing
    is within 0.1 of a kink, and values and gradients are moderate. Of several graphs the one is taken in which the
    fewest known mistakes look like right answers.

    Raises ExerciseError where the request breaks a rule or no such graph was found, with the path of what to change.
    """
    shape = _read(seed, nodes, inputs, operations, depth, sharing, form)
    random = SplitMix64(seed)
    best: Graph | None = None
    fewest: int | None = None
    compared = 0
    corners: Counter[str] = Counter()
    for _ in range(min(_BUILDS, _DRAWN // nodes)):
        try:
            graph = _build(shape, random.split())
        except Corner as corner:
            corners[corner.reason] += 1
            continue
        missed = _count_missed(graph)
        if fewest is None or missed < fewest:
            best, fewest = graph, missed
        compared += 1
        if missed == 0 or compared == _COMPARED:
            break
    if best is None:
        path, detail = _REFUSALS[corners.most_common(1)[0][0]]
        raise ExerciseError.at(path, detail)
    return best.to_dict() if form == "nodes" else _as_program(best)


def _read(
    seed: object, nodes: object, inputs: object, operations: object, depth: object, sharing: object, form: object
) -> Shape:
    problems: list[Problem] = []

    def whole(name: str, number: object, low: int, high: int) -> int:
        if type(number) is not int:
            problems.append(Problem((name,), f"a whole number is needed here, and this is {describe(number)}"))
        elif not low <= number <= high:
            problems.append(Problem((name,), f"choose a number from {low} to {high}"))
        else:
            return number
        return low

    whole("seed", seed, -LARGEST_EXACT_INTEGER, LARGEST_EXACT_INTEGER)
    size = whole("nodes", nodes, 1, MAX_NODES)
    width = whole("inputs", inputs, 1, MAX_NODES)
    deep = None if depth is None else whole("depth", depth, 1, size)
    shared = whole("sharing", sharing, 0, MAX_NODES)
    if not isinstance(form, str) or form not in FORMS:
        problems.append(Problem(("form",), f"choose one of {', '.join(FORMS)}"))
    names: dict[str, None] = {}
    if isinstance(operations, str) or not isinstance(operations, Sequence):
        problems.append(Problem(("operations",), f"a list of operations is needed, and this is {describe(operations)}"))
    else:
        for place, name in enumerate(operations[: MAX_PROBLEMS + len(OPERATIONS)]):
            if not isinstance(name, str):
                problems.append(Problem(("operations", place), f"a name is needed here, and this is {describe(name)}"))
            elif name not in OPERATIONS:
                problems.append(Problem(("operations", place), f"unknown operation{closest(name, OPERATIONS)}"))
            else:
                names[name] = None
        if not operations:
            problems.append(Problem(("operations",), "name at least one operation"))
    if problems:
        raise ExerciseError(problems)
    shape = Shape(size, width, tuple(names), deep, shared)
    if len(names) > size:
        raise ExerciseError.at(("nodes",), f"{len(names)} operations, each of which is to occur, take as many nodes")
    if shape.offered < shape.needed:
        raise ExerciseError.at(
            ("nodes",),
            f"{size} nodes of these operations have {shape.offered} arguments at most, and it takes {shape.needed} "
            f"to use {width} inputs, all nodes, and {shared} of them once more: ask for more nodes",
        )
    if shape.holds < size:
        raise ExerciseError.at(("depth",), f"a graph of depth {deep} has {shape.holds} nodes at most")
    return shape


def _build(shape: Shape, random: SplitMix64) -> Graph:
    inputs, nodes = Builder(shape, random).build()
    wire = [{"id": node.id, "op": node.op, "args": list(node.args)} for node in nodes]
    graph = Graph.from_dict({"inputs": inputs, "nodes": wire, "output": "y"})
    gradients = evaluate(graph).gradients
    sizes = {name: abs(float(number)) for name, number in gradients.items()}  # type: ignore[arg-type]  # one point
    if not all(size <= _LARGEST_GRADIENT for size in sizes.values()):
        raise Corner("numbers")
    if not all(sizes[name] >= _SMALLEST_GRADIENT for name in inputs):
        raise Corner("gradients")
    return graph


def _as_program(graph: Graph) -> dict[str, Any]:
    # Every literal number is an exponent, and whole.
    lines = [
        f"{node.id} = {formula(node.op, [a if isinstance(a, str) else str(int(a)) for a in node.args])}"
        for node in graph.nodes
    ]
    return {"inputs": dict(graph.inputs), "program": "\n".join(lines), "output": graph.outputs[0]}


def _count_missed(graph: Graph) -> int:
    task = read_task({"evaluation": {"graph": graph.to_dict()}})
    return sum(missed.matters for missed in Exercise(task).weaknesses())
