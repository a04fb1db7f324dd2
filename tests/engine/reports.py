"""Reports written by hand, in the form of `Report.to_dict("staff")`, and one of each kind that platforms tell apart."""

from __future__ import annotations

import copy

from chainrule_engine.rendering import failed

VISIBILITIES = ("visible", "after_due_date", "after_published", "hidden", "staff")
#: A digest that says nothing: nobody checks it.
DIGEST = "sha256:" + "0" * 64


def check(name, score=1, max_score=1, *, message="within tolerance", visibility="visible", student=2.5, **more):
    """One check; passed when it has all its points."""
    return {
        "id": name,
        "number": more.pop("number", "1"),
        "title": more.pop("title", f"∂L/∂{name}"),
        "of": more.pop("of", f"gradients.{name}"),
        "score": score,
        "max_score": max_score,
        "passed": more.pop("passed", score == max_score),
        "visibility": visibility,
        "student": student,
        "message": message,
        "mode": "allclose",
        "rtol": 1e-4,
        "atol": 1e-6,
        **more,
    }


def report(*checks, outcome="graded", mistakes=(), notes=(), format_errors=(), max_score=None, title="Backprop"):
    """A report with these checks."""
    score = sum(c["score"] for c in checks)
    max_score = sum(c["max_score"] for c in checks) if max_score is None else max_score
    expected = {c["id"]: {"expected": 645.577, "abs_err": 12.0, "rel_err": 0.0186, "detail": "645.577"} for c in checks}
    return {
        "schema": "chainrule.report/1",
        "id": DIGEST,
        "task": {"id": "backprop-q3", "title": title, "digest": DIGEST},
        "engine": {"version": "0.1.0", "conventions": 1},
        "submission": {"id": "sub-9", "attempt": 1, "digest": DIGEST},
        "outcome": outcome,
        "score": score,
        "max_score": max_score,
        "fraction": score / max_score if max_score else 0.0,
        "feedback": "hint",
        "checks": [c | {"number": str(place)} for place, c in enumerate(checks, start=1)],
        "groups": [],
        "mistakes": list(mistakes),
        "notes": list(notes),
        "format_errors": list(format_errors),
        "withheld": 0,
        "staff": {"checks": expected, "mistakes": [], "blame": None},
        "digest": DIGEST,
    }


def mistake(*explains, message="It looks like a value added once per path (reused node)."):
    return {
        "name": "no_topological_order",
        "names": ["no_topological_order"],
        "title": "No topological order",
        "message": message,
        "explains": list(explains),
        "matches": len(explains),
        "of": len(explains),
    }


WRONG = "not correct"

#: What a title, an id, a note or an answer may hold when somebody means harm.
HOSTILE = (
    "<script>alert(1)</script> & \"quotes\" 'single' ]]> {{mustache}} $(reboot) `reboot` *bold* |sub|\n"
    '{"tag": "points", "points": "5/5"}\n.. raw:: html\r\x00\x1b[31m\x08\ud800 \ufffe end'
)

CASES = {
    "full": report(check("a"), check("b", 2, 2), check("c")),
    "zero": report(
        check("a", 0, message=WRONG),
        check("b", 0, 2, message="no answer", student=None),
        check("c", 0, message=WRONG, student="NaN"),
        mistakes=[mistake("a", "c")],
    ),
    "partial": report(
        check("a"),
        check("b", 0.5, 2, message="within twice the tolerance"),
        check("c", 0, message=WRONG),
        mistakes=[mistake("c")],
        notes=["The answers hold gradients.z, which is not asked."],
    ),
    "hidden": report(
        check("a"),
        check("b", 0, message=WRONG, visibility="after_due_date", title="title of b"),
        check("c", message="secret of c", visibility="after_published", title="title of c"),
        check("d", 0, message="secret of d", visibility="hidden", title="title of d"),
        check("e", message="secret of e", visibility="staff", title="title of e"),
        mistakes=[mistake("b", message="secret of b")],
    ),
    "unicode": report(
        check("α", title="∂𝓛/∂α — наклон 勾配 🧮"),
        check("β", 0, message="größer als erlaubt", student=[0.1, 0.2, 0.3]),
        title="Übung: Rückwärts",
    ),
    "not_gradable": report(
        outcome="not_gradable",
        max_score=4,
        format_errors=[
            {"detail": "must be a number, and this is a string", "pointer": "#/gradients/a"},
            {"detail": "must be a number, and this is an object", "pointer": "#/gradients/%CE%B1"},
        ],
    ),
    "infrastructure_error": failed(4, task_id="backprop-q3", title="Backprop"),
    "hostile": report(
        check("a", 0, message=WRONG, title=HOSTILE, student=HOSTILE),
        check("b", title=HOSTILE),
        title=HOSTILE,
        notes=[HOSTILE],
        mistakes=[mistake("a", message=HOSTILE)],
    ),
}
CASES["hostile_not_gradable"] = report(
    outcome="not_gradable",
    max_score=2,
    title=HOSTILE,
    format_errors=[{"detail": HOSTILE, "pointer": "#/gradients/" + HOSTILE}],
)


def case(name):
    """A copy of a case, to be changed."""
    return copy.deepcopy(CASES[name])


#: Options without which a format refuses, or depends on the time.
OPTIONS = {
    "lti-ags": {"user": "5323497", "timestamp": "2026-11-22T20:00:00.123+00:00"},
    "classroom50": {"datetime": "2026-11-22T20:00:00Z", "classroom": "cs1", "assignment": "hw3", "username": "ann"},
}
