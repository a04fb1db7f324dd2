"""What gradients may be where a graph is evaluated exactly at a kink and calculus leaves a choice.

At a kink the local derivative is any number of an interval (`operations.Kink`); at a tie of max or min the two shares
are w and 1 - w. A gradient is linear in each of these choices, so over all of them it is largest and smallest at a
corner: where every choice is an end of its interval. With up to MAX_CORNERS kinks all corners are tried, and the ends
are exact; with more, intervals are carried through the backward pass, which may give wider ones.

(Griewank and Walther, Evaluating Derivatives, 2nd ed., 2008, ch. 14; Moore, Interval Analysis, 1966.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from chainrule_engine import kernels
from chainrule_engine.graph import Graph
from chainrule_engine.kernels import Column, Instruction
from chainrule_engine.operations import Constant
from chainrule_engine.tape import Tape

Interval = tuple[float, float]

#: With up to so many kinks at a point every combination of choices is tried.
MAX_CORNERS = 8


class _Point(NamedTuple):
    """A graph at one point.

    columns   a column of one number per slot
    seeds     slot → its cotangent, a column
    wanted    which slots a gradient is passed to
    kinks     the places of the instructions at a kink or a jump that a gradient passes through
    """

    columns: list[Column]
    seeds: dict[int, Column]
    wanted: bytearray
    kinks: list[int]


def kinks_of(graph: Graph, seeds: Mapping[str, object] | None) -> list[str]:
    """Return the ids of the nodes that are at a kink or a jump, at any point, on a way from an input to an output."""
    tape = Tape(graph)
    places = sorted({place for point in _points(tape, seeds) for place in point.kinks})
    return [str(tape.name(tape.instructions[place].target)) for place in places]


def admissible_gradients(graph: Graph, seeds: Mapping[str, object] | None) -> dict[str, list[Interval]]:
    """Return id → its interval at each point, for every id whose gradient depends on a choice at a kink.

    seeds  output id or alias → cotangent, as for `evaluate`; they are right already
    """
    tape = Tape(graph)
    found: list[list[Interval]] = []
    for point in _points(tape, seeds):
        choices = [place for place in point.kinks if _interval(tape.instructions[place])]
        ends = _corners if len(choices) <= MAX_CORNERS else _by_intervals
        found.append(ends(tape, point, choices))
    gradients: dict[str, list[Interval]] = {}
    for name, slot in zip(graph.nodes.names, tape.declared, strict=True):
        intervals = [ends[slot] for ends in found]
        if any(low != high for low, high in intervals):
            gradients[name] = intervals
    return gradients


def _points(tape: Tape, seeds: Mapping[str, object] | None) -> Iterable[_Point]:
    graph = tape.graph
    count = graph.points or 1
    columns = list(tape.forward(graph.inputs, count))
    given = dict.fromkeys(graph.outputs, 1.0) if seeds is None else seeds
    cotangents = {tape.slot(graph.aliases.get(name, name)): seed for name, seed in given.items()}
    wanted = bytearray(b"\1") * tape.size
    for slot in tape.literals:
        wanted[slot] = 0
    at_kinks = kernels.at_kinks(tape.instructions, columns)
    if not at_kinks:
        return
    for p in range(count):
        here = [[float(column[p])] for column in columns]
        starts = {
            slot: [float(seed[p] if isinstance(seed, list) else seed)]  # type: ignore[arg-type]  # a number
            for slot, seed in cotangents.items()
        }
        gradients = kernels.backward(tape.instructions, here, starts, wanted)
        places = [
            place
            for place in kernels.at_kinks([tape.instructions[k] for k in at_kinks], here)
            if gradients[tape.instructions[at_kinks[place]].target] is not None
        ]
        yield _Point(here, starts, wanted, [at_kinks[place] for place in places])


def _interval(instruction: Instruction) -> Interval | None:
    kink = instruction.operation.kink
    return kink.interval or None if kink is not None else None


def _choose(instruction: Instruction, end: float) -> Instruction:
    """Return the instruction with this local derivative at its kink; of two arguments the other has the rest of 1."""
    partials = (Constant(end),) if instruction.operation.arity == 1 else (Constant(end), Constant(1.0 - end))
    return instruction._replace(operation=replace(instruction.operation, partials=partials))


def _corners(tape: Tape, point: _Point, choices: Sequence[int]) -> list[Interval]:
    low, high = [math.inf] * tape.size, [-math.inf] * tape.size
    ends = [_interval(tape.instructions[place]) or (0.0, 0.0) for place in choices]
    instructions = list(tape.instructions)
    for corner in product(*ends):
        for place, end in zip(choices, corner, strict=True):
            instructions[place] = _choose(tape.instructions[place], end)
        for slot, column in enumerate(kernels.backward(instructions, point.columns, point.seeds, point.wanted)):
            gradient = 0.0 if column is None else column[0]
            low[slot], high[slot] = min(low[slot], gradient), max(high[slot], gradient)
    return list(zip(low, high, strict=True))


def _by_intervals(tape: Tape, point: _Point, choices: Sequence[int]) -> list[Interval]:
    gradients: list[Interval | None] = [None] * tape.size
    for slot, seed in point.seeds.items():
        gradients[slot] = (seed[0], seed[0])
    chosen = frozenset(choices)
    for place in range(len(tape.instructions) - 1, -1, -1):
        target, operation, args = instruction = tape.instructions[place]
        upstream = gradients[target]
        if upstream is None:
            continue
        numbers = [point.columns[slot][0] for slot in (*args, target)]
        for partial, slot in zip(operation.partials, args, strict=True):
            local = partial(*numbers)
            ends = _interval(instruction) if place in chosen else None
            if not point.wanted[slot] or (operation.selective and local == 0.0):
                continue
            products = [u * end for u in upstream for end in ends or (local,)]
            before = gradients[slot] or (0.0, 0.0)
            gradients[slot] = (before[0] + min(products), before[1] + max(products))
    return [interval or (0.0, 0.0) for interval in gradients]
