"""The tape: a graph flattened to slots and instructions, ready to run at many points.

The slots are the inputs in the order of their declaration, then one per distinct literal number, then the nodes in the
order of evaluation. `kernels` runs the instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chainrule_engine.graph import Graph
from chainrule_engine.kernels import (
    Column,
    Flow,
    FlowRecorder,
    Instruction,
    Mask,
    Recorder,
    adjoint_tangents,
    backward,
    forward,
    tangents,
)
from chainrule_engine.operations import OPERATIONS


class Tape:
    """A compiled graph.

    slots         id → slot, for every input and node
    names         slot → id, None for a literal number
    instructions  in the order of evaluation
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.slots = {name: slot for slot, name in enumerate(graph.inputs)}
        self._constants: dict[str, tuple[int, float]] = {}
        arguments = [argument for position in graph.order for argument in graph.nodes[position].args]
        for argument in arguments:
            if not isinstance(argument, str):
                # Keyed by the text, because 0.0 == -0.0 and they are two numbers here.
                self._constants.setdefault(repr(argument), (len(self.slots) + len(self._constants), argument))
        first_node = len(self.slots) + len(self._constants)
        for step, position in enumerate(graph.order):
            self.slots[graph.nodes[position].id] = first_node + step
        self.instructions = [
            Instruction(self.slots[node.id], OPERATIONS[node.op], tuple(self._slot(a) for a in node.args))
            for node in (graph.nodes[position] for position in graph.order)
        ]
        self.size = first_node + len(graph.order)
        self.names: list[str | None] = [None] * self.size
        for name, slot in self.slots.items():
            self.names[slot] = name

    def _slot(self, argument: str | float) -> int:
        return self.slots[argument] if isinstance(argument, str) else self._constants[repr(argument)][0]

    def forward(self, inputs: Mapping[str, Sequence[float] | float], points: int) -> list[Column]:
        """Evaluate the graph at `points` points; a plain number serves them all. Returns one column per slot."""
        columns: list[Column] = [[]] * self.size
        for name in self.graph.inputs:
            value = inputs[name]
            columns[self.slots[name]] = list(value) if isinstance(value, Sequence) else [value] * points
        for slot, number in self._constants.values():
            columns[slot] = [number] * points
        forward(self.instructions, columns)
        return columns

    def backward(
        self,
        columns: Sequence[Column],
        seeds: Mapping[str, Column],
        *,
        shared: dict[int, list[Column]] | None = None,
        skip: frozenset[str] = frozenset(),
        record: Recorder | None = None,
        reached: dict[int, Mask] | None = None,
    ) -> list[Column | None]:
        """Run the chain rule from the outputs with the given cotangents; see `kernels.backward`.

        skip   inputs that need no gradient; neither then do the nodes that depend on nothing else
        """
        return backward(
            self.instructions,
            columns,
            {self.slots[name]: seed for name, seed in seeds.items()},
            self._wanted(skip),
            shared,
            record,
            reached,
        )

    def tangents(self, columns: Sequence[Column], seeds: Mapping[str, Flow], directions: int) -> list[Flow | None]:
        """Push the tangents of the inputs forward; see `kernels.tangents`."""
        return tangents(
            self.instructions, columns, {self.slots[name]: seed for name, seed in seeds.items()}, directions
        )

    def adjoint_tangents(
        self,
        columns: Sequence[Column],
        gradients: Sequence[Column | None],
        reached: dict[int, Mask],
        flows: Sequence[Flow | None],
        directions: int,
        *,
        record: FlowRecorder | None = None,
    ) -> list[Flow | None]:
        """Differentiate the backward pass along the tangents `flows`; see `kernels.adjoint_tangents`."""
        wanted = self._wanted(frozenset())
        return adjoint_tangents(self.instructions, columns, gradients, reached, flows, wanted, directions, record)

    def _wanted(self, skip: frozenset[str]) -> list[bool]:
        wanted = [name is not None and name not in skip for name in self.names]
        if skip:
            for target, _, args in self.instructions:
                wanted[target] = any(wanted[a] for a in args)
        return wanted
