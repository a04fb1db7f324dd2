"""`chainrule keys`, on a database of its own, and the keys that it makes against the service on that database."""

from __future__ import annotations

import json
import os
import re
import stat
import sys

import pytest
from tests.client.sockets import serving

from chainrule import AuthenticationError, Client, PermissionDeniedError, RateLimitError
from chainrule.cli import main
from chainrule_service.app import create_app
from chainrule_service.settings import Settings


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run `chainrule keys`; returns its status, what it printed and what it complained of."""
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path))

    def run(*arguments):
        status = main(["keys", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def url(tmp_path):
    app = create_app(Settings(data=tmp_path))
    with serving(app) as url:
        yield url
    app.extensions["chainrule"].store.close()


def create(run, *arguments):
    status, key, said = run("create", "ada", *arguments)
    assert status == 0
    assert "shown this once" in said
    assert key.strip() not in said
    return key.strip()


def test_a_key_is_made_listed_and_revoked(run):
    key = create(
        run, "--scopes", "staff,jobs", "--days", 2, "--limit", "work_per_day=5", "--limit", "concurrent_jobs=1"
    )
    assert re.fullmatch(r"cr_live_[0-9a-f]{16}_[0-9A-Za-z]{32}_[0-9a-f]{8}", key)
    status, printed, _ = run("list")
    (told,) = json.loads(printed)
    assert (status, told["name"], told["scopes"]) == (0, "ada", ["jobs", "staff"])
    assert told["limits"] == {"work_per_day": 5, "concurrent_jobs": 1}
    assert key.split("_")[3] not in printed
    status, printed, _ = run("revoke", told["id"])
    assert (status, json.loads(printed)["id"]) == (0, told["id"])
    assert json.loads(run("list")[1])[0]["revoked_at"]


def test_a_key_may_do_all_but_what_staff_may(run):
    create(run)
    assert json.loads(run("list")[1])[0]["scopes"] == ["evaluate", "jobs", "grade"]


def test_the_database_is_for_its_user_alone(run, tmp_path):
    create(run, "--data", tmp_path / "new")
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "ada", "--scopes", "all"), "there is no scope 'all'; the scopes are evaluate"),
        (("create", "ada", "--limit", "speed=1"), "no limit 'speed'; it may have requests_per_minute"),
        (("create", "ada", "--limit", "work_per_day"), "is not of the form NAME=NUMBER"),
        (("create", "ada", "--limit", "work_per_day=0"), "must be from 1 to"),
        (("create", ""), "the name must have 1 to 200 characters"),
        (("revoke", "0123456789abcdef"), "there is no key '0123456789abcdef'"),
    ],
)
def test_what_cannot_be_is_said(run, arguments, words):
    create(run)
    status, printed, said = run(*arguments)
    assert (status, printed) == (2, "")
    assert words in said


def test_only_the_first_key_makes_the_file(run, tmp_path):
    for command in ("list",), ("revoke", "0123456789abcdef"):
        status, _, said = run(*command, "--data", tmp_path / "new")
        assert status == 2
        assert "does not exist yet" in said
        assert not (tmp_path / "new").exists()


def test_making_the_tables_without_the_extra_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "alembic", None)
    status, _, said = run("create", "ada")
    assert status == 2
    assert "pip install 'chainrule[service]'" in said


def test_a_database_that_is_not_there(run, monkeypatch):
    monkeypatch.setenv("CHAINRULE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    status, _, said = run("list")
    assert status == 2
    assert "the database cannot be used" in said


def test_the_service_knows_the_keys(run, url):
    key = create(run, "--limit", "requests_per_minute=2")
    with Client(url, api_key=key) as client:
        assert client.evaluate("y = x*x", inputs={"x": 3.0}).value == 9.0
    with Client(url) as client, pytest.raises(AuthenticationError) as refused:
        client.evaluate("y = x*x", inputs={"x": 3.0})
    assert "Authorization: Bearer" in str(refused.value)
    with Client(url, api_key=key, max_retries=0) as client:
        assert client.check_gradients("y = x*x", inputs={"x": 3.0}).passed
        with pytest.raises(RateLimitError) as exceeded:
            client.evaluate("y = x*x", inputs={"x": 3.0})
    assert exceeded.value.problem.raw["violated-policies"] == ["requests"]
    assert "RateLimit" in exceeded.value.headers
    with Client(url, api_key=create(run, "--scopes", "jobs")) as client, pytest.raises(PermissionDeniedError) as lacks:
        client.evaluate("y = x*x", inputs={"x": 3.0})
    assert lacks.value.problem.raw["scope"] == "evaluate"


def test_a_local_client_needs_no_key(run):
    create(run)
    with Client.local() as client:
        assert client.evaluate("y = x*x", inputs={"x": 3.0}).value == 9.0
