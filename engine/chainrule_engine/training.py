"""Training: gradient descent on a network or on any scalar graph, as a loop that can stop and go on anywhere.

A training is compiled once (`Training(spec)`); its whole state is a `TrainingState`, which is plain data. `advance`
is a pure function of the two, so a training that is saved, moved and resumed gives the bits of one that never stopped.

The bits are those of the lecture's loop on `Value`: the loss of a step is Σ of the points' losses in their order
(divided by their number for the mean), plus l2·Σp²; the gradient of a parameter adds first the l2 term's two shares,
then the points' from the last to the first, as the reverse of that order has it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import islice
from operator import add
from typing import Any, Protocol

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, LimitExceeded, Path, Problem, TrainingError
from chainrule_engine.graph import Graph
from chainrule_engine.kernels import Column
from chainrule_engine.losses import LOSSES, Loss
from chainrule_engine.nn import ACTIVATIONS, DEFAULT_ACTIVATION, DEFAULT_SCHEME, MLP
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.tape import Tape
from chainrule_engine.value import Value

#: What can be recorded at every step beside the loss.
METRICS = {"accuracy": "the fraction of the step's points that are predicted right, before the update"}

#: Why a training stopped.
STOP_REASONS = {
    "completed": "all steps were taken",
    "diverged": "the loss was infinite or NaN; it is the last of the history, and no update followed it",
    "target_loss": "the loss came down to the target; it is the last of the history, and no update followed it",
}

#: What a step and an instruction of it cost besides the points, in evaluations of a node at a point; measured, roughly.
STEP_COST, INSTRUCTION_COST = 100, 8

Spec = Mapping[str, Any]
#: (predictions, point) → whether the point is predicted right.
IsRight = Callable[[Sequence[float], int], bool]


class Model(Protocol):
    """What is trained: a graph of one point's loss, and how its numbers look on the wire."""

    graph: Graph
    parameters: list[str]
    loss: str
    predictions: list[str]
    columns: dict[str, Column]
    points: int
    correct: IsRight | None  # None where that has no meaning

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Put one number per parameter into the wire's form."""


@dataclass(frozen=True)
class StepRecord:
    """What happened at one step: the loss and the metrics before update `step`."""

    step: int
    loss: float
    learning_rate: float
    metrics: dict[str, float]


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
    records: list[StepRecord] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Write plain data (numbers may be infinite or NaN) from which `from_dict` makes an equal state."""
        names = ("parameters", "slots", "step", "gradients", "random_state", "remaining", "stop_reason")
        # The slots are a mapping that updates write to, and what was written down must stay as it was.
        return {name: getattr(self, name) for name in names} | {"slots": dict(self.slots)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], records: Sequence[StepRecord] = ()) -> TrainingState:
        """Read what `to_dict` wrote; `records` are those of the steps before, for the result's histories."""
        return cls(**{**data, "slots": dict(data["slots"])}, records=list(records))


class Training:
    """A training specification, checked and compiled.

    spec is in the form of the wire (the `spec` of a training job) with the types of its fields already checked; what
    only makes sense together is checked here: TrainingError, with paths into the spec.

    max_nodes, max_points   of a graph model: LimitExceeded beyond, before the graph is read
    """

    def __init__(self, spec: Spec, *, max_nodes: int | None = None, max_points: int | None = None) -> None:
        self.steps: int = spec["steps"]
        self._target: float | None = spec.get("target_loss")
        loss = spec.get("loss") or {}
        self._mean = loss.get("reduction", "mean") == "mean"
        self._l2: float = float(loss.get("l2", 0.0))
        if "graph" in spec["model"]:
            self.model: Model = _GraphModel(spec, max_nodes, max_points)
        else:
            self.model = _NetworkModel(spec)
        self.metrics: list[str] = list(spec.get("metrics") or ())
        if self.metrics and self.model.correct is None:
            raise TrainingError.at(("metrics",), f"{self.metrics[0]} belongs to networks: a graph model has none")
        self._initial = [_number(self.model.graph.inputs[name]) for name in self.model.parameters]
        self._read_optimiser(spec)
        self._batch_size: int | None = spec.get("batch_size")
        if self._batch_size is not None and self._batch_size > self.model.points:
            raise TrainingError.at(
                ("batch_size",),
                f"there are {self.model.points} points: a batch cannot hold {self._batch_size}",
            )
        self._batch_seed: int = spec.get("batch_seed", 0)
        self._tape = Tape(self.model.graph)
        self._fixed = frozenset(self.model.graph.inputs.keys() - set(self.model.parameters))

    def _read_optimiser(self, spec: Spec) -> None:
        optimiser = spec["optimizer"]
        self._optimiser = OPTIMISERS[optimiser["name"]]
        self._settings = {name: optimiser.get(name, value) for name, value in self._optimiser.settings.items()}
        for name in optimiser.keys() - self._settings.keys() - {"name", "learning_rate"}:
            raise TrainingError.at(("optimizer", name), f"{optimiser['name']} has no setting of this name")
        if self._settings.get("nesterov") and not self._settings["momentum"]:
            raise TrainingError.at(("optimizer", "nesterov"), "Nesterov's rule needs a momentum above 0")
        rate = optimiser["learning_rate"]
        if isinstance(rate, Mapping):
            schedule = SCHEDULES[rate["schedule"]]
            settings = {"steps": self.steps, **rate}
            for name in rate.keys() - set(schedule.settings) - {"schedule"}:
                path: Path = ("optimizer", "learning_rate", name)
                raise TrainingError.at(path, f"the schedule {rate['schedule']} has no setting of this name")
            for name in schedule.settings:
                if name not in settings:
                    path = ("optimizer", "learning_rate")
                    raise TrainingError.at(path, f"the schedule {rate['schedule']} needs {name}")
            self._rate: Callable[[int], float] = partial(schedule.rate, settings=settings)
        else:
            self._rate = lambda step: float(rate)

    @property
    def cost(self) -> int:
        """The work of the whole training, in evaluations of a node at a point.

        steps · (STEP_COST + parameters + (INSTRUCTION_COST + points of a step) · instructions)
        """
        points = self._batch_size or self.model.points
        instructions = len(self._tape.instructions)
        return self.steps * (STEP_COST + len(self._initial) + (INSTRUCTION_COST + points) * instructions)

    def start(self) -> TrainingState:
        """Return the state before the first step."""
        zeros = [0.0] * len(self._initial)
        rng = random.Random(self._batch_seed)
        return TrainingState(
            parameters=list(self._initial),
            slots={name: list(zeros) for name in self._optimiser.slots},
            random_state=_plain(rng.getstate()) if self._batch_size is not None else None,
        )

    def advance(self, state: TrainingState, steps: int) -> list[StepRecord]:
        """Take up to `steps` steps; fewer at the end, or when the training stops. Changes the state."""
        records: list[StepRecord] = []
        for _ in range(min(steps, self.steps - state.step)):
            if state.stop_reason is not None:
                break
            records.append(self._step(state))
        if state.step == self.steps and state.stop_reason is None:
            state.stop_reason = "completed"
        state.records += records
        return records

    def _step(self, state: TrainingState) -> StepRecord:
        batch = self._next_batch(state)
        columns = self._forward(state.parameters, batch)
        losses = columns[self._tape.slots[self.model.loss]]
        loss = reduce(add, losses)
        if self._mean:
            loss = loss / len(losses)
        if self._l2:
            loss = loss + self._l2 * reduce(add, [p * p for p in state.parameters])
        rate = self._rate(state.step)
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
        inputs: dict[str, Column | float] = {name: _number(value) for name, value in self.model.graph.inputs.items()}
        inputs |= dict(zip(self.model.parameters, parameters, strict=True))
        inputs |= {name: [column[p] for p in batch] for name, column in self.model.columns.items()}
        return self._tape.forward(inputs, len(batch))

    def _gradients(self, parameters: list[float], columns: Sequence[Column], points: int) -> list[float]:
        slots = [self._tape.slots[name] for name in self.model.parameters]
        uses: dict[int, list[Column]] = {slot: [] for slot in slots}
        seed = 1.0 / points if self._mean else 1.0
        self._tape.backward(columns, {self.model.loss: [seed] * points}, shared=uses, skip=self._fixed)
        if self.model.loss in self.model.parameters:
            uses[self._tape.slots[self.model.loss]].append([seed] * points)
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

    def _predictions(self, columns: Sequence[Column]) -> list[Column]:
        return [columns[self._tape.slots[name]] for name in self.model.predictions]

    def _measure(self, columns: Sequence[Column], batch: Sequence[int]) -> dict[str, float]:
        if "accuracy" not in self.metrics or self.model.correct is None:
            return {}
        rows = zip(*self._predictions(columns), strict=True)
        right = [self.model.correct(row, point) for row, point in zip(rows, batch, strict=True)]
        return {"accuracy": right.count(True) / len(right)}

    def result(self, state: TrainingState) -> dict[str, Any]:
        """Return the wire's result: histories, parameters, last gradients, predictions for all points, stop reason."""
        columns = self._predictions(self._forward(state.parameters, range(self.model.points)))
        predictions: list[Any] | None = None
        if columns:
            predictions = columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
        return {
            "loss_history": [record.loss for record in state.records],
            "metrics": {name: [record.metrics[name] for record in state.records] for name in self.metrics},
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


def _number(value: float | list[float]) -> float:
    return value[0] if isinstance(value, list) else value


def _plain(random_state: tuple[Any, ...]) -> list[Any]:
    version, numbers, gauss = random_state
    return [version, list(numbers), gauss]


class _NetworkModel:
    """A multilayer perceptron with a loss: one output per neuron of the last layer, one target for each."""

    def __init__(self, spec: Spec) -> None:
        model, loss = spec["model"], spec.get("loss")
        if not loss or "name" not in loss:
            raise TrainingError.at(("loss",), f"name the loss of a network: {', '.join(LOSSES)}")
        self._loss = LOSSES[loss["name"]]
        self._mlp = _read_network(model)
        width = len(self._mlp.layers[-1].neurons)
        if self._loss.classes and width < 2:
            raise TrainingError.at(("model", "layers"), f"{self._loss.name} needs an output for each of its classes")
        rows = _read_rows(spec.get("data"), model["inputs"])
        self._targets = _read_targets(spec["data"]["targets"], len(rows), width, self._loss)
        self.points = len(rows)
        self.correct: IsRight | None = self._is_right
        xs = [Value(0.0, f"x{i}") for i in range(1, model["inputs"] + 1)]
        ts = [Value(0.0, f"t{i}") for i in range(1, width + 1)]
        outputs = self._mlp(xs)
        for number, output in enumerate(outputs, 1):
            output.label = output.label or f"y{number}"
        point_loss = self._loss.value(outputs, ts).named("loss")
        self.graph = Graph.from_values([point_loss])
        self.loss = "loss"
        self.predictions = [output.label for output in outputs]
        self.parameters = [parameter.label for parameter in self._mlp.parameters()]
        # An input that no weight uses does not occur in the graph, and needs no column.
        self.columns = {
            name: column
            for values, table in ((xs, rows), (ts, self._targets))
            for name, column in zip((v.label for v in values), map(list, zip(*table, strict=True)), strict=True)
            if name in self.graph.inputs
        }

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        return self._mlp.arrange(numbers)

    def _is_right(self, predictions: Sequence[float], point: int) -> bool:
        return self._loss.correct(predictions, self._targets[point])


def _read_network(model: Spec) -> MLP:
    widths = model["layers"]
    activation = model.get("activation", DEFAULT_ACTIVATION)
    names = [activation] * len(widths) if isinstance(activation, str) else list(activation)
    if len(names) != len(widths):
        raise TrainingError.at(
            ("model", "activation"),
            f"there are {len(widths)} layers: give one activation for all, or one for each",
        )
    if model.get("output_activation") is not None:
        names[-1] = model["output_activation"]
    for name in names:
        if name not in ACTIVATIONS:
            raise TrainingError.at(("model", "activation"), f"choose from {', '.join(ACTIVATIONS)}")
    if "parameters" in model:
        if "init" in model:
            raise TrainingError.at(("model", "init"), "give either init or parameters, not both")
        return MLP.of(_read_layers(model["parameters"], model["inputs"], widths), names)
    init = model.get("init") or {}
    return MLP.draw(model["inputs"], widths, names, init.get("scheme", DEFAULT_SCHEME), init.get("seed", 0))


def _read_layers(parameters: Any, inputs: int, widths: Sequence[int]) -> list[tuple[list[list[float]], list[float]]]:
    path: Path = ("model", "parameters", "layers")
    layers = parameters["layers"]
    if len(layers) != len(widths):
        raise TrainingError.at(path, f"there are {len(widths)} layers, and this gives {len(layers)}")
    problems = []
    read = []
    fan_in = inputs
    for number, (layer, width) in enumerate(zip(layers, widths, strict=True)):
        weights, biases = layer["weights"], layer["biases"]
        if len(weights) != width:
            detail = f"this layer has {width} neurons: give as many rows of weights, not {len(weights)}"
            problems.append(Problem((*path, number, "weights"), detail))
        for place, row in enumerate(weights):
            if len(row) != fan_in:
                detail = f"a neuron of this layer has {fan_in} inputs: give as many weights, not {len(row)}"
                problems.append(Problem((*path, number, "weights", place), detail))
        if len(biases) != width:
            detail = f"this layer has {width} neurons: give as many biases, not {len(biases)}"
            problems.append(Problem((*path, number, "biases"), detail))
        read.append((weights, biases))
        fan_in = width
    if problems:
        raise TrainingError(problems)
    return read


def _read_rows(data: Any, width: int) -> list[list[float]]:
    if not data or "inputs" not in data or "targets" not in data:
        raise TrainingError.at(("data",), "a network needs data with inputs (a list of rows) and targets")
    rows: list[list[float]] = data["inputs"]
    if not rows:
        raise TrainingError.at(("data", "inputs"), "there must be a point at least")
    wrong = ((place, row) for place, row in enumerate(rows) if len(row) != width)
    problems = [
        Problem(("data", "inputs", place), f"the model has {width} inputs, and this row has {len(row)}")
        for place, row in islice(wrong, MAX_PROBLEMS)
    ]
    if problems:
        raise TrainingError(problems)
    return rows


def _read_targets(targets: list[Any], points: int, width: int, loss: Loss) -> list[list[float]]:
    """Return one row of `width` numbers per point; a class index becomes a row of zeros with a single one."""
    path: Path = ("data", "targets")
    if len(targets) != points:
        raise TrainingError.at(path, f"there are {points} rows of inputs, and {len(targets)} targets")
    problems: list[Problem] = []
    rows = []
    for place, target in enumerate(targets):
        if len(problems) >= MAX_PROBLEMS:
            break
        row = target if isinstance(target, list) else [target]
        expected = 1 if loss.classes else width
        if len(row) != expected:
            what = "one class index" if loss.classes else f"{width} numbers, one per output,"
            problems.append(Problem((*path, place), f"a target is {what} and this has {len(row)}"))
            continue
        wrong = [number for number in row if not loss.accepts(number)]
        if wrong or (loss.classes and not row[0] < width):
            upto = f" from 0 to {width - 1}" if loss.classes else ""
            problems.append(Problem((*path, place), f"{loss.name} takes {loss.takes}{upto}, not {(wrong or row)[0]!r}"))
            continue
        rows.append([1.0 if c == row[0] else 0.0 for c in range(width)] if loss.classes else row)
    if problems:
        raise TrainingError(problems)
    return rows


class _GraphModel:
    """Any scalar graph: the named inputs are trained, the data binds others, and one id is the loss of a point."""

    def __init__(self, spec: Spec, max_nodes: int | None, max_points: int | None) -> None:
        model, data = spec["model"], spec.get("data") or {}
        loss = spec.get("loss") or {}
        if "name" in loss:
            raise TrainingError.at(("loss", "name"), "a graph model names its own loss in model.loss: leave this out")
        wanted = [model["loss"], *([model["prediction"]] if model.get("prediction") else [])]
        graph = _read_graph(model["graph"], list(dict.fromkeys(wanted)), max_nodes, max_points)
        self.graph = replace(graph, inputs={name: _number(value) for name, value in graph.inputs.items()})
        # The ids behind the names, which differ where a program binds a name more than once.
        ids = dict(zip(dict.fromkeys(wanted), graph.outputs, strict=True))
        self.loss = ids[model["loss"]]
        self.predictions = [ids[model["prediction"]]] if model.get("prediction") else []
        self.parameters: list[str] = list(model["parameters"])
        if not self.parameters:
            raise TrainingError.at(("model", "parameters"), "name an input at least that is to be trained")
        problems: list[Problem] = []
        trained: set[str] = set()
        for place, name in enumerate(self.parameters):
            if len(problems) >= MAX_PROBLEMS:
                break
            if name not in graph.inputs:
                problems.append(Problem(("model", "parameters", place), f"{name!r:.220} is no input of the graph"))
            elif isinstance(graph.inputs[name], list):
                problems.append(Problem(("model", "graph", "inputs", name), "a parameter starts as one number"))
            elif name in trained:
                problems.append(Problem(("model", "parameters", place), f"{name!r:.220} is listed already"))
            trained.add(name)
        # A list among the graph's own inputs is data as well.
        columns = {name: value for name, value in graph.inputs.items() if isinstance(value, list)}
        for name, column in data.items():
            if len(problems) >= MAX_PROBLEMS:
                break
            path: Path = ("data", name)
            if name not in graph.inputs:
                problems.append(Problem(path, f"{name!r:.220} is no input of the graph"))
            elif name in trained:
                problems.append(Problem(path, f"{name!r:.220} is a parameter: it cannot be data too"))
            elif not isinstance(column, list) or not column:
                problems.append(Problem(path, "give a list of numbers, one per point"))
            else:
                columns[name] = column
        if problems:
            raise TrainingError(problems)
        self.columns = columns
        self.correct: IsRight | None = None
        lengths = {name: len(column) for name, column in columns.items()}
        self.points = next(iter(lengths.values()), 1)
        for name, length in lengths.items():
            if length != self.points:
                source: Path = ("data", name) if name in data else ("model", "graph", "inputs", name)
                raise TrainingError.at(source, f"there are {self.points} points, and this has {length} numbers")

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        return dict(zip(self.parameters, numbers, strict=True))


def _read_graph(data: Any, outputs: list[str], max_nodes: int | None, max_points: int | None) -> Graph:
    # A graph's own outputs are not ours, and its order of evaluation depends on them.
    form = data.to_dict() if isinstance(data, Graph) else data
    try:
        return Graph.from_dict({**form, "output": outputs}, max_nodes=max_nodes, max_points=max_points)
    except LimitExceeded as error:
        raise error.under("model", "graph") from None
    except InvalidInput as error:
        problems = []
        for problem in error.problems:
            # The outputs were put there by us: a fault in them is a fault in what the model names.
            if problem.path[:1] == ("output",):
                place: Path = ("model", "loss" if problem.path[1] == 0 else "prediction")
                problems.append(Problem(place, problem.detail))
            else:
                problems.append(Problem(("model", "graph", *problem.path), problem.detail))
        raise TrainingError(problems) from None
