"""Values, gradients, warnings and the steps of the backward pass of one graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.errors import MAX_PROBLEMS, EvaluationError, Problem
from chainrule_engine.graph import Graph, Numbers, is_named, read_number
from chainrule_engine.kernels import Column, Instruction
from chainrule_engine.tape import Tape

#: What may be asked for, with what it means.
DERIVATIVES = {
    "gradient": "the value and the gradient of every named id",
    "none": "the values alone",
}

#: So many warnings of one kind are listed; a last one counts the others.
MAX_WARNINGS = 32
#: So many points are named in a warning about a batch.
MAX_WARNED_POINTS = 10


@dataclass(frozen=True)
class Evaluation:
    """What came of evaluating a graph.

    output         the id of the output, or the list of ids where the graph asked for a list
    value          its value; a list for a batch of points; a list of these for a list of outputs
    values         id → value, for every named input and node
    gradients      id → d(Σ seed·output)/d(id), the same ids; empty for the derivative "none"
    warnings       kinks, jumps, and where the first infinity or NaN arose
    steps          each addition of the backward pass, in order; None unless asked for
    all_values, all_gradients   the same with the unnamed nodes
    """

    output: str | list[str]
    value: Any
    values: dict[str, Numbers]
    gradients: dict[str, Numbers]
    warnings: list[dict[str, Any]]
    steps: list[dict[str, Any]] | None
    all_values: dict[str, Numbers] = field(repr=False)
    all_gradients: dict[str, Numbers] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's members, in the wire's order; numbers that are not finite stay floats."""
        answer: dict[str, Any] = {"output": self.output, "value": self.value, "values": self.values}
        answer |= {"gradients": self.gradients, "warnings": self.warnings}
        if self.steps is not None:
            answer["steps"] = self.steps
        return answer


def evaluate(
    graph: Graph,
    *,
    derivative: str = "gradient",
    seeds: Mapping[str, object] | None = None,
    trace: bool = False,
) -> Evaluation:
    """Evaluate a graph, at every point if its inputs are lists, and differentiate Σ seed·output.

    derivative   one of DERIVATIVES
    seeds        output id (or alias) → its cotangent, a number or one per point; 1 for every output when left out, and
                 nothing flows from an output that the seeds leave out
    trace        also list the steps of the backward pass; for one point only

    Raises EvaluationError with paths ("seeds", id), ("trace",) or ("derivative",).
    """
    if derivative not in DERIVATIVES:
        raise EvaluationError.at(("derivative",), f"choose one of {', '.join(DERIVATIVES)}")
    points = graph.points
    if trace and points is not None:
        raise EvaluationError.at(("trace",), "the steps are listed for one point: send plain numbers as inputs")
    if trace and derivative != "gradient":
        raise EvaluationError.at(("trace",), "without a gradient there are no steps to list")
    count = points or 1
    cotangents = _read_seeds(graph, seeds, count)
    tape = Tape(graph)
    columns = tape.forward(graph.inputs, count)
    warnings = _kinks(tape, columns, points) + _first_non_finite_value(tape, columns, points)
    gradients: list[Column | None] = []
    steps: list[dict[str, Any]] | None = None
    if derivative == "gradient":
        steps = [] if trace else None
        recorder = _StepRecorder(tape, steps) if steps is not None else None
        gradients = tape.backward(columns, cotangents, record=recorder)
        warnings += _first_non_finite_gradient(tape, columns, cotangents, gradients, points)
    all_values: dict[str, Numbers] = {}
    all_gradients: dict[str, Numbers] = {}
    for name in (*graph.inputs, *(node.id for node in graph.nodes)):
        slot = tape.slots[name]
        all_values[name] = columns[slot] if points is not None else columns[slot][0]
        if gradients:
            column = gradients[slot] or [0.0] * count
            all_gradients[name] = column if points is not None else column[0]
    value = [all_values[name] for name in graph.outputs]
    return Evaluation(
        output=graph.outputs[0] if graph.single else list(graph.outputs),
        value=value[0] if graph.single else value,
        values={name: number for name, number in all_values.items() if is_named(name)},
        gradients={name: number for name, number in all_gradients.items() if is_named(name)},
        warnings=warnings,
        steps=steps,
        all_values=all_values,
        all_gradients=all_gradients,
    )


def _read_seeds(graph: Graph, seeds: Mapping[str, object] | None, count: int) -> dict[str, Column]:
    if seeds is None:
        return {name: [1.0] * count for name in graph.outputs}
    problems: list[Problem] = []
    columns: dict[str, Column] = {}
    outputs = set(graph.outputs)
    some = ", ".join(graph.outputs[:5]) + (", …" if len(outputs) > 5 else "")
    for name, seed in seeds.items():
        if len(problems) >= MAX_PROBLEMS:
            break
        path = ("seeds", name)
        output = name if name in outputs else graph.aliases.get(name)
        if output is None:
            problems.append(Problem(path, f"a seed belongs to an output: {some}"))
            continue
        if output in columns:
            problems.append(Problem(path, f"{output} has a seed already: this is another name of it"))
            continue
        if isinstance(seed, list) and (graph.points is None or len(seed) != count):
            wanted = "one number" if graph.points is None else f"a number, or a list of {count} numbers"
            problems.append(Problem(path, f"this graph takes {wanted}, and this is a list of {len(seed)}"))
            continue
        column: Column = []
        for place, item in enumerate(seed if isinstance(seed, list) else [seed]):
            number = read_number(item)
            if isinstance(number, str):
                problems.append(Problem((*path, place) if isinstance(seed, list) else path, number))
            else:
                column.append(number)
        columns[output] = column if isinstance(seed, list) else column * count
    if problems:
        raise EvaluationError(problems)
    if not seeds:
        raise EvaluationError.at(("seeds",), "give the seed of an output, or leave seeds out")
    return columns


class _StepRecorder:
    """Writes down each addition of the backward pass in the form of the wire."""

    def __init__(self, tape: Tape, steps: list[dict[str, Any]]) -> None:
        self.names, self.steps = tape.names, steps

    def __call__(
        self,
        instruction: Instruction,
        to: int,
        upstream: Column,
        local: Column,
        contribution: Column,
        total: Column,
    ) -> None:
        self.steps.append(
            {
                "from": self.names[instruction.target],
                "to": self.names[to],
                "op": instruction.operation.name,
                "upstream": upstream[0],
                "local": local[0],
                "contribution": contribution[0],
                "total": total[0],
            }
        )


def _warning(code: str, node: str | None, detail: str, at: list[int], points: int | None) -> dict[str, Any]:
    warning: dict[str, Any] = {"code": code, "node": node, "detail": detail}
    if points is not None:
        warning["points"] = at[:MAX_WARNED_POINTS]
    return warning


def _kinks(tape: Tape, columns: list[Column], points: int | None) -> list[dict[str, Any]]:
    """Warn of every node that is evaluated exactly at a kink or at a jump."""
    warnings: list[dict[str, Any]] = []
    more = 0
    for target, operation, args in tape.instructions:
        if operation.kink is None:
            continue
        found = list(map(operation.kink, *[columns[a] for a in args]))
        at = [point for point, interval in enumerate(found) if interval is not None]
        if not at:
            continue
        if len(warnings) == MAX_WARNINGS:
            more += 1
            continue
        interval = found[at[0]]
        if interval:
            detail = f"{operation.name} has a kink here ({operation.conventions})"
            warning = _warning("kink", tape.names[target], detail, at, points)
            warning["interval"] = list(interval)
        else:
            detail = f"{operation.name} jumps here, both sides being equal ({operation.conventions})"
            warning = _warning("jump", tape.names[target], detail, at, points)
        warnings.append(warning)
    if more:
        warnings.append(_warning("more", None, f"{more} more nodes are at a kink or a jump", [], None))
    return warnings


def _is_finite(column: Column) -> bool:
    return all(map(math.isfinite, column))


def _first_non_finite_value(tape: Tape, columns: list[Column], points: int | None) -> list[dict[str, Any]]:
    """Name the first node, in the order of evaluation, that is not finite though all its arguments are."""
    for target, operation, args in tape.instructions:
        if _is_finite(columns[target]):
            continue
        at = [
            point
            for point, value in enumerate(columns[target])
            if not math.isfinite(value) and all(math.isfinite(columns[a][point]) for a in args)
        ]
        if at:
            numbers = ", ".join(repr(columns[a][at[0]]) for a in args)
            detail = f"{operation.name}({numbers}) is {columns[target][at[0]]!r}"
            return [_warning("non_finite_value", tape.names[target], detail, at, points)]
    return []


def _first_non_finite_gradient(
    tape: Tape,
    columns: list[Column],
    seeds: dict[str, Column],
    gradients: list[Column | None],
    points: int | None,
) -> list[dict[str, Any]]:
    """Name the first node, in the order of the backward pass, whose rule made an infinity or a NaN."""
    if all(column is None or _is_finite(column) for column in gradients):
        return []
    found: list[dict[str, Any]] = []

    def look(
        instruction: Instruction,
        to: int,
        upstream: Column,
        local: Column,
        contribution: Column,
        total: Column,
    ) -> None:
        if found or _is_finite(total):
            return
        # Nothing before this was infinite or NaN, so this node's rule is to blame at each of the points.
        at = [p for p, t in enumerate(total) if not math.isfinite(t)]
        p = at[0]
        detail = (
            f"the gradient that {instruction.operation.name} passes to {tape.names[to]} is "
            f"{total[p]!r}: upstream {upstream[p]!r} times local {local[p]!r}"
        )
        found.append(_warning("non_finite_gradient", tape.names[instruction.target], detail, at, points))

    # A second pass that looks at each step: only ever paid for when something went wrong.
    tape.backward(columns, seeds, record=look)
    return found
