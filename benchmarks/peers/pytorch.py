"""PyTorch, eager, in float64 on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.graphs import Program
from benchmarks.networks import Job

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda z: z}
_LOSSES: dict[str, Callable[[Any, Any, str], Any]] = {
    "squared_error": lambda y, t, reduction: functional.mse_loss(y[:, 0], t, reduction=reduction),
    "hinge": lambda y, t, reduction: getattr(torch.relu(1.0 - t * y[:, 0]), reduction)(),
    "cross_entropy": lambda y, t, reduction: functional.cross_entropy(y, t, reduction=reduction),
}


def training(job: Job, steps: int) -> Callable[[], list[float]]:
    """Return the training loop; an update by hand costs less than `torch.optim.SGD` does here."""
    x, t = torch.tensor(job.inputs), torch.tensor(job.targets)
    t = t.long() if job.loss == "cross_entropy" else t
    initial = [torch.tensor(numbers) for layer in job.layers for numbers in layer]
    activations = [_ACTIVATIONS[name] for name in job.activations]
    loss_of, reduction = _LOSSES[job.loss], "mean" if job.mean else "sum"

    def run() -> list[float]:
        parameters = [p.clone().requires_grad_() for p in initial]
        losses = []
        for rate in job.rates[:steps]:
            y = x
            for place, activation in enumerate(activations):
                y = activation(functional.linear(y, parameters[2 * place], parameters[2 * place + 1]))
            loss = loss_of(y, t, reduction)
            if job.l2:
                loss = loss + job.l2 * sum((p * p).sum() for p in parameters)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.sub_(gradient, alpha=rate)
            losses.append(loss.item())
        return losses

    return run


def gradient(program: Program) -> Callable[[], list[float]]:
    """Return the evaluation of a program, a tensor without dimensions for every number, and its gradient."""
    operations = {name: getattr(torch, name) for name in program.operations}

    def run() -> list[float]:
        inputs = [torch.tensor(point[0], requires_grad=True) for point in program.inputs]
        slots: list[Any] = list(inputs)
        for name, args in program.nodes:
            slots.append(operations[name](*[slots[a] for a in args]))
        slots[-1].backward()
        return [slots[-1].item(), *(0.0 if x.grad is None else x.grad.item() for x in inputs)]

    return run
