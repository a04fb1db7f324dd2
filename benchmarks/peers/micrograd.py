"""micrograd, from the package index: its moons demonstration, and graphs built of its operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from micrograd.engine import Value
from micrograd.nn import MLP

from benchmarks.graphs import Program
from benchmarks.networks import Job

_OPERATIONS: dict[str, Callable[..., Any]] = {"add": operator.add, "mul": operator.mul, "relu": lambda x: x.relu()}


def training(job: Job, steps: int) -> Callable[[], list[float]]:
    """Return the loop of the demonstration."""

    def run() -> list[float]:
        net = MLP(len(job.inputs[0]), [len(biases) for _, biases in job.layers])
        numbers = [
            n for weights, biases in job.layers for row, b in zip(weights, biases, strict=True) for n in (*row, b)
        ]
        for parameter, number in zip(net.parameters(), numbers, strict=True):
            parameter.data = number
        losses = []
        for rate in job.rates[:steps]:
            scores = [net([Value(x) for x in row]) for row in job.inputs]
            margins: list[Any] = [(1 + -t * y).relu() for y, t in zip(scores, job.targets, strict=True)]
            loss = sum(margins) * (1.0 / len(margins)) + job.l2 * sum(p * p for p in net.parameters())
            net.zero_grad()
            loss.backward()
            for parameter in net.parameters():
                parameter.data -= rate * parameter.grad
            losses.append(loss.data)
        return losses

    return run


def gradient(program: Program) -> Callable[[], list[float]]:
    """Return the evaluation of a program of additions, products and relus, and its gradient by the inputs."""

    def run() -> list[float]:
        inputs = [Value(point[0]) for point in program.inputs]
        slots: list[Any] = list(inputs)
        for name, args in program.nodes:
            slots.append(_OPERATIONS[name](*[slots[a] for a in args]))
        slots[-1].backward()
        return [slots[-1].data, *(x.grad for x in inputs)]

    return run
