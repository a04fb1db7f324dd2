"""PrairieLearn: `results.json` of an external grader. What `server.py` needs is in `chainrule_engine.testing`.

The form is that of PrairieLearn's docs/externalGrading.md. Whatever was not graded is `gradable: false`, which uses no
attempt. Students see all tests, so those that they may not see are left out; the score counts them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule_engine.rendering.form import JSON, Format, Rendering
from chainrule_engine.rendering.view import FAILED, Check, View

#: PrairieLearn takes 1 MB; ASCII, so characters are bytes.
_MOST_BYTES = 1_000_000


def write(view: View, options: Mapping[str, Any]) -> Rendering:
    """Write `results.json`: without messages if they would be too much for PrairieLearn, then without tests."""
    del options
    if view.outcome != "graded":
        errors = view.errors if view.outcome == "not_gradable" else [FAILED]
        return Rendering(JSON, json.dumps({"gradable": False, "format_errors": errors or ["not gradable"]}, indent=1))
    message = "\n".join([*view.notes, *view.withheld])
    results: dict[str, Any] = {"gradable": True, "score": view.fraction, "message": message}
    for tests in ([_test(c, c.text) for c in view.shown], [_test(c, "") for c in view.shown], []):
        text = json.dumps(results | {"tests": tests}, indent=1)
        if len(text) <= _MOST_BYTES:
            break
        results["message"] = "There is more to say about the tests than can be shown."
    return Rendering(JSON, text)


def _test(check: Check, message: str) -> dict[str, Any]:
    # Points are shown only if every test has both, and these have.
    return {
        "name": check.title,
        "description": "",
        "points": check.score,
        "max_points": check.max_score,
        "message": message,
        "output": "",
    }


FORMAT = Format(write, "PrairieLearn external grader", "/grade/results/results.json")
