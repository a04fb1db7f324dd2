"""Which kernels run: those in machine code where they can be had, else the plain ones. The bits are the same.

Compiling takes most of a minute, so it never happens within an evaluation: `python -m chainrule_engine.warm` does it
ahead, and without that the kernels run in plain Python. CHAINRULE_ENGINE chooses otherwise: `python` never asks for
Numba, `compiled` insists on it, for every evaluation from the first on and whatever that takes. Where nobody insists,
whatever is wrong with Numba or with what is on disk is logged, and plain Python computes.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from contextlib import nullcontext
from types import ModuleType

#: Evaluations of a node at a point that plain Python does before the compiled kernels are loaded: about a second's.
PAYS_FROM = 1_000_000
#: A call with less work than this is done in plain Python before it could be handed over.
WORTH_A_CALL = 24

VARIABLE = "CHAINRULE_ENGINE"

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_compiled: ModuleType | None = None
_tried = False
_reason = ""
_work = 0
_least = 0


def find(work: int) -> ModuleType | None:
    """Return `compiled.program`, or None where a call of so much work (nodes times points) is to run in Python."""
    global _work
    if _compiled is None:
        if _tried:
            return None
        _work += work
        if (_work < PAYS_FROM and choice() != "compiled") or not load():
            return None
    return _compiled if work >= _least else None


def find_training(work: int) -> ModuleType | None:
    """Return `compiled.training` where `find` would return the kernels for so much work."""
    return None if find(work) is None else importlib.import_module("chainrule_engine.compiled.training")


def load(*, compiling: bool = False) -> bool:
    """Load the compiled kernels, and return whether they will be used; `reason` tells why not.

    compiling   also compile those that are not on disk, as where CHAINRULE_ENGINE is `compiled`. Without it they are
                left alone, until another call

    The service loads them before its workers start: these share the memory, and no request waits.

    Raises:
        ValueError: CHAINRULE_ENGINE has a value that says nothing.
        Exception: any that comes from Numba, where CHAINRULE_ENGINE is `compiled`.
    """
    global _compiled, _tried, _reason, _least
    with _lock:
        chosen = choice()
        compiling = compiling or chosen == "compiled"
        if chosen == "python":
            _reason = f"{VARIABLE} is python"
        elif _compiled is None and (compiling or not _tried):
            _tried = True
            try:
                _compiled = _load(compiling)
                _least = 0 if chosen == "compiled" else WORTH_A_CALL
                _reason = "" if _compiled else "they are not compiled; python -m chainrule_engine.warm does it"
            except Exception as error:  # whatever Numba, or a damaged file, comes up with
                absent = error.name if isinstance(error, ModuleNotFoundError) else None
                optional = absent in ("numba", "numpy")
                _reason = f"{absent} is not installed" if optional else f"{type(error).__name__}: {error}"
                if chosen == "compiled":
                    raise
                if not optional:
                    _log.warning("the compiled kernels cannot be used (%s)", _reason)
        return _compiled is not None


def _load(compiling: bool) -> ModuleType | None:
    cache = importlib.import_module("chainrule_engine.compiled.cache")
    ready = cache.is_on_disk()
    if not compiling and not ready:
        return None
    with nullcontext() if ready else cache.taking_turns():
        # Not before: these compile what they are made of when they are imported.
        importlib.import_module("chainrule_engine.compiled.training").prepare()
        program = importlib.import_module("chainrule_engine.compiled.program")
        program.prepare()
    return program


def reason() -> str:
    """Return why evaluations run in plain Python, after `load` said so."""
    return _reason


def choice() -> str | None:
    """Return what CHAINRULE_ENGINE asks for: `python`, `compiled`, or None for whatever is there.

    Raises:
        ValueError: it is something else.
    """
    chosen = os.environ.get(VARIABLE) or None
    if chosen not in (None, "python", "compiled"):
        raise ValueError(f"{VARIABLE} must be python or compiled, or not be set, and is {chosen!r}")
    return chosen
