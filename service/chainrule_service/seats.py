"""Places for requests that wait for something to happen: each holds a thread of the server meanwhile."""

from __future__ import annotations

import threading
from collections import Counter


class Seats:
    """So many places, shared by all callers: nobody gets one more than there are left for others.

    One alone gets half of them, and whoever comes next finds some; that is the rule of dynamic thresholds, by which
    switches share their memory among queues (Choudhury and Hahne, 1998). Callers without a name are not told apart, and
    have whatever is free.
    """

    def __init__(self, number: int) -> None:
        self.free = number
        self._taken = Counter[str]()
        self._lock = threading.Lock()

    def take(self, caller: str) -> bool:
        """Take a place, and return whether there was one for this caller."""
        with self._lock:
            if not self.free or (caller and self._taken[caller] >= self.free):
                return False
            self.free -= 1
            self._taken[caller] += 1
            return True

    def leave(self, caller: str) -> None:
        """Give a place back that this caller has."""
        with self._lock:
            self.free += 1
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]
