"""Jobs that survive: a queue with leases, checkpoints and a history.

The first version of chainrule made a table of jobs without any revision. Its jobs are kept; those that ran are run
again.
"""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None

_SECONDS = "CAST(strftime('%s', {0}) AS REAL) + CAST('0' || substr({0}, 20, 7) AS REAL)"
_SAME = "seq, id, type, spec_digest, engine, attempts, progress, failure, result"


def upgrade() -> None:
    """Make the tables, and move into them what the first version left."""
    connection = op.get_bind()
    old = sql.inspect(connection).has_table("jobs")
    if old:
        for index in sql.inspect(connection).get_indexes("jobs"):
            op.drop_index(str(index["name"]))
        op.rename_table("jobs", "old_jobs")
    _make()
    if old:
        # A job that ran has a lease that has ended: whoever looks for work takes it over.
        op.execute(
            f"INSERT INTO jobs ({_SAME}, state, owner, labels, priority, turn, request_id, cost, inline, cancel, step,"
            " tries, created, started, finished, lease, heartbeat)"
            f" SELECT {_SAME}, state, '', '{{}}', 0, 0, '', 0, 0, 0, 0, 0,"
            f" {_SECONDS.format('created_at')}, {_SECONDS.format('started_at')}, {_SECONDS.format('finished_at')},"
            " CASE state WHEN 'running' THEN 0 END, CASE state WHEN 'running' THEN 0 END FROM old_jobs"
        )
        op.execute("INSERT INTO specs (job_id, spec) SELECT id, spec FROM old_jobs")
        # Numbers of jobs that were deleted are not given again.
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        op.execute("UPDATE sqlite_sequence SET name = 'jobs' WHERE name = 'old_jobs'")
        op.drop_table("old_jobs")


def _make() -> None:
    op.create_table(
        "jobs",
        sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("id", sql.String(36), nullable=False, unique=True),
        sql.Column("type", sql.String(32), nullable=False),
        sql.Column("state", sql.String(10), nullable=False),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("labels", sql.JSON, nullable=False),
        sql.Column("priority", sql.Integer, nullable=False),
        sql.Column("turn", sql.BigInteger, nullable=False),
        sql.Column("concurrent_jobs", sql.Integer),
        sql.Column("idempotency_key", sql.String(255)),
        sql.Column("body_sha256", sql.String(64)),
        sql.Column("request_id", sql.String(128), nullable=False),
        sql.Column("cost", sql.BigInteger, nullable=False),
        sql.Column("inline", sql.Boolean, nullable=False),
        sql.Column("spec_digest", sql.String(71), nullable=False),
        sql.Column("engine", sql.JSON, nullable=False),
        sql.Column("attempts", sql.Integer, nullable=False),
        sql.Column("tries", sql.Integer, nullable=False),
        sql.Column("token", sql.String(32)),
        sql.Column("worker", sql.String(80)),
        sql.Column("lease", sql.Double),
        sql.Column("heartbeat", sql.Double),
        sql.Column("lost", sql.String(200)),
        sql.Column("cancel", sql.Boolean, nullable=False),
        sql.Column("step", sql.BigInteger, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
        sql.Column("started", sql.Double),
        sql.Column("finished", sql.Double),
        sql.Column("deadline", sql.Double),
        sql.Column("rung", sql.Double),
        sql.Column("progress", sql.JSON),
        sql.Column("failure", sql.JSON),
        sql.Column("result", sql.JSON),
        sqlite_autoincrement=True,
    )
    _index("ix_jobs_claim", sql.text("priority DESC"), "turn", "seq", "owner", where="finished IS NULL")
    _index("ix_jobs_turn", "owner", "priority", "turn", where="finished IS NULL")
    _index("ix_jobs_deadline", "deadline", where="finished IS NULL AND deadline IS NOT NULL")
    _index("ix_jobs_finished", "finished", where="finished IS NOT NULL")
    op.create_index("ix_jobs_state", "jobs", ["state", "seq"])
    op.create_index("ix_jobs_owner", "jobs", ["owner", "seq"])
    op.create_index("uq_jobs_idempotency_key", "jobs", ["owner", "idempotency_key"], unique=True)
    op.create_table("specs", _job_id(), sql.Column("spec", sql.JSON, nullable=False))
    op.create_table("checkpoints", _job_id(), sql.Column("state", sql.LargeBinary, nullable=False))
    op.create_table(
        "progress",
        _job_id(),
        sql.Column("step", sql.BigInteger, primary_key=True, autoincrement=False),
        sql.Column("steps", sql.Integer, nullable=False),
        sql.Column("metrics", sql.JSON, nullable=False),
        sql.Column("numbers", sql.LargeBinary, nullable=False),
    )


def _index(name: str, *columns: str | sql.TextClause, where: str) -> None:
    condition = sql.text(where)
    op.create_index(name, "jobs", list(columns), sqlite_where=condition, postgresql_where=condition)


def _job_id() -> sql.Column[str]:
    return sql.Column("job_id", sql.String(36), sql.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
