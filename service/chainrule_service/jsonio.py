"""JSON as the wire has it: strict in what is read, exact in what is written.

Read: UTF-8; finite doubles; integers that a double holds exactly; each key once; no deeper than a limit; text that
can be written again. Written: numbers that are not finite are the strings "NaN", "Infinity" and "-Infinity".

msgspec reads and writes. What it refuses, or might have let pass against these rules, the standard library's decoder
reads once more, with hooks that see each member and number, and words the error.

The answers of a student, of whom there may be many in one body, are no fault of whoever sends them: where a body may
hold some, integers of any size are numbers there, and what breaks a rule otherwise leaves words in the place of the
answers that say so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import msgspec

from chainrule_engine.errors import MAX_PROBLEMS, Path, Problem
from chainrule_engine.grading.answers import UNREADABLE

#: The integers up to here are exact in a double; beyond, a reader could get another number than the one written.
MAX_INTEGER = 2**53

#: The way to answers in a body: names of members, and None for each item of a list.
Place = tuple[str | None, ...]
#: Answers are nested less deeply than a body by so much, wherever in it they are.
AROUND = 2

_SURROGATE = re.compile("[\ud800-\udfff]")
_MINUS_ZERO = re.compile(rb"-0(?![.0-9eE])")
#: So many values are looked at together: they stay in the processor's cache from one look to the next.
_BLOCK = 1024
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


class MalformedJSON(ValueError):
    """The text is not JSON, or is JSON that two readers could understand differently; `problems` says where."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(problem.detail for problem in problems))


def loads(raw: bytes, *, max_depth: int = 32, answers: Sequence[Place] = ()) -> Any:
    """Read JSON.

    Args:
        raw: the text.
        max_depth: how many lists and objects may be inside each other.
        answers: where students' answers may be.

    Raises:
        MalformedJSON: the text breaks a rule of this module.
    """
    try:
        data = _read(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _loads_with_care(raw, max_depth=max_depth, answers=answers)
    # What is as deep as answers may be is surely not deeper where they are.
    if _is_beyond_doubt(data, raw, _inside(max_depth) if answers else max_depth):
        return data
    return _loads_with_care(raw, max_depth=max_depth, answers=answers)


def is_unreadable(answers: object) -> bool:
    """Tell whether answers that were read are the words that say why they cannot be."""
    return isinstance(answers, str) and answers.startswith(UNREADABLE)


def loads_answers(text: str, *, max_depth: int = 32) -> Any:
    """Return the answers that JSON text holds; words that say why, where they cannot be read."""
    if not text.strip():
        return f"{UNREADABLE}there is nothing in the answers"
    try:
        return _readable(_marked(text, max_depth), _inside(max_depth))
    except json.JSONDecodeError as error:
        return f"{UNREADABLE}the answers are not JSON: {_syntax(error)}"
    except RecursionError:
        return UNREADABLE + _answers_too_deep(_inside(max_depth))


def dumps(data: Any) -> str:
    """Write plain data as compact JSON text; floats are the shortest text that reads back to the same bits."""
    text = _write(data)
    if b"null" in text:  # what msgspec writes for a number that is not finite
        text = _write(finite(data))
    return text.decode()


def finite(data: Any) -> Any:
    """Return the data with every number that is not finite replaced by its string; what holds none is not copied."""
    if type(data) is float:
        if math.isfinite(data):
            return data
        return "NaN" if data != data else "Infinity" if data > 0 else "-Infinity"
    if isinstance(data, dict):
        return data if _are_finite(data.values()) else {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return data if _are_finite(data) else [finite(value) for value in data]
    return data


def _are_finite(items: Iterable[Any]) -> bool:
    """Tell whether all items are finite numbers, which is most of what there is to write."""
    try:
        return all(map(math.isfinite, items))
    except (TypeError, OverflowError):  # something else, or an integer beyond all doubles
        return False


def _is_beyond_doubt(data: Any, raw: bytes, max_depth: int) -> bool:
    """Tell whether data that msgspec has read keeps the rules that it does not know."""
    members, zero = 0, False
    blocks: list[tuple[int, list[Any]]] = [(0, [data])]
    while blocks:
        depth, block = blocks.pop()
        below: list[Any] = []
        for value in block:
            kind = type(value)
            if kind is dict:
                members += len(value)
                below += value.values()
            elif kind is list:
                below += value
            elif kind is int:
                if not -MAX_INTEGER <= value <= MAX_INTEGER:
                    return False
                zero = zero or not value
            else:
                continue
            if kind is not int and depth == max_depth:
                return False
        if len(below) <= _BLOCK:
            if below:
                blocks.append((depth + 1, below))
        else:
            blocks += [(depth + 1, below[low : low + _BLOCK]) for low in range(0, len(below), _BLOCK)]
    # A key that came twice left a colon behind that belongs to no member. A colon in a string makes a doubt as well.
    return raw.count(b":") == members and not (zero and _MINUS_ZERO.search(raw))


def _loads_with_care(raw: bytes, *, max_depth: int, answers: Sequence[Place] = ()) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8: byte {error.start} cannot be read") from None
    if not text.strip():
        raise _malformed("the body is empty; send JSON")
    found: list[tuple[dict[str, Any], str, Any]] = []
    try:
        if answers:
            data = _marked(text, max_depth)
            found = list(_taken_out(data, answers))
            if problems := _marks(data):
                raise MalformedJSON(*problems)
        else:
            data = _STRICT.decode(text)
    except _Refused:
        raise MalformedJSON(*_faults(text, max_depth)) from None
    except json.JSONDecodeError as error:
        raise _malformed(f"the body is not JSON: {_syntax(error)}") from None
    except RecursionError:
        raise _malformed(_too_deep(max_depth)) from None
    if raw.count(b"[") + raw.count(b"{") > max_depth:
        _check_depth(data, max_depth)
    if "\\u" in text and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise _malformed(f"the text holds {_HALF}")
    for holder, name, value in found:
        holder[name] = _readable(value, _inside(max_depth))
    return data


def _malformed(detail: str) -> MalformedJSON:
    return MalformedJSON(Problem((), detail))


def _syntax(error: json.JSONDecodeError) -> str:
    return f"{error.msg[:1].lower()}{error.msg[1:].removesuffix(' at')} at line {error.lineno}, column {error.colno}"


def _too_deep(max_depth: int) -> str:
    return f"the JSON is nested too deeply; at most {max_depth} levels are read"


def _check_depth(data: Any, max_depth: int) -> None:
    """Go down level by level: a recursive walk would itself be the victim."""
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > max_depth:
            raise _malformed(_too_deep(max_depth))
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]


# The decoder's hooks do not know where in the text they are. So the first reading only finds out that something is
# refused; a second one then leaves a mark in its place, and a walk over the result finds the path to each mark.


class _Refused(Exception):
    pass


class _Mark:
    """What is refused: in what words, the key that is meant, and among answers the words for it or its number."""

    def __init__(self, detail: str, key: str | None = None, *, told: str = "", number: float | None = None) -> None:
        self.detail, self.key, self.told, self.number = detail, key, told, number


def _decoder(mark: Any) -> json.JSONDecoder:
    def constant(name: str) -> Any:
        return mark(f"{name} is not JSON; numbers must be finite", told=f'{name} is not JSON; write it as "{name}"')

    def real(text: str) -> Any:
        number = float(text)
        if math.isfinite(number):
            return number
        return mark(f"{_short(text)} is too large for a double; its largest is about 1.8e308", told=_TOO_LARGE)

    def integer(text: str) -> Any:
        if len(text) <= 17 and abs(number := int(text)) <= MAX_INTEGER:
            return -0.0 if text == "-0" else number  # a Python integer has no sign of zero
        nearest = float(text)
        return mark(
            f"the integer {_short(text)} is beyond 2**53, where doubles skip integers; "
            "for a number write a decimal, such as 1e20, and a whole number must be smaller",
            told=_TOO_LARGE,
            number=nearest if math.isfinite(nearest) else None,
        )

    def members(pairs: list[tuple[str, Any]]) -> Any:
        mapping = dict(pairs)
        if len(mapping) == len(pairs):
            return mapping
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # None
        told = f"the name {double[:20]!r} appears twice in one object"
        return mark(f"the key {_short(double)!r} appears more than once in this object", double, told=told)

    return json.JSONDecoder(object_pairs_hook=members, parse_constant=constant, parse_float=real, parse_int=integer)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise _Refused


_STRICT, _MARKING = _decoder(_refuse), _decoder(_Mark)
_TOO_LARGE = "a number is too large for float64"
_HALF = "half of a surrogate pair (\\ud800 to \\udfff), which is no character"


def _faults(text: str, max_depth: int) -> list[Problem]:
    try:
        data = _MARKING.decode(text)
    except json.JSONDecodeError as error:  # something after the refused place is worse
        return [Problem((), f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]
    except RecursionError:
        return [Problem((), _too_deep(max_depth))]
    return _marks(data)


def _marks(data: Any) -> list[Problem]:
    """Return what is refused in data that was read with marks."""
    found: list[Problem] = []
    todo: list[tuple[Path, Any]] = [((), data)]
    while todo and len(found) < MAX_PROBLEMS:
        path, value = todo.pop()
        if isinstance(value, _Mark):
            found.append(Problem(path if value.key is None else (*path, value.key), value.detail))
        elif isinstance(value, dict):
            todo.extend(reversed([((*path, key), child) for key, child in value.items()]))
        elif isinstance(value, list):
            todo.extend(reversed([((*path, index), child) for index, child in enumerate(value)]))
    return found


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text):,} characters)"


# ------------------------------------------------------------------------------------------------- students' answers

# A text that does not end is taken as a whole: to look for the next quotation mark in it would take forever.
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|([\[{])|[\]}]', re.DOTALL)


def _inside(max_depth: int) -> int:
    """Return how deep answers may be."""
    return max(max_depth - AROUND, 0)


def _answers_too_deep(most: int) -> str:
    return f"the answers are nested too deeply; at most {most} levels are read"


def _marked(text: str, max_depth: int) -> Any:
    """Return data with marks in it; what is far too deep for the decoder, which is recursive, is cut off before.

    Raises:
        json.JSONDecodeError: it is not JSON.
        RecursionError: it is too deep, and not whole.
    """
    try:
        return _MARKING.decode(text)
    except RecursionError:
        return _MARKING.decode(_pruned(text, 2 * max_depth))


def _pruned(text: str, most: int) -> str:
    """Return text in which each list and object below so many others is empty."""
    kept: list[str] = []
    depth = start = 0
    for found in _BRACKETS.finditer(text):
        if found[0][0] == '"':
            continue
        if found[1]:
            depth += 1
            if depth == most + 1:
                kept.append(text[start : found.end()])
        else:
            if depth == most + 1:
                start = found.start()
            depth -= 1
    if depth > most:
        raise RecursionError("the text ends before it comes up again")
    return "".join(kept) + text[start:]


def _taken_out(data: Any, places: Sequence[Place]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Put None in the place of all answers, and yield the objects that held them, with the name and the answers."""
    for *way, name in places:
        holders = [data]
        for step in way:
            if step is None:
                holders = [item for holder in holders if type(holder) is list for item in holder]
            else:
                holders = [holder[step] for holder in holders if type(holder) is dict and step in holder]
        for holder in holders:
            if name is not None and type(holder) is dict and name in holder:
                yield holder, name, holder[name]
                holder[name] = None


def _readable(answers: Any, most: int) -> Any:
    """Return answers that were read with marks as they are graded; words, where they cannot be read."""
    root = [answers]
    level: list[Any] = [root]
    depth, deep, half = 0, False, False
    while level and not deep:
        below: list[Any] = []
        for holder in level:
            for key, value in list(holder.items() if type(holder) is dict else enumerate(holder)):
                if type(value) is _Mark:
                    if value.number is None:
                        return UNREADABLE + value.told
                    holder[key] = value.number
                elif type(value) is dict or type(value) is list:
                    below.append(value)
                half = half or any(type(text) is str and _SURROGATE.search(text) is not None for text in (key, value))
        level, depth = below, depth + 1
        deep = bool(level) and depth > most
    if deep:
        return UNREADABLE + _answers_too_deep(most)
    return f"{UNREADABLE}the answers hold {_HALF}" if half else root[0]
