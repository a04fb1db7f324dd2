"""What the checks of some answers earn together: each by itself, then what it requires and what it follows from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.judging import Judgement, judge
from chainrule_engine.grading.mistakes import followed_through
from chainrule_engine.grading.scoring import Earned, add_up
from chainrule_engine.grading.tasks import Check, Task


@dataclass(frozen=True)
class Credited:
    """One check with all that has a say in its credit, but for the rules of groups and rounding.

    judged    what it found by itself
    follows   its numbers are wrong, and follow from the student's own wrong ones
    met       everything that it requires is right
    """

    judged: Judgement
    follows: bool
    met: bool

    @property
    def passed(self) -> bool:
        """Whether it is right, and counts."""
        return self.judged.passed and self.met

    @property
    def earned(self) -> Earned:
        """Its share."""
        check, credit = self.judged.check, self.judged.credit
        if self.follows:
            credit = max(credit, check.follow_through)
        return Earned(check.points * (credit if self.met else 0), check.points, self.passed, check.group)


def earn(task: Task, answers: Answers) -> list[Credited]:
    """Judge the answers to every check, in the order of the task."""
    judged = {check.id: judge(check, task.truth, answers) for check in task.checks}
    met = _requirements_met(task.required_first, judged)
    following = _following(task, answers, judged)
    return [Credited(judged[check.id], check.id in following, met[check.id]) for check in task.checks]


def has_full_marks(task: Task, answers: Answers) -> bool:
    """Tell whether answers earn everything; where there is nothing to earn, whether every check passes."""
    found = earn(task, answers)
    scores = add_up([credited.earned for credited in found], task.groups, task.rounding)
    return scores.score == scores.maximum if scores.maximum else all(credited.passed for credited in found)


def _following(task: Task, answers: Answers, judged: Mapping[str, Judgement]) -> set[str]:
    """Return the ids of the checks whose numbers are wrong, but follow from the student's own wrong ones."""
    wrong = [
        check for check in task.checks if check.follow_through > judged[check.id].credit and judged[check.id].answered
    ]
    following = followed_through(task, answers) if wrong else {}
    return {
        check.id
        for check in wrong
        if all(_counts(following.get(key)) for key in check.keys)
        and judge(check, task.truth, answers, following).passed
    }


def _counts(following: float | None) -> bool:
    """Tell whether a number that follows from others shows that they were worked with: 0 follows from any 0."""
    return following is not None and math.isfinite(following) and following != 0.0


def _requirements_met(required_first: Sequence[Check], judged: Mapping[str, Judgement]) -> dict[str, bool]:
    """Return by id whether everything that a check requires is right, and what that requires in turn."""
    met: dict[str, bool] = {}
    for check in required_first:
        met[check.id] = all(met[name] and judged[name].passed for name in check.requires)
    return met
