"""Races: chainrule and its peers do the same work in turn, on one core, and the ratio of each round is taken.

Nobody is timed before the answers agree. The contenders take turns within a round, so that a machine that is busy
meanwhile slows all of them, and a ratio is the median of the rounds' ratios. What is timed is the processor time of the
whole process, all its threads together, which on one core is the time that passes when nothing else runs there.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from statistics import median
from types import ModuleType

#: Sums in another order and other elementary functions differ in the last of 53 bits; a wrong rule differs far more.
TOLERANCE = 1e-9
OURS = "chainrule"


class WrongAnswer(Exception):
    """A contender came to other numbers: its time would say nothing."""


@dataclass(frozen=True)
class Effort:
    """How much time to spend, and on whom.

    slice    a contender repeats its job within a round until this many seconds are full
    budget   so many seconds are spent on a race, within the limits of the rounds
    least, most   rounds
    quick    shrink the work itself: to see that everything runs, not to measure
    peers    whether the peers take part
    """

    slice: float
    budget: float
    least: int
    most: int
    quick: bool = False
    peers: bool = True

    def peer(self, name: str, module: str) -> ModuleType | None:
        """Return a module of `benchmarks.peers`; None if it takes no part or its library is not installed."""
        return _peer(name, module) if self.peers else None


FULL = Effort(slice=0.05, budget=25.0, least=3, most=15)
QUICK = Effort(slice=0.0, budget=0.0, least=1, most=1, quick=True)


@dataclass(frozen=True)
class Contender:
    """One program that can do the job.

    run      does it, and returns numbers by which it is seen to be right
    share    the part of the job that `run` does: a loop that takes minutes does a few of its steps, and its numbers are
             the first of the others'
    """

    name: str
    run: Callable[[], Sequence[float]]
    share: float = 1.0


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it should be.

    low, high   the least and the greatest of the rounds
    target      a ratio should be at least this; with `ceiling`, at most
    """

    what: str
    value: float
    low: float
    high: float
    unit: str
    target: float | None = None
    ceiling: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.ceiling else self.value >= self.target


def figure(
    what: str, samples: Sequence[float], unit: str, target: float | None = None, *, ceiling: bool = False
) -> Figure:
    """Return the median of samples as a figure."""
    return Figure(what, median(samples), min(samples), max(samples), unit, target, ceiling)


@dataclass(frozen=True)
class Times:
    """Seconds for the whole job, by contender, one number per round."""

    seconds: dict[str, list[float]]

    def took(self, name: str = OURS, *, per: float = 1.0, unit: str = "s") -> Figure:
        """Return the time of one contender, divided by `per`, in s, ms, µs or ns."""
        scale = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9}[unit]
        return figure(name, [s / per * scale for s in self.seconds[name]], unit)

    def ratios(self, targets: dict[str, float | None]) -> Iterator[Figure]:
        """Yield how many times faster than each peer ours is, for the peers that took part."""
        for name, target in targets.items():
            if name in self.seconds:
                pairs = zip(self.seconds[OURS], self.seconds[name], strict=True)
                yield figure(name, [theirs / ours for ours, theirs in pairs], "×", target)


def race(contenders: Sequence[Contender], effort: Effort) -> Times:
    """Compare the answers with those of the first contender, then time all of them in rounds."""
    expected: Sequence[float] | None = None
    once = {}
    for contender in contenders:
        answer = contender.run()  # also compiles, allocates, and fills caches
        expected = answer if expected is None else expected
        compare(contender, answer, expected)
        once[contender.name] = _timed(contender, 1)
    repeats = {c.name: max(1, math.ceil(effort.slice / once[c.name])) for c in contenders}
    round_time = sum(max(once[c.name], effort.slice) for c in contenders)
    rounds = max(effort.least, min(effort.most, int(effort.budget / round_time)))
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    # What is there before a race must not be searched for garbage within somebody's time.
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for contender in contenders:
                seconds[contender.name].append(_timed(contender, repeats[contender.name]) / contender.share)
    finally:
        gc.unfreeze()
    return Times(seconds)


def _timed(contender: Contender, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        contender.run()
    return (time.process_time() - start) / repeats


def compare(contender: Contender, answer: Sequence[float], expected: Sequence[float]) -> None:
    """Insist that the numbers are the expected ones, or the first of them from one who does a share of the job."""
    shorter = contender.share < 1.0 and 0 < len(answer) < len(expected)
    if len(answer) != len(expected) and not shorter:
        raise WrongAnswer(f"{contender.name} gives {len(answer)} numbers instead of {len(expected)}")
    for place, (theirs, ours) in enumerate(zip(answer, expected, strict=False)):
        if not math.isclose(theirs, ours, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise WrongAnswer(f"{contender.name} gives {theirs!r} instead of {ours!r}, number {place}")


# ------------------------------------------------------------------------------------------------- the surroundings


def prepare_threads() -> None:
    """Tell the numerical libraries to use one thread; to be called before any of them is imported."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and the threads that it starts on one core, where the system has a call for that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@cache
def _peer(name: str, module: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"benchmarks.peers.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "chainrule_engine"):
            raise
        print(f"{name} is left out: {error.name} is not installed (`make bench` installs it)")
        return None
