"""A training in the form that the compiled kernels read, and what Python makes of their numbers."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule_engine.compiled.passes import (
    CLEARED,
    COPIED,
    DENSE,
    OPERATION,
    PULL_INPUTS,
    PULL_WEIGHTS,
    TOGETHER,
    WEIGHTS,
    WIDE,
)
from chainrule_engine.compiled.steps import fill_rates, predict, room_for, run_steps, shuffle
from chainrule_engine.compiled.table import COMPUTED_TOGETHER, KIND, OPERAND, PLACE
from chainrule_engine.operations import CODES
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.schedule import (
    LANES,
    LONGEST_BLOCK,
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
    padded,
)

Array = Any

#: So many numbers of a block, gradients not counted, are meant to stay in the second-level cache.
_BLOCK_NUMBERS = 24_576


class Program:
    """A schedule in the form that the kernels read. It depends on the structure of a graph, and on no number of it."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.forward = _table([_encoded(operation) for operation in schedule.forward])
        self.backward = _table([_encoded_backward(operation) for operation in schedule.backward])
        self.weights = np.array(
            [(w.units, w.inputs, w.first, w.per_unit, w.per_input) for w in schedule.weights], np.int64
        ).reshape(-1, WEIGHTS)
        self.spread = np.array(list(schedule.spread.items()), np.int64).reshape(-1, 2)
        self.shares = np.array(schedule.shares, np.int64).reshape(-1, 2)
        self.literals = np.array(list(schedule.literals), np.int64)
        self.parameters = np.array(schedule.parameters, np.int64)
        self.predictions = np.array(schedule.predictions, np.int64)
        #: Of the numbers that are the same at every point: the update takes them by whole vectors.
        self.size = -(-schedule.size // LANES) * LANES
        self.rows = schedule.rows
        self.data_rows = len(schedule.data)
        self.gradient_rows = 1 + max([self.rows + self.data_rows - 1, *(row for row, _ in schedule.shares)])
        #: Rows of the widest operation, and numbers in the longest row of weights.
        self.widest = max([1, *(pull.rows for pull in schedule.backward if isinstance(pull, Pull))])
        self.wide_lanes = max([1, *(max(w.per_unit, w.per_input) for w in schedule.weights)])

    def block(self, points: int) -> int:
        """Return how many points a block has; where there are several, they are about equal."""
        longest = max(LANES, min(LONGEST_BLOCK, _BLOCK_NUMBERS // self.gradient_rows // LANES * LANES))
        blocks = -(-points // longest)
        return padded(-(-points // blocks))


def _table(operations: list[tuple[int, ...]]) -> Array:
    table = np.zeros((len(operations), OPERATION), np.int64)
    for place, operation in enumerate(operations):
        table[place, : len(operation)] = operation
    return table


def _encoded(operation: Forward) -> tuple[int, ...]:
    if isinstance(operation, Wide):
        kind = TOGETHER if _is_together(operation) else WIDE
        return (kind, CODES[operation.operation], operation.rows, operation.target, *operation.args)
    if isinstance(operation, Dense):
        return DENSE, operation.weights, 0, operation.target, operation.x
    return COPIED, 0, 0, operation.target, operation.source


def _is_together(operation: Wide | Pull) -> bool:
    """Tell whether the value and its derivative are computed together: the derivative takes the argument's place."""
    return operation.private and CODES[operation.operation] in COMPUTED_TOGETHER


def _encoded_backward(operation: Backward) -> tuple[int, ...]:
    if isinstance(operation, Copied):
        return COPIED, 0, 0, operation.source, operation.target
    if isinstance(operation, PullWeights):
        return PULL_WEIGHTS, operation.dense.weights, 0, operation.dense.target, operation.dense.x
    if isinstance(operation, PullInputs):
        dense = operation.dense
        return PULL_INPUTS, dense.weights, 0, dense.target, dense.x, 0, 0, 0, 0, operation.first
    if isinstance(operation, Cleared):
        return CLEARED, 0, 0, 0, operation.row
    key = 3 * CODES[operation.operation] + operation.place
    *args, result = operation.operands
    operands = (*(*args, 0, 0)[:3], result)
    kind = int(KIND[key])
    if _is_together(operation):
        kind = OPERAND
    elif kind == OPERAND:
        operands = (operands[PLACE[key]], 0, 0, 0)
    return kind, key, operation.rows, operation.source, operation.to, *operands, operation.first


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
    """A program with the data that it runs on. Threads that share one take turns: its rows are room for one of them."""

    def __init__(
        self,
        program: Program,
        columns: Sequence[Sequence[float]] | Array,
        points: int,
        batch_size: int | None,
        fixed: dict[int, float],
    ) -> None:
        """Lay out the data: a column for each of the schedule's data slots, of `points` numbers.

        fixed   slot → number, for the inputs that are neither trained nor data
        """
        self.program, self.points, self.batch_size = program, points, batch_size
        self._turn = threading.Lock()
        self.columns = np.ascontiguousarray(columns, np.float64).reshape(len(columns), points)
        self.block = program.block(batch_size or points)
        literals = program.schedule.literals.values()
        self.literals = np.array([fixed[x] if isinstance(x, int) else x for x in literals], np.float64)
        room = self.block if batch_size else points + self.block
        self.v = np.empty(program.rows * self.block + program.data_rows * room)
        if not batch_size:
            for low in range(0, points, self.block):
                here = self.columns[:, low : low + self.block]
                lanes = padded(here.shape[1])
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
        placed = np.zeros(self.program.size)
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
        program, points = self.program, self.batch_size or self.points
        numbers = self.numbers(parameters)
        gradient = np.zeros_like(numbers) if gradients is None else self._placed(gradients)
        remembered = [self._placed(slot) for slot in slots]
        losses, accuracies = np.empty(rates.size), np.empty(rates.size)
        with self._turn:
            taken, reason = run_steps(
                program.forward,
                program.backward,
                program.weights,
                program.spread,
                program.shares,
                program.literals,
                self.literals,
                program.parameters,
                program.predictions,
                np.array([program.rows + target for target in targets], np.int64),
                numbers,
                gradient,
                remembered[0],
                remembered[-1] if len(remembered) > 1 else np.zeros(1),
                self.v,
                np.empty(program.gradient_rows * self.block),
                np.empty(room_for(program.widest, program.wide_lanes, self.block, program.size, points)),
                self.columns,
                order,
                rates,
                losses,
                accuracies,
                np.array(settings, np.float64),
                program.rows,
                program.schedule.loss,
                points,
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
            accuracies[:taken].tolist() if measuring else [],
            numbers[places].tolist(),
            gradient[places].tolist() if updated else gradients,
            [kept[places].tolist() for kept in remembered],
            _STOP_REASONS[reason],
        )

    def predictions(self, parameters: Sequence[float]) -> list[Any]:
        """Return for each point its prediction, or a list of them where there are several."""
        program = self.program
        out = np.empty((self.points, program.predictions.size))
        with self._turn:
            predict(
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
        return list((out[:, 0] if out.shape[1] == 1 else out).tolist())


def columns_of(tables: Sequence[Sequence[Sequence[float]]]) -> Array:
    """Turn tables, which stand side by side and have a row for each point, into columns of numbers."""
    return np.concatenate([_numbers(rows).T for rows in tables])


def _numbers(rows: Sequence[Sequence[float]]) -> Array:
    pack = struct.Struct(f"{len(rows[0])}d").pack  # a third of the time that NumPy takes to look at each number
    return np.frombuffer(b"".join([pack(*row) for row in rows])).reshape(len(rows), -1)


def learning_rates(schedule: str, settings: Sequence[float], step: int, steps: int) -> Array:
    """Return the learning rates of the steps from `step` on."""
    rates = np.empty(steps)
    fill_rates(list(SCHEDULES).index(schedule), rates, step, np.array(settings, np.float64))
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
        generator.set_state(("MT19937", np.array(numbers[:-1], np.uint32), numbers[-1], 0, 0.0))
        shuffle(generator.random_sample((epochs, points - 1)), permutations)
        after: Any = generator.get_state()
        random_state = [version, [*after[1].tolist(), after[2]], gauss]
    drawn = np.concatenate([np.array(remaining, np.int64), permutations.reshape(-1)])
    used = steps * batch_size
    return drawn[:used].reshape(steps, batch_size), list(random_state), drawn[used:].tolist()


def prepare() -> None:
    """Load every kernel from the disk, or compile it."""
    schedule = Schedule([], rows=1, size=1, parameters=[0], spread={0: 0}, loss=0, predictions=[0])
    run = Run(Program(schedule), [], 1, None, {})
    run.advance(
        [1.0],
        None,
        [[0.0]],
        ALL_POINTS,
        learning_rates("exponential", (0.0, 0.5), 0, 1),
        step=0,
        optimiser="sgd",
        settings=(0.0, 0.0),
        mean=True,
        l2=0.0,
        target=None,
        targets=[],
        threshold=None,
        measuring=False,
    )
    run.predictions([1.0])
    draw_batches(_FRESH, [], 2, 1, 1)
