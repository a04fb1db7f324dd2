"""Runs of one graph by mistaken engines: which rules are changed, in which form, along which pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from chainrule_engine.diagnosis.forms import Edges, Form, Style, occurring, styles
from chainrule_engine.diagnosis.mistakes import MISTAKES, Locals, Mistake
from chainrule_engine.diagnosis.passes import Rule, Rules, arranged, run, run_assigning, sequences, survivors
from chainrule_engine.tape import Tape


class Run(NamedTuple):
    """What a mistaken engine computes.

    names      of the mistakes in it
    variant    in words, how that engine works where engines differ
    values     by slot, None where they are right
    gradients  by slot; behind the tape's slots may be those of what the engine makes in between
    distance   how far the engine is from one that has a rule for each operation and its children in their order
    """

    names: tuple[str, ...]
    variant: str
    values: Sequence[float] | None
    gradients: Sequence[float]
    distance: int


class Plan(NamedTuple):
    """A backward pass.

    start   the gradients before it
    slots   whose rules run, in turn
    again   "" for one pass; else what is done before the second: the outputs' gradients are "set" or "added" to, or the
            gradients "between" or those of the "inputs" are cleared
    marks   by slot, whether its rule writes `=`; None where none does
    oddity  how many things about it are less usual
    """

    variant: str
    start: Sequence[float]
    slots: Sequence[int]
    again: str
    marks: Sequence[int] | None
    oddity: int


#: In what ways engines go through the graph again, by the words of `Mistake.again`.
_AGAIN = {"": ("",), "nothing cleared": ("set", "added", "each", "between"), "inputs cleared": ("inputs",)}
_RIGHT = Mistake("", "", "")
#: What a mistake may change of the pass.
_PASS = ("order", "again", "seeded", "assigns")


class Engine:
    """Everything that engines have in common which build the graph alike."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._changes: dict[tuple[object, ...], list[tuple[int, Edges | Rule]]] = {}
        self._plans: dict[tuple[object, ...], list[Plan]] = {}

    def rules(self, mistakes: tuple[Mistake, ...]) -> Rules | None:
        """Return the rule of every slot in an engine with these mistakes; None where they exclude each other."""
        rules: list[Edges | Rule] = list(self.form.rules)
        changes: dict[str, tuple[str, Locals | None, str]] = {}
        for mistake in mistakes:
            for operation in mistake.operations:
                name, locals_, upstream = changes.get(operation, ("", None, "times"))
                if operation in mistake.locals:
                    if locals_ is not None:
                        return None
                    name, locals_ = mistake.name, mistake.locals[operation]
                if operation in mistake.upstream:
                    if upstream != "times":
                        return None
                    upstream = mistake.upstream[operation]
                changes[operation] = name, locals_, upstream
        for operation, (name, locals_, upstream) in changes.items():
            key = operation, name, upstream
            if key not in self._changes:
                self._changes[key] = self._changed(operation, locals_, _UPSTREAM[upstream])
            for slot, rule in self._changes[key]:
                rules[slot] = rule
        return rules

    def _changed(
        self, operation: str, locals_: Locals | None, upstream: Callable[[Edges], Edges | Rule]
    ) -> list[tuple[int, Edges | Rule]]:
        form = self.form
        values, constants = form.values, form.constants
        changed = []
        for slot in form.by_operation.get(operation, ()):
            edges = form.rules[slot]
            if locals_ is not None:
                args = form.args[slot]
                numbers = locals_(*[values[a] for a in args], values[slot])
                edges = tuple(
                    (a, local)
                    for a, d in zip(args, numbers, strict=True)
                    if d is not None and not constants[a]
                    for local in (d if isinstance(d, tuple) else (d,))
                )
            changed.append((slot, upstream(edges)))
        return changed

    def plans(self, mistakes: tuple[Mistake, ...], *, few: bool) -> list[Plan]:
        """Return the passes of engines with these mistakes; none where they exclude each other.

        few   of the orders that children may have, only those that make a difference where all rules are right
        """
        chosen: dict[str, Any] = {name: getattr(_RIGHT, name) for name in _PASS}
        for mistake in mistakes:
            for name in _PASS:
                value, right = getattr(mistake, name), getattr(_RIGHT, name)
                if value != right:
                    if chosen[name] != right:
                        return []
                    chosen[name] = value
        running = any("running" in mistake.upstream.values() for mistake in mistakes)
        key = *chosen.values(), few, running
        if key not in self._plans:
            plans = list(self._made(**chosen, running=running))
            if few and len(plans) > 1:
                different: dict[tuple[float, ...], Plan] = {}
                for plan in plans:
                    different.setdefault(tuple(self.execute(self.form.rules, plan)), plan)
                plans = list(different.values())
            self._plans[key] = plans
        return self._plans[key]

    def _made(
        self, order: str, again: str, seeded: str, assigns: tuple[str, ...] | None, running: bool
    ) -> Iterator[Plan]:
        start = self.start(seeded)
        marks = None if assigns is None else self.marks(assigns)
        for variant, slots, oddity in sequences(self.form, order, sensitive=running or assigns is not None):
            for odd, way in enumerate(_AGAIN[again]):
                if way == "each":
                    twice = tuple(slot for slot in slots for _ in range(2))
                    yield Plan("each rule twice in turn", start, twice, "", marks, oddity + 1)
                else:
                    yield Plan(variant, start, slots, way, marks, oddity + bool(odd))

    def marks(self, assigns: tuple[str, ...]) -> Sequence[int]:
        """Return by slot whether its rule writes `=`, where those of some operations do, or all of them."""
        return bytes(bool(name) and (not assigns or name in assigns) for name in self.form.operations)

    def start(self, seeded: str) -> list[float]:
        """Return the gradients before the pass."""
        start = [0.0] * self.form.size
        if seeded != "nothing":
            for output, seed in self.form.outputs.items():
                start[output] = seed if seeded == "seeds" else 1.0
        return start

    def execute(self, rules: Rules, plan: Plan) -> list[float]:
        """Return the gradients after a pass."""
        _, start, slots, again, marks, _ = plan
        gradients = list(start)
        self._go(rules, slots, gradients, marks)
        if not again:
            return gradients
        cleared = {"between": True, "inputs": False}.get(again)
        if cleared is not None:
            for slot, operation in enumerate(self.form.operations):
                if bool(operation) is cleared:
                    gradients[slot] = 0.0
        for output in self.form.outputs:
            gradients[output] = start[output] + (gradients[output] if again == "added" else 0.0)
        self._go(rules, slots, gradients, marks)
        return gradients

    def _go(self, rules: Rules, slots: Sequence[int], gradients: list[float], marks: Sequence[int] | None) -> None:
        if marks is None:
            run(slots, rules, gradients)
        else:
            run_assigning(slots, rules, gradients, marks)


class Engines:
    """All mistaken engines for one graph."""

    def __init__(self, tape: Tape, values: Sequence[float], seeds: Mapping[int, float]) -> None:
        """Take the values of the tape's slots, and the seeds of the outputs by slot."""
        self._tape, self._values, self._seeds = tape, values, seeds
        self._present = frozenset(instruction.operation.name for instruction in tape.instructions)
        self._styles = styles(self._present)
        self._made: dict[tuple[int, bool, str], Engine] = {}

    @cached_property
    def own(self) -> Form:
        """The graph with a rule for each of its operations."""
        return self._engine(0).form

    def _engine(self, style: int, wraps: bool = False, mistakes: tuple[Mistake, ...] = ()) -> Engine:
        forward = next((mistake for mistake in mistakes if mistake.forward), _RIGHT)
        key = style, wraps, forward.name
        if key not in self._made:
            form = Form(self._tape, self._values, self._seeds, self._styles[style], forward.forward, wraps=wraps)
            self._made[key] = Engine(form)
        return self._made[key]

    @cached_property
    def possible(self) -> list[Mistake]:
        """The mistakes that can occur in this graph."""
        ones = all(seed == 1.0 for seed in self._seeds.values())
        return [
            mistake
            for mistake in MISTAKES.values()
            if any(self._occurs(mistake, style) for style in self._styles) and not (mistake.seeded == "one" and ones)
        ]

    def runs(self, mistakes: tuple[Mistake, ...], *, few: bool = False) -> Iterator[Run]:
        """Yield the runs of engines with these mistakes, no two alike; see `Engine.plans`."""
        names = tuple(mistake.name for mistake in mistakes)
        done: set[tuple[float, ...]] = set()
        size = self._tape.size
        for engine, rules, values, distance in self._with(mistakes):
            for plan in engine.plans(mistakes, few=few):
                gradients = engine.execute(rules, plan)
                key = tuple(gradients[:size])
                if key not in done:
                    done.add(key)
                    yield Run(names, plan.variant, values, gradients, distance + plan.oddity)

    def fitting(
        self, mistake: Mistake, others: tuple[Mistake, ...], accepts: Mapping[int, Callable[[float], bool]]
    ) -> Iterator[Run]:
        """Yield runs of engines that keep children in a set, whose order is chosen to give what is wanted.

        mistake   one for which that order matters: ORDERED
        accepts   slot → whether a gradient is the wanted one
        """
        mistakes = mistake, *others
        names = tuple(one.name for one in mistakes)
        for engine, rules, values, distance in self._with(mistakes):
            start = engine.start("seeds")
            if mistake.assigns is not None:
                found = survivors(engine.form, rules, start, accepts)
            else:
                found = arranged(engine.form, rules, mistake.order, start, accepts)
            for gradients in found:
                yield Run(names, "children in a set", values, gradients, distance + 2)

    def _with(self, mistakes: tuple[Mistake, ...]) -> Iterator[tuple[Engine, Rules, Sequence[float] | None, int]]:
        """Yield the engines with these mistakes: their rules, their values where these are wrong, and how far they are.

        Of the styles of building the graph in which the mistakes show alike only the first is taken.
        """
        concerned = frozenset[str]().union(*(mistake.operations for mistake in mistakes))
        in_the_pass = any(not mistake.operations and mistake.name != "no_seed" for mistake in mistakes)
        sided = any(mistake.name == "mul_self_twice" for mistake in mistakes)
        seen: set[object] = set()
        for number, style in enumerate(self._styles):
            shown = self._shown(concerned, style)
            key: object = number if in_the_pass else shown
            if key in seen or not all(self._occurs(mistake, style) for mistake in mistakes):
                continue
            seen.add(key)
            distance = len(style) if in_the_pass else sum(map(bool, shown))
            for wraps in (False, True) if sided else (False,):
                engine = self._engine(number, wraps, mistakes)
                rules = engine.rules(mistakes)
                if rules is None:
                    return
                wrong = any(mistake.forward for mistake in mistakes)
                yield engine, rules, engine.form.values if wrong else None, distance + wraps

    def _occurs(self, mistake: Mistake, style: Style) -> bool:
        made = occurring(self._present, style) - style.keys()
        return all(not needed or made.intersection(needed) for needed in (mistake.operations, mistake.assigns))

    def _shown(self, concerned: frozenset[str], style: Style) -> tuple[str, ...]:
        """Return what the style makes of the operations that lead to one of the concerned."""
        return tuple(
            style[name].name if name in style else ""
            for name in sorted(occurring(self._present, style))
            if concerned & occurring(frozenset({name}), style)
        )


def _times(edges: Edges) -> Edges | Rule:
    return edges


def _without(edges: Edges) -> Edges | Rule:
    return lambda gradients, upstream: edges


def _paren(edges: Edges) -> Edges | Rule:
    return lambda gradients, upstream: [(a, 1.0 + d * upstream) for a, d in edges]


def _gate(edges: Edges) -> Edges | Rule:
    return lambda gradients, upstream: [(a, upstream if upstream > 0.0 else 0.0) for a, _ in edges]


def _running(edges: Edges) -> Edges | Rule:
    return lambda gradients, upstream: [(a, upstream if gradients[a] > 0.0 else 0.0) for a, _ in edges]


_UPSTREAM: dict[str, Callable[[Edges], Edges | Rule]] = {
    "times": _times,
    "none": _without,
    "paren": _paren,
    "gate": _gate,
    "running": _running,
}
