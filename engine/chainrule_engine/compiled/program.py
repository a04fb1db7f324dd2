"""A tape's instructions in the form that the kernels read, and the columns of numbers that they leave behind."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule_engine.compiled import batch, one_point
from chainrule_engine.compiled.cache import note_on_disk
from chainrule_engine.compiled.ordering import depth_first, flatten
from chainrule_engine.compiled.table import ARITY, KIND, KINK, SELECTIVE
from chainrule_engine.kernels import Column
from chainrule_engine.lazily import lazy

Array = Any


class Columns(Sequence[Any]):
    """The numbers of every slot at every point, or the gradients; a slot's are a list, made when it is asked for.

    array    one row per slot, one column per point
    reached  of gradients: the slots at which one arrives; the others are None, and 0 in the array
    room     of the numbers of one point: `array` followed by what `one_point.backward` needs
    """

    def __init__(self, array: Array, *, reached: Array | None = None, room: Array | None = None) -> None:
        self.array, self._reached, self.room = array, reached, room

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, slot: Any) -> Any:
        return None if self._reached is not None and not self._reached[slot] else self.array[slot].tolist()

    def __iter__(self) -> Iterator[Any]:
        if self._reached is None:
            return iter(self.array.tolist())
        return iter(
            [row if here else None for row, here in zip(self.array.tolist(), self._reached.tolist(), strict=True)]
        )

    def rows(self, slots: array[int], points: int | None) -> list[Any]:
        """Return a number for each of the slots where `points` is None, else a list; 0.0 is no gradient."""
        rows: list[Any] = self.array[np.asarray(slots), slice(None) if points else 0].tolist()
        return rows

    def is_finite(self) -> bool:
        """Whether every number is."""
        return bool(np.isfinite(self.array).all())


class Broken(NamedTuple):
    """As `kernels.Break`, the instruction by its place."""

    place: int
    slot: int
    points: list[int]
    upstream: float
    local: float
    total: float


class Program:
    """The instructions of a tape.

    codes     by instruction: the code of its operation
    operands  the slots of the arguments, instruction after instruction
    literals  the numbers of the slots before the instructions'
    size      the number of slots: the inputs', the literals', and then one for each instruction
    """

    def __init__(self, codes: array[int], operands: array[int], literals: array[float], size: int) -> None:
        self._codes = np.asarray(codes)
        self._operands = np.asarray(operands)
        self._literals = np.asarray(literals).reshape(-1, 1)
        self._size = size
        self._first = size - len(codes)

    @lazy
    def _plan(self) -> one_point.Plan:
        return one_point.plan(self._codes, self._operands, self._first)

    @lazy
    def _masked(self) -> bool:
        return bool(SELECTIVE[self._codes].any())

    def forward(self, inputs: Sequence[Sequence[float] | float], points: int) -> Columns:
        """Evaluate; an input is one number per point, or one for all."""
        if points == 1:
            room = np.empty(self._size + KIND.size + self._plan.computed)
            v = room[: self._size].reshape(self._size, 1)
            v[: len(inputs), 0] = [x[0] if isinstance(x, Sequence) else x for x in inputs]
        else:
            room, v = None, np.empty((self._size, points))
            for slot, numbers in enumerate(inputs):
                v[slot] = numbers
        v[len(inputs) : self._first] = self._literals
        if points == 1:
            order, ends, operands, _, _ = self._plan
            one_point.forward(self._codes, self._first, order, ends, operands, room)
        else:
            block = batch.block_size(self._size, points)
            batch.forward(self._codes, self._operands, self._first, v, block)
        return Columns(v, room=room)

    def backward(self, columns: Columns, seeds: Mapping[int, Column], wanted: bytearray) -> Columns:
        """Return the gradients as `kernels.backward` does."""
        gradients, _, _ = self._backward(columns, seeds, wanted, looking=False)
        return gradients

    def first_break(self, columns: Columns, seeds: Mapping[int, Column], wanted: bytearray) -> Broken | None:
        """Find what `kernels.first_break` finds."""
        _, edges, numbers = self._backward(columns, seeds, wanted, looking=True)
        broken = edges >= 0
        if not broken.any():
            return None
        # Among the edges of an instruction backward goes forward, so the largest number is not simply the first.
        places: Array = np.searchsorted(self._ends, edges, side="right")
        place = int(places[broken].max())
        edge = int(edges[broken & (places == place)].min())
        points = np.flatnonzero(edges == edge).tolist()
        first: list[float] = numbers[:, points[0]].tolist()
        return Broken(place, int(self._operands[edge]), points, *first)

    @lazy
    def _ends(self) -> Array:
        return np.cumsum(ARITY[self._codes], dtype=np.int64)

    def _backward(
        self, columns: Columns, seeds: Mapping[int, Column], wanted: bytearray, *, looking: bool
    ) -> tuple[Columns, Array, Array]:
        """Return the gradients; and when looking, by point, the first broken edge (or -1) and its three numbers."""
        v = columns.array
        points = v.shape[1]
        g = np.zeros((self._size, points)) if points == 1 else np.empty((self._size, points))
        reached = np.zeros(self._size, np.bool_)
        wants = np.frombuffer(wanted, np.bool_)
        edges = np.full(points if looking else 1, -1, np.int64)
        numbers = np.empty((3, edges.size))
        if points == 1:
            for slot, seed in seeds.items():
                g[slot, 0] = 0.0 + seed[0]
                reached[slot] = True
            order, ends, operands, factors, _ = self._plan
            edges[0] = one_point.backward(
                self._codes,
                self._operands,
                self._first,
                order,
                ends,
                operands,
                factors,
                columns.room,
                g.reshape(-1),
                reached,
                wants,
                looking,
                numbers.reshape(-1),
            )
        else:
            batch.backward(
                self._codes,
                self._operands,
                self._first,
                v,
                g,
                np.array(list(seeds), np.int64),
                0.0 + np.array(list(seeds.values()), np.float64).reshape(len(seeds), points),
                reached,
                wants,
                self._masked,
                batch.block_size(self._size, points),
                looking,
                numbers,
                edges,
            )
        return Columns(g, reached=reached), edges, numbers

    def first_fault(self, columns: Columns) -> tuple[int, list[int]] | None:
        """Find what `kernels.first_fault` finds, the instruction by its place."""
        faulty = ~np.isfinite(columns.array)
        for place in np.flatnonzero(faulty[self._first :].any(axis=1)).tolist():
            arguments = self._operands[self._ends[place] - ARITY[self._codes[place]] : self._ends[place]]
            points = np.flatnonzero(faulty[self._first + place] & ~faulty[arguments].any(axis=0)).tolist()
            if points:
                return place, points
        return None

    def at_kinks(self, columns: Columns) -> list[int]:
        """Find what `kernels.at_kinks` finds."""
        if not (KINK[self._codes] >= 0).any():
            return []
        block = min(columns.array.shape[1], batch.LONGEST_BLOCK)
        places: list[int] = np.flatnonzero(batch.kinks(self._codes, self._operands, columns.array, block)).tolist()
        return places


def prepare() -> None:
    """Load every kernel from the disk, or compile it; and note that this was done."""
    # Any instructions will do, as long as one may be at a kink: what the kernels call is compiled already.
    code = int(np.flatnonzero((KINK >= 0) & (ARITY == 1))[0])
    starts, sources = array("i", [0, 1, 2]), array("i", [0, 1])
    order = depth_first(starts, sources, 1, [1])
    assert order is not None
    program = Program(*flatten(bytes([code, code]), starts, sources, order, 1, 1)[:2], array("d"), 3)
    for points in (1, 2):
        columns = program.forward([1.0], points)
        program.backward(columns, {2: [1.0] * points}, bytearray(b"\1\1\1"))
        program.at_kinks(columns)
    note_on_disk()
