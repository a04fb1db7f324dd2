"""Two reports of the same answers, side by side."""

from __future__ import annotations

from typing import Any

from chainrule_engine.grading import Report, compare_reports, grade, read_task

GRAPH = {"inputs": {"a": 2.0, "b": -3.0}, "program": "c = a*b\nL = c*c + a"}


def report(answers: Any, *checks: Any, **fields: Any) -> dict[str, Any]:
    task = read_task({"evaluation": {"graph": GRAPH}, "checks": list(checks), **fields})
    return grade(task, answers).to_dict("staff")


def test_nothing_has_changed() -> None:
    same = report({"value": 38}, {"of": "value"})
    assert compare_reports(same, same) == {
        "score": {"old": 1, "new": 1, "difference": 0},
        "max_score": {"old": 1, "new": 1, "difference": 0},
        "outcome": {"old": "graded", "new": "graded"},
        "changed": False,
        "task_changed": False,
        "engine_changed": False,
        "answers_changed": False,
        "checks": [],
    }


def test_changed_checks() -> None:
    answers = {"value": 38.1, "gradients": {"a": 37}}
    old = report(answers, {"of": "value"}, {"of": "gradients.a", "points": 0.1}, {"of": "gradients.b"})
    new = report(
        answers,
        {"of": "value", "compare": {"mode": "percent", "percent": 1}},
        {"of": "gradients.a", "points": 0.3},
        {"of": "values.c"},
    )
    found = compare_reports(old, new)
    assert found["score"] == {"old": 0.1, "new": 1.3, "difference": 1.2}
    assert found["max_score"] == {"old": 2.1, "new": 2.3, "difference": 0.2}
    assert found["changed"]
    assert found["task_changed"]
    assert not found["engine_changed"]
    assert not found["answers_changed"]
    assert found["checks"] == [
        {"id": "value", "title": "value of L", "old": 0, "new": 1, "difference": 1},
        {"id": "grad.a", "title": "∂L/∂a", "old": 0.1, "new": 0.3, "difference": 0.2},
        {"id": "grad.b", "title": "∂L/∂b", "old": 0, "new": None, "difference": 0},
        {"id": "value.c", "title": "value of c", "old": None, "new": 0, "difference": 0},
    ]


def test_other_answers_and_another_engine() -> None:
    old, new = report({"value": 38}, {"of": "value"}), report({"value": []}, {"of": "value"})
    found = compare_reports(old, new)
    assert found["outcome"] == {"old": "graded", "new": "not_gradable"}
    assert found["answers_changed"]
    assert found["score"]["difference"] == -1
    assert compare_reports(old, {**old, "engine": {"version": "0.2.0", "conventions": 1}})["engine_changed"]


def test_reports_for_students_have_no_digest_of_the_task() -> None:
    def seen(answers: Any, **fields: Any) -> dict[str, Any]:
        return Report.from_dict(report(answers, {"of": "value"}, **fields)).to_dict()

    old = seen({"value": 9.0})
    assert compare_reports(old, seen({"value": 9.0}))["task_changed"] is False
    assert compare_reports(old, seen({"value": 9.0}, title="other"))["task_changed"] is True
    assert compare_reports(old, seen({"value": 8.0}, title="other"))["task_changed"] is None
