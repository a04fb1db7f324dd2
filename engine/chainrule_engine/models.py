"""What can be trained: a network with a loss, or any scalar graph; read from a specification, and checked.

Each is a graph of one point's loss, with names for what is trained and columns of data for what differs from point to
point.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, NamedTuple, Protocol

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, LimitExceeded, Path, Problem, TrainingError
from chainrule_engine.fusion import schedule
from chainrule_engine.graph import Graph
from chainrule_engine.kernels import Column
from chainrule_engine.lazily import lazy
from chainrule_engine.losses import LOSSES, Loss
from chainrule_engine.nn import ACTIVATIONS, DEFAULT_ACTIVATION, DEFAULT_SCHEME, MLP, LayerNumbers, draw_layers
from chainrule_engine.schedule import Schedule
from chainrule_engine.tape import Tape
from chainrule_engine.value import Value

Spec = Mapping[str, Any]

#: So many parameters, in all, have the networks that are kept for other trainings of the same shape.
_REMEMBERED_PARAMETERS = 100_000


class Structure:
    """A graph of one point's loss, and what its ids stand for; nothing here depends on a number of a training.

    loss, predictions, parameters   ids
    data                            ids of the inputs that differ from point to point
    program                         the schedule in the form of the compiled kernels, once they have made it
    """

    program: Any = None

    def __init__(
        self, graph: Graph, loss: str, predictions: Sequence[str], parameters: Sequence[str], data: Sequence[str]
    ) -> None:
        self.graph, self.loss = graph, loss
        self.predictions, self.parameters, self.data = list(predictions), list(parameters), list(data)
        self.tape = Tape(graph)

    @property
    def fixed(self) -> frozenset[str]:
        """The inputs that are not trained."""
        return frozenset(self.graph.inputs.keys() - set(self.parameters))

    @property
    def is_computed(self) -> bool:
        """Whether the loss and the predictions are results of operations, and not inputs themselves."""
        return self.graph.inputs.keys().isdisjoint([self.loss, *self.predictions])

    @lazy
    def schedule(self) -> Schedule:
        """The operations, fused."""
        slots = self.tape.slots
        return schedule(
            self.tape,
            [slots[name] for name in self.parameters],
            [slots[name] for name in self.data],
            [slots[name] for name in (self.loss, *self.predictions)],
        )


class Accuracy(NamedTuple):
    """How a prediction is judged: the loss that does, and the ids of the targets."""

    loss: Loss
    targets: Sequence[str]


class Model(Protocol):
    """What is trained.

    structure   the graph of one point's loss
    initial     the numbers that its parameters start from
    columns     id → one number for each point, for the structure's data
    tables      the same where it came point by point: tables that stand side by side, with a row of numbers for each
                point; else empty
    accuracy    None where that has no meaning
    """

    structure: Structure
    initial: list[float]
    tables: Sequence[Sequence[Sequence[float]]]
    points: int
    accuracy: Accuracy | None

    @property
    def columns(self) -> dict[str, Column]:
        """See above."""

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Put one number per parameter into the wire's form."""


class NetworkModel:
    """A multilayer perceptron with a loss: one output per neuron of the last layer, one target for each."""

    def __init__(self, spec: Spec) -> None:
        model, loss_spec = spec["model"], spec.get("loss")
        if not loss_spec or "name" not in loss_spec:
            raise TrainingError.at(("loss",), f"name the loss of a network: {', '.join(LOSSES)}")
        loss = LOSSES[loss_spec["name"]]
        layers, activations = _read_network(model)
        self._inputs, self._widths = model["inputs"], list(model["layers"])
        width = self._widths[-1]
        if loss.classes and width < 2:
            raise TrainingError.at(("model", "layers"), f"{loss.name} needs an output for each of its classes")
        rows = _read_rows(spec.get("data"), self._inputs)
        targets = _read_targets(spec["data"]["targets"], len(rows), width, loss)
        self.points = len(rows)
        self.initial = [
            float(number)
            for weights, biases in layers
            for row, bias in zip(weights, biases, strict=True)
            for number in (*row, bias)
        ]
        self.structure = _networks.get(self._inputs, tuple(self._widths), tuple(activations), loss.name)
        self.tables: Sequence[Sequence[Sequence[float]]] = rows, targets
        self.accuracy: Accuracy | None = Accuracy(loss, _names("t", width))

    @lazy
    def columns(self) -> dict[str, Column]:
        """A column for each input and each target."""
        columns = (list(column) for table in self.tables for column in zip(*table, strict=True))
        return dict(zip(self.structure.data, columns, strict=True))

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Put one number per parameter into the wire's form: layers."""
        remaining = iter(numbers)
        fan_in, layers = self._inputs, []
        for width in self._widths:
            rows = [list(islice(remaining, fan_in + 1)) for _ in range(width)]
            layers.append({"weights": [row[:-1] for row in rows], "biases": [row[-1] for row in rows]})
            fan_in = width
        return {"layers": layers}


def _names(letter: str, count: int) -> list[str]:
    return [f"{letter}{i}" for i in range(1, count + 1)]


def _network(inputs: int, widths: tuple[int, ...], activations: tuple[str, ...], loss: str) -> Structure:
    """Build the graph of a network and its loss at one point, with zeros for all numbers."""
    shapes = pairwise([inputs, *widths])
    zeros = [([[0.0] * fan_in for _ in range(width)], [0.0] * width) for fan_in, width in shapes]
    mlp = MLP.of(zeros, activations)
    xs = [Value(0.0, name) for name in _names("x", inputs)]
    ts = [Value(0.0, name) for name in _names("t", widths[-1])]
    outputs = mlp(xs)
    for number, output in enumerate(outputs, 1):
        output.label = output.label or f"y{number}"
    point_loss = LOSSES[loss].value(outputs, ts).named("loss")
    graph = Graph.from_values([point_loss])
    data = [value.label for value in (*xs, *ts)]
    parameters = [parameter.label for parameter in mlp.parameters()]
    return Structure(graph, "loss", [output.label for output in outputs], parameters, data)


class _Networks:
    """The structures of the networks that were asked for last, for other trainings of the same shape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The latest is the last.
        self._kept: dict[tuple[Any, ...], Structure] = {}

    def get(self, *shape: Any) -> Structure:
        """Return `_network` of these arguments."""
        with self._lock:
            structure = self._kept.pop(shape, None)
            if structure is not None:
                self._kept[shape] = structure
                return structure
        # Without the lock: a large one takes seconds.
        structure = _network(*shape)
        with self._lock:
            self._kept[shape] = structure
            total = sum(len(kept.parameters) for kept in self._kept.values())
            while total > _REMEMBERED_PARAMETERS:
                oldest = next(iter(self._kept))
                total -= len(self._kept.pop(oldest).parameters)
        return structure


_networks = _Networks()


def _read_network(model: Spec) -> tuple[list[LayerNumbers], list[str]]:
    """Return the weights and biases of each layer, and its activation."""
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
        return _read_layers(model["parameters"], model["inputs"], widths), names
    init = model.get("init") or {}
    return draw_layers(model["inputs"], widths, init.get("scheme", DEFAULT_SCHEME), init.get("seed", 0)), names


def _read_layers(parameters: Any, inputs: int, widths: Sequence[int]) -> list[LayerNumbers]:
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
    given = [target if isinstance(target, list) else [target] for target in targets]
    if loss.classes:
        rows_of = {index: [1.0 if c == index else 0.0 for c in range(width)] for index in range(width)}
        rows = [rows_of.get(row[0], []) if len(row) == 1 else [] for row in given]
    else:
        rows = [row if len(row) == width and all(map(loss.accepts, row)) else [] for row in given]
    wrong = islice((place for place, row in enumerate(rows) if not row), MAX_PROBLEMS)
    if problems := [Problem((*path, place), _why_no_target(given[place], width, loss)) for place in wrong]:
        raise TrainingError(problems)
    return rows


def _why_no_target(row: list[float], width: int, loss: Loss) -> str:
    if len(row) != (1 if loss.classes else width):
        what = "one class index" if loss.classes else f"{width} numbers, one per output,"
        return f"a target is {what} and this has {len(row)}"
    wrong = [number for number in row if not loss.accepts(number)]
    upto = f" from 0 to {width - 1}" if loss.classes else ""
    return f"{loss.name} takes {loss.takes}{upto}, not {(wrong or row)[0]!r}"


class GraphModel:
    """Any scalar graph: the named inputs are trained, the data binds others, and one id is the loss of a point."""

    def __init__(self, spec: Spec, max_nodes: int | None, max_points: int | None) -> None:
        model, data = spec["model"], spec.get("data") or {}
        loss = spec.get("loss") or {}
        if "name" in loss:
            raise TrainingError.at(("loss", "name"), "a graph model names its own loss in model.loss: leave this out")
        wanted = [model["loss"], *([model["prediction"]] if model.get("prediction") else [])]
        graph = _read_graph(model["graph"], list(dict.fromkeys(wanted)), max_nodes, max_points)
        # The ids behind the names, which differ where a program binds a name more than once.
        ids = dict(zip(dict.fromkeys(wanted), graph.outputs, strict=True))
        parameters: list[str] = list(model["parameters"])
        if not parameters:
            raise TrainingError.at(("model", "parameters"), "name an input at least that is to be trained")
        problems: list[Problem] = []
        trained: set[str] = set()
        for place, name in enumerate(parameters):
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
        self.tables: Sequence[Sequence[Sequence[float]]] = ()
        self.accuracy: Accuracy | None = None
        lengths = {name: len(column) for name, column in columns.items()}
        self.points = next(iter(lengths.values()), 1)
        for name, length in lengths.items():
            if length != self.points:
                source: Path = ("data", name) if name in data else ("model", "graph", "inputs", name)
                raise TrainingError.at(source, f"there are {self.points} points, and this has {length} numbers")
        plain = replace(graph, inputs={name: _number(value) for name, value in graph.inputs.items()})
        predictions = [ids[model["prediction"]]] if model.get("prediction") else []
        self.structure = Structure(plain, ids[model["loss"]], predictions, parameters, list(columns))
        self.initial = [_number(plain.inputs[name]) for name in parameters]

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Put one number per parameter into the wire's form: by name."""
        return dict(zip(self.structure.parameters, numbers, strict=True))


def _number(value: float | list[float]) -> float:
    return value[0] if isinstance(value, list) else value


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
