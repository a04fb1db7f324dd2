"""Numbers and labels as a drawing writes them."""

from __future__ import annotations

import unicodedata

#: In columns of a monospaced font. A box grows with its label, and one long label widens a whole column.
LONGEST_LABEL = 32

# Combining marks take no room, so a text of few columns can still be long.
_CHARACTERS_PER_COLUMN = 10


def number(value: float) -> str:
    """Write six significant digits, so that only a zero reads as 0; `nan`, `inf` and `-inf` for the others."""
    return f"{value:.6g}"


def shorten(text: str, columns: int = LONGEST_LABEL) -> str:
    """Write a text on one line without invisible characters, cut with an ellipsis where it is too long."""
    most = _CHARACTERS_PER_COLUMN * columns
    visible = " ".join("".join(map(_visible, text[:most])).split())
    if measure(visible) <= columns and len(text) <= most:
        return visible
    while visible and measure(visible) > columns - 1:
        visible = visible[:-1]
    return f"{visible}…"


def measure(text: str) -> int:
    """Count the columns that a text takes in a monospaced font."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    # Formatting characters can turn round the text beside them; surrogates have no encoding.
    return "" if category[0] == "C" else character


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
