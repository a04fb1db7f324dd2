"""The port that Prometheus scrapes: what the processes of a server have counted, and what the jobs table says now.

It is a process of its own. The supervisor forks, and must run no threads; the servers' port is for clients.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chainrule_engine import ENGINE
from chainrule_service import metrics, workers
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.settings import Settings
from chainrule_service.store import Store

if TYPE_CHECKING:
    from prometheus_client import Metric


@contextmanager
def exporting(settings: Settings) -> Iterator[None]:
    """Count meanwhile, in this process and its children, and serve what they count; nothing where no port is set.

    To be entered before anything forks and before any thread starts.
    """
    if settings.metrics_port is None:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="chainrule-metrics-"))
    metrics.enable(folder)
    parent, exporter = os.getpid(), os.fork()
    if exporter == 0:
        try:
            _serve(settings, parent)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        if os.getpid() == parent:  # gunicorn's workers leave this way too
            with suppress(ProcessLookupError, ChildProcessError):  # it died, and gunicorn has taken note of that
                os.kill(exporter, signal.SIGTERM)
                os.waitpid(exporter, 0)
            shutil.rmtree(folder, ignore_errors=True)


def _serve(settings: Settings, parent: int) -> None:
    """Answer scrapes until the parent ends, or says so."""
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it was forked with its parent's handlers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everyone; the parent decides
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Recorded(settings))
    assert settings.metrics_port is not None
    start_http_server(settings.metrics_port, settings.metrics_host, registry)
    while os.getppid() == parent:
        time.sleep(1)


class Recorded:
    """What is asked when Prometheus scrapes, and counted nowhere: the jobs table, and what runs here."""

    def __init__(self, settings: Settings) -> None:
        # A table in memory is the server's alone; and a scrape must not wait for a database that is not there.
        self._store = None if settings.database is None else Store(Database(settings.database, patience=2), settings)

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
