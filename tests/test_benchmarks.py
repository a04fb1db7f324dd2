"""The benchmarks run, and time nobody whose answer is wrong. No time is asserted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import plot, report, rounding, scaling
from benchmarks.race import OURS, QUICK, Contender, Figure, Times, WrongAnswer, figure, race
from benchmarks.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "service", "client"))


@pytest.mark.slow
def test_every_row_that_needs_no_peer_is_measured():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--alone"]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    measured = set(re.findall(r"\[(\S+)\]$", done.stdout, re.MULTILINE))
    assert ROWS.keys() - {"digits"} <= measured


def test_the_kernel_that_rounds_once_rounds_otherwise():
    products = pytest.importorskip("chainrule_engine.compiled.products", reason="needs Numba")
    import numpy as np
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("fma"):
        pytest.skip("this processor has no fused multiply-add")

    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, 64 * 32), rng.uniform(-1, 1, 64 * 128)
    sums = np.zeros((2, 32 * 128))
    for kernel, c in zip((products.on_arrays(products.add_products), rounding.fused()), sums, strict=True):
        kernel(products.ZERO, a, c, 128, 32, a, 64, 1, b, 128, 64, 128)
    assert np.allclose(*sums, rtol=1e-9)
    assert (sums[0] != sums[1]).any()


def test_a_wrong_answer_is_refused():
    with pytest.raises(WrongAnswer, match=r"other gives 2\.5 instead of 2\.0, number 1"):
        race([Contender(OURS, lambda: [1.0, 2.0]), Contender("other", lambda: [1.0, 2.5])], QUICK)


def test_an_answer_that_ends_early_is_refused():
    with pytest.raises(WrongAnswer, match="1 numbers instead of 2"):
        race([Contender(OURS, lambda: [1.0, 2.0]), Contender("other", lambda: [1.0])], QUICK)


def test_one_who_does_a_share_of_the_job_gives_the_first_numbers():
    times = race([Contender(OURS, lambda: [1.0, 2.0]), Contender("slow", lambda: [1.0], share=0.5)], QUICK)
    assert times.seconds.keys() == {OURS, "slow"}
    with pytest.raises(WrongAnswer):
        race([Contender(OURS, lambda: [1.0, 2.0]), Contender("slow", lambda: [3.0], share=0.5)], QUICK)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    times = Times({OURS: [1.0, 2.0, 4.0], "peer": [10.0, 40.0, 60.0]})
    assert list(times.ratios({"peer": 12.0, "absent": 1.0})) == [Figure("peer", 15.0, 10.0, 20.0, "×", 12.0)]


@pytest.mark.parametrize(("ceiling", "met"), [(False, [False, True, True]), (True, [True, True, False])])
def test_a_target_is_the_least_or_the_most(ceiling, met):
    assert [figure("", [x], "×", 2.0, ceiling=ceiling).met for x in (1.0, 2.0, 3.0)] == met


def test_what_is_recorded_is_read_again(tmp_path):
    path = tmp_path / "build" / "bench.json"
    one = report.measurement("one", "some work", [figure("peer", [3.0, 1.0, 2.0], "×", 2.0)])
    two = report.measurement("two", "other work", [figure("a node", [5.0], "ns", 4.0, ceiling=True)])
    report.save([one], path=path)
    report.save([two], path=path)
    assert report.recorded(report.read(path), ["two", "one", "absent"]) == [two, one]
    assert report.table([one, two]).splitlines()[2:] == [
        "| some work | peer | 2.0 × | ≥ 2 |",
        "| other work | a node | 5.0 ns | ≤ 4 (short) |",
    ]


CURVES = {OURS: [(10, 1.0), (100, 10.0), (1000, 100.0)], "JAX": [(10, 10.0), (100, 10.0), (1000, 10.0)]}


def test_the_words_under_the_plot_say_where_a_peer_crosses():
    slow = {**CURVES, "micrograd": [(10, 50.0)]}
    assert list(scaling.crossings(slow, "nodes")) == [
        "**JAX** crosses at about 100 nodes: 10 times slower at 10 nodes, 10 times faster at 1,000.",
        "**micrograd** does not cross: 50 times slower at 10 nodes, "
        "beyond which it would take more than 20 s to prepare or run.",
    ]


def test_the_plot_is_a_picture_of_every_curve():
    root = ElementTree.fromstring(plot.draw({"nodes": CURVES, "parameters": CURVES}))
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")].count("JAX") == 2


def test_what_is_measured_is_put_between_the_marks_of_a_document(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.insert(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md needs the lines"):
        report.insert(page, "new")
