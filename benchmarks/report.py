"""What was measured, as lines on a terminal, as build/bench.json, and as the tables of the documents."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.race import Figure

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "build" / "bench.json"
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sse2": "SSE2"}
LIBRARIES = ("numba", "numpy", "jax", "torch", "casadi", "micrograd", "scikit-learn")


@dataclass(frozen=True)
class Measurement:
    """One row of the table: a piece of work and what was found."""

    row: str
    work: str
    figures: list[Figure]
    commit: str
    date: str


def measurement(row: str, work: str, figures: Iterable[Figure]) -> Measurement:
    """Return a row measured now, at the commit that is checked out."""
    return Measurement(row, work, list(figures), _commit(), f"{datetime.now(UTC):%Y-%m-%d}")


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """Describe the machine in words."""
    model, vectors = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        known = dict(line.split("\t", 1) for line in info.read_text().splitlines() if "\t" in line)
        model = known.get("model name", f": {model}").partition(":")[2].strip()
        flags = known.get("flags", "").split()
        vectors = next((f", {word}" for flag, word in _VECTORS.items() if flag in flags), "")
    return (
        f"one of {os.cpu_count()} cores of an {model}{vectors}, {platform.system()}, Python {platform.python_version()}"
    )


def versions() -> dict[str, str]:
    """Return the version of each library that is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


# -------------------------------------------------------------------------------------------------------- words


def number(value: float) -> str:
    """Write a number with the two or three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 1 else f"{value:.1f}"


def amount(value: float, unit: str) -> str:
    """Write a number with its unit."""
    return f"{number(value)} {unit}"


def wanted(figure: Figure) -> str:
    """Write a target."""
    if figure.target is None:
        return ""
    return f"{'≤' if figure.ceiling else '≥'} {figure.target:,g}"


def verdict(figure: Figure) -> str:
    """Write whether a target is met."""
    return {True: "met", False: "short", None: ""}[figure.met]


def what(figure: Figure) -> str:
    """Write what a figure is of."""
    return f"× {figure.what}" if figure.unit == "×" and not figure.ceiling else figure.what


def lines(done: Measurement) -> str:
    """Return a row for the terminal."""
    text = [f"{done.row}: {done.work}"]
    for f in done.figures:
        spread = f"{number(f.low)} to {number(f.high)}" if f.low != f.high else ""
        line = f"  {what(f):<44}{amount(f.value, f.unit):>12}   {spread:<22}{wanted(f):>9}  {verdict(f)}"
        text.append(line.rstrip())
    return "\n".join(text)


def table(rows: Iterable[Measurement]) -> str:
    """Return the figures that have a target, and the ratios of rows without any, as a table of Markdown."""
    text = ["| work | beside, or of | measured | target |", "|---|---|---|---|"]
    for done in rows:
        aimed = [f for f in done.figures if f.target is not None]
        work = done.work
        for f in aimed or [f for f in done.figures if f.unit == "×"]:
            mark = " (short)" if f.met is False else ""
            text.append(f"| {work} | {f.what} | {amount(f.value, f.unit)} | {wanted(f)}{mark} |")
            work = ""
    return "\n".join(text)


def full_table(rows: Iterable[Measurement]) -> str:
    """Return all figures with their spread, as a table of Markdown."""
    text = ["| work | | median | least to greatest | target |", "|---|---|---|---|---|"]
    for done in rows:
        work = done.work
        for f in done.figures:
            spread = f"{number(f.low)} to {number(f.high)}" if f.low != f.high else ""
            aim = f"{wanted(f)} {verdict(f)}".strip()
            text.append(f"| {work} | {what(f)} | {amount(f.value, f.unit)} | {spread} | {aim} |")
            work = ""
    return "\n".join(text)


# ------------------------------------------------------------------------------------------------------- record


def save(measured: Iterable[Measurement] = (), curves: Mapping[str, Any] | None = None, path: Path = RECORD) -> None:
    """Put rows, and the curves of `scaling`, into the record, beside what is there from other runs."""
    record = read(path)
    record["machine"], record["versions"] = machine(), versions()
    for done in measured:
        record.setdefault("rows", {})[done.row] = asdict(done)
    if curves is not None:
        record["scaling"] = dict(curves)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path = RECORD) -> dict[str, Any]:
    """Return what was recorded; nothing where there is no record."""
    if not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def recorded(record: Mapping[str, Any], names: Iterable[str]) -> list[Measurement]:
    """Return the rows of a record, in the order of the names."""
    rows = record.get("rows", {})
    return [
        Measurement(**{**rows[name], "figures": [Figure(**f) for f in rows[name]["figures"]]})
        for name in names
        if name in rows
    ]


# ---------------------------------------------------------------------------------------------------- documents

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def conditions(record: Mapping[str, Any], rows: Iterable[Measurement]) -> str:
    """Say where, when and with what the rows were measured."""
    rows = list(rows)
    dates = sorted({done.date for done in rows})
    commits = list(dict.fromkeys(done.commit for done in rows))
    libraries = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    at = "commit" if len(commits) == 1 else "commits"
    return f"Measured on {record['machine']}; {libraries}; {when}, {at} {', '.join(commits)}."


def insert(path: Path, text: str) -> None:
    """Put text between the two marks of a document."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} needs the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
