"""The limits of this server."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from flask_smorest import Blueprint

from chainrule_service.documented import documented, record, ref
from chainrule_service.exchange import answer, needs, service
from chainrule_service.fields import JsonSchema
from chainrule_service.settings import FIXED_LIMITS, LIMITS

blueprint = Blueprint("limits", __name__, description="How large a request may be.")

SCHEMAS: Mapping[str, JsonSchema] = {
    "Limits": record(
        "Every limit.",
        {
            "data": {
                "type": "array",
                "items": record(
                    "One limit: its value here, the value where nobody sets it, and the most that may be set.",
                    {"name": {"type": "string"}}
                    | {name: {"type": "integer"} for name in ("value", "default", "maximum")}
                    | {"description": {"type": "string"}},
                ),
            }
        },
    )
}


@blueprint.get("/v1/limits")
@documented(answers={200: ("The limits.", ref("Limits"))})
@needs(None)
def list_limits() -> Response:
    """List the limits of this server."""
    values = service().settings.limits
    return answer(
        {
            "data": [
                {
                    "name": limit.name,
                    "value": values.get(limit.name, limit.default),
                    "default": limit.default,
                    "maximum": limit.maximum,
                    "description": limit.description,
                }
                for limit in (*LIMITS.values(), *FIXED_LIMITS)
            ]
        }
    )
