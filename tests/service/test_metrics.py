"""What Prometheus scrapes, from real servers of several processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.service.test_serving import ENVIRON, Server

from chainrule_service import jobs
from chainrule_service.opening import open_store
from chainrule_service.serving import _scraped, serve
from chainrule_service.settings import Settings, SettingsError
from chainrule_service.training import NETWORK_EXAMPLE

pytestmark = pytest.mark.slow


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def scrape(port):
    """Return every sample of a scrape: its number by its name and labels."""
    poll(lambda: accepts(port))  # the exporter starts beside the server
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def poll(condition):
    """Wait until a condition holds, and return what it gave."""
    deadline = time.monotonic() + 30
    while not (given := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return given


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
    with Server(tmp_path, workers=2, metrics_port=port, environment={"TMPDIR": str(tmp_path)}) as server:
        server.metrics = port
        yield server
    assert not list(tmp_path.glob("chainrule-metrics-*"))


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


def test_a_killed_worker_keeps_its_counts_and_breaks_nothing(measured, tmp_path):
    ask(measured, 40)
    files = set(tmp_path.glob("chainrule-metrics-*/*.db"))
    assert files
    before = requests(scrape(measured.metrics), route="/v1/version")
    for _ in range(3):
        killed = poll(lambda: len(found := web_workers(measured)) == 2 and found)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for_workers(measured, killed)
    asked = requests(scrape(measured.metrics), route="/v1/version")
    assert before == 40
    assert asked == 40
    ask(measured, 10)
    assert requests(scrape(measured.metrics), route="/v1/version") == 50
    assert len(set(tmp_path.glob("chainrule-metrics-*/*.db"))) <= len(files) + 2, (
        "the dead leave no more and more files"
    )


def descendants(pid):
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return children + [below for child in children for below in descendants(child)]


def listeners(server, port):
    """Return the processes at the end of the tree that listen on a port; their parents may hold its socket as well."""
    inode = next(
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
    )
    return [pid for pid in descendants(server.process.pid) if not descendants(pid) and holds(pid, inode)]


def web_workers(server):
    return listeners(server, server.port)


def holds(pid, inode):
    try:
        return any(os.readlink(link) == f"socket:[{inode}]" for link in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def wait_for_workers(server, gone):
    poll(lambda: len(set(web_workers(server)) - set(gone)) == 2)
    server.call("/livez")


def test_the_exporter_is_started_anew_and_has_lost_nothing(measured):
    ask(measured, 10)
    (exporter,) = listeners(measured, measured.metrics)
    os.kill(exporter, signal.SIGKILL)
    poll(lambda: exporter not in descendants(measured.process.pid))
    assert requests(scrape(measured.metrics), route="/v1/version") == 10


def test_jobs_are_counted_and_their_lines_marked(tmp_path):
    port, settings = free_port(), Settings(data=tmp_path)
    with Server(tmp_path, metrics_port=port, log_level="info", job_workers=2) as server:
        inline = server.call("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE})
        store = open_store(settings)
        record = jobs.record_of(jobs.read("training", NETWORK_EXAMPLE, settings))
        queued = store.submit(record | {"request_id": "r-1"}).job["id"]
        poll(lambda: store.get(queued)["state"] == "succeeded")
        store.close()
        # A job is counted after its end is recorded.
        samples = poll(lambda: ended(port) == 2 and scrape(port))
    assert samples["chainrule_jobs", ("state", "succeeded")] == 2
    assert samples["chainrule_jobs", ("state", "queued")] == 0
    assert samples["chainrule_job_claims_total",] == 2
    assert samples["chainrule_workers",] == 2
    assert samples["chainrule_oldest_queued_seconds",] == 0
    assert samples["chainrule_database_up",] == 1
    assert [value for (name, *_), value in samples.items() if name == "chainrule_build_info"] == [1]
    lines = [json.loads(line) for line in server.errors.splitlines() if line.startswith("{")]
    marked = [(line["job_id"], line["attempt"], line["event"]) for line in lines if line.get("request_id") == "r-1"]
    assert marked == [(queued, 1, "job begins at step 0"), (queued, 1, "job succeeded")]
    # In a request, the lines about its job carry both ids.
    request_id = next(line["request_id"] for line in lines if line.get("path") == "/v1/jobs")
    assert [line["event"] for line in lines if line.get("job_id") == inline["id"]] == [
        "job begins at step 0",
        "job succeeded",
    ]
    assert {line["request_id"] for line in lines if line.get("job_id") == inline["id"]} == {request_id}


def ended(port):
    return scrape(port).get(("chainrule_jobs_ended_total", ("state", "succeeded"), ("type", "training")), 0)


def test_a_scrape_without_database_says_so(measured, tmp_path):
    assert scrape(measured.metrics)["chainrule_database_up",] == 1
    for path in tmp_path.glob("chainrule.sqlite3*"):
        path.unlink()
    samples = scrape(measured.metrics)
    assert samples["chainrule_database_up",] == 0
    assert not any(name == "chainrule_jobs" for name, *_ in samples)


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="cannot listen on"):
        serve(Settings(data=tmp_path, port=0, metrics_port=taken.getsockname()[1]))


def test_a_port_is_held_from_the_start_on(tmp_path):
    """Whoever is started at the same time is told, and does not try again and again for what it cannot get."""
    settings = Settings(data=tmp_path, metrics_port=free_port())
    with _scraped(settings):
        assert accepts(settings.metrics_port)
        with pytest.raises(SettingsError, match="cannot listen on"), _scraped(settings):
            pass


def test_without_a_port_nothing_of_it_is_loaded():
    program = "import sys; from chainrule_service.app import create_app; create_app(); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], env=ENVIRON, capture_output=True, text=True, check=True)
    assert "chainrule_service.metrics" in loaded.stdout.split()
    assert not {"prometheus_client", "structlog"} & set(loaded.stdout.split())
