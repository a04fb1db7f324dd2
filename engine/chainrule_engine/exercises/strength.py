"""Which known mistakes an exercise tells from a right answer, and why it cannot tell the others.

A mistake is caught when an engine that makes it does not get full marks; the task's own checks decide, with their
tolerances, bands and intervals at kinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chainrule_engine.diagnosis.mistakes import MISTAKES, Mistake
from chainrule_engine.exercises.point import Point, points_of
from chainrule_engine.exercises.reasons import HARMLESS, REASONS, Reason, differ, explain
from chainrule_engine.exercises.wrong import Wrong, WrongEngines
from chainrule_engine.grading.answers import Answers
from chainrule_engine.grading.credit import has_full_marks
from chainrule_engine.grading.tasks import Task
from chainrule_engine.grading.truth import GraphTruth, quantity


@dataclass(frozen=True)
class Missed:
    """A mistake that gets full marks, and why."""

    name: str
    reason: Reason

    @property
    def matters(self) -> bool:
        """Whether an exercise that is to be published should not miss it: one of the 46 or of a loop, not harmless."""
        known = MISTAKES.get(self.name)
        return (known is None or known.number is not None) and self.reason.kind not in HARMLESS

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form."""
        reason = self.reason
        return {
            "name": self.name,
            "reason": reason.kind,
            "node": reason.node,
            "why": reason.why,
            "advice": REASONS[reason.kind].advice,
        }


@dataclass(frozen=True)
class Strength:
    """What an exercise can tell; mistakes are in the order of `diagnosis.MISTAKES`, or of LOOP_MISTAKES for a training.

    caught          no engine with this mistake gets full marks
    partly          name → how those engines work that get full marks though others with this mistake do not
    missed          every engine with this mistake gets full marks
    not_applicable  the exercise has no place where this mistake can be made
    ambiguous       groups of caught mistakes that can give the same numbers as each other
    """

    caught: tuple[str, ...]
    partly: dict[str, str]
    missed: tuple[Missed, ...]
    not_applicable: tuple[str, ...]
    ambiguous: tuple[tuple[str, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's members."""
        return {
            "caught": list(self.caught),
            "partly": [{"name": name, "passes_with": variant} for name, variant in self.partly.items()],
            "missed": [missed.to_dict() for missed in self.missed],
            "not_applicable": list(self.not_applicable),
            "ambiguous": [list(group) for group in self.ambiguous],
        }


class Exercise:
    """A task at its points, with the engines that are wrong there."""

    def __init__(self, task: Task) -> None:
        graph = task.graph
        assert graph is not None, "a training has no graph"
        self.sheets = [_Sheet(task, point) for point in points_of(graph, task.seeds)]
        self.mistakes = self.sheets[0].engines.mistakes()

    def missed(self, mistakes: Sequence[Mistake] | None = None) -> list[Mistake]:
        """Return those of some mistakes, of all if None, with which every engine gets full marks."""
        wanted = self.mistakes if mistakes is None else mistakes
        return [mistake for mistake in wanted if all(sheet.is_missed(mistake) for sheet in self.sheets)]

    def weaknesses(self) -> list[Missed]:
        """Return what is missed, and why, without looking at what is caught."""
        return [Missed(mistake.name, self._reason(mistake)) for mistake in self.missed()]

    def strength(self) -> Strength:
        """Look at every known mistake."""
        caught, partly, missed = [], {}, []
        same: dict[tuple[str, ...], dict[str, None]] = {}
        for mistake in self.mistakes:
            runs = [list(sheet.runs(mistake)) for sheet in self.sheets]
            marks = [
                [sheet.gives_full_marks(sheet.answers(wrong)) for wrong in found]
                for sheet, found in zip(self.sheets, runs, strict=True)
            ]
            if all(full and all(full) for full in marks):
                missed.append(Missed(mistake.name, self._reason(mistake)))
                continue
            if all(map(any, marks)):
                partly[mistake.name] = runs[0][marks[0].index(True)].variant
            else:
                caught.append(mistake.name)
            # Engines differ in one way at all points only by chance: the first point speaks for all.
            first = self.sheets[0]
            for wrong, full in zip(runs[0], marks[0], strict=True):
                if not full or len(runs) > 1:
                    same.setdefault(first.told(wrong), {})[mistake.name] = None
        groups = {tuple(names) for names in same.values() if len(names) > 1}
        possible = {mistake.name for mistake in self.mistakes}
        order = {name: place for place, name in enumerate(MISTAKES)}
        return Strength(
            tuple(caught),
            partly,
            tuple(missed),
            tuple(name for name in MISTAKES if name not in possible),
            tuple(sorted(groups, key=lambda group: [order[name] for name in group])),
        )

    def _reason(self, mistake: Mistake) -> Reason:
        found = [sheet.reason(mistake, next(sheet.engines.runs(mistake))) for sheet in self.sheets]
        # At a point where nothing arrives there is less to say than at another.
        alive = [reason for reason in found if reason.kind != "no_gradient"]
        return (alive or found)[0]


class _Sheet:
    """The task at one point."""

    def __init__(self, task: Task, point: Point) -> None:
        self.point = point
        self.truth = GraphTruth(point.graph, point.seeds)
        self.task = replace(task, truth=self.truth)
        self.engines = WrongEngines(point)
        self._keys = list(dict.fromkeys(key for check in task.checks for key in check.keys))
        names = point.graph.nodes.slots
        self._asked = [name for key in self._keys if key.startswith("gradients.") and (name := key[10:]) in names]
        self._has_jacobian = any(key.partition(".")[0] == "jacobian" for key in self._keys)

    def answers(self, wrong: Wrong) -> Answers:
        """Return what a student with this engine hands in: every number that it computes."""
        outputs = [wrong.values[name] for name in self.point.graph.outputs]
        members: dict[str, Any] = {
            "value": outputs[0] if self.point.graph.single else outputs,
            "values": wrong.values,
            "gradients": wrong.gradients,
        }
        if self._has_jacobian:
            # Not made by one backward pass: let it be right.
            members["jacobian"] = self.truth.member("jacobian")
        return Answers(members)

    def runs(self, mistake: Mistake) -> Iterator[Wrong]:
        """Yield what engines with a mistake compute: those first that have their children in a list."""
        harmful = False
        for wrong in self.engines.runs(mistake):
            harmful = harmful or not self.gives_full_marks(self.answers(wrong))
            yield wrong
        if harmful and (lucky := self.engines.lucky(mistake, self._asked)) is not None:
            yield lucky

    def is_missed(self, mistake: Mistake) -> bool:
        """Tell whether every engine with a mistake gets full marks.

        One that makes no run to the end, as it goes through too many paths, gets none.
        """
        marks = (self.gives_full_marks(self.answers(wrong)) for wrong in self.engines.runs(mistake))
        return next(marks, False) and all(marks)

    def gives_full_marks(self, answers: Answers) -> bool:
        """Tell whether these answers earn everything."""
        return has_full_marks(self.task, answers)

    def told(self, wrong: Wrong) -> tuple[str, ...]:
        """Return the asked numbers of an engine, written so that equal ones are equal but for rounding."""
        answers = self.answers(wrong)
        return tuple(f"{0.0 + number:.8e}" for key in self._keys for number in flat(answers.find(key)))

    def reason(self, mistake: Mistake, wrong: Wrong) -> Reason:
        """Say why a mistake with these numbers gets full marks."""
        answers = self.answers(wrong)
        for key in self._keys:
            right, told = list(flat(quantity(self.truth, key))), list(flat(answers.find(key)))
            apart = [abs(r - t) for r, t in zip(right, told, strict=True) if differ(r, t)]
            if apart and self.truth.intervals(key) is not None:
                node = self.truth.kinks[0]
                return Reason("kink_accepted", f"{node} is exactly at its kink, where a choice is accepted", node)
            if apart:
                return Reason("tolerance", f"it shows in {key} by {max(apart):.2g}, which the comparison allows")
        names = self.point.graph.nodes.names
        shown = [f"values.{name}" for name in names if differ(self.point.value(name), wrong.values[name])]
        shown += [f"gradients.{name}" for name in names if differ(self.point.gradient(name), wrong.gradients[name])]
        if shown:
            some = ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")
            return Reason("not_asked", f"it shows in {some} alone, which is not asked for", shown[0].partition(".")[2])
        return explain(mistake, self.point)


def flat(quantity: Any) -> Iterator[float]:
    """Yield the numbers of a quantity; it is as deep as a key's, not as an answer's."""
    if isinstance(quantity, dict):
        for item in quantity.values():
            yield from flat(item)
    elif isinstance(quantity, list):
        for item in quantity:
            yield from flat(item)
    else:
        yield quantity
