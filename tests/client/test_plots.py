"""Pictures: well-formed, complete, and right about where things are."""

import io
import math
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chainrule import Drawing
from chainrule._svg import Scale, label, round_numbers
from chainrule.plots import decision_boundary, loss_curve, sparkline

SVG = "{http://www.w3.org/2000/svg}"


def parts(drawing, tag):
    return list(ElementTree.fromstring(drawing.svg).iter(SVG + tag))


def texts(drawing):
    return [part.text for part in parts(drawing, "text")]


def curve(drawing):
    """The points of each stroke of a loss curve."""
    (path,) = [part.get("d") for part in parts(drawing, "path") if part.get("stroke-width") == "2"]
    return [[tuple(map(float, point.split())) for point in stroke.split("L")] for stroke in path.split("M") if stroke]


def test_a_loss_curve_has_a_point_for_each_step_and_names_the_last_value():
    drawing = loss_curve([4.0, 2.0, 1.0, 0.5], title="A <title> & more")
    ((*points,),) = curve(drawing)
    assert len(points) == 4
    xs, ys = zip(*points, strict=True)
    assert xs[3] - xs[2] == pytest.approx(xs[1] - xs[0], abs=0.02)
    assert ys[1] - ys[0] == pytest.approx(2 * (ys[2] - ys[1]), abs=0.05)
    assert "0.5" in texts(drawing)
    assert "A <title> & more" in texts(drawing)
    assert {"step", "loss"} <= set(texts(drawing))


def test_a_logarithmic_axis_spaces_equal_ratios_equally():
    ((*points,),) = curve(loss_curve([100.0, 10.0, 1.0, 0.1], log=True))
    ys = [y for _, y in points]
    assert ys[1] - ys[0] == pytest.approx(ys[3] - ys[2], abs=0.05)


def test_what_cannot_be_drawn_leaves_a_gap_and_is_counted():
    drawing = loss_curve([3.0, 2.0, math.nan, 5.0, math.inf])
    assert [len(stroke) for stroke in curve(drawing)] == [2, 1]
    assert "2 steps cannot be drawn" in texts(drawing)
    assert "1 steps cannot be drawn" in texts(loss_curve([1.0, 0.0], log=True))
    with pytest.raises(ValueError, match="no loss to draw"):
        loss_curve([math.nan])
    with pytest.raises(ValueError, match="no loss to draw"):
        loss_curve([])


def test_a_long_history_keeps_its_spikes_and_stays_small():
    losses = [1.0] * 100_000
    losses[54_321] = 9.0
    drawing = loss_curve(losses)
    ((*points,),) = curve(drawing)
    assert len(points) < 3000
    highest = min(y for _, y in points)
    assert sum(1 for _, y in points if y == highest) == 1


@given(
    st.lists(st.one_of(st.floats(), st.floats(0, 1)), min_size=1, max_size=30),
    st.booleans(),
    st.text(max_size=20),
)
def test_any_history_and_title_make_a_well_formed_picture(losses, log, title):
    try:
        drawing = loss_curve(losses, log=log, title=title)
    except ValueError:
        assert not any(abs(loss) < 1e300 and (loss > 1e-300 or not log) for loss in losses)
        return
    for stroke in curve(drawing):
        for x, y in stroke:
            assert 0 <= x <= 640
            assert 0 <= y <= 360


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 12))
def test_round_numbers_are_few_even_and_inside(low, span, wanted):
    high = low + span
    assume(span > 1e-10 * abs(low))
    ticks = round_numbers(low, high, wanted)
    assert len(ticks) <= wanted + 2
    slack = span * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    gaps = [b - a for a, b in pairwise(ticks)]
    assert gaps == pytest.approx(gaps[:1] * len(gaps), rel=1e-4)
    assert len({label(tick) for tick in ticks}) == len(ticks)


def test_ticks():
    assert Scale(0, 100, 0, 1).ticks(5) == [0, 20, 40, 60, 80, 100]
    assert Scale(0, 0.35, 0, 1).ticks(6) == [0, 0.1, 0.2, 0.3]
    assert Scale(0.01, 1.8, 0, 1, log=True).ticks(8) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert Scale(1e-9, 1e9, 0, 1, log=True).ticks(6) == [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9]


def test_the_boundary_lies_where_the_score_is_zero():
    """The score x - 0.25 is 0 along a vertical line; the axis tells where that is."""
    seen = []

    def predict(xs, ys):
        seen.append((len(xs), len(ys)))
        return [x - 0.25 for x in xs]

    drawing = decision_boundary(predict, [[-1.0, -1.0], [1.0, 1.0]], [-1, 1], cells=20)
    assert seen == [(400, 400)]
    (line,) = [part.get("d") for part in parts(drawing, "path") if part.get("stroke-width") == "2"]
    xs = {float(end.split()[0]) for stroke in line.split("M") if stroke for end in stroke.split("L")}
    ticks = {part.text: float(part.get("x")) for part in parts(drawing, "text") if part.get("text-anchor") == "middle"}
    expected = (ticks["0"] + ticks["0.5"]) / 2
    assert len(line) > 100
    assert max(abs(x - expected) for x in xs) < 0.1


def test_classes_differ_by_shape_and_not_by_colour_alone():
    drawing = decision_boundary(lambda xs, ys: xs, [[0, 0], [1, 1], [2, 2]], [1, -1, 0], cells=4)
    squares = [part for part in parts(drawing, "rect") if part.get("width") == "8"]
    assert len(parts(drawing, "circle")) == 1 + 1
    assert len(squares) == 2 + 1
    assert {"label above 0", "other label", "score 0"} <= set(texts(drawing))


def test_scores_that_are_not_finite_leave_the_map_white():
    drawing = decision_boundary(lambda xs, ys: [math.nan] * len(xs), [[0, 0]], [1], cells=3)
    cells = [part for part in parts(drawing, "rect") if part.get("fill") == "#ffffff"]
    assert len(cells) == 1 + 3
    assert parts(drawing, "title")[0].text == "Decision boundary"


@pytest.mark.parametrize(
    ("points", "labels", "cells", "words"),
    [
        ([[0, 0]], [1, 1], 4, "1 points and 2 labels"),
        ([], [], 4, "0 points"),
        ([[0, 0, 0]], [1], 4, "two coordinates"),
        ([[0, 0]], [1], 1, "at least 2 cells"),
    ],
)
def test_maps_that_cannot_be_drawn(points, labels, cells, words):
    with pytest.raises(ValueError, match=words):
        decision_boundary(lambda xs, ys: xs, points, labels, cells=cells)
    with pytest.raises(ValueError, match="returned 1 scores"):
        decision_boundary(lambda xs, ys: [1.0], [[0, 0]], [1])


def test_sparkline():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], ascii_only=False) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 7], ascii_only=True) == ".@"
    assert sparkline([1, 1, math.nan], ascii_only=True) == "..?"
    assert sparkline([]) == ""
    assert sparkline([0, 0, 1, 1], width=2, ascii_only=True) == ".@"
    assert len(sparkline(range(1000), width=60)) == 60


def test_sparkline_looks_at_what_the_terminal_can_write(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert sparkline([0, 7]) == ".@"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert sparkline([0, 7]) == "▁█"


def test_a_drawing_is_shown_and_saved(tmp_path):
    drawing = Drawing("<svg/>")
    assert drawing._repr_svg_() == "<svg/>"
    assert repr(drawing) == "<drawing: 6 characters of svg>"
    assert drawing.save(tmp_path / "a.svg").read_text() == "<svg/>"
