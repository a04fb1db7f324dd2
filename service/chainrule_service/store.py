"""The jobs table: the only truth about jobs.

Who runs a job is decided here and nowhere else. A claim gives a worker a *lease*, which it renews, and a *fencing
token*, which changes with every claim: whoever comes with an older one is told so by LeaseLost, and nothing that it
brings is recorded. Where a queued job stands is its `turn`, given at its submission (start-time fair queueing): the
jobs of one owner come after one another, those of different owners side by side, however many one of them has sent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from chainrule_service import jsonio
from chainrule_service.database import METADATA, Database, DatabaseUnavailable, Written, clock
from chainrule_service.settings import Settings

Job = dict[str, Any]
Row = Mapping[str, Any] | sql.RowMapping
TERMINAL = ("succeeded", "failed", "cancelled", "expired")
STATES = ("queued", "running", "cancelling", *TERMINAL)
#: What the id of a job looks like, as a regular expression.
JOB_ID = "job_[0-9a-f]{32}"

_log = logging.getLogger(__name__)

JOBS = sql.Table(
    "jobs",
    METADATA,
    # The order of submission: what pages of a list hold on to.
    sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("id", sql.String(36), nullable=False, unique=True),
    sql.Column("type", sql.String(32), nullable=False),
    sql.Column("state", sql.String(10), nullable=False),
    sql.Column("owner", sql.String(64), nullable=False),  # the id of an API key, or nothing
    sql.Column("labels", sql.JSON, nullable=False),
    sql.Column("webhook", sql.JSON(none_as_null=True)),  # who is told of its end: `url` and `events`
    sql.Column("priority", sql.Integer, nullable=False),
    sql.Column("turn", sql.BigInteger, nullable=False),
    sql.Column("concurrent_jobs", sql.Integer),  # its owner's limit, where that is not everybody's
    sql.Column("idempotency_key", sql.String(255)),
    sql.Column("body_sha256", sql.String(64)),
    sql.Column("request_id", sql.String(128), nullable=False),
    sql.Column("cost", sql.BigInteger, nullable=False),
    sql.Column("inline", sql.Boolean, nullable=False),  # begun by the request that submitted it
    sql.Column("spec_digest", sql.String(71), nullable=False),
    sql.Column("engine", sql.JSON, nullable=False),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("tries", sql.Integer, nullable=False),  # attempts since the step last changed, and the one that did it
    sql.Column("token", sql.String(32)),  # of the claim that runs it
    sql.Column("worker", sql.String(80)),  # host:pid, while it runs
    sql.Column("lease", sql.Double),  # until when; all times are in seconds since 1970, by the database's clock
    sql.Column("heartbeat", sql.Double),  # when the lease was last renewed
    sql.Column("lost", sql.String(200)),  # how the last worker that died with it died
    sql.Column("cancel", sql.Boolean, nullable=False),  # somebody wants it to stop
    sql.Column("step", sql.BigInteger, nullable=False),  # steps that are checkpointed
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("started", sql.Double),
    sql.Column("finished", sql.Double),
    sql.Column("deadline", sql.Double),
    sql.Column("rung", sql.Double),  # when a message last told workers of it
    sql.Column("progress", sql.JSON(none_as_null=True)),
    sql.Column("failure", sql.JSON(none_as_null=True)),
    sql.Column("result", sql.JSON(none_as_null=True)),
    sqlite_autoincrement=True,  # a number is never given twice, so no page shows a job twice
)
#: Of all jobs these are few; what looks for them says so in these words, and uses the small indexes.
_LIVE = JOBS.c.finished.is_(None)
_QUEUED = _LIVE & JOBS.c.token.is_(None)


def _index(name: str, *columns: Any, where: sql.ColumnElement[bool] | None = None) -> None:
    sql.Index(name, *columns, sqlite_where=where, postgresql_where=where)


_index("ix_jobs_claim", JOBS.c.priority.desc(), JOBS.c.turn, JOBS.c.seq, JOBS.c.owner, where=_LIVE)
_index("ix_jobs_turn", JOBS.c.owner, JOBS.c.priority, JOBS.c.turn, where=_LIVE)
_index("ix_jobs_deadline", JOBS.c.deadline, where=_LIVE & JOBS.c.deadline.is_not(None))
_index("ix_jobs_finished", JOBS.c.finished, where=JOBS.c.finished.is_not(None))
_index("ix_jobs_state", JOBS.c.state, JOBS.c.seq)
_index("ix_jobs_owner", JOBS.c.owner, JOBS.c.seq)
sql.Index("uq_jobs_idempotency_key", JOBS.c.owner, JOBS.c.idempotency_key, unique=True)


def _part(name: str, *columns: sql.Column[Any]) -> sql.Table:
    """Return a table of what belongs to a job, and is deleted with it."""
    job_id: sql.Column[str] = sql.Column("job_id", sql.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    return sql.Table(name, METADATA, job_id, *columns)


#: Apart from the row that changes with each heartbeat: SQLite would write them anew each time.
SPECS = _part("specs", sql.Column("spec", sql.JSON, nullable=False))
CHECKPOINTS = _part("checkpoints", sql.Column("state", sql.LargeBinary, nullable=False))
#: The history of a job, a row for each chunk of steps.
PROGRESS = _part(
    "progress",
    sql.Column("step", sql.BigInteger, primary_key=True, autoincrement=False),  # the first of the chunk
    sql.Column("steps", sql.Integer, nullable=False),
    sql.Column("metrics", sql.JSON, nullable=False),  # their names
    sql.Column("numbers", sql.LargeBinary, nullable=False),  # the losses, then each metric: float64, little-endian
)


class LeaseLost(Exception):
    """The job is no longer this claim's: stop, and write nothing."""


@dataclass(frozen=True)
class Claim:
    """The right to run a job, while its lease lasts.

    Attributes:
        id: the job's.
        token: the fencing token.
        type: the job's word on the wire.
        spec: what to run.
        step: steps that are done already, and 0 for a job that starts.
        checkpoint: the state after them, as `Store.checkpoint` was given it.
        attempt: how often the job was begun, this time included; a release does not count.
        owner: the id of an API key, or nothing.
        expires_in: the seconds from the claim to the job's deadline, by the database's clock.
        request_id: of the request that submitted it.
        worker: who has claimed it.
        cost: node evaluations over the whole job, as its submission said.
    """

    id: str
    token: str
    type: str
    spec: Mapping[str, Any] = field(repr=False)
    step: int
    checkpoint: dict[str, Any] | None = field(repr=False)
    attempt: int
    owner: str
    expires_in: float | None
    request_id: str
    worker: str
    cost: int


class Submission(NamedTuple):
    """What came of a submission: the job, whether it is a new one, and the claim of one that was submitted claimed."""

    job: Job
    new: bool
    claim: Claim | None


@dataclass(frozen=True)
class History:
    """Consecutive steps of a job: `losses[i]` and `metrics[name][i]` are those of step `first + i`."""

    first: int
    losses: Sequence[float]
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Counts:
    """How many jobs there are: by their states on the wire, and for how many seconds the oldest has been queued."""

    states: Mapping[str, int]
    oldest_queued: float


def worker_name(pid: int | None = None) -> str:
    """Return the identity of a process of this machine, `host:pid`; by default that of this one."""
    return f"{socket.gethostname()[:60]}:{pid or os.getpid()}"


class Store:
    """Reads and writes jobs; safe to use from many threads, and from children forked before its first use.

    An `owner` argument keeps to the jobs of one; None stands for all of them. Every method raises DatabaseUnavailable
    where the database cannot be read or written now.

    Args:
        database: where the tables are.
        settings: the limits `attempts`, `concurrent_jobs` and `retention_days` are its own.
        on_end: called in the transaction in which jobs end, with its connection and their ids.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings | None = None,
        on_end: Callable[[sql.Connection, Sequence[str]], None] | None = None,
    ) -> None:
        self.database = database
        self._limits = (settings or Settings()).limits
        self._on_end = on_end
        self._owed: dict[str, _Ending] = {}  # endings that could not be written yet, by the job's id
        self._payer: threading.Thread | None = None  # writes them, while there are any
        self._payer_lock = threading.Lock()
        self._closing = threading.Event()

    # -------------------------------------------------------------------------------------------- submitting

    def submit(
        self,
        job: Mapping[str, Any],
        *,
        idempotency: tuple[str, str] | None = None,
        claimed_by: str | None = None,
        lease: float = 0,
    ) -> Submission:
        """Record a job, or find the one that was submitted with the same idempotency key.

        Args:
            job: its `type`, `spec`, `spec_digest` and `engine`; if there is more to say, `owner`, `labels`, `priority`
                (higher ones go first), `deadline_seconds` from now, `cost`, `request_id`, and `concurrent_jobs`, how
                many jobs of its owner may run at once, where that differs from the limit.
            idempotency: a key that the owner has chosen, and the SHA-256 of the request's body. The caller compares it
                with the `body_sha256` of a job that is not new.
            claimed_by: the worker that runs it at once.
            lease: the seconds for which that worker's claim lasts.
        """
        row = _DEFAULTS | dict(job) | {"id": "job_" + secrets.token_hex(16)}
        spec, deadline = row.pop("spec"), row.pop("deadline_seconds", None)
        written = Written(jsonio.dumps(spec))  # before anybody waits for this transaction
        if idempotency is not None:
            row["idempotency_key"], row["body_sha256"] = idempotency
        values: dict[str, Any] = {"of_owner": row["owner"], "of_priority": row["priority"]}
        statement = _SUBMIT
        if claimed_by is not None:
            values = {"by": claimed_by, "with_token": secrets.token_hex(16), "for_seconds": lease}
            statement = _SUBMIT_CLAIMED
            row |= {"attempts": 1, "tries": 1, "inline": True}
        try:
            with self._write() as connection:
                if idempotency is not None and (found := _by_key(connection, row["owner"], idempotency[0])):
                    return Submission(self._told(found), False, None)
                given = connection.execute(statement, {**row, **values, "within": deadline}).mappings().one()
                connection.execute(_INSERT_SPEC, {"job_id": row["id"], "spec": written})
        except IntegrityError:  # somebody else has submitted it since we looked
            if idempotency is None:
                raise
            found = self.find_by_key(row["owner"], idempotency[0])
            if found is None:
                raise
            return Submission(found, False, None)
        recorded = dict.fromkeys(JOBS.c.keys()) | row | dict(given)
        claim = None if claimed_by is None else _claim(recorded | {"expires_in": deadline}, spec, None)
        return Submission(_job(recorded) | {"spec": spec}, True, claim)

    # ------------------------------------------------------------------------------------------------ running

    def claim(self, worker: str, lease: float, job_id: str | None = None) -> Claim | None:
        """Take the job whose turn it is, or the one that is asked for, if it may run now.

        It may when it is queued, or when it runs and its lease has ended; when attempts are left (`sweep` fails it
        otherwise; those before its last step forward do not count); and when fewer jobs of its owner run than may. Jobs
        that run in requests do not count for that.
        """
        statement = _CLAIM_ONE if job_id is not None else _CLAIM_NEXT
        values = {
            "by": worker, "with_token": secrets.token_hex(16), "for_seconds": lease, "wanted": job_id,
            "most_attempts": self._limits["attempts"], "most_jobs": self._limits["concurrent_jobs"],
        }  # fmt: skip
        with self._write(durable=False) as connection:
            if not self.database.is_sqlite:
                # Else the jobs of an owner that start at the same moment would not count one another.
                connection.execute(_ONE_CLAIM_AT_A_TIME)
            row = connection.execute(statement, values).mappings().first()
            if row is None:
                return None
            parts = connection.execute(_PARTS, {"of_job": row["id"]}).one()
            checkpoint = _read_checkpoint(parts.state)
            if checkpoint is not None or not row["step"]:
                return _claim(row, parts.spec, checkpoint)
            _log.warning("the checkpoint of job %s is damaged; it starts again", row["id"])
            _forget(connection, row["id"])
            return _claim({**row, "step": 0}, parts.spec, None)

    def heartbeat(self, claim: Claim, lease: float) -> bool:
        """Renew the lease, and return whether the job is to be cancelled.

        Args:
            claim: the right to run it.
            lease: the seconds for which it lasts from now.

        Raises:
            LeaseLost: the job is no longer this claim's.
        """
        with self._write(durable=False) as connection:
            return _held(connection, _RENEW, claim, {"for_seconds": lease})

    def checkpoint(
        self,
        claim: Claim,
        lease: float,
        *,
        step: int,
        state: Mapping[str, Any],
        progress: Mapping[str, Any],
        losses: Sequence[float],
        metrics: Mapping[str, Sequence[float]],
    ) -> bool:
        """Record how far the job is, together with its last chunk; renew the lease and return as `heartbeat` does.

        Args:
            claim: the right to run it.
            lease: the seconds for which it lasts from now.
            step: steps that are done.
            state: all that the next step depends on, as plain data; numbers come back with the same bits.
            progress: what the job tells of itself meanwhile.
            losses: of the steps since the checkpoint before; the last is that of step `step - 1`.
            metrics: by name, for the same steps.

        To repeat it after DatabaseUnavailable, alone or with the chunks that follow, does no harm, even if it had been
        recorded.

        Raises:
            LeaseLost: the job is no longer this claim's, or not where the chunk begins.
        """
        values = {"for_seconds": lease, "to_step": step, "so_far": progress}
        with self._write() as connection:
            recorded = connection.scalar(_STEP, {"of_job": claim.id, "fence": claim.token})
            if recorded is None:
                raise LeaseLost(claim.id)
            cancel = _held(connection, _ADVANCE, claim, values)
            saved = {"of_job": claim.id, "as_bytes": _write_checkpoint(state)}
            if not connection.execute(_OVERWRITE, saved).rowcount:
                connection.execute(_SAVE, saved)
            _record(connection, claim.id, recorded, step, losses, metrics)
        return cancel

    def finish(
        self,
        claim: Claim,
        *,
        state: str = "succeeded",
        result: Any = None,
        failure: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
        step: int = 0,
        losses: Sequence[float] = (),
        metrics: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Record how the job ended: its state (one of TERMINAL), and its result or its failure.

        A chunk that was not checkpointed comes with it: `progress`, `step`, `losses` and `metrics` are those of
        `checkpoint`, and may hold steps that were recorded already.

        If that cannot be written now, it is kept, told to whoever asks this process, and written as soon as it can be,
        before any other change: work that is done is not lost to a database that is locked or away for a while.

        Raises:
            LeaseLost: the job is no longer this claim's, or not where the chunk begins.
        """
        written = None if result is None else Written(jsonio.dumps(result))
        ending = _Ending(claim, state, written, failure, progress, step, losses, metrics or {})
        try:
            with self._write() as connection:
                self._end(connection, ending)
        except DatabaseUnavailable:
            _log.exception("the end of job %s could not be recorded yet", claim.id)
            ending.at = time.time()
            with self._payer_lock:
                self._owed[claim.id] = ending
                if self._payer is None or not self._payer.is_alive():
                    self._payer = threading.Thread(target=self._keep_paying, name="ends that are owed", daemon=True)
                    self._payer.start()

    def release(self, claim: Claim) -> None:
        """Give the job back: it is queued again, continues at its checkpoint, and the attempt does not count.

        If somebody wants it to be cancelled, it is.

        Raises:
            LeaseLost: the job is no longer this claim's.
        """
        with self._write() as connection:
            if _held(connection, _RELEASE, claim, {}):
                self._end_all(connection, JOBS.c.id == claim.id, "cancelled")

    def expire_worker(self, worker: str, *, cause: str = "", failure: Mapping[str, Any] | None = None) -> Sequence[str]:
        """End the leases of a worker that is dead, so that others continue its jobs at once; return the jobs' ids.

        Args:
            worker: its identity.
            cause: how it died, in a few words, for the failure of a job whose last attempt it was.
            failure: why its jobs have failed, if nobody is to try them again.
        """
        theirs = (JOBS.c.worker == worker) & (JOBS.c.state == "running")
        with self._write() as connection:
            if failure is not None:
                return self._end_all(connection, theirs, "failed", dict(failure))
            lost = sql.update(JOBS).where(theirs).values(lease=0, lost=cause[:200] or None)
            return connection.scalars(lost.returning(JOBS.c.id)).all()

    # ----------------------------------------------------------------------------------------------- stopping

    def cancel(self, job_id: str, owner: str | None = None) -> Job | None:
        """Cancel a job: one that waits at once, one that runs as soon as its worker sees it. Return it, or None."""
        one = _of(job_id, owner)
        with self._write() as connection:
            # With the row locked, nobody claims or releases it before the second statement.
            state = connection.scalar(sql.select(JOBS.c.state).where(one).with_for_update())
            if state == "queued":
                self._end_all(connection, one, "cancelled")
            elif state == "running":
                connection.execute(sql.update(JOBS).where(one).values(cancel=True))
        return self.get(job_id, owner)

    def delete(self, job_id: str, owner: str | None = None) -> bool:
        """Delete a job that has ended; return whether there was one."""
        ended = _of(job_id, owner) & JOBS.c.state.in_(TERMINAL)
        with self._write() as connection:
            return connection.execute(sql.delete(JOBS).where(ended)).rowcount == 1

    # ---------------------------------------------------------------------------------------------- sweeping

    def sweep(self) -> None:
        """Do what is due: end jobs that nobody will, and delete those that have been kept long enough.

        Jobs past their deadline expire; of those whose worker is gone, the ones that were to be cancelled are, and the
        ones without attempts left fail. Some process calls this every other second; several may.
        """
        gone = (JOBS.c.state == "running") & _LEASE_ENDED
        # The limit may have been lowered since a job was given back.
        used_up = (gone | (JOBS.c.state == "queued")) & (JOBS.c.tries >= self._limits["attempts"])
        kept = 86400 * self._limits["retention_days"]
        old = sql.select(JOBS.c.seq).where(JOBS.c.finished < clock() - kept).limit(_DELETED_AT_ONCE).correlate(None)
        with self._write() as connection:
            self._end_all(connection, sql.and_(_LIVE, JOBS.c.deadline <= clock()), "expired", EXPIRED)
            self._end_all(connection, gone & JOBS.c.cancel, "cancelled")
            for job_id, tries, cause in connection.execute(sql.select(*_LOST).where(used_up)).all():
                self._end_all(connection, used_up & (JOBS.c.id == job_id), "failed", _worker_lost(tries, cause))
            connection.execute(sql.delete(JOBS).where(JOBS.c.seq.in_(old)))

    def ring(self, after: float = 10, most: int = 1000) -> list[str]:
        """Return the ids of jobs that wait though it is long since anything told workers of them; first come first.

        For dispatch by messages, which may be lost: whoever calls this sends one for each. A job that is queued is due
        so many seconds after its submission, one whose worker is gone at once, and each again so many seconds later.
        """
        due = sql.or_(JOBS.c.token.is_(None) & _long_since(JOBS.c.created, after), _LEASE_ENDED)
        chosen = (
            sql.select(JOBS.c.seq)
            .where(_LIVE, due, _long_since(sql.func.coalesce(JOBS.c.rung, 0), after))
            .order_by(*_ORDER)
            .limit(most)
            .with_for_update(skip_locked=True)
            .correlate(None)
        )
        rung = sql.update(JOBS).where(JOBS.c.seq.in_(chosen)).values(rung=clock())
        rung = rung.returning(JOBS.c.priority, JOBS.c.turn, JOBS.c.seq, JOBS.c.id)
        with self._write() as connection:
            rows = connection.execute(rung).all()
        return [row.id for row in sorted(rows, key=lambda row: (-row.priority, row.turn, row.seq))]

    # ----------------------------------------------------------------------------------------------- reading

    def get(self, job_id: str, owner: str | None = None, *, brief: bool = False) -> Job | None:
        """Return a job, or None; a brief one has neither spec nor result."""
        query = sql.select(*_BRIEF) if brief else sql.select(*JOBS.c, SPECS.c.spec).join(SPECS)
        with self.database.transaction(reads=True) as connection:
            row = connection.execute(query.where(_of(job_id, owner))).mappings().first()
        if row is None:
            return None
        return self._told(_job(row), brief=brief)

    def find_by_key(self, owner: str, key: str) -> Job | None:
        """Return the job that an owner has submitted with an idempotency key, or None."""
        with self.database.transaction(reads=True) as connection:
            found = _by_key(connection, owner, key)
        return None if found is None else self._told(found)

    def page(
        self,
        size: int,
        before: int | None = None,
        *,
        owner: str | None = None,
        state: str | None = None,
        type: str | None = None,  # noqa: A002  # the name on the wire
        label: tuple[str, str] | None = None,
        created_after: float | None = None,
    ) -> list[Job]:
        """Return the newest jobs in brief: at most `size`, all older than number `before`, and as the rest says."""
        query = sql.select(*_BRIEF).order_by(JOBS.c.seq.desc()).limit(size)
        if before is not None:
            query = query.where(JOBS.c.seq < before)
        if owner is not None:
            query = query.where(JOBS.c.owner == owner)
        if state is not None:
            query = query.where(_in_state(state))
        if type is not None:
            query = query.where(JOBS.c.type == type)
        if label is not None:
            query = query.where(JOBS.c.labels[label[0]].as_string() == label[1])
        if created_after is not None:
            query = query.where(JOBS.c.created > created_after)
        with self.database.transaction(reads=True) as connection:
            rows = connection.execute(query).mappings().all()
        return [self._told(_job(row), brief=True) for row in rows]

    def history(self, job_id: str, after: int = -1, most: int | None = None) -> History:
        """Return what is recorded of the steps after step `after`, at most so many."""
        end = PROGRESS.c.step + PROGRESS.c.steps
        query = sql.select(PROGRESS).where(PROGRESS.c.job_id == job_id, end > after + 1).order_by(PROGRESS.c.step)
        first, losses, metrics = after + 1, [], {}  # type: tuple[int, list[float], dict[str, list[float]]]
        with self.database.transaction(reads=True) as connection:
            for row in connection.execute(query):
                numbers = struct.unpack(f"<{len(row.numbers) // 8}d", row.numbers)
                skipped = max(0, first - row.step)
                losses += numbers[skipped : row.steps]
                for place, name in enumerate(row.metrics, start=1):
                    column = numbers[place * row.steps + skipped : (place + 1) * row.steps]
                    metrics.setdefault(name, []).extend(column)
                if most is not None and len(losses) >= most:
                    break
        return History(first, losses[:most], {name: column[:most] for name, column in metrics.items()})

    def workers(self) -> Sequence[str]:
        """Return who runs jobs now, or did so when it died."""
        query = sql.select(JOBS.c.worker).where(JOBS.c.state == "running").distinct()
        with self.database.transaction(reads=True) as connection:
            return connection.scalars(query).all()

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs come before this one, or None if it is not queued."""
        mine = JOBS.alias("mine")
        earlier = (JOBS.c.turn < mine.c.turn) | (JOBS.c.turn == mine.c.turn) & (JOBS.c.seq < mine.c.seq)
        before = (JOBS.c.priority > mine.c.priority) | (JOBS.c.priority == mine.c.priority) & earlier
        count = sql.select(sql.func.count()).select_from(JOBS).where(_QUEUED, before).scalar_subquery()
        with self.database.transaction(reads=True) as connection:
            position = connection.scalar(sql.select(count).where(mine.c.id == job_id, mine.c.state == "queued"))
        return None if position is None else int(position)

    def counts(self) -> Counts:
        """Return how many jobs there are."""
        by_state = sql.select(JOBS.c.state, sql.func.count().label("jobs")).group_by(JOBS.c.state)
        cancelling = sql.select(sql.func.count()).where(_in_state("cancelling"))
        oldest = sql.select(clock() - JOBS.c.created).where(JOBS.c.state == "queued").order_by(JOBS.c.seq).limit(1)
        states = dict.fromkeys(STATES, 0)
        with self.database.transaction(reads=True) as connection:
            states |= {row.state: row.jobs for row in connection.execute(by_state)}
            states["cancelling"] = connection.scalar(cancelling) or 0
            age = connection.scalar(oldest)
        states["running"] -= states["cancelling"]
        return Counts(states, max(0.0, age or 0.0))

    def check(self) -> None:
        """Find out whether jobs can be read and written.

        Raises:
            DatabaseUnavailable: they cannot; the message says why.
        """
        self.database.check()

    def close(self) -> None:
        """Write what is owed, if that is possible now, and close the connections; the next use opens new ones."""
        payer = self._payer
        if payer is not None and payer.is_alive():  # in a child forked meanwhile it is not
            self._closing.set()
            payer.join()
            self._closing.clear()
        try:
            self._pay()
        except DatabaseUnavailable as error:
            _log.error("the ends of these jobs are not recorded: %s (%s)", ", ".join(self._owed), error)
        self.database.close()

    # ---------------------------------------------------------------------------------------------- internals

    @contextmanager
    def _write(self, *, durable: bool = True) -> Iterator[sql.Connection]:
        """Give a transaction that writes, after what is owed.

        What is not durable is what may come undone: without its claim a job is queued, and comes to the same result.
        """
        self._pay()
        with self.database.transaction(durable=durable) as connection:
            yield connection

    def _pay(self) -> None:
        """Write the endings that are owed, each by itself: one that cannot be written ever holds up nothing else."""
        for job_id, ending in list(self._owed.items()):
            try:
                with self.database.transaction() as connection:
                    self._end(connection, ending)
            except DatabaseUnavailable:
                raise
            except LeaseLost:
                _log.warning("the end of job %s was not recorded: it has ended, or another worker has it", job_id)
            except Exception:
                _log.exception("the end of job %s was not recorded, and never will be", job_id)
            self._owed.pop(job_id, None)

    def _keep_paying(self) -> None:
        """Write what is owed, in a thread of its own: a process that is idle may make no other change for hours."""
        while not self._closing.wait(_OWED_SECONDS):
            with suppress(DatabaseUnavailable):
                self._pay()
            with self._payer_lock:
                if not self._owed:
                    self._payer = None
                    return

    def _end(self, connection: sql.Connection, ending: _Ending) -> None:
        """Write an ending.

        Raises:
            LeaseLost: the job is no longer this claim's, or not where the chunk begins.
        """
        claim = ending.claim
        row = connection.execute(_FINISH, {"of_job": claim.id, "fence": claim.token, **ending.values()}).first()
        if row is None:
            raise LeaseLost(claim.id)
        if row.step:
            connection.execute(sql.delete(CHECKPOINTS).where(CHECKPOINTS.c.job_id == claim.id))
        if len(ending.losses):
            _record(connection, claim.id, row.step, ending.step, ending.losses, ending.metrics)
        if self._on_end is not None:
            self._on_end(connection, [claim.id])

    def _end_all(
        self, connection: sql.Connection, which: Any, state: str, failure: Mapping[str, Any] | None = None
    ) -> Sequence[str]:
        """End jobs from outside, and return their ids: a worker that runs one notices at its next step."""
        values = {**_ENDED, "state": state, "failure": failure}
        ids = connection.scalars(sql.update(JOBS).where(which).values(values).returning(JOBS.c.id)).all()
        if ids:
            connection.execute(sql.delete(CHECKPOINTS).where(CHECKPOINTS.c.job_id.in_(ids)))
            if self._on_end is not None:
                self._on_end(connection, ids)
        return ids

    def _told(self, job: Job, *, brief: bool = False) -> Job:
        """Return a job as it is, although its ending may not be written yet."""
        ending = self._owed.get(job["id"])
        if ending is None or job["state"] in TERMINAL:
            return job
        known: Job = {"state": ending.state, "failure": ending.failure, "worker": None, "finished_at": iso(ending.at)}
        if ending.progress:
            known["progress"] = ending.progress
        if not brief:
            known["result"] = None if ending.result is None else json.loads(ending.result)
        return job | known


@dataclass
class _Ending:
    """What `Store.finish` was told."""

    claim: Claim
    state: str
    result: Written | None
    failure: Mapping[str, Any] | None
    progress: Mapping[str, Any] | None
    step: int
    losses: Sequence[float]
    metrics: Mapping[str, Sequence[float]]
    at: float | None = None  # when it came, of one that is owed

    def values(self) -> dict[str, Any]:
        return {
            "in_state": self.state, "with_result": self.result, "with_failure": self.failure,
            "so_far": self.progress, "at": self.at,
        }  # fmt: skip


_DEFAULTS: Final[dict[str, Any]] = {
    "owner": "", "labels": {}, "priority": 0, "request_id": "", "cost": 0, "inline": False,
    "attempts": 0, "tries": 0, "cancel": False, "step": 0,
    "concurrent_jobs": None, "idempotency_key": None, "body_sha256": None,
}  # fmt: skip
_ENDED: Final[dict[str, Any]] = {
    "token": None, "worker": None, "lease": None, "heartbeat": None, "finished": clock()
}  # fmt: skip
EXPIRED = {"code": "deadline-passed", "detail": "the job had not ended at its deadline", "fault": "client"}
_OWED_SECONDS = 1.0  # between two attempts to write what is owed
_DELETED_AT_ONCE = 100  # so that nobody waits long for the sweep
_LOST = (JOBS.c.id, JOBS.c.tries, JOBS.c.lost)
_ORDER = (JOBS.c.priority.desc(), JOBS.c.turn, JOBS.c.seq)
_BRIEF = [column for column in JOBS.columns if column.name != "result"]

#: A heartbeat in the future was made before the clock was set back: then the lease would last for as long as that.
_CLOCKS_MAY_DIFFER = 1.0
_LEASE_ENDED = (JOBS.c.lease <= clock()) | (JOBS.c.heartbeat > clock() + _CLOCKS_MAY_DIFFER)


def _parameter(name: str, column: sql.Column[Any] | None = None) -> sql.BindParameter[Any]:
    return sql.bindparam(name, type_=None if column is None else column.type)


def _leased(worker: Any, token: Any, seconds: Any) -> dict[str, Any]:
    """Return the values of a job that somebody runs."""
    return {"state": "running", "worker": worker, "token": token, "lease": clock() + seconds, "heartbeat": clock()}


# The statements that run often; SQLAlchemy compiles each once.


def _turn() -> Any:
    """Return where a new job stands among the queued ones of its priority.

    That is after its owner's last; but no owner comes before what is next now, so nobody saves up turns.
    """
    queued = sql.and_(_QUEUED, JOBS.c.priority == _parameter("of_priority"))
    own = sql.select((sql.func.max(JOBS.c.turn) + 1).label("turn")).where(
        queued, JOBS.c.owner == _parameter("of_owner")
    )
    now = sql.select(sql.func.min(JOBS.c.turn)).where(queued)
    either = sql.union_all(own.correlate(None), now.correlate(None)).subquery()
    return sql.select(sql.func.coalesce(sql.func.max(either.c.turn), 0)).scalar_subquery()


_BORN = {"created": clock(), "deadline": clock() + _parameter("within", JOBS.c.deadline)}
_GIVEN = ("seq", "turn", "state", "created", "started", "deadline", "token", "worker", "lease", "heartbeat")
_SUBMIT = (
    sql.insert(JOBS).values(_BORN | {"state": "queued", "turn": _turn()}).returning(*(JOBS.c[name] for name in _GIVEN))
)
_SUBMIT_CLAIMED = (
    sql.insert(JOBS)
    .values(
        _BORN
        | _leased(_parameter("by"), _parameter("with_token"), _parameter("for_seconds", JOBS.c.lease))
        | {"started": clock(), "turn": 0}
    )
    .returning(*(JOBS.c[name] for name in _GIVEN))
)
_INSERT_SPEC = sql.insert(SPECS)


def _claiming(wanted: sql.ColumnElement[bool]) -> sql.Update:
    """Return the statement that takes the first of the wanted jobs that may run."""
    most = sql.func.coalesce(sql.func.min(JOBS.c.concurrent_jobs), _parameter("most_jobs"))
    busy = (
        sql.select(JOBS.c.owner)
        .where(JOBS.c.state == "running", ~_LEASE_ENDED, ~JOBS.c.inline)
        .group_by(JOBS.c.owner)
        .having(sql.func.count() >= most)
        .correlate(None)
    )
    first = (
        sql.select(JOBS.c.seq)
        .where(
            _LIVE,
            wanted,
            JOBS.c.token.is_(None) | _LEASE_ENDED & ~JOBS.c.cancel,
            JOBS.c.tries < _parameter("most_attempts"),
            JOBS.c.deadline.is_(None) | (JOBS.c.deadline > clock()),
            JOBS.c.owner.not_in(busy),
        )
        .order_by(*_ORDER)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(None)
    )
    values = _leased(_parameter("by"), _parameter("with_token"), _parameter("for_seconds", JOBS.c.lease))
    values |= {"attempts": JOBS.c.attempts + 1, "tries": JOBS.c.tries + 1, "inline": False}
    values |= {"started": sql.func.coalesce(JOBS.c.started, clock())}
    values["rung"] = None  # whoever loses it is news
    taken = sql.update(JOBS).where(JOBS.c.seq == first.scalar_subquery()).values(values)
    return taken.returning(*(JOBS.c[name] for name in _CLAIMED), (JOBS.c.deadline - clock()).label("expires_in"))


_CLAIMED = ("id", "token", "type", "step", "attempts", "owner", "request_id", "worker", "cost")
_CLAIM_NEXT = _claiming(sql.true())
_CLAIM_ONE = _claiming(JOBS.c.id == _parameter("wanted"))
_ONE_CLAIM_AT_A_TIME = sql.select(sql.func.pg_advisory_xact_lock(0x636C61))
_PARTS = (
    sql.select(SPECS.c.spec, CHECKPOINTS.c.state)
    .outerjoin(CHECKPOINTS, CHECKPOINTS.c.job_id == SPECS.c.job_id)
    .where(SPECS.c.job_id == _parameter("of_job"))
)

_OF_CLAIM = sql.and_(JOBS.c.id == _parameter("of_job"), JOBS.c.token == _parameter("fence"), JOBS.c.state == "running")
_STEP = sql.select(JOBS.c.step).where(_OF_CLAIM).with_for_update()
_HELD = sql.update(JOBS).where(_OF_CLAIM)
_RENEWED = {"lease": clock() + _parameter("for_seconds", JOBS.c.lease), "heartbeat": clock()}
_SO_FAR = {
    "progress": sql.func.coalesce(_parameter("so_far", JOBS.c.progress), JOBS.c.progress),
    "step": _parameter("to_step", JOBS.c.step),
}
_RENEW = _HELD.values(_RENEWED).returning(JOBS.c.cancel)
#: A job that comes forward between the deaths of its workers is not what kills them.
_FORWARD = {"tries": sql.case((JOBS.c.step < _SO_FAR["step"], 1), else_=JOBS.c.tries)}
_ADVANCE = _HELD.values(_RENEWED | _SO_FAR | _FORWARD).returning(JOBS.c.cancel)
_RELEASE = _HELD.values(
    state="queued", token=None, worker=None, lease=None, heartbeat=None, rung=None,
    attempts=JOBS.c.attempts - 1, tries=JOBS.c.tries - 1,
).returning(JOBS.c.cancel)  # fmt: skip
_FINISH = _HELD.values(
    {**_ENDED, "progress": _SO_FAR["progress"]}
    | {
        "state": _parameter("in_state"),
        "result": _parameter("with_result", JOBS.c.result),
        "failure": _parameter("with_failure", JOBS.c.failure),
        "finished": sql.func.coalesce(_parameter("at", JOBS.c.finished), clock()),
    }
).returning(JOBS.c.step)
_SAVE = sql.insert(CHECKPOINTS).values(job_id=_parameter("of_job"), state=_parameter("as_bytes", CHECKPOINTS.c.state))
_OVERWRITE = (
    sql.update(CHECKPOINTS)
    .where(CHECKPOINTS.c.job_id == _parameter("of_job"))
    .values(state=_parameter("as_bytes", CHECKPOINTS.c.state))
)
_RECORD = sql.insert(PROGRESS)


def _held(connection: sql.Connection, statement: sql.Executable, claim: Claim, values: Mapping[str, Any]) -> bool:
    """Change the job of a claim, and return whether it is to be cancelled.

    Raises:
        LeaseLost: it is no longer this claim's.
    """
    row = connection.execute(statement, {"of_job": claim.id, "fence": claim.token, **values}).first()
    if row is None:
        raise LeaseLost(claim.id)
    return bool(row.cancel)


def _record(
    connection: sql.Connection,
    job_id: str,
    recorded: int,
    step: int,
    losses: Sequence[float],
    metrics: Mapping[str, Sequence[float]],
) -> None:
    """Record the chunk of steps that ends before step `step`, without those before step `recorded`.

    Whoever brings these does not know that they are recorded: a connection that breaks while a transaction is committed
    does not tell whether it was.

    Raises:
        LeaseLost: the chunk begins after step `recorded`, or ends before it.
    """
    known = recorded - (step - len(losses))
    if not 0 <= known <= len(losses):
        raise LeaseLost(job_id)
    if step == recorded:
        return
    columns = [losses[known:], *(column[known:] for column in metrics.values())]
    numbers = [number for column in columns for number in column]
    chunk = {
        "job_id": job_id, "step": recorded, "steps": step - recorded, "metrics": list(metrics),
        "numbers": struct.pack(f"<{len(numbers)}d", *numbers),
    }  # fmt: skip
    connection.execute(_RECORD, chunk)


def _forget(connection: sql.Connection, job_id: str) -> None:
    """Drop what a job has done."""
    for table in (CHECKPOINTS, PROGRESS):
        connection.execute(sql.delete(table).where(table.c.job_id == job_id))
    connection.execute(sql.update(JOBS).where(JOBS.c.id == job_id).values(step=0, progress=None))


def _write_checkpoint(state: Mapping[str, Any]) -> bytes:
    """Return a checkpoint as bytes: MessagePack, which keeps the bits of all numbers, after its own SHA-256."""
    text = msgspec.msgpack.encode(state)
    return hashlib.sha256(text).digest() + text


def _read_checkpoint(raw: bytes | None) -> dict[str, Any] | None:
    """Return what `_write_checkpoint` wrote, or None where it is missing or damaged."""
    if raw is None or hashlib.sha256(raw[32:]).digest() != raw[:32]:
        return None
    state: dict[str, Any] = msgspec.msgpack.decode(raw[32:])
    return state


def _by_key(connection: sql.Connection, owner: str, key: str) -> Job | None:
    """Return the job that was submitted with an idempotency key."""
    query = sql.select(*JOBS.c, SPECS.c.spec).join(SPECS).where(JOBS.c.owner == owner, JOBS.c.idempotency_key == key)
    row = connection.execute(query).mappings().first()
    return None if row is None else _job(row)


def _of(job_id: str, owner: str | None) -> sql.ColumnElement[bool]:
    return sql.and_(JOBS.c.id == job_id, sql.true() if owner is None else JOBS.c.owner == owner)


def _in_state(state: str) -> sql.ColumnElement[bool]:
    if state in ("running", "cancelling"):
        return sql.and_(JOBS.c.state == "running", JOBS.c.cancel.is_(state == "cancelling"))
    return JOBS.c.state == state


def _long_since(column: sql.ColumnElement[float], seconds: float) -> sql.ColumnElement[bool]:
    """Tell of a time that it was so long ago, or is in the future: before the clock was set back."""
    return ~sql.between(column, clock() - seconds, clock())


def _claim(row: Row, spec: Mapping[str, Any], checkpoint: dict[str, Any] | None) -> Claim:
    values = {name: row[name] for name in _CLAIMED if name != "attempts"}
    return Claim(**values, attempt=row["attempts"], expires_in=row["expires_in"], spec=spec, checkpoint=checkpoint)


def _job(row: Row) -> Job:
    """Return a job as it is told: its state as on the wire, its times as text."""
    job = dict(row)
    if job["state"] == "running" and job["cancel"]:
        job["state"] = "cancelling"
    return job | {f"{name}_at": iso(job[name]) for name in ("created", "started", "finished", "deadline")}


def iso(seconds: float | None) -> str | None:
    """Return a time as the wire has it: RFC 3339, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _worker_lost(tries: int, cause: str | None) -> dict[str, Any]:
    detail = f"the process that ran the job died, {tries} times without a step forward between"
    if cause:
        detail += f" (the last one: {cause})"
        if "memory" in cause:
            detail += "; if memory was short, submit a smaller job"
    return {"code": "worker-lost", "detail": detail, "fault": "service"}
