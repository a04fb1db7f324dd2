"""POST /v1/exercise-checks and POST /v1/exercises."""

from __future__ import annotations

import contextlib

import pytest
from tests.service.test_gradings import Keyed

from chainrule_engine.exercises import generate
from chainrule_engine.grading import read_task
from chainrule_service.resources.exercise_checks import SCHEMAS
from chainrule_service.training import NETWORK_EXAMPLE

CHECKS, EXERCISES = "/v1/exercise-checks", "/v1/exercises"
#: The exercise of the lecture's like, whose d is 1: a forgotten upstream factor does not show.
WEAK = {"evaluation": {"graph": {"inputs": {"a": -2.0, "b": 3.0}, "program": "c = a * b\nd = a + b\ne = c * d"}}}


def test_a_weak_exercise_is_found_out_and_the_suggested_inputs_mend_it(call):
    found = call(CHECKS, {"task": WEAK})
    missed = {entry["name"]: entry for entry in found["missed"]}
    assert found["publishable"] is False
    assert "upstream is 1" in missed["mul_no_up"]["why"]
    assert "assign" in found["caught"]
    assert found["key"]["passed"] is True
    assert found["engine"]["version"]
    # It came as program text, which has no list of nodes to point into.
    places = {"#/evaluation/graph", "#/evaluation/graph/program", *(f"#/evaluation/graph/inputs/{x}" for x in "ab")}
    assert {fault["pointer"] for fault in found["problems"]} <= places
    assert "#/evaluation/graph/program" in {fault["pointer"] for fault in found["problems"]}
    better = dict(WEAK["evaluation"]["graph"])
    better["inputs"] = better["inputs"] | found["suggestion"]["inputs"]
    again = call(CHECKS, {"task": {"evaluation": {"graph": better} | (
        {"seeds": found["suggestion"]["seeds"]} if "seeds" in found["suggestion"] else {})}})  # fmt: skip
    assert {entry["name"] for entry in again["missed"]} < missed.keys()
    assert set(found["suggestion"]["newly_caught"]) <= {*again["caught"], *(entry["name"] for entry in again["partly"])}


def test_what_is_meant_to_go_unnoticed_is_no_problem(call):
    missed = [entry["name"] for entry in call(CHECKS, {"task": WEAK})["missed"]]
    found = call(CHECKS, {"task": WEAK, "accept_undetected": missed, "suggestions": False})
    assert (found["publishable"], found["problems"], found["suggestion"]) == (True, [], None)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"task": {}}, "#/task"),
        ({"task": 1}, "#/task"),
        ({"task": None}, "#/task"),
        (
            {"task": {"evaluation": {"graph": {"inputs": {"x": "1"}, "program": "y = x"}}}},
            "#/task/evaluation/graph/inputs/x",
        ),
        ({"accept_undetected": ["no such mistake"]}, "#/accept_undetected/0"),
        ({"accept_undetected": "assign"}, "#/accept_undetected"),
        ({"accept_undetected": [1]}, "#/accept_undetected/0"),
        ({"suggestions": 1}, "#/suggestions"),
        ({"graph": {}}, "#/graph"),
    ],
)
def test_bad_checks(call, change, pointer):
    assert call(CHECKS, {"task": WEAK} | change, 422)["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "task",
    [
        {"evaluation": {"graph": {"inputs": {"x": [0.5, 1.5]}, "program": "y = x*x + x"}}},
        {"evaluation": {"graph": {"inputs": {"x": 0.0}, "program": "y = 1/x"}}},
        {"evaluation": {"graph": {"inputs": {"x": 0.0}, "program": "y = relu(x)"}}},
        {"evaluation": {"graph": {"inputs": {}, "program": "y = 2*3"}}},
        {"evaluation": {"graph": {"inputs": {"x": 1e300}, "program": "y = x*x"}}},
        {"evaluation": {"graph": WEAK["evaluation"]["graph"] | {"output": ["c", "e"]}, "seeds": {"c": 3}}},
    ],
)  # fmt: skip
def test_edges_give_an_answer(call, task):
    found = call(CHECKS, {"task": task})
    assert isinstance(found["publishable"], bool)


def test_a_training_has_tolerances_to_be_looked_at(call):
    checks = [{"of": "loss_history", "compare": {"mode": "sequence", "rtol": 1e-6, "atol": 0}}]
    found = call(CHECKS, {"task": {"training": NETWORK_EXAMPLE, "checks": checks}})
    assert (found["key"], found["missed"], found["suggestion"]) == (None, [], None)
    assert found["warnings"]


def test_an_answer_has_what_the_description_has(call):
    schema = SCHEMAS["ExerciseCheck"]["properties"]
    found = call(CHECKS, {"task": WEAK})
    assert found.keys() == schema.keys()
    assert found["extension"]["output"] == found["extension"]["nodes"][-1]["id"]
    (extension,) = (entry for entry in schema["extension"]["anyOf"] if "properties" in entry)
    assert found["extension"].keys() == extension["properties"].keys()


def test_a_training_costs_its_own_work(call_with):
    task = {"training": NETWORK_EXAMPLE | {"steps": 2_000}}
    cost = read_task(task).cost
    problem = call_with(limits={"grading_work": 100_000 + cost - 1})(CHECKS, {"task": task}, 422)
    assert (problem["limit"], problem["requested"]) == ("grading_work", 100_000 + cost)
    call_with(limits={"grading_work": 100_000 + cost})(CHECKS, {"task": task})


def test_each_point_of_a_batch_costs(call_with):
    """2,000 points of 3 nodes took more than eight seconds."""
    graph = {"inputs": {"x": [0.5 + k / 4_000 for k in range(2_000)]}, "program": "a = x*x\nb = tanh(a)\nc = a*b"}
    problem = call_with(limits={"grading_work": 8_000_000})(CHECKS, {"task": {"evaluation": {"graph": graph}}}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("grading_work", "#/task")


def test_a_large_graph_is_too_much(call_with):
    problem = call_with(limits={"grading_work": 1000})(CHECKS, {"task": WEAK}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("grading_work", "#/task")


# -------------------------------------------------------------------------------------------------- exercises


def test_an_exercise_is_that_of_the_engine(call):
    wishes = {"nodes": 6, "inputs": 2, "operations": ["add", "mul", "tanh"], "sharing": 2}
    made = call(EXERCISES, {"seed": 41} | wishes)
    assert made["graph"] == generate(41, **wishes)
    assert made == call(EXERCISES, {"seed": 41} | wishes)
    assert made["graph"] != call(EXERCISES, {"seed": 42} | wishes)["graph"]
    assert call("/v1/evaluations", {"graph": made["graph"]})["warnings"] == []
    text = call(EXERCISES, {"seed": 41, "form": "program"} | wishes)["graph"]
    assert text["program"].count("\n") == 5


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"seed": "1"}, "#/seed"),
        ({"seed": 1.0}, "#/seed"),
        ({"nodes": 0}, "#/nodes"),
        ({"nodes": 51}, "#/nodes"),
        ({"inputs": 0}, "#/inputs"),
        ({"operations": []}, "#/operations"),
        ({"operations": ["add", "tahn"]}, "#/operations/1"),
        ({"operations": "add"}, "#/operations"),
        ({"depth": 0}, "#/depth"),
        ({"depth": 2, "nodes": 50}, "#/depth"),
        ({"sharing": -1}, "#/sharing"),
        ({"sharing": 50}, "#/nodes"),
        ({"form": "text"}, "#/form"),
        ({"operations": ["tanh"]}, "#/nodes"),
        ({"colour": 1}, "#/colour"),
    ],
)
def test_wishes_that_cannot_be_met(call, change, pointer):
    fault = call(EXERCISES, {"seed": 1} | change, 422)["errors"][0]
    assert fault["pointer"] == pointer
    assert fault["detail"]


def test_what_each_scope_opens(tmp_path):
    with contextlib.closing(Keyed(tmp_path)) as keyed:
        keyed.call("POST", EXERCISES, keyed.key("grade"), 200, {"seed": 1})
        assert keyed.call("POST", CHECKS, keyed.key("grade"), 403, {"task": WEAK}).json["scope"] == "staff"
        answer = keyed.call("POST", CHECKS, keyed.key("staff"), 200, {"task": WEAK})
        assert '"work"' in answer.headers["RateLimit"]
