"""Which known mistakes give a student's wrong numbers, in the form of a report."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.diagnosis import Blame, Explanation, diagnose_history
from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.canonical import wire
from chainrule_engine.grading.tasks import Task

#: So many mistakes that explain a student's numbers equally well are named to the student.
MAX_TOLD = 3


@dataclass
class Mistakes:
    """What a diagnosis found.

    ranked   all explanations, the likeliest first, in the form of a report
    told     how many of them are for students: the first, and those that explain as much as simply
    blame    where the student's own numbers first contradict each other; None where that is nowhere
    failure  what went wrong in the diagnosis itself, which then says nothing
    """

    ranked: list[dict[str, Any]] = field(default_factory=list)
    told: int = 0
    blame: dict[str, Any] | None = None
    failure: str | None = None


def find_mistakes(
    task: Task, answers: Answers, failed: Mapping[str, Collection[str]], among: Collection[str] | None = None
) -> Mistakes:
    """Look for the mistakes behind wrong numbers.

    failed   check id → its keys, of the checks that are not right
    among    the keys of the answers that are looked at; None for all that was given
    """
    wrong = [key for keys in failed.values() for key in keys]
    try:
        if task.training is not None:
            return _of_history(task, answers, failed) if "loss_history" in wrong else Mistakes()
        catalogue = task.catalogue
        numbers = _known(answers, among)
        if catalogue is None or not any(_is_among(key, wrong) for key in numbers):
            return Mistakes()
        found = catalogue.diagnose(numbers)
        blame = None if found.blame is None else _blame(found.blame)
        return Mistakes(*_ranked(found.explanations, failed), blame=blame)
    except Exception as error:
        # The score stands without it; a bug is not to cost a student the report, nor to go unnoticed.
        warnings.warn(f"the diagnosis failed: {error!r}", RuntimeWarning, stacklevel=2)
        return Mistakes(failure=type(error).__name__)


def followed_through(task: Task, answers: Answers) -> dict[str, float]:
    """Return key → the number that follows from the student's own; empty where the diagnosis cannot tell.

    Of the student's numbers those count that a check asks for: others cost nothing when they are wrong, and right
    answers scaled by a made-up one would all follow from it.
    """
    asked = {key for check in task.checks for key in check.keys}
    try:
        return {} if task.catalogue is None else task.catalogue.follow_through(_known(answers, asked))
    except Exception as error:
        warnings.warn(f"nothing could be followed through: {error!r}", RuntimeWarning, stacklevel=2)
        return {}


def _is_among(key: str, asked: Collection[str]) -> bool:
    """Tell whether a single number is asked for, by its own key or with its whole member."""
    return key in asked or key.partition(".")[0] in asked


def _known(answers: Answers, among: Collection[str] | None) -> dict[str, float]:
    """Return the single numbers of a graph's answers by key; None for all."""
    return {
        key: number
        for key, number in answers.numbers().items()
        if not key.startswith("jacobian") and (among is None or _is_among(key, among))
    }


def _of_history(task: Task, answers: Answers, failed: Mapping[str, Collection[str]]) -> Mistakes:
    history = answers.find("loss_history")
    if not isinstance(history, list) or not all(isinstance(loss, float) for loss in history) or task.training is None:
        return Mistakes()
    found = diagnose_history(task.training, history)
    return Mistakes(*_ranked(found.explanations, failed))


def _ranked(
    explanations: Sequence[Explanation], failed: Mapping[str, Collection[str]]
) -> tuple[list[dict[str, Any]], int]:
    ranked: list[dict[str, Any]] = []
    for explanation in explanations:
        ranked.append(
            {
                "name": " + ".join(explanation.names),
                "names": list(explanation.names),
                "title": explanation.title,
                "message": explanation.message,
                "explains": [
                    name for name, keys in failed.items() if any(_is_among(key, keys) for key in explanation.explains)
                ],
                "matches": explanation.matches,
                "of": explanation.of,
            }
        )
    best = [(len(mistake["names"]), mistake["matches"], len(mistake["explains"])) for mistake in ranked]
    told = next((place for place, rank in enumerate(best) if rank != best[0]), len(best))
    return ranked, min(told, MAX_TOLD)


def _blame(blame: Blame) -> dict[str, Any]:
    ratio = None if math.isnan(blame.ratio) else wire(blame.ratio)
    return {"kind": blame.kind, "node": blame.node, "ratio": ratio, "message": blame.message}
