"""Losses of one point, as expressions of `Value`, so that one definition serves the lecture's loop and the tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from chainrule_engine.value import Value, apply

Outputs = Sequence[Value]

#: How the losses of the points become one number.
REDUCTIONS = {"sum": "added up", "mean": "added up and divided by the number of points"}


@dataclass(frozen=True)
class Loss:
    """A loss of one point.

    name         its word on the wire
    value        (outputs, targets) → the loss; as many targets as outputs
    takes        what the targets must be, in words
    accepts      whether a number is a target
    threshold    parts the targets in two: a prediction counts as right where it is above 0 just if its target is above
                 this. None with classes: there it does where the largest output is that of the class
    classes      the target is a class index, handed to `value` as one number per class: 1 for the class, 0 for others
    """

    name: str
    value: Callable[[Outputs, Outputs], Value]
    takes: str
    accepts: Callable[[float], bool]
    threshold: float | None = 0.0
    classes: bool = False

    def correct(self, outputs: Sequence[float], targets: Sequence[float]) -> bool:
        """Tell whether a prediction counts as right for the accuracy."""
        threshold = self.threshold
        if threshold is None:
            return outputs.index(max(outputs)) == targets.index(1.0)
        return all((y > 0) == (t > threshold) for y, t in zip(outputs, targets, strict=True))


def _total(terms: Sequence[Value]) -> Value:
    return reduce(add, terms)


def _squared_error(outputs: Outputs, targets: Outputs) -> Value:
    return _total([(y - t) ** 2 for y, t in zip(outputs, targets, strict=True)])


def _absolute_error(outputs: Outputs, targets: Outputs) -> Value:
    return _total([abs(y - t) for y, t in zip(outputs, targets, strict=True)])


def _hinge(outputs: Outputs, targets: Outputs) -> Value:
    return _total([(1 - t * y).relu() for y, t in zip(outputs, targets, strict=True)])


def _binary_cross_entropy(outputs: Outputs, targets: Outputs) -> Value:
    # -t·log σ(z) - (1 - t)·log(1 - σ(z)), without the overflow of either logarithm.
    return _total([z.softplus() - t * z for z, t in zip(outputs, targets, strict=True)])


def _cross_entropy(outputs: Outputs, targets: Outputs) -> Value:
    # -log softmax(z)[class] = log Σ exp(z - m) - (z[class] - m) for any m; the largest z keeps exp from overflowing,
    # and m being arbitrary, no gradient belongs to it.
    largest = reduce(lambda x, y: apply("max", x, y), outputs).stop_gradient()
    shifted = [z - largest for z in outputs]
    chosen = _total([t * d for d, t in zip(shifted, targets, strict=True)])
    return _total([d.exp() for d in shifted]).log() - chosen


def _any_number(number: float) -> bool:
    return True


_TABLE = (
    Loss("squared_error", _squared_error, "any number", _any_number),
    Loss("absolute_error", _absolute_error, "any number", _any_number),
    Loss("hinge", _hinge, "-1 or 1", lambda t: t in (-1.0, 1.0)),
    Loss(
        "binary_cross_entropy",
        _binary_cross_entropy,
        "a number from 0 to 1",
        lambda t: 0.0 <= t <= 1.0,
        threshold=0.5,
    ),
    Loss(
        "cross_entropy",
        _cross_entropy,
        "a class index",
        lambda t: t >= 0.0 and t == int(t),
        threshold=None,
        classes=True,
    ),
)

#: Every loss by its name.
LOSSES = {loss.name: loss for loss in _TABLE}
