"""What a client would like (RFC 7240): the header Prefer, of which `respond-async` and `wait` mean something here."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.http import parse_list_header

#: The longest that a request waits for a job: a proxy in between often gives up after 60 s.
LONGEST_WAIT = 30


@dataclass(frozen=True)
class Preferences:
    """What the header asks for.

    Attributes:
        respond_async: whether to be answered before the job has run.
        wait: the seconds to wait at most, as far as the service waits; None where nothing is said.
    """

    respond_async: bool = False
    wait: int | None = None


def preferences(header: str) -> Preferences:
    """Read the header Prefer. What is not known, or not understood, is ignored, as the standard has it."""
    if not header:
        return _NONE
    said: dict[str, str] = {}
    for preference in parse_list_header(header):
        name, _, word = preference.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), word.strip().strip('"'))  # of one that is said twice, the first counts
    seconds = said.get("wait", "")
    whole = seconds.isascii() and seconds.isdigit()
    return Preferences(
        "respond-async" in said,
        min(int(seconds[:9]), LONGEST_WAIT) if whole else None,
    )


_NONE = Preferences()
