"""A layered layout, left to right: where each value of a drawing stands and how its edges run.

Edges that span several columns share one line per source value, the *bus*: it has a slot of its own in each
column that it crosses, and each user branches off in the gap before its own column. One line per edge instead would
make a quadratic number of slots, and an unreadable drawing, of a value that is used often.

    1. columns     longest path, then each value moves right as long as that shortens the buses   (columns)
    2. slots       one for each value, one for each column that a bus crosses                       (_slots)
    3. order       within the columns: sweeps by the mean place of the neighbours, then exchanges   (ordering)
    4. heights     least squares with a minimum distance, solved by pooling adjacent violators      (_heights)

Every step is a loop with a fixed number of rounds, in a fixed order: the same graph gives the same drawing on every
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chainrule_engine.drawing.columns import bus_lengths, choose_columns
from chainrule_engine.drawing.ordering import Slots, order_columns
from chainrule_engine.errors import LimitExceeded

#: Values in one drawing, and slots of buses: nobody can read more, and the work grows with their number.
MAX_VALUES = 1_000
MAX_LINES = 5_000

_ADVICE = "draw a part of the graph, with focus and depth"

# Units are pixels.
BOX_HEIGHT = 28.0
BUS_HEIGHT = 4.0
ROW_GAP = 12.0
COLUMN_GAP = 46.0
WIDEST_GAP = 140.0
PORT_DISTANCE = 9.0

# Buses are drawn straight before anything else is: by how many ends of an edge belong to one.
_BUS_WEIGHTS = (0.0, 2.0, 8.0)
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands; positions in pixels, from the top left corner of the drawing's content.

    column  the column of each value
    y       the middle of each value
    ports   for each value: argument → where its edge arrives, relative to the middle
    bus     for each value: the height of its bus in the columns after its own, as many as it crosses
    left, right   the two sides of each column; values stand at the right side
    crossings     of edges, as drawn between the columns
    """

    column: list[int]
    y: list[float]
    ports: list[dict[int, float]]
    bus: list[list[float]]
    left: list[float]
    right: list[float]
    width: float
    height: float
    crossings: int


def arrange(widths: Sequence[float], args: Sequence[Sequence[int]], outside: Sequence[int] | None = None) -> Layout:
    """Lay out values of the given widths; `args` holds the earlier values that each one uses, each once.

    `outside[v]` counts further arguments of v that are not drawn, and need a port below the others. Raises
    LimitExceeded for more than `MAX_VALUES` values or `MAX_LINES` slots of buses.
    """
    if len(args) > MAX_VALUES:
        raise LimitExceeded("drawing_size", MAX_VALUES, len(args), advice=_ADVICE)
    users: list[list[int]] = [[] for _ in args]
    for value, values in enumerate(args):
        for arg in values:
            users[arg].append(value)
    column = choose_columns(args, users)
    lengths = bus_lengths(column, users)
    if sum(lengths) > MAX_LINES:
        raise LimitExceeded("drawing_lines", MAX_LINES, sum(lengths), advice=_ADVICE)
    slots, chains = _slots(column, lengths, args)
    crossings = order_columns(slots, args)
    offsets = _arrivals(slots, outside or [0] * len(args))
    y = _heights(slots, offsets)
    gaps = _gaps(slots, offsets, y)
    left, right = [], []
    x = 0.0
    for number, members in enumerate(slots.columns):
        left.append(x)
        right.append(x + max(widths[slot] for slot in members if slot < len(args)))
        x = right[-1] + gaps[number]
    arrivals: list[dict[int, float]] = [
        {arg: offsets[chains[arg][column[value] - column[arg] - 1], value] for arg in values}
        for value, values in enumerate(args)
    ]
    lowest = [members[-1] for members in slots.columns]
    return Layout(
        column=column,
        y=y[: len(args)],
        ports=arrivals,
        bus=[[y[slot] for slot in chain[1:]] for chain in chains],
        left=left,
        right=right,
        width=right[-1] if right else 0.0,
        height=max((y[slot] + _half(slots, slot) for slot in lowest), default=0.0),
        crossings=crossings,
    )


def ports(count: int) -> list[float]:
    """Where `count` edges arrive at one box, relative to its middle, from the top."""
    distance = min(PORT_DISTANCE, 2.0 * PORT_DISTANCE / max(1, count - 1))
    return [(position - (count - 1) / 2.0) * distance for position in range(count)]


def _slots(
    column: Sequence[int], lengths: Sequence[int], args: Sequence[Sequence[int]]
) -> tuple[Slots, list[list[int]]]:
    """The slots with their edges, and each value's chain: its own slot, then those of its bus.

    The slots 0 to len(args) - 1 are the values, those after them belong to buses.
    """
    count = len(column)
    chains = []
    for value, length in enumerate(lengths):
        chains.append([value, *range(count, count + length)])
        count += length
    slots = Slots.empty(count, values=len(column), columns=1 + max(column, default=-1))
    for value, chain in enumerate(chains):
        for distance, slot in enumerate(chain):
            slots.column[slot] = column[value] + distance
        for source, target in pairwise(chain):
            slots.connect(source, target)
    for value, values in enumerate(args):
        for arg in values:
            slots.connect(chains[arg][column[value] - column[arg] - 1], value)
    return slots, chains


Offsets = dict[tuple[int, int], float]


def _arrivals(slots: Slots, outside: Sequence[int]) -> Offsets:
    """Where the edge (source slot, value) arrives: from the top as the sources stand, so that no two cross there."""
    offsets: Offsets = {}
    for value in range(slots.values):
        sources = sorted(slots.before[value], key=slots.place.__getitem__)
        for source, offset in zip(sources, ports(len(sources) + outside[value]), strict=False):
            offsets[source, value] = offset
    return offsets


def _heights(slots: Slots, offsets: Offsets) -> list[float]:
    """The middle of each slot, the top of the highest at 0."""
    y = [0.0] * len(slots.column)
    for members in slots.columns:
        for upper, lower in pairwise(members):
            y[lower] = y[upper] + _distance(slots, upper, lower)
    for round_number in range(_ROUNDS):
        last = round_number == _ROUNDS - 1
        forwards = round_number % 2 == 0
        for members in slots.columns if forwards else reversed(slots.columns):
            wishes = []
            for slot in members:
                before = [(source, slot, source, -1.0) for source in slots.before[slot]]
                after = [(slot, target, target, 1.0) for target in slots.after[slot]]
                # A leaf has nothing before it, so it always follows its users.
                edges = before + after if last else (before or after) if forwards else (after or before)
                total = weights = 0.0
                for source, target, neighbour, sign in edges:
                    buses = (source >= slots.values) + (target >= slots.values)
                    weight = _BUS_WEIGHTS[buses] if buses else _weight(slots, source)
                    total += weight * (y[neighbour] + sign * offsets.get((source, target), 0.0))
                    weights += weight
                wishes.append((total / weights, weights) if edges else (y[slot], 0.01))
            for slot, height in zip(members, _pool(slots, members, wishes), strict=True):
                y[slot] = height
    top = min((y[members[0]] - _half(slots, members[0]) for members in slots.columns), default=0.0)
    return [height - top for height in y]


def _pool(slots: Slots, members: Sequence[int], wishes: Sequence[tuple[float, float]]) -> list[float]:
    """The heights nearest to the wishes (wish, weight), in least squares, that keep the order and the distances."""
    # Less the distances above it, a slot's height only has to be no smaller than its predecessor's: isotonic
    # regression, whose solution is the weighted mean over blocks of adjacent violators.
    above = [0.0]
    for upper, lower in pairwise(members):
        above.append(above[-1] + _distance(slots, upper, lower))
    blocks: list[tuple[float, float, int]] = []
    for (wish, weight), shift in zip(wishes, above, strict=True):
        total, count = weight * (wish - shift), 1
        while blocks and blocks[-1][0] * weight >= total * blocks[-1][1]:
            previous = blocks.pop()
            total, weight, count = total + previous[0], weight + previous[1], count + previous[2]
        blocks.append((total, weight, count))
    means = [total / weight for total, weight, count in blocks for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, above, strict=True)]


def _gaps(slots: Slots, offsets: Offsets, y: Sequence[float]) -> list[float]:
    """The space after each column: wider where edges climb far, so that they do not stand upright."""
    gaps = []
    for members in slots.columns:
        climb = 0.0
        for slot in members:
            for target in slots.after[slot]:
                climb = max(climb, abs(y[target] + offsets.get((slot, target), 0.0) - y[slot]))
        gaps.append(min(WIDEST_GAP, max(COLUMN_GAP, 0.15 * climb)))
    return gaps


def _weight(slots: Slots, source: int) -> float:
    return 3.0 if len(slots.after[source]) == 1 else 1.0


def _half(slots: Slots, slot: int) -> float:
    return (BOX_HEIGHT if slot < slots.values else BUS_HEIGHT) / 2.0


def _distance(slots: Slots, upper: int, lower: int) -> float:
    return _half(slots, upper) + _half(slots, lower) + ROW_GAP
