"""Kernels that Numba keeps on disk: where it would keep them, or in NUMBA_CACHE_DIR, in a folder for each fingerprint.

Numba notices a change of the file that a kernel stands in, and of no other; and when it does, it numbers that file's
kernels anew, so that an index that was written before the kernels themselves would name old ones. So the folder's name
holds a fingerprint of all the sources that the kernels are made of, and Numba's version, which numbers anew as well:
what is in the folder never changes its meaning. Every kernel refers to the fingerprint besides, which makes it a part
of its key wherever Numba is told to keep it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import caching
from numba.core.registry import cpu_target

from chainrule_engine import curvature, operations, optimisers, schedule
from chainrule_engine.elementary import basic, circular, exponential, powers

#: Whose functions and constants the kernels are made of.
MODULES = (basic, exponential, circular, powers, curvature, operations, optimisers, schedule)


def fingerprint(sources: Sequence[Path]) -> str:
    """Return a digest of the sources, one that changes with any of them."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


#: Of the table's modules, and of all that stands in this package.
FINGERPRINT = fingerprint(
    [Path(str(module.__file__)) for module in MODULES] + sorted(Path(__file__).parent.glob("*.py"))
)

#: Decorates a kernel, which must mention a variable of its enclosing function that holds FINGERPRINT.
kernel = njit(error_model="numpy", nogil=True, cache=True)

#: The folder of these sources' kernels, below the one that Numba would choose.
_FOLDER = f"chainrule-{FINGERPRINT[:16]}-{numba.__version__}"


class _OwnFolder:
    """What makes one of Numba's locators name our folder."""

    def get_cache_path(self) -> str:
        parent: Any = super()
        return str(Path(parent.get_cache_path()) / _FOLDER)


class _ImageCache(_OwnFolder, caching.UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR, which may be read-only once it is filled: Numba's own locator wants to write to it."""

    def ensure_cache_path(self) -> None:
        if not Path(self.get_cache_path()).is_dir():
            super().ensure_cache_path()


class _BesideTheSources(_OwnFolder, caching.InTreeCacheLocator):
    """The package's __pycache__, if it can be written."""


class _OfTheUser(_OwnFolder, caching.UserWideCacheLocator):
    """The user's own cache."""


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Make kernels within this, so that they are kept in our folder, and served from it where it cannot be written."""
    caching.CompileResultCacheImpl._locator_classes = [_ImageCache, _BesideTheSources, _OfTheUser]
    try:
        yield
    finally:
        del caching.CompileResultCacheImpl._locator_classes  # the base class has Numba's


with kept_on_disk():

    @kernel
    def _never_called() -> None:
        """Tells where Numba keeps what stands in this folder."""


def folder() -> Path:
    """Return the folder that holds the kernels."""
    return Path(_never_called.stats.cache_path)


def is_on_disk() -> bool:
    """Whether all kernels were compiled before: from these sources, by this Numba, for this processor."""
    return _note().exists()


def note_on_disk() -> None:
    """Note that all kernels are compiled, for `is_on_disk`."""
    if not is_on_disk():
        _note().touch()


def _note() -> Path:
    target = (FINGERPRINT, numba.__version__, sys.version, *cpu_target.target_context.codegen().magic_tuple())
    name = hashlib.sha256(repr(target).encode()).hexdigest()
    return folder() / f"chainrule-{name}.ready"


@contextmanager
def taking_turns() -> Iterator[None]:
    """Wait until no other process compiles, where the system has such locks: the last would overwrite others' index."""
    try:
        import fcntl
    except ImportError:  # not POSIX
        yield
        return
    with (folder().parent / "chainrule.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wipe() -> None:
    """Delete the kernels of these sources, some of which may be damaged."""
    with taking_turns():
        if _is_ours():
            shutil.rmtree(folder(), ignore_errors=True)


def tidy() -> None:
    """Delete the kernels of other sources: of those that stood here before an edit or an update."""
    for other in folder().parent.glob("chainrule-*-*") if _is_ours() else ():
        if not other.name.startswith(f"chainrule-{FINGERPRINT[:16]}-"):
            shutil.rmtree(other, ignore_errors=True)


def _is_ours() -> bool:
    return folder().name == _FOLDER  # Numba can be told to keep everything elsewhere
