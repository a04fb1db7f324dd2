"""Numbers of a flat array by their place, one at a time, or eight or four side by side.

Eight float64 fill a vector of AVX-512, two of AVX2, four of SSE2: the compiler cuts them to what the processor has, and
each of them is rounded by itself, so that the bits are those of a loop over them. A multiplication and an addition stay
two operations with two roundings.

A place is not checked, and a negative one does not count from the end.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
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


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [place], inbounds=True)


def _lanes_address(context: Any, builder: Any, array_type: Any, count: int, array: Any, place: Any) -> Any:
    address = _address(context, builder, array_type, array, place)
    return builder.bitcast(address, _vector(count).as_pointer())


def _step(context: Any, builder: Any, array_type: Any, array: Any, first: Any, step: Any) -> Any:
    # In two steps: so the compiler sees that a loop goes over neighbours, and makes vectors of them.
    return builder.gep(_address(context, builder, array_type, array, first), [step], inbounds=True)


@intrinsic
def get(context: Any, array: Any, first: Any, step: Any) -> Any:
    """Return the number at the place first + step."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_step(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp, types.intp), generate


@intrinsic
def put(context: Any, array: Any, first: Any, step: Any, number: Any) -> Any:
    """Write a number to the place first + step."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], _step(context, builder, signature.args[0], *args[:3]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, array.dtype), generate


def _spread(builder: Any, number: Any, count: int) -> Any:
    kind = _vector(count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def _made_of(count: int) -> tuple[Any, Any]:
    lanes = _Lanes(count)

    @intrinsic
    def get_lanes(context: Any, array: Any, place: Any) -> Any:
        """Return the numbers from a place on."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_lanes_address(context, builder, signature.args[0], count, *args), align=8)

        return lanes(array, types.intp), generate

    @intrinsic
    def same(context: Any, number: Any) -> Any:
        """Return a number in every lane."""
        return lanes(types.float64), lambda context, builder, signature, args: _spread(builder, args[0], count)

    return get_lanes, same


get_lanes, same = _made_of(LANES)
get_half, same_half = _made_of(HALF)


@intrinsic
def put_lanes(context: Any, array: Any, place: Any, numbers: Any) -> Any:
    """Write numbers from a place on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, _, lanes = signature.args
        builder.store(args[2], _lanes_address(context, builder, array_type, lanes.count, *args[:2]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers), generate


@intrinsic
def add_product(context: Any, total: Any, factor: Any, numbers: Any) -> Any:
    """Return total + factor·numbers, where the total and the numbers are several and the factor is one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors = _spread(builder, args[1], signature.return_type.count)
        return builder.fadd(args[0], builder.fmul(factors, args[2]))

    return total(total, types.float64, numbers), generate
