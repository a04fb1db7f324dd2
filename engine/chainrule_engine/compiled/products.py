"""Sums of products: the one inner loop of a dense layer, forward, to its inputs and to its weights.

Each of the three is the same loop: to every number of some rows are added the products of a factor and a row of
numbers, one after the other in a given order. The numbers side by side in a row are independent of each other, and so
are the rows; so the totals of four rows stay in registers until they are complete.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from chainrule_engine.compiled.lanes import add_product, get, get_half, get_lanes, put_lanes, same, same_half
from chainrule_engine.schedule import LANES

#: What a total starts from: the number that stands there, 0.0, or one number for all of a row.
STANDING, ZERO, GIVEN = 0, 1, 2

Array = Any

#: Decorates what becomes part of the kernel that calls it: a call with some arrays costs as much as a short loop.
inner = njit(error_model="numpy", nogil=True, forceinline=True)


def _totals(get_lanes: Any, same: Any) -> tuple[Any, Any, Any]:
    """Return what begins the totals at some places side by side, and completes those of four rows, or of one."""

    @inner
    def begin(start: int, c: Array, place: int, a: Array, given: int) -> Any:
        if start == STANDING:
            return get_lanes(c, place)
        return same(0.0 if start == ZERO else get(a, given, 0))

    @inner
    def four_rows(
        start: int, given: int, c: Array, c_0: int, c_row: int,
        a: Array, a_0: int, a_row: int, a_next: int, b: Array, b_0: int, b_next: int, count: int,
    ) -> None:  # fmt: skip
        a_1, a_2, a_3 = a_0 + a_row, a_0 + 2 * a_row, a_0 + 3 * a_row
        s_0 = begin(start, c, c_0, a, given)
        s_1 = begin(start, c, c_0 + c_row, a, given + a_row)
        s_2 = begin(start, c, c_0 + 2 * c_row, a, given + 2 * a_row)
        s_3 = begin(start, c, c_0 + 3 * c_row, a, given + 3 * a_row)
        for k in range(count):
            x = get_lanes(b, b_0 + k * b_next)
            s_0 = add_product(s_0, get(a, a_0, k * a_next), x)
            s_1 = add_product(s_1, get(a, a_1, k * a_next), x)
            s_2 = add_product(s_2, get(a, a_2, k * a_next), x)
            s_3 = add_product(s_3, get(a, a_3, k * a_next), x)
        put_lanes(c, c_0, s_0)
        put_lanes(c, c_0 + c_row, s_1)
        put_lanes(c, c_0 + 2 * c_row, s_2)
        put_lanes(c, c_0 + 3 * c_row, s_3)

    @inner
    def one_row(
        start: int, given: int, c: Array, c_0: int, a: Array, a_0: int, a_next: int,
        b: Array, b_0: int, b_next: int, count: int,
    ) -> None:  # fmt: skip
        s_0 = begin(start, c, c_0, a, given)
        for k in range(count):
            s_0 = add_product(s_0, get(a, a_0, k * a_next), get_lanes(b, b_0 + k * b_next))
        put_lanes(c, c_0, s_0)

    return begin, four_rows, one_row


_begin, _four_rows, _one_row = _totals(get_lanes, same)
_, _four_rows_of_half, _one_row_of_half = _totals(get_half, same_half)


@inner
def _three_of_a_row(
    start: int, given: int, c: Array, c_0: int, a: Array, a_0: int, a_next: int,
    b: Array, b_0: int, b_next: int, count: int,
) -> None:  # fmt: skip
    s_0 = _begin(start, c, c_0, a, given)
    s_1 = _begin(start, c, c_0 + LANES, a, given)
    s_2 = _begin(start, c, c_0 + 2 * LANES, a, given)
    for k in range(count):
        factor = get(a, a_0, k * a_next)
        s_0 = add_product(s_0, factor, get_lanes(b, b_0 + k * b_next))
        s_1 = add_product(s_1, factor, get_lanes(b, b_0 + k * b_next + LANES))
        s_2 = add_product(s_2, factor, get_lanes(b, b_0 + k * b_next + 2 * LANES))
    put_lanes(c, c_0, s_0)
    put_lanes(c, c_0 + LANES, s_1)
    put_lanes(c, c_0 + 2 * LANES, s_2)


@njit(error_model="numpy", nogil=True)  # called: it is long, and what calls it does so in many places
def add_products(
    start: int,
    given: int,
    c: Array,
    c_first: int,
    c_row: int,
    rows: int,
    a: Array,
    a_first: int,
    a_row: int,
    a_next: int,
    b: Array,
    b_first: int,
    b_next: int,
    count: int,
    size: int,
) -> None:
    """For each row r and each place i: c[r, i] + a[r, 0]·b[0, i] + a[r, 1]·b[1, i] + …, into c[r, i].

    start, given   what the sum starts from; where it is GIVEN, a's number at given + r·a_row
    c, a, b        flat: c[r, i] stands at c_first + r·c_row + i, a[r, k] at a_first + r·a_row + k·a_next,
                   b[k, i] at b_first + k·b_next + i
    rows, count, size   how many there are of r, k and i; the last a multiple of HALF
    """
    whole = size // LANES * LANES
    r = 0
    while r + 4 <= rows:
        a_0, c_0, of = a_first + r * a_row, c_first + r * c_row, given + r * a_row
        for i in range(0, whole, LANES):
            _four_rows(start, of, c, c_0 + i, c_row, a, a_0, a_row, a_next, b, b_first + i, b_next, count)
        if whole < size:
            _four_rows_of_half(
                start, of, c, c_0 + whole, c_row, a, a_0, a_row, a_next, b, b_first + whole, b_next, count
            )
        r += 4
    while r < rows:
        a_0, c_0, of = a_first + r * a_row, c_first + r * c_row, given + r * a_row
        i = 0
        while i + 3 * LANES <= whole:
            _three_of_a_row(start, of, c, c_0 + i, a, a_0, a_next, b, b_first + i, b_next, count)
            i += 3 * LANES
        while i < whole:
            _one_row(start, of, c, c_0 + i, a, a_0, a_next, b, b_first + i, b_next, count)
            i += LANES
        if whole < size:
            _one_row_of_half(start, of, c, c_0 + whole, a, a_0, a_next, b, b_first + whole, b_next, count)
        r += 1
