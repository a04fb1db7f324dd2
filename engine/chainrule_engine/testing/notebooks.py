"""For cells and test files: pytest, Otter, nbgrader.

What a student sees of an exception is its message and the lines that led to it, sometimes with their variables. So a
message is a student's message, and the functions that raise hold nothing else that a student may not see.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr

from chainrule_engine.rendering.notebooks import earned
from chainrule_engine.rendering.view import UNREADABLE
from chainrule_engine.testing.submissions import Spec, graded, read_spec, told


def checks(spec: Spec) -> list[str]:
    """Return the ids of the task's checks: for pytest, one case of `parametrize` each."""
    return [check.id for check in read_spec(spec).checks]


def assert_answers(student: object, *, spec: Spec, phase: str = "open") -> None:
    """Raise AssertionError unless every check is passed; the message has a line for each that is not."""
    __tracebackhide__ = True
    if text := _faults(student, spec, None, phase):
        raise AssertionError(text)


def assert_check(student: object, check: str, *, spec: Spec, phase: str = "open") -> None:
    """Raise AssertionError, with what a student may be told, unless the check of that id is passed.

    student   see `answers_of`; all that is given serves to find the mistake
    """
    __tracebackhide__ = True
    if text := _faults(student, spec, check, phase):
        raise AssertionError(text)


def assert_grad(student: object, name: str, *, spec: Spec, phase: str = "open") -> None:
    """Raise AssertionError, with what a student may be told, unless the gradient by `name` is right.

    student   see `answers_of`
    Raises ValueError where the task has no check of that gradient alone.
    """
    __tracebackhide__ = True
    ids = [check.id for check in read_spec(spec).checks if check.keys == (f"gradients.{name}",)]
    if not ids:
        raise ValueError(f"the task has no check of the gradient by {name!r}")
    for check in ids:
        if text := _faults(student, spec, check, phase):
            raise AssertionError(text)


def _faults(student: object, spec: Spec, wanted: str | None, phase: str) -> str:
    """What is to be told of the checks that are not passed; nothing where all are."""
    ids = checks(spec)
    if wanted is not None and wanted not in ids:
        raise ValueError(f"the task has no check {wanted!r}: it has {', '.join(ids)}")
    view = graded(student, spec, phase, diagnose=False)
    if view.outcome != "graded":
        return "\n".join([UNREADABLE, *view.errors])
    if all(check.passed for check in view.checks if wanted in (None, check.id)):
        return ""
    found = graded(student, spec, phase).checks
    return "\n".join(dict.fromkeys(told(c) for c in found if not c.passed and wanted in (None, c.id)))


def points(student: object, spec: Spec, max: float | None = None, *, check: str | None = None) -> float:  # noqa: A002 - the cell reads like nbgrader's
    """Return the points of an nbgrader cell: its last line is `points(globals(), "task.json", max=5)`.

    student   see `answers_of`
    max       the points of the cell, which the result is scaled to; left out, those of the task or of the check
    check     the id of the one check that the cell is for

    A plain float from 0 to `max`, 0 for answers that are not gradable. Nothing is written to stderr meanwhile, not by
    the student's objects either: nbgrader would take it for an error.
    """
    with redirect_stderr(io.StringIO()):
        return earned(graded(student, spec, diagnose=False), max, check)


def otter_test_file(spec: Spec, path: str, *, name: str) -> str:
    """Return the text of an Otter test file, in its exception-based format, with a case for each check of the task.

    spec   the task
    path   of the file that the task will be in when Otter runs: the expected numbers are computed there, and the test
           file has none
    name   of the question, as in Otter's notebook
    """
    lines = [
        '"""Written by chainrule_engine.testing.otter_test_file: a case for each check of the task."""',
        "",
        "from otter.test_files import test_case",
        "",
        "from chainrule_engine.testing import assert_check",
        "",
        "OK_FORMAT = False",
        "",
        f"name = {_literal(name)}",
        "points = None",
    ]
    for place, check in enumerate(read_spec(spec).checks, start=1):
        worth, hidden = float(check.points), check.visibility != "visible"
        lines += [
            "",
            "",
            f"@test_case(name={_literal(check.title)}, points={worth!r}, hidden={hidden!r})",
            f"def test_{place}(env):",
            f"    assert_check(env, {_literal(check.id)}, spec={_literal(path)})",
        ]
    return "\n".join([*lines, ""])


def _literal(text: str) -> str:
    """Write a text for Python, whose literals those of JSON are."""
    return json.dumps(text, ensure_ascii=False)
