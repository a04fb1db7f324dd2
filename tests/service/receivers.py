"""Receivers of webhooks: real HTTP servers on loopback, in a thread, that answer as they are told."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Writes the answer to the request with the given number, from 1.
Behaviour = Callable[[BaseHTTPRequestHandler, int], None]


@dataclass
class Receiver:
    """What a server was sent."""

    url: str
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def header(self, name: str) -> list[str]:
        """Return the values that a header had, in the order of the requests."""
        return [headers[name] for _, headers, _ in self.requests]


def answers(*statuses: int, headers: dict[str, str] | None = None) -> Behaviour:
    """Answer with one status after the other, the last of them for ever."""

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(statuses[min(number, len(statuses)) - 1])
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


@contextlib.contextmanager
def receiver(behave: Behaviour, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                told.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                number = len(told.requests)
            with contextlib.suppress(OSError):  # the service hung up
                behave(self, number)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of those who hang up."""

    lock = threading.Lock()
    with Server((host, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        told = Receiver(f"{'https' if tls else 'http'}://{host}:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
