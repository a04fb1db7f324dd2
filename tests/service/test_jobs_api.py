"""/v1/jobs."""

from __future__ import annotations

import copy
import json
import re
import threading
from contextlib import ExitStack

import pytest

from chainrule_engine.training import train
from chainrule_service.exchange import Service
from chainrule_service.store import Store
from chainrule_service.training import GRAPH_EXAMPLE, NETWORK_EXAMPLE

PATH = "/v1/jobs"


@pytest.fixture
def network():
    return copy.deepcopy(NETWORK_EXAMPLE)


@pytest.fixture
def line():
    return copy.deepcopy(GRAPH_EXAMPLE)


def training(spec):
    return {"type": "training", "spec": spec}


# ---------------------------------------------------------------------------------------------------- running


def test_training_of_a_network(call, network):
    job = call(PATH, training(network), 201)
    assert job["state"] == "succeeded"
    assert job["failure"] is None
    result = job["result"]
    assert len(result["loss_history"]) == len(result["metrics"]["accuracy"]) == 50
    assert result["loss_history"][-1] < result["loss_history"][0]
    assert result["stop_reason"] == "completed"
    assert job["progress"] == {"step": 50, "steps": 50, "loss": result["loss_history"][-1]}


def test_result_is_the_engines_to_the_last_bit(call, network):
    assert call(PATH, training(network), 201)["result"] == train(network)


def test_training_of_a_graph(call, line):
    result = call(PATH, training(line), 201)["result"]
    assert result["parameters"]["w"] == pytest.approx(2.0, abs=0.05)
    assert result["parameters"]["b"] == pytest.approx(1.0, abs=0.05)


def test_a_diverged_training_is_a_result(call, line):
    line["optimizer"] = {"name": "sgd", "learning_rate": 1e200}
    job = call(PATH, training(line), 201)
    assert (job["state"], job["result"]["stop_reason"]) == ("succeeded", "diverged")
    assert job["result"]["loss_history"][-1] in ("NaN", "Infinity")
    assert job == call(job["links"]["self"])


def test_job_of_an_evaluation(call, neuron):
    job = call(PATH, {"type": "evaluation", "spec": {"graph": neuron, "seeds": {"o": 2.0}}}, 201)
    expected = call("/v1/evaluations", {"graph": neuron, "seeds": {"o": 2.0}})
    assert job["result"] == {name: value for name, value in expected.items() if name not in ("engine", "digest")}
    assert job["spec"]["graph"] == neuron


def test_the_answer_leads_to_the_same_record(client, network):
    answer = client.post(PATH, json=training(network))
    assert answer.status_code == 201
    assert re.fullmatch("job_[0-9a-f]{32}", answer.json["id"])
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/jobs/{answer.json['id']}"
    assert client.get(answer.headers["Location"]).get_data() == answer.get_data()
    assert answer.json["attempts"] == 1
    assert answer.json["created_at"] <= answer.json["started_at"] <= answer.json["finished_at"]


def test_digest_of_a_specification_does_not_depend_on_its_order(call, network):
    first = call(PATH, training(network), 201)
    turned = dict(reversed(network.items()))
    again = call(PATH, training(turned), 201)
    assert again["spec_digest"] == first["spec_digest"]
    assert again["result"] == first["result"]
    network["batch_seed"] = 1
    assert call(PATH, training(network), 201)["spec_digest"] != first["spec_digest"]


def test_record_shows_the_defaults(call, line):
    spec = call(PATH, training(line), 201)["spec"]
    assert (spec["batch_size"], spec["batch_seed"], spec["metrics"]) == (None, 0, [])
    assert spec["optimizer"] == line["optimizer"]


def test_nulls_stand_for_left_out(call, network):
    network |= {"batch_size": None, "target_loss": None}
    network["model"]["output_activation"] = None
    assert call(PATH, training(network), 201)["state"] == "succeeded"


def test_given_parameters_are_the_start(call, network):
    first = call(PATH, training(network | {"steps": 10}), 201)["result"]
    del network["model"]["init"]
    network["model"]["parameters"] = first["parameters"]
    second = call(PATH, training(network | {"steps": 10}), 201)["result"]
    network["model"]["parameters"] = None
    whole = train(copy.deepcopy(NETWORK_EXAMPLE) | {"steps": 20})
    assert first["loss_history"] + second["loss_history"] == whole["loss_history"]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize(
    "rate",
    [
        0.01,
        {"schedule": "linear", "start": 0.1, "end": 0.01},
        {"schedule": "step", "start": 0.1, "factor": 0.5, "every": 3},
        {"schedule": "exponential", "start": 0.1, "factor": 0.9},
        {"schedule": "cosine", "start": 0.1, "end": 0, "steps": 5},
    ],
)
def test_every_optimiser_with_every_schedule(call, line, name, rate):
    line |= {"optimizer": {"name": name, "learning_rate": rate}, "steps": 7, "batch_size": 2}
    assert len(call(PATH, training(line), 201)["result"]["loss_history"]) == 7


# ---------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("steps",), 0, "from 1"),
        (("steps",), 2.0, "write 2"),
        (("steps",), 2.5, "whole number"),
        (("metrics",), ["accuracy", "accuracy"], "listed twice"),
        (("steps",), True, "boolean"),
        (("optimizer", "learning_rate"), -0.1, "at least 0"),
        (("optimizer", "learning_rate"), "0.1", "string"),
        (("optimizer", "learning_rate"), {"schedule": "linear", "start": -1, "end": 0}, "at least 0"),
        (("optimizer", "momentum"), 1, "below 1"),
        (("optimizer", "nesterov"), 1, "true or false"),
        (("optimizer", "beta1"), 0.9, "no setting"),
        (("optimizer", "name"), "sdg", "did you mean sgd"),
        (("loss", "l2"), -1e-4, "at least 0"),
        (("loss", "name"), "hing", "did you mean hinge"),
        (("loss", "colour"), "red", "unknown field"),
        (("batch_size",), 0, "from 1"),
        (("batch_size",), 5, "4 points"),
        (("model", "layers"), [], "1 to 100"),
        (("model", "layers", 1), 0, "from 1"),
        (("model", "inputs"), 3, ""),
        (("model", "activation"), "relo", "did you mean relu"),
        (("model", "activation"), ["relu"], "layers"),
        (("model", "init", "scheme"), "he", "lecture"),
        (("model", "init", "seed"), -1, "from 0"),
        (("metrics",), ["f1"], "accuracy"),
        (("data", "targets"), [1, 2], "4 rows"),
        (("data", "targets", 2), "1", "string"),
        (("data", "inputs", 2), [1], "first one has 2"),
        (("data", "inputs", 1, 1), None, "null"),
        (("data", "inputs"), [], "empty"),
        (("data",), {"x": [1]}, ""),
        (("target_loss",), "low", "string"),
        (("colour",), "red", "unknown field"),
    ],
)
def test_faults_in_a_network_training(call, network, path, value, words):
    place = network
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    problem = call(PATH, training(network), 422)
    assert problem["type"] == "/problems/invalid-request"
    pointers = [error["pointer"] for error in problem["errors"]]
    expected = "#/spec/" + "/".join(map(str, path))
    if path == ("model", "inputs"):
        expected = "#/spec/data/inputs/0"  # the rows have two numbers still
    assert any(pointer.startswith(expected) for pointer in pointers), problem
    assert words in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"model": {"graph": {}, "parameters": ["w"], "loss": "L"}}, "#/spec/model/graph"),
        ({"model": {"graph": [], "parameters": ["w"], "loss": "L"}}, "#/spec/model/graph"),
        ({"model": {"graph": {"inputs": {"w": 1}, "program": "L = w*q"}, "parameters": ["w"], "loss": "L"}}, None),
        ({"data": {"x": [0, 1], "y": [1]}}, "#/spec/data/y"),
        ({"data": {"x": [0, 1], "z": [1, 2]}}, "#/spec/data/z"),
        ({"data": {"x": [], "y": []}}, "#/spec/data/x"),
        ({"data": [1]}, "#/spec/data"),
        ({"loss": {"name": "hinge"}}, "#/spec/loss/name"),
        ({"metrics": ["accuracy"]}, "#/spec/metrics"),
    ],
)
def test_faults_in_a_graph_training(call, line, change, pointer):
    problem = call(PATH, training(line | change), 422)
    assert problem["errors"][0]["pointer"] == (pointer or "#/spec/model/graph/program")


@pytest.mark.parametrize("parameters", [["q"], [], ["w", "w"], "w", [1]])
def test_faults_in_the_parameters_of_a_graph(call, line, parameters):
    line["model"]["parameters"] = parameters
    problem = call(PATH, training(line), 422)
    assert problem["errors"][0]["pointer"].startswith("#/spec/model/parameters")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/type"),
        ({"type": "tuning", "spec": {}}, "#/type"),
        ({"type": "grading", "spec": {}}, "#/spec"),
        ({"type": "training"}, "#/spec"),
        ({"type": "training", "spec": None}, "#/spec"),
        ({"type": "training", "spec": []}, "#/spec"),
        ({"type": "training", "spec": {}}, "#/spec/optimizer"),
        ({"type": "evaluation", "spec": {}}, "#/spec/graph"),
        ({"type": "evaluation", "spec": {"graph": {"inputs": {"x": True}}}}, "#/spec/graph/inputs/x"),
        ([], "#"),
        ("training", "#"),
        (None, "#"),
    ],
)
def test_faults_in_the_envelope(call, body, pointer):
    problem = call(PATH, status=422, raw=json.dumps(body).encode())
    assert problem["errors"][0]["pointer"] == pointer


def test_a_job_over_the_limit_is_refused_with_advice(call_with, network):
    problem = call_with(limits={"job_work": 1000})(PATH, training(network | {"steps": 400_000}), 422)
    assert problem["type"] == "/problems/limit-exceeded"
    assert problem["limit"] == "job_work"
    assert problem["requested"] > problem["maximum"]
    assert problem["errors"][0]["pointer"] == "#/spec"
    assert "fewer steps" in problem["detail"]


def test_a_training_that_would_take_too_much_memory_is_refused_with_advice(call_with, network):
    problem = call_with(limits={"job_memory": 1000})(PATH, training(network), 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("job_memory", "#/spec")
    assert problem["requested"] > 1000
    assert "smaller batch_size" in problem["detail"]


def test_a_huge_network_is_refused_before_it_is_made(call, network):
    network["model"]["layers"] = [1_000_000] * 100
    problem = call(PATH, training(network), 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("parameters", "#/spec/model/layers")


def test_a_refused_job_leaves_no_record(call_with, network):
    call = call_with(limits={"job_work": 10})
    call(PATH, training(network), 422)
    call(PATH, training(network | {"steps": 0}), 422)
    assert call(PATH)["data"] == []


def test_limits_of_a_graph_and_its_points(call_with, line):
    nodes = call_with(limits={"nodes": 2})(PATH, training(line), 422)
    assert (nodes["limit"], nodes["errors"][0]["pointer"]) == ("nodes", "#/spec/model/graph/program")
    points = call_with(limits={"job_memory": 10})(PATH, training(line), 422)
    assert (points["limit"], points["errors"][0]["pointer"]) == ("job_memory", "#/spec")


def test_a_graph_has_no_more_parameters_than_a_network(call_with, line):
    problem = call_with(limits={"parameters": 1})(PATH, training(line), 422)
    assert (problem["limit"], problem["maximum"], problem["requested"]) == ("parameters", 1, 2)
    assert problem["errors"][0]["pointer"] == "#/spec/model/parameters"


def test_the_history_is_part_of_the_answer(call_with, network):
    call = call_with(limits={"answer_numbers": 99})
    problem = call(PATH, training(network), 422)  # 50 steps, each with a loss and an accuracy
    assert (problem["limit"], problem["requested"]) == ("answer_numbers", 100)
    assert problem["errors"][0]["pointer"] == "#/spec/steps"
    assert "fewer steps" in problem["detail"]
    assert call(PATH, training(network | {"steps": 49}), 201)["state"] == "succeeded"


def test_many_cheap_steps_are_refused(call):
    """Each costs little, and is recorded all the same."""
    model = {"graph": {"inputs": {"w": 1}, "program": "L = w*w"}, "parameters": ["w"], "loss": "L"}
    spec = {"model": model, "optimizer": {"name": "sgd", "learning_rate": 0.1}, "steps": 100_000_000}
    assert call(PATH, training(spec), 422)["type"] == "/problems/limit-exceeded"


@pytest.fixture
def busy(app):
    """Hold every place for long work."""
    shared: Service = app.extensions["chainrule"]
    with ExitStack() as places:
        while shared.slots.acquire(blocking=False):
            places.callback(shared.slots.release)
        yield


LONG_GRAPH = {"inputs": {"x": [1] * 100_000}, "program": "y = x*x + x"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, training(NETWORK_EXAMPLE | {"steps": 400_000})),
        # What these ask for does not fit together, but it takes work to see that.
        (PATH, training(NETWORK_EXAMPLE | {"model": {"inputs": 5, "layers": [60, 60, 1]}, "steps": 1})),
        (
            PATH,
            training(
                GRAPH_EXAMPLE | {"model": {"graph": {"program": "y = 1+1\n" * 9_000}, "parameters": ["w"], "loss": "y"}}
            ),
        ),
        ("/v1/evaluations", {"graph": LONG_GRAPH}),
        ("/v1/evaluations/batch", {"items": [{"graph": LONG_GRAPH}]}),
        ("/v1/gradient-checks", {"graph": {"inputs": {f"x{k}": 1 for k in range(300)}, "program": "y = -x1"}}),
    ],
)
def test_long_work_is_sent_away_when_every_place_is_taken(client, busy, path, body):
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/service-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_large_drawings_are_long_work(client, busy):
    small, large = ({"graph": {"inputs": {"x": 1}, "program": "y = x\n" + "y = y*x\n" * n}} for n in (10, 900))
    for graph, accept, status in (
        (small, "image/svg+xml", 200),
        (large, "image/svg+xml", 503),
        (large, "text/vnd.graphviz", 200),
        (large, "application/json", 200),
    ):
        assert client.post("/v1/evaluations", json=graph, headers={"Accept": accept}).status_code == status


def test_a_drawing_that_is_too_large_is_refused_before_the_work(client, busy):
    graph = {"inputs": {"x": 1}, "program": "y = x*x\n" + "y = y*x\n" * 1_000 + "y"}
    answer = client.post("/v1/evaluations", json={"graph": graph}, headers={"Accept": "image/svg+xml"})
    assert (answer.status_code, answer.json["limit"], answer.json["requested"]) == (422, "drawing_size", 1_002)


def test_short_work_is_done_all_the_same(call, busy, network, neuron):
    assert call("/livez") == {"status": "ok"}
    assert call("/v1/evaluations", {"graph": neuron})["digest"]
    assert call(PATH, training(network), 201)["state"] == "succeeded"


# ---------------------------------------------------------------------------------------------------- records


def test_pages_are_newest_first_and_complete(call_with, network):
    call = call_with()
    made = [call(PATH, training(network | {"steps": 1}), 201)["id"] for _ in range(5)]
    first = call(f"{PATH}?limit=2")
    second = call(f"{PATH}?limit=2&cursor={first['next_cursor']}")
    third = call(f"{PATH}?limit=2&cursor={second['next_cursor']}")
    assert third["next_cursor"] is None
    listed = [job["id"] for page in (first, second, third) for job in page["data"]]
    assert listed == made[::-1]
    assert call(PATH)["next_cursor"] is None


def test_a_page_leads_to_the_next_by_link(call_with, network):
    call = call_with(limits={"page_items": 1})
    for _ in range(2):
        call(PATH, training(network | {"steps": 1}), 201)
    page = call(f"{PATH}?limit=1000")
    assert len(page["data"]) == 1
    assert page["next_cursor"]
    assert call(f"{PATH}?limit=1&cursor={page['next_cursor']}")["data"][0]["id"] != page["data"][0]["id"]


def test_list_leaves_out_what_is_long(call, network):
    job = call(PATH, training(network), 201)
    entry = call(f"{PATH}?limit=1")["data"][0]
    assert entry == {name: value for name, value in job.items() if name not in ("spec", "result", "queue_position")}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=", "cursor=zz", "cursor=", "colour=red"]
)
def test_bad_queries(call, query):
    problem = call(f"{PATH}?{query}", status=422)
    assert problem["errors"][0]["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_job_that_ends_in_its_request_but_past_its_deadline_expires(call, network, neuron, kind):
    spec = network if kind == "training" else {"graph": neuron}
    job = call(PATH, {"type": kind, "spec": spec, "deadline_seconds": 1e-6}, 201)
    assert (job["state"], job["result"], job["failure"]["code"]) == ("expired", None, "deadline-passed")
    assert job["progress"] == (
        None if kind == "evaluation" else {"step": 50, "steps": 50, "loss": pytest.approx(0, abs=1)}
    )


def test_delete(call, network):
    job = call(PATH, training(network), 201)
    answer = call(job["links"]["self"], method="DELETE", status=204)
    assert (answer.get_data(), answer.headers.get("Content-Type")) == (b"", None)
    call(job["links"]["self"], status=404)
    call(job["links"]["self"], method="DELETE", status=404)


def test_a_running_job_can_be_seen_but_not_deleted(app, call):
    store: Store = app.extensions["chainrule"].store
    submitted = {
        "type": "training",
        "spec": {},
        "spec_digest": "sha256:" + "0" * 64,
        "engine": {"version": "0", "conventions": 1},
    }
    claim = store.submit(submitted, claimed_by="test:1", lease=60).claim
    job_id = claim.id
    progress = {"step": 3, "steps": 10, "loss": float("nan")}
    store.checkpoint(claim, 60, step=3, state={}, progress=progress, losses=[1.0, 0.5, float("nan")], metrics={})
    job = call(f"{PATH}/{job_id}")
    assert (job["state"], job["finished_at"], job["progress"]["loss"]) == ("running", None, "NaN")
    problem = call(f"{PATH}/{job_id}", method="DELETE", status=409)
    assert problem["type"] == "/problems/conflict"
    store.finish(claim, state="failed", failure={"code": "test", "detail": "a test"})
    assert call(f"{PATH}/{job_id}")["failure"] == {"code": "test", "detail": "a test"}
    call(f"{PATH}/{job_id}", method="DELETE", status=204)


@pytest.mark.parametrize("job_id", ["job_0", "x" * 500, "%00", "job_%ff", "'; --"])
def test_jobs_that_do_not_exist(call, job_id):
    call(f"{PATH}/{job_id}", status=404)
    call(f"{PATH}/{job_id}", method="DELETE", status=404)


def test_many_at_once(app, line):
    """More requests than places: each ends as a finished job or is told to come back."""
    seen = []

    line["steps"] = 20_000

    def submit():
        seen.append(app.test_client().post(PATH, json=training(line)).status_code)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= {201, 503}
    assert 201 in seen
