"""How often the diagnosis names the mistake that an independent engine made, and whether right answers are left alone.

The same as a table, on as many exercises as are asked for, with the first misses:

    python -m tests.engine.test_diagnosis_conformance [--exercises 200] [--pairs 1000] [--right 10000] [--misses 0]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations
from typing import Any

import autograd
import autograd.numpy as anp
import pytest
from tests.engine.random_exercises import exercise
from tests.engine.twins import HIPS
from tests.engine.wrong_engine import MISTAKES, PRIMITIVES, WAYS_THROUGH, NoAnswer, Student, can_be, hand_in

from chainrule_engine.diagnosis import Catalogue, Diagnosis
from chainrule_engine.graph import Graph

Numbers = dict[str, float]

#: What depends on the order in which a set has its members.
_BY_ORDER = WAYS_THROUGH | {"assign", "relu_on_grad"}
DIGITS = 4
#: Exercises of their own begin at these numbers.
_OF_PAIRS, _OF_RIGHT = 1_000_000, 2_000_000


@lru_cache(maxsize=4)
def task(operation: str | None, number: int) -> tuple[dict[str, Any], Catalogue, Numbers]:
    """An exercise, its catalogue, and the right numbers."""
    graph = exercise(number, operation, kink=operation == "relu" and number % 2 == 0)
    catalogue = Catalogue(Graph.from_dict(graph))
    return graph, catalogue, catalogue.right()


def asked(graph: Mapping[str, Any], number: int) -> list[str]:
    """The keys of what is handed in: the value, and the gradients of the inputs or, a third of the time, of all."""
    names = list(graph["inputs"])
    if number % 3 == 0:
        names += [node["id"] for node in graph["nodes"]]
    return ["value", *(f"gradients.{name}" for name in names)]


def rounded(x: float, digits: int = DIGITS) -> float:
    return float(f"{x:.{digits - 1}e}")


def is_same(x: float, y: float, scale: float) -> bool:
    """Whether two numbers are one but for the rounding of other formulas."""
    return math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-13 * scale)


def rounds_to(x: float, short: float, scale: float) -> bool:
    """Whether a number rounds to a given one of four digits; at a tie, either way."""
    unit = 10.0 ** (math.floor(math.log10(abs(short))) - DIGITS + 1) if short else 0.0
    return abs(x - short) <= 0.5 * unit * (1 + 1e-6) + 1e-13 * scale


def is_right(answers: Numbers, right: Numbers) -> bool:
    """Whether a right answer rounded to 2 to 8 digits or decimals is just this: nobody can tell it from one."""
    return any(
        all(abs(form(right[key], digits) - answer) <= 1e-12 * abs(answer) for key, answer in answers.items())
        for form in (rounded, round)
        for digits in range(2, 9)
    )


@dataclass
class Rate:
    """How many of the cases that can be told from right were diagnosed."""

    counted: int = 0
    named: int = 0
    misses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, hit: bool, **case: Any) -> None:
        self.counted += 1
        self.named += hit
        if not hit:
            self.misses.append(case)

    @property
    def share(self) -> float:
        return self.named / self.counted if self.counted else 1.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.counted + other.counted, self.named + other.named, self.misses + other.misses)


def total(rates: Iterable[Rate]) -> Rate:
    result = Rate()
    for rate in rates:
        result = result + rate
    return result


def somebody(mistakes: Iterable[str], chance: random.Random) -> Student:
    """A student who can make these mistakes."""
    mistakes = frozenset(mistakes)
    needed = PRIMITIVES.intersection(chain.from_iterable(MISTAKES[mistake] for mistake in mistakes))
    kept = needed | {operation for operation in sorted(PRIMITIVES) if chance.random() < 0.5}
    return Student(mistakes, kept, chance.randrange(1000) if chance.random() < 0.5 else None)


def gives(graph: Mapping[str, Any], names: Iterable[str], answers: Numbers, *, short: bool) -> bool:
    """Whether some student with these mistakes, and no others, hands in just these answers."""
    names = frozenset(names)
    if not names <= MISTAKES.keys():
        return False
    fits = rounds_to if short else is_same
    orders = [None, *range(40)] if _BY_ORDER.intersection(names) else [None]
    for size in range(len(PRIMITIVES) + 1):
        for kept in map(frozenset, combinations(sorted(PRIMITIVES), size)):
            if not can_be(names, kept):
                continue
            for order in orders:
                try:
                    numbers = hand_in(graph, Student(names, kept, order))
                except NoAnswer:
                    continue
                scale = max(map(abs, numbers.values()))
                if all(fits(numbers[key], answer, scale) for key, answer in answers.items()):
                    return True
    return False


def is_named(graph: Mapping[str, Any], student: Student, answers: Numbers, found: Diagnosis, *, short: bool) -> bool:
    """Whether the mistakes stand where they should: one alone first, two among the first five; or what equals them."""
    places = 1 if len(student.mistakes) == 1 else 5
    shown = [frozenset(e.names) for e in found.explanations[:places] if len(e.names) <= len(student.mistakes)]
    return student.mistakes in shown or any(gives(graph, names, answers, short=short) for names in shown)


def singles(count: int) -> tuple[dict[str, Rate], dict[str, Rate]]:
    """Each mistake on so many exercises: rates by name, with all digits and with four."""
    exact, short = ({mistake: Rate() for mistake in MISTAKES} for _ in range(2))
    by_operation: dict[str | None, list[str]] = {}
    for mistake, operations in MISTAKES.items():
        by_operation.setdefault(operations[0] if operations else None, []).append(mistake)
    for operation, mistakes in by_operation.items():
        for number in range(count):
            graph, catalogue, right = task(operation, number)
            scale = max(map(abs, right.values()))
            for mistake in mistakes:
                student = somebody([mistake], random.Random(f"{mistake} {number}"))
                try:
                    numbers = hand_in(graph, student)
                except NoAnswer:
                    continue
                answers = {key: numbers[key] for key in asked(graph, number)}
                case = {"mistake": mistake, "student": student, "graph": graph}
                if not all(math.isclose(n, right[k], rel_tol=1e-6, abs_tol=1e-9 * scale) for k, n in answers.items()):
                    found = catalogue.diagnose(answers)
                    hit = is_named(graph, student, answers, found, short=False)
                    exact[mistake].add(hit, **case, answers=answers, found=found.explanations[:3])
                answers = {key: rounded(answer) for key, answer in answers.items()}
                if not is_right(answers, right) and not all(rounds_to(right[k], n, scale) for k, n in answers.items()):
                    found = catalogue.diagnose(answers)
                    hit = is_named(graph, student, answers, found, short=True)
                    short[mistake].add(hit, **case, answers=answers, found=found.explanations[:3])
    return exact, short


def pairs(count: int) -> Rate:
    """Two mistakes at once that show both: the numbers are other than those of each of the two alone."""
    rate = Rate()
    number = 0
    while rate.counted < count:
        number += 1
        graph, catalogue, right = task(None, _OF_PAIRS + number // 5)
        chance = random.Random(f"pair {number}")
        operations = {node["op"] for node in graph["nodes"]}
        possible = [m for m, concerned in MISTAKES.items() if not concerned or operations.intersection(concerned)]
        mistakes = frozenset(chance.sample(possible, 2))
        one, two = (frozenset(MISTAKES[mistake]) for mistake in mistakes)
        student = somebody(mistakes, chance)
        if one & two or mistakes <= WAYS_THROUGH:
            continue
        try:
            numbers = hand_in(graph, student)
            others = [
                right,
                *(hand_in(graph, Student(frozenset({m}), student.primitives, student.order)) for m in mistakes),
            ]
        except NoAnswer:
            continue
        keys = asked(graph, number)
        scale = max(map(abs, numbers.values()))
        if any(
            all(math.isclose(numbers[k], other[k], rel_tol=1e-6, abs_tol=1e-9 * scale) for k in keys)
            for other in others
        ):
            continue
        answers = {key: numbers[key] for key in keys}
        found = catalogue.diagnose(answers)
        hit = is_named(graph, student, answers, found, short=False)
        rate.add(hit, mistake=mistakes, student=student, graph=graph, answers=answers, found=found.explanations[:5])
    return rate


def by_autograd(graph: Mapping[str, Any], dtype: str) -> Numbers:
    """Value and gradients of the inputs from autograd (HIPS), all of it in one precision."""

    def output(*inputs: Any) -> Any:
        values = dict(zip(graph["inputs"], inputs, strict=True))
        for node in graph["nodes"]:
            values[node["id"]] = HIPS[node["op"]](*(values[a] if isinstance(a, str) else a for a in node["args"]))
        return values[graph["output"]]

    inputs = [anp.array(number, dtype=dtype) for number in graph["inputs"].values()]
    value, gradients = autograd.value_and_grad(output, argnum=tuple(range(len(inputs))))(*inputs)
    assert value.dtype == dtype
    keys = ["value", *(f"gradients.{name}" for name in graph["inputs"])]
    return dict(zip(keys, map(float, [value, *gradients]), strict=True))


def right_answers(graph: Mapping[str, Any], right: Numbers, number: int) -> Iterator[tuple[str, Numbers]]:
    """Twenty ways to be right."""
    exact = {key: right[key] for key in asked(graph, number)}
    yield "exact", exact
    for digits in range(2, 9):
        yield f"{digits} significant digits", {key: rounded(x, digits) for key, x in exact.items()}
        yield f"{digits} decimals", {key: round(x, digits) for key, x in exact.items()}
    yield "rounded to float32", {key: float(anp.float32(x)) for key, x in exact.items()}
    yield "autograd in float32", by_autograd(graph, "float32")
    yield "autograd", by_autograd(graph, "float64")
    for kept, order in ((frozenset(), None), (frozenset({"neg"}), number)):
        numbers = hand_in(graph, Student(primitives=kept, order=order))
        yield f"formulas of others, {kept or 'none'}", {key: numbers[key] for key in exact}


def right(count: int) -> Rate:
    """So many right answers: those that are left alone."""
    rate = Rate()
    for number in range(count // 20):
        graph, catalogue, numbers = task(None, _OF_RIGHT + number)
        for form, answers in right_answers(graph, numbers, number):
            found = catalogue.diagnose(answers)
            alone = not found.explanations and found.blame is None
            rate.add(alone, form=form, graph=graph, answers=answers, right=numbers, found=found)
    return rate


#: Exercises of each mistake, pairs, and right answers.
EXERCISES, PAIRS, RIGHT = 200, 300, 10_000
#: What is asked for: with all digits, with four, of pairs.
NAMED, NAMED_SHORT, NAMED_PAIRS = 0.98, 0.95, 0.85


@pytest.mark.slow
def test_a_mistake_is_named_first():
    for rates, share in zip(singles(EXERCISES), (NAMED, NAMED_SHORT), strict=True):
        seldom = {mistake: rate.counted for mistake, rate in rates.items() if rate.counted < EXERCISES / 4}
        assert not seldom, "the exercises do not show these mistakes"
        low = {mistake: (rate.named, rate.counted) for mistake, rate in rates.items() if rate.share < share}
        assert not low, [rates[mistake].misses[0] for mistake in low]


@pytest.mark.slow
def test_two_mistakes_are_among_the_first_five():
    rate = pairs(PAIRS)
    assert rate.share >= NAMED_PAIRS, rate.misses[:3]


@pytest.mark.slow
def test_right_answers_are_left_alone():
    rate = right(RIGHT)
    assert rate.counted == RIGHT
    assert not rate.misses, rate.misses[:3]


def test_what_is_counted_as_the_same():
    graph = {"inputs": {"a": 2.0, "b": 3.0}, "nodes": [{"id": "z", "op": "mul", "args": ["a", "b"]}], "output": "z"}
    answers = {"value": 6.0, "gradients.a": 2.0, "gradients.b": 3.0}
    assert gives(graph, ["mul_own"], answers, short=False)
    assert not gives(graph, ["mul_no_up"], answers, short=False)
    assert not gives(graph, ["mul_own"], answers | {"gradients.a": 2.0001}, short=False)
    assert gives(graph, ["mul_own"], answers | {"gradients.a": 2.0}, short=True)
    assert not gives(graph, ["mul_own"], answers | {"gradients.a": 2.001}, short=True)
    assert rounds_to(2.0004999, 2.0, 1.0)
    assert not rounds_to(2.00051, 2.0, 1.0)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 where a rate is below what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exercises", type=int, default=EXERCISES, help="for each of the 46 mistakes")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--right", type=int, default=RIGHT, help="right answers")
    parser.add_argument("--misses", type=int, default=0, help="print so many of each")
    options = parser.parse_args(arguments)
    write = sys.stdout.write
    exact, short = singles(options.exercises)
    write(f"{'mistake':<16}{'named first':>22}{f'to {DIGITS} digits':>22}\n")
    everything = {"all": (total(exact.values()), total(short.values()))}
    for name, rates in ({name: (exact[name], short[name]) for name in MISTAKES} | everything).items():
        write(f"{name:<16}" + "".join(f"{r.named:>6} of {r.counted:>5}{r.share:>8.1%}" for r in rates) + "\n")
    two, good = pairs(options.pairs), right(options.right)
    write(f"pairs among the first five: {two.named} of {two.counted}, {two.share:.1%}\n")
    write(f"right answers diagnosed: {len(good.misses)} of {good.counted}\n")
    for rate in [*exact.values(), *short.values(), two, good]:
        for case in rate.misses[: options.misses]:
            write("\n" + "\n".join(f"{key}: {value}" for key, value in case.items()) + "\n")
    met = [
        all(rate.share >= NAMED for rate in exact.values()),
        all(rate.share >= NAMED_SHORT for rate in short.values()),
        two.share >= NAMED_PAIRS,
        not good.misses,
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
