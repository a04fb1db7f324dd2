"""The OpenAPI description: valid, fresh, complete, and true of what the service answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from chainrule_engine.operations import OPERATIONS
from chainrule_service.app import openapi_json
from chainrule_service.documented import NEURON
from chainrule_service.training import GRAPH_EXAMPLE, NETWORK_EXAMPLE

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
DESCRIPTION = json.loads(openapi_json())
OPERATIONS_OF_PATHS = [
    (path, method, operation) for path, item in DESCRIPTION["paths"].items() for method, operation in item.items()
    if method in ("get", "post", "put", "patch", "delete")
]  # fmt: skip


def validator(schema):
    return Draft202012Validator(schema | {"components": DESCRIPTION["components"]})


def test_it_is_valid():
    validate(DESCRIPTION)
    assert DESCRIPTION["openapi"] == "3.1.0"


def test_the_committed_copy_is_fresh():
    assert COMMITTED.read_text(encoding="utf-8") == openapi_json(), "run `make openapi` and commit docs/openapi.json"


def test_it_is_the_same_each_time_and_is_what_the_service_sends(client):
    assert openapi_json() == openapi_json() == client.get("/openapi.json").get_data(as_text=True)


def test_every_route_is_described_and_every_description_is_a_route(app):
    routes = {
        (re.sub("<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(path, method) for path, method, _ in OPERATIONS_OF_PATHS}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS_OF_PATHS, ids=lambda value: str(value)[:40])
def test_every_operation_is_complete(path, method, operation):
    assert operation["summary"]
    answers = operation["responses"]
    assert any(status.startswith("2") for status in answers)
    if method == "post":
        assert "411" in answers
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]
        assert body["schema"]["$ref"].endswith("Request")
        assert body["examples"]
        assert {"400", "413", "415", "422"} <= answers.keys()
    for status, answer in answers.items():
        if not status.startswith(("2", "3")):
            name = answer["$ref"].rpartition("/")[2]
            content = DESCRIPTION["components"]["responses"][name]["content"]
            assert list(content) == ["application/problem+json"]


def test_every_reference_leads_somewhere():
    for target in set(re.findall(r'"\$ref": "#/([^"]+)"', openapi_json())):
        place = DESCRIPTION
        for step in target.split("/"):
            place = place[step]
        assert place


def test_every_operation_of_the_engine_is_listed():
    assert DESCRIPTION["components"]["schemas"]["Node"]["properties"]["op"]["enum"] == list(OPERATIONS)


EXAMPLES = [
    (path, example["value"])
    for path, method, operation in OPERATIONS_OF_PATHS
    for media_type in operation.get("requestBody", {}).get("content", {}).values()
    for example in media_type["examples"].values()
]


@pytest.mark.parametrize(("path", "body"), EXAMPLES)
def test_examples_fit_their_schema_and_work(client, path, body):
    operation = DESCRIPTION["paths"][path]["post"]
    validator(operation["requestBody"]["content"]["application/json"]["schema"]).validate(body)
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 201)
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    validator(schema).validate(answer.json)


@pytest.mark.parametrize("graph", DESCRIPTION["components"]["schemas"]["Graph"]["examples"])
def test_examples_of_graphs_work(call, graph):
    validator({"$ref": "#/components/schemas/Graph"}).validate(graph)
    assert call("/v1/evaluations", {"graph": graph})["digest"]


GETS = [
    (path, path) for path, method, operation in OPERATIONS_OF_PATHS
    if method == "get" and "{" not in path and not any(part.get("required") for part in operation.get("parameters", ()))
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "described"),
    [(path, described) for path, described in GETS if path != "/docs"],
)
def test_answers_to_get_fit_their_schema(call, path, described):
    content = DESCRIPTION["paths"][described]["get"]["responses"]["200"]["content"]
    validator(content["application/json"]["schema"]).validate(call(path))


@pytest.mark.parametrize(
    "body",
    [
        {"graph": NEURON, "trace": True},
        {"graph": {"inputs": {"x": [0, 1]}, "program": "y = relu(log(x))"}},
        {"graph": {"inputs": {"x": 0}, "program": "y = 1/x\nz = x > 0", "output": ["y", "z"]}},
        {"graph": NEURON, "derivative": "none"},
        {"graph": NEURON, "derivative": "jacobian"},
        {"graph": NEURON, "derivative": "hessian"},
        {"graph": {"inputs": {"x": [0, 1]}, "program": "y = sqrt(x)"}, "derivative": "hvp", "tangent": {"x": [1, 2]}},
        {"graph": {"inputs": {"x": [0, 1]}, "program": "y = sqrt(x)"}, "derivative": "jvp", "tangent": {"x": 1}},
        {"graph": {"inputs": {"x": 1e200}, "program": "y = x*x*2"}, "trace": True},
    ],
)
def test_evaluations_fit_their_schema(call, body):
    validator({"$ref": "#/components/schemas/Evaluation"}).validate(call("/v1/evaluations", body))


@pytest.mark.parametrize("spec", [NETWORK_EXAMPLE, GRAPH_EXAMPLE, GRAPH_EXAMPLE | {"steps": 1}])
def test_jobs_fit_their_schema(call, spec):
    job = call("/v1/jobs", {"type": "training", "spec": spec}, 201)
    validator({"$ref": "#/components/schemas/Job"}).validate(job)
    validator({"$ref": "#/components/schemas/TrainingResult"}).validate(job["result"])
    validator({"$ref": "#/components/schemas/JobPage"}).validate(call("/v1/jobs"))


@pytest.mark.parametrize("body", [{}, {"graph": 1, "trace": 2}, {"graph": {"inputs": {}, "nodes": []}}])
def test_problems_fit_their_schema(call, body):
    validator({"$ref": "#/components/schemas/Problem"}).validate(call("/v1/evaluations", body, 422))


@pytest.mark.parametrize(
    "body",
    [
        {"graph": NEURON, "colour": 1},
        {"graph": NEURON | {"nodes": [{"id": "y", "op": "tan", "args": ["x1"]}]}},
        {"graph": {"inputs": {"x": "1"}, "program": "y = x"}},
        {"graph": {"inputs": {"x": 1}}},
        {"graph": NEURON, "trace": "yes"},
    ],
)
def test_the_schema_refuses_what_the_service_refuses(call, body):
    assert not validator({"$ref": "#/components/schemas/EvaluationRequest"}).is_valid(body)
    call("/v1/evaluations", body, 422)
