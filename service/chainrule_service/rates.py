"""What each key may use in a time: one bucket for each policy, by the generic cell rate algorithm (GCRA).

A bucket is one number in the database: the theoretical arrival time, at which it will be full again. A write for each
request would cost more than the request, so a process takes a hundredth of a quota at a time, spends that in memory,
and refuses from what it knows. So, of each process that serves a key, up to a hundredth of the quota may lie unspent
while another refuses, or be spent later than it was taken; otherwise no quota is exceeded, whatever the number of
processes, and at most about a hundred writes fall to a key in a window.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass, field

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from chainrule_service.database import METADATA, Database, DatabaseUnavailable

_PARTS = 100  # of a quota: one of them is taken at a time

RATES = sql.Table(
    "rates",
    METADATA,
    sql.Column("owner", sql.String(32), primary_key=True),
    sql.Column("policy", sql.String(32), primary_key=True),
    sql.Column("full_at", sql.Double, nullable=False),  # seconds since the epoch
)


@dataclass(frozen=True, slots=True)
class Policy:
    """So many units of something in a window of so many seconds; all of them may be used at once."""

    name: str
    quota: int
    window: int

    @property
    def part(self) -> int:
        """The units that a process takes at a time, to spend them in memory."""
        return self.quota // _PARTS


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an owner stands with a policy: units left, and seconds until more is to be had than that.

    After a refusal these are the seconds until what was asked for is to be had, otherwise those until all is.
    """

    policy: Policy
    left: int
    seconds: int


class QuotaExceeded(Exception):
    """There is less left than was asked for."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        super().__init__(standing.policy.name)


@dataclass(slots=True)
class _Bucket:
    """What a process knows of a bucket; times are of the clock that nobody sets."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: int = 0  # units taken from the database and not yet spent
    full_at: float = -math.inf

    def room(self, policy: Policy, now: float) -> float:
        """Return how many units the database still has, if nobody else took any since."""
        return policy.quota * (1 - max(self.full_at - now, 0.0) / policy.window)

    def standing(self, policy: Policy, now: float) -> Standing:
        """Return where its owner stands, if nobody else took any since."""
        left = min(int(self.held + self.room(policy, now)), policy.quota)
        return Standing(policy, left, math.ceil(max(self.full_at - now, 0.0)))


class Rates:
    """Takes units out of buckets that all processes share."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, owner: str, policy: Policy, amount: int = 1) -> Standing:
        """Use up `amount` units of what `owner` may have, and tell what is left.

        Raises:
            QuotaExceeded: there are fewer; none was used up.
            ValueError: the whole quota is smaller.
        """
        if amount > policy.quota:
            raise ValueError(f"{amount:,} units are more than the {policy.quota:,} that there ever are")
        bucket = self._buckets.get((owner, policy.name)) or self._buckets.setdefault((owner, policy.name), _Bucket())
        with bucket.lock:
            there = bucket.held + bucket.room(policy, time.monotonic())
            if bucket.held < amount <= there or bucket.held > max(amount, policy.part):
                self._refill(bucket, owner, policy, amount)
            now = time.monotonic()
            if bucket.held < amount:
                there = bucket.held + bucket.room(policy, now)
                wait = (amount - there) * policy.window / policy.quota
                raise QuotaExceeded(Standing(policy, max(int(there), 0), max(math.ceil(wait), 1)))
            bucket.held -= amount
            return bucket.standing(policy, now)

    def give_back(self, owner: str, policy: Policy, amount: int) -> Standing:
        """Give back units that `take` used up in this process and nobody needed, and tell what is left.

        While the database is away this process keeps them, until it takes some again.
        """
        bucket = self._buckets[owner, policy.name]
        with bucket.lock:
            bucket.held += amount
            if bucket.held > policy.part:
                with contextlib.suppress(DatabaseUnavailable):
                    self._refill(bucket, owner, policy, 0)
            return bucket.standing(policy, time.monotonic())

    def _refill(self, bucket: _Bucket, owner: str, policy: Policy, amount: int) -> None:
        """Change what is held for units of the bucket in the database: `amount` if there are, and more for later."""
        try:
            self._exchange(bucket, owner, policy, amount)
        except IntegrityError:  # another process made the row just now
            self._exchange(bucket, owner, policy, amount)

    def _exchange(self, bucket: _Bucket, owner: str, policy: Policy, amount: int) -> None:
        mine = (RATES.c.owner == owner) & (RATES.c.policy == policy.name)
        second = policy.quota / policy.window  # units that come back in one
        # A power cut may give back what was used in the moments before it.
        with self._database.transaction(durable=False) as connection:
            found = connection.execute(sql.select(RATES.c.full_at).where(mine).with_for_update()).scalar()
            now = self._database.now(connection)
            # No bucket is further from full than an empty one; where it seems so, the clock was set back.
            used = min(max((found or now) - now, 0.0), policy.window) * second
            # What is held goes back first; there is never more than all, however long it was held.
            others = max(used - bucket.held, 0.0)
            taken = min(max(amount, policy.part), math.floor(policy.quota - others))
            if taken >= amount:
                used = others + taken
            ahead = used / second
            if found is None:
                connection.execute(sql.insert(RATES).values(owner=owner, policy=policy.name, full_at=now + ahead))
            elif taken >= amount or found > now + policy.window:
                connection.execute(sql.update(RATES).where(mine).values(full_at=now + ahead))
        if taken >= amount:
            bucket.held = taken
        bucket.full_at = time.monotonic() + ahead
