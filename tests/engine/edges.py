"""What must come out, to the last bit, at the edges of float64 and at the kinks: of one operation, and of a graph."""

from __future__ import annotations

from math import inf, nan

from chainrule_engine.value import apply

SIN_1E300, COS_1E300 = -0.8178819121159085, -0.5753861119575491
LOG_2, LOG_1E300 = 0.6931471805599453, 690.7755278982137

UNARY = (0.0, -0.0, inf, -inf, nan, 1e300, -1e300, 1e-300, -1e-300)


def unary(values, partials):
    return [((x,), value, (partial,)) for x, value, partial in zip(UNARY, values, partials, strict=True)]


def comparison(less, equal, greater, unordered):
    pairs = [(1.0, 2.0, less), (-inf, inf, less), (1.0, 1.0, equal), (0.0, -0.0, equal), (inf, inf, equal)]
    pairs += [(1e300, -1e300, greater), (1e-300, 0.0, greater), (nan, 1.0, unordered), (nan, nan, unordered)]
    return [((x, y), value, (0.0, 0.0)) for x, y, value in pairs]


#: (arguments, value, partial derivatives), exactly, per operation.
EDGES = {
    "add": [
        ((0.0, -0.0), 0.0, (1.0, 1.0)),
        ((-0.0, -0.0), -0.0, (1.0, 1.0)),
        ((inf, -inf), nan, (1.0, 1.0)),
        ((inf, 1.0), inf, (1.0, 1.0)),
        ((1.5e308, 1.5e308), inf, (1.0, 1.0)),
        ((1e300, 1e-300), 1e300, (1.0, 1.0)),
        ((nan, 1.0), nan, (1.0, 1.0)),
    ],
    "sub": [
        ((0.0, 0.0), 0.0, (1.0, -1.0)),
        ((-0.0, 0.0), -0.0, (1.0, -1.0)),
        ((inf, inf), nan, (1.0, -1.0)),
        ((-inf, 1e300), -inf, (1.0, -1.0)),
        ((1e-300, 1e300), -1e300, (1.0, -1.0)),
        ((1.0, nan), nan, (1.0, -1.0)),
    ],
    "mul": [
        ((0.0, -1.0), -0.0, (-1.0, 0.0)),
        ((0.0, inf), nan, (inf, 0.0)),
        ((inf, -inf), -inf, (-inf, inf)),
        ((1e300, -1e300), -inf, (-1e300, 1e300)),
        ((1e-300, -1e-300), -0.0, (-1e-300, 1e-300)),
        ((nan, 0.0), nan, (0.0, nan)),
    ],
    "div": [
        ((1.0, 0.0), inf, (inf, -inf)),
        ((1.0, -0.0), -inf, (-inf, -inf)),
        ((-1.0, 0.0), -inf, (inf, inf)),
        ((0.0, 0.0), nan, (inf, nan)),
        ((0.0, -1.0), -0.0, (-1.0, -0.0)),
        ((inf, inf), nan, (0.0, nan)),
        ((1.0, -inf), -0.0, (-0.0, -0.0)),
        ((-inf, 2.0), -inf, (0.5, inf)),
        ((1e300, 1e-300), inf, (1 / 1e-300, -inf)),
        ((1e-300, 1e300), 0.0, (1 / 1e300, -0.0)),
        ((1.0, 5e-324), inf, (inf, -inf)),
        # The quotient is subnormal and has lost digits; its derivative is not, and has lost none.
        ((5e-324, 0.75), 5e-324, (1 / 0.75, -1e-323)),
        ((nan, 1.0), nan, (1.0, nan)),
        ((1.0, nan), nan, (nan, nan)),
    ],
    "neg": unary(
        (-0.0, 0.0, -inf, inf, nan, -1e300, 1e300, -1e-300, 1e-300),
        [-1.0] * 9,
    ),
    "pow": [
        # The exponent 0: the value is 1 for every base, the derivative in the base 0.
        ((0.0, 0.0), 1.0, (0.0, 0.0)),
        ((-0.0, -0.0), 1.0, (0.0, 0.0)),
        ((2.0, 0.0), 1.0, (0.0, LOG_2)),
        ((nan, 0.0), 1.0, (0.0, nan)),
        ((inf, 0.0), 1.0, (0.0, inf)),
        ((-2.0, 0.0), 1.0, (0.0, nan)),
        # The base 0.
        ((0.0, 2.0), 0.0, (0.0, 0.0)),
        ((0.0, 1.0), 0.0, (1.0, 0.0)),
        ((-0.0, 3.0), -0.0, (0.0, 0.0)),
        ((0.0, 0.5), 0.0, (inf, 0.0)),
        ((0.0, -1.0), inf, (-inf, -inf)),
        ((-0.0, -1.0), -inf, (-inf, inf)),
        ((-0.0, -2.0), inf, (inf, -inf)),
        ((0.0, inf), 0.0, (0.0 * inf, 0.0)),
        ((0.0, -inf), inf, (-inf, -inf)),
        # A negative base.
        ((-2.0, 3.0), -8.0, (12.0, nan)),
        ((-2.0, 2.0), 4.0, (-4.0, nan)),
        ((-8.0, 1 / 3), nan, (nan, nan)),
        ((-2.0, -1.0), -0.5, (-0.25, nan)),
        ((-inf, 3.0), -inf, (inf, nan)),
        ((-inf, -3.0), -0.0, (-0.0, nan)),
        ((-1e300, 3.0), -inf, (inf, nan)),
        # The exponent 2**53 + 2 is even, and one less is odd: the derivative has the sign of the base.
        ((-1.0, 2.0**53 + 2.0), 1.0, (-(2.0**53 + 2.0), nan)),
        # Overflow, underflow, and a derivative that does neither though the value does.
        ((1e300, 2.0), inf, (2e300, inf)),
        ((1e300, -2.0), 0.0, (-0.0, 0.0)),
        ((1e-200, 2.0), 0.0, (2e-200, -0.0)),
        ((5e-324, 1e-20), 1.0, (1e-20 / 5e-324, -744.4400719213812)),
        ((inf, 2.0), inf, (inf, inf)),
        ((inf, -1.0), 0.0, (-0.0, nan)),
        ((1.0, inf), 1.0, (inf, 0.0)),
        ((2.0, inf), inf, (inf, inf)),
        ((2.0, -inf), 0.0, (nan, 0.0)),
        ((1.0, nan), 1.0, (nan, 0.0)),
        ((nan, 1.0), nan, (1.0, nan)),
        ((nan, 2.0), nan, (nan, nan)),
        ((2.0, nan), nan, (nan, nan)),
    ],
    "abs": unary(
        (0.0, 0.0, inf, inf, nan, 1e300, 1e300, 1e-300, 1e-300),
        (0.0, 0.0, 1.0, -1.0, nan, 1.0, -1.0, 1.0, -1.0),
    ),
    "exp": unary(
        (1.0, 1.0, inf, 0.0, nan, inf, 0.0, 1.0, 1.0),
        (1.0, 1.0, inf, 0.0, nan, inf, 0.0, 1.0, 1.0),
    ),
    "log": unary(
        (-inf, -inf, inf, nan, nan, LOG_1E300, nan, -LOG_1E300, nan),
        (inf, -inf, 0.0, -0.0, nan, 1 / 1e300, -1 / 1e300, 1 / 1e-300, -1 / 1e-300),
    ),
    "sqrt": unary(
        (0.0, -0.0, inf, nan, nan, 1e150, nan, 1e-150, nan),
        (inf, -inf, 0.0, nan, nan, 5e-151, nan, 5e149, nan),
    ),
    "sin": unary(
        (0.0, -0.0, nan, nan, nan, SIN_1E300, -SIN_1E300, 1e-300, -1e-300),
        (1.0, 1.0, nan, nan, nan, COS_1E300, COS_1E300, 1.0, 1.0),
    ),
    "cos": unary(
        (1.0, 1.0, nan, nan, nan, COS_1E300, COS_1E300, 1.0, 1.0),
        (-0.0, 0.0, nan, nan, nan, -SIN_1E300, SIN_1E300, -1e-300, 1e-300),
    ),
    "tanh": unary(
        (0.0, -0.0, 1.0, -1.0, nan, 1.0, -1.0, 1e-300, -1e-300),
        (1.0, 1.0, 0.0, 0.0, nan, 0.0, 0.0, 1.0, 1.0),
    ),
    "sigmoid": unary(
        (0.5, 0.5, 1.0, 0.0, nan, 1.0, 0.0, 0.5, 0.5),
        (0.25, 0.25, 0.0, 0.0, nan, 0.0, 0.0, 0.25, 0.25),
    ),
    "relu": unary(
        (0.0, 0.0, inf, 0.0, nan, 1e300, 0.0, 1e-300, 0.0),
        (0.0, 0.0, 1.0, 0.0, nan, 1.0, 0.0, 1.0, 0.0),
    ),
    "softplus": unary(
        (LOG_2, LOG_2, inf, 0.0, nan, 1e300, 0.0, LOG_2, LOG_2),
        (0.5, 0.5, 1.0, 0.0, nan, 1.0, 0.0, 0.5, 0.5),
    ),
    "max": [
        ((1.0, 1.0), 1.0, (0.5, 0.5)),
        # The two zeros are equal: a tie, of which the first is the result.
        ((0.0, -0.0), 0.0, (0.5, 0.5)),
        ((-0.0, 0.0), -0.0, (0.5, 0.5)),
        ((inf, inf), inf, (0.5, 0.5)),
        ((-inf, inf), inf, (0.0, 1.0)),
        ((1e300, -1e300), 1e300, (1.0, 0.0)),
        ((0.0, 1e-300), 1e-300, (0.0, 1.0)),
        ((nan, 1.0), nan, (nan, nan)),
        ((1.0, nan), nan, (nan, nan)),
    ],
    "min": [
        ((1.0, 1.0), 1.0, (0.5, 0.5)),
        ((0.0, -0.0), 0.0, (0.5, 0.5)),
        ((-0.0, 0.0), -0.0, (0.5, 0.5)),
        ((-inf, -inf), -inf, (0.5, 0.5)),
        ((-inf, inf), -inf, (1.0, 0.0)),
        ((1e300, -1e300), -1e300, (0.0, 1.0)),
        ((0.0, 1e-300), 0.0, (1.0, 0.0)),
        ((nan, 1.0), nan, (nan, nan)),
        ((1.0, nan), nan, (nan, nan)),
    ],
    "where": [
        ((1.0, 2.0, 3.0), 2.0, (0.0, 1.0, 0.0)),
        ((0.0, 2.0, 3.0), 3.0, (0.0, 0.0, 1.0)),
        ((-0.0, 2.0, 3.0), 3.0, (0.0, 0.0, 1.0)),
        ((1e-300, inf, nan), inf, (0.0, 1.0, 0.0)),
        ((0.0, nan, -0.0), -0.0, (0.0, 0.0, 1.0)),
        # As a condition NaN is not 0, as in C and in Python.
        ((nan, 2.0, 3.0), 2.0, (0.0, 1.0, 0.0)),
    ],
    "stop_gradient": unary(UNARY, [0.0] * 9),
    "gt": comparison(0.0, 0.0, 1.0, 0.0),
    "ge": comparison(0.0, 1.0, 1.0, 0.0),
    "lt": comparison(1.0, 0.0, 0.0, 0.0),
    "le": comparison(1.0, 1.0, 0.0, 0.0),
    "eq": comparison(0.0, 1.0, 0.0, 0.0),
    "ne": comparison(1.0, 0.0, 1.0, 1.0),
}


def where(condition, x, y):
    return apply("where", condition, x, y)


#: name: (function of Values, inputs, value, gradients)
CONVENTIONS = {
    "abs'(0)": (abs, (0.0,), 0.0, (0.0,)),
    "abs'(-0)": (abs, (-0.0,), 0.0, (0.0,)),
    "relu'(0)": (lambda x: x.relu(), (0.0,), 0.0, (0.0,)),
    "tie of max": (lambda x, y: x.max(y), (3.0, 3.0), 3.0, (0.5, 0.5)),
    "tie of min": (lambda x, y: x.min(y), (3.0, 3.0), 3.0, (0.5, 0.5)),
    "max of a number and itself": (lambda x: x.max(x), (3.0,), 3.0, (1.0,)),
    "max(x, 0) at 0 is not relu": (lambda x: x.max(0.0), (0.0,), 0.0, (0.5,)),
    "x**2 at 0": (lambda x: x**2, (0.0,), 0.0, (0.0,)),
    "abs(x)**2 at 0": (lambda x: abs(x) ** 2, (0.0,), 0.0, (0.0,)),
    "x**0 at 0": (lambda x: x**0, (0.0,), 1.0, (0.0,)),
    "x**1 at 0": (lambda x: x**1, (0.0,), 0.0, (1.0,)),
    "x**-1 at 0": (lambda x: x**-1, (0.0,), inf, (-inf,)),
    "pow(0, 2)": (lambda x, y: x**y, (0.0, 2.0), 0.0, (0.0, 0.0)),
    "pow(-2, 3)": (lambda x, y: x**y, (-2.0, 3.0), -8.0, (12.0, nan)),
    "x**3 at -2": (lambda x: x**3, (-2.0,), -8.0, (12.0,)),
    "pow(0, 0)": (lambda x, y: x**y, (0.0, 0.0), 1.0, (0.0, 0.0)),
    "2**y": (lambda y: 2**y, (3.0,), 8.0, (8 * LOG_2,)),
    "cube root of a negative number": (lambda x: x ** (1 / 3), (-8.0,), nan, (nan,)),
    "sqrt'(0)": (lambda x: x.sqrt(), (0.0,), 0.0, (inf,)),
    "x**0.5 at 0": (lambda x: x**0.5, (0.0,), 0.0, (inf,)),
    "sqrt(x * x) at 0": (lambda x: (x * x).sqrt(), (0.0,), 0.0, (nan,)),
    "log(0)": (lambda x: x.log(), (0.0,), -inf, (inf,)),
    "1 / 0": (lambda x: 1 / x, (0.0,), inf, (-inf,)),
    "log outside the selected branch": (lambda x: where(x > 0, x.log(), 0.0), (0.0,), 0.0, (0.0,)),
    "log inside the selected branch": (lambda x: where(x > 0, x.log(), 0.0), (4.0,), 2 * LOG_2, (0.25,)),
    "sqrt outside the selected branch": (lambda x: where(x <= 0, 2 * x, x.sqrt()), (0.0,), 0.0, (2.0,)),
    "the condition gets no gradient": (lambda c, x: where(c, x, 2 * x), (1.0, 5.0), 5.0, (0.0, 1.0)),
    "a comparison passes no gradient": (lambda x: (x >= 2.0) * x, (3.0,), 3.0, (1.0,)),
    "stop_gradient": (lambda x: x * x.stop_gradient(), (3.0,), 9.0, (3.0,)),
    "stop_gradient of an infinite derivative": (lambda x: x.sqrt().stop_gradient() + x, (0.0,), 0.0, (1.0,)),
    "tanh(1000)": (lambda x: x.tanh(), (1000.0,), 1.0, (0.0,)),
    "tanh(-1000)": (lambda x: x.tanh(), (-1000.0,), -1.0, (0.0,)),
    "tanh'(20), 0 in PyTorch": (lambda x: x.tanh(), (20.0,), 1.0, (1.699341702116636e-17,)),
    "sigmoid'(40), 0 in PyTorch": (lambda x: x.sigmoid(), (40.0,), 1.0, (4.248354255291589e-18,)),
    "sigmoid(-800)": (lambda x: x.sigmoid(), (-800.0,), 0.0, (0.0,)),
    "softplus(1000)": (lambda x: x.softplus(), (1000.0,), 1000.0, (1.0,)),
    "softplus(-800)": (lambda x: x.softplus(), (-800.0,), 0.0, (0.0,)),
    "exp(1000)": (lambda x: x.exp(), (1000.0,), inf, (inf,)),
    "NaN from the start: inf - inf": (lambda x: x * 1e300 - x * 1e300, (1e300,), nan, (0.0,)),
    "NaN stays NaN": (lambda x: (x.log().relu() + abs(x.log())).max(1.0), (-1.0,), nan, (nan,)),
}
