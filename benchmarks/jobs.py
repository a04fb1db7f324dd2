"""What the job service does: `chainrule serve` with two job workers, real databases, the load on the same machine.

    python -m benchmarks.jobs                           every figure, each way to run it
    python -m benchmarks.jobs drain memory --on sqlite  some of them
    python -m benchmarks.jobs --rounds 5

PostgreSQL and Redis are those of CHAINRULE_TEST_POSTGRESQL and CHAINRULE_TEST_REDIS; the database and the queue have
random names, and are gone at the end. What was measured goes into build/jobs.json as well. The load of the machine
before each figure is printed with it: all processes share its cores, so a figure of a busy machine is one of the
machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from benchmarks import report
from benchmarks.http_cost import GRAPHS, NEURON
from benchmarks.race import Figure, figure
from chainrule_service import jobs
from chainrule_service.database import Database
from chainrule_service.distributed import Bell
from chainrule_service.settings import Settings
from chainrule_service.store import JOBS, TERMINAL, Store
from chainrule_service.training import NETWORK_EXAMPLE

RECORD = report.ROOT / "build" / "jobs.json"
POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
REDIS = "redis://127.0.0.1:6379/0"
TINY: dict[str, Any] = {"graph": GRAPHS[NEURON]}
_MANY, _PATIENCE = 500, 60.0
#: Everything is queued, even what is cheap enough for a request; and a long job may be long.
_LIMITS = {"CHAINRULE_LIMIT_INLINE_WORK": "1", "CHAINRULE_LIMIT_JOB_WORK": str(10**10)}
_ROOMY = {"CHAINRULE_LIMIT_ANSWER_NUMBERS": str(10**7), "CHAINRULE_LOG_LEVEL": "error"}


class Stack:
    """One way to run the service: where its jobs table is, and the environment of its processes.

    Attributes:
        store: the jobs table, which is looked at from outside.
        port: of the server that runs, if one does.
        process: its supervisor.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **_LIMITS, **_ROOMY, **environment, "CHAINRULE_DATA": str(folder)}
        self.settings = Settings.from_env(self.environment)
        database = Database(self.settings.database)
        database.upgrade()
        self.store = Store(database, self.settings)
        self._bell = Bell(self.settings) if self.settings.broker_url else None
        self.port, self.process = 0, 0

    @contextmanager
    def serving(self, workers: int = 2, **environment: str) -> Iterator[None]:
        """Run `chainrule serve` meanwhile, with two job workers."""
        command = [sys.executable, "-m", "chainrule", "serve", "--port", "0", "--workers", str(workers)]
        server = subprocess.Popen(
            [*command, "--job-workers", "2"], env=self.environment | environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+:(\d+)", server.stdout.readline())
            if found is None:
                raise RuntimeError("the service does not start: try `make serve`")
            self.port, self.process = int(found[1]), server.pid
            _until(lambda: self.call("GET", "/readyz")[0] == 200)
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request, and return the status and what was answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        with closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")

    def put(self, record: dict[str, Any]) -> str:
        """Queue a job without a server, and return its id."""
        job_id = str(self.store.submit(record).job["id"])
        if self._bell is not None:
            self._bell.ring(job_id)
        return job_id

    def post(self, kind: str, spec: Any) -> str:
        """Submit a job, which is queued, and return its id."""
        status, job = self.call("POST", "/v1/jobs", {"type": kind, "spec": spec})
        if status != 202:
            raise RuntimeError(f"a job is answered {status}: {job}")
        return str(job["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as the table has it."""
        job = self.store.get(job_id, brief=True)
        assert job is not None
        return job

    def times(self, ids: Sequence[str]) -> list[tuple[float, float, float]]:
        """Wait until jobs have ended, and return of each when it was created, started and finished."""
        mine = JOBS.c.id.in_(ids)

        def finished() -> bool:
            with self.store.database.transaction(reads=True) as connection:
                count = connection.scalar(sql.select(sql.func.count()).where(mine, JOBS.c.state == "succeeded"))
            return count == len(ids)

        _until(finished, every=0.02)
        with self.store.database.transaction(reads=True) as connection:
            rows = connection.execute(sql.select(JOBS.c.created, JOBS.c.started, JOBS.c.finished).where(mine)).all()
        return [(created, started, finished) for created, started, finished in rows]

    def end(self, job_id: str) -> None:
        """Cancel a job, and wait for its end."""
        self.store.cancel(job_id)
        _until(lambda: self.job(job_id)["state"] in TERMINAL)


# ----------------------------------------------------------------------------------------------------- the figures


def drain(stack: Stack, rounds: int, target: float) -> Iterator[Figure]:
    """Tiny jobs a second: 500 that were queued before the service started, from the first claim to the last end."""
    task = jobs.record_of(jobs.read("evaluation", TINY, stack.settings))
    rates, costs = [], []
    for _ in range(rounds):
        ids = [stack.put(task) for _ in range(_MANY)]
        with stack.serving():
            times = stack.times(ids)
            costs.append(sum(map(_processor_seconds, _job_workers(stack.process))) / _MANY * 1000)
        rates.append(_MANY / (max(end for *_, end in times) - min(start for _, start, _ in times)))
    yield figure("jobs a second", rates, "/s", target)
    yield figure("processor time of the job workers, a job", costs, "ms", 4.0, ceiling=True)


def start(stack: Stack, rounds: int) -> Iterator[Figure]:
    """Submission, and from there to the start, of jobs that find an idle service."""
    with stack.serving():
        submissions, waits = [], []
        for _ in range(40 * rounds):
            began = time.perf_counter()
            job_id = stack.post("evaluation", TINY)
            submissions.append((time.perf_counter() - began) * 1000)
            ((created, started, _),) = stack.times([job_id])
            waits.append((started - created) * 1000)
            time.sleep(secrets.randbelow(60) / 1000)  # not in step with the workers' polls
    yield figure("submission, median", submissions, "ms")
    yield _at_95("submission, 95 %", submissions)
    yield figure("from submission to start, median", waits, "ms", 60.0, ceiling=True)
    yield figure("from submission to start, longest", [max(waits)], "ms")


def cancel(stack: Stack, rounds: int) -> Iterator[Figure]:
    """A cancel of a job that runs, until it has ended."""
    with stack.serving():
        waits = []
        for _ in range(4 * rounds):
            job_id = stack.post("training", _long())
            _until(lambda: stack.job(job_id)["progress"])  # noqa: B023  # called before the loop goes on
            time.sleep(0.3)
            began = time.perf_counter()
            stack.call("POST", f"/v1/jobs/{job_id}/cancel")
            _until(lambda: stack.job(job_id)["state"] == "cancelled")  # noqa: B023  # called before the loop goes on
            waits.append(time.perf_counter() - began)
    yield figure("median", waits, "s", 0.5, ceiling=True)
    yield figure("longest", [max(waits)], "s", 0.5, ceiling=True)


def progress(stack: Stack, rounds: int) -> Iterator[Figure]:
    """Progress, as another process sees it: the time between two different answers while a job runs."""
    with stack.serving():
        job_id = stack.post("training", _long())
        _until(lambda: stack.job(job_id)["progress"])
        step, seen = 0, list[float]()
        while len(seen) < 20 * rounds:
            job = stack.call("GET", f"/v1/jobs/{job_id}")[1]
            if job["state"] != "running":
                break
            if job["progress"]["step"] != step:
                step = job["progress"]["step"]
                seen.append(time.perf_counter())
            time.sleep(0.002)
        stack.end(job_id)
    gaps = [after - before for before, after in pairwise(seen)]
    yield figure("median", gaps, "s", 0.5, ceiling=True)
    yield figure("longest", [max(gaps)], "s", 0.5, ceiling=True)


def memory(stack: Stack, rounds: int) -> Iterator[Figure]:
    """Proportional memory of all processes of the service, after trainings and evaluations."""
    found = []
    for _ in range(rounds):
        with stack.serving():
            ids = [stack.post("training", NETWORK_EXAMPLE) for _ in range(8)]
            stack.times(ids)
            for _ in range(40):
                stack.call("POST", "/v1/evaluations", TINY)
            found.append(sum(map(_proportional, _family(stack.process))) / 1e6)
    most = 400.0 if stack.settings.database_url is None else None
    yield figure("all processes", found, "MB", most, ceiling=True)


def recovery(stack: Stack, rounds: int) -> Iterator[Figure]:
    """SIGKILL of the worker of a job, until another has it."""
    waits = []
    with stack.serving():
        for _ in range(3 * rounds):
            job_id = stack.post("training", _long())
            _until(lambda: stack.job(job_id)["progress"])  # noqa: B023  # called before the loop goes on
            os.kill(int(stack.job(job_id)["worker"].rpartition(":")[2]), signal.SIGKILL)
            began = time.perf_counter()
            _until(lambda: stack.job(job_id)["attempts"] == 2)  # noqa: B023  # called before the loop goes on
            waits.append(time.perf_counter() - began)
            stack.end(job_id)
    yield figure("median", waits, "s", 0.5, ceiling=True)
    yield figure("longest", [max(waits)], "s", 0.5, ceiling=True)


def crowd(stack: Stack, rounds: int) -> Iterator[Figure]:
    """500 evaluations within 10 s from 50 connections, while two long jobs run."""
    lost, broken, seconds = 0, 0, []
    with stack.serving():
        for _ in range(rounds):
            running = [stack.post("training", _long()) for _ in range(2)]
            _until(lambda: all(stack.job(job_id)["progress"] for job_id in running))  # noqa: B023  # called before the loop goes on
            with ThreadPoolExecutor(50) as people:
                answers = [answer for found in people.map(lambda _: _person(stack.port), range(50)) for answer in found]
            lost += 500 - len(answers)
            broken += sum(status >= 500 for status, _ in answers)
            seconds += [took * 1000 for _, took in answers]
            for job_id in running:
                if stack.job(job_id)["state"] != "running":
                    raise RuntimeError("a long job was over before the evaluations were")
                stack.end(job_id)
    yield figure("lost", [lost], "", 0.0, ceiling=True)
    yield figure("answered 5xx", [broken], "", 0.0, ceiling=True)
    yield _at_95("95 %", seconds, 500.0)


def checkpoint(stack: Stack, rounds: int) -> Iterator[Figure]:
    """A checkpoint of a network of 25 parameters with its chunk of 100 losses, written by one process alone."""
    record = jobs.record_of(jobs.read("training", NETWORK_EXAMPLE, stack.settings))
    stack.store.submit(record)
    claim = stack.store.claim("benchmark", 600)
    assert claim is not None
    state, seconds = {"parameters": [0.5] * 25, "velocity": [0.5] * 25}, []
    for step in range(100, 100 * (100 * rounds + 1), 100):
        began = time.perf_counter()
        stack.store.checkpoint(
            claim, 600, step=step, state=state, progress={"step": step}, losses=[0.5] * 100, metrics={}
        )
        seconds.append((time.perf_counter() - began) * 1000)
    stack.store.finish(claim, state="cancelled")
    yield figure("median", seconds, "ms")


def backlog(stack: Stack, rounds: int) -> Iterator[Figure]:
    """A claim, and a submission, while 5,000 jobs wait; by one process alone."""
    record = jobs.record_of(jobs.read("evaluation", TINY, stack.settings))
    for _ in range(5_000):
        stack.store.submit(record)
    claims, submissions = [], []
    for _ in range(100 * rounds):
        began = time.perf_counter()
        claim = stack.store.claim("benchmark", 600)
        claims.append((time.perf_counter() - began) * 1000)
        assert claim is not None
        stack.store.finish(claim, result={})
        began = time.perf_counter()
        stack.store.submit(record)
        submissions.append((time.perf_counter() - began) * 1000)
    yield figure("a claim, median", claims, "ms")
    yield figure("a submission, median", submissions, "ms")


def size(stack: Stack, rounds: int) -> Iterator[Figure]:
    """A finished tiny job in the database."""
    task, sizes = jobs.record_of(jobs.read("evaluation", TINY, stack.settings)), []
    for _ in range(rounds):
        before = _database_size(stack.store.database)
        for _ in range(1000):
            stack.store.submit(task)
            claim = stack.store.claim("benchmark", 600)
            assert claim is not None
            stack.store.finish(claim, result={})
        sizes.append((_database_size(stack.store.database) - before) / 1000)
    yield figure("with its specification of 0.4 kB", sizes, "B")


# ----------------------------------------------------------------------------------------------------- the means


def _until(condition: Callable[[], Any], every: float = 0.002) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"what was waited for has not come within {_PATIENCE:g} s")
        time.sleep(every)


def _at_95(what: str, samples: Sequence[float], target: float | None = None) -> Figure:
    return figure(what, [statistics.quantiles(samples, n=20)[-1]], "ms", target, ceiling=target is not None)


def _long() -> dict[str, Any]:
    """Return a training of 10,501 parameters that goes on for half a minute on a fast machine."""
    model = NETWORK_EXAMPLE["model"] | {"layers": [100, 100, 1]}  # type: ignore[operator]  # an object
    return NETWORK_EXAMPLE | {"model": model, "steps": 3_000_000, "metrics": []}


def _person(port: int) -> list[tuple[int, float]]:
    """Send ten evaluations over one connection, one a second, and return of each answer its status and seconds."""
    answers = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    body, begin = json.dumps(TINY), time.perf_counter() + secrets.randbelow(1000) / 1000
    with closing(connection):
        for turn in range(10):
            time.sleep(max(0.0, begin + turn * 0.9 - time.perf_counter()))
            sent = time.perf_counter()
            with suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/v1/evaluations", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                answers.append((answer.status, time.perf_counter() - sent))
    return answers


def _children(pid: int) -> list[int]:
    """Return the children of a process; Linux tells them by the thread that made them."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def _family(pid: int) -> list[int]:
    return [pid, *(member for child in _children(pid) for member in _family(child))]


def _job_workers(supervisor: int) -> list[int]:
    """Return the job workers, and with Celery what rings again: the supervisor's children without gunicorn."""
    return [child for child in _children(supervisor) if not _children(child)]


def _processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _proportional(pid: int) -> int:
    """Return the bytes of memory of a process, of those that it shares its part."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _database_size(database: Database) -> int:
    if database.file is not None:
        with database.transaction(reads=True) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    with database.transaction(reads=True) as connection:
        tables = sql.text(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
            "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
        )
        return int(connection.scalar(tables) or 0)


@contextmanager
def sqlite() -> Iterator[Stack]:
    """One machine: everything in one file."""
    with tempfile.TemporaryDirectory(prefix="chainrule-") as folder:
        stack = Stack(Path(folder), {})
        with closing(stack.store):
            yield stack


@contextmanager
def postgresql(**environment: str) -> Iterator[Stack]:
    """PostgreSQL alone: the job workers ask it for jobs."""
    url = os.environ.get("CHAINRULE_TEST_POSTGRESQL", POSTGRESQL)
    server = sql.create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"chainrule_benchmark_{secrets.token_hex(6)}"
    with ExitStack() as held:
        held.callback(server.dispose)
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        held.callback(_drop, server, name)
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="chainrule-"))
        mine = sql.make_url(url).set(database=name).render_as_string(hide_password=False)
        stack = Stack(Path(folder), {"CHAINRULE_DATABASE_URL": mine, **environment})
        held.enter_context(closing(stack.store))
        yield stack


@contextmanager
def celery() -> Iterator[Stack]:
    """PostgreSQL, Redis and Celery: a message wakes the job workers."""
    import redis

    url, queue = os.environ.get("CHAINRULE_TEST_REDIS", REDIS), f"chainrule_benchmark_{secrets.token_hex(6)}"
    with postgresql(CHAINRULE_BROKER_URL=url, CHAINRULE_QUEUE=queue) as stack, redis.Redis.from_url(url) as broker:
        try:
            yield stack
        finally:
            broker.delete(*broker.keys(f"*{queue}*"), queue)


def _drop(server: sql.Engine, name: str) -> None:
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


#: How the service is run, with the least number of tiny jobs a second.
STACKS = {"sqlite": (sqlite, 250.0), "postgresql": (postgresql, 150.0), "celery": (celery, 150.0)}
FIGURES = {f.__name__: f for f in (drain, start, cancel, progress, memory, recovery, crowd, checkpoint, backlog, size)}


def main() -> int:
    """Measure, print and record; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"any of {', '.join(FIGURES)}; all if left out")
    parser.add_argument("--on", action="append", choices=STACKS, help="all if left out")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.figures:
        if name not in FIGURES:
            parser.error(f"there is no figure {name}: choose from {', '.join(FIGURES)}")
    print(report.machine())
    recorded: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    short = 0
    for place in options.on or STACKS:
        stack_of, rate = STACKS[place]
        for name in options.figures or FIGURES:
            with stack_of() as stack:
                load, more = os.getloadavg()[0], (rate,) if name == "drain" else ()
                measure: Callable[..., Iterator[Figure]] = FIGURES[name]
                row = f"{place}, load {load:.1f} before"
                done = report.measurement(row, (measure.__doc__ or "").strip(), measure(stack, options.rounds, *more))
            print(report.lines(done), flush=True)
            short += sum(f.met is False for f in done.figures)
            recorded[f"{name} on {place}"] = asdict(done)
            RECORD.parent.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps(recorded, indent=2, ensure_ascii=False) + "\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
