"""The headers Prefer and Idempotency-Key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule_service.idempotency import idempotency_key
from chainrule_service.preferences import LONGEST_WAIT, Preferences, preferences
from chainrule_service.problems import RequestError


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("respond-async, wait=10", Preferences(respond_async=True, wait=10)),
        ("Wait=10,  Respond-Async", Preferences(respond_async=True, wait=10)),
        ("wait = 7", Preferences(wait=7)),
        ('wait="7"; foo="a,b", return=minimal', Preferences(wait=7)),
        ("wait=0", Preferences(wait=0)),
        ("wait=3, wait=9", Preferences(wait=3)),
        (f"wait={LONGEST_WAIT + 1}", Preferences(wait=LONGEST_WAIT)),
        (f"wait={'9' * 5000}", Preferences(wait=LONGEST_WAIT)),
        *((f"wait{value}", Preferences()) for value in ("", "=", "=-1", "=1.5", "=soon", "=²")),
        ('lenient="wait=5"', Preferences()),
    ],
)
def test_what_a_client_would_like(header, expected):
    assert preferences(header) == expected


@given(st.text(st.characters(codec="latin-1")))
def test_no_preference_is_an_error(header):
    wanted = preferences(header)
    assert wanted.wait is None or 0 <= wanted.wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        ("8e03978e-40d5", "8e03978e-40d5"),
        (' "a b" ', "a b"),
        (r'"a \"b\" \\ c"', r'a "b" \ c'),
        ('"' + "x" * 128 + '"', "x" * 128),
    ],
)
def test_keys(header, key):
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "a b", 'a"', '"a', r'"\a"', "a,b", "é", '"é"', "a\tb", "x" * 129, "a;b"])
def test_what_is_no_key(header):
    with pytest.raises(RequestError, match="Idempotency-Key must hold a string"):
        idempotency_key(header)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128))
def test_every_visible_key_can_be_sent(key):
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert idempotency_key(f'"{escaped}"') == key
