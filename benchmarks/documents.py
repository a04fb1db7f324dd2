"""Put what was recorded into the README, docs/performance.md and its picture."""

from __future__ import annotations

from benchmarks import plot, report, scaling
from benchmarks.rows import ROWS

README = report.ROOT / "README.md"
PAGE = report.ROOT / "docs" / "performance.md"
PICTURE = report.ROOT / "docs" / "scaling.svg"


def write() -> None:
    """Write the tables, and the curves if they were measured."""
    record = report.read()
    rows = report.recorded(record, ROWS)
    if not rows:
        raise SystemExit("nothing is recorded yet: run `make bench` first")
    conditions = report.conditions(record, rows)
    report.insert(README, f"{report.table(rows)}\n\n{conditions}")
    page = [conditions, report.full_table(rows)]
    curves = record.get("scaling")
    if curves:
        PICTURE.write_text(plot.draw(curves) + "\n", encoding="utf-8")
        page += [
            "## How the time grows",
            "![Time per node and per step, by size](scaling.svg)",
            "A graph evaluated forward and backward at one point, compiled or on the tape beforehand:",
            "\n".join(f"- {sentence}" for sentence in scaling.crossings(curves["nodes"], "nodes")),
            f"A training step of a network of two layers (relu, hinge loss, {scaling.POINTS} points):",
            "\n".join(f"- {sentence}" for sentence in scaling.crossings(curves["parameters"], "parameters")),
        ]
    report.insert(PAGE, "\n\n".join(page))
