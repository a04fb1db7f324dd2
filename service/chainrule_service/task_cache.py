"""The tasks that were read last, so that the next submission of one costs no reading and no right answers."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Task = TypeVar("Task")

#: So many tasks are remembered, made of so much text together.
_TASKS, _BYTES = 256, 32 << 20


class TaskCache(Generic[Task]):
    """Tasks by the text that they are read from; the one that was used the longest ago goes first.

    Safe to use from many threads. Who asks for a task while another reads it waits, and reads nothing.

    Args:
        most: how many are remembered.
        size: of how many bytes of text together; one that is longer by itself is not remembered.
    """

    def __init__(self, most: int = _TASKS, size: int = _BYTES) -> None:
        self._most, self._size, self._held = most, size, 0
        self._entries: OrderedDict[bytes, _Entry[Task]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: bytes, read: Callable[[], Task]) -> Task:
        """Return the task of a text; `read` is called where it is not remembered, and may raise."""
        key = hashlib.sha256(text).digest()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(len(text))
                self._held += entry.size
            self._entries.move_to_end(key)
            while len(self._entries) > self._most or self._held > self._size:
                self._forget(next(iter(self._entries)))
        with entry.lock:
            if not entry.read:
                try:
                    entry.read = (read(),)
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            self._forget(key)
                    raise
            return entry.read[0]

    def __len__(self) -> int:
        return len(self._entries)

    def _forget(self, key: bytes) -> None:
        self._held -= self._entries.pop(key).size


@dataclass(eq=False, slots=True)
class _Entry(Generic[Task]):
    size: int
    read: tuple[Task] | tuple[()] = ()  # the task, once it is read
    lock: threading.Lock = field(default_factory=threading.Lock)
