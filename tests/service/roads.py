"""Roads for tests, to real servers, on which things go wrong."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Road:
    """The way to a server, which can be cut or fall silent: a proxy of TCP."""

    def __init__(self, host, port):
        self.there, self.port = (host, port), 0
        self._lock = threading.Lock()
        self.open()

    def open(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._is_cut, self._ends = False, []
        self._silent = threading.Event()
        self._swallowed = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self):
        """Cut all connections, and take no more."""
        with self._lock:
            self._is_cut = True  # what `_accept` is opening now it closes itself
        for end in [self._listener, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self):
        with suppress(OSError):  # it is cut
            while True:
                here, _ = self._listener.accept()
                try:
                    there = socket.create_connection(self.there)
                except OSError:
                    here.close()
                    raise
                with self._lock:
                    if self._is_cut:
                        here.close()
                        there.close()
                        return
                    self._ends += [here, there]
                    for ends in ((here, there), (there, here)):
                        self._threads.append(threading.Thread(target=self._carry, args=ends))
                        self._threads[-1].start()

    def fall_silent(self, seconds=60):
        """Take what is sent and carry none of it from now on; return when somebody waits for an answer in vain."""
        self._silent.set()
        assert self._swallowed.wait(seconds), "nobody has sent anything"

    def _carry(self, source, target):
        with suppress(OSError):
            while part := source.recv(65536):
                if self._silent.is_set():
                    self._swallowed.set()
                else:
                    target.sendall(part)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
