"""Which mistakes in a training loop the losses of a training tell from right ones.

Seen are the losses alone: of parameters and predictions a mistaken loop of `diagnosis` says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from chainrule_engine.diagnosis.loop_mistakes import LOOP_MISTAKES
from chainrule_engine.diagnosis.loops import Changes, Loop, Spec
from chainrule_engine.exercises.reasons import Reason, differ
from chainrule_engine.exercises.strength import Missed, Strength
from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.credit import has_full_marks
from chainrule_engine.grading.tasks import Check, Task

#: So many steps more than asked for are run, to tell what never shows from what shows later.
_MORE = 8
#: So many values of nodes are computed at most.
_WORK = 1_000_000


@dataclass(frozen=True)
class _History:
    """The losses of a mistaken loop that are not all right, some beyond the last that is asked for.

    first  the position of the first that is not right
    """

    losses: Sequence[float]
    first: int


def loop_strength(task: Task) -> Strength | None:
    """Look at every known mistake in a training loop; None where that would take too long, or batches are drawn."""
    spec = task.training
    assert spec is not None, "an evaluation has no loop"
    steps = spec["steps"]
    right = Loop(spec, Changes())
    variants = sum(len(mistake.changes) for mistake in LOOP_MISTAKES.values())
    if spec.get("batch_size") is not None or variants * right.work * (steps + _MORE) > _WORK:
        return None
    truth = list(islice(right.losses(), steps + _MORE))
    caught, partly, missed, impossible = [], {}, [], []
    same: dict[tuple[str, ...], dict[str, None]] = {}
    for mistake in LOOP_MISTAKES.values():
        histories = list(_histories(spec, mistake.changes, truth))
        marks = [_gives_full_marks(task, history.losses[:steps]) for history in histories]
        if not histories:
            impossible.append(mistake.name)
        elif all(marks):
            missed.append(Missed(mistake.name, _reason(task, histories[0], steps)))
        elif any(marks):
            partly[mistake.name] = "another way to make it"
        else:
            caught.append(mistake.name)
        for history, full in zip(histories, marks, strict=True):
            if not full:
                told = tuple(f"{0.0 + loss:.8e}" for loss in history.losses[:steps])
                same.setdefault(told, {})[mistake.name] = None
    groups = sorted({tuple(names) for names in same.values() if len(names) > 1})
    return Strength(tuple(caught), partly, tuple(missed), tuple(impossible), tuple(groups))


def _histories(spec: Spec, several: Sequence[Changes], truth: Sequence[float]) -> Iterator[_History]:
    """Yield the losses of loops with these changes; of those that change nothing none."""
    for changes in several:
        changed = changes.spec(spec)
        if changed is None:
            continue
        losses = list(islice(Loop(changed, changes).losses(), len(truth)))
        first = next(
            (k for k, (loss, right) in enumerate(zip(losses, truth, strict=True)) if differ(loss, right)), None
        )
        if first is not None:
            yield _History(losses, first)


def _gives_full_marks(task: Task, losses: Sequence[float]) -> bool:
    """Tell whether these losses, and all else right, earn everything."""
    members = {member: task.truth.member(member) for member in task.truth.members}
    return has_full_marks(task, Answers(members | {"loss_history": list(losses)}))


def _is_shown(check: Check) -> bool:
    return all(key.partition(".")[0] == "loss_history" for key in check.keys)


def _reason(task: Task, history: _History, steps: int) -> Reason:
    checks = [check for check in task.checks if check.points]
    if not all(map(_is_shown, checks)):
        return Reason("losses_alone", "the losses do not show it; whether the other numbers do was not tried")
    shows = f"it shows from loss {history.first + 1} on"
    if history.first >= steps:
        return Reason("too_few_losses", f"{shows}, and {steps} are asked for")
    if all("loss_history" not in check.keys for check in checks):
        return Reason("not_asked", f"{shows}, and not all losses are asked for")
    return Reason("tolerance", f"{shows}, by what the comparison allows")
