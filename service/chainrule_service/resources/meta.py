"""The server itself: what it is, whether it lives, whether it can work."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, current_app
from flask_smorest import Blueprint

from chainrule_engine import ENGINE, acceleration
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.documented import documented, record, ref
from chainrule_service.exchange import answer, needs
from chainrule_service.fields import JsonSchema
from chainrule_service.problems import RequestError
from chainrule_service.readiness import NotReady

blueprint = Blueprint("server", __name__, description="The server itself.")

_STATUS = {"status": {"type": "string", "const": "ok"}}
SCHEMAS: Mapping[str, JsonSchema] = {
    "Status": record("All is well.", _STATUS),
    "Version": record(
        "What runs here.",
        {
            "name": {"type": "string"},
            "engine": ref("Engine"),
            "kernels": {
                "type": "string",
                "enum": ["compiled", "python"],
                "description": "Whether machine code computes, or plain Python, which gives the same bits later.",
            },
        },
    ),
    "Home": record("Where to go from here.", {"name": {"type": "string"}, "links": {"type": "object"}}),
}


@blueprint.get("/")
@documented(answers={200: ("Links.", ref("Home"))})
@needs(None)
def home() -> Response:
    """Say what this is and where its documentation lies."""
    return answer({"name": "chainrule", "links": {"docs": "/docs", "openapi": "/openapi.json", "limits": "/v1/limits"}})


@blueprint.get("/v1/version")
@documented(answers={200: ("The version.", ref("Version"))})
@needs(None)
def version() -> Response:
    """Return the version of the engine: equal versions give equal bits, on every machine."""
    kernels = "compiled" if acceleration.load() else "python"
    return answer({"name": "chainrule", "engine": ENGINE, "kernels": kernels})


@blueprint.get("/livez")
@documented(answers={200: ("It lives.", ref("Status"))})
@needs(None)
def livez() -> Response:
    """Answer, to show that this process does; looks at nothing else."""
    return answer({"status": "ok"})


@blueprint.get("/readyz")
@documented(answers={200: ("It can work.", ref("Status"))}, errors=(503,))
@needs(None)
def readyz() -> Response:
    """Tell whether all is there that the service needs: database, broker, job workers; if not, what is not."""
    failed = []
    for name, check in current_app.extensions["chainrule-readiness"].items():
        try:
            check()
        except NotReady as error:
            failed.append(f"{name}: {error}")
            current_app.logger.warning("not ready: %s", failed[-1])
        except DatabaseUnavailable as error:
            failed.append(f"{name}: the database cannot be read or written; the server's log has the cause")
            current_app.logger.warning("not ready: %s: %s", name, error)  # it may name files and hosts
    if failed:
        raise RequestError("service-unavailable", "not ready: " + "; ".join(failed))
    return answer({"status": "ok"})
