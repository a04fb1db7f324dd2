"""Each operation against PyTorch: all over its domain, and at its edges, with a list of all that differs."""

from __future__ import annotations

import math
from math import inf, nan

import pytest
from tests.engine.edges import CONVENTIONS, EDGES
from tests.engine.oracle import points
from tests.torch.counterparts import PYTORCH, run

from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.value import Value

pytestmark = pytest.mark.torch


def by_torch(torch, name, columns):
    """The operation's results and partial derivatives, one list each, over columns of arguments."""
    arguments = [torch.tensor(column, requires_grad=True) for column in columns]
    result = PYTORCH[name](torch, *arguments)
    if result.requires_grad:
        result.backward(torch.ones_like(result))
    grads = [torch.zeros_like(a) if a.grad is None else a.grad for a in arguments]
    return [result.tolist(), *(grad.tolist() for grad in grads)]


def by_us(name, args):
    operation = OPERATIONS[name]
    value = operation.value(*args)
    return [value, *(partial(*args, value) for partial in operation.partials)]


# ------------------------------------------------------------------------------------------------- over its domain

#: Absolute tolerances of the derivatives that PyTorch computes from the result, and so with cancellation: tanh' as
#: 1 - z², sigmoid' as (1 - z)·z, both with an error of about a unit in the last place of 1.
CANCELLING = {"tanh": 4e-16, "sigmoid": 4e-16, "softplus": 4e-16}


def comparable(name, args):
    """Whether PyTorch's formula stays inside float64 here; ours goes further."""
    if name == "pow":
        x, y = args
        # It computes y·x**(y - 1) and x**y·log(x) as they stand.
        sizes = (y * math.log10(abs(x)), (y - 1.0) * math.log10(abs(x)), math.log10(abs(x)), math.log10(abs(y or 1.0)))
        return max(map(abs, sizes)) < 290.0
    if name == "div":
        x, y = args
        return x == 0.0 or max(abs(math.log10(abs(x)) - n * math.log10(abs(y))) for n in (0, 1, 2)) < 290.0
    # Numbers below 1e-300 have subnormal or infinite results somewhere on the way.
    return all(a == 0.0 or 1e-300 <= abs(a) <= 1e300 for a in args)


@pytest.mark.parametrize("name", OPERATIONS)
def test_value_and_partials_over_the_domain(torch, name):
    sample = [args for args in points(name, 3000, seed=3) if comparable(name, args)]
    assert len(sample) > 1000
    theirs = by_torch(torch, name, list(zip(*sample, strict=True)))
    # PyTorch's vectorised functions give 0 for the last few subnormal results.
    tolerances = [1e-300] + [CANCELLING.get(name, 1e-300)] * OPERATIONS[name].arity
    for args, *expected in zip(sample, *theirs, strict=True):
        # 1e-12: for a large result of pow PyTorch rounds y - 1, which costs it up to 400 units.
        for ours, other, atol in zip(by_us(name, args), expected, tolerances, strict=True):
            assert ours == pytest.approx(other, rel=1e-12, abs=atol, nan_ok=True), (args, expected)


# ---------------------------------------------------------------------------------------------------- at its edges

#: What PyTorch gives instead (value, partial derivatives), and why we do not follow it.
FOLLOWS_NAN = "a NaN argument has no derivative, and a gradient that is a number would hide it"
DEVIATIONS = {
    ("abs", (nan,)): ((nan, 0.0), FOLLOWS_NAN),
    ("relu", (nan,)): ((nan, 1.0), FOLLOWS_NAN),
    ("max", (nan, 1.0)): ((nan, 1.0, 1.0), FOLLOWS_NAN),
    ("max", (1.0, nan)): ((nan, 1.0, 1.0), FOLLOWS_NAN),
    ("min", (nan, 1.0)): ((nan, 1.0, 1.0), FOLLOWS_NAN),
    ("min", (1.0, nan)): ((nan, 1.0, 1.0), FOLLOWS_NAN),
    ("pow", (-1.0, 2.0**53 + 2.0)): (
        (1.0, 2.0**53 + 2.0, nan),
        "it rounds y - 1, an odd number, to an even one, and so loses the sign of the base",
    ),
    ("pow", (5e-324, 1e-20)): (
        (1.0, inf, -744.4400719213812),
        "x**(y - 1) overflows, and y times it would not have",
    ),
    ("div", (5e-324, 0.75)): (
        (5e-324, 1 / 0.75, -5e-324),
        "x / y is subnormal, and its rounding shows in x / y / y",
    ),
}
#: The same of whole graphs: PyTorch's (value, gradients).
GRAPH_DEVIATIONS = {
    "log outside the selected branch": (
        (0.0, (nan,)),
        "0 times infinity on a branch that was not taken; ours runs no rule there",
    ),
    "sqrt outside the selected branch": ((0.0, (nan,)), "the same"),
    "NaN stays NaN": ((nan, (-1.0,)), "its relu' and abs' are numbers at NaN: as above"),
    "tanh'(20), 0 in PyTorch": ((1.0, (0.0,)), "1 - tanh(x)**2 cancels; ours does not"),
    "sigmoid'(40), 0 in PyTorch": ((1.0, (0.0,)), "(1 - z)·z cancels; ours is exact"),
}


def key(name, args):
    """NaN is no key: it is not equal to itself."""
    return name, repr(args)


DEVIATIONS_BY_KEY = {key(*edge): theirs for edge, (theirs, _) in DEVIATIONS.items()}


def assert_same(theirs, expected):
    """Equal as numbers; the sign of a zero is left to tests/engine/edges.py, whose expectations are exact."""
    assert list(theirs) == pytest.approx(list(expected), rel=1e-14, abs=0.0, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "args", "ours"),
    [
        pytest.param(name, args, (value, *partials), id=f"{name}{args}")
        for name, edges in EDGES.items()
        for args, value, partials in edges
    ],
)
def test_edge(torch, name, args, ours):
    theirs = [column[0] for column in by_torch(torch, name, [[a] for a in args])]
    assert_same(theirs, DEVIATIONS_BY_KEY.get(key(name, args), ours))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_convention(torch, name):
    function, inputs, value, gradients = CONVENTIONS[name]
    graph = Graph.from_values([function(*(Value(number, f"x{place}") for place, number in enumerate(inputs)))])
    values, theirs = run(torch, graph)
    expected = GRAPH_DEVIATIONS[name][0] if name in GRAPH_DEVIATIONS else (value, gradients)
    assert_same([values[graph.outputs[0]], *(theirs[name] for name in graph.inputs)], [expected[0], *expected[1]])


def test_each_deviation_is_one():
    """No entry of the two lists is left over from a point that is gone, or from a difference that is."""
    edges = {
        key(name, args): (value, *partials) for name, all_of_it in EDGES.items() for args, value, partials in all_of_it
    }
    for place, theirs in DEVIATIONS_BY_KEY.items():
        assert repr(theirs) != repr(edges[place])
    for name, (theirs, _) in GRAPH_DEVIATIONS.items():
        assert repr(theirs) != repr(CONVENTIONS[name][2:])
