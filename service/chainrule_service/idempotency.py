"""The header Idempotency-Key: what makes it safe to send a request again.

The draft of the standard (draft-ietf-httpapi-idempotency-key-header) has it as a string in quotes; one without quotes
is read as well.
"""

from __future__ import annotations

import re

from chainrule_service.problems import RequestError

_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")  # neither space nor any of "\,;
_ESCAPED = re.compile(r"\\(.)")
LONGEST = 128


def idempotency_key(header: str | None) -> str | None:
    """Read the header; None where there is none.

    Raises:
        RequestError: it is not a key (422).
    """
    if header is None:
        return None
    text = header.strip()
    if quoted := _QUOTED.fullmatch(text):
        key = _ESCAPED.sub(r"\1", quoted[1])
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not 0 < len(key) <= LONGEST:
        detail = (
            f"the header Idempotency-Key must hold a string of 1 to {LONGEST} visible ASCII characters, such as "
            '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
        )
        raise RequestError("invalid-request", detail)
    return key
