"""What digits numbers are read to have, and what then counts as right or as the same."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule_engine.diagnosis import Catalogue, Precision
from chainrule_engine.diagnosis.precision import agree, count_digits, is_kept_of, read_precision
from chainrule_engine.graph import Graph

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("number", "digits", "decimals"),
    [
        (6.0, 1, 0),
        (-120.0, 2, 0),
        (12.5, 3, 1),
        (0.0012, 2, 4),
        (-0.5, 1, 1),
        (1e22, 1, 0),
        (1.25e-7, 3, 9),
        (645.5773, 7, 4),
        (0.1 + 0.2, 17, 17),
        (0.0, 0, 0),
    ],
)
def test_digits(number: float, digits: int, decimals: int):
    assert count_digits(number) == (digits, decimals)


@given(finite.filter(bool))
def test_digits_are_those_of_the_shortest_text(number: float):
    _, figures, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    assert count_digits(number) == (len(figures), max(0, -exponent))


@pytest.mark.parametrize(
    ("numbers", "kind", "digits"),
    [
        ([6.0, -8.0], "rounded", 1),
        ([6.0, 0.1 + 0.2], "double", 17),
        ([0.10000000149011612, 2.0], "single", 17),
        ([1e300, 0.10000000149011612, 1 / 3], "double", 17),
        ([138.8, 645.6], "rounded", 4),
        ([math.nan, math.inf, 0.0], "rounded", 0),
        ([], "rounded", 0),
    ],
)
def test_read_as_a_whole(numbers: list[float], kind: str, digits: int):
    found = read_precision(numbers)
    assert (found.kind, found.digits) == (kind, digits)


def test_a_unit_is_that_of_the_digits_or_of_the_decimals():
    found = read_precision([645.58, 0.12])
    assert found == Precision("rounded", 5, 2)
    # One of the last digit of 645.58, and of 0.12, which has as many decimals.
    assert found.unit(645.58) == pytest.approx(0.01)
    assert found.unit(0.12) == pytest.approx(0.01)
    assert found.unit(0.0) == pytest.approx(0.01)
    assert read_precision([645.6, 0.001234]).unit(645.6) == pytest.approx(0.1)
    assert found.unit(math.inf) == 0.0
    assert read_precision([1 / 3]).unit(0.5) == 0.0


def test_agreement():
    assert agree(1.0, 1.05, 0.1)
    assert not agree(1.0, 1.2, 0.1)
    assert agree(math.inf, math.inf, 0.0)
    assert agree(math.nan, math.nan, 0.0)
    assert not agree(math.inf, -math.inf, 1e300)
    assert not agree(math.nan, 1.0, 1e300)


# ----------------------------------------------------------------------------------------- what follows for answers

#: Of three inputs, on numbers that are not short.
NEURON = Catalogue(
    Graph.from_dict(
        {
            "inputs": {"x": 1.7, "w": -0.83, "b": 0.41},
            "program": "n = w*x + b\no = tanh(n)\nL = (o - 0.3)**2 * 3.1\nL",
        }
    )
)
KEYS = ["value", "gradients.x", "gradients.w", "gradients.b"]


def single(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


@given(st.integers(2, 12), st.sampled_from(["digits", "decimals"]), st.sampled_from(["rounded", "cut"]))
def test_rounded_or_cut_right_answers_are_right(kept: int, of: str, how: str):
    def short(number: float) -> float:
        places = kept if of == "decimals" else kept - 1 - math.floor(math.log10(abs(number)))
        unit = Decimal(1).scaleb(-places)
        return float(Decimal(number).quantize(unit, rounding="ROUND_HALF_EVEN" if how == "rounded" else "ROUND_DOWN"))

    right = NEURON.right()
    found = NEURON.diagnose({key: short(right[key]) for key in KEYS})
    assert (found.explanations, found.blame, found.wrong) == ((), None, ())


@given(st.integers(-30, 30))
def test_right_answers_in_single_precision_are_right(ulps: int):
    right = NEURON.right()
    answers = {key: single(right[key] * (1.0 + ulps * 2.0**-24)) for key in KEYS}
    assert NEURON.diagnose(answers).wrong == ()


def wrong_answers() -> dict[str, float]:
    """Of a student who forgot the square in tanh'."""
    o = math.tanh(-0.83 * 1.7 + 0.41)
    upstream = 2.0 * (o - 0.3) * 3.1
    b = upstream * (1.0 - o)
    return {"value": (o - 0.3) ** 2 * 3.1, "gradients.x": -0.83 * b, "gradients.w": 1.7 * b, "gradients.b": b}


@pytest.mark.parametrize("digits", [3, 4, 5, 6, 7, 8, 12, 17])
def test_a_mistake_is_found_in_rounded_answers(digits: int):
    answers = {key: float(f"{number:.{digits - 1}e}") for key, number in wrong_answers().items()}
    found = NEURON.diagnose(answers).explanations
    assert found[0].names == ("tanh_nosq",)
    assert found[0].matches == 4


@pytest.mark.parametrize("decimals", [2, 3, 4, 6])
def test_a_mistake_is_found_in_answers_with_few_decimals(decimals: int):
    answers = {key: round(number, decimals) for key, number in wrong_answers().items()}
    assert ("tanh_nosq",) in [one.names for one in NEURON.diagnose(answers).explanations]


def test_a_mistake_is_found_in_single_precision():
    found = NEURON.diagnose({key: single(number) for key, number in wrong_answers().items()})
    assert found.precision.kind == "single"
    assert found.explanations[0].names == ("tanh_nosq",)


def test_short_numbers_do_not_agree_with_what_they_are_a_rounding_of():
    # One digit is too little to tell a mistake by: 3.6 and 4.4 would both be 4.
    catalogue = Catalogue(Graph.from_dict({"inputs": {"a": 1.9, "b": 2.2}, "program": "(a*b) * 1.3"}))
    assert catalogue.diagnose({"gradients.a": 9.0}).explanations == ()
    assert catalogue.diagnose({"gradients.a": 2.2}).explanations[0].names == ("mul_no_up",)


def test_what_is_exact_leaves_no_room_for_what_was_rounded():
    # At (2, 5), c = 4: 5 is the gradient of a without upstream; 5.004 would round to it.
    catalogue = Catalogue(Graph.from_dict({"inputs": {"a": 2.0, "b": 5.0, "c": 4.02}, "program": "(a*b) * c"}))
    found = catalogue.diagnose({"gradients.a": 5.0, "gradients.b": 2.0, "gradients.c": 10.0}).explanations
    assert {one.names for one in found} == {("mul_no_up",)}


@pytest.mark.parametrize(
    ("number", "exact", "kept"),
    [
        (11.57, 11.5717, True),
        (11.58, 11.5717, False),
        (11.57, 11.5799, True),
        (11.58, 11.5799, True),
        (-20.05, -20.0529, True),
        (-20.06, -20.0529, False),
        (-20.05, -20.0599, True),
        (0.0, 0.0099, True),
        (0.0, -0.0099, True),
        (0.01, 0.0049, False),
        (0.01, -0.0001, False),
        (11.57, 11.5801, False),
    ],
)
def test_a_number_is_cut_towards_zero(number: float, exact: float, kept: bool):
    assert is_kept_of(number, exact, 0.01, 1e-9) is kept
    assert is_kept_of(-number, -exact, 0.01, 1e-9) is kept


def test_what_is_rounded_the_other_way_is_not_right():
    # sin_sign gives 11.58 where 11.5717 is right, which is 11.57 however it is shortened.
    right = NEURON.right()
    places = {key: 3 - math.floor(math.log10(abs(right[key]))) for key in KEYS}
    for key in KEYS:
        unit = 10.0 ** -places[key]
        away = math.copysign((math.floor(abs(right[key]) / unit) + 1) * unit, right[key])
        short = {name: round(right[name], places[name]) for name in KEYS}
        away = round(away, places[key])
        if away != short[key]:
            assert NEURON.diagnose(short | {key: away}).wrong == (key,)
