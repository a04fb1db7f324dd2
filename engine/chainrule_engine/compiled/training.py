"""Training wholly in machine code: as many steps as are asked for in one call.

A step takes the points by blocks that fit the cache, from the last block to the first, because that is the order in
which gradients are summed over the points: for each block the forward pass, then the backward pass, which adds to the
totals of the parameters. What is computed is not known here: it is the operations of a `Schedule`, as arrays of whole
numbers.

All numbers of a block stand in one flat array: row r at r times the block's size, and rows that hold data, which have
the last numbers, behind the others. A block's size is a multiple of LANES; what stands in the lanes behind the last
point is computed along, and never enters a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from chainrule_engine.compiled.cache import FINGERPRINT, kept_on_disk, kernel
from chainrule_engine.compiled.lanes import get, put
from chainrule_engine.compiled.products import GIVEN, STANDING, ZERO, add_products, inner
from chainrule_engine.compiled.table import (
    COMPUTED,
    CONSTANT,
    KIND,
    NUMBER,
    OPERAND,
    PLACE,
    SELECTIVE,
    in_machine_code,
    inlined,
    run_partials,
    run_values,
)
from chainrule_engine.operations import CODES
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES, Optimiser
from chainrule_engine.optimisers import Schedule as RateSchedule
from chainrule_engine.schedule import (
    LANES,
    Backward,
    Cleared,
    Copied,
    Dense,
    Forward,
    Pull,
    PullInputs,
    PullWeights,
    Schedule,
    Wide,
)

Array = Any

#: So many numbers of a block, gradients not counted, are meant to stay in the second-level cache.
_BLOCK_NUMBERS = 24_576
_LONGEST_BLOCK = 128

# ------------------------------------------------------------------------------------- optimisers and learning rates

_FIRST_NUMBERS = {
    2: inlined(lambda s: (s[0], s[1])),
    3: inlined(lambda s: (s[0], s[1], s[2])),
    4: inlined(lambda s: (s[0], s[1], s[2], s[3])),
}


def _update_run(optimiser: Optimiser) -> Any:
    prepare, apply = in_machine_code(optimiser.prepare), in_machine_code(optimiser.apply)
    first_numbers = _FIRST_NUMBERS[len(optimiser.settings)]

    @inner
    def one_slot(code: int, p: Array, g: Array, first: Array, second: Array, rate: float, step: float, s: Array) -> None:
        settings = first_numbers(s)
        prepared = prepare(rate, step, settings)
        for k in range(p.size):
            new, kept = apply(get(p, 0, k), get(g, 0, k), (get(first, 0, k),), prepared, settings)
            put(p, 0, k, new)
            put(first, 0, k, kept[0])

    @inner
    def two_slots(
        code: int, p: Array, g: Array, first: Array, second: Array, rate: float, step: float, s: Array
    ) -> None:
        settings = first_numbers(s)
        prepared = prepare(rate, step, settings)
        for k in range(p.size):
            slots = get(first, 0, k), get(second, 0, k)
            new, kept = apply(get(p, 0, k), get(g, 0, k), slots, prepared, settings)
            put(p, 0, k, new)
            put(first, 0, k, kept[0])
            put(second, 0, k, kept[1])

    return one_slot if len(optimiser.slots) == 1 else two_slots


def _fold(arms: Sequence[Any], first: int = 0) -> Any:
    """Fold functions into one that takes the number of the one to call before their arguments."""
    if len(arms) == 1:
        return arms[0]
    half = len(arms) // 2
    below, above = _fold(arms[:half], first), _fold(arms[half:], first + half)
    middle = first + half

    @inlined
    def choose(code: int, *arguments: Any) -> None:
        if code < middle:
            below(code, *arguments)
        else:
            above(code, *arguments)

    return choose


_update = _fold([_update_run(optimiser) for optimiser in OPTIMISERS.values()])


def _rates_run(schedule: RateSchedule) -> Any:
    rate = in_machine_code(schedule.formula)
    first_numbers = _FIRST_NUMBERS[len(schedule.settings)]

    @inner
    def run(code: int, rates: Array, step: int, s: Array) -> None:
        settings = first_numbers(s)
        for k in range(rates.size):
            rates[k] = rate(float(step + k), settings)

    return run


_rates = _fold([_rates_run(schedule) for schedule in SCHEDULES.values()])

# -------------------------------------------------------------------------------------------------- the two passes

_WIDE, _DENSE, _COPIED, _PULL_WEIGHTS, _PULL_INPUTS, _CLEARED = range(3, 9)  # after CONSTANT, OPERAND, COMPUTED


@inlined
def _at(row: int, rows: int, size: int, data: int) -> Any:
    """Return where a row stands: those from `rows` on are the data's."""
    return row * size if row < rows else data + (row - rows) * size


@inner
def _forward(operations: Array, weights: Array, v: Array, numbers: Array, rows: int, size: int, data: int) -> None:
    for i in range(operations.shape[0]):
        kind, t = operations[i, 0], operations[i, 3]
        if kind == _DENSE:
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
            if kind == _WIDE:
                b, c = _at(operations[i, 5], rows, size, data), _at(operations[i, 6], rows, size, data)
                v_0 = v.ctypes.data
                run_values(
                    operations[i, 1], v_0 + 8 * a, v_0 + 8 * b, v_0 + 8 * c, v_0 + 8 * t * size, operations[i, 2] * size
                )
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
def _backward(
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
    for i in range(operations.shape[0]):
        kind, key, count = operations[i, 0], operations[i, 1], operations[i, 2]
        source, to = operations[i, 3] * size, operations[i, 4] * size
        if kind < _WIDE:
            first = operations[i, 9] != 0
            run = count * size
            if kind == CONSTANT and not masked:
                _add_constant_product(g, source, to, NUMBER[key], run, first)
                continue
            factors, at = local, 0
            if kind == OPERAND:
                factors, at = v, _at(operations[i, 5], rows, size, data)
            elif kind == CONSTANT:
                local[:run] = NUMBER[key]
            else:
                a, b = _at(operations[i, 5], rows, size, data), _at(operations[i, 6], rows, size, data)
                c, t = _at(operations[i, 7], rows, size, data), _at(operations[i, 8], rows, size, data)
                v_0 = v.ctypes.data
                run_partials(key, v_0 + 8 * a, v_0 + 8 * b, v_0 + 8 * c, v_0 + 8 * t, local.ctypes.data, run)
            if masked:
                _add_where_reached(g, source, to, factors, at, run, SELECTIVE[key // 3])
            else:
                _add_products_of_rows(g, source, to, factors, at, run, first)
        elif kind == _PULL_WEIGHTS:
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
        elif kind == _PULL_INPUTS:
            units, inputs, first_weight = weights[key, 0], weights[key, 1], weights[key, 2]
            per_unit, per_input = weights[key, 3], weights[key, 4]
            add_products(
                ZERO if operations[i, 9] != 0 else STANDING, 0,
                g, to, size, inputs,
                numbers, first_weight + (units - 1) * per_unit, per_input, -per_unit,
                g, source + (units - 1) * size, -size, units, size,
            )  # fmt: skip
        elif kind == _CLEARED:
            g[to : to + size] = 0.0
        else:
            for p in range(size):
                put(g, to, p, get(g, source, p))


@inner
def _spread(spread: Array, numbers: Array, v: Array, size: int) -> None:
    for k in range(spread.shape[0]):
        first, number = spread[k, 0] * size, numbers[spread[k, 1]]
        for p in range(size):
            put(v, first, p, number)


@inner
def _gather(columns: Array, order: Array, v: Array, data: int, size: int) -> None:
    """Put the columns' numbers at the points of a block in place; the last one's again behind them."""
    for column in range(columns.shape[0]):
        for p in range(size):
            v[data + column * size + p] = columns[column, order[min(p, order.size - 1)]]


@inner
def _predicts_right(v: Array, predictions: Array, targets: Array, threshold: float, rows: int, size: int, data: int, p: int) -> bool:
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


def _kernels(fingerprint: str) -> tuple[Any, ...]:
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
        fingerprint  # noqa: B018
        totals = np.zeros(numbers.size)
        local, turned, ones = np.empty(widest * block), np.empty(wide_lanes * block), np.ones(1)
        point_losses = np.empty(points)
        kept = numbers[literals]
        seed = 1.0 / points if mean else 1.0
        batched = order.shape[0] > 0
        for s in range(rates.size):
            if l2 != 0.0:
                for k in range(totals.size):
                    share = l2 * numbers[k]
                    totals[k] = 0.0 + share + share
            else:
                totals[:] = 0.0
            right = 0
            for low in range(((points - 1) // block) * block, -1, -block):
                here = min(block, points - low)
                size = (here + LANES - 1) // LANES * LANES
                data = rows * block + (0 if batched else columns.shape[0] * low)
                if batched:
                    _gather(columns, order[s, low : low + here], v, data, size)
                _spread(spread, numbers, v, size)
                _forward(forward, weights, v, numbers, rows, size, data)
                for p in range(here):
                    point_losses[low + p] = v[loss_row * size + p]
                if measuring:
                    for p in range(here):
                        right += _predicts_right(v, predictions, targets, threshold, rows, size, data, p)
                if masked:
                    g[:] = -0.0
                g[loss_row * size : (loss_row + 1) * size] = 0.0 + seed
                _backward(
                    backward, weights, v, g, numbers, totals, rows, size, data, here, masked, local, turned, ones
                )
                for p in range(here - 1, -1, -1):
                    for k in range(shares.shape[0]):
                        place = shares[k, 1]
                        totals[place] = totals[place] + g[shares[k, 0] * size + p]
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
            gradients[:] = totals
            _update(optimiser, numbers, gradients, slot_1, slot_2, rates[s], float(step + s + 1), settings)
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
        fingerprint  # noqa: B018
        for low in range(0, points, block):
            here = min(block, points - low)
            size = (here + LANES - 1) // LANES * LANES
            data = rows * block + (0 if batched else columns.shape[0] * low)
            if batched:
                _gather(columns, np.arange(low, low + here), v, data, size)
            _spread(spread, numbers, v, size)
            _forward(forward, weights, v, numbers, rows, size, data)
            for k in range(predictions.size):
                for p in range(here):
                    out[k, low + p] = v[predictions[k] * size + p]

    @kernel
    def shuffle(randoms: Array, permutations: Array) -> None:
        fingerprint  # noqa: B018
        points = permutations.shape[1]
        for e in range(permutations.shape[0]):
            for k in range(points):
                permutations[e, k] = k
            for last in range(points - 1, 0, -1):
                other = int(randoms[e, points - 1 - last] * (last + 1))
                permutations[e, last], permutations[e, other] = permutations[e, other], permutations[e, last]

    @kernel
    def fill_rates(schedule: int, rates: Array, step: int, settings: Array) -> None:
        fingerprint  # noqa: B018
        _rates(schedule, rates, step, settings)

    return run_steps, predict, shuffle, fill_rates


with kept_on_disk():
    _run_steps, _predict, _shuffle, _fill_rates = _kernels(FINGERPRINT)

# ------------------------------------------------------------------------------------- what the training makes of it


class Program:
    """A schedule in the form that the kernels read. It depends on the structure of a graph, and on no number of it."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.forward = _table([_encoded(operation) for operation in schedule.forward])
        self.backward = _table([_encoded_backward(operation) for operation in schedule.backward])
        self.weights = np.array(
            [(w.units, w.inputs, w.first, w.per_unit, w.per_input) for w in schedule.weights], np.int64
        ).reshape(-1, 5)
        self.spread = np.array(list(schedule.spread.items()), np.int64).reshape(-1, 2)
        self.shares = np.array(schedule.shares, np.int64).reshape(-1, 2)
        self.literals = np.array(list(schedule.literals), np.int64)
        self.parameters = np.array(schedule.parameters, np.int64)
        self.predictions = np.array(schedule.predictions, np.int64)
        self.rows = schedule.rows
        self.data_rows = len(schedule.data)
        self.gradient_rows = 1 + max([self.rows + self.data_rows - 1, *(row for row, _ in schedule.shares)])
        #: Rows of the widest operation, and numbers in the longest row of weights.
        self.widest = max([1, *(pull.count for pull in schedule.backward if isinstance(pull, Pull))])
        self.wide_lanes = max([1, *(max(w.per_unit, w.per_input) for w in schedule.weights)])

    def block(self, points: int) -> int:
        """Return how many points a block has; where there are several, they are about equal."""
        longest = max(LANES, min(_LONGEST_BLOCK, _BLOCK_NUMBERS // self.gradient_rows // LANES * LANES))
        blocks = -(-points // longest)
        return -(-points // (blocks * LANES)) * LANES

    def memory(self, points: int, data_points: int) -> int:
        """Return the bytes that a training takes, of steps with so many points out of so many."""
        block = self.block(points)
        numbers = block * (self.rows + self.gradient_rows + self.widest + self.wide_lanes)
        data = self.data_rows * (data_points + (block if points < data_points else data_points + block))
        return 8 * (numbers + data + points + 6 * self.schedule.size)


def _table(operations: list[tuple[int, ...]]) -> Array:
    table = np.zeros((len(operations), 10), np.int64)
    for place, operation in enumerate(operations):
        table[place, : len(operation)] = operation
    return table


def _encoded(operation: Forward) -> tuple[int, ...]:
    if isinstance(operation, Wide):
        return (_WIDE, CODES[operation.operation], operation.count, operation.target, *operation.args)
    if isinstance(operation, Dense):
        return _DENSE, operation.weights, 0, operation.target, operation.x
    return _COPIED, 0, 0, operation.target, operation.source


def _encoded_backward(operation: Backward) -> tuple[int, ...]:
    if isinstance(operation, Copied):
        return _COPIED, 0, 0, operation.source, operation.target
    if isinstance(operation, PullWeights):
        return _PULL_WEIGHTS, operation.dense.weights, 0, operation.dense.target, operation.dense.x
    if isinstance(operation, PullInputs):
        dense = operation.dense
        return _PULL_INPUTS, dense.weights, 0, dense.target, dense.x, 0, 0, 0, 0, operation.first
    if isinstance(operation, Cleared):
        return _CLEARED, 0, 0, 0, operation.row
    key = 3 * CODES[operation.operation] + operation.place
    *args, result = operation.operands
    operands = (*args, 0, 0)[:3] + (result,)
    if KIND[key] == OPERAND:
        operands = (operands[PLACE[key]], 0, 0, 0)
    return int(KIND[key]), key, operation.count, operation.source, operation.to, *operands, operation.first


#: A state of `random.Random`.
_FRESH = (3, [0] * 623 + [1, 624], None)
# As `run_steps` tells them.
_STOP_REASONS = (None, "diverged", "target_loss")

#: Instead of an order of points, where each step has them all.
ALL_POINTS = np.empty((0, 0), np.int64)


class Steps(NamedTuple):
    """What came of some steps: a loss (and an accuracy) for each, what is remembered, and why they ended."""

    losses: list[float]
    accuracies: list[float]
    parameters: list[float]
    gradients: list[float] | None
    slots: list[list[float]]
    stop_reason: str | None


class Run:
    """A program with the data that it runs on."""

    def __init__(
        self,
        program: Program,
        columns: Sequence[Sequence[float]],
        points: int,
        batch_size: int | None,
        fixed: dict[int, float],
    ) -> None:
        """Lay out the data: a column for each of the schedule's data slots, of `points` numbers.

        fixed   slot → number, for the inputs that are neither trained nor data
        """
        self.program, self.points, self.batch_size = program, points, batch_size
        self.columns = np.array(columns, np.float64).reshape(len(columns), points)
        self.block = program.block(batch_size or points)
        literals = program.schedule.literals.values()
        self.literals = np.array([fixed[x] if isinstance(x, int) else x for x in literals], np.float64)
        room = self.block if batch_size else points + self.block
        self.v = np.empty(program.rows * self.block + program.data_rows * room)
        if not batch_size:
            for low in range(0, points, self.block):
                here = self.columns[:, low : low + self.block]
                lanes = -(-here.shape[1] // LANES) * LANES
                start = program.rows * self.block + program.data_rows * low
                place = self.v[start : start + program.data_rows * lanes].reshape(program.data_rows, lanes)
                place[:, : here.shape[1]] = here
                place[:, here.shape[1] :] = here[:, -1:]

    def numbers(self, parameters: Sequence[float]) -> Array:
        """Return the numbers that are the same at every point, each at its place."""
        numbers = self._placed(parameters)
        numbers[self.program.literals] = self.literals
        return numbers

    def _placed(self, parameters: Sequence[float]) -> Array:
        placed = np.zeros(self.program.schedule.size)
        placed[self.program.parameters] = parameters
        return placed

    def advance(
        self,
        parameters: list[float],
        gradients: list[float] | None,
        slots: list[list[float]],
        order: Array,
        rates: Array,
        *,
        step: int,
        optimiser: str,
        settings: Sequence[float],
        mean: bool,
        l2: float,
        target: float | None,
        targets: Sequence[int],
        threshold: float | None,
        measuring: bool,
    ) -> Steps:
        """Take the steps from `step` on, one per rate; fewer where the training stops.

        order     for each step the points of its batch; empty where each has them all
        targets, threshold   of the accuracy: data columns, and the number that parts targets in two; None for classes
        """
        program = self.program
        numbers = self.numbers(parameters)
        gradient = np.zeros_like(numbers) if gradients is None else self._placed(gradients)
        remembered = [self._placed(slot) for slot in slots]
        losses, accuracies = np.empty(rates.size), np.empty(rates.size)
        taken, reason = _run_steps(
            program.forward,
            program.backward,
            program.weights,
            program.spread,
            program.shares,
            program.literals,
            program.parameters,
            program.predictions,
            np.array([program.rows + target for target in targets], np.int64),
            numbers,
            gradient,
            remembered[0],
            remembered[-1] if len(remembered) > 1 else np.zeros(1),
            self.v,
            np.empty(program.gradient_rows * self.block),
            self.columns,
            order,
            rates,
            losses,
            accuracies,
            np.array(settings, np.float64),
            program.rows,
            program.schedule.loss,
            self.batch_size or self.points,
            self.block,
            program.schedule.masked,
            mean,
            l2,
            -np.inf if target is None else target,
            list(OPTIMISERS).index(optimiser),
            step,
            np.nan if threshold is None else threshold,
            measuring,
            program.widest,
            program.wide_lanes,
        )
        places = program.parameters
        updated = taken > (reason != 0)
        return Steps(
            losses[:taken].tolist(),
            accuracies[:taken].tolist(),
            numbers[places].tolist(),
            gradient[places].tolist() if updated else gradients,
            [kept[places].tolist() for kept in remembered],
            _STOP_REASONS[reason],
        )

    def predictions(self, parameters: Sequence[float]) -> list[list[float]]:
        """Return the predictions for all points, a column for each."""
        program = self.program
        out = np.empty((program.predictions.size, self.points))
        _predict(
            program.forward,
            program.weights,
            program.spread,
            self.numbers(parameters),
            self.v,
            self.columns,
            program.predictions,
            program.rows,
            self.points,
            self.block,
            self.batch_size is not None,
            out,
        )
        return list(out.tolist())


def learning_rates(schedule: str, settings: Sequence[float], step: int, steps: int) -> Array:
    """Return the learning rates of the steps from `step` on."""
    rates = np.empty(steps)
    _fill_rates(list(SCHEDULES).index(schedule), rates, step, np.array(settings, np.float64))
    return rates


def constant_rates(rate: float, steps: int) -> Array:
    """Return one learning rate for so many steps."""
    return np.full(steps, rate)


def draw_batches(
    random_state: Sequence[Any], remaining: Sequence[int], points: int, batch_size: int, steps: int
) -> tuple[Array, list[Any], list[int]]:
    """Draw the points of some steps, by the shuffle of the plain loop.

    random_state   that of `random.Random`, as plain data
    remaining      points of the last permutation that were not used

    Returns the points of each step, and the two after it.
    """
    version, numbers, gauss = random_state
    missing = steps * batch_size - len(remaining)
    epochs = max(0, -(-missing // points))
    permutations = np.empty((epochs, points), np.int64)
    if epochs:
        # numpy's generator of this name is Python's, and makes the same floats of the same state.
        generator = np.random.RandomState(0)
        generator.set_state(("MT19937", numbers[:-1], numbers[-1]))
        _shuffle(generator.random_sample((epochs, points - 1)), permutations)
        state = generator.get_state()
        random_state = [version, [*state[1].tolist(), state[2]], gauss]
    drawn = np.concatenate([np.array(remaining, np.int64), permutations.reshape(-1)])
    used = steps * batch_size
    return drawn[:used].reshape(steps, batch_size), list(random_state), drawn[used:].tolist()


@lru_cache(maxsize=64)
def program(schedule: Schedule) -> Program:
    """Return a schedule in the form that the kernels read."""
    return Program(schedule)


def prepare() -> None:
    """Load every kernel from the disk, or compile it."""
    schedule = Schedule([], rows=1, size=1, parameters=[0], spread={0: 0}, loss=0, predictions=[0])
    run = Run(program(schedule), [], 1, None, {})
    settings, rates = OPTIMISERS["sgd"].arrange(OPTIMISERS["sgd"].settings), learning_rates("exponential", (0.0, 0.5), 0, 1)
    run.advance(
        [1.0], None, [[0.0]], ALL_POINTS, rates, step=0, optimiser="sgd", settings=settings, mean=True, l2=0.0,
        target=None, targets=[], threshold=None, measuring=False,
    )  # fmt: skip
    run.predictions([1.0])
    draw_batches(_FRESH, [], 2, 1, 1)
