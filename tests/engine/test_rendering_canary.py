"""No text for students holds an expected number: in no form, level of feedback, visibility or phase, by no helper.

The reports are real ones. The answers are wrong in ways that the messages talk about: what they say of a number must
not be the number. The graph's numbers begin with other digits than points, places and counts do.
"""

import itertools
import json
import traceback
from functools import lru_cache
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.canaries import leaks
from tests.engine.reports import OPTIONS

from chainrule_engine.derivatives import evaluate
from chainrule_engine.grading import LEVELS, PHASES, VISIBILITIES, grade, read_task
from chainrule_engine.graph import Graph
from chainrule_engine.rendering import FORMATS, render
from chainrule_engine.testing import (
    assert_answers,
    assert_check,
    assert_grad,
    grade_prairielearn,
    otter_test_file,
    points,
    prairielearn_check,
)
from chainrule_engine.training import Training

GRAPH = {
    "inputs": {"a": 1.22, "b": 2.36, "c": -1.51},
    "program": "e = a*b\nd = e + c*a\nf = d*e\no = tanh(f/5)\nL = o*7 + e*d",
    "output": "L",
}
RIGHT = evaluate(Graph.from_dict(GRAPH))
GRADIENTS = {name: RIGHT.gradients[name] for name in "abcdef"}
VALUES = {name: RIGHT.values[name] for name in "defo"}

#: Numbers of a task's own that are as good as the answer.
ENDS = {"low": 41.2311, "high": 41.7399, "at_most": 31.4159, "values": [84.2931, 83.4629]}

TRAINING = {
    "model": {
        "inputs": 2,
        "layers": [3, 1],
        "activation": "tanh",
        "output_activation": "linear",
        "init": {"scheme": "lecture", "seed": 7},
    },
    "data": {"inputs": [[0.5, -1.25], [1.5, 0.75], [-0.25, 2.0]], "targets": [1.5, -0.5, 0.25]},
    "loss": {"name": "squared_error", "reduction": "sum"},
    "optimizer": {"name": "sgd", "learning_rate": 0.0625},
    "steps": 6,
}


def checks(*visibilities):
    """A check in every mode that looks at the graph's numbers, with these visibilities in turn."""
    tolerance = {"rtol": 1e-4, "atol": 1e-6}
    compare = {
        "allclose": tolerance,
        "isclose": tolerance,
        "any_of": tolerance | {"values": ENDS["values"]},
        "absolute": {"atol": 1e-6},
        "relative": {"rtol": 1e-4, "zero_level": 1e-9, "zero_atol": 1e-9},
        "percent": {"percent": 1, "zero_level": 1e-9, "zero_atol": 1e-9},
        "sigfig": {"digits": 4},
        "decimals": {"digits": 3},
        "range": {name: ENDS[name] for name in ("low", "high")},
        "threshold": {"at_most": ENDS["at_most"]},
        "exact": {},
        "ulp": {"ulps": 8},
    }
    several = [f"gradients.{name}" for name in GRADIENTS]
    found = [
        {"id": f"{mode}.{name}", "of": f"gradients.{name}", "compare": {"mode": mode} | settings}
        for (mode, settings), name in zip(compare.items(), [*GRADIENTS, *GRADIENTS], strict=True)
    ]
    found.append({"id": "several", "of": several, "credit": "fraction", "points": 6})
    found.append({"id": "direction", "of": several, "compare": {"mode": "direction"}})
    found.append({"id": "value", "of": "value", "bands": [{"within": 1, "credit": 1}, {"within": 1e6, "credit": 0.5}]})
    found += [{"id": f"value.{name}", "of": f"values.{name}", "follow_through": 0.5} for name in VALUES]
    return [check | {"visibility": each} for check, each in zip(found, itertools.cycle(visibilities))]


@lru_cache
def task(level, *visibilities):
    spec = {"id": "canary", "title": "Canary", "evaluation": {"graph": GRAPH}, "feedback": level}
    return read_task(spec | {"checks": checks(*visibilities)})


def answers(change, names=tuple(GRADIENTS)):
    """Answers made of the right ones."""
    return {
        "value": change(RIGHT.value),
        "values": {name: change(x) for name, x in VALUES.items()},
        "gradients": {name: change(GRADIENTS[name]) for name in names},
    }


def swapped():
    given = answers(lambda x: x)
    given["gradients"] = dict(zip(GRADIENTS, [*list(GRADIENTS.values())[1:], GRADIENTS["a"]], strict=True))
    return given


ANSWERS = {
    "foreign": answers(lambda x: 0.4445),
    "sign": answers(lambda x: -x),
    "twice": answers(lambda x: 2 * x),
    "half": answers(lambda x: x / 2),
    "power of ten": answers(lambda x: 10 * x),
    "nearly": answers(lambda x: x * (1 + 3e-4)),
    "three digits": answers(lambda x: float(f"{x:.3g}")),
    "swapped": swapped(),
    "zero": answers(lambda x: 0.0),
    "one": answers(lambda x: 1.0),
    "not finite": answers(lambda x: "NaN"),
    "no path but one": {"gradients": {"a": RIGHT.values["b"], "b": RIGHT.values["a"], "c": 0.4445}},
    "some": {"gradients": {"a": 0.4445}},
    "text": {"gradients": {"a": "x" * 50}},
    "nothing": {},
}

EXPECTED = [RIGHT.value, *GRADIENTS.values(), *VALUES.values()]
SEALED = [number for end in ENDS.values() for number in (end if isinstance(end, list) else [end])]


def own(given):
    """All numbers in answers."""
    found, todo = [], [given]
    while todo:
        thing = todo.pop()
        if isinstance(thing, float):
            found.append(thing)
        elif isinstance(thing, dict | list):
            todo += thing.values() if isinstance(thing, dict) else thing
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ANSWERS)
def test_no_form_holds_an_expected_number(kind, level):
    scan(task(level, *VISIBILITIES), kind)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("kind", ["foreign", "sign"])
def test_no_form_holds_an_expected_number_whoever_may_see_the_checks(kind, visibility, level):
    scan(task(level, visibility), kind)


def scan(spec, kind):
    report = grade(spec, ANSWERS[kind], {"id": "s", "attempt": 1}).to_dict("staff")
    assert report["outcome"] == ("not_gradable" if kind in ("text", "nothing") else "graded")
    # Points may be any number.
    points = {float(report["fraction"]), float(report["score"])}
    for form, phase in itertools.product(FORMATS, PHASES):
        for more in ({}, {"grader": "template"}) if form == "coderunner" else ({},):
            written = render(report, form, phase=phase, **OPTIONS.get(form, {}), **more).text
            assert leaks(written, [*EXPECTED, *SEALED], [*points, *own(ANSWERS[kind])]) == [], (form, phase)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_no_form_of_a_training_holds_an_expected_number(visibility, level):
    training = Training(TRAINING)
    state = training.start()
    training.advance(state, training.steps)
    history = training.result(state)["loss_history"]
    compare = {"mode": "threshold", "at_most": 0.58317}
    spec = {
        "training": TRAINING,
        "feedback": level,
        "checks": [
            {"id": "history", "of": "loss_history", "credit": "prefix", "visibility": visibility},
            {"id": "final", "of": "loss_history", "compare": compare, "visibility": visibility},
        ],
    }
    given = {"loss_history": [*history[:3], *(4.445 for _ in history[3:])]}
    report = grade(read_task(spec), given).to_dict("staff")
    assert report["outcome"] == "graded"
    for form, phase in itertools.product(FORMATS, PHASES):
        written = render(report, form, phase=phase, **OPTIONS.get(form, {})).text
        assert leaks(written, [*history[3:], 0.58317], history[:3]) == [], (form, phase)


# ----------------------------------------------------------------------------------------------------- helpers


def student(kind):
    """The answers as values of a student's engine."""
    given = ANSWERS[kind]
    numbers = {"L": SimpleNamespace(data=given.get("value"), grad=1.0)}
    for name in "abcdefo":
        data, grad = given.get("values", {}).get(name), given.get("gradients", {}).get(name)
        numbers[name] = SimpleNamespace(data=data, grad=grad)
    return numbers


def everything_shown(call):
    """What a notebook could print of an exception: the message, the lines, all variables on the way."""
    try:
        call()
    except AssertionError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        # The frames of this test are not the student's to see.
        found.stack = traceback.StackSummary.from_list(found.stack[2:])
        return "".join(part.split("line ")[0] if "File" in part else part for part in found.format()) + str(error)
    return ""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["foreign", "sign", "nearly", "swapped", "some", "text"])
def test_no_helper_tells_an_expected_number(kind, level):
    spec = task(level, "visible", "visible", "hidden")
    work = student(kind)
    shown = [everything_shown(lambda: assert_answers(work, spec=spec))]
    for name in ("allclose.a", "percent.f", "range.c", "direction"):
        shown.append(everything_shown(lambda name=name: assert_check(work, name, spec=spec)))
    plain = read_task({"evaluation": {"graph": GRAPH}, "feedback": level})
    shown.append(everything_shown(lambda: assert_grad(work, "a", spec=plain)))
    shown.append(str(prairielearn_check(spec, "allclose.a")(ANSWERS[kind].get("gradients", {}).get("a"))[1]))
    data = {"submitted_answers": {}, "partial_scores": {}, "format_errors": {}, "score": None}
    data["submitted_answers"] = {
        f"gradients_{name}": number for name, number in ANSWERS[kind].get("gradients", {}).items()
    }
    grade_prairielearn(data, spec)
    shown.append(
        json.dumps([[part.get("feedback") for part in data["partial_scores"].values()], data["format_errors"]])
    )
    for text in shown:
        # The graph itself is in the task, which is no secret.
        assert leaks(text, EXPECTED + ([] if "{" in text else SEALED), own(ANSWERS[kind])) == []


def test_a_test_file_of_otter_holds_no_expected_number():
    assert leaks(otter_test_file(task("full", "hidden"), "task.json", name="q1"), EXPECTED + SEALED) == []


def test_points_are_all_that_a_cell_of_nbgrader_tells():
    assert points(student("foreign"), task("full", "visible"), max=5) < 5


# ---------------------------------------------------------------------------------------------------- the test


def test_the_staff_would_be_found_out():
    """What the tests above look for is there, where it may be."""
    report = grade(task("full", "visible"), ANSWERS["foreign"]).to_dict("staff")
    found = leaks(json.dumps(report), EXPECTED)
    assert len(found) >= len(GRADIENTS)


@pytest.mark.parametrize(
    "text",
    ["645.577", "-645.6", "it is 6.5e2", "about 646", "0.0065", "64.5", "[645.577]", "x=650,", "64557.7", "6.46E+02"],
)
def test_a_number_is_found_however_it_is_written(text):
    assert leaks(text, [645.577]) != []


@pytest.mark.parametrize("text", ["6", "600", "644", "64557.8", "sha256:645577ab", "\\u6455", "rtol 0.0001, 12 of 20"])
def test_other_numbers_are_not(text):
    assert leaks(text, [645.577]) == []


@given(st.floats(1e-300, 1e300), st.integers(2, 15))
def test_every_rounding_is_known(number, count):
    for text in (f"{number:.{count}g}", f"{number:.{count - 1}e}", repr(number)):
        if len(text.partition("e")[0].replace(".", "").strip("0")) >= 2:
            assert text.partition("e")[0] in leaks(f"about {text} or so", [number])
