"""The tables behind the routes of mugrade: the values that staff publish for a problem, and who got which right.

What is published is never changed: publishing other values adds a version, and a submission is to the version that was
the newest when it began. A submission is the version and the API key that submits, so that it needs no row, and the
same submission again is the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from chainrule_service.database import METADATA, Database, Written, clock

PUBLISHED = sql.Table(
    "published",
    METADATA,
    sql.Column("seq", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("assignment", sql.String(200), nullable=False),
    sql.Column("problem", sql.String(200), nullable=False),
    sql.Column("publisher", sql.String(64), nullable=False),  # the id of an API key, or nothing
    sql.Column("digest", sql.String(71), nullable=False),  # of the values
    sql.Column("expected", sql.JSON(none_as_null=True), nullable=False),  # the list of values, as they were sent
    sql.Column("created", sql.Double, nullable=False),  # in seconds since 1970, by the database's clock
    sql.Index("ix_published_problem", "assignment", "problem", "seq"),
    sqlite_autoincrement=True,
)
PUBLISHED_RESULTS = sql.Table(
    "published_results",
    METADATA,
    sql.Column("version", sql.BigInteger, primary_key=True, autoincrement=False),  # a `seq` of PUBLISHED
    sql.Column("owner", sql.String(64), primary_key=True),  # the id of an API key, or nothing
    sql.Column("test", sql.Integer, primary_key=True, autoincrement=False),  # from 0
    sql.Column("correct", sql.Boolean, nullable=False),  # once it was
    sql.Column("created", sql.Double, nullable=False),  # the last time
)


@dataclass(frozen=True)
class Version:
    """What is published for a problem.

    Attributes:
        seq: its number, among those of all problems.
        values: what a submission is compared with, one after another.
        digest: of the values' canonical text.
    """

    seq: int
    values: list[Any]
    digest: str


class Published:
    """Reads and writes both tables; safe to use from many threads. Each method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(self, assignment: str, problem: str, values: list[Any], publisher: str) -> tuple[Version, bool]:
        """Make values the newest of a problem, and tell whether they were not already."""
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        newest = self.newest(assignment, problem)
        if newest is not None and newest.digest == digest:
            return newest, False
        row = {
            "assignment": assignment, "problem": problem, "publisher": publisher, "digest": digest,
            "expected": Written(text),
        }  # fmt: skip
        with self._database.transaction() as connection:
            insert = sql.insert(PUBLISHED).values(row | {"created": clock()}).returning(PUBLISHED.c.seq)
            return Version(connection.execute(insert).scalar_one(), values, digest), True

    def newest(self, assignment: str, problem: str) -> Version | None:
        """Return what is published for a problem, or None."""
        these = (PUBLISHED.c.assignment == assignment) & (PUBLISHED.c.problem == problem)
        return self._first(sql.select(PUBLISHED).where(these).order_by(PUBLISHED.c.seq.desc()).limit(1))

    def version(self, seq: int, assignment: str | None = None, problem: str | None = None) -> Version | None:
        """Return one version, or None; also where it is not of the assignment or problem that are named."""
        query = sql.select(PUBLISHED).where(PUBLISHED.c.seq == seq)
        if assignment is not None:
            query = query.where(PUBLISHED.c.assignment == assignment)
        if problem is not None:
            query = query.where(PUBLISHED.c.problem == problem)
        return self._first(query)

    def _first(self, query: sql.Select[Any]) -> Version | None:
        with self._database.transaction(reads=True) as connection:
            row = connection.execute(query).mappings().first()
        return Version(row["seq"], row["expected"], row["digest"]) if row else None

    def record(self, version: int, owner: str, test: int, correct: bool) -> None:
        """Record whether a value was right; one that was right once stays so."""
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        row = {"version": version, "owner": owner, "test": test, "correct": correct}
        adding = insert(PUBLISHED_RESULTS).values(row | {"created": clock()})
        update = {
            "correct": sql.or_(PUBLISHED_RESULTS.c.correct, adding.excluded.correct),
            "created": adding.excluded.created,
        }
        keys = [PUBLISHED_RESULTS.c.version, PUBLISHED_RESULTS.c.owner, PUBLISHED_RESULTS.c.test]
        with self._database.transaction() as connection:
            connection.execute(adding.on_conflict_do_update(index_elements=keys, set_=update))

    def results(self, version: int) -> list[sql.RowMapping]:
        """Return, for each key that has submitted to a version: `owner`, how many `passed`, and the `last` time."""
        table = PUBLISHED_RESULTS.c
        passed = sql.func.sum(sql.case((table.correct, 1), else_=0))
        query = (
            sql.select(table.owner, passed.label("passed"), sql.func.max(table.created).label("last"))
            .where(table.version == version)
            .group_by(table.owner)
            .order_by(table.owner)
        )
        with self._database.transaction(reads=True) as connection:
            return list(connection.execute(query).mappings().all())

    def delete_results(
        self, assignment: str, problem: str | None = None, version: int | None = None, owner: str | None = None
    ) -> int:
        """Delete the results of an assignment, or of a problem, a version or a key in it; what is published stays.

        Returns of how many submissions there were any.
        """
        these = PUBLISHED.c.assignment == assignment
        if problem is not None:
            these &= PUBLISHED.c.problem == problem
        if version is not None:
            these &= PUBLISHED.c.seq == version
        of = PUBLISHED_RESULTS.c.version.in_(sql.select(PUBLISHED.c.seq).where(these))
        if owner is not None:
            of &= PUBLISHED_RESULTS.c.owner == owner
        with self._database.transaction() as connection:
            gone = connection.execute(
                sql.delete(PUBLISHED_RESULTS)
                .where(of)
                .returning(PUBLISHED_RESULTS.c.version, PUBLISHED_RESULTS.c.owner)
            )
            return len(set(map(tuple, gone)))

    def sweep(self, days: int) -> None:
        """Delete the results of more than so many days ago; what is published stays."""
        old = PUBLISHED_RESULTS.c.created < clock() - 86_400 * days
        with self._database.transaction(reads=True) as connection:
            due = connection.execute(sql.select(PUBLISHED_RESULTS.c.version).where(old).limit(1)).first()
        if due is not None:
            with self._database.transaction() as connection:
                connection.execute(sql.delete(PUBLISHED_RESULTS).where(old))
