"""Jobs over a real socket, against a server that answers as each test tells it to."""

import json
import pickle
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import APIConnectionError, APITimeoutError, ConflictError, Job, JobFailedError, JobMetrics, Problem
from chainrule._events import Event, events

QUEUED = {"id": "job_1", "type": "training", "state": "queued", "queue_position": 4, "labels": {"course": "ml"}}
DONE = {"id": "job_1", "type": "training", "state": "succeeded", "result": {"a": 1}}
CONFLICT = (409, {"Content-Type": "application/problem+json"}, {"status": 409, "detail": "no"})


def header(request, name):
    return request[2].get(name)


# Handing in


def test_a_job_and_all_that_goes_with_it(server, client):
    server.answers = [(202, {"Retry-After": "1"}, QUEUED), (201, {}, DONE)]
    job = client.submit("training", {"steps": 1})
    assert (job.state, job.queue_position, job.labels) == ("queued", 4, {"course": "ml"})
    hook = {"url": "https://example.com/", "events": ["job.succeeded"]}
    client.submit(
        "training", {"steps": 1}, labels={"a": "b"}, priority=-3, deadline=60, webhook=hook, queue=True, wait=1.5
    )
    plain, full = server.requests
    assert json.loads(plain[3]) == {"type": "training", "spec": {"steps": 1}}
    assert header(plain, "Prefer") is None
    assert json.loads(full[3]) == {
        "type": "training", "spec": {"steps": 1}, "labels": {"a": "b"}, "priority": -3, "deadline_seconds": 60,
        "webhook": hook,
    }  # fmt: skip
    assert header(full, "Prefer") == "respond-async, wait=2"


def test_a_job_is_sent_again_with_the_key_that_it_had(server, client):
    server.answers = ["hang up", (502, {}, {}), (201, {}, DONE), (409, {"Retry-After": "1"}, {}), (201, {}, DONE)]
    client.submit("training", {})
    assert client.slept == [0.5, 1.0]
    first, second, third = (header(request, "Idempotency-Key") for request in server.requests)
    assert first == second == third
    assert json.loads(first)
    client.submit("training", {})
    assert client.slept[2:] == [1.0]
    assert header(server.requests[3], "Idempotency-Key") not in (first, None)
    assert header(server.requests[4], "Idempotency-Key") == header(server.requests[3], "Idempotency-Key")


def test_a_key_of_ones_own(server, client):
    server.answers = [(201, {}, DONE), (202, {}, {"data": []})]
    client.submit("training", {}, idempotency_key='week 3 "b"')
    client.submit_many([], idempotency_key="week 4")
    assert [header(request, "Idempotency-Key") for request in server.requests] == [r'"week 3 \"b\""', '"week 4"']


def test_several_at_once(server, client):
    problem = {"status": 422, "title": "Invalid request", "detail": "no", "type": "/problems/invalid-request"}
    server.answers = [(202, {}, {"data": [{"job": QUEUED}, {"problem": problem}]})]
    items = [{"type": "training", "spec": {}}, {"type": "evaluation", "spec": {}, "labels": {"a": "b"}}]
    job, refused = client.submit_many(items)
    assert json.loads(server.requests[0][3]) == {"items": items}
    assert header(server.requests[0], "Idempotency-Key")
    assert (job.id, job.client) == ("job_1", client)
    assert isinstance(refused, Problem)
    assert refused.detail == "no"


# Waiting


def test_the_service_waits_where_it_can(server, client):
    applied = {"Preference-Applied": "wait=20", "Retry-After": "1"}
    server.answers = [(202, {"Retry-After": "1"}, QUEUED), (200, applied, QUEUED), (200, applied, DONE)]
    slept = []
    job = client.submit("training", {}).wait(sleep=slept.append)
    assert job.result == {"a": 1}
    assert not any(slept)
    assert [header(request, "Prefer") for request in server.requests] == [None, "wait=20", "wait=20"]


def test_where_it_does_not_it_is_asked_as_often_as_it_says(server, client):
    server.answers = [
        (202, {"Retry-After": "3"}, QUEUED),
        (200, {"Retry-After": "4"}, QUEUED),
        (200, {}, {**QUEUED, "state": "running"}),
        (200, {}, DONE),
    ]
    slept = []
    client.submit("training", {"steps": 1}).wait(sleep=slept.append)
    assert slept == [4.0, 1.0]
    assert [path for _, path, *_ in server.requests] == ["/v1/jobs"] + ["/v1/jobs/job_1"] * 3


@pytest.mark.parametrize("timeout", [2, 0])
def test_waiting_has_an_end(server, client, timeout):
    server.answers = [(202, {"Retry-After": "1"}, QUEUED)] + [(200, {"Retry-After": "3"}, QUEUED)] * 3
    job = client.submit("training", {})
    with pytest.raises(APITimeoutError, match="still queued"):
        job.wait(timeout=timeout, sleep=lambda _: time.sleep(0.1))


def test_a_wait_is_no_longer_than_asked_for(server, client):
    server.answers = [(200, {}, QUEUED)]
    with pytest.raises(APITimeoutError):
        Job.from_dict(QUEUED, client=client).wait(timeout=0.5)
    assert header(server.requests[0], "Prefer") == "wait=1"


def test_a_job_that_failed(server, client):
    failure = {"code": "engine", "detail": "out of memory"}
    server.answers = [(201, {}, {"id": "job_1", "state": "failed", "failure": failure})]
    with pytest.raises(JobFailedError, match="job job_1 did not succeed: out of memory") as caught:
        client.train({"steps": 1})
    assert caught.value.job.failure == failure


def test_training_takes_what_a_job_takes(server, client):
    result = {"loss_history": ["NaN"], "stop_reason": "diverged"}
    server.answers = [(201, {}, {**DONE, "result": result})]
    client.train({"steps": 1}, batch_size=2, labels={"a": "b"}, priority=1, deadline=9)
    assert json.loads(server.requests[0][3]) == {
        "type": "training", "spec": {"steps": 1, "batch_size": 2}, "labels": {"a": "b"}, "priority": 1,
        "deadline_seconds": 9,
    }  # fmt: skip
    assert header(server.requests[0], "Prefer") == "wait=20"


# Records


def test_jobs_go_through_all_pages(server, client):
    def page(ids, cursor):
        return 200, {}, {"data": [{"id": i, "state": "succeeded"} for i in ids], "next_cursor": cursor}

    server.answers = [page(["a", "b"], "x&y"), page(["c"], None)]
    assert [job.id for job in client.jobs(state="failed", label="a:b")] == ["a", "b", "c"]
    assert server.requests[0][1] == "/v1/jobs?state=failed&label=a%3Ab"
    assert server.requests[1][1] == "/v1/jobs?state=failed&label=a%3Ab&cursor=x%26y"


def test_a_moment_in_a_query(server, client):
    server.answers = [(200, {}, {"data": [], "next_cursor": None})]
    assert not list(client.jobs(created_after=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    assert server.requests[0][1] == "/v1/jobs?created_after=2026-01-02T03%3A04%3A05%2B00%3A00"
    with pytest.raises(ValueError, match="time zone"):
        list(client.jobs(created_after=datetime(2026, 1, 2)))


def test_cancelling_a_job(server, client):
    server.answers = [(202, {}, {**QUEUED, "state": "cancelling"})]
    assert Job.from_dict(QUEUED, client=client).cancel().state == "cancelling"
    assert server.requests[0][:2] == ("POST", "/v1/jobs/job_1/cancel")
    assert header(server.requests[0], "Content-Length") == "0"


def test_deleting_a_job(server, client):
    server.answers = [(204, {}, b""), CONFLICT]
    client.delete_job("job/1")
    assert server.requests[0][:2] == ("DELETE", "/v1/jobs/job%2F1")
    with pytest.raises(ConflictError):
        Job("job_2", "training", "running", client=client).delete()


def test_a_failed_job_travels_without_its_client(server, client):
    server.answers = [(201, {}, {"id": "job_1", "state": "failed"})]
    with pytest.raises(JobFailedError) as caught:
        client.submit("training", {}).wait()
    twin = pickle.loads(pickle.dumps(caught.value))
    assert str(twin) == str(caught.value) == "job job_1 did not succeed: it ended as 'failed'"
    assert twin.job == caught.value.job
    assert twin.job.client is None


def test_a_job_without_a_client_says_so():
    with pytest.raises(ValueError, match="knows no client"):
        Job.from_dict({"id": "job_1", "state": "running"}).reload()


# Metrics


def metrics(*steps, state="running"):
    columns = {"step": list(steps), "loss": ["NaN"] * len(steps), "metrics": {"accuracy": [0.5] * len(steps)}}
    return columns | {"next": steps[-1] if steps else None, "state": state}


def test_metrics(server, client):
    server.answers = [(200, {}, metrics(3, 4)), (200, {}, metrics())]
    job = Job.from_dict(QUEUED, client=client)
    seen = job.metrics(after=2, max_points=10, wait=5)
    assert isinstance(seen, JobMetrics)
    assert (seen.steps, seen.metrics, seen.next, seen.state) == ([3, 4], {"accuracy": [0.5, 0.5]}, 4, "running")
    assert all(loss != loss for loss in seen.loss)
    assert server.requests[0][1] == "/v1/jobs/job_1/metrics?after=2&max_points=10"
    assert header(server.requests[0], "Prefer") == "wait=5"
    assert job.metrics().next is None
    assert server.requests[1][1] == "/v1/jobs/job_1/metrics"


def text(name, number, data):
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


STREAM = {"Content-Type": "text/event-stream"}


def test_a_stream_is_resumed_until_its_end(server, client):
    client._transport.max_retries = 1
    server.answers = [
        b"retry: 1000\n\n" + text("progress", 1, metrics(0, 1)),  # breaks
        (503, {"Retry-After": "2"}, {}),
        (200, STREAM, b": ping\n\n" + text("progress", 2, metrics(2)) + b"id: 3\nevent: prog"),  # ends too early
        b": ping\n\n",
        (200, STREAM, text("news", 2, {}) + text("progress", 3, metrics(3)) + text("end", 3, {"state": "succeeded"})),
    ]
    seen = [part.steps for part in Job.from_dict(QUEUED, client=client).stream()]
    assert seen == [[0, 1], [2], [3]]
    assert [header(request, "Last-Event-ID") for request in server.requests] == [None, "1", "1", "2", "2"]
    assert {header(request, "Accept") for request in server.requests} == {"text/event-stream"}


def test_a_stream_goes_on_where_it_is_told_to(server, client):
    server.answers = [(200, STREAM, text("end", 7, {}))]
    assert not list(Job.from_dict(QUEUED, client=client).stream(after=7))
    assert header(server.requests[0], "Last-Event-ID") == "7"


def test_a_stream_that_only_breaks_is_given_up(server, client):
    server.answers = [b"retry: 1\n\n"] * 3
    with pytest.raises(APIConnectionError, match="broken"):
        list(client.stream_metrics("job_1"))
    assert len(server.requests) == 3


def test_where_no_more_streams_may_be_open_the_steps_are_polled(server, client):
    client._transport.max_retries = 1
    server.answers = [
        (200, STREAM, text("progress", 1, metrics(0, 1))),
        *[(503, {"Retry-After": "2"}, {})] * 2,
        (200, {}, metrics(2)),
        (200, {}, metrics() | {"next": 2}),
        (200, {}, metrics(3, state="succeeded")),
    ]
    assert [part.steps for part in Job.from_dict(QUEUED, client=client).stream()] == [[0, 1], [2], [3]]
    polls = server.requests[3:]
    assert [request[1] for request in polls] == [f"/v1/jobs/job_1/metrics?after={step}" for step in (1, 2, 2)]
    assert {header(request, "Prefer") for request in polls} == {"wait=20"}


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))


@given(st.lists(st.tuples(_TEXTS.filter(bool), st.integers(0), _TEXTS), max_size=5), st.data())
def test_events_are_read_however_their_text_is_cut(sent, data):
    whole = b"retry: 5\n\n: ping\n\n".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
        for name, number, content in sent
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    read = list(events(pieces))
    assert read == [Event(name, str(number), content) for name, number, content in sent]


def test_the_forms_of_an_event():
    lines = b'data:{"a":\ndata: 1}\r\n\r\nid\nevent: x\n\ndata: 2\nid: 7\n\ndata: 3\n\n'
    assert list(events([lines])) == [Event("message", "", {"a": 1}), Event("message", "7", 2), Event("message", "7", 3)]
