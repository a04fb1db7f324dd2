"""Measure what the README says about speed: `make bench`.

python -m benchmarks                  every row of the table
python -m benchmarks notebook moons   some of them
python -m benchmarks --quick          see that everything runs; the figures mean nothing
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace

from benchmarks.race import FULL, QUICK, WrongAnswer, one_core, prepare_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 if a peer came to other numbers."""
    prepare_threads()
    from benchmarks import report
    from benchmarks.rows import ROWS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"one of {', '.join(ROWS)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="little work, one round, nothing recorded")
    parser.add_argument("--alone", action="store_true", help="chainrule without its peers")
    options = parser.parse_args(arguments)
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"there is no row {name}: choose from {', '.join(ROWS)}")
    effort = replace(QUICK if options.quick else FULL, peers=not options.alone)
    print(report.machine())
    print(", ".join(f"{name} {version}" for name, version in report.versions().items()))
    wrong = 0
    # Those that start processes come first: a library with threads of its own, once loaded, does not bear a fork.
    for name in sorted(options.rows or ROWS, key=lambda name: ROWS[name].alone):
        row = ROWS[name]
        with one_core() if row.alone else nullcontext():
            try:
                done = report.measurement(name, row.work, row.measure(effort))
            except WrongAnswer as error:
                print(f"{name}: WRONG: {error}", flush=True)
                wrong += 1
                continue
        print(report.lines(done), flush=True)
        if not options.quick:
            report.save([done])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
