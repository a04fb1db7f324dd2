"""Many clients at once, while long jobs run: each gets its answer."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from tests.service.queued import ROOMY_ENVIRONMENT, long_network, until
from tests.service.servers import Server

from chainrule_service.documented import NEURON
from chainrule_service.grading_schemas import EXAMPLE

CONNECTIONS, EACH, SECONDS = 50, 10, 10.0


def evaluation(client, number):
    """Return a request of one's own, and what its answer has to hold."""
    inputs = NEURON["inputs"] | {"x1": float(client), "x2": float(number)}
    return "/v1/evaluations", {"graph": NEURON | {"inputs": inputs}}, 200, lambda told: told["values"]["x1"] == client


def grading(client, number):
    """The same for a grading: of answers with mistakes, right ones, and some that cannot be read."""
    right, name = {"value": 54.0, "gradients": {"a": 36, "b": 45}}, f"{client}-{number}"
    answers, score = ((right | {"gradients": {"a": 18, "b": 50 + client}}, 1), (right, 3), ({"value": []}, 0))[
        number % 3
    ]
    body = EXAMPLE | {"answers": answers, "submission": {"id": name}}
    return "/v1/gradings", body, 201, lambda told: (told["submission"]["id"], told["score"]) == (name, score)


@pytest.mark.slow
@pytest.mark.parametrize("made", [evaluation, grading], ids=["evaluations", "gradings"])
def test_500_requests_within_10_seconds_while_two_long_jobs_run(tmp_path, made):
    with Server(tmp_path, workers=2, job_workers=2, environment=ROOMY_ENVIRONMENT) as server:
        url = f"http://127.0.0.1:{server.port}"
        jobs = [server.call("/v1/jobs", {"type": "training", "spec": long_network(240)}) for _ in range(2)]
        for job in jobs:
            until(lambda: server.call(f"/v1/jobs/{job['id']}")["progress"], "it runs")  # noqa: B023  # called before the loop goes on
        began = time.monotonic()

        def ask(client):
            """Send requests over one connection, evenly over the time; return whether each was right, and how soon."""
            seen = []
            with requests.Session() as session:
                for number in range(EACH):
                    due = began + (number + client / CONNECTIONS) * SECONDS / EACH
                    time.sleep(max(due - time.monotonic(), 0))
                    path, body, status, is_right = made(client, number)
                    sent = time.monotonic()
                    answer = session.post(url + path, json=body, timeout=60)
                    seconds = time.monotonic() - sent
                    seen.append((answer.status_code == status and is_right(answer.json()), seconds))
            return seen

        with ThreadPoolExecutor(CONNECTIONS) as clients:
            answers = [clients.submit(ask, client) for client in range(CONNECTIONS)]
            seen = [entry for answer in answers for entry in answer.result()]
        for job in jobs:
            assert server.call(f"/v1/jobs/{job['id']}")["state"] == "running"
            server.call(f"/v1/jobs/{job['id']}/cancel", {})
        assert [right for right, _ in seen] == [True] * CONNECTIONS * EACH
        if made is grading:
            kept, path = 0, "/v1/gradings?limit=100"
            while path:
                page = server.call(path)
                kept += len(page["data"])
                path = page["next_cursor"] and f"/v1/gradings?limit=100&cursor={page['next_cursor']}"
            assert kept == CONNECTIONS * EACH
    times = statistics.quantiles((seconds for _, seconds in seen), n=100)
    print(f"\np50 {times[49] * 1000:.0f} ms, p95 {times[94] * 1000:.0f} ms, p99 {times[98] * 1000:.0f} ms")  # noqa: T201
