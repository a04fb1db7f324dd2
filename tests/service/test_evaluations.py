"""POST /v1/evaluations and its batch."""

from __future__ import annotations

import gc
import hashlib
import json
from xml.etree import ElementTree

import pytest

from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph

PATH = "/v1/evaluations"


def test_neuron_of_the_lecture(call, neuron):
    answer = call(PATH, {"graph": neuron})
    assert answer["output"] == "o"
    assert answer["value"] == pytest.approx(0.7071, abs=1e-4)
    assert answer["gradients"]["x1"] == pytest.approx(-1.5)
    assert answer["gradients"]["w1"] == pytest.approx(1.0)
    assert answer["gradients"]["x2"] == pytest.approx(0.5)
    assert answer["gradients"]["w2"] == 0.0
    assert answer["gradients"]["o"] == 1.0
    assert answer["warnings"] == []
    assert "steps" not in answer


def test_answer_is_the_engines_to_the_last_bit(call, neuron):
    answer = call(PATH, {"graph": neuron})
    expected = evaluate(Graph.from_dict(neuron))
    assert answer["values"] == expected.values
    assert answer["gradients"] == expected.gradients


def test_members_come_in_the_order_of_the_wire(call, neuron):
    answer = call(PATH, {"graph": neuron, "trace": True})
    assert list(answer) == ["output", "value", "values", "gradients", "warnings", "steps", "engine", "digest"]
    assert list(answer["values"]) == [*neuron["inputs"], *(node["id"] for node in neuron["nodes"])]


def test_digest_is_that_of_the_text_before_it(client, neuron):
    text = client.post(PATH, data=json.dumps({"graph": neuron}), content_type="application/json").get_data(as_text=True)
    before, _, digest = text.rpartition(',"digest":"sha256:')
    assert digest == hashlib.sha256(f"{before}}}".encode()).hexdigest() + '"}'


def test_program_and_node_list_agree(call, neuron):
    program = {
        "inputs": neuron["inputs"],
        "program": "x1w1 = x1*w1\nx2w2 = x2*w2\nsum = x1w1 + x2w2\nn = sum + b\no = tanh(n)",
    }
    assert call(PATH, {"graph": program}) == call(PATH, {"graph": neuron})


def test_trace_lists_the_steps_of_the_backward_pass(call):
    graph = {"inputs": {"a": 3.0}, "nodes": [{"id": "b", "op": "add", "args": ["a", "a"]}]}
    steps = call(PATH, {"graph": graph, "trace": True})["steps"]
    assert [(step["from"], step["to"], step["total"]) for step in steps] == [("b", "a", 1.0), ("b", "a", 2.0)]


def test_trace_of_a_batch_is_refused(call):
    graph = {"inputs": {"x": [1, 2]}, "program": "y = x*x"}
    assert call(PATH, {"graph": graph, "trace": True}, 422)["errors"][0]["pointer"] == "#/trace"


def test_batch_of_points(call):
    answer = call(PATH, {"graph": {"inputs": {"x": [1, 2, 3], "k": 2}, "program": "y = k*x**2"}})
    assert answer["value"] == [2.0, 8.0, 18.0]
    assert answer["gradients"]["x"] == [4.0, 8.0, 12.0]


def test_seeds_weigh_the_outputs(call):
    graph = {"inputs": {"x": 3.0}, "program": "y = x*x\nz = 2*x", "output": ["y", "z"]}
    assert call(PATH, {"graph": graph})["gradients"]["x"] == 8.0
    assert call(PATH, {"graph": graph, "seeds": {"y": 1.0, "z": 10}})["gradients"]["x"] == 26.0
    problem = call(PATH, {"graph": graph, "seeds": {"x": 1, "y": "2"}}, 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/seeds/x", "#/seeds/y"]


def test_derivative_none_computes_no_gradients(call, neuron):
    answer = call(PATH, {"graph": neuron, "derivative": "none"})
    assert answer["gradients"] == {}
    assert answer["value"] == call(PATH, {"graph": neuron})["value"]


CURVED = {"inputs": {"x": 2.0, "y": 3.0}, "program": "f = x*x*y + y**3"}


def test_matrices_and_their_products(call):
    hessian = call(PATH, {"graph": CURVED, "derivative": "hessian"})
    assert hessian["hessian"] == {"x": {"x": 6.0, "y": 4.0}, "y": {"x": 4.0, "y": 18.0}}
    assert hessian["gradients"] == {"x": 12.0, "y": 31.0, "f": 1.0}
    assert list(hessian) == ["output", "value", "values", "gradients", "hessian", "warnings", "engine", "digest"]
    jacobian = call(PATH, {"graph": CURVED, "derivative": "jacobian"})
    assert (jacobian["jacobian"], jacobian["gradients"]) == ({"f": {"x": 12.0, "y": 31.0}}, {})
    tangent = {"x": 1, "y": -2.0}
    assert call(PATH, {"graph": CURVED, "derivative": "jvp", "tangent": tangent})["jvp"] == {"f": -50.0}
    assert call(PATH, {"graph": CURVED, "derivative": "hvp", "tangent": tangent})["hvp"] == {"x": -2.0, "y": -32.0}


def test_a_hessian_at_many_points_and_one_that_is_not_finite(call):
    answer = call(PATH, {"graph": {"inputs": {"x": [0, 4]}, "program": "y = x**1.5"}, "derivative": "hessian"})
    assert answer["hessian"] == {"x": {"x": ["Infinity", 0.375]}}
    (warning,) = answer["warnings"]
    assert (warning["code"], warning["node"], warning["points"]) == ("non_finite_second_derivative", "y", [0])


def test_an_svg_needs_no_derivative(call):
    body = {"graph": CURVED, "derivative": "jvp", "tangent": {"x": 1}}
    svg = call(PATH, body, headers={"Accept": "image/svg+xml"}).get_data(as_text=True)
    assert svg == call(PATH, {"graph": CURVED, "derivative": "none"}, headers={"Accept": "image/svg+xml"}).get_data(
        as_text=True
    )


def test_numbers_that_are_not_finite_are_strings(call):
    answer = call(PATH, {"graph": {"inputs": {"x": 0, "y": -1}, "program": "a = 1/x\nb = log(y)\nc = -a\nz = b + c"}})
    assert [answer["values"][name] for name in "abc"] == ["Infinity", "NaN", "-Infinity"]
    assert answer["warnings"][0]["node"] in ("a", "b")


def test_kink_carries_a_warning_with_its_interval(call):
    warnings = call(PATH, {"graph": {"inputs": {"x": 0}, "program": "r = relu(x)"}})["warnings"]
    assert [(w["code"], w["node"], w["interval"]) for w in warnings] == [("kink", "r", [0, 1])]


def test_svg_by_accept(call, neuron):
    answer = call(PATH, {"graph": neuron}, headers={"Accept": "image/svg+xml"})
    assert answer.content_type == "image/svg+xml; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Vary"] == "Accept"
    assert ElementTree.fromstring(answer.get_data()).tag == "{http://www.w3.org/2000/svg}svg"


def test_dot_by_accept(call, neuron):
    answer = call(PATH, {"graph": neuron}, headers={"Accept": "text/vnd.graphviz"})
    assert answer.get_data(as_text=True).startswith("digraph")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        (" ", "application/json"),
        ("application/*", "application/json"),
        ("image/*", "image/svg+xml"),
        ("text/html, image/svg+xml;q=0.9, application/json;q=0.8", "image/svg+xml"),
        ("image/svg+xml;q=0.1, application/json", "application/json"),
        ("image/svg+xml;q=0, text/vnd.graphviz;q=0.5", "text/vnd.graphviz"),
    ],
)
def test_content_is_negotiated(client, neuron, accept, media_type):
    answer = client.post(PATH, json={"graph": neuron}, headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, media_type)


def test_nothing_acceptable(call, neuron):
    problem = call(PATH, {"graph": neuron}, 406, headers={"Accept": "image/png"})
    assert "image/svg+xml" in problem["detail"]


def test_focus_and_depth_cut_the_drawing(call, neuron):
    dot = {"Accept": "text/vnd.graphviz"}
    whole = call(PATH, {"graph": neuron}, headers=dot).get_data(as_text=True)
    part = call(f"{PATH}?focus=x1w1&depth=1", {"graph": neuron}, headers=dot).get_data(as_text=True)
    assert "x2w2" in whole
    assert "x2w2" not in part
    assert "x1w1" in part


@pytest.mark.parametrize(
    ("query", "accept", "parameter"),
    [
        ("focus=zz", "image/svg+xml", "focus"),
        ("depth=2", "image/svg+xml", "depth"),
        ("focus=o&depth=-1", "image/svg+xml", "depth"),
        ("focus=o&depth=x", "image/svg+xml", "depth"),
        ("focus=o", "application/json", "focus"),
        ("focus=o&focus=n", "image/svg+xml", "focus"),
        ("colour=red", "application/json", "colour"),
    ],
)
def test_query_parameters_are_checked(call, neuron, query, accept, parameter):
    problem = call(f"{PATH}?{query}", {"graph": neuron}, 422, headers={"Accept": accept})
    assert problem["errors"][0]["parameter"] == parameter


def test_a_drawing_of_many_values_is_refused(call):
    graph = {"inputs": {"x": 1.0}, "program": "y = x\n" + "y = y*x\n" * 1500}
    problem = call(PATH, {"graph": graph}, 422, headers={"Accept": "image/svg+xml"})
    assert problem["type"] == "/problems/limit-exceeded"
    assert "focus" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "#/graph"


def test_a_chain_of_100_000_operations(call):
    nodes = [{"id": f"_{k}", "op": "add", "args": [f"_{k - 1}" if k else "x", 1.0]} for k in range(99_999)]
    nodes.append({"id": "y", "op": "mul", "args": ["_99998", 2.0]})
    answer = call(PATH, {"graph": {"inputs": {"x": 0.5}, "nodes": nodes}})
    assert answer["values"] == {"x": 0.5, "y": 199_999.0}
    assert answer["gradients"] == {"x": 2.0, "y": 1.0}


# ---------------------------------------------------------------------------------------------------- limits


def limited(problem):
    assert problem["type"] == "/problems/limit-exceeded"
    assert problem["requested"] > problem["maximum"]
    return problem["limit"], problem["maximum"], problem["requested"], problem["errors"][0]["pointer"]


def test_limit_of_nodes_counts_before_it_validates(call_with):
    call = call_with(limits={"nodes": 3})
    graph = {"inputs": {"x": 1}, "nodes": [{"id": str(k), "op": "neg", "args": ["x"]} for k in range(3)]}
    call(PATH, {"graph": graph | {"output": "2"}})
    assert limited(call(PATH, {"graph": {"inputs": {}, "nodes": [7] * 4}}, 422)) == ("nodes", 3, 4, "#/graph/nodes")
    assert limited(call(PATH, {"graph": {"inputs": {"x": 1}, "program": "y = x+x+x+x+x"}}, 422))[0] == "nodes"


def test_limit_of_points(call_with):
    call = call_with(limits={"points": 3})
    call(PATH, {"graph": {"inputs": {"x": [1, 2, 3]}, "program": "y = -x"}})
    problem = call(PATH, {"graph": {"inputs": {"x": [1, 2, 3, 4]}, "program": "y = -x"}}, 422)
    assert limited(problem) == ("points", 3, 4, "#/graph/inputs/x")


def test_limit_of_work(call_with):
    call = call_with(limits={"evaluation_work": 6})
    call(PATH, {"graph": {"inputs": {"x": [1, 2, 3]}, "program": "y = -x"}})
    problem = call(PATH, {"graph": {"inputs": {"x": [1, 2, 3, 4]}, "program": "y = -x"}}, 422)
    assert limited(problem) == ("evaluation_work", 6, 8, "#/graph")


def test_limit_of_numbers_in_an_answer(call_with):
    call = call_with(limits={"answer_numbers": 8})
    graph = {"inputs": {"x": [1, 2]}, "program": "y = -x"}
    call(PATH, {"graph": graph})
    more = {"inputs": {"x": [1, 2]}, "program": "y = -x\nz = -y"}
    assert limited(call(PATH, {"graph": more}, 422)) == ("answer_numbers", 8, 12, "#/graph")
    call(PATH, {"graph": more, "derivative": "none"})
    unnamed = {"inputs": {"x": [1, 2]}, "program": "z = -(-x)"}
    call(PATH, {"graph": unnamed})
    several = graph | {"output": ["y"]}  # each output once more, in `value`
    assert limited(call(PATH, {"graph": several}, 422)) == ("answer_numbers", 8, 10, "#/graph")


def test_steps_count_among_the_numbers_of_an_answer(call_with):
    graph = {"inputs": {"x": 2}, "program": "y = -x\nz = y*x"}  # 3 values, 3 gradients; 3 steps of 4 numbers
    request = {"graph": graph, "trace": True}
    call_with(limits={"answer_numbers": 18})(PATH, request)
    call = call_with(limits={"answer_numbers": 17})
    assert limited(call(PATH, request, 422)) == ("answer_numbers", 17, 18, "#/graph")
    call(PATH, {"graph": graph})


def test_minus_zero_stays_what_it_is(call_with):
    request = {"graph": {"inputs": {"x": 0}, "program": "y = 1/x"}}
    text = json.dumps(request).replace('"x": 0', '"x": -0')
    assert call_with()(PATH, raw=text.encode())["value"] == "-Infinity"


def test_the_digest_is_that_of_the_text_up_to_its_last_member(client):
    """Even where an id is called as it is."""
    request = {"graph": {"inputs": {"digest": 2.0}, "program": "y = digest*digest"}}
    text = client.post(PATH, json=request).get_data(as_text=True)
    head, _, tail = text.rpartition(',"digest"')
    assert tail == f':"sha256:{hashlib.sha256((head + "}").encode()).hexdigest()}"}}'


def test_every_direction_of_a_matrix_is_work(call_with):
    # f = x*x*y + y**3 has two inputs and four nodes; the gradient costs 6.
    call = call_with(limits={"evaluation_work": 12})
    call(PATH, {"graph": CURVED})
    call(PATH, {"graph": CURVED, "derivative": "jacobian"})
    call(PATH, {"graph": CURVED, "derivative": "hvp", "tangent": {"x": 1}})
    problem = call(PATH, {"graph": CURVED, "derivative": "hessian"}, 422)
    assert limited(problem) == ("evaluation_work", 12, 18, "#/graph")
    assert "hvp" in problem["detail"]


def test_the_numbers_of_a_matrix_are_counted(call_with):
    call = call_with(limits={"answer_numbers": 9})
    # Three values, and three gradients unless it is by output; then what was asked for.
    for derivative, total in (("jacobian", 5), ("jvp", 4), ("hvp", 8)):
        options = {"tangent": {"x": 1}} if "v" in derivative else {}
        answer = call(PATH, {"graph": CURVED, "derivative": derivative, **options})
        assert len(answer["values"]) + len(answer["gradients"]) + len(str(answer[derivative]).split(", ")) == total
    assert limited(call(PATH, {"graph": CURVED, "derivative": "hessian"}, 422)) == ("answer_numbers", 9, 10, "#/graph")


# ---------------------------------------------------------------------------------------------------- batches


def test_a_bad_item_spoils_no_other(call, neuron):
    bad = {"graph": {"inputs": {"x": 1}, "nodes": [{"id": "y", "op": "neg", "args": ["z"]}]}}
    data = call(f"{PATH}/batch", {"items": [{"graph": neuron}, bad, 3, {"graph": neuron, "trace": True}]})["data"]
    assert [list(entry) for entry in data] == [["result"], ["problem"], ["problem"], ["result"]]
    assert data[0]["result"] == call(PATH, {"graph": neuron})
    assert data[1]["problem"]["errors"][0]["pointer"] == "#/items/1/graph/nodes/0/args/0"
    assert data[1]["problem"]["status"] == 422
    assert data[2]["problem"]["errors"][0]["pointer"] == "#/items/2"


def test_items_share_the_limit_of_work(call_with):
    call = call_with(limits={"evaluation_work": 6})
    item = {"graph": {"inputs": {"x": [1, 2]}, "program": "y = -x"}}
    small = {"graph": {"inputs": {"x": 1}, "program": "y = -x"}}
    data = call(f"{PATH}/batch", {"items": [item, item, small]})["data"]
    assert [list(entry) for entry in data] == [["result"], ["problem"], ["result"]]
    assert limited(data[1]["problem"]) == ("evaluation_work", 6, 8, "#/items/1/graph")


def test_items_share_the_limit_of_numbers(call_with):
    call = call_with(limits={"answer_numbers": 6})
    item = {"graph": {"inputs": {"x": 1}, "program": "y = -x"}}
    data = call(f"{PATH}/batch", {"items": [item, item, item | {"derivative": "none"}]})["data"]
    assert [list(entry) for entry in data] == [["result"], ["problem"], ["result"]]
    assert limited(data[1]["problem"]) == ("answer_numbers", 6, 8, "#/items/1/graph")


def test_limit_of_items(call_with, neuron):
    call = call_with(limits={"batch_items": 2})
    call(f"{PATH}/batch", {"items": [{"graph": neuron}] * 2})
    problem = call(f"{PATH}/batch", {"items": [{"graph": neuron}] * 3}, 422)
    assert limited(problem) == ("batch_items", 2, 3, "#/items")


@pytest.mark.parametrize("body", [{}, {"items": {}}, {"items": []}, {"items": "x"}])
def test_batches_without_items(call, body):
    assert call(f"{PATH}/batch", body, 422)["errors"][0]["pointer"] == "#/items"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(call, neuron, enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        call(PATH, {"graph": neuron})
        assert gc.isenabled() == enabled
        call(PATH, raw=b"{", status=400)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
