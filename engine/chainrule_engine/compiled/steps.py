"""Training wholly in machine code: as many steps as are asked for in one call.

A step takes the points by blocks that fit the cache, from the last block to the first, because that is the order in
which gradients are summed over the points: for each block the forward pass, then the backward pass, which adds to the
totals of the parameters. Then come the loss, the metrics and the update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel
from chainrule_engine.compiled.lanes import get, put
from chainrule_engine.compiled.passes import fill, fill_rows, gather, predicts_right, run_backward, run_forward
from chainrule_engine.compiled.updates import rates as fill_schedule
from chainrule_engine.compiled.updates import update
from chainrule_engine.schedule import padded

Array = Any


def _kernels(fingerprint: str) -> tuple[Any, ...]:
    """Make the kernels. They mention the fingerprint, so that it is a part of the key in Numba's cache."""

    @kernel
    def run_steps(
        forward: Array,
        backward: Array,
        weights: Array,
        spread: Array,
        shares: Array,
        literals: Array,
        parameters: Array,
        predictions: Array,
        targets: Array,
        numbers: Array,
        gradients: Array,
        slot_1: Array,
        slot_2: Array,
        v: Array,
        g: Array,
        columns: Array,
        order: Array,
        rates: Array,
        losses: Array,
        accuracies: Array,
        settings: Array,
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
        totals = np.zeros(numbers.size)
        local, turned, ones = np.empty(widest * block), np.empty(wide_lanes * block), np.ones(1)
        point_losses = np.empty(points)
        kept = numbers[literals]
        seed = 1.0 / points if mean else 1.0
        batched = order.shape[0] > 0
        last_block = (points - 1) // block * block
        for s in range(rates.size):
            if l2 != 0.0:
                for k in range(totals.size):
                    share = l2 * numbers[k]
                    totals[k] = 0.0 + share + share
            else:
                fill(totals, 0, totals.size, 0.0)
            right = 0
            low = last_block
            while low >= 0:
                here = min(block, points - low)
                size = padded(here)
                data = rows * block + (0 if batched else columns.shape[0] * low)
                if batched:
                    gather(columns, order[s, low : low + here], v, data, size)
                fill_rows(spread, numbers, v, size)
                run_forward(forward, weights, v, numbers, rows, size, data)
                for p in range(here):
                    point_losses[low + p] = v[loss_row * size + p]
                if measuring:
                    for p in range(here):
                        right += predicts_right(v, predictions, targets, threshold, rows, size, data, p)
                if masked:
                    fill(g, 0, g.size, -0.0)
                fill(g, loss_row * size, size, 0.0 + seed)
                run_backward(
                    backward, weights, v, g, numbers, totals, rows, size, data, here, masked, local, turned, ones
                )
                for p in range(here - 1, -1, -1):
                    for k in range(shares.shape[0]):
                        place = shares[k, 1]
                        totals[place] = totals[place] + g[shares[k, 0] * size + p]
                low -= block
            loss = point_losses[0]
            for p in range(1, points):
                loss = loss + point_losses[p]
            if mean:
                loss = loss / points
            if l2 != 0.0:
                squares = numbers[parameters[0]] * numbers[parameters[0]]
                for k in range(1, parameters.size):
                    squares = squares + numbers[parameters[k]] * numbers[parameters[k]]
                loss = loss + l2 * squares
            losses[s] = loss
            if measuring:
                accuracies[s] = right / points
            if not np.isfinite(loss):
                return s + 1, 1
            if loss <= target:
                return s + 1, 2
            for k in range(totals.size):
                put(gradients, 0, k, get(totals, 0, k))
            update(optimiser, numbers, gradients, slot_1, slot_2, rates[s], float(step + s + 1), settings)
            for k in range(literals.size):
                numbers[literals[k]] = kept[k]
        return rates.size, 0

    @kernel
    def predict(
        forward: Array,
        weights: Array,
        spread: Array,
        numbers: Array,
        v: Array,
        columns: Array,
        predictions: Array,
        rows: int,
        points: int,
        block: int,
        batched: bool,
        out: Array,
    ) -> None:
        fingerprint
        for low in range(0, points, block):
            here = min(block, points - low)
            size = padded(here)
            data = rows * block + (0 if batched else columns.shape[0] * low)
            if batched:
                gather(columns, np.arange(low, low + here), v, data, size)
            fill_rows(spread, numbers, v, size)
            run_forward(forward, weights, v, numbers, rows, size, data)
            for k in range(predictions.size):
                for p in range(here):
                    out[low + p, k] = v[predictions[k] * size + p]

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
        fill_schedule(schedule, rates, step, settings)

    return run_steps, predict, shuffle, fill_rates


with kept_on_disk():
    run_steps, predict, shuffle, fill_rates = _kernels(FINGERPRINT)
