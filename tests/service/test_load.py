"""Many clients at once, while long jobs run: each gets its answer."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from tests.service.queued import ROOMY_ENVIRONMENT, long_network, until
from tests.service.servers import Server

CONNECTIONS, EACH, SECONDS = 50, 10, 10.0


@pytest.mark.slow
def test_500_evaluations_within_10_seconds_while_two_long_jobs_run(tmp_path, neuron):
    with Server(tmp_path, workers=2, job_workers=2, environment=ROOMY_ENVIRONMENT) as server:
        url = f"http://127.0.0.1:{server.port}"
        jobs = [server.call("/v1/jobs", {"type": "training", "spec": long_network(240)}) for _ in range(2)]
        for job in jobs:
            until(lambda: server.call(f"/v1/jobs/{job['id']}")["progress"], "it runs")  # noqa: B023  # called before the loop goes on
        began = time.monotonic()

        def ask(client):
            """Send evaluations over one connection, evenly over the time, and return what came, and how soon."""
            seen = []
            with requests.Session() as session:
                for number in range(EACH):
                    due = began + (number + client / CONNECTIONS) * SECONDS / EACH
                    time.sleep(max(due - time.monotonic(), 0))
                    inputs = neuron["inputs"] | {"x1": float(client), "x2": float(number)}
                    sent = time.monotonic()
                    body = {"graph": neuron | {"inputs": inputs}}
                    answer = session.post(f"{url}/v1/evaluations", json=body, timeout=60)
                    seen.append((answer.status_code, answer.json()["values"]["x1"], time.monotonic() - sent))
            return seen

        with ThreadPoolExecutor(CONNECTIONS) as clients:
            answers = [clients.submit(ask, client) for client in range(CONNECTIONS)]
            seen = [answer.result() for answer in answers]
        for job in jobs:
            assert server.call(f"/v1/jobs/{job['id']}")["state"] == "running"
            server.call(f"/v1/jobs/{job['id']}/cancel", {})
        for client, of_client in enumerate(seen):
            assert [(status, value) for status, value, _ in of_client] == [(200, float(client))] * EACH
    times = statistics.quantiles((seconds for of_client in seen for *_, seconds in of_client), n=100)
    print(f"\np50 {times[49] * 1000:.0f} ms, p95 {times[94] * 1000:.0f} ms, p99 {times[98] * 1000:.0f} ms")  # noqa: T201
