"""Comparison against what other graders accept, and against NumPy, Python's math and decimal arithmetic."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine.errors import MAX_PROBLEMS
from chainrule_engine.grading import MODES, PRESETS, TaskError
from chainrule_engine.grading.comparison import Compare, read_compare
from chainrule_engine.grading.distances import NEVER, Distance
from chainrule_engine.grading.fields import Reader

MATRIX = json.loads((Path(__file__).parents[1] / "data" / "tolerance_matrix.json").read_text())

#: Which comparison accepts what a column of the matrix says.
COLUMNS: dict[str, dict[str, Any]] = {
    "np.testing.assert_allclose (rtol1e-7,atol0,nan=nan)": {
        "mode": "allclose", "rtol": 1e-7, "atol": 0.0, "equal_nan": True,
    },
    "np.allclose (1e-5,1e-8)": {"mode": "allclose", "rtol": 1e-5, "atol": 1e-8},
    "torch.assert_close float64 (1e-7,1e-7)": PRESETS["torch64"],
    "torch.assert_close float32 (1.3e-6,1e-5)": PRESETS["torch32"],
    "math.isclose (1e-9,0)": {"mode": "isclose", "rtol": 1e-9, "atol": 0.0},
    "pytest.approx (1e-6,1e-12)": {"mode": "isclose", "rtol": 1e-6, "atol": 1e-12, "relative_to": "expected"},
    "PL number-input relabs (1e-2,1e-8)": {"mode": "allclose", "rtol": 1e-2, "atol": 1e-8},
    "PL sigfig digits=2": {"mode": "sigfig", "digits": 2, "equal_nan": True},
    "PL decdig digits=2": {"mode": "decimals", "digits": 2, "equal_nan": True},
    "edX numericalresponse (0.001% sym)": {"mode": "isclose", "rtol": 1e-5, "atol": 0.0},
    "edX tolerance=1%": {"mode": "percent", "percent": 1.0, "zero_level": 0.0, "zero_atol": 0.0},
    "WeBWorK (0.1% rel, zeroLevel 1e-14)": {"mode": "relative", "rtol": 1e-3, "strict": True, "infinity": "never"},
    "STACK NumRelative 0.05": {
        "mode": "relative", "rtol": 0.05, "zero_level": 0.0, "zero_atol": 0.0, "infinity": "arithmetic",
    },
    "STACK NumAbsolute 0.05": {"mode": "absolute", "atol": 0.05, "strict": True, "infinity": "never"},
    "DMOJ floats precision=6 (abs or rel)": {
        "mode": "isclose", "rtol": 1e-6, "atol": 1e-6, "relative_to": "expected", "infinity": "never",
    },
}  # fmt: skip

#: Settings with which every mode can compare one number with any other.
EXAMPLES: dict[str, dict[str, Any]] = {
    "exact": {},
    "allclose": {"rtol": 1e-3, "atol": 1e-5},
    "isclose": {"rtol": 1e-3, "atol": 1e-5},
    "absolute": {"atol": 1e-3},
    "relative": {"rtol": 1e-3},
    "percent": {"percent": 2},
    "sigfig": {"digits": 4},
    "decimals": {"digits": 3},
    "range": {"low": -sys.float_info.max},
    "ulp": {"ulps": 3},
    "any_of": {"values": [1.0, 2.5]},
    "sequence": {},
    "direction": {},
    "monotone": {},
    "threshold": {"at_most": 1e308},
}

finite = st.floats(allow_nan=False, allow_infinity=False)
any_float = st.floats()
each = sorted(name for name, mode in MODES.items() if mode.each is not None)


def compare(data: object, default: str = "numbers") -> Compare:
    reader = Reader()
    found = read_compare(reader, data, ("compare",), default)
    reader.stop_if_wrong()
    return found


def accepts(data: object, student: float, expected: float) -> bool:
    return compare(data).measure(student, expected).within()


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["case"])
@pytest.mark.parametrize("column", COLUMNS)
def test_the_matrix_of_tolerances(row: dict[str, Any], column: str) -> None:
    assert accepts(COLUMNS[column], float(row["student"]), float(row["expected"])) is row[column]


def test_every_column_of_the_matrix_has_its_comparison() -> None:
    assert all(set(row) == {"case", "student", "expected", *COLUMNS} for row in MATRIX)
    assert len(MATRIX) == 21
    assert len(COLUMNS) == 15


@settings(deadline=None)
@given(any_float, any_float, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_allclose_is_that_of_numpy(student: float, expected: float, rtol: float, atol: float, nan: bool) -> None:
    data = {"mode": "allclose", "rtol": rtol, "atol": atol, "equal_nan": nan}
    with np.errstate(all="ignore"):
        wanted = bool(np.isclose(student, expected, rtol=rtol, atol=atol, equal_nan=nan))
    # A difference beyond the largest float64 is infinite there, and never within a tolerance here.
    assert accepts(data, student, expected) is ((wanted and not math.isinf(student - expected)) or student == expected)


@settings(deadline=None)
@given(any_float, any_float, st.floats(0, 0.5), st.floats(0, 1))
def test_isclose_is_that_of_python(student: float, expected: float, rtol: float, atol: float) -> None:
    data = {"mode": "isclose", "rtol": rtol, "atol": atol}
    assert accepts(data, student, expected) is math.isclose(student, expected, rel_tol=rtol, abs_tol=atol)


@settings(deadline=None)
@given(finite, st.integers(0, 5))
def test_units_in_the_last_place(number: float, steps: int) -> None:
    other = number
    for _ in range(steps):
        other = math.nextafter(other, math.inf)
    if math.isfinite(other):
        assert compare({"mode": "ulp", "ulps": 1}).measure(other, number).error == steps


def test_units_across_zero() -> None:
    tiny = 5e-324
    assert compare({"mode": "ulp", "ulps": 9}).measure(tiny, -tiny).error == 2
    assert compare({"mode": "ulp", "ulps": 0}).measure(-0.0, 0.0).within()
    assert not accepts({"mode": "ulp", "ulps": 1}, math.nextafter(1.0, 2.0) + 2**-52, 1.0)
    assert accepts({"mode": "ulp", "ulps": 1}, math.nextafter(1.0, 2.0), 1.0)


@pytest.mark.parametrize(
    ("data", "student", "expected", "right"),
    [
        ({"mode": "sigfig", "digits": 4}, 645.6, 645.577, True),
        ({"mode": "sigfig", "digits": 4}, 645.5, 645.577, False),
        ({"mode": "sigfig", "digits": 2}, 1000.0, 1049.0, True),
        ({"mode": "sigfig", "digits": 2}, 1000.0, 1052.0, False),
        ({"mode": "sigfig", "digits": 3}, 0.0, 0.0, True),
        ({"mode": "sigfig", "digits": 3}, 0.005, 0.0, True),
        ({"mode": "sigfig", "digits": 3}, 0.006, 0.0, False),
        ({"mode": "sigfig", "digits": 17}, 5e-324, 5e-324, True),
        ({"mode": "decimals", "digits": 0}, 3.0, 3.5, True),
        ({"mode": "decimals", "digits": 0}, 3.0, 3.52, False),
        ({"mode": "decimals", "digits": 2}, 0.33, 1 / 3, True),
        ({"mode": "percent", "percent": 2}, 1.0199, 1.0, True),
        ({"mode": "percent", "percent": 2}, 1.0201, 1.0, False),
        ({"mode": "percent", "percent": 2}, 1e-13, 0.0, True),
        ({"mode": "relative", "rtol": 0.5, "zero_level": 0.1, "zero_atol": 0.01}, 0.2, 0.1, False),
        ({"mode": "relative", "rtol": 0.5, "zero_level": 0.1, "zero_atol": 0.01}, 0.06, 0.05, True),
        ({"mode": "absolute", "atol": 0.5}, 1.5, 1.0, True),
        ({"mode": "absolute", "atol": 0.5, "strict": True}, 1.5, 1.0, False),
        ({"mode": "range", "low": 1.0, "high": 2.0}, 2.0, -7.0, True),
        ({"mode": "range", "low": 1.0, "high": 2.0}, 2.5, -7.0, False),
        ({"mode": "range", "low": 1.0}, math.nan, 1.0, False),
        ({"mode": "range", "low": 1.0}, math.inf, 1.0, False),
        ({"mode": "range", "high": 1.0}, -5.0, 1.0, True),
        ({"mode": "any_of", "values": [0.0, 1.0]}, 1.0, 0.5, True),
        ({"mode": "any_of", "values": [0.0, 1.0]}, 0.5, 0.5, True),
        ({"mode": "any_of", "values": [0.0, 1.0]}, 0.75, 0.5, False),
        ({"mode": "exact"}, 0.1 + 0.2, 0.3, False),
        ({"mode": "exact"}, -0.0, 0.0, True),
        ({"mode": "exact", "equal_nan": True}, math.nan, math.nan, True),
        ({"mode": "allclose", "rtol": 10, "atol": 0}, -1e308, 1e308, False),
    ],
)
def test_edges_of_the_modes(data: dict[str, Any], student: float, expected: float, right: bool) -> None:
    assert accepts(data, student, expected) is right


@pytest.mark.parametrize("mode", each)
@settings(deadline=None)
@given(number=finite)
def test_the_right_number_is_right(mode: str, number: float) -> None:
    assert accepts({"mode": mode, **EXAMPLES[mode]}, number, number)


@pytest.mark.parametrize("mode", each)
@settings(deadline=None)
@given(number=any_float)
def test_nan_is_never_right_unless_asked_for(mode: str, number: float) -> None:
    found = compare({"mode": mode, **EXAMPLES[mode]})
    assert not found.measure(math.nan, number).within()
    if mode not in ("range", "any_of"):  # which have right numbers of their own
        assert not found.measure(number, math.nan).within(1e9)


@pytest.mark.parametrize("mode", each)
@settings(deadline=None)
@given(student=any_float, expected=any_float)
def test_wider_bands_hold_narrower_ones(mode: str, student: float, expected: float) -> None:
    distance = compare({"mode": mode, **EXAMPLES[mode]}).measure(student, expected)
    assert not distance.within(1.0) or distance.within(2.0)
    assert distance.within() is (distance.multiple <= 1.0) or distance.strict or 0.99 < distance.multiple < 1.01


def test_a_distance_in_tolerances() -> None:
    assert Distance(0.3, 0.1).multiple == pytest.approx(3.0)
    assert Distance(0.0, 0.0).multiple == 0.0
    assert NEVER.multiple == math.inf
    assert Distance(1.0, 1.0).within()
    assert not Distance(1.0, 1.0, strict=True).within()
    assert Distance(2.0, 1.0).within(2.0)
    assert not Distance(math.inf, math.inf).within()


# ----------------------------------------------------------------------------------- all numbers together


def judge_all(data: dict[str, Any], students: list[float], expected: list[float]) -> Distance:
    found = compare(data)
    assert found.rule.whole is not None
    return found.rule.whole(students, expected, found.settings)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=6))
def test_direction_is_the_cosine(pairs: list[tuple[float, float]]) -> None:
    students, expected = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    lengths = np.linalg.norm(students), np.linalg.norm(expected)
    distance = judge_all({"mode": "direction", "min_cosine": 0.9}, students.tolist(), expected.tolist())
    if min(lengths) > 1e-100:
        cosine = (students / lengths[0]) @ (expected / lengths[1])
        assert distance.error == pytest.approx(1.0 - cosine, abs=1e-12)


def test_directions_at_the_edges() -> None:
    direction = {"mode": "direction"}
    assert judge_all(direction, [1e300, 2e300], [1e-300, 2e-300]).within()
    assert judge_all(direction, [0.0, 0.0], [0.0, 0.0]).within()
    assert not judge_all(direction, [0.0, 0.0], [0.0, 1.0]).within()
    assert not judge_all(direction, [0.0, 1.0], [0.0, 0.0]).within()
    assert not judge_all(direction, [1.0, math.nan], [0.0, 1.0]).within()
    assert not judge_all(direction, [1.0, math.inf], [1.0, math.inf]).within()
    assert not judge_all(direction, [1.0], [1.0, 2.0]).within()
    assert not judge_all(direction, [-1.0, -2.0], [1.0, 2.0]).within()


def test_monotone_and_threshold() -> None:
    falling = {"mode": "monotone"}
    assert judge_all(falling, [3.0, 2.0, 2.0], [0.0] * 3).within()
    assert not judge_all({**falling, "strict": True}, [3.0, 2.0, 2.0], [0.0] * 3).within()
    assert not judge_all(falling, [3.0, 2.0], [0.0] * 3).within()
    assert not judge_all(falling, [3.0, math.nan, 2.0], [0.0] * 3).within()
    assert not judge_all(falling, [math.inf, 2.0, 1.0], [0.0] * 3).within()
    assert judge_all({**falling, "order": "increasing"}, [1.0, 2.0], [0.0] * 2).within()
    final = {"mode": "threshold", "at_most": 0.1}
    assert judge_all(final, [5.0, 0.1], [0.0] * 2).within()
    assert not judge_all(final, [0.05, 0.2], [0.0] * 2).within()
    assert not judge_all(final, [], []).within()
    assert not judge_all(final, [0.1], [0.0] * 2).within()
    assert not judge_all(final, [5.0, 0.2, 0.1], [0.0] * 2).within()
    assert not judge_all(final, [-math.inf], [0.0]).within()
    assert judge_all({"mode": "threshold", "at_least": 0.9}, [0.95], [0.0]).within()
    assert not judge_all({"mode": "threshold", "at_least": 0.9}, [math.nan], [0.0]).within()


# ------------------------------------------------------------------------------------------------- reading


def problems(data: object) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(TaskError) as caught:
        compare(data)
    return [(problem.path, problem.detail) for problem in caught.value.problems]


@pytest.mark.parametrize("mode", ["allclose", "isclose", "sequence", "any_of"])
@pytest.mark.parametrize("given", ["rtol", "atol"])
def test_one_tolerance_alone_is_an_error(mode: str, given: str) -> None:
    data = {"mode": mode, **({"values": [1.0]} if mode == "any_of" else {}), given: 0.1}
    (problem,) = problems(data)
    assert problem[0] == ("compare",)
    assert "alone" in problem[1]


@pytest.mark.parametrize(
    ("data", "path", "word"),
    [
        (7, ("compare",), "is an object"),
        ("torch65", ("compare",), "torch64"),
        ({"mode": "alclose"}, ("compare", "mode"), "allclose"),
        ({"mode": ["exact"]}, ("compare", "mode"), "choose"),
        ({"mode": "exact", "rtol": 1}, ("compare", "rtol"), "unknown field"),
        ({"mode": "absolute"}, ("compare",), "atol"),
        ({"mode": "absolute", "atol": -1}, ("compare", "atol"), "at least"),
        ({"mode": "absolute", "atol": "1"}, ("compare", "atol"), "string"),
        ({"mode": "absolute", "atol": math.inf}, ("compare", "atol"), "finite"),
        ({"mode": "sigfig", "digits": 2.5}, ("compare", "digits"), "whole"),
        ({"mode": "sigfig", "digits": 0}, ("compare", "digits"), "at least"),
        ({"mode": "sigfig", "digits": 18}, ("compare", "digits"), "at most"),
        ({"mode": "range"}, ("compare",), "low or high"),
        ({"mode": "range", "low": 2, "high": 1}, ("compare", "low"), "not above"),
        ({"mode": "threshold"}, ("compare",), "at_most or at_least"),
        ({"mode": "any_of", "values": []}, ("compare", "values"), "at least"),
        ({"mode": "any_of", "values": [1, None]}, ("compare", "values", 1), "null"),
        ({"mode": "relative", "rtol": 1, "zero_level": 1}, ("compare",), "zero_atol"),
        ({"mode": "direction", "min_cosine": -1}, ("compare", "min_cosine"), "more than"),
        ({"mode": "allclose", "equal_nan": 1}, ("compare", "equal_nan"), "true or false"),
    ],
)
def test_what_is_refused(data: object, path: tuple[str | int, ...], word: str) -> None:
    found = problems(data)
    assert found[0][0] == path
    assert word in found[0][1]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_comparisons(name: str) -> None:
    found = compare(name)
    assert found.to_dict().items() >= PRESETS[name].items()
    assert compare(found.to_dict()) == found


def test_tolerances_of_zero_are_told() -> None:
    assert compare({"rtol": 0, "atol": 0}).shown() == {"rtol": 0.0, "atol": 0.0}
    assert compare({"mode": "ulp", "ulps": 0, "equal_nan": True}).shown() == {"ulps": 0, "equal_nan": True}


def test_what_is_left_out() -> None:
    assert compare({}).to_dict().items() >= PRESETS["numbers"].items()
    assert compare({"mode": "sequence"}).to_dict().items() >= PRESETS["loss_history"].items()
    assert compare({}, "loss_history").mode == "sequence"
    assert set(EXAMPLES) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_reports_tell_no_right_number(mode: str) -> None:
    shown = compare({"mode": mode, **EXAMPLES[mode]}).shown()
    assert not shown.keys() & {"low", "high", "at_most", "at_least", "values"}
    assert "rtol" in shown or "rtol" not in MODES[mode].settings
    # A check's entry in a report has members of its own.
    own = {"id", "number", "title", "of", "score", "max_score", "passed", "visibility", "student", "message", "group"}
    assert not own & MODES[mode].settings.keys()


def test_problems_stop_at_a_page() -> None:
    found = problems({"mode": "exact", **{f"f{k}": k for k in range(100)}})
    assert len(found) == MAX_PROBLEMS
