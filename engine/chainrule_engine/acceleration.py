"""Which kernels run: those in machine code where they can be had, else the plain ones. The bits are the same.

Compiling takes some seconds, so it never happens within an evaluation: `python -m chainrule_engine.warm` does it ahead,
and without that the kernels run in plain Python. CHAINRULE_ENGINE chooses otherwise: `python` never asks for Numba,
`compiled` insists on it, for every evaluation from the first on and whatever that takes.
"""

from __future__ import annotations

import importlib
import os
import threading
from types import ModuleType

#: Evaluations of a node at a point that plain Python does before the compiled kernels are loaded: about a second's.
PAYS_FROM = 1_000_000
#: A call with less work than this is done in plain Python before it could be handed over.
WORTH_A_CALL = 24

_lock = threading.Lock()
_compiled: ModuleType | None = None
_tried = False
_work = 0
_least = 0


def find(work: int) -> ModuleType | None:
    """Return `compiled.program`, or None where a call of so much work (nodes times points) is to run in Python."""
    global _work
    if _compiled is None:
        if _tried:
            return None
        _work += work
        insisting = _choice() == "compiled"
        if (not insisting and _work < PAYS_FROM) or not load(compiling=insisting):
            return None
    return _compiled if work >= _least else None


def load(*, compiling: bool = False) -> bool:
    """Load the compiled kernels, and return whether they will be used.

    compiling   also compile those that are not on disk. Without it they are left alone, until another call

    The service loads them before its workers start: these share the memory, and no request waits.
    """
    global _compiled, _tried, _least
    with _lock:
        if _compiled is None and _choice() != "python" and (compiling or not _tried):
            _tried = True
            try:
                cache = importlib.import_module("chainrule_engine.compiled.cache")
                if compiling or cache.is_on_disk():
                    # Not before: these compile what they are made of when they are imported.
                    program = importlib.import_module("chainrule_engine.compiled.program")
                    program.prepare()
                    _compiled = program
                    _least = 0 if _choice() == "compiled" else WORTH_A_CALL
            except (ImportError, OSError, RuntimeError):
                # No Numba, or no folder in which it may keep what it compiles.
                if _choice() == "compiled":
                    raise
        return _compiled is not None


def _choice() -> str | None:
    return os.environ.get("CHAINRULE_ENGINE")
