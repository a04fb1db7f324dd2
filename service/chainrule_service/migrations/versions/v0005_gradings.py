"""Gradings: reports on submissions."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "gradings",
        sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("id", sql.String(71), nullable=False),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("task", sql.String(71), nullable=False),
        sql.Column("task_id", sql.String(500)),
        sql.Column("submission", sql.String(200)),
        sql.Column("attempt", sql.BigInteger),
        sql.Column("outcome", sql.String(20), nullable=False),
        sql.Column("score", sql.Double, nullable=False),
        sql.Column("max_score", sql.Double, nullable=False),
        sql.Column("report", sql.Text, nullable=False),
        sql.Column("supersedes", sql.String(71), nullable=False),
        sql.Column("reason", sql.String(1000)),
        sql.Column("created", sql.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_gradings_id", "gradings", ["owner", "id", "supersedes"], unique=True)
    op.create_index("ix_gradings_owner", "gradings", ["owner", "seq"])
    op.create_index("ix_gradings_submission", "gradings", ["owner", "submission", "seq"])
    op.create_index("ix_gradings_task", "gradings", ["owner", "task", "seq"])
    op.create_index("ix_gradings_supersedes", "gradings", ["owner", "supersedes", "seq"])
    op.create_index("ix_gradings_created", "gradings", ["created"])
