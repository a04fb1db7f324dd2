"""An exercise at one point, as its backward pass sees it: which node has which operands and which upstream gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chainrule_engine.derivatives import Evaluation, evaluate
from chainrule_engine.expression import BINARY
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.lazily import lazy


class Place(NamedTuple):
    """A node that the output depends on.

    operands  by argument: the id of the input or node, None for a literal number
    numbers   by argument
    upstream  the gradient of its result; 0 where none arrives
    """

    id: str
    op: str
    operands: tuple[str | None, ...]
    numbers: tuple[float, ...]
    upstream: float

    @property
    def label(self) -> str:
        """Its id; for one that nobody named, what it computes."""
        if is_named(self.id):
            return self.id
        return self.formula

    @property
    def formula(self) -> str:
        """What it computes, as program text."""
        pairs = zip(self.operands, self.numbers, strict=True)
        return formula(self.op, [f"{number:g}" if name is None else name for name, number in pairs])


_SIGNS = {operation: sign for sign, (operation, *_) in BINARY.items()}


def formula(op: str, args: Sequence[str]) -> str:
    """Return an operation as program text: with its sign, or as a call."""
    if op in _SIGNS:
        return f"{args[0]} {_SIGNS[op]} {args[1]}"
    return f"{op}({', '.join(args)})"


class Point:
    """A graph at one point, with its seeds."""

    def __init__(self, graph: Graph, seeds: Mapping[str, float] | None) -> None:
        self.graph, self.seeds = graph, seeds

    @lazy
    def evaluation(self) -> Evaluation:
        """Values and gradients."""
        return evaluate(self.graph, seeds=self.seeds)

    def value(self, name: str) -> float:
        """Return the value of an input or node."""
        number = self.evaluation.all_values[name]
        assert isinstance(number, float), "there is one point"
        return number

    def gradient(self, name: str) -> float:
        """Return the gradient of an input or node."""
        number = self.evaluation.all_gradients[name]
        assert isinstance(number, float), "there is one point"
        return number

    @property
    def cotangents(self) -> dict[str, float]:
        """Output id → its seed."""
        if self.seeds is None:
            return dict.fromkeys(self.graph.outputs, 1.0)
        return {self.graph.aliases.get(name, name): seed for name, seed in self.seeds.items()}

    @lazy
    def places(self) -> list[Place]:
        """The nodes that the outputs depend on, the output first."""
        wanted = set(self.graph.outputs)
        found = []
        for position in reversed(self.graph.order):
            node = self.graph.nodes[position]
            if node.id not in wanted:
                continue
            operands = tuple(a if isinstance(a, str) else None for a in node.args)
            wanted.update(name for name in operands if name is not None)
            numbers = tuple(self.value(a) if isinstance(a, str) else a for a in node.args)
            found.append(Place(node.id, node.op, operands, numbers, self.gradient(node.id)))
        return found


def points_of(graph: Graph, seeds: Mapping[str, object] | None) -> list[Point]:
    """Take a batch apart; a graph of plain numbers is one point."""
    found = []
    for p in range(graph.points or 1):
        inputs = {name: x[p] if isinstance(x, list) else x for name, x in graph.inputs.items()}
        cotangents = None
        if seeds is not None:
            cotangents = {name: float(s[p] if isinstance(s, list) else s) for name, s in seeds.items()}  # type: ignore[arg-type]
        found.append(Point(at(graph, inputs), cotangents))
    return found


def at(graph: Graph, inputs: Mapping[str, float]) -> Graph:
    """Return the same graph at another point."""
    return Graph(dict(inputs), graph.nodes, graph.outputs, graph.single, graph.order, graph.aliases)
