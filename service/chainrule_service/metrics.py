"""What is counted and timed for Prometheus: the one table of it. Everything here does nothing before `counting`.

A server is several processes, so prometheus-client runs in its multiprocess mode: each process keeps its numbers in
files of its own in one folder, and what a process that died had counted still counts. `exporter` adds the files up.
Files go by a number that a process takes over from one that died, or those of the dead would fill the folder.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's name for it
#: Seconds: from the evaluation of a small graph to what a proxy would give up on.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meter:
    """A counter, or a histogram of seconds, with a series for each combination of its labels' values."""

    def __init__(self, name: str, description: str, *labels: str, seconds: bool = False) -> None:
        self.name, self.description, self.labels, self.seconds = f"chainrule_{name}", description, labels, seconds
        self._metric: Any = None
        self._series: dict[tuple[str, ...], Any] = {}  # the library's own way to a series costs as much as counting

    def enable(self) -> None:
        """Count from now on."""
        from prometheus_client import Counter, Histogram

        if self.seconds:
            self._metric = Histogram(self.name, self.description, self.labels, buckets=_BUCKETS)
        else:
            self._metric = Counter(self.name, self.description, self.labels)

    def count(self, *values: str) -> None:
        """Add one to the series with these values of the labels."""
        if self._metric is not None:
            self._of(values).inc()

    def observe(self, seconds: float, *values: str) -> None:
        """Add a time to the series with these values of the labels."""
        if self._metric is not None:
            self._of(values).observe(seconds)

    def _of(self, values: tuple[str, ...]) -> Any:
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._metric.labels(*values) if values else self._metric
        return series


#: `route` is a template such as /v1/jobs/<job_id>, so nobody can make new series by asking for new paths.
REQUESTS = Meter(
    "request_seconds", "Requests, by the time until the answer begins.", "method", "route", "status", seconds=True
)
CLAIMS = Meter("job_claims", "Jobs that a worker has begun or taken up again.")
ENDED = Meter("jobs_ended", "Jobs that have ended.", "type", "state")
CHUNKS = Meter("job_chunk_seconds", "Chunks of jobs, with the checkpoint of the one before.", seconds=True)
LEASES_LOST = Meter(
    "job_leases_lost", "Runs of jobs that stopped because another worker had the job, or the database was away."
)
DELIVERIES = Meter("webhook_deliveries", "Attempts to deliver a webhook.", "outcome")
DATABASE_ERRORS = Meter("database_errors", "Statements and connections that the database refused or lost.")

METERS = (REQUESTS, CLAIMS, ENDED, CHUNKS, LEASES_LOST, DELIVERIES, DATABASE_ERRORS)


@contextmanager
def counting() -> Iterator[None]:
    """Count meanwhile, in this process and in those that it forks.

    Nothing may have imported prometheus-client before: it looks for the folder once, when it is imported.
    """
    folder = Path(tempfile.mkdtemp(prefix="chainrule-metrics-"))
    os.environ[_FOLDER] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(_Number(folder))  # type: ignore[no-untyped-call]
    for meter in METERS:
        meter.enable()
    sql.event.listen(sql.Engine, "handle_error", _database_error)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Number:
    """The number of a process: the lowest that none of those alive has, which a lock on a file in `folder` tells."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._pid, self._number = folder, 0, 0

    def __call__(self) -> int:
        """Return the number of this process; with each count the library asks for it."""
        if self._pid != os.getpid():
            self._pid, self._number = os.getpid(), next(filter(self._take, itertools.count()))
        return self._number

    def _take(self, number: int) -> bool:
        # Such a lock ends with the process, and a process that is forked does not have it.
        lock = os.open(self._folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        return True


def _database_error(context: sql.ExceptionContext) -> None:
    # A row that is there already is an answer of the database, and no error of it.
    if isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError | InternalError):
        DATABASE_ERRORS.count()
