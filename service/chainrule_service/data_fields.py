"""Fields for what may be long: numbers, rows, columns, graphs.

Each is read in one pass of our own: marshmallow's nested fields cost some 20 µs for every item that they visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, Problem
from chainrule_engine.graph import Graph, describe, finite_numbers, read_number, wrong_numbers
from chainrule_service.exchange import service
from chainrule_service.fields import REF, Field, read_each, refuse
from chainrule_service.settings import Settings

_SETTINGS: ContextVar[Settings | None] = ContextVar("settings", default=None)


@contextmanager
def reading_under(settings: Settings) -> Iterator[None]:
    """Have graphs read within the limits of these settings, where no application has any."""
    token = _SETTINGS.set(settings)
    try:
        yield
    finally:
        _SETTINGS.reset(token)


def read_numbers(value: Any) -> list[float]:
    """Read a list of finite numbers, as floats.

    Raises:
        InvalidInput: it is something else.
    """
    if type(value) is not list:
        raise refuse(f"a list of numbers is needed here, and this is {describe(value)}")
    numbers = finite_numbers(value)
    if numbers is None:
        raise InvalidInput(islice(wrong_numbers(value), MAX_PROBLEMS))
    return numbers


class Numbers(Field):
    """A list of finite numbers, as floats."""

    json_schema: Mapping[str, Any] = {"type": "array", "items": {"type": "number"}}

    def read(self, value: Any) -> list[float]:
        """Return floats."""
        return read_numbers(value)


class Matrix(Field):
    """A list of rows of finite numbers, all of one length."""

    json_schema: Mapping[str, Any] = {"type": "array", "minItems": 1, "items": Numbers.json_schema}

    def read(self, value: Any) -> list[list[float]]:
        """Return lists of floats."""
        if type(value) is not list or not value:
            what = "empty" if value == [] else describe(value)
            raise refuse(f"a list of rows, each a list of numbers, is needed here, and this is {what}")
        rows = read_each(read_numbers, enumerate(value))
        width = len(rows[0])
        problems = [
            Problem((position,), f"this row has {len(row)} numbers, and the first one has {width}")
            for position, row in enumerate(rows)
            if len(row) != width
        ]
        if problems:
            raise InvalidInput(problems)
        return rows


class Rows(Field):
    """A list whose items are finite numbers or lists of them."""

    json_schema: Mapping[str, Any] = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [{"type": "number"}, Numbers.json_schema]},
    }

    def read(self, value: Any) -> list[Any]:
        """Return floats, or lists of them."""
        if type(value) is not list or not value:
            what = "empty" if value == [] else describe(value)
            raise refuse(f"a list of numbers, or of lists of numbers, is needed here, and this is {what}")
        if list in map(type, value):
            return read_each(_number_or_numbers, enumerate(value))
        return read_numbers(value)


def _number_or_numbers(value: Any) -> float | list[float]:
    if type(value) is list:
        return read_numbers(value)
    number = read_number(value)
    if isinstance(number, str):
        raise refuse(number)
    return number


class Columns(Field):
    """An object of lists of finite numbers by name, all of one length."""

    json_schema: Mapping[str, Any] = {"type": "object", "additionalProperties": Numbers.json_schema}

    def read(self, value: Any) -> dict[str, list[float]]:
        """Return lists of floats by name."""
        if type(value) is not dict:
            raise refuse(f"an object of lists of numbers is needed here, and this is {describe(value)}")
        columns = dict(zip(value, read_each(read_numbers, value.items()), strict=True))
        length = len(next(iter(columns.values()), []))
        problems = [
            Problem((name,), f"this list has {len(column)} numbers, and the first one has {length}")
            for name, column in columns.items()
            if len(column) != length
        ]
        if problems:
            raise InvalidInput(problems)
        return columns


class Seeds(Field):
    """An object of numbers, or of lists of numbers, by output id; the engine compares them with the graph."""

    json_schema: Mapping[str, Any] = {
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "number"}, Numbers.json_schema]},
    }
    owner = "output"

    def read(self, value: Any) -> Mapping[str, Any]:
        """Return the object as it is."""
        if type(value) is not dict:
            raise refuse(f"an object of numbers by {self.owner} id is needed here, and this is {describe(value)}")
        return value


class Tangent(Seeds):
    """The same by input id."""

    owner = "input"


class GraphField(Field):
    """A computation graph, as the engine's `Graph`."""

    json_schema: Mapping[str, Any] = {"$ref": REF + "Graph"}

    def read(self, value: Any) -> Graph:
        """Return a graph within the limits of this server."""
        limits = (_SETTINGS.get() or service().settings).limits
        return Graph.from_dict(value, max_nodes=limits["nodes"], max_points=limits["points"])
