"""The server's worker: gunicorn's threads, which see a request only when all of it has arrived.

gunicorn gives each connection a thread as soon as its first byte is there, and lets it wait for the rest without end;
a few clients that stall would hold every thread. Here the main thread, which waits for all connections at once anyway,
gathers a request's bytes, and ends a connection that is silent or slow for too long. It looks only for where the
request ends; gunicorn parses it, and what is malformed is gunicorn's to refuse.

Relies, beyond what gunicorn documents for subclasses of a worker, on these parts of its gthread module: every new or
reused connection passes `enqueue_req`; `handle` and `handle_request` run in a thread, `finish_request` and, about once
a second, `murder_pending` in the main one; `set_accept_enabled(False)` begins the end; `nr_conns` counts connections;
a parser's `unreader` takes bytes back. tests/service/test_slow_senders.py holds it to that.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from chainrule_service import jsonio, metrics
from chainrule_service.exchange import announced, new_request_id
from chainrule_service.problems import PROBLEM_TYPES

_HEAD_BYTES = 65_536
_PART = 1 << 20  # bytes read from one connection before others have their turn
_LINGER = 2.0  # seconds for a client to end its side, after which a last answer could be lost with the connection
_BODIES = 4  # times body_bytes: what all requests that a worker holds may take, and what is drained of a refused one
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Arrival:
    """A request on its way in, or what still comes from a client that has had its last answer."""

    since: float
    heard: float
    data: bytearray = field(default_factory=bytearray)
    searched: int = 0
    size: int | None = None  # of what is gathered before a thread sees it, once the head is there
    whole: bool = False  # whether that is all of the request
    greeted: bool = False
    dropped: int = 0
    leaving: bool = False
    watched: bool = False  # whether the poller knows the connection: to ask it about one that it does not takes long


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's gthread worker, whose threads never wait for a client to send."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        limits = self.app.settings.limits
        self._body, self._silent, self._slow = (
            limits[name] for name in ("body_bytes", "silent_seconds", "request_seconds")
        )
        self._arrivals: dict[Any, Arrival] = {}  # in the poller, but for one that has just come
        self._handled: dict[Any, Arrival] = {}  # in a thread, or waiting for one
        self._held = 0  # bytes in both
        self._checked = 0.0

    # ------------------------------------------------------------------------------------ in the main thread

    def enqueue_req(self, conn: Any) -> None:
        """Begin to gather a request: of a new connection, of a reused one, or of one that has sent ahead."""
        now = time.monotonic()
        arrival = self._arrivals[conn] = Arrival(now, now)
        if conn.parser is None:
            # No thread waits for a client to take an answer either; gunicorn's own calls leave these options alone.
            patience = struct.pack("ll", self._silent, 0)
            with suppress(OSError):
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        else:
            self._keep(arrival, conn.parser.unreader.take_buffered())
        conn.sock.setblocking(False)
        self._receive(conn)  # nearly always all is there already
        if conn in self._arrivals:
            self._watch(conn, arrival)

    def finish_request(self, conn: Any, future: Future[bool]) -> None:
        """Go on after a request: keep the connection, or let it go without a thread or this one waiting for it."""
        arrival = self._handled.pop(conn)
        self._held -= len(arrival.data)
        if future.cancelled() or future.exception() is not None or future.result():
            super().finish_request(conn, future)
        else:
            conn.sock.setblocking(False)
            now = time.monotonic()
            left = Arrival(now, now)
            self._watch(conn, left)
            self._leave(conn, left)

    def murder_pending(self) -> None:
        """End the connections that have been silent or slow for too long."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._checked + 0.5:
            return
        self._checked = now
        # At the end of the server, a connection that has sent nothing is not waited for.
        silent = self._silent if self.alive else min(self._silent, _LINGER)
        for conn, arrival in list(self._arrivals.items()):
            quiet, taken = now - arrival.heard, now - arrival.since
            if arrival.leaving:
                if quiet > _LINGER or taken > self._slow:
                    self._drop(conn)
            elif quiet > (self._silent if arrival.data else silent):
                self._refuse(conn, "request-timeout", f"nothing was sent for {self._silent} seconds")
            elif taken > self._slow:
                self._refuse(conn, "request-timeout", f"the request did not arrive within {self._slow} seconds")

    def set_accept_enabled(self, enabled: bool) -> None:
        """Turn to or from new connections; at the end refuse them, as nobody else would answer them."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            if shared := self.wsgi.extensions.get("chainrule"):  # the benchmarks serve another application as well
                shared.draining.set()
            for listener in self.sockets:
                listener.close()

    def _receive(self, conn: Any, _: Any = None) -> None:
        """Take what there is; when the request is complete, or can never be, hand it on."""
        arrival, got, ended = self._arrivals[conn], 0, False
        while got < _PART and not self._complete(arrival):
            try:
                part = conn.sock.recv(_PART)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._drop(conn)
                return
            if not part:
                ended = True
                break
            got += len(part)
            arrival.heard = time.monotonic()
            if arrival.leaving:
                arrival.dropped += len(part)
            else:
                self._keep(arrival, part)
        if arrival.leaving:
            if ended or arrival.dropped > _BODIES * self._body:
                self._drop(conn)
        elif self._complete(arrival) or (ended and arrival.data):
            self._hand_on(conn)
        elif ended:
            self._drop(conn)
        elif arrival.size is None and len(arrival.data) > _HEAD_BYTES:
            self._refuse(conn, "headers-too-large", f"the head of the request is longer than {_HEAD_BYTES:,} bytes")
        elif len(arrival.data) > _HEAD_BYTES and self._held > _BODIES * self._body:
            self._refuse(conn, "service-unavailable", "this server holds as many bodies as it can; try again shortly")
        elif arrival.size is not None and not arrival.greeted:
            arrival.greeted = True
            if _EXPECTS.search(arrival.data):
                self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _keep(self, arrival: Arrival, data: bytes) -> None:
        arrival.data += data
        self._held += len(data)

    def _complete(self, arrival: Arrival) -> bool:
        """Tell whether the request is there, or so much of it that it will be refused."""
        data = arrival.data
        if arrival.leaving:
            return False
        if arrival.size is None:
            end = data.find(b"\r\n\r\n", max(arrival.searched - 3, 0)) + 4
            arrival.searched = len(data)
            if end < 4:
                return False
            coded, length = _CODED.search(data, 0, end), _LENGTH.search(data, 0, end)
            body = announced(length[1].decode()) if length else 0
            arrival.whole = not coded and body <= self._body
            arrival.size = end + (body if arrival.whole else 0)
        return len(data) >= arrival.size

    def _watch(self, conn: Any, arrival: Arrival) -> None:
        self.poller.register(conn.sock, EVENT_READ, partial(self._receive, conn))
        arrival.watched = True

    def _unwatch(self, conn: Any, arrival: Arrival) -> None:
        if arrival.watched:
            arrival.watched = False
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)

    def _hand_on(self, conn: Any) -> None:
        arrival = self._handled[conn] = self._arrivals.pop(conn)
        self._unwatch(conn, arrival)
        super().enqueue_req(conn)

    def _refuse(self, conn: Any, slug: str, detail: str) -> None:
        arrival = self._arrivals[conn]
        if not arrival.data:
            self._drop(conn)  # nothing was asked
            return
        kind = PROBLEM_TYPES[slug]
        metrics.REQUESTS.observe(time.monotonic() - arrival.since, "other", "none", str(kind.status))
        mark = new_request_id()
        members = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": detail}
        body = jsonio.dumps(members | {"request_id": mark}).encode()
        retry = "Retry-After: 5\r\n" if kind.status == 503 else ""
        head = (
            f"HTTP/1.1 {kind.status} {kind.title}\r\nContent-Type: application/problem+json\r\n{retry}"
            f"X-Request-Id: {mark}\r\nX-Content-Type-Options: nosniff\r\n"
            f"Cache-Control: no-store\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._send(conn, head.encode() + body)
        self._leave(conn, arrival)

    def _send(self, conn: Any, data: bytes) -> None:
        with suppress(OSError):  # a few bytes always fit, unless the client is gone
            conn.sock.send(data)

    def _leave(self, conn: Any, arrival: Arrival) -> None:
        """End our side; the connection goes when the client has ended its own (RFC 9112, section 9.6)."""
        self._held -= len(arrival.data)
        arrival.data, arrival.leaving = bytearray(), True
        arrival.since = arrival.heard = time.monotonic()
        self._arrivals[conn] = arrival
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)

    def _drop(self, conn: Any) -> None:
        arrival = self._arrivals.pop(conn)
        self._held -= len(arrival.data)
        self._unwatch(conn, arrival)
        self.nr_conns -= 1
        conn.close()

    # ------------------------------------------------------------------------------------ in a thread

    def handle(self, conn: Any) -> Any:
        """Parse and answer the request that has arrived."""
        conn.data_ready = True
        conn.init()
        conn.parser.unreader.unread(bytes(self._handled[conn].data))
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer; where not all of the request is there, the connection ends with it: nothing waits for the rest."""
        arrival = self._handled[conn]
        if not arrival.whole or len(arrival.data) < (arrival.size or 0):
            req.force_close()
        try:
            return super().handle_request(req, conn)
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, "the client does not take its answer") from None
