"""The helpers for pytest, Otter, nbgrader and PrairieLearn, called as those call them."""

import contextlib
import json
import random
import subprocess
import sys
import warnings
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from tests import seed_notebook
from tests.engine.platforms import determine_grade, pl_data, pl_grade, pl_weighted, run_cell, run_otter

from chainrule_engine import Value
from chainrule_engine.grading import TaskError, read_task
from chainrule_engine.testing import (
    answers_of,
    assert_answers,
    assert_check,
    assert_grad,
    checks,
    grade_prairielearn,
    otter_test_file,
    points,
    prairielearn_check,
    read_spec,
)

GRAPH = {"inputs": {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}, "program": "e = a*b\nd = e + c\nL = d*f", "output": "L"}
#: From the lecture, by hand.
RIGHT = {"value": -8.0, "gradients": {"a": 6.0, "b": -4.0, "c": -2.0, "f": 4.0}}
SPEC = {"id": "first", "title": "First graph", "evaluation": {"graph": GRAPH}}


def notebook(engine, *, wrong=None):
    """What is in a notebook after the lecture's first graph, computed with that engine."""
    a, b, c, f = engine(2.0), engine(-3.0), engine(10.0), engine(-2.0)
    e = a * b
    d = e + c
    L = d * f
    L.backward()
    cells = {"a": a, "b": b, "c": c, "f": f, "e": e, "d": d, "L": L, "engine": engine, "__name__": "__main__"}
    if wrong is not None:
        cells[wrong].grad = cells[wrong].grad + 1
    return cells


# ------------------------------------------------------------------------------------------------------- specs


def test_a_task_comes_in_every_form(tmp_path):
    path = tmp_path / "task.json"
    path.write_text(json.dumps(SPEC), encoding="utf-8")
    digest = read_task(SPEC).digest
    for spec in (SPEC, read_task(SPEC), path, str(path), json.dumps(SPEC), " " + json.dumps(SPEC, indent=2)):
        assert read_spec(spec).digest == digest
    assert read_spec(SPEC) is read_spec(dict(SPEC))
    path.write_text(json.dumps(SPEC | {"title": "changed"}), encoding="utf-8")
    assert read_spec(path).title == "changed"


@pytest.mark.parametrize("spec", ["{", "{}", {"graph": set()}, "{" + "[" * 100_000, {"evaluation": 3}])
def test_what_is_no_task_is_refused(spec):
    with pytest.raises(TaskError):
        read_spec(spec)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        read_spec("missing.json")


# ----------------------------------------------------------------------------------------------------- answers


class Slots:
    __slots__ = ("data", "grad")

    def __init__(self, data, grad):
        self.data, self.grad = data, grad


@pytest.mark.parametrize("engine", [Value, seed_notebook.Value])
def test_values_of_an_engine_are_read_by_the_names_of_the_graph(engine):
    given = answers_of(notebook(engine), SPEC)
    assert given["value"] == -8.0
    assert given["values"] == {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0, "e": -6.0, "d": 4.0, "L": -8.0}
    assert given["gradients"] == RIGHT["gradients"] | {"e": -2.0, "d": -2.0, "L": 1.0}
    assert_answers(notebook(engine), spec=SPEC)


def test_values_may_be_the_attributes_of_an_object():
    student = SimpleNamespace(**notebook(Value))
    assert answers_of(student, SPEC) == answers_of(notebook(Value), SPEC)


def test_numbers_may_be_those_of_other_libraries():
    arrays = {"a": Slots(np.float64(2), np.array(6.0)), "b": Slots(Fraction(-3), np.float32(-4)), "c": Slots(10, None)}
    given = answers_of(arrays, SPEC)
    assert given == {"values": {"a": 2.0, "b": -3.0, "c": 10}, "gradients": {"a": 6.0, "b": -4.0}}
    assert all(type(number) in (int, float) for numbers in given.values() for number in numbers.values())
    wire = {"value": np.float64(-8.0), "gradients": {"a": np.int64(6), "b": "-4"}, "loss_history": np.arange(3)}
    assert answers_of(wire, SPEC) == {
        "value": -8.0, "gradients": {"a": 6, "b": "-4"}, "loss_history": [0, 1, 2],
    }  # fmt: skip


def test_variables_that_only_have_a_name_of_the_answers_are_no_answers():
    cells = notebook(Value) | {"value": 3.0, "values": [1, 2], "gradients": None}
    assert answers_of(cells, SPEC) == answers_of(notebook(Value), SPEC)


class Hostile(float):
    """Raises at every turn."""

    def __float__(self):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __eq__ = __hash__ = __repr__


class HostileValue:
    @property
    def data(self):
        raise KeyError("data")

    @property
    def grad(self):
        raise RuntimeError("grad")


class Odd:
    grad = object()
    data = {"x": [[[[[[[[[[[1]]]]]]]]]]]}  # noqa: RUF012 - nobody changes it


@pytest.mark.parametrize("make", [HostileValue, Odd, lambda: Hostile(3), lambda: None, lambda: 3, lambda: "x", object])
def test_what_cannot_be_read_earns_nothing_and_raises_nothing(make):
    thing = make()
    for student in ({"a": thing}, {"gradients": {"a": thing}}, {"gradients": thing}, {"value": thing}, thing):
        assert points(student, SPEC, max=5) == 0.0
        with pytest.raises(AssertionError):
            assert_answers(student, spec=SPEC)


LEAVING = [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RuntimeError("no")]


def at_every_turn(act):
    """Things of a student's own that do something wherever they are touched."""

    class Property:
        data = 2.0

        @property
        def grad(self):
            act()

    class Number:
        def __float__(self):
            act()

    class Array:
        def tolist(self):
            act()

    class Attributes:
        def __getattribute__(self, name):
            act()

    class Items(dict):
        def items(self):
            act()

        __iter__ = get = __getitem__ = __contains__ = items

    class Sequence(list):
        def __iter__(self):
            act()

    things = [Property(), Number(), Array(), Attributes(), Items(a=1.0), Sequence([1.0])]
    return [
        *({"a": thing} for thing in things),
        *({"gradients": {"a": thing}} for thing in things),
        *({"gradients": thing} for thing in things),
        *({"value": thing} for thing in things),
        *things,
    ]


@pytest.mark.parametrize("error", LEAVING, ids=lambda error: type(error).__name__)
def test_what_leaves_the_interpreter_is_no_answer(error):
    def act():
        raise error

    for student in at_every_turn(act):
        assert points(student, SPEC, max=5) == 0.0
        for check in (assert_answers, lambda student, spec: assert_check(student, "grad.a", spec=spec)):
            with pytest.raises(AssertionError):
                check(student, spec=SPEC)


def test_what_a_students_objects_print_is_shown_nowhere(capsys):
    def act():
        print("look")  # noqa: T201 - that is what is tested
        sys.stderr.write("look")
        warnings.warn("look", stacklevel=1)
        raise KeyboardInterrupt

    for student in at_every_turn(act):
        points(student, SPEC)
        answers_of(student, SPEC)
        for name in ("value", "grad.a"):
            with contextlib.suppress(AssertionError):
                assert_check(student, name, spec=SPEC)
    assert capsys.readouterr() == ("", "")


def test_a_float_of_a_class_of_its_own_is_its_number():
    assert answers_of({"value": Hostile(-8.0)}, SPEC) == {"value": -8.0}
    assert type(answers_of({"value": Hostile(-8.0)}, SPEC)["value"]) is float


def test_a_warning_of_the_students_library_does_not_fail_the_test():
    class Tensor:
        data = 2.0

        @property
        def grad(self):
            warnings.warn("the .grad attribute of a Tensor that is not a leaf", stacklevel=2)
            return 6.0

    assert_grad({"a": Tensor()}, "a", spec=SPEC)


# ------------------------------------------------------------------------------------------------------ asserts


def test_assert_grad_passes_and_fails_by_one_gradient():
    for name in "abcf":
        cells = notebook(Value, wrong=name)
        for other in "abcf":
            if other == name:
                with pytest.raises(AssertionError, match=f"∂L/∂{name}: Not correct"):
                    assert_grad(cells, other, spec=SPEC)
            else:
                assert_grad(cells, other, spec=SPEC)
    assert_grad(RIGHT, "a", spec=SPEC)
    with pytest.raises(AssertionError, match=r"∂L/∂a: No answer\."):
        assert_grad({"value": -8.0}, "a", spec=SPEC)


def test_assert_grad_refuses_what_the_task_does_not_ask():
    with pytest.raises(ValueError, match="no check of the gradient by 'x'"):
        assert_grad(RIGHT, "x", spec=SPEC)
    with pytest.raises(ValueError, match=r"no check 'grad\.x': it has value, grad\.a"):
        assert_check(RIGHT, "grad.x", spec=SPEC)


def test_assert_answers_names_everything_that_is_wrong():
    given = {"value": -8.0, "gradients": {"a": 6.0, "b": 4.0, "c": -2.0}}
    with pytest.raises(AssertionError) as caught:
        assert_answers(given, spec=SPEC)
    first, second = str(caught.value).splitlines()
    assert first.startswith("∂L/∂b: Not correct")
    assert second == "∂L/∂f: No answer."
    with pytest.raises(AssertionError, match="could not be read, and nothing was graded:\n/gradients/a: "):
        assert_answers({"gradients": {"a": [1]}}, spec=SPEC)


def test_mistakes_are_named_where_the_task_says_so():
    cells = notebook(Value)
    for name in "abcf":
        cells[name].grad *= -1
    with pytest.raises(AssertionError) as hint:
        assert_grad(cells, "a", spec=SPEC)
    with pytest.raises(AssertionError) as little:
        assert_grad(cells, "a", spec=SPEC | {"feedback": "pass_fail"})
    assert str(little.value) == "∂L/∂a: Not correct."
    assert len(str(hint.value)) > len(str(little.value))


def test_of_a_hidden_check_nothing_is_told():
    hidden = SPEC | {"checks": [{"id": "secret", "of": "gradients.a", "visibility": "hidden"}]}
    with pytest.raises(AssertionError) as caught:
        assert_answers({"gradients": {"a": -6.0}}, spec=hidden)
    assert str(caught.value) == "A check that is not shown: Not correct."
    due = SPEC | {"checks": [{"id": "later", "of": "gradients.a", "visibility": "after_due_date", "title": "later"}]}
    with pytest.raises(AssertionError, match="later: Not correct"):
        assert_answers({"gradients": {"a": -6.0}}, spec=due, phase="due")


PYTEST = """
import json
import pytest
from chainrule_engine.testing import assert_check, checks

SPEC = "task.json"
with open("answers.json") as file:
    ANSWERS = json.load(file)

@pytest.mark.parametrize("check", checks(SPEC))
def test_check(check):
    assert_check(ANSWERS, check, spec=SPEC)
"""


def test_pytest_has_one_test_for_each_check_and_shows_no_line_of_ours(tmp_path):
    (tmp_path / "test_answers.py").write_text(PYTEST)
    (tmp_path / "task.json").write_text(json.dumps(SPEC))
    (tmp_path / "answers.json").write_text(json.dumps(RIGHT | {"gradients": RIGHT["gradients"] | {"a": 5.0}}))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--showlocals", "-p", "no:cacheprovider", "test_answers.py"],
        cwd=tmp_path, env={"PYTHONPATH": "/".join(sys.modules["chainrule_engine"].__file__.split("/")[:-2])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "1 failed, 4 passed" in done.stdout
    assert "AssertionError: ∂L/∂a: Not correct" in done.stdout
    assert "chainrule_engine/" not in done.stdout
    assert "6.0" not in done.stdout.replace(str(RIGHT), "")
    assert checks(tmp_path / "task.json") == ["value", "grad.a", "grad.b", "grad.c", "grad.f"]


# -------------------------------------------------------------------------------------------------------- Otter


def test_an_otter_test_file_has_a_case_for_each_check(tmp_path, monkeypatch):
    spec = SPEC | {
        "checks": [
            {"id": "a", "of": "gradients.a", "title": "by a", "points": 2},
            {"id": "f", "of": "gradients.f", "title": 'by \'f\'\n"""'.replace("\n", " "), "visibility": "hidden"},
        ]
    }
    path = tmp_path / "task.json"
    path.write_text(json.dumps(spec))
    text = otter_test_file(spec, str(path), name="q1")
    title = spec["checks"][1]["title"]
    assert run_otter(text, notebook(Value), monkeypatch) == {
        "by a": (True, "", 2.0, False),
        title: (True, "", 1.0, True),
    }
    failed = run_otter(text, notebook(Value, wrong="a"), monkeypatch)
    assert failed["by a"][0] is False
    assert failed["by a"][1].startswith("AssertionError: by a: Not correct")
    assert failed[title][0] is True


# ----------------------------------------------------------------------------------------------------- nbgrader


CELL = "from chainrule_engine.testing import points\npoints(globals(), SPEC, max=5)"


@pytest.mark.parametrize(
    ("cells", "grade"),
    [
        (notebook(Value), 5),
        (notebook(Value, wrong="a"), 4),
        (notebook(seed_notebook.Value, wrong="L"), 5),
        ({}, 0),
        ({"a": HostileValue()}, 0),
    ],
)
def test_the_last_line_of_a_cell_is_the_points(cells, grade):
    assert determine_grade(run_cell(CELL, dict(cells) | {"SPEC": SPEC}), 5) == grade


def test_nothing_gets_to_stderr_while_points_are_counted():
    class Loud:
        data = 2.0

        @property
        def grad(self):
            sys.stderr.write("look")
            warnings.warn("look", stacklevel=1)
            return 6.0

    outputs = run_cell(CELL, {"a": Loud(), "SPEC": SPEC})
    assert outputs == ("", None, "1.0")


def test_a_broken_task_is_no_points():
    assert determine_grade(run_cell(CELL, notebook(Value) | {"SPEC": "missing.json"}), 5) == 0


def test_points_are_plain_floats_in_the_range_of_the_cell():
    rng = random.Random(5)
    for _ in range(50):
        gradients = {name: rng.choice([x, 0.0]) for name, x in RIGHT["gradients"].items()}
        given = {"value": rng.choice([-8.0, 8.0]), "gradients": gradients}
        most = rng.choice([None, 1, 2.5, 7])
        earned = points(given, SPEC, max=most)
        right = (given["value"] == -8.0) + sum(gradients[name] == x for name, x in RIGHT["gradients"].items())
        assert type(earned) is float
        assert earned == pytest.approx(right / 5 * (5 if most is None else most))
    assert points(RIGHT, SPEC, check="grad.a") == 1.0
    assert points(RIGHT, SPEC, max=3, check="grad.a") == 3.0


# ------------------------------------------------------------------------------------------------- PrairieLearn


def test_a_function_for_grade_answer_parameterized():
    data = pl_data(da=6.0, db=4.0)
    for name, check in (("da", "grad.a"), ("db", "grad.b"), ("dc", "grad.c")):
        pl_grade(data, name, prairielearn_check(SPEC, check))
    assert {name: part["score"] for name, part in data["partial_scores"].items()} == {"da": 1.0, "db": 0.0, "dc": 0.0}
    assert "feedback" not in data["partial_scores"]["da"]
    assert data["partial_scores"]["db"]["feedback"].startswith("∂L/∂b: Not correct")


def test_a_function_gives_a_part_and_takes_anything():
    bands = [{"within": 1, "credit": 1}, {"within": 1e5, "credit": 0.25}]
    function = prairielearn_check(SPEC | {"checks": [{"id": "a", "of": "gradients.a", "bands": bands}]}, "a")
    assert function(6.0) == (True, None)
    assert function(6.1)[0] == 0.25
    assert function({"_type": "np_scalar", "_concrete_type": "float64", "_value": "6.0"}) == (True, None)
    for answer in (None, "", "<b>x</b>", [], {}, float("nan"), 10**400, object()):
        result, feedback = function(answer)
        assert result is False
        assert feedback
        assert "<b>" not in feedback


def test_a_function_is_for_one_number():
    several = SPEC | {"checks": [{"id": "a", "of": ["gradients.a", "gradients.b"]}, {"id": "c", "of": "gradients.c"}]}
    for check in ("a", "zzz"):
        with pytest.raises(ValueError, match="is no check of one number"):
            prairielearn_check(several, check)


def test_grade_sets_weights_and_the_score():
    spec = SPEC | {
        "checks": [{"id": n, "of": f"gradients.{n}", "points": p} for n, p in (("a", 1), ("b", 2), ("c", 1))]
    }
    data = pl_data(gradients_a=6.0, gradients_b=4.0, gradients_c=-2.0)
    before = dict(data)
    grade_prairielearn(data, spec)
    assert data.keys() == before.keys()
    assert data["score"] == pl_weighted(data) == 0.5
    assert {name: part["weight"] for name, part in data["partial_scores"].items()} == {
        "gradients_a": 1, "gradients_b": 2, "gradients_c": 1,
    }  # fmt: skip
    assert data["partial_scores"]["gradients_b"]["feedback"].startswith("∂L/∂b: Not correct")


def test_inputs_may_have_other_names():
    data = pl_data(da=6.0, out=-8.0)
    grade_prairielearn(data, SPEC, names={"da": "gradients.a", "out": "value", "db": "gradients.b"})
    assert {name: part["score"] for name, part in data["partial_scores"].items()} == {"da": 1.0, "out": 1.0, "db": 0.0}
    assert data["partial_scores"]["db"]["feedback"] == "∂L/∂b: No answer."
    assert data["score"] == 0.4


def test_answers_that_are_not_gradable_use_no_attempt():
    data = pl_data(gradients_a="<i>6</i>", gradients_b=[1])
    grade_prairielearn(data, SPEC)
    assert data["partial_scores"] == {}
    assert data["format_errors"].keys() == {"gradients_a", "gradients_b"}
    assert "<i>" not in data["format_errors"]["gradients_a"]
    nothing = pl_data()
    grade_prairielearn(nothing, SPEC)
    assert nothing["format_errors"].keys() == {"value"}  # what is about all of them is said once


def test_hidden_checks_count_and_are_not_shown():
    spec = SPEC | {
        "checks": [
            {"id": "a", "of": "gradients.a"},
            {"id": "b", "of": "gradients.b", "visibility": "hidden"},
        ]
    }
    data = pl_data(gradients_a=6.0, gradients_b=1.0)
    grade_prairielearn(data, spec)
    assert data["partial_scores"] == {"gradients_a": {"score": 1.0, "weight": 1.0}}
    assert data["score"] == 0.5


def test_a_number_that_several_checks_look_at_has_one_score():
    spec = SPEC | {
        "checks": [
            {"id": "right", "of": "gradients.a", "points": 3},
            {"id": "digits", "of": "gradients.a", "compare": {"mode": "decimals", "digits": 0}},
            {"id": "both", "of": ["gradients.a", "gradients.b"], "points": 2},
        ]
    }
    data = pl_data(gradients_a=6.2, gradients_b=-4.0)
    grade_prairielearn(data, spec)
    assert data["partial_scores"]["gradients_a"]["score"] == pytest.approx(1 / 5)
    assert data["score"] == pytest.approx(1 / 6)
