"""Random graphs against PyTorch's autograd: the gradient of every node."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from tests.engine.strategies import tame_graphs
from tests.torch.counterparts import PYTORCH, run

from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph

pytestmark = pytest.mark.torch


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=tame_graphs(max_nodes=20))
def test_random_graphs(torch, graph):
    values, gradients = run(torch, graph)
    ours = evaluate(graph)
    assert ours.all_values == pytest.approx(values, rel=1e-11, abs=1e-11)
    # The cancellation of tanh' and sigmoid' in PyTorch is magnified by the gradients that arrive there.
    largest = max(1.0, *map(abs, gradients.values()))
    assert ours.all_gradients == pytest.approx(gradients, rel=1e-9, abs=1e-12 * largest)


def test_the_lecture_s_neuron(torch):
    graph = Graph.from_dict(
        {
            "inputs": {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432},
            "program": "n = x1*w1 + x2*w2 + b\no = n.tanh()",
        }
    )
    values, gradients = run(torch, graph)
    ours = evaluate(graph)
    assert ours.values["o"] == pytest.approx(values["o"], rel=1e-15)
    assert ours.all_gradients == pytest.approx(gradients, rel=1e-14)
    assert [ours.gradients[name] for name in ("x1", "w1", "x2", "w2")] == pytest.approx([-1.5, 1.0, 0.5, 0.0])


def test_a_long_chain_of_shared_nodes(torch):
    # s ← s/2 + sin(s)·s/4, 200 times over: each node is used three times.
    lines = ["s0 = x"] + [f"s{k + 1} = s{k} * 0.5 + sin(s{k}) * s{k} * 0.25" for k in range(200)]
    graph = Graph.from_dict({"inputs": {"x": 1.25}, "program": "\n".join(lines), "output": "s200"})
    values, gradients = run(torch, graph)
    ours = evaluate(graph)
    assert ours.value == pytest.approx(values[graph.outputs[0]], rel=1e-12, abs=1e-300)
    assert ours.gradients["x"] == pytest.approx(gradients["x"], rel=1e-10, abs=1e-300)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=tame_graphs(max_nodes=10))
def test_hessians_of_random_graphs(torch, graph):
    def total(*tensors):
        values = dict(zip(graph.inputs, tensors, strict=True))
        for node in (graph.nodes[position] for position in graph.order):
            args = [values[a] if isinstance(a, str) else torch.tensor(a) for a in node.args]
            values[node.id] = PYTORCH[node.op](torch, *args)
        # Plus a square that is no part of the graph: PyTorch asks for a path from every input.
        return sum(values[name] for name in graph.outputs) + 0.0 * sum(tensor**2 for tensor in tensors)

    point = tuple(torch.tensor(number) for number in graph.inputs.values())
    theirs = torch.autograd.functional.hessian(total, point)
    ours = evaluate(graph, derivative="hessian", trace=True)
    largest = max([1.0, *(abs(step[number]) for step in ours.steps for number in ("local", "contribution"))])
    for row, numbers in zip(theirs, ours.hessian.values(), strict=True):
        for expected, number in zip(row, numbers.values(), strict=True):
            assert number == pytest.approx(expected.item(), rel=1e-8, abs=1e-12 * largest**3)


def test_a_hessian_that_was_worked_out_by_hand(torch):
    graph = Graph.from_dict({"inputs": {"x": 2.0, "y": 3.0}, "program": "f = x * x * y + y ** 3"})
    theirs = torch.autograd.functional.hessian(lambda x, y: x * x * y + y**3, (torch.tensor(2.0), torch.tensor(3.0)))
    assert [list(row.values()) for row in evaluate(graph, derivative="hessian").hessian.values()] == [
        [number.item() for number in row] for row in theirs
    ]
