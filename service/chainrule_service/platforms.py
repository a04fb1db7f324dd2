"""What a grader's command line needs of the engine when there is no service to ask, or none answers.

It imports the engine's renderers alone, which need the standard library: what a platform is to be told when nothing
could be graded can be told wherever the client is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chainrule_engine.grading import canonical, compare_reports
from chainrule_engine.rendering import FORMATS, REASON, Rendering, RenderingError, failed, render


def formats() -> dict[str, str]:
    """Return what each format is and can be told, by name."""
    return {
        name: f"{form.description} → {form.target}"
        + (f" (options: {', '.join(option.name for option in form.options)})" if form.options else "")
        for name, form in FORMATS.items()
    }


def settle(name: str, given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a format that are given, or that its platform has set in the environment, or that are now.

    Raises:
        ValueError: there is no such option, or one is missing or wrong.
    """
    form = FORMATS[name]
    told = {
        option.name: environ[option.environment]
        for option in form.options
        if option.environment and environ.get(option.environment)
    }
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    options: dict[str, Any] = {option.name: now for option in form.options if option.now} | told | dict(given)
    try:
        form.settle(options)
    except RenderingError as error:
        raise ValueError(str(error)) from None
    return options


def is_silent(name: str) -> bool:
    """Tell whether the platform of a format takes a word on standard error for a crash of the grader."""
    return FORMATS[name].silent


def failure(name: str, *, phase: str, options: Mapping[str, Any], task: object, reason: str = "") -> Rendering:
    """Return what a platform is told when a task could not be graded: the reason only where staff alone sees it."""
    if reason and REASON in FORMATS[name].options:
        options = {REASON.name: reason} | dict(options)
    named = task if isinstance(task, dict) else {}
    texts = {member: named[member] for member in ("id", "title") if isinstance(named.get(member), str)}
    report = failed(task_id=texts.get("id"), title=texts.get("title", ""))
    return render(report, name, phase=phase, **options)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score differences between two reports on the same answers."""
    return compare_reports(dict(old), dict(new))


def text(report: Mapping[str, Any]) -> str:
    """Return a report as JSON text, in the bytes that a service sends."""
    return canonical(dict(report))
