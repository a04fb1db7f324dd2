"""What mistaken engines compute of an exercise that build its graph as it stands, with a rule for each operation.

Engines that make a subtraction of a negation, or a quotient of a power, have other mistakes at these places; what an
exercise can tell is said about the operations that it shows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from chainrule_engine.diagnosis.forms import Form
from chainrule_engine.diagnosis.mistakes import MISTAKES, Mistake
from chainrule_engine.diagnosis.orders import arranged
from chainrule_engine.diagnosis.overwriting import survivors
from chainrule_engine.diagnosis.passes import Work
from chainrule_engine.diagnosis.runs import Engine
from chainrule_engine.exercises.point import Point
from chainrule_engine.tape import Tape

#: Orders in which it matters which child comes first.
_ARRANGED = ("every path", "breadth first", "preorder")
#: So many rules are run to find an order of children in sets that does no harm.
_SET_WORK = 20_000


class Wrong(NamedTuple):
    """The numbers of one mistaken engine.

    variant    in words, how it works where engines with this mistake differ; the first of a mistake keeps the arguments
               in their order
    values     id → number
    gradients  id → number
    """

    mistake: Mistake
    variant: str
    values: dict[str, float]
    gradients: dict[str, float]


def applicable(mistake: Mistake, operations: frozenset[str]) -> bool:
    """Tell whether an engine for these operations can make a mistake."""
    return all(not needed or operations.intersection(needed) for needed in (mistake.operations, mistake.assigns))


class WrongEngines:
    """All mistaken engines at one point."""

    def __init__(self, point: Point) -> None:
        self._tape = Tape(point.graph)
        self._right = {name: point.gradient(name) for name in point.graph.nodes.names}
        self._names = point.graph.nodes.names
        self._slots = list(self._tape.declared)
        self._values = [0.0] * self._tape.size
        for name, slot in zip(self._names, self._slots, strict=True):
            self._values[slot] = point.value(name)
        for slot, number in self._tape.literals.items():
            self._values[slot] = number
        self._seeds = {self._tape.slot(name): seed for name, seed in point.cotangents.items()}
        self._engines: dict[tuple[str, bool], Engine] = {}
        self.operations = frozenset(place.op for place in point.places)

    def mistakes(self) -> list[Mistake]:
        """Return the mistakes that can be made here: none where nothing is computed."""
        if not self.operations:
            return []
        ones = all(seed == 1.0 for seed in self._seeds.values())
        found = [mistake for mistake in MISTAKES.values() if applicable(mistake, self.operations)]
        return [mistake for mistake in found if mistake.seeded != "one" or not ones]

    def runs(self, mistake: Mistake) -> Iterator[Wrong]:
        """Yield what engines with a mistake compute, no two alike."""
        seen: set[tuple[float, ...]] = set()
        for wraps in (False, True):
            engine = self._engine(mistake, wraps)
            rules = engine.rules((mistake,))
            assert rules is not None, "one mistake does not contradict itself"
            for plan in engine.plans((mistake,), few=True):
                gradients = engine.execute(rules, plan)
                key = tuple(gradients[slot] for slot in self._slots)
                if key in seen:
                    continue
                seen.add(key)
                yield self._wrong(mistake, plan.variant, engine, gradients)

    def lucky(self, mistake: Mistake, wanted: Collection[str]) -> Wrong | None:
        """Return what an engine computes that keeps children in a set and has them in an order that does no harm.

        wanted  ids whose gradients are to be right; None where no order was found with which all of them are
        """
        engine = self._engine(mistake, wraps=False)
        rules, start, work = engine.form.rules, engine.start("seeds"), Work(_SET_WORK)
        accepts = {self._tape.slot(name): partial(_is_near, self._right[name]) for name in wanted}
        if mistake.assigns == ():
            gradients = survivors(engine.form, rules, start, accepts, work)
        elif mistake.in_the_pass and mistake.order in _ARRANGED:
            gradients = arranged(engine.form, rules, mistake.order, start, accepts, work)
        else:
            return None
        return None if gradients is None else self._wrong(mistake, "children in a set", engine, gradients)

    def _wrong(self, mistake: Mistake, variant: str, engine: Engine, gradients: Sequence[float]) -> Wrong:
        values = {name: engine.form.values[slot] for name, slot in zip(self._names, self._slots, strict=True)}
        found = {name: gradients[slot] for name, slot in zip(self._names, self._slots, strict=True)}
        return Wrong(mistake, variant, values, found)

    def _engine(self, mistake: Mistake, wraps: bool) -> Engine:
        key = (mistake.name if mistake.forward else "", wraps)
        if key not in self._engines:
            form = Form(self._tape, self._values, self._seeds, {}, mistake.forward, wraps=wraps)
            self._engines[key] = Engine(form)
        return self._engines[key]


def _is_near(right: float, number: float) -> bool:
    return math.isclose(right, number, rel_tol=1e-6, abs_tol=1e-9)
