"""Documentation: the OpenAPI description, its page, and a page for each type of problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from flask import Response, current_app, render_template
from flask_smorest import Blueprint

from chainrule_service.documented import documented
from chainrule_service.exchange import json_answer, needs
from chainrule_service.fields import JsonSchema
from chainrule_service.problems import PROBLEM_TYPES, RequestError

blueprint = Blueprint("documentation", __name__, description="These pages.")
SCHEMAS: Mapping[str, JsonSchema] = {}

_PAGE: Mapping[str, JsonSchema] = {"text/html": {"type": "string"}}


@blueprint.get("/openapi.json")
@documented(answers={200: ("OpenAPI 3.1.", {"type": "object"})})
@needs(None)
def openapi() -> Response:
    """Return this description."""
    return json_answer(cast(str, current_app.extensions["chainrule-openapi"]))


@blueprint.get("/docs")
@documented(answers={200: ("A page.", _PAGE)})
@needs(None)
def page() -> str:
    """Show this description as a page from which requests can be tried."""
    return render_template("docs.html")


@blueprint.get("/problems/<slug>")
@documented(answers={200: ("A page.", _PAGE)}, errors=(404,))
@needs(None)
def problem(slug: str) -> str:
    """Explain a type of problem: what the member `type` of an error leads to."""
    kind = PROBLEM_TYPES.get(slug)
    if kind is None:
        raise RequestError("not-found", f"no problem is called {slug[:60]!r}; there are {', '.join(PROBLEM_TYPES)}")
    return render_template("problem.html", kind=kind)
