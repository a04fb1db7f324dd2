"""What a regrade changes: two reports of the same answers, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule_engine.grading.tasks import exact, tidy


def compare_reports(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences of two staff reports: in total, and by check where there is any.

    {"score": {"old", "new", "difference"}, "max_score": …, "outcome": {"old", "new"}, "changed": whether the score, the
    outcome or any check differs, "task_changed", "engine_changed", "answers_changed", "checks": [{"id", "title", "old",
    "new", "difference"}]}; a check that one of the two does not have is null there.
    """
    before, after = ({check["id"]: check for check in report["checks"]} for report in (old, new))
    checks = []
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if was is None or now is None or (was["score"], was["max_score"]) != (now["score"], now["max_score"]):
            title = (now or was or {})["title"]
            checks.append({"id": name, "title": title, **_change(was and was["score"], now and now["score"])})
    outcome = {"old": old["outcome"], "new": new["outcome"]}
    score, most = (_change(old[name], new[name]) for name in ("score", "max_score"))
    return {
        "score": score,
        "max_score": most,
        "outcome": outcome,
        "changed": bool(checks or score["difference"] or most["difference"] or outcome["old"] != outcome["new"]),
        "task_changed": old["task"]["digest"] != new["task"]["digest"],
        "engine_changed": old["engine"] != new["engine"],
        "answers_changed": old["submission"]["digest"] != new["submission"]["digest"],
        "checks": checks,
    }


def _change(old: float | None, new: float | None) -> dict[str, Any]:
    difference = tidy(exact(new or 0) - exact(old or 0))
    return {"old": old, "new": new, "difference": difference}
