"""Nodes in columns: the same nodes, and the contract's order of their evaluation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.strategies import exact, wire_graphs

from chainrule_engine.errors import GraphError
from chainrule_engine.graph import Graph
from chainrule_engine.nodes import BLOCK, Node, Nodes, evaluation_order
from chainrule_engine.value import in_order

LONG = 2 * BLOCK + 1


def chain_of(length: int) -> list[Node]:
    return [Node(f"n{k}", "neg", ((f"n{k - 1}" if k else "x"),)) for k in range(length)]


def test_nodes_are_a_sequence_of_nodes() -> None:
    listed = [Node("a", "where", ("x", 1.5, "b")), Node("b", "neg", (-0.0,)), Node("c", "add", (0.0, 1.5))]
    nodes = Nodes.of(["x"], listed)
    assert list(nodes) == listed
    assert (nodes[-1], nodes[1:], len(nodes)) == (listed[2], tuple(listed[1:]), 3)
    assert nodes == listed
    assert nodes == Nodes.of(["x"], listed)
    assert nodes != listed[:2]
    assert nodes != [*listed[:2], Node("c", "add", (0.0, 2.5))]
    assert repr(nodes) == repr(tuple(listed))
    with pytest.raises(IndexError):
        nodes[3]


def test_columns_hold_slots_and_literals() -> None:
    nodes = Nodes.of(
        ["x"], [Node("a", "where", ("x", 1.5, "b")), Node("b", "neg", (-0.0,)), Node("c", "add", (0.0, 1.5))]
    )
    assert (nodes.names, nodes.first, nodes.ids) == (["x", "a", "b", "c"], 1, ["a", "b", "c"])
    assert list(nodes.sources) == [0, -1, 2, -2, -3, -1]
    assert list(nodes.starts) == [0, 3, 4, 6]
    assert exact(list(nodes.literals)) == exact([1.5, -0.0, 0.0])


def test_an_argument_that_is_no_id_is_refused() -> None:
    with pytest.raises(KeyError):
        Nodes.of(["x"], [Node("a", "neg", ("y",))])


@settings(deadline=None)
@given(wire_graphs(), st.data())
def test_the_order_is_that_of_values(data: dict, choice: st.DataObject) -> None:
    graph = Graph.from_dict(data)
    outputs = choice.draw(st.lists(st.sampled_from(graph.nodes.names), unique=True))
    values = graph.to_values()
    roots = [*outputs, *graph.nodes.ids]
    expected = [value.label for value in in_order([values[name] for name in roots]) if value.op is not None]
    order = evaluation_order(graph.nodes, outputs)
    assert order is not None
    assert [graph.nodes[position].id for position in order] == expected


def test_a_cycle_has_no_order() -> None:
    ring = [*chain_of(5), Node("n5", "add", ("n6", "x")), Node("n6", "neg", ("n5",))]
    assert evaluation_order(Nodes.of(["x"], ring), ["n4"]) is None


@pytest.mark.parametrize(
    ("place", "fault", "path"),
    [
        (LONG - 1, {"id": "n0"}, ("nodes", LONG - 1, "id")),
        (BLOCK, {"id": "x"}, ("nodes", BLOCK, "id")),
        (BLOCK, {"id": 7}, ("nodes", BLOCK, "id")),
        (BLOCK, {"id": "y" * 201}, ("nodes", BLOCK, "id")),
        (BLOCK - 1, {"op": "tan"}, ("nodes", BLOCK - 1, "op")),
        (BLOCK - 1, {"op": ["neg"]}, ("nodes", BLOCK - 1, "op")),
        (BLOCK, {"op": "add"}, ("nodes", BLOCK, "args")),
        (BLOCK, {"args": "x"}, ("nodes", BLOCK, "args")),
        (BLOCK, {"args": {"x": 1}}, ("nodes", BLOCK, "args")),
        (BLOCK, {"args": ["x"] * 300}, ("nodes", BLOCK, "args")),
        (BLOCK, {"args": [["x"]]}, ("nodes", BLOCK, "args", 0)),
        (BLOCK, {"args": [None]}, ("nodes", BLOCK, "args", 0)),
        (BLOCK, {"args": ["q"]}, ("nodes", BLOCK, "args", 0)),
        (BLOCK, {"args": [2**53 + 1]}, ("nodes", BLOCK, "args", 0)),
        (BLOCK, {"colour": 1}, ("nodes", BLOCK, "colour")),
    ],
)
def test_a_fault_far_down_a_long_list_has_its_place(place: int, fault: dict, path: tuple) -> None:
    nodes: list[object] = [
        {"id": node.id, "op": node.op, "args": list(node.args)} | (fault if k == place else {})
        for k, node in enumerate(chain_of(LONG))
    ]
    with pytest.raises(GraphError) as caught:
        Graph.from_dict({"inputs": {"x": 1.0}, "nodes": nodes, "output": "x"})
    assert caught.value.problems[0].path == path


def test_many_nodes_cost_little_memory() -> None:
    nodes = Graph.from_dict(
        {"inputs": {"x": 1.0}, "nodes": [{"id": n.id, "op": n.op, "args": list(n.args)} for n in chain_of(LONG)]}
    ).nodes
    held = nodes.sources.itemsize * len(nodes.sources) + nodes.starts.itemsize * len(nodes.starts) + len(nodes.codes)
    assert held <= 16 * len(nodes)
