"""`python -m chainrule_engine.warm`: compile the kernels ahead, so that no evaluation waits for it."""

from __future__ import annotations

import sys

from chainrule_engine.acceleration import load


def main() -> int:
    """Compile what is not on disk yet, and return the process's exit status."""
    if load(compiling=True):
        return 0
    print("chainrule: the kernels were not compiled (no Numba here); evaluations run in plain Python", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
