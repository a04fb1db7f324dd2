"""Who may do what, and how much of it: the key of a request, its scopes and its quotas.

The service is open while no key was ever made, on an address that this machine alone reaches (or one that is said to be
private). As soon as there is a key, every path that is not public needs one.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.errors import LimitExceeded
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.keys import Key, KeyRefused, Keys
from chainrule_service.problems import RequestError
from chainrule_service.rates import Policy, QuotaExceeded, Rates, Standing
from chainrule_service.settings import Settings

_OPEN_SECONDS = 0.5  # for which an open service does not look whether there is a key by now
_FAILURES = Policy("failures", 20, 60)  # requests with keys that are not good, from one address
_ADDRESSES = 10_000  # at most so many are remembered; after them the one that failed the longest ago is forgotten

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: a key, and where it stands with each quota that the request has used."""

    key: Key
    standings: dict[str, Standing] = field(default_factory=dict)  # by the name of the policy

    def headers(self) -> dict[str, str]:
        """Return the headers that tell of the quotas (draft-ietf-httpapi-ratelimit-headers-10)."""
        standings = self.standings.values()
        policies = (s.policy for s in standings)
        return {
            "RateLimit-Policy": ", ".join(f'"{policy.name}";q={policy.quota};w={policy.window}' for policy in policies),
            "RateLimit": ", ".join(f'"{s.policy.name}";r={s.left};t={s.seconds}' for s in standings),
        }

    def demand(self, scope: str, what: str = "this path") -> None:
        """Refuse what the key is not for.

        Raises:
            RequestError: it lacks the scope, which `what` needs (403).
        """
        if scope not in self.key.scopes:
            detail = f"this API key lacks the scope {scope!r} that {what} needs; it has {', '.join(self.key.scopes)}"
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            headers, members = {"WWW-Authenticate": challenge}, {"scope": scope}
            raise RequestError("forbidden", detail, headers=headers, members=members)


class Access:
    """Lets requests in.

    Args:
        settings: the limits of keys that have none of their own, and the address.
        keys: None where there can be none.
        rates: the quotas of keys.
    """

    def __init__(self, settings: Settings, keys: Keys | None, rates: Rates) -> None:
        self._settings, self._keys, self._rates = settings, keys, rates
        self._failures = _Failures()
        self._open = False
        self._look_at = 0.0

    def is_open(self) -> bool:
        """Tell whether nobody needs a key.

        Raises:
            DatabaseUnavailable: that cannot be found out.
        """
        if time.monotonic() >= self._look_at:
            self._look()
        return self._open

    def _look(self) -> None:
        if self._keys is None:
            self._open, self._look_at = self._settings.private, math.inf
            return
        try:
            closed = self._keys.exist()
        except DatabaseUnavailable:
            if not self._open:
                raise
            # Nobody can make a key either.
            _log.warning("whether there is an API key cannot be found out now; there was none", exc_info=True)
            closed = False
        # There are never less keys than before, so a service that needs them needs no look.
        self._open = self._settings.private and not closed
        self._look_at = math.inf if closed else time.monotonic() + _OPEN_SECONDS

    def authenticate(self, environ: Mapping[str, Any]) -> Caller:
        """Return who sends a request that needs a key.

        Raises:
            RequestError: the key is missing or not good (401), or too many such came from there (429).
            DatabaseUnavailable: the key cannot be looked up.
        """
        scheme, _, text = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        if self._keys is None or scheme.lower() != "bearer":
            detail = "this service asks for an API key: send the header Authorization: Bearer cr_..."
            raise RequestError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        try:
            return Caller(self._keys.check(text.strip()))
        except KeyRefused as error:
            # Only what failed is held up: behind one proxy there are good keys and bad ones.
            if wait := self._failures.count(environ.get("REMOTE_ADDR", "")):
                detail = "too many requests came from this address with API keys that are not good"
                raise QuotaRefused(Standing(_FAILURES, 0, wait), detail) from None
            challenge = 'Bearer error="invalid_token"'
            raise RequestError("unauthorized", str(error), headers={"WWW-Authenticate": challenge}) from None

    def authorise(self, caller: Caller, scope: str) -> None:
        """Count a request, and refuse what its key is not for.

        Raises:
            RequestError: the key's requests are used up (429), or it lacks the scope (403).
        """
        self._take(caller, "requests", "requests_per_minute", 60, 1)
        caller.demand(scope)

    def charge(self, caller: Caller, work: int) -> None:
        """Count work that is going to be done.

        Raises:
            QuotaRefused: less is left of the key's day (429).
            LimitExceeded: it is more than the key's whole day (422).
        """
        self._take(caller, "work", "work_per_day", 86_400, max(work, 1))

    def give_back(self, caller: Caller, work: int) -> None:
        """Take back that work was counted, by a `charge` of this request."""
        policy = caller.standings["work"].policy
        caller.standings["work"] = self._rates.give_back(caller.key.id, policy, max(work, 1))

    def _take(self, caller: Caller, name: str, limit: str, window: int, amount: int) -> None:
        quota = caller.key.limits.get(limit) or self._settings.limits[limit]
        if amount > quota:
            raise LimitExceeded(limit, quota, amount, (), "send less, or ask for an API key that may do more")
        try:
            caller.standings[name] = self._rates.take(caller.key.id, Policy(name, quota, window), amount)
        except QuotaExceeded as error:
            caller.standings[name] = error.standing
            detail = f"this takes {amount:,} of the API key's {name}, and {error.standing.left:,} of {quota:,} are left"
            raise QuotaRefused(error.standing, detail) from None


class QuotaRefused(RequestError):
    """A refusal (429) because a quota is used up."""

    def __init__(self, standing: Standing, detail: str) -> None:
        after = str(standing.seconds)
        super().__init__(
            "quota-exceeded",
            f"{detail}; try again in {after} s",
            headers={"Retry-After": after},
            members={"violated-policies": [standing.policy.name]},
        )


class _Failures:
    """Counts the keys that were not good by address, in this process: a bucket for each, as in `rates`."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()
        self._each = _FAILURES.window / _FAILURES.quota  # seconds until one is forgiven

    def count(self, address: str) -> int:
        """Count one more, unless there were too many: then return the seconds to wait, otherwise 0."""
        network, now = _network(address), time.monotonic()
        with self._lock:
            full_at = max(self._full_at.pop(network, 0.0), now) + self._each
            wait = max(math.ceil(full_at - now - _FAILURES.window), 0)
            self._full_at[network] = full_at - self._each if wait else full_at
            if len(self._full_at) > _ADDRESSES:
                self._full_at.popitem(last=False)
        return wait


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6, a network that one customer has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
