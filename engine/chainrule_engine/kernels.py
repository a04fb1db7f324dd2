"""The inner loops of the tape: forward and backward over columns of numbers, one column per slot, one row per point.

These are plain Python, and the only place where that matters: a compiled form of the same loops replaces this module
without touching another. The order of every rounding is that of `Value`: for each node in turn, upstream times local,
added to the arguments from left to right; points are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import add, mul
from typing import NamedTuple

from chainrule_engine.operations import ONE, Constant, Operand, Operation

Column = list[float]


class Instruction(NamedTuple):
    """Compute `operation` of the slots `args` into the slot `target`."""

    target: int
    operation: Operation
    args: tuple[int, ...]


#: Called after each addition of the backward pass: (from slot, to slot, upstream, local, contribution, total).
Recorder = Callable[[Instruction, int, Column, Column, Column, Column], None]


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
) -> list[Column | None]:
    """Return the gradient column of every slot, None where no gradient arrives at any point.

    seeds   the cotangents of the outputs, by slot
    wanted  by slot: whether a gradient is to be passed to it (no constant wants one)
    shared  slots whose gradient is summed over the points by the caller: the contributions are appended to its lists,
            one column per use, in the order of the pass, and are not added up here
    """
    gradients: list[Column | None] = [None] * len(columns)
    # Where a selective operation took one branch at some points and another at others: by slot, the points reached.
    reached: dict[int, list[bool]] = {}
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
