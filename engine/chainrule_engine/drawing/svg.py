"""A drawing as one self-contained SVG: for a notebook, a page, a file.

Looks are presentation attributes only: they need no permission from a content security policy, and a page that wants
others overrides them by class (`cr-box`, `cr-edge`, …; the group of a node is also `cr-input`, `cr-output`, …).
Scripts find nodes and edges by their `data-` attributes; the ids in a drawing are its own, so that several can stand
on one page.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from chainrule_engine.drawing.boxes import Box
from chainrule_engine.drawing.geometry import (
    BUBBLE_RADIUS,
    CONNECTOR,
    FONT_SIZE,
    MARGIN,
    STUB,
    Geometry,
    bubble_half,
    cell_width,
    mark,
    text_width,
)
from chainrule_engine.drawing.layout import BOX_HEIGHT
from chainrule_engine.drawing.text import number, shorten

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
RECORD_HEIGHT = BOX_HEIGHT - 4
#: From the middle of a line of text to its baseline.
BASELINE = 4

# Colours of Okabe and Ito, and tints and shades of them; shape and border tell the roles apart without colour too.
INK, LINE, RULE, GRADIENT, WARNING = "#1a1a1a", "#5f6b76", "#9aa3ab", "#00588a", "#a63d00"
_BOXES = {
    "input": 'fill="#e3f1fb" stroke="#0072b2" stroke-width="1.2" rx="6"',
    "constant": 'fill="#f4f4f4" stroke="#757575" stroke-width="1" stroke-dasharray="3 2" rx="12"',
    "node": 'fill="#ffffff" stroke="#333333" stroke-width="1.2"',
    "output": 'fill="#fff3d6" stroke="#b36b00" stroke-width="2.6"',
}
_BUBBLE = 'fill="#f1f3f5" stroke="#333333" stroke-width="1.2"'
_DASHED = 'stroke-dasharray="3 3"'

# XML 1.0 has no way to write the other characters, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def to_svg(boxes: Sequence[Box], *, title: str | None = None) -> str:
    """Write the boxes as an SVG document; a title is shown above them. The same boxes give the same text.

    Raises LimitExceeded for more than `MAX_VALUES` boxes or `MAX_LINES` lines across columns.
    """
    return _Writer(boxes, title).document()


class _Writer:
    def __init__(self, boxes: Sequence[Box], title: str | None) -> None:
        self.boxes = boxes
        self.title = shorten(title, 200) if title else ""
        self.geometry = Geometry(boxes, titled=bool(self.title))
        digest = hashlib.sha256(repr((self.title, list(boxes))).encode()).hexdigest()
        self.prefix = f"cr-{digest[:12]}"
        self.arrow = f'marker-end="url(#{self.prefix}-arrow)"'

    def document(self) -> str:
        return "\n".join([*self._head(), *self._edges(), *self._nodes(), "</svg>", ""])

    def _head(self) -> Iterator[str]:
        name = f"Computation graph, {len(self.boxes)} value{'s' if len(self.boxes) != 1 else ''}"
        height = _n(self.geometry.height)
        width = _n(max(self.geometry.width, text_width(self.title) + 2 * MARGIN))
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="cr-drawing" role="img"'
            f' aria-labelledby="{self.prefix}-title" aria-describedby="{self.prefix}-desc"'
            f' width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            f' font-family="{FONT}" font-size="{FONT_SIZE}">'
        )
        yield f'<title id="{self.prefix}-title">{escape(name + (self.title and f": {self.title}"))}</title>'
        yield f'<desc id="{self.prefix}-desc">{escape(self._description())}</desc>'
        yield (
            f'<defs><marker id="{self.prefix}-arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7"'
            f' markerHeight="7" orient="auto"><path class="cr-arrow" fill="{LINE}" d="M0 .8L8 4L0 7.2z"/>'
            f"</marker></defs>"
        )
        yield f'<rect class="cr-background" width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        if self.title:
            yield (
                f'<text class="cr-title" x="{_n(MARGIN)}" y="{_n(MARGIN + 8)}" font-weight="bold"'
                f' fill="{INK}"{_fit(self.title)}>{escape(self.title)}</text>'
            )

    def _description(self) -> str:
        outputs = [box for box in self.boxes if box.role == "output"]
        shown = ", ".join(f"{shorten(box.label or 'unnamed')} = {number(box.data)}" for box in outputs[:3])
        text = "Edges run from arguments on the left to results on the right."
        return f"{text} Output: {shown}{', …' if len(outputs) > 3 else ''}." if outputs else text

    def _edges(self) -> Iterator[str]:
        yield f'<g class="cr-edges" fill="none" stroke="{LINE}" stroke-width="1.2">'
        for value in range(len(self.boxes)):
            yield from self._bus(value)
            yield from self._incoming(value)
        yield "</g>"

    def _bus(self, value: int) -> Iterator[str]:
        """The line that the value's far users share, and the stub of those outside the drawing."""
        at = self.geometry
        column, bus = at.layout.column[value], at.layout.bus[value]
        source = escape(self.boxes[value].id)
        x, y = at.right(value), at.y(value)
        if at.goes_on[value]:
            # Beside the line to the drawn users, where there are any.
            start = f"M{_n(x)} {_n(at.y(value, 7.0) if at.used[value] else y)}"
            yield f'<path class="cr-edge cr-outside" data-from="{source}" {_DASHED} d="{start}h{_n(STUB)}"/>'
        if not bus:
            return
        path, joints = f"M{_n(x)} {_n(y)}", []
        for distance, height in enumerate(bus, start=1):
            path += _curve(x, y, at.column_left(column + distance), at.top + height)
            x, y = at.column_right(column + distance), at.top + height
            path += f"H{_n(x)}"
            # A dot wherever the line divides: lines that only cross have none.
            if at.joints[value][distance] + (distance < len(bus)) > 1:
                joints.append(f'<circle class="cr-joint" cx="{_n(x)}" cy="{_n(y)}" r="2" fill="{LINE}" stroke="none"/>')
        yield f'<path class="cr-edge cr-bus" data-from="{source}" d="{path}"/>'
        yield from joints

    def _incoming(self, value: int) -> Iterator[str]:
        """The edges that end at the value's operation."""
        at = self.geometry
        box = self.boxes[value]
        for name, arg, offset in at.entries(value):
            ends = f'data-from="{escape(name)}" data-to="{escape(box.id)}"'
            y, end = at.y(value, offset), _n(at.entry(value, offset))
            if arg is None:
                path = f"M{_n(at.left(value))} {_n(y)}H{end}"
                yield f'<path class="cr-edge cr-outside" {ends} {_DASHED} {self.arrow} d="{path}"/>'
            else:
                yield f'<path class="cr-edge" {ends} {self.arrow} d="{self._branch(arg, value, y)}H{end}"/>'
            if text := mark(box, name):
                # On the outer side of the level part.
                x, y = at.bubble_left(value) - 3, y + (9 if offset > 0 else -3)
                yield (
                    f'<text class="cr-mark" x="{_n(x)}" y="{_n(y)}" text-anchor="end" font-size="9"'
                    f' stroke="none" fill="{LINE}">{text}</text>'
                )

    def _branch(self, arg: int, value: int, to_y: float) -> str:
        """From the argument, or from the end of its bus in the column before, through the gap."""
        layout, column = self.geometry.layout, self.geometry.layout.column[value]
        span = column - layout.column[arg]
        y = self.geometry.y(arg) if span == 1 else self.geometry.top + layout.bus[arg][span - 2]
        x = self.geometry.column_right(column - 1)
        return f"M{_n(x)} {_n(y)}{_curve(x, y, self.geometry.column_left(column), to_y)}"

    def _nodes(self) -> Iterator[str]:
        yield f'<g class="cr-nodes" text-anchor="middle" fill="{INK}">'
        for value, box in enumerate(self.boxes):
            operation = f' data-op="{escape(box.op)}"' if box.op is not None else ""
            role = f'class="cr-node cr-{box.role}" data-role="{box.role}"'
            yield f'<g {role} data-id="{escape(box.id)}"{operation}><title>{escape(_tooltip(box))}</title>'
            x = self.geometry.bubble_left(value)
            if box.symbol is not None:
                yield from self._operation(box.symbol, x, self.geometry.y(value))
                x += 2 * bubble_half(box.symbol) + CONNECTOR
            yield from self._record(box, x, self.geometry.right(value), self.geometry.y(value))
            yield "</g>"
        yield "</g>"

    def _operation(self, symbol: str, x: float, y: float) -> Iterator[str]:
        width = 2 * bubble_half(symbol)
        yield (
            f'<rect class="cr-operation" x="{_n(x)}" y="{_n(y - BUBBLE_RADIUS)}" width="{_n(width)}"'
            f' height="{_n(2 * BUBBLE_RADIUS)}" rx="{_n(BUBBLE_RADIUS)}" {_BUBBLE}/>'
        )
        middle, baseline = _n(x + width / 2), _n(y + BASELINE)
        yield f'<text class="cr-symbol" x="{middle}" y="{baseline}">{escape(symbol)}</text>'
        path = f"M{_n(x + width)} {_n(y)}h{_n(CONNECTOR)}"
        yield f'<path class="cr-edge" stroke="{LINE}" stroke-width="1.2" {self.arrow} d="{path}"/>'

    def _record(self, box: Box, left: float, right: float, y: float) -> Iterator[str]:
        top, height = _n(y - RECORD_HEIGHT / 2), _n(RECORD_HEIGHT)
        size = f'width="{_n(right - left)}" height="{height}"'
        yield f'<rect class="cr-box" x="{_n(left)}" y="{top}" {size} {_BOXES[box.role]}/>'
        x = left
        for position, (name, text) in enumerate(box.cells):
            if position:
                yield f'<path class="cr-rule" stroke="{RULE}" d="M{_n(x)} {top}v{height}"/>'
            width = cell_width(text)
            place = f'x="{_n(x + width / 2)}" y="{_n(y + BASELINE)}"'
            yield f'<text class="cr-{name}" {place}{_ink(name, box)}{_fit(text)}>{escape(text)}</text>'
            x += width


def escape(text: str) -> str:
    """Write a text for an XML element or attribute, without the characters that XML cannot hold."""
    return _NOT_XML.sub("", text).translate(_ESCAPES)


def _tooltip(box: Box) -> str:
    """Write what the cells say with all digits."""
    text = shorten(box.label, 200) if box.label is not None else box.role
    if box.op is not None:
        text += f" = {box.op}({', '.join(map(shorten, box.args))})"
    text += f"\ndata {box.data!r}"
    return text if box.grad is None else f"{text}\ngrad {box.grad!r}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    if abs(y - to_y) < 0.05:
        return f"H{_n(to_x)}"
    middle = (x + to_x) / 2
    return f"C{_n(middle)} {_n(y)} {_n(middle)} {_n(to_y)} {_n(to_x)} {_n(to_y)}"


def _ink(name: str, box: Box) -> str:
    value = {"data": box.data, "grad": box.grad}.get(name)
    if value is not None and value - value != 0.0:  # not finite
        return f' fill="{WARNING}" font-weight="bold"'
    return {"label": ' font-weight="bold"', "grad": f' fill="{GRADIENT}"'}.get(name, "")


def _fit(text: str) -> str:
    """Have characters that another font may have to lend, of whatever width, fit into their place."""
    if text.isascii():
        return ""
    return f' textLength="{_n(text_width(text))}" lengthAdjust="spacingAndGlyphs"'
