"""Disks, files, clocks and databases that fail under a real server: what is accepted is done, the rest is refused."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import sqlite3
import struct
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import sqlalchemy as sql
from tests.service.databases import OwnPostgreSQL, postgresql
from tests.service.processes import in_sessions
from tests.service.queued import (
    ROOMY_ENVIRONMENT,
    check_exact,
    ended,
    long_network,
    network,
    open_store,
    settings_for,
    twenty_networks,
    undisturbed,
    until,
)
from tests.service.roads import Road
from tests.service.servers import AWAY, SCRIPT, Server, check_refusal

from chainrule import Client
from chainrule_service.settings import FILE

pytestmark = pytest.mark.slow

LEASE = 1
ENVIRONMENT = ROOMY_ENVIRONMENT | {"CHAINRULE_LEASE_SECONDS": str(LEASE)}


class Service:
    """A server, its jobs table, and what it has accepted."""

    def __init__(self, server, store):
        self.url, self.store, self.accepted, self._session = f"http://127.0.0.1:{server.port}", store, {}, None

    def submit(self, spec, key):
        """Send a job, and return the answer."""
        headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
        body = {"type": "training", "spec": spec}
        answer = requests.post(f"{self.url}/v1/jobs", json=body, headers=headers, timeout=60)
        if answer.ok:
            self.accepted[answer.json()["id"]] = spec
        return answer

    def begin(self, long):
        """Have it accept jobs, one of which runs when this returns."""
        job_id = self.submit(long, "long").json()["id"]
        until(lambda: self.store.get(job_id, brief=True)["step"], "the job comes forward")
        for number in range(5):
            assert self.submit(network(500 * number + 10, batch_seed=number), f"short-{number}").status_code == 202

    def refusal(self):
        """Send jobs until one is refused, and insist on how that is said."""
        spec = network(10, data={"inputs": [[0.25, 0.5]] * 2000, "targets": [1.0] * 2000})  # a row of some size

        def refused():
            answer = self.submit(spec, f"refused-{len(self.accepted)}")
            if not answer.ok:
                check_refusal(answer)
            return not answer.ok

        until(refused, "a job is refused")
        return lambda: self.submit(spec, f"refused-{len(self.accepted)}").ok

    def check(self):
        """Insist that all that was accepted is done, once, and to the bit."""
        for job_id, spec in self.accepted.items():
            check_exact(self.store, ended(self.store, job_id), undisturbed(spec))
        assert sum(self.store.counts().states.values()) == len(self.accepted)


@contextmanager
def serving(folder, script=SCRIPT, *, reach=None, **environment):
    """Run a server with two job workers, which ends well at the end of the block.

    Args:
        folder: for its data.
        script: what is run.
        reach: the PostgreSQL database as this test reaches it.
        environment: of the server.
    """
    with Server(folder, script, environment=ENVIRONMENT | environment, job_workers=2) as server:
        settings = replace(settings_for(Path(folder)), database_url=reach)
        with closing(open_store(settings)) as store:
            service = Service(server, store)
            service.process = server.process
            yield service
        assert server.stop(signal.SIGTERM) == 0, server.errors


# ---------------------------------------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, with room for eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "chainrule", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(small_disk):
    with serving(small_disk) as service:
        service.begin(long_network(3))
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        again = service.refusal()
        assert requests.get(f"{service.url}/v1/jobs", timeout=60).ok  # what can be read is
        time.sleep(2 * LEASE)  # all leases end meanwhile
        check_refusal(service.submit(network(5, data={"inputs": [[0, 1]] * 5000, "targets": [1] * 5000}), "other"))
        ballast.unlink()
        until(again, "jobs are accepted again")
        service.check()


def test_a_disk_that_takes_no_more_of_a_file(tmp_path):
    """A limit that is put on running processes: the kernel refuses them every write beyond it."""

    def limit(service, most):
        for pid in in_sessions({service.process.pid}):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most is None else most, hard))

    with serving(tmp_path) as service:
        service.begin(long_network(3))
        limit(service, 4096)
        again = service.refusal()
        time.sleep(2 * LEASE)
        limit(service, None)
        until(again, "jobs are accepted again")
        service.check()


#: No permission stops the superuser, unless this capability is taken away.
UNPRIVILEGED = f"""
import os, sys
os.execvp("setpriv", ["setpriv", "--bounding-set=-dac_override", sys.executable, "-c", {SCRIPT!r}, sys.argv[1]])
"""


def test_a_file_that_only_may_be_read(tmp_path):
    """Who has it open may go on; so every process but the supervisor is replaced."""
    with serving(tmp_path, SCRIPT if os.geteuid() else UNPRIVILEGED) as service:
        service.begin(long_network(3))
        allow(tmp_path, False)
        service.process.send_signal(signal.SIGHUP)
        again = service.refusal()
        assert requests.get(f"{service.url}/readyz", timeout=60).status_code == 503
        allow(tmp_path, True)
        until(again, "jobs are accepted again")
        service.check()


def allow(folder, writing):
    """Allow or forbid to write to a folder and the files in it."""
    for path in Path(folder).iterdir():
        path.chmod(0o644 if writing else 0o444)
    os.chmod(folder, 0o755 if writing else 0o555)


# --------------------------------------------------------------------------------------------------- what it has kept


def test_a_checkpoint_that_is_damaged(tmp_path):
    """The job starts again, and nothing of what it had recorded is there twice."""
    spec = long_network(2)
    with serving(tmp_path) as service:
        service.begin(spec)
    accepted = service.accepted
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        assert connection.execute("UPDATE checkpoints SET state = zeroblob(length(state))").rowcount >= 1
    with serving(tmp_path) as service:
        service.accepted = accepted
        service.check()


# --------------------------------------------------------------------------------------------------------- the clock

MOVABLE = (
    """
import mmap, os, struct, time
with open(os.environ["CLOCK"], "r+b") as file:
    moved = mmap.mmap(file.fileno(), 8)  # which all processes share
real = time.time
time.time = lambda: real() + struct.unpack("d", moved)[0]
"""
    + SCRIPT
)


@pytest.mark.parametrize("hour", [3600.0, -3600.0])
def test_a_clock_that_is_moved_by_an_hour(tmp_path, hour):
    """Under all processes at once, in the middle of their work; the clock of SQLite is theirs."""
    path = tmp_path / "clock"
    path.write_bytes(struct.pack("d", 0.0))
    with serving(tmp_path, MOVABLE, CLOCK=str(path)) as service:
        service.begin(long_network(3))
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as moved:
            moved[:] = struct.pack("d", hour)
        for number in range(5):
            assert service.submit(network(100, batch_seed=number), f"later-{number}").status_code == 202
        service.check()


# ------------------------------------------------------------------------------------------------------ the database


class CutOff:
    """PostgreSQL, at the end of a road that is cut."""

    def __init__(self, url):
        found = sql.make_url(url)
        self._road = Road(found.host, found.port or 5432)
        self.url = found.set(host="127.0.0.1", port=self._road.port).render_as_string(hide_password=False)
        self.reach, self.stop, self.start = url, self._road.cut, self._road.open


@pytest.fixture(params=["cut off", "stopped"])
def leaving(request):
    """A PostgreSQL that can go and come back: what the service knows as `url`, and the test can `reach`."""
    with postgresql() if request.param == "cut off" else tempfile.TemporaryDirectory() as place:
        if request.param == "cut off":
            server = CutOff(place)
        else:
            server = OwnPostgreSQL(place)
            server.reach = server.url
        yield server
        server.stop()


def test_postgresql_is_away_for_20_seconds(tmp_path, leaving):
    """Work goes on meanwhile; whoever asks is told at once to come back, and nobody waits for long."""
    with closing(open_store(replace(settings_for(None), database_url=leaving.reach))) as store:
        store.database.upgrade()
    with serving(tmp_path, reach=leaving.reach, CHAINRULE_DATABASE_URL=leaving.url) as service:
        service.begin(long_network(4))
        leaving.stop()
        try:
            began = time.monotonic()
            again = service.refusal()
            while time.monotonic() < began + AWAY:
                check_refusal(service.submit(network(5), "meanwhile"))
                assert requests.get(f"{service.url}/readyz", timeout=60).status_code == 503
                assert requests.get(f"{service.url}/livez", timeout=60).ok
                time.sleep(0.5)
        finally:
            leaving.start()
        until(again, "jobs are accepted again")
        service.check()


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_same_20_jobs_have_the_same_bits(tmp_path, kind, workers):
    specs = twenty_networks()
    with postgresql() if kind == "postgresql" else tempfile.TemporaryDirectory() as place:
        url = place if kind == "postgresql" else None
        with closing(open_store(replace(settings_for(tmp_path), database_url=url))) as store:
            store.database.upgrade()
            environment = ROOMY_ENVIRONMENT | ({"CHAINRULE_DATABASE_URL": url} if url else {})
            with Server(tmp_path, environment=environment, job_workers=workers) as server:
                with Client(f"http://127.0.0.1:{server.port}") as client:
                    jobs = client.submit_many([{"type": "training", "spec": spec} for spec in specs])
                for job, spec in zip(jobs, specs, strict=True):
                    check_exact(store, ended(store, job.id), undisturbed(spec))
