"""What a grader's command line needs of the engine when there is no service to ask, or none answers.

It imports the engine's renderers alone, which need the standard library: what a platform is to be told when nothing
could be graded can be told wherever the client is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule_engine.grading import canonical, compare_reports
from chainrule_engine.rendering import FORMATS, Rendering, RenderingError, failed, render


def formats() -> dict[str, str]:
    """Return what each format is and can be told, by name."""
    return {
        name: f"{form.description} → {form.target}"
        + (f" (options: {', '.join(option.name for option in form.options)})" if form.options else "")
        for name, form in FORMATS.items()
    }


def settle(name: str, given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a format that are given, or that its platform has set in the environment.

    Raises:
        ValueError: there is no such option, or one is missing or wrong.
    """
    form = FORMATS[name]
    told = {
        option.name: environ[option.environment]
        for option in form.options
        if option.environment and environ.get(option.environment)
    }
    options: dict[str, Any] = told | dict(given)
    try:
        form.settle(options)
    except RenderingError as error:
        raise ValueError(str(error)) from None
    return options


def failure(name: str, *, phase: str, options: Mapping[str, Any], task: object) -> Rendering:
    """Return what a platform is told when a task could not be graded, whatever the reason."""
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
