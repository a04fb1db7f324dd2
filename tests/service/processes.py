"""The processes of this machine, as Linux shows them."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the children of a process; none if it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def in_sessions(sessions: Container[int]) -> list[int]:
    """Return the processes of some sessions that have not ended."""
    return [pid for name in os.listdir("/proc") if name.isdigit() and _session(pid := int(name)) in sessions]


def _session(pid: int) -> int | None:
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(session)
