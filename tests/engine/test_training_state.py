"""A training can stop anywhere, be written down, and go on elsewhere with the same bits."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.strategies import OPTIMIZERS, exact

from chainrule_engine.training import Training, TrainingState

RATES = [
    0.05,
    {"schedule": "linear", "start": 0.1, "end": 0.01},
    {"schedule": "step", "start": 0.1, "factor": 0.5, "every": 3},
    {"schedule": "exponential", "start": 0.1, "factor": 0.9},
    {"schedule": "cosine", "start": 0.1, "end": 0.0, "steps": 7},
]
NETWORK = {"inputs": 2, "layers": [2, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 3}}
DATA = {
    "inputs": [[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0], [-1.0, 0.125]],
    "targets": [1.0, -1.0, 1.0, -1.0, 1.0],
}


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "model": NETWORK,
        "data": DATA,
        "loss": {"name": "squared_error", "l2": 0.001},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": 12,
        "metrics": ["accuracy"],
        **changes,
    }


def moved(state: TrainingState) -> TrainingState:
    """The state as another process would read it: through JSON, with the records kept elsewhere."""
    return TrainingState.from_dict(json.loads(json.dumps(state.to_dict())), state.records)


def whole(data: dict[str, Any]) -> tuple[TrainingState, dict[str, Any]]:
    training = Training(data)
    state = training.start()
    training.advance(state, training.steps)
    return state, training.result(state)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(RATES),
    st.sampled_from([None, 1, 2, 3, 5]),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_a_training_that_stops_and_goes_on_has_the_same_bits(
    optimizer: dict, rate: Any, batch_size: int | None, stops: list[int]
) -> None:
    data = spec(optimizer={**optimizer, "learning_rate": rate}, batch_size=batch_size, batch_seed=5)
    state, result = whole(data)
    other = Training(data).start()
    records = []
    for stop in [*sorted(stops), 12]:
        # Every part in a training of its own, as on another machine.
        other = moved(other)
        records += Training(data).advance(other, stop - other.step)
    assert records == state.records == other.records
    assert exact(other.to_dict()) == exact(state.to_dict())
    assert exact(Training(data).result(other)) == exact(result)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_saved_state_does_not_change_with_the_training_that_goes_on(optimizer: dict) -> None:
    training = Training(spec(optimizer={**optimizer, "learning_rate": 0.05}, batch_size=2))
    state = training.start()
    training.advance(state, 3)
    saved = state.to_dict()
    as_text = json.dumps(saved)
    training.advance(state, 3)
    assert json.dumps(saved) == as_text
    # Nor does one that was read back change what it was read from.
    first, second = TrainingState.from_dict(saved), TrainingState.from_dict(saved)
    training.advance(first, 3)
    assert json.dumps(saved) == as_text
    training.advance(second, 3)
    assert exact(first.to_dict()) == exact(second.to_dict()) == exact(state.to_dict())


def test_a_state_that_diverged_survives_json() -> None:
    data = spec(
        model={"graph": {"inputs": {"w": 1.0}, "program": "L = w ** 4"}, "parameters": ["w"], "loss": "L"},
        data=None,
        loss=None,
        metrics=[],
        optimizer={"name": "sgd", "learning_rate": 100.0},
    )
    state, result = whole(data)
    assert result["stop_reason"] == "diverged"
    assert exact(moved(state).to_dict()) == exact(state.to_dict())
    assert Training(data).advance(moved(state), 5) == []


def test_advancing_by_nothing_does_nothing() -> None:
    training = Training(spec())
    state = training.start()
    assert training.advance(state, 0) == []
    assert exact(state.to_dict()) == exact(training.start().to_dict())
    assert training.result(state)["gradients"] is None
    assert training.result(state)["stop_reason"] is None


# ------------------------------------------------------------------------------------------- minibatches


def batches(points: int, size: int, steps: int, seed: int) -> list[list[int]]:
    """Which points each step used, read off losses that are sums of different powers of two."""
    graph = {"inputs": {"w": 0.0, "x": [2.0**p for p in range(points)]}, "program": "L = x + 0 * w"}
    data = {
        "model": {"graph": graph, "parameters": ["w"], "loss": "L"},
        "loss": {"reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": steps,
        "batch_size": size,
        "batch_seed": seed,
    }
    losses = whole(data)[1]["loss_history"]
    # A point that comes twice in a batch that spans two epochs counts twice.
    return [[p for p in range(points) if int(loss) >> p & 1] for loss in losses]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_every_epoch_takes_each_point_once(size: int, batches_per_epoch: int, seed: int) -> None:
    points = size * batches_per_epoch
    taken = batches(points, size, 3 * batches_per_epoch, seed)
    assert all(len(batch) == size for batch in taken)
    for epoch in range(3):
        part = taken[epoch * batches_per_epoch : (epoch + 1) * batches_per_epoch]
        assert sorted(p for batch in part for p in batch) == list(range(points))


def test_a_batch_that_spans_two_epochs_takes_from_both() -> None:
    """Five points in batches of two: the losses of five batches add up to two epochs."""
    graph = {"inputs": {"w": 0.0, "x": [10.0**p for p in range(5)]}, "program": "L = x + 0 * w"}
    model = {"graph": graph, "parameters": ["w"], "loss": "L"}
    data = spec(model=model, data=None, loss={"reduction": "sum"}, metrics=[], steps=10, batch_size=2)
    losses = whole(data)[1]["loss_history"]
    assert sum(losses[:5]) == sum(losses[5:]) == 2 * 11111.0


def test_the_points_are_drawn_by_fisher_and_yates_from_the_seed() -> None:
    rng = random.Random(11)
    expected = []
    for _ in range(2):
        order = list(range(7))
        for last in range(6, 0, -1):
            other = int(rng.random() * (last + 1))
            order[last], order[other] = order[other], order[last]
        expected += [[p] for p in order]
    assert batches(7, 1, 14, 11) == expected
    assert expected[:7] != expected[7:]
    assert batches(7, 1, 7, 12) != expected[:7]


def test_a_batch_of_all_points_is_another_order_of_them() -> None:
    assert batches(4, 4, 3, 0) == [[0, 1, 2, 3]] * 3


def test_metrics_are_those_of_the_steps_own_points() -> None:
    data = spec(batch_size=1, optimizer={"name": "sgd", "learning_rate": 0.0})
    _, result = whole(data)
    assert set(result["metrics"]["accuracy"]) <= {0.0, 1.0}
    right = [(p > 0) == (t > 0) for p, t in zip(result["predictions"], DATA["targets"], strict=True)]
    assert sum(result["metrics"]["accuracy"][:5]) == sum(right)
