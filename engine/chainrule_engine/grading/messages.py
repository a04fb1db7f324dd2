"""What a student is told of a check: never a right number, to no number of digits."""

from __future__ import annotations

import math
from decimal import Decimal

from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.judging import Judgement
from chainrule_engine.grading.relations import relation
from chainrule_engine.grading.truth import Truth

#: By the power of ten of the error in tolerances; in words, so that no digit could be one of the right number.
_SIZES = (
    "within ten times",
    "tens of times",
    "hundreds of times",
    "thousands of times",
    "tens of thousands of times",
    "hundreds of thousands of times",
    "at least a million times",
)


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
        said.append(f"the error is {_SIZES[min(Decimal(worst).adjusted(), len(_SIZES) - 1)]} the tolerance")
    return said
