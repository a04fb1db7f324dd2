"""One point: the instructions of a graph in runs of one operation each, so that its loop is vector instructions.

Which independent node is computed first changes no bit, so forward goes by levels (a node's arguments lie in lower
ones), and within a level by operation. Backward computes all local derivatives in the same runs, and then adds up the
shares in the order of the contract, which is all that it has to keep.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel
from chainrule_engine.compiled.table import (
    ARITY,
    COMPUTED,
    CONSTANT,
    KIND,
    NUMBER,
    OPERAND,
    PLACE,
    SELECTIVE,
    compute_partial_row,
    compute_row,
)

Array = Any

#: So many instructions are taken at once: their numbers stay in the processor's first-level cache.
LONGEST_RUN = 256
_OPERATIONS = len(ARITY)


class Plan(NamedTuple):
    """The instructions in runs. An edge is an argument of an instruction.

    order      the instructions, run after run
    ends       where each run ends in `order`
    operands   run after run and place after place: the slots of the arguments
    factors    by edge in the contract's order: where its local derivative stands in the array of numbers
    computed   how many of the local derivatives have to be computed
    """

    order: Array
    ends: Array
    operands: Array
    factors: Array
    computed: int


def _kernels(fingerprint: str) -> tuple[Any, Any, Any]:
    """Make the kernels. They mention the fingerprint, so that it is a part of the key in Numba's cache."""

    @kernel
    def plan(codes: Array, operands: Array, first: int, longest: int) -> tuple[Array, Array, Array, Array, int]:
        fingerprint
        count = codes.size
        level = np.zeros(first + count, np.int32)
        starts = np.empty(count, np.int32)
        edge, deepest = 0, 0
        for i in range(count):
            starts[i] = edge
            lowest = 0
            for _ in range(ARITY[codes[i]]):
                lowest = max(lowest, level[operands[edge]])
                edge += 1
            level[first + i] = lowest + 1
            deepest = max(deepest, lowest + 1)
        # Two counting sorts, each of which keeps the order of what it finds equal: by operation, then by level.
        places = np.zeros(_OPERATIONS + 1, np.int64)
        for i in range(count):
            places[codes[i] + 1] += 1
        for code in range(_OPERATIONS):
            places[code + 1] += places[code]
        by_operation = np.empty(count, np.int32)
        for i in range(count):
            by_operation[places[codes[i]]] = i
            places[codes[i]] += 1
        places = np.zeros(deepest + 2, np.int64)
        for i in range(count):
            places[level[first + i] + 1] += 1
        for step in range(deepest + 1):
            places[step + 1] += places[step]
        order = np.empty(count, np.int32)
        for k in range(count):
            i = by_operation[k]
            order[places[level[first + i]]] = i
            places[level[first + i]] += 1
        ends = np.empty(count, np.int32)
        in_runs, factors = np.empty(operands.size, np.int32), np.empty(operands.size, np.int32)
        runs, start, edge, computed = 0, 0, 0, 0
        while start < count:
            code, step = codes[order[start]], level[first + order[start]]
            end = start + 1
            while (
                end < count
                and end - start < longest
                and codes[order[end]] == code
                and level[first + order[end]] == step
            ):
                end += 1
            for place in range(ARITY[code]):
                key = 3 * code + place
                for k in range(start, end):
                    i = order[k]
                    in_runs[edge] = operands[starts[i] + place]
                    edge += 1
                    if KIND[key] == CONSTANT:
                        factor = first + count + key
                    elif KIND[key] == OPERAND:
                        factor = first + i if PLACE[key] == 3 else operands[starts[i] + PLACE[key]]
                    else:
                        factor = first + count + KIND.size + computed
                        computed += 1
                    factors[starts[i] + place] = factor
            ends[runs] = end
            runs += 1
            start = end
        return order, ends[:runs].copy(), in_runs, factors, computed

    @kernel
    def forward(codes: Array, first: int, order: Array, ends: Array, operands: Array, v: Array) -> None:
        fingerprint
        numbers = np.empty((4, LONGEST_RUN))
        start, edge = 0, 0
        for run in range(ends.size):
            size = ends[run] - start
            code = codes[order[start]]
            for place in range(ARITY[code]):
                for k in range(size):
                    numbers[place, k] = v[operands[edge + k]]
                edge += size
            compute_row(code, numbers, 3, 0, 1, 2, 0, size)
            for k in range(size):
                v[first + order[start + k]] = numbers[3, k]
            start += size

    @kernel
    def backward(
        codes: Array,
        all_operands: Array,
        first: int,
        order: Array,
        ends: Array,
        operands: Array,
        factors: Array,
        v: Array,
        g: Array,
        reached: Array,
        wanted: Array,
        looking: bool,
        broken: Array,
    ) -> int:
        fingerprint
        numbers = np.empty((4, LONGEST_RUN))
        start, edge = 0, 0
        after = first + codes.size
        v[after : after + KIND.size] = NUMBER
        after += KIND.size
        for run in range(ends.size):
            size = ends[run] - start
            code = codes[order[start]]
            computed = False
            for place in range(ARITY[code]):
                computed = computed or KIND[3 * code + place] == COMPUTED
            if computed:
                for place in range(ARITY[code]):
                    for k in range(size):
                        numbers[place, k] = v[operands[edge + place * size + k]]
                for k in range(size):
                    numbers[3, k] = v[first + order[start + k]]
                for place in range(ARITY[code]):
                    if KIND[3 * code + place] == COMPUTED:
                        local = v[after : after + size]
                        compute_partial_row(3 * code + place, numbers, 3, 0, 1, 2, 0, size, local)
                        after += size
            edge += ARITY[code] * size
            start += size
        # Backward over the instructions, but forward over the arguments of each.
        edge = factors.size
        for i in range(codes.size - 1, -1, -1):
            code = codes[i]
            edge -= ARITY[code]
            if reached[first + i]:
                upstream = g[first + i]
                for e in range(edge, edge + ARITY[code]):
                    slot, local = all_operands[e], v[factors[e]]
                    if wanted[slot] and not (SELECTIVE[code] and local == 0.0):
                        total = g[slot] + upstream * local
                        g[slot] = total
                        reached[slot] = True
                        if looking and not np.isfinite(total):
                            broken[0], broken[1], broken[2] = upstream, local, total
                            return e
        return -1

    return plan, forward, backward


with kept_on_disk():
    _plan, forward, backward = _kernels(FINGERPRINT)


def plan(codes: Array, operands: Array, first: int) -> Plan:
    """Sort the instructions, which compute the slots from `first` on one after the other, into runs."""
    return Plan(*_plan(codes, operands, first, LONGEST_RUN))
