"""µEd's evaluation function, held to its published schema, and Lambda Feedback's body from before it."""

from __future__ import annotations

import contextlib
import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chainrule_engine.errors import InvalidInput
from chainrule_engine.grading import grade
from chainrule_service import evaluation_functions as functions
from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.keys import Keys
from chainrule_service.settings import Settings

GRAPH = {"inputs": {"a": -2.0, "b": 3.0}, "program": "y = (a*b)*(a + 2*b)"}
#: By hand: y = ab(a + 2b), ∂y/∂a = 2ab + 2b², ∂y/∂b = a² + 4ab.
RIGHT = {"value": -24.0, "gradients": {"a": 6.0, "b": -20.0}}

#: Of mued.org's openapi-v0_1_0.yml: what an answer must be, in the parts that it requires.
NULLABLE = {"type": ["string", "null"]}
CRITERION = {
    "type": "object",
    "properties": {"criterionId": {"type": "string"}, "name": {"type": "string"}},
    "required": ["name"],
}
TARGET = {
    "type": "object",
    "properties": {
        "artefactType": {"enum": ["TEXT", "CODE", "MODEL", "MATH", "OTHER"]},
        "locator": {"type": ["object", "null"]},
    },
    "required": ["artefactType"],
}
FEEDBACK = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "feedbackId": {"type": "string"},
            "title": NULLABLE,
            "message": NULLABLE,
            "suggestedAction": NULLABLE,
            "awardedPoints": {"type": ["number", "null"]},
            "criterion": CRITERION,
            "target": TARGET,
        },
        "required": ["feedbackId"],
    },
}
ERROR = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "message": NULLABLE,
        "code": NULLABLE,
        "trace": NULLABLE,
        "details": {"type": ["object", "null"]},
    },
    "required": ["title"],
}
HEALTH = {
    "type": "object",
    "properties": {
        "status": {"enum": ["OK", "DEGRADED", "UNAVAILABLE"]},
        "version": NULLABLE,
        "requirements": {"type": "object", "properties": {"requiresAuthorizationHeader": {"type": "boolean"}}},
        "capabilities": {
            "type": "object",
            "properties": {
                "supportsDataPolicy": {"enum": ["SUPPORTED", "NOT_SUPPORTED", "PARTIAL"]},
                "supportedArtefactProfiles": {"type": "array", "items": {"type": "object", "required": ["type"]}},
            }
            | {
                f"supports{what}": {"type": "boolean"}
                for what in ("Evaluate", "PreSubmissionFeedback", "FormativeFeedback", "SummativeFeedback")
            },
            "required": [
                f"supports{what}"
                for what in (
                    "Evaluate",
                    "PreSubmissionFeedback",
                    "FormativeFeedback",
                    "SummativeFeedback",
                    "DataPolicy",
                )
            ],
        },
    },
    "required": ["status", "capabilities"],
}


def check(schema, data):
    Draft202012Validator(schema).validate(data)
    return data


def body(answers=RIGHT, *, content=None, kind="OTHER", solution=None, **more):
    submission = {"type": kind, "format": "autograd_answers", "content": content or {"value": answers}}
    task = {"taskId": "q3", "title": "Backprop by hand", "referenceSolution": solution or {"value": {"graph": GRAPH}}}
    submission |= more.pop("submission", {})
    return {"submission": submission, "task": task} | more


@pytest.fixture
def service():
    app = create_app()
    yield app
    app.extensions["chainrule"].store.close()


@pytest.fixture
def post(service):
    http = service.test_client()

    def post(data, status=200, path="/evaluate", raw=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = json.dumps(data).encode() if raw is None else raw
        answer = http.post(path, data=raw, content_type="application/json", headers=headers)
        assert answer.status_code == status, answer.text
        if answer.status_code >= 400:
            check(ERROR, answer.json)
            assert "trace" not in answer.json
        return answer.json

    return post


def points(feedback):
    return {item["feedbackId"]: item["awardedPoints"] for item in check(FEEDBACK, feedback)}


# --------------------------------------------------------------------------------------------------------- µEd


def test_feedback_on_each_check(post):
    feedback = post(body({"value": -24.0, "gradients": {"a": 7.0}}))
    assert points(feedback) == {"value": 1.0, "grad.a": 0.0, "grad.b": 0.0}
    wrong = feedback[1]
    assert wrong["target"] == {
        "artefactType": "OTHER",
        "locator": {"type": "json-pointer", "pointer": "/gradients/a"},
    }
    assert wrong["criterion"]["criterionId"] == "grad.a"
    assert "6" not in wrong["message"]


def test_the_whole_answer(post):
    def item(name, title, pointer, points, message):
        return {
            "feedbackId": name,
            "title": title,
            "message": message,
            "awardedPoints": points,
            "criterion": {"criterionId": name, "name": title},
            "target": {"artefactType": "OTHER", "locator": {"type": "json-pointer", "pointer": pointer}},
        }

    assert post(body({"value": -24.0, "gradients": {"a": 5.0}})) == [
        item("value", "value of y", "/value", 1.0, "Correct."),
        item("grad.a", "∂y/∂a", "/gradients/a", 0.0, "Not correct."),
        item("grad.b", "∂y/∂b", "/gradients/b", 0.0, "No answer."),
    ]


SOLUTIONS = [
    {"value": {"graph": GRAPH}},
    {"value": GRAPH},
    {"graph": GRAPH},
    GRAPH,
    {"value": {"evaluation": {"graph": GRAPH}}},
    {"evaluation": {"graph": GRAPH}},
    {"value": json.dumps(GRAPH)},
    {"value": json.dumps({"evaluation": {"graph": GRAPH}})},
    {"value": {"graph": GRAPH, "checks": None, "title": "own"}},
]


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda solution: json.dumps(solution)[:50])
def test_a_task_comes_in_several_forms(post, solution):
    assert points(post(body(solution=solution))) == {"value": 1.0, "grad.a": 1.0, "grad.b": 1.0}


def test_a_task_may_be_in_the_configuration(post):
    request = body(configuration={"params": {"task": {"evaluation": {"graph": GRAPH}}}})
    for task in (None, {"title": "no solution"}, {"title": "t", "referenceSolution": None}):
        assert len(post(request | {"task": task})) == 3


CONTENTS = [
    ("OTHER", {"value": RIGHT}),
    ("OTHER", RIGHT),
    ("OTHER", {"value": json.dumps(RIGHT)}),
    ("TEXT", {"text": json.dumps(RIGHT)}),
    ("CODE", {"code": " " + json.dumps(RIGHT)}),
    ("MATH", {"expression": json.dumps(RIGHT)}),
    ("MODEL", {"model": RIGHT}),
]


@pytest.mark.parametrize(("kind", "content"), CONTENTS)
def test_answers_come_in_several_forms(post, kind, content):
    assert points(post(body(kind=kind, content=content))) == {"value": 1.0, "grad.a": 1.0, "grad.b": 1.0}


def test_parameters_say_how_numbers_are_compared(post):
    near = {"value": -24.1, "gradients": {"a": 6.01, "b": -20.0}}
    assert points(post(body(near))) == {"value": 0.0, "grad.a": 0.0, "grad.b": 1.0}
    for params, right in (
        ({"mode": "allclose", "rtol": 1e-2, "atol": 1e-6, "something": "else"}, (1.0, 1.0, 1.0)),
        ({"rtol": 3e-3, "atol": 1e-6}, (0.0, 1.0, 1.0)),
        ({"compare": {"mode": "absolute", "atol": 0.05}}, (0.0, 1.0, 1.0)),
        ({"mode": "percent", "percent": 0.2}, (0.0, 1.0, 1.0)),
        ({"mode": "sigfig3"}, (0.0, 0.0, 1.0)),
    ):
        assert tuple(points(post(body(near, configuration={"params": params}))).values()) == right
    own = {
        "value": {
            "graph": GRAPH,
            "checks": [
                {"id": "v", "of": "value", "points": 1, "compare": {"mode": "exact"}},
                {"id": "a", "of": "gradients.a", "points": 1},
            ],
        }
    }
    request = body(near, solution=own, configuration={"params": {"rtol": 1e-2, "atol": 1e-6}})
    assert points(post(request)) == {"v": 0.0, "a": 1.0}
    post(body(near, configuration={"params": {"rtol": 1e-2}}), 400)


def test_criteria_that_name_quantities_are_the_checks(post):
    criteria = [
        {"criterionId": "grad.a", "name": "d y / d a", "gradeConfig": {"min": 0, "max": 5, "value": 0}},
        {"criterionId": "values.y", "name": "y"},
        {"criterionId": "5f31", "name": "style"},
        {"name": "nothing"},
        3,
    ]
    answers = {"values": {"y": -24.0}, "gradients": {"a": 6.0}}
    feedback = post(body(answers, criteria=criteria))
    assert points(feedback) == {"grad.a": 5.0, "values.y": 1.0}
    assert feedback[0]["title"] == "d y / d a"
    assert len(post(body(criteria=criteria[2:]))) == 3


def test_the_submission_and_its_attempt_are_noted_and_nobody(post, call_with, service):
    levels = {"level": "full", "attempts": [{"from": 1, "level": "pass_fail"}, {"from": 2, "level": "full"}]}
    solution = {"value": {"graph": GRAPH, "feedback": levels}}
    submission = {"submissionId": "sub-9", "version": 1, "submittedAt": "2026-11-22T20:00:00Z"}
    user = {"userId": "ada@example.org", "type": "LEARNER"}
    wrong = {"gradients": {"a": -6.0}}
    first = post(body(wrong, solution=solution, submission=submission, user=user))
    second = post(body(wrong, solution=solution, submission=submission | {"version": 2}, user=user))
    assert first[1]["message"] != second[1]["message"]
    kept = service.test_client().get("/v1/gradings?submission=sub-9").json["data"]
    assert sorted(entry["submission"]["attempt"] for entry in kept) == [1, 2]
    database = service.extensions["chainrule"].store.database
    with database.transaction(reads=True) as connection:
        rows = connection.exec_driver_sql("SELECT * FROM gradings").fetchall()
    assert rows
    assert "ada" not in str(rows)
    post(body(submission={"submissionId": "ada@example.org"}), 400)


def test_before_a_submission_nothing_is_awarded_or_kept(post, service):
    feedback = check(FEEDBACK, post(body(preSubmissionFeedback={"enabled": True}, submission={"submissionId": "s"})))
    assert all("awardedPoints" not in item for item in feedback)
    never = {"dataPolicy": {"retentionPermission": ["NEVER"]}}
    post(body(configuration=never, submission={"submissionId": "s"}))
    assert service.test_client().get("/v1/gradings?submission=s").json["data"] == []
    post(body(preSubmissionFeedback={"enabled": False}, submission={"submissionId": "s"}))
    assert len(service.test_client().get("/v1/gradings?submission=s").json["data"]) == 1


def test_hidden_checks_are_left_out(post):
    checks = [
        {"id": name, "of": of, "points": 1, "visibility": seen}
        for name, of, seen in (
            ("v", "value", "visible"),
            ("a", "gradients.a", "hidden"),
            ("b", "gradients.b", "after_due_date"),
        )
    ]
    request = body(solution={"value": {"graph": GRAPH, "checks": checks}})
    assert list(points(post(request))) == ["v"]
    assert list(points(post(request | {"configuration": {"params": {"phase": "due"}}}))) == ["v", "b"]


def test_the_version_is_agreed_on(post, service):
    post(body(), X_Api_Version="0.1.0")
    problem = post(body(), 406, X_Api_Version="0.2.0")
    assert problem["details"]["supportedAPIVersions"] == ["0.1.0"]
    http = service.test_client()
    assert http.get("/evaluate/health", headers={"X-Api-Version": "9"}).status_code == 406
    assert http.post("/evaluate", json=body(), headers={"X-Request-Id": "r-1"}).headers["X-Request-Id"] == "r-1"
    assert http.post("/evaluate", json=body()).headers["X-Api-Version"] == "0.1.0"


def test_health(service, tmp_path):
    health = service.test_client().get("/evaluate/health").json
    check(HEALTH, health)
    assert health["status"] == "OK"
    assert health["requirements"] == {"requiresAuthorizationHeader": False}
    assert health["capabilities"]["supportedAPIVersions"] == ["0.1.0"]
    closed = Settings(data=tmp_path)
    with contextlib.closing(Database(closed.database)) as database:
        Keys(database).create("staff", ["grade"])
    app = create_app(closed)
    assert app.test_client().get("/evaluate/health").json["requirements"]["requiresAuthorizationHeader"] is True
    refused = app.test_client().post("/evaluate", json=body())
    assert (refused.status_code, check(ERROR, refused.json)["title"]) == (401, "Unauthorized")
    app.extensions["chainrule"].store.close()


def test_without_a_database_it_is_unavailable(tmp_path):
    (tmp_path / "a file").write_text("")
    http = create_app(Settings(data=tmp_path / "a file" / "data")).test_client()
    answer = http.get("/evaluate/health")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert check(ERROR, answer.json)["code"] == "service-unavailable"
    assert str(tmp_path) not in answer.text


# ------------------------------------------------------------------------------------------------- what is refused


BAD_RAW = [b" ", b"{", b"NaN", b'{"submission": 1, "submission": 2}', b"\xff", b"[" * 5000, pickle.dumps({})]


@pytest.mark.parametrize("raw", BAD_RAW)
def test_what_is_no_json_is_400(post, raw):
    assert post(None, 400, raw=raw)["code"] == "malformed-request"


BAD_BODIES = [
    None,
    3,
    [],
    "x",
    {},
    {"submission": None},
    {"submission": []},
    {"submission": {}},
    {"submission": {"type": "OTHER"}},
    {"submission": {"type": "PICTURE", "content": {}}},
    {"submission": {"type": ["OTHER"], "content": {}}},
    {"submission": {"type": "OTHER", "content": []}},
    {"submission": {"type": "OTHER", "content": {}}},
    body(task=3),
    body(task={"referenceSolution": 3}),
    body(task={}),
    body(configuration=[]),
    body(criteria=[]) | {"task": None},
    body(configuration={"params": 3}),
    body(preSubmissionFeedback=3),
    body(configuration={"dataPolicy": 3}),
    body(solution={"value": {"graph": {"inputs": {}, "program": "y = nothing"}}}),
    body(solution={"value": "no JSON"}),
    body(solution={"value": {"graph": GRAPH, "evaluation": {}}}),
    body(solution={"value": {"evaluation": None}}),
    body(solution={"value": {"graph": GRAPH, "checks": 3}}),
    body(solution={"value": {"graph": GRAPH, "checks": [3]}}),
    body(configuration={"params": {"compare": 3}}),
    body(configuration={"params": {"compare": {"mode": "no"}}}),
    body(submission={"version": 0}),
    body(submission={"version": "1"}),
    body(submission={"submissionId": 3}),
    body(content={"value": {}}),
    body(content={"value": '{"value": NaN}'}),
    body(content={"value": "{"}),
    body({"value": "x", "gradients": {"a": {"b": 1}}}),
    body({"gradients": [1, 2]}),
    body({"value": [1.0] * 500}),
]


@pytest.mark.parametrize("data", BAD_BODIES, ids=lambda data: json.dumps(data)[:60])
def test_what_is_wrong_is_400_and_says_so(post, data):
    problem = post(data, 400)
    assert problem["message"]
    assert problem["code"]


def test_what_is_not_gradable_points_into_the_answers(post):
    problem = post(body({"value": -24.0, "gradients": {"a": "six"}}), 400)
    assert problem["code"] == "not_gradable"
    assert "/gradients/a" in problem["message"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-10, 10)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = [
    "submission",
    "task",
    "criteria",
    "configuration",
    "preSubmissionFeedback",
    "user",
    "response",
    "answer",
    "params",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    data=st.dictionaries(st.sampled_from(MEMBERS), json_values),
    place=st.sampled_from(MEMBERS),
    value=json_values,
    command=st.sampled_from([None, "eval", "preview"]),
)
def test_nothing_makes_it_fail(service, data, place, value, command):
    http = service.test_client()
    headers = {"command": command} if command else {}
    for request in (data, body() | data, body() | {place: value}, {"response": value, "answer": GRAPH, "params": data}):
        answer = http.post("/evaluate", json=request, headers=headers)
        assert answer.status_code in (200, 400), answer.text


# ------------------------------------------------------------------------------------------------- Lambda Feedback


def evaluated(post, response, answer, params=None, **headers):
    request = {"response": response, "answer": answer} | ({} if params is None else {"params": params})
    told = post(request, **headers)
    assert told["command"] == "eval"
    return told["result"]


def test_answers_to_a_task(post):
    assert evaluated(post, RIGHT, {"evaluation": {"graph": GRAPH}}) == {
        "is_correct": True,
        "feedback": "value of y: Correct.<br />∂y/∂a: Correct.<br />∂y/∂b: Correct.",
    }
    wrong = evaluated(post, json.dumps({"value": -24, "gradients": {"a": 7}}), json.dumps(GRAPH), command="eval")
    assert wrong["is_correct"] is False
    assert wrong["feedback"].startswith("value of y: Correct.<br />")
    assert "6" not in wrong["feedback"]


@pytest.mark.parametrize(
    ("response", "answer", "params", "correct"),
    [
        (3.1415, 3.14159, {"mode": "sigfig4"}, True),
        (3.14, 3.14159, {"mode": "sigfig4"}, False),
        ("3.14159", 3.14159, None, True),
        (3.14159, "3.14159", {}, True),
        (3, 3.0, None, True),
        (3.001, 3.0, None, False),
        (3.001, 3.0, {"rtol": 1e-2, "atol": 0}, True),
        ([1.0, 2.0], [1, 2], None, True),
        ("[1, 2]", "[1, 2]", None, True),
        ([1.0, 2.5], [1, 2], None, False),
        ([1.0], [1, 2], None, False),
        (1.0, [1, 2], None, False),
        (None, 1, None, False),
        ("", 1, None, False),
        ("one", 1, None, False),
        ({"a": 1}, 1, None, False),
        ([1], 1, None, False),
        (True, 1, None, False),
        (0.0, 0, None, True),
        (-1.0, 1.0, None, False),
    ],
)
def test_a_number_or_some_are_answers_too(post, response, answer, params, correct):
    assert evaluated(post, response, answer, params)["is_correct"] is correct


def test_cases_have_feedback_on_certain_wrong_answers(post):
    cases = [
        {"answer": 2.0, "feedback": "You forgot the factor 2."},
        {"answer": 8.0, "feedback": "Twice too often.", "mark": 1},
        {"answer": 2.0001, "feedback": "Nearly the first.", "params": {"rtol": 1e-2, "atol": 0}},
        {"feedback": "no answer"},
        {"answer": {"graph": 3}, "feedback": "a bad one"},
    ]
    told = evaluated(post, 2.0, 4.0, {"cases": cases})
    assert (told["is_correct"], told["feedback"], told["match"]) == (False, "You forgot the factor 2.", 0)
    assert [warning.get("case") for warning in told["warnings"]] == [3, 4, None]
    told = evaluated(post, 8.0, 4.0, {"cases": cases[:3]})
    assert (told["is_correct"], told["feedback"], told["match"]) == (True, "Twice too often.", 1)
    assert "warnings" not in told
    told = evaluated(post, 4.0, 4.0, {"cases": cases[:3]})
    assert told == {"is_correct": True, "feedback": "Answer: Correct."}
    both = [{"answer": 2.0, "feedback": "Half.", "params": {"override_eval_feedback": True}}]
    assert evaluated(post, 2.0, 4.0, {"cases": both})["feedback"].startswith("Half.<br />Answer: ")


def test_a_case_may_be_another_task(post):
    forgotten = {"evaluation": {"graph": GRAPH | {"program": "y = (a*b)*stop_gradient(a + 2*b)"}}}
    cases = [{"answer": forgotten, "feedback": "The second factor depends on a and b too."}]
    told = evaluated(post, {"value": -24.0, "gradients": {"a": 12.0, "b": -8.0}}, GRAPH, {"cases": cases})
    assert (told["is_correct"], told["feedback"]) == (False, cases[0]["feedback"])


def test_all_cases_together_are_no_more_work_than_a_request_may_be():
    """One case more than there is work for, and the request is refused; every one by itself is small."""

    def told(count, most):
        app = create_app(Settings(limits={"grading_work": most}))
        cases = [{"answer": GRAPH | {"inputs": {"a": 1.0, "b": float(b)}}, "feedback": "no"} for b in range(count)]
        request = {"response": {"value": 1.0}, "answer": GRAPH, "params": {"cases": cases}}
        answer = app.test_client().post("/evaluate", json=request)
        app.extensions["chainrule"].store.close()
        assert answer.status_code == 200
        return answer.json

    assert "result" in told(2, 20_000)
    error = told(50, 20_000)["error"]
    assert "grading_work is limited to 20,000" in error["message"]
    assert "result" in told(50, 2_000_000)


def test_too_many_cases_are_refused_before_anything_is_graded(service):
    def graded(task, given):
        raise AssertionError("something is graded")

    request = {"response": 1, "answer": 1, "params": {"cases": [{}] * 51}}
    with service.test_request_context(), pytest.raises(InvalidInput):
        functions.evaluate(request, graded)


def test_no_mistake_is_looked_for_in_a_case(service):
    """Of a case it is asked whether a response is one; the search would be most of the work, fifty times."""
    asked = []

    def graded(task, given):
        asked.append(task.diagnose)
        return grade(task, given).to_dict("staff")

    cases = [{"answer": GRAPH | {"inputs": {"a": 1.0, "b": float(b)}}, "feedback": "no"} for b in range(3)]
    with service.test_request_context():
        functions.evaluate({"response": {"value": 1.0}, "answer": GRAPH, "params": {"cases": cases}}, graded)
    assert asked == [True, False, False, False]


@pytest.mark.parametrize(
    "data",
    [
        {"response": 1},
        {"response": 1, "answer": "no JSON"},
        {"response": 1, "answer": None},
        {"response": 1, "answer": []},
        {"response": 1, "answer": [1, "x"]},
        {"response": 1, "answer": {}},
        {"response": 1, "answer": {"graph": {}}},
        {"response": 1, "answer": 1, "params": 3},
        {"response": 1, "answer": 1, "params": {"cases": 3}},
        {"response": 1, "answer": 1, "params": {"cases": [{}] * 51}},
        {"response": 1, "answer": 1, "params": {"rtol": 1}},
        {"response": 1, "answer": 1, "params": {"cases": [{"answer": 1, "feedback": "x", "mark": "full"}]}},
    ],
)
def test_what_cannot_be_evaluated_is_told_in_the_answer(post, data):
    told = post(data, command="eval")
    assert told["command"] == "eval"
    assert told["error"]["message"]
    assert "result" not in told


def test_html_in_answers_is_escaped(post):
    told = evaluated(post, {"value": "<script>alert(1)</script>", "<b>": 1}, GRAPH)
    assert told["is_correct"] is False
    assert "<script" not in told["feedback"]
    assert "<b>" not in told["feedback"]


def test_the_other_commands(post, service):
    assert post({"response": '{"value": 1.5}'}, command="preview") == {
        "command": "preview",
        "result": {"preview": {"feedback": 'Read as {"value":1.5}'}},
    }
    assert "cannot be read" in post({"response": "{"}, command="preview")["result"]["preview"]["feedback"]
    assert post({}, command="healthcheck")["result"]["tests_passed"] is True
    http = service.test_client()
    docs = http.post("/evaluate", data=b"", headers={"command": "docs-user"}, environ_overrides={"CONTENT_LENGTH": "0"})
    assert docs.mimetype == "text/markdown"
    assert "`answer`" in docs.text
    assert post({}, command="fly")["error"]["message"] == "Unknown command 'fly'."


CANARY = {"inputs": {"a": 1.7, "b": -0.9}, "program": "c = a*b\nd = c + a\ny = d*c*tanh(b)"}


@pytest.mark.parametrize("level", ["pass_fail", "hint", "full"])
@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 0.5, 1.01, 1.0001, 10.0, 1e6])
def test_no_answer_to_students_holds_a_right_number(service, post, level, factor):
    right = service.test_client().post("/v1/evaluations", json={"graph": CANARY}).json
    expected = {"y": right["value"], **{name: right["gradients"][name] for name in ("a", "b")}}
    given = {
        "value": factor * expected["y"], "gradients": {name: factor * expected[name] + 1e-3 for name in ("a", "b")},
    }  # fmt: skip
    checks = [
        {"id": name, "of": of, "points": 1, "compare": {"mode": "allclose", "rtol": 1e-9, "atol": 0.0}}
        for name, of in (("y", "value"), ("a", "gradients.a"), ("b", "gradients.b"))
    ]
    task = {"evaluation": {"graph": CANARY}, "checks": checks, "feedback": level}
    answers = [
        post(body(given, solution={"value": task})),
        post({"response": given, "answer": task, "params": {"cases": [{"answer": given, "feedback": "no"}]}}),
        post({"response": given["value"], "answer": expected["y"]}),
    ]
    text = json.dumps(answers).replace(json.dumps(given["value"]), "")
    for number in expected.values():
        assert f"{abs(number):.3f}" not in text
        assert f"{abs(number):.2g}" not in text.replace("1e-", "")


HOSTILE = [
    None, {}, [], "", 1e308, -1, 0, 2**53, "x" * 1000, True, {"graph": {}}, [[]], {"a": {"a": {}}}, "NaN", "\0", ["a"],
    1e-320, {"": 0}, "ada@example.org", [1] * 50,
]  # fmt: skip
WHOLE = [
    body(
        criteria=[{"criterionId": "grad.a", "name": "n", "gradeConfig": {"min": 0, "max": 1, "value": 0}}],
        configuration={
            "params": {"mode": "allclose", "rtol": 1e-3, "atol": 0, "task": GRAPH, "feedback": "full", "phase": "due"},
            "dataPolicy": {"retentionPermission": ["NEVER"]},
        },
        preSubmissionFeedback={"enabled": True},
        submission={"submissionId": "s", "version": 1},
    ),
    {
        "response": RIGHT,
        "answer": {
            "evaluation": {"graph": GRAPH, "seeds": {"y": 1}},
            "checks": [{"id": "v", "of": "value", "points": 1, "bands": [{"within": 1, "credit": 1}]}],
            "feedback": {"level": "full", "attempts": [{"from": 1, "level": "hint"}]},
        },
        "params": {
            "rtol": 1e-3, "atol": 0,
            "cases": [
                {"answer": GRAPH, "feedback": "f", "mark": 1, "params": {"override_eval_feedback": True}},
                {"answer": 1.0, "feedback": "x"},
            ],
        },
    },
    {
        "response": [1.0, 2],
        "answer": [1, 2],
        "params": {"mode": "sigfig", "digits": 3, "cases": [{"answer": [1, 2.0], "feedback": "f", "mark": "1"}]},
    },
]  # fmt: skip


def places(data, path=()):
    yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*path, key))


def with_other(data, path, value):
    """Return a copy with another value in one place."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = with_other(copy[path[0]], path[1:], value)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "command"), [(WHOLE[0], None), *((data, "eval") for data in WHOLE[1:]), (WHOLE[1], "preview")]
)
def test_no_value_in_any_place_makes_it_fail(service, data, command):
    http = service.test_client()
    headers = {"command": command} if command else {}
    for path in places(data):
        for value in HOSTILE:
            raw = json.dumps(with_other(data, path, value))
            answer = http.post("/evaluate", data=raw, content_type="application/json", headers=headers)
            assert answer.status_code in (200, 400), (path, value, answer.text)
