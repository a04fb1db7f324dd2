"""Files of a grading: what may be read of them, and how an answer gets where a platform looks for it.

The answers are written by students: they are data, of bounded size, and a name in their folder leads nowhere else.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

#: Bytes that are read of a task, or a report, and of answers.
TASK_BYTES, ANSWER_BYTES = 16 << 20, 4 << 20
#: Lists and objects inside each other in answers, as a service reads them.
_DEPTH = 30
_EXACT = 2**53
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_DEEP = f"the answers are nested too deeply; at most {_DEPTH} levels are read"
#: What the decoder says → what a student is told.
_SYNTAX = {
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Expecting value": "a value is missing",
    "Extra data": "it ends, and more comes after that",
    "Unterminated string starting at": "a closing quotation mark is missing for the text",
    "Invalid control character at": "there is a line break or a tab within a text",
}


class Unreadable(ValueError):
    """The answers of a student cannot be read: that is theirs to mend, and nothing is broken."""


def read_json(name: str) -> Any:
    """Return what a file of the staff holds; - is standard input.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or not JSON.
    """
    if name == "-":
        raw = sys.stdin.buffer.read(TASK_BYTES + 1)
    else:
        with open(name, "rb") as file:
            raw = file.read(TASK_BYTES + 1)
    where = "standard input" if name == "-" else name
    if len(raw) > TASK_BYTES:
        raise ValueError(f"{where} has more than {TASK_BYTES:,} bytes")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def read_answers(name: str) -> Any:
    """Return what a student's file holds; - is standard input.

    Raises:
        Unreadable: there is none, it is too large, or it is not JSON of which there is one reading. The message holds
            nothing of the file.
    """
    if name == "-":
        raw = sys.stdin.buffer.read(ANSWER_BYTES + 1)
    else:
        raw = _read_untrusted(Path(name))
    return parse_answers(raw, "this" if name == "-" else Path(name).name)


def _read_untrusted(path: Path) -> bytes:
    """Read a file that may be made to be trouble: a link to the right answers, a pipe that nobody writes to."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise Unreadable(f"there is no file {path.name}") from None
    except OSError:
        raise Unreadable(f"{path.name} is no file, or a link to one") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable(f"{path.name} is not a file")
    with open(descriptor, "rb") as file:
        return file.read(ANSWER_BYTES + 1)


def parse_answers(raw: bytes | str, name: str = "this") -> Any:
    """Return what JSON text holds; `name` is what a student knows it by.

    Raises:
        Unreadable: it is too long, it is not JSON, or two readers could understand it differently.
    """
    if len(raw) > ANSWER_BYTES:
        raise Unreadable(f"{name} has more than {ANSWER_BYTES:,} bytes")
    if not raw.strip():
        raise Unreadable(f"{name} is empty")
    try:
        text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw.removeprefix("\ufeff")
        data = _STRICT.decode(text.strip())
    except UnicodeError:
        raise Unreadable(f"{name} is not UTF-8, in which JSON is written") from None
    except json.JSONDecodeError as error:
        words = _SYNTAX.get(error.msg) or error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise Unreadable(f"{name} is not JSON: {words} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Unreadable(_TOO_DEEP) from None
    level, depth = [data], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > _DEPTH:
            raise Unreadable(_TOO_DEEP)
        level = [child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)]
    if _SURROGATE.search(text) or ("\\u" in text and _SURROGATE.search(json.dumps(data, ensure_ascii=False))):
        raise Unreadable("the answers hold half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return data


def _constant(name: str) -> NoReturn:
    raise Unreadable(f'{name} is not JSON; write it as "{name}"')


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable("a number is too large for float64")
    return number


def _integer(text: str) -> int | float:
    # Beyond, a reader that has no integers could get another number; as a float64 it is what it says.
    return int(text) if len(text) <= 17 and abs(int(text)) <= _EXACT else _real(text)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # None
        raise Unreadable(f"the name {double[:20]!r} appears twice in one object")
    return mapping


_STRICT = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant, parse_float=_real, parse_int=_integer)


def expect_apart(out: str, *read: str | None) -> None:
    """Refuse to write a result over a file that it is made of.

    Raises:
        ValueError: it is one of `read`.
    """
    for name in read:
        if name is not None and _place(name) == _place(out):
            raise ValueError(f"the result would replace {name}; name another file for it, with -o")


def _place(name: str) -> Path:
    # Of the name itself: where a link leads, a student may have chosen.
    path = Path(name)
    return path.parent.resolve() / path.name


def write(name: str | None, text: bytes) -> None:
    """Write a result whole or not at all, and make the folder that it is to lie in; without a name, print it."""
    if name in (None, "-"):
        sys.stdout.buffer.write(text if text.endswith(b"\n") else text + b"\n")
        sys.stdout.buffer.flush()
        return
    path = Path(str(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe
        path.write_bytes(text)
        return
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
        os.chmod(scratch, 0o644)  # whoever shows the result is often somebody else
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
