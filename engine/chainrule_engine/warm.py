"""`python -m chainrule_engine.warm`: compile the kernels ahead, so that no evaluation waits for it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from chainrule_engine import acceleration

#: Only a new process writes all the kernels again: this one has some of them in its memory.
_AGAIN = "import sys; from chainrule_engine import warm; sys.exit(warm.compile_all())"


def main() -> int:
    """Compile what is not on disk yet, and return the process's exit status: 0 also where plain Python was asked for.

    Kernels that cannot be loaded are deleted and compiled anew, once. Those of earlier sources are deleted.
    """
    try:
        if acceleration.choice() == "python":
            return 0
    except ValueError as error:
        print(f"chainrule: {error}", file=sys.stderr)
        return 1
    if not _compiled() and _wiped():
        print(f"chainrule: compiling once more, into an empty folder ({acceleration.reason()})", file=sys.stderr)
        return subprocess.run([sys.executable, "-c", _AGAIN]).returncode
    return compile_all()


def compile_all() -> int:
    """Compile what is not on disk yet, or tell why that cannot be done; return the process's exit status."""
    if not _compiled():
        print(
            f"chainrule: the kernels were not compiled ({acceleration.reason()}); evaluations run in plain Python",
            file=sys.stderr,
        )
        return 1
    importlib.import_module("chainrule_engine.compiled.cache").tidy()
    return 0


def _compiled() -> bool:
    with suppress(Exception), _without_remarks():  # `reason` keeps it
        return acceleration.load(compiling=True)
    return False


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Leave out what LLVM writes, past Python, of loops that it makes no vectors of: some have a rare branch."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        shown = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.startswith("remark: ")))


def _wiped() -> bool:
    with suppress(Exception):  # no Numba, or no folder that it can write to
        importlib.import_module("chainrule_engine.compiled.cache").wipe()
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
