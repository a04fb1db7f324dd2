"""Optimisers and learning-rate schedules: what happens to one parameter, and to the rate, at one step.

The formulas are those of PyTorch's optimisers of the same names (SGD, Adam, AdamW, RMSprop), step by step; the order of
their roundings is ours. Each is a plain function of float64, which the compiled kernels are made of as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chainrule_engine.elementary import cos, divide, power, sqrt

Numbers = list[float]
#: What an optimiser remembers between steps: a name → one number per parameter.
Slots = dict[str, Numbers]
Tuple = tuple[float, ...]


@dataclass(frozen=True)
class Optimiser:
    """An update rule.

    settings   its numbers and switches (0 or 1) beside the learning rate, with their defaults
    slots      what it remembers, one or two numbers per parameter, all zero at the start
    prepare    (learning rate, step from 1, settings) → what is the same for all parameters of a step
    apply      (parameter, gradient, slots, prepared, settings) → the new parameter and slots
    """

    settings: Mapping[str, float]
    slots: tuple[str, ...]
    prepare: Callable[[float, float, Tuple], Tuple]
    apply: Callable[[float, float, Tuple, Tuple, Tuple], tuple[float, Tuple]]

    def update(
        self,
        parameters: Numbers,
        gradients: Numbers,
        slots: Slots,
        rate: float,
        step: int,
        settings: Mapping[str, float],
    ) -> Numbers:
        """Return the parameters after a step, counted from 1; changes the slots."""
        chosen = self.arrange(settings)
        prepared = self.prepare(rate, float(step), chosen)
        remembered = zip(*(slots[name] for name in self.slots), strict=True)
        updated = [
            self.apply(p, g, kept, prepared, chosen)
            for p, g, kept in zip(parameters, gradients, remembered, strict=True)
        ]
        for number, name in enumerate(self.slots):
            slots[name] = [kept[number] for _, kept in updated]
        return [p for p, _ in updated]

    def arrange(self, settings: Mapping[str, float]) -> Tuple:
        """Return the settings in the order in which `prepare` and `apply` take them."""
        return tuple(float(settings[name]) for name in self.settings)


def _plain_rate(rate: float, step: float, settings: Tuple) -> Tuple:
    return (rate,)


def _sgd(p: float, g: float, slots: Tuple, prepared: Tuple, settings: Tuple) -> tuple[float, Tuple]:
    momentum, nesterov = settings
    velocity = slots[0]
    if momentum != 0.0:
        velocity = momentum * velocity + g
        g = g + momentum * velocity if nesterov != 0.0 else velocity
    return p - prepared[0] * g, (velocity,)


def _adam_rates(rate: float, step: float, settings: Tuple) -> Tuple:
    # Both averages start at zero; dividing by what their weights add up to takes that bias away.
    return divide(rate, 1.0 - power(settings[0], step)), sqrt(1.0 - power(settings[1], step))


def _adam(p: float, g: float, slots: Tuple, prepared: Tuple, settings: Tuple) -> tuple[float, Tuple]:
    decay = settings[3]
    if decay != 0.0:
        g = g + decay * p
    return _adam_step(p, g, slots, prepared, settings)


def _adamw_rates(rate: float, step: float, settings: Tuple) -> Tuple:
    corrected, scale = _adam_rates(rate, step, settings)
    return corrected, scale, 1.0 - rate * settings[3]


def _adamw(p: float, g: float, slots: Tuple, prepared: Tuple, settings: Tuple) -> tuple[float, Tuple]:
    return _adam_step(p * prepared[2], g, slots, prepared, settings)


def _adam_step(p: float, g: float, slots: Tuple, prepared: Tuple, settings: Tuple) -> tuple[float, Tuple]:
    beta1, beta2, epsilon = settings[0], settings[1], settings[2]
    mean = beta1 * slots[0] + (1.0 - beta1) * g
    square = beta2 * slots[1] + (1.0 - beta2) * (g * g)
    return p - divide(prepared[0] * mean, divide(sqrt(square), prepared[1]) + epsilon), (mean, square)


def _rmsprop(p: float, g: float, slots: Tuple, prepared: Tuple, settings: Tuple) -> tuple[float, Tuple]:
    alpha, epsilon, momentum = settings
    square, velocity = slots
    square = alpha * square + (1.0 - alpha) * (g * g)
    g = divide(g, sqrt(square) + epsilon)
    if momentum != 0.0:
        velocity = momentum * velocity + g
        g = velocity
    return p - prepared[0] * g, (square, velocity)


_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

#: Every optimiser by its name.
OPTIMISERS = {
    "sgd": Optimiser({"momentum": 0.0, "nesterov": False}, ("velocity",), _plain_rate, _sgd),
    "adam": Optimiser({**_ADAM, "weight_decay": 0.0}, ("mean", "square"), _adam_rates, _adam),
    "adamw": Optimiser({**_ADAM, "weight_decay": 0.01}, ("mean", "square"), _adamw_rates, _adamw),
    "rmsprop": Optimiser(
        {"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0}, ("square", "velocity"), _plain_rate, _rmsprop
    ),
}


@dataclass(frozen=True)
class Schedule:
    """A learning rate that changes.

    settings  the names of the numbers that it needs
    formula   (step from 0, those numbers in their order) → the rate
    """

    settings: tuple[str, ...]
    formula: Callable[[float, Tuple], float]

    def rate(self, step: int, settings: Mapping[str, float]) -> float:
        """Return the rate of a step, counted from 0."""
        return self.formula(float(step), self.arrange(settings))

    def arrange(self, settings: Mapping[str, float]) -> Tuple:
        """Return the settings in the order in which `formula` takes them."""
        return tuple(float(settings[name]) for name in self.settings)


def _linear(step: float, settings: Tuple) -> float:
    start, end, steps = settings
    return start + divide((end - start) * min(step, steps), steps)


def _step(step: float, settings: Tuple) -> float:
    start, factor, every = settings
    return start * power(factor, float(int(step) // int(every)))


def _exponential(step: float, settings: Tuple) -> float:
    start, factor = settings
    return start * power(factor, step)


def _cosine(step: float, settings: Tuple) -> float:
    start, end, steps = settings
    fraction = divide(min(step, steps), steps)
    return end + (start - end) * (1.0 + cos(math.pi * fraction)) / 2.0


#: Every schedule by its name; `steps` may be left out and is then the job's.
SCHEDULES = {
    "linear": Schedule(("start", "end", "steps"), _linear),
    "step": Schedule(("start", "factor", "every"), _step),
    "exponential": Schedule(("start", "factor"), _exponential),
    "cosine": Schedule(("start", "end", "steps"), _cosine),
}
