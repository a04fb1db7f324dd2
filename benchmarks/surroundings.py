"""What a person waits for and pays besides the arithmetic: a cold start, and memory."""

from __future__ import annotations

import gc
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing

from benchmarks.graphs import SMOOTH, random_program
from benchmarks.http_cost import GRAPHS, NEURON, free_port
from benchmarks.http_cost import measure as requests_per_second
from benchmarks.large_graph import random_graph
from benchmarks.race import Effort, Figure, figure
from chainrule_engine.graph import Graph
from chainrule_engine.tape import Tape

_NEURON = json.dumps({"graph": GRAPHS[NEURON]}).encode()
_PATIENCE = 60.0


def serving(effort: Effort) -> Iterator[Figure]:
    """Requests per second of the lecture's neuron over HTTP, one gunicorn worker."""
    rounds, seconds = (2, 0.05) if effort.quick else (40, 0.25)
    with closing(requests_per_second(rounds, seconds)) as comparisons:
        found = next(comparison for title, comparison in comparisons if title == NEURON)
    for name, rate in found.rates.items():
        yield figure(name, [rate], "requests/s")
    yield Figure("a bare Flask view that parses the same body", found.ratio, found.low, found.high, "×", 0.7)


def cold(effort: Effort) -> Iterator[Figure]:
    """A cold start of `chainrule serve`."""
    starts = [_start() for _ in range(1 if effort.quick else 7)]
    yield figure("until /readyz answers", [ready for ready, _ in starts], "s", 3.0, ceiling=True)
    yield figure("the first evaluation", [first * 1e3 for _, first in starts], "ms", 50.0, ceiling=True)


def _start() -> tuple[float, float]:
    """Start a service, and return the seconds until it is ready, and those that its first evaluation takes."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="chainrule-") as folder:
        command = [sys.executable, "-m", "chainrule", "serve", "--port", str(port), "--data", folder]
        start = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not _is_ready(port):
                if server.poll() is not None or time.perf_counter() - start > _PATIENCE:
                    raise RuntimeError("the service does not start: try `make serve`")
                time.sleep(0.002)
            ready = time.perf_counter() - start
            connection = http.client.HTTPConnection("127.0.0.1", port)
            begin = time.perf_counter()
            connection.request("POST", "/v1/evaluations", _NEURON, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            first = time.perf_counter() - begin
            connection.close()
            if answer.status != 200 or abs(body["value"] - 0.7071067811865476) > 1e-12:
                raise RuntimeError(f"the first evaluation is answered {answer.status}: {body}")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    return ready, first


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def memory(effort: Effort) -> Iterator[Figure]:
    """Memory: 100,000 nodes at one point, 40 nodes at 10,000 points."""
    graph = Graph.from_dict(random_graph(2_000 if effort.quick else 100_000))
    seeds = {name: [1.0] for name in graph.outputs}
    gc.collect()
    tracemalloc.start()
    tape = Tape(graph)
    columns = tape.forward(graph.inputs, 1)
    gradients = tape.backward(columns, seeds)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield figure("a node, with its value and gradient", [held / len(graph.nodes)], "B", 100.0, ceiling=True)

    count = 100 if effort.quick else 10_000
    graph = random_program(40, 5, SMOOTH, points=count).graph(batch=True)
    tape = Tape(graph)
    seeds = {graph.outputs[0]: [1.0] * count}
    tape.backward(tape.forward(graph.inputs, count), seeds)
    gc.collect()
    tracemalloc.start()
    columns = tape.forward(graph.inputs, count)
    gradients = tape.backward(columns, seeds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    both = 8 * count * (len(columns) + len(gradients))
    yield figure("the batch's activations and gradients, at the peak", [peak / both], "×", 3.0, ceiling=True)
