"""The two passes of a training over a block of points: the operations of a `Schedule`, as rows of whole numbers.

All numbers of a block stand side by side: row r at r times the block's size, and rows that hold data, which have the
last numbers, behind the others. A block's size is a multiple of HALF; what stands in the lanes behind the last point is
computed along, and never enters a sum.

A pass over few points takes as long as it takes to get from one operation to the next. So what an operation does is a
function of its own, to which pointers are handed over and no arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule_engine.compiled.lanes import (
    at,
    get,
    get_half,
    get_lanes,
    plus,
    put,
    put_columns,
    put_lanes,
    same,
    same_half,
    times,
)
from chainrule_engine.compiled.products import GIVEN, STANDING, ZERO, add_products, called, inner
from chainrule_engine.compiled.table import (
    CONSTANT,
    NUMBER,
    OPERAND,
    SELECTIVE,
    inlined,
    run_both,
    run_partials,
    run_values,
)
from chainrule_engine.schedule import HALF, LANES

Array = Any
Pointer = Any

WIDE, TOGETHER, DENSE, COPIED, PULL_WEIGHTS, PULL_INPUTS, CLEARED = range(3, 10)  # after CONSTANT, OPERAND, COMPUTED

#: How many whole numbers tell of an operation, and of a layer's weights.
OPERATION, WEIGHTS = 10, 5


@inlined
def _row_at(v: Pointer, row: int, rows: int, size: int, data: int) -> Any:
    """Return where a row stands: those from `rows` on are the data's."""
    return at(v, row * size if row < rows else data + (row - rows) * size)


@inlined
def _shape_of(layer: Pointer) -> Any:
    """Return (units, inputs, place of the first weight, distance per unit, distance per input): see `Weights`."""
    return get(layer, 0), get(layer, 1), get(layer, 2), get(layer, 3), get(layer, 4)


@inner
def fill(p: Pointer, size: int, number: float) -> None:
    """Write one number to `size` places, a multiple of HALF."""
    for i in range(0, size, HALF):
        put_lanes(p, i, same_half(number))


@inner
def copy(source: Pointer, to: Pointer, size: int) -> None:
    """Write `size` numbers, a multiple of HALF, to where others stand."""
    for i in range(0, size, HALF):
        put_lanes(to, i, get_half(source, i))


@called
def run_forward(
    operations: Pointer, count: int, weights: Pointer, v: Pointer, numbers: Pointer, rows: int, size: int, data: int
) -> None:
    """Compute the rows of a block in v: `size` numbers each, and the data's from the place `data` on."""
    for i in range(count):
        operation = at(operations, i * OPERATION)
        kind, t = get(operation, 0), at(v, get(operation, 3) * size)
        x = _row_at(v, get(operation, 4), rows, size, data)
        if kind == DENSE:
            units, inputs, place, per_unit, per_input = _shape_of(at(weights, get(operation, 1) * WEIGHTS))
            first = at(numbers, place)
            add_products(
                GIVEN, at(first, inputs * per_input), t, size, units, first, per_unit, per_input, x, size, inputs, size
            )
        elif kind == WIDE:
            run = get(operation, 2) * size
            y = _row_at(v, get(operation, 5), rows, size, data)
            w = _row_at(v, get(operation, 6), rows, size, data)
            run_values(get(operation, 1), x, y, w, t, run // LANES * LANES, run)
        elif kind == TOGETHER:
            run = get(operation, 2) * size
            run_both(get(operation, 1), x, t, run // LANES * LANES, run)
        else:
            copy(x, t, size)


def _adding(lanes: int, get_some: Any, same: Any) -> tuple[Any, Any]:
    """Return what adds a row times a row, and a row times a number, to a row of gradients, so many numbers at once."""

    @inner
    def add_products_of_rows(source: Pointer, factors: Pointer, to: Pointer, size: int, first: bool) -> None:
        if first:
            for i in range(0, size, lanes):
                put_lanes(to, i, plus(same(0.0), times(get_some(source, i), get_some(factors, i))))
        else:
            for i in range(0, size, lanes):
                put_lanes(to, i, plus(get_some(to, i), times(get_some(source, i), get_some(factors, i))))

    @inner
    def add_constant_product(source: Pointer, factor: float, to: Pointer, size: int, first: bool) -> None:
        factors = same(factor)
        if first:
            for i in range(0, size, lanes):
                put_lanes(to, i, plus(same(0.0), times(get_some(source, i), factors)))
        else:
            for i in range(0, size, lanes):
                put_lanes(to, i, plus(get_some(to, i), times(get_some(source, i), factors)))

    return add_products_of_rows, add_constant_product


_add_rows_by_lanes, _add_constant_by_lanes = _adding(LANES, get_lanes, same)
_add_rows_by_half, _add_constant_by_half = _adding(HALF, get_half, same_half)


@called
def _add_products_of_rows(source: Pointer, factors: Pointer, to: Pointer, size: int, first: bool) -> None:
    if size % LANES == 0:
        _add_rows_by_lanes(source, factors, to, size, first)
    else:
        _add_rows_by_half(source, factors, to, size, first)


@called
def _add_constant_product(source: Pointer, factor: float, to: Pointer, size: int, first: bool) -> None:
    if size % LANES == 0:
        _add_constant_by_lanes(source, factor, to, size, first)
    else:
        _add_constant_by_half(source, factor, to, size, first)


@called
def _add_where_reached(source: Pointer, factors: Pointer, to: Pointer, size: int, selective: bool) -> None:
    for i in range(size):
        upstream, factor = get(source, i), get(factors, i)
        # -0.0 says that nothing has come, and adding it changes nothing; what has come is never -0.0.
        none = (upstream == 0.0 and np.signbit(upstream)) or (selective and factor == 0.0)
        put(to, i, get(to, i) + (-0.0 if none else 0.0 + upstream * factor))


@inner
def _row_or(x: Pointer, row: int, r: int, rows: int, behind: Pointer, zeros: Pointer) -> Any:
    return at(x, r * row) if r < rows else (behind if r == rows else zeros)


@called
def _transpose(
    x: Pointer, row: int, rows: int, points: int, out: Pointer, width: int, behind: Pointer, zeros: Pointer
) -> None:
    """Write out[p, r] = x[r, p] for rows at a distance of `row`; then one column like a row elsewhere, and 0.0.

    row, width   multiples of HALF; so many points are read and written that they are one too
    behind, zeros   so many numbers for the column behind the rows, and so many 0.0
    """
    r = 0
    while r < width:
        x_0, x_1 = _row_or(x, row, r, rows, behind, zeros), _row_or(x, row, r + 1, rows, behind, zeros)
        x_2, x_3 = _row_or(x, row, r + 2, rows, behind, zeros), _row_or(x, row, r + 3, rows, behind, zeros)
        if r + LANES <= width:
            # What will be read as LANES is written as LANES: the processor hands on no two writes to one read.
            x_4, x_5 = _row_or(x, row, r + 4, rows, behind, zeros), _row_or(x, row, r + 5, rows, behind, zeros)
            x_6, x_7 = _row_or(x, row, r + 6, rows, behind, zeros), _row_or(x, row, r + 7, rows, behind, zeros)
            for p in range(0, points, HALF):
                four = get_half(x_0, p), get_half(x_1, p), get_half(x_2, p), get_half(x_3, p)
                more = get_half(x_4, p), get_half(x_5, p), get_half(x_6, p), get_half(x_7, p)
                put_columns(at(out, r), p * width, width, four + more)
            r += LANES
        else:
            for p in range(0, points, HALF):
                four = get_half(x_0, p), get_half(x_1, p), get_half(x_2, p), get_half(x_3, p)
                put_columns(at(out, r), p * width, width, four)
            r += HALF


@called
def _pull_weights(
    layer: Pointer, x: Pointer, g: Pointer, totals: Pointer, size: int, points: int, turned: Pointer, ones: Pointer
) -> None:
    """Add to the totals of a layer's weights and biases: x are its inputs' rows, g the gradients of its sums.

    ones   as many as a row has, and as many 0.0
    """
    units, inputs, place, per_unit, per_input = _shape_of(layer)
    first, last, zeros = at(totals, place), points - 1, at(ones, size)
    if per_unit == 1:
        _transpose(g, size, units, points, turned, per_input, zeros, zeros)
        b = at(turned, last * per_input)
        add_products(STANDING, x, first, per_input, inputs, at(x, last), size, -1, b, -per_input, points, per_input)
        bias = at(first, inputs * per_input)
        add_products(STANDING, ones, bias, 0, 1, ones, 0, 0, b, -per_input, points, per_input)
    else:
        _transpose(x, size, inputs, points, turned, per_unit, ones, zeros)
        b = at(turned, last * per_unit)
        add_products(STANDING, g, first, per_unit, units, at(g, last), size, -1, b, -per_unit, points, per_unit)


@called
def run_backward(
    operations: Pointer,
    count: int,
    weights: Pointer,
    v: Pointer,
    g: Pointer,
    numbers: Pointer,
    totals: Pointer,
    rows: int,
    size: int,
    data: int,
    points: int,
    masked: bool,
    local: Pointer,
    turned: Pointer,
    ones: Pointer,
) -> None:
    """Compute the rows of gradients in g from that of the loss, and add to the totals of the weights.

    points   those of the block; behind them in each row come lanes that do not count
    masked   whether -0.0 in g says that no gradient has come
    local, turned   room for the widest operation's partials, and for a row of weights at each point
    ones   as many as a row has, and as many 0.0
    """
    for i in range(count):
        operation = at(operations, i * OPERATION)
        kind, key = get(operation, 0), get(operation, 1)
        source, to = at(g, get(operation, 3) * size), at(g, get(operation, 4) * size)
        if kind < WIDE:
            run, first = get(operation, 2) * size, get(operation, 9) != 0
            if kind == CONSTANT and not masked:
                _add_constant_product(source, NUMBER[key], to, run, first)
                continue
            factors = local
            if kind == OPERAND:
                factors = _row_at(v, get(operation, 5), rows, size, data)
            elif kind == CONSTANT:
                fill(local, run, NUMBER[key])
            else:
                x = _row_at(v, get(operation, 5), rows, size, data)
                y = _row_at(v, get(operation, 6), rows, size, data)
                w = _row_at(v, get(operation, 7), rows, size, data)
                z = _row_at(v, get(operation, 8), rows, size, data)
                run_partials(key, x, y, w, z, local, run // LANES * LANES, run)
            if masked:
                _add_where_reached(source, factors, to, run, SELECTIVE[key // 3])
            else:
                _add_products_of_rows(source, factors, to, run, first)
        elif kind == PULL_WEIGHTS:
            x = _row_at(v, get(operation, 4), rows, size, data)
            _pull_weights(at(weights, key * WEIGHTS), x, source, totals, size, points, turned, ones)
        elif kind == PULL_INPUTS:
            units, inputs, place, per_unit, per_input = _shape_of(at(weights, key * WEIGHTS))
            start, last = ZERO if get(operation, 9) != 0 else STANDING, units - 1
            a, b = at(numbers, place + last * per_unit), at(source, last * size)
            add_products(start, a, to, size, inputs, a, per_input, -per_unit, b, -size, units, size)
        elif kind == CLEARED:
            fill(to, size, 0.0)
        else:
            copy(source, to, size)


@inner
def fill_rows(spread: Pointer, count: int, numbers: Pointer, v: Pointer, size: int) -> None:
    """Fill the rows of the numbers that are the same at every point."""
    for k in range(count):
        fill(at(v, get(spread, 2 * k) * size), size, get(numbers, get(spread, 2 * k + 1)))


@called
def gather(columns: Array, order: Array, step: int, low: int, count: int, v: Pointer, size: int) -> None:
    """Put the columns' numbers at `count` points of a step, from `low` on, to v; behind them the last one's again."""
    for column in range(columns.shape[0]):
        for p in range(size):
            put(v, column * size + p, columns[column, order[step, low + min(p, count - 1)]])


@called
def predicts_right(
    v: Pointer, predictions: Array, targets: Array, threshold: float, rows: int, size: int, data: int, p: int
) -> bool:
    """Tell whether the prediction for a point counts as right: see `losses`. A threshold of NaN says classes."""
    if threshold == threshold:
        for k in range(predictions.size):
            y, t = get(v, predictions[k] * size + p), get(_row_at(v, targets[k], rows, size, data), p)
            if (y > 0.0) != (t > threshold):
                return False
        return True
    best = 0
    for k in range(1, predictions.size):
        if get(v, predictions[k] * size + p) > get(v, predictions[best] * size + p):
            best = k
    return bool(get(_row_at(v, targets[best], rows, size, data), p) == 1.0)
