"""Training gives the numbers of the lecture's loop on `Value`, of the notebook and of micrograd's demonstration."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests import seed_notebook
from tests.engine.strategies import exact, graphs

from chainrule_engine.graph import Graph
from chainrule_engine.losses import LOSSES
from chainrule_engine.nn import ACTIVATIONS, MLP
from chainrule_engine.optimisers import OPTIMISERS
from chainrule_engine.training import COMPILED_COSTS, PLAIN_COSTS, STOP_REASONS, Training, train
from chainrule_engine.value import Value, apply

ROOT = Path(__file__).resolve().parents[2]

LECTURE_DATA = {
    "inputs": [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]],
    "targets": [1.0, -1.0, -1.0, 1.0],
}


def lecture(rate: float, steps: int, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"inputs": 3, "layers": [4, 4, 1], "init": {"scheme": "lecture", "seed": 0}},
        "data": LECTURE_DATA,
        "loss": {"name": "squared_error", "reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": rate},
        "steps": steps,
        **changes,
    }


# ---------------------------------------------------------------------------------- the loop on `Value`


def loop(
    parameters: list[Value], point_losses: Callable[[], Sequence[Value]], spec: dict[str, Any]
) -> tuple[list[float], list[float], list[float]]:
    """The lecture's loop: forward, zero the gradients, backward, update. Losses, parameters, last gradients."""
    optimizer = dict(spec["optimizer"])
    rule = OPTIMISERS[optimizer.pop("name")]
    rate = optimizer.pop("learning_rate")
    slots = {name: [0.0] * len(parameters) for name in rule.slots}
    reduction, l2 = spec["loss"].get("reduction", "mean"), spec["loss"].get("l2", 0.0)
    history: list[float] = []
    for step in range(1, spec["steps"] + 1):
        losses = point_losses()
        loss = reduce(add, losses)
        if reduction == "mean":
            loss = loss / len(losses)
        if l2:
            loss = loss + l2 * reduce(add, [p * p for p in parameters])
        history.append(loss.data)
        if not math.isfinite(loss.data):
            break
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        new = rule.update(
            [p.data for p in parameters],
            [p.grad for p in parameters],
            slots,
            rate,
            step,
            {**rule.settings, **optimizer},
        )
        for p, number in zip(parameters, new, strict=True):
            p.data = number
    return history, [p.data for p in parameters], [p.grad for p in parameters]


def flat(layers: dict[str, Any]) -> list[float]:
    return [
        x
        for layer in layers["layers"]
        for row, bias in zip(layer["weights"], layer["biases"], strict=True)
        for x in (*row, bias)
    ]


TARGETS: dict[str, list[Any]] = {
    "squared_error": [[0.5, -1.0, 0.25], [1.0, 1.0, -1.0], [0.0, -0.5, 2.0]],
    "absolute_error": [[0.5, -1.0, 0.25], [1.0, 1.0, -1.0], [0.0, -0.5, 2.0]],
    "hinge": [[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]],
    "binary_cross_entropy": [[1.0, 0.0, 0.5], [0.0, 0.0, 1.0], [0.25, 1.0, 0.0]],
    "cross_entropy": [0, 2, 1],
}
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd", "learning_rate": 0.1},
    {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    {"name": "adam", "learning_rate": 0.05},
    {"name": "adamw", "learning_rate": 0.05},
    {"name": "rmsprop", "learning_rate": 0.01, "momentum": 0.5},
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_training_is_the_loop_on_value_bit_for_bit(activation: str, loss: str) -> None:
    """Every loss with every activation; the other choices take turns, so that every pair of them occurs."""
    turn = 5 * list(ACTIVATIONS).index(activation) + list(LOSSES).index(loss)
    data = {"inputs": [[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], "targets": TARGETS[loss]}
    for number, optimizer in enumerate(OPTIMIZERS, turn):
        spec = {
            "model": {
                "inputs": 2,
                "layers": [3, 3],
                "activation": activation,
                "output_activation": [None, "linear"][number % 2],
                "init": {"scheme": "lecture", "seed": number},
            },
            "data": data,
            "loss": {"name": loss, "reduction": ["sum", "mean"][number // 2 % 2], "l2": [0.0, 0.01][number // 3 % 2]},
            "optimizer": optimizer,
            "steps": 6,
        }
        result = train(spec)
        names = [activation, spec["model"]["output_activation"] or activation]
        mlp = MLP.draw(2, [3, 3], names, "lecture", number)
        rows = [t if isinstance(t, list) else [float(c == t) for c in range(3)] for t in data["targets"]]

        def point_losses(mlp: MLP = mlp, rows: list = rows) -> list[Value]:
            return [
                LOSSES[loss].value(mlp([Value(x) for x in point]), [Value(t) for t in row])
                for point, row in zip(data["inputs"], rows, strict=True)
            ]

        history, parameters, gradients = loop(mlp.parameters(), point_losses, spec)
        assert exact(result["loss_history"]) == exact(history)
        assert exact(flat(result["parameters"])) == exact(parameters)
        assert exact(flat(result["gradients"])) == exact(gradients)
        predictions = [[output.data for output in mlp([Value(x) for x in point])] for point in data["inputs"]]
        assert exact(result["predictions"]) == exact(predictions)


def shared_graph(graph: Graph, parameters: dict[str, Value], point: int) -> dict[str, Value]:
    """The graph at one point, with the parameters' `Value`s in the place of its own."""
    values = {
        name: parameters[name] if name in parameters else Value(number[point] if isinstance(number, list) else number)
        for name, number in graph.inputs.items()
    }
    for position in graph.order:
        node = graph.nodes[position]
        values[node.id] = apply(node.op, *[values[a] if isinstance(a, str) else a for a in node.args])
    return values


@settings(max_examples=150, deadline=None)
@given(graphs(points=3, numbers=st.floats(-2.0, 2.0)), st.data())
def test_any_graph_trained_is_the_loop_on_value_bit_for_bit(graph: Graph, data: st.DataObject) -> None:
    plain = [name for name, value in graph.inputs.items() if not isinstance(value, list)]
    assume(plain)
    names = data.draw(st.lists(st.sampled_from(plain), min_size=1, unique=True))
    loss = graph.outputs[0]
    wire = graph.to_dict()
    columns = {name: value for name, value in graph.inputs.items() if isinstance(value, list)}
    spec = {
        "model": {"graph": wire, "parameters": names, "loss": loss},
        "loss": {
            "reduction": data.draw(st.sampled_from(["sum", "mean"])),
            "l2": data.draw(st.sampled_from([0.0, 0.1])),
        },
        "data": columns,
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 3,
    }
    result = train(spec)
    parameters = {name: Value(graph.inputs[name], name) for name in names}
    # The training's order of evaluation is that of its loss alone.
    alone = Graph.from_dict({**wire, "output": [loss]})
    history, numbers, gradients = loop(
        list(parameters.values()), lambda: [shared_graph(alone, parameters, p)[loss] for p in range(3)], spec
    )
    assert exact(result["loss_history"]) == exact(history)
    assert exact(list(result["parameters"].values())) == exact(numbers)
    if result["gradients"] is not None:
        assert exact(list(result["gradients"].values())) == exact(gradients)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_a_parameter_that_each_point_uses_several_times(reduction: str, l2: float) -> None:
    """Its shares are added from the last point to the first, and within a point in the order of the pass."""
    rng = random.Random(2)
    columns = {name: [rng.uniform(-1, 1) for _ in range(7)] for name in "xy"}
    text = "h = tanh(w * x + v)\np = w * h + v * x * w\nL = (p - y) ** 2 + w * y"
    data = {"inputs": {"w": 0.7, "v": -0.3, **columns}, "program": text, "output": "L"}
    spec = {
        "model": {"graph": data, "parameters": ["w", "v"], "loss": "L"},
        "loss": {"reduction": reduction, "l2": l2},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 10,
    }
    graph = Graph.from_dict(data)
    parameters = {"w": Value(0.7, "w"), "v": Value(-0.3, "v")}
    history, numbers, gradients = loop(
        list(parameters.values()), lambda: [shared_graph(graph, parameters, p)["L"] for p in range(7)], spec
    )
    result = train(spec)
    assert exact(result["loss_history"]) == exact(history)
    assert exact(list(result["parameters"].values())) == exact(numbers)
    assert exact(list(result["gradients"].values())) == exact(gradients)


# ---------------------------------------------------------------------------------- published numbers


@pytest.mark.slow
def test_the_lectures_thousand_steps_are_the_notebooks() -> None:
    random.seed(0)
    mlp = seed_notebook.MLP(3, [4, 4, 1])
    losses = []
    for _ in range(1000):
        predictions = [mlp(x) for x in LECTURE_DATA["inputs"]]
        loss = sum(abs(y - t) ** 2 for y, t in zip(predictions, LECTURE_DATA["targets"], strict=True))
        losses.append(loss.data)
        mlp.zero_grad()
        loss.backward()
        for p in mlp.parameters():
            p.data -= 0.001 * p.grad
    result = train(lecture(0.001, 1000))
    assert result["loss_history"] == pytest.approx(losses, abs=1e-12)
    assert flat(result["parameters"]) == pytest.approx([p.data for p in mlp.parameters()], abs=1e-12)
    assert losses[-1] < losses[0] / 2


def test_the_lectures_first_losses() -> None:
    losses = train(lecture(0.05, 5))["loss_history"]
    assert losses == pytest.approx([7.729795, 7.251381, 4.852756, 3.121293, 1.494945], abs=5e-7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": {"name": "squared_error", "reduction": "mean"}}, 1.932449),
        (
            {"model": {"inputs": 3, "layers": [4, 4, 1], "activation": "tanh", "output_activation": "linear"}},
            15.765060,
        ),
    ],
)
def test_the_lectures_variants(changes: dict, expected: float) -> None:
    assert train(lecture(0.05, 1, **changes))["loss_history"] == pytest.approx([expected], abs=5e-7)


@pytest.mark.slow
def test_micrograds_moons_match_the_published_losses() -> None:
    moons = json.loads((ROOT / "examples/data/moons.json").read_text())
    result = train(
        {
            "model": {
                "inputs": 2,
                "layers": [16, 16, 1],
                "activation": "relu",
                "output_activation": "linear",
                "init": {"scheme": "micrograd", "seed": 1337},
            },
            "data": {"inputs": moons["inputs"], "targets": moons["targets"]},
            "loss": {"name": "hinge", "reduction": "mean", "l2": 1e-4},
            "optimizer": {"name": "sgd", "learning_rate": {"schedule": "linear", "start": 1.0, "end": 0.1}},
            "steps": 100,
            "metrics": ["accuracy"],
        }
    )
    losses = result["loss_history"]
    published = [0.8958441028683222, 1.7235905336972022, 0.7429006313851131]
    assert losses[:3] == pytest.approx(published, abs=1e-12)
    assert losses[99] == pytest.approx(0.010978370135492717, abs=1e-12)
    assert losses == pytest.approx(moons["numpy_losses"], abs=1e-12)
    assert result["metrics"]["accuracy"][0] == 0.5
    assert result["metrics"]["accuracy"][-1] == 1.0
    assert len(flat(result["parameters"])) == 337


# ---------------------------------------------------------------------------------- graph models


LINE = {"inputs": {"w": 0.5, "b": 0.0, "x": 0.0, "y": 0.0}, "program": "p = w * x + b\ne = p - y\nL = e ** 2"}
POINTS = {"x": [1.0, 2.0, 3.0], "y": [3.0, 5.0, 7.0]}


def line(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"graph": LINE, "parameters": ["w", "b"], "loss": "L"},
        "data": POINTS,
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 400,
        **changes,
    }


def test_a_line_is_fitted_by_its_program_or_its_nodes() -> None:
    by_program = train(line(model={**line()["model"], "prediction": "p"}))
    assert by_program["parameters"] == pytest.approx({"w": 2.0, "b": 1.0}, abs=1e-3)
    assert by_program["predictions"] == pytest.approx([3.0, 5.0, 7.0], abs=1e-3)
    assert by_program["stop_reason"] == "completed"
    nodes = Graph.from_dict({**LINE, "output": "L"}).to_dict()
    by_nodes = train(line(model={"graph": nodes, "parameters": ["w", "b"], "loss": "L", "prediction": "p"}))
    assert exact(by_nodes) == exact(by_program)
    assert train(line())["predictions"] is None


def test_lists_among_a_graphs_inputs_are_data_and_data_binds_over_them() -> None:
    inside = {**LINE, "inputs": {"w": 0.5, "b": 0.0, **POINTS}}
    assert train(line(model={**line()["model"], "graph": inside}, data=None)) == train(line())
    other = {**LINE, "inputs": {"w": 0.5, "b": 0.0, "x": [9.0], "y": [9.0]}}
    assert train(line(model={**line()["model"], "graph": other})) == train(line())


def test_the_loss_may_name_any_id_and_the_graphs_own_output_does_not_matter() -> None:
    graph = {**LINE, "program": LINE["program"] + "\nM = L / 2", "output": "M"}
    half = train(line(model={"graph": graph, "parameters": ["w", "b"], "loss": "M"}, steps=1))
    whole = train(line(model={"graph": graph, "parameters": ["w", "b"], "loss": "L"}, steps=1))
    assert whole["loss_history"] == [2 * half["loss_history"][0]]


def test_a_name_bound_twice_means_its_last_binding() -> None:
    graph = {"inputs": {"w": 3.0}, "program": "L = w * w\nL = L + 1"}
    assert train({**line(), "data": None, "model": {"graph": graph, "parameters": ["w"], "loss": "L"}, "steps": 1})[
        "loss_history"
    ] == [10.0]


def test_without_data_there_is_one_point() -> None:
    graph = {"inputs": {"a": -2.0, "b": 3.0}, "program": "c = abs(a) ** b"}
    spec = line(model={"graph": graph, "parameters": ["a", "b"], "loss": "c"}, data=None, steps=1)
    result = train(spec)
    assert result["loss_history"] == [8.0]
    assert result["gradients"] == {"a": -12.0, "b": 8.0 * math.log(2.0)}
    assert result["parameters"] == {"a": -2.0 + 0.1 * 12.0, "b": 3.0 - 0.1 * (8.0 * math.log(2.0))}


@pytest.mark.parametrize(("reduction", "gradient"), [("sum", 3.0), ("mean", 1.0)])
def test_a_parameter_may_itself_be_the_loss(reduction: str, gradient: float) -> None:
    graph = {"inputs": {"w": 2.0, "x": [1.0, 2.0, 3.0]}, "program": "u = x * w"}
    model = {"graph": graph, "parameters": ["w"], "loss": "w"}
    result = train(line(model=model, data=None, loss={"reduction": reduction}, steps=2))
    assert result["gradients"] == {"w": gradient}
    assert result["loss_history"] == pytest.approx([2.0 * gradient, (2.0 - 0.1 * gradient) * gradient])


def test_a_parameter_that_the_loss_does_not_need_stays_but_for_the_l2_term() -> None:
    graph = {"inputs": {"w": 2.0, "v": 4.0}, "program": "u = w * v\nL = w * w"}
    model = {"graph": graph, "parameters": ["w", "v"], "loss": "L"}
    assert train(line(model=model, data=None, steps=1))["gradients"] == {"w": 4.0, "v": 0.0}
    result = train(line(model=model, data=None, steps=1, loss={"l2": 0.25}))
    assert result["gradients"] == {"w": 5.0, "v": 2.0}
    assert result["loss_history"] == [4.0 + 0.25 * 20.0]


# ---------------------------------------------------------------------------------- how a training ends


def test_a_training_stops_when_the_loss_comes_down_to_the_target() -> None:
    spec = line(target_loss=0.01)
    result = train(spec)
    history = result["loss_history"]
    assert result["stop_reason"] == "target_loss"
    assert history[-1] <= 0.01 < history[-2]
    assert exact(history) == exact(train(line())["loss_history"][: len(history)])
    # No update followed the last loss.
    assert exact(train(line(steps=len(history) - 1))["parameters"]) == exact(result["parameters"])
    assert train(line(target_loss=1e9, steps=5))["gradients"] is None


def test_a_training_stops_when_it_diverges() -> None:
    spec = line(optimizer={"name": "sgd", "learning_rate": 10.0}, steps=1000)
    training = Training(spec)
    state = training.start()
    records = training.advance(state, 1000)
    assert state.stop_reason == "diverged"
    assert len(records) == state.step < 1000
    assert [math.isfinite(record.loss) for record in records] == [True] * (len(records) - 1) + [False]
    before = state.to_dict()
    assert training.advance(state, 10) == []
    assert exact(state.to_dict()) == exact(before)
    assert training.result(state)["stop_reason"] == "diverged"
    assert set(STOP_REASONS) == {"completed", "diverged", "target_loss"}


def test_records_say_what_happened_before_each_update() -> None:
    spec = lecture({"schedule": "step", "start": 0.1, "factor": 0.5, "every": 2}, 4, metrics=["accuracy"])
    training = Training(spec)
    state = training.start()
    records = training.advance(state, 3) + training.advance(state, 3)
    assert [record.step for record in records] == [0, 1, 2, 3]
    assert [record.learning_rate for record in records] == [0.1, 0.1, 0.05, 0.05]
    assert all(record.metrics["accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0) for record in records)
    assert state.stop_reason == "completed"
    assert training.result(state)["loss_history"] == [record.loss for record in records]


def test_the_cost_counts_nodes_points_parameters_and_steps() -> None:
    def cost(spec: dict[str, Any]) -> int:
        return Training(spec, plain=True).cost

    step, parameter, instruction, point, _ = PLAIN_COSTS
    assert cost(line()) == 400 * (step + parameter * 2 + (instruction + point * 3) * 4) + point * 3 * 4
    assert cost(line(batch_size=2)) == 400 * (step + parameter * 2 + (instruction + point * 2) * 4) + point * 3 * 4
    # A neuron of 3 inputs: 3 products, 3 sums, tanh; the loss: a difference, a square, and 3 sums of 4 neurons.
    mlp = lecture(0.1, 10, model={"inputs": 3, "layers": [4]}, data={"inputs": [[1, 2, 3]], "targets": [[1, 1, 1, 1]]})
    nodes = 4 * 7 + 4 * 2 + 3
    assert cost(mlp) == 10 * (step + parameter * 16 + (instruction + point) * nodes) + point * nodes
    graph = {"inputs": {"w": 1.0}, "nodes": []}
    alone = line(model={"graph": graph, "parameters": ["w"], "loss": "w"}, data=None)
    assert cost(alone) == 400 * (step + parameter)


def test_machine_code_costs_less() -> None:
    step, parameter, instruction, point, easy_point = COMPILED_COSTS
    # A product and a sum; a difference and a square: the power's derivative has to be computed.
    points = 3 * (easy_point * 3 + point)
    work = step + parameter * 2 + instruction * 4 + points
    assert Training(line()).cost == math.ceil(400 * work + points) < Training(line(), plain=True).cost / 50


def test_a_graph_object_trains_the_named_loss_and_not_its_own_output() -> None:
    data = {"inputs": {"w": 3.0}, "program": "L = w * w\ny = 5 * w + 0 * L"}
    spec = {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "steps": 2}
    model = {"parameters": ["w"], "loss": "L", "prediction": "y"}
    expected = train({**spec, "model": {"graph": {**data, "output": "L"}, **model}})
    graph = Graph.from_dict({**data, "output": "y"})
    assert Training({**spec, "model": {"graph": graph, **model}}).model.structure.loss == "L"
    assert train({**spec, "model": {"graph": graph, **model}}) == expected
    assert expected["loss_history"][0] == 9.0
