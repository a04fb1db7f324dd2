"""A job worker: a process that takes jobs from the queue and runs them, one after another."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainrule_service import distributed, runner
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.opening import open_store
from chainrule_service.settings import Settings
from chainrule_service.store import Claim, Store, worker_name

#: How long it waits before it looks again: for a job, and for the database.
POLL_SECONDS, RETRY_SECONDS = 0.05, 1.0
#: A worker that was called by a message passes it on after so long: well before brokers take it for lost.
SLICE_SECONDS = 20.0
#: A run that does not end itself at its limit of time is ended so many seconds later.
OVERTIME_SECONDS = 10.0

_log = logging.getLogger(__name__)


def work(settings: Settings) -> None:
    """Run jobs until a signal comes or the parent is gone: then the job that runs goes back to the queue.

    Without a broker it asks the table for them again and again, with one whenever a message comes.
    """
    stop = threading.Event()
    # The main thread never waits for `stop`: a handler, which runs in it, could not set what it holds the lock of.
    store = open_store(settings)
    if settings.broker_url:
        distributed.listen(settings, lambda: _run_slice(store, settings, stop), stop)
    else:
        _poll(store, settings, stop)
    store.close()


def _poll(store: Store, settings: Settings, stop: threading.Event) -> None:
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set() and os.getppid() == parent:
        try:
            if not _run_next(store, settings, stop):
                time.sleep(POLL_SECONDS)
        except DatabaseUnavailable as error:
            _log.warning("no job can be taken now: %s", error)
            time.sleep(RETRY_SECONDS)


def _run_slice(store: Store, settings: Settings, stop: threading.Event) -> bool:
    """Run what waits, one job after another, but not for long; return whether something may be left."""
    end = time.monotonic() + SLICE_SECONDS
    while not stop.is_set() and (left := end - time.monotonic()) > 0:
        try:
            if not _run_next(store, settings, stop, left):
                return False
        except DatabaseUnavailable as error:
            _log.warning("no job can be taken now: %s", error)
            return False
    return True


def _run_next(store: Store, settings: Settings, stop: threading.Event, slice_seconds: float | None = None) -> bool:
    """Run the job whose turn it is; return whether there was one.

    Raises:
        DatabaseUnavailable: none can be taken now.
    """
    claim = store.claim(worker_name(), settings.lease_seconds)
    if claim is None:
        return False
    with _limits(claim, settings):
        runner.run(claim, store, settings, stop, slice_seconds=slice_seconds)
    return True


@contextmanager
def _limits(claim: Claim, settings: Settings) -> Iterator[None]:
    """Have the kernel enforce the limits of a job, even in machine code that nothing else interrupts.

    Memory beyond the limit raises MemoryError; SIGALRM, which nothing handles, ends the process and tells the
    supervisor why.
    """
    limits = _, most = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted = held + settings.limits["job_memory"]
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    signal.setitimer(signal.ITIMER_REAL, max(runner.seconds_left(claim, settings), 0) + OVERTIME_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
