"""Derivatives along directions: tangents pushed forward, and forward over reverse for second derivatives.

Exact, like the gradients: no differences are taken. All directions of a Hessian travel at once, one for each input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chainrule_engine.graph import Numbers, is_named
from chainrule_engine.kernels import Column, Flow, Instruction, Mask
from chainrule_engine.tape import Tape


class Broken(NamedTuple):
    """Where the first infinity or NaN arose: what a warning says of it, and the points."""

    code: str
    node: str | None
    detail: str
    points: list[int]


class _Directions(NamedTuple):
    """The tangents of the inputs by id; `names` says what each direction is called, "" where there is only one."""

    names: Sequence[str]
    seeds: Mapping[str, Flow]


def jvp(
    tape: Tape, columns: Sequence[Column], tangent: Mapping[str, Column], points: int | None
) -> tuple[dict[str, Numbers], list[Broken]]:
    """Return output id → derivative along the tangent, a number, or a list for a batch of points; and what broke."""
    flows, broken = _tangents(tape, columns, _along(tangent), points or 1)
    return {name: _numbers(flows[tape.slots[name]], 0, points) for name in tape.graph.outputs}, broken


def hvp(
    tape: Tape,
    columns: Sequence[Column],
    gradients: Sequence[Column | None],
    reached: dict[int, Mask],
    tangent: Mapping[str, Column],
    points: int | None,
) -> tuple[dict[str, Numbers], list[Broken]]:
    """Return named input id → component of Hessian times tangent; and what broke.

    gradients, reached   of the backward pass
    """
    flows, broken = _second(tape, columns, gradients, reached, _along(tangent), points or 1)
    return {name: _numbers(flows[tape.slots[name]], 0, points) for name in named_inputs(tape)}, broken


def hessian(
    tape: Tape,
    columns: Sequence[Column],
    gradients: Sequence[Column | None],
    reached: dict[int, Mask],
    points: int | None,
) -> tuple[dict[str, dict[str, Numbers]], list[Broken]]:
    """Return named input id → named input id → second derivative, the second being the direction; and what broke."""
    names = named_inputs(tape)
    flows, broken = _second(tape, columns, gradients, reached, _each(names, points or 1), points or 1)
    answer = {
        row: {column: _numbers(flows[tape.slots[row]], place, points) for place, column in enumerate(names)}
        for row in names
    }
    return answer, broken


def named_inputs(tape: Tape) -> list[str]:
    """Return the ids of the inputs that an answer reports."""
    return [name for name in tape.graph.inputs if is_named(name)]


def _numbers(flow: Flow | None, direction: int, points: int | None) -> Numbers:
    """Return what arrives in one direction: a number, or a list for a batch of points."""
    if points is None:
        return 0.0 if flow is None else flow.numbers[direction]
    return [0.0] * points if flow is None else flow.numbers[direction * points : (direction + 1) * points]


def _along(tangent: Mapping[str, Column]) -> _Directions:
    return _Directions([""], {name: Flow(column) for name, column in tangent.items()})


def _each(names: Sequence[str], count: int) -> _Directions:
    """One direction for each input, in which that input moves and no other does: not by 0, but not at all."""
    seeds = {}
    for name in names:
        moves = [other == name for other in names for _ in range(count)]
        seeds[name] = Flow([float(there) for there in moves], None if all(moves) else moves)
    return _Directions(names, seeds)


def _tangents(
    tape: Tape, columns: Sequence[Column], directions: _Directions, count: int
) -> tuple[list[Flow | None], list[Broken]]:
    flows = tape.tangents(columns, directions.seeds, len(directions.names))
    for target, operation, args in tape.instructions:
        flow = flows[target]
        if flow is None or _is_finite(flow.numbers):
            continue
        # The first such node has only arguments whose tangents are finite: it is where the trouble began.
        at = [place for place, number in enumerate(flow.numbers) if not math.isfinite(number)]
        numbers = ", ".join(repr(columns[a][at[0] % count]) for a in args)
        detail = (
            f"the tangent of {operation.name}({numbers}) is {flow.numbers[at[0]]!r}"
            f"{_in_direction(directions, at[0] // count)}, though the tangents of its arguments are finite"
        )
        return flows, [Broken("non_finite_tangent", tape.names[target], detail, _points(at, count))]
    return flows, []


def _second(
    tape: Tape,
    columns: Sequence[Column],
    gradients: Sequence[Column | None],
    reached: dict[int, Mask],
    directions: _Directions,
    count: int,
) -> tuple[list[Flow | None], list[Broken]]:
    """Return the tangents of the gradients, by slot."""
    tangents, broken = _tangents(tape, columns, directions, count)
    across = len(directions.names)
    flows = tape.adjoint_tangents(columns, gradients, reached, tangents, across)
    if all(flow is None or _is_finite(flow.numbers) for flow in flows):
        return flows, broken
    found: list[Broken] = []

    def look(instruction: Instruction, to: int, upstream: Flow | None, total: Flow) -> None:
        if found or _is_finite(total.numbers):
            return
        at = [place for place, number in enumerate(total.numbers) if not math.isfinite(number)]
        detail = (
            f"the second derivative that {instruction.operation.name} passes to {tape.names[to]} is "
            f"{total.numbers[at[0]]!r}{_in_direction(directions, at[0] // count)}"
        )
        node = tape.names[instruction.target]
        found.append(Broken("non_finite_second_derivative", node, detail, _points(at, count)))

    # A second pass that looks at each step: only ever paid for when something went wrong.
    tape.adjoint_tangents(columns, gradients, reached, tangents, across, record=look)
    return flows, broken + found


def _in_direction(directions: _Directions, place: int) -> str:
    name = directions.names[place]
    return f" in the direction of {name}" if name else ""


def _points(at: list[int], count: int) -> list[int]:
    return sorted({place % count for place in at})


def _is_finite(column: Column) -> bool:
    return all(map(math.isfinite, column))
