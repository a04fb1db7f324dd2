"""The port that Prometheus scrapes: what the processes of a server have counted, and what the jobs table says now.

It is a process of its own. The supervisor forks, and must run no threads; the servers' port is for clients.
"""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chainrule_engine import ENGINE
from chainrule_service import workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.settings import Settings
from chainrule_service.webhooks import open_store

if TYPE_CHECKING:
    from prometheus_client import Metric


def run(settings: Settings) -> None:
    """Answer scrapes until a signal ends this process."""
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(0))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Recorded(settings))
    start_http_server(settings.metrics_port or 0, settings.metrics_host, registry)
    parent = os.getppid()
    while os.getppid() == parent:  # where no signal tells of its end
        time.sleep(1)


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
