"""Nearby inputs with round numbers with which an exercise tells more mistakes from a right answer.

A greedy search over small grids: of all changes of one input the one that leaves the fewest mistakes, then, on top of
it, of another; bounded, and the same for the same exercise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chainrule_engine.diagnosis.mistakes import Mistake
from chainrule_engine.exercises.numbers import near_kink
from chainrule_engine.exercises.point import Point, at
from chainrule_engine.exercises.strength import Exercise, Strength
from chainrule_engine.grading.tasks import Task
from chainrule_engine.grading.truth import GraphTruth
from chainrule_engine.operations import OPERATIONS

#: So many points are tried; of each input so many numbers; so many inputs are changed at most.
_TRIED, _GRID, _CHANGED = 160, 12, 3
#: The same, in nodes: fewer points of a large graph.
_WORK = 3_000
#: The largest magnitude of a value or gradient, as a multiple of the largest at the given inputs, or by itself.
_GROWTH, _ALWAYS_ALLOWED = 3.0, 100.0
#: The magnitudes of numbers that are replaced by others of their size.
_SMALLEST, _LARGEST = 1e-6, 1e12
#: What an output may be seeded with where a seed of 1 hides mistakes.
_SEEDS = (2.0, 3.0, -2.0, 0.5)


@dataclass(frozen=True)
class Suggestion:
    """Inputs with which more mistakes show.

    inputs   the inputs that change → their new numbers
    seeds    output id → its seed, where that changes
    caught   how many mistakes are caught then, those included that only some engines with them escape
    newly    the names of those that were not before
    missed   the names of those that still are not
    """

    inputs: dict[str, float]
    seeds: dict[str, float]
    caught: int
    newly: tuple[str, ...]
    missed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Write the wire's form."""
        written: dict[str, Any] = {"inputs": self.inputs}
        if self.seeds:
            written["seeds"] = self.seeds
        return written | {"caught": self.caught, "newly_caught": list(self.newly), "still_missed": list(self.missed)}

    def applied_to(self, task: Task) -> Task:
        """Return the task with these inputs and seeds."""
        return _moved(task, self.inputs, self.seeds)


def _moved(task: Task, inputs: Mapping[str, float], seeds: Mapping[str, float]) -> Task:
    graph = task.graph
    assert graph is not None
    cotangents: Mapping[str, Any] | None = seeds or task.seeds
    point: dict[str, Any] = graph.inputs | dict(inputs)
    moved = at(graph, point)
    evaluation = {"graph": moved.to_dict(), "seeds": cotangents}
    return replace(task, source={"evaluation": evaluation}, truth=GraphTruth(moved, cotangents))


def suggest(task: Task, strength: Strength) -> Suggestion | None:
    """Look for inputs, and a seed of the output where it is that which hides mistakes.

    strength  that of the task as it is

    Returns None where no inputs can lift what hides the mistakes, or none were found; a batch of points is left alone.
    Suggested are finite numbers away from kinks, with values and gradients not much larger than before.
    """
    graph = task.graph
    if graph is None or graph.points is not None:
        return None
    search = _Search(task, strength)
    return search.best()


Move = tuple[dict[str, float], dict[str, float], float]


@dataclass(frozen=True)
class _Try:
    """Changed inputs and seeds, what they cost, and the mistakes that are missed with them."""

    inputs: dict[str, float]
    seeds: dict[str, float]
    cost: float
    missed: tuple[Mistake, ...]

    @property
    def weakness(self) -> tuple[int, int]:
        """How many of the 46 are missed, and how many mistakes at all."""
        return sum(mistake.number is not None for mistake in self.missed), len(self.missed)


class _Search:
    def __init__(self, task: Task, strength: Strength) -> None:
        self.task = task
        assert task.graph is not None
        self.given = {name: float(x) for name, x in task.graph.inputs.items()}  # type: ignore[arg-type]  # one point
        names = {missed.name for missed in strength.missed}
        matter = [missed for missed in strength.missed if missed.matters]
        exercise = Exercise(task)
        self.liftable = {missed.name for missed in matter if missed.reason.by_inputs}
        self.output = task.graph.outputs[0]
        self.may_seed = task.graph.single and task.seeds is None
        self.by_seed = {missed.name for missed in matter if missed.reason.kind == "upstream_one"}
        self.start = _Try({}, {}, 0.0, tuple(mistake for mistake in exercise.mistakes if mistake.name in names))
        point = exercise.sheets[0].point
        self.largest = max(_ALWAYS_ALLOWED, _GROWTH * _largest(point))
        self.zeros = _zeros(point)
        self.near = {place.id for place in point.places if near_kink(OPERATIONS[place.op], place.numbers)}
        self.left = min(_TRIED, max(1, _WORK // max(1, len(task.graph.nodes))))

    def best(self) -> Suggestion | None:
        best = self.by_inputs(self.start)
        if self.may_seed and not self.by_seed.isdisjoint(mistake.name for mistake in best.missed):
            seeded = self.better(best, [(best.inputs, {self.output: seed}, best.cost) for seed in _SEEDS])
            if seeded is not best:
                best = self.by_inputs(seeded)
        if best is self.start:
            return None
        missed = tuple(mistake.name for mistake in best.missed)
        newly = tuple(mistake.name for mistake in self.start.missed if mistake.name not in missed)
        count = len(Exercise(_moved(self.task, best.inputs, best.seeds)).mistakes)
        return Suggestion(best.inputs, best.seeds, count - len(missed), newly, missed)

    def by_inputs(self, best: _Try) -> _Try:
        """Change one input more, as long as that helps."""
        while len(best.inputs) < _CHANGED and self.is_liftable(best):
            moves = self.moves(best)[: self.left]
            self.left -= len(moves)
            found = self.better(best, moves)
            if found is best:
                break
            best = found
        return best

    def is_liftable(self, base: _Try) -> bool:
        """Tell whether something is missed that other inputs may lift."""
        return not self.liftable.isdisjoint(mistake.name for mistake in base.missed)

    def moves(self, base: _Try) -> list[Move]:
        """Return the changes of one more input, the nearest and roundest first."""
        found = [
            (base.inputs | {name: number}, base.seeds, base.cost + cost)
            for name, x in self.given.items()
            if name not in base.inputs
            for number, cost in round_numbers_near(x)
        ]
        return sorted(found, key=lambda move: move[2])

    def better(self, base: _Try, moves: list[Move]) -> _Try:
        """Return the first of the moves after which the fewest mistakes are missed, or `base`."""
        best = base
        for inputs, seeds, cost in moves:
            task = _moved(self.task, inputs, seeds)
            if not self.is_tame(task):
                continue
            exercise = Exercise(task)
            # Most points are no better: the mistakes that were missed tell, before all others are looked at.
            missed = exercise.missed(best.missed)
            if len(missed) == len(best.missed):
                continue
            found = _Try(inputs, seeds, cost, tuple(exercise.missed()))
            if found.weakness < best.weakness:
                best = found
                if not self.is_liftable(best):
                    break
        return best

    def is_tame(self, task: Task) -> bool:
        """Tell whether numbers are moderate, away from kinks, and not 0: unless they were so before."""
        assert task.graph is not None
        point = Point(task.graph, task.seeds)
        return (
            _largest(point) <= self.largest
            and self.zeros >= _zeros(point)
            and self.near >= {place.id for place in point.places if near_kink(OPERATIONS[place.op], place.numbers)}
        )


def _zeros(point: Point) -> set[str]:
    names = point.graph.nodes.names
    return {name for name in names if point.value(name) == 0.0 or point.gradient(name) == 0.0}


def _largest(point: Point) -> float:
    found = point.evaluation
    numbers: Mapping[str, Any] = found.all_values
    sizes = [abs(float(x)) for x in [*numbers.values(), *found.all_gradients.values()]]
    # A NaN is larger than any bound.
    return max(sizes) if all(map(math.isfinite, sizes)) else math.inf


def round_numbers_near(x: float) -> Iterator[tuple[float, float]]:
    """Yield round numbers near x and near -x, without x and 0, and what each costs: its distance, and its digits."""
    size = abs(x)
    grids = []
    if _SMALLEST <= size <= _LARGEST or x == 0.0:
        unit = 1.0 if 0.25 <= size < 20.0 or x == 0.0 else 10.0 ** math.floor(math.log10(size))
        grids.append((unit, x, max(2.0 * size, 4.0 * unit), 0.0))
    # A number of another size may become an everyday one; that costs most.
    grids.append((1.0, min(max(x, -2.0), 2.0), 2.0, 2.0))
    found: dict[float, float] = {}
    for step, centre, largest, extra in grids:
        middle = round(2.0 * centre / step)
        for k in range(-_GRID // 2, _GRID // 2 + 1):
            for halves in (middle + k, k - middle):
                number = halves * step / 2.0
                if number not in (0.0, x) and abs(number) <= largest:
                    cost = abs(k) / 2.0 + (0.75 if halves % 2 else 0.0) + (1.0 if number * x < 0.0 else 0.0) + extra
                    found[number] = min(cost, found.get(number, cost))
    yield from sorted(found.items(), key=lambda pair: pair[1])
