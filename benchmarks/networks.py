"""Trainings of small networks: a job per row, in the form of the wire and in plain numbers for the peers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.race import OURS, Contender, Effort, Figure, Times, race
from chainrule_engine.training import train

MOONS = Path(__file__).resolve().parent.parent / "examples" / "data" / "moons.json"
NOTEBOOK_INPUTS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
NOTEBOOK_TARGETS = [1.0, -1.0, -1.0, 1.0]

CLASS, MICROGRAD, PYTORCH, NUMPY = "the notebook's class", "micrograd", "PyTorch eager", "NumPy by hand"
JAX, JAX_COLD = "JAX", "JAX with its compilation"


@dataclass(frozen=True)
class Job:
    """A full-batch training by plain gradient descent.

    spec    the wire's form of it
    """

    spec: dict[str, Any]

    @property
    def inputs(self) -> list[list[float]]:
        """One row per point."""
        rows: list[list[float]] = self.spec["data"]["inputs"]
        return rows

    @property
    def targets(self) -> list[float]:
        """One number, or the index of a class, per point."""
        targets: list[float] = self.spec["data"]["targets"]
        return targets

    @property
    def loss(self) -> str:
        """The loss of one point: squared_error, hinge or cross_entropy."""
        name: str = self.spec["loss"]["name"]
        return name

    @property
    def mean(self) -> bool:
        """Whether the points' losses are averaged, not added up."""
        return bool(self.spec["loss"]["reduction"] == "mean")

    @property
    def l2(self) -> float:
        """The factor of Σp² in the loss."""
        return float(self.spec["loss"].get("l2", 0.0))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return int(self.spec["steps"])

    @cached_property
    def activations(self) -> list[str]:
        """One per layer."""
        model = self.spec["model"]
        names = [model["activation"]] * len(model["layers"])
        names[-1] = model.get("output_activation", names[-1])
        return names

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate of each step."""
        rate = self.spec["optimizer"]["learning_rate"]
        if isinstance(rate, float):
            return [rate] * self.steps
        start, end, steps = rate["start"], rate["end"], rate["steps"]
        return [start + (end - start) * k / steps for k in range(self.steps)]

    @cached_property
    def layers(self) -> list[tuple[list[list[float]], list[float]]]:
        """The weights, a row per neuron, and the biases that the training begins with."""
        model = self.spec["model"]
        scheme, rng = model["init"]["scheme"], random.Random(model["init"]["seed"])
        layers, fan_in = [], model["inputs"]
        for width in model["layers"]:
            weights, biases = [], []
            for _ in range(width):
                weights.append([rng.uniform(-1, 1) for _ in range(fan_in)])
                biases.append(rng.uniform(-1, 1) if scheme == "lecture" else 0.0)
            layers.append((weights, biases))
            fan_in = width
        return layers


def network(
    widths: Sequence[int],
    activation: str,
    output_activation: str,
    data: tuple[list[list[float]], list[float]],
    loss: dict[str, Any],
    rate: float | dict[str, Any],
    steps: int,
    init: dict[str, Any],
) -> Job:
    """Return the training of a network, its widths given from the inputs on."""
    model = {
        "inputs": widths[0],
        "layers": list(widths[1:]),
        "activation": activation,
        "output_activation": output_activation,
        "init": init,
    }
    inputs, targets = data
    return Job(
        {
            "model": model,
            "data": {"inputs": inputs, "targets": targets},
            "loss": loss,
            "optimizer": {"name": "sgd", "learning_rate": rate},
            "steps": steps,
        }
    )


def notebook_job(steps: int) -> Job:
    """Return the training of the lecture's notebook."""
    return network(
        (3, 4, 4, 1),
        "tanh",
        "tanh",
        (NOTEBOOK_INPUTS, NOTEBOOK_TARGETS),
        {"name": "squared_error", "reduction": "sum"},
        0.001,
        steps,
        {"scheme": "lecture", "seed": 0},
    )


def moons_job(activation: str, steps: int) -> Job:
    """Return the training of micrograd's demonstration, without the accuracy that it prints."""
    data = json.loads(MOONS.read_text(encoding="utf-8"))
    return network(
        (2, 16, 16, 1),
        activation,
        "linear",
        (data["inputs"], data["targets"]),
        {"name": "hinge", "reduction": "mean", "l2": 1e-4},
        {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": steps},
        steps,
        {"scheme": "micrograd", "seed": 1337},
    )


def digits_job(steps: int, effort: Effort) -> Job | None:
    """Return the training of a classifier of scikit-learn's handwritten digits; None where they are not installed."""
    digits = effort.peer("the row of digits", "digits")
    if digits is None:
        return None
    return network(
        (64, 32, 10),
        "tanh",
        "linear",
        digits.load(),
        {"name": "cross_entropy", "reduction": "mean"},
        0.5,
        steps,
        {"scheme": "micrograd", "seed": 0},
    )


# ------------------------------------------------------------------------------------------------------ the rows


def ours(job: Job) -> Contender:
    """Return chainrule: the whole job, from the specification to the result."""
    return Contender(OURS, lambda: train(job.spec)["loss_history"])


#: name → (module of `benchmarks.peers`, steps that it takes of a job; None is all of them)
TRAINERS = {
    CLASS: ("notebook_class", None),
    MICROGRAD: ("micrograd", 1),
    PYTORCH: ("pytorch", None),
    JAX: ("jax", None),
    NUMPY: ("numpy", None),
}


def trainer(name: str, job: Job, effort: Effort) -> Iterator[Contender]:
    """Yield the contender of a name, if it takes part."""
    if name == JAX_COLD:
        module = effort.peer("JAX", "jax")
        if module is not None:
            compile_anew = module.training
            # A function of its own each time: nothing that JAX remembers fits it.
            yield Contender(name, lambda: compile_anew(job, job.steps)())
        return
    module_name, some = TRAINERS[name]
    module = effort.peer(name, module_name)
    if module is not None:
        steps = some or job.steps
        yield Contender(name, module.training(job, steps), steps / job.steps)


def training_race(job: Job, names: Sequence[str], effort: Effort) -> Times:
    """Let chainrule and the named peers train the same network."""
    return race([ours(job), *(c for name in names for c in trainer(name, job, effort))], effort)


def _row(job: Job, unit: str, targets: dict[str, float | None], effort: Effort) -> Iterator[Figure]:
    times = training_race(job, list(targets), effort)
    yield times.took(unit=unit)
    yield from times.ratios(targets)


def notebook(effort: Effort) -> Iterator[Figure]:
    """The notebook's training: 3-4-4-1 tanh, 4 points, 1000 steps."""
    targets = {CLASS: 1500.0, PYTORCH: 100.0, JAX: 1.0, JAX_COLD: 100.0, NUMPY: None}
    yield from _row(notebook_job(20 if effort.quick else 1000), "ms", targets, effort)


def moons(effort: Effort) -> Iterator[Figure]:
    """micrograd's moons: 2-16-16-1 relu, 100 points, 100 steps."""
    targets = {MICROGRAD: 5000.0, PYTORCH: 10.0, JAX: 0.7, JAX_COLD: None, NUMPY: None}
    yield from _row(moons_job("relu", 2 if effort.quick else 100), "ms", targets, effort)


def moons_tanh(effort: Effort) -> Iterator[Figure]:
    """The same with tanh."""
    targets = {PYTORCH: 4.0, JAX: 0.7, JAX_COLD: None, NUMPY: None}
    yield from _row(moons_job("tanh", 2 if effort.quick else 100), "ms", targets, effort)


def digits(effort: Effort) -> Iterator[Figure]:
    """Digits: 64-32-10 tanh, cross entropy, 1,797 pictures in one batch, 20 steps."""
    job = digits_job(1 if effort.quick else 20, effort)
    if job is not None:
        targets = {PYTORCH: 1.5, JAX: 0.5, JAX_COLD: None, NUMPY: None}
        yield from _row(job, "ms", targets, effort)
