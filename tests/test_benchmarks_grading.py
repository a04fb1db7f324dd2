"""The benchmark of grading runs, on answers that are as wrong or as right as it says. No time is asserted."""

from __future__ import annotations

import random

import pytest
from benchmarks import grading
from tests.engine.random_exercises import exercise

from chainrule_engine.diagnosis import Catalogue
from chainrule_engine.graph import Graph


@pytest.mark.slow
def test_every_figure_is_measured():
    figures = [*grading.one_submission(exercises=2, operations=12), *grading.batch(12, submissions=16, rounds=1)]
    assert all(figure.value > 0.0 for figure in figures)
    assert [figure.what for figure in figures if figure.target is not None] == [
        "diagnosis, single mistakes",
        "diagnosis, two mistakes, with pairs",
        "diagnosis of what nothing explains, with pairs",
        "grading without diagnosis",
        "16 submissions, 12 operations",
    ]


def test_the_answers_of_the_benchmark_are_wrong():
    data = exercise(3, nodes=20)
    catalogue = Catalogue(Graph.from_dict(data))
    right = grading.asked(data, catalogue.right())
    assert catalogue.diagnose(right).explanations == ()
    one = grading.wrong(data, 1, random.Random(1))
    assert catalogue.diagnose(one).explanations
    assert set(catalogue.diagnose(grading.spoilt(one)).wrong) == set(grading.spoilt(one))
    assert grading.in_wire_form(one) == {
        "value": one["value"],
        "gradients": {name: one[f"gradients.{name}"] for name in data["inputs"]},
    }
