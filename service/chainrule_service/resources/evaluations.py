"""Evaluations: values, gradients, the steps of the backward pass, and drawings of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from chainrule_engine.derivatives import DERIVATIVES, Evaluation
from chainrule_engine.drawing import MAX_VALUES, boxes, caption, to_dot, to_svg
from chainrule_engine.errors import DrawingError, EngineError, InvalidInput, LimitExceeded
from chainrule_engine.graph import Graph
from chainrule_service import evaluation, jsonio
from chainrule_service.documented import JSON, NEURON, documented, record, ref
from chainrule_service.exchange import (
    charge,
    current,
    json_answer,
    needs,
    read_body,
    service,
    takes_query,
    whole_number_parameter,
)
from chainrule_service.fields import Envelope, JsonSchema, ListOf, Raw
from chainrule_service.problems import RequestError, problem_of

blueprint = Blueprint("evaluations", __name__, description="Values, gradients and drawings of a graph.")

#: How to draw, for each media type besides JSON.
_SVG = "image/svg+xml"
_DRAWERS: Mapping[str, Callable[..., str]] = {_SVG: to_svg, "text/vnd.graphviz": to_dot}

#: What it takes to lay out one value of a drawing, in node evaluations, roughly.
_LAYOUT_WORK: Mapping[str, int] = {_SVG: 1_000}

_REQUEST = evaluation.EvaluationRequest()


class EvaluationBatchRequest(Envelope):
    """What a batch of evaluations takes; each item is read on its own, so that a bad one spoils no other."""

    items = ListOf(Raw(ref("EvaluationRequest")), least=1, required=True)


_BATCH = EvaluationBatchRequest()

_BY_ID: JsonSchema = {"type": "object", "additionalProperties": ref("NumberOrPoints")}
_MATRIX: JsonSchema = {"type": "object", "additionalProperties": _BY_ID}
#: The derivatives that are members of the answer by their own names.
_DERIVED = tuple(name for name in DERIVATIVES if name not in ("gradient", "none"))
#: A graph whose second derivatives can be checked in the head.
_CURVED = {"inputs": {"x": 2.0, "y": 3.0}, "program": "f = x * x * y + y ** 3"}
_STEP = record(
    "One addition to a gradient: contribution = upstream * local, and total is the sum so far.",
    {
        "from": {"type": "string"},
        "to": {"type": "string"},
        "op": {"type": "string"},
        "upstream": ref("Number"),
        "local": ref("Number"),
        "contribution": ref("Number"),
        "total": ref("Number"),
    },
)
_WARNING = record(
    "Something to know about a node: a kink with its admissible interval, or the first number that is not finite.",
    {
        "code": {
            "type": "string",
            "enum": [
                *("kink", "jump", "non_finite_value", "non_finite_gradient"),
                *("non_finite_tangent", "non_finite_second_derivative", "more"),
            ],
        },
        "node": {"type": ["string", "null"]},
        "detail": {"type": "string"},
        "interval": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "points": {"type": "array", "items": {"type": "integer"}},
    },
    optional=("interval", "points"),
)
SCHEMAS: Mapping[str, JsonSchema] = {
    "Evaluation": record(
        "The values and gradients of every named input and node.",
        {
            "output": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "value": {"anyOf": [ref("NumberOrPoints"), {"type": "array", "items": ref("NumberOrPoints")}]},
            "values": _BY_ID,
            "gradients": _BY_ID,
            **{
                name: (_MATRIX if name in ("jacobian", "hessian") else _BY_ID)
                | {"description": f"Only with this derivative: {DERIVATIVES[name].description}."}
                for name in _DERIVED
            },
            "warnings": {"type": "array", "items": _WARNING},
            "steps": {"type": "array", "items": _STEP, "description": "Only with trace."},
            "engine": ref("Engine"),
            "digest": {
                "type": "string",
                "description": (
                    'SHA-256 of the text of this object without this member: cut at the last `,"digest"`, then `}`. '
                    "The order of the members of `values` and `gradients` is that of the request."
                ),
                "pattern": "^sha256:[0-9a-f]{64}$",
            },
        },
        optional=(*_DERIVED, "steps"),
    ),
    "EvaluationBatch": record(
        "One entry for each item, in order: a result or a problem, whose pointers start at the whole request.",
        {
            "data": {
                "type": "array",
                "items": {
                    "oneOf": [
                        record("It went well.", {"result": ref("Evaluation")}),
                        record("It did not.", {"problem": ref("Problem")}),
                    ]
                },
            }
        },
    ),
}


@blueprint.post("/v1/evaluations")
@takes_query("focus", "depth")
@documented(
    body=evaluation.EvaluationRequest,
    examples={
        "the neuron of the lecture": {"graph": NEURON},
        "the same as text, with the steps of the backward pass": {
            "graph": {
                "inputs": NEURON["inputs"],
                "program": "x1w1 = x1*w1\nx2w2 = x2*w2\nn = x1w1 + x2w2 + b\no = n.tanh()",
                "output": "o",
            },
            "trace": True,
        },
        "the matrix of second derivatives": {"graph": _CURVED, "derivative": "hessian"},
        "its product with a direction": {"graph": _CURVED, "derivative": "hvp", "tangent": {"x": 1.0, "y": -2.0}},
    },
    answers={
        200: (
            "The values and gradients, or the drawing that the Accept header asks for.",
            {JSON: ref("Evaluation")} | {media_type: {"type": "string"} for media_type in _DRAWERS},
        )
    },
    errors=(406,),
    parameters=(
        {"name": "focus", "schema": {"type": "string"}, "description": "Draw only what lies around this id."},
        {"name": "depth", "schema": {"type": "integer", "minimum": 0}, "description": "So many edges around it."},
    ),
)
@needs("evaluate")
def evaluate() -> Response:
    """Evaluate a graph and differentiate its output by every id; or draw it."""
    media_type = _wanted()
    loaded = read_body(_REQUEST)
    shared = service()
    size = evaluation.size_of(loaded)
    evaluation.check_size(size, shared.settings)
    values = len(loaded["graph"].inputs) + len(loaded["graph"].nodes)
    if media_type == _SVG and "focus" not in request.args and values > MAX_VALUES:
        # The drawing would refuse it too, but only after the evaluation.
        advice = "draw a part of the graph, with focus and depth"
        raise LimitExceeded("drawing_size", MAX_VALUES, values, ("graph",), advice)
    work = size.work + values * _LAYOUT_WORK.get(media_type, 0)
    with shared.room_for(work):
        charge(work)
        evaluated = evaluation.run(loaded)
        if media_type == JSON:
            return json_answer(evaluation.answer_text(evaluated), headers={"Vary": "Accept"})
        drawing = _draw(_DRAWERS[media_type], loaded["graph"], evaluated)
    return Response(drawing, content_type=f"{media_type}; charset=utf-8", headers={"Vary": "Accept"})


@blueprint.post("/v1/evaluations/batch")
@documented(
    body=EvaluationBatchRequest,
    examples={"two neurons": {"items": [{"graph": NEURON}, {"graph": NEURON, "derivative": "none"}]}},
    answers={200: ("A result or a problem for each item, in order.", ref("EvaluationBatch"))},
)
@needs("evaluate")
def evaluate_batch() -> Response:
    """Evaluate several graphs, each on its own."""
    shared = service()
    items, most = read_body(_BATCH)["items"], shared.settings.limits["batch_items"]
    if len(items) > most:
        raise LimitExceeded("batch_items", most, len(items), ("items",), "send several requests")
    total, accepted, entries = evaluation.Size(0, 0), {}, [""] * len(items)
    for position, item in enumerate(items):
        try:
            loaded = _REQUEST.load(item)
            size = total.plus(evaluation.size_of(loaded))
            evaluation.check_size(size, shared.settings)
        except (InvalidInput, LimitExceeded) as error:
            entries[position] = _problem(error, position)
        else:
            total, accepted[position] = size, loaded
    with shared.room_for(total.work):
        charge(total.work)
        for position, loaded in accepted.items():
            try:
                entries[position] = f'{{"result":{evaluation.answer_text(evaluation.run(loaded))}}}'
            except EngineError as error:
                entries[position] = _problem(error, position)
    return json_answer(f'{{"data":[{",".join(entries)}]}}')


def _problem(error: Exception, position: int) -> str:
    return f'{{"problem":{jsonio.dumps(problem_of(error, under=("items", position)))}}}'


def _wanted() -> str:
    """Return the media type to answer with.

    Raises:
        RequestError: none that there is would be accepted (406), or drawing parameters come without a drawing (422).
    """
    request = current()
    accepted = request.environ.get("HTTP_ACCEPT", "").strip() or "*/*"  # RFC 9110: empty, it asks for nothing
    media_type: str | None = JSON
    if accepted not in ("*/*", JSON):  # what nearly every client sends
        media_type = request.accept_mimetypes.best_match([JSON, *_DRAWERS])
    if media_type is None:
        raise RequestError("not-acceptable", f"this path answers with {', '.join([JSON, *_DRAWERS])}")
    if media_type == JSON and request.environ.get("QUERY_STRING") and request.args:
        name = next(iter(request.args))
        detail = f"{name} belongs to a drawing; ask for one with the header Accept: image/svg+xml"
        raise RequestError("invalid-request", detail, parameter=name)
    return media_type


def _draw(drawer: Callable[..., str], graph: Graph, evaluated: Evaluation) -> str:
    around: dict[str, Any] = {
        "focus": request.args.get("focus"),
        "depth": whole_number_parameter("depth", None, 0),
    }
    try:
        drawn = boxes(graph, evaluated, **around)
        return drawer(drawn, title=caption(graph, drawn, **around))
    except DrawingError as error:
        wrong = error.problems[0]
        raise RequestError("invalid-request", wrong.detail, parameter=str(wrong.path[0])) from None
    except LimitExceeded as error:
        raise error.under("graph") from None
