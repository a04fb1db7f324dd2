"""API keys and their quotas."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """API keys and their quotas."""
    op.create_table(
        "api_keys",
        sql.Column("id", sql.String(16), primary_key=True),
        sql.Column("digest", sql.String(64), nullable=False),
        sql.Column("name", sql.String(200), nullable=False),
        sql.Column("scopes", sql.String(200), nullable=False),
        sql.Column("created_at", sql.Double, nullable=False),
        sql.Column("expires_at", sql.Double),
        sql.Column("revoked_at", sql.Double),
        sql.Column("used_at", sql.Double),
        sql.Column("requests_per_minute", sql.BigInteger),
        sql.Column("work_per_day", sql.BigInteger),
        sql.Column("concurrent_jobs", sql.BigInteger),
    )
    op.create_table(
        "rates",
        sql.Column("owner", sql.String(32), primary_key=True),
        sql.Column("policy", sql.String(32), primary_key=True),
        sql.Column("full_at", sql.Double, nullable=False),
    )
