"""What checks earn together, and what a student is told of it: holes through which points or right numbers came."""

from __future__ import annotations

from typing import Any

from chainrule_engine.grading import Task, grade, read_task

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
