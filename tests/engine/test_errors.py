"""The engine's errors: sentences, places, and their way through other layers and processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from chainrule_engine.errors import (
    MAX_PROBLEMS,
    DrawingError,
    EngineError,
    EvaluationError,
    GraphError,
    InvalidInput,
    LimitExceeded,
    Problem,
    ProgramError,
    TrainingError,
)

KINDS = [DrawingError, EvaluationError, GraphError, ProgramError, TrainingError]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_where_and_what(kind: type[InvalidInput]) -> None:
    error = kind([Problem(("nodes", 3, "args", 1), "no such id"), Problem((), "give the nodes")])
    assert str(error) == "nodes/3/args/1: no such id; give the nodes"
    assert isinstance(error, InvalidInput)
    assert isinstance(error, EngineError)
    single = kind.at(("output",), "no such id")
    assert type(single) is kind
    assert single.problems == (Problem(("output",), "no such id"),)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_seen_from_a_larger_object_keeps_its_kind(kind: type[InvalidInput]) -> None:
    error = kind([Problem(("nodes", 0), "a"), Problem((), "b")]).under("items", 2, "graph")
    assert type(error) is kind
    assert [p.path for p in error.problems] == [("items", 2, "graph", "nodes", 0), ("items", 2, "graph")]
    assert [p.detail for p in error.problems] == ["a", "b"]


def test_only_so_many_problems_are_kept() -> None:
    error = GraphError(Problem((i,), "wrong") for i in range(100))
    assert [p.path for p in error.problems] == [(i,) for i in range(MAX_PROBLEMS)]


def test_a_limit_says_what_it_is_and_how_far_it_was_passed() -> None:
    error = LimitExceeded("nodes", 100_000, 123_456, ("nodes",), "split the graph")
    assert str(error) == "nodes is limited to 100,000, and this has 123,456: split the graph"
    assert str(LimitExceeded("seconds", 0.5, 2)) == "seconds is limited to 0.5, and this has 2"
    outer = error.under("items", 1)
    assert (outer.limit, outer.maximum, outer.requested) == ("nodes", 100_000, 123_456)
    assert outer.path == ("items", 1, "nodes")
    assert str(outer) == str(error)


@pytest.mark.parametrize(
    "error",
    [kind([Problem(("a", 1), "wrong"), Problem((), "too")]) for kind in KINDS]
    + [LimitExceeded("nodes", 10, 11, ("nodes",), "split it")],
)
def test_errors_survive_a_pickle_and_a_copy(error: EngineError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
