"""Measure what the README says about speed: `make bench`.

python -m benchmarks                  every row of the table
python -m benchmarks notebook moons   some of them
python -m benchmarks scaling          the curves of docs/performance.md (ten minutes)
python -m benchmarks --quick          see that everything runs; the figures mean nothing
python -m benchmarks --write          measure nothing, and put what is recorded into the documents
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace

from benchmarks.race import FULL, QUICK, WrongAnswer, one_core, prepare_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 if a peer came to other numbers."""
    prepare_threads()  # before an import of ours brings in NumPy
    from benchmarks import documents, report, scaling
    from benchmarks.rows import ROWS
    from chainrule_engine import acceleration

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*ROWS, "scaling"]
    parser.add_argument(
        "rows", nargs="*", metavar="row", help=f"any of {', '.join(names)}; all but the last if left out"
    )
    parser.add_argument("--quick", action="store_true", help="little work, one round, nothing recorded")
    parser.add_argument("--alone", action="store_true", help="chainrule without its peers, nothing recorded")
    parser.add_argument("--write", action="store_true", help="put what is recorded into the documents")
    options = parser.parse_args(arguments)
    for name in options.rows:
        if name not in names:
            parser.error(f"there is no row {name}: choose from {', '.join(names)}")
    if options.write and not options.rows:
        documents.write()
        return 0
    effort = replace(QUICK if options.quick else FULL, peers=not options.alone)
    acceleration.load(compiling=True)  # as the service does before its first request
    keep = not (options.quick or options.alone)
    print(report.machine())
    print(", ".join(f"{name} {version}" for name, version in report.versions().items()))
    wrong = 0
    # Those that start processes come first: a library with threads of its own, once loaded, does not bear a fork.
    for name in sorted(options.rows or ROWS, key=lambda name: name not in ROWS or ROWS[name].alone):
        try:
            if name == "scaling":
                with one_core():
                    curves = scaling.measure(effort)
                if keep:
                    report.save(curves=curves)
                continue
            row = ROWS[name]
            with one_core() if row.alone else nullcontext():
                done = report.measurement(name, row.work, row.measure(effort))
            print(report.lines(done), flush=True)
            if keep:
                report.save([done])
        except WrongAnswer as error:
            print(f"{name}: WRONG: {error}", flush=True)
            wrong += 1
    if options.write:
        documents.write()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
