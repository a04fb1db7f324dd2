"""The container files hold what they promise, and their commands work outside of a container."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from chainrule_service.app import create_app
from chainrule_service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SOURCES = os.pathsep.join(str(ROOT / root) for root in ("engine", "service", "client"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVICE = SERVICES["chainrule"]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, comments gone and continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in whole.splitlines())]


INSTRUCTIONS = instructions()


def environment_of(name: str) -> dict[str, str]:
    """Return the environment of a container where the operator's own leaves every `${VARIABLE:-default}` to itself."""
    return {key: re.sub(r"\$\{\w+:-(\w*)\}", r"\1", value) for key, value in SERVICES[name]["environment"].items()}


def last(keyword: str) -> str:
    """Return the argument of the instruction that counts where it stands more than once."""
    return [rest for found, rest in INSTRUCTIONS if found == keyword][-1]


COMMAND: list[str] = json.loads(last("CMD"))
HEALTH_CHECK: list[str] = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])


# ---------------------------------------------------------------------------------- docker-compose.yml


def test_the_compose_file_follows_the_published_schema() -> None:
    validator = jsonschema.validators.validator_for(SCHEMA)
    validator.check_schema(SCHEMA)
    assert [error.message for error in validator(SCHEMA).iter_errors(COMPOSE)] == []


def test_the_schema_sees_a_wrong_key() -> None:
    wrong = COMPOSE | {"services": {"chainrule": SERVICE | {"read_onyl": True}}}
    assert not jsonschema.validators.validator_for(SCHEMA)(SCHEMA).is_valid(wrong)


def test_the_port_is_published_on_loopback_only() -> None:
    assert SERVICE["ports"] == ["127.0.0.1:8000:8000"]
    assert "network_mode" not in SERVICE


def test_the_container_can_change_nothing_but_its_volume() -> None:
    assert SERVICE["read_only"] is True
    assert [mount.split(":")[0] for mount in SERVICE["tmpfs"]] == ["/tmp"]
    assert SERVICE["volumes"] == ["data:/data"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_power_than_it_needs(name: str) -> None:
    container = SERVICES[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert not container.keys() & {"cap_add", "privileged", "network_mode", "pid"}
    assert container["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_cannot_take_the_whole_machine(name: str) -> None:
    container = SERVICES[name]
    assert container["pids_limit"] > 0
    assert container["cpus"] > 0
    assert re.fullmatch(r"[1-9]\d*[mg]", container["mem_limit"])
    assert container["restart"] == ("on-failure" if name == "migrate" else "unless-stopped")


@pytest.mark.parametrize(
    ("name", "serves", "works"), [("chainrule", True, True), ("api", True, False), ("worker", False, True)]
)
def test_processes_fit_the_cpus_and_the_memory(name: str, serves: bool, works: bool) -> None:
    container = SERVICES[name]
    settings = Settings.from_env(environment_of(name))
    assert settings.workers <= container["cpus"] or not serves
    places = create_app(settings).extensions["chainrule"].slots._value
    server = settings.workers * (places * 0.55 + 0.15)
    job_worker = settings.job_workers * (settings.limits["job_memory"] / 1e9 + 0.15)
    assert serves * server + works * job_worker <= int(container["mem_limit"].removesuffix("g")) * 1.074


def test_the_default_profile_is_one_container() -> None:
    assert [name for name, container in SERVICES.items() if "profiles" not in container] == ["chainrule"]
    assert {profile for container in SERVICES.values() for profile in container.get("profiles", ())} == {"scale"}


def test_what_is_published_is_on_loopback_and_twice_nothing() -> None:
    published = [port for container in SERVICES.values() for port in container.get("ports", ())]
    assert published == ["127.0.0.1:8000:8000", "127.0.0.1:8080:8080"]


def test_workers_database_and_broker_reach_nobody_else() -> None:
    assert COMPOSE["networks"]["back"]["internal"] is True
    for name in ("worker", "migrate", "postgres", "redis"):
        assert SERVICES[name]["networks"] == ["back"]


def test_what_the_containers_call_each_other_exists() -> None:
    for name in ("api", "worker"):
        settings = Settings.from_env(environment_of(name))
        for url in (settings.database_url, settings.broker_url):
            assert urlsplit(url).hostname in SERVICES
    (target,) = re.findall(r"server-template \S+ \d+ (\S+):8000", COMPOSE["configs"]["proxy"]["content"])
    assert SERVICES[target]["command"][:2] == ["chainrule", "serve"]
    for container in SERVICES.values():
        assert {*container.get("depends_on", ())} <= SERVICES.keys()


def test_the_tables_are_upgraded_before_anybody_uses_them() -> None:
    assert SERVICES["migrate"]["command"] == ["chainrule", "db", "upgrade"]
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", ["api", "worker", "migrate"])
def test_each_command_is_one_that_the_program_takes(name: str) -> None:
    command, subcommand, *options = SERVICES[name]["command"]
    assert command == "chainrule"
    told = subprocess.run(
        [sys.executable, "-m", "chainrule.cli", subcommand, *(word for word in options if word == "upgrade"), "--help"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(word in told.stdout for word in options if word.startswith("--"))


def test_both_files_check_health_the_same_way() -> None:
    assert SERVICES["api"]["healthcheck"] == SERVICE["healthcheck"]
    assert SERVICE["healthcheck"]["test"] == ["CMD", *HEALTH_CHECK]
    timing = dict(re.findall(r"--([a-z-]+)=(\w+)", last("HEALTHCHECK")))
    stated = {name.replace("_", "-"): str(value) for name, value in SERVICE["healthcheck"].items() if name != "test"}
    assert stated == timing


# ------------------------------------------------------------------------------------------ Dockerfile


def test_the_image_is_built_in_stages_from_one_slim_base() -> None:
    bases = [rest.split()[0] for keyword, rest in INSTRUCTIONS if keyword == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim", bases[0])


def test_the_library_compiled_at_build_is_the_base_image_s() -> None:
    version = re.search(r"FROM python:(3\.\d+)-slim", DOCKERFILE)
    assert version
    assert f"/usr/local/lib/python{version[1]}" in DOCKERFILE


def test_the_image_runs_as_a_plain_user_who_owns_the_data() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    (owned,) = [json.loads(rest) for keyword, rest in INSTRUCTIONS if keyword == "RUN" and '"/data"' in rest]
    assert owned == ["install", "-d", "-o", user, "-g", group, "/data"]
    assert last("VOLUME") == "/data"


def test_the_image_is_built_from_files_that_exist_and_that_the_context_lets_in() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        name
        for keyword, rest in INSTRUCTIONS
        if keyword == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert copied == let_in
    assert [name for name in sorted(copied) if not (ROOT / name).exists()] == []


def test_the_image_installs_the_pinned_versions_of_an_extra_that_exists() -> None:
    environment = " ".join(rest for keyword, rest in INSTRUCTIONS if keyword == "ENV")
    assert "PIP_CONSTRAINT=constraints.txt" in environment
    assert "PIP_BUILD_CONSTRAINT=constraints.txt" in environment
    (install,) = [json.loads(rest) for keyword, rest in INSTRUCTIONS if keyword == "RUN" and '"pip"' in rest]
    extras = install[-1].removeprefix(".[").removesuffix("]").split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    # One image for every container: a server or a worker, on SQLite or on PostgreSQL with a broker.
    assert extras == ["service", "postgres", "celery"]
    assert set(extras) <= known.keys()


# --------------------------------------------------------------------- their commands, outside of them


def test_the_compile_command_leaves_bytecode(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("ANSWER = 42\n")
    (command,) = [json.loads(rest) for keyword, rest in INSTRUCTIONS if keyword == "RUN" and "compileall" in rest]
    run_here = [sys.executable, *command[1:-1], str(tmp_path)]
    subprocess.run(run_here, check=True)
    assert list(tmp_path.glob("__pycache__/module.*.pyc"))


def test_the_data_folder_s_command_works(tmp_path: Path) -> None:
    (command,) = [json.loads(rest) for keyword, rest in INSTRUCTIONS if keyword == "RUN" and '"/data"' in rest]
    command[command.index("-o") + 1] = str(os.getuid())
    command[command.index("-g") + 1] = str(os.getgid())
    subprocess.run([*command[:-1], str(tmp_path / "data")], check=True)
    assert (tmp_path / "data").is_dir()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health(port: int) -> subprocess.CompletedProcess[str]:
    """Run the images' health check against another port."""
    assert "8000" in HEALTH_CHECK[-1]
    command = [sys.executable, *HEALTH_CHECK[1:-1], HEALTH_CHECK[-1].replace("8000", str(port))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def started(command: list[str], folder: Path, host: str = "127.0.0.1") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the image's command as bare of settings as there, but with a port, a folder and a host of ours."""
    port = free_port()
    ours = {"/data": str(folder / "data"), "0.0.0.0": host}
    here = [ours.get(word, word) for word in command[1:]]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "no-such-home"),
        "PYTHONPATH": SOURCES,
        "PYTHONUNBUFFERED": "1",
    }
    (folder / "data").mkdir()
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", command[0], *here, "--port", str(port)],
            cwd=folder / "data",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.mark.slow
def test_the_image_s_command_becomes_healthy_and_stops_when_told(tmp_path: Path) -> None:
    assert COMMAND[0] == "chainrule"
    assert "--insecure" in COMMAND
    with started(COMMAND, tmp_path) as (process, port):
        deadline = time.monotonic() + 60
        while (check := health(port)).returncode != 0:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, f"{check.stderr}\n{(tmp_path / 'log').read_text()}"
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)
    log = (tmp_path / "log").read_text()
    assert status == 0, log
    # A read-only file system and a home that does not exist leave no other place to write than these.
    assert {path.name for path in tmp_path.iterdir()} == {"data", "log"}
    assert "Traceback" not in log, log
    assert '"level": "error"' not in log, log
    assert health(port).returncode != 0


@pytest.mark.slow
def test_the_command_needs_the_word_insecure(tmp_path: Path) -> None:
    """Without it the same command refuses to listen on every address."""
    command = [word for word in COMMAND if word != "--insecure"]
    with started(command, tmp_path, host="0.0.0.0") as (process, _):
        status = process.wait(timeout=60)
    assert status != 0
    assert "--insecure" in (tmp_path / "log").read_text()
