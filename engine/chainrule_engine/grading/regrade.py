"""What a regrade changes: two reports of the same answers, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule_engine.grading.tasks import exact, tidy


def compare_reports(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences of two reports for one audience: in total, and by check where there is any.

    {"score": {"old", "new", "difference"}, "max_score": …, "outcome": {"old", "new"}, "changed": whether the score, the
    outcome or any check differs, "task_changed", "engine_changed", "answers_changed", "checks": [{"id", "title", "old",
    "new", "difference"}]}; a check that one of the two does not have is null there. Of reports for students, which have
    no digest of the task, `task_changed` is known where engine and submission are the same, and else null.
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
        "task_changed": _task_changed(old, new),
        "engine_changed": old["engine"] != new["engine"],
        "answers_changed": old["submission"]["digest"] != new["submission"]["digest"],
        "checks": checks,
    }


def _task_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool | None:
    before, after = old["task"].get("digest"), new["task"].get("digest")
    if before is not None and after is not None:
        return bool(before != after)
    # Their ids are made of the task, the engine and the submission.
    same = old["engine"] == new["engine"] and old["submission"] == new["submission"]
    return bool(old["id"] != new["id"]) if same else None


def _change(old: float | None, new: float | None) -> dict[str, Any]:
    difference = tidy(exact(new or 0) - exact(old or 0))
    return {"old": old, "new": new, "difference": difference}
