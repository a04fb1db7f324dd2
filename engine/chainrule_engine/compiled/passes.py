"""The two passes of a training over a block of points: the operations of a `Schedule`, as rows of whole numbers.

All numbers of a block stand in one flat array: row r at r times the block's size, and rows that hold data, which have
the last numbers, behind the others. A block's size is a multiple of HALF; what stands in the lanes behind the last
point is computed along, and never enters a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule_engine.compiled.lanes import get, put
from chainrule_engine.compiled.products import GIVEN, STANDING, ZERO, add_products, inner
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

Array = Any

WIDE, TOGETHER, DENSE, COPIED, PULL_WEIGHTS, PULL_INPUTS, CLEARED = range(3, 10)  # after CONSTANT, OPERAND, COMPUTED


@inlined
def _at(row: int, rows: int, size: int, data: int) -> Any:
    """Return where a row stands: those from `rows` on are the data's."""
    return row * size if row < rows else data + (row - rows) * size


@inner
def fill(numbers: Array, first: int, size: int, number: float) -> None:
    """Write one number to `size` places from the first on."""
    for p in range(size):
        put(numbers, first, p, number)


@inner
def run_forward(operations: Array, weights: Array, v: Array, numbers: Array, rows: int, size: int, data: int) -> None:
    """Compute the rows of a block in v: `size` numbers each, and the data's from the place `data` on."""
    for i in range(operations.shape[0]):
        kind, t = operations[i, 0], operations[i, 3]
        if kind == DENSE:
            w = operations[i, 1]
            units, inputs, first = weights[w, 0], weights[w, 1], weights[w, 2]
            per_unit, per_input = weights[w, 3], weights[w, 4]
            x = _at(operations[i, 4], rows, size, data)
            add_products(
                GIVEN, first + inputs * per_input,
                v, t * size, size, units,
                numbers, first, per_unit, per_input,
                v, x, size, inputs, size,
            )  # fmt: skip
        else:
            a = _at(operations[i, 4], rows, size, data)
            if kind == WIDE:
                b, c = _at(operations[i, 5], rows, size, data), _at(operations[i, 6], rows, size, data)
                v_0 = v.ctypes.data
                run_values(
                    operations[i, 1], v_0 + 8 * a, v_0 + 8 * b, v_0 + 8 * c, v_0 + 8 * t * size, operations[i, 2] * size
                )
            elif kind == TOGETHER:
                v_0 = v.ctypes.data
                run_both(operations[i, 1], v_0 + 8 * a, v_0 + 8 * t * size, operations[i, 2] * size)
            else:
                for p in range(size):
                    put(v, t * size, p, get(v, a, p))


@inner
def _add_products_of_rows(g: Array, source: int, to: int, factors: Array, at: int, size: int, first: bool) -> None:
    if first:
        for p in range(size):
            put(g, to, p, 0.0 + get(g, source, p) * get(factors, at, p))
    else:
        for p in range(size):
            put(g, to, p, get(g, to, p) + get(g, source, p) * get(factors, at, p))


@inner
def _add_constant_product(g: Array, source: int, to: int, factor: float, size: int, first: bool) -> None:
    if first:
        for p in range(size):
            put(g, to, p, 0.0 + get(g, source, p) * factor)
    else:
        for p in range(size):
            put(g, to, p, get(g, to, p) + get(g, source, p) * factor)


@inner
def _add_where_reached(g: Array, source: int, to: int, factors: Array, at: int, size: int, selective: bool) -> None:
    for p in range(size):
        upstream, factor = get(g, source, p), get(factors, at, p)
        # -0.0 says that nothing has come, and adding it changes nothing; what has come is never -0.0.
        none = (upstream == 0.0 and np.signbit(upstream)) or (selective and factor == 0.0)
        put(g, to, p, get(g, to, p) + (-0.0 if none else 0.0 + upstream * factor))


@inner
def _transpose(v: Array, first: int, row: int, rows: int, points: int, out: Array, width: int, last: float) -> None:
    """Write out[p, r] = row r at point p, for rows side by side; then one column of `last`, and 0.0 to the width."""
    for p in range(points):
        for r in range(rows):
            put(out, p * width, r, get(v, first + p, r * row))
        put(out, p * width, rows, last) if rows < width else None
        for r in range(rows + 1, width):
            put(out, p * width, r, 0.0)


@inner
def run_backward(
    operations: Array,
    weights: Array,
    v: Array,
    g: Array,
    numbers: Array,
    totals: Array,
    rows: int,
    size: int,
    data: int,
    points: int,
    masked: bool,
    local: Array,
    turned: Array,
    ones: Array,
) -> None:
    """Compute the rows of gradients in g from that of the loss, and add to the totals of the weights.

    points   those of the block; behind them in each row come lanes that do not count
    masked   whether -0.0 in g says that no gradient has come
    local, turned   room for the widest operation's partials, and for a row of weights at each point; ones: a 1.0
    """
    for i in range(operations.shape[0]):
        kind, key, count = operations[i, 0], operations[i, 1], operations[i, 2]
        source, to = operations[i, 3] * size, operations[i, 4] * size
        if kind < WIDE:
            first = operations[i, 9] != 0
            run = count * size
            if kind == CONSTANT and not masked:
                _add_constant_product(g, source, to, NUMBER[key], run, first)
                continue
            factors, at = local, 0
            if kind == OPERAND:
                factors, at = v, _at(operations[i, 5], rows, size, data)
            elif kind == CONSTANT:
                fill(local, 0, run, NUMBER[key])
            else:
                a, b = _at(operations[i, 5], rows, size, data), _at(operations[i, 6], rows, size, data)
                c, t = _at(operations[i, 7], rows, size, data), _at(operations[i, 8], rows, size, data)
                v_0 = v.ctypes.data
                run_partials(key, v_0 + 8 * a, v_0 + 8 * b, v_0 + 8 * c, v_0 + 8 * t, local.ctypes.data, run)
            if masked:
                _add_where_reached(g, source, to, factors, at, run, SELECTIVE[key // 3])
            else:
                _add_products_of_rows(g, source, to, factors, at, run, first)
        elif kind == PULL_WEIGHTS:
            units, inputs, first_weight = weights[key, 0], weights[key, 1], weights[key, 2]
            per_unit, per_input = weights[key, 3], weights[key, 4]
            x = _at(operations[i, 4], rows, size, data)
            if per_unit == 1:
                _transpose(g, source, size, units, points, turned, per_input, 0.0)
                b_first = (points - 1) * per_input
                add_products(
                    STANDING, 0,
                    totals, first_weight, per_input, inputs,
                    v, x + points - 1, size, -1,
                    turned, b_first, -per_input, points, per_input,
                )  # fmt: skip
                add_products(
                    STANDING, 0,
                    totals, first_weight + inputs * per_input, 0, 1,
                    ones, 0, 0, 0,
                    turned, b_first, -per_input, points, per_input,
                )  # fmt: skip
            else:
                _transpose(v, x, size, inputs, points, turned, per_unit, 1.0)
                add_products(
                    STANDING, 0,
                    totals, first_weight, per_unit, units,
                    g, source + points - 1, size, -1,
                    turned, (points - 1) * per_unit, -per_unit, points, per_unit,
                )  # fmt: skip
        elif kind == PULL_INPUTS:
            units, inputs, first_weight = weights[key, 0], weights[key, 1], weights[key, 2]
            per_unit, per_input = weights[key, 3], weights[key, 4]
            add_products(
                ZERO if operations[i, 9] != 0 else STANDING, 0,
                g, to, size, inputs,
                numbers, first_weight + (units - 1) * per_unit, per_input, -per_unit,
                g, source + (units - 1) * size, -size, units, size,
            )  # fmt: skip
        elif kind == CLEARED:
            fill(g, to, size, 0.0)
        else:
            for p in range(size):
                put(g, to, p, get(g, source, p))


@inner
def fill_rows(spread: Array, numbers: Array, v: Array, size: int) -> None:
    """Fill the rows of the numbers that are the same at every point."""
    for k in range(spread.shape[0]):
        fill(v, spread[k, 0] * size, size, numbers[spread[k, 1]])


@inner
def gather(columns: Array, order: Array, v: Array, data: int, size: int) -> None:
    """Put the columns' numbers at the points of a block in place; the last one's again behind them."""
    for column in range(columns.shape[0]):
        for p in range(size):
            v[data + column * size + p] = columns[column, order[min(p, order.size - 1)]]


@inner
def predicts_right(
    v: Array, predictions: Array, targets: Array, threshold: float, rows: int, size: int, data: int, p: int
) -> bool:
    """Tell whether the prediction for a point counts as right: see `losses`. A threshold of NaN says classes."""
    if threshold == threshold:
        for k in range(predictions.size):
            y, t = v[predictions[k] * size + p], v[_at(targets[k], rows, size, data) + p]
            if (y > 0.0) != (t > threshold):
                return False
        return True
    best = 0
    for k in range(1, predictions.size):
        if v[predictions[k] * size + p] > v[predictions[best] * size + p]:
            best = k
    return bool(v[_at(targets[best], rows, size, data) + p] == 1.0)
