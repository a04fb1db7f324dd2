"""Reading tasks: what is left out, what is refused and where, and that a task says the same again."""

from __future__ import annotations

import doctest
import json
import re
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule_engine
from chainrule_engine import grading
from chainrule_engine.errors import MAX_PROBLEMS, EngineError, LimitExceeded
from chainrule_engine.grading import Task, TaskError, canonical, grade, lint, read_task, right_answers
from chainrule_engine.grading.tasks import Feedback
from chainrule_engine.grading.truth import GraphTruth
from chainrule_engine.graph import Graph

GRAPH = {"inputs": {"a": 2.0, "b": -3.0}, "program": "c = a*b\nL = c*c + a"}
KINKED = {"inputs": {"x": 0.0}, "program": "L = relu(x)"}
TRAINING = {
    "model": {"inputs": 2, "layers": [3, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 3}},
    "data": {"inputs": [[0.5, -1.0], [1.0, 0.25]], "targets": [1.0, -1.0]},
    "loss": {"name": "squared_error", "reduction": "sum"},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "steps": 4,
}
CURVE = {
    "model": {
        "graph": {"inputs": {"w.0": 0.5, "b": 0.0, "x": 0.0, "y": 0.0}, "nodes": [
            {"id": "p", "op": "mul", "args": ["w.0", "x"]},
            {"id": "q", "op": "add", "args": ["p", "b"]},
            {"id": "e", "op": "sub", "args": ["q", "y"]},
            {"id": "loss", "op": "mul", "args": ["e", "e"]},
        ]},
        "parameters": ["w.0", "b"],
        "loss": "loss",
    },
    "data": {"x": [1.0, 2.0, 3.0], "y": [2.0, 4.0, 6.5]},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "steps": 3,
}  # fmt: skip


def task(*checks: Any, graph: Any = GRAPH, **fields: Any) -> Task:
    given = {"evaluation": {"graph": graph}} if "training" not in fields and "evaluation" not in fields else {}
    return read_task({**given, **({"checks": list(checks)} if checks else {}), **fields})


def refused(data: object, **limits: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(TaskError) as caught:
        read_task(data, **limits)
    return [(problem.path, problem.detail) for problem in caught.value.problems]


def test_the_example_of_the_package() -> None:
    found = doctest.testmod(grading)
    assert found.attempted > 0
    assert found.failed == 0


# ---------------------------------------------------------------------------------------------- what is left out


def test_the_checks_of_a_graph() -> None:
    found = task()
    assert [(check.id, check.of, check.title) for check in found.checks] == [
        ("value", "value", "value of L"),
        ("grad.a", "gradients.a", "∂L/∂a"),
        ("grad.b", "gradients.b", "∂L/∂b"),
    ]
    assert {check.points for check in found.checks} == {1}
    assert all(
        check.compare.settings["rtol"] == 1e-4 and check.compare.settings["atol"] == 1e-6 for check in found.checks
    )
    assert found.feedback == Feedback("hint")
    assert found.diagnose
    assert found.rounding is None


def test_the_checks_of_a_training() -> None:
    found = task(training=TRAINING)
    assert [check.of for check in found.checks] == ["loss_history", "parameters"]
    assert [check.compare.mode for check in found.checks] == ["sequence", "allclose"]
    assert [check.compare.settings["rtol"] for check in found.checks] == [1e-6, 1e-5]
    assert [check.compare.settings["atol"] for check in found.checks] == [1e-9, 1e-7]


def test_titles_and_ids() -> None:
    checks = [{"of": "values.c"}, {"of": "jacobian.L.a"}, {"of": ["gradients.a", "gradients.b"], "id": "both"}]
    found = task(*checks)
    assert [check.id for check in found.checks] == ["value.c", "jacobian.L.a", "both"]
    assert [check.title for check in found.checks] == ["value of c", "jacobian.L.a", "gradients.a, gradients.b"]
    several = task({"of": "value"}, {"of": "gradients.a"}, graph={**GRAPH, "output": ["c", "L"]})
    assert [check.title for check in several.checks] == ["value", "gradient of a"]


def test_bounds_of_numbers() -> None:
    found = refused({"training": {**TRAINING, "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 1}}})
    assert found == [(("training", "optimizer", "momentum"), "this is less than 1.0")]
    found = refused({**GOOD, "checks": [{"of": "value"}] * 1001})
    assert found == [(("checks",), "the checks: 1,000 at most, and these are 1,001")]


def test_the_longest_ids() -> None:
    a, b = "a" * 200, "b" * 200
    found = task(graph={"inputs": {a: 1.0}, "nodes": [{"id": b, "op": "neg", "args": [a]}]})
    assert found.checks[1].title == f"∂{b}/∂{a}"
    assert read_task(found.to_dict()).checks == found.checks


def test_what_a_task_costs() -> None:
    assert task().cost < task(graph={"inputs": {"x": [1.0] * 100}, "program": "x*x"}).cost
    assert task({"of": "value"}).cost_each < task().cost_each
    assert task(training=TRAINING).cost_each > task({"of": "loss_history"}, training=TRAINING).cost_each


def test_ids_with_dots_are_found() -> None:
    dotted = {"inputs": {"a.b": 1.0, "a": 2.0}, "nodes": [{"id": "o.1", "op": "mul", "args": ["a.b", "a"]}]}
    found = task({"of": "gradients.a.b"}, {"of": "values.o.1"}, {"of": "jacobian.o.1.a.b"}, graph=dotted)
    assert right_answers(found)["gradients"] == {"a.b": 2.0, "a": 1.0, "o.1": 1.0}


@pytest.mark.parametrize(
    "key",
    [
        "parameters.layers.0.weights", "parameters.layers.1.biases", "parameters.layers.0.weights.2", "predictions",
        "gradients", "gradients.layers.0.biases", "metrics.accuracy",
    ],
)  # fmt: skip
def test_quantities_of_a_network(key: str) -> None:
    training = {**TRAINING, "metrics": ["accuracy"]}
    assert task({"of": key}, training=training).checks[0].keys == (key,)


def test_quantities_of_a_trained_graph() -> None:
    found = task({"of": "parameters.w.0"}, {"of": "parameters.b"}, {"of": "gradients.w.0"}, training=CURVE)
    assert [check.id for check in found.checks] == ["parameters.w.0", "parameters.b", "grad.w.0"]


# ------------------------------------------------------------------------------------------------- what is refused

FULL = {"within": 1, "credit": 1}
FAULTY = {"inputs": [[1.0]], "targets": [1.0]}
GOOD = {"evaluation": {"graph": GRAPH}}


def with_check(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "checks": [{"of": "value", **fields}]}


REFUSED: list[tuple[object, tuple[str | int, ...], str]] = [
    (None, (), "is an object"),
    ([], (), "is an object"),
    ({}, (), "evaluation or the training"),
    ({**GOOD, "training": TRAINING}, (), "not both"),
    ({**GOOD, "chekcs": []}, ("chekcs",), "did you mean checks"),
    ({**GOOD, "id": 7}, ("id",), "is a string"),
    ({**GOOD, "title": "x" * 501}, ("title",), "500"),
    ({**GOOD, "title": "a\nb"}, ("title",), "printable"),
    ({**GOOD, "engine": "latest"}, ("engine",), "0.1"),
    ({**GOOD, "engine": "99.0"}, ("engine",), "pinned"),
    ({"evaluation": 3}, ("evaluation",), "is an object"),
    ({"evaluation": {}}, ("evaluation",), "graph"),
    ({"evaluation": {"graph": {"inputs": {}, "program": "b = "}}}, ("evaluation", "graph", "program"), "line 1"),
    ({"evaluation": {"graph": {"inputs": {"a": "1"}, "nodes": []}}}, ("evaluation", "graph", "inputs", "a"), "string"),
    ({"evaluation": {"graph": GRAPH, "seeds": {"zz": 1.0}}}, ("evaluation", "seeds", "zz"), "output"),
    ({"evaluation": {"graph": GRAPH, "seeds": [1.0]}}, ("evaluation", "seeds"), "object"),
    ({"evaluation": {"graph": GRAPH, "derivative": "hvp"}}, ("evaluation", "derivative"), "unknown field"),
    ({"training": []}, ("training",), "is an object"),
    ({"training": {"model": {}}}, ("training",), "steps is missing"),
    ({"training": {**TRAINING, "data": FAULTY}}, ("training", "data", "inputs", 0), "2 inputs"),
    ({**GOOD, "checks": {}}, ("checks",), "a list is needed"),
    ({**GOOD, "checks": []}, ("checks",), "must be 1 at least"),
    ({**GOOD, "checks": [3]}, ("checks", 0), "is an object"),
    ({**GOOD, "checks": [{}]}, ("checks", 0), "say in `of`"),
    (with_check(of=3), ("checks", 0, "of"), "string"),
    (with_check(of="gradients.zz"), ("checks", 0, "of"), "no quantity"),
    (with_check(of="gradient.a"), ("checks", 0, "of"), "no quantity 'gradient.a' (did you mean gradients.a?)"),
    (with_check(of="vales"), ("checks", 0, "of"), "(did you mean values or value?)"),
    (with_check(of="gradients.aa"), ("checks", 0, "of"), "(did you mean a?)"),
    (with_check(of=["value", "gradient.a"], id="x"), ("checks", 0, "of", 1), "(did you mean gradients.a?)"),
    ({"training": TRAINING, "checks": [{"of": "parameter.layers.0"}]}, ("checks", 0, "of"), "mean parameters.layers.0"),
    (with_check(of="loss_history"), ("checks", 0, "of"), "no quantity"),
    (with_check(of="value.a"), ("checks", 0, "of"), "no quantity"),
    (with_check(of=[]), ("checks", 0, "of"), "must be 1 at least"),
    (with_check(of=["value"]), ("checks", 0), "needs an id"),
    (with_check(of=["value", "value"], id="x"), ("checks", 0, "of", 1), "already"),
    (with_check(id=""), ("checks", 0, "id"), "printable"),
    (with_check(points=-1), ("checks", 0, "points"), "at least"),
    (with_check(points=True), ("checks", 0, "points"), "boolean"),
    (with_check(points=1e7), ("checks", 0, "points"), "at most"),
    (with_check(visibility="secret"), ("checks", 0, "visibility"), "hidden"),
    (with_check(credit="some"), ("checks", 0, "credit"), "fraction"),
    (with_check(kink="zeor"), ("checks", 0, "kink"), "zero"),
    (with_check(compare={"rtol": 1e-3}), ("checks", 0, "compare"), "alone"),
    (with_check(compare="direction"), ("checks", 0, "compare"), "choose"),
    (with_check(compare={"mode": "direction"}, credit="fraction"), ("checks", 0, "credit"), "together"),
    (with_check(compare="exact", bands=[{"within": 1, "credit": 1}]), ("checks", 0, "bands"), "no tolerance"),
    (with_check(bands=[{"within": 1, "credit": 0.5}]), ("checks", 0, "bands", 0, "credit"), "first band"),
    (with_check(bands=[{"within": 0, "credit": 1}]), ("checks", 0, "bands", 0, "within"), "more than"),
    (with_check(bands=[FULL, {"within": 0.5, "credit": 0.5}]), ("checks", 0, "bands", 1), "narrowest"),
    (with_check(bands=[FULL, {"within": 2, "credit": 1}]), ("checks", 0, "bands", 1), "narrowest"),
    (with_check(bands=[{"within": 1}]), ("checks", 0, "bands", 0, "credit"), "number"),
    (with_check(follow_through=2), ("checks", 0, "follow_through"), "at most"),
    (with_check(requires=["zz"]), ("checks", 0, "requires", 0), "no check"),
    (with_check(requires=["value"]), ("checks", 0, "requires"), "circle"),
    (with_check(requires="value"), ("checks", 0, "requires"), "a list is needed"),
    (with_check(group="g"), ("checks", 0, "group"), "no group"),
    (with_check(number=1.1), ("checks", 0, "number"), "string"),
    (with_check(weight=1), ("checks", 0, "weight"), "unknown field"),
    ({**GOOD, "checks": [{"of": "value"}, {"of": "value"}]}, ("checks", 1, "id"), "before it"),
    ({**GOOD, "groups": [{}]}, ("groups", 0, "id"), "string"),
    ({**GOOD, "groups": [{"id": "g", "rule": "any"}]}, ("groups", 0, "rule"), "all_or_nothing"),
    ({**GOOD, "groups": [{"id": "g"}]}, ("groups", 0), "no check"),
    ({**with_check(group="g"), "groups": [{"id": "g"}, {"id": "g"}]}, ("groups", 1, "id"), "before"),
    ({**with_check(group="g", points=0), "groups": [{"id": "g", "points": 2}]}, ("groups", 0, "points"), "nothing"),
    ({**with_check(group="g"), "groups": [{"id": "g", "points": 0}]}, ("groups", 0, "points"), "more than 0"),
    ({**with_check(points=0.5), "rounding": "floor"}, ("rounding",), "whole"),
    ({**with_check(points=0.5), "rounding": "largest_remainder"}, ("checks", 0, "points"), "whole"),
    (
        {**with_check(group="g"), "groups": [{"id": "g", "cap": 1}], "rounding": "largest_remainder"},
        ("groups", 0, "cap"),
        "leave cap out",
    ),
    ({**GOOD, "rounding": "up"}, ("rounding",), "floor"),
    ({**GOOD, "groups": 0}, ("groups",), "a list is needed"),
    (with_check(bands=[]), ("checks", 0, "bands"), "at least"),
    ({**GOOD, "feedback": {"attempts": ""}}, ("feedback", "attempts"), "a list is needed"),
    ({**GOOD, "salt": ""}, ("salt",), "1 to 200"),
    ({**GOOD, "salt": "x" * 201}, ("salt",), "1 to 200"),
    ({**GOOD, "salt": 3}, ("salt",), "string"),
    ({**GOOD, "diagnose": "yes"}, ("diagnose",), "true or false"),
    ({**GOOD, "feedback": "none"}, ("feedback",), "pass_fail"),
    ({**GOOD, "feedback": 3}, ("feedback",), "pass_fail"),
    ({**GOOD, "feedback": {"level": "most"}}, ("feedback", "level"), "full"),
    ({**GOOD, "feedback": {"attempts": [{"from": 0, "level": "hint"}]}}, ("feedback", "attempts", 0, "from"), "least"),
    ({**GOOD, "feedback": {"attempts": [{"from": 1}]}}, ("feedback", "attempts", 0, "level"), "choose"),
    (
        {**GOOD, "feedback": {"attempts": [{"from": 2, "level": "hint"}, {"from": 2, "level": "full"}]}},
        ("feedback", "attempts", 1, "from"),
        "later",
    ),
    ({"evaluation": {"graph": KINKED}, "checks": [{"of": "value", "kink": "avoid"}]}, ("checks", 0, "kink"), "at L"),
    (
        {"evaluation": {"graph": {"inputs": {"x": [1.0, 2.0]}, "program": "y = x*x"}},
         "checks": [{"of": "value", "follow_through": 0.5}]},
        ("checks", 0, "follow_through"),
        "one point",
    ),
    ({"training": TRAINING, "checks": [{"of": "parameters.layers.2"}]}, ("checks", 0, "of"), "no quantity"),
    ({"training": TRAINING, "checks": [{"of": "parameters.layers.x"}]}, ("checks", 0, "of"), "no quantity"),
    ({"training": TRAINING, "checks": [{"of": "parameters.layers.0.biases.0.0"}]}, ("checks", 0, "of"), "no quantity"),
    ({"training": TRAINING, "checks": [{"of": "metrics"}]}, ("checks", 0, "of"), "no quantity"),
    ({"training": CURVE, "checks": [{"of": "predictions"}]}, ("checks", 0, "of"), "no quantity"),
    ({"training": TRAINING, "checks": [{"of": "metrics.accuracy"}]}, ("checks", 0, "of"), "no quantity"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "path", "word"), REFUSED)
def test_what_is_refused(data: object, path: tuple[str | int, ...], word: str) -> None:
    before = deepcopy(data)
    found = refused(data)
    assert any(place == path and word in detail for place, detail in found), found
    assert data == before


def test_circles_of_requirements() -> None:
    checks = [
        {"of": "value", "requires": ["grad.a"]},
        {"of": "gradients.a", "requires": ["value"]},
        {"of": "gradients.b"},
    ]
    assert [path for path, _ in refused({**GOOD, "checks": checks})] == [("checks", 0, "requires")]


def test_many_requirements_take_bounded_work() -> None:
    many: list[Any] = [
        {"id": f"c{k}", "of": "value", "requires": [f"c{j}" for j in range(599, k, -1)]} for k in range(600)
    ]
    report = grade(task(*many), {"value": 38.0})
    assert report.score == 600
    many[-1]["requires"] = ["c0"]
    assert [path for path, _ in refused({**GOOD, "checks": many})] == [("checks", 0, "requires")]


def test_the_name_of_a_quantity_is_no_longer_than_other_names() -> None:
    long = {"id": "x", "of": "values." + "a." * 4_000_000}
    assert [path for path, _ in refused({**GOOD, "checks": [long]})] == [("checks", 0, "of")]


@pytest.mark.parametrize("output", ["L", ["c", "L"]])
@pytest.mark.parametrize("a", [2.0, [2.0, 3.0, 4.0]])
def test_keys_are_looked_up_without_an_evaluation(monkeypatch: pytest.MonkeyPatch, output: Any, a: Any) -> None:
    graph = {"inputs": {"a": a, "b": a}, "program": "c = a * b + 1\nL = c * c", "output": output}
    found = GraphTruth(Graph.from_dict(graph), None)

    def zeros(numbers: Any) -> Any:
        if isinstance(numbers, dict):
            return {name: zeros(number) for name, number in numbers.items()}
        return [zeros(number) for number in numbers] if isinstance(numbers, list) else 0.0

    shapes = {name: found.shape(name) for name in found.members}
    assert "evaluation" not in vars(found)
    assert shapes == {name: zeros(found.member(name)) for name in found.members}
    monkeypatch.setattr("chainrule_engine.grading.truth.evaluate", None)
    read_task({"evaluation": {"graph": graph}, "checks": [{"of": "jacobian"}, {"of": "values.c"}]})


def test_a_jacobian_that_is_too_large_is_no_quantity() -> None:
    graph = {
        "inputs": {"a": 2.0},
        "nodes": [{"id": f"n{k}", "op": "add", "args": ["a", 1.0]} for k in range(9)],
        "output": [f"n{k}" for k in range(9)],
    }
    data: dict[str, Any] = {"evaluation": {"graph": graph}, "checks": [{"id": "j", "of": "jacobian.n3.a"}]}
    assert read_task(data, max_work=90).cost > 0
    ((path, detail),) = refused(data, max_work=89)
    assert path == ("checks", 0, "of")
    assert "no quantity" in detail
    data["checks"] = [{"of": "gradients.a"}]
    report = grade(read_task(data, max_work=10), {"gradients": {"a": 9.0}, "jacobian": {"n3": {"a": 1.0}}})
    assert report.fraction == 1


def test_all_problems_come_at_once() -> None:
    found = refused({**GOOD, "checks": [{"of": "zz", "points": "x", "credit": 1}] * 40})
    assert len(found) == MAX_PROBLEMS


def test_limits() -> None:
    with pytest.raises(LimitExceeded) as caught:
        read_task(GOOD, max_nodes=1)
    assert caught.value.path == ("evaluation", "graph", "program")
    with pytest.raises(LimitExceeded) as caught:
        read_task({"training": TRAINING}, max_work=0)
    assert caught.value.path == ("training", "steps")
    batch = {"evaluation": {"graph": {"inputs": {"x": [1.0, 2.0]}, "program": "y = x*x"}}}
    with pytest.raises(LimitExceeded) as caught:
        read_task(batch, max_points=1)
    assert caught.value.path == ("evaluation", "graph", "inputs", "x")
    with pytest.raises(LimitExceeded) as caught:
        read_task({**batch, "checks": [{"of": "values.y"}]}, max_work=3)
    assert caught.value.path == ("evaluation", "graph")
    assert caught.value.limit == "work"
    assert read_task(GOOD, max_nodes=10).cost > 0
    assert read_task({"training": TRAINING}).cost > 0


def test_the_pin_of_an_engine() -> None:
    version = ".".join(chainrule_engine.__version__.split(".")[:2])
    assert task(engine=version).engine == version
    assert task(engine=chainrule_engine.__version__).engine == chainrule_engine.__version__
    assert task(engine=f"{version}.99").engine == f"{version}.99"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted(set(re.findall(r'"([a-z_]+)"', json.dumps([data for data, *_ in REFUSED]))))
almost_tasks = st.fixed_dictionaries(
    {"evaluation": st.just({"graph": GRAPH}) | json_values},
    optional={
        name: json_values | st.lists(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4), max_size=3)
        for name in ("checks", "groups", "feedback", "rounding", "title", "engine", "training")
    },
)


@settings(deadline=None)
@given(json_values | almost_tasks)
def test_whatever_is_sent_is_read_or_refused(data: object) -> None:
    try:
        found = read_task(data, max_nodes=100, max_work=10**6)
    except EngineError:
        return
    assert found.checks


RICH: dict[str, Any] = {
    "id": "q1",
    "title": "Backprop by hand",
    "engine": "0.1",
    "evaluation": {"graph": GRAPH, "seeds": {"L": 2.0}},
    "checks": [
        {"of": "value", "points": 0.1, "compare": "sigfig4", "bands": [FULL, {"within": 2, "credit": 0.5}]},
        {"of": ["gradients.a", "gradients.b"], "id": "both", "credit": "fraction", "requires": ["value"], "group": "g"},
        {"of": "gradients.c", "kink": "zero", "follow_through": 0.5, "visibility": "hidden", "number": "1.1"},
        {"of": "values.c", "compare": {"mode": "range", "low": -7}},
    ],
    "groups": [{"id": "g", "title": "Gradients", "rule": "all_or_nothing", "cap": 3, "points": 4}],
    "feedback": {"level": "full", "attempts": [{"from": 1, "level": "pass_fail"}, {"from": 3, "level": "hint"}]},
    "diagnose": False,
}  # fmt: skip
#: And what goes with none of that.
ROUNDED: dict[str, Any] = {
    **GOOD,
    "checks": [
        {"of": "value", "points": 2, "group": "g", "compare": {"mode": "any_of", "values": [1, 2.5]}},
        {"of": "gradients.a", "group": "g", "compare": {"mode": "isclose", "rtol": 0.01, "atol": 0}},
        {"id": "d", "of": ["gradients.a", "gradients.b"], "compare": {"mode": "direction"}, "number": "2"},
    ],
    "groups": [{"id": "g", "points": 6}],
    "rounding": "largest_remainder",
    "feedback": "pass_fail",
}

FULL_TRAINING: dict[str, Any] = {
    **TRAINING,
    "model": {**TRAINING["model"], "activation": ["tanh", "relu"], "output_activation": None},
    "loss": {"name": "squared_error", "reduction": "mean", "l2": 0},
    "optimizer": {"name": "sgd", "learning_rate": {"schedule": "linear", "start": 1, "end": 0.1}, "momentum": 0.5},
    "batch_size": 1,
    "batch_seed": 3,
    "target_loss": None,
    "metrics": ["accuracy"],
}
GIVEN_TRAINING: dict[str, Any] = {
    **TRAINING,
    "model": {
        "inputs": 2,
        "layers": [1],
        "parameters": {"layers": [{"weights": [[1, -2]], "biases": [0]}]},
    },
    "data": {"inputs": [[1, 2], [3, 4]], "targets": [[1], [0]]},
}


def places(data: Any) -> list[tuple[str | int, ...]]:
    """The paths of everything inside."""
    found: list[tuple[str | int, ...]] = []
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    while todo:
        path, entry = todo.pop()
        found.append(path)
        if isinstance(entry, dict):
            todo += [((*path, name), inner) for name, inner in entry.items()]
        elif isinstance(entry, list):
            todo += [((*path, place), inner) for place, inner in enumerate(entry)]
    return found


@st.composite
def faulty(draw: st.DrawFn, sound: list[Any]) -> Any:
    """One of these in which something has been put in another's place."""
    data = deepcopy(draw(st.sampled_from(sound)))
    path = draw(st.sampled_from(places(data)))
    junk = draw(json_values | st.sampled_from([-1, 0, 0.5, 10**30, 3, "sgd", "g", "value", {}, [], [[]], [None]]))
    if not path:
        return junk
    place = data
    for step in path[:-1]:
        place = place[step]
    if isinstance(place, dict) and draw(st.booleans()):
        del place[path[-1]]
    else:
        place[path[-1]] = junk
    return data


@settings(max_examples=400, deadline=None)
@given(faulty([FULL_TRAINING, GIVEN_TRAINING, CURVE]))
def test_a_training_is_refused_or_runs(data: Any) -> None:
    try:
        found = read_task({"training": data}, max_nodes=100, max_work=10**4)
    except EngineError:
        return
    assert grade(found, right_answers(found)).max_score == 2


@settings(max_examples=400, deadline=None)
@given(faulty([RICH, ROUNDED, {"training": CURVE, "checks": [{"of": "loss_history", "credit": "prefix"}]}]))
def test_a_task_is_refused_or_grades(data: Any) -> None:
    try:
        found = read_task(data, max_nodes=100, max_work=10**4)
    except EngineError:
        return
    report = grade(found, right_answers(found), diagnose=False)
    assert report.outcome == "graded"
    again = read_task(json.loads(json.dumps(found.to_dict())))
    assert again.digest == found.digest
    assert grade(again, right_answers(again), diagnose=False).to_dict("staff") == report.to_dict("staff")


@pytest.mark.parametrize("data", [FULL_TRAINING, GIVEN_TRAINING, TRAINING, CURVE])
def test_trainings_are_read(data: dict[str, Any]) -> None:
    found = read_task({"training": data})
    assert found.training == data
    assert grade(found, right_answers(found)).fraction == 1
    assert read_task({"training": found.training}).digest == found.digest


def test_whole_numbers_in_data_are_float64() -> None:
    decimals = {"inputs": [[1.0, 2.0], [3.0, 4.0]], "targets": [[1.0], [0.0]]}
    assert (
        read_task({"training": {**GIVEN_TRAINING, "data": decimals}}).digest
        == read_task({"training": GIVEN_TRAINING}).digest
    )


def test_too_many_parameters() -> None:
    wide = {**TRAINING, "model": {"inputs": 2, "layers": [10_000, 10_000, 1]}}
    assert refused({"training": wide})[0][0] == ("training", "model", "layers")


# -------------------------------------------------------------------------------------------- the same once more


@pytest.mark.parametrize("data", [RICH, GOOD, {"training": TRAINING}, {"training": CURVE, "rounding": "floor"}])
def test_a_task_that_is_written_reads_the_same(data: dict[str, Any]) -> None:
    found = read_task(data)
    again = read_task(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert again.digest == found.digest
    assert again.checks == found.checks
    assert again.groups == found.groups


def test_digests_tell_tasks_apart() -> None:
    digests = {task().digest, task(title="x").digest, task(diagnose=False).digest, task(feedback="full").digest}
    digests |= {task({"of": "value"}).digest, task({"of": "value", "points": 2}).digest, read_task(RICH).digest}
    assert len(digests) == 7
    nodes = read_task(GOOD).to_dict()["evaluation"]["graph"]
    assert task(graph=nodes).digest == task().digest
    assert re.fullmatch("sha256:[0-9a-f]{64}", task().digest)


def test_canonical_text() -> None:
    assert canonical({"b": [1, 2.5], "a": "é\n"}) == '{"a":"\\u00e9\\n","b":[1,2.5]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_points_of_a_group_are_shared() -> None:
    checks = [{"of": "value", "points": 1, "group": "g"}, {"of": "gradients.a", "points": 2, "group": "g"}]
    found = task(*checks, groups=[{"id": "g", "points": 2}])
    assert [check.points for check in found.checks] == [Fraction(2, 3), Fraction(4, 3)]


@pytest.mark.parametrize(
    ("attempt", "level"), [(None, "pass_fail"), (1, "pass_fail"), (2, "pass_fail"), (3, "hint"), (99, "hint")]
)
def test_feedback_by_attempt(attempt: int | None, level: str) -> None:
    assert read_task(RICH).feedback.at(attempt) == level


def test_feedback_is_never_above_its_level() -> None:
    assert Feedback("pass_fail", ((1, "full"),)).at(5) == "pass_fail"
    assert Feedback("full", ((2, "hint"),)).at(1) == "full"
    assert Feedback("full").at(None) == "full"


# ------------------------------------------------------------------------------------------------------------ lint


def test_a_good_task_has_nothing_questionable() -> None:
    assert lint(task()) == []
    assert lint(task(training=TRAINING)) == []
    assert lint(task({"of": "jacobian.L.a"}, {"of": "jacobian.L"})) == []


def test_a_salt_is_part_of_the_digest_and_keeps_it_from_being_guessed() -> None:
    key = {"of": "value", "compare": {"mode": "range", "low": 30, "high": 40}}
    salted = task(key, salt="as random as a password")
    assert lint(salted) == []
    assert len({task(key).digest, salted.digest, task(key, salt="x").digest}) == 3
    assert salted.to_dict()["salt"] == "as random as a password"
    assert read_task(salted.to_dict()).digest == salted.digest
    assert task(key, salt="x" * 200).salt == "x" * 200


@pytest.mark.parametrize(
    ("check", "graph", "word"),
    [
        ({"of": "value", "compare": {"mode": "range", "low": 30, "high": 40}}, GRAPH, "salt"),
        ({"of": "value", "compare": {"mode": "any_of", "values": [1]}}, GRAPH, "salt"),
        ({"of": "value", "compare": {"mode": "threshold", "at_least": 30}}, GRAPH, "salt"),
        ({"of": "value", "compare": {"rtol": 0, "atol": 0}}, GRAPH, "the tolerance is 0:"),
        ({"of": "value", "compare": {"rtol": 1e-3, "atol": 0}}, {"inputs": {"a": 0.0}, "program": "a*a"}, "where 0 is"),
        ({"of": "value", "compare": {"mode": "range", "low": 50, "high": 60}}, GRAPH, "do not pass"),
        ({"of": "value", "compare": {"mode": "threshold", "at_most": 3}}, GRAPH, "do not pass"),
        ({"of": "value"}, {"inputs": {"a": -1.0}, "program": "b = log(a)"}, "equal_nan"),
        ({"of": "gradients.x"}, KINKED, "at a kink"),
        ({"of": "value"}, {"inputs": {"a": 1e-4}, "program": "a*a"}, "0 would be right"),
        ({"of": "gradients.b", "compare": {"mode": "absolute", "atol": 30}}, GRAPH, "0 would be right"),
    ],
)  # fmt: skip
def test_what_is_questionable(check: dict[str, Any], graph: dict[str, Any], word: str) -> None:
    (problem,) = lint(task(check, graph=graph, salt=None if word == "salt" else "s"))
    assert word in problem.detail


def test_nothing_is_questionable_about_other_tolerances() -> None:
    checks = [{"of": "value", "compare": "exact"}, {"of": "values.c", "compare": {"mode": "any_of", "values": [1.0]}}]
    zero = {"inputs": {"a": 0.0}, "program": "c = a*a\nb = c*a"}
    inf = {"inputs": {"a": 0.0}, "program": "c = 1/a\nb = c + a"}
    assert lint(task(*checks, graph=zero, salt="s")) == []
    assert lint(task({"of": "value"}, graph=inf)) == []
    assert lint(task({"of": ["gradients.a", "gradients.b"], "id": "d", "compare": {"mode": "direction"}})) == []
