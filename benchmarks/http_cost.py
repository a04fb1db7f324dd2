"""What the service costs: requests per second of a small evaluation against those of a bare Flask view.

The bare view parses the same body and answers with a number from it. Both run under one gunicorn worker with the
service's own settings, pinned to one core, the load generator to another; the two take turns in rounds, so that a
machine that is busy meanwhile slows both. Prints the medians and their ratio.

    python -m benchmarks [--seconds 1.5] [--rounds 7] [--connections 4] [--at-least 0.5]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import selectors
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask, jsonify, request

from chainrule_service.app import create_app
from chainrule_service.serving import Server
from chainrule_service.settings import Settings

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
#: The lecture's first expression, and its neuron with tanh and with tanh broken down.
GRAPHS = {
    "L = (a*b + c)*f, 7 nodes with its inputs": graph(
        {"b": -3.0, "a": 2.0, "c": 10.0, "f": -2.0},
        "L",
        ("e", "mul", ["a", "b"]),
        ("d", "add", ["e", "c"]),
        ("L", "mul", ["d", "f"]),
    ),
    "neuron, 5 operations": graph(_NEURON, "o", *_SUM, ("o", "tanh", ["n"])),
    "neuron, 9 operations": graph(
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
    Server(Settings(port=port), make).run()


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
    """Wait until a server answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def load(port: int, message: bytes, seconds: float, connections: int) -> float:
    """Return the requests per second over keep-alive connections, each with one request under way at a time."""
    selector = selectors.DefaultSelector()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for connection in sockets:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, bytearray())
        connection.sendall(message)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for key, _ in selector.select(timeout=5):
            sender: Any = key.fileobj
            received: bytearray = key.data
            part = sender.recv(65536)
            if not part:
                raise ConnectionError("the server ended a connection")
            received += part
            if is_whole(bytes(received)):
                received.clear()
                done += 1
                sender.sendall(message)
    rate = done / (time.perf_counter() - start)
    for connection in sockets:
        connection.close()
    return rate


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer is complete, and insist that it is a good one."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return len(body) == length


def main() -> int:
    """Measure, print, and return 1 if the ratio of the 7-node expression is below what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--at-least", type=float, default=0.5, help="exit status 1 if the first is below")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    server_core, load_core = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    servers = {"bare view": bare, "evaluation": create_app}
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
        ratios = [compare(title, data, ports, options) for title, data in GRAPHS.items()]
    finally:
        for child in children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join()
    if ratios[0] < options.at_least:
        print(f"the first ratio is below {options.at_least}", file=sys.stderr)
        return 1
    return 0


def compare(title: str, data: Any, ports: dict[str, int], options: argparse.Namespace) -> float:
    """Let the servers take turns on one graph, print their requests per second, and return the ratio of the medians."""
    body = json.dumps({"graph": data}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    message = f"{head}\r\n\r\n".encode() + body
    for port in ports.values():
        load(port, message, options.seconds / 3, options.connections)  # warm up
    rates: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(options.rounds):
        for name, port in ports.items():
            rates[name].append(load(port, message, options.seconds, options.connections))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(title)
    for name, values in rates.items():
        print(f"  {name:<12}{medians[name]:8.0f} requests/s   ({min(values):.0f} to {max(values):.0f})")
    ratio = medians["evaluation"] / medians["bare view"]
    print(f"  ratio       {ratio:8.2f}", flush=True)
    return ratio


if __name__ == "__main__":
    sys.exit(main())
