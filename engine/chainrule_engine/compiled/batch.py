"""A batch of points: an array with one row per slot and one column per point.

The choice of the operation is outside of the loop over the points, so that this loop is vector instructions; the points
go by in blocks whose numbers stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel
from chainrule_engine.compiled.table import (
    ARITY,
    CONSTANT,
    KIND,
    KINK,
    NUMBER,
    OPERAND,
    PLACE,
    SELECTIVE,
    compute_partial_row,
    compute_row,
)

Array = Any

#: So many numbers of a block are meant to stay in the processor's second-level cache.
_BLOCK_NUMBERS = 16_384
_SHORTEST_BLOCK, LONGEST_BLOCK = 64, 1024  # points

# Whether a gradient has come to a slot: at no point, at all, or at those that its mask tells.
_NOWHERE, _EVERYWHERE, _SOMEWHERE = 0, 1, 2


def block_size(slots: int, points: int) -> int:
    """Return how many points to take at once."""
    return min(points, max(_SHORTEST_BLOCK, min(LONGEST_BLOCK, _BLOCK_NUMBERS // slots)))


def _kernels(fingerprint: str) -> tuple[Any, Any, Any]:
    """Make the kernels. They mention the fingerprint, so that it is a part of the key in Numba's cache."""

    @kernel
    def forward(codes: Array, operands: Array, first: int, v: Array, block: int) -> None:
        fingerprint
        points = v.shape[1]
        for low in range(0, points, block):
            high = min(points, low + block)
            edge = 0
            for i in range(codes.size):
                a, after = operands[edge], edge + ARITY[codes[i]]
                b, c = operands[min(edge + 1, after - 1)], operands[after - 1]
                compute_row(codes[i], v, first + i, a, b, c, low, high)
                edge = after

    @kernel
    def backward(
        codes: Array,
        operands: Array,
        first: int,
        v: Array,
        g: Array,
        seeded: Array,
        seeds: Array,
        reached: Array,
        wanted: Array,
        masked: bool,
        block: int,
        looking: bool,
        broken: Array,
        breaks: Array,
    ) -> None:
        fingerprint
        points = v.shape[1]
        state = np.empty(v.shape[0], np.uint8)
        masks = np.empty((v.shape[0] if masked else 1, block), np.bool_)
        scratch = np.empty(block)
        flow = np.empty(block, np.bool_)
        for low in range(0, points, block):
            high = min(points, low + block)
            size = high - low
            state[:] = _NOWHERE
            for k in range(seeded.size):
                state[seeded[k]] = _EVERYWHERE
                g[seeded[k], low:high] = seeds[k, low:high]
            edge = operands.size
            for i in range(codes.size - 1, -1, -1):
                t, code = first + i, codes[i]
                selective = SELECTIVE[code]
                after = edge
                edge -= ARITY[code]
                if state[t] == _NOWHERE:
                    continue
                upstream = g[t, low:high]
                a, b, c = operands[edge], operands[min(edge + 1, after - 1)], operands[after - 1]
                for e in range(edge, after):
                    slot, key = operands[e], 3 * code + (e - edge)
                    if not wanted[slot]:
                        continue
                    local = scratch[:size]
                    if KIND[key] == CONSTANT:
                        if selective and NUMBER[key] == 0.0:
                            continue
                        local[:] = NUMBER[key]
                    elif KIND[key] == OPERAND:
                        local = v[t if PLACE[key] == 3 else operands[edge + PLACE[key]], low:high]
                    else:
                        compute_partial_row(key, v, t, a, b, c, low, high, local)
                    everywhere = not selective and state[t] == _EVERYWHERE
                    if not everywhere:
                        count = 0
                        for p in range(size):
                            flow[p] = (state[t] == _EVERYWHERE or masks[t, p]) and not (selective and local[p] == 0.0)
                            count += flow[p]
                        if count == 0:
                            continue
                        everywhere = count == size
                    row = g[slot, low:high]
                    fresh = state[slot] == _NOWHERE
                    if everywhere and fresh:
                        for p in range(size):
                            row[p] = 0.0 + upstream[p] * local[p]
                    elif everywhere:
                        for p in range(size):
                            row[p] = row[p] + upstream[p] * local[p]
                    else:
                        # Adding 0.0 to a sum that began as 0.0 changes no bit: it stands for "nothing was added".
                        for p in range(size):
                            share = upstream[p] * local[p] if flow[p] else 0.0
                            row[p] = (0.0 if fresh else row[p]) + share
                    if everywhere:
                        state[slot] = _EVERYWHERE
                    elif fresh:
                        state[slot] = _SOMEWHERE
                        masks[slot, :size] = flow[:size]
                    elif state[slot] == _SOMEWHERE:
                        for p in range(size):
                            masks[slot, p] = masks[slot, p] or flow[p]
                    if looking:
                        for p in range(size):
                            if breaks[low + p] < 0 and not np.isfinite(row[p]):
                                breaks[low + p] = e
                                broken[0, low + p], broken[1, low + p], broken[2, low + p] = (
                                    upstream[p],
                                    local[p],
                                    row[p],
                                )
            for slot in range(state.size):
                if state[slot] == _NOWHERE:
                    g[slot, low:high] = 0.0
                else:
                    reached[slot] = True

    @kernel
    def kinks(codes: Array, operands: Array, v: Array, block: int) -> Array:
        fingerprint
        found = np.zeros(codes.size, np.bool_)
        numbers = np.empty((4, block))
        edge = 0
        for i in range(codes.size):
            code = codes[i]
            if KINK[code] >= 0:
                for low in range(0, v.shape[1], block):
                    size = min(v.shape[1], low + block) - low
                    for place in range(ARITY[code]):
                        numbers[place, :size] = v[operands[edge + place], low : low + size]
                    compute_row(KINK[code], numbers, 3, 0, 1, 2, 0, size)
                    for p in range(size):
                        found[i] = found[i] or numbers[3, p] != 0.0
            edge += ARITY[code]
        return found

    return forward, backward, kinks


with kept_on_disk():
    forward, backward, kinks = _kernels(FINGERPRINT)
