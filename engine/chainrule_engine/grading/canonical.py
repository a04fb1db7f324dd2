"""The one JSON text of some data, which digests are taken of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

#: So many pieces tell data apart that is no JSON; those that hold themselves have no end.
_PIECES = 100_000


def canonical(data: object) -> str:
    """Return the JSON text of `data`: keys sorted, no spaces, ASCII alone.

    Equal data gives equal bytes on every machine. Raises ValueError for a number that is not finite (see `wire`).
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: object) -> str:
    """Return `sha256:` and the hexadecimal SHA-256 of the canonical text."""
    return _digest(canonical(data))


def digest_of_anything(data: object) -> str:
    """Return the digest of data that nobody has checked.

    Where it is no JSON, or nested too deeply for any, that of its first pieces, of which objects of other types are
    told by these alone.
    """
    try:
        return _digest(json.dumps(data, sort_keys=True, separators=(",", ":")))
    except (TypeError, ValueError, RecursionError):
        return _digest("\n".join(["no JSON", *islice(_pieces(data), _PIECES)]))


def _pieces(data: object) -> Iterator[str]:
    """Yield what data is made of, without recursion."""
    todo: list[Iterator[Any]] = [iter([data])]
    while todo:
        for entry in todo[-1]:
            if isinstance(entry, dict):
                names = sorted(entry, key=_piece)
                yield f"object {len(names)} {' '.join(map(_piece, names))}"
                todo.append(iter([entry[name] for name in names]))
                break
            if isinstance(entry, list | tuple):
                yield f"list {len(entry)}"
                todo.append(iter(entry))
                break
            yield _piece(entry)
        else:
            todo.pop()


def _piece(entry: object) -> str:
    if isinstance(entry, int):
        return hex(entry)  # in decimals there is a bound
    return ascii(entry) if entry is None or isinstance(entry, float | str) else type(entry).__name__


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def wire(numbers: Any) -> Any:
    """Return numbers, in lists and objects of bounded depth, as they are sent: infinities and NaN are words."""
    if isinstance(numbers, float):
        if math.isfinite(numbers):
            return numbers
        return "NaN" if numbers != numbers else "Infinity" if numbers > 0.0 else "-Infinity"
    if isinstance(numbers, list | tuple):
        return [wire(number) for number in numbers]
    if isinstance(numbers, dict):
        return {name: wire(number) for name, number in numbers.items()}
    return numbers
