"""The judge of the diagnosis is right where it makes no mistake, and wrong as its table says where it makes one."""

from __future__ import annotations

import math
from math import cosh, e, exp, log, pi

import pytest
from tests.engine.random_exercises import exercise
from tests.engine.strategies import by_values
from tests.engine.wrong_engine import MISTAKES, PRIMITIVES, WAYS_THROUGH, Student, can_be, hand_in

from chainrule_engine.graph import Graph

STYLES = [frozenset(), PRIMITIVES, frozenset({"neg", "tanh"}), frozenset({"sub", "div"})]


@pytest.mark.parametrize("primitives", STYLES, ids=lambda kept: "+".join(sorted(kept)) or "none")
@pytest.mark.parametrize("order", [None, 7])
def test_without_mistakes_its_numbers_are_the_engines(primitives, order):
    for seed in range(100):
        graph = exercise(seed, nodes=50 if seed % 10 == 0 else None)
        values, gradients = by_values(Graph.from_dict(graph))
        right = {"value": values[graph["output"]]}
        right |= {f"values.{name}": number for name, number in values.items()}
        right |= {f"gradients.{name}": number for name, number in gradients.items()}
        scale = max(map(abs, right.values()))
        found = hand_in(graph, Student(primitives=primitives, order=order))
        assert found == pytest.approx(right, rel=1e-9, abs=1e-12 * scale)


def twice(op, *numbers):
    """z + z, where z is an operation: what comes from above is 2."""
    inputs = dict(zip("ab", numbers, strict=False))
    args = [*inputs, *numbers[2:]]
    return {"inputs": inputs, "nodes": [node("z", op, *args), node("L", "add", "z", "z")], "output": "L"}


def node(name, op, *args):
    return {"id": name, "op": op, "args": list(args)}


def power(x, n):
    return {"inputs": {"a": x}, "nodes": [node("z", "pow", "a", n), node("L", "add", "z", "z")], "output": "L"}


SUM = {"inputs": {"a": 2.0, "b": 5.0}, "nodes": [node("z", "add", "a", "b"), node("L", "mul", "z", 7.0)], "output": "L"}
DOWN = {"inputs": {"a": 3.0}, "nodes": [node("z", "relu", "a"), node("L", "mul", "z", -2.0)], "output": "L"}
CUBE = {"inputs": {"a": 3.0}, "nodes": [node("m", "mul", "a", "a"), node("L", "mul", "m", "a")], "output": "L"}
TREE = {
    "inputs": {"a": 2.0, "b": -3.0, "c": 10.0},
    "nodes": [node("m", "mul", "a", "b"), node("L", "add", "m", "c")],
    "output": "L",
}
#: s + s², s = 2a: 26 is right.
SHARED = {
    "inputs": {"a": 3.0},
    "nodes": [node("s", "mul", 2.0, "a"), node("m", "mul", "s", "s"), node("L", "add", "s", "m")],
    "output": "L",
}
#: (ab)(a + b)
LECTURE = {
    "inputs": {"a": -2.0, "b": 3.0},
    "nodes": [node("d", "mul", "a", "b"), node("e", "add", "a", "b"), node("L", "mul", "d", "e")],
    "output": "L",
}

#: tanh(ln 2) = 3/5, σ(ln 3) = 3/4.
BY_HAND = [
    ("assign", LECTURE, [3.0, -2.0]),
    ("assign", TREE, [-3.0, 2.0, 1.0]),
    ("swap_add_mul", SUM, [5.0 * 1.0, 2.0 * 1.0]),
    ("add_no_up", SUM, [1.0, 1.0]),
    ("sub_sign", twice("sub", 2.0, 5.0), [2.0, 2.0]),
    ("sub_both_neg", twice("sub", 2.0, 5.0), [-2.0, -2.0]),
    ("neg_sign", twice("neg", 4.0), [2.0]),
    ("mul_own", twice("mul", 3.0, 5.0), [6.0, 10.0]),
    ("mul_self_twice", twice("mul", 3.0, 5.0), [16.0, 0.0]),
    ("mul_no_up", twice("mul", 3.0, 5.0), [5.0, 3.0]),
    ("div_sign", twice("div", 6.0, 2.0), [1.0, 3.0]),
    ("div_den1", twice("div", 6.0, 2.0), [1.0, -6.0]),
    ("div_no_num", twice("div", 6.0, 2.0), [1.0, -0.5]),
    ("div_const_den", twice("div", 6.0, 2.0), [1.0, 0.0]),
    ("pow_no_dec", power(2.0, 3.0), [48.0]),
    ("pow_no_coef", power(2.0, 3.0), [8.0]),
    ("pow_dec_coef", power(2.0, 3.0), [16.0]),
    ("pow_no_up", power(2.0, 3.0), [12.0]),
    ("tanh_input", twice("tanh", log(2.0)), [2.0 - 2.0 * log(2.0) ** 2]),
    ("tanh_plus", twice("tanh", log(2.0)), [2.72]),
    ("tanh_nosq", twice("tanh", log(2.0)), [0.8]),
    ("tanh_double", twice("tanh", log(2.0)), [2.0 / cosh(0.6) ** 2]),
    ("tanh_paren", twice("tanh", log(2.0)), [0.28]),
    ("tanh_no_up", twice("tanh", log(2.0)), [0.64]),
    ("exp_input", twice("exp", log(3.0)), [2.0 * log(3.0)]),
    ("exp_powerrule", twice("exp", log(3.0)), [6.0 * log(3.0) / e]),
    ("exp_no_up", twice("exp", log(3.0)), [3.0]),
    ("log_out", twice("log", exp(2.0)), [1.0]),
    ("log_out", twice("log", 1.0), [0.0]),
    ("log_self", twice("log", exp(2.0)), [4.0]),
    ("log_no_up", twice("log", 0.25), [4.0]),
    ("sin_sign", twice("sin", pi / 3), [-1.0]),
    ("sin_no_up", twice("sin", pi / 3), [0.5]),
    ("relu_ge", twice("relu", 0.0), [2.0]),
    ("relu_ge", twice("relu", -1.0), [0.0]),
    ("relu_wrongside", twice("relu", 3.0), [0.0]),
    ("relu_wrongside", twice("relu", -3.0), [2.0]),
    ("relu_pass", twice("relu", -3.0), [2.0]),
    ("relu_value", twice("relu", 3.0), [6.0]),
    ("relu_on_grad", twice("relu", 3.0), [0.0]),
    ("relu_gate_up", twice("relu", -3.0), [2.0]),
    ("relu_gate_up", DOWN, [0.0]),
    ("sig_input", twice("sigmoid", log(3.0)), [2.0 * log(3.0) * (1.0 - log(3.0))]),
    ("sig_double", twice("sigmoid", log(3.0)), [0.5 / cosh(0.375) ** 2]),
    ("sig_plus", twice("sigmoid", log(3.0)), [2.625]),
    ("no_seed", TREE, [0.0, 0.0, 0.0]),
    ("no_topo_dfs", SHARED, [28.0]),
    ("bfs_once", SHARED, [2.0]),
    ("dfs_preorder", SHARED, [2.0]),
    ("not_reversed", TREE, [0.0, 0.0, 1.0]),
    ("twice", CUBE, [72.0]),
    ("twice", TREE, [-9.0, 6.0, 2.0]),
]


@pytest.mark.parametrize(("mistake", "graph", "expected"), BY_HAND)
def test_each_mistake_gives_what_its_formula_says(mistake, graph, expected):
    numbers = hand_in(graph, Student(frozenset({mistake})))
    assert [numbers[f"gradients.{name}"] for name in graph["inputs"]] == pytest.approx(expected, rel=1e-12)
    right = hand_in(graph, Student())
    assert {key: n for key, n in numbers.items() if not key.startswith("gradients.")} == {
        key: n for key, n in right.items() if not key.startswith("gradients.")
    }


def test_each_mistake_has_its_formula():
    assert {mistake for mistake, _, _ in BY_HAND} == set(MISTAKES)
    assert len(MISTAKES) == 46
    assert set(MISTAKES) > WAYS_THROUGH


def by_orders(mistake, graph):
    """What comes out, whatever the order in which sets have their members."""
    found = set()
    for order in range(50):
        numbers = hand_in(graph, Student(frozenset({mistake}), order=order))
        found.add(tuple(numbers[f"gradients.{name}"] for name in graph["inputs"]))
    return found


def test_a_set_has_its_members_in_any_order():
    assert by_orders("assign", LECTURE) == {(3.0, -2.0), (-6.0, -6.0)}
    assert by_orders("no_topo_dfs", SHARED) == {(28.0,), (52.0,)}
    assert by_orders("twice", CUBE) == {(72.0,)}


@pytest.mark.parametrize(
    ("mistakes", "graph", "expected"),
    [
        ({"sub_sign", "add_no_up"}, twice("sub", 2.0, 5.0), [2.0, 2.0]),
        ({"mul_own", "add_no_up"}, TREE, [2.0, -3.0, 1.0]),
        ({"mul_own", "twice"}, TREE, [6.0, -9.0, 2.0]),
        ({"tanh_plus", "no_seed"}, twice("tanh", log(2.0)), [0.0]),
    ],
)
def test_two_mistakes_at_once(mistakes, graph, expected):
    numbers = hand_in(graph, Student(frozenset(mistakes)))
    assert [numbers[f"gradients.{name}"] for name in graph["inputs"]] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("mistake", "primitives", "graph", "expected"),
    [
        # a - b = a + b · (-1)
        ("mul_own", frozenset(), twice("sub", 2.0, 5.0), [2.0, 10.0]),
        ("neg_sign", frozenset({"neg"}), twice("sub", 2.0, 5.0), [2.0, 2.0]),
        # a / b = a · b^-1
        ("pow_no_coef", frozenset(), twice("div", 6.0, 2.0), [1.0, 6.0 * 0.25 * 2.0]),
        # e^2a = 4 at a = ln 2: ((e^2a - 1) (e^2a + 1)^-1)' = 2 · 4 (1/5 - 3/25), and with it 2 ln 2 in place of 4
        ("exp_input", frozenset(), twice("tanh", log(2.0)), [2.0 * 2.0 * (2.0 * log(2.0)) * (0.2 - 0.12)]),
        # 2 · x is x · 2 to Python, where 2 is a plain number
        ("mul_self_twice", PRIMITIVES, SUM | {"nodes": [node("L", "mul", 7.0, "a")]}, [9.0, 0.0]),
    ],
)
def test_a_mistake_is_made_wherever_its_rule_is_used(mistake, primitives, graph, expected):
    numbers = hand_in(graph, Student(frozenset({mistake}), primitives))
    assert [numbers[f"gradients.{name}"] for name in graph["inputs"]] == pytest.approx(expected, rel=1e-12)


def test_a_mistake_needs_its_rule():
    assert not can_be({"sub_sign"}, frozenset({"neg", "tanh"}))
    assert can_be({"sub_sign", "mul_own", "twice"}, frozenset({"sub"}))


@pytest.mark.parametrize("operation", [None, *sorted({op for ops in MISTAKES.values() for op in ops})])
def test_an_exercise_is_moderate_and_the_same_each_time(operation):
    for seed in range(30):
        graph = exercise(seed, operation, kink=operation == "relu" and seed % 2 == 0)
        assert graph == exercise(seed, operation, kink=operation == "relu" and seed % 2 == 0)
        assert operation is None or operation in {node["op"] for node in graph["nodes"]}
        assert 3 <= len(graph["nodes"]) <= 50
        used = {argument for node in graph["nodes"] for argument in node["args"]}
        assert {*graph["inputs"], *(node["id"] for node in graph["nodes"])} - used == {graph["output"]}
        numbers = hand_in(graph, Student())
        assert all(math.isfinite(number) and abs(number) < 1e6 for number in numbers.values())
        if operation == "relu" and seed % 2 == 0:
            relus = [node["args"][0] for node in graph["nodes"] if node["op"] == "relu"]
            assert 0.0 in [numbers[f"values.{argument}"] for argument in relus]


def test_an_exercise_has_as_many_operations_as_asked():
    assert len(exercise(1, "tanh", nodes=50)["nodes"]) == 50
