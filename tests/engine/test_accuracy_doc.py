"""docs/accuracy.md covers every operation, and its bounds hold at points that it was not measured at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.engine.oracle import points, quantities, worst_errors

from chainrule_engine.operations import CONVENTIONS_VERSION, OPERATIONS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")
CELLS = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in TEXT.splitlines() if line[:2] == "| "]

#: operation → quantity → bound in ulp, from both tables of the document.
BOUNDS = {name: {} for name in OPERATIONS}
for cells in CELLS:
    if cells[0] in BOUNDS:
        for quantity in cells[1].split(", "):
            BOUNDS[cells[0]][quantity] = float(cells[4]) if len(cells) == 6 else 0.0


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_document_states_a_bound_for_everything_that_an_operation_computes(name):
    missing = set(quantities(name)) - BOUNDS[name].keys()
    assert not missing, f"docs/accuracy.md says nothing of {', '.join(sorted(missing))} of {name}: run `make accuracy`"


def test_the_document_names_nothing_that_is_gone():
    named = {cells[0] for cells in CELLS} - {"operation"}
    assert named <= OPERATIONS.keys()
    assert f"(version {CONVENTIONS_VERSION})" in " ".join(TEXT.split())


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_bounds_hold_at_other_points(name):
    for quantity, found in worst_errors(name, points(name, 500, seed=7)).items():
        stated = BOUNDS[name][quantity]
        assert found.error <= stated, f"{quantity} of {name}{found.at}: {found.error:.3f} ulp, and {stated} are stated"


def test_the_worst_error_is_within_its_bound_and_occurs_where_it_says():
    rows = [cells for cells in CELLS if len(cells) == 6 and cells[0] in OPERATIONS]
    assert rows
    for name, quantity, worst, at, bound, _ in rows:
        point = tuple(float(x) for x in re.findall(r"[^(), ]+", at))
        found = worst_errors(name, [point])[quantity].error
        # The same bits everywhere, so the same error: what is written is that, rounded up.
        assert 0.0 <= float(worst) - found < 0.01 + 1e-9
        assert 0.0 < float(worst) <= float(bound)


def test_larger_errors_are_explained():
    for cells in CELLS:
        if len(cells) == 6 and cells[0] in OPERATIONS and float(cells[4]) > 2.0:
            assert len(cells[5]) > 20, f"say in tools/accuracy.py why {cells[1]} of {cells[0]} is off by {cells[2]} ulp"
