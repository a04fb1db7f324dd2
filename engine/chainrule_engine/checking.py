"""Gradients compared with central differences, which know how far they can be trusted.

A difference is off by its truncation, which shrinks with the step h, and by its rounding, which grows as h shrinks. So
each input is nudged by a ladder of steps; each rung estimates its own error, and the best is taken. What the two sides
of a point say about it at the finest rungs tells a kink or a jump from a smooth point beside one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from chainrule_engine.derivatives import evaluate
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.tape import Tape

#: The cube root of the spacing of float64 at 1 balances truncation (∝ h²) against rounding (∝ 1/h).
DEFAULT_STEP = 2.0**-17

#: What can come of the check of an input; see `InputCheck`.
OUTCOMES = ("passed", "failed", "kink", "undecided")

#: The ladder: so many steps, each so many times the one before it, each used whole and halved, up and down.
RUNGS, SHRINK = 5, 2.0**-6
_NUDGES = 4 * RUNGS

#: A verdict that leans on the differences needs them so many times surer than what they are to tell apart.
_SURE = 8.0
#: One-sided slopes disagree when they differ by so many times the estimate of their rounding.
_SEEN = 256.0
#: As h halves, the gap between the one-sided slopes of a smooth function halves, a kink's stays, a jump's doubles.
_KINK, _JUMP = 0.75, 1.25


@dataclass(frozen=True)
class InputCheck:
    """The gradient of one input against its central difference.

    input      the input's id
    gradient   by the chain rule
    numeric    (f(x + h) - f(x - h)) / 2h at the rung with the smallest estimated error, of those that no finer one
               contradicts; NaN where none is finite
    error      |gradient - numeric|
    allowed    atol + rtol · the larger magnitude, plus what the difference itself is off by: its rounding, and its
               truncation as the change from h to h/2 shows it
    outcome    "passed"
               "failed": the gradient is not finite, or differs from the difference by clearly more than is allowed
               "kink": the two one-sided slopes disagree however near, and any number between them is right
               "undecided": the differences cannot tell, because the function jumps here, is not finite on both sides
               as near as they look, or they are too coarse
    interval   the one-sided slopes, in order, at a kink; else None
    """

    input: str
    gradient: float
    numeric: float
    error: float
    allowed: float
    outcome: str
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form."""
        data = {name: getattr(self, name) for name in ("input", "gradient", "numeric", "error", "allowed", "outcome")}
        return data if self.interval is None else data | {"interval": list(self.interval)}


@dataclass(frozen=True)
class GradientCheck:
    """The checks of all inputs; `passed` when none failed."""

    passed: bool
    step: float
    checks: list[InputCheck]

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form."""
        return {
            "passed": self.passed,
            "step": self.step,
            "checks": [check.to_dict() for check in self.checks],
        }


def cost(graph: Graph) -> int:
    """The work of a check, in evaluations of an input or node at a point."""
    checked = sum(map(is_named, graph.inputs))
    return (len(graph.inputs) + len(graph.nodes)) * (1 + _NUDGES * checked)


def check_gradients(
    graph: Graph, *, step: float | None = None, rtol: float = 1e-6, atol: float = 1e-8
) -> GradientCheck:
    """Compare the gradient of Σ outputs by every input with central differences, at one point.

    step   the largest difference h for an input of magnitude at most 1, in proportion above; 2⁻¹⁷ when left out. The
           ladder goes down from it to 2⁻²⁴ of it.
    rtol, atol   the error allowed: atol + rtol · max(|gradient|, |numeric|)

    Raises EvaluationError for a batch of points, or a step that is not above 0.
    """
    if graph.points is not None:
        raise EvaluationError.at(("graph", "inputs"), "gradients are checked at one point: send plain numbers")
    relative = DEFAULT_STEP if step is None else step
    if not relative > 0.0:
        raise EvaluationError.at(("step",), "the step must be above 0")
    exact = evaluate(graph)
    names = [name for name in graph.inputs if is_named(name)]
    point = {name: _plain(graph, name) for name in graph.inputs}
    # One batch evaluates every nudge: point 0 is the point itself, then the ladder of one input after the other.
    count = 1 + _NUDGES * len(names)
    inputs = {name: [x] * count for name, x in point.items()}
    for position, name in enumerate(names):
        first = 1 + _NUDGES * position
        inputs[name][first : first + _NUDGES] = _ladder(point[name], relative)
    totals, largest = _run(graph, inputs, count)
    checks = []
    for position, name in enumerate(names):
        rungs = []
        for first in range(1 + _NUDGES * position, 1 + _NUDGES * (position + 1), 4):
            p = slice(first, first + 4)
            rung = _look(point[name], totals[0], inputs[name][p], totals[p], max(largest[0], *largest[p]))
            rungs += [rung] if rung else []
        gradient = float(exact.gradients[name])  # type: ignore[arg-type]  # one point: a number
        checks.append(_judge(name, gradient, rungs, rtol, atol))
    return GradientCheck(all(check.outcome != "failed" for check in checks), relative, checks)


def _plain(graph: Graph, name: str) -> float:
    value = graph.inputs[name]
    return value[0] if isinstance(value, list) else value


def _ladder(x: float, relative: float) -> list[float]:
    """Nudge x at every rung, from the coarsest: by h, -h, h/2, -h/2."""
    nudged = []
    for rung in range(RUNGS):
        h = relative * max(1.0, abs(x)) * SHRINK**rung
        nudged += [x + h, x - h, x + h / 2, x - h / 2]
    return nudged


def _run(graph: Graph, inputs: dict[str, list[float]], count: int) -> tuple[list[float], list[float]]:
    """Return Σ outputs at every point, and the largest finite number on the way to them: what rounds the sum."""
    tape = Tape(graph)
    columns = tape.forward(inputs, count)
    outputs = [tape.slots[output] for output in graph.outputs]
    totals = [reduce(add, numbers) for numbers in zip(*(columns[slot] for slot in outputs), strict=True)]
    feeding = set(outputs)
    for target, _, args in reversed(tape.instructions):
        if target in feeding:
            feeding.update(args)
    largest = [0.0] * count
    for slot in feeding:
        largest = [max(m, abs(x)) if math.isfinite(x) else m for m, x in zip(largest, columns[slot], strict=True)]
    return totals, largest


@dataclass(frozen=True, slots=True)
class _Rung:
    """What the nudges by one h say.

    slope        the central difference over h
    uncertainty  what it may be off by: rounding and truncation
    noise        what the rounding alone may be
    gap          between the one-sided slopes over h
    left, right  the one-sided slopes over h/2
    """

    slope: float
    uncertainty: float
    noise: float
    gap: float
    left: float
    right: float


def _look(x: float, f: float, nudged: Sequence[float], totals: Sequence[float], largest: float) -> _Rung | None:
    """Form the differences of one rung; None where it is too fine for x, or not everything is finite."""
    up, down, half_up, half_down = nudged
    f_up, f_down, f_half_up, f_half_down = totals
    if not down < half_down < x < half_up < up:
        return None
    slope = (f_up - f_down) / (up - down)
    gap = abs((f_up - f) / (up - x) - (f - f_down) / (x - down))
    left, right = (f - f_half_down) / (x - half_down), (f_half_up - f) / (half_up - x)
    truncation = 2.0 * abs((f_half_up - f_half_down) / (half_up - half_down) - slope)
    noise = 4.0 * math.ulp(largest) / (half_up - half_down)
    found = _Rung(slope, noise + truncation, noise, gap, left, right)
    return found if math.isfinite(gap + left + right + truncation + noise) else None


def _judge(name: str, gradient: float, rungs: Sequence[_Rung], rtol: float, atol: float) -> InputCheck:
    """Decide on one input; the rungs are those that can be used, from the coarsest to the finest."""
    believed = [rung for place, rung in enumerate(rungs) if not _is_contradicted(rung, rungs[place + 1 :])]
    best = min(believed, key=lambda rung: rung.uncertainty, default=None)
    numeric, uncertainty = (best.slope, best.uncertainty) if best else (math.nan, 0.0)
    error = abs(gradient - numeric)
    size = max(abs(gradient), abs(numeric)) if best else abs(gradient)
    tolerance = atol + rtol * size

    def verdict(outcome: str, interval: tuple[float, float] | None = None) -> InputCheck:
        return InputCheck(name, gradient, numeric, error, tolerance + uncertainty, outcome, interval)

    if not math.isfinite(gradient):
        return verdict("failed")
    if best is None:
        return verdict("undecided")
    apart = _where_sides_disagree(rungs)
    if apart is not None and apart.gap > atol + rtol * max(abs(apart.left), abs(apart.right)):
        growth = abs(apart.right - apart.left) / apart.gap
        if growth > _JUMP:
            return verdict("undecided")
        if growth > _KINK:
            low, high = sorted((apart.left, apart.right))
            slack = tolerance + 2.0 * apart.noise
            inside = low - slack <= gradient <= high + slack
            return verdict("kink", (low, high)) if inside else verdict("failed")
    if error <= tolerance or (error <= tolerance + uncertainty and _SURE * uncertainty <= size):
        return verdict("passed")
    return verdict("failed" if error > tolerance + _SURE * uncertainty else "undecided")


def _is_contradicted(rung: _Rung, finer: Sequence[_Rung]) -> bool:
    """Tell whether a finer rung, for all its noise, shows another slope: then this one stepped over something."""
    return any(abs(other.slope - rung.slope) > _SURE * (other.noise + rung.uncertainty) for other in finer)


def _where_sides_disagree(rungs: Sequence[_Rung]) -> _Rung | None:
    """Find the finest rung whose one-sided slopes differ by more than rounding.

    None where a finer one would have seen that gap and sees none: then it comes from something beside this point.
    """
    for place in range(len(rungs) - 1, -1, -1):
        gap = rungs[place].gap
        if gap > _SEEN * rungs[place].noise:
            gone = any(gap > 2.0 * _SEEN * finer.noise for finer in rungs[place + 1 :])
            return None if gone else rungs[place]
    return None
