"""The server: gunicorn around the application, in this process."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from chainrule_engine import acceleration
from chainrule_service.app import create_app
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.settings import Settings, SettingsError
from chainrule_service.store import Store, worker_name
from chainrule_service.worker import Worker


def serve(settings: Settings) -> int:
    """Serve until a signal ends it (SIGTERM lets requests finish), and return the exit status.

    Raises:
        SettingsError: the address is open to others and nobody said that this is meant, or it cannot be had, or the
            data folder cannot be used, or another server uses it, or CHAINRULE_ENGINE names no engine.
    """
    check_address(settings)
    try:
        acceleration.choice()
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if settings.data is None and settings.workers > 1:
        raise SettingsError("several workers can share a jobs table only in a data folder; name one with --data")
    _check_port(settings)
    with _own(settings.data) as lock:
        if settings.data is not None:
            _take_over(settings)
        try:
            Server(settings, lambda: create_app(settings), lock).run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def check_address(settings: Settings) -> None:
    """Refuse an address that others can reach, unless that is meant.

    Raises:
        SettingsError: it is such an address.
    """
    if settings.insecure or settings.host == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(settings.host.strip("[]")).is_loopback:
            return
    raise SettingsError(
        f"refusing to listen on {settings.host}: others could reach it, and the service asks nobody who they are. "
        "Listen on 127.0.0.1, or say --insecure (CHAINRULE_INSECURE=1) if the network itself keeps strangers out"
    )


def _check_port(settings: Settings) -> None:
    """Find out at once whether the address can be had: gunicorn would try for seconds."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, settings.port), family=family).close()
    except OSError as error:
        raise SettingsError(f"cannot listen on {host} port {settings.port}: {error.strerror}") from None


@contextmanager
def _own(folder: Path | None) -> Iterator[TextIO | None]:
    """Hold the data folder: another server would take the jobs that run here for abandoned ones."""
    if folder is None:
        yield None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "server.lock").open("w")
    except OSError as error:
        raise SettingsError(
            f"the data folder {folder} cannot be used ({error.strerror}); name another with --data or CHAINRULE_DATA"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"another chainrule server uses the data folder {folder}; stop it, or name another with --data"
            ) from None
        yield lock


def _take_over(settings: Settings) -> None:
    """Bring the jobs table to this version, before anything uses it."""
    database = Database(settings.database)
    try:
        database.upgrade()
    except DatabaseUnavailable as error:
        raise SettingsError(
            f"the jobs table in {database.url.render_as_string()} cannot be used ({error}): perhaps it is damaged, or "
            "another program's. Move it away, or name another folder with --data or CHAINRULE_DATA"
        ) from None
    finally:
        database.close()


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn with our settings, around the application that `make` returns; `lock` is only the master's."""

    def __init__(self, settings: Settings, make: Callable[[], Flask], lock: TextIO | None = None) -> None:
        self.settings, self.make, self.lock = settings, make, lock
        super().__init__()

    def load(self) -> Flask:
        """Load the kernels and make the application: gunicorn asks for it once, before it forks."""
        if not acceleration.load():
            sys.stderr.write(
                f"chainrule computes in plain Python, without the compiled kernels: {acceleration.reason()}\n"
            )
        return self.make()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""

        def when_ready(server: Any) -> None:
            for listener in server.LISTENERS:
                host, port = listener.sock.getsockname()[:2]
                address = f"[{host}]" if ":" in host else host
                sys.stdout.write(f"chainrule listens on http://{address}:{port} (its documentation: /docs)\n")
            sys.stdout.flush()

        def post_fork(server: Any, worker: Any) -> None:
            # Until it has handlers of its own a worker has the master's, which only take a note: a SIGTERM that comes
            # now would be lost, and the server would wait for this worker until graceful_timeout has passed.
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            if self.lock is not None:
                self.lock.close()  # it is the master's: a worker that outlives it must not keep a new server out

        def child_exit(server: Any, worker: Any) -> None:
            if self.settings.data is None:
                return  # the table died with its only worker
            # The master must not be kept from its other workers for long.
            store = Store(Database(self.settings.database, patience=2), self.settings)
            try:
                store.expire_worker(worker_name(worker.pid))
            except DatabaseUnavailable:
                server.log.exception("the leases of worker %s could not be ended", worker.pid)
            finally:
                store.close()  # a worker that is forked next must not inherit the connection

        host = self.settings.host.strip("[]")
        options = {
            "bind": f"[{host}]:{self.settings.port}" if ":" in host else f"{host}:{self.settings.port}",
            "workers": self.settings.workers,
            # Threads, so that health checks are answered while a job computes; and no request is ever killed midway,
            # as it is by the timeout of sync workers.
            "worker_class": Worker,
            "threads": self.settings.threads,
            # A worker whose main thread is silent for so long is broken; computing threads do not silence it.
            "timeout": 60,
            # On SIGTERM requests may finish for so long: about twice what the longest job takes on a modest machine.
            "graceful_timeout": 60,
            # With the files of a worker below 1,024, which it may often open at most.
            "worker_connections": 800,
            # Clients such as requests' Session reuse a connection; the default of 2 s makes them race with its end.
            "keepalive": 15,
            # Made once and shared by fork; create_app opens no connection and starts no thread.
            "preload_app": True,
            # The heartbeat is a file: on a disk it can block.
            **({"worker_tmp_dir": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}),
            # It would write below the home folder, which may be read-only, and nothing here uses it.
            "control_socket_disable": True,
            # One line says where it listens; what goes wrong is logged. Access is a proxy's to log.
            "loglevel": "warning",
            "when_ready": when_ready,
            "post_fork": post_fork,
            "child_exit": child_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)
