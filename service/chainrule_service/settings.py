"""Every setting and every limit of the service: its name, its default, its maximum, what it means."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from chainrule_engine.drawing import MAX_LINES, MAX_VALUES

PREFIX = "CHAINRULE_"
LOG_LEVELS = ("debug", "info", "warning", "error")
FILE = "chainrule.sqlite3"
#: Work, in the unit of job_work, that is over in a quarter of a second: long before a lease is, and so that others may
#: well wait for it. It takes no place among the long ones, needs no lease renewed, and by default no job worker.
SHORT = 250_000

_POSTGRESQL = re.compile(r"postgres(ql)?(\+psycopg)?://")  # hosts of databases hand out the short forms
_BROKER = re.compile("(redis|amqp)s?://")
_QUEUE = re.compile("[A-Za-z0-9._-]{1,64}")


class SettingsError(ValueError):
    """A setting is wrong; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: an operator may set one of `LIMITS` from 1 to `maximum` with the variable CHAINRULE_LIMIT_<NAME>."""

    name: str
    default: int
    maximum: int
    description: str

    def check(self, number: int) -> None:
        """Refuse a value that may not be set.

        Raises:
            SettingsError: it is none from 1 to the maximum.
        """
        _check(f"limit {self.name}", number, 1, self.maximum)


_TABLE = (
    Limit("body_bytes", 16 << 20, 256 << 20, "bytes in the body of a request"),
    Limit("silent_seconds", 10, 600, "seconds for which a client may send nothing while its request is awaited"),
    Limit("request_seconds", 60, 3_600, "seconds in which a request must arrive in full"),
    Limit("json_depth", 32, 128, "levels of nesting in the JSON of a request"),
    Limit("nodes", 100_000, 1_000_000, "nodes in a graph"),
    Limit("points", 100_000, 1_000_000, "points in a batch of points: numbers in one input"),
    Limit(
        "parameters", 50_000, 1_000_000, "parameters of a model: weights and biases, or the trained inputs of a graph"
    ),
    Limit(
        "evaluation_work",
        5_000_000,
        100_000_000,
        "nodes times points, and so again per direction, of an evaluation or a whole batch of them",
    ),
    Limit(
        "answer_numbers",
        1_000_000,
        10_000_000,
        "numbers in an answer: values, gradients, matrices, steps of a trace, losses and metrics of a training",
    ),
    Limit("gradient_check_work", 5_000_000, 100_000_000, "nodes times points times inputs of a gradient check"),
    Limit("batch_items", 50, 1_000, "items in a batch of evaluations"),
    Limit("submissions", 1_000, 20_000, "submissions in a batch of gradings, or in a job of them"),
    Limit("submission_values", 100_000, 1_000_000, "values in the answers of one submission: numbers, lists, objects"),
    Limit(
        "grading_work",
        20_000_000,
        1_000_000_000,
        "estimated work of a grading, a batch of them or an exercise check, in the unit of job_work",
    ),
    Limit(
        "job_work",
        3_600_000_000,
        10_000_000_000,
        "estimated work of a job, in evaluations of a node at a point by plain Python: some microsecond each",
    ),
    Limit(
        "inline_work",
        SHORT,
        10_000_000,
        "estimated work of a job, in the unit of job_work, up to which the request that submits it runs it",
    ),
    Limit("batch_jobs", 20, 1_000, "jobs in one batch"),
    Limit(
        "job_memory", 1 << 30, 64 << 30, "bytes that a training is estimated to take, and that a queued job may take"
    ),
    Limit("job_seconds", 3_600, 604_800, "seconds for which a queued job may run, in all attempts together"),
    Limit("requests_per_minute", 6_000, 1_000_000, "requests with one API key in a minute, all at once or spread"),
    Limit(
        "work_per_day",
        100_000_000_000,
        10**15,
        "estimated work of the evaluations, checks, gradings and jobs of one API key in a day, in the unit of job_work",
    ),
    Limit("page_items", 100, 1_000, "jobs, or gradings, on one page of a list"),
    Limit(
        "attempts",
        3,
        100,
        "times that a job is begun without a step forward; one that ends the process that runs it each time has failed",
    ),
    Limit("concurrent_jobs", 64, 10_000, "queued jobs of one owner that run at the same time"),
    Limit("retention_days", 90, 36_500, "days for which a job that has ended is kept, and a grading"),
)
LIMITS: Mapping[str, Limit] = MappingProxyType({limit.name: limit for limit in _TABLE})

#: The engine's own, which nobody sets.
FIXED_LIMITS = (
    Limit("drawing_size", MAX_VALUES, MAX_VALUES, "inputs and nodes in a drawing; fixed"),
    Limit("drawing_lines", MAX_LINES, MAX_LINES, "columns that the lines of a drawing cross, together; fixed"),
)


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        data: the folder that holds the jobs table; None keeps it in this process's memory.
        database_url: the PostgreSQL database that holds it instead, `postgresql+psycopg://user@host/name`.
        workers: server processes.
        threads: threads in each of them.
        job_workers: processes that run the jobs of the queue.
        lease_seconds: for how long a job is a worker's before it must have renewed that: a worker that falls silent is
            taken for dead after so long.
        insecure: whether to listen on an address that others can reach, although no API key exists yet.
        broker_url: the Redis or RabbitMQ by which Celery hands out jobs, `redis://host:6379/0` or `amqp://user@host//`.
        queue: the name of the queue there: services that share a broker have different ones.
        log_level: the least that is logged: debug, info (a line for each request), warning or error.
        metrics_host: the address to listen on for Prometheus.
        metrics_port: the port to listen on for Prometheus; None counts nothing and listens nowhere.
        webhooks: whether jobs may name a URL that is told of their end.
        webhook_networks: the operator's own networks that such a URL may lead to, by http too; public addresses it may
            lead to anyway. In the environment, addresses with a prefix length, separated by commas.
        limits: what differs from the defaults of `LIMITS`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data: Path | None = None
    database_url: str | None = field(default=None, repr=False)  # it may hold a password
    workers: int = 1
    threads: int = 16
    job_workers: int = 1
    lease_seconds: int = 5
    insecure: bool = False
    broker_url: str | None = field(default=None, repr=False)  # it may hold a password
    queue: str = "chainrule"
    log_level: str = "warning"
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    webhooks: bool = False
    webhook_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65_535),
            ("workers", 1, 256),
            ("threads", 2, 256),
            ("job_workers", 0, 256),
            ("lease_seconds", 1, 3_600),
        ):
            _check(name, getattr(self, name), low, high)
        if self.metrics_port is not None:
            _check("metrics_port", self.metrics_port, 1, 65_535)
        if self.log_level not in LOG_LEVELS:
            raise SettingsError(f"log_level must be one of {', '.join(LOG_LEVELS)}, and is {self.log_level!r}")
        if self.database_url is not None and not _POSTGRESQL.match(self.database_url):
            raise SettingsError("database_url must begin with postgresql+psycopg://; SQLite takes a folder, as data")
        if self.database_url is not None:
            try:
                make_url(self.database_url)
            except (ArgumentError, ValueError):  # what they say may hold the password
                raise SettingsError(
                    "database_url cannot be read as a URL, of the form postgresql+psycopg://user:password@host:port/name"
                ) from None
        if self.broker_url is not None:
            if not _BROKER.match(self.broker_url):
                raise SettingsError("broker_url must begin with redis://, rediss://, amqp:// or amqps://")
            if self.database is None:
                raise SettingsError("with a broker the jobs must be where workers find them: set database_url or data")
        if not _QUEUE.fullmatch(self.queue):
            raise SettingsError(f"queue must be 1 to 64 letters, digits, '.', '_' or '-', and is {self.queue!r}")
        if not self.host:
            raise SettingsError("host must not be empty; 127.0.0.1 listens on this machine only")
        for name, number in self.limits.items():
            if name not in LIMITS:
                raise SettingsError(f"there is no limit {name!r}; the limits are {', '.join(LIMITS)}")
            LIMITS[name].check(number)
        object.__setattr__(
            self, "limits", MappingProxyType({n: d.default for n, d in LIMITS.items()} | dict(self.limits))
        )

    @property
    def database(self) -> str | None:
        """The URL of the database: the one that is set, else that of the file in the data folder; None is memory."""
        if self.database_url is not None:
            return _POSTGRESQL.sub("postgresql+psycopg://", self.database_url)
        return None if self.data is None else f"sqlite:///{self.data / FILE}"

    @property
    def private(self) -> bool:
        """Whether this machine alone reaches the address, or someone said that the network keeps strangers out."""
        return self.insecure or is_loopback(self.host)

    @classmethod
    def names(cls) -> set[str]:
        """Return the names of all settings but the limits."""
        return {entry.name for entry in fields(cls)} - {"limits"}

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: object) -> Settings:
        """Read `CHAINRULE_HOST` and its like; `overrides` win, and one that is None counts as not given.

        What is given nowhere takes the defaults of a server: the data folder of the user and a worker for each core.

        Raises:
            SettingsError: a value is wrong, or an override is no setting.
        """
        names = cls.names()
        if unknown := overrides.keys() - names:
            raise SettingsError(f"there is no setting {min(unknown)!r}; the settings are {', '.join(sorted(names))}")
        given: dict[str, object] = {
            name: environ[PREFIX + name.upper()] for name in names if environ.get(PREFIX + name.upper())
        }
        given |= {name: value for name, value in overrides.items() if value is not None}
        prefix = f"{PREFIX}LIMIT_"
        limits = {}
        for variable, value in environ.items():
            if variable.startswith(prefix) and value:
                name = variable.removeprefix(prefix).lower()
                if name not in LIMITS:
                    raise SettingsError(f"{variable} sets no limit; the limits are {', '.join(LIMITS)}")
                limits[name] = _integer(variable, value)
        return cls(
            host=str(given.get("host", cls.host)),
            port=_integer("port", given.get("port", cls.port)),
            data=Path(str(given.get("data") or _data_folder(environ))).expanduser(),
            database_url=str(given["database_url"]) if "database_url" in given else None,
            workers=_integer("workers", given.get("workers", min(_cores(), 8))),
            threads=_integer("threads", given.get("threads", cls.threads)),
            job_workers=_integer("job_workers", given.get("job_workers", min(_cores(), 8))),
            lease_seconds=_integer("lease_seconds", given.get("lease_seconds", cls.lease_seconds)),
            insecure=_boolean("insecure", given.get("insecure", cls.insecure)),
            broker_url=str(given["broker_url"]) if "broker_url" in given else None,
            queue=str(given.get("queue", cls.queue)),
            log_level=str(given.get("log_level", cls.log_level)).lower(),
            metrics_host=str(given.get("metrics_host", cls.metrics_host)),
            metrics_port=_integer("metrics_port", given["metrics_port"]) if "metrics_port" in given else None,
            webhooks=_boolean("webhooks", given.get("webhooks", cls.webhooks)),
            webhook_networks=_networks("webhook_networks", str(given.get("webhook_networks", ""))),
            limits=limits,
        )


def is_loopback(host: str) -> bool:
    """Tell whether this machine alone reaches an address."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def limits_help() -> str:
    """Return lines of text that name the variable of each limit, its default and its maximum."""
    return "".join(
        f"  {PREFIX}LIMIT_{limit.name.upper()}\n"
        f"      {limit.description} (default {limit.default}, at most {limit.maximum})\n"
        for limit in LIMITS.values()
    )


def _cores() -> int:
    """Return how many cores this process may use: a container or taskset can give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _data_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder that the XDG base directory specification gives to an application's data."""
    home = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home) / "chainrule"


def _check(name: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise SettingsError(f"{name} must be from {low:,} to {high:,}, and is {number:,}")


def _integer(name: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, and is {value!r}") from None


def _boolean(name: str, value: object) -> bool:
    word = str(value).lower()
    if word not in ("1", "true", "yes", "0", "false", "no"):
        raise SettingsError(f"{name} must be one of 1, true, yes, 0, false, no, and is {value!r}")
    return word in ("1", "true", "yes")


def _networks(name: str, value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network.strip()) for network in value.split(",") if network.strip())
    except ValueError as error:
        raise SettingsError(f"{name} must be networks like 10.0.0.0/8, separated by commas: {error}") from None
