"""Jobs of gradings: a batch, chunk by chunk."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from dataclasses import replace
from typing import Any

from chainrule_engine.grading import Report
from chainrule_service.grading import conclude, grade_or_fail, told
from chainrule_service.grading_reading import Entry, Read
from chainrule_service.gradings import Gradings
from chainrule_service.training import Chunk

#: A chunk takes about so long, and brings at least such a share of what is done: each checkpoint holds all of that.
_CHUNK_SECONDS, _SHARE = 0.2, 0.05


def run(entries: MutableSequence[Read], state: Mapping[str, Any] | None = None) -> Iterator[Chunk]:
    """Grade the entries of a batch that are left, chunk by chunk; the last chunk has all reports, as staff sees them.

    The loss of a step is the share of the points that its submission has lost.

    Args:
        entries: what `read_batch` returned. Those that are graded let go of the wrong runs of their tasks: a job may
            have an exercise for each student, and all their runs would be gigabytes.
        state: that of the chunk after which to go on; None begins.
    """
    reports: list[dict[str, Any] | None] = list(state["reports"]) if state else []
    while True:
        before, until = len(reports), time.monotonic() + _CHUNK_SECONDS
        for entry in entries[before:]:
            reports.append(grade_or_fail(entry).to_dict("staff") if isinstance(entry, Entry) else None)
            if isinstance(entry, Entry):
                entries[len(reports) - 1] = replace(entry, task=replace(entry.task))  # a copy has what was read alone
            if time.monotonic() > until and len(reports) - before > _SHARE * before:
                break
        losses = [_lost(report) for report in reports[before:]]
        progress = {"step": len(reports), "steps": len(entries), "loss": losses[-1]}
        kept = {"reports": reports}
        ended = len(reports) == len(entries)
        yield Chunk(len(reports), kept, progress, losses, result=kept if ended else None)
        if ended:
            return


def _lost(report: Mapping[str, Any] | None) -> float:
    if report is None or report["outcome"] == "infrastructure_error":
        return math.nan
    return 1.0 - float(report["fraction"])


def result_of(
    gradings: Gradings, of_owner: str, loaded: Mapping[str, Any], entries: Sequence[Read], reports: Sequence[Any]
) -> dict[str, Any]:
    """Record the reports of a job, and return its result: the answer to a batch.

    Args:
        gradings: where they are recorded.
        of_owner: whose the job is.
        loaded: its specification, as `GradingJobRequest` has loaded it.
        entries: what `read_batch` made of that.
        reports: the last result of `run`.

    Raises:
        DatabaseUnavailable: they cannot be recorded now; none was.
    """
    known = [entry for entry in entries if isinstance(entry, Entry)]
    made = [Report.from_dict(report) for report in reports if report is not None]
    done = conclude(gradings, of_owner, known, made, store=loaded["store"], reason=loaded["reason"])
    return {"data": told(loaded, entries, done, loaded["audience"], loaded["phase"])}
