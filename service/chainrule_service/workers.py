"""Which processes run jobs: a table in which whoever looks after job workers says so every few seconds.

It is for people and for /readyz. Who may run a job is told by its lease in the jobs table, and by nothing else.
"""

from __future__ import annotations

import sqlalchemy as sql

from chainrule_service.database import METADATA, Database, clock

#: How often they say so, and how long after the last time they still count as alive.
ANNOUNCE_SECONDS, ALIVE_SECONDS = 5.0, 15.0
_FORGOTTEN_SECONDS = 3600.0

WORKERS = sql.Table(
    "workers",
    METADATA,
    sql.Column("name", sql.String(80), primary_key=True),  # host:pid of the parent
    sql.Column("processes", sql.Integer, nullable=False),
    sql.Column("seen", sql.Double, nullable=False),  # in seconds since 1970, by the database's clock
)


def announce(database: Database, name: str, processes: int) -> None:
    """Record that so many job workers run below the process `name`; 0 says that they are gone.

    Raises:
        DatabaseUnavailable: it cannot be recorded now.
    """
    gone = (WORKERS.c.name == name) | (WORKERS.c.seen < clock() - _FORGOTTEN_SECONDS)
    with database.transaction() as connection:
        connection.execute(sql.delete(WORKERS).where(gone))
        if processes:
            connection.execute(sql.insert(WORKERS).values(name=name, processes=processes, seen=clock()))


def alive(database: Database) -> int:
    """Return how many job workers there are, on all machines.

    Raises:
        DatabaseUnavailable: it cannot be read now.
    """
    # From both sides: a clock that was set back must not keep the dead alive.
    seen = sql.func.abs(clock() - WORKERS.c.seen) < ALIVE_SECONDS
    with database.transaction(reads=True) as connection:
        return int(connection.scalar(sql.select(sql.func.sum(WORKERS.c.processes)).where(seen)) or 0)
