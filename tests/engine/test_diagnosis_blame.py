"""Where a student's numbers first contradict each other, and what follows from them."""

from __future__ import annotations

import math

import pytest

from chainrule_engine.diagnosis import Catalogue, follow_through
from chainrule_engine.graph import Graph

#: e = a·b, d = e + c, L = d·f at 2, -3, 10, -2: the lecture's; and a graph with a shared node.
LECTURE = Graph.from_dict(
    {"inputs": {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}, "program": "e = a*b\nd = e + c\nL = d*f\nL"}
)
SHARED = Graph.from_dict({"inputs": {"x": 3.0}, "program": "s = 2*x\nm = s*s\nL = s + m\nL"})


def right(graph: Graph, prefix: str = "gradients.") -> dict[str, float]:
    return {key: number for key, number in Catalogue(graph).right().items() if key.startswith(prefix)}


def test_the_first_gradient_that_does_not_follow():
    # The student took f for d's gradient with the wrong sign; below, everything follows from that.
    answers = right(LECTURE) | {"gradients.d": 2.0, "gradients.e": 2.0, "gradients.c": 2.0}
    answers |= {"gradients.a": -6.0, "gradients.b": 4.0}
    blame = Catalogue(LECTURE).diagnose(answers).blame
    assert blame is not None
    assert (blame.kind, blame.node, blame.ratio) == ("gradient", "d", -1.0)
    assert "L (mul)" in blame.message
    assert "sign" in blame.message


def test_a_missing_share_of_a_use():
    blame = Catalogue(SHARED).diagnose(right(SHARED) | {"gradients.s": 12.0, "gradients.x": 24.0}).blame
    assert blame is not None
    assert (blame.kind, blame.node) == ("gradient", "s")
    assert blame.ratio == pytest.approx(12 / 13)
    assert "one seems to be missing" in blame.message
    for number in ("12", "13", "24", "26"):
        assert number not in blame.message


def test_a_wrong_share_of_a_use_after_a_wrong_gradient():
    # m's gradient is wrong, and of s the share through m is missing besides: m comes first.
    answers = right(SHARED) | {"gradients.m": 5.0, "gradients.s": 1.0}
    blame = Catalogue(SHARED).diagnose(answers).blame
    assert blame is not None
    assert blame.node == "m"
    # With s alone given, and following from m, nothing of s is to blame.
    answers |= {"gradients.s": 61.0, "gradients.x": 122.0}
    blame = Catalogue(SHARED).diagnose(answers).blame
    assert blame is not None
    assert blame.node == "m"


def test_wrong_values_come_first():
    answers = {"values.e": -6.0, "values.d": 14.0, "value": -28.0, "gradients.a": 5.0}
    blame = Catalogue(LECTURE).diagnose(answers).blame
    assert blame is not None
    # L follows from the student's own d; d does not follow from e and c.
    assert (blame.kind, blame.node) == ("value", "d")
    assert blame.ratio == pytest.approx(3.5)
    assert "add from e, c" in blame.message


def test_the_seed():
    blame = Catalogue(LECTURE).diagnose(right(LECTURE) | {"gradients.L": 0.0}).blame
    assert blame is not None
    assert (blame.node, blame.ratio) == ("L", 0.0)
    assert "seed" in blame.message


def test_nobody_is_blamed_where_what_is_above_was_not_given():
    # a's gradient is wrong, but nothing is known of e's, which it comes from.
    assert Catalogue(LECTURE).diagnose({"gradients.a": 1.0, "gradients.f": 4.0}).blame is None


def test_unnamed_nodes_on_the_way_are_passed_through():
    graph = Graph.from_dict({"inputs": {"a": 2.0, "b": 3.0}, "program": "L = (a + b) * (a + 1)\nL"})
    blame = Catalogue(graph).diagnose({"gradients.L": 1.0, "gradients.a": 4.0}).blame
    assert blame is not None
    assert blame.node == "a"


def test_an_input_can_be_to_blame():
    answers = right(LECTURE) | {"gradients.b": 2.0}
    blame = Catalogue(LECTURE).diagnose(answers).blame
    assert blame is not None
    assert (blame.node, blame.ratio) == ("b", -0.5)
    assert "e (mul)" in blame.message


def test_nothing_follows_where_that_is_zero():
    graph = Graph.from_dict({"inputs": {"a": 2.0}, "program": "z = stop_gradient(a)\nL = z*3\nL"})
    blame = Catalogue(graph).diagnose({"gradients.z": 3.0, "gradients.a": 3.0, "gradients.L": 1.0}).blame
    assert blame is not None
    assert blame.node == "a"
    assert math.isnan(blame.ratio)


def test_rounded_numbers_are_not_held_against_what_follows_from_them():
    graph = Graph.from_dict({"inputs": {"x": 1.7, "w": -0.83}, "program": "n = w*x\no = tanh(n)\nL = o**3 * 3.1\nL"})
    numbers = Catalogue(graph).right()
    answers = {key: float(f"{number:.3g}") for key, number in numbers.items()}
    # o's gradient is twice too large, and what is below follows from it, all to three digits.
    for name in ("o", "n", "x", "w"):
        answers[f"gradients.{name}"] = float(f"{2.0 * numbers[f'gradients.{name}']:.3g}")
    blame = Catalogue(graph).diagnose(answers).blame
    assert blame is not None
    assert blame.node == "o"
    assert blame.ratio == pytest.approx(2.0, rel=0.01)


class TestFollowThrough:
    def test_gradients_follow_from_the_students_own(self):
        follows = follow_through(LECTURE, {"gradients.d": 2.0, "gradients.a": -6.0})
        assert follows == {"gradients.e": 2.0, "gradients.c": 2.0, "gradients.a": -6.0, "gradients.b": 4.0}

    def test_values_follow_from_the_students_own(self):
        follows = follow_through(LECTURE, {"values.e": 6.0, "values.d": 16.0})
        assert follows["values.d"] == 16.0
        assert follows["value"] == follows["values.L"] == -32.0

    def test_gradients_follow_from_the_students_own_values(self):
        # d = 16 is the gradient of f.
        assert follow_through(LECTURE, {"values.d": 16.0, "gradients.L": 1.0})["gradients.f"] == 16.0

    def test_right_numbers_lead_to_right_ones(self):
        graph = Graph.from_dict({"inputs": {"x": 1.7, "w": -0.83}, "program": "n = w*x\no = tanh(n)\nL = o**3\nL"})
        numbers = Catalogue(graph).right()
        rounded = {key: float(f"{number:.4g}") for key, number in numbers.items()}
        for key, number in Catalogue(graph).follow_through(rounded).items():
            assert number == pytest.approx(numbers[key], rel=1e-12)

    def test_seeds(self):
        follows = follow_through(LECTURE, {"gradients.L": 5.0}, {"L": 5.0})
        assert follows["gradients.d"] == -10.0

    def test_nothing_follows_from_nothing(self):
        assert follow_through(LECTURE, {}) == {}
        assert follow_through(LECTURE, {"gradients.zzz": 1.0}) == {}
