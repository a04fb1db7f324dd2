"""Files of students: whatever is in them is read, or refused with a reason; what is read, a service takes."""

from __future__ import annotations

import json
import math
import os
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chainrule import _files
from chainrule._transport import _encoded
from chainrule_service import jsonio


def json_of(numbers):
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=20,
    )


json_data = json_of(st.floats() | st.integers() | st.integers(-(2**60), 2**60))
#: JSON as Python writes it, which is not always JSON, and pieces of it.
written = json_data.map(json.dumps).flatmap(
    lambda text: st.tuples(st.just(text), st.integers(0, len(text)), st.text('{}[],:"\\0919.eNu', max_size=3))
)


def read(raw):
    try:
        return _files.parse_answers(raw)
    except _files.Unreadable as error:
        return _files.Unreadable if 0 < len(str(error)) < 200 else str(error)


@given(st.binary(max_size=60) | st.text(st.characters(), max_size=60))
@example(b"\xef\xbb\xbf{}")
@example('{"a": "\ud800"}')
@example('{"a": "\\ud800"}')
@example("-0")
@example("9" * 5000)
@example("1e400")
@example("1" + "0" * 400)
@example("[" * 29 + "]" * 29)
@example("[" * 100_000)
def test_whatever_is_read_can_be_sent(raw):
    data = read(raw)
    if data is not _files.Unreadable:
        body = _encoded({"task": {}, "answers": data})
        assert jsonio.loads(body)["answers"] == data


@pytest.mark.parametrize("raw", ["[" + " " * _files.ANSWER_BYTES + "]", b" " * (_files.ANSWER_BYTES + 1)])
def test_what_is_too_long_is_refused_wherever_it_comes_from(raw):
    """A queue hands on text, not a file, and would take four times as much."""
    with pytest.raises(_files.Unreadable, match="more than"):
        _files.parse_answers(raw)


@given(written)
def test_what_was_nearly_json_is_read_or_refused(parts):
    text, place, more = parts
    for changed in (text, text[:place] + more + text[place:], text[:place]):
        data = read(changed)
        if data is not _files.Unreadable:
            assert jsonio.loads(_encoded({"task": {}, "answers": data}))["answers"] == data


@given(json_of(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)))
def test_good_json_is_read_as_it_is(data):
    text = json.dumps(data)
    assert read(text) == read(text.encode()) == data


def test_a_number_keeps_its_value():
    text = f"[0.1, 1e-320, -0.0, 5, {2**53}, {2**53 + 1}, {10**30}, 1.7976931348623157e308]"
    found = read(text)
    assert [float(number) for number in found] == [float(word) for word in text.strip("[]").split(",")]
    assert math.copysign(1, found[2]) == -1


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    target = tmp_path / "new" / "results.json"
    _files.write(str(target), b"first")
    assert target.read_bytes() == b"first"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644

    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        _files.write(str(target), b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in target.parent.iterdir()] == ["results.json"]


def test_a_result_can_go_where_no_file_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _files.write(str(pipe), b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)


def test_what_staff_gives_is_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "TASK_BYTES", 10)
    file = tmp_path / "task.json"
    file.write_text('{"a": 1234567}')
    with pytest.raises(ValueError, match="more than 10 bytes"):
        _files.read_json(str(file))
