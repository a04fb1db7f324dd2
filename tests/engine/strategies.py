"""What several tests of the engine draw from: random graphs, operations at the edges, optimisers; exact comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st

from chainrule_engine import acceleration
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.value import backward

#: Where domains end, signs of zero matter, and results overflow or vanish.
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 1 / 3, 5e-324, 1e-300, -1e300, 1e300, 710.0, 1e16]

#: Every optimiser, with and without its settings.
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.9},
    {"name": "sgd", "momentum": 0.9, "nesterov": True},
    {"name": "adam"},
    {"name": "adam", "weight_decay": 0.1},
    {"name": "adamw"},
    {"name": "rmsprop"},
    {"name": "rmsprop", "momentum": 0.9},
]

edgy_numbers = st.sampled_from(EDGES) | st.floats(-4.0, 4.0)
any_finite = st.floats(allow_nan=False, allow_infinity=False)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Evaluate in plain Python within this block: as if the compiled kernels could not be had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceleration, "find", lambda work: None)
        yield


def exact(numbers: Any) -> Any:
    """Write floats so that == compares bits: -0.0 is not 0.0, and a NaN is any NaN."""
    if isinstance(numbers, Mapping):
        return {name: exact(number) for name, number in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [exact(number) for number in numbers]
    return repr(numbers)


def alone_at_every_edge(name: str) -> tuple[Graph, list[list[float]]]:
    """Return one operation z of x0, x1, …, and its points, as a batch: every combination of edges."""
    arity = OPERATIONS[name].arity
    edges = EDGES if arity < 3 else EDGES[:6]
    rows: list[list[float]] = [[]]
    for _ in range(arity):
        rows = [[*row, edge] for row in rows for edge in edges]
    ids = [f"x{i}" for i in range(arity)]
    inputs = {x: [row[i] for row in rows] for i, x in enumerate(ids)}
    return Graph.from_dict({"inputs": inputs, "nodes": [{"id": "z", "op": name, "args": ids}]}), rows


@st.composite
def wire_graphs(
    draw: st.DrawFn,
    *,
    points: int | None = None,
    numbers: st.SearchStrategy[float] = edgy_numbers,
    operations: Sequence[str] = tuple(OPERATIONS),
    max_nodes: int = 16,
) -> dict[str, Any]:
    """The wire's form of a graph: shared nodes, literal numbers, unused nodes, one output or several.

    points  None for one point; else the inputs are lists of so many numbers, or plain numbers, one list at least
    """
    inputs: dict[str, Any] = {}
    for number in range(1, draw(st.integers(1, 4)) + 1):
        column = points is not None and (number == 1 or draw(st.booleans()))
        inputs[f"x{number}"] = draw(st.lists(numbers, min_size=points, max_size=points) if column else numbers)
    known = list(inputs)
    nodes = []
    for number in range(1, draw(st.integers(1, max_nodes)) + 1):
        op = draw(st.sampled_from(operations))
        # The newest names first, so that deep graphs are as likely as flat ones.
        names = st.sampled_from(known[::-1])
        args = [draw(numbers if draw(st.integers(0, 5)) == 0 else names) for _ in range(OPERATIONS[op].arity)]
        nodes.append({"id": f"n{number}", "op": op, "args": args})
        known.append(f"n{number}")
    if draw(st.booleans()):
        output: Any = known[-1]
    else:
        output = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
    return {"inputs": inputs, "nodes": nodes, "output": output}


def graphs(**options: Any) -> st.SearchStrategy[Graph]:
    """The same as `Graph`s."""
    return wire_graphs(**options).map(Graph.from_dict)


#: How near to a kink, a jump or the end of a domain a tame graph may come.
MARGIN = 0.01
_POSITIVE_FIRST = {"log", "sqrt", "pow"}
_JUMPING = {"gt", "ge", "lt", "le", "eq", "ne"}
_COMPARING = {"max", "min", *_JUMPING}


def _is_tame(op: str, arguments: list[float], result: float) -> bool:
    if not math.isfinite(result) or abs(result) > 50.0:
        return False
    if op in _POSITIVE_FIRST:
        return arguments[0] > 0.1
    if op in {"abs", "relu"}:
        return abs(arguments[0]) > MARGIN
    if op == "div":
        return abs(arguments[1]) > 0.1
    if op in _COMPARING:
        return abs(arguments[0] - arguments[1]) > MARGIN
    return True


@st.composite
def tame_graphs(draw: st.DrawFn, *, operations: Sequence[str] = tuple(OPERATIONS), max_nodes: int = 14) -> Graph:
    """Graphs of moderate numbers, away from kinks, jumps and the ends of domains, so that derivatives exist."""
    numbers = st.floats(-3.0, 3.0)
    inputs = {f"x{number}": draw(numbers) for number in range(1, draw(st.integers(1, 4)) + 1)}
    data: dict[str, float] = dict(inputs)
    conditions: set[str | float] = set()
    nodes = []
    for number in range(1, draw(st.integers(1, max_nodes)) + 1):
        op = draw(st.sampled_from(operations))
        args: list[str | float] = []
        for _ in range(OPERATIONS[op].arity):
            args.append(draw(numbers if draw(st.integers(0, 5)) == 0 else st.sampled_from(list(data)[::-1])))
        plain = [data[a] if isinstance(a, str) else a for a in args]
        # `where` jumps where its condition passes through 0; the result of a tame comparison stays what it is.
        jumps = op == "where" and args[0] not in conditions and abs(plain[0]) <= MARGIN
        if jumps or not _is_tame(op, plain, OPERATIONS[op].value(*plain)):
            op, args, plain = "tanh", args[:1], plain[:1]
        if op in _JUMPING:
            conditions.add(f"n{number}")
        data[f"n{number}"] = OPERATIONS[op].value(*plain)
        nodes.append({"id": f"n{number}", "op": op, "args": args})
    outputs = draw(st.lists(st.sampled_from(list(data)[::-1]), min_size=1, max_size=2, unique=True))
    return Graph.from_dict({"inputs": inputs, "nodes": nodes, "output": outputs})


def by_values(
    graph: Graph, point: int = 0, seeds: Sequence[float] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Values and gradients of every id by the readable engine, at one point of a batch."""
    values = graph.to_values(point)
    backward([values[name] for name in graph.outputs], seeds or [1.0] * len(graph.outputs))
    return {n: v.data for n, v in values.items()}, {n: v.grad for n, v in values.items()}


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "gt": ">", "lt": "<", "ne": "!="}


@st.composite
def programs(draw: st.DrawFn, graph: Graph) -> str:
    """The program text of a graph; some nodes that are used once become unnamed parts of an expression."""
    uses = [argument for node in graph.nodes for argument in node.args]
    texts: dict[str | float, str] = {name: name for name in graph.inputs}
    lines = []
    for node in (graph.nodes[position] for position in graph.order):
        args = [f"({a!r})" if isinstance(a, float) else texts[a] for a in node.args]
        style = draw(st.sampled_from(["call", "method", "infix"]))
        if style == "infix" and node.op in _INFIX:
            text = f"({args[0]}) {_INFIX[node.op]} ({args[1]})"
        elif style == "infix" and node.op == "where":
            text = f"({args[1]}) if ({args[0]}) else ({args[2]})"
        elif style == "infix" and node.op == "neg" and isinstance(node.args[0], str):
            text = f"-({args[0]})"
        elif style == "method":
            text = f"({args[0]}).{node.op}({', '.join(args[1:])})"
        else:
            text = f"{node.op}({', '.join(args)})"
        if node.id not in graph.outputs and uses.count(node.id) == 1 and draw(st.booleans()):
            texts[node.id] = f"({text})"
        else:
            texts[node.id] = node.id
            lines.append(f"{node.id} = {text}")
    return "\n".join(lines)
