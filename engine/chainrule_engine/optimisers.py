"""Optimisers and learning-rate schedules, over flat lists of parameters.

The formulas are those of PyTorch's optimisers of the same names (SGD, Adam, AdamW, RMSprop), step by step; the order of
their roundings is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chainrule_engine.elementary import cos, power, sqrt

Numbers = list[float]
#: What an optimiser remembers between steps: a name → one number per parameter.
Slots = dict[str, Numbers]


@dataclass(frozen=True)
class Optimiser:
    """An update rule.

    settings  its numbers and switches beside the learning rate, with their defaults
    slots     what it remembers, all zero at the start
    update    (parameters, gradients, slots, learning rate, step from 1, settings) → new parameters; changes the slots
    """

    settings: Mapping[str, float]
    slots: tuple[str, ...]
    update: Callable[[Numbers, Numbers, Slots, float, int, Mapping[str, float]], Numbers]


def _sgd(p: Numbers, g: Numbers, slots: Slots, rate: float, step: int, settings: Mapping[str, float]) -> Numbers:
    momentum = settings["momentum"]
    if momentum:
        slots["velocity"] = [momentum * v + d for v, d in zip(slots["velocity"], g, strict=True)]
        if settings["nesterov"]:
            g = [d + momentum * v for v, d in zip(slots["velocity"], g, strict=True)]
        else:
            g = slots["velocity"]
    return [x - rate * d for x, d in zip(p, g, strict=True)]


def _adam(p: Numbers, g: Numbers, slots: Slots, rate: float, step: int, settings: Mapping[str, float]) -> Numbers:
    decay = settings["weight_decay"]
    if decay:
        g = [d + decay * x for x, d in zip(p, g, strict=True)]
    return _adam_step(p, g, slots, rate, step, settings)


def _adamw(p: Numbers, g: Numbers, slots: Slots, rate: float, step: int, settings: Mapping[str, float]) -> Numbers:
    shrink = 1.0 - rate * settings["weight_decay"]
    return _adam_step([x * shrink for x in p], g, slots, rate, step, settings)


def _adam_step(p: Numbers, g: Numbers, slots: Slots, rate: float, step: int, settings: Mapping[str, float]) -> Numbers:
    beta1, beta2, epsilon = settings["beta1"], settings["beta2"], settings["epsilon"]
    slots["mean"] = [beta1 * m + (1.0 - beta1) * d for m, d in zip(slots["mean"], g, strict=True)]
    slots["square"] = [beta2 * v + (1.0 - beta2) * (d * d) for v, d in zip(slots["square"], g, strict=True)]
    # Both averages start at zero; dividing by what their weights add up to takes that bias away.
    rate = rate / (1.0 - power(beta1, float(step)))
    scale = sqrt(1.0 - power(beta2, float(step)))
    return [
        x - rate * m / (sqrt(v) / scale + epsilon) for x, m, v in zip(p, slots["mean"], slots["square"], strict=True)
    ]


def _rmsprop(p: Numbers, g: Numbers, slots: Slots, rate: float, step: int, settings: Mapping[str, float]) -> Numbers:
    alpha, epsilon, momentum = settings["alpha"], settings["epsilon"], settings["momentum"]
    slots["square"] = [alpha * v + (1.0 - alpha) * (d * d) for v, d in zip(slots["square"], g, strict=True)]
    g = [d / (sqrt(v) + epsilon) for d, v in zip(g, slots["square"], strict=True)]
    if momentum:
        slots["velocity"] = g = [momentum * u + d for u, d in zip(slots["velocity"], g, strict=True)]
    return [x - rate * d for x, d in zip(p, g, strict=True)]


_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

#: Every optimiser by its name.
OPTIMISERS = {
    "sgd": Optimiser({"momentum": 0.0, "nesterov": False}, ("velocity",), _sgd),
    "adam": Optimiser({**_ADAM, "weight_decay": 0.0}, ("mean", "square"), _adam),
    "adamw": Optimiser({**_ADAM, "weight_decay": 0.01}, ("mean", "square"), _adamw),
    "rmsprop": Optimiser({"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0}, ("square", "velocity"), _rmsprop),
}


@dataclass(frozen=True)
class Schedule:
    """A learning rate that changes: `rate(step, settings)` with the names of the settings that it needs."""

    settings: tuple[str, ...]
    rate: Callable[..., float]


def _linear(step: int, settings: Mapping[str, float]) -> float:
    return settings["start"] + (settings["end"] - settings["start"]) * min(step, settings["steps"]) / settings["steps"]


def _step(step: int, settings: Mapping[str, float]) -> float:
    return settings["start"] * power(settings["factor"], float(step // int(settings["every"])))


def _exponential(step: int, settings: Mapping[str, float]) -> float:
    return settings["start"] * power(settings["factor"], float(step))


def _cosine(step: int, settings: Mapping[str, float]) -> float:
    fraction = min(step, settings["steps"]) / settings["steps"]
    return settings["end"] + (settings["start"] - settings["end"]) * (1.0 + cos(math.pi * fraction)) / 2.0


#: Every schedule by its name; `steps` may be left out and is then the job's.
SCHEDULES = {
    "linear": Schedule(("start", "end", "steps"), _linear),
    "step": Schedule(("start", "factor", "every"), _step),
    "exponential": Schedule(("start", "factor"), _exponential),
    "cosine": Schedule(("start", "end", "steps"), _cosine),
}
