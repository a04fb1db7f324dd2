"""Keys with real server processes: every worker asks for them, and none takes one that was revoked."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request

import pytest
from tests.service.test_serving import Server

from chainrule_service.database import Database
from chainrule_service.documented import NEURON
from chainrule_service.keys import Keys
from chainrule_service.serving import check_address
from chainrule_service.settings import Settings, SettingsError

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def keys_of(folder):
    with contextlib.closing(Database(Settings(data=folder).database)) as database:
        yield Keys(database)


def statuses(server, key=None, requests=24):
    """Return what many requests over connections of their own are answered with: both workers have some of them."""
    found = set()
    for _ in range(requests):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        body = json.dumps({"graph": NEURON}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v1/evaluations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found.add(answer.status)
        except urllib.error.HTTPError as error:
            found.add(error.code)
            error.close()
    return found


def test_all_workers_ask_for_the_first_key_and_refuse_a_revoked_one(tmp_path):
    with Server(tmp_path, workers=2) as server, keys_of(tmp_path) as keys:
        assert statuses(server) == {200}
        key, text = keys.create("ada", ["evaluate"])
        time.sleep(1)
        assert statuses(server) == {401}
        assert statuses(server, text) == {200}
        keys.revoke(key.id)
        time.sleep(1)
        assert statuses(server, text) == {401}


def test_two_workers_share_a_quota(tmp_path):
    with keys_of(tmp_path) as keys:
        _, text = keys.create("ada", ["evaluate"], limits={"requests_per_minute": 12})
    with Server(tmp_path, workers=2) as server:
        assert statuses(server, text, requests=12) == {200}
        assert statuses(server, text, requests=2) == {429}


def test_with_a_key_it_listens_beyond_this_machine(tmp_path):
    settings = Settings(data=tmp_path, host="0.0.0.0")
    with pytest.raises(SettingsError, match="chainrule keys create"):
        check_address(settings)
    with keys_of(tmp_path) as keys:
        _, text = keys.create("ada", ["evaluate"])
    check_address(settings)
    with Server(tmp_path, host="0.0.0.0") as server:
        assert statuses(server, requests=1) == {401}
        assert statuses(server, text, requests=1) == {200}


def test_a_key_closes_an_insecure_service_too(tmp_path):
    with keys_of(tmp_path) as keys:
        keys.create("ada", ["evaluate"])
    with Server(tmp_path, host="0.0.0.0", insecure=True) as server:
        assert statuses(server, requests=1) == {401}


def test_a_database_that_cannot_be_asked_is_no_leave_to_listen(tmp_path):
    settings = Settings(host="0.0.0.0", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(SettingsError, match="whether there is an API key cannot be found out"):
        check_address(settings)
