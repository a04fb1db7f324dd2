"""What Prometheus scrapes, from real servers of several processes."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.service.test_serving import Server

pytestmark = pytest.mark.slow


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def scrape(port):
    """Return every sample of a scrape: its number by its name and labels."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(samples, **labels):
    """Return how many requests with these labels were counted."""
    return sum(
        value
        for (name, *found), value in samples.items()
        if name == "chainrule_request_seconds_count" and labels.items() <= dict(found).items()
    )


@pytest.fixture
def measured(tmp_path):
    port = free_port()
    with Server(tmp_path, workers=2, metrics_port=port) as server:
        server.metrics = port
        yield server


def ask(server, times):
    """Ask so often on connections of their own, so that each worker gets some."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: server.call("/v1/version"), range(times)))


def test_requests_of_all_workers_are_added_up(measured):
    ask(measured, 60)
    with pytest.raises(OSError, match="404"):
        measured.call("/v1/jobs/nobody")
    measured.send(b"BREW /v1/pot-17 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    samples = scrape(measured.metrics)
    assert requests(samples, route="/v1/version", method="GET", status="200") == 60
    assert requests(samples, route="/v1/jobs/<job_id>", status="404") == 1
    # Neither paths nor methods that somebody makes up become series.
    assert requests(samples, route="none", method="other", status="404") == 1
    assert not any("pot" in str(key) or "BREW" in str(key) for key in samples)
    seconds = [value for key, value in samples.items() if key[0] == "chainrule_request_seconds_sum"]
    assert 0 < sum(seconds) < 60


def test_a_killed_worker_keeps_its_counts_and_breaks_nothing(measured):
    ask(measured, 40)
    before = requests(scrape(measured.metrics), route="/v1/version")
    for _ in range(3):
        killed = web_workers(measured)
        assert len(killed) == 2
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for_workers(measured, killed)
    asked = requests(scrape(measured.metrics), route="/v1/version")
    assert before == 40
    assert asked == 40
    ask(measured, 10)
    assert requests(scrape(measured.metrics), route="/v1/version") == 50


def descendants(pid):
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return children + [below for child in children for below in descendants(child)]


def web_workers(server):
    """Return the processes at the end of the tree that hold the listening socket; their parents hold it as well."""
    inode = next(
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(f":{server.port:04X}") and fields[3] == "0A"
    )
    return [pid for pid in descendants(server.process.pid) if not descendants(pid) and holds(pid, inode)]


def holds(pid, inode):
    try:
        return any(os.readlink(link) == f"socket:[{inode}]" for link in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def wait_for_workers(server, gone):
    deadline = time.monotonic() + 30
    while len(set(web_workers(server)) - set(gone)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.call("/livez")
