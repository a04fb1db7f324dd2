"""Fusion finds layers in any graph, and never changes the order in which a gradient is added up."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.engine.strategies import graphs

from chainrule_engine import fusion
from chainrule_engine.fusion import grouping, schedule
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS, Constant
from chainrule_engine.schedule import HALF, Copied, Dense, Pull, PullInputs, Schedule, Wide
from chainrule_engine.tape import Tape
from chainrule_engine.training import Training


def fused(graph: Graph, parameters: Sequence[str], data: Sequence[str], outputs: Sequence[str]) -> Schedule:
    tape = Tape(graph)
    slots = tape.slots
    return schedule(tape, [slots[n] for n in parameters], [slots[n] for n in data], [slots[n] for n in outputs])


def of_program(text: str, parameters: str, data: str = "xyz") -> Schedule:
    inputs = dict.fromkeys([*parameters, *data], 0.5)
    graph = Graph.from_dict({"inputs": inputs, "program": text, "output": "L"})
    return fused(graph, list(parameters), list(data), ["L"])


def shapes(found: Schedule) -> list[tuple[int, int]]:
    return [(weights.units, weights.inputs) for weights in found.weights]


def network(inputs: int, layers: list[int], loss: str = "squared_error", **changes: Any) -> Training:
    target = 0 if loss == "cross_entropy" else [1.0] * layers[-1]
    data = {"inputs": [[0.5] * inputs], "targets": [target]}
    optimizer = {"name": "sgd", "learning_rate": 0.1}
    model = {"inputs": inputs, "layers": layers, **changes}
    return Training({"model": model, "data": data, "loss": {"name": loss}, "optimizer": optimizer, "steps": 1})


# ------------------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("layers", [[1], [4, 4, 1], [16, 3], [2, 2, 2, 2]])
def test_a_network_is_its_layers(layers: list[int], activation: str) -> None:
    found = network(3, layers, activation=activation).model.structure.schedule
    assert shapes(found) == list(zip(layers, [3, *layers], strict=False))
    dense = [operation for operation in found.forward if isinstance(operation, Dense)]
    assert len(dense) == len(layers)
    if activation != "linear":
        wide = [operation.rows for operation in found.forward if isinstance(operation, Wide)]
        assert wide[: len(layers) - 1] == layers[:-1] or layers[-1] == wide[len(layers) - 1]
    assert not any(isinstance(operation, Copied) for operation in found.forward)


def test_the_operations_of_the_lectures_network() -> None:
    found = network(3, [4, 4, 1]).model.structure.schedule
    kinds = [type(operation).__name__ for operation in found.forward]
    assert kinds == ["Dense", "Wide", "Dense", "Wide", "Dense", "Wide", "Wide", "Wide"]
    assert len(found.backward) == 10


@pytest.mark.parametrize(
    "text",
    [
        "L = tanh(a + b*x + c*y)",
        "L = tanh(a + x*b + y*c)",
        "L = tanh(c*y + (x*b + a))",
        "L = tanh(b*x + c*y)",
        "L = tanh(0.25 + b*x + 2*y)",
        "u = a + b*x\nv = u + c*y\nL = tanh(v)",
    ],
)
def test_a_sum_of_products_however_it_is_written(text: str) -> None:
    assert shapes(of_program(text, "abc")) == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("L = tanh(a + a*x + c*y)", []),  # a weight that is used twice
        ("L = tanh(a + b*x + c*x)", [(1, 1)]),  # an x that is: the part before the second
        ("s = a + b*x\nL = tanh(s + c*y)*s", [(1, 1)]),  # a part that others use
        ("L = tanh(a + x*y)", []),  # nothing in it is a weight
        ("L = where(x > 0, a + b*x + c*y, y)", []),  # where gradients differ from point to point
        ("p = a + b*x + c*y\nL = p * p", [(1, 2)]),
    ],
)
def test_what_is_no_sum_of_products(text: str, found: list[tuple[int, int]]) -> None:
    assert shapes(of_program(text, "abc")) == found


@pytest.mark.parametrize("name", ["add", "mul"])
@pytest.mark.parametrize(
    "edit",
    [
        {"value": lambda x, y: x * y + 1.0},
        {"partials": (Constant(1.0), Constant(2.0))},
        {"partials": (lambda x, y, z: y, lambda x, y, z: x)},
    ],
)
def test_what_a_product_and_a_sum_are_is_for_the_table_to_say(
    name: str, edit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shapes(of_program("L = tanh(a + b*x)", "ab", "x")) == [(1, 1)]
    monkeypatch.setitem(OPERATIONS, name, replace(OPERATIONS[name], **edit))
    assert shapes(of_program("L = tanh(a + b*x)", "ab", "x")) == []


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("L = tanh(a + b*x)", True),
        ("s = a + b*x\nL = s * tanh(s)", False),  # another operation reads the sum
        ("L = tanh(x)*a", False),  # no sum
        ("s = a + b*x\nL = tanh(s)\nM = L + s", True),  # another reads it, but nothing needs that
    ],
)
def test_a_sum_that_only_one_operation_reads(text: str, private: bool) -> None:
    found = of_program(text, "ab", "x")
    wide = [operation for operation in (*found.forward, *found.backward) if isinstance(operation, Wide | Pull)]
    assert {operation.private for operation in wide if operation.operation == "tanh"} == {private}


def test_a_sum_that_is_reported_is_not_overwritten() -> None:
    graph = {"inputs": {"a": 0.5, "b": 0.5, "x": 0.5}, "program": "s = a + b*x\nL = tanh(s)", "output": ["L", "s"]}
    found = fused(Graph.from_dict(graph), ["a", "b"], ["x"], ["L", "s"])
    assert not any(operation.private for operation in found.forward if isinstance(operation, Wide))


def test_weights_stand_side_by_side_in_whole_vectors() -> None:
    for units, inputs in ((1, 1), (4, 3), (16, 2), (16, 16), (3, 40)):
        found = network(inputs, [units]).model.structure.schedule
        (weights,) = found.weights
        assert weights.first % HALF == 0
        assert {weights.per_unit, weights.per_input} >= {1}
        assert max(weights.per_unit, weights.per_input) % HALF == 0
        places = {weights.place(u, i) for u in range(units) for i in range(inputs + 1)}
        assert places == set(found.parameters)


# ------------------------------------------------------------------------------------------------ how long it takes


def lines_to_fuse(spec: dict[str, Any]) -> int:
    """Return how many lines of `fusion` are run for a schedule: its time, without a clock."""
    structure = Training(spec).model.structure
    slots = structure.tape.slots
    folder = str(Path(str(fusion.__file__)).parent)
    lines = 0

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(folder):
            return None
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        schedule(
            structure.tape,
            [slots[name] for name in structure.parameters],
            [slots[name] for name in structure.data],
            [slots[structure.loss]],
        )
    finally:
        sys.settrace(before)
    return lines


def of_text(lines: list[str], parameters: list[str], data: Sequence[str] = "xyt") -> dict[str, Any]:
    return {
        "model": {
            "graph": {"inputs": dict.fromkeys([*data, *parameters], 0.1), "program": "\n".join(lines)},
            "parameters": parameters,
            "loss": "L",
        },
        "data": {name: [1.0, 2.0] for name in data},
        "optimizer": {"name": "sgd", "learning_rate": 0.01},
        "steps": 1,
    }


def long_sum(first: str, term: str, size: int) -> dict[str, Any]:
    """A sum that ends in the loss, one addition to a line."""
    lines = [f"s0 = {first}", *(f"s{i + 1} = s{i} + {term.format(i)}" for i in range(size))]
    return of_text([*lines, f"L = (s{size} - t)**2"], [f"w{i}" for i in range(size)])


def narrow_and_wide(size: int) -> dict[str, Any]:
    model = {"inputs": 1, "layers": [size, 1], "activation": "tanh"}
    data = {"inputs": [[1.0], [2.0]], "targets": [1.0, 0.0]}
    optimizer = {"name": "sgd", "learning_rate": 0.01}
    return {"model": model, "data": data, "loss": {"name": "squared_error"}, "optimizer": optimizer, "steps": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda size: long_sum("x + y", "w{0}*x", size),  # the first summand is no product
        lambda size: long_sum("(x - y)**2", "0.01*(w{0}*w{0})", size),
        lambda size: long_sum("w0*x", "w{0}*x", size),  # every x the same
        narrow_and_wide,
    ],
    ids=["a sum of data", "a penalty", "one x", "a layer"],
)
def test_twice_the_graph_is_twice_the_work(make: Callable[[int], dict[str, Any]]) -> None:
    assert lines_to_fuse(make(600)) <= 2.2 * lines_to_fuse(make(300))


def test_a_graph_whose_parts_will_not_be_put_in_order_is_soon_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # k and n are sums over the same rows, and the product of h with one of them stands between their uses of h.
    text = "h = tanh(a + b*x + c*y)\nk = d + e*h + f*x\nm = h*k\nn = g + i*h + j*x\nL = m*n"
    assert shapes(of_program(text, "abcdefgij", "xy")) == [(1, 2)]
    monkeypatch.setattr(grouping, "_LONG_PATIENCE", 0)
    found = of_program(text, "abcdefgij", "xy")
    assert not found.weights
    assert {operation.rows for operation in found.forward if isinstance(operation, Wide)} == {1}


# ------------------------------------------------------------------------------------------------ the order of sums


def contract(graph: Graph, parameters: Sequence[str], data: Sequence[str], loss: str) -> dict[str, list[str]]:
    """For each node that a parameter's gradient depends on, the nodes that add to its gradient, in order."""
    nodes = [graph.nodes[position] for position in graph.order]
    open_to = set(parameters)

    def closed(op: str, place: int) -> bool:
        partial = OPERATIONS[op].partials[place]
        return OPERATIONS[op].selective and isinstance(partial, Constant) and partial.number == 0.0

    for node in nodes:
        if any(a in open_to and not closed(node.op, place) for place, a in enumerate(node.args)):
            open_to.add(node.id)
    reached = {loss}
    added = defaultdict(list)
    for node in reversed(nodes):
        if node.id in reached and node.id in open_to:
            for place, argument in enumerate(node.args):
                if argument in open_to and not closed(node.op, place):
                    reached.add(argument)
                    added[argument].append(node.id)
    return added


def in_schedule(found: Schedule) -> dict[int, list[int]]:
    """By row of gradients, the rows from which something is added to it, in order."""
    added = defaultdict(list)
    for operation in found.backward:
        if isinstance(operation, Pull):
            for k in range(operation.rows - 1, -1, -1):
                added[operation.to + k].append(operation.source + k)
        elif isinstance(operation, PullInputs):
            weights = found.weights[operation.dense.weights]
            for i in range(weights.inputs):
                added[operation.dense.x + i] += [operation.dense.target + u for u in range(weights.units - 1, -1, -1)]
    return added


@settings(max_examples=200, deadline=None)
@given(graphs(points=2), st.data())
def test_each_gradient_has_its_uses_in_the_order_of_the_contract(graph: Graph, data: st.DataObject) -> None:
    plain = [name for name, value in graph.inputs.items() if not isinstance(value, list)]
    assume(plain)
    parameters = data.draw(st.lists(st.sampled_from(plain), min_size=1, unique=True))
    columns = [name for name, value in graph.inputs.items() if isinstance(value, list)]
    loss = graph.outputs[0]
    assume(loss not in graph.inputs)
    alone = Graph.from_dict({**graph.to_dict(), "output": [loss]})
    found = fused(alone, parameters, columns, [loss])
    assume(not any(isinstance(operation, Dense) for operation in found.forward))
    # Without dense operations every node has a row; a node and its row occur equally often, and in the same places.
    expected = contract(alone, parameters, columns, loss)
    ours = in_schedule(found)
    shares = {row for row, _ in found.shares}
    of_nodes = [users for name, users in expected.items() if name not in alone.inputs]
    of_rows = [users for row, users in ours.items() if row not in shares]
    assert shape_of(of_nodes, loss) == shape_of(of_rows, found.loss)


def shape_of(added: list[list[Any]], loss: Any) -> Any:
    """What adds to what and in which order, without names: each user by the number of additions that it makes."""
    made = defaultdict(int)
    for users in added:
        for user in users:
            made[user] += 1
    return sorted([(made[user], user == loss) for user in users] for users in added)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 6))
def test_random_sums_of_products_are_trained_as_in_plain_python(seed: int, width: int, depth: int) -> None:
    """Layers whose weights, literals, orders of terms, shared parts and activations are drawn at random."""
    rng = random.Random(seed)
    parameters: list[str] = []
    lines: list[str] = []
    known = ["x", "y"]

    def number() -> str:
        if parameters and rng.random() < 0.15:
            return rng.choice(parameters)
        if rng.random() < 0.15:
            return repr(round(rng.uniform(-1, 1), 2))
        parameters.append(f"w{len(parameters):03}")
        return parameters[-1]

    for _ in range(depth):
        xs = rng.sample(known, min(len(known), rng.randint(1, 4)))
        made = []
        for _ in range(rng.randint(1, width)):
            terms = [rng.choice(["{0}*{1}", "{1}*{0}"]).format(number(), x) for x in xs]
            total = rng.choice([terms[0], f"{number()} + {terms[0]}", f"{rng.choice(known)} + {terms[0]}"])
            for term in terms[1:]:
                total = f"{total} + {term}" if rng.random() < 0.8 else f"{term} + ({total})"
            made.append(f"h{len(lines)}")
            lines.append(f"{made[-1]} = {rng.choice(['tanh({})', 'relu({})', '({})', 'exp(-abs({}))'])}".format(total))
        known += made
    lines.append(f"L = ({' + '.join(known[2:])} - y)**2")
    parameters = [name for name in parameters if name in " ".join(lines)]
    assume(parameters)
    inputs = {"x": 0.0, "y": 0.0, **{name: round(rng.uniform(-1, 1), 3) for name in parameters}}
    used = {name: number for name, number in inputs.items() if name in " ".join(lines)}
    spec = {
        "model": {"graph": {"inputs": used, "program": "\n".join(lines)}, "parameters": parameters, "loss": "L"},
        "data": {name: [rng.uniform(-1, 1) for _ in range(5)] for name in ("x", "y") if name in used},
        "optimizer": {"name": "sgd", "learning_rate": 0.01},
        "steps": 3,
    }
    results = []
    for plain in (True, False):
        training = Training(spec, plain=plain)
        state = training.start()
        training.advance(state, 3)
        results.append(repr(training.result(state)))
    assert results[0] == results[1]
