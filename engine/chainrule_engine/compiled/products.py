"""Sums of products: the one inner loop of a dense layer, forward, to its inputs and to its weights.

Each of the three is the same loop: to every number of some rows are added the products of a factor and a row of
numbers, one after the other in a given order. The numbers side by side in a row are independent of each other, and so
are the rows; so the totals of four rows stay in registers until they are complete.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from chainrule_engine.compiled.lanes import (
    add_product,
    at,
    get,
    get_half,
    get_lanes,
    pointer,
    put_lanes,
    same,
    same_half,
)
from chainrule_engine.schedule import LANES

#: What a total starts from: the number that stands there, 0.0, or one number for all of a row.
STANDING, ZERO, GIVEN = 0, 1, 2

Array = Any
Pointer = Any

#: Decorates what becomes part of the function that calls it, so that its loops are compiled for their place.
inner = njit(error_model="numpy", nogil=True, forceinline=True)
#: Decorates what is called: one function of all would have more variables than the processor has registers.
called = njit(error_model="numpy", nogil=True)


def _totals(get_lanes: Any, same: Any, add_product: Any) -> tuple[Any, Any, Any]:
    """Return what begins the totals at some places side by side, and completes those of four rows, or of one."""

    @inner
    def begin(start: int, given: Pointer, c: Pointer, place: int) -> Any:
        if start == STANDING:
            return get_lanes(c, place)
        return same(0.0 if start == ZERO else get(given, 0))

    @inner
    def four_rows(
        start: int, given: Pointer, c: Pointer, c_row: int, a: Pointer, a_row: int, a_next: int,
        b: Pointer, b_next: int, count: int,
    ) -> None:  # fmt: skip
        s_0 = begin(start, given, c, 0)
        s_1 = begin(start, at(given, a_row), c, c_row)
        s_2 = begin(start, at(given, 2 * a_row), c, 2 * c_row)
        s_3 = begin(start, at(given, 3 * a_row), c, 3 * c_row)
        for k in range(count):
            x = get_lanes(b, k * b_next)
            s_0 = add_product(s_0, get(a, k * a_next), x)
            s_1 = add_product(s_1, get(a, a_row + k * a_next), x)
            s_2 = add_product(s_2, get(a, 2 * a_row + k * a_next), x)
            s_3 = add_product(s_3, get(a, 3 * a_row + k * a_next), x)
        put_lanes(c, 0, s_0)
        put_lanes(c, c_row, s_1)
        put_lanes(c, 2 * c_row, s_2)
        put_lanes(c, 3 * c_row, s_3)

    @inner
    def one_row(
        start: int, given: Pointer, c: Pointer, a: Pointer, a_next: int, b: Pointer, b_next: int, count: int
    ) -> None:
        s_0 = begin(start, given, c, 0)
        for k in range(count):
            s_0 = add_product(s_0, get(a, k * a_next), get_lanes(b, k * b_next))
        put_lanes(c, 0, s_0)

    return begin, four_rows, one_row


def made_of(add_product: Any) -> Any:
    """Return `add_products` for a way to add a product: chainrule has one, and `benchmarks` compares another."""
    begin, four_rows, one_row = _totals(get_lanes, same, add_product)
    _, four_rows_of_half, one_row_of_half = _totals(get_half, same_half, add_product)

    @inner
    def three_of_a_row(
        start: int, given: Pointer, c: Pointer, a: Pointer, a_next: int, b: Pointer, b_next: int, count: int
    ) -> None:
        s_0, s_1, s_2 = begin(start, given, c, 0), begin(start, given, c, LANES), begin(start, given, c, 2 * LANES)
        for k in range(count):
            factor = get(a, k * a_next)
            s_0 = add_product(s_0, factor, get_lanes(b, k * b_next))
            s_1 = add_product(s_1, factor, get_lanes(b, k * b_next + LANES))
            s_2 = add_product(s_2, factor, get_lanes(b, k * b_next + 2 * LANES))
        put_lanes(c, 0, s_0)
        put_lanes(c, LANES, s_1)
        put_lanes(c, 2 * LANES, s_2)

    @called
    def add_products(
        start: int,
        given: Pointer,
        c: Pointer,
        c_row: int,
        rows: int,
        a: Pointer,
        a_row: int,
        a_next: int,
        b: Pointer,
        b_next: int,
        count: int,
        size: int,
    ) -> None:
        """For each row r and each place i: c[r, i] + a[r, 0]·b[0, i] + a[r, 1]·b[1, i] + …, into c[r, i].

        start, given   what the sum starts from; where it is GIVEN, the number at given + r·a_row
        c, a, b        c[r, i] stands at c + r·c_row + i, a[r, k] at a + r·a_row + k·a_next, b[k, i] at b + k·b_next + i
        rows, count, size   how many there are of r, k and i; the last a multiple of HALF
        """
        whole = size // LANES * LANES
        r = 0
        while r + 4 <= rows:
            a_r, c_r, of = at(a, r * a_row), at(c, r * c_row), at(given, r * a_row)
            for i in range(0, whole, LANES):
                four_rows(start, of, at(c_r, i), c_row, a_r, a_row, a_next, at(b, i), b_next, count)
            if whole < size:
                four_rows_of_half(start, of, at(c_r, whole), c_row, a_r, a_row, a_next, at(b, whole), b_next, count)
            r += 4
        while r < rows:
            a_r, c_r, of = at(a, r * a_row), at(c, r * c_row), at(given, r * a_row)
            i = 0
            while i + 3 * LANES <= whole:
                three_of_a_row(start, of, at(c_r, i), a_r, a_next, at(b, i), b_next, count)
                i += 3 * LANES
            while i < whole:
                one_row(start, of, at(c_r, i), a_r, a_next, at(b, i), b_next, count)
                i += LANES
            if whole < size:
                one_row_of_half(start, of, at(c_r, whole), a_r, a_next, at(b, whole), b_next, count)
            r += 1

    return add_products


add_products = made_of(add_product)


def on_arrays(add_products: Any) -> Any:
    """Return the same to be called from Python, with contiguous arrays for the pointers."""

    @called
    def run(
        start: int, given: Array, c: Array, c_row: int, rows: int, a: Array, a_row: int, a_next: int,
        b: Array, b_next: int, count: int, size: int,
    ) -> None:  # fmt: skip
        p_given, p_c, p_a, p_b = pointer(given), pointer(c), pointer(a), pointer(b)
        add_products(start, p_given, p_c, c_row, rows, p_a, a_row, a_next, p_b, b_next, count, size)

    return run
