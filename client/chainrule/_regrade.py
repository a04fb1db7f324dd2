"""Regrading from the command line: what would change, then new reports, which say what they replace."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _files, _local
from ._client import Client
from ._errors import UnprocessableContentError
from ._grade import FAILED, SCHEMA, Form, Result, ask, connect, files_of


@dataclass(frozen=True)
class _Regrade:
    """One submission: its old report, its new one, and what differs."""

    path: Path
    answers: Any
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    changes: Mapping[str, Any]
    form: Form

    @property
    def submission(self) -> dict[str, Any]:
        return _submission(self.old)

    @property
    def loses(self) -> bool:
        return bool(self.new["fraction"] < self.old["fraction"])

    def line(self, kept: bool) -> str:
        """Return what a person reads about it."""
        score, most = self.changes["score"], self.changes["max_score"]
        totals = f"{_points(score['old'])}/{_points(most['old'])} → {_points(score['new'])}/{_points(most['new'])}"
        checks = ", ".join(
            f"{check['id']} {_points(check['old'])} → {_points(check['new'])}" for check in self.changes["checks"]
        )
        outcome = self.changes["outcome"]
        if outcome["old"] != outcome["new"]:
            checks = ", ".join(filter(None, [f"{outcome['old']} → {outcome['new']}", checks]))
        return f"{self.path.stem}: {totals}" + (f" ({checks})" if checks else "") + (", kept as it was" if kept else "")


def regrade(options: argparse.Namespace) -> int:
    """Run `chainrule regrade`."""
    if not options.diff and not options.out:
        raise ValueError("name a folder for the new reports with -o, or look first with --diff")
    stay = {Path(name).resolve() for name in (options.reports, options.answers)}
    if options.out and Path(options.out).resolve() in stay:
        raise ValueError("the new reports go into another folder than the old ones and the answers, which stay")
    task = _files.read_json(options.spec)
    changed, missing = 0, 0
    told: list[dict[str, Any]] = []
    with connect(options) as client:
        for path in files_of(options.reports):
            answers = Path(options.answers, path.name)
            if not answers.exists():
                sys.stderr.write(f"chainrule regrade: {path.stem} has no answers in {options.answers}\n")
                missing += 1
                continue
            found = _look(client, task, path, answers)
            kept = options.policy == "max" and found.loses
            told.append({"name": path.stem, "kept": kept, "changes": found.changes})
            if found.changes["changed"]:
                changed += 1
                if not options.json:
                    _print(found.line(kept))
            if not options.diff:
                _publish(client, task, found, kept, options)
    if options.json:
        _print(json.dumps({"data": told}, indent=2, ensure_ascii=False))
    else:
        _print(f"{changed} of {len(told)} scores change")
    return FAILED if missing else 0


def _look(client: Client, task: Any, path: Path, file: Path) -> _Regrade:
    """Grade once more, and keep nothing of it."""
    old = _files.read_json(str(path))
    if not isinstance(old, dict) or old.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no report; regrade reads what `chainrule grade` wrote with --format json")
    # A report with expected numbers is replaced by one that has them too.
    form = Form(audience="staff" if "staff" in old else "student")
    try:
        answers = _files.read_answers(str(file))
    except _files.Unreadable as error:
        answers = error
    try:
        new = json.loads(ask(client, task, answers, _submission(old), form, store=False).text)
        return _Regrade(path, answers, old, new, _local.platforms().changes(old, new), form)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is a report that is not whole: {error!r}") from error


def _publish(client: Client, task: Any, found: _Regrade, kept: bool, options: argparse.Namespace) -> None:
    """Write the report that counts from now on, and record it where the service has the old one."""
    target = Path(options.out, found.path.name)
    if kept or found.new["id"] == found.old["id"]:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.path, target)
        return
    linked = dict(found.new) | {
        "regrade": {"supersedes": found.old["id"], "changes": found.changes}
        | ({"reason": options.reason} if options.reason else {})
    }
    result = Result(_local.platforms().text(linked).encode(), "application/json")
    if not options.local:
        result = _record(client, task, found, options.reason) or result
    _files.write(str(target), result.text)


def _record(client: Client, task: Any, found: _Regrade, reason: str | None) -> Result | None:
    members = {"supersedes": found.old["id"]} | ({"reason": reason} if reason else {})
    try:
        return ask(client, task, found.answers, found.submission, found.form, **members)
    except UnprocessableContentError as error:
        if [each.pointer for each in error.problem.errors] != ["#/supersedes"]:
            raise
        return None  # the old report was made elsewhere


def _submission(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the submission that a report is about, as a request names it."""
    return {name: value for name in ("id", "attempt") if (value := report["submission"].get(name)) is not None}


def _points(score: float | None) -> str:
    return "not shown" if score is None else f"{score:.6g}"


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
