"""Names the mistake behind the losses of a training.

A training loop is run with one thing changed, step by step, for as long as it gives the student's losses: most changed
loops are off at the first or second step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule_engine.diagnosis.catalogue import Explanation
from chainrule_engine.diagnosis.loop_mistakes import LOOP_MISTAKES
from chainrule_engine.diagnosis.loops import Changes, Loop, Spec
from chainrule_engine.diagnosis.precision import NOTHING, Precision, agree, is_kept_of, read_precision
from chainrule_engine.training import Training

#: So many losses are looked at, and so many values of nodes computed for it, for all changed loops together.
MAX_STEPS, MAX_WORK = 200, 3_000_000
#: What another order of roundings does to a loss of the first step, relatively, and how much more at each further one.
_NOISE = {"double": 1e-7, "single": 1e-5, "rounded": 1e-7}


@dataclass(frozen=True)
class HistoryDiagnosis:
    """What is behind a history of losses.

    explanations      the mistakes that give all of it, the simplest first; those that are given together cannot be told
                      apart by these losses
    first_departure   the position, from 0, of the first loss that is not right; None when all are
    precision         what digits the losses were read to have
    limited           why less was tried than for other trainings; "" when it was not
    """

    explanations: tuple[Explanation, ...] = ()
    first_departure: int | None = None
    precision: Precision = NOTHING
    limited: str = ""


def diagnose_history(training_spec: Spec, history: Sequence[float]) -> HistoryDiagnosis:
    """Find what is behind the losses of a training that are not right.

    training_spec   the specification, as `Training` takes it, whose errors are raised
    history         the loss of every step before its update, or of the first steps
    """
    losses = [float(loss) for loss in history]
    precision = read_precision(losses)
    steps = min(len(losses), training_spec["steps"])
    right = _right(training_spec, steps)
    departure = next((k for k, loss in enumerate(right) if not _is_right(losses[k], loss, k, precision)), None)
    if departure is None and len(losses) <= len(right):
        return HistoryDiagnosis((), None, precision)
    if departure is None:
        return HistoryDiagnosis((), len(right), precision)
    if training_spec.get("batch_size") is not None:
        return HistoryDiagnosis((), departure, precision, "mistakes are not looked for where batches are drawn")
    work = MAX_WORK
    found = []
    given = losses[:MAX_STEPS]
    for mistake in LOOP_MISTAKES.values():
        for changes in mistake.changes:
            if (loop := _loop(training_spec, changes)) is None:
                continue
            matches = 0
            for step, (loss, known) in enumerate(zip(loop.losses(), given, strict=False)):
                work -= loop.work
                if work < 0 or not _agrees(known, loss, step, precision):
                    break
                matches += 1
            if matches == len(given):
                found.append(mistake)
                break
    limited = "" if work >= 0 else "the training is too large for all mistakes to be tried"
    of = len(losses)
    explanations = tuple(
        Explanation((mistake.name,), ("loss_history",), of, of, mistake.hint, mistake.title) for mistake in found
    )
    return HistoryDiagnosis(explanations, departure, precision, limited)


def _loop(spec: Spec, changes: Changes) -> Loop | None:
    changed = changes.spec(spec)
    if changed is None:
        return None
    loop = Loop(changed, changes)
    if (changes.frozen or changes.no_bias) and not loop.has_biases:
        return None
    return None if changes.by_layer and len(loop.layers) < 2 else loop


def _right(spec: Spec, steps: int) -> list[float]:
    training = Training(spec)
    return training.advance(training.start(), steps).losses


def _is_right(given: float, loss: float, step: int, precision: Precision) -> bool:
    """Whether a loss is the given one, which may be rounded or cut."""
    return is_kept_of(given, loss, precision.unit(given), 0.0, _noise(given, loss, step, precision))


def _agrees(given: float, loss: float, step: int, precision: Precision) -> bool:
    """Whether a loss is the given one, which may be rounded."""
    return agree(given, loss, _noise(given, loss, step, precision) + 0.50001 * precision.unit(given))


def _noise(given: float, loss: float, step: int, precision: Precision) -> float:
    return _NOISE[precision.kind] * (1 + step) * max(abs(loss), abs(given))
