"""The order of evaluation, and a graph's columns in that order: as `nodes` and `tape` have them in plain Python."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel

Array = Any


def _kernels(fingerprint: str) -> tuple[Any, Any]:
    """Make the kernels. They mention the fingerprint, so that it is a part of the key in Numba's cache."""

    @kernel
    def depth_first(starts: Array, sources: Array, first: int, roots: Array) -> Array:
        fingerprint
        count = starts.size - 1
        after = starts[:count].copy()
        order, stack, state = np.empty(count, np.int32), np.empty(count, np.int32), np.zeros(count, np.uint8)
        complete = 0
        for k in range(roots.size + count):
            root = roots[k] if k < roots.size else k - roots.size
            if state[root]:
                continue
            state[root] = 1
            stack[0] = root
            depth = 1
            while depth:
                node = stack[depth - 1]
                place, end = after[node], starts[node + 1]
                before = depth
                while place < end and depth == before:
                    argument = sources[place] - first
                    place += 1
                    if argument >= 0 and state[argument] != 2:
                        if state[argument]:
                            return order[:complete]
                        state[argument] = 1
                        stack[depth] = argument
                        depth += 1
                after[node] = place
                if depth == before:
                    depth -= 1
                    state[node] = 2
                    order[complete] = node
                    complete += 1
        return order

    @kernel
    def gather(starts: Array, sources: Array, order: Array, declared: Array, first: int) -> Array:
        fingerprint
        operands = np.empty(sources.size, np.int32)
        edge = 0
        for node in order:
            for place in range(starts[node], starts[node + 1]):
                source = sources[place]
                operands[edge] = declared[source] if source >= 0 else first - 1 - source
                edge += 1
        return operands

    return depth_first, gather


with kept_on_disk():
    _depth_first, _gather = _kernels(FINGERPRINT)


def depth_first(starts: array[int], sources: array[int], first: int, roots: Sequence[int]) -> array[int] | None:
    """Return the positions of the nodes in the contract's order, None when there is a cycle."""
    order = _depth_first(np.asarray(starts), np.asarray(sources), first, np.array(roots, np.int32))
    return array("i", order.tobytes()) if len(order) == len(starts) - 1 else None


def flatten(
    codes: bytes, starts: array[int], sources: array[int], order: Sequence[int], first: int, first_node: int
) -> tuple[array[int], array[int], array[int]]:
    """Return a tape's codes, operands, and slots in the order of declaration."""
    steps = np.array(order, np.int32)
    declared = np.arange(first + len(steps), dtype=np.int32)
    declared[first + steps] = np.arange(first_node, first_node + len(steps), dtype=np.int32)
    operands = _gather(np.asarray(starts), np.asarray(sources), steps, declared, first)
    in_order = np.frombuffer(codes, np.uint8)[steps]
    return array("B", in_order.tobytes()), array("i", operands.tobytes()), array("i", declared.tobytes())
