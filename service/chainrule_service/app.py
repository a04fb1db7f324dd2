"""The Flask application: everything put together from one list of resources."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter

from chainrule_service import metrics, readiness
from chainrule_service.access import Access
from chainrule_service.distributed import Bell
from chainrule_service.documented import DocumentedApi
from chainrule_service.exchange import Service, answer_error, current, finish, guard
from chainrule_service.keys import Keys
from chainrule_service.opening import open_store
from chainrule_service.rates import Rates
from chainrule_service.resources import (
    docs,
    evaluations,
    exercise_checks,
    exercises,
    gradient_checks,
    gradings,
    job_metrics,
    jobs,
    limits,
    meta,
    mued,
    mugrade,
    operations,
    webhooks,
)
from chainrule_service.settings import Settings

#: A module of a resource has a `blueprint`, and in SCHEMAS the named schemas of its answers.
RESOURCES: tuple[ModuleType, ...] = (
    evaluations,
    exercise_checks,
    exercises,
    gradient_checks,
    gradings,
    jobs,
    job_metrics,
    webhooks,
    mued,
    mugrade,
    operations,
    limits,
    meta,
    docs,
)

_log = logging.getLogger(__name__)
_PATH = ("SCRIPT_NAME", "PATH_INFO")
#: The seconds for which a request waits for another process that writes, before it is told to come back (503). Were
#: they many, all threads would come to wait, and none would answer what needs no database.
_PATIENCE = 3


class NoSessions(SessionInterface):
    """Nobody is known from one request to the next: all have one session, which keeps nothing."""

    _session = SessionInterface.null_session_class()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Return the session."""
        return self._session


class Application(Flask):
    """Flask without what nothing here uses and every request would pay for: hooks, sessions, coroutines, hosts.

    What each request must pass stands in place of the hooks: `guard` before the view, `finish` after it.
    """

    session_interface = NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the view of a request, by its method and path; the host is never looked at."""
        if request is None:
            return None
        environ = request.environ
        script, path = (environ.get(part, "").encode("latin-1").decode(errors="replace") for part in _PATH)  # PEP 3333
        return self.url_map.bind(
            "", script, "", environ["wsgi.url_scheme"], default_method=environ["REQUEST_METHOD"], path_info=path or "/"
        )

    def ensure_sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: no view is a coroutine."""
        return function

    def full_dispatch_request(self) -> Response:
        """Answer the request."""
        return self._answer(current())

    def _answer(self, request: Request) -> Response:
        """Answer the request, in whatever way it goes."""
        try:
            guard(request, self)
            returned = self.dispatch_request()
        except Exception as error:
            returned = answer_error(error)
        return finish(request, self.make_response(returned))

    def process_response(self, response: Response) -> Response:
        """Finish the answer to an error outside of all that."""
        return finish(current(), response)

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Do nothing: there are no hooks."""

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Do nothing: there are no hooks."""


class Observed(Application):
    """The application with its requests timed and logged; another class, so that without this nobody pays for it."""

    def _answer(self, request: Request) -> Response:
        """Answer the request, then count it, and write a line about it."""
        begun = time.perf_counter()
        response = super()._answer(request)
        seconds = time.perf_counter() - begun
        # What found no route is counted under one name, whatever methods and paths are tried.
        method, route = (request.method, request.url_rule.rule) if request.url_rule else ("other", "none")
        metrics.REQUESTS.observe(seconds, method, route, str(response.status_code))
        if _log.isEnabledFor(logging.INFO):
            line = {"method": request.method, "path": request.path, "status": response.status_code}
            _log.info("request", extra=line | {"milliseconds": round(seconds * 1000, 3)})
        return response


def create_app(settings: Settings | None = None) -> Flask:
    """Return the service as a WSGI application; without settings, one that keeps its jobs in memory.

    It opens nothing: no file, no connection, no thread. So it may be made before a server forks its workers.
    """
    settings = settings or Settings()
    observed = settings.metrics_port is not None or settings.log_level in ("debug", "info")
    app = (Observed if observed else Application)(__name__)
    app.url_map.merge_slashes = False  # /v1//jobs is not /v1/jobs, and a redirected POST would lose its body
    store = open_store(settings, _PATIENCE)
    # Nobody but this process could make a key in its memory, so it does not look for one.
    keys = None if settings.database is None else Keys(store.database)
    access = Access(settings, keys, Rates(store.database))
    ring: Callable[[str], object] = Bell(settings).ring if settings.broker_url else lambda _: None
    shared = app.extensions["chainrule"] = Service(settings, store, access, ring)
    app.extensions["chainrule-readiness"] = readiness.checks_of(shared)
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
