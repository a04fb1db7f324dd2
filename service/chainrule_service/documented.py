"""The OpenAPI description: what views say about themselves, and the parts that all of them share.

flask-smorest and apispec write the description. Their request and response layers are not used: a view reads and
answers in one line without, and what a small request costs beside its evaluation is kept low (benchmarks/http_cost.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Flask
from flask_smorest import Api, Blueprint
from marshmallow import Schema
from werkzeug.exceptions import HTTPException

from chainrule_engine import ENGINE
from chainrule_engine.operations import OPERATIONS
from chainrule_service.exchange import answer_error
from chainrule_service.fields import REF, Field, JsonSchema
from chainrule_service.keys import SCOPES
from chainrule_service.problems import PROBLEM_TYPES

View = TypeVar("View", bound=Callable[..., Any])

JSON = "application/json"
PROBLEM = "application/problem+json"


def ref(name: str) -> JsonSchema:
    """Return a reference to a named schema of the description."""
    return {"$ref": REF + name}


def record(description: str, properties: Mapping[str, JsonSchema], optional: tuple[str, ...] = ()) -> JsonSchema:
    """Return the schema of an object in an answer: clients must ignore members that they do not know."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "properties": dict(properties), "required": required}


def or_null(schema: Mapping[str, Any]) -> JsonSchema:
    """Return a schema that admits null besides."""
    return {"anyOf": [schema, {"type": "null"}]}


_NUMBER_OR_POINTS = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
_ID = {"type": "string", "minLength": 1, "maxLength": 200}

#: The neuron of the lecture, for the examples.
NEURON = {
    "inputs": {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432},
    "nodes": [
        {"id": "x1w1", "op": "mul", "args": ["x1", "w1"]},
        {"id": "x2w2", "op": "mul", "args": ["x2", "w2"]},
        {"id": "sum", "op": "add", "args": ["x1w1", "x2w2"]},
        {"id": "n", "op": "add", "args": ["sum", "b"]},
        {"id": "o", "op": "tanh", "args": ["n"]},
    ],
    "output": "o",
}

SHARED: Mapping[str, JsonSchema] = {
    "Number": {
        "description": "A float64; the values that JSON has no number for are strings.",
        "anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}],
    },
    "NumberOrPoints": {
        "description": "A number, or one for each point of a batch.",
        "anyOf": [ref("Number"), {"type": "array", "items": ref("Number")}],
    },
    "Node": {
        "type": "object",
        "description": "One operation. An argument is the id of an input or node, or a number.",
        "properties": {
            "id": _ID | {"description": "Ids that begin with _ are computed but left out of the answer."},
            "op": {"type": "string", "enum": list(OPERATIONS)},
            "args": {"type": "array", "items": {"anyOf": [_ID, {"type": "number"}]}},
        },
        "required": ["id", "op", "args"],
        "additionalProperties": False,
    },
    "Graph": {
        "type": "object",
        "description": (
            "A scalar computation graph, as a list of nodes in any order or as program text. An input that is a list "
            "of numbers makes a batch of points: all lists have one length, and plain numbers hold for every point."
        ),
        "properties": {
            "inputs": {"type": "object", "additionalProperties": _NUMBER_OR_POINTS},
            "nodes": {"type": "array", "items": ref("Node")},
            "program": {
                "type": "string",
                "description": "The nodes in Python's expression syntax, one `name = expression` on each line.",
            },
            "output": {
                "description": "May be left out when exactly one node is used by no other.",
                "anyOf": [_ID, {"type": "array", "items": _ID, "minItems": 1}],
            },
        },
        "oneOf": [{"required": ["nodes"]}, {"required": ["program"]}],
        "additionalProperties": False,
        "examples": [
            NEURON,
            {"inputs": {"a": -4.0, "b": 2.0}, "program": "c = a + b\nd = (a*b + b**3).tanh()\ne = c * d"},
            {"inputs": {"x": [-1.0, 0.0, 1.0]}, "program": "y = 3*x**2 - 4*x + 5", "output": "y"},
        ],
    },
    "Engine": record(
        "What computed the answer: where both members are equal, so are all bits, on every machine.",
        {"version": {"type": "string"}, "conventions": {"type": "integer"}},
    ),
    "Problem": record(
        "An error (RFC 9457).",
        {
            "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/invalid-request"]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "maxItems": 32,
                "items": record(
                    "One fault: a place in the body as a JSON Pointer, or the name of a query parameter.",
                    {
                        "detail": {"type": "string"},
                        "pointer": {"type": "string", "examples": ["#/graph/nodes/3/args/1"]},
                        "parameter": {"type": "string"},
                    },
                    optional=("pointer", "parameter"),
                ),
            },
            "scope": {"type": "string", "description": "What the API key lacks."},
            "violated-policies": {"type": "array", "items": {"type": "string"}},
            "limit": {"type": "string"},
            "maximum": {"type": "number"},
            "requested": {"type": "number"},
            "request_id": {"type": "string"},
        },
        optional=("errors", "scope", "violated-policies", "limit", "maximum", "requested", "request_id"),
    ),
}

_KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": (
        "An API key (`cr_live_...`), which `chainrule keys create` makes. A service for which none was ever made asks "
        "for none. The scopes are "
        + "; ".join(f"{scope}: {purpose}" for scope, purpose in SCOPES.items())
        + ". Answers carry RateLimit-Policy and RateLimit, which tell what is left of the key's quotas."
    ),
}

#: What may be wrong with any request that has a body, and with any other.
BODY_ERRORS = (400, 411, 413, 415, 422, 503)
PLAIN_ERRORS = (422,)
#: What may be wrong with one that needs an API key, besides.
KEY_ERRORS = (401, 403, 429)


def documented(
    *,
    body: type[Schema] | JsonSchema | None = None,
    examples: Mapping[str, Any] | None = None,
    answers: Mapping[int, tuple[str, JsonSchema | Mapping[str, JsonSchema] | None]],
    errors: tuple[int, ...] = (),
    parameters: tuple[JsonSchema, ...] = (),
) -> Callable[[View], View]:
    """Describe a view; `needs`, which says what scope of an API key it needs, stands below this.

    Args:
        body: the schema of the request's body.
        examples: bodies, by the words that introduce them.
        answers: status → (description, schema); a schema by media type where it is not JSON; None without a body.
        errors: the statuses of its errors, besides those of every request.
        parameters: query parameters, as OpenAPI has them.
    """
    responses: dict[str, Any] = {}
    for status, (description, schema) in answers.items():
        responses[str(status)] = {"description": description}
        if schema is not None:
            typed = schema if all("/" in key for key in schema) else {JSON: schema}
            responses[str(status)]["content"] = {name: {"schema": value} for name, value in typed.items()}
    failures = {*errors, *(PLAIN_ERRORS if body is None else BODY_ERRORS)}
    manual: dict[str, Any] = {"responses": responses}
    if parameters:
        manual["parameters"] = [{"in": "query", "required": False} | parameter for parameter in parameters]
    if body is not None:
        content: dict[str, Any] = {"schema": body}
        if examples:
            content["examples"] = {
                f"example{count}": {"summary": words, "value": value}
                for count, (words, value) in enumerate(examples.items(), 1)
            }
        manual["requestBody"] = {"required": True, "content": {JSON: content}}

    def describe(view: View) -> View:
        scope = getattr(view, "scope", None)
        for status in sorted(failures | ({*KEY_ERRORS} if scope else set())):
            responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
        if scope:
            manual["security"] = [{"key": [scope]}, {}]  # {}: nothing, where no key was ever made
        # `Blueprint.doc` returns a wrapper around the view; what it noted serves as well without that call.
        view._apidoc = Blueprint.doc(**manual)(view)._apidoc  # type: ignore[attr-defined]
        return view

    return describe


class DocumentedApi(Api):  # type: ignore[misc]  # flask-smorest has no type hints
    """flask-smorest's registry of blueprints, with our errors and our fields."""

    DEFAULT_ERROR_RESPONSE_NAME = "Problem"

    def __init__(self, app: Flask) -> None:
        app.config |= {
            "API_TITLE": "chainrule",
            "API_VERSION": "v1",
            "OPENAPI_VERSION": "3.1.0",
            "API_SPEC_OPTIONS": {
                "info": {
                    "description": "Autograd as a service: every value, every gradient and the loss history.",
                    "license": {"name": "MIT", "identifier": "MIT"},
                }
            },
        }
        super().__init__(app)
        self.ma_plugin.converter.add_attribute_function(_describe_field)
        for name, schema in SHARED.items():
            self.add_schema(name, schema)
        self.spec.components.security_scheme("key", _KEY_SCHEME)
        problem = {"description": "An error.", "content": {PROBLEM: {"schema": ref("Problem")}}}
        self.spec.components.response("Problem", problem)
        for status in sorted({kind.status for kind in PROBLEM_TYPES.values()}):
            kinds = [kind.title for kind in PROBLEM_TYPES.values() if kind.status == status]
            response = problem | {"description": ", or ".join(kinds)}
            self.spec.components.response(f"Problem{status}", response)

    def add_schema(self, name: str, schema: JsonSchema | type[Schema]) -> None:
        """Give a schema a name that `ref` can use."""
        if isinstance(schema, dict):
            self.spec.components.schema(name, schema)
        else:
            self.spec.components.schema(name, schema=schema)

    def _register_responses(self) -> None:
        """Register none of flask-smorest's own errors: ours have another form."""

    def _register_etag_headers(self) -> None:
        """Register none: they are not used."""

    def _register_pagination_header(self) -> None:
        """Register none: it is not used."""

    def handle_http_exception(self, error: HTTPException) -> Any:
        """Answer an HTTP error as every other error."""
        return answer_error(error)

    def text(self) -> str:
        """Return the description as JSON text: pretty, in a stable order, and ending in a newline."""
        description = self.spec.to_dict()
        description["paths"] = dict(sorted(description["paths"].items()))
        description["components"] = {
            part: dict(sorted(entries.items())) for part, entries in sorted(description["components"].items())
        }
        description["info"]["x-engine"] = ENGINE
        return json.dumps(description, indent=2, ensure_ascii=False) + "\n"


def _describe_field(_: Any, field: Any, **__: Any) -> JsonSchema:
    if not isinstance(field, Field):
        return {}
    return or_null(field.json_schema) if field.allow_none else dict(field.json_schema)
