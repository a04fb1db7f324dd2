"""JAX in float64, compiled: a training is one `lax.scan` over its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.graphs import Program
from benchmarks.networks import Job

jax.config.update("jax_enable_x64", True)

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": jnp.tanh, "relu": jax.nn.relu, "linear": lambda z: z}


def _cross_entropy(y: Any, t: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(y), t.astype(int)[:, None], axis=1)


_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "squared_error": lambda y, t: (y[:, 0] - t) ** 2,
    "hinge": lambda y, t: jax.nn.relu(1.0 - t * y[:, 0]),
    "cross_entropy": _cross_entropy,
}


def training(job: Job, steps: int) -> Callable[[], list[float]]:
    """Return the training, compiled at its first run."""
    x, t = jnp.array(job.inputs), jnp.array(job.targets)
    rates = jnp.array(job.rates[:steps])
    initial = [(jnp.array(w).T, jnp.array(b)) for w, b in job.layers]
    activations = [_ACTIVATIONS[name] for name in job.activations]
    reduce = jnp.mean if job.mean else jnp.sum

    def loss_of(parameters: Any, x: Any, t: Any) -> Any:
        y = x
        for (w, b), activation in zip(parameters, activations, strict=True):
            y = activation(y @ w + b)
        loss = reduce(_LOSSES[job.loss](y, t))
        if job.l2:
            loss += job.l2 * sum((p * p).sum() for p in jax.tree.leaves(parameters))
        return loss

    @jax.jit
    def train(parameters: Any, x: Any, t: Any, rates: Any) -> Any:
        def step(parameters: Any, rate: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(parameters, x, t)
            return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), loss

        return jax.lax.scan(step, parameters, rates)

    def run() -> list[float]:
        parameters, losses = train(initial, x, t, rates)
        jax.block_until_ready(parameters)
        answer: list[float] = np.asarray(losses).tolist()
        return answer

    return run


def gradients_at_points(program: Program) -> Callable[[], Any]:
    """Return `vmap(value_and_grad)` of a program over all its points, compiled at its first run.

    Gives two arrays: the values, and a row of gradients per input.
    """
    points = jnp.array(program.inputs)
    function = jax.jit(jax.vmap(jax.value_and_grad(_function(program)), in_axes=1, out_axes=(0, 1)))
    return lambda: jax.block_until_ready(function(points))


def gradient(program: Program) -> Callable[[], list[float]]:
    """Return the evaluation of a program at its one point, and its gradient, compiled at its first run."""
    point = jnp.array([column[0] for column in program.inputs])
    function = jax.jit(jax.value_and_grad(_function(program)))

    def run() -> list[float]:
        value, gradients = jax.block_until_ready(function(point))
        return [float(value), *np.asarray(gradients).tolist()]

    return run


def _function(program: Program) -> Callable[[Any], Any]:
    operations = {"add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "relu": jax.nn.relu}
    operations |= {name: getattr(jnp, name) for name in program.operations if name not in operations}

    def function(inputs: Any) -> Any:
        slots = list(inputs)
        for name, args in program.nodes:
            slots.append(operations[name](*[slots[a] for a in args]))
        return slots[-1]

    return function
