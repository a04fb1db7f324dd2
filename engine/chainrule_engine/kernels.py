"""The inner loops of the tape: forward and backward over columns of numbers, one column per slot, one row per point.

Along directions (tangents, and the tangents of the gradients) a column has one row per point of each direction in turn.

These are plain Python; `compiled` has the loops of values and gradients in machine code as well. The order of every
rounding is that of `Value`: for each node in turn, upstream times local, added to the arguments from left to right;
points are independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import add, mul
from typing import NamedTuple

from chainrule_engine.operations import ONE, Constant, Operand, Operation

Column = list[float]
Mask = list[bool]


class Flow(NamedTuple):
    """What travels along an edge in several directions at once.

    numbers  one per point of each direction, 0.0 where nothing arrives
    reached  where something arrives; None is everywhere
    """

    numbers: Column
    reached: Mask | None = None


class Instruction(NamedTuple):
    """Compute `operation` of the slots `args` into the slot `target`."""

    target: int
    operation: Operation
    args: tuple[int, ...]


#: Called after each addition of the backward pass: (from slot, to slot, upstream, local, contribution, total).
Recorder = Callable[[Instruction, int, Column, Column, Column, Column], None]
#: Called after an instruction has added to the tangent of a gradient: (from slot, to slot, upstream, total).
FlowRecorder = Callable[[Instruction, int, Flow | None, Flow], None]


class Fault(NamedTuple):
    """Where the first infinity or NaN arose: the instruction, and the points."""

    instruction: Instruction
    points: list[int]


class Break(NamedTuple):
    """Where the backward pass first added up to an infinity or a NaN, at which points, and the numbers at the first."""

    instruction: Instruction
    slot: int
    points: list[int]
    upstream: float
    local: float
    total: float


def forward(instructions: Iterable[Instruction], columns: list[Column]) -> None:
    """Fill the column of every target; the columns of the leaves must be there."""
    for target, operation, args in instructions:
        columns[target] = list(map(operation.value, *[columns[a] for a in args]))


def _local(partial: Callable[..., float], operands: list[Column], result: Column) -> Column:
    if isinstance(partial, Constant):
        return [partial.number] * len(result)
    if isinstance(partial, Operand):
        return [*operands, result][partial.position]
    return list(map(partial, *operands, result))


def backward(
    instructions: Sequence[Instruction],
    columns: Sequence[Column],
    seeds: dict[int, Column],
    wanted: Sequence[bool],
    shared: dict[int, list[Column]] | None = None,
    record: Recorder | None = None,
    reached: dict[int, Mask] | None = None,
) -> list[Column | None]:
    """Return the gradient column of every slot, None where no gradient arrives at any point.

    seeds   the cotangents of the outputs, by slot
    wanted  by slot: whether a gradient is to be passed to it (no constant wants one)
    shared  slots whose gradient is summed over the points by the caller: the contributions are appended to its lists,
            one column per use, in the order of the pass, and are not added up here
    reached  is filled, where a selective operation took one branch at some points and another at others: by slot, the
            points at which a gradient arrives
    """
    gradients: list[Column | None] = [None] * len(columns)
    reached = {} if reached is None else reached
    for slot, seed in seeds.items():
        gradients[slot] = [0.0 + s for s in seed]
    for instruction in reversed(instructions):
        target, operation, args = instruction
        upstream = gradients[target]
        if upstream is None:
            continue
        operands = [columns[a] for a in args]
        mask = reached.get(target)
        for partial, slot in zip(operation.partials, args, strict=True):
            if not wanted[slot]:
                continue
            local = _local(partial, operands, columns[target])
            flow = mask
            if operation.selective:
                selected = [number != 0.0 for number in local]
                flow = selected if mask is None else [s and m for s, m in zip(selected, mask, strict=True)]
                if not any(flow):
                    continue
            # Times 1.0 changes no bit.
            contribution = upstream if partial is ONE else list(map(mul, upstream, local))
            if flow is not None and not all(flow):
                # Adding 0.0 to a sum that began as 0.0 changes no bit, so it stands for "nothing was added".
                contribution = [c if f else 0.0 for c, f in zip(contribution, flow, strict=True)]
            else:
                flow = None
            if shared is not None and slot in shared:
                shared[slot].append(contribution)
                continue
            before = gradients[slot]
            if before is None:
                if flow is not None:
                    reached[slot] = flow
                # 0.0 + c, not c: a sum that begins with 0.0 has no -0.0, here as in `Value`.
                total = list(map((0.0).__add__, contribution))
            else:
                if slot in reached:
                    if flow is None:
                        del reached[slot]
                    else:
                        reached[slot] = [a or b for a, b in zip(reached[slot], flow, strict=True)]
                total = list(map(add, before, contribution))
            gradients[slot] = total
            if record is not None:
                record(instruction, slot, upstream, local, contribution, total)
    return gradients


def is_finite(column: Column) -> bool:
    """Whether every number is."""
    return all(map(math.isfinite, column))


def first_fault(instructions: Iterable[Instruction], columns: Sequence[Column]) -> Fault | None:
    """Find the first instruction, in the order of evaluation, whose result is not finite though its arguments are."""
    for instruction in instructions:
        column = columns[instruction.target]
        if is_finite(column):
            continue
        arguments = zip(*(columns[a] for a in instruction.args), strict=True)
        points = [
            point
            for point, (number, numbers) in enumerate(zip(column, arguments, strict=True))
            if not math.isfinite(number) and all(map(math.isfinite, numbers))
        ]
        if points:
            return Fault(instruction, points)
    return None


def at_kinks(instructions: Iterable[Instruction], columns: Sequence[Column]) -> list[int]:
    """Return which of the instructions are evaluated exactly at a kink or a jump, at any point."""
    return [
        place
        for place, (_, operation, args) in enumerate(instructions)
        if operation.kink is not None and any(map(operation.kink.at, *[columns[a] for a in args]))
    ]


def first_break(
    instructions: Sequence[Instruction],
    columns: Sequence[Column],
    seeds: dict[int, Column],
    wanted: Sequence[bool],
) -> Break | None:
    """Find the first addition of `backward`, which is run once more, that gives an infinity or a NaN."""
    found: list[Break] = []

    def look(
        instruction: Instruction, slot: int, upstream: Column, local: Column, contribution: Column, total: Column
    ) -> None:
        if not found and not is_finite(total):
            # Nothing before this was infinite or NaN, so this node's rule is to blame at each of the points.
            points = [point for point, number in enumerate(total) if not math.isfinite(number)]
            p = points[0]
            found.append(Break(instruction, slot, points, upstream[p], local[p], total[p]))

    backward(instructions, columns, seeds, wanted, record=look)
    return found[0] if found else None


def _times(flow: Flow, factors: Column, only: Mask | None = None) -> Flow | None:
    """Multiply a flow; `only` says where it may pass, and None comes back where it may not pass anywhere."""
    reached = flow.reached
    if only is not None:
        reached = only if reached is None else [r and o for r, o in zip(reached, only, strict=True)]
    product = list(map(mul, flow.numbers, factors))
    if reached is None or all(reached):
        return Flow(product)
    if not any(reached):
        return None
    # Not the product with 0.0: where nothing passes, 0·inf must not make a NaN.
    return Flow([p if r else 0.0 for p, r in zip(product, reached, strict=True)], reached)


def _plus(total: Flow | None, term: Flow | None) -> Flow | None:
    """Add two flows; as in `backward` a sum begins with 0.0, so that a term that is not there changes no bit."""
    if term is None:
        return total
    if total is None:
        return Flow(list(map((0.0).__add__, term.numbers)), term.reached)
    reached = None
    if total.reached is not None and term.reached is not None:
        reached = [t or r for t, r in zip(total.reached, term.reached, strict=True)]
    return Flow(list(map(add, total.numbers, term.numbers)), reached)


def tangents(
    instructions: Iterable[Instruction], columns: Sequence[Column], seeds: dict[int, Flow], directions: int
) -> list[Flow | None]:
    """Return the tangent of every slot: the sum of partial times tangent over its arguments, from left to right.

    A slot that depends on no input with a tangent has None. Where it depends on one at some points or in some
    directions only, the others count as not reached: no path leads there, and 0·inf makes no NaN.

    seeds  the tangents of the inputs, by slot
    """
    flows: list[Flow | None] = [None] * len(columns)
    for slot, seed in seeds.items():
        flows[slot] = _plus(None, seed)
    for target, operation, args in instructions:
        total: Flow | None = None
        for partial, slot in zip(operation.partials, args, strict=True):
            flow = flows[slot]
            if flow is None:
                continue
            local = _local(partial, [columns[a] for a in args], columns[target]) * directions
            only = [number != 0.0 for number in local] if operation.selective else None
            total = _plus(total, _times(flow, local, only))
        flows[target] = total
    return flows


def adjoint_tangents(
    instructions: Sequence[Instruction],
    columns: Sequence[Column],
    gradients: Sequence[Column | None],
    reached: dict[int, Mask],
    tangents: Sequence[Flow | None],
    wanted: Sequence[bool],
    directions: int,
    record: FlowRecorder | None = None,
) -> list[Flow | None]:
    """Return the tangent of every slot's gradient, None where there is none: Hessian times direction.

    For each node in the order of `backward` and for each of its arguments from left to right, first the tangent of the
    node's gradient times the local derivative is added to the argument's, and then, for every argument that has a
    tangent, from left to right, (gradient times second partial) times tangent.

    gradients, reached, wanted   of `backward`, after it has run
    tangents                     of `tangents`
    """
    flows: list[Flow | None] = [None] * len(columns)
    for instruction in reversed(instructions):
        target, operation, args = instruction
        gradient, upstream = gradients[target], flows[target]
        if gradient is None:
            continue
        operands = [columns[a] for a in args]
        arrived = reached.get(target)
        only = None if arrived is None else arrived * directions
        for position, (partial, slot) in enumerate(zip(operation.partials, args, strict=True)):
            if not wanted[slot]:
                continue
            total = flows[slot]
            if upstream is not None:
                local = _local(partial, operands, columns[target]) * directions
                selected = [number != 0.0 for number in local] if operation.selective else None
                total = _plus(total, _times(upstream, local, selected))
            for other, a in enumerate(args):
                tangent = tangents[a]
                second = operation.second_partials.get((min(position, other), max(position, other)))
                if tangent is not None and second is not None:
                    bend = list(map(mul, gradient, _local(second, operands, columns[target])))
                    total = _plus(total, _times(tangent, bend * directions, only))
            flows[slot] = total
            if record is not None and total is not None:
                record(instruction, slot, upstream, total)
    return flows
