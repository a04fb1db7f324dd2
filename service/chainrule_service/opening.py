"""The jobs table, opened: by every process of the service in the same way."""

from __future__ import annotations

from chainrule_service import webhooks
from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import Store


def open_store(settings: Settings, patience: float = 30, *, upgrades: bool = True) -> Store:
    """Return the store that the settings name, whose jobs tell of their end where webhooks are on.

    Every process of the service opens its store here: one that did not would end jobs in silence.

    Args:
        settings: the service's.
        patience: the seconds to wait for another process that writes.
        upgrades: whether a file is made or upgraded when it is opened.
    """
    database = Database(settings.database, patience, upgrades=upgrades)
    return Store(database, settings, webhooks.jobs_ended if settings.webhooks else None)
