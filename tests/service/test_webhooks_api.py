"""The paths about webhooks: lists, replays and secrets, each caller seeing its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from tests.service.conftest import Call, caller

from chainrule_engine import ENGINE
from chainrule_service import webhooks
from chainrule_service.app import create_app
from chainrule_service.keys import Keys
from chainrule_service.settings import Settings
from chainrule_service.store import Store


def ended(store: Store, *, owner: str = "", url: str = "https://example.org/") -> str:
    """End a job that has a webhook, and return its id."""
    asked = {"url": url, "events": list(webhooks.EVENTS)}
    job = {"type": "evaluation", "spec": {}, "spec_digest": "sha256:" + "0" * 64, "engine": ENGINE}
    submission = store.submit(job | {"owner": owner, "webhook": asked}, claimed_by="here:1", lease=60)
    assert submission.claim is not None
    store.finish(submission.claim, result={})
    return submission.claim.id


@pytest.fixture
def application() -> Flask:
    return create_app(Settings(webhooks=True))


@pytest.fixture
def store(application: Flask) -> Store:
    found: Store = application.extensions["chainrule"].store
    return found


@pytest.fixture
def call(application: Flask) -> Call:
    return caller(application)


def end_deliveries(store: Store, **values: Any) -> None:
    with store.database.transaction() as connection:
        connection.execute(webhooks.DELIVERIES.update().values(values))


def test_a_delivery(call: Call, store: Store):
    job_id = ended(store)
    [delivery] = call("/v1/webhook-deliveries")["data"]
    assert delivery["type"] == "job.succeeded"
    assert delivery["job"] == job_id
    assert delivery["state"] == "pending"
    assert delivery["attempts"] == 0
    assert delivery["next_attempt_at"] is not None
    assert delivery["finished_at"] is None
    assert call(delivery["links"]["self"]) == delivery
    assert call(delivery["links"]["job"])["id"] == job_id
    assert "payload" not in delivery


def test_messages_and_answers_are_as_described(call: Call, store: Store):
    components = call("/openapi.json")["components"]

    def validate(name: str, instance: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        Draft202012Validator(schema).validate(instance)

    ended(store)
    [delivery] = webhooks.page(store.database, "", 1)
    validate("WebhookMessage", json.loads(delivery["payload"]))
    validate("WebhookDeliveryPage", call("/v1/webhook-deliveries"))
    validate("WebhookSecrets", call("/v1/webhook-secret"))
    validate("WebhookRequest", {"url": "https://example.org/", "events": list(webhooks.EVENTS)})


def test_pages_and_filters(call: Call, store: Store):
    jobs = [ended(store) for _ in range(5)]
    first = call("/v1/webhook-deliveries?limit=3")
    assert [delivery["job"] for delivery in first["data"]] == jobs[:1:-1]
    second = call(f"/v1/webhook-deliveries?limit=3&cursor={first['next_cursor']}")
    assert [delivery["job"] for delivery in second["data"]] == jobs[1::-1]
    assert second["next_cursor"] is None
    [one] = call(f"/v1/webhook-deliveries?job={jobs[2]}")["data"]
    assert one["job"] == jobs[2]
    assert len(call("/v1/webhook-deliveries?state=pending")["data"]) == 5
    assert call("/v1/webhook-deliveries?state=failed")["data"] == []


def test_the_link_to_the_next_page_keeps_the_filters(application: Flask, store: Store):
    ended(store)
    ended(store)
    answer = application.test_client().get("/v1/webhook-deliveries?limit=1&state=pending")
    target = answer.headers["Link"].partition("<")[2].partition(">")[0]
    [second] = caller(application)(target)["data"]
    assert second["id"] != answer.json["data"][0]["id"]
    assert "state=pending" in target


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("state=lost", "state"), ("job=x", "job"), ("job=job_%00", "job"), ("cursor=%0a", "cursor"), ("limit=0", "limit")],
)
def test_wrong_queries(call: Call, query: str, parameter: str):
    assert call(f"/v1/webhook-deliveries?{query}", status=422)["errors"][0]["parameter"] == parameter


def test_a_replay(call: Call, store: Store):
    ended(store)
    [delivery] = call("/v1/webhook-deliveries")["data"]
    replay = delivery["links"]["self"] + "/replay"
    assert "pending already" in call(replay, raw=b"", status=409)["detail"]
    end_deliveries(store, state="failed", attempts=10, finished=1.0)
    replayed = call(replay, raw=b"", status=202)
    assert (replayed["state"], replayed["attempts"], replayed["id"]) == ("pending", 0, delivery["id"])


@pytest.mark.parametrize("delivery_id", ["msg_" + "0" * 32, "nothing", "msg_%00", "%FF"])
def test_what_is_not_there(call: Call, delivery_id: str):
    call(f"/v1/webhook-deliveries/{delivery_id}", status=404)
    call(f"/v1/webhook-deliveries/{delivery_id}/replay", raw=b"", status=404)


def test_anothers_is_not_there(call: Call, store: Store):
    ended(store, owner="somebody")
    [delivery] = webhooks.page(store.database, "somebody", 1)
    end_deliveries(store, state="failed")
    assert call("/v1/webhook-deliveries")["data"] == []
    call(f"/v1/webhook-deliveries/{delivery['id']}", status=404)
    call(f"/v1/webhook-deliveries/{delivery['id']}/replay", raw=b"", status=404)


def test_each_key_sees_its_own_deliveries_and_secret(tmp_path: Path):
    application = create_app(Settings(data=tmp_path, webhooks=True))
    store, call = application.extensions["chainrule"].store, caller(application)
    keys = Keys(store.database)
    (first, as_first), (_, as_second), (_, as_third) = (
        (key, {"Authorization": f"Bearer {text}"})
        for key, text in (
            keys.create("first", ["jobs"]),
            keys.create("second", ["jobs"]),
            keys.create("third", ["evaluate"]),
        )
    )
    job_id = ended(store, owner=first.id)
    [delivery] = call("/v1/webhook-deliveries", headers=as_first)["data"]
    assert delivery["job"] == job_id
    itself = delivery["links"]["self"]
    assert call("/v1/webhook-deliveries", headers=as_second)["data"] == []
    call(itself, headers=as_second, status=404)
    call(f"{itself}/replay", raw=b"", headers=as_second, status=404)
    assert call(itself, headers=as_first)["id"] == delivery["id"]
    [mine], [theirs] = (call("/v1/webhook-secret", headers=headers)["secrets"] for headers in (as_first, as_second))
    assert mine != theirs
    assert webhooks.signing_secrets(store.database, first.id) == [mine]
    call("/v1/webhook-secret", headers=as_third, status=403)
    call("/v1/webhook-secret", status=401)
    store.close()


def test_the_secret_and_its_rotation(call: Call, store: Store):
    [first] = call("/v1/webhook-secret")["secrets"]
    assert call("/v1/webhook-secret")["secrets"] == [first]
    second, previous = call("/v1/webhook-secret/rotate", raw=b"")["secrets"]
    assert previous == first != second
    assert call("/v1/webhook-secret")["secrets"] == [second, first]
    assert webhooks.signing_secrets(store.database, "somebody") != [second, first]


def test_nothing_is_recorded_or_replayed_when_webhooks_are_off():
    application = create_app()
    store, call = application.extensions["chainrule"].store, caller(application)
    job_id = ended(store)
    assert call("/v1/webhook-deliveries")["data"] == []
    with store.database.transaction() as connection:
        webhooks.jobs_ended(connection, [job_id])
    [delivery] = call("/v1/webhook-deliveries")["data"]
    end_deliveries(store, state="failed")
    detail = call(delivery["links"]["self"] + "/replay", raw=b"", status=409)["detail"]
    assert "CHAINRULE_WEBHOOKS=1" in detail
