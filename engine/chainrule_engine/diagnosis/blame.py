"""Where a student's numbers first contradict each other: no catalogue of mistakes is needed for that."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

from chainrule_engine.diagnosis.precision import SINGLE_NOISE, Precision, is_kept_of
from chainrule_engine.diagnosis.right import Right
from chainrule_engine.graph import is_named
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.tape import Tape


class Numbers(NamedTuple):
    """A student's numbers by slot, and which of them are wrong: (whether it is a gradient, slot)."""

    values: dict[int, float]
    gradients: dict[int, float]
    wrong: Set[tuple[bool, int]]


@dataclass(frozen=True)
class Blame:
    """The first number that does not follow from those before it.

    kind     "value": the result of a node though its arguments are right, or follow from the student's own; "gradient":
             that of a node though the gradients of what uses it are given
    node     its id
    ratio    the student's number over what follows; NaN where there is none
    message  for the student
    """

    kind: str
    node: str
    ratio: float
    message: str


class Following:
    """What follows, number by number, from a student's own numbers; from the right ones where none was given.

    values, gradients   by slot
    own                 (whether it is a gradient, slot) of those that something given leads to
    """

    def __init__(self, right: Right, numbers: Numbers, precision: Precision) -> None:
        self.form = form = right.form
        self.right, self.numbers, self.precision = right, numbers, precision
        self.own: set[tuple[bool, int]] = set()
        self.values = list(form.values)
        taken = list(form.values)
        for slot, number in numbers.values.items():
            # A right number that was rounded stands for the number that it is a rounding of.
            if not form.operations[slot] and (False, slot) in numbers.wrong:
                taken[slot] = number
        for slot in form.order:
            args = form.args[slot]
            if any(a in numbers.values or (False, a) in self.own for a in args):
                self.own.add((False, slot))
            self.values[slot] = OPERATIONS[form.operations[slot]].value(*[taken[a] for a in args])
            wrong = (False, slot) in numbers.wrong
            taken[slot] = numbers.values[slot] if wrong else self.values[slot]
        self.rules = form.rules if taken == form.values else form.rules_at(taken)
        self.gradients = [0.0] * form.size
        #: By how much a gradient may be off because those that it follows from were rounded.
        self._units = [0.0] * form.size
        for output, seed in form.outputs.items():
            self.gradients[output] = seed
        for slot in reversed(form.order):
            self._pass_on(slot)

    def _pass_on(self, slot: int) -> None:
        given = self.numbers.gradients.get(slot)
        upstream = self.gradients[slot]
        unit = 0.0
        if given is not None and (True, slot) in self.numbers.wrong:
            upstream, unit = given, self.precision.slack(given)
        elif given is not None:
            upstream = self.right.gradients[slot]
        leads = given is not None or (True, slot) in self.own
        for a, local in self.rules[slot]:
            self.gradients[a] += local * upstream
            self._units[a] += abs(local) * unit
            if leads:
                self.own.add((True, a))

    def blame(self, tape: Tape) -> Blame | None:
        """Find the first number that does not follow: of the values, and if these do, of the gradients."""
        form, numbers = self.form, self.numbers
        for slot in form.order:
            if (False, slot) in numbers.wrong:
                number, follows = numbers.values[slot], self.values[slot]
                if not self._agrees(False, slot, number, follows):
                    return Blame("value", _name(tape, slot), _ratio(number, follows), self._of_a_value(tape, slot))
        users = form.users
        known = set(form.outputs)
        inputs = [slot for slot in sorted(users) if not form.operations[slot]]
        for slot in [*reversed(form.order), *inputs]:
            determined = all(user in known for user in users.get(slot, ()))
            given = numbers.gradients.get(slot)
            if given is not None or (determined and not is_named(_name(tape, slot))):
                known.add(slot)
            if given is None or not determined or (True, slot) not in numbers.wrong:
                continue
            follows = self.gradients[slot]
            if not self._agrees(True, slot, given, follows):
                message = self._of_a_gradient(tape, slot, users.get(slot, []))
                return Blame("gradient", _name(tape, slot), _ratio(given, follows), message)
        return None

    def _agrees(self, is_gradient: bool, slot: int, number: float, follows: float) -> bool:
        """Tell whether a number of the student's is what follows, rounded or cut."""
        noise = (self.right.gradient_noise if is_gradient else self.right.value_noise)[slot]
        unit, off = self.precision.short_unit(number), self._units[slot] if is_gradient else 0.0
        return is_kept_of(number, follows, unit, SINGLE_NOISE * max(abs(number), noise), off)

    def _of_a_value(self, tape: Tape, slot: int) -> str:
        operation = self.form.operations[slot]
        args = [_name(tape, a) for a in dict.fromkeys(self.form.args[slot]) if not self.form.constants[a]]
        where = f" from {_listed(args)}" if args else ""
        return f"The value of {_name(tape, slot)} is the first that goes wrong: compute its {operation}{where} again."

    def _of_a_gradient(self, tape: Tape, slot: int, users: list[int]) -> str:
        name, given = _name(tape, slot), self.numbers.gradients[slot]
        if not users:
            return f"The gradient of {name} is where backward begins: it is the seed."
        used = _listed([f"{_name(tape, user)} ({self.form.operations[user]})" for user in users])
        message = f"The gradient of {name} is the first that does not follow from yours of what uses it: {used}."
        if len(users) > 1 and self._is_a_part(given, slot, users):
            return f"{message} Each use adds a share; one seems to be missing."
        follows = self.gradients[slot]
        if follows and self._agrees(True, slot, given, -follows):
            return f"{message} Look at the sign."
        return message

    def _is_a_part(self, given: float, slot: int, users: list[int]) -> bool:
        """Tell whether a gradient is what follows without the share of one of the uses."""
        for user in users:
            upstream = self.gradients[user]
            if (True, user) in self.numbers.wrong:
                upstream = self.numbers.gradients[user]
            share = reduce(add, [local * upstream for a, local in self.rules[user] if a == slot], 0.0)
            rest = self.gradients[slot] - share
            if self._agrees(True, slot, given, rest):
                return True
        return False


def _name(tape: Tape, slot: int) -> str:
    return tape.name(slot) or ""


def _listed(names: list[str]) -> str:
    some = ", ".join(name[:60] for name in names[:3])
    return f"{some}, …" if len(names) > 3 else some


def _ratio(number: float, follows: float) -> float:
    return number / follows if follows and math.isfinite(follows) and math.isfinite(number) else math.nan
