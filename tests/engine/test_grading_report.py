"""Grading as a whole: hostile answers, credit, what students see and what they must not, the same bytes again."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine.errors import MAX_PROBLEMS
from chainrule_engine.grading import (
    AUDIENCES,
    LEVELS,
    MODES,
    PHASES,
    VISIBILITIES,
    Report,
    Task,
    canonical,
    digest,
    grade,
    pointer,
    read_task,
    right_answers,
)
from chainrule_engine.training import train

ENGINE = Path(__file__).parents[2] / "engine"
GRAPH = {"inputs": {"a": 2.0, "b": -3.0}, "program": "c = a*b\nL = c*c + a"}
#: value 38, c -6, gradients: a 37, b -24, c -12, L 1
RIGHT = {"value": 38.0, "values": {"c": -6.0}, "gradients": {"a": 37.0, "b": -24.0, "c": -12.0}}
BATCH = {"inputs": {"x": [1.0, 2.0, 3.0], "w": 2.0}, "program": "y = w*x*x"}
TRAINING: dict[str, Any] = {
    "model": {"inputs": 2, "layers": [3, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 3}},
    "data": {"inputs": [[0.5, -1.0], [1.0, 0.25]], "targets": [1.0, -1.0]},
    "loss": {"name": "squared_error", "reduction": "sum"},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "steps": 5,
}


def task(*checks: Any, graph: Any = GRAPH, **fields: Any) -> Task:
    source = {} if "training" in fields else {"evaluation": {"graph": graph}}
    return read_task({**source, **({"checks": list(checks)} if checks else {}), **fields})


def only(check: dict[str, Any], answers: Any, **fields: Any) -> dict[str, Any]:
    """The one check's entry in the report for the staff."""
    report = grade(task({"of": "gradients.a", **check}, **fields), answers).to_dict("staff")
    (entry,) = report["checks"]
    return entry


def texts(data: Any) -> Iterator[str]:
    """Every text and number in a report, as text."""
    todo = [data]
    while todo:
        entry = todo.pop()
        if isinstance(entry, dict):
            todo += [*entry.keys(), *entry.values()]
        elif isinstance(entry, list):
            todo += entry
        else:
            yield str(entry)


# ------------------------------------------------------------------------------------------------ the form


def test_a_report_for_the_staff() -> None:
    report = grade(
        task(id="q3", title="By hand"), {"value": "38.0", "gradients": {"a": 37, "b": 24.0}}, {"id": "s", "attempt": 2}
    )
    data = report.to_dict("staff")
    assert list(data) == [
        "schema", "task", "engine", "submission", "id", "outcome", "feedback", "mistakes", "notes", "format_errors",
        "withheld", "staff", "score", "max_score", "fraction", "checks", "groups", "digest",
    ]  # fmt: skip
    assert data["schema"] == "chainrule.report/1"
    assert data["outcome"] == report.outcome == "graded"
    assert (data["score"], data["max_score"]) == (report.score, report.max_score) == (2, 3)
    assert data["fraction"] == report.fraction == pytest.approx(2 / 3)
    assert data["submission"] == {"id": "s", "attempt": 2, "digest": data["submission"]["digest"]}
    assert data["checks"][2] == {
        "id": "grad.b", "number": None, "title": "∂L/∂b", "of": "gradients.b", "score": 0, "max_score": 1,
        "passed": False, "visibility": "visible", "mode": "allclose", "rtol": 1e-4, "atol": 1e-6, "student": 24.0,
        "message": "Not correct: the sign is flipped.",
    }  # fmt: skip
    assert data["staff"]["checks"]["grad.b"]["expected"] == -24.0
    assert data["staff"]["checks"]["grad.b"]["abs_err"] == 48.0
    assert data["staff"]["checks"]["grad.b"]["rel_err"] == 2.0
    assert data["digest"] == digest({name: entry for name, entry in data.items() if name != "digest"})
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_a_report_is_read_again() -> None:
    report = grade(task({"of": "value", "visibility": "hidden"}, {"of": "gradients.a"}), {"value": 1.0})
    again = Report.from_dict(json.loads(json.dumps(report.to_dict("staff"))))
    for audience in AUDIENCES:
        for phase in PHASES:
            assert again.to_dict(audience, phase) == report.to_dict(audience, phase)
    assert (again.id, again.score, again.outcome) == (report.id, report.score, report.outcome)
    with pytest.raises(ValueError, match="audience"):
        report.to_dict("parents")
    with pytest.raises(ValueError, match="phase"):
        report.to_dict("student", "later")


@pytest.mark.parametrize(
    "data",
    [
        [{"evaluation": {"graph": GRAPH}}, {"gradients": {"b": 24.0, "a": ""}, "x": 1}, {"id": "s"}],
        [
            {"training": TRAINING, "feedback": "full"},
            {"loss_history": [1.0, 2.0], "parameters": {"layers": [{}, {}]}},
            None,
        ],
    ],
    ids=["graph", "training"],
)
def test_the_same_again_in_another_process(data: list[Any]) -> None:
    program = (
        "import json, sys; from chainrule_engine.grading import *; "
        "t, a, s = json.load(sys.stdin); print(canonical(grade(read_task(t), a, s).to_dict('staff')), end='')"
    )
    # On the plain kernels there, on the compiled ones here.
    runs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "CHAINRULE_ENGINE": "python"},
            input=json.dumps(data), capture_output=True, text=True, check=True, cwd=ENGINE,
        ).stdout
        for seed in "01"
    }  # fmt: skip
    assert runs == {canonical(grade(read_task(data[0]), data[1], data[2]).to_dict("staff"))}


def test_ids_and_digests() -> None:
    base, answers = task(), {"value": 38.0}
    report = grade(base, answers, {"id": "s", "attempt": 1})
    assert report.id == grade(task(), dict(answers), {"attempt": 1, "id": "s"}).id
    others = [
        grade(task(title="x"), answers, {"id": "s", "attempt": 1}),
        grade(base, {"value": 38.5}, {"id": "s", "attempt": 1}),
        grade(base, answers, {"id": "t", "attempt": 1}),
        grade(base, answers, {"id": "s", "attempt": 2}),
    ]
    assert len({report.id, *(other.id for other in others)}) == 5
    assert report.to_dict("staff")["digest"] != report.to_dict("student")["digest"]


def test_students_see_no_digest_of_the_task_and_nobody_its_salt() -> None:
    asked = task({"of": "value", "compare": {"mode": "range", "low": 30}}, salt="s4lt", id="t", title="T")
    report = grade(asked, {"value": 38.0})
    assert report.to_dict("staff")["task"] == {"id": "t", "title": "T", "digest": asked.digest}
    assert report.to_dict("student", "published")["task"] == {"id": "t", "title": "T"}
    assert "s4lt" not in " ".join(texts(report.to_dict("staff")))
    unsalted = grade(task({"of": "value", "compare": {"mode": "range", "low": 30}}, id="t", title="T"), {"value": 38.0})
    assert report.id != unsalted.id


@pytest.mark.parametrize(
    "given",
    [["id", "attempt"], {"id": 7}, {"id": "x" * 201}, {"id": "a\nb"}, {"id": ""}, {"attempt": 0}, {"attempt": True},
     {"id": "Ada Lovelace"}, {"id": "ada@example.org"}, {"id": "<script>"},
     {"attempt": "1"}, {"name": "Ada", "email": "ada@example.org"}, {"attempt": 10**40}, None],
)  # fmt: skip
def test_nothing_but_an_opaque_id_and_an_attempt_is_kept(given: Any) -> None:
    data = grade(task(), RIGHT, given).to_dict("staff")
    assert data["submission"] == {"id": None, "attempt": None, "digest": digest(RIGHT)}


@pytest.mark.parametrize("rule", ["sum", "all_or_nothing"])
def test_students_are_not_told_that_a_group_is_right_before_they_see_all_of_it(rule: str) -> None:
    checks = [
        {"of": "value", "group": "g"},
        {"id": "hidden", "of": "gradients.a", "group": "g", "visibility": "after_published"},
    ]
    asked = task(*checks, groups=[{"id": "g", "rule": rule}])
    for gradient, last in ((RIGHT["gradients"]["a"], True), (0.5, False)):
        report = grade(asked, {"value": RIGHT["value"], "gradients": {"a": gradient}})
        assert [report.to_dict("student", phase)["groups"][0]["passed"] for phase in ("open", "published")] == [
            None,
            last,
        ]
        assert report.to_dict("staff")["groups"][0]["passed"] is last
    wrong = grade(asked, {"value": 0.5, "gradients": {"a": RIGHT["gradients"]["a"]}})
    assert wrong.to_dict()["groups"][0]["passed"] is False


# ------------------------------------------------------------------------------------------- hostile answers

MEMBERS = ["value", "values", "gradients", "jacobian", "loss_history", "parameters", "predictions", "metrics"]
IDS = ["a", "b", "c", "L", "_1", "a/b~", "<script>", "\x00", "\ud800", "layers", "weights"]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**4000), 2**53 + 1])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "1e999", "0x1", "١", "1_0", "1e-400", " 3 ", "1,5", "−2", "9" * 99]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(IDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)
answers_like = st.dictionaries(
    st.sampled_from(MEMBERS), json_values | st.dictionaries(st.sampled_from(IDS), json_values)
)
TASKS = [
    task(),
    task({"of": "gradients.a", "follow_through": 0.5}, {"of": ["values.c", "value"], "id": "v", "credit": "prefix"}),
    task({"of": "value"}, {"of": "gradients.x"}, graph=BATCH),
    task({"of": "jacobian.L.a"}, {"of": "jacobian.L"}),
    task({"of": "gradients", "credit": "fraction"}, {"of": "values"}, {"of": "jacobian"}),
    task(training=TRAINING),
    task({"of": "predictions"}, {"of": "parameters.layers.0.weights.1"}, training=TRAINING),
    task({"of": "loss_history", "compare": {"mode": "monotone"}}, training=TRAINING),
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TASKS), json_values | answers_like)
def test_whatever_the_answers_are_there_is_a_report(asked: Task, answers: Any) -> None:
    report = grade(asked, answers)
    for audience in AUDIENCES:
        data = report.to_dict(audience)
        assert canonical(data)
        assert 0 <= data["score"] <= data["max_score"]
        assert 0 <= data["fraction"] <= 1
    if report.outcome == "not_gradable":
        assert report.score == report.fraction == 0
        assert data["checks"] == []
        assert 1 <= len(data["format_errors"]) <= MAX_PROBLEMS
        assert all(error["detail"] and error["pointer"].startswith("#") for error in data["format_errors"])


NESTED: Any = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("answers", "where"),
    [
        (None, "#"),
        ([], "#"),
        ("38", "#"),
        (NESTED, "#"),
        ({}, "#"),
        ({"value": None}, "#"),
        ({"value": ""}, "#"),
        ({"values": {"c": -6.0}}, "#"),
        ({"value": []}, "#/value"),
        ({"value": NESTED}, "#/value"),
        ({"value": True}, "#/value"),
        ({"value": 10**400}, "#/value"),
        pytest.param({"value": 10**5000}, "#/value", id="5000 digits"),
        ({"value": "1e400"}, "#/value"),
        ({"value": "1,5"}, "#/value"),
        ({"value": "nan"}, "#/value"),
        ({"value": "1" * 41}, "#/value"),
        ({"value": "٣"}, "#/value"),
        ({"value": 38.0, "gradients": []}, "#/gradients"),
        ({"value": 38.0, "gradients": {"a": {}}}, "#/gradients/a"),
        ({"value": 38.0, "gradients": {"c": "?"}}, "#/gradients/c"),
    ],
)
def test_what_is_not_gradable(answers: Any, where: str) -> None:
    data = grade(task(), answers).to_dict()
    assert data["outcome"] == "not_gradable"
    assert [error["pointer"] for error in data["format_errors"]] == [where]
    assert (data["score"], data["max_score"], data["fraction"], data["checks"]) == (0, 3, 0, [])


@pytest.mark.parametrize(
    ("given", "number"),
    [(37, 37.0), (" 37.0 ", 37.0), ("+3.7e1", 37.0), ("−12", -12.0), (".5", 0.5), ("5.", 5.0), ("Infinity", math.inf),
     (10**30, 1e30), ("-Infinity", -math.inf), (math.inf, math.inf)],
)  # fmt: skip
def test_numbers_are_read(given: Any, number: float) -> None:
    entry = only({"compare": {"mode": "range", "low": -1e300}}, {"gradients": {"a": given}})
    assert entry["student"] == (number if math.isfinite(number) else str(given).replace("inf", "Infinity"))


def test_ten_thousand_entries() -> None:
    many = {f"x{k}": k for k in range(10_000)}
    data = grade(task(), {"value": 38.0, "gradients": {**many, "a": 37.0}, **many}).to_dict()
    assert data["score"] == 2
    assert all(len(note) < 300 for note in data["notes"])
    wide = {"inputs": {f"x{k}": 1.0 for k in range(10_000)}, "nodes": [{"id": "y", "op": "neg", "args": ["x0"]}]}
    data = grade(task({"of": "value"}, graph=wide), {"gradients": dict.fromkeys(wide["inputs"], "?")}).to_dict()
    assert len(data["format_errors"]) == MAX_PROBLEMS


def test_unknown_names_are_noted_and_escaped() -> None:
    data = grade(task(), {"value": 38, "grads": {}, "gradients": {"a\x1b[1m": 1.0, "<b>": 2.0}}).to_dict()
    assert data["notes"] == ["Ignored, as unknown: 'grads'.", "Ignored, as unknown in gradients: '<b>', 'a\\x1b[1m'."]
    assert grade(task(), {"value": 38, 7: 1}).to_dict()["notes"] == ["Ignored, as unknown: a number."]  # type: ignore[dict-item]


def test_the_order_of_names_in_answers_makes_no_difference() -> None:
    given = {
        "zz": 1,
        "y": 2,
        "gradients": {"b": "?", "a": "!", "q": 1, "c": -12.0, "p": 2},
        "values": {"c": "x", "a": 2},
    }
    turned = {name: dict(reversed(x.items())) if isinstance(x, dict) else x for name, x in reversed(given.items())}
    assert grade(task(), given).to_dict("staff") == grade(task(), turned).to_dict("staff")


def test_pointers() -> None:
    assert pointer(()) == "#"
    assert pointer(("gradients", "a/b~c d", 3)) == "#/gradients/a~1b~0c%20d/3"
    assert pointer(("\ud800",)).isascii()


@pytest.mark.parametrize(
    ("member", "given", "where"),
    [
        ("value", [1.0, 2.0], "#/value"),
        ("value", 1.0, "#/value"),
        ("gradients", {"x": [1.0, "x", 2.0]}, "#/gradients/x/1"),
        ("gradients", {"w": [1.0] * 4}, "#/gradients/w"),
    ],
)
def test_shapes_of_a_batch(member: str, given: Any, where: str) -> None:
    data = grade(task(graph=BATCH), {member: given}).to_dict()
    assert [error["pointer"] for error in data["format_errors"]] == [where]


@pytest.mark.parametrize(
    ("answers", "where"),
    [
        ({"parameters": []}, "#/parameters"),
        ({"parameters": {"layers": {}}}, "#/parameters/layers"),
        ({"parameters": {"layers": [{}]}}, "#/parameters/layers"),
        ({"parameters": {"layers": [3, {}]}}, "#/parameters/layers/0"),
        ({"parameters": {"layers": [{"weights": [[1.0]] * 3}, {}]}}, "#/parameters/layers/0/weights/0"),
        ({"loss_history": 3.0}, "#/loss_history"),
        ({"loss_history": [1.0, {}]}, "#/loss_history/1"),
        ({"predictions": [1.0]}, "#/predictions"),
    ],
)
def test_shapes_of_a_training(answers: Any, where: str) -> None:
    data = grade(task({"of": "loss_history"}, training=TRAINING), answers).to_dict()
    assert where in [error["pointer"] for error in data["format_errors"]]


# ---------------------------------------------------------------------------------------------------- credit

HONEST: dict[str, dict[str, Any]] = {
    "range": {"low": -100.0, "high": 100.0},
    "threshold": {"at_most": 100.0},
    "any_of": {"values": [7.0]},
    "absolute": {"atol": 1e-6},
    "relative": {"rtol": 1e-6},
    "percent": {"percent": 1},
    "sigfig": {"digits": 4},
    "decimals": {"digits": 3},
    "ulp": {"ulps": 0},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("of", ["value", "gradients.a", ["gradients.a", "gradients.b", "values.c"]])
def test_the_right_answer_has_full_marks_and_none_has_nothing(mode: str, of: Any) -> None:
    asked = task({"id": "x", "of": of, "compare": {"mode": mode, **HONEST.get(mode, {})}}, {"of": "gradients.c"})
    if mode == "monotone" and isinstance(of, list):
        asked = task(
            {"id": "x", "of": ["gradients.a", "values.c", "gradients.b"], "compare": {"mode": mode}},
            {"of": "gradients.c"},
        )
    right = right_answers(asked)
    assert grade(asked, right).fraction == 1
    for answers in ({"gradients": {"c": -12.0}}, {"gradients": {"c": -12.0, "a": None}, "value": None}):
        data = grade(asked, answers).to_dict()
        assert data["fraction"] == 0.5
        assert data["checks"][0]["message"] == "No answer."
    keys = of if isinstance(of, list) else [of]
    nan: dict[str, Any] = {"gradients": {"c": -12.0}, "values": {}}
    for key in keys:
        member, _, name = key.partition(".")
        if name:
            nan[member][name] = "NaN"
        else:
            nan[member] = "NaN"
    assert grade(asked, nan).fraction == 0.5


@pytest.mark.parametrize("mode", ["allclose", "sequence", "direction", "monotone", "threshold"])
def test_the_right_history_has_full_marks(mode: str) -> None:
    asked = task({"of": "loss_history", "compare": {"mode": mode, **HONEST.get(mode, {})}}, training=TRAINING)
    assert grade(asked, right_answers(asked)).fraction == 1
    assert grade(asked, {"loss_history": []}).outcome == "not_gradable"


def test_points_are_exact() -> None:
    checks = [{"id": f"c{k}", "of": "value", "points": 0.1} for k in range(10)]
    data = grade(task(*checks), {"value": 38.0}).to_dict()
    assert (data["score"], data["max_score"], data["fraction"]) == (1, 1, 1)


BANDS = [{"within": 1, "credit": 1}, {"within": 2, "credit": 0.5}, {"within": 10, "credit": 0.1}]


@pytest.mark.parametrize(
    ("number", "score", "borderline"),
    [(37.0, 4, False), (37.5, 4, True), (37.53, 2, True), (37.75, 2, False), (38.0, 2, True), (38.01, 0.4, True),
     (40.0, 0.4, False), (42.0, 0.4, True), (42.001, 0, True), (50.0, 0, False), (36.0, 2, True)],
)  # fmt: skip
def test_bands(number: float, score: float, borderline: bool) -> None:
    check = {"points": 4, "compare": {"mode": "absolute", "atol": 0.5}, "bands": BANDS}
    entry = only(check, {"gradients": {"a": number}})
    assert entry["score"] == score
    assert entry["passed"] is (score == 4)
    assert entry.get("borderline", False) is borderline
    student = grade(task({"of": "gradients.a", **check}), {"gradients": {"a": number}}).to_dict()
    assert "borderline" not in student["checks"][0]


@pytest.mark.parametrize(
    ("credit", "given", "score"),
    [
        ("all", [37, -24, -12], 3),
        ("all", [37, -24, 12], 0),
        ("fraction", [37, 24, -12], 2),
        ("fraction", [37, None, None], 1),
        ("prefix", [37, -24, 12], 2),
        ("prefix", [36, -24, -12], 0),
        ("prefix", [37, None, -12], 1),
    ],
)
def test_credit_for_several_numbers(credit: str, given: list[Any], score: float) -> None:
    check = {"id": "x", "of": ["gradients.a", "gradients.b", "gradients.c"], "points": 3, "credit": credit}
    entry = only(check, {"gradients": dict(zip("abc", given, strict=True))})
    assert entry["score"] == score
    assert entry["student"] == [None if number is None else float(number) for number in given]
    assert entry["message"] == ("Correct." if score == 3 else entry["message"])
    assert entry["message"].startswith("Correct" if score == 3 else "Partly correct" if score else "Not correct")


@pytest.mark.parametrize(
    ("change", "score"),
    [(lambda losses: losses, 5), (lambda losses: losses[:3], 3), (lambda losses: [*losses[:3], 9.0, losses[4]], 3),
     (lambda losses: [*losses, 1.0], 4.16666), (lambda losses: [0.0, *losses[1:]], 0),
     (lambda losses: [losses[0], None, *losses[2:]], 1)],
)  # fmt: skip
def test_prefixes_of_histories(change: Any, score: float) -> None:
    check = {"of": "loss_history", "points": 5, "credit": "prefix"}
    entry = only(check, {"loss_history": change(train(TRAINING)["loss_history"])}, training=TRAINING)
    assert entry["score"] == pytest.approx(score, abs=1e-4)
    assert entry["passed"] is (score == 5)


def test_a_history_of_another_length_is_wrong_in_every_mode() -> None:
    losses = train(TRAINING)["loss_history"]
    for compare in ("torch64", {"mode": "monotone"}, {"mode": "direction"}, "loss_history"):
        for history in (losses[:-1], [*losses, losses[-1] / 2]):
            assert (
                only({"of": "loss_history", "compare": compare}, {"loss_history": history}, training=TRAINING)["score"]
                == 0
            )
    final = {"of": "loss_history", "compare": {"mode": "threshold", "at_most": losses[-1]}}
    assert only(final, {"loss_history": [9.0] * 4 + [losses[-1]]}, training=TRAINING)["score"] == 1
    for history in ([0.0], [9.0] * 3 + [losses[-1]], [9.0] * 5 + [losses[-1]]):
        assert only(final, {"loss_history": history}, training=TRAINING)["score"] == 0


@pytest.mark.parametrize(
    "compare", [{"mode": "threshold", "at_most": 100}, {"mode": "monotone"}, {"mode": "direction"}]
)
def test_no_number_may_be_missing(compare: dict[str, Any]) -> None:
    several = {"id": "x", "of": ["gradients.c", "gradients.b", "gradients.a"], "compare": compare}
    rising = {**compare, "order": "increasing"} if compare["mode"] == "monotone" else compare
    assert only({**several, "compare": rising}, {"gradients": {"a": 37, "b": -12, "c": -24}})["score"] == (
        compare["mode"] != "direction"
    )
    for missing in "abc":
        numbers = {name: number for name, number in RIGHT["gradients"].items() if name != missing}
        assert only(several, {"gradients": numbers})["score"] == 0
    losses = train(TRAINING)["loss_history"]
    for history in ([*losses[:-1], None], [None, *losses[1:]], [*losses, None]):
        assert (
            only({"of": "loss_history", "compare": compare}, {"loss_history": history}, training=TRAINING)["score"] == 0
        )


def test_groups() -> None:
    checks = [{"of": "gradients.a", "group": "g"}, {"of": "gradients.b", "group": "g", "points": 2}, {"of": "value"}]
    groups = [{"id": "g", "title": "Gradients", "rule": "all_or_nothing"}]
    data = grade(task(*checks, groups=groups), {"value": 38, "gradients": {"a": 37}}).to_dict("staff")
    assert [check["score"] for check in data["checks"]] == [0, 0, 1]
    assert [check["passed"] for check in data["checks"]] == [True, False, True]
    assert data["checks"][0]["earned"] == 1
    assert data["groups"] == [
        {"id": "g", "title": "Gradients", "rule": "all_or_nothing", "cap": None, "points": None,
         "score": 0, "max_score": 3, "passed": False}
    ]  # fmt: skip
    assert (data["score"], data["max_score"]) == (1, 4)
    assert grade(task(*checks, groups=groups), RIGHT).score == 4
    capped = task(*checks, groups=[{"id": "g", "cap": 1.5}])
    assert (grade(capped, RIGHT).score, grade(capped, RIGHT).max_score) == (2.5, 2.5)
    shared = task(*checks, groups=[{"id": "g", "points": 1}])
    assert grade(shared, RIGHT).score == grade(shared, RIGHT).max_score == 2
    assert grade(shared, {"gradients": {"a": 37}}).score == pytest.approx(1 / 3)


def test_rounding() -> None:
    checks = [{"id": f"c{k}", "of": ["gradients.a", "gradients.b"], "credit": "fraction"} for k in range(3)]
    half = {"gradients": {"a": 37}}
    assert grade(task(*checks, rounding="floor"), half).score == 1
    data = grade(task(*checks, rounding="largest_remainder"), half).to_dict()
    assert (data["score"], [check["score"] for check in data["checks"]]) == (1, [1, 0, 0])
    assert data["rounding"] == "largest_remainder"


def test_requirements() -> None:
    checks = [
        {"of": "gradients.a", "requires": ["grad.c"]},
        {"of": "gradients.b", "requires": ["grad.a"]},
        {"of": "gradients.c"},
    ]
    data = grade(task(*checks), {"gradients": {"a": 37, "b": -24, "c": 12}}).to_dict()
    assert [check["score"] for check in data["checks"]] == [0, 0, 0]
    assert not any(check["passed"] for check in data["checks"])
    assert data["checks"][1]["message"] == "Correct. It counts once the checks that it builds on are right."
    assert grade(task(*checks), RIGHT).score == 3
    assert [c["score"] for c in grade(task(*checks), {"gradients": {"c": -12, "b": -24}}).to_dict()["checks"]] == [
        0,
        0,
        1,
    ]


@pytest.mark.parametrize(
    ("gradients", "score"),
    [
        ({"c": 5.0, "a": -14.0, "b": 10.0}, 1.0),  # a: 5·b + 1, b: 5·a
        ({"c": 5.0, "a": -14.0, "b": 11.0}, 0.5),
        ({"c": 5.0, "a": 37.0, "b": 10.0}, 1.5),
        ({"c": -12.0, "a": -14.0, "b": 10.0}, 1.0),  # nothing upstream is wrong: c counts, a and b do not follow
        ({"a": -14.0, "b": 10.0}, 0.0),
        ({"c": 0.0, "a": 1.0, "b": 0.0}, 0.5),  # 0 follows from any 0, and earns nothing
        ({"c": "Infinity", "a": "-Infinity", "b": "Infinity"}, 0.0),
        ({"c": "NaN", "a": "NaN", "b": "NaN"}, 0.0),
        ({"c": -12.0, "a": 37.0, "b": -24.0}, 3.0),
    ],
)
def test_follow_through(gradients: dict[str, Any], score: float) -> None:
    checks = [{"of": f"gradients.{name}", "follow_through": 0.5} for name in "abc"]
    report = grade(task(*checks), {"gradients": gradients})
    assert report.score == score
    if score == 1.0 and gradients["c"] == 5.0:
        data = report.to_dict("staff")
        assert data["staff"]["checks"]["grad.a"]["followed_through"] is True
        assert "follows from your own" in data["checks"][0]["message"]
        assert not data["checks"][0]["passed"]


# ---------------------------------------------------------------------------------------------- what students see

#: Numbers whose digits occur nowhere else; gradients and values have four digits and more.
CANARY = {"inputs": {"a": 2.7182, "b": -3.3019}, "program": "c = a*b + 0.7713\nL = c*c + tanh(a)"}


def forbidden(asked: Task) -> list[str]:
    """The first three digits, and more, of every right number."""
    found = []
    todo: list[Any] = list(right_answers(asked).values())
    while todo:
        entry = todo.pop()
        if isinstance(entry, dict):
            todo += entry.values()
        elif isinstance(entry, list):
            todo += entry
        elif isinstance(entry, float) and entry not in (0.0, 1.0):
            digits = re.sub(r"[^\d]", "", f"{abs(entry):.17e}".partition("e")[0])
            found.append(digits[:3])
    return found


def said(data: dict[str, Any]) -> str:
    """All that a report tells, without digests and without what it was told."""
    kept = {name: entry for name, entry in data.items() if name not in ("digest", "id", "task", "engine")}
    kept["submission"] = {}
    kept["checks"] = [{**check, "student": None} for check in data["checks"]]
    return " ".join(texts(kept))


WRONG = [
    lambda x: -x,
    lambda x: 2.0 * x,
    lambda x: x * 1.003,
    lambda x: x * 1.00011,
    lambda x: x * 10.0,
    lambda x: x / 3.0,
    lambda x: x + 1.0,
    lambda x: 0.0,
    lambda x: math.nan,
    lambda x: float(f"{x:.2g}"),
    lambda x: x,
]


CANARY_NUMBERS = right_answers(task(graph=CANARY))
_A = CANARY_NUMBERS["gradients"]["a"]
#: With these a right number stands in the task itself.
TELLING = {
    "range": {"low": _A - 1e-4, "high": _A + 1e-4},
    "threshold": {"at_least": _A},
    "any_of": {"values": [_A * 1.5]},
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["allclose", "sigfig", "range", "any_of", "direction", "threshold", "ulp"])
def test_students_never_see_a_right_number(level: str, mode: str) -> None:
    compare = {"mode": mode, **HONEST.get(mode, {}), **TELLING.get(mode, {})}
    checks = [
        {"of": "gradients.a", "compare": compare, "kink": "zero"},
        {"of": "gradients.b", "follow_through": 0.5, "bands": BANDS if mode == "allclose" else None},
        {"of": "values.c", "visibility": "hidden"},
        {"of": "value", "requires": ["grad.a"]},
    ]
    asked = task(*checks, graph=CANARY, feedback=level)
    secrets = forbidden(asked)
    assert len(secrets) > 6
    for wrong in WRONG:
        answers = {
            "value": wrong(CANARY_NUMBERS["value"]),
            "values": {name: wrong(number) for name, number in CANARY_NUMBERS["values"].items() if name != "a"},
            "gradients": {name: wrong(number) for name, number in CANARY_NUMBERS["gradients"].items()},
        }
        report = grade(asked, answers)
        for phase in PHASES:
            data = report.to_dict("student", phase)
            assert "staff" not in data
            text = re.sub(r"[^\d ]", "", said(data))
            assert not [digits for digits in secrets if digits in text], data
        assert str(_A) in " ".join(texts(report.to_dict("staff")["staff"]))


@pytest.mark.parametrize("level", LEVELS)
def test_students_never_see_a_right_loss(level: str) -> None:
    asked = task(training=TRAINING, feedback=level)
    right = right_answers(asked)
    history = [loss * 1.5 for loss in right["loss_history"]]
    data = grade(asked, {"loss_history": history, "parameters": {"layers": [None, None]}}).to_dict()
    text = re.sub(r"[^\d ]", "", said(data))
    assert not [digits for digits in forbidden(asked) if digits in text]


def test_phases_and_visibilities() -> None:
    checks = [{"id": word, "of": "value", "visibility": word, "points": 2**k} for k, word in enumerate(VISIBILITIES)]
    report = grade(task(*checks), {"value": 38.0})
    for phase, seen in [("open", 1), ("due", 2), ("published", 3)]:
        data = report.to_dict("student", phase)
        assert [check["id"] for check in data["checks"]] == list(VISIBILITIES[:seen])
        assert data["withheld"] == len(VISIBILITIES) - seen
        assert data["score"] == data["max_score"] == 2**seen - 1
    staff = report.to_dict("staff")
    assert (staff["score"], staff["withheld"], len(staff["checks"])) == (31, 0, 5)


def test_nothing_of_a_hidden_check_shows() -> None:
    checks = [
        {"of": "gradients.a", "group": "g"},
        {"of": "gradients.b", "group": "g", "visibility": "hidden"},
        {"of": "gradients.c", "visibility": "hidden"},
    ]
    asked = task(*checks, groups=[{"id": "g", "rule": "all_or_nothing"}], feedback="full")
    right = grade(asked, {"gradients": {"a": 37.0, "b": -24.0, "c": -12.0}}).to_dict()
    wrong = grade(asked, {"gradients": {"a": 37.0, "b": 24.0, "c": 12.0}})
    assert wrong.score == 0
    data = wrong.to_dict()
    for name in ("id", "digest", "submission"):
        del data[name], right[name]
    assert data == right
    assert data["score"] == data["max_score"] == 1


def test_what_is_missing_is_said_of_visible_checks_alone() -> None:
    staff = {"of": "values.c", "visibility": "staff"}
    data = grade(task({"of": "gradients.a"}, staff), {}).to_dict()
    assert data["format_errors"][0]["detail"] == "none of the numbers that are asked for is given: gradients.a"
    data = grade(task(staff), {}).to_dict()
    assert data["format_errors"][0]["detail"] == "none of the numbers that are asked for is given"


def test_levels() -> None:
    answers = {"value": 38.0, "gradients": {"a": -37.0}}
    said = {
        level: [check["message"] for check in grade(task(feedback=level), answers).to_dict()["checks"]]
        for level in LEVELS
    }
    assert said["pass_fail"] == ["Correct.", "Not correct.", "No answer."]
    assert said["hint"] == ["Correct.", "Not correct: the sign is flipped.", "No answer."]
    assert said["full"][0] == "Correct (allclose, rtol 0.0001, atol 1e-06)."
    assert said["full"][1].startswith(
        "Not correct (allclose, rtol 0.0001, atol 1e-06): the sign is flipped; it is far off"
    )


def test_how_far_off_is_told_in_two_words() -> None:
    words = set()
    for power in range(-6, 4):
        for sign in (-1.0, 1.0):
            found = only({}, {"gradients": {"a": 37.0 + sign * 1.7 * 10.0**power}}, feedback="full")
            if not found["passed"]:
                words.add(found["message"].rpartition("; ")[2].rpartition(": ")[2])
    assert words == {"it is near.", "it is far off."}


def test_levels_by_attempt() -> None:
    asked = task(
        feedback={"level": "full", "attempts": [{"from": 1, "level": "pass_fail"}, {"from": 3, "level": "hint"}]}
    )
    levels = [grade(asked, RIGHT, {"attempt": k} if k else None).to_dict()["feedback"] for k in (0, 1, 2, 3, 9)]
    assert levels == ["pass_fail", "pass_fail", "pass_fail", "hint", "hint"]


RELATED = {"inputs": {"a": 2.5, "b": -3.0}, "program": "c = a*b\nd = c + 10\nL = d*d*a"}
#: d = 2.5; dL/dc = 2·d·a = 12.5; dL/db = 31.25; dL/da = b·12.5 + d² = -31.25; value 15.625


@pytest.mark.parametrize(
    ("of", "given", "word"),
    [
        ("gradients.b", -31.25, "sign"),
        ("gradients.b", 62.5, "twice"),
        ("gradients.b", 15.625, "half"),
        ("gradients.b", 3.125, "power of ten"),
        ("gradients.b", 93.75, "whole factor"),
        ("gradients.b", 31.25 / 7, "whole factor"),
        ("gradients.b", 0, "not connected"),
        ("gradients.b", "31.3", "close, but not to enough digits"),
        ("gradients.b", 31, "close, but not to enough digits"),
        ("values.d", 12.5, "the gradient, not the value"),
        ("value", 0.0, "it is not 0"),
    ],
)
def test_relations(of: str, given: Any, word: str) -> None:
    member, _, name = of.partition(".")
    entry = only({"of": of}, {member: {name: given} if name else given}, graph=RELATED)
    assert word in entry["message"]
    assert entry["score"] == 0


def test_relations_are_told_of_numbers_that_are_no_coincidence() -> None:
    graph = {"inputs": {"a": 2.513, "b": -3.207}, "program": "c = a*b\nL = c*c"}
    assert (
        "the value, not the gradient"
        in only({"of": "gradients.b"}, {"gradients": {"b": -3.207}}, graph=graph)["message"]
    )
    assert "local derivative" in only({"of": "gradients.b"}, {"gradients": {"b": 2.513}}, graph=graph)["message"]
    # By hand: -12 is three times -4, and 1 is the local derivative of any sum.
    for number in (-4.0, -48, "-4.0", -36.0):
        assert only({"of": "gradients.c"}, {"gradients": {"c": number}})["message"] == "Not correct."
    assert only({"of": "gradients.a"}, {"gradients": {"a": 1.0}})["message"] == "Not correct."
    for number in (-3.0, 2.5):
        assert only({"of": "gradients.b"}, {"gradients": {"b": number}}, graph=RELATED)["message"] == "Not correct."
    # There are three points, and so many times a mean is their sum: the first loss is 3·2² = 12.
    model = {
        "inputs": 1,
        "layers": [1],
        "activation": "linear",
        "parameters": {"layers": [{"weights": [[0]], "biases": [0]}]},
    }
    three = {
        "model": model,
        "data": {"inputs": [[1.0]] * 3, "targets": [2.0] * 3},
        "loss": {"name": "squared_error", "reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": 0.0},
        "steps": 1,
    }
    for loss, told in ((4.0, True), (36.0, True), (3.0, False), (60.0, False)):
        entry = only({"of": "loss_history.0"}, {"loss_history": [loss]}, training=three)
        assert ("whole factor" in entry["message"]) is told


@pytest.mark.parametrize("given", [31.25 * 1.7, "NaN", "Infinity", 1e308, 5e-324])
def test_nothing_is_said_where_nothing_is_known(given: Any) -> None:
    assert only({"of": "gradients.b"}, {"gradients": {"b": given}}, graph=RELATED)["message"] == "Not correct."


def test_wrong_gradients_as_a_whole_are_wrong() -> None:
    assert only({"of": "gradients"}, {"gradients": {"a": 1.0, "b": -24.0, "c": -12.0, "L": 1.0}})["score"] == 0


def test_nothing_is_said_of_an_expected_zero() -> None:
    zero = {"inputs": {"a": 0.0}, "program": "b = a*a"}
    assert only({}, {"gradients": {"a": 2.0}}, graph=zero)["message"] == "Not correct."
    assert only({"compare": {"mode": "range", "low": 9}}, {"gradients": {"a": -37.0}})["message"] == "Not correct."


def test_relations_of_several_numbers() -> None:
    both = {"id": "x", "of": ["gradients.a", "gradients.b"]}
    assert "another order" in only(both, {"gradients": {"a": -24.0, "b": 37.0}})["message"]
    assert "sign" in only(both, {"gradients": {"a": -37.0, "b": 24.0}})["message"]
    assert only(both, {"gradients": {"a": -37.0, "b": 3.0}})["message"] == "Not correct."
    assert only(both, {"gradients": {"a": -37.0}})["message"] == "Not correct."
    batch = only({"of": "gradients.x"}, {"gradients": {"x": [8.0, 16.0, 24.0]}}, graph=BATCH)
    assert "twice" in batch["message"]


def test_where_a_history_departs() -> None:
    losses = train(TRAINING)["loss_history"]
    wrong = [*losses[:2], 7.0, *losses[3:]]
    entry = only({"of": "loss_history"}, {"loss_history": wrong}, training=TRAINING, feedback="full")
    assert "4 of 5 numbers are right; the first step that departs is step 2, counted from 0" in entry["message"]


# ------------------------------------------------------------------------------------------------------ mistakes


def test_mistakes_are_named() -> None:
    graph = {"inputs": {"x": 3.0}, "program": "s = 2*x\nL = s + s*s"}
    asked = task({"of": "gradients.x", "id": "dx"}, {"of": "gradients.s", "visibility": "hidden"}, graph=graph)
    report = grade(asked, {"gradients": {"x": 28.0}})
    (mistake,) = report.to_dict()["mistakes"]
    assert mistake["name"] == "no_topo_dfs"
    assert mistake["names"] == ["no_topo_dfs"]
    assert mistake["explains"] == ["dx"]
    assert (mistake["matches"], mistake["of"]) == (1, 1)
    assert mistake["title"]
    assert mistake["message"]
    assert report.to_dict("staff")["staff"]["mistakes"][0] == mistake
    assert grade(asked, {"gradients": {"x": 28.0}}, diagnose=False).to_dict("staff")["staff"]["mistakes"] == []
    assert grade(asked, {"gradients": {"x": 26.0}}).to_dict("staff")["staff"]["mistakes"] == []


def test_mistakes_of_a_training_loop() -> None:
    asked = task(training=TRAINING, feedback="full")
    halved = train({**TRAINING, "loss": {"name": "squared_error", "reduction": "mean"}})["loss_history"]
    data = grade(asked, {"loss_history": halved}).to_dict()
    assert data["mistakes"][0]["explains"] == ["loss_history"]
    assert data["mistakes"][0]["matches"] == data["mistakes"][0]["of"] == 5
    for history in (["NaN"] * 5, ["Infinity"], [1.0, None], [0.0] * 100):
        data = grade(asked, {"loss_history": history}).to_dict("staff")
        assert data["staff"]["mistakes"] == []
    right = train(TRAINING)
    wrong = {"loss_history": right["loss_history"], "parameters": {"layers": [{"weights": [[0.0] * 2] * 3}, None]}}
    assert grade(asked, wrong).to_dict("staff")["staff"]["mistakes"] == []


def test_mistakes_by_level() -> None:
    graph = {"inputs": {"x": 3.0}, "program": "s = 2*x\nL = s + s*s"}
    for level in LEVELS:
        report = grade(task(graph=graph, feedback=level), {"gradients": {"x": 28.0}})
        assert bool(report.to_dict()["mistakes"]) is (level != "pass_fail")
        assert report.to_dict("staff")["staff"]["mistakes"]
    silent = grade(task(graph=graph, diagnose=False), {"gradients": {"x": 28.0}})
    assert silent.to_dict("staff")["staff"]["mistakes"] == []


def test_mistakes_that_only_hidden_checks_show_are_withheld() -> None:
    graph = {"inputs": {"x": 3.0}, "program": "s = 2*x\nL = s + s*s"}
    asked = task({"of": "gradients.x", "visibility": "hidden"}, {"of": "value"}, graph=graph, feedback="full")
    data = grade(asked, {"gradients": {"x": 28.0, "s": 14.0}, "value": 1.0}).to_dict()
    assert data["mistakes"] == []


def test_what_students_are_told_comes_of_visible_checks_alone() -> None:
    graph = {"inputs": {"a": -2.0, "b": 3.0}, "program": "(a*b)*(a+b)"}
    checks = [{"of": "gradients.b"}, {"of": "gradients.a", "visibility": "hidden"}]
    asked = task(*checks, graph=graph, feedback="full")

    def report(*numbers: float) -> dict[str, Any]:
        answers = {"gradients": dict(zip("ba", numbers, strict=False))}
        data = grade(asked, answers).to_dict("staff")
        assert [mistake["of"] for mistake in data["staff"]["mistakes"][:1]] in ([], [len(numbers)])
        told = grade(asked, answers).to_dict("student", "published")
        return {name: told.get(name) for name in ("mistakes", "blame")}

    assert report(-6.0)["mistakes"][0]["name"] == "assign"
    # The right number of the hidden one, that of the mistake, that of another, and any.
    for hidden in (-3.0, -6.0, 3.0, 99.0):
        assert report(-6.0, hidden) == report(-6.0)
    whole = [{"id": "all", "of": "gradients"}, {"of": "values", "id": "values", "visibility": "hidden"}]
    known = grade(task(*whole, graph=graph), {"gradients": {"a": 3.0, "b": -2.0}}).to_dict()
    assert known["checks"][0]["passed"] is False
    # Where all that is wrong is hidden nothing is said.
    assert report(-8.0, 99.0) == {"mistakes": [], "blame": None}


def test_blame() -> None:
    graph = {"inputs": {"x": 3.0}, "program": "s = 2*x\nt = s*s\nL = s + t"}
    wrong = {"gradients": {"L": 1.0, "t": 1.0, "s": 20.5, "x": 41.0}}
    checks = [{"of": "gradients.x"}, {"of": "gradients.s"}]
    report = grade(task(*checks, graph=graph, feedback="full"), wrong)
    assert report.to_dict()["blame"]["node"] == "s"
    assert set(report.to_dict()["blame"]) == {"kind", "node", "message"}
    assert report.to_dict("staff")["staff"]["blame"]["ratio"] == pytest.approx(20.5 / 13)
    assert "blame" not in grade(task(*checks, graph=graph), wrong).to_dict()
    hidden = [{"of": "gradients.x"}, {"of": "gradients.s", "visibility": "hidden"}]
    report = grade(task(*hidden, graph=graph, feedback="full"), wrong)
    assert report.to_dict("staff")["staff"]["blame"]["node"] == "s"
    assert "blame" not in report.to_dict()


def test_a_diagnosis_that_fails_costs_nobody_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("chainrule_engine.diagnosis.Catalogue.diagnose", fail)
    monkeypatch.setattr("chainrule_engine.diagnosis.Catalogue.follow_through", fail)
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        report = grade(
            task({"of": "gradients.a", "follow_through": 0.5}, {"of": "value"}), {"gradients": {"a": 3.0}, "value": 38}
        )
    assert report.score == 1
    assert report.to_dict("staff")["staff"]["diagnosis_failed"] == "ZeroDivisionError"


# --------------------------------------------------------------------------------------------------- properties


@st.composite
def graded(draw: st.DrawFn) -> tuple[Task, dict[str, Any]]:
    """A task and answers to it, some right, some wrong, some missing."""
    keys = ["value", "values.c", "gradients.a", "gradients.b", "gradients.c", "values.L"]
    groups = draw(st.sampled_from([[], [{"id": "g", "rule": "all_or_nothing"}], [{"id": "g", "cap": 2.5}]]))
    checks: list[dict[str, Any]] = []
    for k in range(draw(st.integers(1, 4))):
        mode = draw(st.sampled_from(["allclose", "sigfig", "percent", "direction", "range"]))
        seen = draw(st.sampled_from(VISIBILITIES))
        # Students see what is required no later than what requires it.
        may_require = k > 0 and VISIBILITIES.index(checks[-1]["visibility"]) <= VISIBILITIES.index(seen)
        check = {
            "id": f"c{k}",
            "of": draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True)),
            "points": draw(st.integers(0, 40)) / 10,
            "compare": {"mode": mode, **HONEST.get(mode, {})},
            "visibility": seen,
            "credit": draw(st.sampled_from(["all", "fraction", "prefix"])) if mode != "direction" else "all",
            "follow_through": draw(st.sampled_from([0, 0.5])),
            "requires": [f"c{k - 1}"] if may_require and draw(st.booleans()) else [],
            **({"group": "g"} if groups and (k == 0 or draw(st.booleans())) else {}),
        }
        checks.append(check)
    asked = task(*checks, groups=groups, feedback=draw(st.sampled_from(LEVELS)))
    answers: dict[str, Any] = {"values": {}, "gradients": {}}
    right = right_answers(asked)
    for key in keys:
        member, _, name = key.partition(".")
        number = right[member][name] if name else right[member]
        given = draw(st.sampled_from([number, -number, 2 * number, number + 0.01, "NaN", None]) | st.floats(-50, 50))
        if name:
            answers[member][name] = given
        else:
            answers[member] = given
    return asked, answers


@settings(max_examples=100, deadline=None)
@given(graded())
def test_scores_hold_together(case: tuple[Task, dict[str, Any]]) -> None:
    asked, answers = case
    report = grade(asked, answers)
    assert canonical(report.to_dict("staff")) == canonical(grade(asked, answers).to_dict("staff"))
    for data in [report.to_dict("staff"), *(report.to_dict("student", phase) for phase in PHASES)]:
        assert 0 <= data["score"] <= data["max_score"]
        assert data["fraction"] == pytest.approx(data["score"] / data["max_score"] if data["max_score"] else 0)
        for check in data["checks"]:
            assert 0 <= check["score"] <= check["max_score"]
        alone = sum(check["score"] for check in data["checks"] if "group" not in check)
        assert alone + sum(group["score"] for group in data["groups"]) == pytest.approx(data["score"])


@settings(max_examples=100, deadline=None)
@given(graded())
def test_right_answers_have_full_marks(case: tuple[Task, dict[str, Any]]) -> None:
    asked, _ = case
    data = grade(asked, right_answers(asked)).to_dict("staff")
    assert data["score"] == data["max_score"]
    assert all(check["passed"] for check in data["checks"])
    assert data["staff"]["mistakes"] == []
