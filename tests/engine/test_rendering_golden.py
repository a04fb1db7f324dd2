"""What each platform is sent, byte for byte, for reports of every kind: golden/rendering/<format>.txt.

After a change that is meant: run this file once with UPDATE_GOLDEN set, read the difference, commit it.
"""

import os
from pathlib import Path

import pytest
from tests.engine.reports import CASES, OPTIONS, case

from chainrule_engine.rendering import FORMATS, render

GOLDEN = Path(__file__).parent / "golden" / "rendering"


def rendered(name):
    parts = []
    for title in CASES:
        rendering = render(case(title), name, **OPTIONS.get(name, {}))
        status = f"exit {rendering.exit_status}, HTTP {rendering.http_status}"
        parts.append(f"=== {title}: {rendering.content_type}, {status}\n{rendering.text}\n")
    return "".join(parts)


@pytest.mark.parametrize("name", FORMATS)
def test_golden(name):
    path = GOLDEN / f"{name}.txt"
    if "UPDATE_GOLDEN" in os.environ:
        path.write_bytes(rendered(name).encode())
    assert rendered(name).encode() == path.read_bytes()


def test_there_is_no_golden_file_without_a_format():
    assert {path.stem for path in GOLDEN.iterdir()} == set(FORMATS)
