"""The log: one line of JSON for each event on standard error, or lines for people where that is a terminal.

Everything logs through the standard library (ours, gunicorn, SQLAlchemy, Celery); `configure` puts structlog behind it.
A line that is written while a request is answered carries its id, and one that is written while a job runs the job's:
they are looked up when a line is written, so that a request without lines pays nothing.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

from chainrule_service.exchange import request_id

_JOB: ContextVar[Mapping[str, Any]] = ContextVar("chainrule_job", default=MappingProxyType({}))
#: What must not be read in a log: API keys, secrets of webhooks, passwords in URLs; what may stay is in groups.
_SECRETS = (
    # In an address _ may be written as %5F: gunicorn's words on a request line that it cannot read hold all of it.
    (
        re.compile(r"\b(cr(?:_|%5F)[A-Z0-9]+(?:_|%5F)[A-Z0-9]+(?:_|%5F))[A-Z0-9]+(?:_|%5F)[0-9A-Z]+", re.I),
        r"\1[redacted]",
    ),
    (re.compile(r"\b(whsec_)[A-Za-z0-9+/=]+"), r"\1[redacted]"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"']+(?=@)"), r"\1[redacted]"),
)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send what is logged in this process, from `level` on, to `stream` (standard error) and nowhere else."""
    import structlog

    stream = stream or sys.stderr
    terminal = stream.isatty()
    # The console renderer draws tracebacks itself; in JSON they are text.
    ending = [structlog.dev.ConsoleRenderer()] if terminal else [
        structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    ]  # fmt: skip
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                _add_place,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending, _redact],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it tells of itself alone


@contextmanager
def job_lines(*, job_id: str, attempt: int, request_id: str | None) -> Iterator[None]:
    """Mark every line that this thread writes meanwhile with a job, and with the request that submitted it.

    A thread that is started meanwhile has marks of its own: run it in `contextvars.copy_context()`.
    """
    mark = _JOB.set({"job_id": job_id, "attempt": attempt, "request_id": request_id})
    try:
        yield
    finally:
        _JOB.reset(mark)


def _add_place(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the request and of the job that the line is about."""
    event.update(_JOB.get())
    if answered := request_id():  # also for a job that runs in it
        event["request_id"] = answered
    return event


def _redact(_: Any, __: str, rendered: Any) -> str:
    """Take the secrets out of a finished line, wherever in it they stand."""
    line = str(rendered)
    for pattern, kept in _SECRETS:
        line = pattern.sub(kept, line)
    return line
