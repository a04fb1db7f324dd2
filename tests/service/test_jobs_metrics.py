"""/v1/jobs/{id}/metrics: at once, by long poll, as a stream of events, as CSV."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule._events import events
from chainrule_service.resources import job_metrics
from chainrule_service.resources.job_metrics import _columns
from chainrule_service.store import History
from chainrule_service.training import NETWORK_EXAMPLE

NOW = time.monotonic
NAN = float("nan")
STREAM = {"Accept": "text/event-stream"}


class Running:
    """A job that runs as the test says: it takes steps, each with its own number as its loss."""

    def __init__(self, queue):
        self.store, self.step = queue.store, 0
        self.id = queue.store.submit(
            {"type": "training", "spec": {}, "spec_digest": "", "engine": {"version": "0", "conventions": 1}}
        ).job["id"]
        self.path = f"/v1/jobs/{self.id}/metrics"
        self.claim = queue.store.claim("worker:1", 60, self.id)

    def take(self, count):
        first, self.step = self.step, self.step + count
        losses = [float(step) for step in range(first, self.step)]
        progress = {"step": self.step, "steps": 100, "loss": losses[-1]}
        self.store.checkpoint(
            self.claim, 60, step=self.step, state={}, progress=progress, losses=losses,
            metrics={"accuracy": [loss / 2 for loss in losses]},
        )  # fmt: skip

    def end(self):
        self.store.finish(self.claim, result={})


@pytest.fixture
def running(queue):
    return Running(queue)


def get(queue, path, prefer="", **headers):
    return queue.app.test_client().get(path, headers=headers | {"Prefer": prefer})


def test_steps_are_seen_while_the_job_runs(queue, running):
    assert queue.call(running.path) == {"step": [], "loss": [], "metrics": {}, "next": None, "state": "running"}
    running.take(2)
    seen = queue.call(running.path)
    assert (seen["step"], seen["loss"], seen["metrics"]) == ([0, 1], [0.0, 1.0], {"accuracy": [0.0, 0.5]})
    running.take(3)
    later = get(queue, f"{running.path}?after={seen['next']}")
    assert (later.json["step"], later.json["next"], later.headers["Retry-After"]) == ([2, 3, 4], 4, "1")
    running.end()
    last = get(queue, f"{running.path}?after=4")
    assert last.json == {"step": [], "loss": [], "metrics": {}, "next": 4, "state": "succeeded"}
    assert "Retry-After" not in last.headers


def test_all_steps_of_a_training_are_there_in_the_end(call):
    job = call("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE}, 201)
    seen = call(job["links"]["metrics"])
    assert (seen["loss"], seen["metrics"]) == (job["result"]["loss_history"], job["result"]["metrics"])
    assert (seen["step"], seen["next"], seen["state"]) == (list(range(50)), 49, "succeeded")


def test_an_evaluation_has_no_steps(call):
    job = call("/v1/jobs", {"type": "evaluation", "spec": {"graph": {"program": "y = 1 + 2"}}}, 201)
    assert call(job["links"]["metrics"])["step"] == []


def test_what_is_not_finite(queue, running):
    running.store.checkpoint(running.claim, 60, step=2, state={}, progress={}, losses=[NAN, -1e400], metrics={})
    assert queue.call(running.path)["loss"] == ["NaN", "-Infinity"]
    assert get(queue, running.path, Accept="text/csv").get_data(as_text=True) == "step,loss\r\n0,NaN\r\n1,-Infinity\r\n"


@given(st.integers(0, 50), st.integers(0, 60), st.one_of(st.none(), st.integers(1, 70)))
def test_a_selection_of_the_steps(first, count, most):
    history = History(first, [float(k) for k in range(count)], {"m": [-float(k) for k in range(count)]})
    columns = _columns(history, first - 1, most)
    steps = columns["step"]
    assert steps == sorted(set(steps))
    assert all(history.losses[step - first] == loss for step, loss in zip(steps, columns["loss"], strict=True))
    assert columns["metrics"]["m"] == [-loss for loss in columns["loss"]]
    assert len(steps) == count if most is None else len(steps) <= most
    if count:
        assert steps[-1] == columns["next"] == first + count - 1
        assert len({b - a for a, b in pairwise(steps)}) <= 1
    else:
        assert columns["next"] == (first - 1 if first else None)


def test_csv(queue, running):
    running.take(5)
    answer = get(queue, f"{running.path}?max_points=3", Accept="text/csv")
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert rows == [{"step": f"{k}", "loss": f"{k}.0", "accuracy": f"{k / 2}"} for k in (0, 2, 4)]


@pytest.mark.parametrize(
    ("query", "headers", "status", "parameter"),
    [
        ("?after=-1", {}, 422, "after"),
        ("?after=x", {}, 422, "after"),
        ("?max_points=0", {}, 422, "max_points"),
        ("?before=1", {}, 422, "before"),
        ("", {"Last-Event-ID": "x"}, 422, None),
        ("", {"Accept": "image/svg+xml"}, 406, None),
    ],
)
def test_bad_requests(call, query, headers, status, parameter):
    job = call("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 1}}, 201)
    problem = call(job["links"]["metrics"] + query, status=status, headers=headers)
    assert parameter is None or problem["errors"][0]["parameter"] == parameter


# ------------------------------------------------------------------------------------------------------ waiting


def test_a_long_poll_ends_with_the_next_step(queue, running):
    running.take(1)
    threading.Timer(0.2, running.take, [2]).start()
    answer = get(queue, f"{running.path}?after=0", "wait=30")
    assert (answer.json["step"], answer.headers["Preference-Applied"]) == ([1, 2], "wait=30")


def test_a_long_poll_ends_with_the_job(queue, running):
    threading.Timer(0.2, running.end).start()
    answer = get(queue, running.path, "wait=30")
    assert (answer.json["step"], answer.json["state"]) == ([], "succeeded")


def test_a_long_poll_ends_in_vain(queue, running):
    began = NOW()
    answer = get(queue, running.path, "wait=1")
    assert NOW() - began >= 1
    assert (answer.json["step"], answer.headers["Preference-Applied"]) == ([], "wait=1")


# ---------------------------------------------------------------------------------------------------- streaming


def read(answer):
    """Return the events of a whole stream as (name, id, steps or state)."""
    return [
        (event.name, event.id, event.data["step"] if event.name == "progress" else event.data["state"])
        for event in events(answer.response)
    ]


def test_a_stream_brings_steps_as_they_come_and_ends_with_the_job(queue, running):
    running.take(2)
    answer = get(queue, running.path, **STREAM)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"
    parts = iter(answer.response)
    assert next(parts) == b"retry: 1000\n\n"
    first = next(parts).decode()
    assert first.startswith("id: 1\nevent: progress\ndata: {")
    assert json.loads(first.partition("data: ")[2])["loss"] == [0.0, 1.0]
    running.take(3)
    running.end()
    rest = list(events(parts))
    assert [(event.name, event.id) for event in rest] == [("progress", "4"), ("end", "4")]
    assert rest[0].data["step"] == [2, 3, 4]
    assert rest[1].data == {"state": "succeeded"}


def test_a_stream_goes_on_after_the_last_event(queue, running):
    running.take(4)
    running.end()
    assert read(get(queue, running.path, **STREAM | {"Last-Event-ID": "1"})) == [
        ("progress", "3", [2, 3]), ("end", "3", "succeeded"),
    ]  # fmt: skip
    # A browser that comes back sends both.
    assert read(get(queue, f"{running.path}?after=0", **STREAM | {"Last-Event-ID": "3"})) == [("end", "3", "succeeded")]
    assert read(get(queue, f"{running.path}?after=2&max_points=1", **STREAM)) == [
        ("progress", "3", [3]), ("end", "3", "succeeded"),
    ]  # fmt: skip


def test_a_stream_without_steps(queue, running):
    running.end()
    assert read(get(queue, running.path, **STREAM)) == [("end", "", "succeeded")]


def test_streams_have_an_end_and_give_signs_of_life(queue, running, monkeypatch):
    monkeypatch.setattr(job_metrics, "_STREAM_SECONDS", 0.5)
    monkeypatch.setattr(job_metrics, "_SILENCE", 0.1)
    parts = list(get(queue, running.path, **STREAM).response)
    assert parts[0] == b"retry: 1000\n\n"
    assert len(parts) > 1
    assert set(parts[1:]) == {b": ping\n\n"}


def test_a_stream_ends_with_the_server_and_with_the_record(queue, running):
    threading.Timer(0.2, queue.service.draining.set).start()
    assert read(get(queue, running.path, **STREAM)) == []
    queue.service.draining.clear()
    running.end()
    answer = get(queue, running.path, **STREAM)
    queue.call(f"/v1/jobs/{running.id}", method="DELETE", status=204)
    assert read(answer) == []


def test_only_so_many_streams_are_open(queue_with):
    queue = queue_with(threads=6)  # three for long work, one that is always free
    running = Running(queue)
    open_now = [get(queue, running.path, **STREAM) for _ in range(2)]
    refused = get(queue, running.path, **STREAM)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert "Preference-Applied" not in get(queue, running.path, "wait=1").headers
    for answer in open_now:
        answer.close()
    assert get(queue, running.path, **STREAM).status_code == 200
