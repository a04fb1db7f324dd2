"""How a wrong number relates to the right one: what it says of the mistake, without the right one itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from chainrule_engine.diagnosis.precision import count_digits
from chainrule_engine.grading.answers import Answers, significant_digits
from chainrule_engine.grading.judging import Element, Judgement
from chainrule_engine.grading.truth import GraphTruth, TrainingTruth, Truth

#: Two numbers count as equal here when they agree to about so much: numbers on paper have four digits.
CLOSE = 5e-4
#: Factors up to this are named.
MAX_FACTOR = 16
#: Below the level `full` a number is called close that is off by a part of less than this, and written with no more
#: than so many digits. No finer: what is said of one digit more or less is an oracle, to be asked digit by digit.
NEAR, FEW_DIGITS = 0.01, 3
#: What a number with fewer significant digits is besides is a coincidence: 1 is many a local derivative, and -12 is
#: three times -4.
TELLING_DIGITS = 3
#: So many wrong numbers are looked at.
_LOOKED_AT = 64


def relation(judged: Judgement, level: str, truth: Truth, answers: Answers) -> str | None:
    """Say what all wrong numbers of a check have in common; None where nothing is known.

    level   full, or one below: that says less of digits
    """
    wrong = [element for element in judged.elements if element.credit != 1]
    given = [(e.student, e.expected) for e in wrong if e.student is not None and e.expected is not None]
    if not given or len(given) < len(wrong) or judged.check.compare.mode in ("range", "threshold", "monotone"):
        return None
    if len(given) > 1 and _all_close(sorted(s for s, _ in given), sorted(e for _, e in given)):
        return "the right numbers, in another order"
    text = answers.texts.get(judged.check.keys[0]) if len(judged.elements) == 1 else None
    common: list[str] | None = None
    for element in islice(wrong, _LOOKED_AT):
        found = list(_relations(element, level, truth, text))
        common = found if common is None else [said for said in common if said in found]
    return common[0] if common else None


def is_close(number: float, other: float) -> bool:
    """Tell whether two numbers, not zero, agree to about four digits."""
    return other != 0.0 and math.isfinite(other) and abs(number - other) <= CLOSE * abs(other)


def _all_close(numbers: list[float], others: list[float]) -> bool:
    return all(is_close(n, o) or n == o for n, o in zip(numbers, others, strict=True))


def _relations(element: Element, level: str, truth: Truth, text: str | None) -> Iterator[str]:
    student, expected = element.student, element.expected
    if student is None or expected is None or not math.isfinite(student) or not math.isfinite(expected) or not expected:
        return
    member, _, name = element.key.partition(".")
    if student == 0.0:
        yield "0 would mean that it is not connected to the output" if member == "gradients" else "it is not 0"
        return
    digits = _right_digits(student, expected, text) if level == "full" else _close(student, expected, text)
    if digits is not None:
        yield digits
        return
    if is_close(student, -expected):
        yield "the sign is flipped"
    telling = count_digits(student)[0] >= TELLING_DIGITS
    if telling and isinstance(truth, GraphTruth) and truth.graph.points is None:
        yield from _mixed_up(student, expected, member, name, truth)
    if is_close(student, 2.0 * expected):
        yield "it is twice what it should be"
    if is_close(student, expected / 2.0):
        yield "it is half of what it should be"
    for power in range(1, 7):
        if is_close(student, expected * 10.0**power) or is_close(student, expected / 10.0**power):
            yield "the digits are right, and the power of ten is not"
    points = truth.training.model.points if isinstance(truth, TrainingTruth) else None
    for factor in range(3, MAX_FACTOR + 1):
        if not telling and factor != points:
            continue
        if is_close(student, expected * factor) or is_close(student * factor, expected):
            yield "it is off by a whole factor, as a mean is from a sum"


def _mixed_up(student: float, expected: float, member: str, name: str, truth: GraphTruth) -> Iterator[str]:
    """Yield what else of the same id the number is."""
    if member == "gradients":
        value = truth.evaluation.all_values.get(name)
        if isinstance(value, float) and is_close(student, value) and not is_close(expected, value):
            yield "this is the value, not the gradient"
        local = truth.locals.get(name, [])
        if any(is_close(student, number) and not is_close(expected, number) for number in local):
            yield "this is a local derivative: the gradient that arrives from above is missing (chain rule)"
    elif member in ("values", "value"):
        gradient = truth.evaluation.all_gradients.get(name)
        if isinstance(gradient, float) and is_close(student, gradient) and not is_close(expected, gradient):
            yield "this is the gradient, not the value"


def _close(student: float, expected: float, text: str | None) -> str | None:
    """Tell whether a number is close, and may be off because it has few digits."""
    written = significant_digits(text) if text else count_digits(student)[0]
    if written <= FEW_DIGITS and abs(student - expected) < NEAR * abs(expected):
        return "it is close, but not to enough digits"
    return None


def _right_digits(student: float, expected: float, text: str | None) -> str | None:
    """Tell whether a number is right as far as it is written, or to some digits."""
    written = Decimal(text.replace("−", "-") if text else repr(student))
    exponent = written.as_tuple().exponent
    if isinstance(exponent, int) and significant_digits(text or repr(student)) >= 2:
        unit = Decimal(1).scaleb(exponent)
        if abs(written - Decimal(expected)) <= unit * Decimal("0.51"):
            return "right as far as it is written, but not enough digits"
    error = abs(student - expected) / abs(expected)
    if error < 0.005:
        digits = max(2, min(15, -Decimal(2.0 * error).adjusted() - 1)) if error else 15
        return f"right to about {digits} digits, which is not enough"
    return None
