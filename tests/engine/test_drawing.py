"""Boxes, DOT text and SVG of whole graphs."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from tests.engine.oracle import ORACLES, points

from chainrule_engine.derivatives import evaluate
from chainrule_engine.drawing import MAX_VALUES, Box, boxes, caption, to_dot, to_svg
from chainrule_engine.errors import DrawingError, LimitExceeded
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"

NEURON = {
    "inputs": {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432},
    "program": "x1w1 = x1*w1\nx2w2 = x2*w2\nx1w1x2w2 = x1w1 + x2w2\nn = x1w1x2w2 + b\no = tanh(n)",
    "output": "o",
}


def network(*sizes):
    """The program of an MLP with relu, and a linear output, as in micrograd; its numbers are made up."""
    inputs = {f"x{i}": (-1.0) ** i * (i + 1) for i in range(sizes[0])}
    lines, before = [], list(inputs)
    for layer, size in enumerate(sizes[1:]):
        after = []
        for unit in range(size):
            name, terms = f"h{layer}_{unit}", [f"b{layer}_{unit}"]
            inputs[terms[0]] = 0.5 * unit + 0.25
            for i, source in enumerate(before):
                weight = f"w{layer}_{unit}_{i}"
                inputs[weight] = ((7 * layer + 5 * unit + 3 * i) % 11 - 3) / 8
                terms.append(f"{weight}*{source}")
            total = " + ".join(terms)
            lines.append(f"{name} = {total}" if layer == len(sizes) - 2 else f"{name} = relu({total})")
            after.append(name)
        before = after
    return {"inputs": inputs, "program": "\n".join(lines), "output": before[0]}


MLP = network(2, 4, 4, 1)


def drawn(data, *, derivative="gradient", **around):
    graph = Graph.from_dict(data)
    return boxes(graph, evaluate(graph, derivative=derivative), **around)


def program(text, **inputs):
    return {"inputs": inputs, "program": text}


def by_id(found):
    return {box.id: box for box in found}


def elements(svg, name):
    """The elements of that class."""
    return [e for e in ET.fromstring(svg).iter() if name in e.get("class", "").split()]


def edges(dot):
    return re.findall(r"^  (\w+) -> (\w+)(?: \[(.*)\])?;$", dot, re.MULTILINE)


# ------------------------------------------------------------------------------------------------------- boxes


def test_boxes_come_in_evaluation_order_with_roles_and_numbers():
    found = drawn(NEURON)
    assert [box.id for box in found] == [
        *("x1", "x2", "w1", "w2", "b"),
        *("x1w1", "x2w2", "x1w1x2w2", "n", "o"),
    ]
    assert [box.role for box in found] == ["input"] * 5 + ["node"] * 4 + ["output"]
    out = found[-1]
    assert (out.label, out.symbol, out.op, out.args) == ("o", "tanh", "tanh", ("n",))
    assert out.cells == [("label", "o"), ("data", "data 0.707107"), ("grad", "grad 1")]
    assert by_id(found)["w1"].cells == [("label", "w1"), ("data", "data -3"), ("grad", "grad 1")]


def test_each_literal_number_is_a_box_of_its_own_without_a_gradient():
    found = drawn(program("y = (x + 2.0) / 2.0", x=1.0))
    constants = [box for box in found if box.role == "constant"]
    assert [box.cells for box in constants] == [[("data", "2")], [("data", "2")]]
    assert len({box.id for box in found}) == len(found) == 5
    assert all(box.grad is None and box.label is None for box in constants)
    assert by_id(found)["y"].args[1] == constants[1].id


def test_a_constant_never_takes_an_id_of_the_graph():
    nodes = [{"id": "y", "op": "mul", "args": ["y.1", 2.0]}]
    found = drawn({"inputs": {"y.1": 3.0}, "nodes": nodes})
    assert len(by_id(found)) == 3


def test_unnamed_nodes_have_no_label_but_both_numbers():
    found = drawn(program("y = tanh(2.0 * x)", x=0.5))
    (product,) = [box for box in found if box.op == "mul"]
    assert product.label is None
    assert [name for name, _ in product.cells] == ["data", "grad"]


def test_repeated_arguments_and_their_order_are_kept():
    found = by_id(drawn(program("y = a - a\nz = y + b + a", a=3.0, b=1.0)))
    assert found["y"].args == ("a", "a")
    assert found["y"].ordered
    assert not found["z"].ordered
    assert found["a"].uses == 3


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_only_operations_whose_arguments_may_be_exchanged_are_unordered(name):
    arity = OPERATIONS[name].arity
    inputs = {f"x{i}": 0.5 + i for i in range(arity)}
    (box,) = drawn({"inputs": inputs, "nodes": [{"id": "y", "op": name, "args": list(inputs)}]})[arity:]
    assert box.symbol == OPERATIONS[name].symbol
    if arity == 1:
        assert not box.ordered
        return
    truth = ORACLES[name].value
    exchangeable = all(truth(*map(mp.mpf, p)) == truth(*map(mp.mpf, reversed(p))) for p in points(name, 50, seed=1))
    assert box.ordered != exchangeable


def test_without_derivatives_there_are_no_gradient_cells():
    found = drawn(NEURON, derivative="none")
    assert all(box.grad is None for box in found)
    assert "grad" not in to_dot(found)
    assert not elements(to_svg(found), "cr-grad")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (0.0000123456789, "1.23457e-05"),
        (5e-324, "4.94066e-324"),
        (-1234567.0, "-1.23457e+06"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_no_number_but_zero_reads_as_zero(value, text):
    assert Box("v", "v", None, (), value, value, "input").cells[1:] == [
        ("data", f"data {text}"),
        ("grad", f"grad {text}"),
    ]


def test_of_a_batch_the_first_point_is_drawn_and_the_caption_says_so():
    graph = Graph.from_dict(program("y = x * k", x=[2.0, 5.0, 7.0], k=3.0))
    found = boxes(graph, evaluate(graph))
    assert by_id(found)["y"].data == 6.0
    assert by_id(found)["k"].grad == 2.0
    assert caption(graph, found) == "point 1 of 3"


def test_a_whole_drawing_needs_no_caption():
    graph = Graph.from_dict(NEURON)
    assert caption(graph, boxes(graph, evaluate(graph))) is None


# ------------------------------------------------------------------------------------------------------- focus


@pytest.mark.parametrize(
    ("focus", "depth", "ids"),
    [
        ("n", 0, {"n"}),
        ("n", 1, {"n", "b", "x1w1x2w2", "o"}),
        ("n", None, {"n", "b", "x1w1x2w2", "o", "x1w1", "x2w2"}),
        ("x1", 2, {"x1", "x1w1", "x1w1x2w2"}),
        ("o", 99, {"x1", "x2", "w1", "w2", "b", "x1w1", "x2w2", "x1w1x2w2", "n", "o"}),
    ],
)
def test_a_focus_shows_what_is_near_before_and_after_it(focus, depth, ids):
    found = drawn(NEURON, focus=focus, depth=depth)
    assert {box.id for box in found} == ids


def test_a_focus_keeps_the_constants_of_the_nodes_that_it_shows():
    found = drawn(program("y = x * 2.0\nz = y + 1.0", x=1.0), focus="y", depth=0)
    assert [box.role for box in found] == ["constant", "node"]


def test_the_caption_says_what_a_focus_leaves_out():
    graph = Graph.from_dict(NEURON)
    for depth, text in [(1, "4 of 10 values: within 1 edge of n"), (None, "6 of 10 values: within 2 edges of n")]:
        found = boxes(graph, evaluate(graph), focus="n", depth=depth)
        assert caption(graph, found, focus="n", depth=depth) == text


def test_what_a_focus_cuts_off_is_drawn_dashed():
    found = drawn(NEURON, focus="x1w1", depth=1)
    dot, svg = to_dot(found), to_svg(found)
    # x1w1x2w2 has an argument that is not drawn, and a user that is not.
    assert [e[2] for e in edges(dot) if e[0].startswith("outside")] == ["style=dashed"]
    cut = [(e.get("data-from"), e.get("data-to")) for e in elements(svg, "cr-outside")]
    assert sorted(cut, key=str) == [("x1w1x2w2", None), ("x2w2", "x1w1x2w2")]
    assert not elements(to_svg(drawn(NEURON)), "cr-outside")


@pytest.mark.parametrize(
    ("around", "place", "words"),
    [
        ({"focus": "x3"}, "focus", "x3"),
        ({"focus": "x1", "depth": -1}, "depth", "0 or more"),
        ({"depth": 2}, "depth", "focus"),
    ],
)
def test_a_focus_that_is_not_there_is_refused(around, place, words):
    with pytest.raises(DrawingError) as refused:
        drawn(NEURON, **around)
    (problem,) = refused.value.problems
    assert problem.path == (place,)
    assert words in problem.detail


def test_a_large_graph_is_refused_whole_and_drawn_in_part():
    lines = ["y0 = x * x", *(f"y{i} = y{i - 1} * x" for i in range(1, MAX_VALUES))]
    data = program("\n".join(lines), x=1.0)
    with pytest.raises(LimitExceeded, match="focus and depth"):
        to_svg(drawn(data))
    part = to_svg(drawn(data, focus="y500"))
    assert {e.get("data-id") for e in elements(part, "cr-node")} == {"x", *(f"y{i}" for i in range(498, 503))}


# ------------------------------------------------------------------------------------------------------ golden


@pytest.mark.parametrize("write", [to_svg, to_dot], ids=["svg", "dot"])
@pytest.mark.parametrize(("name", "data", "values"), [("neuron", NEURON, 10), ("mlp", MLP, 103)])
def test_golden(name, data, values, write):
    found = drawn(data)
    assert len(found) == values
    path = GOLDEN / f"{name}.{'svg' if write is to_svg else 'dot'}"
    # After a change that is meant: run once with this variable set, look at the pictures, commit them.
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(write(found), encoding="utf-8")
    assert write(found) == path.read_text(encoding="utf-8")


def test_the_bytes_do_not_depend_on_the_process():
    code = (
        "import json, sys\n"
        "from chainrule_engine.derivatives import evaluate\n"
        "from chainrule_engine.drawing import boxes, to_dot, to_svg\n"
        "from chainrule_engine.graph import Graph\n"
        "graph = Graph.from_dict(json.load(sys.stdin))\n"
        "found = boxes(graph, evaluate(graph))\n"
        "sys.stdout.buffer.write((to_svg(found) + to_dot(found)).encode())\n"
    )
    texts = {to_svg(drawn(MLP)) + to_dot(drawn(MLP))}
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(MLP).encode(),
            env=environment,
            capture_output=True,
            check=True,
        )
        texts.add(done.stdout.decode())
    assert len(texts) == 1


# --------------------------------------------------------------------------------------------------------- DOT


def test_dot_has_one_edge_per_use():
    dot = to_dot(drawn(program("b = a + a", a=3.0)))
    assert edges(dot) == [("v0", "op1", ""), ("v0", "op1", ""), ("op1", "v1", "")]


def test_dot_numbers_the_arguments_where_their_order_matters():
    dot = to_dot(drawn(program("y = a - b\nz = b + y", a=1.0, b=2.0)))
    assert [e for e in edges(dot) if e[1] == "op2"] == [
        ("v0", "op2", 'headlabel="1"'),
        ("v1", "op2", 'headlabel="2"'),
    ]
    assert [e[2] for e in edges(dot) if e[1] == "op3"] == ["", ""]


def test_dot_escapes_what_records_and_labels_give_a_meaning():
    label = 'a|b } x { "q" \\n \\N <script> &amp;\nend\x07'
    dot = to_dot([Box(label, label, None, (), 1.0, 0.0, "input")], title='"; } \\N')
    assert 'label="{ a\\|b \\} x \\{ \\"q\\" \\\\n \\\\N \\<script\\> &amp;a… | data 1 | grad 0 }"' in dot
    assert 'label="\\"; } \\\\N"' in dot


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_label_breaks_out_of_a_dot_string(label, title):
    dot = to_dot([Box("v", label, None, (), 1.0, 0.0, "input")], title=title)
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "S", dot)
    safe = to_dot([Box("v", "v", None, (), 1.0, 0.0, "input")], title="t")
    assert bare == re.sub(r'"(?:\\.|[^"\\])*"', "S", safe)
    (record,) = re.findall(r'shape=record label="\{ (.*) \}" ', dot)
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", record)) == 2


# --------------------------------------------------------------------------------------------------------- SVG


def rectangles(svg):
    return [
        tuple(float(e.get(key)) for key in ("x", "y", "width", "height"))
        for name in ("cr-box", "cr-operation")
        for e in elements(svg, name)
    ]


SHAPES = {
    "neuron": NEURON,
    "mlp": MLP,
    "shared": program("d = a*b\ne = a + b\nf = d*e - a/b\ng = f**2.0 + where(a > b, d, f)", a=-2.0, b=3.0),
    "names": program("softplus_of_x = softplus(stop_gradient(x))\ny = sigmoid(softplus_of_x)", x=0.25),
}


@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES)
def test_boxes_and_bubbles_do_not_overlap_and_stay_inside(data):
    svg = to_svg(drawn(data))
    root = ET.fromstring(svg)
    found = rectangles(svg)
    for x, y, width, height in found:
        assert min(x, y) > 0
        assert x + width < float(root.get("width"))
        assert y + height < float(root.get("height"))
    for a, b in combinations(found, 2):
        apart = max(a[0] - b[0] - b[2], b[0] - a[0] - a[2], a[1] - b[1] - b[3], b[1] - a[1] - a[3])
        assert apart > 0


@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES)
def test_every_edge_runs_left_to_right_to_its_end(data):
    found = drawn(data)
    svg = to_svg(found)
    joined = set()
    for edge in elements(svg, "cr-edge"):
        steps = re.findall(r"([MCHh])([-\d. ]+)", edge.get("d"))
        position, xs = 0.0, []
        for command, numbers in steps:
            values = [float(n) for n in numbers.split()]
            places = values if command == "H" else values[::2]
            xs += [position + values[0]] if command == "h" else places
            position = xs[-1]
        assert xs == sorted(xs)
        assert xs[0] < xs[-1]
        joined.add((edge.get("data-from"), edge.get("data-to")))
    assert {(arg, box.id) for box in found for arg in box.args} <= joined


@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES)
def test_texts_fit_into_their_boxes(data):
    # A monospaced font of 11 px is at most 0.605 em wide: DejaVu Sans Mono, the widest of the usual ones, 0.602.
    for node in elements(to_svg(drawn(data)), "cr-node"):
        children = list(node)
        (box,) = [e for e in children if e.get("class") == "cr-box"]
        left = float(box.get("x"))
        right = left + float(box.get("width"))
        stops = [float(e.get("d")[1:].split()[0]) for e in children if e.get("class") == "cr-rule"]
        texts = [e for e in children if e.tag == SVG + "text" and e.get("class") != "cr-symbol"]
        for text, start, end in zip(texts, [left, *stops], [*stops, right], strict=True):
            middle, half = float(text.get("x")), len(text.text) * 11 * 0.605 / 2
            assert start + 3 < middle - half
            assert middle + half < end - 3
        for symbol in (e for e in children if e.get("class") == "cr-symbol"):
            (bubble,) = [e for e in children if e.get("class") == "cr-operation"]
            assert len(symbol.text) * 11 * 0.605 < float(bubble.get("width")) - 6


def test_the_drawing_names_itself_and_its_nodes():
    svg = to_svg(drawn(NEURON), title="the lecture's neuron")
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    named = {e.get("id"): e.text for e in root.iter() if e.get("id")}
    assert named[root.get("aria-labelledby")] == "Computation graph, 10 values: the lecture's neuron"
    assert "o = 0.707107" in named[root.get("aria-describedby")]
    assert [e.text for e in elements(svg, "cr-title")] == ["the lecture's neuron"]
    nodes = {e.get("data-id"): e for e in elements(svg, "cr-node")}
    assert len(nodes) == 10
    assert (nodes["o"].get("data-op"), nodes["o"].get("data-role")) == ("tanh", "output")
    assert nodes["x1"].get("data-op") is None
    assert nodes["x1w1"].find(SVG + "title").text.startswith("x1w1 = mul(x1, w1)\ndata -6.0\ngrad 0.4999999")


def test_it_needs_nothing_from_outside_and_no_style():
    svg = to_svg(drawn(MLP), title="t")
    assert "style" not in svg
    assert "script" not in svg
    assert svg.replace('xmlns="http://www.w3.org/2000/svg"', "").find("http") == -1
    assert set(re.findall(r"url\((#[^)]*)\)", svg)) == {
        "#" + e.get("id") for e in ET.fromstring(svg).iter(SVG + "marker")
    }


def test_ids_of_two_drawings_do_not_meet():
    first, second = (
        {e.get("id") for e in ET.fromstring(to_svg(drawn(data))).iter() if e.get("id")} for data in (NEURON, MLP)
    )
    assert len(first) == len(second) == 3
    assert not first & second


def test_an_argument_used_twice_is_one_line_that_says_so():
    svg = to_svg(drawn(program("b = a + a", a=3.0)))
    assert len([e for e in elements(svg, "cr-edge") if e.get("data-to") == "b"]) == 1
    assert [e.text for e in elements(svg, "cr-mark")] == ["×2"]


def test_places_of_arguments_are_marked_where_their_order_matters():
    svg = to_svg(drawn(program("y = a - b\nz = y / y\nw = z + b", a=1.0, b=2.0)))
    assert sorted(e.text for e in elements(svg, "cr-mark")) == ["1", "1,2", "2"]


def test_numbers_that_are_none_stand_out():
    svg = to_svg(drawn(program("y = log(x)", x=-1.0)))
    values = {e.text: e.get("font-weight") for e in elements(svg, "cr-data")}
    assert values == {"data -1": None, "data nan": "bold"}


HOSTILE = [
    "<script>alert(1)</script>",
    "]]>",
    "&amp; & &#0;",
    '" onload="alert(1)',
    "a\x00b\x1b[31m\x7f\ud800\ufffe",
    "two\nlines\ttab\r",
    "\u202egnp.exe",
    "日本語 👩‍👩‍👧 é",
    "x" * 10_000,
    "\u0301" * 10_000,
]


@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_labels_are_text_and_nothing_else(label):
    found = [
        Box(label, label, None, (), 1.0, 0.0, "input", uses=1),
        Box("y", label, "tanh", (label,), 1.0, 0.0, "output", op="tanh"),
    ]
    svg = to_svg(found, title=label)
    root = ET.fromstring(svg.encode())
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        *("svg", "title", "desc", "defs", "marker", "path", "rect", "text", "g")
    }
    assert not [name for e in root.iter() for name in e.attrib if name.startswith("on")]
    assert float(root.get("width")) < 4_000
    node = elements(svg, "cr-node")[0]
    assert node.get("data-id") == re.sub("[\x00\x1b\ud800\ufffe]", "", label)
    to_dot(found, title=label).encode()


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_makes_well_formed_xml_that_keeps_the_id(label):
    svg = to_svg([Box(label, label, None, (), 1.0, 0.0, "input")], title=label)
    (node,) = elements(svg, "cr-node")
    assert node.get("data-id") == "".join(
        c for c in label if c in "\t\n\r" or (c >= "\x20" and c not in "\ufffe\uffff")
    )


def test_a_drawing_may_be_empty_or_one_input():
    assert ET.fromstring(to_svg([])).get("role") == "img"
    assert len(elements(to_svg([Box("x", "x", None, (), 1.0, 1.0, "input")]), "cr-box")) == 1
