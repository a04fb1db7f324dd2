"""Clients that stall: they hold no thread, are let go, and never keep others from an answer."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

SCRIPT = """
import sys
from pathlib import Path
from chainrule_service.serving import serve
from chainrule_service.settings import Settings
limits = {"silent_seconds": int(sys.argv[2]), "request_seconds": int(sys.argv[3])}
sys.exit(serve(Settings(port=0, data=Path(sys.argv[1]), threads=4, limits=limits)))
"""
ENVIRON = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
BODY = b'{"graph":{"inputs":{"a":1},"program":"c=a*2"}}'
HEAD = b"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def serving(folder, silent, slow):
    """Run a server with one worker and four threads; yield its process and its port."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(silent), str(slow)]
    process = subprocess.Popen(
        command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        found = re.search(r"http://\S+:(\d+)", process.stdout.readline())
        yield process, int(found[1])
        process.terminate()
        assert process.communicate(timeout=90) == ("", "")
        assert process.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A server that waits longer than any test here does."""
    with serving(tmp_path_factory.mktemp("data"), 600, 3_600) as (_, port):
        yield port


@pytest.fixture(scope="module")
def brisk(tmp_path_factory):
    """A server that waits for a second, and for three in all."""
    with serving(tmp_path_factory.mktemp("data"), 1, 3) as (_, port):
        yield port


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def until_end(connection):
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


def ask(port, raw):
    with connect(port) as connection:
        connection.sendall(raw)
        return until_end(connection)


STALLED = {
    "silent": b"",
    "half a request line": b"POST /v1/eval",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "nearly all": HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:-1],
    "a length with zeros before it": HEAD + b"Content-Length: %040d\r\n\r\n" % len(BODY) + BODY[:-1],
    "too long": HEAD + b"Content-Length: 30000000\r\n\r\n{",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{",
    "does not end": LIVEZ,
}


@pytest.mark.parametrize("start", STALLED.values(), ids=STALLED)
@pytest.mark.parametrize("number", [8, 60])
def test_others_are_answered_while_clients_stall(patient, start, number):
    """Were each to hold a thread, or the main one, the answer would come minutes later."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(connect(patient)).sendall(start)
        assert ask(patient, LIVEZ).startswith(b"HTTP/1.1 200")
        assert ask(patient, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY).startswith(
            b"HTTP/1.1 200"
        )


def test_hundreds_of_silent_connections(patient):
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(patient))
        assert ask(patient, LIVEZ).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("start", [b"POST /v1/eval", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"])
def test_who_stalls_is_told_and_let_go(brisk, start):
    answer = ask(brisk, start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert b"nothing was sent for 1 seconds" in answer
    assert ask(brisk, LIVEZ).startswith(b"HTTP/1.1 200")


def test_who_is_silent_is_let_go(brisk):
    assert ask(brisk, b"") == b""


def test_who_trickles_is_let_go(brisk):
    with connect(brisk) as connection:
        stop = threading.Event()

        def trickle():
            with contextlib.suppress(OSError):
                while not stop.wait(0.2):
                    connection.sendall(b"x")

        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            answer = connection.recv(65_536)
        finally:
            stop.set()
            sender.join()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 3 seconds" in answer


def test_who_never_takes_an_answer_is_let_go(brisk):
    """The answers of many requests sent ahead fill every buffer between; then the server must not wait for ever."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(connect(brisk)).sendall(request)
        assert ask(brisk, LIVEZ).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("step", [1, 7, 50])
def test_a_request_in_pieces_is_one_request(patient, step):
    raw = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    raw += LIVEZ
    with connect(patient) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(raw), step):
            connection.sendall(raw[place : place + step])
        answer = until_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_connection_is_used_again(patient):
    with connect(patient) as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            answer = b""
            while not answer.endswith(b'"}'):
                part = connection.recv(65_536)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_large_body(patient):
    numbers = b",".join([b"1.25"] * 90_000)
    body = b'{"graph":{"inputs":{"a":[%s]},"program":"c=a*2"}}' % numbers
    answer = ask(patient, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"2.5") == 2 * 90_000  # as the output, and among the values


def test_a_client_that_waits_for_100_continue(patient):
    with connect(patient) as connection:
        connection.sendall(
            HEAD + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert b"HTTP/1.1 200 OK" in until_end(connection)


def test_a_head_without_end(patient):
    answer = ask(patient, HEAD + b"X: " + b"y" * 100_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_body_that_ends_early_is_not_evaluated(patient):
    with connect(patient) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 7) + BODY)
        connection.shutdown(socket.SHUT_WR)
        answer = until_end(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the body ended early" in answer


def test_more_than_a_worker_can_hold_is_refused(patient):
    """Bodies that are nearly as long as they may be: four of them, and a fifth do not fit."""
    start = HEAD + b"Content-Length: 16777216\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(patient)) for _ in range(5)]
        for connection in connections[:4]:
            connection.sendall(start + b" " * 16_777_215)
        connections[4].sendall(start + b" " * 1_000_000)
        refused, _, _ = select.select(connections, [], [], 60)
        answer = refused[0].recv(65_536)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer


def test_at_its_end_it_refuses_new_connections_and_finishes_the_old(tmp_path):
    with serving(tmp_path, 600, 3_600) as (process, port), connect(port) as half, connect(port):
        raw = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
        half.sendall(raw[:-1])
        assert ask(port, LIVEZ).startswith(b"HTTP/1.1 200")  # so it has seen what was sent before
        process.terminate()
        deadline = time.monotonic() + 60
        while True:
            try:
                connect(port).close()
            except ConnectionError:
                break
            assert time.monotonic() < deadline, "it still takes connections"
        half.sendall(raw[-1:])
        assert until_end(half).startswith(b"HTTP/1.1 200")
