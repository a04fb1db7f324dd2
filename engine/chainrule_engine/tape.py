"""The tape: a graph flattened to slots and instructions, ready to run at many points.

The slots are the inputs in the order of their declaration, then one per distinct literal number, then the nodes in the
order of evaluation. `kernels` runs the instructions, or `compiled` does, with the same bits (`acceleration` chooses).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any, cast

from chainrule_engine import acceleration, kernels
from chainrule_engine.graph import Graph
from chainrule_engine.kernels import Break, Column, Fault, Flow, FlowRecorder, Instruction, Mask, Recorder
from chainrule_engine.lazily import lazy
from chainrule_engine.nodes import Nodes
from chainrule_engine.operations import OPERATIONS

if TYPE_CHECKING:
    from chainrule_engine.compiled.program import Columns, Program

#: One column per slot, as the plain kernels (a list) or the compiled ones left them.
Values = Sequence[Column]
#: The same of gradients; None where none arrives at any point.
Gradients = Sequence[Column | None]


class Tape:
    """A compiled graph.

    size     the number of slots
    declared the slots in the order of declaration: of the inputs, then of the nodes
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        nodes = graph.nodes
        self._first = nodes.first + len(nodes.literals)
        self.size = self._first + len(nodes)
        self._codes, self._operands, self.declared = _flatten(nodes, graph.order, self._first)

    # What is asked for a few ids or instructions has a function besides: a list of all takes long to make.

    @lazy
    def slots(self) -> dict[str, int]:
        """The slot of every input and node, by its id."""
        return dict(zip(self.graph.nodes.names, self.declared, strict=True))

    def slot(self, name: str) -> int:
        """Return the slot of an input or node."""
        return self.declared[self.graph.nodes.slots[name]]

    @lazy
    def names(self) -> list[str | None]:
        """The id of every slot, None for a literal number's."""
        return [self.name(slot) for slot in range(self.size)]

    def name(self, slot: int) -> str | None:
        """Return the id of a slot, None for a literal number's."""
        nodes = self.graph.nodes
        if slot < nodes.first:
            return nodes.names[slot]
        return None if slot < self._first else nodes.names[nodes.first + self.graph.order[slot - self._first]]

    @property
    def literals(self) -> dict[int, float]:
        """The literal numbers, by their slots."""
        return dict(enumerate(self.graph.nodes.literals, self.graph.nodes.first))

    @lazy
    def instructions(self) -> list[Instruction]:
        """The instructions in the order of evaluation, in the form of the plain kernels."""
        operands, operations = iter(self._operands), tuple(OPERATIONS.values())
        return [
            Instruction(target, operations[code], tuple(islice(operands, operations[code].arity)))
            for target, code in enumerate(self._codes, self._first)
        ]

    @lazy
    def _starts(self) -> list[int]:
        arities = [operation.arity for operation in OPERATIONS.values()]
        return list(accumulate(map(arities.__getitem__, self._codes), initial=0))

    def instruction(self, place: int) -> Instruction:
        """Return one of the instructions, without making them all."""
        operation = tuple(OPERATIONS.values())[self._codes[place]]
        args = tuple(self._operands[self._starts[place] : self._starts[place + 1]])
        return Instruction(self._first + place, operation, args)

    def first_use(self, slot: int) -> int | None:
        """Return the slot of the first instruction that computes with a slot; it is a later one."""
        start = 0 if slot < self._first else self._starts[slot + 1 - self._first]
        try:
            edge = self._operands.index(slot, start)
        except ValueError:
            return None
        return self._first + bisect_right(self._starts, edge) - 1

    @lazy
    def _program(self) -> Program:
        # Only ever asked for once the compiled kernels are loaded.
        from chainrule_engine.compiled.program import Program

        return Program(self._codes, self._operands, self.graph.nodes.literals, self.size)

    def forward(self, inputs: Mapping[str, Sequence[float] | float], points: int) -> Values:
        """Evaluate the graph at `points` points; a plain number serves them all. Returns one column per slot."""
        values = [inputs[name] for name in self.graph.inputs]
        if acceleration.find(len(self._codes) * points) is not None:
            return self._program.forward(values, points)
        leaves = chain(values, self.graph.nodes.literals)
        columns = [list(leaf) if isinstance(leaf, Sequence) else [leaf] * points for leaf in leaves]
        columns += [[]] * len(self._codes)
        kernels.forward(self.instructions, columns)
        return columns

    def backward(
        self,
        columns: Values,
        seeds: Mapping[str, Column],
        *,
        shared: dict[int, list[Column]] | None = None,
        skip: frozenset[str] = frozenset(),
        record: Recorder | None = None,
        reached: dict[int, Mask] | None = None,
    ) -> Gradients:
        """Run the chain rule from the outputs with the given cotangents; see `kernels.backward`.

        skip   inputs that need no gradient; neither then do the nodes that depend on nothing else
        """
        cotangents = self._by_slot(seeds)
        wanted = self._wanted(skip)
        if shared is None and record is None and reached is None and not isinstance(columns, list):
            return self._program.backward(cast("Columns", columns), cotangents, wanted)
        return kernels.backward(self.instructions, list(columns), cotangents, wanted, shared, record, reached)

    def tangents(self, columns: Values, seeds: Mapping[str, Flow], directions: int) -> list[Flow | None]:
        """Push the tangents of the inputs forward; see `kernels.tangents`."""
        return kernels.tangents(self.instructions, list(columns), self._by_slot(seeds), directions)

    def adjoint_tangents(
        self,
        columns: Values,
        gradients: Gradients,
        reached: dict[int, Mask],
        flows: Sequence[Flow | None],
        directions: int,
        *,
        record: FlowRecorder | None = None,
    ) -> list[Flow | None]:
        """Differentiate the backward pass along the tangents `flows`; see `kernels.adjoint_tangents`."""
        wanted = self._wanted(frozenset())
        return kernels.adjoint_tangents(
            self.instructions, list(columns), gradients, reached, flows, wanted, directions, record
        )

    def at_kinks(self, columns: Values) -> list[int]:
        """Return the places, among the instructions, of those evaluated exactly at a kink or a jump at any point."""
        if isinstance(columns, list):
            return kernels.at_kinks(self.instructions, columns)
        return self._program.at_kinks(cast("Columns", columns))

    def first_fault(self, columns: Values) -> Fault | None:
        """Find the first instruction whose result is not finite though its arguments are."""
        if isinstance(columns, list):
            return kernels.first_fault(self.instructions, columns)
        found = self._program.first_fault(cast("Columns", columns))
        return None if found is None else Fault(self.instruction(found[0]), found[1])

    def first_break(self, columns: Values, seeds: Mapping[str, Column]) -> Break | None:
        """Find the first addition of the backward pass that gives an infinity or a NaN, by running it once more."""
        cotangents, wanted = self._by_slot(seeds), self._wanted(frozenset())
        if isinstance(columns, list):
            return kernels.first_break(self.instructions, columns, cotangents, wanted)
        found = self._program.first_break(cast("Columns", columns), cotangents, wanted)
        return None if found is None else Break(self.instruction(found.place), *found[1:])

    def _by_slot(self, by_name: Mapping[str, Any]) -> dict[int, Any]:
        return {self.slot(name): entry for name, entry in by_name.items()}

    def _wanted(self, skip: frozenset[str]) -> bytearray:
        """Return by slot whether a gradient is to be passed to it: 1, or 0."""
        wanted = bytearray(b"\1") * self.size
        wanted[len(self.graph.inputs) : self._first] = bytes(len(self.graph.nodes.literals))
        if skip:
            for name in skip:
                wanted[self.slot(name)] = 0
            for target, _, args in self.instructions:
                wanted[target] = any(wanted[a] for a in args)
        return wanted


def _flatten(nodes: Nodes, order: Sequence[int], first_node: int) -> tuple[array[int], array[int], array[int]]:
    """Return the codes and the operands of the nodes in the order of evaluation, and the slots as declared."""
    compiled = acceleration.find(len(nodes))
    if compiled is not None:
        found: tuple[array[int], array[int], array[int]] = compiled.flatten(
            nodes.codes, nodes.starts, nodes.sources, order, nodes.first, first_node
        )
        return found
    first, starts, sources = nodes.first, nodes.starts, nodes.sources
    declared = array("i", range(len(nodes.names)))
    for slot, node in enumerate(order, first_node):
        declared[first + node] = slot
    operands = [
        declared[source] if source >= 0 else first - 1 - source
        for node in order
        for source in sources[starts[node] : starts[node + 1]]
    ]
    return array("B", map(nodes.codes.__getitem__, order)), array("i", operands), declared


def is_finite(gradients: Gradients) -> bool:
    """Whether every number is."""
    if isinstance(gradients, list):
        return all(map(math.isfinite, chain.from_iterable(filter(None, gradients))))
    return cast("Columns", gradients).is_finite()


def rows(columns: Gradients, slots: array[int], points: int | None) -> list[Any]:
    """Return a number for each of the slots where `points` is None, else a list; 0.0 where there is none."""
    if not isinstance(columns, list):
        return cast("Columns", columns).rows(slots, points)
    picked = [columns[slot] for slot in slots]
    if points is None:
        return [0.0 if column is None else column[0] for column in picked]
    return [[0.0] * points if column is None else column for column in picked]
