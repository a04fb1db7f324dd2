"""The order of the slots within the columns of a layout: few crossings."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_SWEEPS = 8
_EXCHANGE_ROUNDS = 8


@dataclass(slots=True)
class Slots:
    """Slots in columns; an edge joins a slot to one of the next column.

    The first `values` slots are values, the others belong to buses. `place` is a slot's position in its column.
    """

    values: int
    column: list[int]
    columns: list[list[int]]
    before: list[list[int]]
    after: list[list[int]]
    place: list[int]

    @classmethod
    def empty(cls, count: int, *, values: int, columns: int) -> Slots:
        """Slots without columns and edges."""
        return cls(
            values=values,
            column=[0] * count,
            columns=[[] for _ in range(columns)],
            before=[[] for _ in range(count)],
            after=[[] for _ in range(count)],
            place=[0] * count,
        )

    def connect(self, source: int, target: int) -> None:
        """Join two slots of neighbouring columns."""
        self.after[source].append(target)
        self.before[target].append(source)

    def arrange(self, columns: Sequence[Sequence[int]]) -> None:
        """Take over an order of the columns."""
        for number, members in enumerate(columns):
            self.set(number, members)

    def set(self, number: int, members: Sequence[int]) -> None:
        """Take over the order of one column."""
        self.columns[number] = list(members)
        for position, slot in enumerate(members):
            self.place[slot] = position


def order_columns(slots: Slots, args: Sequence[Sequence[int]]) -> int:
    """Order the slots of every column, and return the number of crossings that is left."""
    best: list[list[int]] = []
    fewest = -1
    for last_first in (False, True):
        _start(slots, args, last_first)
        for sweep in range(_SWEEPS):
            crossings = _count(slots)
            if fewest < 0 or crossings < fewest:
                fewest, best = crossings, [list(members) for members in slots.columns]
            if not fewest:
                break
            _sweep(slots, forwards=sweep % 2 == 0)
    slots.arrange(best)
    _exchange(slots)
    return _count(slots)


def _start(slots: Slots, args: Sequence[Sequence[int]], last_first: bool) -> None:
    """The order of a depth-first walk from the results: a tree has no crossings then."""
    columns: list[list[int]] = [[] for _ in slots.columns]
    seen = [False] * len(slots.column)
    used = {arg for values in args for arg in values}
    stack = [value for value in range(len(args)) if value not in used]
    if not last_first:
        stack.reverse()
    while stack:
        value = stack.pop()
        if seen[value]:
            continue
        # The value, then along its bus, whose slots have no other way in.
        slot: int | None = value
        while slot is not None:
            seen[slot] = True
            columns[slots.column[slot]].append(slot)
            slot = next((target for target in slots.after[slot] if target >= slots.values), None)
        stack.extend(args[value] if last_first else reversed(args[value]))
    slots.arrange(columns)


def _sweep(slots: Slots, *, forwards: bool) -> None:
    """Sort each column by the mean place of the neighbours in the one before (or after) it."""
    neighbours = slots.before if forwards else slots.after
    numbers = range(len(slots.columns))
    for number in numbers if forwards else reversed(numbers):
        members = slots.columns[number]
        means = {
            slot: sum(slots.place[n] for n in neighbours[slot]) / len(neighbours[slot])
            for slot in members
            if neighbours[slot]
        }
        ordered = iter(sorted(means, key=means.__getitem__))
        # Those without neighbours keep their places.
        slots.set(number, [next(ordered) if slot in means else slot for slot in members])


def _count(slots: Slots) -> int:
    """The crossings between all columns: inversions, counted with a Fenwick tree."""
    crossings = 0
    for number, members in enumerate(slots.columns[:-1]):
        size = len(slots.columns[number + 1])
        tree = [0] * (size + 1)
        seen = 0
        for slot in members:
            targets = sorted(slots.place[target] for target in slots.after[slot])
            for target in targets:
                crossings += seen
                position = target + 1
                while position:
                    crossings -= tree[position]
                    position &= position - 1
            for target in targets:
                position = target + 1
                while position <= size:
                    tree[position] += 1
                    position += position & -position
            seen += len(targets)
    return crossings


def _exchange(slots: Slots) -> None:
    """Exchange neighbours in a column while that removes crossings on both sides of it together."""
    for _ in range(_EXCHANGE_ROUNDS):
        improved = False
        for members in slots.columns:
            for position in range(len(members) - 1):
                upper, lower = members[position], members[position + 1]
                gain = 0
                for neighbours in (slots.before, slots.after):
                    gain += _gain(slots.place, neighbours[upper], neighbours[lower])
                if gain > 0:
                    members[position], members[position + 1] = lower, upper
                    slots.place[upper], slots.place[lower] = position + 1, position
                    improved = True
        if not improved:
            return


def _gain(place: Sequence[int], upper: Sequence[int], lower: Sequence[int]) -> int:
    """The crossings of two neighbours' edges as they stand, less those after an exchange."""
    ends = sorted(place[slot] for slot in upper)
    gain = 0
    for slot in lower:
        gain += len(ends) - bisect_right(ends, place[slot]) - bisect_left(ends, place[slot])
    return gain
