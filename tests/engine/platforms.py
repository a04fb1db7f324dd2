"""Otter, nbgrader and PrairieLearn, in as far as tests need them: written from their documentation and sources."""

import ast
import contextlib
import io
import sys
import types
import warnings


class OtterCase:
    """Otter's decorator, in as far as a test file needs it: it calls with variables by name, or `env`."""

    def __init__(self, name=None, points=None, hidden=False, success_message=None, failure_message=None):
        self.name, self.points, self.hidden = name, points, hidden

    def __call__(self, function):
        self.function = function
        return self


def run_otter(text, env, monkeypatch):
    """Return name → (passed, message, points, hidden), as Otter finds them in a test file."""
    module = types.ModuleType("otter.test_files")
    module.test_case = OtterCase
    monkeypatch.setitem(sys.modules, "otter", types.ModuleType("otter"))
    monkeypatch.setitem(sys.modules, "otter.test_files", module)
    names = {}
    exec(compile(text, "q1.py", "exec"), names)
    assert names["OK_FORMAT"] is False
    assert names["name"] == "q1"
    found = {}
    for case in [thing for thing in names.values() if isinstance(thing, OtterCase)]:
        try:
            case.function(env=env)
        except Exception as error:
            found[case.name] = (False, f"{type(error).__name__}: {error}", case.points, case.hidden)
        else:
            found[case.name] = (True, "", case.points, case.hidden)
    return found


def run_cell(source, names):
    """Run a cell; return its outputs: texts on stderr, an error, and what its last expression shows."""
    body = ast.parse(source)
    ends = isinstance(body.body[-1], ast.Expr)
    last = ast.Expression(body.body.pop().value if ends else ast.Constant(None))
    ast.fix_missing_locations(last)
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            exec(compile(body, "cell", "exec"), names)
            result = eval(compile(last, "cell", "eval"), names)
        except Exception as error:
            return stderr.getvalue(), error, None
    return stderr.getvalue(), None, repr(result)


def determine_grade(outputs, most):
    """nbgrader's rules: 0 for an error or a word on stderr; a float is the points; anything else is all of them."""
    stderr, error, result = outputs
    if error is not None or stderr:
        return 0
    try:
        grade = float(result)
    except ValueError:
        return most
    assert grade <= most
    return grade if grade >= 0 else most


def pl_grade(data, name, function, weight=1):
    """PrairieLearn's `grade_answer_parameterized`, as its documentation tells it."""
    data["partial_scores"][name] = {"score": 0.0, "weight": weight}
    if name not in data["submitted_answers"]:
        return
    result, feedback = function(data["submitted_answers"][name])
    assert isinstance(result, bool) or 0.0 <= result <= 1.0
    assert feedback is None or isinstance(feedback, str)
    data["partial_scores"][name]["score"] = float(result)
    if feedback:
        data["partial_scores"][name]["feedback"] = feedback


def pl_weighted(data):
    """PrairieLearn's `set_weighted_score_data`."""
    parts = data["partial_scores"].values()
    return sum(part["score"] * part["weight"] for part in parts) / sum(part["weight"] for part in parts)


def pl_data(**submitted):
    return {
        "params": {}, "correct_answers": {}, "submitted_answers": submitted, "raw_submitted_answers": {},
        "partial_scores": {}, "format_errors": {}, "feedback": {}, "score": 0, "variant_seed": 7,
    }  # fmt: skip
