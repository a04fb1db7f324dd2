"""Server-sent events: from the pieces of an answer to its events (HTML standard, section 9.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event; `id` is the last one that was said, and `data` what its JSON holds."""

    name: str
    id: str
    data: Any


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Go through the events of an answer whose body comes in `pieces`, cut anywhere."""
    name, last = "", ""
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield Event(name or "message", last, json.loads("\n".join(data)))
            name, data = "", []
            continue
        word, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if word == "event":
            name = value
        elif word == "id":
            last = value
        elif word == "data":
            data.append(value)  # every other field, and a comment, which has none, means nothing here


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Cut at line feeds alone, which is how the service writes: a piece may end within a character."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode().removesuffix("\r")
