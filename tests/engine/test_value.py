"""The readable engine: operators, labels, passes, and what a `Value` refuses."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.strategies import exact

from chainrule_engine import value as value_module
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.value import Value, apply, backward, in_order

moderate = st.floats(-1e3, 1e3)


def test_the_docstring_is_right() -> None:
    assert doctest.testmod(value_module).attempted > 0
    assert doctest.testmod(value_module).failed == 0


OPERATORS = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x**y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
}
#: Python asks the other operand's opposite comparison when the left one is a plain number.
REFLECTED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_its_operation_with_values_and_with_numbers_on_either_side(name: str) -> None:
    x, y = Value(3.0, "x"), Value(2.0, "y")
    operator = OPERATORS[name]
    expected = OPERATIONS[name].value(3.0, 2.0)
    both, right, left = operator(x, y), operator(x, 2), operator(3, y)
    assert [both.data, right.data, left.data] == [expected] * 3
    assert (both.op.name, right.op.name, left.op.name) == (name, name, REFLECTED.get(name, name))
    assert both.args == (x, y)
    assert right.args[0] is x
    assert right.args[1].constant
    assert [a.data for a in right.args] == [3.0, 2.0]
    assert [a.data for a in left.args] == ([2.0, 3.0] if name in REFLECTED else [3.0, 2.0])


def test_unary_operators_and_methods() -> None:
    x = Value(-0.5)
    assert (-x).data == 0.5
    assert abs(x).data == 0.5
    assert x.tanh().data == math.tanh(-0.5)
    assert x.max(1).data == 1.0
    assert (x > 0).where(x, 7.0).data == 7.0
    assert x.tanh().op is OPERATIONS["tanh"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_of_the_table_is_a_method(name: str) -> None:
    operation = OPERATIONS[name]
    arguments = [Value(0.5 + i) for i in range(operation.arity)]
    result = getattr(arguments[0], name)(*arguments[1:])
    assert result.op is operation
    assert result.args == tuple(arguments)
    assert result.data == operation.value(*(a.data for a in arguments))


def test_a_plus_sign_makes_no_node() -> None:
    x = Value(3.0, "x")
    assert +x is x


def test_an_unknown_method_is_named_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no operation 'tan'.*tanh"):
        Value(1.0).tan()


@pytest.mark.parametrize("wrong", [True, "2", None, [1.0], {}, 1j])
def test_only_numbers_are_held(wrong: object) -> None:
    with pytest.raises(TypeError, match="holds a number"):
        Value(wrong)
    with pytest.raises(TypeError, match="holds a number"):
        Value(1.0) + wrong


@pytest.mark.parametrize("arguments", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_the_arity_is_checked(arguments: tuple) -> None:
    with pytest.raises(TypeError, match=f"mul has arity 2, and was given {len(arguments)}"):
        apply("mul", *arguments)


def test_whole_numbers_become_floats() -> None:
    assert repr(Value(7).data) == "7.0"
    assert repr(Value(0).data) == "0.0"


def test_a_value_is_a_number_and_a_condition() -> None:
    assert float(Value(2.5)) == 2.5
    assert Value(0.0).data == 0.0
    assert not Value(-0.0)
    assert Value(math.nan)
    assert max(Value(1.0), Value(3.0), Value(2.0)).data == 3.0
    assert min([Value(1.0), Value(-3.0)], key=float).data == -3.0


def test_equality_is_identity() -> None:
    x, y = Value(1.0), Value(1.0)
    assert x == x
    assert x != y
    assert len({x, y, x}) == 2


def test_the_representation_shows_label_data_and_gradient() -> None:
    x = Value(2.0, "x")
    y = (x * x).named("y")
    y.backward()
    assert repr(x) == "Value(data=2.0, grad=4.0, label='x')"
    assert repr(y) == "Value(data=4.0, grad=1.0, label='y')"
    assert repr(x + 1) == "Value(data=3.0, grad=0.0)"


def test_leaves_accumulate_and_the_nodes_between_do_not() -> None:
    x = Value(3.0)
    y = x * x * x
    square = y.args[0]
    for passes in (1, 2, 3):
        y.backward()
        assert x.grad == 27.0 * passes
        assert (y.grad, square.grad) == (1.0, 3.0)
    y.zero_grad()
    assert (x.grad, square.grad, y.grad) == (0.0, 0.0, 0.0)
    y.backward(2)
    assert x.grad == 54.0


def test_a_leaf_alone_is_its_own_gradient() -> None:
    x = Value(3.0)
    x.backward(0.5)
    assert x.grad == 0.5
    assert in_order([x]) == [x]


def test_constants_receive_no_gradient() -> None:
    x = Value(3.0)
    y = 2 * x + 1
    y.backward()
    two, one = y.args[0].args[0], y.args[1]
    assert (two.constant, one.constant, x.constant) == (True, True, False)
    assert (two.grad, one.grad, x.grad) == (0.0, 0.0, 2.0)


def test_derivatives_use_the_numbers_of_the_forward_pass() -> None:
    x, y = Value(3.0), Value(2.0)
    z = x * y + x**2 + y.exp()
    x.data, y.data = 100.0, 100.0
    z.backward()
    assert (x.grad, y.grad) == (2.0 + 6.0, 3.0 + math.exp(2.0))


def test_the_order_is_depth_first_from_left_to_right() -> None:
    a, b, c = (Value(1.0, name) for name in "abc")
    p, q = (c * a).named("p"), (b + a).named("q")
    r = (q * p).named("r")
    assert [v.label for v in in_order([r])] == ["b", "a", "q", "c", "p", "r"]
    assert [v.label for v in in_order([p, q])] == ["c", "a", "p", "b", "q"]
    assert [v.label for v in in_order([q, r, p])] == ["b", "a", "q", "c", "p", "r"]


def test_several_outputs_with_a_seed_each() -> None:
    x = Value(3.0)
    square, cube = x * x, x * x * x
    backward([square, cube], [10.0, 1.0])
    assert x.grad == 10.0 * 6.0 + 27.0
    with pytest.raises(ValueError, match="shorter"):
        backward([square, cube], [1.0])


def test_an_output_below_another_gets_its_seed_and_its_share() -> None:
    x = Value(3.0)
    y = x * x
    z = 5 * y
    backward([z, y], [1.0, 1.0])
    assert y.grad == 6.0
    assert x.grad == 36.0


def test_no_gradient_flows_into_a_branch_that_was_not_taken() -> None:
    x = Value(0.0)
    y = (x > 0).where(x.log(), x)
    y.backward()
    assert x.grad == 1.0


@given(moderate, moderate)
def test_sums_and_products_are_pythons(x: float, y: float) -> None:
    a, b = Value(x), Value(y)
    z = a * b - a
    z.backward()
    assert exact(z.data) == exact(x * y - x)
    # Two shares arrive at a, in the reverse order of the forward pass: the subtraction's, then the product's.
    assert exact([a.grad, b.grad]) == exact([0.0 + -1.0 + y, 0.0 + x])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda x: 1 / (x - x), math.inf),
        (lambda x: (x - x) / (x - x), math.nan),
        (lambda x: (-x).log(), math.nan),
        (lambda x: (-8 * x) ** (1 / 3), math.nan),
        (lambda x: (1000 * x).exp(), math.inf),
        (lambda x: (10.0 * x) ** 400, math.inf),
        (lambda x: (-x).sqrt(), math.nan),
    ],
)
def test_arithmetic_is_total(expression, expected: float) -> None:
    x = Value(1.0)
    y = expression(x)
    y.backward()
    assert exact(y.data) == exact(expected)
    assert isinstance(x.grad, float)
