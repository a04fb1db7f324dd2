"""Expressions and the graphs that they become: no service is needed to build them."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import Expression, op, to_graph, variable, variables


def ops(expression):
    return [(node["op"], node["args"]) for node in to_graph(expression)["nodes"]]


def test_the_neuron_of_the_lecture():
    x1, w1, b = variables(x1=2.0, w1=-3.0, b=6.88)
    n = (x1 * w1 + b).named("n")
    o = n.tanh().named("o")
    assert to_graph(o) == {
        "inputs": {"x1": 2.0, "w1": -3.0, "b": 6.88},
        "nodes": [
            {"id": "_1", "op": "mul", "args": ["x1", "w1"]},
            {"id": "n", "op": "add", "args": ["_1", "b"]},
            {"id": "o", "op": "tanh", "args": ["n"]},
        ],
        "output": "o",
    }


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda a, b: a + b, ("add", ["a", "b"])),
        (lambda a, b: a - b, ("sub", ["a", "b"])),
        (lambda a, b: a * b, ("mul", ["a", "b"])),
        (lambda a, b: a / b, ("div", ["a", "b"])),
        (lambda a, b: a**b, ("pow", ["a", "b"])),
        (lambda a, b: a > b, ("gt", ["a", "b"])),
        (lambda a, b: a >= b, ("ge", ["a", "b"])),
        (lambda a, b: a < b, ("lt", ["a", "b"])),
        (lambda a, b: a <= b, ("le", ["a", "b"])),
        (lambda a, b: a.eq(b), ("eq", ["a", "b"])),
        (lambda a, b: a + 1, ("add", ["a", 1.0])),
        (lambda a, b: 1 + a, ("add", [1.0, "a"])),
        (lambda a, b: a - 1, ("sub", ["a", 1.0])),
        (lambda a, b: 1 - a, ("sub", [1.0, "a"])),
        (lambda a, b: 2 * a, ("mul", [2.0, "a"])),
        (lambda a, b: 2 / a, ("div", [2.0, "a"])),
        (lambda a, b: 2**a, ("pow", [2.0, "a"])),
        (lambda a, b: 1 < a, ("gt", ["a", 1.0])),  # noqa: SIM300  # reflected on purpose
        (lambda a, b: a.ne(b), ("ne", ["a", "b"])),
        (lambda a, b: -a, ("neg", ["a"])),
        (lambda a, b: abs(a), ("abs", ["a"])),
        (lambda a, b: a.tanh(), ("tanh", ["a"])),
        (lambda a, b: op.max(a, 0), ("max", ["a", 0.0])),
        (lambda a, b: op("where", a, b, 0), ("where", ["a", "b", 0.0])),
        (lambda a, b: a.an_operation_of_tomorrow(b, 3), ("an_operation_of_tomorrow", ["a", "b", 3.0])),
        (lambda a, b: np.float64(2) * a, ("mul", [2.0, "a"])),
        (lambda a, b: np.float32(2) + a, ("add", [2.0, "a"])),
        (lambda a, b: a * np.int64(2), ("mul", ["a", 2.0])),
    ],
)
def test_operators_and_names_become_operations(build, expected):
    assert ops(build(*variables(a=1.0, b=2.0)))[-1] == expected


def test_sum_starts_from_zero_as_in_the_notebook():
    a, b = variables(a=1.0, b=2.0)
    assert ops(sum([a, b])) == [("add", [0.0, "a"]), ("add", ["_1", "b"])]


def test_a_shared_part_becomes_one_node():
    (a,) = variables(a=3.0)
    square = a * a
    assert ops(square + square) == [("mul", ["a", "a"]), ("add", ["_1", "_1"])]


def test_only_what_the_output_needs_is_sent():
    a, b = variables(a=1.0, b=2.0)
    _unused = a * b
    assert to_graph(a + 1)["inputs"] == {"a": 1.0}


def test_several_outputs():
    a, b = variables(a=1.0, b=2.0)
    total = (a + b).named("total")
    assert to_graph([total, a])["output"] == ["total", "a"]
    assert to_graph(a) == {"inputs": {"a": 1.0}, "nodes": [], "output": "a"}


def test_a_list_is_a_batch_of_points():
    assert to_graph(variable("x", range(3)))["inputs"] == {"x": [0.0, 1.0, 2.0]}
    assert to_graph(variable("x", np.linspace(0, 1, 2)))["inputs"] == {"x": [0.0, 1.0]}


def test_names_that_no_keyword_can_have():
    x1, w1 = variables(x1=2.0, w1=-3.0)
    assert to_graph((x1 * w1).named("x1*w1"))["output"] == "x1*w1"


def test_two_parts_with_one_name_are_refused():
    a, other = variable("a", 1.0), variable("a", 2.0)
    with pytest.raises(ValueError, match="two different parts of the graph are named 'a'"):
        to_graph(a + other)
    (b,) = variables(b=1.0)
    with pytest.raises(ValueError, match="named 'n'"):
        to_graph((b + 1).named("n") * (b + 2).named("n"))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda a: bool(a > 1), TypeError, "op.where"),
        (lambda a: max(a, 2 * a), TypeError, "op.max"),
        (lambda a: float(a), TypeError, "client.evaluate"),
        (lambda a: a + "1", TypeError, "unsupported operand"),
        (lambda a: a * True, TypeError, "unsupported operand"),
        (lambda a: a + None, TypeError, "unsupported operand"),
        (lambda a: op.max(a, "1"), TypeError, "argument 2 of max must be an expression or a number, not '1'"),
        (lambda a: a + float("nan"), ValueError, "argument 2 of add must be a finite number, and nan is not one"),
        (lambda a: a + 10**400, ValueError, "inf is not one"),
        (lambda a: variable("x", float("inf")), ValueError, "the value of 'x' must be a finite number"),
        (lambda a: variable("x", [1.0, float("nan")]), ValueError, "value 1 of 'x'"),
        (lambda a: variable("x", "1"), TypeError, "must be a number or a list of numbers, not '1'"),
        (lambda a: variable("x", None), TypeError, "must be a number or a list of numbers, not None"),
        (lambda a: variable("x", True), TypeError, "must be a number or a list of numbers, not True"),
        (lambda a: variable("x", [1, False]), TypeError, "value 1 of 'x' must be a number"),
        (lambda a: variable("_x", 1.0), ValueError, "'_x' cannot be a name"),
        (lambda a: a.named(""), ValueError, "'' cannot be a name"),
        (lambda a: a.named(3), TypeError, "a name must be text"),
        (lambda a: to_graph([]), ValueError, "at least one output"),
        (lambda a: to_graph([a, 3.0]), TypeError, "an output must be an expression, not 3.0"),
    ],
)
def test_mistakes_are_explained(build: Callable[[Expression], object], error, words):
    (a,) = variables(a=1.0)
    with pytest.raises(error) as caught:
        build(a)
    assert words in str(caught.value)


def test_python_can_copy_pickle_and_hash_expressions():
    x, w = variables(x=[1.0, 2.0], w=-3.0)
    y = (x * w).tanh().named("y")
    for twin in (copy.deepcopy(y), copy.copy(y), pickle.loads(pickle.dumps(y))):
        assert to_graph(twin) == to_graph(y)
        assert twin != y
    assert len({y, y, x}) == 2
    assert not hasattr(y, "_repr_html_")
    assert not hasattr(op, "__wrapped__")


def test_repr_says_what_it_is_without_the_whole_graph():
    x, w = variables(x=2.0, w=-3.0)
    assert repr(x) == "<variable x = 2.0>"
    assert repr((x * w + 1).named("n")) == "<n = add(mul(...), 1.0)>"


def test_a_chain_of_100_000_operations():
    (x,) = variables(x=1.0)
    y = x
    for _ in range(100_000):
        y = y * x
    graph = to_graph(y)
    assert len(graph["nodes"]) == 100_000
    assert graph["output"] == "_100000"


@st.composite
def expressions(draw):
    pool = list(variables(a=1.0, b=2.0, c=3.0))
    for position in range(draw(st.integers(1, 20))):
        args = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
        made = op(draw(st.sampled_from(["f", "g"])), *args)
        if draw(st.booleans()):
            made.named(f"n{position}")
        pool.append(made)
    return draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))


@given(expressions())
def test_every_graph_is_whole_and_in_order_of_evaluation(outputs):
    graph = to_graph(outputs)
    known = set(graph["inputs"])
    for node in graph["nodes"]:
        assert set(node["args"]) <= known
        assert node["id"] not in known
        known.add(node["id"])
    assert set(graph["output"]) <= known
    used = {arg for node in graph["nodes"] for arg in node["args"]} | set(graph["output"])
    assert known == used
    assert to_graph(outputs) == graph
