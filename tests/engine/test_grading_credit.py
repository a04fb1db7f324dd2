"""What checks earn together, and what a student is told of it: holes through which points or right numbers came."""

from __future__ import annotations

from typing import Any

import pytest

from chainrule_engine.grading import Task, canonical, grade, read_task

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
