"""What the service costs: requests per second of a small evaluation against those of a bare Flask view.

The bare view parses the same body and answers with a number from it. Both run under one gunicorn worker with the
service's own settings, pinned to one core, the load generator to another. The two take turns in short rounds, and what
each request took of the worker's processor time is divided within each pair of rounds. Prints the median of these
ratios, and between which two lies the middle half of them. Requests per second are printed besides; their ratio is the
same on a machine that does nothing else, and too high on a busy one, where both servers wait for the load generator.

    python -m benchmarks.http_cost [--seconds 0.25] [--rounds 40] [--connections 4] [--at-least 0.7]
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import selectors
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from operator import truediv
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, jsonify, request

from chainrule_service.app import create_app
from chainrule_service.serving import Server
from chainrule_service.settings import Settings
from chainrule_service.upkeep import Reports

Inputs = dict[str, float]
_NEURON: Inputs = {"b": 6.8813735870195432, "x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0}


def graph(inputs: Inputs, output: str, *nodes: tuple[str, str, list[str | float]]) -> dict[str, Any]:
    """Return a graph in the form of the wire."""
    return {
        "inputs": inputs,
        "nodes": [{"id": name, "op": op, "args": args} for name, op, args in nodes],
        "output": output,
    }


_SUM: tuple[tuple[str, str, list[str | float]], ...] = (
    ("x1w1", "mul", ["x1", "w1"]),
    ("x2w2", "mul", ["x2", "w2"]),
    ("sum", "add", ["x1w1", "x2w2"]),
    ("n", "add", ["sum", "b"]),
)
NEURON = "the lecture's neuron, 5 operations"
#: The lecture's first expression, and its neuron with tanh and with tanh broken down.
GRAPHS = {
    "L = (a*b + c)*f, 7 nodes with its inputs": graph(
        {"b": -3.0, "a": 2.0, "c": 10.0, "f": -2.0},
        "L",
        ("e", "mul", ["a", "b"]),
        ("d", "add", ["e", "c"]),
        ("L", "mul", ["d", "f"]),
    ),
    NEURON: graph(_NEURON, "o", *_SUM, ("o", "tanh", ["n"])),
    "the same with tanh broken down, 9 operations": graph(
        _NEURON,
        "o",
        *_SUM,
        ("twice", "mul", [2.0, "n"]),
        ("e", "exp", ["twice"]),
        ("above", "sub", ["e", 1.0]),
        ("below", "add", ["e", 1.0]),
        ("o", "div", ["above", "below"]),
    ),
}
PATH = "/v1/evaluations"
BARE, OURS = "bare view", "evaluation"


def bare() -> Flask:
    """Return an application whose only view parses the body and answers with a number from it."""
    app = Flask("bare")

    @app.post(PATH)
    def echo() -> Any:
        return jsonify(value=request.get_json()["graph"]["inputs"]["b"])

    return app


def run_server(make: Callable[[], Flask], port: int, core: int | None) -> None:
    """Serve on a core of its own until a signal comes; the body of a child process."""
    pin(core)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the line that says where it listens
    sys.argv = sys.argv[:1]
    listener = socket.create_server(("127.0.0.1", port))
    Server(Settings(port=port), make(), listener.detach(), Reports()).run()


def pin(core: int | None) -> None:
    """Keep this process on one core, where the system has a call for that."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    """Wait until a server answers.

    That it listens is too soon: a connection from before it has set up its socket waits 40 ms for each second packet.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with suppress(OSError), closing(connection):
            connection.request("GET", "/")
            connection.getresponse()
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing answers on port {port}")


class Load:
    """Keep-alive connections to one server, each with one request under way at a time."""

    def __init__(self, port: int, message: bytes, connections: int) -> None:
        self.message = message
        self.selector = selectors.DefaultSelector()
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for connection in self.sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(connection, selectors.EVENT_READ, bytearray())

    def run(self, seconds: float) -> int:
        """Return the number of requests of one round; at its end none is under way."""
        start = time.perf_counter()
        for connection in self.sockets:
            connection.sendall(self.message)
        done, awaited = 0, len(self.sockets)
        while awaited:
            for key, _ in self.selector.select(timeout=5):
                sender: Any = key.fileobj
                received: bytearray = key.data
                part = sender.recv(65536)
                if not part:
                    raise ConnectionError("the server ended a connection")
                received += part
                if is_whole(bytes(received)):
                    received.clear()
                    done += 1
                    if time.perf_counter() - start < seconds:
                        sender.sendall(self.message)
                    else:
                        awaited -= 1
        return done

    def close(self) -> None:
        """End the connections."""
        self.selector.close()
        for connection in self.sockets:
            connection.close()


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer is complete, and insist that it is a good one."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return len(body) == length


class Comparison(NamedTuple):
    """What came of a comparison; medians over the rounds.

    rates      requests per second, by server
    costs      seconds of the worker's processor time for a request; of the clock where the system does not tell
    ratio      of the bare view's cost to ours, within each pair of rounds
    low, high  between these lies the middle half of the ratios
    """

    rates: dict[str, float]
    costs: dict[str, float]
    ratio: float
    low: float
    high: float


def clock_of(master: int | None) -> Callable[[], float]:
    """Return what reads the processor time of the one worker of a server, in seconds."""
    children = Path(f"/proc/{master}/task/{master}/children")
    if not children.exists():  # not Linux
        return time.perf_counter
    (worker,) = map(int, children.read_text().split())
    clock = ~worker << 3 | 2  # as clock_getcpuclockid makes it
    return lambda: time.clock_gettime(clock)


def compare(
    data: Any,
    ports: dict[str, int],
    masters: dict[str, int | None],
    rounds: int,
    seconds: float,
    connections: int,
) -> Comparison:
    """Let the two servers take turns on one graph, each one first in every other pair of rounds."""
    body = json.dumps({"graph": data}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    message = f"{head}\r\n\r\n".encode() + body
    loads = {name: Load(port, message, connections) for name, port in ports.items()}
    for load in loads.values():
        load.run(max(seconds, 0.5))  # warm up
    clocks = {name: clock_of(master) for name, master in masters.items()}
    rates: dict[str, list[float]] = {name: [] for name in ports}
    costs: dict[str, list[float]] = {name: [] for name in ports}
    for count in range(rounds):
        for name in list(ports)[:: -1 if count % 2 else 1]:
            spent, start = clocks[name](), time.perf_counter()
            done = loads[name].run(seconds)
            rates[name].append(done / (time.perf_counter() - start))
            costs[name].append((clocks[name]() - spent) / done)
    for load in loads.values():
        load.close()
    low, ratio, high = statistics.quantiles(map(truediv, costs[BARE], costs[OURS]), n=4)
    return Comparison(_medians(rates), _medians(costs), ratio, low, high)


def _medians(rounds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rounds.items()}


def measure(rounds: int = 40, seconds: float = 0.25, connections: int = 4) -> Iterator[tuple[str, Comparison]]:
    """Start both servers, and yield the title of each of GRAPHS with what was measured of it."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    server_core, load_core = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    servers = {BARE: bare, OURS: create_app}
    ports = {name: free_port() for name in servers}
    fork = multiprocessing.get_context("fork")
    children = [
        fork.Process(target=run_server, args=(make, ports[name], server_core)) for name, make in servers.items()
    ]
    for child in children:
        child.start()
    try:
        pin(load_core)
        for port in ports.values():
            wait_for(port)
        masters = {name: child.pid for name, child in zip(servers, children, strict=True)}
        for title, data in GRAPHS.items():
            yield title, compare(data, ports, masters, rounds, seconds, connections)
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        for child in children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join()


def main() -> int:
    """Measure, print, and return 1 if the ratio of the lecture's neuron is below what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a round")
    parser.add_argument("--rounds", type=int, default=40, help="pairs of rounds")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--at-least", type=float, default=0.0, help="exit status 1 if the neuron is below")
    options = parser.parse_args()
    ratios = {}
    for title, found in measure(options.rounds, options.seconds, options.connections):
        ratios[title] = found.ratio
        print(title)
        for name, rate in found.rates.items():
            print(f"  {name:<12}{found.costs[name] * 1e6:8.0f} µs of processor time   ({rate:.0f} requests/s)")
        print(
            f"  {'ratio':<12}{found.ratio:8.3f}   (half of the pairs: {found.low:.3f} to {found.high:.3f})", flush=True
        )
    if ratios[NEURON] < options.at_least:
        print(f"the ratio of the neuron is below {options.at_least}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
