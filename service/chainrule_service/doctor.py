"""`chainrule doctor`: looks at a deployment from where it is called, and says what is wrong and what mends it.

It changes nothing, and may be called while the service runs or before.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sql

from chainrule_engine import acceleration
from chainrule_service import readiness, workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.keys import Keys
from chainrule_service.opening import open_store
from chainrule_service.settings import PREFIX, Settings, SettingsError, is_loopback
from chainrule_service.store import Store

#: Kinds of file systems on which processes of several machines can meet; SQLite's WAL needs memory that they share.
_REMOTE = {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"}
_LITTLE_SPACE, _NO_SPACE = 2 << 30, 200 << 20
_SKEW_SECONDS = 1.0
_LONG_QUEUE_SECONDS = 60.0
_FILES = 1024  # a server process may have 800 connections open
#: What is not the server's: the client's variables, the engine's, and the one that docker-compose.yml makes a URL of.
_OTHERS = {"API_KEY", "DATABASE_PASSWORD", "ENGINE", "MAX_RETRIES", "TIMEOUT", "URL"}


@dataclass(frozen=True)
class Finding:
    """What one check has found: `remedy` says what to do about anything that is not ok."""

    check: str
    verdict: Literal["ok", "warn", "fail"]
    sentence: str
    remedy: str = ""


def examine(environ: Mapping[str, str], **overrides: object) -> list[Finding]:
    """Make every check that the settings give a reason for, in the order in which what is wrong should be mended.

    Args:
        environ: the environment of the service.
        overrides: settings that win over it, as `Settings.from_env` takes them.
    """
    try:
        settings = Settings.from_env(environ, **overrides)
    except SettingsError as error:
        return [Finding("settings", "fail", str(error), "correct that variable")]
    findings = [_unknown_variables(environ)]
    store = open_store(settings, patience=5, upgrades=False)
    try:
        for check in _CHECKS:
            try:
                findings += check(settings, store)
            except DatabaseUnavailable as error:
                # The check of the database itself comes before those that need it, and has the remedy.
                findings.append(Finding(_name(check), "fail", f"this cannot be told: {error}"))
    finally:
        store.close()
    return findings


def is_sound(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing is broken, although something may be doubtful."""
    return all(finding.verdict != "fail" for finding in findings)


def render(findings: Sequence[Finding], *, as_json: bool) -> str:
    """Return the findings as text for people, or as JSON."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
    lines = []
    for found in findings:
        lines.append(f"{found.verdict:<5} {found.check:<10} {found.sentence}")
        if found.remedy:
            lines.append(f"{'':<16} → {found.remedy}")
    return "\n".join(lines)


def _name(check: Callable[..., object]) -> str:
    return check.__name__.strip("_").partition("_")[0]


def _unknown_variables(environ: Mapping[str, str]) -> Finding:
    known = {name.upper() for name in Settings.names()} | _OTHERS
    given = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)}
    unknown = {name for name in given if name not in known and not name.startswith("LIMIT_")}
    if unknown:
        listed = ", ".join(sorted(PREFIX + name for name in unknown))
        return Finding("settings", "warn", f"nothing reads {listed}", "`chainrule serve --help` lists the variables")
    return Finding("settings", "ok", "every setting can be read")


def _folder(settings: Settings, store: Store) -> Iterator[Finding]:
    file = store.database.file
    if file is None:
        return
    folder = next(parent for parent in file.parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = f"give it to the user that the service runs as (uid {os.getuid()}), or set {PREFIX}DATA"
        yield Finding("folder", "fail", f"{folder} cannot be written to", remedy)
        return
    kind = _file_system(folder)
    if kind in _REMOTE:
        remedy = f"set {PREFIX}DATA to a folder on a disk of this machine, or use PostgreSQL ({PREFIX}DATABASE_URL)"
        yield Finding("folder", "fail", f"{folder} lies on {kind}, where SQLite can lose what it has recorded", remedy)
    else:
        yield Finding("folder", "ok", f"{folder} can be written to, on a local disk ({kind or 'of unknown kind'})")
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        remedy = f"make room, or lower {PREFIX}LIMIT_RETENTION_DAYS"
        verdict: Literal["warn", "fail"] = "fail" if free < _NO_SPACE else "warn"
        yield Finding("folder", verdict, f"{folder} has {free / 1e9:.1f} GB left", remedy)


def _file_system(folder: Path) -> str:
    """Return the kind of the file system that a folder lies on, as Linux calls it; nothing elsewhere."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    kinds = {}
    for line in mounts:
        _, point, kind, *_ = line.split()
        kinds[Path(point.encode().decode("unicode_escape"))] = kind  # a space is written as \040
    return next((kinds[parent] for parent in (folder.resolve(), *folder.resolve().parents) if parent in kinds), "")


def _database(settings: Settings, store: Store) -> Iterator[Finding]:
    database = store.database
    where = database.url.render_as_string()  # without the password
    file = database.file
    if file is not None and not file.exists():
        yield Finding("database", "ok", f"{file} does not exist yet; `chainrule serve` makes it")
        return
    try:
        store.check()
    except DatabaseUnavailable as error:
        mend = "free it, or restore it" if file else f"start it, check {PREFIX}DATABASE_URL"
        remedy = f"{mend}, or run `chainrule db upgrade` if its tables are old"
        yield Finding("database", "fail", f"{where} cannot be used: {error}", remedy)
        return
    yield Finding("database", "ok", f"{where} answers, and its tables are of this version")
    with database.transaction(reads=True) as connection:
        if file is None:
            skew = database.now(connection) - time.time()
            if abs(skew) > _SKEW_SECONDS:
                remedy = "keep the clocks of all machines with NTP"
                yield Finding("clock", "warn", f"the database's clock is {skew:+.1f} s from this machine's", remedy)
            else:
                yield Finding("clock", "ok", "this machine's clock agrees with the database's")
        elif (damage := connection.scalar(sql.text("PRAGMA quick_check(1)"))) != "ok":
            remedy = "stop the service and restore the last back-up (docs/operations.md)"
            yield Finding("database", "fail", f"{file} is damaged: {damage}", remedy)


def _broker(settings: Settings, _: Store) -> Iterator[Finding]:
    if not settings.broker_url:
        return
    if problem := readiness.ask_broker(settings.broker_url):
        yield Finding("broker", "fail", problem, f"start it, or check {PREFIX}BROKER_URL")
    else:
        yield Finding("broker", "ok", "the broker answers")
    if settings.database is None or settings.database.startswith("sqlite"):
        remedy = f"set {PREFIX}DATABASE_URL to a PostgreSQL that all machines reach"
        yield Finding("broker", "warn", "workers on other machines cannot reach this machine's SQLite file", remedy)


def _kernels(_: Settings, __: Store) -> Iterator[Finding]:
    if acceleration.load():
        yield Finding("kernels", "ok", "the compiled kernels are there, for this processor")
    else:
        chosen = acceleration.choice() == "python"
        remedy = (
            f"take {PREFIX}ENGINE=python out of the environment"
            if chosen
            else ("compile them: python -m chainrule_engine.warm")
        )
        yield Finding(
            "kernels", "warn", f"plain Python computes, up to a thousand times slower: {acceleration.reason()}", remedy
        )


def _access(settings: Settings, store: Store) -> Iterator[Finding]:
    if store.database.file is not None and not store.database.file.exists():
        keys = False
    else:
        keys = Keys(store.database).exist()
    create = "create one: chainrule keys create"
    if keys:
        yield Finding("access", "ok", "an API key is asked for")
    elif settings.insecure:
        yield Finding("access", "warn", f"anyone who reaches {settings.host} is served ({PREFIX}INSECURE)", create)
    elif settings.private:
        yield Finding("access", "ok", f"there are no API keys, and {settings.host} is this machine's alone")
    else:
        yield Finding("access", "fail", f"{settings.host} can be reached by others, and there is no API key", create)
    if settings.metrics_port and not is_loopback(settings.metrics_host):
        remedy = "keep strangers from that port: nobody is asked for a key there"
        yield Finding("access", "warn", f"metrics are open to all who reach {settings.metrics_host}", remedy)


def _port(settings: Settings, store: Store) -> Iterator[Finding]:
    host = settings.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, settings.port), family=family).close()
    except OSError as error:
        yield from _who_answers(host, settings.port, error, store.database.file)
    else:
        yield Finding("port", "ok", f"{host} port {settings.port} is free: no server runs there")


def _who_answers(host: str, port: int, error: OSError, file: Path | None) -> Iterator[Finding]:
    """Find out who has a port that cannot be listened on, and whether it can be the server of this file."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{near}]:{port}/readyz" if ":" in near else f"http://{near}:{port}/readyz"
    try:
        with _opened(url) as (status, body):
            detail = json.loads(body).get("detail", "")
    except (OSError, ValueError):
        remedy = f"end that program, or choose another port ({PREFIX}PORT)"
        yield Finding("port", "fail", f"{host} port {port} cannot be listened on ({error.strerror})", remedy)
        return
    if status == 200:
        yield Finding("port", "ok", f"the server on {host} port {port} is ready")
    else:
        yield Finding("port", "fail", f"the server on {host} port {port} is not ready", detail)
    if file is not None and not file.exists():
        sentence = f"the server on {host} port {port} is of another deployment: {file} does not exist"
        remedy = f"call this with the settings that the server has: --data, or {PREFIX}DATA or {PREFIX}DATABASE_URL"
        yield Finding("port", "warn", sentence, remedy)


@contextmanager
def _opened(url: str) -> Iterator[tuple[int, bytes]]:
    """Give the status and the body of an answer, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            yield answer.status, answer.read(1 << 16)
    except urllib.error.HTTPError as refusal:
        with refusal:
            yield refusal.code, refusal.read(1 << 16)


def _jobs(settings: Settings, store: Store) -> Iterator[Finding]:
    if store.database.file is not None and not store.database.file.exists():
        return
    counts, alive = store.counts(), workers.alive(store.database)
    if alive:
        yield Finding("workers", "ok", f"{alive} job workers are alive")
    else:
        remedy = "start some: chainrule serve, or chainrule worker"
        yield Finding("workers", "warn", f"no job worker was heard of in {workers.ALIVE_SECONDS:.0f} seconds", remedy)
    queued = f"{counts.states['queued']} jobs are queued, the oldest for {counts.oldest_queued:.0f} seconds"
    if counts.oldest_queued > _LONG_QUEUE_SECONDS:
        yield Finding("jobs", "warn", queued, "add workers, or find out from the log why they take no jobs")
    else:
        yield Finding("jobs", "ok", queued)


def _webhooks(settings: Settings, _: Store) -> Iterator[Finding]:
    if settings.webhooks:
        remedy = "let a firewall of your own keep these machines from networks that are none of its business"
        yield Finding("webhooks", "warn", "jobs may have this machine call addresses on the Internet", remedy)


def _files(_: Settings, __: Store) -> Iterator[Finding]:
    allowed, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < _FILES:
        sentence = f"a process may open {allowed} files, fewer than a server with many connections needs"
        yield Finding("files", "warn", sentence, f"raise it: ulimit -n {_FILES}")


_CHECKS = (_folder, _database, _broker, _kernels, _access, _port, _jobs, _webhooks, _files)
