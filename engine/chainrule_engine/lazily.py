"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - it reads like `property`
    """`functools.cached_property` without the lock that, up to Python 3.11, all instances of a class share.

    While one thread computes, others may compute the attributes of other instances; of the same, twice, which is no
    harm where the result is the same.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        # The instance's own attribute, once it is there, comes before this.
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
