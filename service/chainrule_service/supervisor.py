"""The supervisor: one process that starts the others, starts anew whichever dies, and ends them all together."""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from chainrule_service import workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.runner import time_limit
from chainrule_service.settings import Settings
from chainrule_service.store import Store, worker_name

SWEEP_SECONDS = 2.0
#: A child that dies is started anew after the first; each time that it lives for less than STEADY seconds, after twice
#: as long as the last time.
RESTART_SECONDS, SLOWEST_RESTART, STEADY = 0.05, 5.0, 5.0
#: Children that have not ended so long after they were told to are killed. gunicorn gives requests up to 60 s.
GRACE = 65.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)


@dataclass
class Child:
    """A process to keep running: `run` is all that it does."""

    name: str
    run: Callable[[], object]
    pid: int = 0  # 0 while it does not run
    started: float = 0.0
    delay: float = 0.0
    due: float = 0.0


class Supervisor:
    """Keeps children running until it is told to end; looks after the jobs table meanwhile.

    The leases of a child that dies end at once, so that another takes its job over without waiting. What happens on
    SIGTERM and SIGINT is up to the children, who get them as well; SIGHUP is for them alone: they end, and are started
    anew.

    Args:
        settings: the limits.
        store: the jobs table; no connection to it is open while a child is forked.
        children: the processes; they are forked from this one, and so share the memory of what it has loaded.
        at_end: called as soon as the end begins.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        children: Iterable[Child],
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings, self._store, self._children, self._at_end = settings, store, list(children), at_end
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._dead: dict[str, int] = {}  # what os.waitpid told of workers whose leases have not been ended yet
        self._ends: float | None = None  # when what still runs is killed
        self._swept = self._announced = float("-inf")

    def run(self) -> int:
        """Run until the end, and return the exit status."""
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda number, _: self._signals.put(number))
        while self._ends is None or any(child.pid for child in self._children):
            self._reap()
            self._end_leases()
            if self._ends is None:
                self._start_due()
                self._sweep()
            elif time.monotonic() > self._ends:
                self._tell(signal.SIGKILL)
            self._handle_signals()
        self._end_leases()
        with suppress(DatabaseUnavailable):
            workers.announce(self._store.database, worker_name(), 0)
        self._store.close()
        return 0

    def _start_due(self) -> None:
        for child in self._children:
            if not child.pid and child.due <= time.monotonic():
                self._store.close()  # its connections are this process's alone
                child.pid, child.started = _fork(child.run), time.monotonic()

    def _reap(self) -> None:
        # Of all children: as the first process of a container this one inherits those of a gunicorn that died.
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                self._dead[worker_name(pid)] = status
                for child in self._children:
                    if child.pid == pid:
                        self._note_end(child, status)

    def _note_end(self, child: Child, status: int) -> None:
        now = time.monotonic()
        steady = not child.delay or now - child.started > STEADY
        child.delay = RESTART_SECONDS if steady else min(2 * child.delay, SLOWEST_RESTART)
        child.due = now + child.delay
        if status and self._ends is None:
            _log.error("%s (process %s) %s", child.name, child.pid, cause_of_death(status))
        child.pid = 0

    def _end_leases(self) -> None:
        for worker, status in list(self._dead.items()):
            alarm = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            failure = time_limit(self._settings) if alarm else None
            try:
                self._store.expire_worker(worker, cause=f"the process {cause_of_death(status)}", failure=failure)
            except DatabaseUnavailable as error:
                _log.warning("the leases of %s cannot be ended now: %s", worker, error)
                break
            del self._dead[worker]

    def _sweep(self) -> None:
        if time.monotonic() < self._swept + SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        try:
            self._store.sweep()
            if self._settings.job_workers and time.monotonic() > self._announced + workers.ANNOUNCE_SECONDS:
                workers.announce(self._store.database, worker_name(), self._settings.job_workers)
                self._announced = time.monotonic()
        except DatabaseUnavailable as error:
            _log.warning("the jobs table cannot be swept now: %s", error)

    def _handle_signals(self) -> None:
        """Wait until a child dies, a signal comes, or something is due."""
        now = time.monotonic()
        due = [child.due for child in self._children if not child.pid] if self._ends is None else [self._ends]
        with suppress(queue.Empty):
            number = self._signals.get(timeout=max(min([now + SWEEP_SECONDS, *due]) - now, 0))
            while True:
                if number != signal.SIGCHLD:
                    if number != signal.SIGHUP and self._ends is None:
                        self._ends = time.monotonic() + GRACE
                        self._at_end()
                    self._tell(number)
                number = self._signals.get_nowait()

    def _tell(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)


def cause_of_death(status: int) -> str:
    """Return how a process ended, from what `os.waitpid` tells of it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


def end_with_parent(parent: int) -> None:
    """Have the kernel send this process SIGTERM when its parent ends, however that ends; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was faster
        os.kill(os.getpid(), signal.SIGTERM)


def _fork(run: Callable[[], object]) -> int:
    """Fork a process that does nothing but `run`, and return its id."""
    parent = os.getpid()
    # A signal that came before the child has handlers of its own would be noted in its copy of our queue, and lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            for number in (*_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            end_with_parent(parent)
            run()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            _log.exception("process %s", os.getpid())
        finally:
            # What the parent would do at its end is not for the child to do.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
