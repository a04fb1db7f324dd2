"""The curves of `scaling` as a picture: two panels, both axes logarithmic, every line labelled at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from benchmarks.networks import JAX, MICROGRAD, NUMPY, PYTORCH
from benchmarks.race import OURS
from benchmarks.scaling import CASADI
from chainrule._svg import FAINT, GRID, PAPER, Scale, document, element, number, text

#: Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {
    OURS: "#0072B2",
    PYTORCH: "#D55E00",
    JAX: "#009E73",
    MICROGRAD: "#CC79A7",
    CASADI: "#E69F00",
    NUMPY: "#666666",
}
Points = Sequence[Sequence[float]]
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LINE = 15.0  # between two labels


def draw(curves: Mapping[str, Mapping[str, Points]]) -> str:
    """Return the picture as SVG."""
    per_node = {name: [(n, s / n * 1e9) for n, s in curve] for name, curve in curves["nodes"].items()}
    per_step = {name: [(n, s * 1e6) for n, s in curve] for name, curve in curves["parameters"].items()}
    parts = _panel(64, 308, per_node, "Forward and backward, one point", "nodes of a random graph", "ns per node")
    parts += _panel(524, 308, per_step, "A training step, 32 points", "parameters of a network", "µs per step")
    summary = "Time by size, from 10 to a million, of chainrule and its peers on one core"
    return document(960, 430, "How the time grows", summary, parts)


def _panel(
    left: float, width: float, curves: Mapping[str, Points], title: str, x_label: str, y_label: str
) -> list[str]:
    every = [point for curve in curves.values() for point in curve]
    x = Scale(8, 1.3e6, left, left + width, log=True)
    low, high = (extreme(y for _, y in every) for extreme in (min, max))
    y = Scale(low / 1.5, high * 1.5, 370, 52, log=True)
    parts = [text(title, left, 28, font_size=14, font_weight="600")]
    for value in x.ticks(7):
        parts.append(element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.end, stroke=GRID))
        parts.append(text(_power(value), x(value), y.start + 17, text_anchor="middle", fill=FAINT))
    for value in y.ticks(7):
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), stroke=GRID))
        parts.append(text(_power(value), left - 7, y(value) + 4, text_anchor="end", fill=FAINT))
    parts.append(text(x_label, left + width / 2, y.start + 40, text_anchor="middle"))
    middle = (y.start + y.end) / 2
    at = left - 44
    parts.append(text(y_label, at, middle, text_anchor="middle", transform=f"rotate(-90 {number(at)} {middle:g})"))
    ends = []
    for name, curve in sorted(curves.items(), key=lambda item: item[0] == OURS):  # ours on top
        colour, ours = COLOURS[name], name == OURS
        path = "".join(f"{'L' if k else 'M'}{number(x(n))} {number(y(t))}" for k, (n, t) in enumerate(curve))
        parts.append(
            element(
                "path", d=path, fill="none", stroke=colour, stroke_width=3 if ours else 1.7, stroke_linejoin="round"
            )
        )
        parts += [
            element("circle", cx=x(n), cy=y(t), r=3.4 if ours else 2.4, fill=colour, stroke=PAPER, stroke_width=0.8)
            for n, t in curve
        ]
        n, t = curve[-1]
        ends.append((y(t), x(n), name))
    return parts + _labels(ends, y.end, y.start)


def _labels(ends: list[tuple[float, float, str]], top: float, bottom: float) -> list[str]:
    """Write each name beside the end of its line, and away from the other names."""
    ends = sorted(ends)
    heights = [height for height, _, _ in ends]
    for _ in range(100):
        for k, (above, below) in enumerate(pairwise(heights)):
            if below - above < _LINE:
                shift = (_LINE - (below - above)) / 2
                heights[k], heights[k + 1] = above - shift, below + shift
        heights = [min(max(height, top), bottom) for height in heights]
    return [
        text(name, x + 8, height + 4, fill=COLOURS[name], font_weight="600")
        for height, (_, x, name) in zip(heights, ends, strict=True)
    ]


def _power(value: float) -> str:
    digits = f"{value:e}"
    mantissa, exponent = digits.split("e")
    power = "10" + str(int(exponent)).translate(_POWERS)
    return power if float(mantissa) == 1.0 else f"{float(mantissa):g}"
