"""The only module that reaches for the server's code, and only when asked: the client alone does without it.

Everything here needs the `local` extra (the service's application in this process) or the `service` extra
(the same with the web server). Imports stay inside the functions, so that `import chainrule` needs `requests`
alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter

from ._errors import MissingExtraError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from chainrule_service.keys import Keys


def serve(environ: Mapping[str, str], **overrides: Any) -> int:
    """Run the server until it is told to stop and return its exit status; `None` means "not given".

    Raises:
        MissingExtraError: the `service` extra is not installed.
        ValueError: a setting is wrong.
    """
    try:
        from chainrule_service.serving import serve as serve_settings
        from chainrule_service.settings import Settings
    except ModuleNotFoundError as error:
        _explain(error, "the server", "service")
    return serve_settings(Settings.from_env(environ, **overrides))


def run_job_workers(environ: Mapping[str, str], **overrides: Any) -> int:
    """Run job workers until they are told to stop and return the exit status; `None` means "not given".

    Raises:
        MissingExtraError: the `service` extra is not installed.
        ValueError: a setting is wrong.
    """
    try:
        from chainrule_service.serving import run_job_workers as run
        from chainrule_service.settings import Settings
    except ModuleNotFoundError as error:
        _explain(error, "a job worker", "service")
    return run(Settings.from_env(environ, **overrides))


def upgrade(environ: Mapping[str, str], **overrides: Any) -> None:
    """Bring the tables of the database to what this version needs; `None` means "not given".

    Raises:
        MissingExtraError: the `service` extra is not installed.
        ValueError: a setting is wrong, or the database cannot be upgraded.
    """
    try:
        from chainrule_service.serving import upgrade as upgrade_settings
        from chainrule_service.settings import Settings
    except ModuleNotFoundError as error:
        _explain(error, "the upgrade", "service")
    upgrade_settings(Settings.from_env(environ, **overrides))


def examine(environ: Mapping[str, str], *, as_json: bool, **overrides: Any) -> tuple[str, bool]:
    """Check a deployment; return what was found as text, and whether nothing is broken. `None` means "not given".

    Raises:
        MissingExtraError: the `service` extra is not installed.
    """
    try:
        from chainrule_service import doctor
    except ModuleNotFoundError as error:
        _explain(error, "the doctor", "service")
    findings = doctor.examine(environ, **overrides)
    return doctor.render(findings, as_json=as_json), doctor.is_sound(findings)


def limits_help() -> str:
    """Return the service's limits as lines of text.

    Raises:
        MissingExtraError: the `service` extra is not installed.
    """
    try:
        from chainrule_service.settings import limits_help as describe
    except ModuleNotFoundError as error:
        _explain(error, "the list of limits", "service")
    return describe()


def openapi_json() -> str:
    """Return the service's OpenAPI description as JSON text.

    Raises:
        MissingExtraError: the `local` extra is not installed.
    """
    try:
        from chainrule_service.app import openapi_json as describe
    except ModuleNotFoundError as error:
        _explain(error, "the service's description", "local")
    return describe()


def platforms() -> ModuleType:
    """Return what knows the platforms' formats: `chainrule_service.platforms`, which needs the standard library alone.

    Raises:
        MissingExtraError: even that is not installed.
    """
    try:
        from chainrule_service import platforms
    except ModuleNotFoundError as error:
        _explain(error, "the formats of grading platforms", "local")
    return platforms


def application() -> tuple[WSGIApplication, Callable[[], None]]:
    """Return the service's WSGI application, with a store that lives in memory, and what closes that store.

    Raises:
        MissingExtraError: the `local` extra is not installed.
    """
    try:
        from chainrule_service.app import create_app
    except ModuleNotFoundError as error:
        _explain(error, "Client.local()", "local")
    app = create_app()
    return app, app.extensions["chainrule"].store.close


@contextmanager
def keys(environ: Mapping[str, str], *, upgrades: bool = False, **overrides: Any) -> Iterator[Keys]:
    """Give the API keys of a service, by way of its database; `None` means "not given".

    Args:
        environ: the environment of the service.
        upgrades: whether the database's file is made or upgraded where it must be.
        overrides: settings that win over the environment.

    Raises:
        MissingExtraError: the `local` extra is not installed, or the `service` extra, by which tables are made.
        ValueError: a setting is wrong, or the database cannot be used.
    """
    try:
        from chainrule_service.database import Database, DatabaseUnavailable
        from chainrule_service.keys import Keys
        from chainrule_service.settings import Settings
    except ModuleNotFoundError as error:
        _explain(error, "the table of keys", "local")
    with closing(Database(Settings.from_env(environ, **overrides).database, upgrades=upgrades)) as database:
        try:
            yield Keys(database)
        except ModuleNotFoundError as error:
            _explain(error, "making the tables", "service")
        except DatabaseUnavailable as error:
            raise ValueError(f"the database cannot be used: {error}") from None


def _explain(error: ModuleNotFoundError, wanted: str, extra: str) -> NoReturn:
    raise MissingExtraError(
        f"{wanted} needs the module {error.name!r}, which is not part of the client: pip install 'chainrule[{extra}]'"
    ) from error


class WSGIAdapter(BaseAdapter):
    """Deliver every request to a WSGI application in this process instead of a socket."""

    def __init__(self, wsgi: WSGIApplication, close: Callable[[], None]) -> None:
        from werkzeug.test import Client as WSGIClient

        super().__init__()
        self._client = WSGIClient(wsgi)
        self._close = close

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one prepared request."""
        url = urlsplit(request.url or "")
        body = request.body or b""
        # werkzeug's client leaves the length of an empty body out, which a socket would not.
        length = {"CONTENT_LENGTH": request.headers["Content-Length"]} if "Content-Length" in request.headers else {}
        answer = self._client.open(
            path=url.path or "/",
            base_url=f"{url.scheme}://{url.netloc}",
            query_string=url.query,
            method=request.method,
            headers=list(request.headers.items()),
            data=body,
            environ_overrides=length,
        )
        response = requests.Response()
        response.status_code = answer.status_code
        response.reason = answer.status.partition(" ")[2]
        response.url = request.url or ""
        response.request = request
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.get_data())
        return response

    def close(self) -> None:
        """Close what the application holds open."""
        self._close()
