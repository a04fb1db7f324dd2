"""The table of operations: the only place that knows one.

An operation is a value, one partial derivative per argument, and the second partials that are not zero, all plain
functions of float64. Everything else is derived from this table: the `Value` class, the tape, the node list and program
text, the catalogue of the service, the documentation, the gradient checks and the tests. To add an operation, add one
entry.

A partial derivative receives the arguments and then the result (so that exp' can be its own result).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chainrule_engine.curvature import (
    divide_mixed,
    divide_second,
    log_second,
    power_base_second,
    power_exponent_second,
    power_mixed,
    sigmoid_second,
    sqrt_second,
    tanh_second,
)
from chainrule_engine.elementary import (
    NAN,
    cos,
    divide,
    divide_derivative,
    exp,
    log,
    power,
    power_base_derivative,
    power_exponent_derivative,
    sigmoid,
    sigmoid_derivative,
    sin,
    softplus,
    sqrt,
    tanh,
    tanh_derivative,
)

#: Counts changes of a value, a derivative or a convention at a kink: two answers are comparable when it is equal.
CONVENTIONS_VERSION = 1

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kink:
    """Where an operation has a kink or a jump.

    at        (x, …) → whether the point is exactly there
    interval  the admissible partial derivatives there; an empty tuple where the result jumps and there are none
    """

    at: Callable[..., bool]
    interval: Interval | tuple[()]

    def __call__(self, *args: float) -> Interval | tuple[()] | None:
        """Return the interval where the point is exactly at the kink or jump, None elsewhere."""
        return self.interval if self.at(*args) else None


@dataclass(frozen=True, slots=True)
class Operation:
    """One scalar operation.

    name         its word on the wire
    value        (x, …) → z
    partials     one (x, …, z) → ∂z/∂argument for each argument; their number is the arity
    latex        a formula with one {} per argument
    description  one line
    domain       where the value is a number, in words
    symbol       what a drawing's bubble shows; the name where none is given
    conventions  what is chosen where calculus leaves a choice
    kink         where it has a kink or a jump; None where it has neither
    selective    a partial of exactly 0 is no path at all: nothing flows back along it, not even 0·inf = NaN
    folds        in program text a call may give more than two arguments, which are folded from the left
    second_partials  (i, j) with i ≤ j, counted from 0: (x, …, z) → ∂²z/∂i∂j; a pair that is left out is 0 everywhere,
                 a kink included
    """

    name: str
    value: Callable[..., float]
    partials: tuple[Callable[..., float], ...]
    latex: str
    description: str
    domain: str = "all numbers"
    symbol: str = ""
    conventions: str = ""
    kink: Kink | None = None
    selective: bool = False
    folds: bool = False
    second_partials: Mapping[tuple[int, int], Callable[..., float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.symbol:
            object.__setattr__(self, "symbol", self.name)

    @property
    def arity(self) -> int:
        """The number of arguments."""
        return len(self.partials)


@dataclass(frozen=True, slots=True)
class Constant:
    """A partial derivative that is the same number everywhere; a kernel need not compute it."""

    number: float

    def __call__(self, *_: float) -> float:
        """Return the number."""
        return self.number


@dataclass(frozen=True, slots=True)
class Operand:
    """A partial derivative that is one of the operation's numbers: an argument by its position, -1 for the result."""

    position: int

    def __call__(self, *numbers: float) -> float:
        """Pick it from (*arguments, result)."""
        return numbers[self.position]


_ZERO, ONE, _MINUS_ONE = Constant(0.0), Constant(1.0), Constant(-1.0)


def _is_zero(x: float) -> bool:
    return x == 0.0


def _is_tie(x: float, y: float) -> bool:
    return x == y


# A NaN argument gives a NaN derivative: each of these falls through to NaN when no comparison holds.


def _abs_partial(x: float, z: float) -> float:
    return 1.0 if x > 0.0 else -1.0 if x < 0.0 else 0.0 if x == 0.0 else NAN


def _relu(x: float) -> float:
    return 0.0 if x <= 0.0 else x


def _relu_partial(x: float, z: float) -> float:
    return 1.0 if x > 0.0 else 0.0 if x <= 0.0 else NAN


def _max(x: float, y: float) -> float:
    return x if x >= y or x != x else y


def _min(x: float, y: float) -> float:
    return x if x <= y or x != x else y


def _first_larger(x: float, y: float, z: float) -> float:
    return 1.0 if x > y else 0.0 if x < y else 0.5 if x == y else NAN


def _second_larger(x: float, y: float, z: float) -> float:
    return _first_larger(y, x, z)


def _where(c: float, x: float, y: float) -> float:
    return x if c != 0.0 else y


def _comparison(name: str, holds: Callable[[float, float], bool], symbol: str, latex: str) -> Operation:
    return Operation(
        name,
        lambda x, y: 1.0 if holds(x, y) else 0.0,
        (_ZERO, _ZERO),
        latex,
        f"1 where x {symbol} y, else 0; for the condition of where",
        symbol=symbol,
        conventions="no gradient flows through a comparison",
        kink=Kink(_is_tie, ()),
        selective=True,
    )


_TABLE = (
    Operation("add", operator.add, (ONE, ONE), "{} + {}", "the sum x + y", symbol="+"),
    Operation("sub", operator.sub, (ONE, _MINUS_ONE), "{} - {}", "the difference x - y", symbol="-"),
    Operation(
        "mul",
        operator.mul,
        (Operand(1), Operand(0)),
        r"{} \cdot {}",
        "the product x · y",
        symbol="*",
        second_partials={(0, 1): ONE},
    ),
    Operation(
        "div",
        divide,
        (lambda x, y, z: divide(1.0, y), divide_derivative),
        r"\frac{{{}}}{{{}}}",
        "the quotient x / y",
        domain="y ≠ 0",
        symbol="/",
        second_partials={(0, 1): divide_mixed, (1, 1): divide_second},
    ),
    Operation("neg", operator.neg, (_MINUS_ONE,), "-{}", "the negation -x", symbol="-"),
    Operation(
        "pow",
        power,
        (lambda x, y, z: power_base_derivative(x, y), power_exponent_derivative),
        "{}^{{{}}}",
        "x to the power of y, differentiated in both",
        domain="x > 0, or x = 0 with y ≥ 0, or x < 0 with a whole y",
        symbol="**",
        conventions="∂/∂x is 0 where y = 0; ∂/∂y is 0 where x = 0 and y ≥ 0, and NaN where x < 0",
        second_partials={(0, 0): power_base_second, (0, 1): power_mixed, (1, 1): power_exponent_second},
    ),
    Operation(
        "abs",
        operator.abs,
        (_abs_partial,),
        r"\left|{}\right|",
        "the absolute value of x",
        conventions="derivative 0 at 0",
        kink=Kink(_is_zero, (-1.0, 1.0)),
    ),
    Operation(
        "exp",
        exp,
        (Operand(-1),),
        "e^{{{}}}",
        "e to the power of x",
        second_partials={(0, 0): Operand(-1)},
    ),
    Operation(
        "log",
        log,
        (lambda x, z: divide(1.0, x),),
        r"\ln {}",
        "the natural logarithm of x",
        domain="x > 0",
        second_partials={(0, 0): log_second},
    ),
    Operation(
        "sqrt",
        sqrt,
        (lambda x, z: divide(0.5, z),),
        r"\sqrt{{{}}}",
        "the square root of x",
        domain="x ≥ 0",
        conventions="derivative inf at 0",
        second_partials={(0, 0): sqrt_second},
    ),
    Operation(
        "sin",
        sin,
        (lambda x, z: cos(x),),
        r"\sin {}",
        "the sine of x radians",
        domain="finite x",
        second_partials={(0, 0): lambda x, z: -z},
    ),
    Operation(
        "cos",
        cos,
        (lambda x, z: -sin(x),),
        r"\cos {}",
        "the cosine of x radians",
        domain="finite x",
        second_partials={(0, 0): lambda x, z: -z},
    ),
    Operation(
        "tanh",
        tanh,
        (lambda x, z: tanh_derivative(x),),
        r"\tanh {}",
        "the hyperbolic tangent of x",
        second_partials={(0, 0): tanh_second},
    ),
    Operation(
        "sigmoid",
        sigmoid,
        (lambda x, z: sigmoid_derivative(x),),
        r"\sigma({})",
        "the logistic function 1 / (1 + exp(-x))",
        second_partials={(0, 0): sigmoid_second},
    ),
    Operation(
        "relu",
        _relu,
        (_relu_partial,),
        r"\max(0, {})",
        "x where x > 0, else 0",
        conventions="derivative 0 at 0",
        kink=Kink(_is_zero, (0.0, 1.0)),
    ),
    Operation(
        "softplus",
        softplus,
        (lambda x, z: sigmoid(x),),
        r"\ln(1 + e^{{{}}})",
        "the smooth relu log(1 + exp(x))",
        second_partials={(0, 0): lambda x, z: sigmoid_derivative(x)},
    ),
    Operation(
        "max",
        _max,
        (_first_larger, _second_larger),
        r"\max({}, {})",
        "the larger of x and y",
        conventions="a tie is split evenly: ½ and ½",
        kink=Kink(_is_tie, (0.0, 1.0)),
        folds=True,
    ),
    Operation(
        "min",
        _min,
        (_second_larger, _first_larger),
        r"\min({}, {})",
        "the smaller of x and y",
        conventions="a tie is split evenly: ½ and ½",
        kink=Kink(_is_tie, (0.0, 1.0)),
        folds=True,
    ),
    Operation(
        "where",
        _where,
        (_ZERO, lambda c, x, y, z: 1.0 if c != 0.0 else 0.0, lambda c, x, y, z: 0.0 if c != 0.0 else 1.0),
        r"\begin{{cases}} {1} & {0} \\ {2} & \text{{else}} \end{{cases}}",
        "x where c is not 0, else y",
        conventions="only the selected branch receives a gradient; the condition receives none",
        selective=True,
    ),
    Operation(
        "stop_gradient",
        lambda x: x,
        (_ZERO,),
        r"\operatorname{{sg}}({})",
        "x, through which no gradient flows",
        selective=True,
    ),
    _comparison("gt", operator.gt, ">", "[{} > {}]"),
    _comparison("ge", operator.ge, ">=", r"[{} \ge {}]"),
    _comparison("lt", operator.lt, "<", "[{} < {}]"),
    _comparison("le", operator.le, "<=", r"[{} \le {}]"),
    _comparison("eq", operator.eq, "==", "[{} = {}]"),
    _comparison("ne", operator.ne, "!=", r"[{} \ne {}]"),
)

#: Every operation by its name.
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}

#: An operation's code is its place in the table.
CODES: dict[str, int] = {name: code for code, name in enumerate(OPERATIONS)}
