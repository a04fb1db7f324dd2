"""What a training specification may not say, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest

from chainrule_engine.errors import MAX_PROBLEMS, LimitExceeded, TrainingError
from chainrule_engine.training import METRICS, Training

NETWORK: dict[str, Any] = {
    "model": {"inputs": 2, "layers": [2, 1]},
    "data": {"inputs": [[1.0, 2.0], [3.0, 4.0]], "targets": [1.0, -1.0]},
    "loss": {"name": "squared_error"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 5,
}
GRAPH: dict[str, Any] = {
    "model": {
        "graph": {"inputs": {"w": 1.0, "x": 0.0, "y": 0.0}, "program": "p = w * x\nL = (p - y) ** 2"},
        "parameters": ["w"],
        "loss": "L",
    },
    "data": {"x": [1.0, 2.0], "y": [2.0, 4.0]},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 5,
}


def problems(base: dict[str, Any], changes: dict[str, Any]) -> list[tuple[tuple, str]]:
    spec = {**base, **{name: value for name, value in changes.items() if not name.startswith("model.")}}
    for name, value in changes.items():
        if name.startswith("model."):
            spec["model"] = {**spec["model"], name.removeprefix("model."): value}
    with pytest.raises(TrainingError) as caught:
        Training(spec)
    return [(problem.path, problem.detail) for problem in caught.value.problems]


def layers(*sizes: tuple[int, int], biases: int | None = None) -> dict[str, Any]:
    return {
        "layers": [
            {"weights": [[0.5] * fan_in] * width, "biases": [0.0] * (width if biases is None else biases)}
            for fan_in, width in sizes
        ]
    }


def sgd(**settings: Any) -> dict[str, Any]:
    return {"optimizer": {"name": "sgd", "learning_rate": 0.1, **settings}}


def rate(**settings: Any) -> dict[str, Any]:
    return {"optimizer": {"name": "adam", "learning_rate": settings}}


def data(inputs: Any = NETWORK["data"]["inputs"], targets: Any = NETWORK["data"]["targets"]) -> dict[str, Any]:
    return {"data": {"inputs": inputs, "targets": targets}}


def test_both_kinds_of_specification_are_fine_as_they_stand() -> None:
    assert Training(NETWORK).steps == Training(GRAPH).steps == 5
    assert Training({**NETWORK, "model": {**NETWORK["model"], "parameters": layers((2, 2), (2, 1))}}).steps == 5


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"loss": None}, ("loss",), "name the loss of a network: squared_error"),
        ({"loss": {"reduction": "sum"}}, ("loss",), "name the loss"),
        ({"loss": {"name": "cross_entropy"}}, ("model", "layers"), "an output for each of its classes"),
        ({"data": None}, ("data",), "needs data with inputs"),
        ({"data": {"inputs": [[1.0, 2.0]]}}, ("data",), "and targets"),
        (data(inputs=[]), ("data", "inputs"), "a point at least"),
        (data(inputs=[[1.0, 2.0], [3.0]]), ("data", "inputs", 1), "2 inputs, and this row has 1"),
        (data(targets=[1.0]), ("data", "targets"), "2 rows of inputs, and 1 targets"),
        (data(targets=[1.0, [1.0, 2.0]]), ("data", "targets", 1), "1 numbers, one per output, and this has 2"),
        ({"loss": {"name": "hinge"}, **data(targets=[1.0, 0.0])}, ("data", "targets", 1), "-1 or 1, not 0.0"),
        (
            {"loss": {"name": "binary_cross_entropy"}, **data(targets=[0.5, -1.0])},
            ("data", "targets", 1),
            "a number from 0 to 1, not -1.0",
        ),
        (
            {"loss": {"name": "cross_entropy"}, "model.layers": [3], **data(targets=[0, 3])},
            ("data", "targets", 1),
            "a class index from 0 to 2, not 3",
        ),
        (
            {"loss": {"name": "cross_entropy"}, "model.layers": [3], **data(targets=[0.5, 2])},
            ("data", "targets", 0),
            "a class index from 0 to 2, not 0.5",
        ),
        (
            {"loss": {"name": "cross_entropy"}, "model.layers": [3], **data(targets=[0, [1, 2]])},
            ("data", "targets", 1),
            "one class index and this has 2",
        ),
        ({"model.activation": ["tanh"]}, ("model", "activation"), "there are 2 layers"),
        ({"model.activation": "step"}, ("model", "activation"), "choose from tanh"),
        ({"model.activation": ["step", "relu"]}, ("model", "activation"), "choose from tanh"),
        ({"model.output_activation": "softmax"}, ("model", "activation"), "choose from tanh"),
        (
            {"model.parameters": layers((2, 2), (2, 1)), "model.init": {"scheme": "lecture", "seed": 1}},
            ("model", "init"),
            "either init or parameters",
        ),
        ({"model.parameters": layers((2, 2))}, ("model", "parameters", "layers"), "2 layers, and this gives 1"),
        (
            {"model.parameters": layers((2, 2), (3, 1))},
            ("model", "parameters", "layers", 1, "weights", 0),
            "2 inputs: give as many weights, not 3",
        ),
        (
            {"model.parameters": layers((2, 2), (2, 2), biases=2), "model.layers": [2, 1]},
            ("model", "parameters", "layers", 1, "weights"),
            "1 neurons: give as many rows of weights, not 2",
        ),
        (
            {"model.parameters": layers((2, 2), (2, 1), biases=2)},
            ("model", "parameters", "layers", 1, "biases"),
            "1 neurons: give as many biases, not 2",
        ),
        ({"batch_size": 3}, ("batch_size",), "there are 2 points: a batch cannot hold 3"),
        (
            sgd(beta1=0.9),
            ("optimizer", "beta1"),
            "sgd has no setting of this name: it takes learning_rate, momentum, nesterov",
        ),
        (sgd(nesterov=True), ("optimizer", "nesterov"), "needs a momentum above 0"),
        (sgd(nesterov=True, momentum=0.0), ("optimizer", "nesterov"), "needs a momentum"),
        (
            rate(schedule="linear", start=1.0, end=0.1, factor=0.5),
            ("optimizer", "learning_rate", "factor"),
            "the schedule linear has no setting of this name: it takes start, end, steps",
        ),
        (rate(schedule="linear", start=1.0), ("optimizer", "learning_rate"), "the schedule linear needs end"),
        (rate(schedule="step", start=1.0, factor=0.5), ("optimizer", "learning_rate"), "step needs every"),
    ],
)
def test_a_network_that_cannot_be(changes: dict, path: tuple, words: str) -> None:
    found = problems(NETWORK, changes)
    assert found[0][0] == path
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"loss": {"name": "hinge"}}, ("loss", "name"), "names its own loss in model.loss"),
        ({"metrics": ["accuracy"]}, ("metrics",), "accuracy belongs to networks"),
        ({"model.parameters": []}, ("model", "parameters"), "name an input at least"),
        ({"model.parameters": ["v"]}, ("model", "parameters", 0), "'v' is no input of the graph"),
        ({"model.parameters": ["w", "p"]}, ("model", "parameters", 1), "'p' is no input of the graph"),
        ({"model.parameters": ["w", "w"]}, ("model", "parameters", 1), "'w' is listed already"),
        ({"model.loss": "M"}, ("model", "loss"), "no input or node is called 'M'"),
        ({"model.prediction": "q"}, ("model", "prediction"), "no input or node is called 'q'"),
        (
            {"model.graph": {"inputs": {"w": 1.0, "x": 0.0, "y": "0"}, "program": "L = w"}},
            ("model", "graph", "inputs", "y"),
            "this is a string",
        ),
        (
            {"model.graph": {"inputs": {"w": 1.0, "x": 0.0, "y": 0.0}, "program": "L = w +"}},
            ("model", "graph", "program"),
            "line 1, column 8",
        ),
        (
            {"model.graph": {"inputs": {"w": [1.0, 2.0], "x": 0.0, "y": 0.0}, "program": "L = w * x - y"}},
            ("model", "graph", "inputs", "w"),
            "a parameter starts as one number",
        ),
        ({"data": {"z": [1.0]}}, ("data", "z"), "'z' is no input of the graph"),
        ({"data": {"w": [1.0]}}, ("data", "w"), "'w' is a parameter: it cannot be data too"),
        ({"data": {"x": []}}, ("data", "x"), "give a list of numbers"),
        ({"data": {"x": 1.0}}, ("data", "x"), "give a list of numbers"),
        ({"data": {"x": [1.0, 2.0], "y": [1.0]}}, ("data", "y"), "there are 2 points, and this has 1 numbers"),
        (
            {
                "model.graph": {"inputs": {"w": 1.0, "x": 0.0, "y": [1.0, 2.0]}, "program": "L = w * x - y"},
                "data": {"x": [1.0]},
            },
            ("data", "x"),
            "there are 2 points, and this has 1 numbers",
        ),
        (
            {
                "model.graph": {
                    "inputs": {"w": 1.0, "x": [1.0, 2.0], "y": [1.0, 2.0]},
                    "program": "L = w * x - y",
                },
                "data": {"x": [1.0]},
            },
            ("model", "graph", "inputs", "y"),
            "there are 1 points, and this has 2 numbers",
        ),
        ({"batch_size": 3}, ("batch_size",), "there are 2 points"),
    ],
)
def test_a_graph_model_that_cannot_be(changes: dict, path: tuple, words: str) -> None:
    found = problems(GRAPH, changes)
    assert found[0][0] == path
    assert words in found[0][1]


def test_all_the_rows_that_are_wrong_are_reported() -> None:
    found = problems(NETWORK, data(inputs=[[1.0], [1.0, 2.0, 3.0]]))
    assert [path for path, _ in found] == [("data", "inputs", 0), ("data", "inputs", 1)]
    found = problems(NETWORK, {"loss": {"name": "hinge"}, **data(targets=[3.0, 0.5])})
    assert [path for path, _ in found] == [("data", "targets", 0), ("data", "targets", 1)]


def test_the_loss_and_the_prediction_of_a_graph_model_may_be_one_id() -> None:
    training = Training({**GRAPH, "model": {**GRAPH["model"], "prediction": "L"}})
    state = training.start()
    training.advance(state, 1)
    assert len(training.result(state)["predictions"]) == 2


def test_the_default_activation_is_the_lectures() -> None:
    spelled_out = {**NETWORK["model"], "activation": ["tanh", "tanh"]}
    ours, theirs = Training(NETWORK), Training({**NETWORK, "model": spelled_out})
    assert ours.result(ours.start()) == theirs.result(theirs.start())
    assert list(METRICS) == ["accuracy"]


def test_many_parameters_are_read_in_one_pass_and_the_faults_of_many_are_cut() -> None:
    names = [f"w{i}" for i in range(20_000)]
    graph = {"inputs": dict.fromkeys(names, 1.0), "program": "L = w0 * w0"}
    model = {"graph": graph, "parameters": names, "loss": "L"}
    assert Training({**GRAPH, "data": None, "model": model}).model.structure.parameters == names
    found = problems(GRAPH, {"data": None, "model": {**model, "parameters": names * 2}})
    assert [path for path, _ in found] == [("model", "parameters", 20_000 + i) for i in range(MAX_PROBLEMS)]
    assert found[0][1] == "'w0' is listed already"
    found = problems(GRAPH, {"data": {f"z{i}": [1.0] for i in range(100)}, "model": model})
    assert len(found) == MAX_PROBLEMS
    points = {"inputs": [[1.0]] * 100, "targets": [1.0] * 100}
    assert len(problems(NETWORK, {"data": points})) == MAX_PROBLEMS
    points = {"inputs": [[1.0, 2.0]] * 100, "targets": [[1.0, 2.0]] * 100}
    assert len(problems(NETWORK, {"data": points})) == MAX_PROBLEMS


def test_the_size_of_a_graph_is_limited_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded) as caught:
        Training(GRAPH, max_nodes=2)
    assert (caught.value.limit, caught.value.path) == ("nodes", ("model", "graph", "program"))
    graph = {**GRAPH["model"]["graph"], "inputs": {"w": 1.0, "x": [1.0, 2.0], "y": 0.0}}
    with pytest.raises(LimitExceeded) as caught:
        Training({**GRAPH, "model": {**GRAPH["model"], "graph": graph}}, max_points=1)
    assert (caught.value.limit, caught.value.path) == ("points", ("model", "graph", "inputs", "x"))
