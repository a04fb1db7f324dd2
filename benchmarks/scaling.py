"""How the time grows: per node of a graph on the tape, and per step of a training, from 10 to a million.

Each contender takes part up to the size at which it becomes too slow to wait for, its compilation included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks.graphs import ARITHMETIC, on_the_tape, random_program
from benchmarks.networks import JAX, MICROGRAD, NUMPY, PYTORCH, TRAINERS, Job, network
from benchmarks.race import OURS, Contender, Effort, compare
from chainrule_engine.training import Training

CASADI = "CasADi SX"
POINTS = 32
#: So many seconds may a contender take to compile and run once.
PATIENCE = 40.0
#: The learning rate: so small that a network of any width stays in place.
RATE = 1e-9

#: name → (size, seconds) by size
Curves = dict[str, list[tuple[float, float]]]
Answers = Callable[[], Sequence[float]]


class _Clock:
    """Remembers who has become too slow: preparing and one run may take `patience` seconds."""

    def __init__(self, effort: Effort) -> None:
        self.patience = 1.0 if effort.quick else PATIENCE
        self.rounds = 1 if effort.quick else 5
        self.curves: Curves = {}
        self._waited: dict[str, tuple[float, float]] = {}

    def admits(self, name: str, size: float) -> bool:
        """Tell whether a contender can be expected to finish at this size; growing a little faster than evenly."""
        before, waited = self._waited.get(name, (size, 0.0))
        return waited * (size / before) ** 1.2 <= self.patience

    def run(
        self, name: str, size: float, make: Callable[[], Answers], steps: int, expected: Sequence[float] | None
    ) -> Sequence[float]:
        """Make a call that takes `steps` steps, compare its answer, time it, and return the answer."""
        start = time.process_time()
        call = make()
        answer = call()
        self._waited[name] = (size, time.process_time() - start)
        if expected is not None:
            compare(Contender(name, call), answer[: len(expected)], expected[: len(answer)])
        once = _timed(call, 1)
        repeats = max(1, min(1000, math.ceil(0.05 / max(once, 1e-9))))
        rounds = max(1, min(self.rounds, int(self.patience / 4 / max(once, 1e-9))))
        seconds = median(_timed(call, repeats) for _ in range(rounds)) / steps
        self.curves.setdefault(name, []).append((size, seconds))
        print(f"  {size:>9,.0f}  {name:<22}{seconds * 1e6:14.2f} µs", flush=True)
        return answer


def _timed(call: Answers, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def nodes(effort: Effort) -> Curves:
    """Return, by name, the seconds of an evaluation forward and backward at one point, by the number of nodes."""
    clock = _Clock(effort)
    modules = {PYTORCH: "pytorch", JAX: "jax", MICROGRAD: "micrograd", CASADI: "casadi"}
    print("forward and backward at one point, by nodes")
    for size in _sizes(effort):
        program = random_program(size, min(100, max(2, size // 10)), ARITHMETIC)
        count = len(program.nodes)
        expected = clock.run(OURS, count, partial(on_the_tape, program.graph()), 1, None)
        for name, module_name in modules.items():
            module = effort.peer(name, module_name)
            if module is not None and clock.admits(name, count):
                clock.run(name, count, partial(module.gradient, program), 1, expected)
    return clock.curves


def parameters(effort: Effort) -> Curves:
    """Return, by name, the seconds of a training step at 32 points, by the number of parameters."""
    clock = _Clock(effort)
    print(f"a step of a training at {POINTS} points, by parameters")
    for size in _sizes(effort):
        # w·w + w of the hidden layer, and w + 1 of the output.
        width = max(1, round(math.sqrt(size + 0.0) - 1))
        count = (width + 1) ** 2
        job = _job(width, 200 if size <= 10_000 else 10)
        expected = clock.run(OURS, count, partial(_ours, job), job.steps, None)
        for name in (PYTORCH, JAX, NUMPY, MICROGRAD):
            module = effort.peer(name, TRAINERS[name][0])
            if module is not None and clock.admits(name, count):
                steps = TRAINERS[name][1] or job.steps
                clock.run(name, count, partial(module.training, job, steps), steps, expected)
    return clock.curves


def _ours(job: Job) -> Answers:
    training = Training(job.spec)

    def call() -> list[float]:
        records = training.advance(training.start(), job.steps)
        return [record.loss for record in records]

    return call


def _job(width: int, steps: int) -> Job:
    inputs = [[math.sin(1.0 + point * width + place) for place in range(width)] for point in range(POINTS)]
    targets = [1.0 if point % 2 else -1.0 for point in range(POINTS)]
    return network(
        (width, width, 1),
        "relu",
        "linear",
        (inputs, targets),
        {"name": "hinge", "reduction": "mean"},
        RATE,
        steps,
        {"scheme": "micrograd", "seed": 0},
    )


def _sizes(effort: Effort) -> list[int]:
    return [10, 100] if effort.quick else [10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000]


# --------------------------------------------------------------------------------------------------------- words


def crossings(curves: Mapping[str, Sequence[tuple[float, float]]], what: str) -> Iterator[str]:
    """Yield a sentence for each peer: where it and chainrule are as fast as each other, and how far apart elsewhere."""
    ours = dict(curves[OURS])
    for name, curve in curves.items():
        ratios = [(size, seconds / ours[size]) for size, seconds in curve if size in ours]
        if name == OURS or not ratios:
            continue
        first, last = ratios[0], ratios[-1]
        at = [_between(low, high) for low, high in pairwise(ratios) if (low[1] < 1.0) != (high[1] < 1.0)]
        ends = f"{_times(first[1])} at {first[0]:,.0f} {what}"
        if last is not first:
            ends += f", {_times(last[1])} at {last[0]:,.0f}"
        if last[0] < max(ours):
            ends += f", beyond which it would take more than {PATIENCE:g} s to prepare or run"
        if at:
            where = " and ".join(f"{_rounded(size):,}" for size in at)
            yield f"**{name}** crosses at about {where} {what}: {ends}."
        else:
            yield f"**{name}** does not cross: {ends}."


def _times(ratio: float) -> str:
    if ratio >= 1.0:
        return f"{ratio:,.0f} times slower" if ratio >= 10 else f"{ratio:.1f} times slower"
    return f"{1 / ratio:,.0f} times faster" if ratio <= 0.1 else f"{1 / ratio:.1f} times faster"


def _between(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Return the size at which the ratio is 1, on a straight line between two points of the plot."""
    share = math.log(low[1]) / (math.log(low[1]) - math.log(high[1]))
    return math.exp(math.log(low[0]) + share * (math.log(high[0]) - math.log(low[0])))


def _rounded(size: float) -> int:
    digits = len(str(int(size)))
    return int(round(size, 2 - digits)) if digits > 2 else round(size)


def measure(effort: Effort) -> dict[str, Any]:
    """Return both families of curves."""
    return {"nodes": nodes(effort), "parameters": parameters(effort)}
