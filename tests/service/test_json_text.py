"""JSON as the wire has it: what is written reads back to the same bits, and nothing else is read."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chainrule_service.jsonio import MalformedJSON, _loads_with_care, dumps, finite, is_unreadable, loads, loads_answers
from chainrule_service.resources.jobs import JobBatchRequest, JobRequest

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


@pytest.mark.parametrize("schema", [JobRequest, JobBatchRequest])
@pytest.mark.parametrize("kind", ["submissions", "items"])
def test_answers_in_jobs_are_no_fault_of_the_job(schema, kind):
    body = f'{{"spec": {{"{kind}": [{{"answers": 1e999}}, {{"answers": [9007199254740993]}}, 1, {{}}]}}}}'
    body = f'{{"items": [{body}]}}' if schema is JobBatchRequest else body
    data = loads(body.encode(), answers=schema.answer_places)
    entries = (data["items"][0] if schema is JobBatchRequest else data)["spec"][kind]
    assert is_unreadable(entries[0]["answers"])
    assert entries[1:] == [{"answers": [9007199254740992.0]}, 1, {}]
    with pytest.raises(MalformedJSON, match="finite"):
        loads(body.replace("1,", "NaN,").encode(), answers=schema.answer_places)


@given(DATA)
def test_good_answers_are_what_is_read_anywhere(data):
    text = dumps(data)
    assert loads_answers(text) == data
    assert loads(f'{{"answers": {text}, "x": -0}}'.encode(), answers=[("answers",)])["answers"] == data


@given(st.text(max_size=9) | st.text('[]{}",:\\\\u d8019eN-', max_size=30))
@example('"' + '\\"' * 100_000)
@example("[" * 100_000 + '"' + '\\"' * 100_000)
@example("[" * 100_000 + "1}" * 100_000)
def test_any_text_is_answers_or_words(text):
    data = loads_answers(text)
    assert is_unreadable(data) or json.dumps(data)


@given(st.dictionaries(TEXT, st.integers(0, 9), min_size=1), st.data())
def test_a_key_twice_is_refused(mapping, choice):
    key = choice.draw(st.sampled_from(list(mapping)))
    members = [f"{json.dumps(name)}:{value}" for name, value in [*mapping.items(), (key, 1)]]
    with pytest.raises(MalformedJSON) as caught:
        loads(f"[{{{','.join(members)}}}]".encode())
    assert caught.value.problems[0].path == (0, key)


#: What two decoders may read differently, and what is around it.
TOKENS = (
    *'{}[]:,"\\', *" \n\t\f\ufeff\u00a0\0\x7f", *("\\u", "d800", "\\ud83d\\ude00", "\\u003a", "\\/"),
    *("true", "null", "NaN", "-Infinity", "a", '"a":', '"a" :', '"b":1', '":"', '"-0"', "é", "\u2028", "😀"),
    *("0", "-0", "-0.0", "-0e1", "00", "-", "+1", "1.", ".5", "1e", "1e5", "1E+5", "1e999", "-1e999", "1e-999", "1_0"),
    *("9007199254740992", "9007199254740993", "-9007199254740993", "18446744073709551616", "1" * 400, "7" * 5000),
)  # fmt: skip


def spliced(data, place, length, token):
    """Return a text that is JSON but for a token in place of some of it."""
    text = json.dumps(data, ensure_ascii=False)
    place %= len(text) + 1
    return text[:place] + token + text[place + length :]


LIKE_JSON = st.one_of(
    st.lists(st.sampled_from(TOKENS), max_size=12).map("".join),
    st.builds(spliced, DATA, st.integers(0), st.integers(0, 4), st.sampled_from(TOKENS)),
    st.lists(st.sampled_from(TOKENS)).map(lambda tokens: f"[{','.join(tokens)}]"),
    st.lists(st.tuples(st.sampled_from('abc:"'), st.sampled_from(TOKENS))).map(
        lambda pairs: f"{{{','.join(f'{json.dumps(key)}:{token}' for key, token in pairs)}}}"
    ),
)


@settings(max_examples=1000)
@given(LIKE_JSON)
def test_the_quick_reading_is_the_careful_one(text):
    def outcome(read):
        try:
            return repr(read(text.encode(), max_depth=4))
        except MalformedJSON as error:
            return error.problems

    assert outcome(loads) == outcome(_loads_with_care)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?[eE][+-]?[0-9]{1,3}", fullmatch=True))
def test_a_number_is_the_nearest_double(text):
    if math.isfinite(float(text)):
        assert repr(loads(text.encode())) == repr(float(text))
    else:
        with pytest.raises(MalformedJSON, match=r"1\.8e308"):
            loads(text.encode())


def test_the_form_of_numbers_is_a_part_of_digests():
    numbers = [2.0, -0.0, 0.1, 1e-5, 1e-7, 1e15, 1e16, 1.5e300, 5e-324, 123456789012345680.0]
    assert dumps(numbers) == "[2.0,-0.0,0.1,0.00001,1e-7,1000000000000000.0,1e16,1.5e300,5e-324,1.2345678901234568e17]"


@given(st.binary())
def test_bytes_are_read_or_refused(raw):
    try:
        data = loads(raw)
    except MalformedJSON:
        return
    assert loads(dumps(data).encode()) == data
