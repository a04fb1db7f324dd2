"""The one JSON text of some data, which digests are taken of."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def canonical(data: object) -> str:
    """Return the JSON text of `data`: keys sorted, no spaces, ASCII alone.

    Equal data gives equal bytes on every machine. Raises ValueError for a number that is not finite (see `wire`).
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: object) -> str:
    """Return `sha256:` and the hexadecimal SHA-256 of the canonical text."""
    return _digest(canonical(data))


def digest_of_anything(data: object) -> str | None:
    """Return the digest of data that nobody has checked; None where it is no JSON, or nested too deeply for any."""
    try:
        return _digest(json.dumps(data, sort_keys=True, separators=(",", ":")))
    except (TypeError, ValueError, RecursionError):
        return None


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
