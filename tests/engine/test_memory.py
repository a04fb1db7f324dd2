"""The compiled kernels of trainings touch no memory but that of their arrays: they check no place themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(os.environ["CHAINRULE_ENGINE"] == "python", reason="the plain kernels were asked for"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are protected by a call of Linux"),
]


@pytest.mark.parametrize("where", ["end", "start"])
def test_nothing_outside_of_the_arrays_is_touched(where: str) -> None:
    """A process of its own: who touches a guarded page does not live on."""
    command = [sys.executable, "-m", "tests.engine.guarded", where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 5_000
