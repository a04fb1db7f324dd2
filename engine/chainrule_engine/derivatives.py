"""Values, gradients, other derivatives, warnings and the steps of the backward pass of one graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, cast

from chainrule_engine import directional
from chainrule_engine.errors import MAX_PROBLEMS, EvaluationError, Problem
from chainrule_engine.graph import Graph, Numbers, count_named, is_named, read_number
from chainrule_engine.kernels import Column, Instruction, Mask
from chainrule_engine.operations import Kink
from chainrule_engine.tape import Gradients, Tape, Values, is_finite, rows


def _costs_nothing_more(inputs: int, outputs: int) -> tuple[int, int]:
    return 0, 0


class Derivative(NamedTuple):
    """What may be asked for besides the values.

    description  what the answer holds, in words
    gradients    whether that includes the gradients of Σ seed·output
    seeds        whether there may be seeds: not where every output is differentiated for itself
    tangent      whether it takes a direction
    cost         (number of named inputs, number of outputs) → at each point, how many passes over the graph it takes
                 beyond those of a gradient, and how many numbers it answers beyond values and gradients
    """

    description: str
    gradients: bool = False
    seeds: bool = True
    tangent: bool = False
    cost: Callable[[int, int], tuple[int, int]] = _costs_nothing_more


#: By its word on the wire, which from jacobian on is also the name of the member of the answer that holds it.
DERIVATIVES = {
    "gradient": Derivative("the gradient of every named id", gradients=True),
    "none": Derivative("the values alone"),
    "jacobian": Derivative(
        "output id → input id → derivative, each output for itself",
        seeds=False,
        cost=lambda inputs, outputs: (outputs, outputs * inputs),
    ),
    "jvp": Derivative(
        "output id → its derivative along the tangent, each output for itself",
        seeds=False,
        tangent=True,
        cost=lambda inputs, outputs: (1, outputs),
    ),
    "hessian": Derivative(
        "input id → input id → second derivative of Σ seed·output, and the gradients",
        gradients=True,
        cost=lambda inputs, outputs: (inputs, inputs * inputs),
    ),
    "hvp": Derivative(
        "input id → product of the Hessian of Σ seed·output and the tangent, and the gradients",
        gradients=True,
        tangent=True,
        cost=lambda inputs, outputs: (1, inputs),
    ),
}

#: These and the steps come from the plain kernels, whatever computed the values.
_DIRECTIONAL = ("jvp", "hvp", "hessian")

#: So many warnings of one kind are listed; a last one counts the others.
MAX_WARNINGS = 32
#: So many points are named in a warning about a batch.
MAX_WARNED_POINTS = 10
#: So many ids are named in an error about one that is not among them.
MAX_NAMES = 5


@dataclass(frozen=True)
class Evaluation:
    """What came of evaluating a graph.

    output         the id of the output, or the list of ids where the graph asked for a list
    value          its value; a list for a batch of points; a list of these for a list of outputs
    values         id → value, for every named input and node
    gradients      id → d(Σ seed·output)/d(id), the same ids; empty where the derivative brings none
    warnings       kinks, jumps, and where the first infinity or NaN arose
    steps          each addition of the backward pass, in order; None unless asked for
    all_values, all_gradients   the same with the unnamed nodes
    jacobian       output id → input id → d(output)/d(input), for every named input; each of these four is None
                   unless asked for
    jvp            output id → Σ d(output)/d(input)·tangent over the inputs
    hessian        input id → input id → d²(Σ seed·output)/d(first)d(second); the two halves are computed on their own
                   and may differ in the last bits
    hvp            input id → Σ over the second of these times tangent: a column of the Hessian for a tangent of 1
    """

    output: str | list[str]
    value: Any
    values: dict[str, Numbers]
    gradients: dict[str, Numbers]
    warnings: list[dict[str, Any]]
    steps: list[dict[str, Any]] | None
    all_values: dict[str, Numbers] = field(repr=False)
    all_gradients: dict[str, Numbers] = field(repr=False)
    jacobian: dict[str, dict[str, Numbers]] | None = None
    jvp: dict[str, Numbers] | None = None
    hessian: dict[str, dict[str, Numbers]] | None = None
    hvp: dict[str, Numbers] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's members, in the wire's order; numbers that are not finite stay floats."""
        answer: dict[str, Any] = {"output": self.output, "value": self.value, "values": self.values}
        answer["gradients"] = self.gradients
        for name in DERIVATIVES:
            if getattr(self, name, None) is not None:
                answer[name] = getattr(self, name)
        answer["warnings"] = self.warnings
        if self.steps is not None:
            answer["steps"] = self.steps
        return answer


def evaluate(
    graph: Graph,
    *,
    derivative: str = "gradient",
    seeds: Mapping[str, object] | None = None,
    tangent: Mapping[str, object] | None = None,
    trace: bool = False,
) -> Evaluation:
    """Evaluate a graph, at every point if its inputs are lists, and differentiate Σ seed·output.

    derivative   one of DERIVATIVES
    seeds        output id (or alias) → its cotangent, a number or one per point; 1 for every output when left out, and
                 nothing flows from an output that the seeds leave out
    tangent      for jvp and hvp: input id → its component of the direction, a number or one per point; an input that is
                 left out stays where it is
    trace        also list the steps of the backward pass; for one point only

    Raises EvaluationError with paths ("seeds", id), ("tangent", id), ("trace",) or ("derivative",).
    """
    if derivative not in DERIVATIVES:
        raise EvaluationError.at(("derivative",), f"choose one of {', '.join(DERIVATIVES)}")
    kind = DERIVATIVES[derivative]
    points = graph.points
    if trace and points is not None:
        raise EvaluationError.at(("trace",), "the steps are listed for one point: send plain numbers as inputs")
    if trace and not kind.gradients:
        raise EvaluationError.at(("trace",), "without a gradient there are no steps to list")
    if seeds is not None and not kind.seeds:
        raise EvaluationError.at(("seeds",), f"{derivative} differentiates each output for itself: leave seeds out")
    if tangent is None and kind.tangent:
        raise EvaluationError.at(("tangent",), f"{derivative} needs the direction: a number for each input that moves")
    if tangent is not None and not kind.tangent:
        takers = " and ".join(name for name, other in DERIVATIVES.items() if other.tangent)
        raise EvaluationError.at(
            ("tangent",), f"{derivative} takes no direction: leave tangent out, or ask for {takers}"
        )
    count = points or 1
    cotangents = _read_columns("seed", "output", graph.outputs, graph, seeds, count)
    direction = _read_columns("tangent", "input", graph.inputs, graph, tangent, count) if kind.tangent else {}
    tape = Tape(graph)
    columns = tape.forward(graph.inputs, count)
    warnings = _kinks(tape, columns, points) + _first_non_finite_value(tape, columns, points)
    plain = trace or derivative in _DIRECTIONAL
    if plain:
        columns = list(columns)
    gradients: Gradients = []
    reached: dict[int, Mask] = {}
    steps: list[dict[str, Any]] | None = None
    if kind.gradients:
        steps = [] if trace else None
        recorder = _StepRecorder(tape, steps) if steps is not None else None
        gradients = tape.backward(columns, cotangents, record=recorder, reached=reached if plain else None)
        warnings += _first_non_finite_gradient(tape, columns, cotangents, gradients, points)
    names = graph.nodes.names
    all_values: dict[str, Numbers] = dict(zip(names, rows(columns, tape.declared, points), strict=True))
    all_gradients: dict[str, Numbers] = {}
    if kind.gradients:
        all_gradients = dict(zip(names, rows(gradients, tape.declared, points), strict=True))
    named = count_named(names) == len(names)
    value = [all_values[name] for name in graph.outputs]
    more: dict[str, Any] = {}
    broken: list[directional.Broken] = []
    if derivative == "jacobian":
        more[derivative], found = _jacobian(tape, columns, points)
        warnings += found
    elif derivative == "jvp":
        more[derivative], broken = directional.jvp(tape, columns, direction, points)
    elif derivative == "hvp":
        more[derivative], broken = directional.hvp(tape, columns, gradients, reached, direction, points)
    elif derivative == "hessian":
        more[derivative], broken = directional.hessian(tape, columns, gradients, reached, points)
    warnings += [_warning(code, node, detail, at, points) for code, node, detail, at in broken]
    passed: dict[int, str] = {}
    for warning in warnings:
        if warning["node"] is not None and not is_named(warning["node"]):
            warning["detail"] += _whereabouts(tape, warning["node"], passed)
    return Evaluation(
        output=graph.outputs[0] if graph.single else list(graph.outputs),
        value=value[0] if graph.single else value,
        values=all_values if named else _named(all_values),
        gradients=all_gradients if named else _named(all_gradients),
        warnings=warnings,
        steps=steps,
        all_values=all_values,
        all_gradients=all_gradients,
        **more,
    )


def _named(numbers: dict[str, Numbers]) -> dict[str, Numbers]:
    return {name: number for name, number in numbers.items() if is_named(name)}


def _read_columns(
    word: str, owner: str, ids: Collection[str], graph: Graph, given: Mapping[str, object] | None, count: int
) -> dict[str, Column]:
    """Read the seeds of outputs, or the tangent of inputs, as columns; the seeds may be left out as a whole."""
    if given is None:
        return {name: [1.0] * count for name in ids}
    member = "seeds" if word == "seed" else word
    known = frozenset(ids)
    some = ", ".join(list(ids)[:MAX_NAMES]) + (", …" if len(ids) > MAX_NAMES else "")
    problems: list[Problem] = []
    columns: dict[str, Column] = {}
    for name, entry in given.items():
        if len(problems) >= MAX_PROBLEMS:
            break
        path = (member, name)
        owned = name if name in known else graph.aliases.get(name)
        if owned not in known:
            problems.append(Problem(path, f"a {word} belongs to an {owner}: {some}"))
            continue
        if owned in columns:
            problems.append(Problem(path, f"{owned} has a {word} already: this is another name of it"))
            continue
        if isinstance(entry, list) and (graph.points is None or len(entry) != count):
            wanted = "one number" if graph.points is None else f"a number, or a list of {count} numbers"
            problems.append(Problem(path, f"this graph takes {wanted}, and this is a list of {len(entry)}"))
            continue
        column: Column = []
        for place, item in enumerate(entry if isinstance(entry, list) else [entry]):
            number = read_number(item)
            if isinstance(number, str):
                problems.append(Problem((*path, place) if isinstance(entry, list) else path, number))
            else:
                column.append(number)
        columns[owned] = column if isinstance(entry, list) else column * count
    if problems:
        raise EvaluationError(problems)
    if not given:
        leave = ", or leave seeds out" if word == "seed" else ""
        raise EvaluationError.at((member,), f"give the {word} of an {owner}{leave}")
    return columns


def _jacobian(
    tape: Tape, columns: Values, points: int | None
) -> tuple[dict[str, dict[str, Numbers]], list[dict[str, Any]]]:
    """Return output id → named input id → derivative, by one backward pass per output; and the first warning."""
    count = points or 1
    names = directional.named_inputs(tape)
    rows: dict[str, dict[str, Numbers]] = {}
    warnings: list[dict[str, Any]] = []
    for output in tape.graph.outputs:
        seeds = {output: [1.0] * count}
        gradients = tape.backward(columns, seeds)
        row = {name: gradients[tape.slot(name)] or [0.0] * count for name in names}
        rows[output] = {name: column if points is not None else column[0] for name, column in row.items()}
        if not warnings:
            warnings = _first_non_finite_gradient(tape, columns, seeds, gradients, points)
    return rows, warnings


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


def _whereabouts(tape: Tape, node: str, passed: dict[int, str]) -> str:
    """Say on the way to which named node an unnamed one lies, as its own id is in no program.

    passed  what was said of the slots on the way, for others that lead there: a way may be long
    """
    slot: int | None = tape.slot(node)
    way: list[int] = []
    said = ""
    while slot is not None:
        if slot in passed:
            said = passed[slot]
            break
        name = tape.name(slot)
        if name is not None and is_named(name):
            said = f"; it is a part of {name}"
            break
        way.append(slot)
        slot = tape.first_use(slot)
    passed |= dict.fromkeys(way, said)
    return said


def _kinks(tape: Tape, columns: Values, points: int | None) -> list[dict[str, Any]]:
    """Warn of every node that is evaluated exactly at a kink or at a jump."""
    warnings: list[dict[str, Any]] = []
    places = tape.at_kinks(columns)
    for place in places[:MAX_WARNINGS]:
        target, operation, args = tape.instruction(place)
        kink = cast("Kink", operation.kink)
        there = map(kink.at, *[columns[a] for a in args])
        at = list(islice((point for point, found in enumerate(there) if found), MAX_WARNED_POINTS))
        if kink.interval:
            detail = f"{operation.name} has a kink here ({operation.conventions})"
            warning = _warning("kink", tape.name(target), detail, at, points)
            warning["interval"] = list(kink.interval)
        else:
            detail = f"{operation.name} jumps here, both sides being equal ({operation.conventions})"
            warning = _warning("jump", tape.name(target), detail, at, points)
        warnings.append(warning)
    if more := len(places) - len(warnings):
        warnings.append(_warning("more", None, f"{more} more nodes are at a kink or a jump", [], None))
    return warnings


def _first_non_finite_value(tape: Tape, columns: Values, points: int | None) -> list[dict[str, Any]]:
    """Name the first node, in the order of evaluation, that is not finite though all its arguments are."""
    if is_finite(columns) or (fault := tape.first_fault(columns)) is None:
        return []
    target, operation, args = fault.instruction
    p = fault.points[0]
    numbers = ", ".join(repr(columns[a][p]) for a in args)
    detail = f"{operation.name}({numbers}) is {columns[target][p]!r}"
    return [_warning("non_finite_value", tape.name(target), detail, fault.points, points)]


def _first_non_finite_gradient(
    tape: Tape, columns: Values, seeds: dict[str, Column], gradients: Gradients, points: int | None
) -> list[dict[str, Any]]:
    """Name the first node, in the order of the backward pass, whose rule made an infinity or a NaN."""
    if is_finite(gradients) or (found := tape.first_break(columns, seeds)) is None:
        return []
    operation = found.instruction.operation
    detail = (
        f"the gradient that {operation.name} passes to {tape.name(found.slot)} is "
        f"{found.total!r}: upstream {found.upstream!r} times local {found.local!r}"
    )
    return [_warning("non_finite_gradient", tape.name(found.instruction.target), detail, found.points, points)]
