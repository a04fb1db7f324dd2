"""Random graphs: evaluated at one point and at many, differentiated once and twice."""

from __future__ import annotations

import json
import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmarks.large_graph import post, random_graph
from benchmarks.race import OURS, Contender, Effort, Figure, WrongAnswer, compare, figure, race
from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.tape import Tape

#: What micrograd has as one node.
ARITHMETIC = ("add", "mul", "relu")
#: What CasADi and JAX have under the same names, and no argument is refused.
SMOOTH = ("add", "sub", "mul", "sin", "cos", "tanh", "exp")
#: The engine's answer to a person, beside the arrays that a program would take.
LISTS = "evaluate(), lists of every node's numbers"

#: No value and no local derivative of a random graph is larger, or its answers would drown in rounding.
MOST = 3.0


@dataclass(frozen=True)
class Program:
    """A graph with one output, its last node, in plain numbers.

    inputs   one list of numbers per input: one number per point
    nodes    (operation, arguments); an argument counts the inputs first and then the nodes
    """

    inputs: list[list[float]]
    nodes: list[tuple[str, tuple[int, ...]]] = field(repr=False)

    @property
    def operations(self) -> set[str]:
        """The operations that occur."""
        return {name for name, _ in self.nodes}

    @cached_property
    def names(self) -> list[str]:
        """The ids of inputs and nodes on the wire."""
        inputs = [f"x{place}" for place in range(len(self.inputs))]
        return inputs + [f"n{place}" for place in range(len(self.nodes))]

    def graph(self, *, batch: bool = False) -> Graph:
        """Return the engine's graph; at one point the inputs are plain numbers."""
        names = self.names
        columns: Sequence[Any] = self.inputs if batch else [column[0] for column in self.inputs]
        data = {
            "inputs": dict(zip(names, columns, strict=False)),
            "nodes": [
                {"id": name, "op": op, "args": [names[a] for a in args]}
                for name, (op, args) in zip(names[len(self.inputs) :], self.nodes, strict=True)
            ],
            "output": names[-1],
        }
        return Graph.from_dict(data)


def random_program(nodes: int, inputs: int, operations: Sequence[str], points: int = 1, seed: int = 0) -> Program:
    """Draw a graph of this many nodes (or one more), all of which its output depends on.

    The arguments of a node are drawn evenly from all that is there before it, so the depth grows with the logarithm of
    the size; what nothing uses in the end is added up in pairs.
    """
    rng = random.Random(seed)
    columns = [[rng.uniform(-1.0, 1.0) for _ in range(points)] for _ in range(inputs)]
    # An operation is drawn so that it stays in bounds at some of the points.
    values = [column[:8] for column in columns]
    drawn: list[tuple[str, tuple[int, ...]]] = []
    unused = set(range(inputs))
    while len(drawn) + len(unused) - 1 < nodes:
        name, args, value = _draw(rng, operations, values)
        unused.difference_update(args)
        unused.add(len(values))
        values.append(value)
        drawn.append((name, args))
    ends = sorted(unused)
    while len(ends) > 1:
        pairs = [(ends[k], ends[k + 1]) for k in range(0, len(ends) - 1, 2)]
        odd = ends[len(pairs) * 2 :]
        ends = list(range(inputs + len(drawn), inputs + len(drawn) + len(pairs))) + odd
        drawn += [("add", pair) for pair in pairs]
    return Program(columns, drawn)


def _draw(
    rng: random.Random, operations: Sequence[str], values: list[list[float]]
) -> tuple[str, tuple[int, ...], list[float]]:
    while True:
        operation = OPERATIONS[rng.choice(operations)]
        args = tuple(rng.randrange(len(values)) for _ in operation.partials)
        columns = [values[a] for a in args]
        value = [operation.value(*numbers) for numbers in zip(*columns, strict=True)]
        if all(abs(v) <= MOST for v in value) and all(
            abs(partial(*numbers)) <= MOST
            for partial in operation.partials
            for numbers in zip(*columns, value, strict=True)
        ):
            return operation.name, args, value


def on_the_tape(graph: Graph) -> Callable[[], list[float]]:
    """Return the evaluation of a graph that is on the tape, forward and backward at one point."""
    tape = Tape(graph)
    seeds = {graph.outputs[0]: [1.0]}
    inputs = [tape.slots[name] for name in graph.inputs]
    output = tape.slots[graph.outputs[0]]

    def run() -> list[float]:
        columns = tape.forward(graph.inputs, 1)
        gradients = tape.backward(columns, seeds)
        answer = [columns[output][0]]
        for slot in inputs:
            column = gradients[slot]
            answer.append(0.0 if column is None else column[0])
        return answer

    return run


# ------------------------------------------------------------------------------------------------------ the rows


def tape(effort: Effort) -> Iterator[Figure]:
    """A random graph of 100,000 nodes, forward and backward, already on the tape."""
    nodes = 1_000 if effort.quick else 100_000
    graph = Graph.from_dict(random_graph(nodes))
    times = race([Contender(OURS, on_the_tape(graph))], effort)
    took = times.took(per=len(graph.nodes), unit="ns")
    yield Figure("a node, all operations", took.value, took.low, took.high, "ns", 25.0, ceiling=True)
    arithmetic = random_program(nodes, 100, ARITHMETIC)
    contenders = [Contender(OURS, on_the_tape(arithmetic.graph()))]
    micrograd = effort.peer("micrograd", "micrograd")
    if micrograd is not None:
        contenders.append(Contender("micrograd", micrograd.gradient(arithmetic)))
    times = race(contenders, effort)
    took = times.took(per=len(arithmetic.nodes), unit="ns")
    yield Figure("a node, add, mul and relu", took.value, took.low, took.high, "ns")
    yield from times.ratios({"micrograd": 60.0})


def request(effort: Effort) -> Iterator[Figure]:
    """The same graph, from the bytes of a request to those of its answer."""
    data = random_graph(2_000 if effort.quick else 100_000)
    body = json.dumps({"graph": data}).encode()
    send = post(body)
    if json.loads(send())["value"] != evaluate(Graph.from_dict(data)).value:
        raise WrongAnswer("the service gives another value than the engine")
    yardstick = "`json.loads` of the same body"
    # Both give nothing that could be compared with the other's.
    contenders = [Contender(OURS, lambda: send()[:0]), Contender(yardstick, lambda: list(json.loads(body))[:0])]
    times = race(contenders, effort)
    yield times.took(unit="ms")
    pairs = zip(times.seconds[OURS], times.seconds[yardstick], strict=True)
    yield figure(yardstick, [ours / loads for ours, loads in pairs], "×", 8.0, ceiling=True)


def points(effort: Effort) -> Iterator[Figure]:
    """A graph of 40 nodes at 10,000 points, values and gradients."""
    program = random_program(40, 5, SMOOTH, points=100 if effort.quick else 10_000)
    graph = program.graph(batch=True)
    flat = Tape(graph)
    count = len(program.inputs[0])
    # Numbers in arrays, as JAX has them.
    inputs = {name: array("d", column) for name, column in graph.inputs.items()}
    seeds = {graph.outputs[0]: array("d", [1.0]) * count}
    output, wanted = flat.slots[graph.outputs[0]], [flat.slots[name] for name in graph.inputs]

    def arrays() -> list[Any]:
        columns = flat.forward(inputs, count)
        gradients = flat.backward(columns, seeds)
        return [_column(columns, output), *(_column(gradients, slot) for slot in wanted)]

    def lists() -> list[Any]:
        answer = evaluate(graph)
        return [answer.value, *(answer.gradients[name] for name in graph.inputs)]

    contenders = [Contender(OURS, lambda: _ends(arrays())), Contender(LISTS, lambda: _ends(lists()))]
    jax = effort.peer("JAX", "jax")
    if jax is not None:
        run = jax.gradients_at_points(program)

        def theirs() -> list[Any]:
            values, gradients = run()
            return [values, *gradients]

        for mine, other in zip(arrays(), theirs(), strict=True):
            compare(Contender("JAX", list), [float(x) for x in other], [float(x) for x in mine])
        contenders.append(Contender("JAX", lambda: _ends([run()[0]])))
    times = race(contenders, effort)
    yield times.took(unit="ms")
    yield times.took(LISTS, unit="ms")
    if jax is not None:
        yield from times.ratios({"JAX": 0.5})
        pairs = zip(times.seconds[LISTS], times.seconds["JAX"], strict=True)
        yield figure("JAX, by evaluate()", [b / a for a, b in pairs], "×")


def _column(columns: Any, slot: int) -> Any:
    """Return the numbers of a slot as they are: in an array, if the compiled kernels made them."""
    return columns.array[slot] if hasattr(columns, "array") else columns[slot]


def _ends(columns: Sequence[Any]) -> list[float]:
    # What all contenders give alike: a number that is only there when the work is done.
    return [float(columns[0][0]), float(columns[0][-1])]


def hessian(effort: Effort) -> Iterator[Figure]:
    """A graph of 20 inputs and 2,000 nodes: value, gradient and Hessian."""
    program = random_program(100 if effort.quick else 2_000, 20, SMOOTH)
    graph = program.graph()

    def ours() -> list[float]:
        answer = evaluate(graph, derivative="hessian")
        rows = answer.hessian or {}
        names = list(graph.inputs)
        second = [rows[a][b] for a in names for b in names]
        return [answer.value, *(answer.gradients[name] for name in names), *second]

    contenders = [Contender(OURS, ours)]
    casadi = effort.peer("CasADi", "casadi")
    compiling = math.nan
    if casadi is not None:
        start = time.process_time()
        run = casadi.hessian(program)
        compiling = time.process_time() - start
        contenders.append(Contender("CasADi SX", run))
    times = race(contenders, effort)
    yield times.took(unit="ms")
    yield from times.ratios({"CasADi SX": None})
    if casadi is not None:
        yield figure("CasADi's expressions, built once", [compiling * 1e3], "ms")
