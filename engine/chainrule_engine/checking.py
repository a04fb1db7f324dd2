"""Gradients compared with central differences, aware of kinks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from chainrule_engine.derivatives import evaluate
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.tape import Tape

#: The cube root of the spacing of float64 at 1 balances truncation (∝ h²) against rounding (∝ 1/h).
DEFAULT_STEP = 2.0**-17


@dataclass(frozen=True)
class InputCheck:
    """The gradient of one input against its central difference.

    input      the input's id
    gradient   by the chain rule
    numeric    (f(x + h) - f(x - h)) / 2h
    error      |gradient - numeric|
    allowed    atol + rtol · the larger magnitude, plus what the difference itself is off by: its rounding, and its
               truncation as the change from h to h/2 shows it
    outcome    "passed", "failed", or "kink": the two one-sided differences disagree, so that no derivative exists here
               and any number between them is right
    interval   the one-sided differences, in order, at a kink; else None
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


def check_gradients(
    graph: Graph, *, step: float | None = None, rtol: float = 1e-6, atol: float = 1e-8
) -> GradientCheck:
    """Compare the gradient of Σ outputs by every input with central differences, at one point.

    step   the difference h for an input of magnitude at most 1, in proportion above; 2⁻¹⁷ when left out
    rtol, atol   the error allowed: atol + rtol · max(|gradient|, |numeric|)

    A gradient between two one-sided differences that disagree is at a kink, not wrong. Raises EvaluationError for a
    batch of points, or a step that is not above 0.
    """
    if graph.points is not None:
        raise EvaluationError.at(("graph", "inputs"), "gradients are checked at one point: send plain numbers")
    relative = DEFAULT_STEP if step is None else step
    if not relative > 0.0:
        raise EvaluationError.at(("step",), "the step must be above 0")
    exact = evaluate(graph)
    names = [name for name in graph.inputs if is_named(name)]
    steps = [relative * max(1.0, abs(_plain(graph, name))) for name in names]
    # One batch evaluates every nudge: point 0 is the point itself, then up and down and half of each per input.
    count = 1 + 4 * len(names)
    inputs = {name: [_plain(graph, name)] * count for name in graph.inputs}
    for position, (name, h) in enumerate(zip(names, steps, strict=True)):
        x = inputs[name]
        for offset, nudge in enumerate((h, -h, h / 2, -h / 2)):
            x[1 + 4 * position + offset] += nudge
    tape = Tape(graph)
    columns = tape.forward(inputs, count)
    totals = [math.fsum(columns[tape.slots[o]][p] for o in graph.outputs) for p in range(count)]
    # Only what feeds the outputs rounds them, and what is not finite rounds nothing.
    feeding = {tape.slots[o] for o in graph.outputs}
    for target, _, args in reversed(tape.instructions):
        if target in feeding:
            feeding.update(args)
    largest = [
        max((abs(columns[slot][p]) for slot in feeding if math.isfinite(columns[slot][p])), default=0.0)
        for p in range(count)
    ]
    checks = []
    for position, (name, h) in enumerate(zip(names, steps, strict=True)):
        first = 1 + 4 * position
        x = inputs[name]
        up, down, half_up, half_down = totals[first : first + 4]
        numeric = (up - down) / (x[first] - x[first + 1])
        gradient = float(exact.gradients[name])  # type: ignore[arg-type]  # one point: a number
        # The rounding of the largest number on the way, seen through the division by 2h.
        noise = 4 * math.ulp(max(largest[first : first + 4])) / h if math.isfinite(up - down) else 0.0
        nearer = (half_up - half_down) / (x[first + 2] - x[first + 3])
        truncation = 2 * abs(nearer - numeric) if math.isfinite(nearer - numeric) else 0.0
        allowed = atol + rtol * max(abs(gradient), abs(numeric)) + noise + truncation
        error = abs(gradient - numeric)
        right, left = (up - totals[0]) / (x[first] - x[0]), (totals[0] - down) / (x[0] - x[first + 1])
        near_right = (half_up - totals[0]) / (x[first + 2] - x[0])
        near_left = (totals[0] - half_down) / (x[0] - x[first + 3])
        # At a kink the one-sided slopes stay apart as h shrinks; of a smooth function the gap halves with h.
        gap, near_gap = abs(right - left), abs(near_right - near_left)
        low, high = sorted((near_right, near_left))
        outcome, interval = "passed", None
        if near_gap > 0.75 * gap > allowed and low - allowed <= gradient <= high + allowed:
            outcome, interval = "kink", (low, high)
        elif not (math.isfinite(error) and error <= allowed):
            outcome = "failed"
        checks.append(InputCheck(name, gradient, numeric, error, allowed, outcome, interval))
    return GradientCheck(all(check.outcome != "failed" for check in checks), relative, checks)


def _plain(graph: Graph, name: str) -> float:
    value = graph.inputs[name]
    return value[0] if isinstance(value, list) else value
