"""Jacobians, Hessians and their products with a direction: against other engines, each other, and at the edges."""

from __future__ import annotations

import math

import autograd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from tests.engine.strategies import alone_at_every_edge, edgy_numbers, exact, graphs, tame_graphs
from tests.engine.test_derivatives import program
from tests.engine.twins import HIPS

from chainrule_engine.derivatives import DERIVATIVES, evaluate
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS

KINDS = ("jacobian", "jvp", "hessian", "hvp")


def answer_of(graph: Graph, derivative: str, **options):
    return getattr(evaluate(graph, derivative=derivative, **options), derivative)


def at_point(graph: Graph, point: int) -> Graph:
    inputs = {name: v[point] if isinstance(v, list) else v for name, v in graph.inputs.items()}
    return Graph.from_dict({**graph.to_dict(), "inputs": inputs})


# ------------------------------------------------------------------------------------------------------ by hand


def test_a_small_graph_by_hand() -> None:
    # f = x²y + y³ at (2, 3): f' = (2xy, x² + 3y²), f'' = ((2y, 2x), (2x, 6y)).
    graph = program("f = x * x * y + y ** 3", x=2.0, y=3.0)
    answer = evaluate(graph, derivative="hessian")
    assert answer.hessian == {"x": {"x": 6.0, "y": 4.0}, "y": {"x": 4.0, "y": 18.0}}
    assert answer.gradients == {"x": 12.0, "y": 31.0, "f": 1.0}
    assert answer_of(graph, "jacobian") == {"f": {"x": 12.0, "y": 31.0}}
    assert answer_of(graph, "jvp", tangent={"x": 1.0, "y": -2.0}) == {"f": -50.0}
    assert answer_of(graph, "hvp", tangent={"x": 1.0, "y": -2.0}) == {"x": -2.0, "y": -32.0}


def test_several_outputs() -> None:
    graph = program("p = x * y\nq = p * x", x=2.0, y=3.0, output=["q", "p"])
    assert answer_of(graph, "jacobian") == {"q": {"x": 12.0, "y": 4.0}, "p": {"x": 3.0, "y": 2.0}}
    assert answer_of(graph, "jvp", tangent={"y": 1.0}) == {"q": 4.0, "p": 2.0}
    # Of the sum of both, and of a weighted one.
    assert answer_of(graph, "hessian") == {"x": {"x": 6.0, "y": 5.0}, "y": {"x": 5.0, "y": 0.0}}
    assert answer_of(graph, "hessian", seeds={"p": 10}) == {"x": {"x": 0.0, "y": 10.0}, "y": {"x": 10.0, "y": 0.0}}
    assert answer_of(graph, "hvp", tangent={"x": 1.0}, seeds={"p": 10}) == {"x": 0.0, "y": 10.0}


def test_members_come_in_order_and_only_those_asked_for() -> None:
    graph = program("y = x * x", x=3.0)
    for derivative in KINDS:
        answer = evaluate(graph, derivative=derivative, **({"tangent": {"x": 1}} if "v" in derivative else {}))
        assert list(answer.to_dict()) == ["output", "value", "values", "gradients", derivative, "warnings"]
        assert answer.gradients == ({"x": 6.0, "y": 1.0} if derivative in ("hessian", "hvp") else {})


def test_unnamed_inputs_are_held_and_left_out() -> None:
    graph = program("y = x * _k * _k", x=3.0, _k=2.0)
    assert answer_of(graph, "hessian") == {"x": {"x": 0.0}}
    assert answer_of(graph, "jacobian") == {"y": {"x": 4.0}}
    # They can be moved all the same.
    assert answer_of(graph, "jvp", tangent={"_k": 1.0}) == {"y": 12.0}
    assert answer_of(graph, "hvp", tangent={"_k": 1.0}) == {"x": 4.0}


def test_a_graph_without_inputs_and_an_input_that_is_the_output() -> None:
    assert answer_of(program("y = 2 * 3"), "hessian") == {}
    assert answer_of(program("y = 2 * 3"), "jacobian") == {"y": {}}
    graph = Graph.from_dict({"inputs": {"x": 2.0, "u": 1.0}, "nodes": [], "output": "x"})
    assert answer_of(graph, "jacobian") == {"x": {"x": 1.0, "u": 0.0}}
    assert answer_of(graph, "jvp", tangent={"x": 3.0}) == {"x": 3.0}
    assert answer_of(graph, "jvp", tangent={"u": 3.0}) == {"x": 0.0}
    assert answer_of(graph, "hessian") == {"x": {"x": 0.0, "u": 0.0}, "u": {"x": 0.0, "u": 0.0}}


def test_every_number_is_a_list_for_a_batch() -> None:
    graph = program("y = x * x * w", x=[1.0, 2.0, 3.0], w=2.0)
    assert answer_of(graph, "jacobian") == {"y": {"x": [4.0, 8.0, 12.0], "w": [1.0, 4.0, 9.0]}}
    assert answer_of(graph, "hessian") == {
        "x": {"x": [4.0] * 3, "w": [2.0, 4.0, 6.0]},
        "w": {"x": [2.0, 4.0, 6.0], "w": [0.0] * 3},
    }
    # One tangent for all points, or one each.
    assert answer_of(graph, "jvp", tangent={"x": 2}) == {"y": [8.0, 16.0, 24.0]}
    assert answer_of(graph, "jvp", tangent={"x": [1, 0, -1]}) == {"y": [4.0, 0.0, -12.0]}
    assert answer_of(graph, "hvp", tangent={"x": [1, 0, -1], "w": 1}) == {"x": [6.0, 4.0, 2.0], "w": [2.0, 0.0, -6.0]}


@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_the_cost_counts_the_numbers_of_the_answer_and_its_directions(derivative: str) -> None:
    graph = program("p = x * y * z\nq = p * _k", x=2.0, y=3.0, z=1.0, _k=2.0, output=["p", "q"])
    kind = DERIVATIVES[derivative]
    answer = evaluate(graph, derivative=derivative, **({"tangent": {"x": 1.0}} if kind.tangent else {}))
    passes, numbers = kind.cost(3, 2)
    assert numbers == len(leaves(getattr(answer, derivative, {})))
    assert passes == {"jacobian": 2, "jvp": 1, "hessian": 3, "hvp": 1}.get(derivative, 0)


# -------------------------------------------------------------------------------------------- an independent engine


@settings(max_examples=150, deadline=None)
@given(tame_graphs(max_nodes=10), st.data())
def test_they_are_those_of_autograd(graph: Graph, data: st.DataObject) -> None:
    seeds = {name: data.draw(st.floats(-2.0, 2.0)) for name in graph.outputs}
    tangent = {name: data.draw(st.floats(-2.0, 2.0)) for name in graph.inputs}

    def total(numbers):
        values = {name: numbers[i] for i, name in enumerate(graph.inputs)}
        for node in (graph.nodes[position] for position in graph.order):
            values[node.id] = HIPS[node.op](*[values[a] if isinstance(a, str) else a for a in node.args])
        # Quadratic in nothing: autograd wants every function to depend on its argument.
        return sum(seed * values[name] for name, seed in seeds.items()) + 0.0 * numbers[0] ** 2

    point = np.array(list(graph.inputs.values()))
    direction = np.array(list(tangent.values()))
    with np.errstate(all="ignore"):
        expected = autograd.hessian(total)(point)
        slope = autograd.grad(total)(point) @ direction
        product = autograd.hessian_vector_product(total)(point, direction)
    ours = evaluate(graph, derivative="hessian", seeds=seeds, trace=True)
    found = np.array([list(row.values()) for row in ours.hessian.values()])
    # What cancels in a sum is lost to both engines. Products of two large derivatives meet in a second one.
    largest = max([1.0, *(abs(step["contribution"]) for step in ours.steps), *(abs(s["local"]) for s in ours.steps)])
    room = 1e-11 * largest**3
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=room)
    hvp = answer_of(graph, "hvp", seeds=seeds, tangent=tangent)
    np.testing.assert_allclose(list(hvp.values()), product, rtol=1e-7, atol=4 * room)
    jvp = answer_of(graph, "jvp", tangent=tangent)
    ours_slope = sum(seeds[name] * along for name, along in jvp.items())
    assert ours_slope == pytest.approx(slope, rel=1e-7, abs=4e-11 * largest**2)


# ------------------------------------------------------------------------------------------------ against each other


@settings(max_examples=200, deadline=None)
@given(graphs() | graphs(points=2))
def test_a_row_of_the_jacobian_is_the_gradient_of_that_output(graph: Graph) -> None:
    rows = answer_of(graph, "jacobian")
    assert list(rows) == list(graph.outputs)
    for output, row in rows.items():
        gradients = evaluate(graph, seeds={output: 1.0}).gradients
        assert exact(row) == exact({name: gradients[name] for name in graph.inputs})


@settings(max_examples=200, deadline=None)
@given(graphs() | graphs(points=2), st.data())
def test_a_column_of_the_hessian_is_its_product_with_that_direction(graph: Graph, data: st.DataObject) -> None:
    seeds = {name: data.draw(edgy_numbers) for name in graph.outputs}
    hessian = evaluate(graph, derivative="hessian", seeds=seeds)
    assert exact(hessian.all_gradients) == exact(evaluate(graph, seeds=seeds).all_gradients)
    for name in graph.inputs:
        column = {row: numbers[name] for row, numbers in hessian.hessian.items()}
        assert exact(answer_of(graph, "hvp", seeds=seeds, tangent={name: 1.0})) == exact(column)


BRANCHING = ("where", "mul", "log", "div", "sqrt", "stop_gradient", "gt", "relu", "pow")


@settings(max_examples=200, deadline=None)
@given(graphs(points=3) | graphs(points=3, operations=BRANCHING), st.data())
def test_a_batch_is_each_of_its_points(graph: Graph, data: st.DataObject) -> None:
    tangent = {name: data.draw(st.lists(edgy_numbers, min_size=3, max_size=3)) for name in graph.inputs}
    for derivative in KINDS:
        takes = DERIVATIVES[derivative].tangent
        batch = answer_of(graph, derivative, **({"tangent": tangent} if takes else {}))
        for point in range(3):
            own = {"tangent": {name: column[point] for name, column in tangent.items()}} if takes else {}
            alone = answer_of(at_point(graph, point), derivative, **own)
            assert exact(pick(batch, point)) == exact(alone)


def pick(answer, point):
    return {n: pick(inner, point) if isinstance(inner, dict) else inner[point] for n, inner in answer.items()}


@settings(max_examples=100, deadline=None)
@given(tame_graphs())
def test_both_halves_of_a_hessian_agree(graph: Graph) -> None:
    answer = evaluate(graph, derivative="hessian", trace=True)
    largest = max(
        [1.0, *(abs(step["contribution"]) for step in answer.steps), *(abs(s["local"]) for s in answer.steps)]
    )
    for row, numbers in answer.hessian.items():
        for column, number in numbers.items():
            assert number == pytest.approx(answer.hessian[column][row], rel=1e-9, abs=1e-13 * largest**3)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_steps_can_be_listed_along_with_second_derivatives(graph: Graph) -> None:
    steps = evaluate(graph, derivative="hessian", trace=True).steps
    assert exact(steps) == exact(evaluate(graph, trace=True).steps)


# -------------------------------------------------------------------------------------------------- paths and kinks


def test_a_branch_that_was_not_taken_bends_nothing() -> None:
    graph = program("y = where(x > 0, log(x) * sqrt(x), x * x)", x=[0.0, -1.0, 4.0])
    hessian = answer_of(graph, "hessian")["x"]["x"]
    # (log(x)·√x)'' = -log(x) / (4·x^1.5)
    assert hessian == [2.0, 2.0, pytest.approx(-math.log(4.0) / 32.0, rel=1e-15)]
    assert answer_of(graph, "hvp", tangent={"x": 1.0})["x"] == hessian
    assert answer_of(graph, "jvp", tangent={"x": [1, 1, 0]})["y"] == [0.0, -2.0, 0.0]


@pytest.mark.parametrize(
    "text",
    [
        "s = 1 / x\ny = where(x > 1, s, 2) * where(x > 0, s, 3) + where(x < 0, s, 3)",
        "s = 1 / x\ny = where(x > 1, s, 2) + s * 3",
        "s = 1 / x\ny = s * 3 + where(x > 1, s * s, 2)",
        "s = sqrt(x)\ny = where(x > 0, where(x > 1, s * s, 2) * x, where(x < 0, x * x, 1))",
        "y = where(x > 1, x * x, stop_gradient(1 / x)) * x",
        # What comes back bends before it reaches the branches.
        "y = where(x > 0, log(x), x) ** 2",
        "y = x * where(x > 0, sqrt(x), where(x < 0, x * x, 1))",
    ],
)
def test_branches_that_join_are_kept_apart_by_point(text: str) -> None:
    graph = program(text, x=[0.0, -2.0, 0.5, 4.0, -0.0, 1.0])
    batch = answer_of(graph, "hessian")
    for point in range(6):
        assert exact(pick(batch, point)) == exact(answer_of(at_point(graph, point), "hessian"))


def test_an_input_that_does_not_move_is_not_an_input_that_moves_by_zero() -> None:
    graph = program("y = w * sqrt(x) * w", x=0.0, w=3.0)
    # Only w moves: the infinite slope of the root plays no part.
    assert answer_of(graph, "jvp", tangent={"w": 1.0}) == {"y": 0.0}
    # x moves by nothing along an infinite slope: nobody can say how far y goes.
    assert exact(answer_of(graph, "jvp", tangent={"w": 1.0, "x": 0.0})) == exact({"y": math.nan})
    hessian = answer_of(graph, "hessian")
    assert hessian == {"x": {"x": -math.inf, "w": math.inf}, "w": {"x": math.inf, "w": 0.0}}


@pytest.mark.parametrize("text", ["abs(x)", "relu(x)", "max(x, 0)", "min(0, x)", "x > 0", "stop_gradient(x * x)"])
def test_a_kink_does_not_bend(text: str) -> None:
    assert answer_of(program(f"y = {text}", x=[0.0, -0.0, 2.0]), "hessian") == {"x": {"x": [0.0, 0.0, 0.0]}}


def test_a_literal_exponent_needs_no_logarithm() -> None:
    assert answer_of(program("y = x ** 3", x=-2.0), "hessian") == {"x": {"x": -12.0}}
    assert answer_of(program("y = x ** 2", x=0.0), "hessian") == {"x": {"x": 2.0}}
    with_exponent = answer_of(program("y = x ** n", x=-2.0, n=3.0), "hessian")
    assert exact(with_exponent) == exact({"x": {"x": -12.0, "n": math.nan}, "n": {"x": math.nan, "n": math.nan}})


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_alone_at_every_edge(name: str) -> None:
    graph, rows = alone_at_every_edge(name)
    hessian, operation = answer_of(graph, "hessian"), OPERATIONS[name]
    for point, row in enumerate(rows):
        for i, x in enumerate(graph.inputs):
            for j, y in enumerate(graph.inputs):
                partial = operation.second_partials.get((min(i, j), max(i, j)))
                true = 0.0 if partial is None else 0.0 + partial(*row, operation.value(*row))
                assert exact(hessian[x][y][point]) == exact(true)


def test_a_chain_of_5000_nodes() -> None:
    nodes = [{"id": f"n{i + 1}", "op": "sin", "args": [f"n{i}"]} for i in range(5000)]
    graph = Graph.from_dict({"inputs": {"n0": 0.5}, "nodes": nodes[::-1]})
    # The same in 60 digits, by the chain rule for two derivatives.
    value, first, second = mp.mpf(0.5), mp.mpf(1), mp.mpf(0)
    for _ in nodes:
        slope, bend = mp.cos(value), -mp.sin(value)
        value, first, second = mp.sin(value), slope * first, bend * first**2 + slope * second
    assert abs(second) > 1e-6
    answer = evaluate(graph, derivative="hessian")
    assert answer.hessian["n0"]["n0"] == pytest.approx(float(second), rel=1e-11, abs=0.0)
    assert answer_of(graph, "jvp", tangent={"n0": 1.0})["n5000"] == pytest.approx(float(first), rel=1e-11, abs=0.0)


# ------------------------------------------------------------------------------------------------------- the warnings


def warnings_of(graph: Graph, derivative: str, **options) -> dict:
    found = evaluate(graph, derivative=derivative, **options).warnings
    assert len({warning["code"] for warning in found}) == len(found)
    return {warning["code"]: warning for warning in found}


def test_the_first_tangent_that_is_not_finite_is_named() -> None:
    graph = program("s = sqrt(x)\nt = s * w\ny = t * t", x=[4.0, 0.0], w=1.0)
    (warning,) = warnings_of(graph, "jvp", tangent={"x": 1.0}).values()
    assert (warning["code"], warning["node"], warning["points"]) == ("non_finite_tangent", "s", [1])
    assert warning["detail"].startswith("the tangent of sqrt(0.0) is inf, though")
    assert warnings_of(graph, "jvp", tangent={"w": 1.0}) == {}


def test_the_first_second_derivative_that_is_not_finite_is_named() -> None:
    # (x^1.5)'' is infinite at 0, and nothing else here is.
    warnings = warnings_of(program("u = x ** 1.5\ny = u + w * w", x=0.0, w=2.0), "hessian")
    (warning,) = warnings.values()
    assert (warning["code"], warning["node"]) == ("non_finite_second_derivative", "u")
    assert warning["detail"] == "the second derivative that pow passes to x is inf in the direction of x"
    assert "points" not in warning
    (warning,) = warnings_of(program("y = x ** 1.5", x=[1.0, 0.0, 0.0]), "hvp", tangent={"x": 1.0}).values()
    assert (warning["node"], warning["points"]) == ("y", [1, 2])
    assert warning["detail"] == "the second derivative that pow passes to x is inf"


def test_a_point_is_named_once_however_many_directions_break_there() -> None:
    warning = warnings_of(program("y = 1 / (x * w)", x=[0.0, 1.0], w=0.0), "hessian")["non_finite_second_derivative"]
    assert warning["points"] == [0, 1]


def test_a_jacobian_names_the_first_rule_that_broke() -> None:
    graph = program("p = sqrt(x)\nq = log(x + 1)\nr = x ** 0.5", x=0.0, output=["q", "p", "r"])
    warning = warnings_of(graph, "jacobian")["non_finite_gradient"]
    assert warning["node"] == "p"
    assert warnings_of(program("p = x * x", x=0.0), "jacobian") == {}


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_there_is_a_warning_where_an_answer_is_not_finite(graph: Graph, data: st.DataObject) -> None:
    tangent = {name: data.draw(edgy_numbers) for name in graph.inputs}
    for derivative in KINDS:
        answer = evaluate(graph, derivative=derivative, **({"tangent": tangent} if "v" in derivative else {}))
        broken = any(not math.isfinite(number) for number in leaves(getattr(answer, derivative)))
        codes = {warning["code"] for warning in answer.warnings}
        ours = {"jacobian": "non_finite_gradient", "jvp": "non_finite_tangent"}
        assert not broken or ours.get(derivative, "non_finite_second_derivative") in codes


def leaves(answer):
    return [number for inner in answer.values() for number in (leaves(inner) if isinstance(inner, dict) else [inner])]


# --------------------------------------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"derivative": "jvp"}, ("tangent",), "jvp needs the direction"),
        ({"derivative": "hvp"}, ("tangent",), "hvp needs the direction"),
        (
            {"tangent": {"x": 1.0}},
            ("tangent",),
            "gradient takes no direction: leave tangent out, or ask for jvp and hvp",
        ),
        ({"derivative": "hessian", "tangent": {"x": 1.0}}, ("tangent",), "hessian takes no direction"),
        ({"derivative": "jvp", "tangent": {}}, ("tangent",), "give the tangent of an input"),
        ({"derivative": "jvp", "tangent": {"y": 1.0}}, ("tangent", "y"), "a tangent belongs to an input: x"),
        (
            {"derivative": "jvp", "tangent": {"x": [1.0]}},
            ("tangent", "x"),
            "a list of 2 numbers, and this is a list of 1",
        ),
        ({"derivative": "jvp", "tangent": {"x": [1.0, None]}}, ("tangent", "x", 1), "number"),
        ({"derivative": "jvp", "tangent": {"x": math.inf}}, ("tangent", "x"), "must be finite"),
        ({"derivative": "jvp", "tangent": {"x": 1}, "seeds": {"y": 1}}, ("seeds",), "each output for itself"),
        ({"derivative": "jacobian", "seeds": {"y": 1}}, ("seeds",), "each output for itself"),
        ({"derivative": "jacobian", "trace": True}, ("trace",), "for one point"),
    ],
)
def test_what_cannot_be_asked(options: dict, path: tuple, words: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(program("y = x * x", x=[1.0, 2.0]), **options)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert words in caught.value.problems[0].detail


def test_a_list_is_for_a_batch_and_steps_are_for_gradients() -> None:
    graph = program("y = x * x", x=1.0)
    with pytest.raises(EvaluationError, match="takes one number, and this is a list of 1"):
        evaluate(graph, derivative="hvp", tangent={"x": [1.0]})
    with pytest.raises(EvaluationError, match="without a gradient"):
        evaluate(graph, derivative="jacobian", trace=True)


def test_very_many_wrong_names_stay_a_short_error() -> None:
    inputs = {f"x{i}": 1.0 for i in range(3000)}
    graph = Graph.from_dict({"inputs": inputs, "program": "y = x1 * x2"})
    with pytest.raises(EvaluationError) as caught:
        evaluate(graph, derivative="jvp", tangent={f"z{i}": 1.0 for i in range(3000)})
    assert len(str(caught.value)) < 10_000
