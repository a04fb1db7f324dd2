"""Webhooks: whom a job tells of its end, the messages, and what they are signed with."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables, and the column of jobs."""
    op.add_column("jobs", sql.Column("webhook", sql.JSON))
    op.create_table(
        "webhook_deliveries",
        sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("id", sql.String(36), nullable=False, unique=True),
        sql.Column("job_id", sql.String(36), sql.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("type", sql.String(20), nullable=False),
        sql.Column("url", sql.String(1000), nullable=False),
        sql.Column("payload", sql.Text, nullable=False),
        sql.Column("state", sql.String(10), nullable=False),
        sql.Column("attempts", sql.Integer, nullable=False),
        sql.Column("due", sql.Double, nullable=False),
        sql.Column("status", sql.Integer),
        sql.Column("detail", sql.String(300)),
        sql.Column("created", sql.Double, nullable=False),
        sql.Column("finished", sql.Double),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_deliveries_job_id", "webhook_deliveries", ["job_id"])
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["state", "due"])
    op.create_index("ix_webhook_deliveries_url", "webhook_deliveries", ["owner", "url", "finished"])
    op.create_index("ix_webhook_deliveries_owner", "webhook_deliveries", ["owner", "seq"])
    op.create_table(
        "webhook_secrets",
        sql.Column("owner", sql.String(64), primary_key=True),
        sql.Column("secret", sql.String(64), nullable=False),
        sql.Column("previous", sql.String(64)),
        sql.Column("previous_until", sql.Double),
    )
