"""The server: gunicorn around the application and job workers beside it, under one supervisor."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from flask import Flask
from gunicorn import glogging  # type: ignore[import-untyped]
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from chainrule_engine import acceleration
from chainrule_service import distributed, exporter, logs, metrics, upkeep, webhooks
from chainrule_service.app import create_app
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.job_worker import work
from chainrule_service.keys import Keys
from chainrule_service.opening import open_store
from chainrule_service.settings import Settings, SettingsError
from chainrule_service.store import Store, worker_name
from chainrule_service.supervisor import Child, Supervisor, end_with_parent
from chainrule_service.upkeep import Reports
from chainrule_service.worker import Worker

#: An address may be in use for so long after the end of a server that was killed.
_ADDRESS_SECONDS = 3.0


def serve(settings: Settings) -> int:
    """Serve until a signal ends it (SIGTERM lets requests finish), and return the exit status.

    A supervisor starts gunicorn and the job workers, all around one jobs table.

    Raises:
        SettingsError: the address is open to others, there is no API key and nobody said that this is meant, or it
            cannot be had, or the data folder or the database cannot be used, or another server uses the folder, or
            CHAINRULE_ENGINE names no engine, or Celery is not installed.
    """
    check_address(settings)
    _check_engine()
    _load_celery(settings)
    logs.configure(settings.log_level)
    with ExitStack() as held:
        listener = held.enter_context(_listen(settings.host, settings.port))
        locks: list[TextIO] = []
        if settings.database_url is None and settings.data is not None:
            locks.append(held.enter_context(_own(settings.data)))
        store = _open(settings)
        _end_leases_of_the_dead(store)
        store.close()  # what is forked has connections of its own
        _load_kernels()
        app = create_app(settings)
        reports = Reports()
        scraped = held.enter_context(_scraped(settings))
        if scraped:
            held.enter_context(metrics.counting())
        # Children may outlive the server a little, if it is killed, and must not keep a new one out.
        apart: list[TextIO | socket.socket] = [*locks, listener, *scraped]

        def web() -> None:
            for file in apart:
                if file is not listener:
                    file.close()
            # gunicorn leaves a copy of the descriptor that it is given to the garbage collector.
            warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
            Server(settings, app, listener.detach(), reports).run()

        host, port = listener.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"chainrule listens on http://{address}:{port} (its documentation: /docs)\n")
        sys.stdout.flush()

        children = [Child("gunicorn", web), *_seeing_to_jobs(settings, apart), *_exporter(settings, scraped, apart)]
        looks_after = _upkeep(settings, reports, apart)
        return Supervisor(settings, reports, looks_after, children, lambda: _close([listener, *scraped])).run()


def run_job_workers(settings: Settings) -> int:
    """Run job workers alone until a signal ends them, and return the exit status.

    Raises:
        SettingsError: the database cannot be used, CHAINRULE_ENGINE names no engine, or Celery is not installed.
    """
    _check_engine()
    _load_celery(settings)
    logs.configure(settings.log_level)
    _open(settings).close()
    _load_kernels()
    with _scraped(settings) as scraped, metrics.counting() if scraped else nullcontext():
        reports, children = Reports(), [*_seeing_to_jobs(settings, scraped), *_exporter(settings, scraped)]
        return Supervisor(
            settings, reports, _upkeep(settings, reports, scraped), children, lambda: _close(scraped)
        ).run()


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def upgrade(settings: Settings) -> None:
    """Bring the tables of the database to what this version needs.

    Raises:
        SettingsError: it cannot be reached or changed.
    """
    database = Database(settings.database)
    try:
        database.upgrade()
    except DatabaseUnavailable as error:
        raise SettingsError(f"the database cannot be upgraded: {error}") from None
    finally:
        database.close()


def check_address(settings: Settings) -> None:
    """Refuse an address that others can reach while there is no API key, unless that is meant.

    Raises:
        SettingsError: it is such an address, or whether there is a key cannot be found out.
    """
    if settings.private:
        return
    if settings.database is not None:
        try:
            with closing(Database(settings.database, upgrades=False)) as database:
                if (database.file is None or database.file.exists()) and Keys(database).exist():
                    return
        except (OSError, DatabaseUnavailable) as error:
            raise SettingsError(f"whether there is an API key cannot be found out: {error}") from None
    raise SettingsError(
        f"refusing to listen on {settings.host}: others could reach it, and there is no API key yet that the service "
        "could ask for. Make one with `chainrule keys create`, or listen on 127.0.0.1, or say --insecure "
        "(CHAINRULE_INSECURE=1) if the network itself keeps strangers out"
    )


def _check_engine() -> None:
    try:
        acceleration.choice()
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _load_celery(settings: Settings) -> None:
    """Load Celery, if it is to be used, before anything is forked."""
    if settings.broker_url and not distributed.load(settings):
        raise SettingsError(
            "CHAINRULE_BROKER_URL is for Celery, which is not installed: pip install 'chainrule[celery]'"
        )


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take the address, for as long as the server runs: while gunicorn is started anew, connections wait."""
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    give_up = time.monotonic() + _ADDRESS_SECONDS
    while True:
        try:
            listener = socket.create_server((host, port), family=family)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > give_up:
                raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}") from None
            time.sleep(0.05)
    with listener:
        yield listener


@contextmanager
def _own(folder: Path) -> Iterator[TextIO]:
    """Hold the data folder: a second server on it is nobody's intention; job workers may use it too."""
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


def _open(settings: Settings) -> Store:
    """Return the jobs table, which can be used."""
    if settings.database is None:
        raise SettingsError("a server keeps its jobs in a data folder or a database; name a folder with --data")
    store = open_store(settings, patience=2)
    try:
        store.check()
    except DatabaseUnavailable as error:
        store.close()
        advice = ": perhaps it is damaged, or another program's. Move it away, or name another folder with --data or "
        advice = "" if settings.database_url else f"{advice}CHAINRULE_DATA"
        where = store.database.url.render_as_string()  # without a password
        raise SettingsError(f"the jobs table in {where} cannot be used ({error}){advice}") from None
    return store


def _end_leases_of_the_dead(store: Store) -> None:
    """End the leases of processes of this machine that are no more, as when all of a server was killed."""
    here = worker_name().rpartition(":")[0]
    for worker in store.workers():
        host, _, pid = worker.rpartition(":")
        if host == here and not _is_alive(int(pid)):
            store.expire_worker(worker, cause="the server that ran it was killed")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _load_kernels() -> None:
    """Load the kernels before anything is forked: all processes share their memory."""
    if not acceleration.load():
        sys.stderr.write(f"chainrule computes in plain Python, without the compiled kernels: {acceleration.reason()}\n")


def _without(apart: Sequence[TextIO | socket.socket], run: Callable[[], object]) -> Callable[[], object]:
    """Return what runs the same in a child, without the files `apart`, which are its parent's alone."""

    def child() -> None:
        for mine in apart:
            mine.close()
        run()

    return child


def _upkeep(settings: Settings, reports: Reports, apart: Sequence[TextIO | socket.socket] = ()) -> Child:
    return Child("upkeep of the jobs table", _without(apart, lambda: upkeep.run(settings, reports)))


def _seeing_to_jobs(settings: Settings, apart: Sequence[TextIO | socket.socket] = ()) -> list[Child]:
    """Return the children that see to the jobs of the queue, without the files `apart`."""

    def alone(run: Callable[[Settings], object]) -> Callable[[], object]:
        return _without(apart, lambda: run(settings))

    children = [Child(f"job worker {number}", alone(work), works=True) for number in range(1, settings.job_workers + 1)]
    if settings.broker_url:
        children.append(Child("ringer", alone(distributed.ring_again)))
    if settings.webhooks:
        children.append(Child("webhooks", alone(webhooks.run)))
    return children


@contextmanager
def _scraped(settings: Settings) -> Iterator[list[socket.socket]]:
    """Take the address where Prometheus scrapes, if there is one, for as long as the server runs.

    Raises:
        SettingsError: it cannot be had.
    """
    if settings.metrics_port is None:
        yield []
        return
    with _listen(settings.metrics_host, settings.metrics_port) as listener:
        yield [listener]


def _exporter(
    settings: Settings, scraped: Sequence[socket.socket], apart: Sequence[TextIO | socket.socket] = ()
) -> list[Child]:
    """Return the child that answers there, without the files `apart` that are not its own; none if nobody scrapes."""
    if not scraped:
        return []
    others = [file for file in apart if file not in scraped]
    return [Child("exporter of metrics", _without(others, lambda: exporter.run(settings, scraped[0])))]


class Log(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's log, which goes where everything else that is logged goes."""

    def setup(self, cfg: Any) -> None:
        """Take gunicorn's own handler away again."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn with our settings, around an application, on a socket that listens: the descriptor `listener`."""

    def __init__(self, settings: Settings, app: Flask, listener: int, reports: Reports) -> None:
        self.settings, self.app, self.listener, self.reports = settings, app, listener, reports
        super().__init__()

    def load(self) -> Flask:
        """Return the application."""
        return self.app

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""

        def post_fork(server: Any, worker: Any) -> None:
            # Until it has handlers of its own a worker has the master's, which only take a note: a SIGTERM that comes
            # now would be lost, and the server would wait for this worker until graceful_timeout has passed.
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            end_with_parent(server.pid)

        def child_exit(server: Any, worker: Any) -> None:
            self.reports.died(worker.pid, "the server process that ran it died")

        options = {
            "bind": f"fd://{self.listener}",
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
            # It is made already, and shared by fork.
            "preload_app": True,
            # The heartbeat is a file: on a disk it can block.
            **({"worker_tmp_dir": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}),
            # It would write below the home folder, which may be read-only, and nothing here uses it.
            "control_socket_disable": True,
            # What goes wrong is logged. Access is a proxy's to log.
            "loglevel": "warning",
            "logger_class": Log,
            "post_fork": post_fork,
            "child_exit": child_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)
