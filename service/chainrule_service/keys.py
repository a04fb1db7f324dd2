"""API keys: who may call, what for, and how much. A key's text is shown once; the table holds its hash.

`cr_live_<id>_<secret>_<crc32>`: the prefix lets scanners of code and logs find a key, the id finds its row, and the
checksum tells a key that was mistyped or cut off without a look at the database. The secret has 190 random bits, so a
plain SHA-256 of the text is as good as a slow hash. Rows are never deleted: if the last one could go, the service would
be open again.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import string
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from chainrule_service.database import METADATA, Database, DatabaseUnavailable
from chainrule_service.settings import LIMITS

#: What a key may be for.
SCOPES: Mapping[str, str] = {
    "evaluate": "evaluate, differentiate, draw and check graphs",
    "jobs": "submit jobs, and see, cancel and delete its own",
    "grade": "grade answers, and draw exercises",
    "staff": "see expected values and hidden checks in what it grades; regrade, list, delete; check exercises",
}
#: The limits that a key may have values of its own for.
OWN_LIMITS = ("requests_per_minute", "work_per_day", "concurrent_jobs")

_KEY = re.compile(r"(cr_live_([0-9a-f]{16})_[0-9A-Za-z]{32})_([0-9a-f]{8})", re.ASCII)
_BASE62 = string.digits + string.ascii_letters
_FRESH = 0.5  # seconds for which a row is believed: a key that is revoked is refused that soon
_COARSE = 3600  # seconds within which the last use is not written again
_NOBODY = "0" * 64
_log = logging.getLogger(__name__)

API_KEYS = sql.Table(
    "api_keys",
    METADATA,
    sql.Column("id", sql.String(16), primary_key=True),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("name", sql.String(200), nullable=False),
    sql.Column("scopes", sql.String(200), nullable=False),  # words with a space between them
    # Seconds since the epoch.
    sql.Column("created_at", sql.Double, nullable=False),
    sql.Column("expires_at", sql.Double),
    sql.Column("revoked_at", sql.Double),
    sql.Column("used_at", sql.Double),  # the last use, to within an hour
    *(sql.Column(name, sql.BigInteger) for name in OWN_LIMITS),  # NULL: as in the settings
)


class KeyRefused(Exception):
    """A key is not good; the message says why, as far as a stranger may know."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret; times are seconds since the epoch, `limits` its own ones."""

    id: str
    name: str
    scopes: tuple[str, ...]
    limits: Mapping[str, int]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the key as JSON has it."""
        times = {
            name: None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for name in ("created_at", "expires_at", "revoked_at", "used_at")
            for moment in (getattr(self, name),)
        }
        return {"id": self.id, "name": self.name, "scopes": list(self.scopes), "limits": dict(self.limits)} | times


class Keys:
    """Makes, lists, revokes and checks keys; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, tuple[float, str, Key]] = {}  # id → when it was read, digest, key; good ones alone

    def create(
        self, name: str, scopes: Iterable[str], *, days: float | None = None, limits: Mapping[str, int] | None = None
    ) -> tuple[Key, str]:
        """Make a key, and return it and its text, which nobody can find out afterwards.

        Args:
            name: who or what it is for.
            scopes: words of SCOPES.
            days: how long it is good; None is for ever.
            limits: its own values for some of OWN_LIMITS.

        Raises:
            ValueError: something is not as described.
        """
        wanted, own = set(scopes), dict(limits or {})
        if not (name.isprintable() and 0 < len(name) <= 200):
            raise ValueError("the name must have 1 to 200 characters, all printable")
        if not wanted or wanted - SCOPES.keys():
            strange = f"there is no scope {min(wanted - SCOPES.keys())!r}" if wanted else "a key needs a scope"
            raise ValueError(f"{strange}; the scopes are {', '.join(SCOPES)}")
        if days is not None and not 0 < days <= 36_500:
            raise ValueError("days must be above 0 and at most 36,500")
        for limit, number in own.items():
            if limit not in OWN_LIMITS:
                raise ValueError(f"a key has no limit {limit!r}; it may have {', '.join(OWN_LIMITS)}")
            LIMITS[limit].check(number)
        key_id = secrets.token_hex(8)
        body = f"cr_live_{key_id}_{''.join(secrets.choice(_BASE62) for _ in range(32))}"
        text = f"{body}_{_checksum(body)}"
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            row = {
                "id": key_id, "digest": _digest(text), "name": name, "created_at": now,
                "scopes": " ".join(scope for scope in SCOPES if scope in wanted),
                "expires_at": None if days is None else now + days * 86_400,
            }  # fmt: skip
            made = connection.execute(sql.insert(API_KEYS).values(row | own).returning(API_KEYS)).mappings().one()
        return _key(made), text

    def listed(self) -> list[Key]:
        """Return all keys, the oldest first."""
        with self._database.transaction(reads=True) as connection:
            rows = connection.execute(sql.select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id))
            return [_key(row) for row in rows.mappings()]

    def revoke(self, key_id: str) -> Key | None:
        """End a key, and return it; None if there is none of this id. All processes refuse it within a second."""
        this = API_KEYS.c.id == key_id
        with self._database.transaction() as connection:
            values = {"revoked_at": sql.func.coalesce(API_KEYS.c.revoked_at, self._database.now(connection))}
            changed = connection.execute(sql.update(API_KEYS).where(this).values(values).returning(API_KEYS))
            row = changed.mappings().first()
        self._seen.pop(key_id, None)
        return _key(row) if row else None

    def exist(self) -> bool:
        """Tell whether a key was ever made, whatever has become of it."""
        with self._database.transaction(reads=True) as connection:
            return connection.execute(sql.select(API_KEYS.c.id).limit(1)).first() is not None

    def check(self, text: str) -> Key:
        """Return the key that has this text.

        Raises:
            KeyRefused: there is none, or it is good no more.
        """
        parts = _KEY.fullmatch(text)
        if not parts or _checksum(parts[1]) != parts[3]:
            raise KeyRefused("this is no API key, or not all of one: it begins with cr_ and ends in a checksum")
        read_at, digest, key = self._seen.get(parts[2]) or (0.0, _NOBODY, None)
        now = time.monotonic()
        fresh = key is not None and now < read_at + _FRESH
        if not fresh:
            digest, key = self._look_up(parts[2])
        # A key that is not there costs a comparison too.
        if not hmac.compare_digest(_digest(text), digest) or key is None:
            raise KeyRefused("there is no such API key")
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time.time()):
            self._seen.pop(key.id, None)
            raise KeyRefused(f"this API key {'has been revoked' if key.revoked_at else 'has expired'}; ask for another")
        if not fresh:
            self._seen[key.id] = (now, digest, key)
            self._note_use(key)
        return key

    def _look_up(self, key_id: str) -> tuple[str, Key | None]:
        with self._database.transaction(reads=True) as connection:
            row = connection.execute(sql.select(API_KEYS).where(API_KEYS.c.id == key_id)).mappings().first()
        return (row["digest"], _key(row)) if row else (_NOBODY, None)

    def _note_use(self, key: Key) -> None:
        """Write down, now and then, that a key is in use; where that fails, it is logged and nothing more."""
        now = time.time()
        if key.used_at is not None and abs(now - key.used_at) < _COARSE:
            return
        try:
            with self._database.transaction(durable=False) as connection:
                connection.execute(sql.update(API_KEYS).where(API_KEYS.c.id == key.id).values(used_at=now))
        except DatabaseUnavailable:
            _log.warning("the use of API key %s could not be recorded", key.id, exc_info=True)


def _key(row: Any) -> Key:
    limits = {name: row[name] for name in OWN_LIMITS if row[name] is not None}
    times = {name: row[name] for name in ("created_at", "expires_at", "revoked_at", "used_at")}
    return Key(row["id"], row["name"], tuple(row["scopes"].split()), limits, **times)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
