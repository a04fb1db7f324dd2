"""The port that Prometheus scrapes: what the processes of a server have counted, and what the jobs table says now.

It is a process of its own. The supervisor forks, and must run no threads; the servers' port is for clients.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from chainrule_engine import ENGINE
from chainrule_service import workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.opening import open_store
from chainrule_service.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from prometheus_client import Metric


def run(settings: Settings, listener: socket.socket) -> None:
    """Answer scrapes on a socket that listens, until a signal ends this process, or the parent is gone."""
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.multiprocess import MultiProcessCollector

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(0))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Recorded(settings))
    _Server(listener, make_wsgi_app(registry)).serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """The server that prometheus-client would start, but on a socket that is there already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        address = listener.getsockname()[:2]
        super().__init__(address, _Silent, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address
        self.setup_environ()
        self.set_app(app)
        self._parent = os.getppid()

    def service_actions(self) -> None:
        """Look, twice a second, whether the parent is there still: it may be that no signal tells of its end."""
        if os.getppid() != self._parent:
            os._exit(0)


class _Silent(WSGIRequestHandler):
    timeout = 10  # seconds of silence, after which a connection is closed: each holds a thread

    def log_message(self, *_: object) -> None:
        """Leave no line for a scrape."""


class Recorded:
    """What is asked when Prometheus scrapes, and counted nowhere: the jobs table, and what runs here."""

    def __init__(self, settings: Settings) -> None:
        # A table in memory is the server's alone; and a scrape must not wait for a database that is not there.
        self._store = None if settings.database is None else open_store(settings, patience=2)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: without this the library would ask the database when it is told of this collector."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Ask; where the database does not answer, say that alone."""
        from prometheus_client.core import GaugeMetricFamily

        runs = {**ENGINE, "python": platform.python_version()}
        build = GaugeMetricFamily("chainrule_build_info", "What runs here.", labels=list(runs))
        build.add_metric([str(value) for value in runs.values()], 1)
        yield build
        if self._store is None:
            return
        try:
            counts, alive = self._store.counts(), workers.alive(self._store.database)
        except DatabaseUnavailable:
            yield GaugeMetricFamily("chainrule_database_up", "Whether the jobs table answers.", 0)
            return
        yield GaugeMetricFamily("chainrule_database_up", "Whether the jobs table answers.", 1)
        jobs = GaugeMetricFamily("chainrule_jobs", "Jobs in the table, by their state.", labels=["state"])
        for state, number in counts.states.items():
            jobs.add_metric([state], number)
        yield jobs
        waited = "How long the oldest queued job has waited."
        yield GaugeMetricFamily("chainrule_oldest_queued_seconds", waited, counts.oldest_queued)
        yield GaugeMetricFamily("chainrule_workers", "Job workers alive, on all machines.", alive)
