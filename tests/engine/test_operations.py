"""Each operation of the table: against mpmath over its domain, and exactly at its edges and kinks."""

from __future__ import annotations

import math
import struct
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from tests.engine.edges import CONVENTIONS, EDGES
from tests.engine.oracle import ORACLES, points, quantities, ulps, worst_errors
from tests.engine.twins import HIPS
from tests.torch.counterparts import PYTORCH

from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
from chainrule_engine.operations import CONVENTIONS_VERSION, OPERATIONS
from chainrule_engine.value import Value

#: What is promised of every operation on any machine, in ulp; docs/accuracy.md has the finer figures.
VALUE_ULPS, PARTIAL_ULPS = 2.5, 4.5


def bits(*numbers):
    """The numbers as bits, so that 0.0 and -0.0 differ; every NaN is the same."""
    return [struct.pack(">d", nan if math.isnan(number) else number).hex() for number in numbers]


def computed(name, *args):
    operation = OPERATIONS[name]
    value = operation.value(*args)
    return [value, *(partial(*args, value) for partial in operation.partials)]


# -------------------------------------------------------------------------------------------------- the table itself


#: What the tests hold of every operation, and where.
TABLES = {
    "ORACLES in tests/engine/oracle.py": ORACLES,
    "EDGES in tests/engine/edges.py": EDGES,
    "HIPS in tests/engine/twins.py": HIPS,
    "PYTORCH in tests/torch/counterparts.py": PYTORCH,
}


@pytest.mark.parametrize("where", TABLES)
def test_every_operation_is_in_the_tables_of_the_tests(where):
    missing, gone = OPERATIONS.keys() - TABLES[where].keys(), TABLES[where].keys() - OPERATIONS.keys()
    assert not missing, f"add {', '.join(sorted(missing))} to {where}: no operation goes without a truth"
    assert not gone, f"take {', '.join(sorted(gone))} out of {where}: the engine has no such operation"


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_has_a_partial_for_each_argument(name):
    assert OPERATIONS[name].arity == len(ORACLES[name].partials)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_entry_describes_itself(name):
    operation = OPERATIONS[name]
    arguments = [f"ARGUMENT{number}" for number in range(operation.arity)]
    latex = operation.latex.format(*arguments)
    assert operation.name == name
    assert all(argument in latex for argument in arguments)
    assert latex.count("{") == latex.count("}")
    assert operation.description
    assert operation.domain
    # Whoever meets a kink or a jump must be able to read what was chosen.
    assert operation.conventions or not operation.kink


def test_the_conventions_are_those_of_this_version():
    assert CONVENTIONS_VERSION == 1, "a change of tests/engine/edges.py needs a new CONVENTIONS_VERSION"


# -------------------------------------------------------------------------------------------------- over its domain


@pytest.mark.parametrize("name", OPERATIONS)
def test_value_and_partials_agree_with_mpmath(name):
    worst = worst_errors(name, points(name, 400, seed=20))
    assert list(worst) == quantities(name)
    for quantity, found in worst.items():
        allowed = VALUE_ULPS if quantity == "value" else PARTIAL_ULPS
        assert found.error <= allowed, f"{quantity} of {name}{found.at} is {found.error:.3g} ulp from the truth"


NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1e300, -1e300, 1e-300, 5e-324, inf, -inf, nan])


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40)
@given(data=st.data())
def test_any_float64_gives_float64_and_never_raises(name, data):
    args = data.draw(st.tuples(*[NUMBERS] * OPERATIONS[name].arity))
    assert {type(number) for number in computed(name, *args)} == {float}


# Comparisons with NaN are false, `where` and these two powers do not depend on the argument in question.
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"gt", "ge", "lt", "le", "eq", "ne", "where", "pow"}))
@settings(max_examples=40)
@given(data=st.data())
def test_nan_stays_nan(name, data):
    arity = OPERATIONS[name].arity
    args = data.draw(st.tuples(*[NUMBERS] * arity).map(list))
    args[data.draw(st.integers(0, arity - 1))] = nan
    assert math.isnan(OPERATIONS[name].value(*args))


# ----------------------------------------------------------------------------------------------------- at its edges


@pytest.mark.parametrize(
    ("name", "args", "value", "partials"),
    [pytest.param(name, *edge, id=f"{name}{edge[0]}") for name, edges in EDGES.items() for edge in edges],
)
def test_edge(name, args, value, partials):
    assert bits(*computed(name, *args)) == bits(value, *partials)


@pytest.mark.parametrize(
    ("name", "args", "partial"),
    [
        # y - 1 is rounded, and the logarithm of the base magnifies what that takes away.
        ("pow", (1e-300, 0.1), 0),
        ("pow", (1e300, 0.1), 0),
        ("pow", (1.0 + 2.0**-45, 2.0**54 + 4.0), 0),
        # x**(y - 1) is subnormal or infinite, and y times it is neither.
        ("pow", (0.9999, 7.2e6), 0),
        ("pow", (-0.9999, 7.2e6), 0),
        ("pow", (5e-324, 1e-20), 0),
        # The same of x**y and its product with log(x).
        ("pow", (1e-20, 16.1), 1),
        ("pow", (1.0000001, 7.0979e9), 1),
        # x/y is subnormal, and that divided by y is less so.
        ("div", (-3.1077e-320, -0.00986205796399125), 1),
    ],
)
def test_a_partial_is_right_where_a_step_on_the_way_to_it_is_not(name, args, partial):
    exact = ORACLES[name].partials[partial](*(mp.mpf(x) for x in args))
    assert ulps(computed(name, *args)[partial + 1], exact) <= 3.0


# ----------------------------------------------------------------------------------------------------------- kinks

NO_KINK, JUMP = None, ()

#: Arguments and the admissible interval of the derivatives.
KINKS = {
    "abs": [((0.0,), (-1.0, 1.0)), ((-0.0,), (-1.0, 1.0)), ((5e-324,), NO_KINK), ((nan,), NO_KINK)],
    "relu": [((0.0,), (0.0, 1.0)), ((-0.0,), (0.0, 1.0)), ((-5e-324,), NO_KINK), ((nan,), NO_KINK)],
    **{
        name: [((2.0, 2.0), at), ((0.0, -0.0), at), ((1.0, 2.0), NO_KINK), ((nan, nan), NO_KINK)]
        for names, at in ((("max", "min"), (0.0, 1.0)), (("gt", "ge", "lt", "le", "eq", "ne"), JUMP))
        for name in names
    },
}


def test_the_operations_with_kinks_are_these():
    kinks = {name for name, operation in OPERATIONS.items() if operation.kink}
    assert not kinks - KINKS.keys(), f"add {kinks - KINKS.keys()} to KINKS in tests/engine/test_operations.py"
    assert not KINKS.keys() - kinks, f"take {KINKS.keys() - kinks} out of KINKS in tests/engine/test_operations.py"


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_has_its_interval_and_the_derivative_lies_in_it(name):
    for args, interval in KINKS[name]:
        assert OPERATIONS[name].kink(*args) == interval
        if interval:
            low, high = interval
            assert all(low <= partial <= high for partial in computed(name, *args)[1:])


# -------------------------------------------------- the conventions, as a whole graph sees them, both ways of running


@pytest.mark.parametrize("name", CONVENTIONS)
def test_convention(name):
    function, inputs, value, gradients = CONVENTIONS[name]
    leaves = [Value(number, f"x{place}") for place, number in enumerate(inputs)]
    output = function(*leaves)
    graph = Graph.from_values([output])
    output.backward()
    evaluation = evaluate(graph)
    assert bits(output.data, *(leaf.grad for leaf in leaves)) == bits(value, *gradients)
    # An input that does not occur in the graph is not in the answer either; here every one does.
    assert bits(evaluation.value, *(evaluation.gradients[leaf.label] for leaf in leaves)) == bits(value, *gradients)
