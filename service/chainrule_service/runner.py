"""One claim of a job: from its last checkpoint to its end, or to where it is given back.

Whoever runs it, a thread of the server, a job worker or a Celery worker, runs this loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from typing import Any

from chainrule_engine.errors import EngineError
from chainrule_service import jobs, logs, metrics
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.problems import problem_of
from chainrule_service.settings import SHORT, Settings
from chainrule_service.store import EXPIRED, Claim, LeaseLost, Store
from chainrule_service.training import Chunk

#: What `run` returns beside the states in which a job ends: it was given back, or is in another's hands.
RELEASED, LOST = "released", "lost"

_log = logging.getLogger(__name__)


def run(
    claim: Claim,
    store: Store,
    settings: Settings,
    stop: threading.Event,
    *,
    slice_seconds: float | None = None,
    task: jobs.Task | None = None,
) -> str:
    """Run a claimed job chunk by chunk, with a checkpoint after each, and record how it ends.

    A cancel, the deadline, the limit job_seconds, `stop` and the end of the slice are seen between two chunks. While
    the database is away the work goes on, and is recorded when it is back.

    Args:
        claim: the job.
        store: where it was claimed.
        settings: how long a lease lasts, and the limits.
        stop: once it is set, the job is given back to the queue.
        slice_seconds: after so many seconds the job is given back as well.
        task: the job, where it has been read already.

    Returns:
        The state in which the job ended, or RELEASED, or LOST.
    """
    metrics.CLAIMS.count()
    with logs.job_lines(job_id=claim.id, attempt=claim.attempt, request_id=claim.request_id):
        _log.info("job begins at step %s", claim.step)
        state = _attempt(claim, store, settings, lambda: _run(claim, store, settings, stop, slice_seconds, task))
        _log.info("job %s", state)
    if state == LOST:
        metrics.LEASES_LOST.count()
    elif state != RELEASED:
        metrics.ENDED.count(claim.type, state)
    return state


def _attempt(claim: Claim, store: Store, settings: Settings, work: Callable[[], str]) -> str:
    """Do the work under a lease that is renewed, and turn what goes wrong in it into a failure of the job."""
    try:
        # A thread that renews it would cost more than short work does.
        with nullcontext() if claim.cost <= SHORT else _heartbeat(claim, store, settings.lease_seconds):
            try:
                return work()
            except (LeaseLost, DatabaseUnavailable):
                raise
            except EngineError as error:
                code = str(problem_of(error)["type"]).removeprefix("/problems/")
                failure = _failure(code, str(error), "client")
            except MemoryError:
                detail = "the job needs more memory than it may have; send fewer points or a smaller model"
                failure = _failure("out-of-memory", detail, "client")
            except Exception:
                _log.exception("job %s failed", claim.id)
                detail = "the service made a mistake; its log has the cause under this job's id"
                failure = _failure("internal-error", detail, "service")
            # Here, where nothing holds on to the memory that the job took.
            store.finish(claim, state="failed", failure=failure)
            return "failed"
    except LeaseLost:
        if (state := _ended_by_others(claim, store)) is not None:
            return state
        _log.warning("attempt %s at job %s has lost it to another", claim.attempt, claim.id)
    except DatabaseUnavailable as error:
        _log.warning("attempt %s at job %s is given up, the database being away: %s", claim.attempt, claim.id, error)
    return LOST


def _ended_by_others(claim: Claim, store: Store) -> str | None:
    """Return the state in which the job was ended meanwhile, as at its deadline; None where it goes on elsewhere."""
    try:
        job = store.get(claim.id, brief=True)
    except DatabaseUnavailable:
        return None
    return job["state"] if job and job["attempts"] == claim.attempt and job["finished_at"] is not None else None


def time_limit(settings: Settings) -> Mapping[str, str]:
    """Return the failure of a job that has run for too long."""
    seconds = settings.limits["job_seconds"]
    return _failure("time-limit", f"the job ran for longer than the limit job_seconds, {seconds:,} seconds", "client")


def seconds_left(claim: Claim, settings: Settings) -> float:
    """Return for how many seconds the job may run in this attempt."""
    return settings.limits["job_seconds"] - (claim.checkpoint["ran"] if claim.checkpoint else 0.0)


def _run(
    claim: Claim,
    store: Store,
    settings: Settings,
    stop: threading.Event,
    slice_seconds: float | None,
    task: jobs.Task | None,
) -> str:
    began, left, elapsed = time.monotonic(), seconds_left(claim, settings), 0.0
    task = task or jobs.read(claim.type, claim.spec, settings)
    state = history = unrecorded = None
    if claim.checkpoint is not None:
        state, history = claim.checkpoint["state"], store.history(claim.id, most=claim.step)
    for chunk in task.run(state, history):
        unrecorded = chunk.after(unrecorded)
        before, elapsed = elapsed, time.monotonic() - began
        if claim.expires_in is not None and elapsed >= claim.expires_in:
            store.finish(claim, state="expired", failure=EXPIRED, **_record(unrecorded))
            return "expired"
        if chunk.result is not None:
            result = task.conclude(store.database, claim.owner, chunk.result)
            store.finish(claim, result=result, **_record(unrecorded))
            return "succeeded"
        metrics.CHUNKS.observe(elapsed - before)
        ran = settings.limits["job_seconds"] - left + elapsed
        cancelled = False
        try:
            saved = {"ran": ran, "state": chunk.state}
            cancelled = store.checkpoint(claim, settings.lease_seconds, state=saved, **_record(unrecorded))
            unrecorded = None
        except DatabaseUnavailable as error:
            _log.warning("job %s has no checkpoint at step %s: %s", claim.id, chunk.step, error)
        if cancelled:
            store.finish(claim, state="cancelled")
            return "cancelled"
        if elapsed > left:
            store.finish(claim, state="failed", failure=time_limit(settings), **_record(unrecorded))
            return "failed"
        if stop.is_set() or (slice_seconds is not None and elapsed > slice_seconds):
            store.release(claim)
            return RELEASED
    raise RuntimeError("the work ended without a result")


def _record(chunk: Chunk | None) -> dict[str, Any]:
    """Return what the store records of a chunk, if there is one."""
    if chunk is None:
        return {}
    return {"step": chunk.step, "progress": chunk.progress, "losses": chunk.losses, "metrics": chunk.metrics}


def _failure(code: str, detail: str, fault: str) -> Mapping[str, str]:
    """Return the failure of a job; `fault` says who can do something about it, the client or the service."""
    return {"code": code, "detail": detail, "fault": fault}


@contextmanager
def _heartbeat(claim: Claim, store: Store, lease: float) -> Iterator[None]:
    """Renew the lease every now and then, whatever takes so long meanwhile."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease / 4):
            try:
                store.heartbeat(claim, lease)
            except LeaseLost:
                return  # the next checkpoint says so, where it matters
            except DatabaseUnavailable as error:
                _log.warning("the lease of job %s could not be renewed: %s", claim.id, error)

    marked = copy_context()  # what it logs is about the job as well
    thread = threading.Thread(target=lambda: marked.run(beat), name=f"heartbeat of {claim.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
