"""API keys: their text, what is kept of them, and when they are good, on every kind of database."""

from __future__ import annotations

import contextlib
import re
import string
import time

import pytest
import sqlalchemy as sql
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_service.database import Database
from chainrule_service.keys import API_KEYS, SCOPES, KeyRefused, Keys
from chainrule_service.settings import SettingsError


@pytest.fixture
def keys(database):
    return Keys(database)


@pytest.fixture(scope="module")
def sample():
    """Keys in memory, and the text of one."""
    with contextlib.closing(Database(None)) as database:
        keys = Keys(database)
        yield keys, keys.create("sample", ["evaluate"])[1]


# ---------------------------------------------------------------------------------------------------- the text


def test_the_text_has_a_prefix_an_id_a_secret_and_a_checksum(keys):
    key, text = keys.create("ada", ["jobs"])
    assert re.fullmatch(rf"cr_live_{key.id}_[0-9A-Za-z]{{32}}_[0-9a-f]{{8}}", text, re.ASCII)
    assert keys.check(text).id == key.id
    others = {keys.create("ada", ["jobs"])[1] for _ in range(10)}
    assert len(others | {text}) == 11


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_other_text_is_a_key(sample, data):
    keys, text = sample
    cut = data.draw(st.integers(0, len(text) - 1))
    rest = data.draw(st.integers(cut, len(text)))
    other = text[:cut] + data.draw(st.text(string.printable, max_size=3)) + text[rest:]
    if other != text:
        with pytest.raises(KeyRefused):
            keys.check(other)
    assert keys.check(text).name == "sample"


@pytest.mark.parametrize("text", ["", "cr", "cr_live_", "é" * 66, "Bearer x", "cr_live_\n", "\x00", "x" * 100_000])
def test_what_is_no_key_at_all(sample, text):
    with pytest.raises(KeyRefused, match="no API key, or not all of one"):
        sample[0].check(text)


def test_a_key_of_another_service_is_unknown(keys, sample):
    _, text = sample
    with pytest.raises(KeyRefused, match="no such API key"):
        keys.check(text)


# ---------------------------------------------------------------------------------------------------- the table


def test_the_secret_is_nowhere_in_the_database(database, keys, tmp_path):
    _, text = keys.create("ada", ["jobs"])
    keys.check(text)
    secret = text.split("_")[3]
    with database.transaction(reads=True) as connection:
        (row,) = connection.execute(sql.select(API_KEYS))
    assert secret not in repr(row)
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_a_key_is_listed_without_its_secret(keys):
    first, _ = keys.create("ada", ["staff", "evaluate"], days=1, limits={"requests_per_minute": 7})
    second, _ = keys.create("bob", SCOPES)
    assert [key.id for key in keys.listed()] == [first.id, second.id]
    told = keys.listed()[0].to_dict()
    assert told.keys() == {"id", "name", "scopes", "limits", "created_at", "expires_at", "revoked_at", "used_at"}
    assert (told["name"], told["scopes"], told["limits"]) == ("ada", ["evaluate", "staff"], {"requests_per_minute": 7})
    assert (told["revoked_at"], told["used_at"]) == (None, None)
    assert first.expires_at == pytest.approx(first.created_at + 86_400)
    assert abs(first.created_at - time.time()) < 60


def test_keys_exist_from_the_first_one_on_whatever_becomes_of_it(keys):
    assert not keys.exist()
    key, _ = keys.create("ada", ["jobs"])
    assert keys.exist()
    keys.revoke(key.id)
    assert keys.exist()


def test_a_revoked_key_is_refused_at_once_here_and_within_a_second_elsewhere(database, keys):
    key, text = keys.create("ada", ["jobs"])
    elsewhere = Keys(database)  # what another process would have
    assert elsewhere.check(text).id == keys.check(text).id
    assert keys.revoke(key.id).revoked_at
    with pytest.raises(KeyRefused, match="revoked"):
        keys.check(text)
    time.sleep(1)
    with pytest.raises(KeyRefused, match="revoked"):
        elsewhere.check(text)


def test_a_key_is_revoked_once_and_an_unknown_one_never(keys):
    key, _ = keys.create("ada", ["jobs"])
    assert keys.revoke(key.id).revoked_at == keys.revoke(key.id).revoked_at
    assert keys.revoke("0" * 16) is None


def test_a_key_expires(keys):
    key, text = keys.create("ada", ["jobs"], days=1.5 / 86_400)
    assert keys.check(text).id == key.id
    time.sleep(1.6)
    with pytest.raises(KeyRefused, match="expired"):
        keys.check(text)


def test_a_wrong_secret_for_a_known_id_is_unknown(keys):
    _, text = keys.create("ada", ["jobs"])
    keys.check(text)
    with pytest.raises(KeyRefused, match="no such API key"):
        keys.check(forged(text))
    assert keys.check(text).name == "ada"


def forged(text):
    """Return a key with the same id and a right checksum."""
    from chainrule_service.keys import _checksum

    body = text.rpartition("_")[0][:-1] + ("A" if text[-10] != "A" else "B")
    return f"{body}_{_checksum(body)}"


def test_the_last_use_is_written_once_in_a_while(keys):
    _, text = keys.create("ada", ["jobs"])
    keys.check(text)
    (key,) = keys.listed()
    assert abs(key.used_at - time.time()) < 60
    time.sleep(0.6)  # until the row is read again
    keys.check(text)
    assert keys.listed()[0].used_at == key.used_at


def test_a_database_that_may_only_be_read_still_knows_its_keys(tmp_path, caplog):
    url = f"sqlite:///{tmp_path / 'chainrule.sqlite3'}"
    with contextlib.closing(Database(url)) as database:
        _, text = Keys(database).create("ada", ["jobs"])
        with database.transaction() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        with database.transaction(reads=True) as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
        assert Keys(database).check(text).name == "ada"
    assert "could not be recorded" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("", ["jobs"]), {}, "the name must have"),
        (("a\nb", ["jobs"]), {}, "the name must have"),
        (("x" * 201, ["jobs"]), {}, "the name must have"),
        (("ada", []), {}, "needs a scope; the scopes are evaluate"),
        (("ada", ["job"]), {}, "no scope 'job'; the scopes are evaluate"),
        (("ada", ["jobs"]), {"days": 0}, "days must be above 0"),
        (("ada", ["jobs"]), {"days": float("nan")}, "days must be above 0"),
        (("ada", ["jobs"]), {"limits": {"nodes": 1}}, "no limit 'nodes'; it may have requests_per_minute"),
    ],
)
def test_keys_that_cannot_be(sample, arguments, options, words):
    with pytest.raises(ValueError, match=words):
        sample[0].create(*arguments, **options)


def test_limits_that_cannot_be(sample):
    with pytest.raises(SettingsError, match="limit requests_per_minute must be from 1 to"):
        sample[0].create("ada", ["jobs"], limits={"requests_per_minute": 0})
