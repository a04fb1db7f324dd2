"""Waiting, in a request, for something that another process does: by looking again and again, for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from chainrule_service.database import DatabaseUnavailable
from chainrule_service.exchange import Service, owner

Seen = TypeVar("Seen")

#: The seconds between two looks: soon at first, for most jobs are short.
SHORTEST, LONGEST, GROWTH = 0.05, 0.25, 1.25


def pauses() -> Iterator[float]:
    """Go through the seconds to let pass before each further look."""
    pause = SHORTEST
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST)


def wait_for(
    seen: Seen, look: Callable[[], Seen], enough: Callable[[Seen], bool], seconds: float, shared: Service
) -> tuple[Seen, bool]:
    """Look again until it is enough, for so many seconds; return what was seen last and whether this was waited for.

    It is not where the server stops, where too many requests wait already, all or those of this caller, and where the
    database goes away meanwhile.
    """
    if enough(seen):
        return seen, True
    caller = owner()
    if not shared.seats.take(caller):
        return seen, False
    end = time.monotonic() + seconds
    try:
        for pause in pauses():
            left = end - time.monotonic()
            if left <= 0 or enough(seen):
                break
            if shared.draining.wait(min(pause, left)):
                return seen, False
            seen = look()
    except DatabaseUnavailable:
        return seen, False
    finally:
        shared.seats.leave(caller)
    return seen, True
