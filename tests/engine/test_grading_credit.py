"""What checks earn together, and what a student is told of it: holes through which points or right numbers came."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.engine.random_exercises import exercise

from chainrule_engine.grading import Task, TaskError, canonical, grade, lint, read_task, right_answers

GRAPH = {"inputs": {"a": 2.0, "b": -3.0}, "program": "c = a*b\nL = c*c + a"}
#: The gradients.
RIGHT = {"a": 37.0, "b": -24.0, "c": -12.0}


def task(*checks: Any, graph: Any = GRAPH, **fields: Any) -> Task:
    return read_task({"evaluation": {"graph": graph}, "checks": list(checks), **fields})


def test_nothing_follows_from_numbers_that_nobody_asks_for() -> None:
    # All gradients scaled by a made-up one of the output.
    checks = [{"of": f"gradients.{name}", "follow_through": 1} for name in "abc"]
    scaled = {"L": 1000.0, **{name: 1000.0 * number for name, number in RIGHT.items()}}
    report = grade(task(*checks), {"gradients": scaled})
    assert report.score < 3
    assert not report.to_dict("staff")["staff"]["checks"]["grad.c"].get("followed_through")
    assert report.to_dict("staff")["checks"][2]["score"] == 0
    # Asked for with all gradients as a whole, it is a number of theirs.
    whole = task(*checks, {"of": "gradients", "points": 0})
    assert grade(whole, {"gradients": {"L": 1000.0, "c": -12000.0}}).score == 1


def test_a_hint_is_no_oracle_of_digits() -> None:
    # b's gradient is 31.25; what is said at `hint` is the same for all that is near and short, and nothing else.
    graph = {"inputs": {"a": 2.5, "b": -3.0}, "program": "c = a*b\nd = c + 10\nL = d*d*a"}

    def said(number: Any, level: str = "hint") -> str:
        asked = task({"of": "gradients.b"}, graph=graph, feedback=level)
        return str(grade(asked, {"gradients": {"b": number}}).to_dict()["checks"][0]["message"])

    close = "Not correct: it is close, but not to enough digits."
    assert {said(tenths / 10) for tenths in range(310, 316)} == {close}
    assert {said(f"3{units}") for units in range(10)} == {close, "Not correct."}
    assert {said(number) for number in (31.26, "31.24", "31.20", "31.00", 31.256, 31.6, 30.9)} == {"Not correct."}
    assert "right as far as it is written" in said("31.3", "full")
    assert "right to about 3 digits" in said(31.26, "full")
    assert said("31.3", "pass_fail") == "Not correct."


SHUFFLED: list[dict[str, Any]] = [
    # Both gradients are wrong, and neither leads to the other.
    {"graph": {"inputs": {"b": 2.0, "a": 3.0}, "program": "L = a*b"}, "gradients": {"a": 7.25, "b": 9.5}},
    {
        "graph": {"inputs": {"x": 1.5, "w": -0.5, "b": 0.25}, "program": "n = w*x + b\no = tanh(n)\nL = o*o + x"},
        "gradients": {"x": 1.0, "w": 2.0, "b": 3.0, "n": 0.125, "o": 0.5, "L": 1.0},
    },
    {
        "graph": {"inputs": {"x": 1.5, "y": 2.5}, "program": "p = x*y\nq = p + x", "output": ["p", "q"]},
        "seeds": {"q": 3.0, "p": 2.0},
        "gradients": {"x": 8.0, "y": 1.5, "p": 5.0},
    },
]


def turned(data: Any) -> Any:
    """The same data, the names in every object turned round."""
    if isinstance(data, dict):
        return {name: turned(entry) for name, entry in reversed(data.items())}
    return [turned(entry) for entry in data] if isinstance(data, list) else data


@pytest.mark.parametrize("case", SHUFFLED, ids=["product", "neuron", "seeds"])
@pytest.mark.parametrize("of", ["single", "whole"])
def test_equal_ids_are_equal_bytes(case: dict[str, Any], of: str) -> None:
    evaluation = {name: case[name] for name in ("graph", "seeds") if name in case}
    checks: list[Any] = [{"of": f"gradients.{name}"} for name in case["gradients"]]
    if of == "whole":
        checks = [{"of": "gradients", "credit": "prefix"}, {"of": "jacobian", "credit": "prefix"}]
    data = {"evaluation": evaluation, "checks": checks, "feedback": "full"}
    answers = {"gradients": case["gradients"], "jacobian": {}}
    one, other = (
        grade(read_task(d), a).to_dict("staff") for d, a in [(data, answers), (turned(data), turned(answers))]
    )
    assert one["staff"]["blame"] is not None or of == "whole"
    assert one["id"] == other["id"]
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize("seed", range(20))
def test_any_exercise_in_another_order(seed: int) -> None:
    graph, chance = exercise(seed), random.Random(seed)
    data = {"evaluation": {"graph": graph}, "feedback": "full"}
    # Checks are a list: their order is in the digest.
    data["checks"] = [*read_task(data).to_dict()["checks"], {"of": "gradients", "credit": "prefix"}]
    right = right_answers(read_task(data))
    # A gradient that is wrong somewhere, or all of them, cut to some digits.
    factors = chance.choice([[1.0, 1.0, 2.0, -1.0], [0.5, 3.0], [1.0, 1.0, 1.0, 0.0]])
    answers = {
        "value": right["value"],
        "gradients": {
            name: float(f"{chance.choice(factors) * number:.4g}") for name, number in right["gradients"].items()
        },
    }
    cases = [(data, answers), (turned(data), turned(answers))]
    one, other = (grade(read_task(asked), given).to_dict("staff") for asked, given in cases)
    assert one["id"] == other["id"]
    assert canonical(one) == canonical(other)


def test_a_prefix_of_all_gradients_is_the_same_in_any_order() -> None:
    scores = set()
    for inputs in ({"a": 2.0, "b": -3.0}, {"b": -3.0, "a": 2.0}):
        asked = task({"of": "gradients", "credit": "prefix"}, graph={**GRAPH, "inputs": inputs})
        scores.add(grade(asked, {"gradients": {"L": 1.0, **RIGHT, "b": 1.0}}).score)
    assert len(scores) == 1


def test_mistakes_are_named_for_gradients_as_a_whole() -> None:
    graph = {"inputs": {"x": 3.0}, "program": "s = 2*x\nL = s + s*s"}
    answers = {"gradients": {"x": 28.0, "s": 13.0, "L": 1.0}}
    asked = task({"of": "gradients"}, {"of": "value"}, graph=graph, feedback="full")
    data = grade(asked, answers).to_dict()
    assert [(mistake["name"], mistake["explains"]) for mistake in data["mistakes"]] == [("no_topo_dfs", ["grad"])]
    blamed = {"gradients": {"x": 41.0, "s": 20.5, "L": 1.0}}
    assert grade(asked, blamed).to_dict()["blame"]["node"] == "s"
    hidden = task({"of": "gradients", "visibility": "hidden"}, {"of": "value"}, graph=graph, feedback="full")
    assert "blame" not in grade(hidden, blamed | {"value": 42.0}).to_dict()
    assert grade(hidden, answers | {"value": 42.0}).to_dict()["mistakes"] == []


# ------------------------------------------------------------------------------------------------------- small leaks


def loop(depth: int) -> Any:
    nested: Any = 1.0
    for _ in range(depth):
        nested = [nested]
    return nested


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


def test_submissions_that_are_no_json_have_ids_of_their_own() -> None:
    strange = [{1, 2}, {"a": {1}}, {"b": {1}}, {7: 1, "a": 2}, {7: 1, "b": 2}, loop(50_000), loop(50_001), ENDLESS]
    strange += [{"value": 10**5000}, {"value": 10**5000 + 1}, {"value": b"1"}, object]
    reports = [grade(task({"of": "value"}), answers) for answers in strange]
    assert len({report.id for report in reports}) == len(strange)
    again = [grade(task({"of": "value"}), answers) for answers in strange]
    assert [report.id for report in again] == [report.id for report in reports]
    assert grade(task({"of": "value"}), object()).id == grade(task({"of": "value"}), object()).id


def test_without_diagnosis_a_report_has_another_id() -> None:
    asked, answers = task({"of": "gradients.a"}), {"gradients": {"a": 1.0}}
    assert grade(asked, answers).id != grade(asked, answers, diagnose=False).id
    silent = task({"of": "gradients.a"}, diagnose=False)
    assert grade(silent, answers).id == grade(silent, answers, diagnose=False).id


def test_what_is_not_gradable_says_nothing_of_hidden_points() -> None:
    checks = [
        {"of": "gradients.a", "group": "g"},
        {"of": "gradients.b", "group": "g", "points": 2, "visibility": "after_due_date"},
        {"of": "gradients.c", "points": 4, "visibility": "hidden"},
    ]
    report = grade(task(*checks, groups=[{"id": "g"}]), {"gradients": {"a": "?"}})
    for phase, most in [("open", 1), ("due", 3), ("published", 3)]:
        data = report.to_dict("student", phase)
        assert (data["outcome"], data["max_score"], data["checks"]) == ("not_gradable", most, [])
        assert [group["max_score"] for group in data["groups"]] == [most]
    assert report.max_score == report.to_dict("staff")["max_score"] == 7


def test_what_is_seen_of_a_rounded_total_is_not_rounded() -> None:
    checks = [{"of": "gradients.a", "points": 1.5}, {"of": "gradients.b", "points": 1.5, "visibility": "hidden"}]
    report = grade(task(*checks, rounding="floor"), {"gradients": {"a": 37.0}})
    assert report.score == 1
    data = report.to_dict()
    assert (data["score"], data["max_score"], data["fraction"]) == (1.5, 1.5, 1)


@pytest.mark.parametrize(
    ("required", "requiring", "refused"),
    [("hidden", "visible", True), ("after_due_date", "visible", True), ("staff", "after_published", True),
     ("visible", "hidden", False), ("staff", "hidden", False), ("after_due_date", "after_published", False)],
)  # fmt: skip
def test_what_is_required_is_seen_no_later(required: str, requiring: str, refused: bool) -> None:
    checks = [
        {"of": "gradients.c", "visibility": required},
        {"of": "gradients.a", "visibility": requiring, "requires": ["grad.c"]},
    ]
    if not refused:
        assert task(*checks).checks[1].requires == ("grad.c",)
        return
    with pytest.raises(TaskError) as caught:
        task(*checks)
    assert [problem.path for problem in caught.value.problems] == [("checks", 1, "requires", 0)]


def test_an_unknown_quantity_is_one_problem() -> None:
    with pytest.raises(TaskError) as caught:
        task({"of": "gradients.zz"}, {"points": 1})
    assert [problem.path for problem in caught.value.problems] == [("checks", 0, "of"), ("checks", 1)]


@pytest.mark.parametrize("compare", [{"mode": "monotone"}, {"mode": "threshold", "at_most": 100}])
def test_invented_losses_are_questionable(compare: dict[str, Any]) -> None:
    training = {
        "model": {"inputs": 2, "layers": [3, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 3}},
        "data": {"inputs": [[0.5, -1.0], [1.0, 0.25]], "targets": [1.0, -1.0]},
        "loss": {"name": "squared_error", "reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": 3,
    }
    alone = {"id": "falls", "of": "loss_history", "compare": compare}
    found = lint(read_task({"training": training, "checks": [alone]}))
    assert [problem.detail for problem in found if "invented" in problem.detail]
    both = lint(read_task({"training": training, "checks": [alone, {"of": "loss_history.0", "id": "first"}]}))
    assert not [problem.detail for problem in both if "invented" in problem.detail]
