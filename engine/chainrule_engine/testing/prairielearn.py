"""For `server.py` of a PrairieLearn question."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from chainrule_engine.grading import grade, pointer
from chainrule_engine.rendering.view import View, read
from chainrule_engine.testing.submissions import Spec, read_spec, told

Graded = tuple[bool | float, str | None]


def prairielearn_check(spec: Spec, check: str, *, phase: str = "open") -> Callable[[object], Graded]:
    """Return a function for `pl.grade_answer_parameterized`: answer → (right, or a part of 1; what a student is told).

    check   the id of a check of one number, which does not depend on others: those take `grade_prairielearn`
    """
    task = read_spec(spec)
    found = next((each for each in task.checks if each.id == check), None)
    if found is None or len(found.keys) != 1 or found.requires:
        raise ValueError(f"{check!r} is no check of one number that stands for itself")
    key = found.keys[0]

    def function(answer: object) -> Graded:
        view = read(grade(task, _nest({key: _number(answer)})).to_dict("staff"), phase)
        if view.outcome != "graded":
            return False, _safe("\n".join(view.errors))
        (graded,) = (each for each in view.checks if each.id == check)
        if graded.passed:
            return True, None
        share = graded.score / graded.max_score if graded.max_score else 0.0
        return (share or False), _safe(told(graded))

    return function


def grade_prairielearn(
    data: dict[str, Any], spec: Spec, *, names: Mapping[str, str] | None = None, phase: str = "open"
) -> None:
    """Grade a submission in `grade(data)`: set `partial_scores` and `score` of the data, or `format_errors`.

    names   the `answers-name` of each input → the key of its number (`{"da": "gradients.a"}`); left out, an input is
            named like its key with `_` for the dots (`gradients_a`). Keys are those of a graph.

    Weights are points. The score is the report's, so it counts checks that are not shown and knows groups; do not call
    `pl.set_weighted_score_data` after it. Answers that are not gradable use no attempt.
    """
    task = read_spec(spec)
    keys = list(dict.fromkeys(key for check in task.checks for key in check.keys))
    by_name = dict(names) if names is not None else {key.replace(".", "_"): key for key in keys}
    submitted = data["submitted_answers"]
    given = {key: _number(submitted[name]) for name, key in by_name.items() if name in submitted}
    view = read(grade(task, _nest(given)).to_dict("staff"), phase)
    if view.outcome != "graded":
        data["format_errors"].update(_format_errors(view, by_name))
        return
    for name, key in by_name.items():
        if part := _part(view, key):
            data["partial_scores"][name] = part
    data["score"] = view.fraction


def _format_errors(view: View, by_name: Mapping[str, str]) -> dict[str, str]:
    """Put each error at its input; one that is about none, at the first of them."""
    errors: dict[str, list[str]] = {name: [] for name in by_name}
    for place, detail in view.faults:
        at = [name for name, key in by_name.items() if f"{place}/".startswith(f"{pointer(tuple(key.split('.', 1)))}/")]
        for name in at or list(by_name)[:1]:
            errors[name].append(_safe(detail))
    return {name: "<br>".join(said) for name, said in errors.items() if said}


def _part(view: View, key: str) -> dict[str, Any] | None:
    """The partial score of a number: of all shown checks that look at it, by their points."""
    shown = [(check, check.max_score / len(check.keys)) for check in view.shown if key in check.keys]
    weight = sum(worth for _, worth in shown)
    if not weight:
        return None
    score = sum(worth * check.score / check.max_score for check, worth in shown if check.max_score) / weight
    feedback = _safe("\n".join(told(check) for check, _ in shown if not check.passed))
    part = {"score": min(1.0, score), "weight": weight}
    return part | {"feedback": feedback} if feedback else part


def _nest(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return answers in the form of the wire, from numbers by key."""
    answers: dict[str, Any] = {}
    for key, number in given.items():
        member, dot, name = key.partition(".")
        if dot:
            answers.setdefault(member, {})[name] = number
        else:
            answers[member] = number
    return answers


def _number(answer: object) -> object:
    """Return a submitted number as the wire has it; PrairieLearn's JSON wraps those of NumPy."""
    return answer.get("_value", answer) if isinstance(answer, Mapping) else answer


def _safe(text: str) -> str:
    """Escape for the elements that show feedback as HTML; quotes are harmless there."""
    return html.escape(text, quote=False)
