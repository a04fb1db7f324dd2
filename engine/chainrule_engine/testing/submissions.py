"""What a test is given: a task, and what a student has made, in whatever form that is."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

from chainrule_engine.grading import Task, TaskError, grade, read_task
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.rendering.view import Check, View, read

#: A task: read, in the form of the wire, as JSON text, or in a file.
Spec = Task | Mapping[str, Any] | str | os.PathLike[str]

#: A class of a student's own may be a float that converts itself in any way: these take its number.
_EXACT: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (float, float.__float__),
    (int, int.__int__),
    (str, str.__str__),
)
#: Answers are nested this deep at most: parameters, layers, a layer, weights, a row.
_DEEPEST = 8


def read_spec(spec: Spec) -> Task:
    """Return the task. Text that begins with `{` is JSON, any other the path of a file with it.

    The last tasks are remembered, so that a test for each check does not mean a training for each.

    Raises TaskError for what is no task, OSError for a file that cannot be read.
    """
    if isinstance(spec, Task):
        return spec
    if isinstance(spec, Mapping):
        try:
            return _read(json.dumps(spec, separators=(",", ":")))
        except (TypeError, ValueError) as error:
            raise TaskError.at((), f"the task is no JSON: {error}") from None
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        return _read(spec)
    return _read(Path(spec).read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _read(text: str) -> Task:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError.at((), f"the task is no JSON: {error}") from None
    return read_task(data)


def answers_of(student: object, spec: Spec) -> dict[str, Any]:
    """Return a student's answers in the form of the wire.

    student   an object of answers, `{"value": …, "gradients": {…}}`; or a mapping, such as `globals()`, or an object
              with attributes, that has values by the names of the graph: whatever has `.data` and `.grad`

    Numbers may be those of NumPy or PyTorch, lists their arrays. What cannot be had counts as not answered.
    """
    task = read_spec(spec)
    # PyTorch warns when somebody looks at the gradient of a tensor that has none; and of what students' objects print
    # meanwhile nbgrader would take anything on stderr for an error.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        answers: dict[str, Any] = _tried(_answers, student, task.graph, instead={})
    return answers


def _answers(student: object, graph: Graph | None) -> dict[str, Any]:
    values = _values(student, graph) if graph is not None else {}
    if values or not isinstance(student, Mapping):
        return _read_off(values, graph.outputs if graph is not None else ())
    return {name: _plain(student[name]) for name in student if isinstance(name, str)}


def _tried(read: Callable[..., Any], *args: Any, instead: Any) -> Any:
    """Return what a function of a student's objects returns, or something else: these may raise anything."""
    try:
        return read(*args)
    except BaseException:  # `exit()` in a property is not to end the tests, nor to look like an interruption of them
        return instead


def _values(student: object, graph: Graph) -> dict[str, object]:
    """Return the values of an autograd engine that a student has, by the names of the graph."""
    names = filter(is_named, (*graph.inputs, *(node.id for node in graph.nodes)))
    found = {name: student.get(name) if isinstance(student, Mapping) else _attribute(student, name) for name in names}
    return {name: thing for name, thing in found.items() if _has(thing, "data") and _has(thing, "grad")}


def _read_off(values: Mapping[str, object], outputs: Sequence[str]) -> dict[str, Any]:
    answers: dict[str, Any] = {"values": {}, "gradients": {}}
    for name, value in values.items():
        for member, attribute in (("values", "data"), ("gradients", "grad")):
            if (number := _plain(_attribute(value, attribute))) is not None:
                answers[member][name] = number
    numbers = [answers["values"].get(name) for name in outputs]
    if numbers and None not in numbers:
        answers["value"] = numbers if len(numbers) > 1 else numbers[0]
    return answers


def _has(thing: object, name: str) -> bool:
    return bool(_tried(hasattr, thing, name, instead=False))


def _attribute(thing: object, name: str) -> Any:
    return _tried(getattr, thing, name, instead=None)


def _plain(answer: Any, depth: int = 0) -> Any:
    """Return an answer as JSON has it.

    What has no such form comes back as something that will be refused where it stands, by the name of its type; what
    would leave the interpreter, as no answer.
    """
    try:
        return _converted(answer, depth)
    except Exception:
        return type(type(answer).__name__, (), {})()
    except BaseException:
        return None


def _converted(answer: Any, depth: int) -> Any:
    if answer is None or isinstance(answer, bool):
        return answer
    for kind, method in _EXACT:
        if isinstance(answer, kind):
            return method(answer)
    if depth == _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(answer, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in answer.items()}
    if hasattr(answer, "tolist"):
        return _plain(answer.tolist(), depth + 1)
    if isinstance(answer, list | tuple):
        return [_plain(item, depth + 1) for item in answer]
    return float(answer)


def graded(student: object, spec: Spec, phase: str = "open", *, diagnose: bool = True) -> View:
    """Grade a student's work; return what students may see of it, checks that they may not see being marked.

    diagnose   whether to look for mistakes, which takes most of the time
    """
    task = read_spec(spec)
    return read(grade(task, answers_of(student, task), diagnose=diagnose).to_dict("staff"), phase)


def told(check: Check) -> str:
    """What a student is told of a check that is not right: of one that is not shown, nothing but that."""
    return (
        f"{check.title}: {check.text or 'Not correct.'}" if check.shown else "A check that is not shown: Not correct."
    )
