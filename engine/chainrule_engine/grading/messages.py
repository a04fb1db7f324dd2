"""What a student is told of a check: never a right number, to no number of digits."""

from __future__ import annotations

import math

from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.judging import Judgement
from chainrule_engine.grading.relations import relation
from chainrule_engine.grading.truth import Truth

#: An error of up to so many tolerances is called near. One bound, and no more words: each would be a question that the
#: next attempt answers, and a few dozen of them lead to the right number.
_NEAR = 100.0


def message(judged: Judgement, level: str, truth: Truth, answers: Answers) -> str:
    """Say whether the numbers are right, and at a level above pass_fail in what way they are not."""
    if not judged.answered:
        return "No answer."
    tolerance = _tolerance(judged) if level == "full" else ""
    if judged.passed:
        return f"Correct{tolerance}."
    word = "Partly correct" if judged.credit else "Not correct"
    if level == "pass_fail":
        return f"{word}."
    said = [f"{word}{tolerance}"]
    if (found := relation(judged, level, truth, answers)) is not None:
        said.append(found)
    if level == "full":
        said += _magnitude(judged)
    return ": ".join([said[0], "; ".join(said[1:])]) + "." if said[1:] else f"{word}{tolerance}."


def _tolerance(judged: Judgement) -> str:
    compare = judged.check.compare
    return f" ({', '.join([compare.mode, *(f'{name} {entry}' for name, entry in compare.shown().items())])})"


def _magnitude(judged: Judgement) -> list[str]:
    said = []
    place = judged.first_wrong
    if judged.check.compare.rule.each is not None and len(judged.elements) > 1 and place is not None:
        right = sum(element.credit == 1 for element in judged.elements)
        said.append(f"{right} of {len(judged.elements)} numbers are right")
        if judged.check.keys == ("loss_history",):
            said.append(f"the first step that departs is step {place}, counted from 0")
    worst = max(element.distance.multiple for element in judged.elements)
    if 1.0 <= worst < math.inf:
        said.append("it is near" if worst <= _NEAR else "it is far off")
    return said
