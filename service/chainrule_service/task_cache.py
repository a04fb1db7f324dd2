"""The tasks that were read last, so that the next submission of one costs no reading and no right answers."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Task = TypeVar("Task")

#: So many tasks are remembered, of so many bytes together; one of them has at most such a part of these.
_TASKS, _BYTES, _PART = 256, 256 << 20, 4


class TaskCache(Generic[Task]):
    """Tasks by the text that they are read from; the one that was used the longest ago goes first.

    Safe to use from many threads. Who asks for a task while another reads it waits, and reads nothing.

    Args:
        weigh: tells how many bytes a task will hold on to, besides its text.
        most: how many are remembered.
        size: of how many bytes together.
        largest: of how many bytes one; a larger one is not remembered, and nothing is forgotten for it.
    """

    def __init__(
        self,
        weigh: Callable[[Task], int] = lambda task: 0,
        *,
        most: int = _TASKS,
        size: int = _BYTES,
        largest: int = _BYTES // _PART,
    ) -> None:
        self._weigh, self._most, self._size, self._largest, self._held = weigh, most, size, largest, 0
        self._entries: OrderedDict[bytes, _Entry[Task]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: bytes, read: Callable[[], Task]) -> Task:
        """Return the task of a text; `read` is called where it is not remembered, and may raise."""
        key = hashlib.sha256(text).digest()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
            self._entries.move_to_end(key)
        with entry.lock:
            if not entry.read:
                try:
                    entry.read = (read(),)
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            self._forget(key)
                    raise
                self._keep(key, entry, len(text) + self._weigh(entry.read[0]))
            return entry.read[0]

    def __len__(self) -> int:
        return len(self._entries)

    def _keep(self, key: bytes, entry: _Entry[Task], size: int) -> None:
        """Remember what has just been read, in the place of older ones; what is too large is forgotten itself."""
        with self._lock:
            if self._entries.get(key) is not entry:
                return
            if size > self._largest:
                self._forget(key)
                return
            entry.size = size
            self._held += size
            while len(self._entries) > self._most or self._held > self._size:
                self._forget(next(iter(self._entries)))

    def _forget(self, key: bytes) -> None:
        self._held -= self._entries.pop(key).size


@dataclass(eq=False, slots=True)
class _Entry(Generic[Task]):
    size: int = 0  # in bytes, once it is read
    read: tuple[Task] | tuple[()] = ()  # the task, once it is read
    lock: threading.Lock = field(default_factory=threading.Lock)
