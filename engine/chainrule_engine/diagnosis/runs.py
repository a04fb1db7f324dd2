"""One mistaken engine: which rules are changed in a form of the graph, and along which pass they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from chainrule_engine.diagnosis.forms import Edges, Form
from chainrule_engine.diagnosis.mistakes import Locals, Mistake
from chainrule_engine.diagnosis.orders import sequences
from chainrule_engine.diagnosis.passes import Rule, Rules, run, run_assigning

#: So many mixtures of orders are tried where these cannot be chosen to fit.
MIXTURES = 12
#: So many rules are run at most for two mistakes together.
MAX_PAIR_VISITS = 300


class Run(NamedTuple):
    """What a mistaken engine computes.

    names      of the mistakes in it
    variant    in words, how that engine works where engines differ
    values     by slot, None where they are right
    gradients  by slot; behind the tape's slots may be those of what the engine makes in between
    distance   how far the engine is from one that has a rule for each operation and its children in their order
    node       where it is made at one node alone, as by hand: the slot; -1 where it is made at all
    """

    names: tuple[str, ...]
    variant: str
    values: Sequence[float] | None
    gradients: Sequence[float]
    distance: int
    node: int = -1


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
RIGHT = Mistake("", "", "")
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
        chosen: dict[str, Any] = {name: getattr(RIGHT, name) for name in _PASS}
        for mistake in mistakes:
            for name in _PASS:
                value, right = getattr(mistake, name), getattr(RIGHT, name)
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
        if len(mistakes) > 1:
            return [plan for plan in self._plans[key] if len(plan.slots) <= MAX_PAIR_VISITS]
        return self._plans[key]

    def _made(
        self, order: str, again: str, seeded: str, assigns: tuple[str, ...] | None, running: bool
    ) -> Iterator[Plan]:
        start = self.start(seeded)
        marks = None if assigns is None else self.marks(assigns)
        sensitive = running or assigns is not None
        mixtures = MIXTURES if running else 0
        for variant, slots, oddity in sequences(self.form, order, sensitive=sensitive, mixtures=mixtures):
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


def partly(right: Edges, wrong: Edges | Rule, target: int) -> Rule:
    """Return a rule that is wrong for one of its arguments and right for the others."""

    def rule(gradients: list[float], upstream: float) -> list[tuple[int, float]]:
        shares = [(a, d * upstream) for a, d in right if a != target]
        mistaken = [(a, d * upstream) for a, d in wrong] if isinstance(wrong, tuple) else wrong(gradients, upstream)
        return shares + [share for share in mistaken if share[0] == target]

    return rule


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
