"""The parts that the pictures share: SVG elements, a frame with axes, and round numbers along them.

Presentation attributes only, no ids and no styles: such an SVG looks the same in a notebook, on a page with a
strict Content-Security-Policy and in a file, and two on one page cannot clash. Each brings its own
background, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

INK, FAINT, GRID, PAPER = "#333333", "#666666", "#e3e3e3", "#ffffff"
FONT = "system-ui, sans-serif"
# XML 1.0 has no way to write these, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """Return one element; `stroke_width=2` becomes `stroke-width="2"`, numbers are cut to hundredths."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """Return a line of text."""
    given: dict[str, str | float] = {"font_family": FONT, "font_size": 12, "fill": INK, **attributes}
    return element("text", clean(content), x=x, y=y, **given)


def clean(content: str) -> str:
    """Return text that may stand in an XML element."""
    return escape(_FORBIDDEN.sub("", content))


def document(width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    """Return the whole SVG: a picture that a screen reader announces by `title` and `description`."""
    paper = element("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=6, fill=PAPER, stroke="#cccccc")
    head = [element("title", clean(title)), element("desc", clean(description)), paper]
    return element(
        "svg",
        "\n" + "\n".join([*head, *parts]) + "\n",
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
    )


def number(value: float) -> str:
    """Return a coordinate, to hundredths and without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def label(value: float) -> str:
    """Return a number beside an axis: six digits, or more where they are needed to tell it from its neighbours."""
    short = f"{value:g}"
    return short if float(short) == value else f"{value:.12g}"


def _attribute(value: str | float) -> str:
    return clean(value) if isinstance(value, str) else number(value)


@dataclass(frozen=True)
class Scale:
    """Maps numbers from `low` to `high` onto pixels from `start` to `end`, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        low, high, at = (math.log10(v) for v in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value,
        )  # fmt: skip
        # Halves keep high - low from overflowing where the ends are huge and of opposite signs.
        return self.start + (self.end - self.start) * ((at / 2 - low / 2) / (high / 2 - low / 2))

    def ticks(self, wanted: int = 6) -> list[float]:
        """Return round numbers within the range: about as many as are wanted."""
        if not self.log:
            return round_numbers(self.low, self.high, wanted)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        stride = max(1, math.ceil((last - first) / wanted))
        steps = (1, 2, 5) if last - first <= 3 else (1,)
        powers = [float(f"{m}e{k}") for k in range(first, last + 1, stride) for m in steps]
        return [power for power in powers if self.low <= power <= self.high] or [self.low, self.high]


def round_numbers(low: float, high: float, wanted: int) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten from `low` to `high`, about `wanted` of them."""
    rough = (high / 2 - low / 2) / wanted * 2
    power = math.floor(math.log10(rough))
    mantissa = rough / 10.0**power
    multiple = next(m for m in (1, 2, 5, 10) if mantissa <= m * 1.0001)
    step = float(f"{multiple}e{power}")
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Through text: 3 * 0.1 would be labelled 0.30000000000000004.
    return [float(f"{index * multiple}e{power}") for index in range(first, last + 1)]


def widened(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """Return the range with a margin on both sides; a range of one number gets room around it."""
    margin = (high / 2 - low / 2) * 2 * share
    if margin <= abs(high) * 1e-12:
        margin = abs(high) * 0.1
    if margin < 1e-290:  # too little for the arithmetic of an axis
        margin = 1.0
    return low - margin, high + margin


def axes(x: Scale, y: Scale, *, title: str, x_label: str, y_label: str, labels: Sequence[int] = (8, 6)) -> list[str]:
    """Return a frame with a title, a grid, and round numbers along both axes."""
    left, right, bottom, top = x.start, x.end, y.start, y.end
    parts = [text(title, left, top - 14, font_size=14, font_weight="600")]
    for value in x.ticks(labels[0]):
        at = x(value)
        parts.append(element("line", x1=at, x2=at, y1=bottom, y2=top, stroke=GRID))
        parts.append(text(label(value), at, bottom + 17, text_anchor="middle", fill=FAINT))
    for value in y.ticks(labels[1]):
        at = y(value)
        parts.append(element("line", x1=left, x2=right, y1=at, y2=at, stroke=GRID))
        parts.append(text(label(value), left - 7, at + 4, text_anchor="end", fill=FAINT))
    parts.append(
        element(
            "path",
            d=f"M{number(left)} {number(top)}V{number(bottom)}H{number(right)}",
            fill="none",
            stroke=FAINT,
        )
    )
    parts.append(text(x_label, (left + right) / 2, bottom + 36, text_anchor="middle"))
    middle = (top + bottom) / 2
    parts.append(text(y_label, 16, middle, text_anchor="middle", transform=f"rotate(-90 16 {number(middle)})"))
    return parts
