"""The catalogue of operations, straight from the engine's table."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from flask_smorest import Blueprint

from chainrule_engine.operations import CONVENTIONS_VERSION, OPERATIONS
from chainrule_service.documented import documented, record, ref
from chainrule_service.exchange import answer, needs
from chainrule_service.fields import JsonSchema

blueprint = Blueprint("operations", __name__, description="What a node can compute.")

_TEXTS = ("name", "symbol", "latex", "description", "domain", "conventions")
SCHEMAS: Mapping[str, JsonSchema] = {
    "Operations": record(
        "Every operation.",
        {
            "conventions": {
                "type": "integer",
                "description": "Counts changes of a value, a derivative or a convention.",
            },
            "data": {
                "type": "array",
                "items": record(
                    "One operation; latex has one {} for each argument.",
                    {name: {"type": "string"} for name in _TEXTS} | {"arity": {"type": "integer"}},
                ),
            },
        },
    )
}


@blueprint.get("/v1/operations")
@documented(answers={200: ("The catalogue.", ref("Operations"))})
@needs(None)
def list_operations() -> Response:
    """List the operations with their conventions at kinks."""
    data = [
        {name: getattr(operation, name) for name in _TEXTS} | {"arity": operation.arity}
        for operation in OPERATIONS.values()
    ]
    return answer({"conventions": CONVENTIONS_VERSION, "data": data})
