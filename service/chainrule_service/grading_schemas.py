"""What tasks and reports look like, for the description: the engine reads the ones, and makes the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule_engine.grading.comparison import MODES, PRESETS
from chainrule_engine.grading.fields import MAX_TEXT
from chainrule_engine.grading.reading import MAX_SALT
from chainrule_engine.grading.tasks import CREDITS, GROUP_RULES, KINKS, LEVELS, ROUNDINGS, VISIBILITIES
from chainrule_service import grading_fields
from chainrule_service.documented import or_null, record, ref
from chainrule_service.fields import Envelope, JsonSchema
from chainrule_service.gradings import OUTCOMES, REPORT_ID

#: c is used twice, and here only one of its two ways to e has counted: the gradients of a and b are 36 and 45.
EXAMPLE: Mapping[str, Any] = {
    "task": {
        "id": "backprop-1",
        "title": "Backprop by hand",
        "evaluation": {"graph": {"inputs": {"a": 3.0, "b": 2.0}, "program": "c = a * b\nd = c + a\ne = d * c"}},
    },
    "answers": {"value": 54.0, "gradients": {"a": 18.0, "b": 18.0}},
    "submission": {"id": "s-1", "attempt": 1},
}

_DIGEST: JsonSchema = {"type": "string", "pattern": f"^{REPORT_ID}$"}
_TEXT: JsonSchema = {"type": "string"}
_NAME: JsonSchema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_POINTS: JsonSchema = {"type": "number", "minimum": 0}
_LEVEL: JsonSchema = {"type": "string", "enum": list(LEVELS)}
_TEXT_OR_NULL: JsonSchema = {"type": ["string", "null"]}


def _words(table: Mapping[str, str]) -> JsonSchema:
    """Return the schema of one of the words that a table explains."""
    described = "; ".join(f"{word}: {meaning}" for word, meaning in table.items())
    return {"type": "string", "enum": list(table), "description": described}


def _optional(description: str, properties: Mapping[str, JsonSchema], required: tuple[str, ...] = ()) -> JsonSchema:
    """Return the schema of an object in a request; whatever may be left out may be null as well."""
    return {
        "type": "object",
        "description": description,
        "properties": {name: schema if name in required else or_null(schema) for name, schema in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


_COMPARE: JsonSchema = {
    "description": "How a number is compared: the name of a preset, or a mode with its settings.",
    "anyOf": [
        {"type": "string", "enum": list(PRESETS)},
        {
            "type": "object",
            "properties": {"mode": _words({name: mode.description for name, mode in MODES.items()})},
        },
    ],
}
_CHECK = _optional(
    "Something that is asked, and what it is worth.",
    {
        "id": _NAME,
        "title": _NAME,
        "of": {
            "description": (
                "The quantity: `value`, `values.<id>`, `gradients.<id>`, `jacobian.<output>.<input>`; of a training "
                "`loss_history`, `parameters`, `predictions`, `gradients`, `metrics.<name>`, and what is inside behind "
                "further dots; or a list of them."
            ),
            "anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}],
        },
        "points": _POINTS,
        "compare": _COMPARE,
        "visibility": {"type": "string", "enum": list(VISIBILITIES)},
        "bands": {
            "type": "array",
            "description": "Credit for what is within a multiple of the tolerance.",
            "items": {
                "type": "object",
                "properties": {"within": {"type": "number"}, "credit": {"type": "number"}},
                "required": ["within", "credit"],
            },
        },
        "credit": _words(CREDITS),
        "kink": _words(KINKS),
        "requires": {
            "type": "array",
            "items": _TEXT,
            "description": "Ids of checks that must be right, which students see no later than this one.",
        },
        "follow_through": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "The credit of a number that follows from the wrong ones that the student gave to checks.",
        },
        "group": _TEXT,
        "number": _TEXT,
    },
    required=("of",),
)
_FEEDBACK: JsonSchema = {
    "description": "How much students are told, perhaps less at some attempts.",
    "anyOf": [
        _LEVEL,
        {
            "type": "object",
            "properties": {
                "level": _LEVEL,
                "attempts": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"from": {"type": "integer", "minimum": 1}, "level": _LEVEL},
                        "required": ["from", "level"],
                    },
                },
            },
        },
    ],
}
_EVALUATION = _optional(
    "The graph of the exercise, at one point or many.",
    {"graph": ref("Graph"), "seeds": {"type": "object"}},
    required=("graph",),
)
_TASK = _optional(
    "What is asked. Without checks: the value, and the gradient of every input, one point each.",
    {
        "id": _NAME,
        "title": _NAME,
        "engine": {
            "type": "string",
            "description": "The version of the engine that the task is for, as major.minor; another one is refused.",
        },
        "evaluation": _EVALUATION,
        "training": {"anyOf": [ref("NetworkTrainingRequest"), ref("GraphTrainingRequest")]},
        "checks": {"type": "array", "items": ref("GradingCheck")},
        "groups": {
            "type": "array",
            "items": _optional(
                "Checks whose points come together.",
                {"id": _NAME, "title": _NAME, "rule": _words(GROUP_RULES), "cap": _POINTS, "points": _POINTS},
                required=("id",),
            ),
        },
        "feedback": _FEEDBACK,
        "diagnose": {"type": "boolean", "description": "Whether to look for the mistake behind wrong numbers."},
        "rounding": _words(ROUNDINGS),
        "salt": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_SALT,
            "description": (
                "As random as a password, and in no report: a task whose comparisons hold what is right (range, "
                "any_of, threshold) needs one, for whoever tries keys finds it by the id of a report."
            ),
        },
    },
) | {"examples": [EXAMPLE["task"]]}

_FAULT = record("What cannot be read, and where in the answers.", {"detail": _TEXT, "pointer": _TEXT})
_MISTAKE = record(
    "A known mistake that gives exactly these wrong numbers.",
    {
        "name": _TEXT,
        "names": {"type": "array", "items": _TEXT, "description": "Of two mistakes together, both."},
        "title": _TEXT,
        "message": _TEXT,
        "explains": {"type": "array", "items": _TEXT, "description": "The ids of the checks."},
        "matches": {"type": "integer"},
        "of": {"type": "integer"},
    },
    optional=("names", "title"),
)
_REPORT = record(
    "What became of a submission: a pure function of the task, the answers, the submission and the engine's version.",
    {
        "schema": {"type": "string", "const": "chainrule.report/1"},
        "id": {
            "type": "string",
            "pattern": f"^({REPORT_ID})?$",
            "description": "Empty with infrastructure_error: such a report is not recorded.",
        },
        "task": record(
            "The task; its digest only for staff.",
            {"id": _TEXT_OR_NULL, "title": _TEXT, "digest": _DIGEST},
            optional=("digest",),
        ),
        "engine": ref("Engine"),
        "submission": record(
            "Which submission it was.",
            {"id": _TEXT_OR_NULL, "attempt": {"type": ["integer", "null"]}, "digest": or_null(_DIGEST)},
        ),
        "outcome": {
            "type": "string",
            "description": (
                "not_gradable: the answers cannot be read; that is no attempt, and no zero either. "
                "infrastructure_error: the service failed at this one of a batch."
            ),
            "enum": list(OUTCOMES),
        },
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "fraction": {"type": "number"},
        "feedback": _LEVEL,
        "checks": {
            "type": "array",
            "items": record(
                "One check: what was answered, and what is said of it.",
                {
                    "id": _TEXT,
                    "title": _TEXT,
                    "score": {"type": "number"},
                    "max_score": {"type": "number"},
                    "passed": {"type": "boolean"},
                    "visibility": {"type": "string", "enum": list(VISIBILITIES)},
                    "student": {"description": "A number, lists and objects of them, or null without an answer."},
                    "message": _TEXT,
                    "mode": {"type": "string", "enum": list(MODES)},
                },
            ),
        },
        "groups": {"type": "array", "items": {"type": "object"}},
        "mistakes": {"type": "array", "items": _MISTAKE},
        "notes": {"type": "array", "items": _TEXT},
        "format_errors": {"type": "array", "items": _FAULT},
        "withheld": {"type": "integer", "description": "How many checks this audience does not see."},
        "retryable": {
            "type": "boolean",
            "description": "Only with infrastructure_error: whether the same may be sent again.",
        },
        "staff": {"type": "object", "description": "Only for staff: expected numbers, errors, all that was diagnosed."},
        "regrade": record(
            "Only of a regrade: what has changed since the report that it supersedes.",
            {"supersedes": _DIGEST, "changes": {"type": "object"}, "reason": _TEXT_OR_NULL},
            optional=("reason",),
        ),
        "digest": _DIGEST,
    },
    optional=("retryable", "staff", "regrade"),
)
_BRIEF = record(
    "A grading without its report.",
    {
        "id": _DIGEST,
        "task": record("The task.", {"id": _TEXT_OR_NULL, "digest": _DIGEST}),
        "submission": record("The submission.", {"id": _TEXT_OR_NULL, "attempt": {"type": ["integer", "null"]}}),
        "outcome": {"type": "string", "enum": list(OUTCOMES)},
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "supersedes": or_null(_DIGEST),
        "superseded_by": or_null(_DIGEST),
        "reason": _TEXT_OR_NULL,
        "created_at": {"type": "string", "format": "date-time"},
    },
)

SCHEMAS: Mapping[str, JsonSchema | type[Envelope]] = {
    **grading_fields.SCHEMAS,
    "GradingCheck": _CHECK,
    "GradingTask": _TASK,
    "Report": _REPORT,
    "GradingBatch": record(
        "One entry for each, in order: a report or a problem, whose pointers start at the whole request.",
        {
            "data": {
                "type": "array",
                "items": {
                    "oneOf": [
                        record("It was graded.", {"report": ref("Report")}),
                        record("It was not.", {"problem": ref("Problem")}),
                    ]
                },
            }
        },
    ),
    "GradingPage": record(
        "Gradings, newest first, without their reports.",
        {"data": {"type": "array", "items": _BRIEF}, "next_cursor": _TEXT_OR_NULL},
    ),
    "DeletedGradings": record("What was deleted.", {"deleted": {"type": "integer"}}),
}
