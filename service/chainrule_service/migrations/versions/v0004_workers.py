"""Which processes run jobs."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "workers",
        sql.Column("name", sql.String(80), primary_key=True),
        sql.Column("processes", sql.Integer, nullable=False),
        sql.Column("seen", sql.Double, nullable=False),
    )
