"""The catalogue of one graph: what every mistake gives there, in which students' numbers are looked up."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

from chainrule_engine.derivatives import evaluate
from chainrule_engine.diagnosis.blame import Blame, Following, Numbers
from chainrule_engine.diagnosis.engines import Engines
from chainrule_engine.diagnosis.matching import Match, Question, ranked
from chainrule_engine.diagnosis.mistakes import MISTAKES, NAMED, Mistake
from chainrule_engine.diagnosis.passes import Work
from chainrule_engine.diagnosis.precision import DOUBLE_NOISE, NOTHING, Precision, agree, read_precision
from chainrule_engine.diagnosis.right import Right
from chainrule_engine.diagnosis.runs import Run
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.lazily import lazy
from chainrule_engine.nodes import Nodes
from chainrule_engine.tape import Tape

#: So many explanations are given.
MAX_EXPLANATIONS = 10
#: Graphs with more nodes are only blamed; in graphs with more than the second number, pairs are not tried.
MAX_NODES, MAX_PAIR_NODES = 1_000, 150
#: So many ways of building the graph are tried for a pair of mistakes.
MAX_PAIR_STYLES = 6
#: So many rules are run to find an order of the children that fits a student's numbers, for each mistake that shows
#: according to it; and for all pairs with such a one.
ORDER_WORK = {"assign": 60_000, "no_topo_dfs": 240_000, "bfs_once": 20_000, "dfs_preorder": 40_000}
PAIR_ORDER_WORK = 30_000
#: A pair of mistakes must explain wrong numbers that have so many significant digits together: there are so many pairs
#: that one of them gives any short number.
PAIR_DIGITS = 3
#: The same for a mistake at a single node.
SLIP_DIGITS = 3

_ASSIGN = MISTAKES["assign"]


@dataclass(frozen=True)
class Signature:
    """What a mistake gives in a graph.

    names    the mistake
    variant  in words, how the engine works that gives just this, where engines differ
    numbers  key → number
    """

    names: tuple[str, ...]
    variant: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """A mistake, or two, that may be behind wrong numbers.

    explains  the keys of the wrong numbers that it gives
    matches   how many of the given numbers, right ones too, it gives, of how many
    message   for the student
    title     in a few words
    """

    names: tuple[str, ...]
    explains: tuple[str, ...]
    matches: int
    of: int
    message: str
    title: str


@dataclass(frozen=True)
class Diagnosis:
    """What is behind a student's numbers.

    explanations  the likeliest first; those with equal matches give the same numbers here. Empty when nothing is
                  wrong, and when nothing fits
    blame         where the student's numbers first contradict each other; None when they do not
    precision     what digits the numbers were read to have
    wrong         the keys of the numbers that are not right
    limited       why less was tried than for other graphs; "" when it was not
    """

    explanations: tuple[Explanation, ...] = ()
    blame: Blame | None = None
    precision: Precision = NOTHING
    wrong: tuple[str, ...] = ()
    limited: str = ""


class Catalogue:
    """Makes the wrong runs of a graph once, when they are first needed, and looks up many submissions in them.

    seeds   as for `evaluate`, whose errors are raised; plain numbers
    Raises EvaluationError for a graph with a batch of points.
    """

    def __init__(self, graph: Graph, *, seeds: Mapping[str, float] | None = None) -> None:
        if graph.points is not None:
            raise EvaluationError.at((), "mistakes are looked for at one point: give plain numbers as inputs")
        self.graph = graph = _sorted(graph)
        self._evaluation = evaluate(graph, seeds=seeds)
        self._tape = tape = Tape(graph)
        given = dict.fromkeys(graph.outputs, 1.0) if seeds is None else seeds
        seeded = {graph.aliases.get(name, name): float(seed) for name, seed in given.items()}
        slots = {tape.slot(name): seeded[name] for name in graph.outputs if name in seeded}
        self._engines = Engines(tape, self._by_slot(self._evaluation.all_values), slots)

    def _by_slot(self, numbers: Mapping[str, Any]) -> list[float]:
        found = [0.0] * self._tape.size
        for slot, number in self._tape.literals.items():
            found[slot] = number
        for name, slot in self._tape.slots.items():
            found[slot] = numbers[name]
        return found

    # ------------------------------------------------------------------------------------------------ what is known

    @lazy
    def _places(self) -> dict[str, tuple[bool, int]]:
        """Key → whether it is a gradient, and the slot."""
        named = [(name, slot) for name, slot in self._tape.slots.items() if is_named(name)]
        places = {"value": (False, self._tape.slot(self.graph.outputs[0]))} if self.graph.single else {}
        places |= {f"values.{name}": (False, slot) for name, slot in named}
        return places | {f"gradients.{name}": (True, slot) for name, slot in named}

    @lazy
    def _right(self) -> Right:
        return Right(self._engines.own, self._by_slot(self._evaluation.all_gradients))

    def right(self) -> dict[str, float]:
        """Return key → the right number."""
        return self._by_key(Run((), "", None, self._right.gradients, 0))

    def _by_key(self, run: Run) -> dict[str, float]:
        values, gradients = run.values or self._right.values, run.gradients
        return {key: (gradients if is_gradient else values)[slot] for key, (is_gradient, slot) in self._places.items()}

    def signatures(self) -> Sequence[Signature]:
        """Return what each single mistake that can occur in this graph gives, in the order of the table.

        One for each way in which engines differ and the numbers with them. Empty for graphs of more than MAX_NODES.
        """
        return [Signature(run.names, run.variant, self._by_key(run)) for run in self._singles]

    @lazy
    def _singles(self) -> list[Run]:
        if len(self.graph.nodes) > MAX_NODES:
            return []
        return [run for mistake in self._engines.possible for run in self._engines.runs((mistake,))]

    @lazy
    def _telling(self) -> list[Mistake]:
        """The mistakes of the 46 that change a gradient, alone or once another has changed a sign."""
        right, size = self._right.gradients, self._tape.size
        changing = {run.names[0] for run in self._singles if not all(map(_is_close, run.gradients[:size], right))}
        return [
            mistake
            for mistake in self._engines.possible
            if mistake.number and (mistake.name in changing or mistake.upstream.get("relu") in ("gate", "running"))
        ]

    @lazy
    def _pairs(self) -> list[Run]:
        """The runs of pairs of mistakes, without those that give what a single one gives."""
        size = self._tape.size
        known = {tuple(run.gradients[:size]) for run in self._singles}
        runs = []
        for pair in combinations(self._telling, 2):
            if any(one is _ASSIGN for one in pair) and not all(one.in_the_pass for one in pair):
                continue  # for these an order is chosen that fits
            for run in self._engines.runs(pair, few=True, styles=MAX_PAIR_STYLES):
                gradients = tuple(run.gradients[:size])
                if gradients not in known:
                    runs.append(run._replace(gradients=array("d", gradients)))
        return runs

    # ---------------------------------------------------------------------------------------------------- diagnosis

    def diagnose(self, answers: Mapping[str, float], *, pairs: bool = True) -> Diagnosis:
        """Find what is behind a student's numbers.

        answers   key → number; keys that are none of this graph and entries that are no numbers are left out of account
        pairs     whether two mistakes together are tried where one does not explain everything
        """
        given = self._read(answers)
        precision = read_precision(given.values())
        wrong = self._wrong(given, precision)
        if not wrong:
            return Diagnosis(self._at_a_kink(given, precision), None, precision)
        found: list[Match] = []
        limited = ""
        if len(self.graph.inputs) > 1 and list(given.values()) == [1.0]:
            pass  # the only number, of several that there are: many mistakes give it, and so does having no idea
        elif len(self.graph.nodes) > MAX_NODES:
            limited = f"mistakes are looked for in graphs of up to {MAX_NODES} nodes"
        else:
            question = Question(self._right, self._places, given, wrong, precision)
            some = question.explanations(self._singles)
            found = [match for match in some if match.is_full]
            found = found or self._ordered(question, at_once=True) or self._slips(question)
            if pairs and not any(self._is_plain(match.run) for match in found):
                if len(self.graph.nodes) > MAX_PAIR_NODES:
                    limited = f"pairs of mistakes are looked for in graphs of up to {MAX_PAIR_NODES} nodes"
                else:
                    found += self._two(question)
                    found = found or self._ordered(question)
            found = found or some
        explanations = tuple(self._explanation(match, len(given)) for match in found[:MAX_EXPLANATIONS])
        blame = self._following(given, wrong, precision).blame(self._tape)
        return Diagnosis(explanations, blame, precision, tuple(wrong), limited)

    def _read(self, answers: Mapping[str, object]) -> dict[str, float]:
        # In the graph's order: what is found must not depend on the order in which a student writes.
        numbers = dict(_numbers(answers))
        return {key: numbers[key] for key in self._places if key in numbers}

    def _wrong(self, given: Mapping[str, float], precision: Precision) -> list[str]:
        """Return the keys of the numbers that are not right, even if they were rounded, cut or computed in single."""
        places, right = self._places, self._right
        return [key for key, number in given.items() if not right.admits(*places[key], number, precision)]

    def _at_a_kink(self, given: Mapping[str, float], precision: Precision) -> tuple[Explanation, ...]:
        """Name what is admissible at a kink and yet not the convention, where one mistake gives all of it."""
        if not self._right.kinks:
            return ()
        conventional, right = self.right(), self._right
        other = [
            key
            for key, number in given.items()
            if not agree(number, conventional[key], right.tolerance(*self._places[key], number, precision))
        ]
        question = Question(right, self._places, given, other, precision)
        runs = [run for run in self._singles if run.names == ("relu_ge",)]
        return tuple(self._explanation(match, len(given)) for match in question.explanations(runs) if match.is_full)

    def _is_plain(self, run: Run) -> bool:
        """Whether the operations of a single mistake are in the graph as it stands."""
        operations = NAMED[run.names[0]].operations
        return not operations or any(node.op in operations for node in self.graph.nodes)

    def _ordered(self, question: Question, *, at_once: bool = False) -> list[Match]:
        """Return the engines with one mistake and children in a set that give every number.

        at_once   only those that are found with an eighth of the work
        """
        share = 8 if at_once else 1
        each = (
            self._fitting(question, [(MISTAKES[name], ())], Work(work // share)) for name, work in ORDER_WORK.items()
        )
        return ranked(chain.from_iterable(each))

    def _slips(self, question: Question) -> list[Match]:
        """Return the mistakes at a single node that give every number."""
        if question.digits < SLIP_DIGITS:
            return []
        return [match for match in question.explanations(self._by_hand) if match.is_full]

    @lazy
    def _by_hand(self) -> list[Run]:
        size = self._tape.size
        return [run._replace(gradients=array("d", run.gradients[:size])) for run in self._engines.by_hand()]

    def _fitting(
        self, question: Question, engines: Iterable[tuple[Mistake, tuple[Mistake, ...]]], work: Work
    ) -> list[Match]:
        """Return the engines with children in a set, and with other mistakes, that give every number."""
        found = []
        for mistake, others in engines:
            runs = self._engines.fitting(mistake, others, question.wanted, work)
            if (run := next(filter(question.fits, runs), None)) is not None:
                found.append(question.compare(run))
        return ranked(found)

    def _two(self, question: Question) -> list[Match]:
        """Return the pairs of mistakes that give every number."""
        if question.digits < PAIR_DIGITS:
            return []
        best: dict[tuple[str, ...], Match] = {}
        for run in self._pairs:
            if run.names not in best and question.fits(run):
                best[run.names] = question.compare(run)
        if _ASSIGN in self._telling:
            others = ((_ASSIGN, (mistake,)) for mistake in self._telling if not mistake.in_the_pass)
            best |= {match.run.names: match for match in self._fitting(question, others, Work(PAIR_ORDER_WORK))}
        return ranked(best.values())

    # --------------------------------------------------------------------------------------------------- what is said

    def _explanation(self, match: Match, of: int) -> Explanation:
        names = match.run.names
        said = [NAMED[name].hint + self._whereabouts(NAMED[name], match.run.node) for name in names]
        message = said[0] if len(said) == 1 else "Two things seem to come together. " + " And: ".join(said)
        title = " and ".join(NAMED[name].title for name in names)
        return Explanation(names, match.explains, match.matches, of, message, title)

    def _whereabouts(self, mistake: Mistake, slot: int) -> str:
        if slot >= 0:
            name = self._tape.name(slot) or ""
            return f" It seems to be made at {name[:60]} alone." if is_named(name) else " It seems to be made once."
        nodes = [node.id for node in self.graph.nodes if node.op in mistake.operations and is_named(node.id)]
        if not nodes:
            return ""
        return f" It shows at {', '.join(node[:40] for node in nodes[:3])}{', …' if len(nodes) > 3 else ''}."

    def follow_through(self, answers: Mapping[str, float]) -> dict[str, float]:
        """Return what follows from the student's own numbers: key → number, for those that some given number leads to.

        A value follows from the values of the arguments, a gradient from those of what uses the node; where none was
        given the right one is taken.
        """
        given = self._read(answers)
        precision = read_precision(given.values())
        following = self._following(given, self._wrong(given, precision), precision)
        return {
            key: (following.gradients if place[0] else following.values)[place[1]]
            for key, place in self._places.items()
            if place in following.own
        }

    def _following(self, given: Mapping[str, float], wrong: Sequence[str], precision: Precision) -> Following:
        numbers = Numbers({}, {}, {self._places[key] for key in wrong})
        for key, number in given.items():
            is_gradient, slot = self._places[key]
            (numbers.gradients if is_gradient else numbers.values)[slot] = number
        return Following(self._right, numbers, precision)


def follow_through(
    graph: Graph, answers: Mapping[str, float], seeds: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return what follows from the student's own numbers; see `Catalogue.follow_through`."""
    return Catalogue(graph, seeds=seeds).follow_through(answers)


def _sorted(graph: Graph) -> Graph:
    """Return the graph with its inputs by name: they have no order on the wire, so that nothing may depend on one."""
    inputs = dict(sorted(graph.inputs.items()))
    if list(inputs) == list(graph.inputs):
        return graph
    nodes = Nodes.of(inputs, list(graph.nodes))
    return Graph(inputs, nodes, graph.outputs, graph.single, graph.order, graph.aliases)


def _is_close(x: float, y: float) -> bool:
    return agree(x, y, DOUBLE_NOISE * abs(y))


def _numbers(answers: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for key, number in answers.items():
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            try:
                yield key, float(number)
            except OverflowError:
                yield key, math.inf if number > 0 else -math.inf
