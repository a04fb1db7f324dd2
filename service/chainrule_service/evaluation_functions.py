"""Evaluation functions as Lambda Feedback calls them: the task and its parameters, and the body from before µEd.

That body is `{"response", "answer", "params"}` with a command in a header. Source: lambda-feedback/
BaseEvalutionFunctionLayer, `tools/commands.py`. What goes wrong is told inside the answer, `{"command": …, "error":
{"message": …}}`, with status 200, as that layer does behind its gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading import LEVELS, MODES, PRESETS, Report, Task
from chainrule_service import jsonio
from chainrule_service.fields import refuse
from chainrule_service.grading_reading import read_task_cached

#: Returns the report on answers to a task, as staff sees it.
Grade = Callable[[Task, Any], Mapping[str, Any]]

COMMANDS = ("eval", "preview", "healthcheck", "docs-user", "docs-dev", "docs")
MAX_CASES, _MAX_NUMBERS = 50, 1_000
_SOURCES = ("evaluation", "training")
_BREAK = "<br />"

DOCS = """# chainrule

Grades numbers against a computation graph: values, gradients, loss histories.

- `answer`: a task of chainrule, or its graph, as an object or as JSON text; or a number, or a list of numbers.
- `response`: the student's answers, `{"value": -8.0, "gradients": {"a": 6.0}}`, as an object or as JSON text; for a
  number, a number.
- `params`: how numbers are compared, e.g. `{"mode": "allclose", "rtol": 1e-4, "atol": 1e-6}`; `feedback`: pass_fail,
  hint or full; `cases`: feedback for certain wrong answers, each
  `{"answer": …, "feedback": "…", "mark": 0, "params": {}}`.
"""


def evaluate(body: Any, grade: Grade) -> dict[str, Any]:
    """Answer the command eval.

    Raises:
        InvalidInput, LimitExceeded: the body is none, or what it asks cannot be graded; paths are relative to it.
    """
    fields = _fields(body, ("response", "answer"))
    params = fields["params"]
    cases = params.get("cases") or []
    if not isinstance(cases, list) or len(cases) > MAX_CASES:
        raise refuse(f"cases is a list of {MAX_CASES} at most", ("params", "cases"))
    correct, feedback = _judge(fields["response"], fields["answer"], params, grade)
    result: dict[str, Any] = {"is_correct": correct, "feedback": feedback}
    found, warnings = _matching(fields["response"], cases, params, grade)
    if warnings:
        result["warnings"] = warnings
    if found is not None:
        case = cases[found]
        words = str(case["feedback"])
        if _own_params(case).get("override_eval_feedback"):
            words = _BREAK.join(filter(None, [words, feedback]))
        result |= {"feedback": words, "match": found}
        if "mark" in case:
            result["is_correct"] = _mark(case["mark"], ("params", "cases", found, "mark"))
    return {"command": "eval", "result": result}


def preview(body: Any) -> dict[str, Any]:
    """Answer the command preview: what was understood of a response, before it is graded.

    Raises:
        InvalidInput: the body is none.
    """
    response = _fields(body, ("response",))["response"]
    try:
        read = parsed(response)
    except jsonio.MalformedJSON as error:
        return {"command": "preview", "result": {"preview": {"feedback": f"This cannot be read: {error}"}}}
    words = jsonio.dumps(read)
    short = words if len(words) <= 1_000 else words[:999] + "…"
    return {"command": "preview", "result": {"preview": {"feedback": f"Read as {short}"}}}


def healthcheck() -> dict[str, Any]:
    """Answer the command healthcheck."""
    result = {"tests_passed": True, "successes": [], "failures": [], "errors": []}
    return {"command": "healthcheck", "result": result}


def parsed(data: Any) -> Any:
    """Return what JSON text holds, and anything else as it is.

    Raises:
        MalformedJSON: the text is not JSON.
    """
    return jsonio.loads(data.encode(errors="surrogatepass")) if isinstance(data, str) else data


def task_of(source: Any) -> dict[str, Any] | None:
    """Return the task that an object stands for: a task, an evaluation, or a graph; None for anything else."""
    if not isinstance(source, dict):
        return None
    if any(name in source for name in _SOURCES):
        return dict(source)
    if "graph" in source:
        inside = {name: source[name] for name in ("graph", "seeds") if name in source}
        return {name: value for name, value in source.items() if name not in inside} | {"evaluation": inside}
    if "program" in source or "nodes" in source:
        return {"evaluation": {"graph": source}}
    return None


def read_task(data: Mapping[str, Any], params: Mapping[str, Any]) -> Task:
    """Return a task, with what parameters say about all of it: how its checks compare, how much feedback there is.

    What the task says itself counts more; parameters that mean something else are left alone.

    Raises:
        InvalidInput, LimitExceeded: it is none; paths are relative to it.
    """
    data = dict(data)
    if params.get("feedback") in LEVELS and "feedback" not in data:
        data["feedback"] = params["feedback"]
    compare = _compare_of(params)
    if compare is not None:
        if data.get("checks") is None:
            plain = read_task_cached(data).to_dict()["checks"]
            data["checks"] = [check | {"compare": compare} for check in plain]
        elif isinstance(data["checks"], list):
            data["checks"] = [
                {"compare": compare} | check if isinstance(check, dict) else check for check in data["checks"]
            ]
    return read_task_cached(data)


def _compare_of(params: Mapping[str, Any]) -> Any:
    """Return the comparison that parameters ask for, None where they ask for none."""
    if params.get("compare") is not None:
        return params["compare"]
    mode = params.get("mode")
    if isinstance(mode, str) and mode in PRESETS and mode not in MODES:
        return mode
    names = MODES[mode].settings if isinstance(mode, str) and mode in MODES else ("rtol", "atol")
    asked = {name: params[name] for name in ("mode", *names) if params.get(name) is not None}
    return asked or None


# ------------------------------------------------------------------------------------------------------- judging


def _judge(
    response: Any, answer: Any, params: Mapping[str, Any], grade: Grade, *, diagnose: bool = True
) -> tuple[bool, str]:
    """Return whether a response is right, all of it, and what is said about it: without `diagnose`, of no mistake."""
    try:
        wanted = parsed(answer)
    except jsonio.MalformedJSON as error:
        raise refuse(f"the answer is neither an object nor JSON: {error}", ("answer",)) from None
    try:
        given = parsed(response)
    except jsonio.MalformedJSON as error:
        return False, escape(f"The response cannot be read: {error}")
    data: Mapping[str, Any] | None = task_of(wanted)
    if data is None:
        data, given = _of_numbers(wanted, given)
    if not diagnose:
        data = {**data, "diagnose": False}
    try:
        task = read_task(data, params)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("answer") from None
    report = grade(task, given)
    full = report["outcome"] == "graded" and report["score"] == report["max_score"]
    seen = Report.from_dict(dict(report)).to_dict("student")
    if report["outcome"] != "graded":
        lines = [f"{error['pointer']}: {error['detail']}" for error in seen["format_errors"]]
    else:
        lines = [f"{check['title']}: {check['message']}" for check in seen["checks"]]
        lines += [mistake["message"] for mistake in seen["mistakes"]]
    return full, _BREAK.join(escape(line) for line in lines)


def _of_numbers(wanted: Any, given: Any) -> tuple[Mapping[str, Any], Any]:
    """Return a task whose right answers are a number or some numbers, and the answers to it."""
    many = isinstance(wanted, list)
    numbers = wanted if many else [wanted]
    if not all(type(number) in (int, float) for number in numbers) or not 0 < len(numbers) <= _MAX_NUMBERS:
        detail = f"an answer is a task, a graph, a number, or a list of 1 to {_MAX_NUMBERS:,} numbers"
        raise refuse(detail, ("answer",))
    names = [f"answer {place}" for place in range(1, len(numbers) + 1)] if many else ["answer"]
    graph = {"inputs": dict(zip(names, numbers, strict=True)), "nodes": [], "output": names[0]}
    keys = [f"values.{name}" for name in names]
    check = {"id": "answer", "title": "Answer", "of": keys if many else keys[0], "points": 1}
    task = {"evaluation": {"graph": graph}, "checks": [check], "diagnose": False}
    if not many:
        return task, {"values": {"answer": given}}
    if not isinstance(given, list) or len(given) != len(names):
        return task, given
    return task, {"values": dict(zip(names, given, strict=True))}


def _matching(
    response: Any, cases: list[Any], params: Mapping[str, Any], grade: Grade
) -> tuple[int | None, list[dict[str, Any]]]:
    """Return the first case that a response is an instance of, and what is wrong with cases.

    Raises:
        LimitExceeded: they are too much work together.
    """
    matches: list[int] = []
    warnings: list[dict[str, Any]] = []
    for place, case in enumerate(cases):
        if not isinstance(case, dict) or "answer" not in case or "feedback" not in case:
            warnings.append({"case": place, "message": "Missing answer/feedback field"})
            continue
        merged = {**params, **_own_params(case)}
        try:
            # Only whether it is one is asked, of each: a search for mistakes would be most of the work.
            if _judge(response, case["answer"], merged, grade, diagnose=False)[0]:
                matches.append(place)
        except (InvalidInput, LimitExceeded) as error:
            if isinstance(error, LimitExceeded) and error.limit == "grading_work":
                raise error.under("params", "cases", place) from None  # the rest would be too much as well
            warnings.append({"case": place, "message": str(error)})
    if len(matches) > 1:
        listed = ", ".join(map(str, matches))
        warnings.append({"message": f"Cases {listed} were matched. Only the first one's feedback was returned"})
    return (matches[0] if matches else None), warnings


def _own_params(case: Mapping[str, Any]) -> dict[str, Any]:
    own = case.get("params")
    return own if isinstance(own, dict) else {}


def _mark(mark: Any, path: tuple[str | int, ...]) -> bool:
    try:
        return bool(int(mark))
    except (TypeError, ValueError, OverflowError):
        raise refuse("a mark is 0 or 1", path) from None


def _fields(body: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise refuse(f"an object with {', '.join(names)} is needed here")
    missing = [name for name in names if name not in body]
    if missing:
        raise refuse("this field is missing", (missing[0],))
    params = body.get("params") or {}
    if not isinstance(params, dict):
        raise refuse("params is an object", ("params",))
    return body | {"params": params}
