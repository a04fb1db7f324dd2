"""Training loops as students write them: the right one, and what is changed in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from chainrule_engine.kernels import Column
from chainrule_engine.models import GraphModel, NetworkModel
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.training import Training

Spec = Mapping[str, Any]
#: (rate of the specification, step, number of steps) → the rate.
Rates = Callable[[float, int, int], float]


@dataclass(frozen=True)
class Changes:
    """What a loop does otherwise.

    printed      the losses are multiplied by this
    gradient     the gradients are multiplied by this
    accumulates  gradients are never set to zero
    frozen       the biases are never updated
    no_bias      there are no biases
    points       of which the gradients are taken: "all" in one update, "each" with an update of its own, "last" alone
    running      "each": the loss is added up on the way, in place of all points' before the first update
    delayed      an update is made with the gradients of the step before
    by_layer     a layer is updated before the gradients of the one below are computed
    skipped      so many losses are not printed at the beginning
    rates        the learning rate; None for the specification's
    spec         the specification is another: it is None where that makes no sense
    """

    printed: float = 1.0
    gradient: float = 1.0
    accumulates: bool = False
    frozen: bool = False
    no_bias: bool = False
    points: str = "all"
    running: bool = False
    delayed: bool = False
    by_layer: bool = False
    skipped: int = 0
    rates: Rates | None = None
    spec: Callable[[Spec], Spec | None] = field(default=lambda spec: spec)


class Loop:
    """A loop over a training's specification: the losses, step by step."""

    def __init__(self, spec: Spec, changes: Changes) -> None:
        """Take a specification that is valid; its errors are `Training`'s."""
        self._training = Training(spec, plain=True)
        self._changes, self._spec = changes, spec
        self._model = model = self._training.model
        self._structure = structure = model.structure
        self._slots = [structure.tape.slots[name] for name in structure.parameters]
        loss = spec.get("loss") or {}
        self._mean = loss.get("reduction", "mean") == "mean"
        self._l2 = float(loss.get("l2", 0.0))
        optimiser = spec["optimizer"]
        self._optimiser = OPTIMISERS[optimiser["name"]]
        self._settings = {name: optimiser.get(name, value) for name, value in self._optimiser.settings.items()}
        self._biases = frozenset(place for place, name in enumerate(structure.parameters) if is_bias(model, name))

    @property
    def work(self) -> int:
        """How many values of nodes a step computes."""
        return len(self._structure.graph.nodes) * self._model.points

    @property
    def has_biases(self) -> bool:
        """Whether some parameters are biases."""
        return bool(self._biases)

    @property
    def layers(self) -> list[list[int]]:
        """The places of the parameters of each layer of a network; one for a graph."""
        if not isinstance(self._model, NetworkModel):
            return [list(range(len(self._slots)))]
        found: dict[str, list[int]] = {}
        for place, name in enumerate(self._structure.parameters):
            found.setdefault(name[1:].split("_")[0], []).append(place)
        return list(found.values())

    def losses(self) -> Iterator[float]:
        """Yield the losses that are printed, without end."""
        printed = self._steps()
        for _ in range(self._changes.skipped):
            next(printed)
        yield from printed

    def _steps(self) -> Iterator[float]:
        changes = self._changes
        parameters = list(self._model.initial)
        if changes.no_bias:
            parameters = [0.0 if place in self._biases else p for place, p in enumerate(parameters)]
        zeros = [0.0] * len(parameters)
        kept = {name: list(zeros) for name in self._optimiser.slots}
        held = list(zeros)
        everything = range(self._model.points)
        for step in count():
            columns = self._forward(parameters, everything)
            loss = self._loss(columns, parameters)
            if changes.points == "each":
                on_the_way = 0.0
                for point in everything:
                    columns = self._forward(parameters, [point])
                    on_the_way += self._loss(columns, parameters)
                    parameters = self._update(parameters, self._gradients(columns, parameters), kept, step)
                yield changes.printed * (on_the_way if changes.running else loss)
                continue
            yield changes.printed * loss
            if changes.points == "last":
                columns = self._forward(parameters, everything[-1:])
            if changes.by_layer:
                parameters = self._update_by_layer(parameters, columns, kept, step)
                continue
            gradients = self._gradients(columns, parameters)
            if changes.delayed:
                gradients, held = held, gradients
            elif changes.accumulates:
                held = gradients = [h + g for h, g in zip(held, gradients, strict=True)]
            parameters = self._update(parameters, gradients, kept, step)

    def _forward(self, parameters: Sequence[float], points: Sequence[int]) -> list[Column]:
        structure = self._structure
        inputs: dict[str, Any] = dict(structure.graph.inputs)
        inputs |= dict(zip(structure.parameters, parameters, strict=True))
        inputs |= {name: [column[p] for p in points] for name, column in self._model.columns.items()}
        return list(structure.tape.forward(inputs, len(points)))

    def _loss(self, columns: Sequence[Column], parameters: Sequence[float]) -> float:
        losses = columns[self._structure.tape.slots[self._structure.loss]]
        loss = _total(losses)
        if self._mean:
            loss /= len(losses)
        return loss + self._l2 * _total([p * p for p in parameters])

    def _gradients(self, columns: Sequence[Column], parameters: Sequence[float]) -> list[float]:
        structure = self._structure
        points = len(columns[structure.tape.slots[structure.loss]])
        seed = self._changes.gradient / points if self._mean else self._changes.gradient
        found = structure.tape.backward(columns, {structure.loss: [seed] * points}, skip=structure.fixed)
        shares = [found[slot] for slot in self._slots]
        decay = 2.0 * self._l2 * self._changes.gradient
        return [decay * p + _total(share or [0.0]) for p, share in zip(parameters, shares, strict=True)]

    def _update(
        self, parameters: Sequence[float], gradients: Sequence[float], kept: dict[str, list[float]], step: int
    ) -> list[float]:
        rate = self._rate(step)
        updated = self._optimiser.update(list(parameters), list(gradients), kept, rate, step + 1, self._settings)
        if self._changes.frozen or self._changes.no_bias:
            updated = [parameters[place] if place in self._biases else p for place, p in enumerate(updated)]
        return updated

    def _update_by_layer(
        self, parameters: list[float], columns: list[Column], kept: dict[str, list[float]], step: int
    ) -> list[float]:
        before = {name: list(numbers) for name, numbers in kept.items()}
        for layer in reversed(self.layers):
            slots = {name: list(numbers) for name, numbers in before.items()}
            updated = self._update(parameters, self._gradients(columns, parameters), slots, step)
            parameters = list(parameters)
            for place in layer:
                parameters[place] = updated[place]
                for name, numbers in slots.items():
                    kept[name][place] = numbers[place]
                # From here on the old results meet the new weights.
                columns[self._slots[place]] = [updated[place]] * len(columns[self._slots[place]])
        return parameters

    def _rate(self, step: int) -> float:
        given = self._spec["optimizer"]["learning_rate"]
        steps = self._spec["steps"]
        if isinstance(given, Mapping):
            rate = SCHEDULES[given["schedule"]].rate(step, {"steps": steps, **given})
        else:
            rate = float(given)
        return rate if self._changes.rates is None else self._changes.rates(rate, step, steps)


def is_bias(model: NetworkModel | GraphModel | Any, name: str) -> bool:
    """Whether a parameter is a bias: of a graph, by its name."""
    return name.startswith("b") if isinstance(model, NetworkModel) else name == "b" or name.startswith("bias")


def _total(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # infinities of both signs, or sums beyond float64
        return math.nan
