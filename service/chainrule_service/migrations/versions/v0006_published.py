"""What staff publish for mugrade, and what became of submissions to it."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "published",
        sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("assignment", sql.String(200), nullable=False),
        sql.Column("problem", sql.String(200), nullable=False),
        sql.Column("publisher", sql.String(64), nullable=False),
        sql.Column("digest", sql.String(71), nullable=False),
        sql.Column("expected", sql.JSON(), nullable=False),
        sql.Column("created", sql.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_published_problem", "published", ["assignment", "problem", "seq"])
    op.create_table(
        "published_results",
        sql.Column("version", sql.BigInteger, primary_key=True, autoincrement=False),
        sql.Column("owner", sql.String(64), primary_key=True),
        sql.Column("test", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("correct", sql.Boolean, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )
