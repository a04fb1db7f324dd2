"""The supervisor: one process that starts the others, starts anew whichever dies, and ends them all together."""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from chainrule_service.runner import time_limit
from chainrule_service.settings import Settings
from chainrule_service.upkeep import Reports

#: How often the number of job workers is reported.
REPORT_SECONDS = 2.0
#: A child that dies is started anew after the first; each time that it lives for less than STEADY seconds, after twice
#: as long as the last time.
RESTART_SECONDS, SLOWEST_RESTART, STEADY = 0.05, 5.0, 5.0
#: Children that have not ended so long after they were told to are killed. gunicorn gives requests up to 60 s.
GRACE = 65.0
#: After all others have ended, the process of upkeep has so long for the last leases.
LAST_SECONDS = 5.0

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
    works: bool = False  # it runs jobs of the queue

    def is_steady(self) -> bool:
        """Tell whether it runs, or will at once: one that dies again and again does not count until it has lived."""
        return self.delay <= RESTART_SECONDS or (self.pid != 0 and time.monotonic() - self.started > STEADY)


class Supervisor:
    """Keeps children running until it is told to end, and the process of upkeep until all others have ended.

    It opens no connection to the database, so none can keep it from its children. The leases of a child that dies end
    at once, so that another takes its job over without waiting. What happens on SIGTERM and SIGINT is up to the
    children, who get them as well; SIGHUP is for them alone: they end, and are started anew.

    Args:
        settings: the limits.
        reports: how the process of upkeep learns what it must know.
        upkeep: that process, which ends after the last report.
        children: the processes; they are forked from this one, and so share the memory of what it has loaded.
        at_end: called as soon as the end begins.
    """

    def __init__(
        self,
        settings: Settings,
        reports: Reports,
        upkeep: Child,
        children: Iterable[Child],
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings, self._reports, self._children, self._at_end = settings, reports, list(children), at_end
        self._upkeep = upkeep
        self._wake: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ends: float | None = None  # when what still runs is killed

    def run(self) -> int:
        """Run until the end, and return the exit status."""
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._handle)
        while self._ends is None or any(child.pid for child in self._children):
            self._reap()
            self._start_due([self._upkeep] if self._ends else [self._upkeep, *self._children])
            if self._ends is None:
                self._reports.working(sum(child.works and child.is_steady() for child in self._children))
            elif time.monotonic() > self._ends:
                self._tell(signal.SIGKILL)
            if self._ends is None or any(child.pid for child in self._children):
                self._wait()
        self._end_upkeep()
        return 0

    def _handle(self, number: int, _: object) -> None:
        """Pass a signal on, whatever this process is doing."""
        if number != signal.SIGCHLD:
            if number != signal.SIGHUP and self._ends is None:
                self._ends = time.monotonic() + GRACE
                self._at_end()
            self._tell(number)
        self._wake.put(number)

    def _tell(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)

    def _start_due(self, children: Iterable[Child]) -> None:
        for child in children:
            with _signals_held_back():
                if self._ends is not None and child is not self._upkeep:
                    return
                if not child.pid and child.due <= time.monotonic():
                    child.pid, child.started = _fork(child.run), time.monotonic()

    def _reap(self) -> None:
        # Of all children: as the first process of a container this one inherits those of a gunicorn that died.
        with suppress(ChildProcessError), _signals_held_back():
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                alarm = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
                failure = time_limit(self._settings) if alarm else None
                self._reports.died(pid, f"the process {cause_of_death(status)}", failure)
                for child in (self._upkeep, *self._children):
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

    def _wait(self) -> None:
        """Wait until a child dies, a signal comes, or something is due."""
        now = time.monotonic()
        due = [child.due for child in self._children if not child.pid] if self._ends is None else [self._ends]
        due += [] if self._upkeep.pid else [self._upkeep.due]
        with suppress(queue.Empty):
            self._wake.get(timeout=max(min([now + REPORT_SECONDS, *due]) - now, 0))
            while True:
                self._wake.get_nowait()

    def _end_upkeep(self) -> None:
        """Let the leases of those that died last be ended, unless the database is stuck."""
        self._reports.last()
        ends = time.monotonic() + LAST_SECONDS
        while self._upkeep.pid and time.monotonic() < ends:
            self._reap()
            with suppress(queue.Empty):
                self._wake.get(timeout=0.1)
        if self._upkeep.pid:
            os.kill(self._upkeep.pid, signal.SIGKILL)
            os.waitpid(self._upkeep.pid, 0)
        self._reports.close()


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


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let signals wait for the end of the block: what its handler reads about the children is then whole."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _fork(run: Callable[[], object]) -> int:
    """Fork a process that does nothing but `run`, and return its id; signals must be held back.

    One that came before the child has handlers of its own would be handled by its copy of ours.
    """
    parent = os.getpid()
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
