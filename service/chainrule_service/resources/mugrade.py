"""The routes of mugrade, by which notebooks submit values and staff publish the right ones (dlsyscourse/mugrade 1.3).

Its client sends everything in the query, the API key too: `user_key`. Values are JSON, with `{"_encoded_type": …}` for
what JSON has no form for; nothing is ever unpickled. Its routes lie below a prefix: MUGRADE_SERVER=https://host/mugrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_engine.errors import LimitExceeded
from chainrule_engine.grading import PRESETS, Compare
from chainrule_service import jsonio
from chainrule_service.documented import documented, record, ref
from chainrule_service.exchange import (
    answer,
    charge,
    needs,
    owner,
    read_bytes,
    service,
    takes_key,
    takes_query,
    whole_number_parameter,
)
from chainrule_service.fields import JsonSchema, refuse
from chainrule_service.problems import RequestError
from chainrule_service.published import Published, Version
from chainrule_service.store import iso

blueprint = Blueprint("mugrade", __name__, description="What mugrade's client calls: publish, submit, submit_test.")

#: Values in one problem: each is a test case.
MAX_VALUES = 1_000
_ENCODED = ("np.ndarray", "datetime", "type")
_SUBMISSION = re.compile("s([0-9]{1,15})")
_NUMBERS = dict(PRESETS["numbers"])
_COMPARE = Compare(_NUMBERS.pop("mode"), _NUMBERS)

_KEY = {"name": "user_key", "schema": {"type": "string"}, "description": "An API key, in place of the header."}
_CLIENT = "mugrade's client sends a key as user_key in the query: that of its command, or of MUGRADE_KEY"
_PLACE = (
    {"name": "assignment", "required": True, "schema": {"type": "string"}, "description": "The assignment's name."},
    {"name": "problem", "required": True, "schema": {"type": "string"}, "description": "The problem's name."},
)
_VERSION = {"name": "version", "schema": {"type": "integer", "minimum": 1}}
_BODY_ERRORS = (400, 411, 413, 415, 503)
SCHEMAS: Mapping[str, JsonSchema] = {
    "MugradePublished": record(
        "What is published for a problem by now.",
        {
            "assignment": {"type": "string"},
            "problem": {"type": "string"},
            "version": {"type": "integer", "description": "Grows with each version, of any problem."},
            "values": {"type": "integer", "description": "How many there are."},
            "digest": {"type": "string"},
            "new": {"type": "boolean", "description": "false: the same values were published already."},
        },
    ),
    "MugradeSubmission": record(
        "A submission, to the version that is the newest now.", {"submission_id": {"type": "string"}}
    ),
    "MugradeDeleted": record("How many submissions' results were deleted.", {"deleted": {"type": "integer"}}),
    "MugradeTest": record("Whether the value was right.", {"correct": {"type": "boolean"}}),
    "MugradeResults": record(
        "Who got how many values of a version right, by API key.",
        {
            "version": {"type": "integer"},
            "values": {"type": "integer"},
            "data": {
                "type": "array",
                "items": record(
                    "One key.",
                    {
                        "key": {"type": "string", "description": "The id of an API key; empty where none is needed."},
                        "passed": {"type": "integer"},
                        "last": {"type": "string", "format": "date-time"},
                    },
                ),
            },
        },
    ),
}


@blueprint.post("/mugrade/publish")
@takes_key("user_key", _CLIENT)
@takes_query("user_key", "assignment", "problem")
@documented(
    answers={200: ("It is published.", ref("MugradePublished"))},
    errors=_BODY_ERRORS,
    parameters=(_KEY, *_PLACE),
)
@needs("staff")
def publish() -> Response:
    """Publish the right values of a problem, a JSON list, as its newest version."""
    assignment, problem = _name("assignment"), _name("problem")
    values = _read_body()
    if type(values) is not list or not values:
        raise refuse("a list of values is needed here, one for each test case")
    if len(values) > MAX_VALUES:
        raise LimitExceeded("values", MAX_VALUES, len(values), (), "publish them as several problems")
    charge(_check(values))
    version, is_new = _published().publish(assignment, problem, values, owner())
    return answer(
        {
            "assignment": assignment, "problem": problem, "version": version.seq, "values": len(values),
            "digest": version.digest, "new": is_new,
        }
    )  # fmt: skip


@blueprint.post("/mugrade/submit")
@takes_key("user_key", _CLIENT)
@takes_query("user_key", "assignment", "problem")
@documented(
    answers={200: ("The submission.", ref("MugradeSubmission"))},
    errors=(404, 411, 503),
    parameters=(_KEY, *_PLACE),
)
@needs("grade")
def submit() -> Response:
    """Begin a submission."""
    return answer({"submission_id": f"s{_newest().seq}"})


@blueprint.post("/mugrade/submit_test")
@takes_key("user_key", _CLIENT)
@takes_query("user_key", "submission_id", "test_case_index")
@documented(
    answers={200: ("Whether it is right.", ref("MugradeTest"))},
    errors=(404, *_BODY_ERRORS),
    parameters=(
        _KEY,
        {"name": "submission_id", "required": True, "schema": {"type": "string"}, "description": "What submit gave."},
        {
            "name": "test_case_index",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Which of the published values it is, from 0.",
        },
    ),
)
@needs("grade")
def submit_test() -> Response:
    """Compare one value, the body, with the published one: numbers within 1e-6 + 1e-4 of its size."""
    found = _SUBMISSION.fullmatch(request.args.get("submission_id", ""))
    index = whole_number_parameter("test_case_index", None, 0)
    if found is None or index is None:
        missing = "submission_id" if found is None else "test_case_index"
        raise RequestError("invalid-request", f"{missing} is missing, or not what submit gave", parameter=missing)
    published = _published()
    version = published.version(int(found[1]))
    if version is None:
        raise RequestError("not-found", "there is no such submission")
    value = _read_body() if request.content_length else None  # mugrade's client sends None as no body
    charge(_check(value))
    if index >= len(version.values):
        detail = f"the problem has {len(version.values)} values, and this is another one"
        raise RequestError("invalid-request", detail, parameter="test_case_index")
    correct = matches(value, version.values[index])
    published.record(version.seq, owner(), index, correct)
    return answer({"correct": correct})


@blueprint.get("/mugrade/results")
@takes_query("assignment", "problem", "version")
@documented(
    answers={200: ("The results.", ref("MugradeResults"))},
    errors=(404, 503),
    parameters=(*_PLACE, _VERSION | {"description": "The version; left out, the newest."}),
)
@needs("staff")
def results() -> Response:
    """Tell, for a version of a problem, who got how many values right."""
    seq = whole_number_parameter("version", None, 1)
    version = _newest() if seq is None else _published().version(seq, _name("assignment"), _name("problem"))
    if version is None:
        raise RequestError("not-found", f"this problem has no version {seq}")
    rows = _published().results(version.seq)
    data = [{"key": row["owner"], "passed": int(row["passed"]), "last": iso(row["last"])} for row in rows]
    return answer({"version": version.seq, "values": len(version.values), "data": data})


@blueprint.delete("/mugrade/results")
@takes_query("assignment", "problem", "version", "key")
@documented(
    answers={200: ("How many were deleted; none is no error.", ref("MugradeDeleted"))},
    errors=(503,),
    parameters=(
        _PLACE[0],
        _PLACE[1] | {"required": False, "description": "The problem; left out, all."},
        _VERSION | {"description": "The version; left out, all."},
        {"name": "key", "schema": {"type": "string"}, "description": "The id of an API key; left out, all."},
    ),
)
@needs("staff")
def delete_results() -> Response:
    """Delete the results of an assignment, or of one submission, a key's to a version; what is published stays."""
    problem = _name("problem") if "problem" in request.args else None
    version = whole_number_parameter("version", None, 1)
    deleted = _published().delete_results(_name("assignment"), problem, version, request.args.get("key"))
    return answer({"deleted": deleted})


def matches(value: Any, expected: Any) -> bool:
    """Tell whether a value is the published one: numbers nearly, everything else exactly.

    An array is as good as a list of the same numbers. Whole numbers that are both written as such are compared exactly:
    they may be labels or counts.
    """
    todo = [(value, expected)]
    while todo:
        given, wanted = map(_plain, todo.pop())
        if isinstance(wanted, dict):
            if not isinstance(given, dict) or given.keys() != wanted.keys():
                return False
            todo += [(given[name], wanted[name]) for name in wanted]
        elif isinstance(wanted, list):
            if not isinstance(given, list) or len(given) != len(wanted):
                return False
            todo += zip(given, wanted, strict=True)
        elif type(wanted) in (int, float) and type(given) in (int, float):
            if type(wanted) is type(given) is int:
                if given != wanted:
                    return False
            elif not _COMPARE.measure(float(given), float(wanted)).within():
                return False
        elif type(given) is not type(wanted) or given != wanted:
            return False
    return True


def _plain(value: Any) -> Any:
    """Return an array's numbers, and anything else as it is."""
    if isinstance(value, dict) and value.get("_encoded_type") == "np.ndarray":
        return value.get("data")
    return value


def _check(value: Any) -> int:
    """Return how many parts a value has.

    Raises:
        InvalidInput: it says that it is of a type that mugrade does not know.
    """
    parts = 0
    todo = [value]
    while todo:
        part = todo.pop()
        parts += 1
        if isinstance(part, dict):
            kind = part.get("_encoded_type", "type")
            if kind not in _ENCODED or ("_encoded_type" in part and part.keys() != {"_encoded_type", "data"}):
                raise refuse(f"an _encoded_type is one of {', '.join(_ENCODED)}, and comes with data and nothing else")
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return parts


def _read_body() -> Any:
    return jsonio.loads(read_bytes(), max_depth=service().settings.limits["json_depth"])


def _published() -> Published:
    return Published(service().store.database)


def _newest() -> Version:
    assignment, problem = _name("assignment"), _name("problem")
    version = _published().newest(assignment, problem)
    if version is None:
        raise RequestError("not-found", f"nothing is published for {problem!r} of {assignment!r}")
    return version


def _name(parameter: str) -> str:
    text = request.args.get(parameter, "")
    if not (0 < len(text) <= 200 and text.isprintable()):
        detail = f"{parameter} must be 1 to 200 printable characters"
        raise RequestError("invalid-request", detail, parameter=parameter)
    return text
