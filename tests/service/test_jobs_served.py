"""Jobs over a real server and its workers, asked by the real client."""

from __future__ import annotations

import signal
import socket
import threading
import time
from functools import cache

import pytest
import requests
from tests.service.queued import ROOMY_ENVIRONMENT, long_network, undisturbed
from tests.service.servers import Server

from chainrule import Client, JobFailedError

pytestmark = pytest.mark.slow


@cache
def long():
    """A job that takes some seconds."""
    return long_network(2)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("data"), workers=2, environment=ROOMY_ENVIRONMENT) as running:
        yield running


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_a_job_is_waited_for_and_has_the_bits_of_an_undisturbed_run(client):
    job = client.submit("training", long())
    assert job.state == "queued"
    done = job.wait(timeout=120)
    assert done.result == undisturbed(long())
    assert client.train(long()).loss_history == done.result["loss_history"]


def test_a_stream_follows_a_job_while_it_runs(client):
    job = client.submit("training", long(), labels={"test": "stream"})
    parts = []
    for part in job.stream():
        parts.append(part)
        if len(parts) == 1:
            assert job.reload().state == "running"  # what came was not kept back until the end
    assert len(parts) > 2
    assert [step for part in parts for step in part.steps] == list(range(long()["steps"]))
    assert [loss for part in parts for loss in part.loss] == job.wait().result["loss_history"]
    assert [listed.id for listed in client.jobs(label="test:stream")] == [job.id]


def test_metrics_by_long_poll(client):
    job = client.submit("training", long())
    after, steps = None, []
    while True:
        seen = job.metrics(after=after, wait=20)
        steps += seen.steps
        after = seen.next
        if not seen.steps and seen.state == "succeeded":
            break
    assert steps == list(range(long()["steps"]))


def test_cancelling(client):
    job = client.submit("training", long())
    while (job := job.reload()).state == "queued":
        time.sleep(0.01)
    assert job.cancel().state == "cancelling"
    asked = time.monotonic()
    with pytest.raises(JobFailedError, match="cancelled"):
        job.wait(timeout=30)
    assert time.monotonic() - asked < 5


def test_the_server_answers_while_as_many_wait_as_may(server, client):
    """Streams and long polls hold threads, and never all of them."""
    job = client.submit("training", long())
    url = f"http://127.0.0.1:{server.port}{job.raw['links']['metrics']}"
    with requests.Session() as session:
        streams = [
            session.get(url, headers={"Accept": "text/event-stream"}, stream=True, timeout=30) for _ in range(40)
        ]
        assert {stream.status_code for stream in streams} == {200, 503}
        assert session.get(f"http://127.0.0.1:{server.port}/livez", timeout=10).status_code == 200
        for stream in streams:
            stream.close()
    job.cancel()


def test_streams_and_waits_end_at_once_with_the_server(tmp_path):
    with Server(tmp_path, job_workers=0, environment=ROOMY_ENVIRONMENT) as running:
        client = Client(f"http://127.0.0.1:{running.port}", max_retries=0)
        job = client.submit("training", long())
        stream = client._transport.send("GET", f"/v1/jobs/{job.id}/metrics", accept="text/event-stream", stream=True)
        waited = []
        waiting = threading.Thread(target=lambda: waited.append(client.job(job.id, wait=30)))
        waiting.start()
        time.sleep(0.5)  # for both to be where they wait; if they are not, there is less to end
        told = time.monotonic()
        assert running.stop(signal.SIGTERM, timeout=30) == 0
        assert time.monotonic() - told < 20
        waiting.join()
        assert b"".join(stream.iter_content(None)) == b"retry: 1000\n\n"
        assert [(seen.state, seen.retry_after) for seen in waited] == [("queued", 1.0)]
        client.close()
        stream.close()


def test_a_client_that_goes_away_frees_its_place(server, client):
    job = client.submit("training", long())
    path = job.raw["links"]["metrics"]
    for _ in range(40):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
            connection.recv(100)
    job.cancel()
    deadline = time.monotonic() + 30
    while (
        client._transport.session.get(
            f"http://127.0.0.1:{server.port}{path}", headers={"Accept": "text/event-stream"}, timeout=30
        ).status_code
        == 503
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
