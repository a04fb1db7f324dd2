"""The right numbers of a graph, and how far from them a number may be and still be right."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import product

from chainrule_engine.diagnosis.forms import Form
from chainrule_engine.diagnosis.passes import run
from chainrule_engine.diagnosis.precision import DOUBLE_NOISE, SINGLE_NOISE, Precision, is_kept_of
from chainrule_engine.lazily import lazy
from chainrule_engine.operations import OPERATIONS

#: With so many nodes at a kink every combination of their sides is looked at; with more, all at once on each side.
_MAX_KINKS = 6
#: Each result is nudged by so much, relatively, so often; what is seen is taken for a part of the largest error.
_UNIT, _TRIALS, _SURE = 2.0**-24, 4, 0.25
#: Functions whose derivative is a difference of nearly equal numbers where they saturate: its error is one of 1.
_SATURATING = frozenset({"tanh", "sigmoid", "sin", "cos"})


class Right:
    """The right values and gradients by slot, with what roundings and kinks make of them."""

    def __init__(self, form: Form, gradients: Sequence[float]) -> None:
        self.form, self.gradients = form, gradients
        self.values = form.values

    def tolerance(self, is_gradient: bool, slot: int, number: float, precision: Precision) -> float:
        """Return by how much a number may differ from what it is a rounding of."""
        size = max(abs(number), (self.gradient_noise if is_gradient else self.value_noise)[slot])
        if precision.kind != "rounded":
            return precision.noise * size
        noise = (1e-6 if precision.digits >= 7 else DOUBLE_NOISE) * size
        return 0.50001 * precision.unit(number) + noise if precision.tells else noise

    def slack(self, is_gradient: bool, slot: int, number: float, precision: Precision) -> float:
        """Return by how much a right number may be off that was rounded or cut, or computed in single precision."""
        right = (self.gradients if is_gradient else self.values)[slot]
        size = max(abs(right), (self.gradient_noise if is_gradient else self.value_noise)[slot])
        return max(SINGLE_NOISE * size, precision.slack(number))

    def admits(self, is_gradient: bool, slot: int, number: float, precision: Precision) -> bool:
        """Tell whether a number is right: rounded or cut, in double or single precision, on any side of a kink."""
        right = (self.gradients if is_gradient else self.values)[slot]
        size = max(abs(right), (self.gradient_noise if is_gradient else self.value_noise)[slot])
        unit, noise = precision.short_unit(number), SINGLE_NOISE * size
        if is_kept_of(number, right, unit, noise):
            return True
        if not is_gradient or not self.kinks:
            return False
        low, high = (ends[slot] for ends in self._hull)
        return low <= number <= high or any(is_kept_of(number, end, unit, noise) for end in (low, high))

    @lazy
    def _noise(self) -> tuple[list[float], list[float]]:
        """By slot: what rounding does to the values and to the gradients, in units of a relative rounding.

        Found by trying: every result is rounded away by one unit, up or down by chance, in a few runs.
        """
        form = self.form
        chance = random.Random(0)
        kinks = set(self.kinks)
        worst = [0.0] * form.size, [0.0] * form.size
        for _ in range(_TRIALS):
            # A whole number is exact in any precision; and as an exponent it must stay whole.
            values = [number if number.is_integer() else number * (1.0 + _nudge(chance)) for number in form.values]
            for slot in form.order:
                exact = OPERATIONS[form.operations[slot]].value(*[values[a] for a in form.args[slot]])
                values[slot] = 0.0 if form.values[slot] == 0.0 else exact * (1.0 + _nudge(chance))
            gradients = [0.0] * form.size
            for output, seed in form.outputs.items():
                gradients[output] = seed
            rules = form.rules_at(values)
            for slot in reversed(form.order):
                saturates = form.operations[slot] in _SATURATING
                upstream = gradients[slot]
                for a, local in form.rules[slot] if slot in kinks else rules[slot]:
                    off = local + _nudge(chance) * (1.0 if saturates else local)
                    gradients[a] = (gradients[a] + off * upstream) * (1.0 + _nudge(chance))
            for errors, found, right in zip(worst, (values, gradients), (form.values, self.gradients), strict=True):
                for slot, (x, y) in enumerate(zip(found, right, strict=False)):
                    error = abs(x - y) * _SURE / _UNIT
                    errors[slot] = max(errors[slot], error) if math.isfinite(error) else errors[slot]
        return worst

    @property
    def value_noise(self) -> list[float]:
        """By slot: the error of the value, in units of a relative rounding."""
        return self._noise[0]

    @property
    def gradient_noise(self) -> list[float]:
        """By slot: the error of the gradient, in the same units."""
        return self._noise[1]

    @lazy
    def kinks(self) -> list[int]:
        """The slots of the nodes that are exactly at a kink."""
        form = self.form
        found = []
        for slot in form.order:
            kink = OPERATIONS[form.operations[slot]].kink
            if kink is not None and kink.interval and kink.at(*[self.values[a] for a in form.args[slot]]):
                found.append(slot)
        return found

    @lazy
    def _hull(self) -> tuple[list[float], list[float]]:
        """By slot, the least and the largest gradient that a choice of slopes at the kinks gives."""
        form, kinks = self.form, self.kinks
        low, high = list(self.gradients), list(self.gradients)
        sides = (
            list(product((0, 1), repeat=len(kinks)))
            if len(kinks) <= _MAX_KINKS
            else [(0,) * len(kinks), (1,) * len(kinks)]
        )
        for chosen in sides:
            rules = list(form.rules)
            for slot, side in zip(kinks, chosen, strict=True):
                interval = OPERATIONS[form.operations[slot]].kink.interval  # type: ignore[union-attr]  # a kink
                slopes = (interval[side], 1.0 - interval[side])
                rules[slot] = tuple((a, slopes[k]) for k, (a, _) in enumerate(form.rules[slot]))
            gradients = [0.0] * form.size
            for output, seed in form.outputs.items():
                gradients[output] = seed
            run(form.order[::-1], rules, gradients)
            low = list(map(min, low, gradients))
            high = list(map(max, high, gradients))
        return low, high


def _nudge(chance: random.Random) -> float:
    return _UNIT if chance.random() < 0.5 else -_UNIT
