"""Numbers of a flat array by their place, one at a time or eight side by side.

Eight float64 fill a vector of AVX-512, two of AVX2, four of SSE2: the compiler cuts them to what the processor has, and
each of the eight is rounded by itself, so that the bits are those of a loop over them. A multiplication and an addition
stay two operations with two roundings.

A place is not checked, and a negative one does not count from the end.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from chainrule_engine.schedule import LANES


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.DoubleType(), LANES))


_lanes = _Lanes()


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [place], inbounds=True)


def _lanes_address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    address = _address(context, builder, array_type, array, place)
    return builder.bitcast(address, ir.VectorType(ir.DoubleType(), LANES).as_pointer())


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


@intrinsic
def get_lanes(context: Any, array: Any, place: Any) -> Any:
    """Return the eight numbers from a place on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_lanes_address(context, builder, signature.args[0], *args), align=8)

    return _lanes(array, types.intp), generate


@intrinsic
def put_lanes(context: Any, array: Any, place: Any, numbers: Any) -> Any:
    """Write eight numbers from a place on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _lanes_address(context, builder, signature.args[0], args[0], args[1]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


def _all(builder: Any, number: Any) -> Any:
    kind = ir.VectorType(ir.DoubleType(), LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


@intrinsic
def same(context: Any, number: Any) -> Any:
    """Return a number eight times."""
    return _lanes(types.float64), lambda context, builder, signature, args: _all(builder, args[0])


@intrinsic
def add_product(context: Any, total: Any, factor: Any, numbers: Any) -> Any:
    """Return total + factor·numbers, where the total and the numbers are eight and the factor is one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], builder.fmul(_all(builder, args[1]), args[2]))

    return _lanes(_lanes, types.float64, _lanes), generate
