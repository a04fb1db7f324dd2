"""The upkeep of the jobs table, by a child of the supervisor, which itself waits for no database.

It ends the leases of workers that died and rings for their jobs, sweeps, and says how many job workers there are. What
it must know for that comes through a pipe: a line of JSON each time, from the supervisor or from gunicorn's master.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from time import monotonic
from typing import Any

from chainrule_service import workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.distributed import Bell
from chainrule_service.gradings import Gradings
from chainrule_service.opening import open_store
from chainrule_service.published import Published
from chainrule_service.settings import Settings
from chainrule_service.store import Store, worker_name

SWEEP_SECONDS = 2.0
TIDY_SECONDS = 3600.0  # of what has no index to be swept by
_PIPE = 1 << 16  # all that a pipe holds: no line is ever read in parts

_log = logging.getLogger(__name__)


class Reports:
    """A pipe to the process of upkeep, made by the supervisor before it forks anybody.

    Nobody waits to write into it. While that process is stuck it may fill up, and then a report is lost: leases run out
    by themselves, and the number of workers is told again.
    """

    def __init__(self) -> None:
        self.supervisor = os.getpid()
        self._from, self._to = os.pipe()
        os.set_blocking(self._to, False)

    def died(self, pid: int, cause: str, failure: Mapping[str, str] | None = None) -> None:
        """Tell that a process is dead; the rest is for `Store.expire_worker`."""
        self._tell(died=worker_name(pid), cause=cause, failure=failure and dict(failure))

    def working(self, processes: int) -> None:
        """Tell how many job workers there are."""
        self._tell(working=processes)

    def last(self) -> None:
        """Tell that all have ended, and nothing more is to be told."""
        self._tell(last=True)

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """Return what was told, after waiting for it for so long at most."""
        if not select.select([self._from], [], [], seconds)[0]:
            return []
        return [json.loads(line) for line in os.read(self._from, _PIPE).splitlines()]

    def close(self) -> None:
        """Close both ends."""
        os.close(self._from)
        os.close(self._to)

    def _tell(self, **report: Any) -> None:
        with suppress(BlockingIOError):
            os.write(self._to, json.dumps(report).encode() + b"\n")


def run(settings: Settings, reports: Reports) -> None:
    """Look after the jobs table until the last report, or until the supervisor is no more.

    A signal does not end it: it is needed until all others have ended, and a signal to the whole group comes too early.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with closing(open_store(settings, patience=2)) as store:
        upkeep = _Upkeep(store, settings, worker_name(reports.supervisor))
        while not upkeep.ended and os.getppid() == reports.supervisor:
            for report in reports.read(SWEEP_SECONDS):
                upkeep.note(report)
            upkeep.do()


class _Upkeep:
    def __init__(self, store: Store, settings: Settings, name: str) -> None:
        self._store, self._settings, self._name = store, settings, name
        self._ring: Callable[[str], object] = Bell(settings).ring if settings.broker_url else lambda _: None
        self._dead: dict[str, dict[str, Any]] = {}  # whose leases have not been ended yet
        self._working = self._announced = 0
        self._swept = self._tidied = self._said = float("-inf")
        self.ended = False

    def note(self, report: dict[str, Any]) -> None:
        self._working = report.get("working", self._working)
        self.ended = self.ended or "last" in report
        if worker := report.pop("died", None):
            self._dead[worker] = report

    def do(self) -> None:
        """Do what is due."""
        if self.ended:
            self._working = 0
        try:
            for worker, how in list(self._dead.items()):
                lost = self._store.expire_worker(worker, **how)
                del self._dead[worker]
                for job_id in lost:
                    self._ring(job_id)  # else idle workers that wait for messages would hear of it from the ringer
            if self._working != self._announced or (
                self._working and monotonic() > self._said + workers.ANNOUNCE_SECONDS
            ):
                workers.announce(self._store.database, self._name, self._working)
                self._announced, self._said = self._working, monotonic()
            if not self.ended and monotonic() > self._swept + SWEEP_SECONDS:
                self._swept = monotonic()
                self._store.sweep()
                days = self._settings.limits["retention_days"]
                Gradings(self._store.database).sweep(days)
                if monotonic() > self._tidied + TIDY_SECONDS:
                    Published(self._store.database).sweep(days)
                    self._tidied = monotonic()
        except DatabaseUnavailable as error:
            _log.warning("the jobs table cannot be looked after now: %s", error)
