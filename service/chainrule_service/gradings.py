"""The gradings table: reports, which are only ever added, until they are deleted.

A report is a pure function of the task, the answers, the submission and the engine, and so is its id. Whoever sends the
same again finds the first row. A regrade adds a row that names the report that it supersedes; the same regrade again
finds its row. A report that comes back, after it was superseded by another, is a row of its own.

A grading belongs to the API key that sent it, as `owner` says. A row holds the report as its staff sees it, and neither
the task nor the answers beyond what the report repeats of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from chainrule_engine.grading import canonical
from chainrule_engine.grading.fields import MAX_TEXT
from chainrule_engine.grading.grader import MAX_ID
from chainrule_service.database import METADATA, Database, clock
from chainrule_service.store import iso

#: What the id of a report, and the digest of a task, looks like, as a regular expression.
REPORT_ID = "sha256:[0-9a-f]{64}"
OUTCOMES = ("graded", "not_gradable", "infrastructure_error")

_DELETED_AT_ONCE = 1_000  # so that nobody waits long for the sweep
_NOTHING = ""  # NULL would differ from NULL in the unique index

GRADINGS = sql.Table(
    "gradings",
    METADATA,
    # The order in which they were recorded: what pages of a list hold on to.
    sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("id", sql.String(71), nullable=False),  # the report's
    sql.Column("owner", sql.String(64), nullable=False),  # the id of an API key, or nothing
    sql.Column("task", sql.String(71), nullable=False),  # its digest
    sql.Column("task_id", sql.String(MAX_TEXT)),
    sql.Column("submission", sql.String(MAX_ID)),
    sql.Column("attempt", sql.BigInteger),
    sql.Column("outcome", sql.String(20), nullable=False),
    sql.Column("score", sql.Double, nullable=False),  # of all checks, hidden ones too
    sql.Column("max_score", sql.Double, nullable=False),
    sql.Column("report", sql.Text, nullable=False),  # as JSON, with what staff alone may see
    sql.Column("supersedes", sql.String(71), nullable=False),  # the id of a report, or nothing
    sql.Column("reason", sql.String(1000)),
    sql.Column("created", sql.Double, nullable=False),  # in seconds since 1970, by the database's clock
    sql.Index("uq_gradings_id", "owner", "id", "supersedes", unique=True),
    sql.Index("ix_gradings_owner", "owner", "seq"),
    sql.Index("ix_gradings_submission", "owner", "submission", "seq"),
    sql.Index("ix_gradings_task", "owner", "task", "seq"),
    sql.Index("ix_gradings_supersedes", "owner", "supersedes", "seq"),
    sql.Index("ix_gradings_created", "created"),
    sqlite_autoincrement=True,  # a number is never given twice, so no page shows a grading twice
)


@dataclass(frozen=True)
class Grading:
    """What is recorded.

    Attributes:
        report: the report, as staff sees it.
        supersedes: the id of the report that this one replaces, if it is a regrade.
        reason: why it does.
        superseded_by: the id of the one that has replaced it since.
    """

    report: Mapping[str, Any]
    supersedes: str | None = None
    reason: str | None = None
    superseded_by: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same grading as another one of its owner."""
        return self.report["id"], self.supersedes or _NOTHING


class Gradings:
    """Reads and writes gradings; safe to use from many threads. Each method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, owner: str, gradings: Sequence[Grading]) -> list[bool]:
        """Record gradings together, and tell of each whether it is a new one: where it is not, nothing changes."""
        known = self._known(owner, {grading.report["id"] for grading in gradings})
        rows = [_row(owner, grading) for grading in gradings if grading.key not in known]
        if rows:
            # Another may have recorded the same since the look.
            insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
            with self._database.transaction() as connection:
                connection.execute(insert(GRADINGS).values(created=clock()).on_conflict_do_nothing(), rows)
        return [grading.key not in known for grading in gradings]

    def _known(self, owner: str, ids: Collection[str]) -> set[tuple[str, str]]:
        """Return which of some reports are recorded, each with what it supersedes."""
        query = sql.select(GRADINGS.c.id, GRADINGS.c.supersedes).where(
            GRADINGS.c.owner == owner, GRADINGS.c.id.in_(ids)
        )
        with self._database.transaction(reads=True) as connection:
            return {(row.id, row.supersedes) for row in connection.execute(query)}

    def get(self, owner: str, report_id: str) -> Grading | None:
        """Return the newest grading with this report, or None."""
        return self.find(owner, [report_id]).get(report_id)

    def find(self, owner: str, ids: Collection[str]) -> dict[str, Grading]:
        """Return the newest grading with each of some reports, by id, of those that there are."""
        query = (
            sql.select(*(GRADINGS.c[name] for name in ("id", "report", "supersedes", "reason")), _SUPERSEDED_BY)
            .where(GRADINGS.c.owner == owner, GRADINGS.c.id.in_(ids))
            .order_by(GRADINGS.c.seq)
        )
        with self._database.transaction(reads=True) as connection:
            rows = connection.execute(query).all()
        return {
            row.id: Grading(json.loads(row.report), row.supersedes or None, row.reason, row.superseded_by)
            for row in rows
        }

    def page(
        self,
        owner: str,
        size: int,
        before: int | None = None,
        *,
        task: str | None = None,
        submission: str | None = None,
        outcome: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the newest gradings without their reports: at most `size`, all older than number `before`.

        Args:
            owner: whose they are.
            size: how many at most.
            before: a `seq`.
            task: only with this task: its id or its digest.
            submission: only with this submission.
            outcome: only with this outcome.
        """
        query = (
            sql.select(*(column for column in GRADINGS.columns if column.name != "report"), _SUPERSEDED_BY)
            .where(GRADINGS.c.owner == owner)
            .order_by(GRADINGS.c.seq.desc())
            .limit(size)
        )
        if before is not None:
            query = query.where(GRADINGS.c.seq < before)
        if task is not None:
            query = query.where((GRADINGS.c.task == task) | (GRADINGS.c.task_id == task))
        if submission is not None:
            query = query.where(GRADINGS.c.submission == submission)
        if outcome is not None:
            query = query.where(GRADINGS.c.outcome == outcome)
        with self._database.transaction(reads=True) as connection:
            return [_brief(row) for row in connection.execute(query).mappings()]

    def delete(self, owner: str, submission: str) -> int:
        """Delete all gradings of a submission, and return how many there were."""
        theirs = (GRADINGS.c.owner == owner) & (GRADINGS.c.submission == submission)
        with self._database.transaction() as connection:
            return connection.execute(sql.delete(GRADINGS).where(theirs)).rowcount

    def sweep(self, days: int) -> None:
        """Delete the oldest of those that were recorded more than so many days ago."""
        old = sql.select(GRADINGS.c.seq).where(GRADINGS.c.created < clock() - 86_400 * days).limit(_DELETED_AT_ONCE)
        with self._database.transaction(reads=True) as connection:
            due = connection.execute(old.limit(1)).first()
        if due is not None:
            with self._database.transaction() as connection:
                connection.execute(sql.delete(GRADINGS).where(GRADINGS.c.seq.in_(old)))


_NEWER = GRADINGS.alias("newer")
_SUPERSEDED_BY = (
    sql.select(_NEWER.c.id)
    .where(_NEWER.c.owner == GRADINGS.c.owner, _NEWER.c.supersedes == GRADINGS.c.id, _NEWER.c.seq > GRADINGS.c.seq)
    .order_by(_NEWER.c.seq.desc())
    .limit(1)
    .scalar_subquery()
    .label("superseded_by")
)


def _row(owner: str, grading: Grading) -> dict[str, Any]:
    report, (report_id, supersedes) = grading.report, grading.key
    return {
        "id": report_id,
        "owner": owner,
        "task": report["task"]["digest"],
        "task_id": report["task"]["id"],
        "submission": report["submission"]["id"],
        "attempt": report["submission"]["attempt"],
        **{name: report[name] for name in ("outcome", "score", "max_score")},
        "report": canonical(report),
        "supersedes": supersedes,
        "reason": grading.reason,
    }


def _brief(row: sql.RowMapping) -> dict[str, Any]:
    """Return an entry of a list, as the wire has it, and its `seq`."""
    return {
        "seq": row["seq"],
        "id": row["id"],
        "task": {"id": row["task_id"], "digest": row["task"]},
        "submission": {"id": row["submission"], "attempt": row["attempt"]},
        **{name: row[name] for name in ("outcome", "score", "max_score")},
        "supersedes": row["supersedes"] or None,
        "superseded_by": row["superseded_by"],
        "reason": row["reason"],
        "created_at": iso(row["created"]),
    }
