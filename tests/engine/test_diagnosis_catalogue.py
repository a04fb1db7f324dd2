"""The catalogue: pairs, orders, decompositions, several outputs, kinks, limits, and whatever students hand in."""

from __future__ import annotations

import doctest
import math
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.strategies import any_finite
from tests.engine.wrong_engine import PRIMITIVES, Student, hand_in

from chainrule_engine import diagnosis
from chainrule_engine.derivatives import evaluate
from chainrule_engine.diagnosis import MISTAKES, Catalogue, Diagnosis
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph


def catalogue(program: str, seeds: dict[str, float] | None = None, **inputs: float) -> Catalogue:
    return Catalogue(Graph.from_dict({"inputs": inputs, "program": program}), seeds=seeds)


def names(found: Diagnosis) -> list[tuple[str, ...]]:
    return [one.names for one in found.explanations]


def gradients(**numbers: float) -> dict[str, float]:
    return {f"gradients.{name}": number for name, number in numbers.items()}


#: A graph in which nearly every mistake shows.
MIXED = {
    "inputs": {"a": 1.3, "b": -0.7, "c": 2.1, "d": 0.9},
    "program": "p = a*b + c\nq = tanh(p) / (c - d)\nr = exp(q) * a\ns = relu(r - b) + sin(c)\nu = s*q\nL = u + s**3\nL",
}


def test_the_example_of_the_package():
    found = doctest.testmod(diagnosis)
    assert (found.attempted, found.failed) == (3, 0)


class TestWhatIsKnown:
    def test_right_numbers_are_those_of_evaluate(self):
        graph = Graph.from_dict(MIXED)
        evaluation = evaluate(graph)
        right = Catalogue(graph).right()
        assert right.pop("value") == evaluation.value
        assert right == {
            **{f"values.{name}": number for name, number in evaluation.values.items()},
            **{f"gradients.{name}": number for name, number in evaluation.gradients.items()},
        }

    def test_signatures_have_every_key_and_name_a_mistake(self):
        made = Catalogue(Graph.from_dict(MIXED))
        keys = made.right().keys()
        signatures = made.signatures()
        assert {signature.numbers.keys() == keys for signature in signatures} == {True}
        order = list(MISTAKES)
        places = [order.index(signature.names[0]) for signature in signatures]
        assert places == sorted(places)
        assert {"assign", "tanh_no_up", "no_topo_dfs", "sub_sign"} <= {signature.names[0] for signature in signatures}
        assert not {"log_out", "sig_plus", "seed_one"} & {signature.names[0] for signature in signatures}

    def test_each_signature_is_explained_by_its_mistake(self):
        made = Catalogue(Graph.from_dict(MIXED))
        right = made.right()
        for signature in made.signatures():
            answers = {key: signature.numbers[key] for key in ("value", *gradients(a=0, b=0, c=0, d=0))}
            if all(math.isclose(number, right[key], rel_tol=1e-5) for key, number in answers.items()):
                continue
            assert signature.names in names(made.diagnose(answers)), signature

    def test_a_batch_of_points_is_refused(self):
        with pytest.raises(EvaluationError, match="one point"):
            Catalogue(Graph.from_dict({"inputs": {"a": [1.0, 2.0]}, "program": "a*a"}))

    def test_wrong_seeds_are_refused(self):
        with pytest.raises(EvaluationError):
            catalogue("a*a", {"zzz": 1.0}, a=2.0)


class TestWaysToBuild:
    """The same mistake in engines that make one operation of others."""

    def test_subtraction_as_the_sum_with_a_negation(self):
        # -b has the gradient 3, and a negation whose sign is lost passes it on.
        assert ("neg_sign",) in names(catalogue("(a - b)*w", a=7.0, b=2.0, w=3.0).diagnose(gradients(a=3, b=3, w=5)))

    def test_a_quotient_as_the_product_with_a_power(self):
        # a·b⁻¹: both factors get w's 3 without, so 1/b = ½ and, through the power, -b⁻²·a.
        made = catalogue("(a / b)*w", a=7.0, b=2.0, w=3.0)
        assert names(made.diagnose(gradients(a=0.5, b=-7 / 4, w=3.5)))[0] == ("mul_no_up",)
        # the exponent is not brought down: b⁻² in place of -b⁻²
        assert names(made.diagnose(gradients(a=1.5, b=3 * 7 / 4, w=3.5)))[0] in [("div_sign",), ("pow_no_coef",)]

    def test_a_number_as_denominator_makes_no_power(self):
        # (x / 4)·w is (x * 0.25)·w; without upstream x gets 0.25, and w the product x * 0.25
        assert names(catalogue("(x / 4) * w", x=5.0, w=3.0).diagnose(gradients(x=0.25, w=1.25)))[0] == ("mul_no_up",)

    def test_tanh_of_exponentials(self):
        # e = exp(2x), (e - 1)/(e + 1): `=` keeps the term of the numerator, or that of the denominator.
        x = 0.4
        e = math.exp(2 * x)
        made = catalogue("w * tanh(x)", x=x, w=3.0)
        for of_e in (3.0 / (e + 1), -3.0 * (e - 1) / (e + 1) ** 2):
            found = made.diagnose(gradients(x=of_e * e * 2, w=math.tanh(x)))
            assert names(found)[0] == ("assign",)

    def test_a_sigmoid_of_exponentials(self):
        x = 0.4
        s = 1 / (1 + math.exp(-x))
        made = catalogue("w * sigmoid(x)", x=x, w=3.0)
        # exp' = its input: the denominator's -3·s² times -x, and the negation's sign
        found = made.diagnose(gradients(x=-3 * s * s * -x * -1, w=s))
        assert ("exp_input",) in names(found)

    def test_a_number_on_the_left_is_the_other_operand(self):
        # 2·x is x.__rmul__(2), so x gets both shares: (x + 2)·w
        made = catalogue("(2*x)*w", x=5.0, w=3.0)
        # the outer product gives (10 + 3) to 2x, and (5 + 2)·13 to x
        assert names(made.diagnose(gradients(x=91.0, w=0.0)))[0] == ("mul_self_twice",)
        # with a node for the 2, which then gets both, x gets nothing
        given = [s.numbers["gradients.x"] for s in made.signatures() if s.names == ("mul_self_twice",)]
        assert sorted(given) == [0.0, 91.0]


class TestOrders:
    def test_equals_for_plus_equals_in_a_set(self):
        # The same code prints one of two answers from run to run.
        made = catalogue("(a*b)*(a+b)", a=-2.0, b=3.0)
        for answer in (gradients(a=-6, b=-6), gradients(a=3, b=-2)):
            found = made.diagnose(answer).explanations
            assert found[0].names == ("assign",)
            assert "set" in found[0].message
        # Which use comes last is a matter of chance for each node of its own.
        made = catalogue("p = x*x\nq = x + x*y\np*q + y", x=2.0, y=5.0)
        # x keeps the second share of x·x, q·x = 24, or that of x·y, p·y = 20; the sum in q always comes before x·y
        for x in (24.0, 20.0):
            assert names(made.diagnose(gradients(x=x, y=8.0)))[0] == ("assign",)

    def test_mixed_orders_of_children(self):
        # s has three uses; left to right at one node and right to left at another.
        made = catalogue("s = 2*x\nm = s*s\nn = m + s\nL = n*m\nL", x=1.0)
        found = {
            signature.numbers["gradients.x"] for signature in made.signatures() if signature.names == ("bfs_once",)
        }
        assert found
        for number in found - {made.right()["gradients.x"]}:
            assert ("bfs_once",) in names(made.diagnose(gradients(x=number)))

    @pytest.mark.parametrize(("mistake", "sums"), [("no_topo_dfs", 5), ("dfs_preorder", 9), ("assign", 9)])
    def test_an_order_for_each_of_many_nodes(self, mistake: str, sums: int):
        # At each sum both summands depend on the sum before, and its children come in an order of their own.
        nodes = []
        for k in range(sums):
            before = f"s{k - 1}" if k else "x"
            nodes += [{"id": f"p{k}", "op": "mul", "args": [before, "y"]}]
            nodes += [{"id": f"q{k}", "op": "sin", "args": [before]}]
            nodes += [{"id": f"s{k}", "op": "add", "args": [f"p{k}", f"q{k}"]}]
        graph = {"inputs": {"x": 0.7, "y": 0.9}, "nodes": nodes, "output": f"s{sums - 1}"}
        made = Catalogue(Graph.from_dict(graph))
        for order in range(5):
            numbers = hand_in(graph, Student(frozenset({mistake}), PRIMITIVES, order))
            answers = {key: numbers[key] for key in ("value", "gradients.x", "gradients.y")}
            assert (mistake,) in names(made.diagnose(answers))

    def test_no_more_orders_are_tried_than_allowed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("chainrule_engine.diagnosis.catalogue.ORDER_WORK", {"no_topo_dfs": 80, "assign": 8})
        made = catalogue("p = x*x\nq = x + x*y\np*q + y", x=2.0, y=5.0)
        assert made.diagnose(gradients(x=24.0, y=8.123456)).explanations == ()

    def test_a_tree_has_one_order(self):
        made = catalogue("(a*b) + (c*d)", a=2.0, b=3.0, c=4.0, d=5.0)
        right = made.right()
        for signature in made.signatures():
            if signature.names[0] in ("no_topo_dfs", "bfs_once", "dfs_preorder"):
                assert signature.numbers == right

    def test_too_many_paths_are_not_walked(self):
        # Each node is the sum of the one before with itself over two ways: 2³⁰ paths.
        lines = ["n0 = x + 1", *(f"p{k} = 2*n{k}\nq{k} = 3*n{k}\nn{k + 1} = p{k} + q{k}" for k in range(30)), "n30"]
        made = catalogue("\n".join(lines), x=1e-20)
        assert not any(signature.names == ("no_topo_dfs",) for signature in made.signatures())
        assert ("no_topo_dfs",) not in names(made.diagnose(gradients(x=7.123456789)))


class TestPairs:
    def test_two_mistakes(self):
        # L = (a - b)·c with sub_sign and no upstream in mul: d gets c = 3; a and b get 3 … and (a - b)·c·e then
        # d·c gets no 5: a = 3, b = 3, c = d = 5, e = 15
        made = catalogue("d = a - b\n(d*c)*e", a=7.0, b=2.0, c=3.0, e=4.0)
        found = made.diagnose(gradients(a=3.0, b=3.0, c=5.0, e=15.0))
        assert ("sub_sign", "mul_no_up") in [tuple(sorted(pair, reverse=True)) for pair in names(found)]
        assert made.diagnose(gradients(a=3.0, b=3.0, c=5.0, e=15.0), pairs=False).explanations != found.explanations

    def test_two_mistakes_in_one_rule(self):
        # mul_own without upstream: every factor gets itself.
        found = catalogue("(a*b)*c", a=2.0, b=5.0, c=7.0).diagnose(gradients(a=2.0, b=5.0, c=7.0))
        assert ("mul_own", "mul_no_up") in names(found)

    def test_a_rule_and_the_pass(self):
        # s = w·x, s + s·s over every path: s passes on 1, then 1 + 2·6 = 13; x gets 3 times that, and w 2 times
        found = catalogue("s = w*x\ns + s*s", x=3.0, w=2.0).diagnose(gradients(x=3.0 * 14.0, w=2.0 * 14.0))
        assert ("mul_own", "no_topo_dfs") in names(found)

    def test_overwriting_and_a_rule(self):
        # (a·b)·(a + b) with mul_own and =: f gets d·1 = -6 for d, e·1 = 1 for e; then a: through e 1, through d a·-6
        found = catalogue("(a*b)*(a+b)", a=-2.0, b=3.0).diagnose(gradients(a=12.0, b=-18.0))
        assert ("assign", "mul_own") in names(found)

    def test_a_short_number_is_not_explained_by_two(self):
        made = catalogue("d = a - b\n(d*c)*e", a=7.0, b=2.0, c=3.0, e=4.0)
        assert all(len(one) == 1 for one in names(made.diagnose(gradients(a=5.0, c=20.0))))

    def test_one_mistake_is_simpler_than_two(self):
        found = catalogue("(a*b)*c", a=2.0, b=5.0, c=7.0).diagnose(gradients(a=5.0, b=2.0, c=10.0))
        assert all(len(one) == 1 for one in names(found))


class TestByHand:
    """Who computes by hand makes a mistake once, and not wherever it could be made."""

    #: Right are b·c·w for a, a·c·w for b, p·w with p = 11.73 for c, and p·c for w.
    MADE = catalogue("p = a*b\nq = p*c\nL = q*w\nL", a=2.3, b=5.1, c=7.7, w=4.9)

    def test_at_one_node(self):
        found = self.MADE.diagnose(gradients(a=5.1, b=2.3, c=11.73 * 4.9, w=11.73 * 7.7)).explanations
        assert found[0].names == ("mul_no_up",)
        assert found[0].message.endswith("It seems to be made at p alone.")

    def test_for_one_argument(self):
        found = self.MADE.diagnose(gradients(a=2.3 * 7.7 * 4.9, b=2.3 * 7.7 * 4.9, c=11.73 * 4.9, w=11.73 * 7.7))
        assert names(found)[0] == ("mul_own",)
        assert "at p alone" in found.explanations[0].message

    def test_at_a_node_without_a_name(self):
        made = catalogue("L = ((a*b)*c)*w\nL", a=2.3, b=5.1, c=7.7, w=4.9)
        found = made.diagnose(gradients(a=5.1, b=2.3, c=11.73 * 4.9, w=11.73 * 7.7)).explanations
        assert found[0].names == ("mul_no_up",)
        assert found[0].message.endswith("once.")

    def test_one_of_three_uses_forgotten(self):
        made = catalogue("s = 2.5*x\nL = (s*a + s*b) + s*c\nL", x=1.1, a=2.3, b=5.1, c=7.7)
        found = made.diagnose(gradients(x=2.5 * (2.3 + 7.7), a=2.75, b=2.75, c=2.75)).explanations
        assert found == ()  # 25.0 has two digits, and much is 25
        found = made.diagnose(gradients(s=12.8, x=2.5 * (5.1 + 7.7), a=2.75, b=2.75, c=2.75)).explanations
        assert found[0].names == ("missing_use",)
        assert "at s alone" in found[0].message

    def test_a_systematic_mistake_comes_first(self):
        found = self.MADE.diagnose(gradients(a=5.1, b=2.3, c=11.73, w=11.73 * 7.7)).explanations
        assert found[0].message.endswith("It shows at p, q, L.")


class TestRanking:
    def test_most_of_the_wrong_numbers(self):
        # tanh' without its square, and a slip in one number besides.
        made = Catalogue(Graph.from_dict(MIXED))
        (signature,) = [s for s in made.signatures() if s.names == ("tanh_nosq",)][:1]
        answers = {key: signature.numbers[key] for key in ("value", *gradients(a=0, b=0, c=0, d=0))}
        answers["gradients.d"] += 0.37
        found = made.diagnose(answers).explanations
        assert found[0].names == ("tanh_nosq",)
        assert (found[0].matches, found[0].of) == (4, 5)
        assert "gradients.d" not in found[0].explains

    def test_what_agrees_with_right_numbers_alone_explains_nothing(self):
        made = Catalogue(Graph.from_dict(MIXED))
        answers = {key: made.right()[key] for key in gradients(a=0, b=0, c=0)} | {"gradients.d": 123.456789}
        found = made.diagnose(answers)
        assert found.explanations == ()
        assert found.wrong == ("gradients.d",)

    def test_a_mistake_in_the_graph_as_it_stands_comes_before_one_in_another_way_to_build_it(self):
        found = catalogue("w * sigmoid(x)", x=0.6, w=3.0).diagnose(
            gradients(x=3.0 * 0.6 * 0.4, w=1 / (1 + math.exp(-0.6)))
        )
        assert names(found)[0] == ("sig_input",)

    def test_explanations_are_sorted_by_matches_and_then_by_simplicity(self):
        made = Catalogue(Graph.from_dict(MIXED))
        for signature in made.signatures():
            answers = {key: signature.numbers[key] for key in gradients(a=0, b=0, c=0, d=0)}
            ranks = [(-one.matches, len(one.names)) for one in made.diagnose(answers).explanations]
            assert all(one <= other for one, other in pairwise(ranks))


class TestLittleToGoBy:
    def test_zeros_alone_name_no_way_to_build_the_graph(self):
        # Were tanh made of exp(2·x), with the 2 as self, x would get nothing where self gets both shares.
        made = catalogue(
            "n = x1*w1 + x2*w2 + b\no = tanh(n)\nL = o*o + o*n\nL", x1=2.0, x2=0.0, w1=-3.0, w2=1.0, b=6.88
        )
        found = made.diagnose(gradients(x1=0, x2=0, w1=0, w2=0, b=0, n=0))
        assert names(found) == [("no_seed",), ("not_reversed",)]

    def test_a_one_and_nothing_else(self):
        made = catalogue("a*b + a", a=3.0, b=5.0)
        assert made.diagnose(gradients(a=1.0)).explanations == ()
        assert ("not_reversed",) in names(made.diagnose(gradients(a=1.0, b=0.0)))


TWO_OUTPUTS = {"inputs": {"a": 2.0, "b": 5.0}, "program": "p = a*b\nq = a + p", "output": ["p", "q"]}


class TestSeveralOutputsAndSeeds:
    def test_each_output_has_its_seed(self):
        made = Catalogue(Graph.from_dict(TWO_OUTPUTS), seeds={"p": 3.0, "q": 7.0})
        assert "value" not in made.right()
        # right: p has 3 + 7, a 7 + 5·10, b 2·10
        assert made.right()["gradients.a"] == 57.0
        # the seeds taken for 1: p 2, a 1 + 10, b 4
        assert names(made.diagnose(gradients(a=11.0, b=4.0)))[0] == ("seed_one",)
        # p without upstream: a 7 + 5, b 2
        assert names(made.diagnose(gradients(a=12.0, b=2.0)))[0] == ("mul_no_up",)
        assert names(made.diagnose(gradients(a=0.0, b=0.0)))[0] == ("no_seed",)

    def test_without_a_seed_nothing_flows_from_an_output(self):
        made = Catalogue(Graph.from_dict(TWO_OUTPUTS), seeds={"p": 3.0})
        assert made.right()["gradients.a"] == 15.0
        # without upstream: b and a
        assert names(made.diagnose(gradients(a=5.0, b=2.0)))[0] == ("mul_no_up",)

    def test_an_output_that_is_an_input(self):
        made = Catalogue(Graph.from_dict({"inputs": {"a": 2.0}, "nodes": [], "output": "a"}))
        assert made.diagnose(gradients(a=1.0)).wrong == ()
        assert names(made.diagnose(gradients(a=0.0)))[0] == ("no_seed",)

    def test_a_seed_by_another_name_of_the_output(self):
        graph = Graph.from_dict({"inputs": {"a": 2.0}, "program": "L = a*a\nK = L\nK"})
        assert Catalogue(graph, seeds={"K": 3.0}).right()["gradients.a"] == 12.0


class TestKinks:
    def test_any_slope_between_is_right(self):
        made = catalogue("w * abs(x)", x=0.0, w=3.0)
        for slope in (-3.0, -1.0, 0.0, 2.5, 3.0):
            assert made.diagnose(gradients(x=slope, w=0.0)).wrong == ()
        assert made.diagnose(gradients(x=3.5, w=0.0)).wrong == ("gradients.x",)

    def test_weights_of_a_tie(self):
        made = catalogue("w * max(x, y)", x=2.0, y=2.0, w=3.0)
        for share in (0.0, 0.25, 1.0):
            assert made.diagnose(gradients(x=3 * share, y=3 * (1 - share), w=2.0)).wrong == ()

    def test_many_kinks(self):
        program = "\n".join([*(f"r{k} = relu(x{k})" for k in range(8)), " + ".join(f"r{k}" for k in range(8))])
        made = catalogue(program, **{f"x{k}": 0.0 for k in range(8)})
        assert made.diagnose(gradients(x0=1.0, x3=0.5)).wrong == ()
        assert made.diagnose(gradients(x0=1.5, x3=0.5)).wrong == ("gradients.x0",)

    def test_a_slope_of_one_is_named_and_yet_not_wrong(self):
        found = catalogue("w * relu(x)", x=0.0, w=3.0).diagnose(gradients(x=3.0, w=0.0))
        assert found.wrong == ()
        assert names(found) == [("relu_ge",)]
        assert found.explanations[0].explains == ("gradients.x",)
        assert catalogue("w * relu(x)", x=0.0, w=3.0).diagnose(gradients(x=1.0, w=0.0)).explanations == ()
        assert catalogue("w * relu(x)", x=0.0, w=3.0).diagnose(gradients(x=0.0, w=0.0)).explanations == ()


class TestSize:
    @staticmethod
    def chain(nodes: int) -> Catalogue:
        data = [
            {"id": f"n{k}", "op": "mul", "args": [f"n{k - 1}" if k else "x", 1.0 + (k + 1) % 2 / nodes]}
            for k in range(nodes)
        ]
        return Catalogue(Graph.from_dict({"inputs": {"x": 2.0}, "nodes": data, "output": f"n{nodes - 1}"}))

    def test_of_large_graphs_it_is_said_what_was_not_tried(self):
        made = self.chain(200)
        right = made.right()["gradients.x"]
        found = made.diagnose(gradients(x=right * 1.2345678901))
        assert found.limited.startswith("pairs")
        assert made.diagnose(gradients(x=1.005)).explanations[0].names == ("mul_no_up",)

    def test_very_large_graphs_are_only_blamed(self):
        made = self.chain(3000)
        assert made.signatures() == []
        right = made.right()
        answers = {key: number for key, number in right.items() if key.startswith("gradients.")}
        assert made.diagnose(answers).wrong == ()
        # Wrong from the middle on, and consistent below.
        for k in range(1500):
            answers[f"gradients.n{k}"] *= 2.0
        answers["gradients.x"] *= 2.0
        found = made.diagnose(answers)
        assert found.limited
        assert found.explanations == ()
        assert found.blame is not None
        assert found.blame.node == "n1499"


#: Answers of all kinds, under keys that exist and others.
hostile_numbers = any_finite | st.sampled_from(
    [math.nan, math.inf, -math.inf, 10**400, -(10**400), True, None, "1.5", [1.0], {}, 0, -0.0, 5e-324, 1e308]
)


class TestHostileAnswers:
    MIXED = Catalogue(Graph.from_dict(MIXED))
    DEGENERATE = Catalogue(
        Graph.from_dict({"inputs": {"x": 0.0, "y": 1e200}, "program": "p = 1/x\nq = y*y\nr = log(x) + p\nr*q - q"})
    )

    @settings(max_examples=80, deadline=None)
    @given(st.data(), st.booleans())
    def test_whatever_is_handed_in(self, data: st.DataObject, degenerate: bool):
        made = self.DEGENERATE if degenerate else self.MIXED
        right = made.right()
        keys = st.sampled_from(sorted(right)) | st.sampled_from(["", "gradients.", "gradients.zzz", "values", "x"])
        answers: dict[str, Any] = data.draw(
            st.dictionaries(keys, hostile_numbers | st.sampled_from(list(right.values())))
        )
        found = made.diagnose(answers)
        for one in found.explanations:
            assert set(one.explains) <= answers.keys()
            assert 0 < len(one.explains) <= one.matches <= one.of <= len(answers)
            assert 1 <= len(one.names) <= 2
        assert set(found.wrong) <= answers.keys() & right.keys()
        made.follow_through(answers)

    def test_the_order_of_the_answers_makes_no_difference(self):
        for signature in self.MIXED.signatures():
            answers = {key: signature.numbers[key] for key in ("value", *gradients(a=0, b=0, c=0, d=0, q=0))}
            turned = dict(reversed(answers.items()))
            assert self.MIXED.diagnose(answers) == self.MIXED.diagnose(turned)
            assert self.MIXED.follow_through(answers) == self.MIXED.follow_through(turned)

    def test_ten_thousand_entries(self):
        answers = {f"gradients.{k}": float(k) for k in range(10_000)} | gradients(a=1.0)
        assert self.MIXED.diagnose(answers).wrong == ("gradients.a",)

    def test_nan_for_a_number_is_wrong_and_for_nan_is_right(self):
        assert self.MIXED.diagnose(gradients(a=math.nan)).wrong == ("gradients.a",)
        right = self.DEGENERATE.right()
        unusual = {key: number for key, number in right.items() if not math.isfinite(number)}
        assert unusual
        assert self.DEGENERATE.diagnose(unusual).wrong == ()

    def test_no_message_holds_a_number_of_the_right_answer(self):
        right = self.MIXED.right()
        shown = {f"{abs(number):.{digits}g}" for number in right.values() for digits in range(3, 17)} - {"1"}
        for signature in self.MIXED.signatures():
            found = self.MIXED.diagnose(
                {key: signature.numbers[key] for key in gradients(a=0, b=0, c=0, d=0, q=0, s=0)}
            )
            texts = [one.message + one.title for one in found.explanations]
            texts += [found.blame.message] if found.blame else []
            for text in texts:
                assert not shown & set(re.findall(r"\d[\d.e+-]*", text))
