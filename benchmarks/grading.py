"""What grading costs: a diagnosis of one submission, a score without one, and a batch of 500 submissions.

The exercises are random ones of 50 operations; the wrong answers are those of an engine in which a mistake is made. The
yardstick is one plain evaluation of the same graph, the forward and the backward pass. Prints medians over exercises,
and the least and the greatest; times are of the processor, on one core.

    python -m benchmarks.grading [--exercises 30] [--operations 50] [--submissions 500] [--rounds 3]
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.engine.random_exercises import exercise
from tests.engine.wrong_engine import MISTAKES, NoAnswer, Student, hand_in

from benchmarks import report
from benchmarks.race import Figure, figure, one_core
from chainrule_engine import acceleration
from chainrule_engine.derivatives import evaluate
from chainrule_engine.diagnosis import Catalogue
from chainrule_engine.grading import grade, read_task
from chainrule_engine.graph import Graph

Answers = dict[str, float]


def asked(graph: dict[str, Any], numbers: Answers) -> Answers:
    """Return the value and the gradients of the inputs."""
    keys = ["value", *(f"gradients.{name}" for name in graph["inputs"])]
    return {key: numbers[key] for key in keys}


def wrong(graph: dict[str, Any], mistakes: int, chance: random.Random) -> Answers:
    """Return what is handed in by somebody who makes so many mistakes that show."""
    right = asked(graph, hand_in(graph, Student()))
    while True:
        names = frozenset(chance.sample(sorted(MISTAKES), mistakes))
        try:
            answers = asked(graph, hand_in(graph, Student(names)))
        except NoAnswer:
            continue
        if any(abs(answers[key] - right[key]) > 1e-3 * abs(right[key]) for key in right):
            return answers


def spoilt(answers: Answers) -> Answers:
    """Return answers that no mistake explains."""
    return {key: 1.37 * number + 0.71 for key, number in answers.items()}


def in_wire_form(answers: Answers) -> dict[str, Any]:
    """Return answers as they are sent."""
    gradients = {key.partition(".")[2]: n for key, n in answers.items() if key.startswith("gradients.")}
    return {"value": answers["value"], "gradients": gradients}


def timed(work: Callable[[], Any], repeats: int = 1) -> float:
    """Return the seconds of processor time that a piece of work takes."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def one_submission(exercises: int, operations: int) -> Iterator[Figure]:
    """Yield what one submission of each exercise takes, and how many plain evaluations that is."""
    names = {
        "diagnosis, single mistakes": (20.0, 1, False),
        "diagnosis, two mistakes, with pairs": (150.0, 2, True),
        "diagnosis of what nothing explains, with pairs": (150.0, 0, True),
        "grading without diagnosis": (3.0, 1, False),
    }
    took: dict[str, list[float]] = {name: [] for name in names}
    plain: list[float] = []
    for number in range(exercises):
        chance = random.Random(number)
        data = exercise(number, nodes=operations)
        graph = Graph.from_dict(data)
        plain.append(timed(lambda graph=graph: evaluate(graph), 20))
        for name, (_, mistakes, pairs) in list(names.items())[:3]:
            answers = wrong(data, mistakes, chance) if mistakes else spoilt(wrong(data, 1, chance))
            took[name].append(timed(lambda g=graph, a=answers, p=pairs: Catalogue(g).diagnose(a, pairs=p)))
        task = read_task({"id": f"e{number}", "title": "benchmark", "evaluation": {"graph": data}})
        sent = in_wire_form(wrong(data, 1, chance))
        grade(task, sent, diagnose=False)
        took["grading without diagnosis"].append(
            timed(lambda task=task, sent=sent: grade(task, sent, diagnose=False), 20)
        )
    yield figure("a plain evaluation", [seconds * 1e3 for seconds in plain], "ms")
    for name, (target, _, _) in names.items():
        yield figure(name, [seconds * 1e3 for seconds in took[name]], "ms", target, ceiling=True)
        ratios = [seconds / once for seconds, once in zip(took[name], plain, strict=True)]
        yield figure("  of the plain evaluation", ratios, "×", ceiling=True)


def batch(operations: int, submissions: int, rounds: int) -> Iterator[Figure]:
    """Yield what a batch takes in which half of the answers are wrong, for one reason or two or none that is known."""
    data = exercise(1, nodes=operations)
    chance = random.Random(operations)
    right = asked(data, hand_in(data, Student()))
    sent: list[Answers] = []
    while len(sent) < submissions:
        kind = len(sent) % 8
        if kind % 2:
            # Other formulas, other last digits: right all the same.
            answers = {key: number * (1 + chance.uniform(-1e-12, 1e-12)) for key, number in right.items()}
        else:
            answers = spoilt(right) if kind == 0 else wrong(data, 2 if kind == 2 else 1, chance)
            answers = {key: number * (1 + chance.uniform(-1e-12, 1e-12)) for key, number in answers.items()}
        sent.append(answers)

    def whole() -> None:
        task = read_task({"id": "batch", "title": "benchmark", "evaluation": {"graph": data}})
        for answers in sent:
            grade(task, in_wire_form(answers))

    plain = timed(lambda: evaluate(Graph.from_dict(data)), 20)
    seconds = [timed(whole) for _ in range(rounds)]
    yield figure(f"{submissions} submissions, {operations} operations", seconds, "s", 5.0, ceiling=True)
    yield figure("  of as many plain evaluations", [s / plain / submissions for s in seconds], "×", ceiling=True)


def main() -> int:
    """Measure and print; return 1 if a figure is above what it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exercises", type=int, default=30)
    parser.add_argument("--operations", type=int, default=50)
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="of the batch")
    options = parser.parse_args()
    acceleration.load(compiling=True)
    print(report.machine())
    with one_core():
        gc.collect()
        done = [
            report.measurement(
                "submission",
                f"One submission of an exercise of {options.operations} operations, {options.exercises} exercises",
                one_submission(options.exercises, options.operations),
            ),
            *(
                report.measurement(
                    "batch",
                    "A batch, all different, half of them wrong, with diagnosis",
                    batch(size, options.submissions, options.rounds),
                )
                for size in (12, options.operations)
            ),
        ]
    for row in done:
        print(report.lines(row))
    return 1 if any(figure.met is False for row in done for figure in row.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
