"""Gradient checks: right gradients pass, wrong ones are found, kinks are told from mistakes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from tests.engine.strategies import tame_graphs

from chainrule_engine import acceleration
from chainrule_engine.checking import DEFAULT_STEP, RUNGS, GradientCheck, check_gradients, cost
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS

SMOOTH = [name for name, operation in OPERATIONS.items() if operation.kink is None and name != "stop_gradient"]


def program(text: str, **inputs) -> Graph:
    output = {"output": inputs.pop("output")} if "output" in inputs else {}
    return Graph.from_dict({"inputs": inputs, "program": text, **output})


def check(text: str, x: float, **inputs) -> tuple[str, tuple[float, float] | None]:
    first = check_gradients(program(text, x=x, **inputs)).checks[0]
    assert first.input == "x"
    return first.outcome, first.interval


def break_rule(monkeypatch: pytest.MonkeyPatch, name: str, position: int, factor: float = 1.01) -> None:
    """Make a partial derivative wrong by 1 %."""
    partials = list(OPERATIONS[name].partials)
    right = partials[position]
    partials[position] = lambda *numbers: factor * right(*numbers)
    replace_rules(monkeypatch, name, *partials)


def replace_rules(monkeypatch: pytest.MonkeyPatch, name: str, *partials: Callable[..., float]) -> None:
    monkeypatch.setitem(OPERATIONS, name, replace(OPERATIONS[name], partials=partials))
    # What is compiled is compiled: only plain Python sees a table that changes.
    monkeypatch.setattr(acceleration, "find", lambda work: None)


@settings(max_examples=200, deadline=None)
@given(tame_graphs(operations=SMOOTH))
def test_the_gradients_of_smooth_graphs_pass(graph: Graph) -> None:
    found = check_gradients(graph)
    assert [check.input for check in found.checks] == list(graph.inputs)
    assert [check.outcome for check in found.checks] == ["passed"] * len(graph.inputs)
    assert found.passed


@settings(max_examples=100, deadline=None)
@given(tame_graphs(operations=[name for name in OPERATIONS if name != "stop_gradient"]))
def test_the_gradients_beside_kinks_do_not_fail(graph: Graph) -> None:
    assert check_gradients(graph).passed


def arguments(arity: int) -> dict[str, float]:
    return dict(list({"x": 0.7, "y": 1.3, "z": -0.4}.items())[:arity])


@pytest.mark.parametrize(
    ("name", "position"),
    [(n, p) for n in SMOOTH for p in range(OPERATIONS[n].arity) if n not in ("where", "pow") or p == 1]
    + [("pow", 0), ("where", 1), ("relu", 0), ("abs", 0), ("max", 1), ("min", 0)],
)
def test_a_derivative_that_is_wrong_by_a_hundredth_is_found(
    name: str, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = arguments(OPERATIONS[name].arity)
    outer = "div" if name == "mul" else "mul"
    nodes = [{"id": "r", "op": name, "args": list(inputs)}, {"id": "o", "op": outer, "args": ["r", 3.0]}]
    graph = Graph.from_dict({"inputs": inputs, "nodes": nodes})
    assert check_gradients(graph).passed
    break_rule(monkeypatch, name, position)
    found = check_gradients(graph)
    assert not found.passed
    assert [c.outcome == "failed" for c in found.checks] == [p == position for p in range(len(inputs))]


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("y = relu(x)", (0.0, 1.0)),
        ("y = -2 * relu(x)", (-2.0, 0.0)),
        ("y = abs(x)", (-1.0, 1.0)),
        ("y = 3 * abs(x) + x", (-2.0, 4.0)),
        ("y = max(x, w * x)", (1.0, 2.0)),
        ("y = min(x, w * x)", (1.0, 2.0)),
        ("y = max(x, 0)", (0.0, 1.0)),
    ],
)
def test_a_kink_is_told_with_its_interval(text: str, interval: tuple[float, float]) -> None:
    inputs = {"w": 2.0} if "w" in text else {}
    outcome, found = check(text, 0.0, **inputs)
    assert outcome == "kink"
    assert found == pytest.approx(interval, abs=1e-12)
    assert check_gradients(program(text, x=0.0, **inputs)).passed


def test_a_gradient_outside_the_interval_of_a_kink_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_rules(monkeypatch, "relu", lambda x, z: 1.5 if x == 0.0 else 0.0)
    assert check("y = relu(x)", 0.0) == ("failed", None)


def test_a_kink_near_by_is_no_kink_here() -> None:
    assert check("y = relu(x)", 1e-3) == ("passed", None)
    assert check("y = abs(x)", -1e-3) == ("passed", None)


def test_a_stopped_gradient_is_not_the_derivative() -> None:
    assert check("y = x * stop_gradient(x)", 3.0) == ("failed", None)


def test_a_branch_that_was_chosen_passes_and_branches_that_meet_are_a_kink() -> None:
    assert check("y = where(x > 1, x * x, -x)", 3.0) == ("passed", None)
    assert check("y = where(x > 1, x * x, -x)", -3.0) == ("passed", None)
    outcome, interval = check("y = where(x > 1, x, 1)", 1.0)
    assert (outcome, interval) == ("kink", pytest.approx((0.0, 1.0)))


@pytest.mark.parametrize("text", ["y = 1 / x", "y = log(x)", "y = sqrt(x)"])
def test_a_gradient_that_is_not_finite_fails(text: str) -> None:
    found = check_gradients(program(text, x=0.0))
    assert not found.passed
    assert found.checks[0].outcome == "failed"


@pytest.mark.parametrize("x", [1e-6, -1e-6, 3e-7, 1e-9])
@pytest.mark.parametrize("text", ["y = relu(x)", "y = abs(x)", "y = max(x, 0)", "y = where(x > 0, x * x, 2 * x)"])
def test_a_point_beside_a_kink_or_a_jump_is_smooth(text: str, x: float) -> None:
    assert check(text, x) == ("passed", None)


@pytest.mark.parametrize(("text", "name"), [("y = log(x)", "log"), ("y = sqrt(x)", "sqrt"), ("y = 1 / x", "div")])
@pytest.mark.parametrize("x", [1e-3, 1e-6, 1e-8])
def test_the_end_of_a_domain_near_by_is_no_matter(text: str, name: str, x: float, monkeypatch) -> None:
    assert check(text, x) == ("passed", None)
    break_rule(monkeypatch, name, len(OPERATIONS[name].partials) - 1)
    assert check(text, x) == ("failed", None)


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("y = (x > 0) * 1.0", 0.0),
        ("y = (x >= 0) + 3 * x", 0.0),
        ("y = where(x == 0, 1, 0)", 0.0),
        ("y = where(x > 0, 1, where(x < 0, -1, 0))", 0.0),
        ("y = where(x > 1, x * x, 5)", 1.0),
        # Not finite at the point, or beside it as near as the differences go.
        ("y = log(x - 1)", 0.0),
        ("y = log(x)", 1e-30),
        ("y = 1 / x", 1e-20),
    ],
)
def test_what_the_differences_cannot_tell_is_undecided(text: str, x: float) -> None:
    assert check(text, x) == ("undecided", None)
    assert check_gradients(program(text, x=x)).passed


def test_a_coarse_step_over_something_is_not_believed() -> None:
    # All coarse differences are 0, exactly; the finer ones know better.
    assert check("y = where(abs(x) < 1e-8, 5 * x, x * x)", 0.0) == ("passed", None)


def test_a_wrong_gradient_beside_a_jump_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule(monkeypatch, "mul", 0)
    assert check("y = (x > 0) * 7.0 + x * 3", 0.0) == ("undecided", None)
    assert check("y = (x > 0) * 7.0 + x * 3", 1e-7) == ("failed", None)


def test_the_truncation_forgives_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    # By h = 2**-5 the cubic's difference is off by h² = 1e-3, which a finer rung is not.
    cubic = program("y = x * x * x", x=1.0)
    (found,) = check_gradients(cubic, step=0.03125).checks
    assert (found.outcome, found.allowed < 1e-5) == ("passed", True)
    break_rule(monkeypatch, "mul", 0, 1.0001)
    assert check_gradients(cubic, step=0.03125).checks[0].outcome == "failed"
    # Near a pole the finest step is still coarse; its truncation is known to within a small factor.
    (found,) = check_gradients(program("y = 1 / x", x=3e-11)).checks
    assert found.outcome == "passed"
    assert found.error < found.allowed < 4 * found.error
    # No more than an eighth of the gradient is forgiven.
    assert check("y = 1 / x", 1e-12)[0] == "undecided"


@pytest.mark.parametrize("x", [1e308, -1e308, 1.7e308])
def test_outputs_whose_sum_is_not_finite_are_undecided(x: float) -> None:
    for text in ("a = x * 10\nb = -x * 10", "a = x * 1\nb = x * 1"):
        (found,) = check_gradients(program(text, x=x, output=["a", "b"])).checks
        assert found.outcome == "undecided"
        assert math.isnan(found.numeric)


def test_a_step_too_small_for_the_input_is_undecided() -> None:
    (found,) = check_gradients(program("y = x * x", x=3.0), step=1e-300).checks
    assert found.outcome == "undecided"


def test_the_cost_counts_the_nudges_of_every_named_input() -> None:
    assert cost(program("y = x * w", x=1.0, w=2.0, _k=3.0)) == (3 + 1) * (1 + 2 * 4 * RUNGS)


def test_an_infinity_aside_hides_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule(monkeypatch, "sin", 0)
    text = "y = sin(x) + where(x > 0, 0, log(z))"
    assert check(text, 0.5, z=0.0) == ("failed", None)


def test_a_large_number_aside_hides_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule(monkeypatch, "sin", 0)
    assert check("u = z * z\ny = sin(x)", 0.5, z=1e30, output="y") == ("failed", None)


def test_a_large_number_on_the_way_is_forgiven() -> None:
    assert check("y = (x + z) - z", 0.5, z=1e9) == ("passed", None)


def test_steps_and_tolerances() -> None:
    cube = program("y = x * x * x", x=1e6)
    assert check_gradients(cube).step == DEFAULT_STEP
    assert check_gradients(cube, step=1e-4).step == 1e-4
    assert check_gradients(cube, step=1e-4).passed
    loose = check_gradients(program("y = x * stop_gradient(x)", x=3.0), rtol=0.6)
    assert (loose.passed, loose.checks[0].outcome) == (True, "passed")
    assert check_gradients(program("y = x * stop_gradient(x)", x=3.0), atol=3.1).passed


def test_several_outputs_are_added_up() -> None:
    found = check_gradients(program("p = x * x\nq = 5 * x * w", x=2.0, w=3.0, output=["p", "q"]))
    assert [c.gradient for c in found.checks] == [19.0, 10.0]
    assert found.passed


def test_unnamed_inputs_are_not_checked() -> None:
    found = check_gradients(Graph.from_dict({"inputs": {"_k": 2.0, "x": 3.0}, "program": "y = _k * x"}))
    assert [c.input for c in found.checks] == ["x"]


def test_a_graph_without_inputs_passes_with_nothing_checked() -> None:
    graph = Graph.from_dict({"nodes": [{"id": "y", "op": "exp", "args": [1.0]}]})
    assert check_gradients(graph) == GradientCheck(True, DEFAULT_STEP, [])


def test_a_batch_is_refused() -> None:
    with pytest.raises(EvaluationError) as caught:
        check_gradients(program("y = x * x", x=[1.0, 2.0]))
    assert caught.value.problems[0].path == ("graph", "inputs")


def test_the_wire_form() -> None:
    data = check_gradients(program("y = relu(x) + w * w", x=0.0, w=3.0)).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert list(data) == ["passed", "step", "checks"]
    x, w = data["checks"]
    assert x["interval"] == pytest.approx([0.0, 1.0])
    assert (x["input"], x["gradient"], x["outcome"]) == ("x", 0.0, "kink")
    assert "interval" not in w
    assert w["error"] == abs(w["gradient"] - w["numeric"]) <= w["allowed"]
    assert math.isclose(w["numeric"], 6.0, rel_tol=1e-9)


@pytest.mark.parametrize("step", [0.0, -1e-3])
def test_a_step_is_above_zero(step) -> None:
    with pytest.raises(EvaluationError, match="above 0"):
        check_gradients(Graph.from_dict({"inputs": {"x": 1.0}, "program": "y = x*x"}), step=step)
