"""Reading a student's answers, whatever they are: what can be compared, and what cannot, with pointers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.errors import MAX_PROBLEMS, Path, Problem
from chainrule_engine.grading.truth import Quantity, Truth, find
from chainrule_engine.graph import describe
from chainrule_engine.refusals import quote

#: A number written as text is no longer than this.
MAX_DIGITS = 40
#: So much is repeated of a text that came in the place of the answers.
MAX_REASON = 200
#: So many ids that nobody asked for are named in the notes.
MAX_NOTED = 5

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DECIMAL = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?", re.ASCII)


class _Refused(Exception):
    """What is wrong with a number."""


@dataclass
class Answers:
    """What was read.

    members    member → quantities as they were given, numbers as float, None where there is none
    texts      key → the decimal text, where a number came as one
    problems   what cannot be read; paths into the answers
    notes      what was ignored, for people
    """

    members: dict[str, Quantity] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, key: str) -> Quantity:
        """Return the quantity of a key as it was given; None where it was not."""
        member, _, path = key.partition(".")
        try:
            return find(self.members.get(member), path)
        except KeyError:
            return None

    def numbers(self) -> dict[str, float]:
        """Return key → number, of all single numbers that were given."""
        found: dict[str, float] = {}
        for member, quantity in self.members.items():
            named = quantity if isinstance(quantity, dict) else {None: quantity}
            for name, number in named.items():
                if isinstance(number, float):
                    found[member if name is None else f"{member}.{name}"] = number
        return found


def read_answers(truth: Truth, data: object) -> Answers:
    """Read the answers to a task with these right numbers; never raises, whatever they are."""
    answers = Answers()
    if not isinstance(data, dict):
        found = describe(data)
        if isinstance(data, str):
            # Whoever could not read a file sends what was wrong with it in the place of the answers.
            found = "text: " + "".join(sign if sign.isprintable() else " " for sign in data[:MAX_REASON])
        answers.problems.append(Problem((), f"the answers are an object, and this is {found}"))
        return answers
    _note(answers, "unknown", [name for name in data if name not in truth.members])
    for member in truth.members:
        if member in data and data[member] is not None:
            _read_member(answers, truth, member, data[member])
    return answers


def _read_member(answers: Answers, truth: Truth, member: str, data: object) -> None:
    expected = truth.member(member)
    if isinstance(expected, dict):
        if not isinstance(data, dict):
            detail = f"{member} is an object of numbers by name, and this is {describe(data)}"
            answers.problems.append(Problem((member,), detail))
            return
        _note(answers, f"unknown in {member}", [name for name in data if name not in expected])
        answers.members[member] = {
            name: _read(answers, data[name], (member, name), expected[name])
            for name in sorted(name for name in data if name in expected)
            if len(answers.problems) < MAX_PROBLEMS
        }
    else:
        answers.members[member] = _read(answers, data, (member,), expected)


def _read(answers: Answers, data: Any, path: Path, expected: Quantity) -> Quantity:
    """Read one quantity of the shape of the expected one, which bounds the depth."""
    if len(answers.problems) >= MAX_PROBLEMS or data is None:
        return None
    if isinstance(expected, dict):
        if isinstance(data, dict):
            return {name: _read(answers, data.get(name), (*path, name), item) for name, item in expected.items()}
        wrong = f"an object with {', '.join(expected)} is needed here, and this is {describe(data)}"
    elif isinstance(expected, list):
        # Of a history the length is a matter of right and wrong, not of form.
        free = path[0] in ("loss_history", "metrics")
        if not isinstance(data, list):
            wrong = f"a list of numbers is needed here, and this is {describe(data)}"
        elif not free and len(data) != len(expected):
            wrong = f"a list of {len(expected)} is needed here, and this has {len(data)}"
        else:
            items = [0.0] * len(data) if free else expected
            return [
                _read(answers, *item) for item in zip(data, ((*path, k) for k in range(len(data))), items, strict=True)
            ]
    else:
        try:
            number = _number(data)
        except _Refused as refusal:
            wrong = str(refusal)
        else:
            if number is not None and isinstance(data, str):
                answers.texts[".".join(map(str, path))] = data.strip()
            return number
    answers.problems.append(Problem(path, wrong))
    return None


def _number(data: object) -> float | None:
    """Read a number; None where a text is empty."""
    if isinstance(data, float):
        return float(data)
    if isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise _Refused("this number is too large for float64") from None
    if not isinstance(data, str):
        raise _Refused(f"a number is needed here, and this is {describe(data)}")
    # People copy the typographic minus sign from a page.
    text = data.strip().replace("−", "-") if len(data) <= 2 * MAX_DIGITS else data
    if not text:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a number has {MAX_DIGITS} characters at most, and this has {len(text):,}")
    if not _DECIMAL.fullmatch(text):
        comma = "; the decimal point is a point" if "," in text else ""
        raise _Refused(f"write a number in decimals, such as -0.25 or 1e-3, not {quote(text)}{comma}")
    number = float(text)
    if math.isinf(number):
        raise _Refused("this number is too large for float64")
    return number


def significant_digits(text: str) -> int:
    """Return how many significant digits a decimal text is written with."""
    found = _DECIMAL.fullmatch(text.strip().replace("−", "-"))
    return len(found[2].replace(".", "").lstrip("0")) if found else 0


def _note(answers: Answers, what: str, names: list[Any]) -> None:
    if names:
        # The names of an object have no order, so the same answers in another one are to give the same report.
        names = sorted(names, key=lambda name: name if isinstance(name, str) else "")
        some = ", ".join(quote(name) if isinstance(name, str) else describe(name) for name in names[:MAX_NOTED])
        more = f" and {len(names) - MAX_NOTED:,} more" if len(names) > MAX_NOTED else ""
        answers.notes.append(f"Ignored, as {what}: {some}{more}.")
