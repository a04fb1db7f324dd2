"""The Flask application: everything put together from one list of resources."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from flask import Flask, Response
from flask.globals import request_ctx

from chainrule_service.documented import DocumentedApi
from chainrule_service.exchange import Service, answer_error, finish, guard
from chainrule_service.resources import docs, evaluations, gradient_checks, jobs, limits, meta, operations
from chainrule_service.settings import Settings
from chainrule_service.store import Store

#: A module of a resource has a `blueprint`, and in SCHEMAS the named schemas of its answers.
RESOURCES: tuple[ModuleType, ...] = (evaluations, gradient_checks, jobs, operations, limits, meta, docs)


class Application(Flask):
    """Flask without what nothing here uses and every request would pay for: hooks, their lookup, and coroutines.

    What each request must pass stands in their place: `guard` before the view, `finish` after it.
    """

    def ensure_sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: no view is a coroutine."""
        return function

    def full_dispatch_request(self) -> Response:
        """Answer the request, in whatever way it goes."""
        try:
            guard(request_ctx.request)
            returned = self.dispatch_request()
        except Exception as error:
            returned = answer_error(error)
        return self.process_response(self.make_response(returned))

    def process_response(self, response: Response) -> Response:
        """Finish an answer: of a view, or of an error outside of views."""
        return finish(request_ctx.request, response)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the service as a WSGI application; without settings, one that keeps its jobs in memory.

    It opens nothing: no file, no connection, no thread. So it may be made before a server forks its workers.
    """
    settings = settings or Settings()
    app = Application(__name__)
    app.url_map.merge_slashes = False  # //v1/jobs is not /v1/jobs, and a redirected POST would lose its body
    app.extensions["chainrule"] = Service(settings, Store(settings.data))
    app.register_error_handler(Exception, answer_error)
    api = DocumentedApi(app)
    for module in RESOURCES:
        for name, schema in module.SCHEMAS.items():
            api.add_schema(name, schema)
        api.register_blueprint(module.blueprint)
    app.extensions["chainrule-openapi"] = api.text()
    return app


def openapi_json() -> str:
    """Return the OpenAPI description of the service: the text of docs/openapi.json."""
    text: str = create_app().extensions["chainrule-openapi"]
    return text
