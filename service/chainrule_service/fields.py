"""Fields of requests: strict about JSON types, and able to describe themselves in JSON Schema.

They are marshmallow's in what they declare, which is what the description is written from. They are read by code of our
own: marshmallow's fields are lenient (its Float reads "3.5" and true, its Boolean "yes"), and its way through a schema
takes as long as the evaluation of a small graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, TypeVar

from marshmallow import Schema, fields, missing

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, LimitExceeded, Path, Problem
from chainrule_engine.graph import describe, read_number
from chainrule_engine.refusals import closest
from chainrule_service.jsonio import Place

JsonSchema = dict[str, Any]
Item = TypeVar("Item")
REF = "#/components/schemas/"


class Envelope(Schema):
    """The base of every request's schema: an object that refuses what it does not know."""

    #: Where in the object students' answers may be, which `jsonio` reads less strictly.
    answer_places: ClassVar[Sequence[Place]] = ()

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return what the fields read, in their order; one that may be left out and was has its default, if any.

        Raises:
            InvalidInput, LimitExceeded: something breaks a rule; paths are relative to the object.
        """
        if type(data) is not dict:
            raise refuse(f"an object with {', '.join(self.fields)} is needed here")
        loaded: dict[str, Any] = {}
        problems: list[Problem] = []
        known = 0
        for name, field in self.fields.items():
            value = data.get(name, missing)
            if value is missing:
                if field.required:
                    problems.append(Problem((name,), "this field is missing"))
                elif field.load_default is not missing:
                    default = field.load_default
                    loaded[name] = default() if callable(default) else default
                continue
            known += 1
            if value is None:
                if field.allow_none:
                    loaded[name] = None
                else:
                    problems.append(Problem((name,), "null is not allowed here; leave the field out instead"))
                continue
            try:
                loaded[name] = field.read(value)  # type: ignore[attr-defined]  # all are of the class below
            except InvalidInput as error:
                problems.extend(error.under(name).problems)
            except LimitExceeded as error:
                raise error.under(name) from None
        if known < len(data):
            detail = f"unknown field: the fields here are {', '.join(self.fields)}"
            unknown = (name for name in data if name not in self.fields)
            problems.extend(Problem((name,), detail) for name in islice(unknown, MAX_PROBLEMS))
        if problems:
            raise InvalidInput(problems)
        return loaded


class Field(fields.Field[Any]):
    """A field that knows its JSON Schema; a subclass says in `read` what a value is."""

    json_schema: Mapping[str, Any]

    def __init__(self, description: str = "", **options: Any) -> None:
        if description:
            options.setdefault("metadata", {"description": description})
        super().__init__(**options)

    def read(self, value: Any) -> Any:
        """Return what `value` stands for.

        Raises:
            InvalidInput, LimitExceeded: it breaks a rule; paths are relative to the value.
        """
        raise NotImplementedError


def refuse(detail: str, path: Path = ()) -> InvalidInput:
    """Return the error that says `detail`."""
    return InvalidInput([Problem(path, detail)])


class Number(Field):
    """A finite number, as a float. `above` and `below` are excluded, `least` and `most` included."""

    def __init__(
        self,
        description: str = "",
        *,
        least: float | None = None,
        most: float | None = None,
        above: float | None = None,
        below: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(description, **options)
        self.rules: list[tuple[str, str, float, Callable[[float, float], bool]]] = []
        for keyword, words, bound, holds in (
            ("minimum", "at least", least, float.__ge__),
            ("exclusiveMinimum", "above", above, float.__gt__),
            ("maximum", "at most", most, float.__le__),
            ("exclusiveMaximum", "below", below, float.__lt__),
        ):
            if bound is not None:
                self.rules.append((keyword, words, float(bound), holds))
        self.json_schema = {"type": "number"} | {keyword: bound for keyword, _, bound, _ in self.rules}

    def read(self, value: Any) -> float:
        number = read_number(value)
        if isinstance(number, str):
            raise refuse(number)
        if all(holds(number, bound) for *_, bound, holds in self.rules):
            return number
        wanted = " and ".join(f"{words} {bound:g}" for _, words, bound, _ in self.rules)
        raise refuse(f"this must be {wanted}, and is {number:g}")


class WholeNumber(Field):
    """A whole number from `least` to `most`, written without a decimal point."""

    def __init__(self, description: str = "", *, least: int, most: int = 2**53, **options: Any) -> None:
        super().__init__(description, **options)
        self.least, self.most = least, most
        self.json_schema = {"type": "integer", "minimum": least, "maximum": most}

    def read(self, value: Any) -> int:
        if type(value) is not int:
            what = f"the number {value:.15g}" if type(value) is float else describe(value)
            exact = type(value) is float and value.is_integer() and abs(value) <= 2**53
            hint = f"; write {int(value)}" if exact else ""
            raise refuse(f"a whole number, without a decimal point, is needed here, and this is {what}{hint}")
        if not self.least <= value <= self.most:
            upper = f" to {self.most:,}" if self.most < 2**53 else " up"
            raise refuse(f"this must be a whole number from {self.least:,}{upper}, and is {value:,}")
        return value


class Flag(Field):
    """true or false."""

    json_schema: Mapping[str, Any] = {"type": "boolean"}

    def read(self, value: Any) -> bool:
        if type(value) is not bool:
            raise refuse(f"true or false is needed here, and this is {describe(value)}")
        return value


class Text(Field):
    """A string, perhaps no longer than `most` characters."""

    def __init__(self, description: str = "", *, most: int = 200, **options: Any) -> None:
        super().__init__(description, **options)
        self.most = most
        self.json_schema = {"type": "string", "minLength": 1, "maxLength": most}

    def read(self, value: Any) -> str:
        if type(value) is not str or not 0 < len(value) <= self.most:
            what = f"one of {len(value):,}" if type(value) is str else describe(value)
            raise refuse(f"a string of 1 to {self.most} characters is needed here, and this is {what}")
        return value


class Choice(Field):
    """One of some words."""

    def __init__(self, words: Collection[str], description: str = "", **options: Any) -> None:
        super().__init__(description, **options)
        self.words = tuple(words)
        self.json_schema = {"type": "string", "enum": list(self.words)}

    def read(self, value: Any) -> str:
        if type(value) is str and value in self.words:
            return value
        what = f"{value[:60]!r}{closest(value, self.words)}" if type(value) is str else describe(value)
        raise refuse(f"this must be one of {', '.join(self.words)}, and is {what}")


class ListOf(Field):
    """A list of `least` to `most` items, all of them different if they must be `distinct`."""

    def __init__(
        self,
        item: Field,
        description: str = "",
        *,
        least: int = 0,
        most: int | None = None,
        distinct: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(description, **options)
        self.item, self.least, self.most, self.distinct = item, least, most, distinct
        self.json_schema = {"type": "array", "items": item.json_schema, "minItems": least}
        if most is not None:
            self.json_schema["maxItems"] = most
        if distinct:
            self.json_schema["uniqueItems"] = True

    def read(self, value: Any) -> list[Any]:
        if type(value) is not list:
            raise refuse(f"a list is needed here, and this is {describe(value)}")
        if self.distinct:
            for place, item in enumerate(value[: MAX_PROBLEMS + 1]):
                if item in value[:place]:
                    raise refuse(f"{str(item)[:60]} is listed twice", (place,))
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            wanted = f"at least {self.least:,}" if self.most is None else f"{self.least:,} to {self.most:,}"
            raise refuse(f"the list here has {len(value):,} items: give {wanted}")
        return read_each(self.item.read, enumerate(value))


class OneOrList(Field):
    """One item, or a list of 1 to `most` items."""

    def __init__(self, item: Field, description: str = "", *, most: int, **options: Any) -> None:
        super().__init__(description, **options)
        self.item, self.list = item, ListOf(item, least=1, most=most)
        self.json_schema = {"anyOf": [item.json_schema, self.list.json_schema]}

    def read(self, value: Any) -> Any:
        return self.list.read(value) if type(value) is list else self.item.read(value)


def read_each(read: Callable[[Any], Item], items: Iterable[tuple[str | int, Any]]) -> list[Item]:
    """Read each of some items that have a key or a position.

    Raises:
        InvalidInput: some are wrong; it holds the problems of all, or the first of very many.
    """
    done: list[Item] = []
    problems: list[Problem] = []
    for key, value in items:
        try:
            done.append(read(value))
        except InvalidInput as error:
            problems.extend(error.under(key).problems)
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise InvalidInput(problems)
    return done


class Object(Field):
    """An object with a schema of its own, which must be among the named schemas of the description."""

    def __init__(self, schema: type[Envelope], description: str = "", **options: Any) -> None:
        super().__init__(description, **options)
        self.schema = schema()
        self.json_schema = {"$ref": REF + schema.__name__}

    def read(self, value: Any) -> dict[str, Any]:
        return self.schema.load(value)


class Raw(Field):
    """Whatever JSON there is, for something else to read; `json_schema` describes it."""

    def __init__(self, json_schema: Mapping[str, Any], description: str = "", **options: Any) -> None:
        super().__init__(description, **options)
        self.json_schema = json_schema

    def read(self, value: Any) -> Any:
        return value


class RawObject(Raw):
    """Whatever JSON object there is, for something else to read."""

    def read(self, value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise refuse(f"an object is needed here, and this is {describe(value)}")
        return value
