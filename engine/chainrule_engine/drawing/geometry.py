"""Where everything of an SVG drawing is, in pixels: what `layout` arranged, with the sizes of texts and bubbles.

lead │ (bubble) → │ record │      a value: its record ends at the right side of its column, before it stands the
                                  bubble of its operation, and before that edges run level if they carry a mark
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt

from chainrule_engine.drawing.boxes import Box
from chainrule_engine.drawing.layout import arrange, ports
from chainrule_engine.drawing.text import measure

FONT_SIZE = 11
#: Monospaced fonts are about 0.6 em wide. A little more keeps every text inside its cell.
CHARACTER = 6.7
MARK_CHARACTER = 5.5
CELL_PADDING = 6.0
MARGIN = 16.0
TITLE_HEIGHT = 22.0
BUBBLE_RADIUS = 13.0
CONNECTOR = 16.0
#: A dashed line that leads out of the drawing.
STUB = 22.0


class Geometry:
    """Positions of the parts of a drawing; values are named by their position in `boxes`.

    args      for each value: its drawn arguments, each once (a + a is one line with a mark; DOT text has both edges)
    outside   for each value: ids of its arguments that have no box
    goes_on   for each value: whether it is used outside the drawing
    joints    for each value: how many branches leave its bus, by the distance in columns
    """

    def __init__(self, boxes: Sequence[Box], *, titled: bool = False) -> None:
        """Arrange the boxes; raises LimitExceeded when they are too many."""
        self.boxes = boxes
        place = {box.id: position for position, box in enumerate(boxes)}
        names = [list(dict.fromkeys(box.args)) for box in boxes]
        self.args = [[place[name] for name in args if name in place] for args in names]
        self.outside = [[name for name in args if name not in place] for args in names]
        drawn_uses = Counter(name for box in boxes for name in box.args)
        self.used = [drawn_uses[box.id] > 0 for box in boxes]
        self.goes_on = [box.uses > drawn_uses[box.id] for box in boxes]
        self._leads = [self._lead(value) for value in range(len(boxes))]
        self._widths = [self._width(value) for value in range(len(boxes))]
        self.layout = arrange(self._widths, self.args, [len(hidden) for hidden in self.outside])
        self.top = MARGIN + (TITLE_HEIGHT if titled else 0.0)
        self.width = self.layout.width + 2 * MARGIN + (STUB if any(self.goes_on) else 0.0)
        self.height = self.layout.height + self.top + MARGIN
        column = self.layout.column
        self.joints: list[Counter[int]] = [Counter() for _ in boxes]
        for value, args in enumerate(self.args):
            for arg in args:
                self.joints[arg][column[value] - column[arg] - 1] += 1

    def y(self, value: int, offset: float = 0.0) -> float:
        """The middle of a value, or `offset` below it."""
        return self.top + self.layout.y[value] + offset

    def left(self, value: int) -> float:
        """Where a value's lead begins."""
        return self.right(value) - self._widths[value]

    def bubble_left(self, value: int) -> float:
        """Where its bubble begins, or its record if it has none."""
        return self.left(value) + self._leads[value]

    def right(self, value: int) -> float:
        """Where its record ends."""
        return self.column_right(self.layout.column[value])

    def column_left(self, column: int) -> float:
        """The left side of a column."""
        return MARGIN + self.layout.left[column]

    def column_right(self, column: int) -> float:
        """The right side of a column."""
        return MARGIN + self.layout.right[column]

    def entry(self, value: int, offset: float) -> float:
        """The x where an edge meets the bubble, whose left half is a half circle."""
        return self.bubble_left(value) + BUBBLE_RADIUS - sqrt(BUBBLE_RADIUS**2 - offset**2)

    def entries(self, value: int) -> list[tuple[str, int | None, float]]:
        """A value's edges as (argument's id, its position or None outside, where it arrives below the middle)."""
        args, hidden = self.args[value], self.outside[value]
        drawn = [(self.boxes[arg].id, arg, self.layout.ports[value][arg]) for arg in args]
        free = ports(len(args) + len(hidden))[len(args) :]
        return [*drawn, *((name, None, offset) for name, offset in zip(hidden, free, strict=True))]

    def _lead(self, value: int) -> float:
        box = self.boxes[value]
        longest = max((len(mark(box, name)) for name in box.args), default=0)
        return max(STUB if self.outside[value] else 0.0, longest and 6.0 + MARK_CHARACTER * longest)

    def _width(self, value: int) -> float:
        box = self.boxes[value]
        width = self._leads[value]
        if box.symbol is not None:
            width += 2 * bubble_half(box.symbol) + CONNECTOR
        for _, text in box.cells:
            width += cell_width(text)
        return width


def mark(box: Box, arg: str) -> str:
    """What an edge says: the places of its argument where they matter, else how often it is used if not once."""
    places = [str(place) for place, name in enumerate(box.args, start=1) if name == arg]
    if box.ordered:
        return ",".join(places)
    return f"×{len(places)}" if len(places) > 1 else ""


def text_width(text: str) -> float:
    """The width of a text."""
    return measure(text) * CHARACTER


def cell_width(text: str) -> float:
    """The width of a record's cell."""
    return text_width(text) + 2 * CELL_PADDING


def bubble_half(symbol: str) -> float:
    """Half the width of an operation's bubble: a circle for a sign, longer for a name."""
    return max(BUBBLE_RADIUS, text_width(symbol) / 2 + CELL_PADDING)
