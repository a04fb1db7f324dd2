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
