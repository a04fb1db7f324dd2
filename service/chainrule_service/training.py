"""One training: what a request for it may hold, how large it may be, and how it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from chainrule_engine.errors import LimitExceeded
from chainrule_engine.losses import LOSSES, REDUCTIONS
from chainrule_engine.nn import ACTIVATIONS, DEFAULT_ACTIVATION, DEFAULT_SCHEME, INIT_SCHEMES
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.training import METRICS, Records, Training, TrainingState
from chainrule_service.data_fields import Columns, Matrix, Numbers, Rows
from chainrule_service.documented import ref
from chainrule_service.fields import (
    Choice,
    Envelope,
    Field,
    Flag,
    ListOf,
    Number,
    Object,
    OneOrList,
    RawObject,
    Text,
    WholeNumber,
)
from chainrule_service.settings import Settings
from chainrule_service.store import History

#: The first chunk is about so many node evaluations. Each of the others takes about as many seconds as the first of
#: these says; where it takes long to record a chunk, ten times that, up to the second of them. Others see its progress,
#: and it sees a cancel, within half a second, even where it gets but a third of the processor that it had before.
_FIRST_CHUNK, _SECONDS = 50_000, (0.1, 0.2)

#: What a node takes until it can be trained, in node evaluations; measured, roughly.
_PREPARING = 35


class Chunk(NamedTuple):
    """Some of a job's work that has just been done.

    Attributes:
        step: how many steps of the job are done.
        state: from what the job can go on: plain data.
        progress: how far the job has come, for people; None where there is nothing to tell.
        losses: the losses of the chunk's steps.
        metrics: the metrics of the chunk's steps, by name.
        result: the job's result once all is done, else None.
    """

    step: int = 0
    state: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    losses: Sequence[float] = ()
    metrics: Mapping[str, Sequence[float]] = {}
    result: Mapping[str, Any] | None = None

    def after(self, before: Chunk | None) -> Chunk:
        """Return this chunk and the one before it as one."""
        if before is None:
            return self
        metrics = {name: [*before.metrics[name], *numbers] for name, numbers in self.metrics.items()}
        return self._replace(losses=[*before.losses, *self.losses], metrics=metrics)


class InitRequest(Envelope):
    """How the parameters of a network are drawn."""

    scheme = Choice(INIT_SCHEMES, load_default=DEFAULT_SCHEME)
    seed = WholeNumber("Python's `random.Random(seed)` draws them, neuron by neuron.", least=0, load_default=0)


class LayerRequest(Envelope):
    """The parameters of one layer."""

    weights = Matrix("A row for each neuron.", required=True)
    biases = Numbers("One for each neuron.", required=True)


class ParametersRequest(Envelope):
    """The parameters of a network."""

    layers = ListOf(Object(LayerRequest), least=1, most=100, required=True)


class NetworkRequest(Envelope):
    """A multilayer perceptron; its parameters are drawn, or given."""

    inputs = WholeNumber("Numbers in a row of data.", least=1, most=1_000_000, required=True)
    layers = ListOf(WholeNumber(least=1, most=1_000_000), "Neurons in each layer.", least=1, most=100, required=True)
    activation = OneOrList(
        Choice(ACTIVATIONS), "For all layers, or for each.", most=100, load_default=DEFAULT_ACTIVATION
    )
    output_activation = Choice(ACTIVATIONS, "For the last layer, where it differs.", load_default=None)
    init = Object(InitRequest)
    parameters = Object(ParametersRequest)


class GraphModelRequest(Envelope):
    """Any scalar graph, trained by the gradient of one of its ids."""

    graph = RawObject(ref("Graph"), required=True)
    parameters = ListOf(Text(), "The inputs to train.", least=1, most=1_000_000, required=True)
    loss = Text("The id of the loss of a point.", required=True)
    prediction = Text("The id to report for every point.", load_default=None)


class NetworkDataRequest(Envelope):
    """The points of a network's training."""

    inputs = Matrix("A row for each point.", required=True)
    targets = Rows("For each point a number, or a list with one for each output.", required=True)


class LossRequest(Envelope):
    """The loss; a graph model has its own, and only takes `reduction` and `l2`."""

    name = Choice(LOSSES)
    reduction = Choice(REDUCTIONS, load_default="mean")
    l2 = Number("Adds l2 times the sum of the parameters' squares.", least=0, load_default=0.0)


class ScheduleRequest(Envelope):
    """A learning rate that changes with the step; which of the other fields it takes depends on its name."""

    schedule = Choice(SCHEDULES, required=True)
    start = Number(least=0)
    end = Number(least=0)
    factor = Number(above=0)
    every = WholeNumber(least=1)
    steps = WholeNumber("The job's steps when left out.", least=1)


class LearningRate(Field):
    """A number, or a schedule."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.number, self.schedule = Number(least=0), Object(ScheduleRequest)
        self.json_schema = {"anyOf": [self.number.json_schema, self.schedule.json_schema]}

    def read(self, value: Any) -> Any:
        """Return a float, or the loaded schedule."""
        return self.schedule.read(value) if type(value) is dict else self.number.read(value)


class OptimizerRequest(Envelope):
    """The update rule; which of the other fields it takes depends on its name."""

    name = Choice(OPTIMISERS, required=True)
    learning_rate = LearningRate(required=True)
    momentum = Number(least=0, below=1)
    nesterov = Flag()
    beta1 = Number(least=0, below=1)
    beta2 = Number(least=0, below=1)
    alpha = Number(least=0, below=1)
    epsilon = Number(above=0)
    weight_decay = Number(least=0)


class _TrainingRequest(Envelope):
    optimizer = Object(OptimizerRequest, required=True)
    steps = WholeNumber("Updates to make.", least=1, required=True)
    batch_size = WholeNumber("Points in a step; all of them when left out or null.", least=1, load_default=None)
    batch_seed = WholeNumber("What the order of the points is drawn from.", least=0, load_default=0)
    target_loss = Number("Stop when the loss comes down to this.", load_default=None)
    metrics = ListOf(
        Choice(METRICS), "What to record besides the loss.", most=len(METRICS), distinct=True, load_default=list
    )


class NetworkTrainingRequest(_TrainingRequest):
    """The training of a network."""

    model = Object(NetworkRequest, required=True)
    data = Object(NetworkDataRequest, required=True)
    loss = Object(LossRequest, required=True)


class GraphTrainingRequest(_TrainingRequest):
    """The training of a graph."""

    model = Object(GraphModelRequest, required=True)
    data = Columns("Numbers by the name of an input: one for each point.", load_default=dict)
    loss = Object(LossRequest)


#: The named schemas of the description.
SCHEMAS: tuple[type[Envelope], ...] = (
    InitRequest,
    LayerRequest,
    ParametersRequest,
    NetworkRequest,
    GraphModelRequest,
    NetworkDataRequest,
    LossRequest,
    ScheduleRequest,
    OptimizerRequest,
    NetworkTrainingRequest,
    GraphTrainingRequest,
)
_NETWORK, _GRAPH = Object(NetworkTrainingRequest), Object(GraphTrainingRequest)

NETWORK_EXAMPLE = {
    "model": {"inputs": 2, "layers": [4, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 1}},
    "data": {"inputs": [[0, 0], [0, 1], [1, 0], [1, 1]], "targets": [-1, 1, 1, -1]},
    "loss": {"name": "squared_error", "reduction": "sum"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 50,
    "metrics": ["accuracy"],
}
GRAPH_EXAMPLE = {
    "model": {
        "graph": {"inputs": {"x": 0, "y": 0, "w": 0, "b": 0}, "program": "L = (w*x + b - y)**2"},
        "parameters": ["w", "b"],
        "loss": "L",
    },
    "data": {"x": [0, 1, 2], "y": [1, 3, 5]},
    "optimizer": {"name": "adam", "learning_rate": {"schedule": "cosine", "start": 0.5, "end": 0.01}},
    "steps": 100,
}


def read(spec: Any) -> dict[str, Any]:
    """Read a specification: that of a graph if its model has one, else of a network.

    Raises:
        InvalidInput: it breaks a rule; paths are relative to the spec.
    """
    model = spec.get("model") if isinstance(spec, dict) else None
    schema = _GRAPH if isinstance(model, dict) and "graph" in model else _NETWORK
    return schema.read(spec)


def preparing(spec: Mapping[str, Any]) -> int:
    """Return about how much work it is to prepare a training and fuse its operations, in node evaluations."""
    model = spec["model"]
    if "graph" not in model:
        return _PREPARING * 2 * _parameters(model)  # a product and a sum for each
    graph = model["graph"]
    nodes, program = graph.get("nodes"), graph.get("program")
    operations = len(nodes) if isinstance(nodes, list) else 0
    if isinstance(program, str):
        operations += len(program) // 4  # an operation takes some characters: its sign, an argument, a space or a name
    return _PREPARING * operations


def prepare(spec: dict[str, Any], settings: Settings) -> Training:
    """Compile a specification that has been read.

    Raises:
        TrainingError, LimitExceeded: it contradicts itself, or is too large; paths are relative to the spec.
    """
    limits = settings.limits
    if "graph" in spec["model"]:
        parameters = len(spec["model"]["parameters"])
        if parameters > limits["parameters"]:
            path = ("model", "parameters")
            raise LimitExceeded("parameters", limits["parameters"], parameters, path, "train fewer inputs")
    else:
        _check_network(spec["model"], limits)
    recorded = spec["steps"] * (1 + len(spec["metrics"]))
    if recorded > limits["answer_numbers"]:
        advice = "take fewer steps or metrics: the answer holds the loss and the metrics of each step"
        raise LimitExceeded("answer_numbers", limits["answer_numbers"], recorded, ("steps",), advice)
    training = Training(spec, max_nodes=limits["nodes"], max_points=limits["points"])
    if training.memory > limits["job_memory"]:
        advice = "take fewer steps, a smaller batch_size or fewer points, or a smaller model"
        raise LimitExceeded("job_memory", limits["job_memory"], training.memory, (), advice)
    return training


def run(training: Training, state: Mapping[str, Any] | None = None, history: History | None = None) -> Iterator[Chunk]:
    """Take the steps that are left, chunk by chunk; the last chunk has the result in the wire's form.

    Neither the chunks' sizes nor where a training was stopped and resumed make a difference to any number.

    Args:
        training: what to run.
        state: that of the chunk after which to go on; None begins.
        history: what happened at all steps up to that chunk.
    """
    now = training.start() if state is None else TrainingState.from_dict(state)
    if history is not None:
        # The result has no learning rates, so they are not kept.
        now.records = Records(0, history.losses, [], history.metrics)
    steps = max(1, _FIRST_CHUNK * training.steps // training.cost)
    while True:
        began = time.monotonic()
        records = training.advance(now, steps)
        ended = time.monotonic()
        result = training.result(now) if now.stop_reason else None
        progress = {"step": now.step, "steps": training.steps, "loss": now.records.losses[-1]}
        yield Chunk(now.step, now.to_dict(), progress, records.losses, records.metrics, result)
        if result is not None:
            return
        least, most = _SECONDS
        seconds = min(max(least, 10 * (time.monotonic() - ended)), most)
        # Compiled kernels are some hundred times faster than plain Python: what a step takes is seen, not known.
        steps = max(1, min(2 * steps, int(steps * seconds / max(ended - began, 1e-9))))


def _check_network(model: Mapping[str, Any], limits: Mapping[str, int]) -> None:
    """Count the parameters before any of them is made."""
    parameters = _parameters(model)
    if parameters > limits["parameters"]:
        advice = "take fewer or narrower layers"
        raise LimitExceeded("parameters", limits["parameters"], parameters, ("model", "layers"), advice)


def _parameters(model: Mapping[str, Any]) -> int:
    return sum((fan_in + 1) * width for fan_in, width in pairwise([model["inputs"], *model["layers"]]))
