"""Pictures of a training, as SVG from the standard library alone: loss curves and decision boundaries."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from ._drawing import Drawing
from ._svg import INK, PAPER, Scale, axes, document, element, number, text, widened

# Okabe and Ito's colours, which people with any colour vision can tell apart.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
_BLUE_RGB, _ORANGE_RGB, _MIDDLE_RGB = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xF7, 0xF7, 0xF7)
#: Beyond this the arithmetic of an axis would overflow; a diverging training passes through on its way to infinity.
_MOST = 1e300
#: Shades on either side of 0: few enough that neighbours merge into one rectangle, many enough to look
#: smooth.
_SHADES = 12
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", ".:-=+*#@"


def loss_curve(loss_history: Sequence[float], *, log: bool = False, title: str = "Loss at each step") -> Drawing:
    """Return the curve of a loss over the steps; the last value is written beside its end.

    Args:
        loss_history: the loss of each step. The line is broken where one cannot be drawn: it is not finite,
            or beyond 1e300, or not positive on a logarithmic axis.
        log: whether the vertical axis is logarithmic.
        title: stands above the curve.

    Raises:
        ValueError: there is no number that can be drawn.
    """
    losses = [float(loss) for loss in loss_history]
    drawable = [abs(loss) <= _MOST and (not log or loss >= 1 / _MOST) for loss in losses]
    shown = [loss for loss, good in zip(losses, drawable, strict=True) if good]
    if not shown:
        raise ValueError("there is no loss to draw: the history is empty, or nothing in it can be drawn")
    width, height = 640.0, 360.0
    low, high = min(shown), max(shown)
    if log:
        low, high = (low / 1.3, high * 1.3) if low < high else (low / 10, high * 10)
    else:
        low, high = widened(min(low, 0.0) if 0 <= low < 0.5 * high else low, high)
    x = Scale(0, max(len(losses) - 1, 1), 64, width - 84)
    y = Scale(low, high, height - 52, 44, log)

    strokes, pen_down = [], False
    for step in _drawn_steps(losses, drawable, int(x.end - x.start)):
        if not drawable[step]:
            pen_down = False
            continue
        strokes.append(f"{'L' if pen_down else 'M'}{number(x(step))} {number(y(losses[step]))}")
        pen_down = True
    last = max(step for step, good in enumerate(drawable) if good)
    end_x, end_y = x(last), y(losses[last])
    parts = axes(x, y, title=title, x_label="step", y_label="loss (log scale)" if log else "loss")
    parts += [
        element("path", d="".join(strokes), fill="none", stroke=BLUE, stroke_width=2, stroke_linejoin="round"),
        element("circle", cx=end_x, cy=end_y, r=4, fill=BLUE, stroke=PAPER, stroke_width=1.5),
        text(f"{losses[last]:.4g}", end_x + 8, end_y + 4, font_weight="600", fill=BLUE),
    ]
    summary = f"{len(losses)} steps, from {losses[0]:.6g} to {losses[-1]:.6g}"
    if not all(drawable):
        missing = f"{drawable.count(False)} steps cannot be drawn"
        summary += f"; {missing}"
        parts.append(text(missing, x.end, y.start + 36, text_anchor="end", fill=VERMILION))
    return Drawing(document(width, height, title, summary, parts))


def _drawn_steps(losses: Sequence[float], drawable: Sequence[bool], columns: int) -> list[int]:
    """Return the steps worth a point: all, or of each column of pixels the extremes, so that no spike is
    lost.
    """
    if len(losses) <= 4 * columns:
        return list(range(len(losses)))
    steps: list[int] = []
    for column in range(columns):
        group = range(column * len(losses) // columns, (column + 1) * len(losses) // columns)
        good = [step for step in group if drawable[step]]
        ends = {min(good, key=losses.__getitem__), max(good, key=losses.__getitem__)} if good else set()
        gaps = {next(step for step in group if not drawable[step])} if len(good) < len(group) else set()
        steps += sorted(ends | gaps)
    return steps


def decision_boundary(
    predict: Callable[[list[float], list[float]], Sequence[float]],
    points: Sequence[Sequence[float]],
    labels: Sequence[float],
    *,
    cells: int = 40,
    title: str = "Decision boundary",
) -> Drawing:
    """Return a map of a score over the plane, with the line where it is 0 and the labelled points.

    Args:
        predict: called once with the two coordinates of `cells * cells` places, as two lists; returns their
            scores. With a trained network: `lambda xs, ys: client.evaluate(network(variable("x", xs),
            variable("y",
                ys)),
            derivative="none").value`.
        points: two coordinates for each point.
        labels: one for each point: above 0 a circle on the positive (blue) side, else a square.
        cells: places along each axis, at least 2.
        title: stands above the map.

    Raises:
        ValueError: the lengths do not fit, or a point has not two coordinates.
    """
    if len(points) != len(labels) or not points:
        raise ValueError(f"there are {len(points)} points and {len(labels)} labels: give one label for each point")
    if cells < 2 or any(len(point) != 2 for point in points):
        raise ValueError("a map needs points with two coordinates each and at least 2 cells along each axis")
    size = 420.0
    horizontal = widened(min(p[0] for p in points), max(p[0] for p in points), 0.12)
    vertical = widened(min(p[1] for p in points), max(p[1] for p in points), 0.12)
    x = Scale(*horizontal, 64, 64 + size)
    y = Scale(*vertical, 44 + size, 44)
    xs = _centres(*horizontal, cells)
    ys = _centres(*vertical, cells)
    scores = list(predict([a for _ in ys for a in xs], [b for b in ys for _ in xs]))
    if len(scores) != cells * cells:
        raise ValueError(f"predict was given {cells * cells} places and returned {len(scores)} scores")
    rows = [scores[start : start + cells] for start in range(0, len(scores), cells)]

    parts = _map(rows, x, y)
    parts += axes(x, y, title=title, x_label="first input", y_label="second input", labels=(6, 6))
    line = _contour(rows, [x(a) for a in xs], [y(b) for b in ys])
    parts.append(element("path", d=line, fill="none", stroke=INK, stroke_width=2, stroke_linecap="round"))
    for point, label in zip(points, labels, strict=True):
        parts.append(_mark(x(point[0]), y(point[1]), label > 0))
    legend_y = y.start + 62
    parts += [
        _mark(x.start + 8, legend_y, True),
        text("label above 0", x.start + 18, legend_y + 4),
        _mark(x.start + 138, legend_y, False),
        text("other label", x.start + 148, legend_y + 4),
        element("line", x1=x.start + 248, x2=x.start + 272, y1=legend_y, y2=legend_y, stroke=INK, stroke_width=2),
        text("score 0", x.start + 280, legend_y + 4),
    ]
    right = sum(1 for label in labels if label > 0)
    summary = f"{len(points)} points, {right} of them with a label above 0, on a map of the score"
    return Drawing(document(64 + size + 20, legend_y + 22, title, summary, parts))


def _centres(low: float, high: float, cells: int) -> list[float]:
    return [low + (high - low) * (index + 0.5) / cells for index in range(cells)]


def _map(rows: Sequence[Sequence[float]], x: Scale, y: Scale) -> list[str]:
    """Return a rectangle for each run of cells of one colour; a score that is not finite stays white."""
    strongest = max((abs(score) for row in rows for score in row if math.isfinite(score)), default=0.0) or 1.0
    wide, high = (x.end - x.start) / len(rows[0]), (y.start - y.end) / len(rows)
    parts = []
    for index, row in enumerate(rows):
        colours = [_colour(score / strongest) for score in row]
        start = 0
        for end in range(1, len(colours) + 1):
            if end == len(colours) or colours[end] != colours[start]:
                # A sliver of overlap hides the hairlines that rounding leaves between rectangles.
                parts.append(
                    element(
                        "rect",
                        x=x.start + start * wide,
                        y=y.start - (index + 1) * high,
                        width=(end - start) * wide + (0.4 if end < len(colours) else 0),
                        height=high + (0.4 if index else 0),
                        fill=colours[start],
                    )
                )
                start = end
    return parts


def _colour(strength: float) -> str:
    if not math.isfinite(strength):
        return PAPER
    # The root spends more shades on weak scores: the neighbourhood of the boundary is what one looks at.
    shade = math.ceil(math.sqrt(min(abs(strength), 1.0)) * _SHADES) / _SHADES * 0.75
    side = _BLUE_RGB if strength > 0 else _ORANGE_RGB
    return "#" + "".join(f"{round(m + (s - m) * shade):02x}" for m, s in zip(_MIDDLE_RGB, side, strict=True))


def _mark(x: float, y: float, positive: bool) -> str:
    if positive:
        return element("circle", cx=x, cy=y, r=4.5, fill=BLUE, stroke=PAPER, stroke_width=1.5)
    return element("rect", x=x - 4, y=y - 4, width=8, height=8, fill=ORANGE, stroke=INK, stroke_width=1.2)


def _contour(rows: Sequence[Sequence[float]], xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return the path along which the score is 0, by marching squares between the centres of the cells."""
    path = []
    for j in range(len(ys) - 1):
        for i in range(len(xs) - 1):
            corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            crossings = []
            for (i1, j1), (i2, j2) in zip(corners, corners[1:] + corners[:1], strict=True):
                a, b = rows[j1][i1], rows[j2][i2]
                if (a > 0) != (b > 0) and math.isfinite(a) and math.isfinite(b):
                    share = a / (a - b)
                    at = xs[i1] + (xs[i2] - xs[i1]) * share, ys[j1] + (ys[j2] - ys[j1]) * share
                    crossings.append(" ".join(map(number, at)))
            # Two crossings make a line; four, a saddle, make two, and either pairing is as good.
            path += [f"M{crossings[k]}L{crossings[k + 1]}" for k in range(0, len(crossings) - 1, 2)]
    return "".join(path)


def sparkline(values: Sequence[float], width: int = 60, *, ascii_only: bool | None = None) -> str:
    """Return a curve as one line of text: each mark the mean of its share of the values, `?` if not finite.

    Args:
        values: the curve.
        width: the most marks there may be.
        ascii_only: whether to do without block characters; None looks at what standard output can write.
    """
    if ascii_only is None:
        try:
            _BARS.encode(getattr(sys.stdout, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            ascii_only = True
    bars = _ASCII_BARS if ascii_only else _BARS
    count = min(width, len(values))
    groups = [values[k * len(values) // count : (k + 1) * len(values) // count] for k in range(count)]
    means = [sum(group) / len(group) for group in groups]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def mark(mean: float) -> str:
        if not math.isfinite(mean):
            return "?"
        share = (mean - low) / (high - low) if high > low else 0.0
        return bars[min(int(share * len(bars)), len(bars) - 1)]

    return "".join(map(mark, means))
