"""Jobs handed out by Celery: real workers on PostgreSQL, Redis and RabbitMQ, killed and cut off for real."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import redis
import requests
from kombu import Connection, pools
from tests.service.databases import output, postgresql, start
from tests.service.queued import (
    check_exact,
    ended,
    long_network,
    network,
    open_store,
    settings_for,
    submit,
    twenty_networks,
    undisturbed,
    until,
    worker_of,
)
from tests.service.roads import Road
from tests.service.servers import AWAY, ENVIRON, Server

from chainrule_service import job_worker
from chainrule_service.distributed import PATIENCE, Bell
from chainrule_service.settings import Settings, SettingsError
from chainrule_service.store import worker_name

#: A database of Redis, and RabbitMQ; each test has a queue of its own there.
REDIS = os.environ.get("CHAINRULE_TEST_REDIS", "redis://127.0.0.1:6379/7")
RABBITMQ = os.environ.get("CHAINRULE_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
LEASE = 2
WORKERS = "import sys; from chainrule.cli import main; sys.exit(main(['worker', *sys.argv[1:]]))"


@pytest.fixture(scope="module")
def database_url():
    with postgresql() as url:
        with closing(open_store(Settings(database_url=url))) as store:
            store.database.upgrade()
        yield url


class Setting:
    """A queue of its own on a broker: its settings, the table, and the way to ring."""

    def __init__(self, database_url, broker_url):
        self.settings = Settings(
            database_url=database_url, broker_url=broker_url, queue=f"chainrule-test-{secrets.token_hex(4)}"
        )
        self.environment = {
            "CHAINRULE_DATABASE_URL": database_url, "CHAINRULE_BROKER_URL": broker_url,
            "CHAINRULE_QUEUE": self.settings.queue, "CHAINRULE_LEASE_SECONDS": str(LEASE),
            "CHAINRULE_LIMIT_ANSWER_NUMBERS": "10000000", "CHAINRULE_LIMIT_JOB_WORK": "10000000000",
        }  # fmt: skip
        self.store = open_store(self.settings)
        self.bell = Bell(self.settings)

    def submit(self, spec, **more):
        """Do what a server does: record a job, and ring."""
        job_id = submit(self.store, spec, **more)
        assert self.bell.ring(job_id)
        return job_id

    @contextmanager
    def workers(self, number=1, script=WORKERS):
        """Run `chainrule worker`, and give its process; at the end of the block it is told to end, and does."""
        process = subprocess.Popen(
            [sys.executable, "-c", script, "--job-workers", str(number)],
            env=ENVIRON | self.environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=60)
                assert process.returncode == 0, errors
        finally:
            kill(process)


def kill(process):
    """Kill a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


@pytest.fixture
def on_broker(database_url):
    """Return a function that gives a Setting on a broker."""
    made = []

    def make(broker_url):
        try:
            with Connection(broker_url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
        except Exception:
            if os.environ.get("CI"):
                raise
            pytest.skip("no broker answers (CHAINRULE_TEST_REDIS, CHAINRULE_TEST_RABBITMQ)")
        made.append(Setting(database_url, broker_url))
        return made[-1]

    yield make
    pools.reset()
    for setting in made:
        setting.store.close()
        with Connection(setting.settings.broker_url) as connection:
            queue = setting.bell._app.amqp.queues[setting.settings.queue](connection.default_channel)
            queue.declare()  # else it could not be deleted from Redis
            queue.delete()


@pytest.fixture
def setting(on_broker):
    return on_broker(REDIS)


def begun(store, job_id):
    """Wait until a job has a checkpoint."""
    until(lambda: store.get(job_id, brief=True)["step"], "the job comes forward")


# ------------------------------------------------------------------------------------------------------ as it should be


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("broker_url", [REDIS, RABBITMQ], ids=["redis", "rabbitmq"])
def test_the_same_20_jobs_have_the_same_bits(on_broker, broker_url, workers):
    """They are those of an undisturbed run, as in the test of this name without a broker."""
    setting = on_broker(broker_url)
    specs = twenty_networks()
    with setting.workers(workers):
        ids = [setting.submit(spec) for spec in specs]
        for job_id, spec in zip(ids, specs, strict=True):
            check_exact(setting.store, ended(setting.store, job_id), undisturbed(spec))


@pytest.mark.slow
def test_a_server_rings_for_the_jobs_that_it_accepts(setting, tmp_path):
    """A job without a bell waits for ten seconds: this one does not."""
    with Server(tmp_path, environment=setting.environment, job_workers=0) as server, setting.workers():
        for _ in range(2):  # the first starts when the worker has
            job = server.call("/v1/jobs", {"type": "training", "spec": long_network(3)})
            job = ended(setting.store, job["id"])
            assert job["state"] == "succeeded"
        assert job["started"] - job["created"] < 5
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.slow
def test_priorities_hold_in_whatever_order_the_messages_come(setting):
    ids = [setting.submit(network(5), priority=priority) for priority in (0, 1, -1, 2)]
    with setting.workers():
        jobs = [ended(setting.store, job_id) for job_id in ids]
    begun = sorted(jobs, key=lambda job: job["started"])
    assert [job["priority"] for job in begun] == [2, 1, 0, -1]


@pytest.mark.slow
def test_a_message_that_comes_twice_or_for_nothing(setting):
    spec = long_network(1)
    job_id = setting.submit(spec)
    for name in [job_id] * 5 + ["job_" + "0" * 32]:
        assert setting.bell.ring(name)
    with setting.workers(2):
        job = ended(setting.store, job_id)
        later = ended(setting.store, setting.submit(network(5)))
    check_exact(setting.store, job, undisturbed(spec))
    assert (job["attempts"], later["state"]) == (1, "succeeded")


def test_a_slice_of_work_ends_and_the_job_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(job_worker, "SLICE_SECONDS", 0.01)
    settings, stop = settings_for(tmp_path), threading.Event()
    spec = long_network(1)
    with closing(open_store(settings)) as store:
        job_id = submit(store, spec)
        assert job_worker._run_slice(store, settings, stop)
        job = store.get(job_id)
        assert (job["state"], job["attempts"]) == ("queued", 0)
        assert 0 < job["step"] < spec["steps"]
        monkeypatch.setattr(job_worker, "SLICE_SECONDS", 60)
        assert not job_worker._run_slice(store, settings, stop)
        check_exact(store, store.get(job_id), undisturbed(spec))


#: Loads what is loaded before the fork, hears one message as a worker, and tells what it had to import for that.
HEAR = """
import json, os, signal, sys, threading
import kombu.pools
from chainrule_service import distributed
from chainrule_service.settings import Settings
settings = Settings(**json.loads(sys.argv[1]))
assert distributed.load(settings)
assert threading.active_count() == 1
loaded = set(sys.modules)
assert distributed.Bell(settings).ring("job_1")
distributed.listen(settings, lambda: os.kill(os.getpid(), signal.SIGTERM), threading.Event())
kombu.pools.reset()
names = {"amqp", "billiard", "celery", "kombu", "redis"}
print(json.dumps(sorted(name for name in set(sys.modules) - loaded if name.partition(".")[0] in names)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("broker_url", [REDIS, RABBITMQ], ids=["redis", "rabbitmq"])
def test_what_a_worker_needs_of_celery_is_loaded_before_it_is_forked(on_broker, broker_url):
    """It took a worker half a second to start, after the death of another, and each the memory."""
    settings = on_broker(broker_url).settings
    given = {name: getattr(settings, name) for name in ("database_url", "broker_url", "queue")}
    assert json.loads(output(start(HEAR, json.dumps(given)))) == []


# --------------------------------------------------------------------------------------------------- processes that die


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_goes_on(setting):
    spec = long_network(4)
    with setting.workers(2):
        job_id = setting.submit(spec)
        begun(setting.store, job_id)
        killed = worker_of(setting.store, job_id)
        os.kill(killed, signal.SIGKILL)
        await_another(setting.store, job_id, worker_name(killed))
        job = ended(setting.store, job_id)
    check_exact(setting.store, job, undisturbed(spec))
    assert job["attempts"] == 2


#: `chainrule worker` whose ringer looks for waiting jobs once, when it starts, and then no more.
DEAF = f"from chainrule_service import distributed; distributed.SWEEP_SECONDS = 3600; {WORKERS}"


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_goes_on_at_once(setting):
    """Who learns of the death rings. The shortest of three times counts: others may keep this machine busy."""
    spec, waits = long_network(6), []
    with setting.workers(2, DEAF):
        job_id = setting.submit(spec)
        for attempt in (2, 3, 4):
            begun(setting.store, job_id)
            step = setting.store.get(job_id, brief=True)["step"]
            until(lambda: setting.store.get(job_id, brief=True)["step"] > step, "the job comes forward")  # noqa: B023  # called before the loop goes on
            os.kill(worker_of(setting.store, job_id), signal.SIGKILL)
            began = time.monotonic()
            until(lambda: setting.store.get(job_id, brief=True)["attempts"] == attempt, "another has it")  # noqa: B023  # as above
            waits.append(time.monotonic() - began)
        job = ended(setting.store, job_id)
    check_exact(setting.store, job, undisturbed(spec))
    assert min(waits) < 0.5


@contextmanager
def two_machines(setting):
    """Run `chainrule worker` twice, and give a function that finds the process that a job's worker belongs to."""
    with setting.workers() as one, setting.workers() as other:
        both = [setting.submit(long_network(30)) for _ in range(2)]
        for job_id in both:  # each is with one of them, so both have started
            begun(setting.store, job_id)
        for job_id in both:
            setting.store.cancel(job_id)
            ended(setting.store, job_id)
        yield lambda job_id: {p.pid: p for p in (one, other)}[os.getpgid(worker_of(setting.store, job_id))]


@pytest.mark.slow
@pytest.mark.parametrize("broker_url", [REDIS, RABBITMQ], ids=["redis", "rabbitmq"])
def test_all_workers_of_a_machine_are_killed(on_broker, broker_url):
    """The broker still counts the message as received; those of another machine hear of the job all the same."""
    setting = on_broker(broker_url)
    spec = long_network(4)
    with two_machines(setting) as machine_of:
        job_id = setting.submit(spec)
        begun(setting.store, job_id)
        worker = worker_of(setting.store, job_id)
        kill(machine_of(job_id))
        await_another(setting.store, job_id, worker_name(worker))
        job = ended(setting.store, job_id)
    check_exact(setting.store, job, undisturbed(spec))
    assert job["attempts"] == 2


def await_another(store, job_id, former):
    """Insist that another worker has a job, soon after its last one has died."""
    until(lambda: store.get(job_id, brief=True)["worker"] not in (None, former), "another has it", LEASE + 2)


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_gives_its_job_back_and_rings(setting):
    """A job without a bell waits for ten seconds: this one does not."""
    spec = long_network(4)
    with two_machines(setting) as machine_of:
        job_id = setting.submit(spec)
        begun(setting.store, job_id)
        worker, process = worker_of(setting.store, job_id), machine_of(job_id)
        process.send_signal(signal.SIGTERM)
        await_another(setting.store, job_id, worker_name(worker))
        job = ended(setting.store, job_id)
        assert process.wait(timeout=60) == 0
    check_exact(setting.store, job, undisturbed(spec))
    assert job["attempts"] == 1


# ----------------------------------------------------------------------------------------------- a broker that forgets


@pytest.mark.parametrize("broker_url", [REDIS, RABBITMQ], ids=["redis", "rabbitmq"])
def test_nobody_rings_again_while_a_message_waits(on_broker, broker_url):
    bell = on_broker(broker_url).bell
    assert bell.is_silent()
    assert bell.ring("job_1")
    assert not bell.is_silent()


@pytest.mark.slow
def test_the_broker_is_emptied_while_50_jobs_wait(setting):
    ids = [setting.submit(network(100, batch_seed=n)) for n in range(50)]
    with redis.Redis.from_url(REDIS) as client:
        kept = client.keys(f"*{setting.settings.queue}*")  # the database may hold what other tests have sent
        assert client.delete(*kept)
    with setting.workers(2):
        assert [ended(setting.store, job_id)["state"] for job_id in ids] == ["succeeded"] * 50


def test_a_job_that_is_lost_soon_after_somebody_rang_for_it_is_rung_for_at_once(tmp_path):
    with closing(open_store(settings_for(tmp_path))) as store:
        job_id = submit(store, network(5))
        assert store.ring(after=0) == [job_id]
        assert store.claim("here:1", 5).id == job_id
        assert store.ring() == []
        store.expire_worker("here:1")
        assert store.ring() == [job_id]
        assert store.ring() == []


class OwnRedis:
    """A Redis of the test's own, which forgets everything when it stops."""

    def __init__(self, folder):
        program = shutil.which("redis-server")
        if program is None:
            if os.environ.get("CI"):
                pytest.fail("redis-server is not installed")
            pytest.skip("redis-server is not installed")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.start()

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, "Redis listens")

    def stop(self):
        self._process.kill()
        self._process.wait()

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


class RoadToRabbitMQ:
    """The way to a RabbitMQ that remembers everything."""

    def __init__(self, _):
        there = urlsplit(RABBITMQ)
        self._road = Road(there.hostname, there.port or 5672)
        self.start, self.stop = self._road.open, self._road.cut
        user, at, _ = there.netloc.rpartition("@")
        self.url = there._replace(netloc=f"{user}{at}127.0.0.1:{self._road.port}").geturl()


@pytest.fixture(params=[OwnRedis, RoadToRabbitMQ])
def broker(request, tmp_path):
    """A broker that can go and come back."""
    broker = request.param(tmp_path)
    yield broker
    broker.stop()


@contextmanager
def away(broker):
    broker.stop()
    try:
        yield
    finally:
        broker.start()


@pytest.mark.slow
def test_the_broker_is_away_for_20_seconds(broker, on_broker, tmp_path):
    """What was accepted before is done, and jobs are accepted meanwhile, without waiting for it."""
    setting = on_broker(broker.url)
    with Server(tmp_path, environment=setting.environment, job_workers=2) as server:
        url, accepted = f"http://127.0.0.1:{server.port}", {}

        def send(spec):
            """Send a job, and return the answer."""
            body = {"type": "training", "spec": spec}
            answer = requests.post(f"{url}/v1/jobs", json=body, headers={"Prefer": "respond-async"}, timeout=60)
            if answer.ok:
                accepted[answer.json()["id"]] = spec
            return answer

        for _ in range(2):
            begun(setting.store, send(long_network(2)).json()["id"])
        for number in range(5):
            assert send(network(500 * number + 10, batch_seed=number)).status_code == 202
        with away(broker):
            began = time.monotonic()
            while (passed := time.monotonic() - began) < AWAY:
                answer = send(network(100, batch_seed=int(passed)))
                assert time.monotonic() - began - passed < 2 * PATIENCE + 1
                assert answer.status_code == 202, answer.text
                assert requests.get(f"{url}/readyz", timeout=60).status_code == 503
                assert requests.get(f"{url}/livez", timeout=60).ok
                time.sleep(0.5)
        for job_id, spec in accepted.items():
            check_exact(setting.store, ended(setting.store, job_id), undisturbed(spec))
        until(lambda: requests.get(f"{url}/readyz", timeout=60).ok, "the server is ready")
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_silent_is_not_waited_for(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}//"
        bell = Bell(Settings(database_url="postgresql+psycopg://nobody@nowhere/nothing", broker_url=url))
        began = time.monotonic()
        for _ in range(20):
            assert not bell.ring("job_1")
        assert not bell.is_silent()
        assert time.monotonic() - began < 10
        pools.reset()


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"broker_url": "kafka://there"}, "redis://"),
        ({"broker_url": "redis://there", "database_url": None}, "database_url or data"),
        ({"broker_url": "redis://there", "queue": "a b"}, "queue must be"),
        ({"broker_url": "redis://there", "queue": ""}, "queue must be"),
    ],
)
def test_faults_in_the_settings(settings, words):
    with pytest.raises(SettingsError, match=words):
        Settings(**{"database_url": "postgresql://there/x"} | settings)
