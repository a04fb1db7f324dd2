"""Whether this server can do what it is for: the checks behind /readyz, which `chainrule doctor` makes as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from chainrule_service import workers
from chainrule_service.database import Database
from chainrule_service.exchange import Service

_BROKER_PATIENCE = 1.0  # seconds: also for how long an answer of the broker counts


class NotReady(Exception):
    """A check has failed; the message says what is wrong and what to do."""


class BrokerCheck:
    """Whether the broker answers; asked about once a second, however many ask this."""

    def __init__(self, url: str) -> None:
        self._url, self._asked, self._problem = url, float("-inf"), ""

    def __call__(self) -> None:
        """Ask, or take the last answer.

        Raises:
            NotReady: it does not answer.
        """
        if time.monotonic() > self._asked + _BROKER_PATIENCE:
            self._problem, self._asked = ask_broker(self._url), time.monotonic()
        if self._problem:
            raise NotReady(self._problem)


def ask_broker(url: str) -> str:
    """Connect to the broker as Celery does, and return what is wrong; nothing if it answers."""
    from kombu import Connection

    patience = {"socket_connect_timeout": _BROKER_PATIENCE, "socket_timeout": _BROKER_PATIENCE}
    options = patience if url.startswith("redis") else {}  # the other transports know no such options
    with Connection(url, connect_timeout=_BROKER_PATIENCE, transport_options=options) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
        except Exception as error:  # each of the transports has its own, and all of them mean the same
            return f"{connection.as_uri()} does not answer: {error}"
    return ""


def check_workers(database: Database) -> None:
    """Find out whether anybody runs the jobs that wait.

    Raises:
        NotReady: nobody does.
        DatabaseUnavailable: it cannot be found out.
    """
    if not workers.alive(database):
        raise NotReady(
            f"no job worker has been heard of for {workers.ALIVE_SECONDS:.0f} seconds, so that jobs wait; "
            "start some: `chainrule worker`, or `chainrule serve` with --job-workers"
        )


def check_draining(draining: threading.Event) -> None:
    """Find out whether the server goes on.

    Raises:
        NotReady: it is ending.
    """
    if draining.is_set():
        raise NotReady("this server is ending, and answers what it has begun; ask another")


def checks_of(service: Service) -> Mapping[str, Callable[[], None]]:
    """Return the checks that a server has to pass, by name; each raises if it does not."""
    settings, database = service.settings, service.store.database
    checks: dict[str, Callable[[], None]] = {
        "server": lambda: check_draining(service.draining),
        "database": service.store.check,
    }
    if settings.broker_url:
        checks["broker"] = BrokerCheck(settings.broker_url)
    if settings.database:  # in a memory nobody else finds a job, and all of them run in their requests
        checks["workers"] = lambda: check_workers(database)
    return MappingProxyType(checks)
