"""The table of operations in machine code: one loop over numbers for each value and each partial derivative.

Each is compiled from the function that stands in the table, once, and kept on disk for itself; the kernels call it by
its name and know nothing of what it computes. Nothing is compiled as text, and no operation is known here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import carray, cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numba.extending import overload as native

from chainrule_engine.compiled.cache import FINGERPRINT, MODULES, kept_on_disk
from chainrule_engine.compiled.lanes import at, pointer
from chainrule_engine.elementary import NAN, basic, circular, powers
from chainrule_engine.operations import CODES, OPERATIONS, Constant, Operand
from chainrule_engine.schedule import HALF, LANES

Array = Any

# A loop over numbers becomes vector instructions only where the functions in it are part of it.
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


_NATIVE: set[Any] = {basic.power_of_two, basic.split, basic.divide}
# Rare and long: a call costs less than a copy in every loop, and the compilation of that.
_CALLED = {circular._reduced_huge_angle, circular._digit}
_REGISTERED = set(_NATIVE)

for _module in MODULES:
    for _function in vars(_module).values():
        _own = isinstance(_function, FunctionType) and _function.__module__ == _module.__name__
        if _own and _function not in _NATIVE:
            register_jitable(error_model="numpy", forceinline=_function not in _CALLED)(_function)
            _REGISTERED.add(_function)


def _power(x: float, y: float) -> float:
    general = powers.power_general(x, y)  # whatever y is: a branch would keep a loop from being vector instructions
    return x * x if y == 2.0 else general


# Python's operators are no functions that Numba could compile from their source.
_IN_OTHER_WORDS: dict[Any, Any] = {
    powers.power: _power,
    operator.add: lambda x, y: x + y,
    operator.sub: lambda x, y: x - y,
    operator.mul: lambda x, y: x * y,
    operator.neg: lambda x: -x,
    operator.abs: lambda x: abs(x),
}

inlined = register_jitable(**_INLINED)


def in_machine_code(function: Callable[..., Any]) -> Any:
    """Make a function of the table callable in a kernel."""
    function = _IN_OTHER_WORDS.get(function, function)
    return function if function in _REGISTERED else inlined(function)


def _usual_sin(x: float) -> float:
    return circular.sin_moderate(x) if abs(x) <= circular.MODERATE_ANGLE else NAN


def _usual_cos(x: float) -> float:
    return circular.cos_moderate(x) if abs(x) <= circular.MODERATE_ANGLE else NAN


def _usual_power(x: float, y: float) -> float:
    return x * x if y == 2.0 else NAN


@inlined
def _usual_power_base_derivative(x: float, y: float) -> float:
    return x + x if y == 2.0 else NAN


# A branch of these is rare, and keeps a loop from being vector instructions; or one is common and far cheaper.
_USUAL: dict[Any, Any] = {
    circular.sin: _usual_sin,
    circular.cos: _usual_cos,
    powers.power: _usual_power,
    powers.power_base_derivative: _usual_power_base_derivative,
}


def _usually(function: Any) -> Any:
    """Return the function as it is for usual arguments, and NaN for others; None where it knows no difference.

    It must not turn such a NaN into a number; the tests at the edges would tell.
    """
    if not isinstance(function, FunctionType) or function in _USUAL:
        return _USUAL.get(function)
    called = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    usual = {name: _USUAL[f] for name, f in called.items() if isinstance(f, FunctionType) and f in _USUAL}
    if not usual:
        return None
    return FunctionType(function.__code__, function.__globals__ | usual, closure=function.__closure__)


def _taking_all(function: Callable[..., Any], count: int) -> Any:
    """Give a function of `count` numbers the form (key, x, y, w), which ignores what it does not need."""
    f = in_machine_code(function)
    forms = (lambda key, x, y, w: f(x), lambda key, x, y, w: f(x, y), lambda key, x, y, w: f(x, y, w))
    return forms[count - 1]


def _taking_all_and_result(partial: Callable[..., float], arity: int) -> Any:
    """Give a partial derivative of (x, …, z) the form (key, x, y, w, z)."""
    f = in_machine_code(partial)
    forms = (
        lambda key, x, y, w, z: f(x, z),
        lambda key, x, y, w, z: f(x, y, z),
        lambda key, x, y, w, z: f(x, y, w, z),
    )
    return forms[arity - 1]


def _one_where(holds: Callable[..., bool], count: int) -> Any:
    f = in_machine_code(holds)
    forms = (
        lambda x: 1.0 if f(x) else 0.0,
        lambda x, y: 1.0 if f(x, y) else 0.0,
        lambda x, y, w: 1.0 if f(x, y, w) else 0.0,
    )
    return forms[count - 1]


_OPERATIONS = tuple(OPERATIONS.values())
SELECTIVE = np.array([operation.selective for operation in _OPERATIONS])
ARITY = np.array([operation.arity for operation in _OPERATIONS], np.int8)
# By 3·code + place: where a partial derivative comes from, the number of a constant one, the place of an operand (3 is
# the result).
COMPUTED, CONSTANT, OPERAND = 0, 1, 2
KIND = np.zeros(3 * len(_OPERATIONS), np.int8)
NUMBER = np.zeros(3 * len(_OPERATIONS))
PLACE = np.zeros(3 * len(_OPERATIONS), np.int8)

# By code, and by 3·code + place; and by -1 minus that what does for usual arguments, where this makes a difference.
_VALUES = {CODES[o.name]: _taking_all(o.value, o.arity) for o in _OPERATIONS}
_VALUES |= {-1 - CODES[o.name]: _taking_all(usual, o.arity) for o in _OPERATIONS if (usual := _usually(o.value))}
_PARTIALS: dict[int, Any] = {}
for _code, _operation in enumerate(_OPERATIONS):
    for _key, _partial in enumerate(_operation.partials, 3 * _code):
        if isinstance(_partial, Constant):
            KIND[_key], NUMBER[_key] = CONSTANT, _partial.number
        elif isinstance(_partial, Operand):
            KIND[_key], PLACE[_key] = OPERAND, _partial.position % 4
        else:
            _PARTIALS[_key] = _taking_all_and_result(_partial, _operation.arity)
            if _usual := _usually(_partial):
                _PARTIALS[-1 - _key] = _taking_all_and_result(_usual, _operation.arity)

# Operations of one argument, by code, whose value and derivative are computed together: what both need, such as an
# exponential, is then computed once.
COMPUTED_TOGETHER = frozenset(
    code
    for code, operation in enumerate(_OPERATIONS)
    if operation.arity == 1 and 3 * code in _PARTIALS and {-1 - code, -1 - 3 * code}.isdisjoint({*_VALUES, *_PARTIALS})
)

# By code: the key of one more value, which is 1 at the operation's kink and 0 elsewhere; -1 where it has no kink.
KINK = np.full(len(_OPERATIONS), -1, np.int8)
_AT_KINK: dict[Any, int] = {}
for _code, _operation in enumerate(_OPERATIONS):
    if _operation.kink is not None:
        KINK[_code] = _AT_KINK.setdefault(_operation.kink.at, len(_OPERATIONS) + len(_AT_KINK))
        _VALUES[int(KINK[_code])] = _taking_all(_one_where(_operation.kink.at, _operation.arity), _operation.arity)


def _value(key: int, x: float, y: float, w: float) -> float:
    raise NotImplementedError("only in machine code")


def _partial_of(key: int, x: float, y: float, w: float, z: float) -> float:
    raise NotImplementedError("only in machine code")


# A literal key chooses at compile time. So a loop's closure holds a number and not the function, which Numba could not
# find again in its cache.
@native(_value, prefer_literal=True, strict=False, jit_options=_INLINED)
def _choose_value(key: Any, x: Any, y: Any, w: Any) -> Any:
    return _VALUES[key.literal_value] if isinstance(key, types.IntegerLiteral) else None


@native(_partial_of, prefer_literal=True, strict=False, jit_options=_INLINED)
def _choose_partial(key: Any, x: Any, y: Any, w: Any, z: Any) -> Any:
    return _PARTIALS[key.literal_value] if isinstance(key, types.IntegerLiteral) else None


_NUMBERS = types.CPointer(types.float64)
_VALUE_ROW = types.void(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, types.int64)
_BOTH_ROW = types.void(_NUMBERS, _NUMBERS, types.int64)
_PARTIAL_ROW = types.void(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, types.int64)


def _row_of_values(key: int, lanes: int, fingerprint: str) -> Any:
    usual = -1 - key if -1 - key in _VALUES else key

    @cfunc(_VALUE_ROW, cache=True)
    def run(x: Any, y: Any, w: Any, z: Any, size: int) -> None:
        fingerprint, lanes
        xs, ys, ws, zs = carray(x, size), carray(y, size), carray(w, size), carray(z, size)
        for p in range(size):
            zs[p] = _value(usual, xs[p], ys[p], ws[p])
        if usual != key and _has_nan(zs):
            for p in range(size):
                zs[p] = _value(key, xs[p], ys[p], ws[p])

    return run


def _row_of_partials(key: int, lanes: int, fingerprint: str) -> Any:
    usual = -1 - key if -1 - key in _PARTIALS else key

    @cfunc(_PARTIAL_ROW, cache=True)
    def run(x: Any, y: Any, w: Any, z: Any, local: Any, size: int) -> None:
        fingerprint, lanes
        xs, ys, ws, zs, ls = carray(x, size), carray(y, size), carray(w, size), carray(z, size), carray(local, size)
        for p in range(size):
            ls[p] = _partial_of(usual, xs[p], ys[p], ws[p], zs[p])
        if usual != key and _has_nan(ls):
            for p in range(size):
                ls[p] = _partial_of(key, xs[p], ys[p], ws[p], zs[p])

    return run


def _row_of_both(code: int, lanes: int, fingerprint: str) -> Any:
    key = 3 * code

    @cfunc(_BOTH_ROW, cache=True)
    def run(x: Any, z: Any, size: int) -> None:
        fingerprint, lanes
        xs, zs = carray(x, size), carray(z, size)
        for p in range(size):
            x_p = xs[p]
            z_p = _value(code, x_p, x_p, x_p)
            zs[p] = z_p
            xs[p] = _partial_of(key, x_p, x_p, x_p, z_p)

    return run


@inlined
def _has_nan(numbers: Array) -> bool:
    count = 0
    for p in range(numbers.size):
        count += numbers[p] != numbers[p]
    return count > 0


@contextmanager
def _taking(count: int) -> Iterator[None]:
    """Compile loops that take so many numbers at once, also where the processor's vectors are shorter.

    The functions are long chains of operations that wait for each other: two vectors side by side wait together. More
    than one such run at once would leave short rows to the loop over what is left, which takes them one by one.
    """
    binding.set_option("", f"-force-vector-width={count}")
    binding.set_option("", "-force-vector-interleave=1")
    try:
        yield
    finally:
        binding.set_option("", "-force-vector-width=0")
        binding.set_option("", "-force-vector-interleave=0")


def _call_by_key(name: str, keys: Iterable[int], make: Callable[[int, int, str], Any], numbers: int) -> Any:
    """Compile the loops of each key, by LANES and by HALF of them, and return what calls them.

    That takes: key, pointers to the numbers, how many of these to take by LANES (a multiple of it), how many in all.
    """
    keys = [key for key in keys if key >= 0]
    for lanes in (LANES, HALF):
        with kept_on_disk(), _taking(lanes):
            for key in keys:
                # Where the loops of two widths differ in nothing else, the width is a part of the key in the cache.
                binding.add_symbol(f"chainrule_{name}_{key}_by_{lanes}", make(key, lanes, FINGERPRINT).address)
    signature = types.void(types.int64, *[_NUMBERS] * numbers, types.int64, types.int64)
    kind = ir.FunctionType(ir.VoidType(), [ir.DoubleType().as_pointer()] * numbers + [ir.IntType(64)])

    def generate_loops(builder: Any, lanes: int, key: Any, pointers: Any, count: Any) -> None:
        after = builder.append_basic_block("after")
        choice = builder.switch(key, after)
        for case in keys:
            block = builder.append_basic_block(f"{name}_{case}_by_{lanes}")
            choice.add_case(case, block)
            builder.position_at_end(block)
            function = cgutils.get_or_insert_function(builder.module, kind, f"chainrule_{name}_{case}_by_{lanes}")
            builder.call(function, [*pointers, count])
            builder.branch(after)
        builder.position_at_end(after)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        key, *pointers, whole, size = args
        with builder.if_then(builder.icmp_signed(">", whole, whole.type(0))):
            generate_loops(builder, LANES, key, pointers, whole)
        with builder.if_then(builder.icmp_signed("<", whole, size)):
            rest = [builder.gep(pointer, [whole]) for pointer in pointers]
            generate_loops(builder, HALF, key, rest, builder.sub(size, whole))
        return context.get_dummy_value()

    return signature, generate


_value_call = _call_by_key("value", _VALUES, _row_of_values, 4)
_partial_call = _call_by_key("partial", _PARTIALS, _row_of_partials, 5)
_both_call = _call_by_key("both", sorted(COMPUTED_TOGETHER), _row_of_both, 2)


@intrinsic
def run_values(context: Any, key: Any, x: Any, y: Any, w: Any, z: Any, whole: Any, size: Any) -> Any:
    """Compute `size` values of operation `key` from its arguments' pointers: to z, `whole` of them by LANES."""
    return _value_call


@intrinsic
def run_partials(context: Any, key: Any, x: Any, y: Any, w: Any, z: Any, local: Any, whole: Any, size: Any) -> Any:
    """Compute `size` numbers of the partial derivative `key` from the operands' pointers: to `local`, as above."""
    return _partial_call


@intrinsic
def run_both(context: Any, code: Any, x: Any, z: Any, whole: Any, size: Any) -> Any:
    """Compute `size` values of operation `code` of the numbers at x: to z, and the derivatives to x itself."""
    return _both_call


@inlined
def _place(v: Array, row: int, low: int) -> Any:
    return at(pointer(v), row * v.shape[1] + low)


@inlined
def compute_row(code: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int) -> None:
    """Compute the values of row t from `low` to `high` from the rows of its arguments, each row being contiguous."""
    x, y, w, z = _place(v, a, low), _place(v, b, low), _place(v, c, low), _place(v, t, low)
    run_values(code, x, y, w, z, (high - low) // LANES * LANES, high - low)


@inlined
def compute_partial_row(key: int, v: Array, t: int, a: int, b: int, c: int, low: int, high: int, local: Array) -> None:
    """Compute the partial derivative `key` of row t from `low` to `high` into `local`."""
    x, y, w, z = _place(v, a, low), _place(v, b, low), _place(v, c, low), _place(v, t, low)
    run_partials(key, x, y, w, z, pointer(local), (high - low) // LANES * LANES, high - low)
