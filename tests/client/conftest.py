"""A server that answers as each test tells it to, and a client of it; the service in this process on a real socket."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.client.sockets import serving

from chainrule import Client
from chainrule._local import application


class Server(ThreadingHTTPServer):
    """Sends `answers` one after another: (status, headers, body), bytes that break off, "hang up" or "stay silent"."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests = [], []
        self.release = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0)
        if answer == "hang up":
            self.close_connection = True
            return
        if isinstance(answer, bytes):
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(answer), answer)
            )
            self.close_connection = True  # before the last chunk, which is empty
            return
        if answer == "stay silent":
            self.server.release.wait()
            self.close_connection = True
            return
        status, headers, content = answer
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815  # http.server names them

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server):
    with Client(server.url, api_key="cr_key") as client:
        client.slept = []
        client._transport.sleep = client.slept.append
        client._transport.jitter = lambda: 0.0
        yield client


@pytest.fixture(scope="module")
def url():
    """The URL of a service with all in memory."""
    app, close = application()
    with serving(app) as url:
        yield url
    close()
