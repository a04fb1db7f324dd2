"""The worker behind `chainrule xqueue-worker`: pulls a submission, has it graded, puts the result back.

A submission may come twice: a grading is a pure function of task and answers, so it gets the same result. What cannot
be graded because something is broken is never answered: the queue serves it again after some minutes. A submission that
fails time and again by itself (its task is missing or wrong) goes to the list of dead letters, and is left alone until
somebody takes it off; while the grading service or the queue is away, no submission is to blame.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ._errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    PermissionDeniedError,
    RateLimitError,
    ServiceUnavailableError,
)
from ._files import read_json
from ._xqueue import Pulled, QueueError, Superseded, Unreadable, XQueue

#: Returns the body of the result, given the task, the student's text and the id of the submission.
Grade = Callable[[Any, str, str], str]

ATTEMPTS = 5  # of one submission, before it is a dead letter
PUTS = 5  # of one result, before it is left to the next time that the submission comes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
_REMEMBERED = 10_000  # submissions; beyond, the one that failed the longest ago is forgotten
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}")
#: What keeps every submission from being graded, not this one.
_EVERYBODYS = (
    APIConnectionError, AuthenticationError, PermissionDeniedError, RateLimitError, ServiceUnavailableError,
)  # fmt: skip

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
            lines = self._file.read_text(encoding="utf-8").splitlines()
            self._state, self._ids = state, {name for line in lines if (name := _submission_of(line))}


def _submission_of(line: str) -> str:
    try:
        return str(json.loads(line)["submission"])
    except (ValueError, LookupError, TypeError):
        return ""


@dataclass
class Counts:
    """What a worker has done."""

    graded: int = 0
    failed: int = 0
    dead: int = 0
    troubles: int = 0


@dataclass
class _Failure:
    attempts: int = 0
    again_at: float = 0.0


@dataclass
class Worker:
    """Grades what comes from one queue, one submission after another.

    Attributes:
        queue: where submissions come from.
        tasks: the tasks that they answer.
        grade: what makes the result.
        dead: those that are given up.
        idle: seconds between two questions to an empty queue, at most.
        attempts: after how many failures of its own a submission is given up.
        stop: set from outside; the submission at hand is finished first.
    """

    queue: XQueue
    tasks: Tasks
    grade: Grade
    dead: DeadLetters
    idle: float = 5.0
    attempts: int = ATTEMPTS
    stop: threading.Event = field(default_factory=threading.Event)
    counts: Counts = field(default_factory=Counts)
    jitter: Callable[[], float] = random.random
    _failures: OrderedDict[str, _Failure] = field(default_factory=OrderedDict)

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
                    if not self._is_held(error.submission):
                        self._failed(error.submission, "", str(error))
                    continue
            except (QueueError, *_EVERYBODYS) as error:
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
            QueueError, ChainruleError: the queue, or what grades, is away: no submission is to blame.
        """
        if self._is_held(pulled.id):
            return False
        try:
            body = self.grade(self.tasks[pulled.grader], pulled.response, pulled.id)
            check_result(body)
            self._put(pulled.header, body)
        except Superseded as error:
            _log.info("submission %s: somebody else has answered it (%s)", pulled.id, error)
        except (QueueError, *_EVERYBODYS):
            raise
        except Exception as error:  # whatever it is, the next submission may do without it
            _log.debug("submission %s", pulled.id, exc_info=True)
            self._failed(pulled.id, pulled.grader, _one_line(error))
            return False
        else:
            self.counts.graded += 1
            _log.info("submission %s: graded by %s", pulled.id, pulled.grader)
        self._failures.pop(pulled.id, None)
        return True

    def _is_held(self, submission: str) -> bool:
        """Tell whether a submission is given up, or has failed just now: the queue may serve it at once again."""
        failure = self._failures.get(submission)
        return submission in self.dead or (failure is not None and time.monotonic() < failure.again_at)

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

    def _failed(self, submission: str, grader: str, reason: str) -> None:
        failure = self._failures.pop(submission, _Failure())
        failure.attempts += 1
        failure.again_at = time.monotonic() + min(FIRST_PAUSE * 2.0 ** min(failure.attempts, 10), LONGEST_PAUSE)
        self.counts.failed += 1
        _log.error("submission %s, attempt %d: %s", submission or "without an id", failure.attempts, reason)
        if failure.attempts < self.attempts:
            self._failures[submission] = failure
            if len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)
            return
        self.counts.dead += 1
        _log.error("submission %s is given up", submission)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.dead.add(
            {"time": moment, "queue": self.queue.queue, "submission": submission, "grader": grader, "reason": reason}
        )


def check_result(body: str) -> None:
    """Refuse a result that Open edX would drop without a word.

    It stores the score in an integer column, and reads `msg` as XML.

    Raises:
        ValueError: the body is no such result.
    """
    result = json.loads(body)
    if not isinstance(result, dict) or type(result.get("correct")) is not bool or type(result.get("score")) is not int:
        raise ValueError("the result has no `correct` that is true or false, or no `score` that is a whole number")
    try:
        ElementTree.fromstring(result["msg"])
    except (ElementTree.ParseError, LookupError, TypeError, ValueError):
        raise ValueError("the message of the result is not well-formed XML") from None


def _one_line(error: Exception) -> str:
    if isinstance(error, APIStatusError):
        return "; ".join(filter(None, [error.problem.detail or error.problem.title, *map(str, error.problem.errors)]))
    return " ".join(str(error).split())[:500]
