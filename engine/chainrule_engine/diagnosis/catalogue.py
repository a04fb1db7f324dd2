"""The catalogue of one graph: what every mistake gives there, in which a student's numbers are looked up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from chainrule_engine.derivatives import evaluate
from chainrule_engine.diagnosis.blame import Blame, Following, Numbers
from chainrule_engine.diagnosis.mistakes import MISTAKES, Mistake
from chainrule_engine.diagnosis.precision import DOUBLE_NOISE, NOTHING, Precision, agree, count_digits
from chainrule_engine.diagnosis.precision import read_precision as read
from chainrule_engine.diagnosis.right import Right
from chainrule_engine.diagnosis.runs import Engines, Run
from chainrule_engine.errors import EvaluationError
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.lazily import lazy
from chainrule_engine.tape import Tape

#: So many explanations are given.
MAX_EXPLANATIONS = 10
#: Graphs with more nodes are only blamed; with more than the second number, pairs are not tried.
MAX_NODES, MAX_PAIR_NODES = 2_000, 200
#: A pair of mistakes must explain wrong numbers that have so many significant digits together: there are so many pairs
#: that one of them gives any short number.
_PAIR_DIGITS = 3
#: What an explanation that fails some numbers must explain of those that are wrong.
_MOST = 0.6


@dataclass(frozen=True)
class Signature:
    """What a mistake gives in a graph.

    names    the mistake, or two
    variant  in words, how the engine works that gives just this, where engines differ
    numbers  key → number
    """

    names: tuple[str, ...]
    variant: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """A mistake, or two, that may be behind wrong numbers.

    explains  the keys of the wrong numbers that it gives exactly
    matches   how many of the given numbers, right ones too, it gives, of how many
    message   for the student
    title     in a few words
    """

    names: tuple[str, ...]
    explains: tuple[str, ...]
    matches: int
    of: int
    message: str
    title: str = ""


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
        self.graph = graph
        self._evaluation = evaluate(graph, seeds=seeds)
        self._tape = Tape(graph)
        given = dict.fromkeys(graph.outputs, 1.0) if seeds is None else seeds
        self._seeds = {self._tape.slot(graph.aliases.get(name, name)): float(seed) for name, seed in given.items()}
        values = [0.0] * self._tape.size
        for slot, number in self._tape.literals.items():
            values[slot] = number
        for name, slot in self._tape.slots.items():
            values[slot] = self._evaluation.all_values[name]  # type: ignore[assignment]  # one point
        self._values = values

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
        gradients = [0.0] * self._tape.size
        for name, slot in self._tape.slots.items():
            gradients[slot] = self._evaluation.all_gradients[name]  # type: ignore[assignment]  # one point
        return Right(self._engines.own, gradients)

    @lazy
    def _engines(self) -> Engines:
        return Engines(self._tape, self._values, self._seeds)

    def right(self) -> dict[str, float]:
        """Return key → the right number."""
        values, gradients = self._values, self._right.gradients
        return {
            key: gradients[slot] if is_gradient else values[slot] for key, (is_gradient, slot) in self._places.items()
        }

    def signatures(self) -> Sequence[Signature]:
        """Return what each single mistake that can occur in this graph gives, in the order of the table.

        One for each way in which engines differ and the numbers with them. Empty for graphs of more than MAX_NODES.
        """
        return [Signature(run.names, run.variant, self._numbers(run)) for run in self._singles]

    def _numbers(self, run: Run) -> dict[str, float]:
        values = self._values if run.values is None else run.values
        return {
            key: run.gradients[slot] if is_gradient else values[slot]
            for key, (is_gradient, slot) in self._places.items()
        }

    @lazy
    def _singles(self) -> list[Run]:
        if len(self.graph.nodes) > MAX_NODES:
            return []
        return [run for mistake in self._engines.possible for run in self._engines.runs((mistake,))]

    @lazy
    def _pairs(self) -> list[Run]:
        """The runs of pairs of mistakes that change something, without those that give what a single one gives."""
        telling = self._telling
        known = {tuple(run.gradients[: self._tape.size]) for run in self._singles}
        runs = []
        for pair in combinations(telling, 2):
            if _ASSIGN in pair and (pair[0].operations or pair[1].operations):
                continue  # `fitting` is for these
            for run in self._engines.runs(pair, few=True):
                key = tuple(run.gradients[: self._tape.size])
                if key not in known:
                    runs.append(run)
        return runs

    @lazy
    def _telling(self) -> list[Mistake]:
        """The mistakes that change a gradient, of those that may come in pairs."""
        right = self._right.gradients
        changing = {
            run.names[0]
            for run in self._singles
            if any(
                not agree(number, right[slot], DOUBLE_NOISE * abs(right[slot]))
                for slot, number in zip(self._tape.slots.values(), run.gradients, strict=False)
            )
        }
        return [
            mistake
            for mistake in self._engines.possible
            if (mistake.name in changing or mistake.upstream.get("relu") in ("gate", "running"))
            and (mistake.number or mistake.seen)
        ]

    # ---------------------------------------------------------------------------------------------------- diagnosis

    def diagnose(self, answers: Mapping[str, float], *, pairs: bool = True) -> Diagnosis:
        """Find what is behind a student's numbers.

        answers   key → number; keys that are none of this graph and entries that are no numbers are left out of account
        pairs     whether two mistakes together are tried where one does not explain everything
        """
        given = {key: number for key, number in _numbers(answers) if key in self._places}
        precision = read(given.values())
        wrong = self._wrong(given, precision)
        if not wrong:
            return Diagnosis(self._at_a_kink(given, precision), None, precision)
        limited = ""
        found: list[_Found] = []
        if len(self.graph.nodes) > MAX_NODES:
            limited = f"mistakes are looked for in graphs of up to {MAX_NODES} nodes"
        else:
            question = _Question(self, given, wrong, precision)
            found = question.singles(self._singles)
            full = [one for one in found if one.is_full]
            if not full:
                full = question.fitting([(mistake, ()) for mistake in ORDERED])
            if pairs and not any(self._is_plain(one.run) for one in full):
                if len(self.graph.nodes) > MAX_PAIR_NODES:
                    limited = f"pairs of mistakes are looked for in graphs of up to {MAX_PAIR_NODES} nodes"
                else:
                    full += question.pairs()
            found = full + [one for one in found if not one.is_full and not full]
        explanations = tuple(self._explanation(one, given) for one in islice(found, MAX_EXPLANATIONS))
        blame = self._following(given, wrong, precision).blame(self._tape)
        return Diagnosis(explanations, blame, precision, tuple(wrong), limited)

    def _is_plain(self, run: Run) -> bool:
        """Whether the operations of a single mistake are in the graph as it stands."""
        operations = MISTAKES[run.names[0]].operations
        return not operations or any(node.op in operations for node in self.graph.nodes)

    def _wrong(self, given: Mapping[str, float], precision: Precision) -> list[str]:
        """Return the keys of the numbers that are not right, even if they were rounded, cut or computed in single."""
        wrong = []
        for key, number in given.items():
            is_gradient, slot = self._places[key]
            if not self._right.admits(slot, number, precision, gradient=is_gradient):
                wrong.append(key)
        return wrong

    def _at_a_kink(self, given: Mapping[str, float], precision: Precision) -> tuple[Explanation, ...]:
        """Name what is admissible at a kink and yet not the convention, where one mistake gives all of it."""
        if not self._right.kinks or len(self.graph.nodes) > MAX_NODES:
            return ()
        right = self.right()
        other = [
            key
            for key, number in given.items()
            if not agree(number, right[key], self._right.tolerance(*self._places[key], number, precision))
        ]
        if not other:
            return ()
        question = _Question(self, given, other, precision)
        runs = [run for run in self._singles if run.names == ("relu_ge",)]
        return tuple(self._explanation(one, given) for one in question.singles(runs) if one.is_full)

    def _explanation(self, found: _Found, given: Mapping[str, float]) -> Explanation:
        names = found.run.names
        title = " and ".join(MISTAKES[name].title for name in names)
        return Explanation(names, tuple(found.explains), found.matches, len(given), self._message(names), title)

    def _message(self, names: tuple[str, ...]) -> str:
        said = []
        for name in names:
            mistake = MISTAKES[name]
            nodes = [node.id for node in self.graph.nodes if node.op in mistake.operations and is_named(node.id)]
            where = ""
            if nodes:
                some = ", ".join(node[:40] for node in nodes[:3]) + (", …" if len(nodes) > 3 else "")
                where = f" It shows at {some}."
            said.append(mistake.hint + where)
        if len(said) == 1:
            return said[0]
        return "Two things seem to come together. " + " And: ".join(said)

    def follow_through(self, answers: Mapping[str, float]) -> dict[str, float]:
        """Return what follows from the student's own numbers: key → number, for those that some given number leads to.

        A value follows from the values of the arguments, a gradient from those of what uses the node; where none was
        given the right one is taken.
        """
        given = {key: number for key, number in _numbers(answers) if key in self._places}
        precision = read(given.values())
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


_ASSIGN = MISTAKES["assign"]
#: The mistakes that show according to the order in which an engine has the children of a node.
ORDERED = (_ASSIGN, *(MISTAKES[name] for name in ("no_topo_dfs", "bfs_once", "dfs_preorder")))


@dataclass
class _Found:
    run: Run
    explains: list[str]
    matches: int
    is_full: bool
    is_exact: bool

    @property
    def rank(self) -> tuple[object, ...]:
        ranks = [MISTAKES[name].rank for name in self.run.names]
        return (
            not self.is_full,
            -self.matches,
            len(self.run.names),
            not self.is_exact,
            any(MISTAKES[name].number is None for name in self.run.names),
            self.run.distance,
            max(ranks),
            ranks,
        )


class _Question:
    """A student's numbers, laid out to be compared with many runs."""

    def __init__(
        self, catalogue: Catalogue, given: Mapping[str, float], wrong: Sequence[str], precision: Precision
    ) -> None:
        self.catalogue, self.wrong, self.given = catalogue, wrong, given
        right, places = catalogue._right, catalogue._places
        rows = []
        bad = set(wrong)
        for key, number in given.items():
            is_gradient, slot = places[key]
            loose = right.tolerance(is_gradient, slot, number, precision)
            rows.append(
                (
                    key not in bad,
                    is_gradient,
                    slot,
                    number,
                    loose,
                    right.tolerance(is_gradient, slot, number, _EXACT),
                    key,
                )
            )
        # The wrong ones first: on these most runs fail.
        rows.sort(key=lambda row: (row[0], not row[1]))
        self.rows = rows
        self.gradients = [(slot, number, loose) for _, is_gradient, slot, number, loose, _, _ in rows if is_gradient]
        self.values_wrong = any(not places[key][0] for key in wrong)
        self.digits = {
            key: min(count_digits(given[key])[0] if math.isfinite(given[key]) else 1, 17) or 1 for key in wrong
        }

    def fits(self, run: Run) -> bool:
        """Whether a run gives every number."""
        if self.values_wrong and run.values is None:
            return False
        gradients = run.gradients
        for slot, number, tolerance in self.gradients:
            found = gradients[slot]
            if found != number and not agree(found, number, tolerance):
                return False
        return run.values is None or self.count(run).is_full

    def count(self, run: Run) -> _Found:
        """Compare a run with every number."""
        values = self.catalogue._values if run.values is None else run.values
        explains, matches, exact = [], 0, True
        for fine, is_gradient, slot, number, loose, tight, key in self.rows:
            found = run.gradients[slot] if is_gradient else values[slot]
            if agree(found, number, loose):
                matches += 1
                exact = exact and agree(found, number, tight)
                if not fine:
                    explains.append(key)
        return _Found(run, explains, matches, matches == len(self.rows), exact)

    def singles(self, runs: Iterable[Run]) -> list[_Found]:
        """Return what explains something, the best run of each mistake, the best first."""
        best: dict[tuple[str, ...], _Found] = {}
        for run in runs:
            found = self.count(run)
            if not self._explains(found):
                continue
            before = best.get(run.names)
            if before is None or found.rank < before.rank:
                best[run.names] = found
        return _ranked(best.values())

    def _explains(self, found: _Found) -> bool:
        if found.is_full:
            return bool(found.explains)
        some = len(found.explains)
        return some >= 2 and some >= _MOST * len(self.wrong) and found.matches >= _MOST * len(self.rows)

    def fitting(self, engines: Iterable[tuple[Mistake, tuple[Mistake, ...]]]) -> list[_Found]:
        """Return the engines with children in a set, and with other mistakes, that give every number."""
        accepts = {slot: _acceptor(number, tolerance) for slot, number, tolerance in self.gradients}
        found = []
        for mistake, others in engines:
            for run in self.catalogue._engines.fitting(mistake, others, accepts):
                if self.fits(run):
                    found.append(self.count(run))
                    break
        return [one for one in found if one.explains]

    def pairs(self) -> list[_Found]:
        """Return the pairs of mistakes that give every number."""
        if sum(self.digits.values()) < _PAIR_DIGITS:
            return []
        catalogue = self.catalogue
        best: dict[tuple[str, ...], _Found] = {}
        for run in catalogue._pairs:
            if run.names not in best and self.fits(run):
                best[run.names] = self.count(run)
        telling = catalogue._telling
        if _ASSIGN in telling:
            others = [(_ASSIGN, (mistake,)) for mistake in telling if mistake.operations]
            best |= {found.run.names: found for found in self.fitting(others)}
        return _ranked(best.values())


_EXACT = Precision("double", 17, 17)


def _ranked(found: Iterable[_Found]) -> list[_Found]:
    ranked = sorted(found, key=lambda one: one.rank)
    if ranked and ranked[0].is_full and ranked[0].is_exact:
        # What is exact leaves no room for what agrees only if the numbers were rounded.
        ranked = [one for one in ranked if one.is_exact or not one.is_full]
    return ranked


def _acceptor(number: float, tolerance: float) -> Callable[[float], bool]:
    return lambda term: agree(term, number, tolerance)


def _numbers(answers: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for key, number in answers.items():
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            try:
                yield key, float(number)
            except OverflowError:
                yield key, math.copysign(math.inf, number)
