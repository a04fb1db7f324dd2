"""A random graph of 100,000 nodes, from the bytes of a request to the bytes of its answer, in this process.

The yardstick is what the standard `json.loads` takes on the same body. The two take turns in rounds, so that a machine
that is busy meanwhile slows both. Prints the medians, those of each stage, and the median of the rounds' ratios.

    python -m benchmarks.large_graph [--nodes 100000] [--rounds 7] [--at-most 8]
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from chainrule_engine import acceleration
from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_service import evaluation, jsonio
from chainrule_service.app import create_app

INPUTS = 1_000
#: The share of literal numbers among the arguments that are free.
LITERALS = 0.1
_YARDSTICK, _OURS = "json.loads", "request to answer"


def random_graph(nodes: int, seed: int = 1) -> dict[str, Any]:
    """Return a graph over all operations, in the form of the wire, in which all values and derivatives are finite.

    The first argument of a node is one that nothing used before, and the last nodes add up what is left, so that every
    node feeds the output. An operation that would give an infinity or NaN, or come near it, is drawn again.
    """
    chance = random.Random(seed)
    operations = list(OPERATIONS.values())
    values = {f"x{k}": chance.uniform(-2.0, 2.0) for k in range(INPUTS)}
    inputs, names, unused, listed = dict(values), list(values), list(values), []
    for k in range(nodes - INPUTS + 1):
        place = chance.randrange(len(unused))
        unused[place], unused[-1] = unused[-1], unused[place]
        first = unused.pop()
        while True:
            operation = chance.choice(operations)
            others = [
                chance.uniform(-2.0, 2.0) if chance.random() < LITERALS else chance.choice(names)
                for _ in range(operation.arity - 1)
            ]
            args = [first, *others]
            numbers = [values[a] if isinstance(a, str) else a for a in args]
            value = operation.value(*numbers)
            if all(abs(n) < 1e3 for n in (value, *(partial(*numbers, value) for partial in operation.partials))):
                break
        name = f"n{k}"
        values[name] = value
        names.append(name)
        unused.append(name)
        listed.append({"id": name, "op": operation.name, "args": args})
    while len(unused) > 1:
        args = [unused.pop(), unused.pop()]
        unused.append(f"n{len(listed)}")
        listed.append({"id": unused[-1], "op": "add", "args": args})
    return {"inputs": inputs, "nodes": listed, "output": unused[0]}


def post(body: bytes) -> Callable[[], bytes]:
    """Return a function that sends the body through the application of the service, and returns the answer's body."""
    app = create_app()

    def send() -> bytes:
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": "/v1/evaluations", "SCRIPT_NAME": "", "QUERY_STRING": "",
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
            "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip
        statuses: list[str] = []

        def start(status: str, *_: object) -> Callable[[bytes], object]:
            statuses.append(status)
            return io.BytesIO().write

        answer = b"".join(app(environ, start))
        if not statuses[0].startswith("200"):
            raise RuntimeError(answer.decode())
        return answer

    return send


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes once, and to let go of what it made."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(nodes: int = 100_000, rounds: int = 7) -> tuple[dict[str, float], list[float]]:
    """Return the median seconds of `json.loads`, of request to answer and of each of its stages; and all ratios.

    The ratio is that of request to answer to `json.loads`.
    """
    acceleration.load()  # as a server does before its first request
    body = json.dumps({"graph": random_graph(nodes)}).encode()
    data = jsonio.loads(body)["graph"]
    graph = Graph.from_dict(data)
    evaluated = evaluate(graph)
    stages: dict[str, Callable[[], object]] = {
        _YARDSTICK: lambda: json.loads(body),
        _OURS: post(body),
        "  reading JSON": lambda: jsonio.loads(body),
        "  reading the graph": lambda: Graph.from_dict(data),
        "  evaluating": lambda: evaluate(graph),
        "  writing JSON": lambda: evaluation.answer_text(evaluated),
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    # What was made so far must not be searched for garbage within the times, least of all within that of `json.loads`.
    gc.collect()
    gc.freeze()
    for _ in range(rounds + 1):
        for name, work in stages.items():
            taken[name].append(seconds(work))
    gc.unfreeze()
    ratios = [ours / yardstick for ours, yardstick in zip(taken[_OURS], taken[_YARDSTICK], strict=True)]
    # The first round warmed up.
    return {name: statistics.median(times[1:]) for name, times in taken.items()}, ratios[1:]


def main() -> int:
    """Measure, print, and return 1 if the ratio is above what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--at-most", type=float, default=8.0, help="exit status 1 if the ratio is above")
    options = parser.parse_args()
    medians, ratios = measure(options.nodes, options.rounds)
    print(f"random graph of {options.nodes:,} nodes, bytes to bytes")
    for name, median in medians.items():
        print(f"  {name:<22}{median * 1e3:8.1f} ms{median / medians[_YARDSTICK]:8.2f}")
    ratio = statistics.median(ratios)
    print(f"  ratio, median of {len(ratios)} rounds: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if ratio > options.at_most:
        print(f"the ratio is above {options.at_most}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
