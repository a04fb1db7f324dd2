"""A student's numbers compared with what mistaken engines compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from chainrule_engine.diagnosis.mistakes import NAMED
from chainrule_engine.diagnosis.passes import Wanted
from chainrule_engine.diagnosis.precision import EXACT, Precision, agree, count_digits
from chainrule_engine.diagnosis.right import Right
from chainrule_engine.diagnosis.runs import Run

#: What an explanation that fails some numbers must explain of those that are wrong, and give of all.
_MOST = 0.6

#: Key → whether it is a gradient, and the slot.
Places = Mapping[str, tuple[bool, int]]


@dataclass(frozen=True)
class Match:
    """How far a run gives a student's numbers.

    explains  the keys of the wrong numbers that it gives
    matches   how many numbers it gives
    is_full   whether it gives all
    is_exact  whether those that it explains are given to all digits, and not only to those that were kept
    """

    run: Run
    explains: tuple[str, ...]
    matches: int
    is_full: bool
    is_exact: bool

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts the likeliest first: what gives most, simply, exactly; then what is seen most."""
        names = self.run.names
        ranks = [NAMED[name].rank for name in names]
        uncommon = any(NAMED[name].number is None for name in names)
        return (
            not self.is_full,
            -self.matches,
            len(names),
            not self.is_exact,
            uncommon,
            self.run.distance,
            max(ranks),
            ranks,
        )


class Question:
    """A student's numbers, laid out to be compared with many runs."""

    def __init__(
        self, right: Right, places: Places, given: Mapping[str, float], wrong: Sequence[str], precision: Precision
    ) -> None:
        """Take the given numbers by their keys, and which of them are wrong."""
        self._right_values = right.values
        bad = frozenset(wrong)
        self._rows = [
            (
                key,
                key in bad,
                *places[key],
                number,
                # A right number agrees with the right one of a run, whatever became of its digits.
                max(
                    right.tolerance(*places[key], number, precision),
                    0.0 if key in bad else right.slack(*places[key], number, precision),
                ),
                right.tolerance(*places[key], number, EXACT),
            )
            for key, number in given.items()
        ]
        # The wrong gradients first: on these most runs fail.
        self._rows.sort(key=lambda row: (not row[1], not row[2]))
        self._gradients = [
            (slot, number, loose) for _, _, is_gradient, slot, number, loose, _ in self._rows if is_gradient
        ]
        self._wrong = len(bad)
        self._wrong_values = any(not places[key][0] for key in wrong)
        self._nothing_but_zeros = not any(given[key] for key in wrong)
        #: How many significant digits the wrong numbers have together.
        self.digits = sum(count_digits(given[key])[0] or 1 if math.isfinite(given[key]) else 1 for key in wrong)

    @property
    def wanted(self) -> Wanted:
        """What each gradient must be."""
        return {slot: _acceptor(number, tolerance) for slot, number, tolerance in self._gradients}

    def fits(self, run: Run) -> bool:
        """Whether a run gives every number."""
        gradients = run.gradients
        for slot, number, tolerance in self._gradients:
            found = gradients[slot]
            if found != number and not agree(found, number, tolerance):
                return False
        return not self._wrong_values if run.values is None else self.compare(run).is_full

    def compare(self, run: Run) -> Match:
        """Compare a run with every number."""
        values, gradients = run.values or self._right_values, run.gradients
        explains, matches, exact = [], 0, True
        for key, wrong, is_gradient, slot, number, loose, tight in self._rows:
            found = gradients[slot] if is_gradient else values[slot]
            if agree(found, number, loose):
                matches += 1
                if wrong:
                    exact = exact and agree(found, number, tight)
                    explains.append(key)
        return Match(run, tuple(explains), matches, matches == len(self._rows), exact)

    def explanations(self, runs: Iterable[Run]) -> list[Match]:
        """Return what explains wrong numbers, all or most, of each mistake the best run; the likeliest first."""
        best: dict[tuple[str, ...], Match] = {}
        for match in map(self.compare, runs):
            names = match.run.names
            if self._explains(match) and (names not in best or match.rank < best[names].rank):
                best[names] = match
        found = ranked(best.values())
        if found and self._nothing_but_zeros:
            # There is a way to build the graph in which nearly any mistake gives zeros: only the plainest are named.
            found = [match for match in found if match.run.distance <= found[0].run.distance]
        return found

    def _explains(self, match: Match) -> bool:
        some = len(match.explains)
        if match.is_full:
            return some > 0
        return some >= 2 and some >= _MOST * self._wrong and match.matches >= _MOST * len(self._rows)


def ranked(matches: Iterable[Match]) -> list[Match]:
    """Sort the likeliest first; what is exact leaves no room for what agrees only if the numbers were rounded."""
    found = sorted(matches, key=lambda match: match.rank)
    exact = any(match.is_full and match.is_exact for match in found)
    return [match for match in found if match.is_exact or not match.is_full or not exact]


def _acceptor(number: float, tolerance: float) -> Callable[[float], bool]:
    return lambda found: agree(found, number, tolerance)
