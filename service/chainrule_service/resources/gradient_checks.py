"""Gradient checks: the chain rule against central differences."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from flask_smorest import Blueprint

from chainrule_engine import ENGINE
from chainrule_engine.checking import OUTCOMES, check_gradients, cost
from chainrule_engine.errors import LimitExceeded
from chainrule_engine.graph import Graph
from chainrule_service.data_fields import GraphField
from chainrule_service.documented import NEURON, documented, record, ref
from chainrule_service.exchange import answer, charge, needs, read_body, service
from chainrule_service.fields import Envelope, JsonSchema, Number

blueprint = Blueprint("gradient-checks", __name__, description="Gradients against central differences.")


class GradientCheckRequest(Envelope):
    """What a gradient check takes."""

    graph = GraphField(required=True)
    step = Number(
        "The largest difference for an input of magnitude up to 1, in proportion above; smaller ones are tried too.",
        least=1e-12,
        most=0.5,
        load_default=None,
    )
    rtol = Number("The error allowed, relative to the larger of the two.", least=0, load_default=1e-6)
    atol = Number("The error allowed besides.", least=0, load_default=1e-8)


_REQUEST = GradientCheckRequest()

SCHEMAS: Mapping[str, JsonSchema] = {
    "GradientCheck": record(
        "The gradient of the sum of the outputs by every input, against its central difference.",
        {
            "passed": {"type": "boolean", "description": "Whether no input failed."},
            "step": {"type": "number"},
            "checks": {
                "type": "array",
                "items": record(
                    "One input. At a kink any number in the interval is right. Undecided: the differences cannot tell, "
                    "because the function jumps here, is too steep, or is not finite on both sides (numeric is then "
                    "NaN).",
                    {
                        "input": {"type": "string"},
                        "gradient": ref("Number"),
                        "numeric": ref("Number"),
                        "error": ref("Number"),
                        "allowed": ref("Number"),
                        "outcome": {"type": "string", "enum": list(OUTCOMES)},
                        "interval": {"type": "array", "items": ref("Number"), "minItems": 2, "maxItems": 2},
                    },
                    optional=("interval",),
                ),
            },
            "engine": ref("Engine"),
        },
    )
}


@blueprint.post("/v1/gradient-checks")
@documented(
    body=GradientCheckRequest,
    examples={"the neuron of the lecture": {"graph": NEURON}},
    answers={200: ("The comparison for each input.", ref("GradientCheck"))},
)
@needs("evaluate")
def check() -> Response:
    """Compare the gradients of a graph with central differences, aware of kinks."""
    loaded = read_body(_REQUEST)
    graph: Graph = loaded.pop("graph")
    work, most = cost(graph), service().settings.limits["gradient_check_work"]
    if work > most:
        raise LimitExceeded("gradient_check_work", most, work, ("graph",), "check a smaller part of the graph")
    with service().room_for(work):
        charge(work)
        checked = check_gradients(graph, **loaded)
    return answer(checked.to_dict() | {"engine": ENGINE})
