"""What a drawing shows: one box for each input, node and literal number of a graph.

A drawing is a list of boxes in evaluation order, so that its two writers (DOT and SVG) know neither graphs nor
evaluations, and what a cell says is decided here for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from chainrule_engine.derivatives import Evaluation
from chainrule_engine.drawing.text import number, shorten
from chainrule_engine.errors import DrawingError
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.refusals import closest

Role = Literal["input", "constant", "node", "output"]

#: How far a drawing with a focus reaches when nothing else is asked.
DEFAULT_DEPTH = 2

# Which operations change when their arguments are exchanged: asked of each, so as not to keep a second list of them.
_ORDERED = {
    name: operation.arity > 2 or (operation.arity == 2 and operation.value(2.0, 3.0) != operation.value(3.0, 2.0))
    for name, operation in OPERATIONS.items()
}


@dataclass(frozen=True, slots=True)
class Box:
    """One value of a drawing.

    id       the input's or node's id; of a constant, one made from its user's
    label    the id, or None for constants and unnamed nodes, whose cells hold numbers alone
    symbol   what the bubble of its operation shows; None for inputs and constants
    args     ids of its arguments, in order and as often as they are used; one without a box lies outside the drawing
    grad     None for constants, and where no gradient was computed
    op       the operation's name, where there is one
    ordered  whether exchanging the arguments changes the result
    uses     in how many places of the whole graph the value is an argument
    """

    id: str
    label: str | None
    symbol: str | None
    args: tuple[str, ...]
    data: float
    grad: float | None
    role: Role
    op: str | None = None
    ordered: bool = False
    uses: int = 0

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The record's cells as (name, text), where there are such: label, data, grad."""
        if self.role == "constant":
            return [("data", number(self.data))]
        cells = [("label", shorten(self.label))] if self.label is not None else []
        cells.append(("data", f"data {number(self.data)}"))
        if self.grad is not None:
            cells.append(("grad", f"grad {number(self.grad)}"))
        return cells


def boxes(graph: Graph, evaluation: Evaluation, *, focus: str | None = None, depth: int | None = None) -> list[Box]:
    """List the boxes in evaluation order: the inputs, then each node after its own constants.

    With `focus`, only what lies at most `depth` edges (2 unless told) before or after that input or node. Of a batch
    of points, the first point. Raises DrawingError with the path ("focus",) when there is no such id, and ("depth",)
    when the depth is negative or has no focus.
    """
    shown = _neighbourhood(graph, focus, depth)
    uses = Counter(arg for node in graph.nodes for arg in node.args if isinstance(arg, str))
    taken = set(graph.nodes.names)
    outputs = set(graph.outputs)

    def named(name: str, role: Role, args: tuple[str, ...] = (), op: str | None = None) -> Box:
        return Box(
            id=name,
            label=name if is_named(name) else None,
            symbol=OPERATIONS[op].symbol if op else None,
            args=args,
            data=_first(evaluation.all_values[name]),
            grad=_first(evaluation.all_gradients[name]) if evaluation.all_gradients else None,
            role=role,
            op=op,
            ordered=op is not None and _ORDERED[op],
            uses=uses[name],
        )

    drawn = [named(name, "input") for name in graph.inputs if name in shown]
    for node in (graph.nodes[position] for position in graph.order):
        if node.id not in shown:
            continue
        args = []
        for position, arg in enumerate(node.args):
            if isinstance(arg, str):
                args.append(arg)
                continue
            name = _unused(f"{node.id}.{position}", taken)
            drawn.append(Box(name, None, None, (), arg, None, "constant", uses=1))
            args.append(name)
        drawn.append(named(node.id, "output" if node.id in outputs else "node", tuple(args), node.op))
    return drawn


def caption(graph: Graph, drawn: Iterable[Box], *, focus: str | None = None, depth: int | None = None) -> str | None:
    """Write what a reader must be told of a drawing that does not show everything; None when it does."""
    parts = []
    if focus is not None:
        depth = DEFAULT_DEPTH if depth is None else depth
        total = len(graph.inputs) + len(graph.nodes)
        count = sum(box.role != "constant" for box in drawn)
        edges = "1 edge" if depth == 1 else f"{depth} edges"
        parts.append(f"{count} of {total} values: within {edges} of {shorten(focus)}")
    if graph.points is not None:
        parts.append(f"point 1 of {graph.points}")
    return "; ".join(parts) or None


def _first(values: float | list[float]) -> float:
    return values[0] if isinstance(values, list) else values


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _neighbourhood(graph: Graph, focus: str | None, depth: int | None) -> set[str]:
    """Find the ids at most `depth` edges before or after `focus`; all of them without a focus."""
    everything = set(graph.nodes.names)
    if focus is None:
        if depth is not None:
            raise DrawingError.at(("depth",), "depth counts edges from a focus: give the focus too")
        return everything
    depth = DEFAULT_DEPTH if depth is None else depth
    if depth < 0:
        raise DrawingError.at(("depth",), f"depth must be 0 or more, and this is {depth}")
    if focus not in everything:
        detail = f"no input or node is called {shorten(focus)!r}{closest(focus, everything)}"
        raise DrawingError.at(("focus",), detail)
    before = {node.id: [arg for arg in node.args if isinstance(arg, str)] for node in graph.nodes}
    after: dict[str, list[str]] = {}
    for name, args in before.items():
        for arg in args:
            after.setdefault(arg, []).append(name)
    return _reach(focus, before, depth) | _reach(focus, after, depth)


def _reach(start: str, neighbours: Mapping[str, list[str]], depth: int) -> set[str]:
    seen = {start}
    front = {start}
    while front and depth:
        front = {name for origin in front for name in neighbours.get(origin, ())} - seen
        seen |= front
        depth -= 1
    return seen
