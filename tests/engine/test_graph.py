"""Graphs as data: what is read, what is refused and where, and the order of evaluation."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from tests.engine.strategies import any_finite, by_values, exact, wire_graphs

from chainrule_engine.derivatives import evaluate
from chainrule_engine.errors import MAX_PROBLEMS, GraphError, LimitExceeded, ProgramError
from chainrule_engine.graph import (
    LARGEST_EXACT_INTEGER,
    MAX_ID_LENGTH,
    Graph,
    describe,
    is_named,
    read_number,
    unnamed,
)
from chainrule_engine.nodes import Node
from chainrule_engine.value import Value, apply


def node(name: object = "y", op: object = "neg", *args: object) -> dict:
    return {"id": name, "op": op, "args": list(args or ("x",))}


def graph(*nodes: object, **fields: object) -> dict:
    return {"inputs": {"x": 1.0}, "nodes": list(nodes), **fields}


def refusal(data: object, **limits: int) -> list[tuple[tuple, str]]:
    with pytest.raises(GraphError) as caught:
        Graph.from_dict(data, **limits)
    return [(problem.path, problem.detail) for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------- what is read


@settings(max_examples=150, deadline=None)
@given(wire_graphs() | wire_graphs(points=2, numbers=any_finite))
def test_json_to_graph_to_json_is_the_identity(data: dict) -> None:
    text = json.dumps(data)
    read = Graph.from_dict(json.loads(text))
    assert json.dumps(read.to_dict()) == text
    assert Graph.from_dict(read.to_dict()) == read
    assert read.points == (2 if any(isinstance(v, list) for v in data["inputs"].values()) else None)


def test_whole_numbers_are_read_as_floats() -> None:
    read = Graph.from_dict({"inputs": {"x": 2, "c": [1, 2.5]}, "nodes": [node("y", "mul", "x", 3)]})
    assert repr(read.inputs) == "{'x': 2.0, 'c': [1.0, 2.5]}"
    assert repr(read.nodes[0].args) == "('x', 3.0)"


@pytest.mark.parametrize("number", [LARGEST_EXACT_INTEGER, -LARGEST_EXACT_INTEGER, 1e20, -0.0, 5e-324, 1.7e308])
def test_numbers_at_the_edge_of_what_is_read(number: float) -> None:
    read = Graph.from_dict({"inputs": {"x": number}, "nodes": [node("y", "add", "x", number)]})
    assert exact(read.inputs["x"]) == exact(read.nodes[0].args[1]) == exact(float(number))


def test_the_output_can_be_left_out_when_one_id_is_used_by_no_other() -> None:
    assert Graph.from_dict(graph(node("y", "neg", "z"), node("z"))).outputs == ("y",)
    assert Graph.from_dict({"inputs": {"x": 1.0}, "nodes": []}).outputs == ("x",)
    assert Graph.from_dict({"nodes": [node("y", "neg", 1.0)]}).outputs == ("y",)
    # An input that nothing uses is no rival of a node.
    assert Graph.from_dict({"inputs": {"x": 1.0, "unused": 2.0}, "nodes": [node()]}).outputs == ("y",)


def test_one_output_and_a_list_of_one_are_told_apart() -> None:
    single, listed = Graph.from_dict(graph(node(), output="y")), Graph.from_dict(graph(node(), output=["y"]))
    assert (single.single, listed.single) == (True, False)
    assert (single.to_dict()["output"], listed.to_dict()["output"]) == ("y", ["y"])
    assert single != listed


def test_a_program_names_its_output_by_its_last_expression() -> None:
    read = Graph.from_dict({"inputs": {"x": 2.0}, "program": "y = x * x\nz = y + 1\ny * 2"})
    assert evaluate(read).value == 8.0
    assert evaluate(Graph.from_dict({"inputs": {"x": 2.0}, "program": "y = x * x", "output": "x"})).value == 2.0


def test_a_name_of_a_program_stands_for_what_it_is_at_the_end() -> None:
    read = Graph.from_dict({"inputs": {"x": 2.0}, "program": "y = x * x\ny += 1\nz = y", "output": "z"})
    assert read.outputs == ("y",)
    assert evaluate(read).value == 5.0


# ------------------------------------------------------------------------------------------- the order


def test_the_order_is_depth_first_from_the_outputs_and_then_the_declaration() -> None:
    nodes = [node("u1", "neg", "x"), node("a", "neg", "b"), node("b"), node("u2", "neg", "u3"), node("u3"), node("c")]
    read = Graph.from_dict(graph(*nodes, node("y", "add", "c", "a"), output="y"))
    assert [read.nodes[position].id for position in read.order] == ["c", "b", "a", "y", "u1", "u3", "u2"]
    read = Graph.from_dict(graph(*nodes, output=["b", "c", "u2"]))
    assert [read.nodes[position].id for position in read.order] == ["b", "c", "u3", "u2", "u1", "a"]


@settings(max_examples=100, deadline=None)
@given(wire_graphs())
def test_every_node_comes_once_and_after_its_arguments(data: dict) -> None:
    read = Graph.from_dict(data)
    done = set(read.inputs)
    for position in read.order:
        assert {a for a in read.nodes[position].args if isinstance(a, str)} <= done
        done.add(read.nodes[position].id)
    assert sorted(read.order) == list(range(len(read.nodes)))


# ------------------------------------------------------------------------------------------- values


@settings(max_examples=100, deadline=None)
@given(wire_graphs())
def test_a_graph_of_values_is_a_graph_again(data: dict) -> None:
    read = Graph.from_dict(data)
    values = read.to_values()
    again = Graph.from_values([values[name] for name in read.outputs])
    assert again.outputs == read.outputs
    expected, gradients = by_values(read)
    answer = evaluate(again)
    assert exact(answer.values) == exact({name: expected[name] for name in answer.values})
    assert exact(answer.gradients) == exact({name: gradients[name] for name in answer.gradients})


def test_an_expression_of_values_becomes_a_graph() -> None:
    a, b = Value(2.0, "a"), Value(-3.0, "b")
    read = Graph.from_values([((a * b + 10) * a).named("L")])
    assert read.inputs == {"a": 2.0, "b": -3.0}
    assert read.nodes == (
        Node("_1", "mul", ("a", "b")),
        Node("_2", "add", ("_1", 10.0)),
        Node("L", "mul", ("_2", "a")),
    )
    assert (read.outputs, read.single, list(read.order)) == (("L",), True, [0, 1, 2])
    assert Graph.from_dict(read.to_dict()) == read


def test_generated_ids_keep_clear_of_labels() -> None:
    a = Value(2.0, "_1")
    assert [n.id for n in Graph.from_values([-(a.neg())]).nodes] == ["_2", "_3"]
    assert next(unnamed(["_1", "_2", "x"])) == "_3"
    assert (is_named("_1"), is_named("x_1")) == (False, True)


def test_several_outputs_of_values() -> None:
    a = Value(2.0, "a")
    read = Graph.from_values([(a * a).named("p"), (a + 1).named("q")])
    assert (read.outputs, read.single) == (("p", "q"), False)


def test_leaves_need_labels_of_their_own() -> None:
    with pytest.raises(GraphError, match=r"label of its own is needed by Value\(data=2.0"):
        Graph.from_values([Value(2.0) * Value(3.0, "b")])
    with pytest.raises(GraphError, match="label of its own"):
        Graph.from_values([Value(2.0, "a") * Value(3.0, "a")])
    with pytest.raises(GraphError, match="label of its own"):
        Graph.from_values([apply("neg", Value(2.0, "a")).named("a")])


def test_an_output_of_values_is_not_a_number() -> None:
    with pytest.raises(GraphError, match="depends on nothing"):
        Graph.from_values([Value(2.0, constant=True)])


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        (None, (), "a graph is an object with inputs and nodes, and this is null"),
        ([], (), "this is a list"),
        ("x", (), "this is a string"),
        ({"inputs": {}}, (), "give the nodes, as a list or as a program"),
        (graph(node(), output="y", colour=1), ("colour",), "unknown field: a graph has inputs, nodes, output, program"),
        (graph(node(), program="y = x"), ("program",), "either nodes or a program, not both"),
        ({"inputs": {}, "program": 1}, ("program",), "a program is a string, and this is a number"),
        ({"inputs": [], "nodes": []}, ("inputs",), "inputs is an object of id: number, and this is a list"),
        ({"inputs": {"": 1.0}, "nodes": []}, ("inputs", ""), "1 to 200 printable characters"),
        ({"inputs": {"a\nb": 1.0}, "nodes": []}, ("inputs", "a\nb"), "printable"),
        ({"inputs": {1: 1.0}, "nodes": []}, ("inputs", 1), "an id is a string, and this is a number"),
        ({"inputs": {"x": "1"}, "nodes": []}, ("inputs", "x"), "a number is needed here, and this is a string"),
        ({"inputs": {"x": True}, "nodes": []}, ("inputs", "x"), "this is a boolean"),
        ({"inputs": {"x": None}, "nodes": []}, ("inputs", "x"), "this is null"),
        ({"inputs": {"x": {}}, "nodes": []}, ("inputs", "x"), "this is an object"),
        ({"inputs": {"x": math.nan}, "nodes": []}, ("inputs", "x"), "must be finite"),
        ({"inputs": {"x": math.inf}, "nodes": []}, ("inputs", "x"), "must be finite"),
        ({"inputs": {"x": 2**53 + 1}, "nodes": []}, ("inputs", "x"), "write a decimal"),
        ({"inputs": {"x": 10**5000}, "nodes": []}, ("inputs", "x"), "write a decimal"),
        ({"inputs": {"x": []}, "nodes": []}, ("inputs", "x"), "needs at least one number"),
        ({"inputs": {"x": [1.0, "2"]}, "nodes": []}, ("inputs", "x", 1), "this is a string"),
        ({"inputs": {"x": [1.0, [2]]}, "nodes": []}, ("inputs", "x", 1), "this is a list"),
        (
            {"inputs": {"x": [1.0, 2.0], "w": 1.0, "z": [1.0]}, "nodes": []},
            ("inputs", "z"),
            "has 1 numbers and one before it has 2",
        ),
        ({"inputs": {}, "nodes": {}}, ("nodes",), "nodes is a list, and this is an object"),
        (graph("y"), ("nodes", 0), "a node is an object with id, op and args, and this is a string"),
        (graph({**node(), "label": "y"}), ("nodes", 0, "label"), "unknown field: a node has id, op and args"),
        (graph({"op": "neg", "args": ["x"]}), ("nodes", 0), "id is missing"),
        (graph({"id": "y", "args": ["x"]}), ("nodes", 0), "op is missing"),
        (graph({"id": "y", "op": "neg"}), ("nodes", 0), "args is missing"),
        (graph(node(7)), ("nodes", 0, "id"), "an id is a string, and this is a number"),
        (graph(node("")), ("nodes", 0, "id"), "1 to 200 printable characters"),
        (graph(node("y" * 201)), ("nodes", 0, "id"), "1 to 200 printable characters"),
        (graph(node("y\t")), ("nodes", 0, "id"), "printable"),
        (graph(node(), node()), ("nodes", 1, "id"), "'y' is the id of something before it"),
        (graph(node("x", "neg", 1.0), output="x"), ("nodes", 0, "id"), "'x' is the id of something before it"),
        (graph(node("y", "tan")), ("nodes", 0, "op"), "no operation is called 'tan' (did you mean tanh?)"),
        (graph(node("y", "__import__")), ("nodes", 0, "op"), "see the list of operations"),
        (graph(node("y", None)), ("nodes", 0, "op"), "no operation is called None"),
        (graph(node("y", ["neg"])), ("nodes", 0, "op"), "no operation is called ['neg']"),
        (graph({"id": "y", "op": "neg", "args": "x"}), ("nodes", 0, "args"), "list of ids and numbers"),
        (graph(node("y", "add", "x")), ("nodes", 0, "args"), "add takes 2 arguments, and this has 1"),
        (graph(node("y", "neg", "x", "x")), ("nodes", 0, "args"), "neg takes 1 argument, and this has 2"),
        (graph({"id": "y", "op": "neg", "args": []}), ("nodes", 0, "args"), "this has 0"),
        (graph(node("y", "neg", "x1")), ("nodes", 0, "args", 0), "no input or node is called 'x1' (did you mean x?)"),
        (graph(node("y", "add", "x", None)), ("nodes", 0, "args", 1), "an argument is an id or a number: "),
        (graph(node("y", "add", "x", False)), ("nodes", 0, "args", 1), "this is a boolean"),
        (graph(node("y", "add", "x", [1])), ("nodes", 0, "args", 1), "this is a list"),
        (graph(node("y", "add", "x", math.inf)), ("nodes", 0, "args", 1), "must be finite"),
        (graph(node("y", "add", "x", 2**60)), ("nodes", 0, "args", 1), "beyond 2**53"),
        (graph(node(), output=None), ("output",), "output is an id or a list of ids, and this is null"),
        (graph(node(), output=3), ("output",), "this is a number"),
        (graph(node(), output=[]), ("output",), "this is an empty list"),
        (graph(node(), output="z"), ("output",), "no input or node is called 'z'"),
        (graph(node(), output=["y", "z"]), ("output", 1), "no input or node is called 'z'"),
        (graph(node(), output=["y", 1.0]), ("output", 1), "an output is an id, and this is a number"),
        (graph(node(), output=["y", "x", "y"]), ("output", 2), "'y' is an output already"),
        (
            {"inputs": {"x": 1.0}, "program": "k = 2\ny = k * x", "output": "k"},
            ("output",),
            "k is the number 2.0, which depends on nothing",
        ),
        ({"inputs": {}, "nodes": []}, (), "there is no output: the graph has neither nodes nor inputs"),
        (graph(node("y"), node("z")), (), "name the output: 2 ids are used by no other (y, z)"),
        ({"inputs": {"x": 1.0, "w": 1.0}, "nodes": []}, (), "name the output: 2 ids are used by no other (x, w)"),
        (graph(node("y", "neg", "y")), ("nodes", 0, "args", 0), "this makes a cycle: y needs y"),
        (
            graph(node("a", "neg", "b"), node("b", "add", "x", "a")),
            ("nodes", 1, "args", 1),
            "this makes a cycle: a needs b needs a",
        ),
        (
            graph(node("a", "neg", "b"), node("b", "neg", "c"), node("c", "neg", "b"), output="a"),
            ("nodes", 2, "args", 0),
            "this makes a cycle: b needs c needs b",
        ),
        # A cycle beside the output is a cycle all the same.
        (graph(node(), node("a", "neg", "a"), output="y"), ("nodes", 1, "args", 0), "a needs a"),
    ],
)
def test_one_fault_one_problem_with_its_place(data: object, path: tuple, words: str) -> None:
    ((found, detail),) = refusal(data)
    assert found == path
    assert words in detail


def test_many_rivals_for_the_output_are_counted() -> None:
    ((_, detail),) = refusal(graph(*(node(f"y{i}") for i in range(7))))
    assert detail == "name the output: 7 ids are used by no other (y0, y1, y2, y3, y4, …)"


def test_a_long_cycle_is_shortened() -> None:
    ring = [node(f"n{i}", "neg", f"n{(i + 1) % 100_000}") for i in range(100_000)]
    ((path, detail),) = refusal(graph(*ring))
    assert path == ("nodes", 99_999, "args", 0)
    assert detail == ("this makes a cycle: n0 needs n1 needs n2 needs n3 needs … needs n99998 needs n99999 needs n0")


def test_several_faults_are_reported_in_one_go() -> None:
    nodes = [
        "?",
        node("y", "tan"),
        {"id": "z", "ops": "neg", "args": ["x"]},
        node("a", "neg", "q"),
        node("b", "neg", "y"),
    ]
    found = [path for path, _ in refusal(graph(*nodes, inputs={"x": "1", "c": []}))]
    assert found == [
        ("inputs", "x"),
        ("inputs", "c"),
        ("nodes", 0),
        ("nodes", 1, "op"),
        ("nodes", 2, "ops"),
        ("nodes", 2),
        ("nodes", 3, "args", 0),
    ]


def test_the_use_of_a_faulty_node_is_no_second_fault() -> None:
    assert len(refusal(graph(node("y", "tan"), node("z", "neg", "y"), output="z"))) == 1
    assert len(refusal(graph(node("y", "neg", "x", "x"), node("z", "neg", "y"), output="z"))) == 1


@pytest.mark.parametrize(
    "data",
    [
        graph(*(node("y", "tan") for _ in range(100))),
        graph(*(None for _ in range(100))),
        graph(node(), inputs={f"x{i}": None for i in range(100)}),
        graph(node("y", "neg", "x"), inputs={"x": [None] * 100}),
        graph(node(), output=[None] * 100),
        graph(node(), **{f"f{i}": 1 for i in range(100)}),
    ],
)
def test_only_so_many_problems_are_collected(data: dict) -> None:
    assert len(refusal(data)) == MAX_PROBLEMS == 32


def test_long_names_are_cut_in_messages() -> None:
    ((_, detail),) = refusal(graph(node("y", "q" * 5000)))
    assert len(detail) < 200
    ((_, detail),) = refusal(graph(node("y", "neg", "q" * 5000)))
    assert len(detail) < 400
    ((_, detail),) = refusal(graph(node(), output="q" * 5000))
    assert len(detail) < 400


def test_names_of_200_characters_and_of_any_script_are_fine() -> None:
    long = "é" * MAX_ID_LENGTH
    assert Graph.from_dict({"inputs": {"入力": 1.0}, "nodes": [node(long, "neg", "入力")]}).outputs == (long,)


def test_a_program_is_refused_with_its_place() -> None:
    with pytest.raises(ProgramError) as caught:
        Graph.from_dict({"inputs": {"x": 1.0}, "program": "y = x +* 2"})
    assert caught.value.problems[0].path == ("program",)
    assert "line 1, column 8" in caught.value.problems[0].detail


@pytest.mark.parametrize(
    ("data", "limits", "expected"),
    [
        (graph(node("a"), node("b")), {"max_nodes": 1}, ("nodes", 1, 2, ("nodes",))),
        # Counted before they are looked at.
        (graph(*([None] * 50)), {"max_nodes": 49}, ("nodes", 49, 50, ("nodes",))),
        ({"inputs": {"x": 1.0}, "program": "y = -x * x + 1"}, {"max_nodes": 2}, ("nodes", 2, 3, ("program",))),
        ({"inputs": {"x": [1.0] * 5}, "nodes": []}, {"max_points": 4}, ("points", 4, 5, ("inputs", "x"))),
        ({"inputs": {"x": [None] * 5}, "nodes": []}, {"max_points": 4}, ("points", 4, 5, ("inputs", "x"))),
    ],
)
def test_limits(data: dict, limits: dict, expected: tuple) -> None:
    with pytest.raises(LimitExceeded) as caught:
        Graph.from_dict(data, **limits)
    error = caught.value
    assert (error.limit, error.maximum, error.requested, error.path) == expected


def test_at_the_limit_all_is_well() -> None:
    data = {"inputs": {"x": [1.0, 2.0]}, "nodes": [node("a"), node("b", "neg", "a")]}
    assert Graph.from_dict(data, max_nodes=2, max_points=2).points == 2
    text = {"inputs": {"x": 1.0}, "program": "y = -x * x"}
    assert len(Graph.from_dict(text, max_nodes=2).nodes) == 2


def test_numbers_and_kinds_in_words() -> None:
    assert read_number(3) == 3.0
    assert [describe(v) for v in (None, True, "", {}, [], 1, 1.5, ())] == [
        "null", "a boolean", "a string", "an object", "a list", "a number", "a number", "tuple",
    ]  # fmt: skip


def test_a_name_of_a_program_is_an_id_too() -> None:
    with pytest.raises(GraphError, match="too long"):
        Graph.from_dict({"inputs": {"x": 1.0}, "program": "y" * 201 + " = 2 * x"})


def test_many_outputs_are_read_in_one_pass() -> None:
    names = [f"y{i}" for i in range(20_000)]
    read = Graph.from_dict({"inputs": dict.fromkeys(names, 1.0), "nodes": [], "output": names})
    assert read.outputs == tuple(names)
