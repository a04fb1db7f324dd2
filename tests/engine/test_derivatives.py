"""Answers about a graph: values, gradients, seeds, the steps of the backward pass, and warnings."""

from __future__ import annotations

import math
from collections import defaultdict

import autograd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.strategies import exact, graphs, tame_graphs
from tests.engine.twins import HIPS

from chainrule_engine import ENGINE
from chainrule_engine.derivatives import DERIVATIVES, MAX_WARNED_POINTS, MAX_WARNINGS, evaluate
from chainrule_engine.errors import MAX_PROBLEMS, EvaluationError
from chainrule_engine.graph import Graph
from chainrule_engine.value import Value


def program(text: str, **inputs) -> Graph:
    output = {"output": inputs.pop("output")} if "output" in inputs else {}
    return Graph.from_dict({"inputs": inputs, "program": text, **output})


NEURON = "x1w1 = x1*w1\nx2w2 = x2*w2\nn = x1w1 + x2w2 + b\no = tanh(n)"


def test_the_neuron_of_the_lecture() -> None:
    graph = program(NEURON, x1=2.0, x2=0.0, w1=-3.0, w2=1.0, b=6.8813735870195432, output="o")
    answer = evaluate(graph)
    assert answer.value == pytest.approx(0.7071067811865476, abs=1e-15)
    expected = {"x1": -1.5, "x2": 0.5, "w1": 1.0, "w2": 0.0, "b": 0.5, "n": 0.5, "x1w1": 0.5, "x2w2": 0.5, "o": 1.0}
    assert answer.gradients == pytest.approx(expected, abs=1e-15)
    assert list(answer.to_dict()) == ["output", "value", "values", "gradients", "warnings"]
    assert answer.to_dict()["output"] == "o"
    assert answer.warnings == []
    assert set(ENGINE) == {"version", "conventions"}


def test_unnamed_nodes_are_computed_and_left_out() -> None:
    answer = evaluate(program("y = x * x + 1", x=3.0))
    assert answer.values == {"x": 3.0, "y": 10.0}
    assert answer.gradients == {"x": 6.0, "y": 1.0}
    assert answer.all_values == {"x": 3.0, "_1": 9.0, "y": 10.0}
    assert answer.all_gradients == {"x": 6.0, "_1": 1.0, "y": 1.0}


def test_values_alone() -> None:
    answer = evaluate(program("y = x * x", x=3.0), derivative="none")
    assert (answer.value, answer.gradients, answer.all_gradients, answer.steps) == (9.0, {}, {}, None)


def test_several_outputs_and_a_batch() -> None:
    graph = program("p = x * w\nq = p + w", x=[1.0, 2.0, 3.0], w=2.0, output=["q", "p"])
    answer = evaluate(graph)
    assert answer.output == ["q", "p"]
    assert answer.value == [[4.0, 6.0, 8.0], [2.0, 4.0, 6.0]]
    assert answer.values == {"x": [1.0, 2.0, 3.0], "w": [2.0] * 3, "p": [2.0, 4.0, 6.0], "q": [4.0, 6.0, 8.0]}
    assert answer.gradients == {"x": [4.0] * 3, "w": [3.0, 5.0, 7.0], "p": [2.0] * 3, "q": [1.0] * 3}


def test_an_input_alone_can_be_an_output_and_a_batch_of_one_stays_a_list() -> None:
    answer = evaluate(Graph.from_dict({"inputs": {"x": [2.0]}, "nodes": [], "output": ["x"]}))
    assert answer.value == [[2.0]]
    assert answer.gradients == {"x": [1.0]}


def test_what_feeds_no_output_has_a_value_and_a_gradient_of_zero() -> None:
    answer = evaluate(program("u = log(x)\ny = x * 2", x=-1.0, output="y"))
    assert exact(answer.values) == exact({"x": -1.0, "u": math.nan, "y": -2.0})
    assert answer.gradients == {"x": 2.0, "u": 0.0, "y": 1.0}


# ------------------------------------------------------------------------------------ an independent engine


@settings(max_examples=200, deadline=None)
@given(tame_graphs(), st.data())
def test_gradients_are_those_of_autograd(graph: Graph, data: st.DataObject) -> None:
    seeds = {name: data.draw(st.floats(-2.0, 2.0)) for name in graph.outputs}

    def total(numbers):
        values = {name: numbers[i] for i, name in enumerate(graph.inputs)}
        for position in graph.order:
            node = graph.nodes[position]
            values[node.id] = HIPS[node.op](*[values[a] if isinstance(a, str) else a for a in node.args])
        return sum(seed * values[name] for name, seed in seeds.items()), values

    point = np.array(list(graph.inputs.values()))
    with np.errstate(all="ignore"):
        expected = autograd.grad(lambda numbers: total(numbers)[0] + 0.0 * numbers[0])(point)
        values = total(point)[1]
    answer = evaluate(graph, seeds=seeds, trace=True)
    for name, value in answer.values.items():
        assert value == pytest.approx(float(values[name]), rel=1e-9, abs=1e-9)
    # What cancels in a sum is lost to both engines, so the largest number on the way is the measure.
    largest = max([1.0, *(abs(step["contribution"]) for step in answer.steps)])
    found = [answer.gradients[name] for name in graph.inputs]
    assert found == pytest.approx(list(expected), rel=1e-8, abs=1e-9 * largest)


# ------------------------------------------------------------------------------------------------- the seeds


@settings(max_examples=100, deadline=None)
@given(graphs(points=2), st.data())
def test_a_seed_per_point_is_a_seed_of_that_point(graph: Graph, data: st.DataObject) -> None:
    seeds = {name: data.draw(st.lists(st.floats(-2, 2), min_size=2, max_size=2)) for name in graph.outputs}
    batch = evaluate(graph, seeds=seeds)
    for point in range(2):
        inputs = {n: v[point] if isinstance(v, list) else v for n, v in graph.inputs.items()}
        single = Graph.from_dict({**graph.to_dict(), "inputs": inputs})
        alone = evaluate(single, seeds={name: seed[point] for name, seed in seeds.items()})
        assert exact({n: column[point] for n, column in batch.gradients.items()}) == exact(alone.gradients)


def test_the_default_seed_is_one_for_every_output_and_what_is_left_out_is_not_differentiated() -> None:
    graph = program("p = x * x\nq = log(x)", x=-2.0, output=["p", "q"])
    assert exact(evaluate(graph).gradients) == exact(evaluate(graph, seeds={"p": 1, "q": 1.0}).gradients)
    answer = evaluate(graph, seeds={"p": 3.0})
    assert answer.gradients == {"x": -12.0, "p": 3.0, "q": 0.0}


def test_a_seed_may_use_another_name_of_its_output() -> None:
    graph = program("y = x * x\no = y", x=3.0, output="o")
    answer = evaluate(graph, seeds={"o": 2.0})
    assert (answer.output, answer.gradients) == ("y", {"x": 12.0, "y": 2.0})
    assert evaluate(graph, seeds={"y": 2.0}).gradients == answer.gradients
    with pytest.raises(EvaluationError, match="y has a seed already"):
        evaluate(graph, seeds={"y": 2.0, "o": 2.0})
    # An id goes before another name: here x is one output, and the input of that name is the other.
    both = program("y = x\nx = x * x\n", x=3.0, output=["x", "y"])
    assert both.outputs == ("x.1", "x")
    assert evaluate(both, seeds={"x": 1.0}).gradients == {"x": 1.0, "x.1": 0.0}


def test_many_wrong_seeds_of_many_outputs_make_a_short_message() -> None:
    names = [f"y{i}" for i in range(3000)]
    graph = Graph.from_dict({"inputs": dict.fromkeys(names, 1.0), "nodes": [], "output": names})
    with pytest.raises(EvaluationError) as caught:
        evaluate(graph, seeds={f"z{i}": 1.0 for i in range(2000)})
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert caught.value.problems[0].detail == "a seed belongs to an output: y0, y1, y2, y3, y4, …"


def test_one_seed_serves_every_point() -> None:
    graph = program("y = x * x", x=[1.0, 2.0])
    assert evaluate(graph, seeds={"y": 3.0}).gradients["x"] == [6.0, 12.0]
    assert evaluate(graph, seeds={"y": [3.0, -1.0]}).gradients["x"] == [6.0, -4.0]


@pytest.mark.parametrize(
    ("inputs", "options", "path", "words"),
    [
        ({}, {"derivative": "laplacian"}, ("derivative",), "choose one of gradient, none"),
        ({"x": [1.0, 2.0]}, {"trace": True}, ("trace",), "for one point"),
        ({}, {"trace": True, "derivative": "none"}, ("trace",), "without a gradient"),
        ({}, {"seeds": {}}, ("seeds",), "give the seed of an output"),
        ({}, {"seeds": {"x": 1.0}}, ("seeds", "x"), "a seed belongs to an output: y"),
        ({}, {"seeds": {"y": math.inf}}, ("seeds", "y"), "must be finite"),
        ({}, {"seeds": {"y": True}}, ("seeds", "y"), "this is a boolean"),
        ({}, {"seeds": {"y": [1.0]}}, ("seeds", "y"), "takes one number, and this is a list of 1"),
        ({"x": [1.0, 2.0]}, {"seeds": {"y": [1.0]}}, ("seeds", "y"), "a list of 2 numbers, and this is a list of 1"),
        ({"x": [1.0, 2.0]}, {"seeds": {"y": [1.0, "2"]}}, ("seeds", "y", 1), "this is a string"),
    ],
)
def test_what_cannot_be_asked(inputs: dict, options: dict, path: tuple, words: str) -> None:
    graph = program("y = x * x", **{"x": 1.0, **inputs})
    with pytest.raises(EvaluationError) as caught:
        evaluate(graph, **options)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert words in caught.value.problems[0].detail


def test_every_wrong_seed_is_reported() -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(program("y = x * x", x=1.0), seeds={"a": 1.0, "y": None, "b": 1.0})
    assert [problem.path for problem in caught.value.problems] == [("seeds", "a"), ("seeds", "y"), ("seeds", "b")]


def test_the_derivatives_that_can_be_asked_for_are_listed() -> None:
    for derivative, kind in DERIVATIVES.items():
        options = {"tangent": {"x": 1.0}} if kind.tangent else {}
        answer = evaluate(program("y = x * x", x=2.0), derivative=derivative, **options)
        assert answer.value == 4.0
        assert bool(answer.gradients) == kind.gradients


# ------------------------------------------------------------------------------------------------- the steps


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_the_steps_replay_to_the_gradients(graph: Graph) -> None:
    answer = evaluate(graph, trace=True)
    ids = {node.id: node for node in graph.nodes}
    totals: dict[str, float] = defaultdict(float, dict.fromkeys(graph.outputs, 1.0))
    finished = []
    for step in answer.steps:
        if not finished or finished[-1] != step["from"]:
            finished.append(step["from"])
        # When a node passes its gradient on, that gradient is complete.
        assert exact(step["upstream"]) == exact(totals[step["from"]]) == exact(answer.all_gradients[step["from"]])
        assert exact(step["contribution"]) == exact(step["upstream"] * step["local"])
        totals[step["to"]] += step["contribution"]
        assert exact(step["total"]) == exact(totals[step["to"]])
        assert step["op"] == ids[step["from"]].op
        assert step["to"] in ids[step["from"]].args
    assert len(finished) == len(set(finished))
    assert exact({name: totals[name] for name in answer.all_gradients}) == exact(answer.all_gradients)


def test_the_steps_of_a_small_graph() -> None:
    answer = evaluate(program("e = a * b\nd = e + 10\nL = d * a", a=2.0, b=-3.0), trace=True)

    def step(source, to, op, upstream, local, contribution, total):
        names = ("from", "to", "op", "upstream", "local", "contribution", "total")
        return dict(zip(names, (source, to, op, upstream, local, contribution, total), strict=True))

    assert answer.steps == [
        step("L", "d", "mul", 1.0, 2.0, 2.0, 2.0),
        step("L", "a", "mul", 1.0, 4.0, 4.0, 4.0),
        step("d", "e", "add", 2.0, 1.0, 2.0, 2.0),
        step("e", "a", "mul", 2.0, -3.0, -6.0, -2.0),
        step("e", "b", "mul", 2.0, 2.0, 4.0, 4.0),
    ]
    assert answer.to_dict()["steps"] == answer.steps


@settings(max_examples=100, deadline=None)
@given(tame_graphs())
def test_the_contributions_of_a_node_add_up_to_its_gradient(graph: Graph) -> None:
    answer = evaluate(graph, trace=True)
    for name, gradient in answer.all_gradients.items():
        shares = [step["contribution"] for step in answer.steps if step["to"] == name]
        seed = 1.0 if name in graph.outputs else 0.0
        assert gradient == pytest.approx(math.fsum([seed, *shares]), rel=1e-12, abs=1e-12 * max(map(abs, [1, *shares])))


# ---------------------------------------------------------------------------------------------- the warnings


@pytest.mark.parametrize(
    ("text", "x", "node", "interval", "words"),
    [
        ("y = relu(x)", 0.0, "y", [0.0, 1.0], "derivative 0 at 0"),
        ("y = relu(x)", -0.0, "y", [0.0, 1.0], "derivative 0 at 0"),
        ("y = 3 + abs(x)", 0.0, "_1", [-1.0, 1.0], "derivative 0 at 0"),
        ("y = max(x, 2)", 2.0, "y", [0.0, 1.0], "split evenly"),
        ("y = min(x, 2)", 2.0, "y", [0.0, 1.0], "split evenly"),
    ],
)
def test_a_kink_is_named_with_its_interval(text: str, x: float, node: str, interval: list, words: str) -> None:
    (warning,) = evaluate(program(text, x=x)).warnings
    assert (warning["code"], warning["node"], warning["interval"]) == ("kink", node, interval)
    assert words in warning["detail"]
    assert "points" not in warning
    assert evaluate(program(text, x=x), derivative="none").warnings == [warning]


def test_no_kink_no_warning() -> None:
    assert evaluate(program("y = relu(x) + abs(x) + max(x, 2)", x=5e-324)).warnings == []


@pytest.mark.parametrize("op", ["gt", "ge", "lt", "le", "eq", "ne"])
def test_a_jump_is_named(op: str) -> None:
    (warning,) = evaluate(program(f"c = {op}(x, 1)\ny = where(c, x, 2)", x=1.0)).warnings
    assert (warning["code"], warning["node"]) == ("jump", "c")
    assert "interval" not in warning
    assert evaluate(program(f"c = {op}(x, 1)\ny = where(c, x, 2)", x=1.5)).warnings == []


def test_warnings_of_a_batch_name_the_points() -> None:
    warnings = evaluate(program("y = relu(x) + log(x)", x=[0.0, 1.0, 0.0, -1.0])).warnings
    found = {w["code"]: w["points"] for w in warnings}
    assert found == {"kink": [0, 2], "non_finite_value": [0, 2, 3], "non_finite_gradient": [0, 2]}
    (warning,) = evaluate(program("y = relu(x)", x=[0.0] * 40)).warnings
    assert warning["points"] == list(range(MAX_WARNED_POINTS))


def test_many_kinks_are_counted() -> None:
    text = "\n".join(f"y{i} = relu(x)" for i in range(MAX_WARNINGS + 8))
    warnings = evaluate(program(text, x=0.0, output="y0")).warnings
    assert len(warnings) == MAX_WARNINGS + 1
    assert [w["node"] for w in warnings[:-1]] == [f"y{i}" for i in range(MAX_WARNINGS)]
    assert (warnings[-1]["code"], warnings[-1]["node"]) == ("more", None)
    assert "8 more" in warnings[-1]["detail"]


@pytest.mark.parametrize(
    ("text", "node", "detail"),
    [
        ("y = 1 / x + 2", "_1", "div(1.0, 0.0) is inf; it is a part of y"),
        ("u = x - 1\nv = log(u)\ny = v * v", "v", "log(-1.0) is nan"),
        ("u = x - 8\ny = u ** (1 / 3)", "y", "pow(-8.0, 0.3333333333333333) is nan"),
        ("u = exp(x + 1000)\ny = u - u", "u", "exp(1000.0) is inf"),
        ("y = (x + 1e300) * (x + 1e300)", "y", "mul(1e+300, 1e+300) is inf"),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(text: str, node: str, detail: str) -> None:
    answer = evaluate(program(text, x=0.0), derivative="none")
    assert answer.warnings == [{"code": "non_finite_value", "node": node, "detail": detail}]


def test_infinity_that_does_not_reach_the_output_is_named_too() -> None:
    answer = evaluate(program("y = where(x > 0, log(x), x)", x=0.0))
    assert [w["code"] for w in answer.warnings] == ["jump", "non_finite_value"]
    assert answer.gradients["x"] == 1.0


def test_an_input_that_is_infinite_already_is_nobodys_fault() -> None:
    x = Value(math.inf, "x")
    assert evaluate(Graph.from_values([(x * 2).named("y")])).warnings == []


def test_the_first_gradient_that_is_not_finite_is_named() -> None:
    answer = evaluate(program("s = sqrt(x)\ny = s * s", x=0.0))
    (warning,) = answer.warnings
    # At s = 0 the square's gradient is 0 and the root's is inf: their product is NaN.
    assert (warning["code"], warning["node"]) == ("non_finite_gradient", "s")
    assert warning["detail"] == "the gradient that sqrt passes to x is nan: upstream 0.0 times local inf"
    assert exact(answer.gradients["x"]) == "nan"


def test_a_finite_value_whose_sum_of_gradients_overflows() -> None:
    answer = evaluate(program("y = x * 1e308 + x * 1e308", x=0.0))
    (warning,) = answer.warnings
    assert (warning["code"], warning["node"]) == ("non_finite_gradient", "_1")
    assert answer.gradients["x"] == math.inf


def test_a_gradient_is_blamed_at_the_points_where_it_breaks() -> None:
    (warning,) = evaluate(program("y = sqrt(x)", x=[4.0, 0.0, 1.0, 0.0])).warnings
    assert (warning["code"], warning["node"], warning["points"]) == ("non_finite_gradient", "y", [1, 3])


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_what_is_blamed_is_the_first_that_is_not_finite(graph: Graph) -> None:
    answer = evaluate(graph, trace=True)
    found = {warning["code"]: warning["node"] for warning in answer.warnings}
    nodes = [graph.nodes[position] for position in graph.order]
    broken = [node.id for node in nodes if not math.isfinite(answer.all_values[node.id])]
    assert found.get("non_finite_value") == (broken[0] if broken else None)
    steps = [step["from"] for step in answer.steps if not math.isfinite(step["total"])]
    assert found.get("non_finite_gradient") == (steps[0] if steps else None)


@pytest.mark.parametrize(
    ("program", "place"),
    [
        ("d = sqrt(a) + log(a)*2", "; it is a part of d"),
        ("log(a) * 2", ""),
        ("d = log(a)", ""),
        ("b = a*a; d = (relu(b) + 1) * b; e = d + 1", "; it is a part of d"),
    ],
)
def test_a_warning_about_an_unnamed_node_tells_where_it_is(program: str, place: str) -> None:
    warning = evaluate(Graph.from_dict({"inputs": {"a": 0.0}, "program": program})).warnings[0]
    assert warning["detail"].partition(";")[1] + warning["detail"].partition(";")[2] == place
