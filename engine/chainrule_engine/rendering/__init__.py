"""Reports in the forms that grading platforms read.

Each format is a thin function of the report as students may see it (`view`): the renderers never get to see `staff`.
Totals are those of all checks, for they go into the gradebook; texts are about those that students may see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chainrule_engine
from chainrule_engine.grading import SCHEMA
from chainrule_engine.refusals import closest
from chainrule_engine.rendering import gradescope, notebooks, prairielearn, protocols, records, scripts
from chainrule_engine.rendering.form import REASON, Format, Option, Rendering, RenderingError
from chainrule_engine.rendering.view import read

#: By name. What a format is for and what it can be told, each says itself.
FORMATS: Mapping[str, Format] = {
    "json": records.JSON_REPORT,
    "gradescope": gradescope.FORMAT,
    "prairielearn": prairielearn.FORMAT,
    "otter": notebooks.OTTER,
    "nbgrader": notebooks.NBGRADER,
    "mued": protocols.MUED,
    "mugrade": protocols.MUGRADE,
    "xqueue": protocols.XQUEUE,
    "coderunner": scripts.CODERUNNER,
    "codegrade": scripts.CODEGRADE,
    "classroom50": records.CLASSROOM50,
    "autolab": scripts.AUTOLAB,
    "submitty": scripts.SUBMITTY,
    "inginious": scripts.INGINIOUS,
    "check50": records.CHECK50,
    "coursera": scripts.COURSERA,
    "junit": records.JUNIT,
    "lti-ags": protocols.LTI,
}


def render(report: Mapping[str, Any], format: str, **options: object) -> Rendering:  # noqa: A002 - as the wire calls it
    """Write a report for a platform.

    report    of the staff audience: `Report.to_dict("staff")`, or the same read from JSON
    format    one of FORMATS
    options   `phase` ("open", "due" or "published"), and what the format's own `options` list

    Raises RenderingError for a format or an option that does not exist, is missing or does not fit, with the path
    `("format",)` or `("options", name)`; and for anything but a report of the staff audience, with the path `()`.
    """
    if report.get("schema") != SCHEMA or "staff" not in report:
        raise RenderingError.at((), f"this is no {SCHEMA} of the staff audience")
    if format not in FORMATS:
        hint = closest(format, FORMATS) or f": there are {', '.join(FORMATS)}"
        raise RenderingError.at(("format",), f"there is no such format{hint}")
    settled = FORMATS[format].settle(options)
    return FORMATS[format].write(read(report, settled["phase"]), settled)


def failed(max_score: float = 0, *, task_id: str | None = None, title: str = "") -> dict[str, Any]:
    """Return the report, of the staff audience, that there is when a grader could not grade; why, it does not say.

    Platforms want to be told: on many of them no answer at all keeps a student waiting, or counts as a full mark.
    """
    return {
        "schema": SCHEMA,
        "id": "",
        "task": {"id": task_id, "title": title, "digest": ""},
        "engine": dict(chainrule_engine.ENGINE),
        "submission": {"id": None, "attempt": None, "digest": None},
        "outcome": "infrastructure_error",
        "score": 0,
        "max_score": max_score,
        "fraction": 0,
        "feedback": "pass_fail",
        "checks": [],
        "groups": [],
        "mistakes": [],
        "notes": [],
        "format_errors": [],
        "withheld": 0,
        "staff": {"checks": {}, "mistakes": [], "blame": None},
    }


__all__ = ["FORMATS", "REASON", "Format", "Option", "Rendering", "RenderingError", "failed", "render"]
