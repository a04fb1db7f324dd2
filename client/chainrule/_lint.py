"""`chainrule lint`: what a task cannot tell from right answers, said to its author before students see it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from . import _files
from ._grade import FAILED, connect


def lint(options: argparse.Namespace) -> int:
    """Run `chainrule lint`."""
    task = _files.read_json(options.spec)
    with connect(options) as client:
        found = client.check_exercise(task, accept_undetected=options.accept, suggestions=not options.quick).raw
    text = json.dumps(found, indent=2, ensure_ascii=False) if options.json else "\n".join(_lines(found))
    sys.stdout.write(text + "\n")
    return 0 if found["publishable"] else FAILED


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield "This task can be published." if found["publishable"] else "This task must not be published as it is:"
    for kind in ("problems", "warnings"):
        for item in found[kind]:
            yield f"{kind[:-1]}: {item['pointer']}: {item['detail']}"
    caught, missed = found["caught"], found["missed"]
    yield f"It tells {len(caught)} known mistakes from right answers, and {len(missed)} not."
    for item in missed:
        yield f"  not told: {item['name']}: {item['why']}; {item['advice']}"
    for item in found["partly"]:
        yield f"  told or not: {item['name']}: an engine passes with {item['passes_with']}"
    for names in found["ambiguous"]:
        yield f"  give the same numbers: {', '.join(names)}"
    if suggestion := found["suggestion"]:
        given = suggestion["inputs"] | {f"seed of {name}": value for name, value in suggestion.get("seeds", {}).items()}
        inputs = ", ".join(f"{name} = {value}" for name, value in given.items())
        yield f"With {inputs} it tells {suggestion['caught']}, newly {', '.join(suggestion['newly_caught'])}."
