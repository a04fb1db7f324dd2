"""Bad input: the right status, a pointer to the place, a message that says what to do, and never a 500."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule_service.documented import NEURON
from chainrule_service.training import NETWORK_EXAMPLE

PATH = "/v1/evaluations"
POSTS = ["/v1/evaluations", "/v1/evaluations/batch", "/v1/gradient-checks", "/v1/jobs"]

# ---------------------------------------------------------------------------------------------------- the body


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("raw", "pointer", "words"),
    [
        (b"", "#", "empty"),
        (b"  \n", "#", "empty"),
        (b"graph", "#", "not JSON"),
        (b'{"graph": }', "#", "column 11"),
        (b'{"graph": {}', "#", "not JSON"),
        (b"{'graph': 1}", "#", "double quotes"),
        (b'{"graph": 1} {}', "#", "not JSON"),
        (b'{"graph": 1,}', "#", "not JSON"),
        (b"[" * 200_000, "#", "too deeply"),
        (b'{"a":' * 200_000, "#", "too deeply"),
        (b"[" * 200_000 + b"]" * 200_000, "#", "too deeply"),
        (b"[" * 33 + b"]" * 33, "#", "at most 32"),
        (b'{"graph": {"inputs": {"x": ' + b"7" * 5000 + b"}}}", "#/graph/inputs/x", "5,000 characters"),
        (b'{"graph": {"inputs": {"x": -9007199254740993}}}', "#/graph/inputs/x", "decimal"),
        (b'{"graph": {"inputs": {"x": [1, NaN]}}}', "#/graph/inputs/x/1", "finite"),
        (b'{"graph": {"inputs": {"x": Infinity}}}', "#/graph/inputs/x", "finite"),
        (b'{"graph": {"inputs": {"x": -Infinity}}}', "#/graph/inputs/x", "finite"),
        (b'{"graph": {"inputs": {"x": 1e999}}}', "#/graph/inputs/x", "1.8e308"),
        (b'{"graph": {"inputs": {"x": 1, "y": 2, "x": 3}}}', "#/graph/inputs/x", "more than once"),
        (b'{"graph": 1, "graph": 2}', "#/graph", "more than once"),
        (b'{"graph": "\xff"}', "#", "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "#", "UTF-8"),
        (b'\xef\xbb\xbf{"graph": 1}', "#", "not JSON"),
        (b'{"graph": "\\ud800"}', "#", "surrogate"),
        (b'{"graph": "a\nb"}', "#", "control character"),
    ],
)
def test_malformed_json(call, path, raw, pointer, words):
    problem = call(path, raw=raw, status=400)
    assert problem["type"] == "/problems/malformed-request"
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert words in problem["errors"][0]["detail"]


def test_every_refused_number_is_reported(call):
    problem = call(PATH, raw=b'{"a": [NaN, 1, 1e999], "b": {"c": 9007199254740993}, "d": {"e": 1, "e": 1}}', status=400)
    assert [error["pointer"] for error in problem["errors"]] == ["#/a/0", "#/a/2", "#/b/c", "#/d/e"]


def test_at_most_32_faults_are_listed(call):
    assert len(call(PATH, raw=b"[" + b"NaN," * 100 + b"NaN]", status=400)["errors"]) == 32
    many = {"inputs": {f"x{k}": True for k in range(100)}, "nodes": []}
    assert len(call(PATH, {"graph": many}, 422)["errors"]) == 32


def test_of_very_many_unknown_fields_some_are_listed(call, neuron):
    problem = call(PATH, {str(k): 1 for k in range(100)} | {"graph": neuron, "trace": "yes"}, 422)
    pointers = {error["pointer"] for error in problem["errors"]}
    assert len(pointers) == 32
    assert pointers <= {"#/trace", *(f"#/{k}" for k in range(100))}
    assert call(PATH, {str(k): 1 for k in range(40)} | {"graph": 1}, 422)["errors"][0]["pointer"] == "#/graph"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/jsonx", "application/json; charset=latin-1", "application/json; charset=utf-16", "nonsense", ";"],
)  # fmt: skip
def test_wrong_content_type(client, path, content_type):
    answer = client.post(path, data=b"{}", content_type=content_type)
    assert (answer.status_code, answer.json["type"]) == (415, "/problems/unsupported-media-type")
    assert "application/json" in answer.json["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8", "application/problem+json"]
)
def test_right_content_types(client, neuron, content_type):
    assert client.post(PATH, data=json.dumps({"graph": neuron}), content_type=content_type).status_code == 200


def test_compressed_bodies_are_refused(client):
    answer = client.post(PATH, data=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "identity")


@pytest.mark.parametrize("path", POSTS)
def test_missing_content_length(client, path):
    answer = client.post(path, content_type="application/json", environ_overrides={"CONTENT_LENGTH": None})
    assert (answer.status_code, answer.json["type"]) == (411, "/problems/length-required")
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("given", "status"), [("", 411), ("ten", 411), ("-1", 411), ("²", 411), ("9" * 18, 413), ("9" * 5000, 413)]
)
def test_a_content_length_that_is_none(client, given, status):
    answer = client.post(PATH, content_type="application/json", environ_overrides={"CONTENT_LENGTH": given})
    assert answer.status_code == status


def test_a_content_length_with_zeros_before_it(client):
    body = json.dumps({"graph": NEURON})
    length = {"CONTENT_LENGTH": f"{len(body):040}"}
    assert client.post(PATH, data=body, content_type="application/json", environ_overrides=length).status_code == 200


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_chunked_bodies_are_refused(client, method):
    answer = client.open("/v1/jobs/x" if method == "DELETE" else "/v1/jobs", method=method,
                         headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert (answer.status_code, answer.json["type"]) == (411, "/problems/length-required")


def test_over_long_body(call_with):
    call = call_with(limits={"body_bytes": 100})
    assert call(PATH, raw=b" " * 100, status=400)["detail"] == "the body is empty; send JSON"
    for length in (101, 1000):
        problem = call(PATH, raw=b" " * length, status=413)
        assert problem["type"] == "/problems/content-too-large"
        assert f"{length:,}" in problem["detail"]
        assert "100" in problem["detail"]


def test_a_body_shorter_than_its_length(client):
    answer = client.post(PATH, data=b"{}", content_type="application/json", environ_overrides={"CONTENT_LENGTH": "100"})
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")


# ---------------------------------------------------------------------------------------------------- the graph


def node(name, op, *args):
    return {"id": name, "op": op, "args": list(args)}


@pytest.mark.parametrize(
    ("graph", "pointer", "words"),
    [
        # duplicate and unknown ids
        ({"nodes": [node("y", "neg", "x"), node("y", "neg", "x")]}, "/nodes/1/id", "once"),
        ({"nodes": [node("x", "neg", "x")]}, "/nodes/0/id", "once"),
        ({"nodes": [node("y", "neg", "z")]}, "/nodes/0/args/0", "no input or node"),
        ({"nodes": [node("y", "add", "x", "xx")]}, "/nodes/0/args/1", "did you mean x"),
        # operations and arity
        ({"nodes": [node("y", "tan", "x")]}, "/nodes/0/op", "did you mean"),
        ({"nodes": [node("y", 3, "x")]}, "/nodes/0/op", "no operation"),
        ({"nodes": [node("y", "add", "x")]}, "/nodes/0/args", "2 argument"),
        ({"nodes": [node("y", "neg", "x", "x")]}, "/nodes/0/args", "1 argument"),
        ({"nodes": [node("y", "neg")]}, "/nodes/0/args", "1 argument"),
        # cycles
        ({"nodes": [node("y", "neg", "y")], "output": "y"}, "/nodes/0", "cycle"),
        ({"nodes": [node("y", "neg", "z"), node("z", "neg", "y")], "output": "y"}, "/nodes/", "cycle"),
        # outputs
        ({"inputs": {}, "nodes": []}, "", "output"),
        ({"nodes": [node("y", "neg", "x"), node("z", "neg", "x")]}, "", "output"),
        ({"nodes": [node("y", "neg", "x")], "output": "z"}, "/output", "z"),
        ({"nodes": [node("y", "neg", "x")], "output": []}, "/output", ""),
        ({"nodes": [node("y", "neg", "x")], "output": 1}, "/output", ""),
        ({"nodes": [node("y", "neg", "x")], "output": ["y", "z"]}, "/output/1", "z"),
        # fields
        ({"nodes": [node("y", "neg", "x")], "colour": 1}, "/colour", "unknown field"),
        ({"nodes": [node("y", "neg", "x") | {"colour": 1}]}, "/nodes/0/colour", "unknown field"),
        ({"nodes": [{"id": "y", "op": "neg"}]}, "/nodes/0", "args"),
        ({"nodes": [7]}, "/nodes/0", "object"),
        ({"nodes": {}}, "/nodes", "list"),
        ({"nodes": [node("y", "neg", "x")], "program": "y = -x"}, "/program", "not both"),
        ({}, "", "nodes"),
        ({"inputs": [], "nodes": [node("y", "neg", 1)]}, "/inputs", "object"),
        # a string or a boolean where a number belongs, and the reverse
        ({"inputs": {"x": "3.5"}, "nodes": [node("y", "neg", "x")]}, "/inputs/x", "string"),
        ({"inputs": {"x": True}, "nodes": [node("y", "neg", "x")]}, "/inputs/x", "boolean"),
        ({"inputs": {"x": None}, "nodes": [node("y", "neg", "x")]}, "/inputs/x", "null"),
        ({"inputs": {"x": [1, "2"]}, "nodes": [node("y", "neg", "x")]}, "/inputs/x/1", "string"),
        ({"nodes": [node("y", "neg", True)]}, "/nodes/0/args/0", "boolean"),
        ({"nodes": [node("y", "neg", None)]}, "/nodes/0/args/0", "null"),
        ({"nodes": [node("y", "neg", ["x"])]}, "/nodes/0/args/0", "list"),
        ({"nodes": [node(3, "neg", "x")]}, "/nodes/0/id", "string"),
        ({"nodes": [node("", "neg", "x")]}, "/nodes/0/id", "characters"),
        ({"nodes": [node("a\u0000", "neg", "x")]}, "/nodes/0/id", "printable"),
        ({"nodes": [node("y" * 201, "neg", "x")]}, "/nodes/0/id", "200"),
        # ragged data
        ({"inputs": {"x": [1, 2], "z": [1]}, "nodes": [node("y", "add", "x", "z")]}, "/inputs/z", "numbers"),
        ({"inputs": {"x": []}, "nodes": [node("y", "neg", "x")]}, "/inputs/x", "at least one"),
        ({"inputs": {"x": [[1]]}, "nodes": [node("y", "neg", "x")]}, "/inputs/x/0", "list"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/evaluations", "/v1/gradient-checks"])
def test_faults_in_a_graph(call, path, graph, pointer, words):
    problem = call(path, {"graph": {"inputs": {"x": 1.0}} | graph}, 422)
    assert problem["type"] == "/problems/invalid-request"
    first = problem["errors"][0]
    assert first["pointer"].startswith(f"#/graph{pointer}")
    assert words in first["detail"]


@pytest.mark.parametrize("graph", [None, 1, "x", [], True])
def test_no_graph_at_all(call, graph):
    assert call(PATH, {"graph": graph}, 422)["errors"][0]["pointer"] == "#/graph"


def test_an_id_with_a_slash_and_a_tilde_is_escaped(call):
    problem = call(PATH, {"graph": {"inputs": {"a/b~c d": "1"}, "nodes": []}}, 422)
    assert problem["errors"][0]["pointer"] == "#/graph/inputs/a~1b~0c%20d"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("y = print(x)", "print"),
        ("y = __import__('os').system('true')", ""),
        ("y = x.data", "attributes"),
        ("y = x.__class__", "attributes"),
        ("import os", "imports"),
        ("from os import *", "imports"),
        ("y = [x for _ in x]", "comprehensions"),
        ("y = (x for x in x)", "comprehensions"),
        ("y = lambda x: x", "lambda"),
        ("y = x[0]", "subscripts"),
        ("y = x if x", "else"),
        ("for i in x: y = i", "loops"),
        ("def f(): pass", "functions"),
        ("y = 'text'", "text"),
        ("y = f'{x}'", "text"),
        ("y = 0x10", ""),
        ("y = 1e999*x", ""),
        ("y = " + "(" * 1000 + "x" + ")" * 1000, "200 deep"),
        ("y = " + "-(" * 1000 + "x" + ")" * 1000, "200 deep"),
        ("y = z", "z"),
        ("y =", ""),
        ("y = x +", ""),
        ("y = x; y.backward()", ""),
        ("\x00", ""),
    ],
)
def test_faults_in_a_program(call, program, words):
    problem = call(PATH, {"graph": {"inputs": {"x": 1.0}, "program": program}}, 422)
    first = problem["errors"][0]
    assert first["pointer"] in ("#/graph/program", "#/graph")
    assert words in first["detail"]


@pytest.mark.parametrize("program", [1, None, ["y = x"], {"y": "x"}])
def test_a_program_is_text(call, program):
    problem = call(PATH, {"graph": {"inputs": {"x": 1.0}, "program": program}}, 422)
    assert problem["errors"][0]["pointer"] == "#/graph/program"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"trace": "true"}, "#/trace"),
        ({"trace": 1}, "#/trace"),
        ({"trace": None}, "#/trace"),
        ({"derivative": "Gradient"}, "#/derivative"),
        ({"derivative": ["gradient"]}, "#/derivative"),
        ({"seeds": {"o": "1"}}, "#/seeds/o"),
        ({"seeds": {"o": [1]}}, "#/seeds/o"),
        ({"seeds": {"zz": 1}}, "#/seeds/zz"),
        ({"seeds": {}}, "#/seeds"),
        ({"seeds": 1}, "#/seeds"),
        ({"trace": True, "derivative": "none"}, "#/trace"),
        ({"trace": True, "derivative": "jacobian"}, "#/trace"),
        ({"derivative": "jvp"}, "#/tangent"),
        ({"derivative": "hvp", "tangent": {}}, "#/tangent"),
        ({"derivative": "hvp", "tangent": 1}, "#/tangent"),
        ({"derivative": "hvp", "tangent": None}, "#/tangent"),
        ({"derivative": "hvp", "tangent": {"o": 1}}, "#/tangent/o"),
        ({"derivative": "hvp", "tangent": {"x1": "1"}}, "#/tangent/x1"),
        ({"derivative": "hvp", "tangent": {"x1": [1]}}, "#/tangent/x1"),
        ({"tangent": {"x1": 1}}, "#/tangent"),
        ({"derivative": "jacobian", "seeds": {"o": 1}}, "#/seeds"),
        ({"Trace": True}, "#/Trace"),
    ],
)
def test_faults_beside_the_graph(call, neuron, change, pointer):
    assert call(PATH, {"graph": neuron} | change, 422)["errors"][0]["pointer"] == pointer


# ---------------------------------------------------------------------------------------------------- anything at all

_SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=6)
_WORDS = st.sampled_from(
    ["graph", "inputs", "nodes", "id", "op", "args", "output", "program", "items", "type", "spec", "model", "data",
     "layers", "loss", "optimizer", "steps", "seeds", "name", "targets", "training", "evaluation", "add", "x", "y"]
)  # fmt: skip
_JSON = st.recursive(
    _SCALARS | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=_JSON, path=st.sampled_from(POSTS))
def test_no_json_brings_the_service_down(client, data, path):
    answer = client.post(path, data=json.dumps(data), content_type="application/json")
    assert answer.status_code in (200, 201, 400, 422)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u ', max_size=60).map(str.encode)
)
def test_no_bytes_bring_the_service_down(client, raw):
    length = {"CONTENT_LENGTH": str(len(raw))}
    answer = client.post(PATH, data=raw, content_type="application/json", environ_overrides=length)
    assert answer.status_code in (400, 422)


def _places(data, path=()):
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _places(value, (*path, key))


def _changed(data, path, value):
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _changed(data[path[0]], path[1:], value)
    return copy


_GOOD = [
    ("/v1/evaluations", {"graph": NEURON, "seeds": {"o": 1.0}, "trace": True, "derivative": "gradient"}),
    ("/v1/evaluations", {"graph": NEURON, "tangent": {"x1": 1.0}, "derivative": "hvp"}),
    ("/v1/gradient-checks", {"graph": NEURON, "step": 1e-5, "rtol": 1e-6, "atol": 1e-8}),
    ("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 2, "batch_size": 2}}),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.data(), which=st.sampled_from(_GOOD))
def test_a_good_request_with_one_member_changed(client, choice, which):
    path, body = which
    place = choice.draw(st.sampled_from(list(_places(body))))
    value = choice.draw(_JSON)
    answer = client.post(path, data=json.dumps(_changed(body, place, value)), content_type="application/json")
    assert answer.status_code in (200, 201, 400, 422), answer.get_data(as_text=True)
    if answer.status_code >= 400:
        assert answer.json["errors"]
