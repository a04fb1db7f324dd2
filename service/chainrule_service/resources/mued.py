"""µEd: the API of evaluation functions, version 0.1.0 (mued.org), and the body of Lambda Feedback from before it.

Its ErrorResponse, `{title, message, code, details}`, and a problem of RFC 9457 are one object here: clients of both
read what they know. What is wrong with a request is 400, as µEd has no 422.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import Response, current_app, request
from flask_smorest import Blueprint

import chainrule_engine
from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading import PHASES, Task
from chainrule_engine.rendering import render
from chainrule_service import evaluation_functions as functions
from chainrule_service import jsonio
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.documented import NEURON, documented, record, ref
from chainrule_service.exchange import answer, json_answer, needs, read_bytes, service
from chainrule_service.fields import JsonSchema, refuse
from chainrule_service.grading import grade_and_record, work_of
from chainrule_service.grading_fields import SubmissionField
from chainrule_service.grading_reading import entry_of
from chainrule_service.problems import RequestError, problem_of

blueprint = Blueprint("evaluate", __name__, description="Evaluation functions: µEd 0.1.0, and Lambda Feedback's.")

VERSION = "0.1.0"
_TYPES = {"TEXT": "text", "CODE": "code", "MODEL": "model", "MATH": "expression", "OTHER": "value"}
_HEADERS = {"X-Api-Version": VERSION}
_KEY = re.compile(r"(value|loss_history|parameters|predictions|(?:values|gradients|parameters|metrics)\..+)", re.DOTALL)
_SUBMISSION = SubmissionField()

_OBJECT: JsonSchema = {"type": "object"}
_TASK: JsonSchema = {"id": "neuron", "evaluation": {"graph": NEURON}}
SCHEMAS: Mapping[str, JsonSchema] = {
    "EvaluateRequest": {
        "type": "object",
        "description": (
            "µEd's request: what else it holds is ignored, `user` above all. The task is in `task.referenceSolution` "
            "(its member `value`, or itself) or in `configuration.params.task`: a task, an evaluation or a graph. The "
            "answers are `submission.content.value`, or the member of the submission's type as JSON text, or the "
            "content itself. `configuration.params` may say how numbers are compared, and the level of feedback. Or "
            "Lambda Feedback's body: response, answer, params, with the header `command`."
        ),
        "properties": {
            "submission": {
                "type": "object",
                "properties": {
                    "submissionId": {"type": ["string", "null"]},
                    "type": {"type": "string", "enum": list(_TYPES)},
                    "content": _OBJECT,
                    "version": {"type": ["integer", "null"], "description": "Which attempt it is."},
                },
                "required": ["type", "content"],
            },
            "task": {"type": ["object", "null"]},
            "criteria": {"type": ["array", "null"], "items": _OBJECT},
            "preSubmissionFeedback": {"type": ["object", "null"]},
            "configuration": {"type": ["object", "null"]},
            "response": {},
            "answer": {},
            "params": {"type": ["object", "null"]},
        },
    },
    "EvaluateHealth": record(
        "What this evaluation function can do.",
        {
            "status": {"type": "string", "enum": ["OK", "DEGRADED", "UNAVAILABLE"]},
            "version": {"type": "string"},
            "requirements": _OBJECT,
            "capabilities": _OBJECT,
        },
    ),
    "EvaluateFeedback": {
        "description": "µEd's list of Feedback; or the answer to a command of Lambda Feedback.",
        "anyOf": [
            {
                "type": "array",
                "items": record("One check.", {"feedbackId": {"type": "string"}}),
            },
            record("Of a command.", {"command": {"type": "string"}}),
        ],
    },
}


@blueprint.post("/evaluate")
@documented(
    body=ref("EvaluateRequest"),
    examples={
        "the neuron of the lecture": {
            "submission": {
                "submissionId": "sub-9",
                "type": "OTHER",
                "format": "autograd_answers",
                "version": 1,
                "content": {"value": {"value": 0.7071, "gradients": {"w1": 1.0}}},
            },
            "task": {"title": "A neuron", "referenceSolution": {"value": _TASK}},
            "configuration": {"params": {"mode": "allclose", "rtol": 1e-3, "atol": 1e-6}},
        },
        "a number, as Lambda Feedback sends it": {
            "response": 3.14159,
            "answer": 3.141592,
            "params": {"mode": "sigfig4"},
        },
    },
    answers={200: ("Feedback, an item for each check.", ref("EvaluateFeedback"))},
    errors=(406,),
)
@needs("grade")
def evaluate() -> Response:
    """Grade a submission, and answer with feedback on each check."""
    command = request.headers.get("command")
    with _in_its_words():
        if command in functions.COMMANDS and command not in ("eval", "preview"):
            return _other(command)
        _check_version()
        body = jsonio.loads(read_bytes(), max_depth=service().settings.limits["json_depth"])
        if command is None and not (isinstance(body, dict) and "response" in body and "submission" not in body):
            return _evaluate(body)
    return _command(command or "eval", body)


@blueprint.get("/evaluate/health")
@documented(
    answers={200: ("It can.", ref("EvaluateHealth"))},
    errors=(406, 503),
)
@needs(None)
def health() -> Response:
    """Tell what this evaluation function can do."""
    with _in_its_words():
        _check_version()
        shared = service()
        _check_database()
        return answer(
            {
                "status": "OK",
                "version": chainrule_engine.__version__,
                "requirements": {"requiresAuthorizationHeader": not shared.access.is_open()},
                "capabilities": {
                    "supportsEvaluate": True,
                    "supportsPreSubmissionFeedback": True,
                    "supportsFormativeFeedback": True,
                    "supportsSummativeFeedback": True,
                    "supportsDataPolicy": "PARTIAL",
                    "supportedArtefactProfiles": [{"type": "OTHER", "supportedFormats": ["autograd_answers"]}],
                    "supportedAPIVersions": [VERSION],
                    "supportedLanguages": ["en"],
                },
            },
            headers=dict(_HEADERS),
        )


# ------------------------------------------------------------------------------------------------------------- µEd


def _evaluate(body: Any) -> Response:
    if not isinstance(body, dict) or not isinstance(body.get("submission"), dict):
        raise refuse("an object with a submission, an object, is needed here", ("submission",) if body else ())
    submission = body["submission"]
    kind = submission.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise refuse(f"this is one of {', '.join(_TYPES)}", ("submission", "type"))
    if not isinstance(submission.get("content"), dict):
        raise refuse("the content is an object", ("submission", "content"))
    configuration = _object(body, "configuration")
    params = _object(configuration, "params", "configuration")
    formative = _object(body, "preSubmissionFeedback").get("enabled") is True
    task = _task(body, params)
    named = {"id": submission.get("submissionId"), "attempt": submission.get("version")}
    try:
        known = _SUBMISSION.read({name: value for name, value in named.items() if value is not None})
    except InvalidInput as error:
        raise error.under("submission") from None
    store = not formative and "NEVER" not in _retention(configuration)
    report = grade_and_record(task, _answers(submission["content"], kind), known, store=store)
    phase = next((name for name in PHASES if name == params.get("phase")), "open")
    written = render(report, "mued", phase=phase)
    if written.http_status != 200:
        told = json.loads(written.text)
        raise RequestError("invalid-request", told["message"], members=told | {"status": written.http_status})
    if not formative:
        return json_answer(written.text, headers=dict(_HEADERS))
    # Before a submission there is nothing to award.
    items = [
        {name: value for name, value in item.items() if name != "awardedPoints"} for item in json.loads(written.text)
    ]
    return answer(items, headers=dict(_HEADERS))


def _task(body: Mapping[str, Any], params: Mapping[str, Any]) -> Task:
    told = _object(body, "task")
    solution = _object(told, "referenceSolution", "task")
    path: tuple[str, ...] = ("task", "referenceSolution")
    data = functions.task_of(solution.get("value")) or functions.task_of(solution)
    if isinstance(solution.get("value"), str):
        path = (*path, "value")
        data = functions.task_of(_parsed(solution["value"], path))
    if data is None:
        path = ("configuration", "params", "task")
        data = functions.task_of(params.get("task"))
    if data is None:
        detail = "the task is missing: send it, or its graph, as the value of the reference solution"
        raise refuse(detail, ("task", "referenceSolution"))
    for member, name in (("id", "taskId"), ("title", "title")):
        if isinstance(told.get(name), str) and told[name] and member not in data:
            data[member] = " ".join(told[name].split())[:200]
    if data.get("checks") is None and (checks := _checks(body.get("criteria"))):
        data["checks"] = checks
    try:
        return functions.read_task(data, params)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under(*path) from None


def _checks(criteria: Any) -> list[dict[str, Any]]:
    """Return a check for each criterion whose id names a quantity: `value`, `grad.a`, `gradients.a`, `loss_history`."""
    checks = []
    for criterion in criteria if isinstance(criteria, list) else []:
        name = criterion.get("criterionId") if isinstance(criterion, dict) else None
        if not isinstance(name, str) or len(name) > 200:
            continue
        key = f"gradients.{name.removeprefix('grad.')}" if name.startswith("grad.") else name
        if _KEY.fullmatch(key):
            grade = criterion.get("gradeConfig")
            most = grade.get("max") if isinstance(grade, dict) else None
            title = criterion.get("name")
            checks.append(
                {"id": name, "of": key}
                | ({"title": title} if isinstance(title, str) and title else {})
                | ({"points": most} if type(most) in (int, float) else {})
            )
    return checks


def _answers(content: Mapping[str, Any], kind: str) -> Any:
    inner = content.get(_TYPES[kind])
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str) and inner.lstrip().startswith(("{", "[")):
        return _parsed(inner, ("submission", "content", _TYPES[kind]))
    return dict(content)


def _parsed(text: str, path: tuple[str, ...]) -> Any:
    try:
        return functions.parsed(text)
    except jsonio.MalformedJSON as error:
        raise refuse(str(error), path) from None


def _object(data: Mapping[str, Any], name: str, *above: str) -> Mapping[str, Any]:
    """Return a member that may be left out or null, and is an object."""
    found = data.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise refuse("this is an object", (*above, name))
    return found


def _retention(configuration: Mapping[str, Any]) -> list[Any]:
    found = _object(configuration, "dataPolicy", "configuration").get("retentionPermission")
    return found if isinstance(found, list) else []


def _check_database() -> None:
    try:
        service().store.check()
    except DatabaseUnavailable as error:
        current_app.logger.warning("evaluations cannot be recorded: %s", error)  # it may name files and hosts
        raise RequestError("service-unavailable", "the database cannot be read or written now") from None


def _check_version() -> None:
    asked = request.headers.get("X-Api-Version", VERSION)
    if asked != VERSION:
        details = {"requestedVersion": asked[:60], "supportedAPIVersions": [VERSION]}
        detail = f"this is version {VERSION} of the API, and no other"
        raise RequestError("not-acceptable", detail, headers=_HEADERS, members={"details": details})


@contextmanager
def _in_its_words() -> Iterator[None]:
    """Have errors carry the members of µEd's ErrorResponse, and statuses that it knows."""
    try:
        yield
    except RequestError as error:
        error.members = {"message": str(error), "code": error.kind.slug} | error.members
        error.headers |= _HEADERS
        raise
    except (InvalidInput, LimitExceeded, jsonio.MalformedJSON) as error:
        members = problem_of(error)
        slug = members["type"].rpartition("/")[2]
        status = 400 if members["status"] == 422 else members["status"]
        members |= {"status": status, "message": members["detail"], "code": slug}
        raise RequestError(slug, members["detail"], headers=_HEADERS, members=members) from error


# ---------------------------------------------------------------------------------------------------- Lambda Feedback


def _command(command: str, body: Any) -> Response:
    try:
        if command == "preview":
            return answer(functions.preview(body))
        if command == "eval":
            return answer(functions.evaluate(body, _within_the_limit()))
    except (InvalidInput, LimitExceeded) as error:
        problem = problem_of(error)
        wrong = {"message": problem["detail"], "detail": problem.get("errors", [])}
        return answer({"command": command, "error": wrong})
    return answer({"command": command[:60], "error": {"message": f"Unknown command {command[:60]!r}."}})


def _within_the_limit() -> functions.Grade:
    """Return what grades, as often as it is asked to, up to the limit of work for this request."""
    settings, spent = service().settings, 0
    most = settings.limits["grading_work"]

    def grade(task: Task, given: Any) -> dict[str, Any]:
        nonlocal spent
        entry = entry_of(task, {"answers": given, "submission": {}, "supersedes": None}, settings)
        spent += work_of([entry], settings)
        if spent > most:
            raise LimitExceeded("grading_work", most, spent, (), "send fewer cases, or smaller graphs in them")
        return grade_and_record(task, given, store=False)

    return grade


def _other(command: str) -> Response:
    """Answer a command that needs no body."""
    if command == "healthcheck":
        _check_database()
        return answer(functions.healthcheck())
    return Response(functions.DOCS, content_type="text/markdown; charset=utf-8")
