"""The tape: a graph flattened to slots and instructions, ready to run at many points.

The slots are the inputs in the order of their declaration, then one per distinct literal number, then the nodes in the
order of evaluation. `kernels` runs the instructions, or `compiled` does, with the same bits (`acceleration` chooses).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, islice
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
        numbers = [argument for node in nodes for argument in node.args if not isinstance(argument, str)]
        literals: dict[float | str, float] = {number or repr(number): number for number in numbers}
        places = {key: slot for slot, key in enumerate(literals, len(slots))}
        self._literals = array("d", literals.values())
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
        ids = chain(self.graph.inputs, (node.id for node in self.graph.nodes))
        return dict(zip(ids, self.declared, strict=True))

    @cached_property
    def names(self) -> list[str | None]:
        """The id of every slot, None for a literal number's."""
        ids = (self.graph.nodes[position].id for position in self.graph.order)
        return [*self.graph.inputs, *[None] * len(self._literals), *ids]

    @property
    def literals(self) -> dict[int, float]:
        """The literal numbers, by their slots."""
        return dict(enumerate(self._literals, len(self.graph.inputs)))

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The instructions in the order of evaluation, in the form of the plain kernels."""
        operands, operations = iter(self._operands), tuple(OPERATIONS.values())
        return [
            Instruction(target, operations[code], tuple(islice(operands, operations[code].arity)))
            for target, code in enumerate(self._codes, self._first)
        ]

    @cached_property
    def _starts(self) -> list[int]:
        arities = [operation.arity for operation in OPERATIONS.values()]
        return list(accumulate(map(arities.__getitem__, self._codes), initial=0))

    def instruction(self, place: int) -> Instruction:
        """Return one of the instructions, without making them all."""
        operation = tuple(OPERATIONS.values())[self._codes[place]]
        args = tuple(self._operands[self._starts[place] : self._starts[place + 1]])
        return Instruction(self._first + place, operation, args)

    @cached_property
    def _program(self) -> Program:
        # Only ever asked for once the compiled kernels are loaded.
        from chainrule_engine.compiled.program import Program

        return Program(self._codes, self._operands, self._literals, self.size)

    def forward(self, inputs: Mapping[str, Sequence[float] | float], points: int) -> Values:
        """Evaluate the graph at `points` points; a plain number serves them all. Returns one column per slot."""
        values = [inputs[name] for name in self.graph.inputs]
        if acceleration.find(len(self._codes) * points) is not None:
            return self._program.forward(values, points)
        leaves = chain(values, self._literals)
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
        slots = self._outputs if by_name.keys() <= self._outputs.keys() else self.slots
        return {slots[name]: entry for name, entry in by_name.items()}

    def _wanted(self, skip: frozenset[str]) -> bytearray:
        """Return by slot whether a gradient is to be passed to it: 1, or 0."""
        wanted = bytearray(b"\1") * self.size
        wanted[len(self.graph.inputs) : self._first] = bytes(len(self._literals))
        if skip:
            for name in skip:
                wanted[self.slots[name]] = 0
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
