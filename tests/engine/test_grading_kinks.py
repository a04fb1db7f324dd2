"""The right numbers: kinks against graphs in which each choice of a subgradient is written out, batches, trainings."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine import Graph, evaluate
from chainrule_engine.grading import grade, read_task
from chainrule_engine.grading.kinks import MAX_CORNERS, Kinks, find_kinks
from chainrule_engine.training import train

KINKED = ("relu", "abs", "max", "min")
SMOOTH = ("add", "sub", "mul", "neg")


@st.composite
def kinked_graphs(draw: st.DrawFn, points: int | None = None, most: int = 8) -> dict[str, Any]:
    """A graph of whole numbers, where differences are often exactly 0."""
    number = st.integers(-2, 2).map(float)
    column = number if points is None else st.lists(number, min_size=points, max_size=points)
    inputs = {name: draw(column) for name in ("a", "b", "c")}
    nodes: list[dict[str, Any]] = []
    for k in range(draw(st.integers(1, most))):
        op = draw(st.sampled_from(KINKED + SMOOTH))
        known = [*inputs, *(node["id"] for node in nodes)]
        arity = 1 if op in ("relu", "abs", "neg") else 2
        nodes.append({"id": f"n{k}", "op": op, "args": [draw(st.sampled_from(known)) for _ in range(arity)]})
    return {"inputs": inputs, "nodes": nodes, "output": nodes[-1]["id"]}


def kinks(graph: Graph, seeds: Any) -> Kinks:
    return find_kinks(graph, seeds, evaluate(graph, seeds=seeds).all_gradients)


def admissible(graph: Graph, seeds: Any) -> dict[str, list[tuple[float, float]]]:
    return kinks(graph, seeds).admissible


def chosen_gradients(graph: dict[str, Any]) -> dict[str, list[float]]:
    """Id → its gradient for every choice: at a kink the node is replaced by one whose derivative is that choice."""
    values = evaluate(Graph.from_dict(graph)).all_values

    def number(argument: Any) -> Any:
        return values[argument] if isinstance(argument, str) else argument

    places = []
    for place, node in enumerate(graph["nodes"]):
        numbers = [number(argument) for argument in node["args"]]
        if (node["op"] in ("relu", "abs") and numbers[0] == 0.0) or (
            node["op"] in ("max", "min") and numbers[0] == numbers[1]
        ):
            places.append(place)
    found: dict[str, list[float]] = {}
    ends = [(-1.0, 1.0) if graph["nodes"][place]["op"] == "abs" else (0.0, 1.0) for place in places]
    for corner in product(*ends):
        nodes: list[dict[str, Any]] = []
        for place, node in enumerate(graph["nodes"]):
            if place not in places:
                nodes.append(node)
                continue
            weight = corner[places.index(place)]
            x, name = node["args"][0], node["id"]
            if len(node["args"]) == 1:
                nodes.append({"id": name, "op": "mul", "args": [weight, x]})
                continue
            nodes.append({"id": f"{name}x", "op": "mul", "args": [weight, x]})
            nodes.append({"id": f"{name}y", "op": "mul", "args": [1.0 - weight, node["args"][1]]})
            nodes.append({"id": name, "op": "add", "args": [f"{name}x", f"{name}y"]})
        written = evaluate(Graph.from_dict({**graph, "nodes": nodes}))
        assert {name: written.all_values[name] for name in values} == values
        for name in values:
            found.setdefault(name, []).append(written.all_gradients[name])
    return found


@settings(deadline=None)
@given(kinked_graphs())
def test_every_choice_lies_between_the_ends_and_the_ends_are_choices(graph: dict[str, Any]) -> None:
    intervals = admissible(Graph.from_dict(graph), None)
    convention = evaluate(Graph.from_dict(graph)).all_gradients
    for name, gradients in chosen_gradients(graph).items():
        ((low, high),) = intervals.get(name, [(convention[name], convention[name])])
        assert (low, high) == (min(gradients), max(gradients))
        assert low <= convention[name] <= high


@settings(deadline=None)
@given(kinked_graphs())
def test_intervals_hold_the_corners(graph: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chainrule_engine.grading.kinks.MAX_CORNERS", 0)
        wide = admissible(Graph.from_dict(graph), None)
    for name, [(low, high)] in admissible(Graph.from_dict(graph), None).items():
        ((lower, higher),) = wide[name]
        assert lower <= low <= high <= higher


@settings(max_examples=50, deadline=None)
@given(kinked_graphs(points=3, most=5))
def test_points_of_a_batch_stand_for_themselves(graph: dict[str, Any]) -> None:
    together = admissible(Graph.from_dict(graph), None)
    alone = [{**graph, "inputs": {name: column[p] for name, column in graph["inputs"].items()}} for p in range(3)]
    for p, single in enumerate(alone):
        intervals = admissible(Graph.from_dict(single), None)
        convention = evaluate(Graph.from_dict(single)).all_gradients
        for name in together:
            assert together[name][p] == intervals.get(name, [(convention[name],) * 2])[0]
        assert intervals.keys() <= together.keys()


def test_more_kinks_than_corners() -> None:
    count = MAX_CORNERS + 4
    program = "\n".join(["y0 = relu(x)", *(f"y{k} = y{k - 1} + relu(x)" for k in range(1, count))])
    graph = Graph.from_dict({"inputs": {"x": 0.0}, "program": program})
    assert len(kinks(graph, None).nodes) == count
    assert admissible(graph, None)["x"] == [(0.0, float(count))]
    # Both shares of a tie of one number with itself are 1 together, which intervals do not know.
    ties = "\n".join(["y0 = x*1", *(f"y{k} = max(y{k - 1}, y{k - 1})" for k in range(1, count))])
    graph = Graph.from_dict({"inputs": {"x": 1.0}, "program": ties})
    ((low, high),) = admissible(graph, None)["x"]
    assert low <= 1.0 <= high


@pytest.mark.parametrize(("limit", "value"), [("MAX_CORNER_VISITS", 1), ("MAX_VISITS", 60)])
def test_large_graphs_take_less_work(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    graph = Graph.from_dict({"inputs": {"x": [0.0] * 10}, "program": "y = relu(x) - relu(x)*2 + max(x, x)"})
    exact = admissible(graph, None)["x"]
    assert exact == [(-1.0, 2.0)] * 10
    monkeypatch.setattr(f"chainrule_engine.grading.kinks.{limit}", value)
    less = admissible(graph, None)["x"]
    if limit == "MAX_CORNER_VISITS":
        assert less == [(-2.0, 3.0)] * 10
    else:
        assert (less[0], less[-1]) == ((-1.0, 2.0), (1.0, 1.0))


def test_seeds_and_other_outputs() -> None:
    graph = Graph.from_dict({"inputs": {"x": 0.0}, "program": "y = relu(x)\nz = abs(x)", "output": ["y", "z"]})
    assert admissible(graph, {"y": 2.0}) == {"x": [(0.0, 2.0)]}
    assert admissible(graph, None) == {"x": [(-1.0, 2.0)]}
    assert kinks(graph, {"y": 2.0}).nodes == ["y"]
    batch = Graph.from_dict({"inputs": {"x": [0.0, 1.0]}, "program": "y = relu(x)"})
    assert admissible(batch, {"y": [3.0, 1.0]}) == {"x": [(0.0, 3.0), (1.0, 1.0)]}


def test_what_stops_gradients_stops_choices() -> None:
    graph = Graph.from_dict({"inputs": {"x": 0.0}, "program": "y = stop_gradient(relu(x)) + where(x > 0, relu(x), x)"})
    assert admissible(graph, None) == {}
    assert kinks(graph, None).nodes == []


def test_selective_operations_among_intervals() -> None:
    lines = ["k = relu(x)", *(f"k{i} = relu(x)" for i in range(MAX_CORNERS)), "t = k"]
    program = "\n".join([*lines, "t = t + " + " + ".join(f"k{i}" for i in range(MAX_CORNERS)), "y = where(c, t, x)"])
    graph = Graph.from_dict({"inputs": {"x": 0.0, "c": 1.0}, "program": program, "output": "y"})
    assert admissible(graph, None)["x"] == [(0.0, MAX_CORNERS + 1.0)]


# ------------------------------------------------------------------------------------------------ as checks use it


def score(graph: Any, answers: Any, **check: Any) -> float:
    task = read_task({"evaluation": {"graph": graph}, "checks": [{"of": "gradients.x", **check}]})
    return grade(task, answers, diagnose=False).score


RELU = {"inputs": {"x": 0.0}, "program": "y = 3*relu(x)"}


@pytest.mark.parametrize(("number", "right"), [(0.0, 1), (1.5, 1), (3.0, 1), (3.0002, 1), (3.01, 0), (-0.01, 0)])
def test_any_subgradient_is_right(number: float, right: float) -> None:
    assert score(RELU, {"gradients": {"x": number}}) == right


@pytest.mark.parametrize(("number", "right"), [(0.0, 1), (1.5, 0), (3.0, 0)])
def test_the_convention_alone(number: float, right: float) -> None:
    assert score(RELU, {"gradients": {"x": number}}, kink="zero") == right


def test_kinks_of_a_batch() -> None:
    graph = {"inputs": {"x": [0.0, 1.0, -1.0]}, "program": "y = relu(x)"}
    assert score(graph, {"gradients": {"x": [0.7, 1.0, 0.0]}}) == 1
    assert score(graph, {"gradients": {"x": [0.7, 0.7, 0.0]}}) == 0
    assert score(graph, {"gradients": {"x": [0.7, 1.0, 0.0]}}, kink="zero") == 0


@pytest.mark.parametrize(("number", "right"), [(0.0, 1), (1.0, 1), (2.0, 0)])
@pytest.mark.parametrize("points", [None, 2])
def test_gradients_as_a_whole_have_the_same_choices(number: float, right: float, points: int | None) -> None:
    def at(*numbers: float) -> Any:
        return numbers[0] if points is None else list(numbers)

    graph = {"inputs": {"a": at(0.0, 1.0), "b": 3.0}, "program": "c = relu(a)\nL = c * b"}
    gradients = {"a": at(3.0 * number, 3.0), "b": at(0.0, 1.0), "c": at(3.0, 3.0), "L": at(1.0, 1.0)}
    asked = {"id": "all", "of": "gradients"}
    report = grade(read_task({"evaluation": {"graph": graph}, "checks": [asked]}), {"gradients": gradients})
    assert report.fraction == right


@pytest.mark.parametrize(
    ("of", "given", "right"),
    [
        ("jacobian.L.a", 1.5, 1),
        ("jacobian.L.a", 3.5, 0),
        ("jacobian.L.b", 0.5, 0),
        ("jacobian.L", {"a": 3.0, "b": 0.0}, 1),
        ("jacobian.L", {"a": 3.0, "b": 0.5}, 0),
        ("jacobian.M.a", 0.75, 1),
        ("jacobian.M.a", 1.5, 0),
        ("jacobian", {"L": {"a": 3.0, "b": 0.0}, "M": {"a": 1.0, "b": 0.0}}, 1),
        ("jacobian", {"L": {"a": 3.0, "b": 0.0}, "M": {"a": 2.0, "b": 0.0}}, 0),
    ],
)
@pytest.mark.parametrize("points", [None, 2])
def test_a_jacobian_has_choices(of: str, given: Any, right: float, points: int | None) -> None:
    def batch(numbers: Any) -> Any:
        if isinstance(numbers, dict):
            return {name: batch(entry) for name, entry in numbers.items()}
        return numbers if points is None else [numbers] * points

    # The seeds have no say in a Jacobian: here they leave M out.
    graph = {"inputs": batch({"a": 0.0, "b": 3.0}), "program": "M = relu(a)\nL = M * b", "output": ["L", "M"]}
    answers = batch(given)
    for name in reversed(of.split(".")):
        answers = {name: answers}
    data = {"evaluation": {"graph": graph, "seeds": {"L": 1.0}}, "checks": [{"of": of}]}
    assert grade(read_task(data), answers).fraction == right
    data["checks"] = [{"of": of, "kink": "zero"}]
    assert grade(read_task(data), answers).fraction == 0


def test_the_staff_sees_what_is_admissible() -> None:
    graph = {"inputs": {"x": 0.0, "y": 1.0}, "program": "z = relu(x) + y*y"}
    checks = [
        {"of": "gradients.x", "id": "x"},
        {"of": ["gradients.x", "gradients.y"], "id": "both"},
        {"of": "gradients.y", "id": "y"},
        {"of": "gradients.x", "id": "zero", "kink": "zero"},
    ]
    report = grade(read_task({"evaluation": {"graph": graph}, "checks": checks}), {"gradients": {"x": 0.5}})
    staff = report.to_dict("staff")["staff"]["checks"]
    assert staff["x"]["interval"] == [0.0, 1.0]
    assert staff["x"]["expected"] == 0.0
    assert staff["x"]["abs_err"] == 0.0
    assert staff["both"]["interval"] == [[0.0, 1.0], None]
    assert "interval" not in staff["y"]
    assert "interval" not in staff["zero"]


def test_the_answer_that_is_no_number_is_not_admissible() -> None:
    assert score(RELU, {"gradients": {"x": "NaN"}}) == 0
    assert score(RELU, {"gradients": {"x": "Infinity"}}) == 0


# ---------------------------------------------------------------------------------------------------- trainings

TRAINING: dict[str, Any] = {
    "model": {"inputs": 2, "layers": [3, 2], "activation": "tanh", "init": {"scheme": "lecture", "seed": 3}},
    "data": {"inputs": [[0.5, -1.0], [1.0, 0.25]], "targets": [[1.0, 0.0], [-1.0, 0.5]]},
    "loss": {"name": "squared_error", "reduction": "sum"},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "steps": 4,
    "metrics": ["accuracy"],
}


@pytest.mark.parametrize(
    "key",
    ["loss_history", "parameters", "predictions", "gradients", "metrics.accuracy", "parameters.layers.1.weights.0"],
)
def test_every_quantity_of_a_training(key: str) -> None:
    training = {**TRAINING, "data": {**TRAINING["data"]}}
    result = train(training)
    task = read_task({"training": training, "checks": [{"of": key}]})
    report = grade(
        task, {name: result[name] for name in ("loss_history", "parameters", "predictions", "gradients", "metrics")}
    )
    assert report.fraction == 1
    assert (
        grade(task, {"loss_history": [1.0], "metrics": {"accuracy": [0.1]}, "predictions": [[1.0, 1.0]] * 2}).fraction
        == 0
    )


def test_a_training_that_diverges_at_once() -> None:
    training = {**TRAINING, "data": {"inputs": [[1e308, 1e308]], "targets": [[1e308, -1e308]]}, "metrics": []}
    task = read_task({"training": training, "checks": [{"of": "gradients"}, {"of": "loss_history"}]})
    assert grade(task, {"loss_history": ["Infinity"]}).to_dict()["checks"][1]["passed"]
    assert not grade(task, {"loss_history": ["-Infinity"]}).to_dict()["checks"][1]["passed"]
