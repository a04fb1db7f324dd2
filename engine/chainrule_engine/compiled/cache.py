"""Kernels that Numba keeps on disk, in its own folder or in NUMBA_CACHE_DIR.

Numba notices a change of the file that a kernel stands in, and of no other. So every kernel also refers to a
fingerprint of all the sources that it is made of, which makes that a part of its key.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numba
from numba import njit
from numba.core import caching
from numba.core.registry import cpu_target

from chainrule_engine import curvature, operations
from chainrule_engine.elementary import basic, circular, exponential, powers

#: Whose functions the kernels are made of.
MODULES = (basic, exponential, circular, powers, curvature, operations)


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


class _ImageCache(caching.UserProvidedCacheLocator):  # type: ignore[misc]  # Numba has no type hints
    """NUMBA_CACHE_DIR, which may be read-only once it is filled: Numba's own locator wants to write to it."""

    def ensure_cache_path(self) -> None:
        if not Path(self.get_cache_path()).is_dir():
            super().ensure_cache_path()


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Make kernels within this, so that a filled NUMBA_CACHE_DIR serves them even where it cannot be written."""
    locators = caching.CompileResultCacheImpl._locator_classes
    locators.insert(0, _ImageCache)
    try:
        yield
    finally:
        locators.remove(_ImageCache)


with kept_on_disk():

    @kernel
    def _never_called() -> None:
        """Tells where Numba keeps what stands in this folder."""


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
    return Path(_never_called.stats.cache_path) / f"chainrule-{name}.ready"
