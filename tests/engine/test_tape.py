"""The tape and `Value` run the same graph with the same bits, whatever the graph, the batch or the process."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.strategies import (
    alone_at_every_edge,
    any_finite,
    by_values,
    exact,
    graphs,
    programs,
    wire_graphs,
)

from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.tape import Tape

ROOT = Path(__file__).resolve().parents[2]


@settings(max_examples=300, deadline=None)
@given(graphs() | graphs(numbers=any_finite))
def test_the_tape_is_value_bit_for_bit(graph: Graph) -> None:
    values, gradients = by_values(graph)
    answer = evaluate(graph)
    assert exact(answer.all_values) == exact(values)
    assert exact(answer.all_gradients) == exact(gradients)


@settings(max_examples=200, deadline=None)
@given(graphs(points=3) | graphs(points=3, operations=("where", "mul", "log", "div", "stop_gradient", "gt", "relu")))
def test_a_column_of_a_batch_is_the_evaluation_of_its_point(graph: Graph) -> None:
    answer = evaluate(graph)
    for point in range(3):
        values, gradients = by_values(graph, point)
        assert exact({n: column[point] for n, column in answer.all_values.items()}) == exact(values)
        assert exact({n: column[point] for n, column in answer.all_gradients.items()}) == exact(gradients)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_seeds_are_the_same_on_both_ways(graph: Graph, data: st.DataObject) -> None:
    seeds = [data.draw(any_finite) for _ in graph.outputs]
    _, gradients = by_values(graph, seeds=seeds)
    answer = evaluate(graph, seeds=dict(zip(graph.outputs, seeds, strict=True)))
    assert exact(answer.all_gradients) == exact(gradients)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_alone_at_every_edge(name: str) -> None:
    """One batch holds every combination of edges, so that no operation is left to the luck of a draw."""
    graph, rows = alone_at_every_edge(name)
    answer = evaluate(graph)
    for point in range(len(rows)):
        values, gradients = by_values(graph, point)
        assert exact({n: column[point] for n, column in answer.all_values.items()}) == exact(values)
        assert exact({n: column[point] for n, column in answer.all_gradients.items()}) == exact(gradients)


@settings(max_examples=150, deadline=None)
@given(wire_graphs(), st.randoms(use_true_random=False))
def test_nodes_listed_in_any_order_give_the_same_bits(data: dict, rng: random.Random) -> None:
    shuffled = {**data, "nodes": rng.sample(data["nodes"], len(data["nodes"]))}
    first, second = evaluate(Graph.from_dict(data)), evaluate(Graph.from_dict(shuffled))
    assert exact(first.value) == exact(second.value)
    assert exact(first.values) == exact(second.values)
    assert exact(first.gradients) == exact(second.gradients)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_program_text_and_node_list_agree(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    text = data.draw(programs(graph))
    listed = evaluate(graph)
    program = evaluate(Graph.from_dict({"inputs": graph.inputs, "program": text, "output": list(graph.outputs)}))
    for name in program.values:
        assert exact(program.values[name]) == exact(listed.values[name])
        assert exact(program.gradients[name]) == exact(listed.gradients[name])
    assert set(graph.outputs) <= program.values.keys()


@pytest.mark.parametrize("seed", range(8))
def test_crowded_graphs_whose_sums_depend_on_their_order(seed: int) -> None:
    """Many shares arrive at few nodes, so that another order of adding them shows in the bits."""
    rng = random.Random(seed)
    inputs = {f"x{i}": [rng.uniform(-1, 1) for _ in range(2)] for i in range(3)}
    known, nodes = list(inputs), []
    for number in range(80):
        op = rng.choice(["add", "sub", "mul", "sin", "tanh"])
        args = [rng.choice(known[-12:] + known[:3]) for _ in range(OPERATIONS[op].arity)]
        nodes.append({"id": f"n{number}", "op": op, "args": args})
        known.append(f"n{number}")
    data = {"inputs": inputs, "nodes": rng.sample(nodes, len(nodes)), "output": known[:-9:-1]}
    graph = Graph.from_dict(data)
    answer = evaluate(graph)
    for point in range(2):
        values, gradients = by_values(graph, point)
        assert exact({n: column[point] for n, column in answer.all_values.items()}) == exact(values)
        assert exact({n: column[point] for n, column in answer.all_gradients.items()}) == exact(gradients)
    assert exact(evaluate(Graph.from_dict({**data, "nodes": nodes})).gradients) == exact(answer.gradients)


def test_where_differentiates_what_each_point_selected() -> None:
    program = "y = where(x > 0, log(x), 1 / (x - 1)) * x"
    columns = [2.0, -1.0, 0.0, 1.0]
    answer = evaluate(Graph.from_dict({"inputs": {"x": columns}, "program": program}))
    singles = [evaluate(Graph.from_dict({"inputs": {"x": x}, "program": program})) for x in columns]
    assert answer.gradients["x"] == [single.gradients["x"] for single in singles]
    # At 2: (x log x)' = log x + 1; at -1: (x / (x - 1))' = -1 / (x - 1)².
    assert answer.gradients["x"][:2] == pytest.approx([1.6931471805599454, -0.25], rel=1e-15)


@pytest.mark.parametrize(
    "program",
    [
        # The node s is reached at some points by one branch and at others by another,
        "s = 1 / x\ny = where(x > 1, s, 2) + where(x < 0, s, 3)",
        "s = 1 / x\ny = where(x > 1, s, 2) * where(x > 0, s, 3) + where(x < 0, s, 3)",
        # at some points and then at all,
        "s = 1 / x\ny = s * 3 + where(x > 1, s, 2)",
        # at all points and then at some,
        "s = 1 / x\ny = where(x > 1, s, 2) + s * 3",
        # and by a branch within a branch.
        "s = 1 / x\ny = where(x > 0, where(x > 1, sqrt(s), 2) * 2, where(x < 0, s * s, 1))",
    ],
)
def test_branches_that_join_are_kept_apart_by_point(program: str) -> None:
    graph = Graph.from_dict({"inputs": {"x": [0.0, -2.0, 0.5, 4.0, -0.0, 1.0]}, "program": program})
    answer = evaluate(graph)
    for point in range(6):
        _, gradients = by_values(graph, point)
        assert exact({n: column[point] for n, column in answer.all_gradients.items()}) == exact(gradients)
    assert answer.gradients["x"][3] != 0.0


def test_literal_numbers_are_told_apart_by_the_sign_of_zero() -> None:
    nodes = [
        {"id": "p", "op": "div", "args": ["x", 0.0]},
        {"id": "q", "op": "div", "args": ["x", -0.0]},
        {"id": "r", "op": "div", "args": ["x", 0.0]},
    ]
    tape = Tape(Graph.from_dict({"inputs": {"x": 1.0}, "nodes": nodes, "output": ["p", "q", "r"]}))
    columns = tape.forward({"x": 1.0}, 1)
    assert [columns[tape.slots[name]] for name in "pqr"] == [[float("inf")], [float("-inf")], [float("inf")]]
    assert tape.size == 1 + 2 + 3


def test_skipped_inputs_get_no_gradient_and_change_no_other() -> None:
    graph = Graph.from_dict({"inputs": {"w": 3.0, "x": 2.0}, "program": "s = x * x\ny = w * s + w"})
    tape = Tape(graph)
    columns = tape.forward(graph.inputs, 1)
    everything = tape.backward(columns, {"y": [1.0]})
    some = tape.backward(columns, {"y": [1.0]}, skip=frozenset({"x"}))
    assert everything[tape.slots["x"]] == [12.0]
    assert some[tape.slots["x"]] is None
    assert some[tape.slots["s"]] is None
    assert some[tape.slots["w"]] == everything[tape.slots["w"]] == [5.0]


def test_a_chain_of_100_000_operations() -> None:
    length = 100_000
    nodes = [
        {"id": f"n{i}", "op": op, "args": [f"n{i - 1}", 1.0][: OPERATIONS[op].arity]}
        for i, op in zip(range(1, length + 1), itertools.cycle(["add", "tanh", "mul"]))
    ]
    graph = Graph.from_dict({"inputs": {"n0": 0.5}, "nodes": nodes[::-1]})
    answer = evaluate(graph, trace=True)
    values, gradients = by_values(graph)
    assert len(answer.steps) == length
    assert answer.value == values[f"n{length}"]
    assert answer.gradients == gradients
    assert answer.gradients["n99990"] > 0.0


def test_a_node_that_is_used_100_000_times() -> None:
    uses = 100_000
    nodes = [{"id": "s", "op": "sin", "args": ["x"]}, {"id": "n1", "op": "add", "args": ["s", "s"]}]
    nodes += [{"id": f"n{i}", "op": "add", "args": [f"n{i - 1}", "s"]} for i in range(2, uses)]
    graph = Graph.from_dict({"inputs": {"x": 0.25}, "nodes": nodes})
    answer = evaluate(graph, trace=True)
    values, gradients = by_values(graph)
    assert sum(step["to"] == "s" for step in answer.steps) == uses
    assert answer.gradients["s"] == gradients["s"] == uses
    assert answer.gradients["x"] == gradients["x"]
    assert answer.value == values[f"n{uses - 1}"]


PROCESS = """
from chainrule_engine import Graph, evaluate, train
x = {f"x{i}": 0.1 * i + 0.7 for i in range(12)}
lines = [f"a{i} = x{i} * x{(5 * i) % 12} + tanh(x{(7 * i) % 12}) / x{i}" for i in range(12)]
lines += [f"b{i} = sin(a{i}) * a{(i + 5) % 12} + softplus(a{(i + 1) % 12})" for i in range(12)]
lines += ["y = " + " + ".join(f"b{i}" for i in range(12))]
answer = evaluate(Graph.from_dict({"inputs": x, "program": "\\n".join(lines), "output": ["y", "b3"]}), trace=True)
print(answer.to_dict())
print(train({
    "model": {"inputs": 2, "layers": [3, 2], "activation": "tanh", "output_activation": "linear"},
    "data": {"inputs": [[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], "targets": [0, 1, 1]},
    "loss": {"name": "cross_entropy", "l2": 0.01}, "metrics": ["accuracy"],
    "optimizer": {"name": "adam", "learning_rate": 0.1}, "steps": 5, "batch_size": 2,
}))
"""


def test_other_processes_give_the_same_bits() -> None:
    answers = set()
    for seed in ("0", "1", "12345"):
        roots = os.pathsep.join(str(ROOT / name) for name in ("engine", "service", "client"))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": roots}
        run = subprocess.run(
            [sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, check=True
        )
        answers.add(run.stdout)
    assert len(answers) == 1
    assert "loss_history" in answers.pop()
