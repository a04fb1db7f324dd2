"""JSON as the wire has it: what is written reads back to the same bits, and nothing else is read."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule_service.jsonio import MalformedJSON, dumps, finite, loads

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=30,
)


@given(DATA)
def test_data_reads_back(data):
    assert loads(dumps(data).encode()) == data


@given(FINITE)
def test_numbers_read_back_to_the_same_bits(number):
    assert struct.pack("d", loads(dumps(number).encode())) == struct.pack("d", number)


@given(st.lists(st.floats() | st.lists(st.floats())))
def test_numbers_that_are_not_finite_become_strings(numbers):
    def back(item):
        return [back(i) for i in item] if isinstance(item, list) else float(item)

    text = dumps({"numbers": numbers})
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert repr(back(loads(text.encode())["numbers"])) == repr(numbers)


def test_zero_keeps_its_sign():
    assert [math.copysign(1.0, number) for number in loads(b"[-0, 0, -0.0, -0e0]")] == [-1.0, 1.0, -1.0, -1.0]


def test_the_three_strings():
    assert dumps([math.nan, math.inf, -math.inf]) == '["NaN","Infinity","-Infinity"]'
    assert finite({"a": (1.0, math.nan)}) == {"a": [1.0, "NaN"]}


@given(DATA.filter(lambda data: data not in (None,)), st.integers(1, 5))
def test_depth_is_counted(data, most):
    def depth(item):
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    text = dumps(data).encode()
    if depth(data) <= most:
        assert loads(text, max_depth=most) == data
    else:
        with pytest.raises(MalformedJSON, match="too deeply"):
            loads(text, max_depth=most)


@given(st.dictionaries(TEXT, st.integers(0, 9), min_size=1), st.data())
def test_a_key_twice_is_refused(mapping, choice):
    key = choice.draw(st.sampled_from(list(mapping)))
    members = [f"{json.dumps(name)}:{value}" for name, value in [*mapping.items(), (key, 1)]]
    with pytest.raises(MalformedJSON) as caught:
        loads(f"[{{{','.join(members)}}}]".encode())
    assert caught.value.problems[0].path == (0, key)


@given(st.binary())
def test_bytes_are_read_or_refused(raw):
    try:
        data = loads(raw)
    except MalformedJSON:
        return
    assert loads(dumps(data).encode()) == data
