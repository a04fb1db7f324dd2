"""Bad input to gradings: graded, or refused with a pointer; never a 500, and never an exception."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule_engine.rendering import FORMATS
from chainrule_service.grading_schemas import EXAMPLE
from chainrule_service.training import NETWORK_EXAMPLE

PATH = "/v1/gradings"
POSTS = [PATH, f"{PATH}/batch", "/v1/exercise-checks", "/v1/exercises"]
GRAPH = EXAMPLE["task"]["evaluation"]["graph"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"task", "not JSON"),
        (b'{"task": {}', "not JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "too deeply"),
        (b'{"task":' * 200_000, "too deeply"),
        (b'{"task": {"value": NaN}}', "finite"),
        (b'{"task": {"value": 1e999}}', "1.8e308"),
        (b'{"task": {"value": 9007199254740993}}', "decimal"),
        (b'{"task": {"value": 1, "value": 2}}', "more than once"),
        (b'{"answers": {}, "answers": {}}', "more than once"),
        (b'{"task": "\xff"}', "UTF-8"),
        (b'{"task": "\\ud800"}', "surrogate"),
    ],
)
def test_malformed_json(call, path, raw, words):
    problem = call(path, raw=raw, status=400)
    assert words in problem["errors"][0]["detail"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [None, [], 1, "x", True])
def test_no_object_at_all(call, path, body):
    assert call(path, raw=json.dumps(body).encode(), status=422)["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize("path", POSTS)
def test_over_long_bodies(call_with, path):
    assert call_with(limits={"body_bytes": 100})(path, raw=b" " * 101, status=413)["type"].endswith("too-large")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"task": None}, "#/task"),
        ({"task": []}, "#/task"),
        ({"task": {}}, "#/task"),
        ({"task": {"evaluation": {}}}, "#/task/evaluation"),
        ({"task": {"evaluation": {"graph": GRAPH}, "training": NETWORK_EXAMPLE}}, "#/task"),
        ({"task": {"evaluation": {"graph": GRAPH, "colour": 1}}}, "#/task/evaluation/colour"),
        ({"task": {"evaluation": {"graph": GRAPH, "seeds": {"zz": 1}}}}, "#/task/evaluation/seeds/zz"),
        ({"task": {"evaluation": {"graph": GRAPH | {"program": "c = a +"}}}}, "#/task/evaluation/graph/program"),
        ({"task": {"training": {}}}, "#/task/training/"),
        ({"task": {"training": NETWORK_EXAMPLE | {"steps": "5"}}}, "#/task/training/steps"),
        ({"task": {"training": NETWORK_EXAMPLE | {"stepz": 5}}}, "#/task/training/stepz"),
        ({"task": {"training": NETWORK_EXAMPLE | {"model": {"inputs": 3, "layers": [1]}}}}, "#/task/training/"),
        ({"task": EXAMPLE["task"] | {"checks": []}}, "#/task/checks"),
        ({"task": EXAMPLE["task"] | {"checks": [{"of": "gradients.zz"}]}}, "#/task/checks/0/of"),
        ({"task": EXAMPLE["task"] | {"checks": [{"of": "value", "compare": {"rtol": 1}}]}}, "#/task/checks/0/compare"),
        ({"task": EXAMPLE["task"] | {"checks": [{"of": "value", "points": -1}]}}, "#/task/checks/0/points"),
        ({"task": EXAMPLE["task"] | {"feedback": "everything"}}, "#/task/feedback"),
        ({"task": EXAMPLE["task"] | {"engine": "7.3"}}, "#/task/engine"),
        ({"task": EXAMPLE["task"] | {"title": "x" * 501}}, "#/task/title"),
        ({"task": EXAMPLE["task"] | {"id": "a\x00b"}}, "#/task/id"),
        ({"submission": None}, "#/submission"),
        ({"submission": []}, "#/submission"),
        ({"supersedes": 1}, "#/supersedes"),
        ({"supersedes": "sha256:" + "A" * 64}, "#/supersedes"),
        ({"reason": ""}, "#/reason"),
        ({"reason": "x" * 1001}, "#/reason"),
        ({"reason": "a\x00b"}, "#/reason"),
        ({"store": "yes"}, "#/store"),
        ({"options": 1}, "#/options"),
        ({"Task": {}}, "#/Task"),
    ],
)
def test_faults_of_a_grading(call, change, pointer):
    assert call(PATH, EXAMPLE | change, 422)["errors"][0]["pointer"].startswith(pointer)


def test_a_fault_in_a_batch_points_into_the_whole_request(call):
    items = [EXAMPLE, 1, EXAMPLE | {"task": {"evaluation": {"graph": {"inputs": {"x": "1"}, "program": "y = x"}}}}]
    data = call(f"{PATH}/batch", {"items": items})["data"]
    places = [entry["problem"]["errors"][0]["pointer"] if "problem" in entry else None for entry in data]
    assert places == [None, "#/items/1", "#/items/2/task/evaluation/graph/inputs/x"]
    for change in ({"items": []}, {"items": {}}, {"items": None}, {"store": 1, "items": items}):
        call(f"{PATH}/batch", change, 422)


HOSTILE = [
    {"value": 1e308, "gradients": {"a": -1e308, "b": 5e-324}},
    {"value": "9" * 40},
    {"value": "9" * 41},
    {"value": "1e400"},
    {"value": "1e-400"},
    {"value": "-0"},
    {"value": " 54 "},
    {"value": "54,0"},
    {"value": "0x36"},
    {"value": "٥٤"},
    {"value": "1_000"},
    {"value": "NaN", "gradients": {"a": "Infinity", "b": "-Infinity"}},
    {"value": "nan"},
    {"value": True},
    {"value": None},
    {"value": [54]},
    {"value": [[[[[[54]]]]]]},
    {"value": {"value": 54}},
    {"value": "<script>alert(1)</script>"},
    {"value": "\x00\x1b[2J\x07"},
    {"value": 54, "<b>": "<img src=x onerror=alert(1)>", "\x00": 1, "__proto__": {}, "": 1},
    {"gradients": {"a": 36, "</testcase>": 1, "\u202e": 2, "a\x00": 3, "x" * 10_000: 4}},
    {"gradients": {str(number): number for number in range(10_000)}},
    {"gradients": list(range(10_000))},
    {"loss_history": list(range(10_000))},
    {"value": "]]>&<![CDATA["},
    {"values": {"c": {"$ref": "#"}}},
    {"parameters": {"layers": [{}]}},
]


@pytest.mark.parametrize("answers", HOSTILE, ids=lambda answers: json.dumps(answers)[:30])
def test_hostile_answers_are_graded_or_refused_in_every_format(client, answers):
    options = {"lti-ags": {"user": "u", "timestamp": "2026-11-30T00:00:00Z"}}
    for form in (None, *FORMATS):
        body = EXAMPLE | {"answers": answers, "options": options.get(form, {}), "store": False}
        answer = client.post(PATH + (f"?format={form}" if form else "?audience=staff"), json=body)
        assert answer.status_code == 200, answer.text[:300]
        if form is None:
            report = answer.json
            assert report["outcome"] in ("graded", "not_gradable")
            assert (report["outcome"] == "not_gradable") == bool(report["format_errors"])
            assert report["score"] < report["max_score"]


#: Answers that are against the rules of a body, and what their student is told; None: they are graded.
UNREADABLE = [
    (b'{"value": 1152921504606846976}', None),
    (b'{"value": ' + b"9" * 300 + b"}", None),
    (b'{"value": 48, "x": ' + b"[" * 29 + b"1" + b"]" * 29 + b"}", None),
    (b'{"value": ' + b"9" * 5_000 + b"}", "too large for float64"),
    (b'{"value": 1e999}', "too large for float64"),
    (b'{"value": NaN}', "NaN is not JSON"),
    (b"-Infinity", "-Infinity is not JSON"),
    (b'{"value": 1, "value": 2}', "'value' appears twice"),
    (b'{"value": "\\ud800"}', "surrogate"),
    (b'{"\\udfff": 1}', "surrogate"),
    (b'"\\ud800"', "surrogate"),
    (b'{"value": 48, "x": ' + b"[" * 30 + b"1" + b"]" * 30 + b"}", "nested too deeply; at most 30"),
    (
        b'{"value": 48, "x": "]]\\"", "y": ' + b'{"a":[' * 50_000 + b"]}" * 50_000 + b"}",
        "nested too deeply; at most 30",
    ),
]


@pytest.mark.parametrize(("raw", "words"), UNREADABLE, ids=lambda value: str(value)[:24])
@pytest.mark.parametrize("form", [None, *FORMATS])
def test_answers_that_are_against_the_rules_have_a_report(client, raw, words, form):
    options = {"user": "u", "timestamp": "2026-11-30T00:00:00Z"} if form == "lti-ags" else {}
    head = json.dumps({"task": EXAMPLE["task"], "options": options, "store": False}).encode()
    body = head[:-1] + b',"answers":' + raw + b"}"
    answer = client.post(PATH + (f"?format={form}" if form else ""), data=body, content_type="application/json")
    assert answer.status_code == 200
    if form is None:
        assert answer.json["outcome"] == ("not_gradable" if words else "graded")
        if words:
            assert [words in error["detail"] for error in answer.json["format_errors"]] == [True]


@pytest.mark.parametrize("kind", ["submissions", "items"])
def test_one_students_answers_spoil_nobody_elses(call, client, kind):
    """And they have the same reports in a batch as alone, whatever is around them."""
    answers = [raw for raw, _ in UNREADABLE] + [b'{"value": 48}']
    task = json.dumps(EXAMPLE["task"]).encode()
    alone = [
        call(PATH, raw=b'{"task":' + task + b',"answers":' + raw + b',"store":false}', status=200) for raw in answers
    ]
    if kind == "items":
        entries = [b'{"task":' + task + b',"answers":' + raw + b"}" for raw in answers]
        body = b'{"store":false,"items":[' + b",".join(entries) + b"]}"
    else:
        entries = [b'{"answers":' + raw + b"}" for raw in answers]
        body = b'{"store":false,"task":' + task + b',"submissions":[' + b",".join(entries) + b"]}"
    data = call(f"{PATH}/batch", raw=body, status=200)["data"]
    assert [entry["report"] for entry in data] == alone


@pytest.mark.parametrize("place", ["submission", "supersedes", "reason", "x"])
@pytest.mark.parametrize("raw", [b"2e999", b"9007199254740993", b"NaN", b'"\\ud800"', b"[" * 50_000 + b"]" * 50_000])
def test_around_the_answers_bodies_are_read_strictly(call, place, raw):
    body = json.dumps(EXAMPLE).encode()[:-1] + b',"' + place.encode() + b'":' + raw + b"}"
    if place in EXAMPLE:
        body = body.replace(b'"submission":', b'"submission":{},"s":', 1)
    assert call(PATH, raw=body, status=400)["type"].endswith("malformed-request")


_SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=6)
_WORDS = st.sampled_from(
    ["task", "answers", "submission", "id", "attempt", "evaluation", "training", "graph", "inputs", "program", "nodes",
     "output", "seeds", "checks", "of", "points", "compare", "mode", "rtol", "atol", "groups", "group", "feedback",
     "level", "attempts", "value", "values", "gradients", "gradients.a", "a", "b", "c", "items", "submissions", "seed",
     "allclose", "sigfig", "any_of", "range", "visible", "hidden", "staff", "requires", "bands", "within", "credit"]
)  # fmt: skip
_JSON = st.recursive(
    _SCALARS | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=12,
)
_UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=80, **_UNHURRIED)
@given(data=_JSON, path=st.sampled_from(POSTS))
def test_no_json_brings_the_service_down(client, data, path):
    answer = client.post(path, data=json.dumps(data), content_type="application/json")
    assert answer.status_code in (200, 201, 400, 422)


@settings(max_examples=150, **_UNHURRIED)
@given(answers=_JSON)
def test_whatever_the_answers_are_there_is_a_report(client, answers):
    body = json.dumps(EXAMPLE | {"answers": answers, "store": False})
    answer = client.post(PATH, data=body, content_type="application/json")
    assert answer.status_code == (400 if answer.json.get("type") == "/problems/malformed-request" else 200), answer.text
    if answer.status_code == 200:
        assert answer.json["outcome"] in ("graded", "not_gradable")


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


_TASK = EXAMPLE["task"] | {
    "engine": "0.1",
    "checks": [
        {"id": "v", "of": "value", "points": 2, "compare": {"mode": "sigfig", "digits": 3}, "visibility": "hidden"},
        {"id": "a", "of": "gradients.a", "compare": {"mode": "allclose", "rtol": 1e-3, "atol": 1e-6}, "group": "g",
         "bands": [{"within": 1, "credit": 1}, {"within": 2, "credit": 0.5}], "kink": "zero", "number": "1.1"},
        {"id": "b", "of": ["gradients.b", "values.c"], "credit": "fraction", "requires": ["a"], "group": "g",
         "follow_through": 0.5, "title": "b"},
    ],
    "groups": [{"id": "g", "title": "G", "rule": "all_or_nothing", "cap": 3, "points": 4}],
    "feedback": {"level": "full", "attempts": [{"from": 2, "level": "hint"}]},
    "diagnose": True,
}  # fmt: skip
_GOOD = [
    (PATH, EXAMPLE | {"task": _TASK, "reason": "why", "store": False}),
    (f"{PATH}/batch", {"task": _TASK, "submissions": [{"answers": {"value": 1}, "submission": {"id": "s"}}]}),
    (PATH, {"task": {"training": NETWORK_EXAMPLE | {"steps": 2}}, "answers": {"loss_history": [1, 2]}}),
    ("/v1/exercise-checks", {"task": _TASK, "accept_undetected": ["assign"], "suggestions": False}),
    ("/v1/exercises", {"seed": 1, "nodes": 4, "inputs": 2, "operations": ["add", "mul"], "depth": 3, "sharing": 1}),
    ("/v1/jobs", {"type": "grading", "spec": {"items": [EXAMPLE], "audience": "staff", "store": True}}),
]


@pytest.mark.slow
@settings(max_examples=300, **_UNHURRIED)
@given(choice=st.data(), which=st.sampled_from(_GOOD))
def test_a_good_request_with_one_member_changed(client, choice, which):
    path, body = which
    place = choice.draw(st.sampled_from(list(_places(body))))
    value = choice.draw(_JSON)
    answer = client.post(path, data=json.dumps(_changed(body, place, value)), content_type="application/json")
    assert answer.status_code in (200, 201, 400, 422), answer.get_data(as_text=True)
    if answer.status_code >= 400:
        assert answer.json["errors"]


@pytest.mark.parametrize(("path", "body"), _GOOD)
def test_the_good_requests_are_good(client, path, body):
    assert client.post(path, json=body).status_code in (200, 201)
