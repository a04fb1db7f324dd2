"""The class of the lecture's notebook, as it stands there: an object and a closure for every number of every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.seed_notebook import MLP

from benchmarks.networks import Job


def training(job: Job, steps: int) -> Callable[[], list[float]]:
    """Return the notebook's loop, with the one of its two lines for the loss that it uses."""

    def run() -> list[float]:
        net: Any = MLP(len(job.inputs[0]), [len(biases) for _, biases in job.layers])
        numbers = [
            n for weights, biases in job.layers for row, b in zip(weights, biases, strict=True) for n in (*row, b)
        ]
        for parameter, number in zip(net.parameters(), numbers, strict=True):
            parameter.data = number
        losses = []
        for rate in job.rates[:steps]:
            predictions = [net(row) for row in job.inputs]
            loss: Any = sum(abs(y - t) ** 2 for y, t in zip(predictions, job.targets, strict=True))
            losses.append(loss.data)
            for parameter in net.parameters():
                parameter.grad = 0
            loss.backward()
            for parameter in net.parameters():
                parameter.data -= rate * parameter.grad
        return losses

    return run
