"""The worker behind `chainrule xqueue-worker`: pulls a submission, has it graded, puts the result back.

A submission may come twice: a grading is a pure function of task and answers, so it gets the same result. What cannot
be graded because something is broken is not answered: the queue serves it again after some minutes. A submission that
fails time and again by itself (its task is missing or wrong, or the worker does not survive it) is given up: it goes to
the list of dead letters, and back to the queue without a score, which lets the queue go on to the next. While the
grading service or the queue is away, no submission is to blame.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ._errors import APIConnectionError, APIResponseError, APIStatusError, APITimeoutError, ChainruleError
from ._files import read_json, write
from ._xqueue import Pulled, QueueError, Refused, Superseded, Unreadable, XQueue

#: Returns the body of the result, given the task, the student's text and the id of the submission.
Grade = Callable[[Any, str, str], str]

ATTEMPTS = 5  # of one submission, before it is a dead letter
TIMEOUTS = 20  # of one submission: the service may be what hangs, and then no submission is to blame
PUTS = 5  # of one result, before it is left to the next time that the submission comes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
_REMEMBERED = 10_000  # submissions; beyond, the one that failed the longest ago is forgotten
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}")
#: What a service says of one request. Any other status keeps every submission from being graded: a proxy that finds no
#: service behind it, an address that is not the service's, a key that is not good.
_ITS_OWN = (400, 413, 422, 500)
#: What is put for a submission that is given up. edx-submissions cannot record a score that is null: it moves the
#: submission to the back of the queue, and after five such results marks it `failed`, which staff can undo. The
#: deprecated server of xqueue hands it on, as no points.
_GIVEN_UP = json.dumps(
    {
        "correct": False,
        "score": None,
        "msg": "<div><p>The grader failed, and your answers have not been graded. This is not about your answers. "
        "The course staff is told.</p></div>",
    }
)

_log = logging.getLogger(__name__)


class TaskMissing(ValueError):
    """There is no task of this name, or it cannot be read."""


class Tasks:
    """The tasks in a folder, by name; each is read again when its file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve(strict=True)
        self._read: dict[Path, tuple[tuple[int, int], Any]] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the task `name`, from the file NAME or NAME.json; a folder's tasks are named `week1/q3`.

        Raises:
            TaskMissing: the folder has no such file, or what it holds is no JSON.
        """
        parts = name.split("/")
        if not all(_NAME.fullmatch(part) for part in parts):
            raise TaskMissing(f"{name[:100]!r} is no name of a task: letters, digits and . _ - in parts between /")
        place = self._folder.joinpath(*parts)
        for path in (place, place.with_name(f"{place.name}.json")):
            # A link may lead to another file of the folder, and nowhere else.
            if path.is_file() and path.resolve().is_relative_to(self._folder):
                return self._load(path)
        raise TaskMissing(f"there is no task {name!r} in {self._folder}")

    def _load(self, path: Path) -> Any:
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size)
            seen = self._read.get(path)
            if seen is None or seen[0] != state:
                seen = self._read[path] = (state, read_json(str(path)))
        except (ValueError, OSError) as error:
            raise TaskMissing(str(error)) from None
        return seen[1]


class DeadLetters:
    """The submissions that are given up, one JSON object on each line of a file; without a file, in memory.

    Who mends a task takes its lines out of the file, or removes the file: they are graded when they are served again.
    As long as they are listed, they are given back without a score whenever they are served.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._state: tuple[int, int] | None = None
        self._ids: set[str] = set()

    def __contains__(self, submission: str) -> bool:
        self._look()
        return submission in self._ids

    def add(self, letter: dict[str, Any]) -> None:
        """Add one, and have it on the disk."""
        self._ids.add(letter["submission"])
        if self._file is None:
            return
        line = json.dumps(letter, ensure_ascii=False) + "\n"
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _look(self) -> None:
        if self._file is None:
            return
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._state, self._ids = None, set()
            return
        state = (found.st_mtime_ns, found.st_size)
        if state != self._state:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
            self._state, self._ids = state, {name for line in lines if (name := _submission_of(line))}


def _submission_of(line: str) -> str:
    try:
        return str(json.loads(line)["submission"])
    except (ValueError, LookupError, TypeError):
        return ""


@dataclass
class Tried:
    """What has become of the attempts at a submission that is not answered.

    Attributes:
        begun: those that failed by its own fault, that are at hand, or that the worker did not survive.
        timeouts: those to which the service gave no answer in time.
    """

    begun: int = 0
    timeouts: int = 0


class Attempts:
    """How often each submission was tried: a small file for each that is at hand or has failed; or in memory.

    It is written before an attempt, so that it holds when the attempt ends the process, and for the next process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._tried: OrderedDict[str, Tried] = OrderedDict()

    def __getitem__(self, submission: str) -> Tried:
        if self._folder is None:
            return self._tried.get(submission, Tried())
        try:
            data = read_json(str(self._file(submission)))
            return Tried(int(data["begun"]), int(data["timeouts"]))
        except (OSError, ValueError, LookupError, TypeError):
            return Tried()

    def __setitem__(self, submission: str, tried: Tried) -> None:
        if tried == Tried():
            del self[submission]
        elif self._folder is None:
            self._tried[submission] = tried
            if len(self._tried) > _REMEMBERED:
                self._tried.popitem(last=False)
        else:
            write(str(self._file(submission)), json.dumps({"submission": submission, **vars(tried)}).encode())

    def __delitem__(self, submission: str) -> None:
        if self._folder is None:
            self._tried.pop(submission, None)
        else:
            self._file(submission).unlink(missing_ok=True)

    def _file(self, submission: str) -> Path:
        assert self._folder is not None
        # Whatever the queue calls a submission, this leads nowhere else.
        return self._folder / f"{hashlib.sha256(submission.encode(errors='replace')).hexdigest()[:32]}.json"


@dataclass
class Counts:
    """What a worker has done."""

    graded: int = 0
    failed: int = 0
    dead: int = 0
    troubles: int = 0


@dataclass
class Worker:
    """Grades what comes from one queue, one submission after another.

    Attributes:
        queue: where submissions come from.
        tasks: the tasks that they answer.
        grade: what makes the result.
        dead: those that are given up.
        tried: how often the others were tried.
        idle: seconds between two questions to an empty queue, at most.
        attempts: after how many failures of its own a submission is given up.
        timeouts: after how many attempts that took the service too long it is.
        stop: set from outside; the submission at hand is finished first.
    """

    queue: XQueue
    tasks: Tasks
    grade: Grade
    dead: DeadLetters
    tried: Attempts = field(default_factory=lambda: Attempts(None))
    idle: float = 5.0
    attempts: int = ATTEMPTS
    timeouts: int = TIMEOUTS
    stop: threading.Event = field(default_factory=threading.Event)
    counts: Counts = field(default_factory=Counts)
    jitter: Callable[[], float] = random.random
    _held: OrderedDict[str, float] = field(default_factory=OrderedDict)  # until when those are that have just failed

    def run(self, *, once: bool = False) -> Counts:
        """Work until `stop` is set; with `once`, until the queue is empty or away, or serves a submission again.

        There is no pause while there is something new. Then each is longer than the one before, up to a bound, until a
        submission is answered.
        """
        pauses = 0
        seen: set[str] = set()  # since the last pause
        while not self.stop.is_set():
            longest = LONGEST_PAUSE
            try:
                pulled = self.queue.take()
                if pulled is None:
                    longest = self.idle
                elif pulled.id not in seen and len(seen) < _REMEMBERED:
                    seen.add(pulled.id)
                    if self._process(pulled):
                        pauses = 0
                    continue
            except Unreadable as error:
                if error.submission not in seen:
                    seen.add(error.submission)
                    self._process_unreadable(error)
                    continue
            except (QueueError, ChainruleError, OSError) as error:
                self.counts.troubles += 1
                _log.warning("nothing can be graded now: %s", _one_line(error))
            if once:
                break
            pauses += 1
            self._pause(pauses, longest)
            seen.clear()
        return self.counts

    def _pause(self, count: int, longest: float) -> None:
        # The exponent is bounded first: 2**count has no largest value of its own.
        self.stop.wait(min(FIRST_PAUSE * 2.0 ** min(count - 1, 10), longest) * (1.0 - 0.5 * self.jitter()))

    def _process(self, pulled: Pulled) -> bool:
        """Grade a submission and return whether it was answered.

        Raises:
            QueueError, ChainruleError, OSError: the queue, what grades or the disk is away: no submission is to blame.
        """
        if self._is_left(pulled.id, pulled.header):
            return False
        before = self.tried[pulled.id]
        if before.begun >= self.attempts:
            self._give_up(pulled.id, pulled.header, pulled.grader, "the worker did not survive the last attempt")
            return False
        self.tried[pulled.id] = replace(before, begun=before.begun + 1)
        try:
            body = self.grade(self.tasks[pulled.grader], pulled.response, pulled.id)
            check_result(body)
            self._put(pulled.header, body)
        except Superseded as error:
            _log.info("submission %s: somebody else has answered it (%s)", pulled.id, error)
        except Exception as error:  # whatever it is, the next submission may do without it
            if isinstance(error, QueueError) or _is_everybodys(error):
                now = replace(before, timeouts=before.timeouts + isinstance(error, APITimeoutError))
                self.tried[pulled.id] = now
                if now.timeouts < self.timeouts:
                    raise
                self.counts.failed += 1
                reason = f"{now.timeouts} times the service gave no answer in time: {_one_line(error)}"
                self._give_up(pulled.id, pulled.header, pulled.grader, reason)
                return False
            _log.debug("submission %s", pulled.id, exc_info=True)
            self._failed(pulled.id, pulled.header, pulled.grader, _one_line(error), before.begun + 1)
            return False
        else:
            self.counts.graded += 1
            _log.info("submission %s: graded by %s", pulled.id, pulled.grader)
        del self.tried[pulled.id]
        self._held.pop(pulled.id, None)
        return True

    def _process_unreadable(self, error: Unreadable) -> None:
        if not self._is_left(error.submission, error.header):
            before = self.tried[error.submission]
            now = replace(before, begun=before.begun + 1)
            self.tried[error.submission] = now
            self._failed(error.submission, error.header, "", str(error), now.begun)

    def _is_left(self, submission: str, header: str) -> bool:
        """Tell whether a submission is not to be graded: it is given up, or has failed just now."""
        if submission in self.dead:
            self._end(submission, header)
            return True
        return time.monotonic() < self._held.get(submission, 0.0)

    def _end(self, submission: str, header: str) -> None:
        """Give a submission back without a score: else edx-submissions would serve nothing that came later."""
        if not header:
            _log.error(
                "submission %s: NOT GRADED, and it names nothing to give back; delete it in the queue", submission
            )
            return
        try:
            self._put(header, _GIVEN_UP)
        except Refused as error:
            _log.error("submission %s: NOT GRADED, and the queue does not take it back: %s", submission, error)
        else:
            _log.error("submission %s: NOT GRADED, a dead letter: given back without a score", submission)

    def _put(self, header: str, body: str) -> None:
        attempt = 1
        while True:
            try:
                return self.queue.put(header, body)
            except QueueError as error:
                if attempt == PUTS or self.stop.is_set():
                    raise
                _log.warning("the result could not be given back: %s", error)
            self._pause(attempt, LONGEST_PAUSE)
            attempt += 1

    def _failed(self, submission: str, header: str, grader: str, reason: str, attempt: int) -> None:
        self.counts.failed += 1
        _log.error("submission %s, attempt %d: %s", submission, attempt, reason)
        if attempt >= self.attempts:
            self._give_up(submission, header, grader, reason)
            return
        self._held.pop(submission, None)
        self._held[submission] = time.monotonic() + min(FIRST_PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)
        if len(self._held) > _REMEMBERED:
            self._held.popitem(last=False)

    def _give_up(self, submission: str, header: str, grader: str, reason: str) -> None:
        self.counts.dead += 1
        _log.error("submission %s is given up: %s", submission, reason)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.dead.add(
            {"time": moment, "queue": self.queue.queue, "submission": submission, "grader": grader, "reason": reason}
        )
        del self.tried[submission]  # who takes it off the list wants it tried anew
        self._held.pop(submission, None)
        self._end(submission, header)


def check_result(body: str) -> None:
    """Refuse a result that Open edX would drop without a word.

    It stores the score in a column of whole numbers from 0, and reads `msg` as XML.

    Raises:
        ValueError: the body is no such result.
    """
    result = json.loads(body)
    if not isinstance(result, dict) or type(result.get("correct")) is not bool:
        raise ValueError("the result has no `correct` that is true or false")
    if type(result.get("score")) is not int or result["score"] < 0:
        raise ValueError("the result has no `score` that is a whole number from 0")
    try:
        ElementTree.fromstring(result["msg"])
    except (ElementTree.ParseError, LookupError, TypeError, ValueError):
        raise ValueError("the message of the result is not well-formed XML") from None


def _is_everybodys(error: Exception) -> bool:
    """Tell whether it keeps every submission from being graded, not this one."""
    if isinstance(error, APIStatusError):
        return error.status not in _ITS_OWN
    return isinstance(error, APIConnectionError | APIResponseError)


def _one_line(error: Exception) -> str:
    if isinstance(error, APIStatusError):
        return "; ".join(filter(None, [error.problem.detail or error.problem.title, *map(str, error.problem.errors)]))
    return " ".join(str(error).split())[:500]
