"""The server itself: real gunicorn processes on loopback, and bytes on raw sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from tests.service.databases import postgresql
from tests.service.queued import check_exact, ended, open_store, settings_for, undisturbed, until, worker_of
from tests.service.servers import ENVIRON, SCRIPT, Server

from chainrule.cli import main
from chainrule_service.documented import NEURON
from chainrule_service.serving import check_address, run_job_workers, serve
from chainrule_service.settings import Settings, SettingsError
from chainrule_service.training import NETWORK_EXAMPLE

#: A server whose first worker is told to end while it starts; each worker that gets as far as serving says so.
ENDED_WHILE_STARTING = """
import json, os, signal, socket, sys
from chainrule_service.app import create_app
from chainrule_service.serving import Server
from chainrule_service.settings import Settings
from chainrule_service.upkeep import Reports

class Early(Server):
    def load_config(self):
        super().load_config()
        post_fork = self.cfg.post_fork

        def end_the_first(server, worker):
            post_fork(server, worker)
            if worker.age == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        self.cfg.set("post_fork", end_the_first)
        self.cfg.set("post_worker_init", lambda worker: print("worker", worker.age, "serves", flush=True))

settings = Settings.from_env(os.environ, **json.loads(sys.argv[1]))
listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
Early(settings, create_app(settings), listener.detach(), Reports()).run()
"""


#: Long jobs are run by the request that posts them.
INLINE = {"CHAINRULE_LIMIT_INLINE_WORK": "10000000"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("data"), environment=INLINE) as running:
        yield running


def post(path, body, *headers, version="1.1"):
    head = [f"POST {path} HTTP/{version}", "Host: localhost", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


# ---------------------------------------------------------------------------------------------------- it serves


def test_it_says_where_it_listens(server):
    assert re.fullmatch(r"chainrule listens on http://127\.0\.0\.1:\d+ .*\n", server.line)


def is_ready(server):
    with contextlib.suppress(urllib.error.HTTPError):
        return server.call("/readyz")["status"] == "ok"


def test_it_answers(server):
    assert server.call("/livez") == {"status": "ok"}
    until(lambda: is_ready(server), "it is ready: its job workers have said that they live")
    assert server.call("/v1/evaluations", {"graph": NEURON})["value"] == pytest.approx(0.7071, abs=1e-4)
    job = server.call("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE})
    assert server.call(job["links"]["self"]) == job


def test_it_answers_on_one_connection_again_and_again(server):
    body = json.dumps({"graph": NEURON}).encode()
    head = f"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    message = head.encode() + b"\r\n\r\n" + body
    last = message.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert server.send(message * 3 + last).count(b"HTTP/1.1 200 OK") == 4


def long_job(server):
    """Return the body that posts a job of a second or more, whichever kernels compute."""
    steps = {"compiled": 45_000, "python": 100}[server.call("/v1/version")["kernels"]]
    spec = NETWORK_EXAMPLE | {"model": NETWORK_EXAMPLE["model"] | {"layers": [40, 40, 1]}, "steps": steps}
    return json.dumps({"type": "training", "spec": spec}).encode()


def test_health_is_answered_while_jobs_run(server):
    """As many long jobs as there are places for them."""
    body = long_job(server)
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    connections = []
    try:
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            connections.append(connection)
            connection.sendall(f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        deadline = time.monotonic() + 30
        while sum(job["state"] == "running" for job in server.call("/v1/jobs")["data"]) < 3:
            assert time.monotonic() < deadline, "the jobs did not start, or ended at once"
        assert server.call("/livez") == {"status": "ok"}
        refused = server.send(post("/v1/jobs", body, *head.split("\r\n")))
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: " in refused
        for connection in connections:
            assert connection.recv(100).startswith(b"HTTP/1.1 201")
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.slow
def test_health_is_answered_while_another_process_keeps_the_database_from_being_written(tmp_path):
    """Each thread has a request that wants to write: they are told to come back before any patience ends."""
    body = json.dumps({"type": "training", "spec": NETWORK_EXAMPLE}).encode()
    job = post("/v1/jobs", body, "Content-Type: application/json", f"Content-Length: {len(body)}")
    with Server(tmp_path, job_workers=0, threads=2) as server, contextlib.ExitStack() as open_now:
        assert server.send(job).startswith(b"HTTP/1.1 201")
        writer = open_now.enter_context(contextlib.closing(sqlite3.connect(tmp_path / "chainrule.sqlite3")))
        writer.execute("BEGIN IMMEDIATE")
        waiting = [
            open_now.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(2)
        ]
        for connection in waiting:
            connection.sendall(job)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=20) as answer:
            assert answer.status == 200
        for connection in waiting:
            told = connection.recv(4_096)
            assert told.startswith(b"HTTP/1.1 503")
            assert b"\r\nRetry-After: " in told


# ---------------------------------------------------------------------------------------------------- raw bytes


def test_chunked_is_refused(server):
    chunks = b"2\r\n{}\r\n0\r\n\r\n"
    answer = server.send(
        post("/v1/evaluations", chunks, "Content-Type: application/json", "Transfer-Encoding: chunked")
    )
    assert answer.startswith(b"HTTP/1.1 411")
    assert b"application/problem+json" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_no_length_is_refused(server):
    assert server.send(post("/v1/evaluations", b"", "Content-Type: application/json")).startswith(b"HTTP/1.1 411")


def test_too_long_is_refused_even_before_it_is_sent(server):
    answer = server.send(post("/v1/evaluations", b"", "Content-Type: application/json", "Content-Length: 99999999999"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"/problems/content-too-large" in answer


def test_somewhat_too_long_is_read_and_refused(server):
    body = b" " * (20 << 20)
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    assert server.send(post("/v1/evaluations", body, *headers)).startswith(b"HTTP/1.1 413")


def test_a_body_that_ends_early_is_refused(server):
    raw = post("/v1/evaluations", b'{"graph"', "Content-Type: application/json", "Content-Length: 100")
    assert server.send(raw, half_close=True).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nBad Header: x\r\nConnection: close\r\n\r\n",
        b"GET " + b"/" * 10_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10_000 + b"\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"Connection: close\r\n\r\n",
        post("/v1/evaluations", b"{}", "Content-Length: two"),
        post("/v1/evaluations", b"{}", "Content-Length: -2"),
        post("/v1/evaluations", b"{}", "Content-Length: 2", "Content-Length: 3"),
        post("/v1/evaluations", b"{}", "Content-Length: 2", "Transfer-Encoding: chunked"),
        post("/v1/evaluations", b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: xchunked"),
        post("/v1/evaluations", b"zz\r\n{}\r\n", "Transfer-Encoding: chunked"),
        post("http://[::1/v1/evaluations", b"{}", "Content-Length: 2"),
        post("*", b"{}", "Content-Length: 2"),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET //livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: \xff:x\r\nConnection: close\r\n\r\n",
        b"GET /livez?" + b"a=1&" * 500 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_odd_bytes_never_stop_it(server, raw):
    answer = server.send(raw, half_close=True)
    statuses = re.findall(rb"^HTTP/1\.[01] (\d\d\d)", answer, re.MULTILINE)
    assert len(statuses) <= 1
    assert not statuses or statuses[0] != b"500"
    assert server.call("/livez") == {"status": "ok"}


def test_http_1_0_is_served(server):
    raw = post("/v1/evaluations", b"{}", "Content-Type: application/json", "Content-Length: 2", version="1.0")
    assert server.send(raw).startswith(b"HTTP/1.")


# ---------------------------------------------------------------------------------------------------- start and end


def test_sigterm_ends_it_cleanly_and_lets_a_request_finish(tmp_path):
    with Server(tmp_path, workers=2, environment=INLINE) as server:
        job, answers = json.loads(long_job(server)), []
        request = threading.Thread(target=lambda: answers.append(server.call("/v1/jobs", job)))
        request.start()
        while not server.call("/v1/jobs")["data"]:
            pass
        assert server.stop(signal.SIGTERM) == 0
        request.join()
        assert answers[0]["state"] == "succeeded"
        assert server.errors == ""
        with pytest.raises(urllib.error.URLError):
            server.call("/livez")


def test_sigterm_ends_a_worker_that_is_still_starting(tmp_path):
    with Server(tmp_path, ENDED_WHILE_STARTING) as running:
        assert running.process.stdout.readline() == "worker 2 serves\n"
        assert running.call("/livez") == {"status": "ok"}
    assert running.process.returncode == 0


@contextlib.contextmanager
def running_job(server):
    """Post a long job, and give the connection once the job is recorded."""
    body = long_job(server)
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(post("/v1/jobs", body, *headers))
        while not server.call("/v1/jobs")["data"]:
            pass
        yield connection


def check_the_one_job(folder, *, attempts):
    """Wait until the one job in the table has ended, and insist that nothing ever happened to it."""
    with contextlib.closing(open_store(settings_for(folder))) as store:
        job = ended(store, store.page(2)[0]["id"])
        check_exact(store, job, undisturbed(job["spec"]))
        assert job["attempts"] == attempts


@pytest.mark.slow
def test_a_job_that_was_killed_with_its_server_goes_on_with_the_next_one(tmp_path):
    with Server(tmp_path, environment=INLINE) as server, running_job(server):
        os.killpg(server.process.pid, signal.SIGKILL)
        server.stop(signal.SIGKILL)
    with Server(tmp_path):
        check_the_one_job(tmp_path, attempts=2)


@pytest.mark.slow
def test_a_job_whose_process_was_killed_goes_on_in_a_job_worker(tmp_path):
    with Server(tmp_path, environment=INLINE) as server:
        with running_job(server) as connection:
            (job,) = server.call("/v1/jobs")["data"]
            with contextlib.closing(open_store(settings_for(tmp_path))) as store:
                os.kill(worker_of(store, job["id"]), signal.SIGKILL)
            assert connection.recv(100) == b""
        check_the_one_job(tmp_path, attempts=2)
        assert server.call("/v1/evaluations", {"graph": NEURON})["digest"]
        assert server.stop(signal.SIGTERM) == 0
        assert "SIGKILL" in server.errors


def test_jobs_outlive_a_restart(tmp_path):
    with Server(tmp_path) as server:
        job = server.call("/v1/jobs", {"type": "evaluation", "spec": {"graph": NEURON}})
    with Server(tmp_path) as server:
        assert server.call(job["links"]["self"]) == job


def test_two_servers_do_not_share_a_folder(tmp_path):
    with Server(tmp_path) as server:
        with pytest.raises(SettingsError, match="another chainrule server uses"):
            serve(Settings(data=tmp_path, port=0))
        assert server.call("/livez") == {"status": "ok"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org", "[::]"])
def test_other_addresses_are_refused(host):
    with pytest.raises(SettingsError, match="--insecure"):
        check_address(Settings(host=host))
    check_address(Settings(host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_is_open(host):
    check_address(Settings(host=host))


def test_the_command_refuses_too(tmp_path):
    command = [sys.executable, "-c", SCRIPT, json.dumps({"host": "0.0.0.0", "port": 0, "data": str(tmp_path / "d")})]
    done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "refusing to listen on 0.0.0.0" in done.stderr
    assert not (tmp_path / "d").exists()


def test_insecure_listens_beyond_this_machine(tmp_path):
    with Server(tmp_path, host="0.0.0.0", insecure=True) as server:
        assert "0.0.0.0" in server.line
        assert server.call("/livez") == {"status": "ok"}


def test_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be used"):
        serve(Settings(data=tmp_path / "file" / "folder", port=0))
    with pytest.raises(SettingsError, match="data folder"):
        serve(Settings(workers=2, port=0))


def test_a_database_server_is_upgraded_by_command_alone(tmp_path, monkeypatch):
    with postgresql() as url:
        settings = Settings(data=tmp_path, database_url=url, port=0)
        for run in (serve, run_job_workers):
            with pytest.raises(SettingsError, match="run `chainrule db upgrade`"):
                run(settings)
        monkeypatch.setenv("CHAINRULE_DATABASE_URL", url)
        assert main(["db", "upgrade"]) == main(["db", "upgrade"]) == 0
        with contextlib.closing(open_store(settings)) as store:
            store.check()
            assert not store.workers()


def test_a_database_that_cannot_be_reached(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CHAINRULE_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    for command in (["db", "upgrade"], ["worker"], ["serve", "--port", "0"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"chainrule {command[0]}: ")
        assert "127.0.0.1" in said
        assert "secret" not in said


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1 port {port}: .*in use"):
            serve(Settings(port=port, data=tmp_path))


def test_an_address_of_another_machine(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1"):
        serve(Settings(host="192.0.2.1", data=tmp_path, insecure=True))


def test_a_jobs_table_that_is_none(tmp_path):
    (tmp_path / "chainrule.sqlite3").write_bytes(b"no database" * 1_000)
    with pytest.raises(SettingsError, match=r"chainrule\.sqlite3 cannot be used \(file is not a database\)"):
        serve(Settings(data=tmp_path, port=0))


def test_a_jobs_table_of_another_program(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "chainrule.sqlite3")) as database:
        database.execute("CREATE TABLE jobs (id INTEGER)")
        database.commit()
    with pytest.raises(SettingsError, match=r"cannot be used .no such column: .*another program's"):
        serve(Settings(data=tmp_path, port=0))


def test_a_data_folder_that_is_deleted_is_noticed(tmp_path):
    with Server(tmp_path / "data") as server:
        server.call("/v1/jobs", {"type": "evaluation", "spec": {"graph": NEURON}})
        shutil.rmtree(tmp_path / "data")
        for path, data in (("/readyz", None), ("/v1/jobs", {"type": "evaluation", "spec": {"graph": NEURON}})):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                server.call(path, data)
            with refusal.value as answer:
                assert (answer.code, answer.headers["Retry-After"]) == (503, "5")
        assert server.call("/livez") == {"status": "ok"}


# -------------------------------------------------------------------------------------------- the compiled kernels

PLAIN = "chainrule computes in plain Python"


def errors_of(folder, **environment):
    """Return an answer of a server and what it wrote to its log."""
    with Server(folder, environment=environment) as running:
        answer = running.call("/v1/evaluations", {"graph": NEURON})
        running.stop(signal.SIGTERM)
    return answer, running.errors


def test_kernels_that_are_on_disk_are_loaded_before_it_serves(tmp_path):
    warm = subprocess.run([sys.executable, "-m", "chainrule_engine.warm"], env=ENVIRON, capture_output=True, text=True)
    assert (warm.returncode, warm.stdout, warm.stderr) == (0, "", "")
    assert PLAIN not in errors_of(tmp_path, CHAINRULE_ENGINE="")[1]


def test_without_them_it_starts_at_once_says_so_and_gives_the_same_answer(tmp_path):
    answer, said = errors_of(tmp_path / "data", CHAINRULE_ENGINE="", NUMBA_CACHE_DIR=str(tmp_path / "empty"))
    assert said.count(PLAIN) == 1
    assert "they are not compiled" in said
    assert not list(tmp_path.rglob("*.nbc"))
    assert answer == errors_of(tmp_path / "data", CHAINRULE_ENGINE="compiled")[0]


def test_an_engine_that_there_is_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_ENGINE", "pyhton")
    with pytest.raises(SettingsError, match="CHAINRULE_ENGINE must be python or compiled"):
        serve(Settings(data=tmp_path, port=0))


@pytest.mark.slow
def test_small_and_large_requests_are_answered_alike_in_either_engine(tmp_path):
    """By default small work is done in plain Python and large work in machine code, in turns."""
    wide = "\n".join(f"n{i + 1} = tanh(n{i} * x) + sigmoid(n{i})" for i in range(60))
    graphs = [
        {"inputs": {"n0": 0.5, "x": -0.25}, "program": wide},
        NEURON,
        {"inputs": {"n0": 0.5, "x": [p / 150 - 1 for p in range(300)]}, "program": wide},
        {"inputs": {"x": [1.0, 0.0, -1.0]}, "program": "y = log(x) + where(x > 0, sqrt(x), 3)"},
    ]
    requests = [
        *(("/v1/evaluations", {"graph": graph}) for graph in graphs),
        ("/v1/evaluations", {"graph": NEURON, "derivative": "hessian"}),
        ("/v1/evaluations/batch", {"items": [{"graph": graph} for graph in graphs]}),
        ("/v1/gradient-checks", {"graph": graphs[0]}),
        ("/v1/jobs", {"type": "training", "spec": NETWORK_EXAMPLE}),
    ]

    def answers(engine):
        with Server(tmp_path / "data", environment={"CHAINRULE_ENGINE": engine}) as server:
            found = [server.call(path, data) for path, data in requests]
            server.stop(signal.SIGTERM)
        assert (PLAIN in server.errors) == (engine == "python")
        found[-1] = found[-1]["result"]  # a job has an id and times besides
        return [json.dumps(answer) for answer in found]

    assert answers("") == answers("python")
