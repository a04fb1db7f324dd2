"""The architecture's arrows point one way: import-linter's contracts, which pyproject.toml states, hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_contracts_hold() -> None:
    # In a process of its own: it configures logging for the whole of the one it runs in.
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    linted = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


FOREIGN = {"flask", "marshmallow", "numba", "numpy", "sqlalchemy"}


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("chainrule_engine", FOREIGN | {"requests", "chainrule", "chainrule_service"}),
        ("chainrule", FOREIGN | {"chainrule_engine", "chainrule_service"}),
    ],
)
def test_an_import_brings_in_no_more_than_it_needs(package: str, unwanted: set[str]) -> None:
    """The contracts read the source; this asks the interpreter."""
    program = (
        f"import sys; sys.path[:0] = {[str(ROOT / root) for root in ('engine', 'service', 'client')]}; "
        f"import {package}; print(*(name for name in {sorted(unwanted)} if name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
