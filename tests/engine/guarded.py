"""Train with the compiled kernels where every array of theirs lies at a page that nobody may touch.

Who reads or writes behind an array (or before one, with `start`) ends the process. The room of `run_steps` is one
array, and so are the numbers of a block, so that within them nothing is seen. Run by tests/engine/test_memory.py:

    python -m tests.engine.guarded end
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy
from tests.engine.test_training_compiled import PROGRAMS, assert_same, network, of_graph

from chainrule_engine.compiled import training

_protect = ctypes.CDLL(None).mprotect
_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_made = 0


def guarded(numbers: Any, at_end: bool) -> Any:
    """Return a copy of an array between two pages without any rights: at the second, or at the first."""
    global _made
    if not numbers.nbytes:
        return numbers
    page = mmap.PAGESIZE
    inside = -(-numbers.nbytes // page) * page
    memory = mmap.mmap(-1, inside + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for place in (start, start + page + inside):
        if _protect(place, page, 0):
            raise OSError("mprotect fails")
    first = page + (inside - numbers.nbytes if at_end else 0)
    copy = numpy.frombuffer(memory, numbers.dtype, numbers.size, first).reshape(numbers.shape)
    copy[...] = numbers
    _made += 1
    return copy


class Guarded:
    """NumPy, whose new arrays are guarded, and filled with NaN where nothing else is said."""

    def __init__(self, at_end: bool) -> None:
        self._at_end = at_end

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        return guarded(numpy.full(shape, numpy.nan if dtype is float else -1, dtype), self._at_end)

    def zeros(self, shape: Any, dtype: Any = float) -> Any:
        return guarded(numpy.zeros(shape, dtype), self._at_end)

    def zeros_like(self, other: Any) -> Any:
        return guarded(numpy.zeros_like(other), self._at_end)

    def full(self, shape: Any, number: float) -> Any:
        return guarded(numpy.full(shape, number), self._at_end)

    def array(self, numbers: Any, dtype: Any = None) -> Any:
        return guarded(numpy.array(numbers, dtype), self._at_end)

    def ascontiguousarray(self, numbers: Any, dtype: Any = None) -> Any:
        return guarded(numpy.ascontiguousarray(numbers, dtype), self._at_end)


def main(where: str) -> None:
    """Train networks and graphs at numbers of points that fill vectors and blocks, and that do not."""
    training.np = Guarded(where == "end")  # type: ignore[assignment]  # it stands for a module
    for points in (1, 4, 5, 8, 12, 60, 128, 129, 260):
        for inputs, layers in ((1, [1]), (3, [4, 4, 1]), (7, [8, 3]), (4, [5, 9, 2])):
            for activation in ("tanh", "softplus"):
                spec = network(inputs, layers, points, steps=2, metrics=["accuracy"])
                spec["model"]["activation"] = activation
                assert_same(spec)
                assert_same({**spec, "batch_size": min(points, 3)})
        for program, parameters in PROGRAMS.values():
            data = {name: [0.5 + 0.001 * p for p in range(points)] for name in ("x", "y", "z") if name in program}
            spec = of_graph(program, parameters, data, {"c": -0.5}, loss={"l2": 0.01})
            assert_same({**spec, "steps": 2})
            assert_same({**spec, "steps": 2, "batch_size": min(points, 130)})
    sys.stdout.write(f"{_made}\n")


if __name__ == "__main__":
    main(sys.argv[1])
