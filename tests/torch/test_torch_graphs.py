"""Random graphs against PyTorch's autograd: the gradient of every node."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from tests.engine.strategies import tame_graphs
from tests.torch.counterparts import run

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
