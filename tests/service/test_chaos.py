"""A minute in which something is killed every 1.5 s: no accepted job is lost, none is done twice, each has its bits."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field

import pytest
from kombu import Connection, Exchange, Queue
from tests.service.databases import postgresql
from tests.service.processes import children, in_sessions
from tests.service.queued import (
    ROOMY_ENVIRONMENT,
    check_exact,
    ended,
    long_network,
    network,
    open_store,
    undisturbed,
    until,
)
from tests.service.servers import ENVIRON
from tests.service.test_distributed import REDIS

from chainrule import Client
from chainrule_service.settings import FILE, Settings

SECONDS, PAUSE = 60, 1.5
SEED = 20_261_123
COMMAND = "import sys; from chainrule.cli import main; sys.exit(main(sys.argv[1:]))"
#: What dies, as often as there are of it: the deck is shuffled again whenever it is used up.
DECK = ["supervisor", "gunicorn", "web worker", "web worker", "job worker", "job worker"]


class Stack:
    """A deployment: commands of chainrule, each a supervisor with its children, started anew whenever one is killed.

    Args:
        folder: for the data, and for what the processes log.
        environment: what tells the processes and this test where the jobs are.
        commands: what is run, and the environment of each.
    """

    def __init__(self, folder, environment, commands):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {
            "CHAINRULE_DATA": str(folder), "CHAINRULE_PORT": str(self.port), "CHAINRULE_WORKERS": "2",
        } | environment  # fmt: skip
        self.settings = Settings.from_env(self.environment)
        self.log = folder / "log"
        self.commands, self.supervisors, self.sessions = commands, {}, set()

    def __enter__(self):
        for command in self.commands:
            self.start(command)
        return self

    def __exit__(self, *_):
        for process in self.supervisors.values():
            process.kill()
            process.wait()
        for session in self.sessions:
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)

    def start(self, command):
        environment = ENVIRON | ROOMY_ENVIRONMENT | self.environment | self.commands[command]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, command],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.supervisors[command] = process
        self.sessions.add(process.pid)

    def processes(self):
        """Return the processes by what they are; what has no children of its own counts as a job worker."""
        found = {role: [] for role in DECK}
        for process in self.supervisors.values():
            found["supervisor"].append(process.pid)
            for child in children(process.pid):
                grandchildren = children(child)
                found["web worker"] += grandchildren
                found["gunicorn" if grandchildren else "job worker"].append(child)
        return found

    def busy(self, store):
        """Return the job workers that run a job now."""
        running = {int(worker.rpartition(":")[2]) for worker in store.workers()}
        return sorted(running & set(self.processes()["job worker"]))

    def kill(self, role, rng, store):
        """Kill a process that plays a role; of the job workers one that has a job, which an idle one would not miss."""
        found = (lambda: self.busy(store)) if role == "job worker" else (lambda: self.processes()[role])
        victim = rng.choice(until(found, f"there is a {role}"))
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        for command, process in self.supervisors.items():
            if process.pid == victim:
                process.wait()
                self.start(command)

    def end(self):
        """Tell all to end, and see that they do: the supervisors well, and every process that they ever started."""
        for process in self.supervisors.values():
            process.send_signal(signal.SIGTERM)
        for process in self.supervisors.values():
            assert process.wait(timeout=60) == 0, self.log.read_text()
        until(lambda: not in_sessions(self.sessions), "nothing is left running", 10)


@dataclass
class Load:
    """Clients that submit jobs, each under a key of its own and again and again until they have an answer."""

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    accepted: dict[str, dict] = field(default_factory=dict)  # specifications by the ids of jobs

    def post(self, name, specs, pause, *, queue):
        with Client(self.url, max_retries=1000) as client:
            number = 0
            while not self.over.wait(pause):
                spec = specs[number % len(specs)]
                job = client.submit("training", spec, queue=queue, idempotency_key=f"{name}-{number}")
                assert job.id not in self.accepted
                self.accepted[job.id] = spec
                number += 1


def survive(stack):
    """Submit jobs for a minute while the processes of a deployment are killed, and look at what has become of them."""
    rng, killed, deck = random.Random(SEED), Counter(), []
    load = Load(f"http://127.0.0.1:{stack.port}")
    cheap = [network(steps) for steps in (1, 20, 50)]
    short = [network(steps, batch_seed=1) for steps in (10, 300, 3000)]
    long = [long_network(seconds) for seconds in (3, 6)]
    with ThreadPoolExecutor() as clients, stack, closing(open_store(stack.settings)) as store:
        posting = [
            clients.submit(load.post, "cheap", cheap, 0.1, queue=False),
            clients.submit(load.post, "short", short, 0.2, queue=True),
            clients.submit(load.post, "long", long, 3.0, queue=False),
        ]
        try:
            until(lambda: load.accepted, "the first job is accepted")
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(PAUSE)
                deck = deck or rng.sample(DECK, len(DECK))
                stack.kill(role := deck.pop(), rng, store)
                killed[role] += 1
        finally:
            load.over.set()
        for posted in posting:
            posted.result()
        jobs = {job_id: ended(store, job_id, 120) for job_id in load.accepted}
        wanted = {repr(spec): undisturbed(spec) for spec in [*cheap, *short, *long]}
        for job_id, job in jobs.items():
            check_exact(store, job, wanted[repr(load.accepted[job_id])])
        assert sum(store.counts().states.values()) == len(jobs), "a job was recorded twice"
        stack.end()
    attempts = Counter(job["attempts"] for job in jobs.values())
    print(f"\n{len(jobs)} jobs, attempts {dict(sorted(attempts.items()))}, killed {dict(killed)}")  # noqa: T201
    assert set(DECK) <= set(killed)
    assert max(attempts) > 1, "nothing has hit a job"


@pytest.mark.slow
def test_chaos_on_one_file(tmp_path):
    survive(Stack(tmp_path, {}, {"serve": {"CHAINRULE_JOB_WORKERS": "2"}}))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.fixture
def queue():
    """The name of a queue on Redis, which is gone afterwards."""
    name = f"chainrule-test-{secrets.token_hex(4)}"
    with Connection(REDIS, connect_timeout=2) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
        except connection.connection_errors:
            if os.environ.get("CI"):
                raise
            pytest.skip("no Redis answers (CHAINRULE_TEST_REDIS)")
        yield name
        made = Queue(name, Exchange(name), name, channel=connection.default_channel)
        made.declare()  # else it could not be deleted
        made.delete()


@pytest.mark.slow
def test_chaos_on_postgresql_and_celery(tmp_path, queue):
    with postgresql() as url:
        place = {"CHAINRULE_DATABASE_URL": url, "CHAINRULE_BROKER_URL": REDIS, "CHAINRULE_QUEUE": queue}
        workers = {"serve": {"CHAINRULE_JOB_WORKERS": "0"}, "worker": {"CHAINRULE_JOB_WORKERS": "2"}}
        stack = Stack(tmp_path, place, workers)
        with closing(open_store(stack.settings)) as store:
            store.database.upgrade()
        survive(stack)
