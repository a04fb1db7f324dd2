"""Program text: what it means (Python's own `eval` is the oracle), what it is called, and what is refused."""

import keyword
import math
import operator
import random

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from chainrule_engine.errors import LimitExceeded, ProgramError
from chainrule_engine.expression import MAX_NESTING
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.program import Program, parse_program

VALUES = {"x": 1.5, "y": -0.75, "z": 2.0, "w": 0.5}


TABLE = {name: operation.value for name, operation in OPERATIONS.items()}
PYTHON = {
    **{
        name: getattr(operator, name)
        for name in ("add", "sub", "mul", "neg", "pow", "gt", "ge", "lt", "le", "eq", "ne")
    },
    **{"div": operator.truediv, "abs": abs, "max": max, "min": min},
    "where": lambda c, a, b: a if c else b,
}


def run(program: Program, inputs: dict[str, float], functions=TABLE) -> dict[str, float]:
    """Compute every node, in the order in which the program lists them."""
    values = dict(inputs)
    for name, operation, args in program.nodes:
        assert name not in values
        operands = [values[arg] if isinstance(arg, str) else arg for arg in args]
        values[name] = functions[operation](*operands)
    return values


def result(text: str, inputs: dict[str, float] = VALUES) -> float:
    program = parse_program(text, inputs)
    assert program.result is not None
    return run(program, inputs)[program.result]


def nodes(text: str, *inputs: str) -> list[tuple]:
    return list(parse_program(text, inputs or VALUES).nodes)


def tree(text: str) -> tuple:
    """The expression as (operation, operand, ...), operands likewise."""
    program = parse_program(text, VALUES)
    trees = {}
    for name, operation, args in program.nodes:
        trees[name] = (operation, *(trees.get(arg, arg) for arg in args))
    return trees[program.result]


def refusal(text: str, inputs=VALUES) -> str:
    with pytest.raises(ProgramError) as caught:
        parse_program(text, inputs)
    (problem,) = caught.value.problems
    assert problem.path == ()
    return problem.detail


# ---------------------------------------------------------------------------------- the meaning is Python's

SYMBOLS = ["+", "-", "*", "/", "**", "<", "<=", ">", ">=", "==", "!="]


def expressions() -> st.SearchStrategy[str]:
    """Text with few brackets, so that precedence and grouping decide; no chained comparison."""
    atom = st.sampled_from(["x", "y", "z", "w", "2.0", "0.5", "1e1", "1_0.2_5", ".25", "3.", "abs(y)", "pow(z, 2)"])

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        arithmetic = st.sampled_from(["+", "-", "*", "/", "**", " * ", "\t+ "])
        bracketed = inner.map("({})".format)
        return st.one_of(
            st.builds("{}{}{}".format, inner, arithmetic, inner),
            st.builds("-{}".format, inner),
            st.builds("+ {}".format, inner),
            bracketed,
            st.builds("({}\n {} {})".format, bracketed, st.sampled_from(SYMBOLS[5:]), bracketed),
            st.builds("({} if {} else {})".format, inner, inner, inner),
            st.builds("({} if {} > {} else {} if {} else {})".format, *[bracketed] * 6),
            st.builds("max({}, {}, {})".format, inner, inner, inner),
            st.builds("min({}, {},)".format, inner, inner),
        )

    # Without brackets, but in a row as long as it may: operators alone decide.
    term = st.builds("{}{}".format, st.sampled_from(["", "", "-", "+", "--"]), atom)
    step = st.builds("{}{}".format, st.sampled_from(SYMBOLS[:5]), term)
    row = st.builds("{}{}".format, term, st.lists(step, max_size=8).map("".join))
    compared = st.builds("{}{}{}".format, row, st.sampled_from(SYMBOLS[5:]), row)
    chosen = st.builds("{} if {} else {} if {} else {}".format, row, compared, row, row, row)
    return st.one_of(row, compared, chosen, st.recursive(atom, extend, max_leaves=12))


@given(expressions())
@example("+ (x < x)")
def test_an_expression_means_what_it_means_in_python(text):
    # With Python's own functions behind both, the two agree in every bit, complex numbers and NaN included.
    program = parse_program(f"result = {text}", VALUES)
    try:
        expected = eval(text, {"__builtins__": {"max": max, "min": min, "abs": abs, "pow": pow}}, VALUES)
        values = run(program, VALUES, PYTHON)
    except (ArithmeticError, TypeError):
        # No number in Python, or on the side of a conditional that only Python leaves out.
        reject()
    value = program.names["result"]
    value = values[value] if isinstance(value, str) else value
    # A sign of + makes Python's True a 1, and is nothing at all here.
    value, expected = (int(x) if isinstance(x, bool) else x for x in (value, expected))
    assert repr(value) == repr(expected)  # equal for a NaN and different for -0.0, as == is not


@pytest.mark.parametrize("first", SYMBOLS)
@pytest.mark.parametrize("second", SYMBOLS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_precedence_and_grouping_of_every_pair_of_operators(first, second, sign):
    if first in SYMBOLS[5:] and second in SYMBOLS[5:]:
        assert "comparisons cannot be chained" in refusal(f"x {first} {sign}z {second} w")
        return
    text = f"{sign}x {first} {sign}z {second} {sign}w"
    program = parse_program(text, VALUES)
    # With Python's own functions behind both, they agree in every bit.
    assert run(program, VALUES, PYTHON)[program.result] == eval(text, {"__builtins__": {}}, VALUES)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-x**2", "neg(pow(x, 2))"),
        ("2**-x", "pow(2, neg(x))"),
        ("2**-x**w", "pow(2, neg(pow(x, w)))"),
        ("2**-x*w", "mul(pow(2, neg(x)), w)"),
        ("x**y**z", "pow(x, pow(y, z))"),
        ("-x*y", "mul(neg(x), y)"),
        ("- -x", "neg(neg(x))"),
        ("-+-x", "neg(neg(x))"),
        ("x - y - z", "sub(sub(x, y), z)"),
        ("x / y * z", "mul(div(x, y), z)"),
        ("x + y < z * w", "lt(add(x, y), mul(z, w))"),
        ("x if y else z if w else 1", "where(y, x, where(w, z, 1))"),
        ("x if y > z else -w", "where(gt(y, z), x, neg(w))"),
        ("(x if y else z) if w else 1", "where(w, where(y, x, z), 1)"),
        ("x + 1 if y else z", "where(y, add(x, 1), z)"),
        ("x if(y)else(z)", "where(y, x, z)"),
        ("x if (y if z else w) else 1", "where(where(z, y, w), x, 1)"),
        ("-x.exp()", "neg(exp(x))"),
        ("-3.0.exp()", "neg(exp(3.0))"),
        ("-3.0**x", "neg(pow(3.0, x))"),
        ("x**y.exp()", "pow(x, exp(y))"),
        ("(x + y).tanh().exp()", "exp(tanh(add(x, y)))"),
        ("x.pow(y)", "pow(x, y)"),
        ("x.max(y, z)", "max(max(x, y), z)"),
        ("max(x, y, z, w)", "max(max(max(x, y), z), w)"),
        ("min(x, y,)", "min(x, y)"),
        ("((((x)))) + (y)", "add(x, y)"),
        ("tanh (x)", "tanh(x)"),
        ("x . tanh ( )", "tanh(x)"),
        ("where(x > 0, y, z)", "where(gt(x, 0), y, z)"),
        ("stop_gradient(x) * 1", "mul(stop_gradient(x), 1)"),
    ],
)
def test_two_spellings_make_the_same_nodes(text, same):
    # The second spelling has calls alone. Trees are compared: a conditional computes in the order of its own text.
    assert tree(text) == tree(same)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_can_be_called_as_function_and_as_method(name):
    arguments = ["x", "y", "z"][: OPERATIONS[name].arity]
    expected = [("_1", name, tuple(arguments))]
    assert nodes(f"{name}({', '.join(arguments)})") == expected
    assert nodes(f"x.{name}({', '.join(arguments[1:])})") == expected


@pytest.mark.parametrize(
    "number", ["0", "00", "0.5", ".5", "5.", "1e3", "1E-3", "1.5e+1_0", "1_000", "1_0.0_1", "00.5", "0e0",
               "9007199254740992", "1e308", "5e-324", "1e-999", "01.5", "9007199254740993.0", "0.1" + "0" * 5000],
)  # fmt: skip
def test_numbers_are_those_of_python(number):
    assert nodes(f"x * {number}") == [("_1", "mul", ("x", float(eval(number))))]


@given(st.floats(min_value=0, allow_infinity=False))
def test_every_float64_can_be_written(number):
    ((_, _, (_, constant)),) = nodes(f"x + {number!r}")
    assert constant.hex() == number.hex()


def test_the_sign_of_a_constant_is_part_of_it_and_nothing_else_is_folded():
    program = parse_program("k = -3.0; l = -(k); m = --0.0; y = 2*3 + -k; u = -2**2", [])
    assert program.nodes == (
        ("_1", "mul", (2.0, 3.0)),
        ("y", "add", ("_1", 3.0)),
        ("_2", "pow", (2.0, 2.0)),
        ("u", "neg", ("_2",)),
    )
    assert (program.names["k"], program.names["l"]) == (-3.0, 3.0)
    assert math.copysign(1.0, parse_program("m = -0.0", []).names["m"]) == -1.0


# ------------------------------------------------------------------------------------------ names and ids


def test_the_lecture_neuron():
    text = """
        # the notebook's neuron
        x1w1 = x1*w1; x2w2 = x2*w2
        x1w1x2w2 = x1w1 + x2w2

        n = x1w1x2w2 + b
        o = n.tanh()
    """
    inputs = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432}
    program = parse_program(text, inputs)
    assert program.nodes == (
        ("x1w1", "mul", ("x1", "w1")),
        ("x2w2", "mul", ("x2", "w2")),
        ("x1w1x2w2", "add", ("x1w1", "x2w2")),
        ("n", "add", ("x1w1x2w2", "b")),
        ("o", "tanh", ("n",)),
    )
    assert program.result is None
    assert run(program, inputs)["o"] == pytest.approx(math.sqrt(0.5), rel=1e-12)


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        ("3*x**2 - 4*x + 5", {"x": 3.0}, 20.0),
        ("e = a*b; d = e + c; f*d", {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}, -8.0),
        ("a + a", {"a": 3.0}, 6.0),
        ("d = a*b\ne = a + b\nd*e", {"a": -2.0, "b": 3.0}, -6.0),
        ("e = (2*n).exp()\no = (e - 1) / (e + 1)\no", {"n": 0.8813735870195432}, math.tanh(0.8813735870195432)),
        ("abs(a)**b", {"a": -2.0, "b": 3.0}, 8.0),
        ("(p - t)**2 if p - t > 0 else (t - p)**2", {"p": 0.25, "t": 1.0}, 0.5625),
    ],
)
def test_the_programs_of_the_lecture(text, inputs, expected):
    assert result(text, inputs) == pytest.approx(expected, rel=1e-14)


def test_unnamed_parts_are_numbered_in_the_order_of_computation():
    assert nodes("u = (x + y) * -(z - w)\nexp(u) / 2") == [
        ("_1", "add", ("x", "y")),
        ("_2", "sub", ("z", "w")),
        ("_3", "neg", ("_2",)),
        ("u", "mul", ("_1", "_3")),
        ("_4", "exp", ("u",)),
        ("_5", "div", ("_4", 2.0)),
    ]


def test_a_conditional_is_computed_in_the_order_of_the_text():
    assert nodes("x + 1 if y > 0 else z + 2") == [
        ("_1", "add", ("x", 1.0)),
        ("_2", "gt", ("y", 0.0)),
        ("_3", "add", ("z", 2.0)),
        ("_4", "where", ("_2", "_1", "_3")),
    ]


def test_numbers_that_are_names_already_are_left_out():
    program = parse_program("_2 = a + a; u = a*a*a*a; u = u*_1; u = -u", ["a", "_1", "u.1"])
    assert [name for name, _, _ in program.nodes] == ["_2", "_3", "_4", "u.2", "u.3", "u"]


def test_a_rebound_name_keeps_its_id_for_the_last_node():
    program = parse_program("s = a*b; s += a; t = -s; s *= s", ["a", "b"])
    assert program.nodes == (
        ("s.1", "mul", ("a", "b")),
        ("s.2", "add", ("s.1", "a")),
        ("t", "neg", ("s.2",)),
        ("s", "mul", ("s.2", "s.2")),
    )
    assert program.names == {"a": "a", "b": "b", "s": "s", "t": "t"}


def test_an_input_keeps_its_id_when_its_name_is_rebound():
    program = parse_program("a = a*2; a **= b; b = a\na", ["a", "b"])
    assert program.nodes == (("a.1", "mul", ("a", 2.0)), ("a.2", "pow", ("a.1", "b")))
    assert program.names == {"a": "a.2", "b": "a.2"}
    assert program.result == "a.2"


@pytest.mark.parametrize(("sign", "operation"), [("+", "add"), ("-", "sub"), ("*", "mul"), ("/", "div"), ("**", "pow")])
def test_augmented_assignment_takes_the_whole_right_side(sign, operation):
    assert nodes(f"a {sign}= x + y", "a", "x", "y") == [
        ("_1", "add", ("x", "y")),
        ("a.1", operation, ("a", "_1")),
    ]


@pytest.mark.parametrize(
    ("text", "ids", "names"),
    [
        ("y = x*x; z = y; y = x + 1", ["z", "y"], {"z": "z", "y": "y"}),
        ("y = x*x; z = y; w = z; y = x + 1; y = y + 1", ["z", "y.1", "y"], {"z": "z", "w": "z", "y": "y"}),
        # Its own name again, which goes before the other.
        ("y = x*x; z = y; y = y + 1; y = z", ["y", "y.1"], {"z": "y", "y": "y"}),
        # The other name is bound anew as well.
        ("y = x*x; z = y; y = x + 1; z = y*y", ["y.1", "y", "z"], {"y": "y", "z": "z"}),
        ("x = x*x; z = x; x = x + 1", ["z", "x.1"], {"x": "x.1", "z": "z"}),
    ],
)
def test_a_node_that_lost_its_name_has_another_that_it_still_goes_by(text, ids, names):
    program = parse_program(text, ["x"])
    assert [name for name, _, _ in program.nodes] == ids
    assert program.names == {"x": "x"} | names


def test_a_second_name_makes_no_node_and_does_not_follow_the_first():
    program = parse_program("u = x*y; v = (+u); u += 1; k = 2.0; k2 = k; r = v*k2", ["x", "y"])
    assert program.nodes == (
        ("v", "mul", ("x", "y")),
        ("u", "add", ("v", 1.0)),
        ("r", "mul", ("v", 2.0)),
    )
    assert program.names == {"x": "x", "y": "y", "u": "u", "v": "v", "k": 2.0, "k2": 2.0, "r": "r"}


def test_a_name_that_ends_as_another_node_leaves_its_id_to_none():
    program = parse_program("u = x*x; v = -x; u = v", ["x"])
    assert [name for name, _, _ in program.nodes] == ["u.1", "v"]
    assert program.names["u"] == "v"
    # Rebound to a number that equals the position of its node: a number is no node.
    assert parse_program("u = x*x; u = 0.0", ["x"]).nodes == (("u.1", "mul", ("x", "x")),)
    # And back to its first node.
    ids = [name for name, _, _ in parse_program("u = x*x; v = u; u = -x; u = v", ["x"]).nodes]
    assert ids == ["u", "u.1"]


def test_a_name_hides_an_operation_as_in_python():
    assert nodes("exp = x.exp(); y = exp*exp", "x") == [("exp", "exp", ("x",)), ("y", "mul", ("exp", "exp"))]
    assert "'exp' is a value here and cannot be called" in refusal("exp = x.exp(); y = exp(x)")
    assert nodes("max = x.max(y)\nmax.max(x)", "x", "y")[1] == ("_1", "max", ("max", "x"))
    assert "'log' is a value here and cannot be called" in refusal("log(x)", ["x", "log"])


def test_names_are_compared_letter_by_letter():
    assert nodes("θ = α*β1", "α", "β1") == [("θ", "mul", ("α", "β1"))]
    assert "is not defined" in refusal("x = µ", ["μ"])  # the micro sign, and the letter mu


def test_the_result_is_the_last_expression_without_a_name():
    assert parse_program("a*b", ["a", "b"]).result == "_1"
    assert parse_program("u = a*b; v = -a; u # shown", ["a", "b"]).result == "u"
    assert parse_program("a;\n\n", ["a"]).result == "a"
    assert parse_program("u = a*b", ["a", "b"]).result is None
    assert parse_program("", ["a"]) == Program((), {"a": "a"})


@pytest.mark.parametrize(
    "text",
    [
        "u = x*y\nv = u + 1",
        "u = x*y;v = u + 1;",
        "\r\nu = x*y\r\rv = u + 1\r\n",
        "# one\nu = x*y # two\n   # three\n\n\t\nv = u + 1 # four",
        "  u = x*y\n\n  v = u + 1\n # less\n",
        "u = (x # one\n  *\n# two\n\n  y)\nv = u \\\n  + 1",
        "u \\\n= x*y; \\\nv = u + 1",
        "u=\fx*y;v=u+1",
        "u = ((x\n)*(\ny)\n)\nv = add(u,\n  1,\n)",
    ],
)
def test_spaces_comments_and_ends_of_lines(text):
    assert nodes(text) == [("u", "mul", ("x", "y")), ("v", "add", ("u", 1.0))]


# ------------------------------------------------------------------------------------------------ refused

REFUSED = [
    # text, where, words of the message
    ("r = x +", (1, 8), "a value is missing"),
    ("r =\ns = 1", (1, 4), "a value is missing"),
    ("r = (x", (1, 5), "never closed"),
    ("r = exp(x\n\n", (1, 5), "never closed"),
    ("r = (x; s = 2", (1, 5), "never closed"),
    ("r = (", (1, 6), "a value is missing"),
    ("r = x)", (1, 6), "never opened"),
    ("r = ()", (1, 6), "missing before ')'"),
    ("r = max(x,, y)", (1, 11), "missing before ','"),
    ("r = exp(-)", (1, 10), "missing before ')'"),
    ("r = x * / y", (1, 9), "missing before '/'"),
    ("r = * x", (1, 5), "missing before '*'"),
    ("r = .exp()", (1, 6), "missing before the dot of 'exp'"),
    ("r = . x", (1, 7), "missing before the dot of 'x'"),
    ("r = x + .", (1, 9), "missing before '.'"),
    ("r = x y", (1, 7), "operator is missing before 'y'"),
    ("r = x 2", (1, 7), "operator is missing before '2'"),
    ("r = x exp(y)", (1, 7), "operator is missing before 'exp'"),
    ("r = x .5", (1, 7), "operator is missing before '.5'"),
    ("r = 2x", (1, 5), "'2' runs into 'x'"),
    ("r = x 2y", (1, 7), "operator is missing before '2'"),
    ("r = 1__0", (1, 5), "'1' runs into '__0'"),
    ("r = 1e", (1, 5), "runs into 'e'"),
    ("r = 1_", (1, 5), "runs into '_'"),
    ("r = 0x1F", (1, 5), "hexadecimal"),
    ("r = 0b1", (1, 5), "binary"),
    ("r = 2j", (1, 5), "complex"),
    ("r = 1.5J", (1, 5), "complex"),
    ("r = 007", (1, 5), "begins with 0: write '7'"),
    ("r = 9007199254740993", (1, 5), "beyond 2**53"),
    ("r = 12345678901234567890", (1, 5), "beyond 2**53"),
    ("r = 1" + "0" * 5000, (1, 5), "beyond 2**53"),
    ("r = 1e999", (1, 5), "larger than any float64"),
    ("r = (x)(y)", (1, 8), "only an operation can be called"),
    ("r = 2(y)", (1, 6), "only an operation can be called"),
    ("r = x(y)", (1, 5), "'x' is a value here"),
    ("r = x < y < z", (1, 11), "write (a < b) * (b < c)"),
    ("r = x if y", (1, 7), "no 'else'"),
    ("r = (x if y) + 1", (1, 8), "no 'else'"),
    ("r = max(x if y, z)", (1, 11), "no 'else'"),
    ("r = x if y if z else w else x", (1, 12), "needs brackets"),
    ("r = x else y", (1, 7), "no 'if' before it"),
    ("r = x + (x else y)", (1, 12), "no 'if' before it"),
    ("r = else", (1, 5), "no 'if' before it"),
    ("r = x if y else z else w", (1, 19), "no 'if' before it"),
    ("r = s = x", (1, 5), "only one ="),
    ("r = x = y", (1, 7), "only one ="),
    ("r = = x", (1, 5), "only one ="),
    ("r := x", (1, 1), "'r' is not defined"),
    ("r = (x := y)", (1, 8), "':=' is not part"),
    ("x: float = 2", (1, 2), "no annotations"),
    ("x, y = 1, 2", (1, 2), "tuple"),
    ("r = (x, y)", (1, 7), "tuple"),
    ("r = x,", (1, 6), "tuple"),
    ("r = [x, y]", (1, 5), "lists, subscripts"),
    ("r = x[0]", (1, 6), "lists, subscripts"),
    ("r = {x: y}", (1, 5), "dictionaries"),
    ("r = [i*i for i in x]", (1, 5), "comprehensions"),
    ("r = max(i for i in x)", (1, 9), "loops and comprehensions"),
    ("r = max(x for x in y)", (1, 11), "loops and comprehensions"),
    ("r = 'text'", (1, 5), "text is not part"),
    ('r = "text"', (1, 5), "text is not part"),
    ("r = f'{x}'", (1, 5), "text is not part"),
    ("r = x'text'", (1, 6), "text is not part"),
    ("r = x // y", (1, 7), "'//'"),
    ("r //= y", (1, 1), "'r' is not defined"),
    ("x //= y", (1, 3), "'//'"),
    ("x %= y", (1, 3), "'%'"),
    ("r = x % y", (1, 7), "remainder"),
    ("r = x @ y", (1, 7), "matrix product"),
    ("r = x ^ y", (1, 7), "write **"),
    ("r = x << y", (1, 7), "'<<'"),
    ("r = x >> y", (1, 7), "'>>'"),
    ("r = x & y", (1, 7), "'&'"),
    ("r = x && y", (1, 7), "'&&'"),
    ("r = x | y", (1, 7), "'|'"),
    ("r = x || y", (1, 7), "'||'"),
    ("r = ~x", (1, 5), "'~'"),
    ("r = !x", (1, 5), "'!'"),
    ("r = x and y", (1, 7), "multiply the two comparisons"),
    ("r = x or y", (1, 7), "max(a > 0, b > 0)"),
    ("r = x or(y)", (1, 7), "max(a > 0, b > 0)"),
    ("r = not x", (1, 5), "opposite comparison"),
    ("r = not(x)", (1, 5), "opposite comparison"),
    ("r = x is y", (1, 7), "compare numbers with =="),
    ("r = x in y", (1, 7), "compare numbers with =="),
    ("r = x not in y", (1, 7), "opposite comparison"),
    ("r = lambda x: x", (1, 5), "'lambda'"),
    ("r = True", (1, 5), "write 1.0"),
    ("r = None", (1, 5), "None is not a number"),
    ("import math", (1, 1), "imports"),
    ("from math import exp", (1, 1), "imports"),
    ("def f(x):\n  return x", (1, 1), "functions cannot be defined"),
    ("return x", (1, 1), "'return'"),
    ("class C: pass", (1, 1), "classes"),
    ("for i in x: y", (1, 1), "loops"),
    ("while x: y", (1, 1), "loops"),
    ("if x: y", (1, 1), "a if c else b"),
    ("if (x): y", (1, 1), "a if c else b"),
    ("elif x: y", (1, 1), "'elif'"),
    ("else: y", (1, 1), "'else'"),
    ("del x", (1, 1), "'del' is not part"),
    ("assert x", (1, 1), "'assert' is not part"),
    ("lambda = 3", (1, 1), "keyword of Python"),
    ("True += 3", (1, 1), "keyword of Python"),
    ("r = exp(x=y)", (1, 10), "keyword arguments"),
    ("r = exp(value=y)", (1, 9), "keyword arguments"),
    ("r = max(*x)", (1, 9), "starred"),
    ("r = max(**x)", (1, 9), "starred"),
    ("r = exp()", (1, 5), "exp takes 1 argument, and here it has 0"),
    ("r = exp(x, y)", (1, 5), "exp takes 1 argument, and here it has 2"),
    ("r = max(x)", (1, 5), "max takes 2 arguments or more, and here it has 1"),
    ("r = pow(x, y, z)", (1, 5), "pow takes 2 arguments, and here it has 3"),
    ("r = x.exp(y)", (1, 7), "value before the dot counts"),
    ("r = where(x, y)", (1, 5), "where takes 3 arguments"),
    ("r = exp", (1, 5), "write exp(...)"),
    ("r = x.exp", (1, 7), "exp is not called here"),
    ("r = x.data", (1, 7), "attributes cannot be read"),
    ("r = x.shape", (1, 7), "attributes cannot be read"),
    ("x.grad = 1", (1, 3), "`seeds`"),
    ("r = x*y; r.label = 'r'", (1, 12), "name on the left of = is the label"),
    ("r = x*y\nr.backward()", (2, 3), "backward() is not needed"),
    ("r = x.detach()", (1, 7), "stop_gradient(x)"),
    ("r = x.tahn()", (1, 7), "unknown operation 'tahn' (did you mean tanh"),
    ("r = math.exp(x)", (1, 5), "write exp(...)"),
    ("r = math.pi", (1, 5), "'math' is not defined"),
    ("r = tahn(x)", (1, 5), "unknown function 'tahn' (did you mean tanh"),
    ("r = f(x)", (1, 5), "unknown function 'f'"),
    ("r = Value(2.0)", (1, 5), "`inputs`"),
    ("print(x)", (1, 1), "print(...) is not part"),
    ("r = sum([x, y])", (1, 5), "with +"),
    ("eval(x)", (1, 1), "unknown function 'eval'"),
    ("__import__('os')", (1, 1), "unknown function '__import__'"),
    ("alpha = x*y\nr = alhpa + 1", (2, 5), "did you mean alpha"),
    ("rate += 1", (1, 1), "'rate' is not defined"),
    ("xx1 = x; xx2 += 1", (1, 10), "did you mean xx1"),
    ("x*y\nr = x", (1, 1), "no effect"),
    ("x\ny", (1, 1), "no effect"),
    ("3.0", (1, 1), "a number alone"),
    ("k = 2; k", (1, 8), "a number alone"),
    ("r = x\n  s = y", (2, 3), "unexpected indent"),
    ("  r = x\ns = y", (2, 1), "unexpected indent"),
    ("  r = x\n\t s = y", (2, 3), "unexpected indent"),
    ("r = x;; s = y", (1, 7), "a value is missing"),
    (";", (1, 1), "a value is missing"),
    ("r = x $ y", (1, 7), "'$' is not part"),
    ("r = ?", (1, 5), "'?' is not part"),
    ("r = x \\ y", (1, 7), "is not part"),
    ("r = x\x00", (1, 6), "'\\x00'"),
    ("r = x\ud800y", (1, 6), "'\\ud800'"),
    ("r = ٣", (1, 5), "'٣' is not part"),
    ("r = x − y", (1, 7), "write -"),
    ("r = x × y", (1, 7), "write *"),
    ("r = x²", (1, 5), "'x²' is not a name: write **2"),
    ("x³ = 1", (1, 1), "write **3"),
    ("r = x¼", (1, 5), "'x¼' is not a name"),
    ("r = " + "q" * 1000, (1, 5), "q…' is not defined"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "place", "words"), REFUSED, ids=lambda part: repr(part)[:40])
def test_refused_with_the_place_and_what_to_do(text, place, words):
    detail = refusal(text)
    assert detail.startswith(f"line {place[0]}, column {place[1]}: ")
    assert words in detail
    assert len(detail) < 250
    detail.encode("utf-8")


@pytest.mark.parametrize("word", keyword.kwlist)
def test_no_keyword_is_a_name_even_where_an_input_has_it(word):
    assert refusal(f"r = {word} + 1", [word, "x"]).startswith("line 1, column 5: ")
    assert "keyword" in refusal(f"{word} = 1", [word])
    assert parse_program("r = x*x", [word, "x"]).names == {"x": "x", "r": "r"}


def test_the_place_counts_every_kind_of_line_end():
    assert refusal("u = x\r\n\rv = (x\n +\n  q)").startswith("line 5, column 3: 'q'")


# -------------------------------------------------------------------------------------------- large and odd


def test_nesting_is_bounded():
    deepest = "(" * MAX_NESTING + "x" + ")" * MAX_NESTING
    assert nodes(f"-{deepest}") == [("_1", "neg", ("x",))]
    assert len(nodes("exp(" * MAX_NESTING + "x" + ")" * MAX_NESTING)) == MAX_NESTING
    assert len(nodes("x" + ".max(x" * MAX_NESTING + ")" * MAX_NESTING)) == MAX_NESTING
    for text in ("(" * 1000 + "x" + ")" * 1000, "exp(" * 1000, "x" + ".max(x" * 1000, "(" * 200_000):
        assert "nested more than 200 deep" in refusal(f"r = {text}")
    # In a row is not nested.
    assert len(nodes("+".join(["(x)"] * 1000))) == 999


def test_length_is_not_bounded():
    n = 100_000
    assert len(nodes("r = " + " + ".join(["x"] * n))) == n - 1
    assert len(nodes("-" * n + "x")) == n
    n = 10_000
    assert nodes("+" * n + "x*x") == [("_1", "mul", ("x", "x"))]
    assert len(nodes("**".join(["x"] * n))) == n - 1
    assert len(nodes(" if w else ".join(["x"] * n))) == n - 1
    assert len(nodes("x" + ".tanh()" * n)) == n
    assert nodes("max(" + "x," * n + ")")[-1] == (f"_{n - 1}", "max", (f"_{n - 2}", "x"))
    assert nodes("\n" * n + "#" * n + "\n" + " " * n + "x*x" + ";" + " " * n)[0][1] == "mul"
    assert nodes("(" + "\n" * n + "x*x" + "\\\n" * n + ")")[0][1] == "mul"


def test_many_lines():
    program = parse_program("s = a\n" + "s += a*s\n" * 5_000, ["a"])
    assert len(program.nodes) == 10_000
    assert program.nodes[-1] == ("s", "add", ("s.4999", "_5000"))
    assert program.nodes[0] == ("_1", "mul", ("a", "a"))


def test_too_many_nodes():
    assert len(parse_program("x+x+x+x", ["x"], max_nodes=3).nodes) == 3
    with pytest.raises(LimitExceeded) as caught:
        parse_program("x+x+x+x+x\n this is not read any more", ["x"], max_nodes=3)
    error = caught.value
    assert (error.limit, error.maximum, error.requested, error.path) == ("nodes", 3, 4, ())
    with pytest.raises(LimitExceeded):
        parse_program("max(x, x, x)", ["x"], max_nodes=1)
    assert parse_program("y = x; k = -1", ["x"], max_nodes=0).nodes == ()


PIECES = [
    *("x", "y", "q", "1", "2.5", "1e3", "0x", "007", "+", "-", "*", "**", "/", "//", "(", ")", ",", ".", "exp", "max("),
    *(".tanh()", ".data", "=", "+=", "==", "<", ">=", "if", "else", "for", "lambda", "not", "in", "[", "]", "{", "'"),
    *('"', "#", ";", "\n", "\r", "\\\n", "\\", " ", "\t", "\f", ":", ":=", "@", "é", "²", "\ud800", "\x00", "\u2028"),
    *("٣", "_1", "β̂"),
]
BYTES = st.binary().map(lambda data: data.decode("latin-1"))
JOINED = st.builds(str.join, st.sampled_from(["", " "]), st.lists(st.sampled_from(PIECES)))


@given(st.one_of(st.text(), BYTES, JOINED))
def test_any_text_is_read_or_refused(text):
    try:
        program = parse_program(text, ["x", "y", "_1", "x.1"], max_nodes=50)
    except ProgramError as error:
        (problem,) = error.problems
        assert problem.detail.startswith("line ")
        str(error).encode("utf-8")
        return
    except LimitExceeded:
        return
    known = {"x", "y", "_1", "x.1"}
    for name, operation, args in program.nodes:
        assert name not in known
        assert len(args) == OPERATIONS[operation].arity
        assert all(type(arg) is float or arg in known for arg in args)
        known.add(name)
    assert all(type(value) is float or value in known for value in program.names.values())
    assert program.result is None or program.result in known


def test_a_wrong_name_in_a_long_program_is_refused_without_a_long_search():
    generator = random.Random(1)
    names = ["".join(generator.choices("abcdefgh", k=30)) for _ in range(50_000)]
    assert "is not defined" in refusal("r = " + "a" * 30, names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c, d = a, b", "line 1, column 2: a comma makes a tuple"),
        ("c: float = a", "line 1, column 2: ':' is not part of the language"),
        ("d = max(c, a)", "column 9: 'c' is not defined"),
    ],
)
def test_what_follows_an_unknown_name_tells_what_was_meant(text, words):
    with pytest.raises(ProgramError, match=words):
        parse_program(text, ["a", "b"])
