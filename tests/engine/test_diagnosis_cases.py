"""Single exercises at which the diagnosis once went wrong, found by the measurements of its conformance."""

from __future__ import annotations

from textwrap import dedent

import pytest

from chainrule_engine.diagnosis import Catalogue
from chainrule_engine.graph import Graph


def catalogue(inputs, text):
    """Of a graph in the words of a program."""
    return Catalogue(Graph.from_dict({"inputs": inputs, "program": dedent(text), "output": "out"}))


def names(found):
    return [explanation.names for explanation in found.explanations]


def test_what_is_zero_to_the_last_digit_comes_before_what_rounds_to_zero():
    flat = catalogue(
        {"x": -0.76, "y": 1.6, "z": 2.9},
        """
        n = x + y
        m = n * n
        a = (z + z) * m
        b = a + (2 + sigmoid(sigmoid(sigmoid(a))))
        c = (-1 + (b + -1)) * 1 + 3 + 2
        out = 5 + (c + c)
        """,
    )
    found = flat.diagnose({"value": 24.53, "gradients.x": 0.0, "gradients.y": 0.0, "gradients.z": 0.0})
    assert names(found)[:2] == [("no_seed",), ("not_reversed",)]


def test_a_right_value_of_few_digits_does_not_hide_a_single_mistake():
    inputs = {"x": -4.0, "y": 1.1, "z": -2.8, "u": 1.89, "v": 2.4}
    sums = catalogue(inputs, "c = y + (1 + v + z)\nd = (u + x)**2\nout = (v + c)*(u + d)")
    answers = {"value": 26.0, "gradients.x": 1.0, "gradients.y": 1.0, "gradients.z": 1.0}
    found = sums.diagnose(answers | {"gradients.u": 2.0, "gradients.v": 2.0})
    assert sums.right()["value"] == pytest.approx(26.00261)
    assert names(found)[0] == ("add_no_up",)


def test_two_decimals_may_both_be_zeros():
    flat = catalogue({"p": 8.0, "q": 0.5}, "out = 1 + q*sigmoid(-p)*2")
    right = flat.right()
    rounded = {key: round(right[key], 2) for key in ("value", "gradients.p", "gradients.q")}
    assert rounded == {"value": 1.0, "gradients.p": 0.0, "gradients.q": 0.0}
    found = flat.diagnose(rounded)
    assert (found.explanations, found.blame) == ((), None)


def test_one_for_a_third_is_no_rounding():
    found = catalogue({"a": 0.8, "b": 0.5}, "c = b**2\nd = c*a\nout = d**2").diagnose(
        {"value": 0.04, "gradients.a": 0.1, "gradients.b": 1.0}
    )
    assert found.wrong == ("gradients.b",)


def test_gradients_that_cancel_are_right_in_single_precision_and_from_other_formulas():
    cancelling = catalogue(
        {"x1": 2.9, "x2": 0.7, "w1": -2.1},
        "a = w1*x2\nb = a - 1\nc = b*x2\nd = b/c\ne = (d - 5)**3\nout = sigmoid(e) + x1*0",
    )
    for noise in (0.0, 1.5e-16, -8e-17):
        answers = {"value": cancelling.right()["value"], "gradients.w1": noise}
        assert cancelling.diagnose(answers).explanations == ()
