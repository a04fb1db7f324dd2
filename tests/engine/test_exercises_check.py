"""What exercises can tell: the weak points of published ones are found, named, and mended by what is suggested."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine import wrong_engine
from tests.engine.random_exercises import exercise
from tests.engine.strategies import tame_graphs, wire_graphs

from chainrule_engine.checking import GradientCheck, InputCheck
from chainrule_engine.derivatives import evaluate
from chainrule_engine.diagnosis import MISTAKES
from chainrule_engine.errors import InvalidInput
from chainrule_engine.exercises import ExerciseError, examine, generate, publishing
from chainrule_engine.exercises.point import points_of
from chainrule_engine.exercises.reasons import REASONS
from chainrule_engine.exercises.strength import Exercise
from chainrule_engine.exercises.suggestion import round_numbers_near
from chainrule_engine.exercises.wrong import WrongEngines
from chainrule_engine.grading import grade, read_task
from chainrule_engine.graph import Graph


def program(inputs, text, **more):
    return {"evaluation": {"graph": {"inputs": inputs, "program": text}} | more}


def asking(data, *checks):
    return data | {"checks": [{"id": f"c{k}", "points": 1} | check for k, check in enumerate(checks)]}


def check(data, **options):
    return examine(read_task(data), **options)


def count(found):
    """Detected and relevant among the 46."""
    numbered = [name for name, mistake in MISTAKES.items() if mistake.number]
    caught = sum(name in found.strength.caught or name in found.strength.partly for name in numbered)
    return caught, caught + sum(missed.name in numbered for missed in found.strength.missed)


def missed(found):
    """Name → reason, of those among the 46."""
    return {m.name: m.reason.kind for m in found.strength.missed if MISTAKES[m.name].number}


TOPO = ("no_topo_dfs", "bfs_once", "dfs_preorder")
LECTURE = {"x1": 2, "x2": 0, "w1": -3, "w2": 1, "b": 6.8813735870195432}
SUM = "n = x1*w1 + x2*w2 + b\n"

MLP = """
h1 = tanh(x1*w11 + x2*w12 + x3*w13 + b1)
h2 = tanh(x1*w21 + x2*w22 + x3*w23 + b2)
o = tanh(h1*v1 + h2*v2 + c)
loss = (o - 1.0)**2
"""
MLP_INPUTS = {
    "x1": 2.0, "x2": 3.0, "x3": -1.0, "w11": 0.3, "w12": -0.25, "w13": 0.5, "b1": 0.1, "w21": -0.2, "w22": 0.4,
    "w23": 0.35, "b2": -0.3, "v1": 0.7, "v2": -0.6, "c": 0.2,
}  # fmt: skip

#: Micrograd's tests (test/test_engine.py), written as program text.
SANITY = "z = 2*x + 2 + x\nq = relu(z) + z*x\nh = relu(z*z)\ny = h + q + q*x"
MORE_OPS = """
c = a + b
d = a*b + b**3
c += c + 1
c += 1 + c + (-a)
d += d*2 + relu(b + a)
d += 3*d + relu(b - a)
e = c - d
f = e**2
g = f/2.0
g += 10.0/f
"""

#: The exercises of the facts that the project started from, with what was measured there: detected, relevant, and why
#: the others survive. A mistake that escapes in some orders of the children alone counts as detected, as it was there.
PUBLISHED = {
    "L = (ab + c) f": (
        program({"a": 2, "b": -3, "c": 10, "f": -2}, "e = a*b\nd = e + c\nL = d*f"),
        (8, 12),
        dict.fromkeys(("assign", *TOPO), "tree"),
    ),
    "a neuron with tanh": (
        program(LECTURE, SUM + "o = tanh(n)"),
        (12, 18),
        dict.fromkeys(("assign", *TOPO), "tree") | dict.fromkeys(("tanh_no_up", "tanh_paren"), "upstream_one"),
    ),
    "the same by exp": (
        program(LECTURE, SUM + "e = (2*n).exp()\no = (e - 1)/(e + 1)"),
        (19, 21),
        {"sub_sign": "constant_operand", "bfs_once": "order_coincides"},
    ),
    "a + a": (
        program({"a": 3.0}, "b = a + a"),
        (4, 9),
        {"add_no_up": "upstream_one", "not_reversed": "one_level"} | dict.fromkeys(TOPO, "tree"),
    ),
    "(ab)(a + b)": (
        program({"a": -2, "b": 3}, "d = a*b\ne = a + b\nf = d*e"),
        (8, 12),
        {"mul_no_up": "upstream_one"} | dict.fromkeys(TOPO, "only_inputs_shared"),
    ),
    # The facts name the operations and the survivors, not the formula; this one has both.
    "mixed operations": (
        program({"x": 2.0, "y": 3.0}, "p = 2*x\nq = x**3\nt = -q\nr = sin(y)\ns = 1/y\nL = t - p + r + s"),
        (18, 25),
        {
            "mul_own": "equal_operands",
            "sin_no_up": "upstream_one",
            "add_no_up": "upstream_one",
            "div_no_num": "special_operand",
        }
        | dict.fromkeys(TOPO, "only_inputs_shared"),
    ),
    "softmax and NLL, 4 logits": (
        program(
            {"l1": 0.0, "l2": 3.0, "l3": -2.0, "l4": 1.0},
            "e1 = exp(l1)\ne2 = exp(l2)\ne3 = exp(l3)\ne4 = exp(l4)\ns = e1 + e2 + e3 + e4\np = e4/s\nloss = -log(p)",
        ),
        (20, 20),
        {},
    ),
    "micrograd test_sanity_check": (
        program({"x": -4.0}, SANITY),
        (15, 18),
        {"relu_ge": "kink", "relu_gate_up": "side", "bfs_once": "order_coincides"},
    ),
    "micrograd test_more_ops": (program({"a": -4.0, "b": 2.0}, MORE_OPS), (28, 29), {"relu_ge": "kink"}),
    "MLP 3-2-1, sum of squares": (
        program(MLP_INPUTS, MLP),
        (19, 24),
        {"sub_sign": "constant_operand", "pow_no_up": "upstream_one"} | dict.fromkeys(TOPO, "only_inputs_shared"),
    ),
    # Two samples, labels 0 and 1 as inputs: -log σ((2y - 1)(wx + b)).
    "logistic BCE": (
        program(
            {"x1": 1.5, "y1": 1.0, "x2": -2.0, "y2": 0.0, "w": 0.5, "b": 0.25},
            "l1 = -log(sigmoid((2*y1 - 1)*(w*x1 + b)))\nl2 = -log(sigmoid((2*y2 - 1)*(w*x2 + b)))\nL = l1 + l2",
        ),
        (17, 21),
        {"sub_sign": "constant_operand"} | dict.fromkeys(TOPO, "only_inputs_shared"),
    ),
    "a generic graph, 4 inputs, 2 points": (
        program(
            {"a": [1.5, -2.5], "b": [2.5, 0.5], "c": [-0.5, 3.0], "d": [0.75, 1.25]},
            """
s = a*b - c
t = tanh(0.25*s) + sin(d*s)
u = s/(b + 3) - relu(a - c)*t
v = sigmoid(u)*exp(-0.5*t) + log(b*b + d)
w = (s - v*t)**3
y = (v - w/(u*u + 2))*t + 2*relu(-s - t)
""",
        ),
        (45, 46),
        {"relu_ge": "kink"},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weak_points_of_published_exercises_are_found(name):
    data, counts, survivors = PUBLISHED[name]
    found = check(data, suggestions=False)
    assert missed(found) == survivors
    assert count(found) == counts
    assert found.key["passed"]
    # What is at its kink only, or nowhere, is no reason against an exercise.
    assert found.publishable == (not survivors.keys() - {"relu_ge"})


def test_the_node_and_the_number_are_named():
    found = check(PUBLISHED["(ab)(a + b)"][0]).to_dict()
    entry = next(entry for entry in found["missed"] if entry["name"] == "mul_no_up")
    assert entry["why"] == "upstream is 1 at node d, because e = a + b = 1"
    assert entry["node"] == "d"
    assert entry["reason"] == "upstream_one"
    assert {"detail", "pointer"} == set(found["problems"][0])
    assert "mul_no_up" in found["problems"][0]["detail"]
    mixed = {m.name: m.reason for m in check(PUBLISHED["mixed operations"][0]).strength.missed}
    assert mixed["mul_own"].why == "operand equals coefficient at node p: both are 2"
    assert mixed["div_no_num"].why == "the numerator at s is 1"
    assert (mixed["mul_own"].node, mixed["div_no_num"].node, mixed["sin_no_up"].node) == ("p", "s", "r")
    by_exp = {m.name: m.reason for m in check(PUBLISHED["the same by exp"][0]).strength.missed}
    assert by_exp["sub_sign"].why == "the second operand of e - 1 is the number 1, which takes no gradient"


#: What the suggested inputs (or the suggested seed) must catch.
MENDED = {
    "a neuron with tanh": {"tanh_no_up", "tanh_paren"},
    "a + a": {"add_no_up"},
    "(ab)(a + b)": {"mul_no_up"},
    "mixed operations": {"mul_own", "sin_no_up", "add_no_up"},
    "MLP 3-2-1, sum of squares": {"pow_no_up"},
}


@pytest.mark.parametrize("name", MENDED)
def test_what_is_suggested_mends_them(name):
    task = read_task(PUBLISHED[name][0])
    before = examine(task)
    suggestion = before.suggestion
    assert set(suggestion.newly) >= MENDED[name]
    # As a course would do it: the wire's task with the suggestion pasted in.
    data = json.loads(json.dumps(PUBLISHED[name][0]))
    told = json.loads(json.dumps(suggestion.to_dict()))
    data["evaluation"]["graph"]["inputs"] |= told["inputs"]
    if "seeds" in told:
        data["evaluation"]["seeds"] = told["seeds"]
    after = check(data)
    caught = {*after.strength.caught, *after.strength.partly}
    assert caught >= {*before.strength.caught, *before.strength.partly, *suggestion.newly}
    assert {m.name for m in after.strength.missed} == set(suggestion.missed)
    assert told["caught"] + len(told["still_missed"]) == len(caught) + len(suggestion.missed)
    # Round, moderate, few.
    assert all((2 * x).is_integer() for x in suggestion.inputs.values())
    assert len(suggestion.inputs) <= 2
    assert after.strength == examine(suggestion.applied_to(task)).strength


def by_another_engine(task, mistake):
    """What classes written apart from the engine, with this mistake, get for their answers: fractions of full marks."""
    graph = task.graph.to_dict()
    found = set()
    for order in (None, 1, 2, 3, 4):
        try:
            numbers = wrong_engine.hand_in(graph, wrong_engine.Student(frozenset({mistake}), order=order))
        except wrong_engine.NoAnswer:
            continue
        gradients = {name: numbers[f"gradients.{name}"] for name in graph["inputs"]}
        report = grade(task, {"value": numbers["value"], "gradients": gradients}, diagnose=False)
        found.add(report.to_dict("staff")["fraction"])
    return found


def agree_with_another_engine(task):
    strength = examine(task, suggestions=False).strength
    for mistake in wrong_engine.MISTAKES:
        fractions = by_another_engine(task, mistake) if mistake not in strength.not_applicable else set()
        if mistake in strength.caught:
            assert 1 not in fractions, mistake
        elif mistake not in strength.partly:
            assert fractions <= {1}, mistake


@pytest.mark.parametrize("name", [name for name, (_, (_, _), _) in PUBLISHED.items() if "2 points" not in name])
def test_an_engine_of_others_passes_where_it_is_said_to(name):
    task = read_task(PUBLISHED[name][0])
    agree_with_another_engine(task)
    found = examine(task)
    if found.extension is not None:
        agree_with_another_engine(found.extension.applied_to(task))
    if found.suggestion is not None and not found.suggestion.seeds:
        agree_with_another_engine(found.suggestion.applied_to(task))


@pytest.mark.slow
def test_an_engine_of_others_passes_random_exercises_where_it_is_said_to():
    for seed in range(100):
        agree_with_another_engine(read_task({"evaluation": {"graph": exercise(seed)}}))


def test_where_inputs_do_not_help_there_is_advice_and_no_suggestion():
    found = check(PUBLISHED["L = (ab + c) f"][0])
    assert found.suggestion is None
    assert {m["advice"] for m in found.to_dict()["missed"] if m["name"] in TOPO} == {REASONS["tree"].advice}
    # A model exercise needs none.
    model = check(PUBLISHED["softmax and NLL, 4 logits"][0])
    assert (model.suggestion, model.extension) == (None, None)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("L = (ab + c) f", set()),
        ("a neuron with tanh", set()),
        ("the same by exp", set()),
        # Of a + a alone nothing becomes a model exercise; a product hides its own factor of 1.
        ("a + a", {"mul_no_up"}),
        ("(ab)(a + b)", set()),
        ("mixed operations", {"div_no_num"}),
        ("MLP 3-2-1, sum of squares", set()),
        ("logistic BCE", set()),
    ],
)
def test_nodes_on_top_mend_what_inputs_cannot(name, left):
    data = json.loads(json.dumps(PUBLISHED[name][0]))
    task = read_task(data)
    before = examine(task)
    told = json.loads(json.dumps(before.extension.to_dict()))
    graph = task.graph.to_dict()
    graph["nodes"] += told["nodes"]
    graph["output"] = told["output"]
    assert len(told["nodes"]) <= 2
    after = check({"evaluation": {"graph": graph}}, suggestions=False)
    assert set(missed(after)) == left
    assert {m.name for m in after.strength.missed} == set(before.extension.missed) == set(told["still_missed"])
    assert {*after.strength.caught, *after.strength.partly} >= set(told["newly_caught"]) >= set(missed(before)) - left
    assert examine(before.extension.applied_to(task), suggestions=False).strength == after.strength
    # The numbers stay those of an exercise.
    assert max(map(abs, evaluate(Graph.from_dict(graph)).values.values())) <= 50


def test_an_extension_takes_new_names_and_leaves_chosen_seeds_alone():
    tree = program({"y2": 2.0, "b": 3.0, "y3": -1.5}, "y = y2*b + y3")
    (first, *_) = check(tree).extension.nodes
    assert first.id == "y4"
    assert check(tree | {"evaluation": tree["evaluation"] | {"seeds": {"y": 2.0}}}).extension is None


LOOSE = {"of": ["value", "gradients.x"], "compare": {"mode": "allclose", "equal_nan": True}}

#: Coincidences beside those of the published exercises: (task, mistake, reason, node).
COINCIDENCES = {
    "an exponent of 0": (program({"x": 1.5}, "y = 2*x**0"), "pow_no_dec", "exponent", "_1"),
    "an exponent of 1": (program({"x": 1.5}, "y = 2*x**1"), "pow_no_coef", "exponent", "_1"),
    "a base of 1": (program({"x": 1.0}, "y = 2*x**3"), "pow_no_dec", "special_operand", "_1"),
    "a constant denominator": (program({"x": 3.0}, "y = 2*(x/4)"), "div_sign", "constant_operand", "_1"),
    "a square by itself": (program({"x": 3.0}, "y = 7 - x*x"), "mul_own", "same_operand", "_1"),
    "equal factors": (program({"x": 3.0, "z": 3.0}, "y = 7 - x*z"), "mul_own", "equal_operands", "_1"),
    "a dead relu": (program({"x": -3.0, "z": 2.0}, "h = relu(x)\ny = h*z"), "relu_value", "side", "h"),
    "a relu that always passes": (program({"x": 3.0, "z": 2.0}, "h = relu(x)\ny = h*z"), "relu_pass", "side", "h"),
    "only positive gradients": (
        program({"x": 3.0, "z": 2.0}, "h = relu(x)\ny = h*z"), "relu_gate_up", "upstream_positive", "h",
    ),
    "a branch that is not taken": (
        program({"x": 3.0, "z": 2.0}, "h = sin(x)\ny = where(z > 0, z*z, h)"), "sin_sign", "no_gradient", "h",
    ),
    "nothing arrives": (program({"x": 3.0}, "y = x*2", seeds={"y": 0.0}), "twice", "no_gradient", None),
    "an exponent that is a number": (
        program({"x": 3.0}, "y = 2*x**3"), "pow_exponent_zero", "literal_exponent", "_1",
    ),
    "the shares are 0": (program({"x": 0.0, "z": 0.0}, "y = x*z"), "twice", "coincidence", None),
    "a rule that agrees at e": (
        program({"x": 2.718281828459045}, "y = 3*exp(x)"), "exp_powerrule", "coincidence", "_1",
    ),
    "not finite": (asking(program({"x": 5.0}, "y = 3*sin(x*1e308)"), LOOSE), "sin_sign", "not_finite", "_2"),
}  # fmt: skip


@pytest.mark.parametrize("name", COINCIDENCES)
def test_a_coincidence_is_named_with_its_node(name):
    data, mistake, kind, node = COINCIDENCES[name]
    found = {m.name: m.reason for m in check(data, suggestions=False).strength.missed}
    assert (found[mistake].kind, found[mistake].node) == (kind, node)


def test_what_is_not_asked_for_does_not_show():
    data = program({"a": 2.0, "b": 3.0}, "c = a*b\nd = c - a\nL = d*c")
    assert "sub_sign" in check(data).strength.caught
    found = check(asking(data, {"of": "value"}, {"of": "gradients.c"}))
    reasons = {m.name: m.reason for m in found.strength.missed}
    assert reasons["sub_sign"].kind == "not_asked"
    assert reasons["sub_sign"].why == "it shows in gradients.a alone, which is not asked for"
    assert not found.publishable
    # neg_self is wrong in its values first.
    forward = program({"a": 2.0}, "b = -a\nc = b*b")
    assert "neg_self" in {m.name for m in check(asking(forward, {"of": "value"})).strength.missed}
    assert "neg_self" in check(asking(forward, {"of": "values.b"})).strength.caught


def test_a_tolerance_may_be_too_wide():
    data = program({"x": 0.03, "z": 2.0}, "h = tanh(x)\nL = h*z")
    assert "tanh_plus" in check(data).strength.caught
    wide = asking(data, {"of": ["value", "gradients.x", "gradients.z"], "compare": {"mode": "percent", "percent": 1}})
    found = check(wide)
    reason = next(m.reason for m in found.strength.missed if m.name == "tanh_plus")
    assert reason.kind == "tolerance"
    assert reason.why.startswith("it shows in gradients.x by 0.003")
    assert any("tanh_plus" in problem.detail for problem in found.problems)
    # The search finds an x at which it shows even so.
    assert "tanh_plus" in found.suggestion.newly


def test_at_a_kink_the_accepted_choice_decides():
    data = program({"x": 0.0, "z": 2.0}, "h = relu(x)\nL = h*z + z*x")
    any_choice = asking(data, {"of": "gradients.x"}, {"of": "gradients.z"})
    found = check(any_choice)
    reason = next(m.reason for m in found.strength.missed if m.name == "relu_ge")
    assert (reason.kind, reason.node) == ("kink_accepted", "h")
    convention = asking(data, {"of": "gradients.x", "kink": "zero"}, {"of": "gradients.z"})
    assert "relu_ge" in check(convention).strength.caught


def test_seeds_count():
    data = program(LECTURE, SUM + "o = tanh(n)", seeds={"o": 3.0})
    assert {"tanh_no_up", "tanh_paren", "seed_one"} <= set(check(data).strength.caught)
    assert "seed_one" in check(program(LECTURE, SUM + "o = tanh(n)")).strength.not_applicable


def test_several_outputs():
    data = program({"a": 2.0, "b": 3.0}, "c = a*b\nd = sin(c) + a", seeds={"c": 0.5, "d": -2.0})
    data["evaluation"]["graph"]["output"] = ["c", "d"]
    found = check(data)
    assert found.key["passed"]
    assert {"mul_no_up", "sin_no_up", "add_no_up"} <= set(found.strength.caught)


def test_a_jacobian_counts_as_right():
    data = program({"a": 2.0, "b": 3.0}, "L = a*b")
    names = {m.name for m in check(asking(data, {"of": "jacobian.L.a"})).strength.missed}
    assert {"mul_own", "no_seed"} <= names


def test_a_graph_without_operations_shows_nothing():
    found = check({"evaluation": {"graph": {"inputs": {"x": 1.0}, "nodes": [], "output": "x"}}})
    assert (found.strength.caught, found.strength.missed) == ((), ())
    assert len(found.strength.not_applicable) == len(MISTAKES)


def test_too_many_paths_for_one_mistake():
    lines = "\n".join(f"n{k + 1} = n{k} + tanh(n{k})" for k in range(40))
    found = check(program({"n0": 1.5}, lines), suggestions=False)
    # An engine that follows each of 2⁴⁰ paths never hands anything in.
    assert "no_topo_dfs" not in {m.name for m in found.strength.missed}


def test_every_mistake_is_somewhere():
    for data, _, _ in PUBLISHED.values():
        strength = check(data, suggestions=False).strength
        names = [*strength.caught, *strength.partly, *(m.name for m in strength.missed), *strength.not_applicable]
        assert sorted(names) == sorted(MISTAKES)


def test_those_that_look_alike_are_named():
    # As measured for the facts: nothing tells a root whose gradient is never set from rules that run the wrong way
    # round, unless an input is an operand of the root.
    generic = check(PUBLISHED["softmax and NLL, 4 logits"][0]).strength.ambiguous
    assert ("no_seed", "not_reversed") in generic
    with_leaf = check(program({"a": 2, "b": -3, "c": 10}, "L = a*b + c")).strength.ambiguous
    assert not any({"no_seed", "not_reversed"} <= set(group) for group in with_leaf)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=wire_graphs(max_nodes=8) | wire_graphs(max_nodes=6, points=2), program=st.booleans())
def test_any_graph_is_examined(data, program):
    # At every edge: zeros, infinities, NaN, kinks, unused nodes, several outputs.
    found = examine(Graph.from_dict(data), program=program)
    told = found.to_dict()
    assert json.loads(json.dumps(told)).keys() == told.keys()
    assert found.publishable == (not told["problems"])
    for reason in (m.reason for m in found.strength.missed):
        assert reason.kind in REASONS
        assert len(reason.why) < 300


@pytest.mark.parametrize("name", ["a.b", "a b", "a/b~c", "'\"<b>&", "ü", "_", "__proto__", "x" * 200])
def test_ids_may_be_anything(name):
    nodes = [{"id": name, "op": "mul", "args": ["x", "x2"]}, {"id": "y", "op": "add", "args": [name, "x"]}]
    found = check({"evaluation": {"graph": {"inputs": {"x": 1.0, "x2": 1.0}, "nodes": nodes}}})
    assert {m.reason.node for m in found.strength.missed} >= {name}
    assert found.suggestion is not None


@settings(max_examples=40, deadline=None)
@given(graph=tame_graphs(max_nodes=8))
def test_missed_is_what_grading_gives_full_marks(graph):
    task = read_task({"evaluation": {"graph": graph.to_dict()}})
    strength = Exercise(task).strength()
    (point,) = points_of(task.graph, task.seeds)
    names = {m.name for m in strength.missed}
    for mistake in MISTAKES.values():
        if mistake.name in strength.not_applicable:
            continue
        fractions = set()
        engines = WrongEngines(point)
        lucky = engines.lucky(mistake, graph.inputs) if mistake.name in strength.partly else None
        for wrong in [*engines.runs(mistake), *([lucky] if lucky else [])]:
            outputs = [wrong.values[name] for name in graph.outputs]
            answers = {
                "value": outputs[0] if graph.single else outputs,
                "gradients": {name: wrong.gradients[name] for name in graph.inputs},
            }
            fractions.add(grade(task, answers, diagnose=False).to_dict("staff")["fraction"] == 1)
        if fractions:
            assert (mistake.name in names) == (fractions == {True})
            assert (mistake.name in strength.partly) == (fractions == {True, False})
    for m in strength.missed:
        assert m.reason.kind in REASONS
        assert m.reason.node is None or m.reason.node in graph.nodes.slots


def test_points_groups_and_caps():
    data = program({"a": 2.0, "b": 3.0}, "c = a*b\nL = c - a")
    checks = [
        {"id": "v", "of": "value", "points": 1, "group": "g"},
        {"id": "a", "of": "gradients.a", "points": 1, "group": "g"},
        {"id": "b", "of": "gradients.b", "points": 1, "group": "g"},
    ]
    strict = data | {"checks": checks, "groups": [{"id": "g", "title": "all", "rule": "sum"}]}
    assert "sub_sign" in check(strict).strength.caught
    # Two of three are enough here: whoever has one gradient wrong still has full marks.
    capped = data | {"checks": checks, "groups": [{"id": "g", "title": "two", "rule": "sum", "cap": 2}]}
    assert "sub_sign" in {m.name for m in check(capped).strength.missed}
    # What earns nothing is no check.
    free = [{"id": entry["id"], "of": entry["of"], "points": 0 if entry["id"] == "a" else 1} for entry in checks]
    assert "sub_sign" in {m.name for m in check(data | {"checks": free}).strength.missed}


def test_what_is_required_and_what_follows_have_a_say():
    data = program({"a": 2.0, "b": 3.0}, "c = a*b\nL = c - a")
    gate = {"id": "gate", "of": ["gradients.a", "gradients.b"], "points": 0}
    gated = data | {"checks": [gate, {"of": "value", "requires": ["gate"]}]}
    assert missed(check(data | {"checks": [gate, {"of": "value"}]})).keys() >= {"sub_sign"}
    assert "sub_sign" in check(gated).strength.caught
    # Whoever flips c's sign has b's gradient followed through, to full marks.
    chain = program({"a": 2.0, "b": 3.0}, "c = a*b\nL = 1 - c")
    followed = [{"of": "gradients.c", "points": 0}, {"of": "gradients.a", "follow_through": 1}]
    assert "sub_sign" in missed(check(chain | {"checks": followed}))
    assert "sub_sign" in check(chain | {"checks": [followed[0], {"of": "gradients.a"}]}).strength.caught


# -------------------------------------------------------------------------------------------------- publishing


def test_known_wrong_engines_may_be_accepted_by_name():
    data = PUBLISHED["L = (ab + c) f"][0]
    refused = check(data)
    assert [problem.path for problem in refused.problems] == [("evaluation", "graph")]
    assert refused.to_dict()["problems"][0]["pointer"] == "#/evaluation/graph"
    assert not check(data, accept_undetected=["assign", "bfs_once"]).publishable
    accepted = check(data, accept_undetected=["assign", *TOPO])
    assert accepted.publishable
    # Accepted is not caught.
    assert missed(accepted) == missed(refused)


def test_problems_point_at_the_node():
    nodes = {"inputs": {"a": -2.0, "b": 3.0}, "nodes": [
        {"id": "d", "op": "mul", "args": ["a", "b"]},
        {"id": "f", "op": "mul", "args": ["d", "e"]},
        {"id": "e", "op": "add", "args": ["a", "b"]},
    ], "output": "f"}  # fmt: skip
    pointers = [p["pointer"] for p in check({"evaluation": {"graph": nodes}}).to_dict()["problems"]]
    assert pointers == ["#/evaluation/graph/nodes/0", "#/evaluation/graph"]
    text = [p["pointer"] for p in check(PUBLISHED["(ab)(a + b)"][0], program=True).to_dict()["problems"]]
    assert text == ["#/evaluation/graph/program", "#/evaluation/graph"]
    hidden = check(asking(program({"a": 2.0, "b": 3.0}, "c = a - b\nL = c*c"), {"of": "gradients.a"}))
    assert {p.path for p in hidden.problems} >= {("evaluation", "graph", "inputs", "b")}


@pytest.mark.parametrize(
    ("names", "path", "words"),
    [
        (["asign"], ("accept_undetected", 0), "did you mean assign"),
        (["assign", 3], ("accept_undetected", 1), "no mistake"),
        ("assign", ("accept_undetected",), "a string"),
        (None, ("accept_undetected",), "null"),
    ],
)
def test_unknown_mistakes_cannot_be_accepted(names, path, words):
    with pytest.raises(ExerciseError, match=words) as caught:
        check(PUBLISHED["a + a"][0], accept_undetected=names)
    assert caught.value.problems[0].path == path
    assert isinstance(caught.value, InvalidInput)


def test_a_key_that_fails_its_own_check_is_refused(monkeypatch):
    # No graph of ours makes a wrong key, so the differences are made to disagree.
    def disagreeing(graph):
        gradient = evaluate(graph).gradients["b"]
        checks = [InputCheck("b", gradient, gradient + 1.0, 1.0, 1e-6, "failed", None)]
        return GradientCheck(False, 1e-6, checks)

    monkeypatch.setattr(publishing, "check_gradients", disagreeing)
    found = check(PUBLISHED["softmax and NLL, 4 logits"][0] | program({"b": 2.0}, "y = b*b"))
    assert not found.key["passed"]
    problem = found.problems[0]
    assert problem.path == ("evaluation", "graph", "inputs", "b")
    assert "4.0" in problem.detail
    assert "5.0" in problem.detail
    batch = check(program({"b": [2.0, 3.0], "c": 1.5}, "y = b*b + c"), suggestions=False)
    assert [p.path for p in batch.problems][:2] == [("evaluation", "graph", "inputs", "b", k) for k in (0, 1)]


@pytest.mark.parametrize("text", ["y = log(x)", "y = sqrt(x)*2", "y = x/(x + 1)"])
def test_a_key_that_is_not_finite_is_refused(text):
    found = check(program({"x": -1.0}, text))
    assert not found.publishable
    assert any("choose other inputs" in problem.detail for problem in found.problems)


def test_a_key_at_a_kink_passes():
    found = check(program({"x": 0.0, "z": 2.0}, "h = relu(x)\nL = h*z"), suggestions=False)
    assert found.key["passed"]
    assert [entry["outcome"] for entry in found.key["checks"]] == ["kink", "passed"]


def test_the_key_is_checked_with_its_seeds_and_at_every_point():
    data = program({"a": [2.0, -1.5], "b": 3.0}, "c = a*b\nd = sin(c)", seeds={"d": [2.0, 0.5]})
    found = check(data, suggestions=True)
    assert found.key["passed"]
    gradients = evaluate(Graph.from_dict(data["evaluation"]["graph"]), seeds={"d": [2.0, 0.5]}).gradients
    told = {(entry["point"], entry["input"]): entry["gradient"] for entry in found.key["checks"]}
    assert told == {(p, name): gradients[name][p] for p in (0, 1) for name in ("a", "b")}
    # A batch is left as it is.
    assert found.suggestion is None


LINTS = [
    ({"mode": "allclose", "rtol": 1e-4, "atol": 0}, 3.0, "atol is 0: near 0"),
    ({"mode": "isclose", "rtol": 1e-4, "atol": 0}, 3.0, "atol is 0: near 0"),
    ({"mode": "allclose", "rtol": 1e-4, "atol": 0}, 0.0, "0 is expected"),
    ({"mode": "allclose", "rtol": 0, "atol": 0}, 3.0, "tolerance is 0"),
    ({"mode": "absolute", "atol": 0}, 3.0, "tolerance is 0"),
    ({"mode": "ulp", "ulps": 0}, 3.0, "tolerance is 0"),
    ({"mode": "allclose", "rtol": 0, "atol": 1e-6}, 3.0, None),
    ({"mode": "relative", "rtol": 1e-3}, 0.0, None),
    ({"mode": "percent", "percent": 1}, 3.0, None),
    ({"mode": "sigfig", "digits": 4}, 3.0, None),
    ({"mode": "range", "low": 0, "high": 10}, 3.0, None),
    ("torch64", 3.0, None),
]


@pytest.mark.parametrize(("compare", "x", "words"), LINTS)
def test_tolerances_that_fail_right_answers_are_warned_of(compare, x, words):
    data = asking(
        program({"x": x}, "y = x*1"), {"of": "value"}, {"of": "gradients.x"}, {"of": "value", "compare": compare}
    ) | {"salt": "s"}
    warnings = check(data, suggestions=False).to_dict()["warnings"]
    assert [warning["pointer"] for warning in warnings] == (["#/checks/2/compare"] if words else [])
    assert words is None or words in warnings[0]["detail"]


def test_a_check_that_the_right_answer_fails_is_refused():
    aside = {"of": "value", "compare": {"mode": "range", "low": 100, "high": 200}}
    found = check(asking(program({"x": 3.0}, "y = x*x*2"), aside, {"of": "gradients.x"}), suggestions=False).to_dict()
    assert found["problems"][0]["pointer"] == "#/checks/0/compare"
    assert "right numbers themselves" in found["problems"][0]["detail"]
    assert not found["publishable"]


# -------------------------------------------------------------------------------------------------- trainings


def training(steps, *checks, **more):
    """The lecture's data and network, as in the facts that the project started from."""
    spec = {
        "model": {"inputs": 3, "layers": [4, 4, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 0}},
        "data": {
            "inputs": [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]],
            "targets": [1.0, -1.0, -1.0, 1.0],
        },
        "loss": {"name": "squared_error", "reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": steps,
    }
    data = {"training": spec | more}
    return asking(data, *checks) if checks else data


#: Mistake → the first loss (from 1) in which it shows, by the table of measurements in the facts.
SHOWS = {
    "no_zero_grad": 3, "ascent": 2, "factor_two": 2, "bias_not_updated": 2, "last_sample": 2, "schedule": 3,
}  # fmt: skip
AT_ONCE = {"mean_for_sum", "half_loss", "no_bias", "bias_zero", "linear_output", "loss_after_update"}


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_losses_show_what_they_are_known_to_show(steps):
    strength = check(training(steps, {"of": "loss_history"})).strength
    reasons = {m.name: m.reason for m in strength.missed}
    assert set(strength.caught) >= AT_ONCE | {name for name, first in SHOWS.items() if first <= steps}
    hidden = {name: first for name, first in SHOWS.items() if first > steps}
    assert hidden.keys() <= reasons.keys()
    for name, first in hidden.items():
        assert reasons[name].kind == "too_few_losses"
        assert reasons[name].why == f"it shows from loss {first} on, and {steps} are asked for"
    # What cannot be done wrong here: the loss is a sum, the output is activated, there is no penalty and no momentum.
    assert set(strength.not_applicable) == {"sum_for_mean", "activated_output", "no_l2", "no_momentum"}


def test_too_few_losses_are_no_exercise():
    short = check(training(2, {"of": "loss_history"}))
    assert [problem.path for problem in short.problems] == [("training",)]
    assert "no_zero_grad" in short.problems[0].detail
    assert check(training(2, {"of": "loss_history"}), accept_undetected=["no_zero_grad", "schedule"]).publishable
    assert check(training(3, {"of": "loss_history"})).publishable
    # The parameters after the last update may show what the losses do not.
    assert check(training(2)).publishable
    assert {m.reason.kind for m in check(training(2)).strength.missed} == {"losses_alone"}


def test_what_a_comparison_of_losses_hides():
    wide = check(training(2, {"of": "loss_history", "compare": {"mode": "sequence", "rtol": 0.5, "atol": 0.1}}))
    assert {m.name: m.reason.kind for m in wide.strength.missed}["bias_not_updated"] == "tolerance"
    first = check(training(3, {"of": "loss_history.0"}))
    assert {m.name: m.reason.kind for m in first.strength.missed}["ascent"] == "not_asked"
    falling = check(training(3, {"of": "loss_history", "compare": {"mode": "monotone"}}))
    assert "ascent" in falling.strength.caught
    assert "half_loss" in {m.name for m in falling.strength.missed}


def test_losses_may_be_a_gate_or_capped():
    history = {"id": "all", "of": "loss_history", "points": 0}
    gated = check(training(3, history, {"of": "parameters", "requires": ["all"]})).strength
    assert set(gated.caught) >= AT_ONCE
    groups = [{"id": "g", "cap": 1}]
    checks = [{"of": "loss_history", "group": "g"}, {"of": "loss_history.0", "group": "g"}]
    capped = check(training(3, *checks) | {"groups": groups}).strength
    # Whoever has the first loss right has all that the group can earn.
    assert "ascent" in {m.name for m in capped.missed}


@pytest.mark.parametrize(("steps", "more"), [(3, {"batch_size": 2, "batch_seed": 1}), (2000, {})])
def test_what_is_not_tried_is_said(steps, more):
    found = check(training(steps, {"of": "loss_history"}, **more))
    assert found.strength is None
    assert found.to_dict()["caught"] == []
    assert [warning.path for warning in found.warnings] == [("training",)]


def test_checks_of_a_training_are_looked_at():
    relative = {"of": "loss_history", "compare": {"mode": "sequence", "rtol": 1e-6, "atol": 0}}
    found = check(training(3, relative)).to_dict()
    assert [warning["pointer"] for warning in found["warnings"]] == ["#/checks/0/compare"]
    assert (found["key"], found["suggestion"], found["extension"], found["publishable"]) == (None, None, None, True)
    rising = {"of": "loss_history", "compare": {"mode": "monotone", "order": "increasing"}}
    assert not check(training(3, rising)).publishable


# --------------------------------------------------------------------------------------------------- suggestion


@pytest.mark.parametrize("x", [-2.0, 0.0, 6.8813735870195432, 0.003, -451.5, 1e12, 1.5, 5e-324, -1.7e308])
def test_numbers_near_another_are_round_and_near(x):
    found = list(round_numbers_near(x))
    assert found
    assert [cost for _, cost in found] == sorted(cost for _, cost in found)
    for number, _ in found:
        assert number not in (0.0, x)
        assert len(f"{number:.10g}".replace("-", "").replace(".", "").strip("0")) <= 3 or abs(x) > 1e3
        assert abs(number) <= 4 * max(abs(x), 1.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), a=st.sampled_from([1.0, 2.0, -1.0, 3.0]), b=st.sampled_from([1.0, 2.0, -1.0]))
def test_a_suggestion_never_makes_an_exercise_weaker(seed, a, b):
    graph = Graph.from_dict(generate(seed, nodes=5, inputs=2, operations=["mul", "add", "sub"], sharing=0))
    task = read_task({"evaluation": {"graph": graph.to_dict() | {"inputs": {"x1": a, "x2": b}}}})
    before = examine(task)
    if before.suggestion is None:
        return
    moved = before.suggestion.applied_to(task)
    after = examine(moved, suggestions=False)
    numbered = [name for name, mistake in MISTAKES.items() if mistake.number]
    assert sum(name in missed(after) for name in numbered) <= sum(name in missed(before) for name in numbered)
    assert len(after.strength.missed) <= len(before.strength.missed) or len(missed(after)) < len(missed(before))
    largest = max(abs(x) for x in evaluate(moved.graph, seeds=moved.seeds).values.values())
    assert largest <= max(100.0, 3 * max(abs(x) for x in evaluate(task.graph).values.values()) * 100)
    # The same again: nothing of it is left to chance.
    assert examine(replace(task)).suggestion == before.suggestion
