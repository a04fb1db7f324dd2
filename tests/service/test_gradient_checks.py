"""POST /v1/gradient-checks."""

from __future__ import annotations

import pytest

PATH = "/v1/gradient-checks"


def test_right_gradients_pass(call, neuron):
    answer = call(PATH, {"graph": neuron})
    assert answer["passed"] is True
    assert [check["input"] for check in answer["checks"]] == list(neuron["inputs"])
    assert {check["outcome"] for check in answer["checks"]} == {"passed"}
    assert answer["engine"]["version"]


def test_a_kink_is_no_failure(call):
    answer = call(PATH, {"graph": {"inputs": {"x": 0.0}, "program": "y = relu(x)"}})
    assert answer["passed"] is True
    assert answer["checks"][0]["outcome"] == "kink"
    assert answer["checks"][0]["interval"] == pytest.approx([0, 1])


def test_a_stopped_gradient_differs_from_the_difference(call):
    graph = {"inputs": {"x": 3.0}, "program": "y = x*stop_gradient(x)"}
    answer = call(PATH, {"graph": graph, "step": 0.001})
    assert (answer["passed"], answer["step"]) == (False, 0.001)
    assert (answer["checks"][0]["outcome"], answer["checks"][0]["gradient"]) == ("failed", 3.0)
    assert answer["checks"][0]["numeric"] == pytest.approx(6.0)
    assert call(PATH, {"graph": graph, "rtol": 1.0})["passed"] is True


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"step": 0}, "#/step"),
        ({"step": -1e-5}, "#/step"),
        ({"step": "1e-5"}, "#/step"),
        ({"rtol": -1}, "#/rtol"),
        ({"atol": True}, "#/atol"),
        ({"steps": 1}, "#/steps"),
        ({"graph": {"inputs": {"x": [1, 2]}, "program": "y = -x"}}, "#/graph/inputs"),
    ],
)
def test_bad_requests(call, neuron, change, pointer):
    assert call(PATH, {"graph": neuron} | change, 422)["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("program", "x"),
    [
        ("y = exp(x)", 709.78),
        ("y = log(x)", 0),
        ("y = 1/x", 0),
        ("y = x*x", 1e200),
        ("y = x - x", 1.7e308),
        ("y = x*1e308*10", 1.0),
        ("y = sqrt(x)", 5e-324),
    ],
)
@pytest.mark.parametrize("step", [1e-12, None, 0.5])
def test_edges_give_an_answer(call, program, x, step):
    answer = call(PATH, {"graph": {"inputs": {"x": x}, "program": program}, "step": step})
    assert answer["checks"][0]["outcome"] in ("passed", "failed", "kink", "undecided")


def test_a_jump_is_undecided(call):
    answer = call(PATH, {"graph": {"inputs": {"x": 0.0}, "program": "y = (x > 0) * 1.0"}})
    assert (answer["passed"], answer["checks"][0]["outcome"]) == (True, "undecided")


@pytest.mark.parametrize("program", ["a = x*10\nb = -x*10", "a = x*1\nb = x*1"])
@pytest.mark.parametrize("x", [1e308, 1.7e308])
def test_outputs_whose_sum_overflows_are_undecided(call, program, x):
    answer = call(PATH, {"graph": {"inputs": {"x": x}, "program": program, "output": ["a", "b"]}})
    check = answer["checks"][0]
    assert (check["outcome"], check["numeric"]) == ("undecided", "NaN")


def test_limit_of_work(call_with):
    call = call_with(limits={"gradient_check_work": 50})
    call(PATH, {"graph": {"inputs": {"x": 1}, "program": "y = -x"}})
    problem = call(PATH, {"graph": {"inputs": {"x": 1}, "program": "y = -(-x)"}}, 422)
    assert (problem["limit"], problem["maximum"], problem["requested"]) == ("gradient_check_work", 50, 63)
    assert problem["errors"][0]["pointer"] == "#/graph"
