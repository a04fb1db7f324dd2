"""What a format is, what it is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chainrule_engine.errors import InvalidInput
from chainrule_engine.grading import PHASES
from chainrule_engine.refusals import closest
from chainrule_engine.rendering.view import View

JSON, TEXT, XML = "application/json", "text/plain; charset=utf-8", "application/xml; charset=utf-8"


class RenderingError(InvalidInput):
    """What is asked of a rendering does not exist or does not fit."""


@dataclass(frozen=True)
class Rendering:
    """A report as one platform reads it.

    content_type   of the text
    text           empty where the platform is told by the status alone
    exit_status    of the process that hands the text over; not 0 says that the grader failed, not the student
    http_status    where the platform asks over HTTP
    """

    content_type: str
    text: str
    exit_status: int = 0
    http_status: int = 200


@dataclass(frozen=True)
class Option:
    """Something that a format can be told.

    kind          str or int; an int may also come as decimal text, as a command line and a query string have it
    default       None: what the description says
    required      there is no default
    least         of an int
    choices       of a str
    environment   the variable in which the platform tells a grader this; whoever starts the grader reads it
    now           left out, it is the time in UTC, which whoever starts the grader says: a renderer has no clock
    """

    name: str
    kind: type[str] | type[int]
    description: str
    default: str | int | None = None
    required: bool = False
    least: int = 1
    choices: tuple[str, ...] = ()
    environment: str | None = None
    now: bool = False

    def read(self, value: object) -> str | int:
        """Return the value as the kind has it. Raises RenderingError for anything else."""
        path = ("options", self.name)
        if self.kind is int:
            if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9:
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and value >= self.least:
                return value
            raise RenderingError.at(path, f"must be a whole number, at least {self.least}")
        if not isinstance(value, str):
            raise RenderingError.at(path, "must be text")
        if self.choices and value not in self.choices:
            raise RenderingError.at(path, f"must be one of {', '.join(self.choices)}")
        return value


PHASE = Option(
    "phase", str, "what students may see by now: checks are visible, after_due_date or after_published",
    default="open", choices=tuple(PHASES),
)  # fmt: skip

#: Of formats that have a place which students do not see.
REASON = Option("reason", str, "why nothing was graded, for the staff; the command says it by itself")


@dataclass(frozen=True)
class Format:
    """A platform's form of a report.

    write         the function that writes it, of what the report says to students and of all options
    description   which platform, and what of it
    target        where the platform looks for the text
    options       what `write` can be told besides the phase
    silent        a word on standard error is taken for a crash of the grader; staff is told in the option REASON
    """

    write: Callable[[View, Mapping[str, Any]], Rendering]
    description: str
    target: str
    options: tuple[Option, ...] = ()
    silent: bool = False

    def settle(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Return a value for each option. Raises RenderingError for one that is unknown, wrong or missing."""
        known = {option.name: option for option in (PHASE, *self.options)}
        for name in given:
            if name not in known:
                hint = closest(name, known) or f": there are {', '.join(known)}"
                raise RenderingError.at(("options", name), f"this format has no such option{hint}")
        for name, option in known.items():
            if option.required and given.get(name) is None:
                raise RenderingError.at(("options", name), f"is missing: {option.description}")
        return {
            name: option.default if given.get(name) is None else option.read(given[name])
            for name, option in known.items()
        }
