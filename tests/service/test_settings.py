"""Settings: read from the environment, overridden by arguments, and clear about what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainrule_service.settings import LIMITS, Settings, SettingsError


def test_defaults():
    settings = Settings()
    assert (settings.host, settings.port, settings.data, settings.insecure) == ("127.0.0.1", 8000, None, False)
    assert dict(settings.limits) == {name: limit.default for name, limit in LIMITS.items()}


def test_the_environment_is_read():
    settings = Settings.from_env(
        {
            "CHAINRULE_HOST": "::1", "CHAINRULE_PORT": "0", "CHAINRULE_DATA": "/somewhere", "CHAINRULE_WORKERS": "3",
            "CHAINRULE_THREADS": "7", "CHAINRULE_INSECURE": "yes", "CHAINRULE_LIMIT_NODES": "17", "OTHER": "x",
        }
    )  # fmt: skip
    assert (settings.host, settings.port, settings.data) == ("::1", 0, Path("/somewhere"))
    assert (settings.workers, settings.threads, settings.insecure, settings.limits["nodes"]) == (3, 7, True, 17)


def test_arguments_win_and_none_counts_as_not_given():
    environ = {"CHAINRULE_PORT": "1", "CHAINRULE_HOST": "::1", "CHAINRULE_INSECURE": "1"}
    settings = Settings.from_env(environ, port=2, host=None, data=Path("here"), workers=None, insecure=False)
    assert (settings.port, settings.host, settings.data, settings.insecure) == (2, "::1", Path("here"), False)
    assert settings.workers >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_there_is_a_worker_for_each_core_that_the_process_may_use():
    cores = os.sched_getaffinity(0)
    assert Settings.from_env({}).workers == min(len(cores), 8)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert Settings.from_env({}).workers == 1
    finally:
        os.sched_setaffinity(0, cores)


def test_empty_variables_count_as_not_given():
    assert Settings.from_env({"CHAINRULE_PORT": "", "CHAINRULE_LIMIT_NODES": ""}).port == 8000


def test_a_server_keeps_its_data_with_the_users():
    assert Settings.from_env({"XDG_DATA_HOME": "/srv/ada"}).data == Path("/srv/ada/chainrule")
    assert Settings.from_env({}).data == Path("~/.local/share/chainrule").expanduser()


@pytest.mark.parametrize(
    ("environ", "overrides", "words"),
    [
        ({"CHAINRULE_PORT": "http"}, {}, "port must be a whole number"),
        ({"CHAINRULE_PORT": "65536"}, {}, "port must be from 0 to 65,535"),
        ({}, {"port": -1}, "port must be from 0"),
        ({"CHAINRULE_WORKERS": "0"}, {}, "workers must be from 1"),
        ({"CHAINRULE_THREADS": "1"}, {}, "threads must be from 2"),
        ({"CHAINRULE_INSECURE": "maybe"}, {}, "insecure must be one of"),
        ({"CHAINRULE_WEBHOOKS": "maybe"}, {}, "webhooks must be one of"),
        ({"CHAINRULE_WEBHOOK_NETWORKS": "10.0.0.0/33"}, {}, "webhook_networks must be networks like 10.0.0.0/8"),
        ({"CHAINRULE_WEBHOOK_NETWORKS": "10.0.0.1/8"}, {}, "has host bits set"),
        ({"CHAINRULE_LIMIT_NODES": "many"}, {}, "CHAINRULE_LIMIT_NODES must be a whole number"),
        ({"CHAINRULE_LIMIT_NODES": "0"}, {}, "limit nodes must be from 1 to 1,000,000"),
        ({"CHAINRULE_LIMIT_NODES": "1000001"}, {}, "limit nodes must be from 1 to 1,000,000"),
        ({"CHAINRULE_LIMIT_KNOTS": "3"}, {}, "CHAINRULE_LIMIT_KNOTS sets no limit; the limits are body_bytes"),
        ({}, {"colour": "red"}, "no setting 'colour'"),
        ({"CHAINRULE_DATABASE_URL": "mysql://host/name"}, {}, "database_url must begin with postgresql"),
        ({"CHAINRULE_DATABASE_URL": "postgresql://ada:s3cret@host:x/name"}, {}, "database_url cannot be read as a URL"),
    ],
)
def test_wrong_settings(environ, overrides, words):
    with pytest.raises(SettingsError, match=words.replace("(", r"\(")) as refused:
        Settings.from_env(environ, **overrides)
    assert "s3cret" not in str(refused.value)


def test_webhooks_are_off_and_reach_no_network_of_ours_unless_told():
    assert not Settings().webhooks
    assert Settings().webhook_networks == ()
    told = Settings.from_env({"CHAINRULE_WEBHOOKS": "1", "CHAINRULE_WEBHOOK_NETWORKS": "10.0.0.0/8, fd00::/8"})
    assert told.webhooks
    assert [str(network) for network in told.webhook_networks] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_database_is_the_one_that_is_named_else_a_file_else_memory(scheme):
    folder = {"XDG_DATA_HOME": "/srv/ada"}
    named = Settings.from_env(folder | {"CHAINRULE_DATABASE_URL": f"{scheme}://ada:secret@host/jobs"})
    assert named.database == "postgresql+psycopg://ada:secret@host/jobs"
    assert "secret" not in repr(named)
    assert Settings.from_env(folder).database == "sqlite:////srv/ada/chainrule/chainrule.sqlite3"
    assert Settings().database is None


def test_wrong_limits_and_hosts():
    with pytest.raises(SettingsError, match="no limit 'knots'"):
        Settings(limits={"knots": 1})
    with pytest.raises(SettingsError, match="host must not be empty"):
        Settings(host="")


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().port = 1
    with pytest.raises(TypeError):
        Settings().limits["nodes"] = 1
