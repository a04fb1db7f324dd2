"""Measure how far each operation's value and derivatives are from the truth, and write docs/accuracy.md.

`make accuracy` runs this; it takes some five minutes. The truth and the points are those of tests/engine/oracle.py, and
tests/engine/test_accuracy_doc.py checks that the bounds written here hold at other points.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# So that it runs as a script from a plain checkout: the oracle is the tests', and the engine is the one beside it.
sys.path[:0] = [str(ROOT), str(ROOT / "engine")]

from tests.engine.oracle import Worst, points, worst_errors  # noqa: E402

from chainrule_engine.operations import CONVENTIONS_VERSION, OPERATIONS  # noqa: E402

DOCUMENT = ROOT / "docs" / "accuracy.md"
SAMPLE, SEED = 100_000, 1337

#: Why an error is larger than one unit, for whoever wonders. Read by the document's test as well.
NOTES = {
    ("div", "∂2"): "two roundings: -z/y, from a z that is rounded already (-x/y² where z is subnormal)",
    ("pow", "∂1"): "y·x^(y-1): the power, the product, and what rounding y - 1 took away, which is put back",
    ("pow", "∂2"): "x^y·log x: three roundings; by √(x^y) where x^y alone overflows or is subnormal",
    ("tanh", "∂1"): "y + (y - y²), from y = 1 - tanh of the magnitude, out of head and tail; 1.7 from -8 to 8",
    ("sqrt", "∂1"): "two roundings: ½/z, from a z that is rounded already",
}

HEAD = """\
# Accuracy

How far the engine's numbers are from the true ones, per operation. Written by `make accuracy`; do not edit it by hand.

The error is given in *ulp*, units in the last place: the distance between the float64 numbers around the true result
(2.2e-16 of it or less; 4.9e-324 for subnormal results). Half a unit is the best that rounding can do. The truth is
mpmath's, at 60 digits, for exactly the float64 arguments given. `∂1` is the partial derivative in the first argument,
`∂2` in the second; each is measured as the operation's own rule computes it, with nothing upstream.

Each operation was measured at {sample:,} points (seed {seed}) of its domain: everyday numbers, numbers of any size from
1e-300 to 1e300, subnormal numbers, and the neighbours of the places where a formula changes, of the multiples of π/4,
of overflow and of underflow; for `pow` also bases next to 1 with exponents up to 1e300. *Worst seen* is the largest
error among them, *at* where it was; *bound* is that with some room, and what the test suite holds every other sample
to. Kinks are left out here: what holds there is a convention (version {conventions}), and `GET /v1/operations` states
it.

The elementary functions are our own, made of IEEE 754's basic operations (`chainrule_engine.elementary`), so these
numbers are the same on every machine, with every Python, and in compiled code.
"""

ERRORS = """
## Errors

| operation | of | worst seen (ulp) | at | bound (ulp) | why |
|---|---|---:|---|---:|---|
"""

EXACT = """
## Exact

These are right to the last bit at every point of their domains.

| operation | exact |
|---|---|
"""

TAIL = """
## Where to be careful

- `pow` in its exponent has no derivative where the base is negative: it is NaN there, even for a whole exponent.
- The argument is taken as exact. `sin` is within a unit of the sine of the float64 it is given, also at 1e300 and next
  to multiples of π; that float64 may itself be half a unit from the number that was meant, and `sin` of a large number,
  `exp` of a large number and `pow` with a large exponent magnify that: no formula inside the operation can mend it.
- The gradient of a graph is a sum of products of these, each rounded once more. Where large contributions cancel, the
  sum has fewer right digits than its terms.
"""


def bound(worst: float) -> float:
    """A round number that other samples stay below: half a unit where that is all, else 0.1 or 15 % more, in halves."""
    return math.ceil(2.0 * (worst if worst <= 0.5 else max(worst + 0.1, 1.15 * worst))) / 2.0


def rounded_up(error: float) -> str:
    """Two decimals, never below the error."""
    return f"{math.ceil(error * 100.0 - 1e-9) / 100.0:.2f}"


def row(name: str, quantity: str, worst: Worst) -> str:
    """One line of the table of errors."""
    at = ", ".join(repr(x) for x in worst.at)
    usual = "correctly rounded" if worst.error <= 0.5 else "head and tail, rounded once (twice where subnormal)"
    why = NOTES.get((name, quantity), usual)
    return f"| {name} | {quantity} | {rounded_up(worst.error)} | ({at}) | {bound(worst.error)} | {why} |\n"


def document() -> str:
    """Measure everything and return the document."""
    text = HEAD.format(sample=SAMPLE, seed=SEED, conventions=CONVENTIONS_VERSION)
    errors, exact = "", ""
    for name in OPERATIONS:
        worst = worst_errors(name, points(name, SAMPLE, SEED))
        print(name, *(f"{quantity} {found.error:.3f}" for quantity, found in worst.items()), flush=True)
        errors += "".join(row(name, quantity, found) for quantity, found in worst.items() if found.error)
        if rest := [quantity for quantity, found in worst.items() if not found.error]:
            exact += f"| {name} | {', '.join(rest)} |\n"
    return text + ERRORS + errors + EXACT + exact + TAIL


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
