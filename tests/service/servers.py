"""Servers for tests: real processes on loopback, each in a process group of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request

import pytest

SCRIPT = """
import json, os, sys
from chainrule_service.serving import serve
from chainrule_service.settings import Settings
try:
    sys.exit(serve(Settings.from_env(os.environ, **json.loads(sys.argv[1]))))
except ValueError as error:
    sys.exit(f"chainrule serve: {error}")
"""
#: For so many seconds a database or a broker is away.
AWAY = 20.0
ENVIRON = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}


class Server:
    """A server in a process group of its own, which is gone when the block ends, whatever happened in it."""

    def __init__(self, folder, script=SCRIPT, *, environment=None, **overrides):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe could fill up, and hold up whoever logs
        settings = {"port": 0, "workers": 1, "job_workers": 1, "data": str(folder)} | overrides
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(settings)],
            env=ENVIRON | (environment or {}), stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        self.line = self.process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)", self.line)
        if not found:
            self.__exit__()
            pytest.fail(f"the server did not start: {self.line} {self.errors}")
        self.port = int(found[1])
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGTERM)
        self._log.close()

    def stop(self, number, timeout=100):
        """Signal the master, wait for it, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._log.seek(0)
            self.errors = self._log.read()
        return self.process.returncode

    def logged(self):
        """Return what was logged so far. Its place in the file is the server's too, and is left alone."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def call(self, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def send(self, raw, *, half_close=False):
        """Send bytes and return everything that comes back until the server ends the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65536):
                received += part
        return received


def check_refusal(answer):
    """Insist that an answer says: not now, come back."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["type"] == "/problems/service-unavailable"
