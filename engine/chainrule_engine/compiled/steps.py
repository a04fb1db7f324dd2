"""Training wholly in machine code: as many steps as are asked for in one call.

A step takes the points by blocks that fit the cache, from the last block to the first, because that is the order in
which gradients are summed over the points: for each block the forward pass, then the backward pass, which adds to the
totals of the parameters. Then come the loss, the metrics and the update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel
from chainrule_engine.compiled.lanes import at, get, pointer, put
from chainrule_engine.compiled.passes import copy, fill, fill_rows, gather, predicts_right, run_backward, run_forward
from chainrule_engine.compiled.table import inlined
from chainrule_engine.compiled.updates import rates as fill_schedule
from chainrule_engine.compiled.updates import update
from chainrule_engine.schedule import padded

Array = Any


@inlined
def room_for(widest: int, wide_lanes: int, block: int, count: int, points: int) -> int:
    """Return how many numbers `run_steps` needs room for.

    That is, one after the other: the widest operation's partials, a row of weights at each point, a row of 1.0 and one
    of 0.0, a total for each of `count` numbers, and the loss of each point.
    """
    return (widest + wide_lanes + 2) * block + count + points


def _kernels(fingerprint: str) -> tuple[Any, ...]:
    """Make the kernels. They mention the fingerprint, so that it is a part of the key in Numba's cache."""

    @kernel
    def run_steps(
        forward_: Array,
        backward_: Array,
        weights_: Array,
        spread_: Array,
        shares_: Array,
        literals_: Array,
        kept_: Array,
        parameters: Array,
        predictions: Array,
        targets: Array,
        numbers_: Array,
        gradients_: Array,
        slot_1_: Array,
        slot_2_: Array,
        v_: Array,
        g_: Array,
        room_: Array,
        columns: Array,
        order: Array,
        rates: Array,
        losses: Array,
        accuracies: Array,
        settings_: Array,
        rows: int,
        loss_row: int,
        points: int,
        block: int,
        masked: bool,
        mean: bool,
        l2: float,
        target: float,
        optimiser: int,
        step: int,
        threshold: float,
        measuring: bool,
        widest: int,
        wide_lanes: int,
    ) -> Any:
        fingerprint
        if room_.size != room_for(widest, wide_lanes, block, numbers_.size, points):
            raise ValueError("the room has another size")
        # The loop hands over pointers (see `lanes`), x to the array x_. No array is made here: it would be gone after
        # its last use by name.
        numbers, gradients, kept = pointer(numbers_), pointer(gradients_), pointer(kept_)
        slot_1, slot_2, settings = pointer(slot_1_), pointer(slot_2_), pointer(settings_)
        v, g, local = pointer(v_), pointer(g_), pointer(room_)
        turned = at(local, widest * block)
        ones = at(turned, wide_lanes * block)
        totals = at(ones, 2 * block)
        point_losses = at(totals, numbers_.size)
        forward, backward, weights = pointer(forward_), pointer(backward_), pointer(weights_)
        spread, shares, literals = pointer(spread_), pointer(shares_), pointer(literals_)
        count = numbers_.size
        seed = 1.0 / points if mean else 1.0
        batched = order.shape[0] > 0
        last_block = (points - 1) // block * block
        for s in range(rates.size):
            if l2 != 0.0:
                for k in range(count):
                    share = l2 * get(numbers, k)
                    put(totals, k, 0.0 + share + share)
            else:
                fill(totals, count, 0.0)
            right = 0
            low = last_block
            while low >= 0:
                here = min(block, points - low)
                size = padded(here)
                fill(ones, size, 1.0)
                fill(at(ones, size), size, 0.0)
                data = rows * block + (0 if batched else columns.shape[0] * low)
                if batched:
                    gather(columns, order, s, low, here, at(v, data), size)
                fill_rows(spread, spread_.shape[0], numbers, v, size)
                run_forward(forward, forward_.shape[0], weights, v, numbers, rows, size, data)
                for p in range(here):
                    put(point_losses, low + p, get(v, loss_row * size + p))
                if measuring:
                    for p in range(here):
                        right += predicts_right(v, predictions, targets, threshold, rows, size, data, p)
                if masked:
                    fill(g, g_.size, -0.0)
                fill(at(g, loss_row * size), size, 0.0 + seed)
                run_backward(
                    backward, backward_.shape[0], weights, v, g, numbers, totals,
                    rows, size, data, here, masked, local, turned, ones,
                )  # fmt: skip
                for p in range(here - 1, -1, -1):
                    for k in range(shares_.shape[0]):
                        place = get(shares, 2 * k + 1)
                        put(totals, place, get(totals, place) + get(g, get(shares, 2 * k) * size + p))
                low -= block
            loss = get(point_losses, 0)
            for p in range(1, points):
                loss = loss + get(point_losses, p)
            if mean:
                loss = loss / points
            if l2 != 0.0:
                squares = numbers_[parameters[0]] * numbers_[parameters[0]]
                for k in range(1, parameters.size):
                    squares = squares + numbers_[parameters[k]] * numbers_[parameters[k]]
                loss = loss + l2 * squares
            losses[s] = loss
            if measuring:
                accuracies[s] = right / points
            if not np.isfinite(loss):
                return s + 1, 1
            if loss <= target:
                return s + 1, 2
            copy(totals, gradients, count)
            update(optimiser, count, numbers, gradients, slot_1, slot_2, rates[s], float(step + s + 1), settings)
            for k in range(literals_.size):
                put(numbers, get(literals, k), get(kept, k))
        return rates.size, 0

    @kernel
    def predict(
        forward_: Array,
        weights_: Array,
        spread_: Array,
        numbers_: Array,
        v_: Array,
        columns: Array,
        predictions: Array,
        rows: int,
        points: int,
        block: int,
        batched: bool,
        out: Array,
    ) -> None:
        fingerprint
        forward, weights, spread = pointer(forward_), pointer(weights_), pointer(spread_)
        v, numbers = pointer(v_), pointer(numbers_)
        everywhere = np.arange(points if batched else 0).reshape(1, -1)
        for low in range(0, points, block):
            here = min(block, points - low)
            size = padded(here)
            data = rows * block + (0 if batched else columns.shape[0] * low)
            if batched:
                gather(columns, everywhere, 0, low, here, at(v, data), size)
            fill_rows(spread, spread_.shape[0], numbers, v, size)
            run_forward(forward, forward_.shape[0], weights, v, numbers, rows, size, data)
            for k in range(predictions.size):
                for p in range(here):
                    out[low + p, k] = get(v, predictions[k] * size + p)

    @kernel
    def shuffle(randoms: Array, permutations: Array) -> None:
        fingerprint
        points = permutations.shape[1]
        for e in range(permutations.shape[0]):
            for k in range(points):
                permutations[e, k] = k
            for last in range(points - 1, 0, -1):
                other = int(randoms[e, points - 1 - last] * (last + 1))
                permutations[e, last], permutations[e, other] = permutations[e, other], permutations[e, last]

    @kernel
    def fill_rates(schedule: int, rates: Array, step: int, settings: Array) -> None:
        fingerprint
        fill_schedule(schedule, rates, step, pointer(settings))

    return run_steps, predict, shuffle, fill_rates


with kept_on_disk():
    run_steps, predict, shuffle, fill_rates = _kernels(FINGERPRINT)
