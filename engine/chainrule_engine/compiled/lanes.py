"""Numbers by where they stand in memory, one at a time, or eight or four side by side.

Eight float64 fill a vector of AVX-512, two of AVX2, four of SSE2: the compiler cuts them to what the processor has, and
each of them is rounded by itself, so that the bits are those of a loop over them. A multiplication and an addition stay
two operations with two roundings.

Inside of a kernel numbers are found by pointers. An array is seven numbers to hand over, with a reference to count,
which costs more than many a loop here; a pointer is one. No place is checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

from chainrule_engine.schedule import HALF, LANES


class _Lanes(types.Type):
    def __init__(self, count: int) -> None:
        super().__init__(name=f"Lanes({count})")
        self.count = count


def _vector(count: int) -> Any:
    return ir.VectorType(ir.DoubleType(), count)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _vector(kind.count))


@intrinsic
def pointer(context: Any, array: Any) -> Any:
    """Return where the first number of a contiguous array stands. Whoever calls must hold the array."""
    if array.layout != "C":
        raise TypingError("only an array whose numbers stand side by side is told by a pointer")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, value=args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def at(context: Any, p: Any, place: Any) -> Any:
    """Return where the number stands that is `place` numbers further on."""
    return p(p, types.intp), lambda context, builder, signature, args: _further(builder, *args)


def _further(builder: Any, p: Any, place: Any) -> Any:
    return builder.gep(p, [place], inbounds=True)


@intrinsic
def get(context: Any, p: Any, place: Any) -> Any:
    """Return the number at a place."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_further(builder, *args))

    return p.dtype(p, types.intp), generate


@intrinsic
def put(context: Any, p: Any, place: Any, number: Any) -> Any:
    """Write a number to a place."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _further(builder, *args[:2]))
        return context.get_dummy_value()

    return types.void(p, types.intp, p.dtype), generate


def _lanes_at(builder: Any, count: int, p: Any, place: Any) -> Any:
    return builder.bitcast(_further(builder, p, place), _vector(count).as_pointer())


def spread(builder: Any, number: Any, count: int) -> Any:
    """Write the instructions that put a number in every one of so many lanes."""
    kind = _vector(count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return _shuffled(builder, [0] * count, first, ir.Constant(kind, ir.Undefined))


def _shuffled(builder: Any, places: list[int], x: Any, y: Any) -> Any:
    """Write the instruction that picks lanes: those of y have the places behind those of x."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _made_of(count: int) -> tuple[Any, Any]:
    lanes = _Lanes(count)

    @intrinsic
    def get_some(context: Any, p: Any, place: Any) -> Any:
        """Return the numbers from a place on."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_lanes_at(builder, count, *args), align=8)

        return lanes(p, types.intp), generate

    @intrinsic
    def repeat(context: Any, number: Any) -> Any:
        """Return a number in every lane."""
        return lanes(types.float64), lambda context, builder, signature, args: spread(builder, args[0], count)

    return get_some, repeat


get_lanes, same = _made_of(LANES)
get_half, same_half = _made_of(HALF)


@intrinsic
def put_lanes(context: Any, p: Any, place: Any, numbers: Any) -> Any:
    """Write numbers from a place on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _lanes_at(builder, numbers.count, *args[:2]), align=8)
        return context.get_dummy_value()

    return types.void(p, types.intp, numbers), generate


@intrinsic
def put_columns(context: Any, p: Any, place: Any, step: Any, rows: Any) -> Any:
    """Write the first numbers of halves (a tuple of four, or of LANES) from a place on, side by side and at once; their
    second ones `step` places further on, and so on.
    """

    def columns(builder: Any, a: Any, b: Any, c: Any, d: Any) -> list[Any]:
        # Of two rows the numbers 0 and 2 in turn, or 1 and 3; then of two such pairs the first halves, or the second.
        even, odd, low, high = [0, 4, 2, 6], [1, 5, 3, 7], [0, 1, 4, 5], [2, 3, 6, 7]
        evens = _shuffled(builder, even, a, b), _shuffled(builder, even, c, d)
        odds = _shuffled(builder, odd, a, b), _shuffled(builder, odd, c, d)
        return [_shuffled(builder, places, *pair) for places in (low, high) for pair in (evens, odds)]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        p, place, step, packed = args
        count = len(signature.args[3])
        halves = [builder.extract_value(packed, k) for k in range(count)]
        sides = [columns(builder, *halves[k : k + HALF]) for k in range(0, count, HALF)]
        for parts in zip(*sides, strict=True):
            column = parts[0] if len(parts) == 1 else _shuffled(builder, list(range(LANES)), *parts)
            builder.store(column, _lanes_at(builder, count, p, place), align=8)
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.void(p, types.intp, types.intp, rows), generate


@intrinsic
def plus(context: Any, x: Any, y: Any) -> Any:
    """Return x + y, lane by lane."""
    return x(x, x), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def times(context: Any, x: Any, y: Any) -> Any:
    """Return x·y, lane by lane."""
    return x(x, x), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def add_product(context: Any, total: Any, factor: Any, numbers: Any) -> Any:
    """Return total + factor·numbers, where the total and the numbers are several and the factor is one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors = spread(builder, args[1], signature.return_type.count)
        return builder.fadd(args[0], builder.fmul(factors, args[2]))

    return total(total, types.float64, numbers), generate
