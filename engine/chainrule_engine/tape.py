"""The tape: a graph flattened to slots and instructions, ready to run at many points.

The slots are the inputs in the order of their declaration, then one per distinct literal number, then the nodes in the
order of evaluation. `kernels` runs the instructions, or `compiled` does, with the same bits (`acceleration` chooses).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from chainrule_engine import acceleration, kernels
from chainrule_engine.graph import Graph
from chainrule_engine.kernels import Break, Column, Fault, Flow, FlowRecorder, Instruction, Mask, Recorder
from chainrule_engine.operations import CODES, OPERATIONS

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
        nodes = [graph.nodes[position] for position in graph.order]
        slots = {name: slot for slot, name in enumerate(graph.inputs)}
        # A zero goes by its text, because 0.0 == -0.0 and they are two numbers here.
        literals: dict[float | str, float] = {}
        for node in nodes:
            for argument in node.args:
                if not isinstance(argument, str):
                    literals.setdefault(argument or repr(argument), argument)
        places = {key: slot for slot, key in enumerate(literals, len(slots))}
        self._constants = dict(zip(places.values(), literals.values(), strict=True))
        self._first = len(slots) + len(places)
        self.size = self._first + len(nodes)
        slots.update({node.id: slot for slot, node in enumerate(nodes, self._first)})
        self._codes = array("B", [CODES[node.op] for node in nodes])
        self._operands = array(
            "i",
            [
                slots[argument] if isinstance(argument, str) else places[argument or repr(argument)]
                for node in nodes
                for argument in node.args
            ],
        )
        self.declared = array("i", range(len(graph.inputs))) + array("i", bytes(4 * len(nodes)))
        for slot, position in enumerate(graph.order, self._first):
            self.declared[len(graph.inputs) + position] = slot
        # Of all the ids these alone are kept: a dictionary takes more room than the rest of the tape.
        self._outputs = {name: slots[name] for name in graph.outputs}

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slot of every input and node, by its id."""
        return dict(zip(self._ids(), self.declared, strict=True))

    @cached_property
    def names(self) -> list[str | None]:
        """The id of every slot, None for a literal number's."""
        names: list[str | None] = [None] * self.size
        for name, slot in zip(self._ids(), self.declared, strict=True):
            names[slot] = name
        return names

    def _ids(self) -> Iterator[str]:
        return chain(self.graph.inputs, (node.id for node in self.graph.nodes))

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The instructions in the order of evaluation, in the form of the plain kernels."""
        instructions, operands, operations = [], iter(self._operands), tuple(OPERATIONS.values())
        for target, code in enumerate(self._codes, self._first):
            operation = operations[code]
            args = tuple(next(operands) for _ in operation.partials)
            instructions.append(Instruction(target, operation, args))
        return instructions

    @cached_property
    def _program(self) -> Program:
        # Only ever asked for once the compiled kernels are loaded.
        from chainrule_engine.compiled.program import Program

        return Program(self._codes, self._operands, self.size)

    def forward(self, inputs: Mapping[str, Sequence[float] | float], points: int) -> Values:
        """Evaluate the graph at `points` points; a plain number serves them all. Returns one column per slot."""
        leaves: dict[int, Sequence[float] | float] = dict(self._constants)
        leaves |= {slot: inputs[name] for slot, name in enumerate(self.graph.inputs)}
        if acceleration.find(len(self._codes) * points) is not None:
            return self._program.forward(leaves, points)
        columns: list[Column] = [[]] * self.size
        for slot, value in leaves.items():
            columns[slot] = list(value) if isinstance(value, Sequence) else [value] * points
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
        return None if found is None else Fault(self.instructions[found[0]], found[1])

    def first_break(self, columns: Values, seeds: Mapping[str, Column]) -> Break | None:
        """Find the first addition of the backward pass that gives an infinity or a NaN, by running it once more."""
        cotangents, wanted = self._by_slot(seeds), self._wanted(frozenset())
        if isinstance(columns, list):
            return kernels.first_break(self.instructions, columns, cotangents, wanted)
        found = self._program.first_break(cast("Columns", columns), cotangents, wanted)
        return None if found is None else Break(self.instructions[found.place], *found[1:])

    def _by_slot(self, by_name: Mapping[str, Any]) -> dict[int, Any]:
        slots = self._outputs if by_name.keys() <= self._outputs.keys() else self.slots
        return {slots[name]: entry for name, entry in by_name.items()}

    def _wanted(self, skip: frozenset[str]) -> list[bool]:
        wanted = [True] * self.size
        for slot in self._constants:
            wanted[slot] = False
        if skip:
            for name in skip:
                wanted[self.slots[name]] = False
            for target, _, args in self.instructions:
                wanted[target] = any(wanted[a] for a in args)
        return wanted


def is_finite(gradients: Gradients) -> bool:
    """Whether every number is."""
    if isinstance(gradients, list):
        return all(column is None or kernels.is_finite(column) for column in gradients)
    return cast("Columns", gradients).is_finite()


def rows(columns: Gradients, points: int | None) -> list[Any]:
    """Return one number per slot where `points` is None, and one list per slot elsewhere; 0.0 where there is none."""
    if not isinstance(columns, list):
        return cast("Columns", columns).rows(points)
    if points is None:
        return [0.0 if column is None else column[0] for column in columns]
    return [[0.0] * points if column is None else column for column in columns]
