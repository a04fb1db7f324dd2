"""Generated exercises: the same on every machine, of the shape that was asked for, with numbers for people."""

import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine.derivatives import evaluate
from chainrule_engine.errors import InvalidInput
from chainrule_engine.exercises import examine, generate
from chainrule_engine.exercises.errors import ExerciseError
from chainrule_engine.exercises.generation import DEFAULT_OPERATIONS, MAX_NODES
from chainrule_engine.exercises.numbers import near_kink
from chainrule_engine.exercises.randomness import SplitMix64
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS

GOLDEN = Path(__file__).parent / "golden" / "exercises.json"

#: Families that courses ask for: each with the operations it must show.
FAMILIES = {
    "default": {},
    "arithmetic": {"operations": ["add", "mul"], "nodes": 6, "sharing": 1},
    "neuron": {"operations": ["mul", "add", "tanh"], "nodes": 7, "inputs": 4, "depth": 5},
    "rational": {"operations": ["div", "sub", "pow"], "nodes": 6, "inputs": 2},
    "transcendental": {"operations": ["exp", "log", "sin", "mul"], "nodes": 8, "inputs": 2, "sharing": 2},
    "kinks": {"operations": ["relu", "max", "abs", "mul", "add"], "nodes": 9, "inputs": 3},
    "branches": {"operations": ["where", "gt", "mul", "add"], "nodes": 9, "inputs": 3},
    "long": {"operations": ["add", "sub", "mul", "tanh", "sigmoid"], "nodes": 25, "inputs": 6, "sharing": 4},
    "tree": {"operations": ["add", "mul"], "nodes": 4, "inputs": 5, "sharing": 0},
}


def test_the_number_generator_is_splitmix64():
    # What other implementations give (rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
    random = SplitMix64(1234567)
    assert [random.next() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    random = SplitMix64(987654321)
    counts = Counter(int((random.next() / 2**64) * 5) for _ in range(100_000))
    assert counts == {0: 20027, 1: 19892, 2: 20073, 3: 19978, 4: 20030}


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_number_below_another_is_any_of_them_about_equally_often(count):
    random = SplitMix64(3)
    seen = Counter(random.below(count) for _ in range(200 * count))
    assert set(seen) == set(range(count))
    assert max(seen.values()) < 400


def test_the_same_seed_gives_the_same_bytes_as_ever():
    # After a change that is meant to change exercises, which is news for CHANGELOG.md: once with UPDATE_GOLDEN set.
    exercises = {
        f"{family} {seed} {form}": generate(seed, form=form, **options)
        for family, options in FAMILIES.items()
        for seed, form in ((0, "nodes"), (1, "program"), (-1, "program"))
    }
    text = json.dumps(exercises, indent=1) + "\n"
    if "UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.slow
def test_another_process_with_another_hash_seed_gives_the_same_bytes():
    script = (
        "import json; from chainrule_engine.exercises import generate; "
        "print(json.dumps([generate(seed) for seed in range(5)]))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "engine"} | engine,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, engine in (("1", {"CHAINRULE_ENGINE": "python"}), ("2", {}))
    }
    assert told == {json.dumps([generate(seed) for seed in range(5)]) + "\n"}


def test_the_program_is_the_same_exercise_as_the_nodes():
    for family, options in FAMILIES.items():
        nodes, program = (generate(5, form=form, **options) for form in ("nodes", "program"))
        assert Graph.from_dict(nodes) == Graph.from_dict(program), family


def test_other_seeds_give_other_exercises():
    assert len({json.dumps(generate(seed)) for seed in range(-25, 25)}) == 50


def _depth(graph: Graph) -> int:
    levels = dict.fromkeys(graph.inputs, 0)
    for position in graph.order:
        node = graph.nodes[position]
        levels[node.id] = 1 + max(levels[a] for a in node.args if isinstance(a, str))
    return levels[graph.outputs[0]]


def _nearest_kink(graph: Graph, values) -> float:
    nearest = 1e9
    for node in graph.nodes:
        numbers = [values[a] if isinstance(a, str) else a for a in node.args]
        if node.op in {"relu", "abs"}:
            nearest = min(nearest, abs(numbers[0]))
        elif node.op in {"max", "min", "gt", "ge", "lt", "le", "eq", "ne"}:
            nearest = min(nearest, abs(numbers[0] - numbers[1]))
    return nearest


def _check(exercise, *, nodes=8, inputs=3, operations=DEFAULT_OPERATIONS, depth=None, sharing=1):
    graph = Graph.from_dict(exercise)
    assert (len(graph.nodes), len(graph.inputs), graph.outputs) == (nodes, inputs, ("y",))
    assert {node.op for node in graph.nodes} == set(operations)
    uses = Counter(a for node in graph.nodes for a in node.args if isinstance(a, str))
    # Each is used, so each feeds the one that is not.
    assert {*graph.inputs, *graph.nodes.ids} - set(uses) == {"y"}
    assert sum(uses[name] > 1 for name in graph.nodes.ids) >= sharing
    if depth is not None:
        assert _depth(graph) == depth
    found = evaluate(graph)
    assert not found.warnings
    assert all(abs(value) <= 20 for value in found.values.values())
    assert all(abs(gradient) <= 1000 for gradient in found.gradients.values())
    assert all(abs(found.gradients[name]) >= 0.01 for name in graph.inputs)
    assert all(0.25 <= abs(number) <= 4 and (4 * number).is_integer() for number in graph.inputs.values())
    assert len({abs(number) for number in graph.inputs.values()}) == inputs
    assert _nearest_kink(graph, found.values) >= 0.1


@pytest.mark.parametrize("name", ["eq", "ne", "gt", "ge", "lt", "le", "max", "min"])
def test_a_tie_is_near_from_either_side(name):
    for x, y in [(2.5, 2.5789), (2.5789, 2.5), (2.5, 2.5)]:
        assert near_kink(OPERATIONS[name], (x, y))
    for x, y in [(2.5, 2.65), (2.65, 2.5)]:
        assert not near_kink(OPERATIONS[name], (x, y))


@pytest.mark.slow
def test_five_hundred_seeds_keep_what_was_asked():
    for seed in range(500):
        family = list(FAMILIES)[seed % len(FAMILIES)]
        options = FAMILIES[family]
        _check(generate(seed, **options), **options)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_exercises_are_strong(family):
    found = [examine(Graph.from_dict(generate(seed, **FAMILIES[family])), suggestions=False) for seed in range(20)]
    missed = [[m.name for m in check.strength.missed if m.matters] for check in found]
    if family == "tree":
        # What no tree shows.
        assert {tuple(names) for names in missed} == {("assign", "no_topo_dfs", "bfs_once", "dfs_preorder")}
    elif family == "kinks":
        # One relu is on one side only, and which mistakes that hides depends on the side.
        assert max(map(len, missed)) <= 2
    else:
        assert missed == [[]] * 20
        assert all(check.publishable for check in found)


def test_arithmetic_has_few_digits():
    digits = []
    for seed in range(100):
        graph = Graph.from_dict(generate(seed, operations=["add", "sub", "mul"], nodes=6))
        digits += [len(Decimal(repr(value)).normalize().as_tuple().digits) for value in evaluate(graph).values.values()]
    assert sorted(digits)[int(0.95 * len(digits))] <= 5


@st.composite
def _shapes(draw):
    operations = draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=4, unique=True))
    nodes = draw(st.integers(1, 14))
    return {
        "nodes": nodes,
        "inputs": draw(st.integers(1, 6)),
        "operations": operations,
        "depth": draw(st.none() | st.integers(1, nodes)),
        "sharing": draw(st.integers(0, 3)),
    }


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(-(2**53), 2**53), shape=_shapes())
def test_any_shape_is_kept_or_refused(seed, shape):
    refused = ()
    try:
        _check(generate(seed, **shape), **shape)
    except ExerciseError as error:
        refused = error.problems
    assert {problem.path[0] for problem in refused} <= {"nodes", "depth", "sharing", "operations"}


HOSTILE = [
    ({"seed": 1.0}, ("seed",), "whole number"),
    ({"seed": True}, ("seed",), "a boolean"),
    ({"seed": "7"}, ("seed",), "a string"),
    ({"seed": None}, ("seed",), "null"),
    ({"seed": 2**60}, ("seed",), "from"),
    ({"nodes": 0}, ("nodes",), "1 to"),
    ({"nodes": 10**30}, ("nodes",), "1 to"),
    ({"nodes": [8]}, ("nodes",), "a list"),
    ({"inputs": 0}, ("inputs",), "1 to"),
    ({"inputs": 10}, ("nodes",), "ask for more nodes"),
    ({"depth": 9}, ("depth",), "1 to 8"),
    ({"depth": 3}, ("depth",), "7 nodes at most"),
    ({"depth": 2.5}, ("depth",), "whole number"),
    ({"sharing": -1}, ("sharing",), "0 to"),
    ({"sharing": 7}, ("nodes",), "ask for more nodes"),
    ({"form": "latex"}, ("form",), "nodes, program"),
    ({"form": ["nodes"]}, ("form",), "nodes, program"),
    ({"operations": []}, ("operations",), "at least one"),
    ({"operations": "add"}, ("operations",), "a string"),
    ({"operations": 3}, ("operations",), "a number"),
    ({"operations": {"add": 1}}, ("operations",), "an object"),
    ({"operations": ["add", "tahn"]}, ("operations", 1), "did you mean tanh"),
    ({"operations": ["add", ["mul"]]}, ("operations", 1), "a list"),
    ({"operations": ["x" * 1000] * 1000}, ("operations", 0), "unknown operation"),
    ({"operations": list(OPERATIONS)}, ("nodes",), "26 operations"),
    ({"operations": ["add"] * 10, "nodes": 3, "inputs": 5}, ("nodes",), "ask for more nodes"),
    # Well-formed, but no such graph is there.
    ({"operations": ["gt"], "nodes": 1, "inputs": 2, "sharing": 0}, ("operations",), "gradient"),
    ({"operations": ["stop_gradient"], "nodes": 1, "inputs": 1, "sharing": 0}, ("operations",), "gradient"),
    ({"operations": ["exp"], "nodes": 9, "inputs": 1, "sharing": 0}, ("operations",), "moderate"),
    ({"operations": ["add"], "nodes": 3, "inputs": 2, "sharing": 1, "depth": 2}, ("sharing",), "lower the sharing"),
    ({"operations": ["add"], "nodes": 5, "inputs": 6, "sharing": 0, "depth": 2}, ("depth",), "at most"),
    (
        {"operations": ["add", "tanh", "neg", "exp", "sin", "cos"], "nodes": 6, "inputs": 2, "sharing": 0, "depth": 3},
        ("depth",),
        "another depth",
    ),
    ({"operations": ["add"], "nodes": 2, "inputs": 2, "sharing": 1}, ("sharing",), "lower the sharing"),
]


@pytest.mark.parametrize(("options", "path", "words"), HOSTILE)
def test_what_cannot_be_had_is_refused_with_its_place(options, path, words):
    with pytest.raises(ExerciseError, match=words) as caught:
        generate(**({"seed": 0} | options))
    assert caught.value.problems[0].path == path
    assert isinstance(caught.value, InvalidInput)
    assert all(len(problem.detail) < 400 for problem in caught.value.problems)


def test_several_problems_are_told_at_once():
    with pytest.raises(ExerciseError) as caught:
        generate(0.5, nodes=0, inputs=None, operations=["nope"], depth="deep", sharing=1.5, form="")
    assert [problem.path[0] for problem in caught.value.problems] == [
        "seed", "nodes", "inputs", "depth", "sharing", "form", "operations",
    ]  # fmt: skip


def test_the_largest_exercise():
    _check(generate(1, nodes=MAX_NODES, inputs=10), nodes=MAX_NODES, inputs=10)
