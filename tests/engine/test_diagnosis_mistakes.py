"""Every mistake in a rule or a pass, worked by hand on a small graph."""

from __future__ import annotations

import math
from math import cos, exp, log, sin, tanh
from typing import Any, NamedTuple

import pytest

from chainrule_engine.diagnosis import HAND_MISTAKES, MISTAKES, Catalogue, Explanation
from chainrule_engine.diagnosis.mistakes import UPSTREAM
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + exp(-x))


class Case(NamedTuple):
    mistake: str
    program: str
    inputs: dict[str, float]
    gradients: dict[str, float]


def unary(mistake: str, operation: str, x: float, gradient: float, w: float = 3.0) -> Case:
    """L = w·f(x), of which the student has a wrong gradient of x, and the right one of w."""
    program = f"z = {operation}(x)\nw * z"
    z = {"exp": exp, "tanh": tanh, "log": log, "sin": sin, "cos": cos, "sigmoid": sigmoid, "sqrt": math.sqrt}
    z |= {"relu": lambda x: max(x, 0.0), "abs": abs, "softplus": lambda x: log(1.0 + exp(x))}
    return Case(mistake, program, {"x": x, "w": w}, {"x": gradient, "w": z[operation](x)})


#: d = a - b; L = d·w at a=7, b=2, w=3: the upstream of the difference is 3, and of w 5.
def difference(mistake: str, a: float, b: float) -> Case:
    return Case(mistake, "d = a - b\nd * w", {"a": 7.0, "b": 2.0, "w": 3.0}, {"a": a, "b": b, "w": 5.0})


#: q = a / b; L = q·w at a=7, b=2, w=3.
def quotient(mistake: str, b: float, a: float = 1.5) -> Case:
    return Case(mistake, "q = a / b\nq * w", {"a": 7.0, "b": 2.0, "w": 3.0}, {"a": a, "b": b, "w": 3.5})


#: q = x**3; L = q·w at x=1.7, w=2.
def cube(mistake: str, x: float) -> Case:
    return Case(mistake, "q = x**3\nq * w", {"x": 1.7, "w": 2.0}, {"x": x, "w": 1.7**3})


t, s = tanh(0.6), sigmoid(0.6)
CASES = [
    # (a·b)·(a + b) at (-2, 3): the last of the two uses of a and b remains, in either order.
    Case("assign", "(a*b)*(a+b)", {"a": -2.0, "b": 3.0}, {"a": -6.0, "b": -6.0}),
    Case("assign", "(a*b)*(a+b)", {"a": -2.0, "b": 3.0}, {"a": 3.0, "b": -2.0}),
    Case("assign", "a + a", {"a": 3.0}, {"a": 1.0}),
    # L = (a + b)·c at 2, 5, 7: mul passes 1 to both, then add multiplies by the other summand.
    Case("swap_add_mul", "(a + b) * c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 5.0, "b": 2.0, "c": 1.0}),
    Case("add_no_up", "(a + b) * c", {"a": 2.0, "b": 5.0, "c": 4.0}, {"a": 1.0, "b": 1.0, "c": 7.0}),
    difference("sub_sign", 3.0, 3.0),
    difference("sub_both_neg", -3.0, -3.0),
    Case("neg_sign", "(-x) * w", {"x": 2.0, "w": 3.0}, {"x": 3.0, "w": -2.0}),
    # (a·b)·c at 2, 5, 7: the outer product passes a·b = 10 to itself and 7 to c, the inner one a·10 and b·10.
    Case("mul_own", "(a * b) * c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 20.0, "b": 50.0, "c": 7.0}),
    # the outer product adds 10 + 7 to a·b, the inner one (2 + 5)·17 to a
    Case("mul_self_twice", "(a * b) * c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 119.0, "b": 0.0, "c": 0.0}),
    Case("mul_no_up", "(a * b) * c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 5.0, "b": 2.0, "c": 10.0}),
    quotient("div_sign", 3.0 * 7.0 / 4.0),
    quotient("div_den1", 3.0 * -7.0 / 2.0),
    quotient("div_no_num", 3.0 * -1.0 / 4.0),
    quotient("div_const_den", 0.0),
    cube("pow_no_dec", 3.0 * 1.7**3 * 2.0),
    cube("pow_no_coef", 1.7**2 * 2.0),
    cube("pow_dec_coef", 2.0 * 1.7**2 * 2.0),
    cube("pow_no_up", 3.0 * 1.7**2),
    unary("tanh_input", "tanh", 0.6, 3.0 * (1.0 - 0.6**2)),
    unary("tanh_plus", "tanh", 0.6, 3.0 * (1.0 + t * t)),
    unary("tanh_nosq", "tanh", 0.6, 3.0 * (1.0 - t)),
    unary("tanh_double", "tanh", 0.6, 3.0 * (1.0 - tanh(t) ** 2)),
    unary("tanh_paren", "tanh", 0.6, 1.0 - t * t * 3.0),
    unary("tanh_no_up", "tanh", 0.6, 1.0 - t * t),
    unary("exp_input", "exp", 0.6, 3.0 * 0.6),
    unary("exp_powerrule", "exp", 0.6, 3.0 * 0.6 * exp(0.6 - 1.0)),
    unary("exp_no_up", "exp", 0.6, exp(0.6)),
    unary("log_out", "log", 5.0, 3.0 / log(5.0)),
    unary("log_out", "log", 1.0, 0.0),
    unary("log_self", "log", 5.0, 3.0 * log(5.0)),
    unary("log_no_up", "log", 5.0, 1.0 / 5.0),
    unary("sin_sign", "sin", 0.6, 3.0 * -cos(0.6)),
    unary("sin_no_up", "sin", 0.6, cos(0.6)),
    unary("relu_ge", "relu", 0.0, 3.0),
    unary("relu_wrongside", "relu", -2.0, 3.0),
    unary("relu_pass", "relu", -2.0, 3.0),
    unary("relu_value", "relu", 5.0, 15.0),
    unary("relu_on_grad", "relu", 5.0, 0.0),
    unary("relu_gate_up", "relu", 5.0, 0.0, w=-3.0),
    unary("sig_input", "sigmoid", 0.6, 3.0 * 0.6 * 0.4),
    unary("sig_double", "sigmoid", 0.6, 3.0 * sigmoid(s) * (1.0 - sigmoid(s))),
    unary("sig_plus", "sigmoid", 0.6, 3.0 * s * (1.0 + s)),
    Case("no_seed", "a*b + c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 0.0, "b": 0.0, "c": 0.0}),
    # s = 2x, s + s·s at 3: 2 from the sum, then 2·13 when s has all of its gradient; the other way 2·13 twice
    Case("no_topo_dfs", "s = 2*x\ns + s*s", {"x": 3.0}, {"x": 28.0}),
    Case("no_topo_dfs", "s = 2*x\ns + s*s", {"x": 3.0}, {"x": 52.0}),
    Case("bfs_once", "s = 2*x\ns + s*s", {"x": 3.0}, {"x": 2.0}),
    Case("dfs_preorder", "s = 2*x\ns + s*s", {"x": 3.0}, {"x": 2.0}),
    Case("not_reversed", "a*b + c", {"a": 2.0, "b": 5.0, "c": 7.0}, {"a": 0.0, "b": 0.0, "c": 1.0}),
    # (a·a)·a at 3: 27 the first time; then a·a has 3 + 3, and a 9 + 36
    Case("twice", "(a*a)*a", {"a": 3.0}, {"a": 72.0}),
    # --------------------------------------------------------------------------------------------- beside the 46
    Case("stale_interior", "(a*a)*a", {"a": 3.0}, {"a": 45.0}),
    # w·(a·b + a): = in mul alone, and a is written by the product before the sum adds to it, or after
    Case("assign_mul", "p = a*b\nq = a + p\nq*q", {"a": 2.0, "b": 5.0}, {"a": 60.0, "b": 24.0}),
    unary("sigmoid_no_up", "sigmoid", 0.6, s * (1.0 - s)),
    unary("cos_no_up", "cos", 0.6, -sin(0.6)),
    unary("cos_sign", "cos", 0.6, 3.0 * sin(0.6)),
    unary("sqrt_no_up", "sqrt", 4.0, 0.25),
    unary("sqrt_one", "sqrt", 4.0, 3.0),
    unary("abs_one", "abs", -4.0, 3.0),
    unary("softplus_one", "softplus", 0.6, 3.0),
    unary("tanh_one", "tanh", 0.6, 3.0),
    difference("sub_no_up", 1.0, -1.0),
    Case("stop_gradient_one", "stop_gradient(x) * w", {"x": 2.0, "w": 3.0}, {"x": 3.0, "w": 2.0}),
    Case("pow_exponent_zero", "a**b", {"a": 2.0, "b": 3.0}, {"a": 12.0, "b": 0.0}),
    Case("pow_exponent_no_log", "a**b", {"a": 2.0, "b": 3.0}, {"a": 12.0, "b": 8.0}),
]


def first(case: Case) -> list[Explanation]:
    """What explains everything, as simply as the first does."""
    catalogue = Catalogue(Graph.from_dict({"inputs": case.inputs, "program": case.program}))
    found = catalogue.diagnose({f"gradients.{name}": number for name, number in case.gradients.items()}).explanations
    return [one for one in found if one.matches == one.of and len(one.names) == 1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.mistake} {case.program}")
def test_numbers_worked_by_hand(case: Case):
    found = first(case)
    assert (case.mistake,) in [one.names for one in found]
    (one,) = (one for one in found if one.names == (case.mistake,))
    assert one.matches == one.of == len(case.gradients)
    assert one.message.startswith(MISTAKES[case.mistake].hint)
    assert one.title == MISTAKES[case.mistake].title


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.mistake} {case.program}")
def test_the_46_come_before_others_that_give_the_same(case: Case):
    are_numbered = [MISTAKES[one.names[0]].number is not None for one in first(case)]
    assert are_numbered == sorted(are_numbered, reverse=True)


def test_the_table_is_the_catalogue_of_46():
    numbered = [mistake for mistake in MISTAKES.values() if mistake.number is not None]
    assert [mistake.number for mistake in numbered] == list(range(1, 47))
    assert {case.mistake for case in CASES} >= {mistake.name for mistake in numbered}


@pytest.mark.parametrize("mistake", [*MISTAKES.values(), *HAND_MISTAKES.values()], ids=lambda mistake: mistake.name)
def test_an_entry_is_whole(mistake: Any):
    assert (MISTAKES | HAND_MISTAKES)[mistake.name] is mistake
    assert mistake.title
    assert mistake.hint.endswith((".", "?", ".)"))
    assert set(mistake.operations) <= OPERATIONS.keys()
    assert set(mistake.locals) | set(mistake.upstream) <= set(mistake.operations)
    assert set(mistake.upstream.values()) <= UPSTREAM.keys()
    for operation, rule in mistake.locals.items():
        arity = OPERATIONS[operation].arity
        assert len(rule(*[0.5] * arity, 0.7)) == arity


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=lambda mistake: mistake.name)
def test_no_rule_of_a_mistake_raises(mistake: Any):
    for operation, rule in mistake.locals.items():
        for x in (0.0, -1.0, 1e308, math.inf, math.nan):
            arguments = [x] * OPERATIONS[operation].arity
            rule(*arguments, OPERATIONS[operation].value(*arguments))


class TestByHand:
    def test_backward_over_every_path_of_a_reused_node(self):
        # z = 3, q = z + x = 5, L = z·q. The rule of L: z 5, q 3. Then, from left to right, z: x 5, y 5; q: z 8, x 8;
        # z again: x 16, y 13.
        catalogue = Catalogue(Graph.from_dict({"inputs": {"x": 2.0, "y": 1.0}, "program": "z = x + y\nz * (z + x)"}))
        found = catalogue.diagnose({"gradients.x": 16.0, "gradients.y": 13.0}).explanations
        assert found[0].names == ("no_topo_dfs",)

    def test_a_topological_sort_without_a_set_of_visited_nodes(self):
        # s = 6, t = s·s, L = t + s, each with both arguments in a tuple: the list is s t L reversed with s three times,
        # L s t s s. L: t 1, s 1; s: a 3, b 2; t: s 13; s twice: a 81, b 54.
        text = "s = a*b\nt = s*s\nL = t + s\nL"
        catalogue = Catalogue(Graph.from_dict({"inputs": {"a": 2.0, "b": 3.0}, "program": text}))
        found = catalogue.diagnose({"gradients.a": 81.0, "gradients.b": 54.0}).explanations
        assert found[0].names == ("no_topo_dfs",)
        assert "visited" in found[0].message

    def test_negation_that_returns_itself(self):
        graph = Graph.from_dict({"inputs": {"x": 2.0, "w": 3.0}, "program": "n = -x\nn * w"})
        answers = {"value": 6.0, "values.n": 2.0, "gradients.x": 3.0, "gradients.w": 2.0}
        found = Catalogue(graph).diagnose(answers)
        assert found.explanations[0].names == ("neg_self",)
        assert set(found.explanations[0].explains) == set(answers)
