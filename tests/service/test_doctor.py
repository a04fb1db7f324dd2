"""What is wrong with a deployment is found, and said with what mends it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys

import pytest
from tests.service.test_serving import ENVIRON, Server

from chainrule_service import doctor, workers
from chainrule_service.database import Database
from chainrule_service.keys import Keys
from chainrule_service.opening import open_store
from chainrule_service.serving import check_address
from chainrule_service.settings import FILE, Settings, SettingsError


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def environ(tmp_path):
    return {"CHAINRULE_DATA": str(tmp_path / "data"), "CHAINRULE_PORT": str(free_port())}


@pytest.fixture
def database(environ):
    """The data folder's database, made as a server makes it."""
    database = Database(f"sqlite:///{environ['CHAINRULE_DATA']}/{FILE}")
    database.upgrade()
    yield database
    database.close()


def found(environ, check):
    """Return what the check of this name says: the worst finding."""
    findings = [finding for finding in doctor.examine(environ) if finding.check == check]
    return max(findings, key=lambda finding: ("ok", "warn", "fail").index(finding.verdict))


def test_all_is_well_where_nothing_has_run_yet(environ):
    findings = doctor.examine(environ)
    assert doctor.is_sound(findings)
    assert {finding.check for finding in findings} >= {"settings", "folder", "database", "kernels", "access", "port"}
    assert not os.path.exists(environ["CHAINRULE_DATA"]), "it changes nothing"


def test_every_doubt_has_a_remedy(environ):
    environ |= {"CHAINRULE_HOST": "0.0.0.0", "CHAINRULE_BROKER_URL": "redis://127.0.0.1:1", "CHAINRULE_WEBHOOKS": "1"}
    findings = doctor.examine(environ)
    assert {finding.check for finding in findings if finding.verdict != "ok"} >= {"access", "broker", "webhooks"}
    assert all(finding.remedy for finding in findings if finding.verdict != "ok")


def test_a_setting_that_cannot_be_read(environ):
    (finding,) = doctor.examine(environ | {"CHAINRULE_PORT": "http"})
    assert finding.verdict == "fail"
    assert "'http'" in finding.sentence


def test_a_misspelt_variable(environ):
    finding = found(environ | {"CHAINRULE_WORKRES": "4", "CHAINRULE_LOG_LEVEL": "info"}, "settings")
    assert (finding.verdict, finding.sentence) == ("warn", "nothing reads CHAINRULE_WORKRES")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(environ, tmp_path):
    tmp_path.chmod(0o500)
    assert found(environ, "folder").verdict == "fail"


def test_a_folder_on_a_network(environ, monkeypatch):
    monkeypatch.setattr(doctor, "_file_system", lambda folder: "nfs4")
    finding = found(environ, "folder")
    assert finding.verdict == "fail"
    assert "nfs4" in finding.sentence


def test_the_kind_of_a_file_system():
    assert doctor._file_system(doctor.Path("/proc/self")) == "proc"


def test_a_damaged_file(environ, database):
    path = doctor.Path(environ["CHAINRULE_DATA"]) / FILE
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (text PRIMARY KEY)")
        connection.executemany("INSERT INTO rows VALUES (?)", [(f"{number:0200}",) for number in range(1000)])
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert found(environ, "database").verdict == "ok"
    database.close()
    with path.open("r+b") as file:
        file.seek(-100 * 1024, os.SEEK_END)
        file.write(b"\xff" * 50 * 1024)
    finding = found(environ, "database")
    assert finding.verdict == "fail"
    assert "is damaged" in finding.sentence


def test_a_file_of_an_older_version_is_left_as_it_is(environ, database):
    """To upgrade it is for the service, or for `chainrule db upgrade`."""
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    path = doctor.Path(environ["CHAINRULE_DATA"]) / FILE
    before = path.read_bytes()
    finding = found(environ, "database")
    assert finding.verdict == "fail"
    assert "are at revision 0001" in finding.sentence
    assert "chainrule db upgrade" in finding.remedy
    with pytest.raises(SettingsError, match="at revision 0001"):
        check_address(Settings.from_env(environ, host="0.0.0.0"))
    assert path.read_bytes() == before


def test_a_database_that_is_not_there(environ):
    url = f"postgresql+psycopg://ada:s3cret@127.0.0.1:{free_port()}/nothing"
    finding = found(environ | {"CHAINRULE_DATABASE_URL": url}, "database")
    assert finding.verdict == "fail"
    assert "db upgrade" in finding.remedy
    assert not any("s3cret" in str(each) for each in doctor.examine(environ | {"CHAINRULE_DATABASE_URL": url}))


def test_who_may_call(environ, database):
    assert found(environ, "access").verdict == "ok"
    environ["CHAINRULE_HOST"] = "0.0.0.0"
    assert found(environ, "access").verdict == "fail"
    assert found(environ | {"CHAINRULE_INSECURE": "1"}, "access").verdict == "warn"
    Keys(database).create("a person", ["evaluate"])
    assert found(environ, "access").verdict == "ok"


def test_metrics_for_all(environ):
    finding = found(environ | {"CHAINRULE_METRICS_HOST": "0.0.0.0", "CHAINRULE_METRICS_PORT": "9100"}, "access")
    assert finding.verdict == "warn"
    assert "0.0.0.0" in finding.sentence


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_metrics_for_this_machine(environ, host):
    assert found(environ | {"CHAINRULE_METRICS_HOST": host, "CHAINRULE_METRICS_PORT": "9100"}, "access").verdict == "ok"


def test_plain_python_by_choice(environ):
    """In a process of its own: this one has loaded the kernels."""
    command = [sys.executable, "-m", "chainrule", "doctor", "--json"]
    ended = subprocess.run(command, env=ENVIRON | environ | {"CHAINRULE_ENGINE": "python"}, capture_output=True)
    (finding,) = [each for each in json.loads(ended.stdout) if each["check"] == "kernels"]
    assert finding["verdict"] == "warn"
    assert finding["remedy"] == "take CHAINRULE_ENGINE=python out of the environment"


def test_a_port_of_another_program(environ):
    with socket.create_server(("127.0.0.1", int(environ["CHAINRULE_PORT"]))) as silent:
        silent.settimeout(5)
        finding = found(environ, "port")
    assert finding.verdict == "fail"


def test_workers_and_the_queue(environ, database):
    assert found(environ, "workers").verdict == "warn"
    workers.announce(database, "here:1", 2)
    assert found(environ, "workers") == doctor.Finding("workers", "ok", "2 job workers are alive")
    settings = Settings.from_env(environ)
    store = open_store(settings)
    store.submit({"type": "training", "spec": {}, "spec_digest": "", "engine": {}})
    assert found(environ, "jobs").verdict == "ok"
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created = created - 100")
    finding = found(environ, "jobs")
    assert finding.verdict == "warn"
    assert "1 jobs are queued, the oldest for 100 seconds" in finding.sentence
    store.close()


@pytest.mark.slow
def test_a_server_of_another_deployment(environ, tmp_path):
    def doubts(settings):
        return [found for found in doctor.examine(settings) if (found.check, found.verdict) == ("port", "warn")]

    with Server(tmp_path / "there") as server:
        environ["CHAINRULE_PORT"] = str(server.port)
        (finding,) = doubts(environ)
        assert doubts(environ | {"CHAINRULE_DATA": str(tmp_path / "there")}) == []
    assert f"{environ['CHAINRULE_DATA']}/{FILE} does not exist" in finding.sentence
    assert "--data" in finding.remedy


@pytest.mark.slow
def test_the_command_sees_a_running_server(tmp_path):
    def told(*options):
        command = [sys.executable, "-m", "chainrule.cli", "doctor", "--data", str(tmp_path), *options]
        return subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=60)

    with Server(tmp_path) as server:
        server.call("/livez")
        people, program = told("--port", str(server.port)), told("--port", str(server.port), "--json")
    assert (people.returncode, people.stderr) == (0, "")
    assert f"ok    port       the server on 127.0.0.1 port {server.port} is ready" in people.stdout
    findings = json.loads(program.stdout)
    assert {tuple(finding) for finding in findings} == {("check", "verdict", "sentence", "remedy")}
    assert {finding["verdict"] for finding in findings} == {"ok"}
    broken = told("--host", "0.0.0.0", "--port", "1")
    assert broken.returncode == 1
    assert "chainrule keys create" in broken.stdout
