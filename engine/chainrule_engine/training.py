"""Training: gradient descent on a network or on any scalar graph, as a loop that can stop and go on anywhere.

A training is compiled once (`Training(spec)`); its whole state is a `TrainingState`, which is plain data. `advance`
is a pure function of the two, so a training that is saved, moved and resumed gives the bits of one that never stopped.

The bits are those of the lecture's loop on `Value`: the loss of a step is Σ of the points' losses in their order
(divided by their number for the mean), plus l2·Σp²; the gradient of a parameter adds first the l2 term's two shares,
then the points' from the last to the first, as the reverse of that order has it. The loop stands here in plain Python;
where the compiled kernels are at hand they take the steps, with the same bits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, NamedTuple, overload

from chainrule_engine import acceleration
from chainrule_engine.errors import Path, TrainingError
from chainrule_engine.kernels import Column
from chainrule_engine.models import GraphModel, Model, NetworkModel, Spec
from chainrule_engine.operations import OPERATIONS, Constant, Operand
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.schedule import LANES, LONGEST_BLOCK

#: What can be recorded at every step beside the loss.
METRICS = {"accuracy": "the fraction of the step's points that are predicted right, before the update"}

#: Why a training stopped.
STOP_REASONS = {
    "completed": "all steps were taken",
    "diverged": "the loss was infinite or NaN; it is the last of the history, and no update followed it",
    "target_loss": "the loss came down to the target; it is the last of the history, and no update followed it",
}


class Costs(NamedTuple):
    """What parts of a training take, in evaluations of a node at a point by plain Python: about a microsecond each.

    step, parameter, instruction   of a step, whatever its points
    point, easy_point   of an instruction at a point; easy where no partial derivative has to be computed
    """

    step: float
    parameter: float
    instruction: float
    point: float
    easy_point: float


#: Measured, roughly.
PLAIN_COSTS = Costs(step=100.0, parameter=1.0, instruction=8.0, point=1.0, easy_point=1.0)
COMPILED_COSTS = Costs(step=0.5, parameter=0.005, instruction=0.05, point=0.01, easy_point=0.001)

_EASY = bytes(
    code
    for code, operation in enumerate(OPERATIONS.values())
    if all(isinstance(rule, Constant | Operand) for rule in operation.partials)
)

#: Bytes for a node or parameter with its part of the schedule, and for a step's records; measured, rather too many.
NODE_BYTES, STEP_BYTES = 2_000, 200
#: Bytes for the list that a point's target is put in.
TARGET_BYTES = 80
#: Bytes for the number and the gradient of a node at a point: in plain Python, and in machine code.
PLAIN_BYTES, COMPILED_BYTES = 130, 20

#: The compiled kernels draw the points of so many batches ahead, in numbers.
_DRAWN_AHEAD = 1 << 20


class StepRecord(NamedTuple):
    """What happened at one step: the loss and the metrics before update `step`."""

    step: int
    loss: float
    learning_rate: float
    metrics: dict[str, float]


class Records(Sequence[StepRecord]):
    """What happened at steps that follow one another, in columns: a thousand may take less than a millisecond.

    first   the number of the first step
    """

    def __init__(
        self,
        first: int = 0,
        losses: Iterable[float] = (),
        learning_rates: Iterable[float] = (),
        metrics: Mapping[str, Iterable[float]] | None = None,
    ) -> None:
        self.first, self.losses, self.learning_rates = first, list(losses), list(learning_rates)
        self.metrics = {name: list(numbers) for name, numbers in (metrics or {}).items()}

    @classmethod
    def of(cls, records: Iterable[StepRecord]) -> Records:
        """Put the records of steps that follow one another together; all have the same metrics."""
        records = list(records)
        names = records[0].metrics if records else ()
        return cls(
            records[0].step if records else 0,
            [record.loss for record in records],
            [record.learning_rate for record in records],
            {name: [record.metrics[name] for record in records] for name in names},
        )

    def __len__(self) -> int:
        return len(self.losses)

    @overload
    def __getitem__(self, place: int) -> StepRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[StepRecord]: ...
    def __getitem__(self, place: int | slice) -> StepRecord | list[StepRecord]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        step = self.first + range(len(self))[place]
        metrics = {name: numbers[place] for name, numbers in self.metrics.items()}
        return StepRecord(step, self.losses[place], self.learning_rates[place], metrics)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Records({list(self)!r})"

    def __add__(self, others: Records) -> Records:
        both = Records()
        both.extend(self)
        both.extend(others)
        return both

    def extend(self, others: Records) -> None:
        """Append the records of the steps that follow."""
        if not self:
            self.first = others.first
        self.losses += others.losses
        self.learning_rates += others.learning_rates
        for name, numbers in others.metrics.items():
            self.metrics.setdefault(name, []).extend(numbers)


@dataclass
class TrainingState:
    """Everything that the next step depends on.

    `records` is what has happened since this object was made or read; it is no part of the saved state.
    """

    parameters: list[float]
    slots: dict[str, list[float]]
    step: int = 0
    gradients: list[float] | None = None
    random_state: Any = None
    remaining: list[int] = field(default_factory=list)
    stop_reason: str | None = None
    records: Records = field(default_factory=Records)

    def to_dict(self) -> dict[str, Any]:
        """Write plain data (numbers may be infinite or NaN) from which `from_dict` makes an equal state."""
        names = ("parameters", "slots", "step", "gradients", "random_state", "remaining", "stop_reason")
        # The slots are a mapping that updates write to, and what was written down must stay as it was.
        return {name: getattr(self, name) for name in names} | {"slots": dict(self.slots)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], records: Iterable[StepRecord] = ()) -> TrainingState:
        """Read what `to_dict` wrote; `records` are those of the steps before, for the result's histories."""
        return cls(**{**data, "slots": dict(data["slots"])}, records=Records.of(records))


class Training:
    """A training specification, checked and compiled.

    spec is in the form of the wire (the `spec` of a training job) with the types of its fields already checked; what
    only makes sense together is checked here: TrainingError, with paths into the spec.

    The data is not copied, but for targets that are classes: whoever changes it before the first step trains on what it
    is then.

    max_nodes, max_points   of a graph model: LimitExceeded beyond, before the graph is read
    plain   take the steps in plain Python even where the compiled kernels are at hand
    """

    def __init__(
        self, spec: Spec, *, max_nodes: int | None = None, max_points: int | None = None, plain: bool = False
    ) -> None:
        self.steps: int = spec["steps"]
        self._target: float | None = spec.get("target_loss")
        loss = spec.get("loss") or {}
        self._mean = loss.get("reduction", "mean") == "mean"
        self._l2: float = float(loss.get("l2", 0.0))
        self.model: Model = GraphModel(spec, max_nodes, max_points) if "graph" in spec["model"] else NetworkModel(spec)
        self.metrics: list[str] = list(spec.get("metrics") or ())
        if self.metrics and self.model.accuracy is None:
            raise TrainingError.at(("metrics",), f"{self.metrics[0]} belongs to networks: a graph model has none")
        self._read_optimiser(spec)
        self._batch_size: int | None = spec.get("batch_size")
        if self._batch_size is not None and self._batch_size > self.model.points:
            raise TrainingError.at(
                ("batch_size",),
                f"there are {self.model.points} points: a batch cannot hold {self._batch_size}",
            )
        self._batch_seed: int = spec.get("batch_seed", 0)
        self._plain = plain
        self._kernels: Any = None
        self._compiled: Any = None

    def _read_optimiser(self, spec: Spec) -> None:
        optimiser = spec["optimizer"]
        self._optimiser = OPTIMISERS[optimiser["name"]]
        self._optimiser_name: str = optimiser["name"]
        self._settings = {name: optimiser.get(name, value) for name, value in self._optimiser.settings.items()}
        for name in optimiser.keys() - self._settings.keys() - {"name", "learning_rate"}:
            takes = ", ".join(("learning_rate", *self._settings))
            detail = f"{optimiser['name']} has no setting of this name: it takes {takes}"
            raise TrainingError.at(("optimizer", name), detail)
        if self._settings.get("nesterov") and not self._settings["momentum"]:
            raise TrainingError.at(("optimizer", "nesterov"), "Nesterov's rule needs a momentum above 0")
        rate = optimiser["learning_rate"]
        # The name of a schedule with its settings, or one rate for all steps.
        self._rate: tuple[str, tuple[float, ...]] | float
        if isinstance(rate, Mapping):
            schedule = SCHEDULES[rate["schedule"]]
            settings = {"steps": self.steps, **rate}
            for name in rate.keys() - set(schedule.settings) - {"schedule"}:
                path: Path = ("optimizer", "learning_rate", name)
                detail = f"the schedule {rate['schedule']} has no setting of this name: it takes"
                raise TrainingError.at(path, f"{detail} {', '.join(schedule.settings)}")
            for name in schedule.settings:
                if name not in settings:
                    path = ("optimizer", "learning_rate")
                    raise TrainingError.at(path, f"the schedule {rate['schedule']} needs {name}")
            self._rate = rate["schedule"], schedule.arrange(settings)
        else:
            self._rate = float(rate)

    @property
    def cost(self) -> int:
        """The work of the whole training, in evaluations of a node at a point by plain Python; at least 1.

        Machine code does much more in that time: the work is less where the compiled kernels are at hand.
        """
        return self._cost(PLAIN_COSTS if self._find_kernels() is None else COMPILED_COSTS)

    def _cost(self, costs: Costs) -> int:
        codes = self.model.structure.graph.nodes.codes
        easy = sum(map(codes.count, _EASY))
        points = self._batch_size or self.model.points
        step = costs.step + costs.parameter * len(self.model.initial) + costs.instruction * len(codes)
        point = costs.easy_point * easy + costs.point * (len(codes) - easy)
        # The predictions at the end are for all points.
        return max(1, math.ceil(self.steps * (step + points * point) + self.model.points * point))

    @property
    def memory(self) -> int:
        """About how many bytes the training takes at its peak, beside its specification; rather too many than too few.

        The steps' records, the graph with its schedule, the data, and the numbers and gradients of the points that are
        looked at together: all of a step in plain Python, a block of them in machine code, which also draws batches
        ahead.
        """
        structure, points = self.model.structure, self._batch_size or self.model.points
        nodes = len(structure.graph.nodes) + len(structure.graph.inputs)
        drawn = 0
        if self._find_kernels() is None:
            # The predictions at the end are for all points.
            together = PLAIN_BYTES * self.model.points + (PLAIN_BYTES * points) // 2
        else:
            together = COMPILED_BYTES * (min(points, LONGEST_BLOCK) + LANES)
            if self._batch_size is not None:
                # Random numbers, permutations and batches made of them; before and after, what is left, as lists.
                ahead = min(max(_DRAWN_AHEAD, points), self.steps * points) + self.model.points
                drawn = 24 * ahead + 80 * self.model.points
        columns = len(structure.data) + 3 * len(structure.predictions)
        data = (40 * columns + TARGET_BYTES) * self.model.points
        return drawn + nodes * (NODE_BYTES + together) + STEP_BYTES * self.steps + data

    def start(self) -> TrainingState:
        """Return the state before the first step."""
        zeros = [0.0] * len(self.model.initial)
        return TrainingState(
            parameters=list(self.model.initial),
            slots={name: list(zeros) for name in self._optimiser.slots},
            random_state=None if self._batch_size is None else _plain(random.Random(self._batch_seed).getstate()),
        )

    def advance(self, state: TrainingState, steps: int) -> Records:
        """Take up to `steps` steps; fewer at the end, or when the training stops. Changes the state."""
        records = Records()
        left = min(steps, self.steps - state.step)
        compiled = self._find_compiled() if left > 0 and state.stop_reason is None else None
        while left > 0 and state.stop_reason is None:
            taken = self._take(compiled, state, left) if compiled else Records.of([self._step(state)])
            left -= len(taken)
            if records:
                records.extend(taken)
            else:
                records = taken
        if state.step == self.steps and state.stop_reason is None:
            state.stop_reason = "completed"
        state.records.extend(records)
        return records

    # ------------------------------------------------------------------------------------------- by compiled kernels

    def _find_compiled(self) -> Any:
        """Return the training with its data laid out for the compiled kernels, None where these are not at hand."""
        kernels = self._find_kernels()
        if self._compiled is None and kernels is not None:
            structure = self.model.structure
            if self.model.tables:
                columns = kernels.columns_of(self.model.tables)
            else:
                columns = [self.model.columns[name] for name in structure.data]
            fixed = {structure.tape.slots[name]: structure.graph.inputs[name] for name in structure.fixed}
            if structure.program is None:
                structure.program = kernels.Program(structure.schedule)
            self._compiled = kernels.Run(structure.program, columns, self.model.points, self._batch_size, fixed)
        return self._compiled

    def _find_kernels(self) -> Any:
        if self._kernels is None and not self._plain and self.model.structure.is_computed:
            self._kernels = acceleration.find_training(self._cost(PLAIN_COSTS))
        return self._kernels

    def _take(self, compiled: Any, state: TrainingState, steps: int) -> Records:
        """Take some steps in one call."""
        kernels = self._kernels
        before = state.random_state, state.remaining
        if self._batch_size is not None:
            steps = min(steps, max(1, _DRAWN_AHEAD // self._batch_size))
            order, *after = kernels.draw_batches(*before, self.model.points, self._batch_size, steps)
        else:
            order, after = kernels.ALL_POINTS, list(before)
        if isinstance(self._rate, float):
            rates = kernels.constant_rates(self._rate, steps)
        else:
            rates = kernels.learning_rates(*self._rate, state.step, steps)
        accuracy = self.model.accuracy if self.metrics else None
        done = compiled.advance(
            state.parameters,
            state.gradients,
            [state.slots[name] for name in self._optimiser.slots],
            order,
            rates,
            step=state.step,
            optimiser=self._optimiser_name,
            settings=self._optimiser.arrange(self._settings),
            mean=self._mean,
            l2=self._l2,
            target=self._target,
            targets=[self.model.structure.data.index(name) for name in accuracy.targets] if accuracy else [],
            threshold=accuracy.loss.threshold if accuracy else None,
            measuring=accuracy is not None,
        )
        taken = len(done.losses)
        if taken < steps and self._batch_size is not None:
            # The points of the steps that were not taken have not been drawn.
            _, *after = kernels.draw_batches(*before, self.model.points, self._batch_size, taken)
        first = state.step
        state.parameters, state.gradients = done.parameters, done.gradients
        state.slots = dict(zip(self._optimiser.slots, done.slots, strict=True))
        state.random_state, state.remaining = after
        state.step += taken
        state.stop_reason = done.stop_reason
        metrics = {"accuracy": done.accuracies} if accuracy else {}
        used = [self._rate] * taken if isinstance(self._rate, float) else rates[:taken].tolist()
        return Records(first, done.losses, used, metrics)

    # ------------------------------------------------------------------------------------------------ in plain Python

    def _step(self, state: TrainingState) -> StepRecord:
        structure = self.model.structure
        batch = self._next_batch(state)
        columns = self._forward(state.parameters, batch)
        losses = columns[structure.tape.slots[structure.loss]]
        loss = reduce(add, losses)
        if self._mean:
            loss = loss / len(losses)
        if self._l2:
            loss = loss + self._l2 * reduce(add, [p * p for p in state.parameters])
        rate = self._learning_rate(state.step)
        record = StepRecord(state.step, loss, rate, self._measure(columns, batch))
        if not math.isfinite(loss):
            state.stop_reason = "diverged"
        elif self._target is not None and loss <= self._target:
            state.stop_reason = "target_loss"
        if state.stop_reason is None:
            state.gradients = self._gradients(state.parameters, columns, len(losses))
            state.parameters = self._optimiser.update(
                state.parameters, state.gradients, state.slots, rate, state.step + 1, self._settings
            )
        state.step += 1
        return record

    def _learning_rate(self, step: int) -> float:
        if isinstance(self._rate, float):
            return self._rate
        name, settings = self._rate
        return SCHEDULES[name].formula(float(step), settings)

    def _next_batch(self, state: TrainingState) -> Sequence[int]:
        """Draw the points of a step: the next of a permutation that is drawn afresh when it is used up.

        Fisher and Yates's shuffle over `random.Random.random`, whose sequence Python guarantees for a seed. A batch
        that would need more points than remain takes those and goes on with the next permutation.
        """
        if self._batch_size is None:
            return range(self.model.points)
        batch: list[int] = []
        while len(batch) < self._batch_size:
            if not state.remaining:
                rng = random.Random()
                version, numbers, gauss = state.random_state
                rng.setstate((version, tuple(numbers), gauss))
                state.remaining = list(range(self.model.points))
                for last in range(self.model.points - 1, 0, -1):
                    other = int(rng.random() * (last + 1))
                    state.remaining[last], state.remaining[other] = (
                        state.remaining[other],
                        state.remaining[last],
                    )
                state.random_state = _plain(rng.getstate())
            missing = self._batch_size - len(batch)
            batch += state.remaining[:missing]
            state.remaining = state.remaining[missing:]
        return batch

    def _forward(self, parameters: Sequence[float], batch: Sequence[int]) -> Sequence[Column]:
        structure = self.model.structure
        inputs: dict[str, Any] = dict(structure.graph.inputs)
        inputs |= dict(zip(structure.parameters, parameters, strict=True))
        inputs |= {name: [column[p] for p in batch] for name, column in self.model.columns.items()}
        return structure.tape.forward(inputs, len(batch))

    def _gradients(self, parameters: list[float], columns: Sequence[Column], points: int) -> list[float]:
        structure = self.model.structure
        tape = structure.tape
        slots = [tape.slots[name] for name in structure.parameters]
        uses: dict[int, list[Column]] = {slot: [] for slot in slots}
        seed = 1.0 / points if self._mean else 1.0
        tape.backward(columns, {structure.loss: [seed] * points}, shared=uses, skip=structure.fixed)
        if structure.loss in structure.parameters:
            uses[tape.slots[structure.loss]].append([seed] * points)
        gradients = []
        for slot, parameter in zip(slots, parameters, strict=True):
            total = 0.0
            if self._l2:
                share = self._l2 * parameter
                total = total + share + share
            used = uses[slot]
            if len(used) == 1:
                total = reduce(add, reversed(used[0]), total)
            else:
                for shares in zip(*(reversed(column) for column in used), strict=True):
                    total = reduce(add, shares, total)
            gradients.append(total)
        return gradients

    def _measure(self, columns: Sequence[Column], batch: Sequence[int]) -> dict[str, float]:
        accuracy = self.model.accuracy
        if not self.metrics or accuracy is None:
            return {}
        targets = [self.model.columns[name] for name in accuracy.targets]
        predictions = zip(*self._predictions(columns), strict=True)
        right = [
            accuracy.loss.correct(outputs, [column[point] for column in targets])
            for outputs, point in zip(predictions, batch, strict=True)
        ]
        return {"accuracy": right.count(True) / len(right)}

    def _predictions(self, columns: Sequence[Column]) -> list[Column]:
        structure = self.model.structure
        return [columns[structure.tape.slots[name]] for name in structure.predictions]

    def result(self, state: TrainingState) -> dict[str, Any]:
        """Return the wire's result: histories, parameters, last gradients, predictions for all points, stop reason."""
        compiled = self._find_compiled()
        count = len(self.model.structure.predictions)
        predictions: list[Any] | None = None
        if compiled and count:
            predictions = compiled.predictions(state.parameters)
        elif count:
            columns = self._predictions(self._forward(state.parameters, range(self.model.points)))
            predictions = columns[0] if count == 1 else [list(row) for row in zip(*columns, strict=True)]
        return {
            "loss_history": list(state.records.losses),
            "metrics": {name: list(state.records.metrics.get(name, ())) for name in self.metrics},
            "parameters": self.model.arrange(state.parameters),
            "gradients": None if state.gradients is None else self.model.arrange(state.gradients),
            "predictions": predictions,
            "stop_reason": state.stop_reason,
        }


def train(spec: Spec) -> dict[str, Any]:
    """Run a whole training and return its result."""
    training = Training(spec)
    state = training.start()
    training.advance(state, training.steps)
    return training.result(state)


def _plain(random_state: tuple[Any, ...]) -> list[Any]:
    version, numbers, gauss = random_state
    return [version, list(numbers), gauss]
