"""Reading what a task says, field by field; every fault is collected with the path of its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import quote

from chainrule_engine.errors import MAX_PROBLEMS, InvalidInput, Path, Problem
from chainrule_engine.graph import describe, read_number
from chainrule_engine.refusals import closest

#: Names, titles and keys are no longer than this: that of a check may hold two ids of a graph.
MAX_TEXT = 500


class TaskError(InvalidInput):
    """A task breaks a rule."""


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer in a URI fragment (RFC 6901, section 6)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join("/" + quote(step, safe="!$&'()*+,;=:@~", errors="replace") for step in steps)


class Reader:
    """Reads the fields of an object that came from outside; collects the problems on the way.

    What cannot be read comes back as None, or as a harmless value of its type: whoever goes on may find more.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, path: Path, detail: str) -> None:
        """Note a problem; raises TaskError when there are too many to go on."""
        self.problems.append(Problem(path, detail))
        if len(self.problems) >= MAX_PROBLEMS:
            self.stop_if_wrong()

    def problems_under(self, path: Path, error: InvalidInput) -> None:
        """Note the problems of something that another reader has refused."""
        for found in error.under(*path).problems:
            self.problem(found.path, found.detail)

    def stop_if_wrong(self) -> None:
        """Raise TaskError if something was wrong so far."""
        if self.problems:
            raise TaskError(self.problems)

    def mapping(self, data: object, path: Path, fields: Collection[str], what: str) -> dict[str, Any]:
        """Return an object that has no other fields than these; an empty one where it is none."""
        if not isinstance(data, dict):
            self.problem(path, f"{what} is an object, and this is {describe(data)}")
            return {}
        for name in sorted((name for name in data if name not in fields), key=str):
            hint = closest(name, fields) if isinstance(name, str) else ""
            self.problem((*path, str(name)), f"unknown field{hint}: {what} has {', '.join(fields)}")
        return data

    def items(self, data: object, path: Path, what: str, *, least: int = 0, most: int) -> Iterable[tuple[Path, Any]]:
        """Return the items of a list with their paths; none where it is no list."""
        if not isinstance(data, list):
            self.problem(path, f"{what}: a list is needed here, and this is {describe(data)}")
        elif len(data) < least:
            self.problem(path, f"{what}: there must be {least} at least")
        elif len(data) > most:
            self.problem(path, f"{what}: {most:,} at most, and these are {len(data):,}")
        else:
            return [((*path, place), item) for place, item in enumerate(data)]
        return []

    def text(self, data: object, path: Path, what: str, most: int = MAX_TEXT) -> str:
        """Return some printable characters, 1 at least; an empty text where it is none."""
        if not isinstance(data, str):
            self.problem(path, f"{what} is a string, and this is {describe(data)}")
        elif not 0 < len(data) <= most or not data.isprintable():
            self.problem(path, f"{what} has 1 to {most} printable characters")
        else:
            return data
        return ""

    def choice(self, data: object, path: Path, choices: Collection[str]) -> str | None:
        """Return one of the words, None where it is none of them."""
        if isinstance(data, str) and data in choices:
            return data
        hint = closest(data, choices) if isinstance(data, str) else ""
        self.problem(path, f"choose one of {', '.join(choices)}{hint}")
        return None

    def flag(self, data: object, path: Path) -> bool:
        """Return true or false."""
        if not isinstance(data, bool):
            self.problem(path, f"this is true or false, not {describe(data)}")
        return data is True

    def number(
        self,
        data: object,
        path: Path,
        *,
        least: float | None = None,
        above: float | None = None,
        most: float | None = None,
        below: float | None = None,
        whole: bool = False,
    ) -> float | None:
        """Return a finite number within bounds, None where it is none."""
        number = read_number(data)
        if isinstance(number, str):
            self.problem(path, number)
            return None
        if least is not None and number < least:
            self.problem(path, f"this is {least} at least")
        elif above is not None and number <= above:
            self.problem(path, f"this is more than {above}")
        elif below is not None and number >= below:
            self.problem(path, f"this is less than {below}")
        elif most is not None and number > most:
            self.problem(path, f"this is {most} at most")
        elif whole and number != int(number):
            self.problem(path, "this is a whole number")
        else:
            return number
        return None
