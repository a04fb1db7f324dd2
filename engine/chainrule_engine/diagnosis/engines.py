"""All engines that a student may have written for one graph, with one mistake or two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from chainrule_engine.diagnosis.forms import Edges, Form, Style, occurring, styles
from chainrule_engine.diagnosis.mistakes import MISTAKES, Mistake
from chainrule_engine.diagnosis.orders import arranged
from chainrule_engine.diagnosis.overwriting import survivors
from chainrule_engine.diagnosis.passes import Rule, Rules, Wanted, Work
from chainrule_engine.diagnosis.runs import RIGHT, Engine, Run, partly
from chainrule_engine.lazily import lazy
from chainrule_engine.tape import Tape

#: So many rules are run at most to find an order that fits, in each way of building the graph.
STYLE_WORK = 200_000


class Engines:
    """All mistaken engines for one graph."""

    def __init__(self, tape: Tape, values: Sequence[float], seeds: Mapping[int, float]) -> None:
        """Take the values of the tape's slots, and the seeds of the outputs by slot."""
        self._tape, self._values, self._seeds = tape, values, seeds
        self._present = frozenset(instruction.operation.name for instruction in tape.instructions)
        self._styles = styles(self._present)
        self._made: dict[tuple[int, bool, str], Engine] = {}
        self._occurring: dict[tuple[str, int], bool] = {}
        self._showing: dict[tuple[frozenset[str], int], tuple[str, ...]] = {}

    @lazy
    def own(self) -> Form:
        """The graph with a rule for each of its operations."""
        return self._engine(0).form

    def _engine(self, style: int, wraps: bool = False, mistakes: tuple[Mistake, ...] = ()) -> Engine:
        forward = next((mistake for mistake in mistakes if mistake.forward), RIGHT)
        key = style, wraps, forward.name
        if key not in self._made:
            known = self.own if key != (0, False, "") and not forward.forward else None
            chosen = self._styles[style], forward.forward
            form = Form(self._tape, self._values, self._seeds, *chosen, wraps=wraps, known=known)
            self._made[key] = Engine(form)
        return self._made[key]

    @lazy
    def possible(self) -> list[Mistake]:
        """The mistakes that can occur in this graph."""
        ones = all(seed == 1.0 for seed in self._seeds.values())
        return [
            mistake
            for mistake in MISTAKES.values()
            if any(self._occurs(mistake, style) for style in range(len(self._styles)))
            and not (mistake.seeded == "one" and ones)
        ]

    def runs(self, mistakes: tuple[Mistake, ...], *, few: bool = False, styles: int | None = None) -> Iterator[Run]:
        """Yield the runs of engines with these mistakes, no two alike; see `Engine.plans`.

        styles   so many ways to build the graph are tried
        """
        names = tuple(mistake.name for mistake in mistakes)
        done: set[tuple[float, ...]] = set()
        size = self._tape.size
        for engine, rules, values, distance in islice(self._with(mistakes), styles):
            for plan in engine.plans(mistakes, few=few):
                gradients = engine.execute(rules, plan)
                key = tuple(gradients[:size])
                if key not in done:
                    done.add(key)
                    yield Run(names, plan.variant, values, gradients, distance + plan.oddity)

    def by_hand(self) -> Iterator[Run]:
        """Yield runs with a mistake at one node, for one argument or for all, or with one use of a value forgotten."""
        engine = self._engine(0)
        form, right = engine.form, engine.form.rules
        (plan,) = engine.plans((), few=False)

        def run(name: str, changed: int, rule: Edges | Rule, node: int) -> Run:
            gradients = engine.execute([*right[:changed], rule, *right[changed + 1 :]], plan)
            return Run((name,), "by hand", None, gradients, 3, node)

        for mistake in self.possible:
            rules = engine.rules((mistake,)) if mistake.number and not mistake.in_the_pass else None
            changed = [] if rules is None else [slot for slot in form.order if rules[slot] is not right[slot]]
            for slot in changed:
                wrong = rules[slot]  # type: ignore[index]  # there are rules where there are changes
                if len(changed) > 1:
                    yield run(mistake.name, slot, wrong, slot)
                targets = dict(right[slot])
                for target in targets if len(targets) > 1 else ():
                    yield run(mistake.name, slot, partly(right[slot], wrong, target), slot)
        for used, users in form.users.items():
            for slot in users if len(users) > 1 else ():
                rest = tuple(edge for edge in right[slot] if edge[0] != used)
                yield run("missing_use", slot, rest, used)

    def fitting(
        self,
        mistake: Mistake,
        others: tuple[Mistake, ...],
        accepts: Wanted,
        work: Work,
    ) -> Iterator[Run]:
        """Yield runs of engines that keep children in a set, whose order is chosen to give what is wanted.

        mistake   one for which that order matters: ORDERED
        accepts   slot → whether a gradient is the wanted one
        work      what may be spent
        """
        mistakes = mistake, *others
        names = tuple(one.name for one in mistakes)
        for engine, rules, values, distance in self._with(mistakes):
            start = engine.start("seeds")
            share = Work(min(work.left, STYLE_WORK))
            work.left -= share.left
            if mistake.assigns is not None:
                gradients = survivors(engine.form, rules, start, accepts, share)
            else:
                gradients = arranged(engine.form, rules, mistake.order, start, accepts, share)
            work.left += share.left
            if gradients is not None:
                yield Run(names, "children in a set", values, gradients, distance + 2)

    def _with(self, mistakes: tuple[Mistake, ...]) -> Iterator[tuple[Engine, Rules, Sequence[float] | None, int]]:
        """Yield the engines with these mistakes: their rules, their values where these are wrong, and how far they are.

        Of the styles of building the graph in which the mistakes show alike only the first is taken.
        """
        concerned = frozenset[str]().union(*(mistake.operations for mistake in mistakes))
        in_the_pass = any(mistake.in_the_pass and mistake.name != "no_seed" for mistake in mistakes)
        sided = any(mistake.name == "mul_self_twice" for mistake in mistakes)
        wrong = any(mistake.forward for mistake in mistakes)
        # To a pass, a negation with a rule of its own and a product with -1 are the same, but where one writes `=`.
        alike = frozenset[str]() if any(mistake.assigns for mistake in mistakes) else frozenset({"neg"})
        seen: set[object] = set()
        for number, style in enumerate(self._styles):
            shown = self._shown(concerned, number)
            key = shown, frozenset(style) - alike if in_the_pass else None
            if key in seen or not all(self._occurs(mistake, number) for mistake in mistakes):
                continue
            seen.add(key)
            distance = len(style) if in_the_pass else sum(map(bool, shown))
            for wraps in (False, True) if sided and self._has_left_literal(style) else (False,):
                engine = self._engine(number, wraps, mistakes)
                rules = engine.rules(mistakes)
                if rules is None:
                    return
                yield engine, rules, engine.form.values if wrong else None, distance + wraps

    def _has_left_literal(self, style: Style) -> bool:
        """Whether a number stands on the left of + or *."""
        inputs = len(self._tape.graph.inputs)
        literals = range(inputs, inputs + len(self._tape.literals))
        return not style.keys().isdisjoint(("tanh", "sigmoid")) or any(
            operation.name in ("add", "mul") and args[0] in literals for _, operation, args in self._tape.instructions
        )

    def _occurs(self, mistake: Mistake, style: int) -> bool:
        key = mistake.name, style
        if key not in self._occurring:
            made = occurring(self._present, self._styles[style]) - self._styles[style].keys()
            if not mistake.number:
                # Those beside the 46 only in what the graph itself has.
                made &= self._present if mistake.operations or not style else frozenset[str]()
            needs = mistake.operations, mistake.assigns
            self._occurring[key] = all(not needed or not made.isdisjoint(needed) for needed in needs)
        return self._occurring[key]

    @lazy
    def _leading(self) -> list[list[tuple[str, frozenset[str]]]]:
        """By style: what the operations are made as, and which operations that leads to."""
        return [
            [
                (style[name].name if name in style else "", occurring(frozenset({name}), style))
                for name in sorted(occurring(self._present, style))
            ]
            for style in self._styles
        ]

    def _shown(self, concerned: frozenset[str], style: int) -> tuple[str, ...]:
        """Return what the style makes of the operations that lead to one of the concerned."""
        key = concerned, style
        if key not in self._showing:
            leading = self._leading[style]
            self._showing[key] = tuple(made for made, leads in leading if not concerned.isdisjoint(leads))
        return self._showing[key]
