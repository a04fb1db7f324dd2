"""What gradients may be where a graph is evaluated exactly at a kink and calculus leaves a choice.

At a kink the local derivative is any number of an interval (`operations.Kink`); at a tie of max or min the two shares
are w and 1 - w. A gradient is linear in each of these choices, so over all of them it is largest and smallest at a
corner: where every choice is an end of its interval. With up to MAX_CORNERS kinks all corners are tried, and the ends
are exact; with more, or in a large graph, intervals are carried through the backward pass, which may give wider ones.
Of a graph that is too large for that at all of its points, the last follow the conventions.

(Griewank and Walther, Evaluating Derivatives, 2nd ed., 2008, ch. 14; Moore, Interval Analysis, 1966.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from chainrule_engine import kernels
from chainrule_engine.graph import Graph, Numbers
from chainrule_engine.kernels import Column, Instruction
from chainrule_engine.operations import Constant
from chainrule_engine.tape import Tape

Interval = tuple[float, float]

#: With up to so many kinks at a point every combination of choices is tried, if that visits no more nodes than this.
MAX_CORNERS, MAX_CORNER_VISITS = 8, 200_000
#: So many nodes are visited for all points together.
MAX_VISITS = 500_000


class _Point(NamedTuple):
    """A graph at one point that has kinks or jumps.

    position  among the points
    columns   a column of one number per slot
    seeds     slot → its cotangent, a column
    kinks     the places of the instructions at a kink or a jump that a gradient passes through
    """

    position: int
    columns: list[Column]
    seeds: dict[int, Column]
    kinks: list[int]


class _Passes:
    """Looks at the points of a graph one by one, and keeps account of the work."""

    def __init__(self, graph: Graph, seeds: Mapping[str, object] | None, most: int) -> None:
        self.graph, self.tape, self.most = graph, Tape(graph), most
        given = dict.fromkeys(graph.outputs, 1.0) if seeds is None else seeds
        self.seeds = {self.tape.slot(graph.aliases.get(name, name)): seed for name, seed in given.items()}
        self.wanted = bytearray(b"\1") * self.tape.size
        for slot in self.tape.literals:
            self.wanted[slot] = 0
        self.visits = 0

    def points(self) -> Iterator[_Point]:
        """Yield the points that have kinks, as long as the work for that is within bounds."""
        count = self.graph.points or 1
        forward = self.tape.forward(self.graph.inputs, count)
        places = self.tape.at_kinks(forward)
        columns = list(forward) if places else []
        instructions = [self.tape.instruction(place) for place in places]
        for p in range(count if places else 0):
            self.visits += len(places)
            at = [
                place
                for place, (_, operation, args) in zip(places, instructions, strict=True)
                if operation.kink is not None and operation.kink.at(*[columns[a][p] for a in args])
            ]
            if not at:
                continue
            self.visits += len(self.tape.instructions)
            if self.visits > self.most:
                return
            here = [[float(column[p])] for column in columns]
            seeds = {
                slot: [float(seed[p] if isinstance(seed, list) else seed)]  # type: ignore[arg-type]  # a number
                for slot, seed in self.seeds.items()
            }
            gradients = kernels.backward(self.tape.instructions, here, seeds, self.wanted)
            reached = [place for place in at if gradients[self.tape.instructions[place].target] is not None]
            if reached:
                yield _Point(p, here, seeds, reached)

    def ends(self, point: _Point) -> list[Interval] | None:
        """Return the interval of every slot's gradient at a point; None where there is nothing to choose."""
        choices = [place for place in point.kinks if _interval(self.tape.instructions[place])]
        if not choices:
            return None
        corners = len(self.tape.instructions) << min(len(choices), MAX_CORNERS)
        if len(choices) <= MAX_CORNERS and corners <= MAX_CORNER_VISITS and self.visits + corners <= self.most:
            self.visits += corners
            return self.corners(point, choices)
        self.visits += len(self.tape.instructions)
        return self.intervals(point, frozenset(choices))

    def corners(self, point: _Point, choices: Sequence[int]) -> list[Interval]:
        """Try every combination of the ends of the choices' intervals."""
        tape = self.tape
        low, high = [math.inf] * tape.size, [-math.inf] * tape.size
        ends = [_interval(tape.instructions[place]) or (0.0, 0.0) for place in choices]
        instructions = list(tape.instructions)
        for corner in product(*ends):
            for place, end in zip(choices, corner, strict=True):
                instructions[place] = _choose(tape.instructions[place], end)
            for slot, column in enumerate(kernels.backward(instructions, point.columns, point.seeds, self.wanted)):
                gradient = 0.0 if column is None else column[0]
                low[slot], high[slot] = min(low[slot], gradient), max(high[slot], gradient)
        return list(zip(low, high, strict=True))

    def intervals(self, point: _Point, choices: frozenset[int]) -> list[Interval]:
        """Run the backward pass with intervals."""
        tape = self.tape
        gradients: list[Interval | None] = [None] * tape.size
        for slot, seed in point.seeds.items():
            gradients[slot] = (seed[0], seed[0])
        for place in range(len(tape.instructions) - 1, -1, -1):
            target, operation, args = instruction = tape.instructions[place]
            upstream = gradients[target]
            if upstream is None:
                continue
            numbers = [point.columns[slot][0] for slot in (*args, target)]
            ends = _interval(instruction) if place in choices else None
            for partial, slot in zip(operation.partials, args, strict=True):
                local = partial(*numbers)
                if not self.wanted[slot] or (operation.selective and local == 0.0):
                    continue
                products = [u * end for u in upstream for end in ends or (local,)]
                before = gradients[slot] or (0.0, 0.0)
                gradients[slot] = (before[0] + min(products), before[1] + max(products))
        return [interval or (0.0, 0.0) for interval in gradients]


@dataclass(frozen=True)
class Kinks:
    """What kinks leave open in a graph.

    nodes       the ids of the nodes that are at a kink or a jump, at any point, on a way from an input to an output
    admissible  id → the interval of its gradient at each point, for every id whose gradient depends on a choice
    """

    nodes: list[str]
    admissible: dict[str, list[Interval]]


def find_kinks(
    graph: Graph, seeds: Mapping[str, object] | None, gradients: Mapping[str, Numbers], share: int = 1
) -> Kinks:
    """Find the kinks of a graph at its points, and what the gradients may be there.

    seeds      output id or alias → cotangent, as for `evaluate`; they are right already
    gradients  id → the gradient by the conventions, which is all there is to choose at a point without kinks
    share      for how many times that it is called the bound of the work is
    """
    passes = _Passes(graph, seeds, MAX_VISITS // share)
    tape = passes.tape
    places: set[int] = set()
    found: dict[int, list[Interval]] = {}
    for point in passes.points():
        places.update(point.kinks)
        ends = passes.ends(point)
        if ends is not None:
            found[point.position] = ends
    admissible: dict[str, list[Interval]] = {}
    for name, slot in zip(graph.nodes.names, tape.declared, strict=True):
        if any(ends[slot][0] != ends[slot][1] for ends in found.values()):
            column = gradients[name]
            intervals = [(g, g) for g in (column if isinstance(column, list) else [column])]
            for position, ends in found.items():
                intervals[position] = ends[slot]
            admissible[name] = intervals
    return Kinks([str(tape.name(tape.instructions[place].target)) for place in sorted(places)], admissible)


def _interval(instruction: Instruction) -> Interval | None:
    kink = instruction.operation.kink
    return kink.interval or None if kink is not None else None


def _choose(instruction: Instruction, end: float) -> Instruction:
    """Return the instruction with this local derivative at its kink; of two arguments the other has the rest of 1."""
    partials = (Constant(end),) if instruction.operation.arity == 1 else (Constant(end), Constant(1.0 - end))
    return instruction._replace(operation=replace(instruction.operation, partials=partials))
