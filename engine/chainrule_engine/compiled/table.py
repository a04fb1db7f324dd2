"""The table of operations in machine code: its functions, folded into one choice by an operation's number.

Each value and each partial derivative is compiled from the function that stands in the table. Nothing is compiled as
text, and no operation is known here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, register_jitable
from numba.extending import overload as native

from chainrule_engine.compiled.cache import MODULES
from chainrule_engine.elementary import basic, circular, powers
from chainrule_engine.operations import OPERATIONS, Constant, Operand

Array = Any

# A loop over the points becomes vector instructions only where the functions in it are part of it.
_INLINED = {"error_model": "numpy", "forceinline": True}


@intrinsic
def _bits(context: Any, x: Any) -> Any:
    """Return the float64's bits, as an int64."""
    return types.int64(types.float64), lambda c, builder, s, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def _float_of(context: Any, bits: Any) -> Any:
    """Return the float64 with these bits."""
    return types.float64(types.int64), lambda c, builder, s, args: builder.bitcast(args[0], ir.DoubleType())


@native(basic.power_of_two, jit_options=_INLINED, inline="always")
def _power_of_two(k: Any) -> Any:
    def power_of_two(k: Any) -> Any:
        # 2**52 + n keeps the integer n in its last bits; shifted up, n = k + 1023 is the exponent's field.
        return _float_of(_bits(k + (4503599627370496.0 + 1023.0)) << 52)

    return power_of_two


@native(basic.split, jit_options=_INLINED, inline="always")
def _split(x: Any) -> Any:
    def split(x: Any) -> Any:
        subnormal = x < 2.0**-1022
        bits = _bits(x * 2.0**54 if subnormal else x)
        m = _float_of((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000)
        # The same the other way: the exponent's field as the last bits of 2**52 + n.
        e = _float_of((bits >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1022.0)
        return m, e - 54.0 if subnormal else e

    return split


@native(basic.divide, jit_options=_INLINED, inline="always")
def _divide(x: Any, y: Any) -> Any:
    def divide(x: Any, y: Any) -> Any:
        return x / y  # IEEE 754's division is total; it is Python's that raises

    return divide


_NATIVE = {basic.power_of_two, basic.split, basic.divide}
# Rare and long: a call costs less than a copy in every loop, and the compilation of that.
_CALLED = {circular._reduced_huge_angle, circular._digit, powers._power_of_positive}
_REGISTERED = set(_NATIVE)

for _module in MODULES:
    for _function in vars(_module).values():
        _own = isinstance(_function, FunctionType) and _function.__module__ == _module.__name__
        if _own and _function not in _NATIVE:
            register_jitable(error_model="numpy", forceinline=_function not in _CALLED)(_function)
            _REGISTERED.add(_function)

# Python's operators are no functions that Numba could compile from their source.
_OPERATORS: dict[Any, Any] = {
    operator.add: lambda x, y: x + y,
    operator.sub: lambda x, y: x - y,
    operator.mul: lambda x, y: x * y,
    operator.neg: lambda x: -x,
    operator.abs: lambda x: abs(x),
}

inlined = register_jitable(**_INLINED)
_jit = njit(error_model="numpy", nogil=True)


def in_machine_code(function: Callable[..., float]) -> Any:
    function = _OPERATORS.get(function, function)
    return function if function in _REGISTERED else inlined(function)


def _taking_three(value: Callable[..., float], arity: int) -> Any:
    """Give a value of (x, …) the form (code, x, y, w), which ignores what it does not need."""
    f = in_machine_code(value)
    forms = (lambda code, x, y, w: f(x), lambda code, x, y, w: f(x, y), lambda code, x, y, w: f(x, y, w))
    return inlined(forms[arity - 1])


def _taking_four(partial: Callable[..., float], arity: int) -> Any:
    """Give a partial derivative of (x, …, z) the form (code, x, y, w, z)."""
    if isinstance(partial, Constant):
        number = partial.number
        return inlined(lambda code, x, y, w, z: number)
    if isinstance(partial, Operand):
        place = partial.position
        return inlined(lambda code, x, y, w, z: (x, y, w, z)[place])
    f = in_machine_code(partial)
    forms = (
        lambda code, x, y, w, z: f(x, z),
        lambda code, x, y, w, z: f(x, y, z),
        lambda code, x, y, w, z: f(x, y, w, z),
    )
    return inlined(forms[arity - 1])


def _value_row(f: Any) -> Any:
    """Return the loop over the points of a block: a value from the rows of its arguments."""

    @_jit
    def run(code: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int) -> None:
        x, y, w, z = v[a, low:high], v[b, low:high], v[c, low:high], v[t, low:high]
        for p in range(z.size):
            z[p] = f(code, x[p], y[p], w[p])

    return run


def _partial_row(f: Any) -> Any:
    """Return the loop over the points of a block: a partial derivative, into `local`."""

    @_jit
    def run(code: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int, local: Array) -> None:
        x, y, w, z = v[a, low:high], v[b, low:high], v[c, low:high], v[t, low:high]
        for p in range(z.size):
            local[p] = f(code, x[p], y[p], w[p], z[p])

    return run


def _choice_of_value(middle: int, below: Any, above: Any) -> Any:
    @inlined
    def pick(code: int, x: float, y: float, w: float) -> Any:
        return below(code, x, y, w) if code < middle else above(code, x, y, w)

    return pick


def _choice_of_partial(middle: int, below: Any, above: Any) -> Any:
    @inlined
    def pick(code: int, x: float, y: float, w: float, z: float) -> Any:
        return below(code, x, y, w, z) if code < middle else above(code, x, y, w, z)

    return pick


def _choice_of_value_row(middle: int, below: Any, above: Any) -> Any:
    @inlined
    def pick(code: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int) -> None:
        if code < middle:
            below(code, v, t, a, b, c, low, high)
        else:
            above(code, v, t, a, b, c, low, high)

    return pick


def _choice_of_partial_row(middle: int, below: Any, above: Any) -> Any:
    @inlined
    def pick(code: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int, local: Array) -> None:
        if code < middle:
            below(code, v, t, a, b, c, low, high, local)
        else:
            above(code, v, t, a, b, c, low, high, local)

    return pick


def _fold(choice: Callable[[int, Any, Any], Any], arms: Sequence[tuple[int, Any]]) -> Any:
    """Fold (code, function) arms, in the order of their codes, into one function that takes the code first.

    By halves, because the compiler works on all of what an arm holds once more at each level.
    """
    if len(arms) == 1:
        return arms[0][1]
    half = len(arms) // 2
    return choice(arms[half][0], _fold(choice, arms[:half]), _fold(choice, arms[half:]))


# An operation's code is its place in the table.
_OPERATIONS = tuple(OPERATIONS.values())
CODES = {operation.name: code for code, operation in enumerate(_OPERATIONS)}
SELECTIVE = np.array([operation.selective for operation in _OPERATIONS])
_PARTIALS = [
    (3 * code + place, partial, operation.arity)
    for code, operation in enumerate(_OPERATIONS)
    for place, partial in enumerate(operation.partials)
]
# By 3·code + place: where a partial derivative comes from, the number of a constant one, the place of an operand.
COMPUTED, CONSTANT, OPERAND = 0, 1, 2
KIND = np.zeros(3 * len(_OPERATIONS), np.int8)
NUMBER = np.zeros(3 * len(_OPERATIONS))
PLACE = np.zeros(3 * len(_OPERATIONS), np.int8)
for _key, _partial, _ in _PARTIALS:
    if isinstance(_partial, Constant):
        KIND[_key], NUMBER[_key] = CONSTANT, _partial.number
    elif isinstance(_partial, Operand):
        KIND[_key], PLACE[_key] = OPERAND, _partial.position % 4

_VALUES = [(code, _taking_three(o.value, o.arity)) for code, o in enumerate(_OPERATIONS)]
_DERIVATIVES = [(key, _taking_four(partial, arity)) for key, partial, arity in _PARTIALS]
value = _fold(_choice_of_value, _VALUES)
partial_1, partial_2, partial_3 = (
    _fold(_choice_of_partial, [(key // 3, arm) for key, arm in _DERIVATIVES if key % 3 == place]) for place in range(3)
)
compute_row = _fold(_choice_of_value_row, [(code, _value_row(f)) for code, f in _VALUES])
compute_partial_row = _fold(
    _choice_of_partial_row,
    [(key, _partial_row(f)) for key, f in _DERIVATIVES if KIND[key] == COMPUTED],
)
