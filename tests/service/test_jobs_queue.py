"""/v1/jobs where other processes run what is not cheap: accepting, waiting, cancelling, finding."""

from __future__ import annotations

import threading
import time

import pytest

from chainrule_engine.training import train
from chainrule_service.training import NETWORK_EXAMPLE

PATH = "/v1/jobs"
NOW = time.monotonic


def training(steps=20_000, **members):
    """A job that is not cheap, though its steps take no time."""
    return {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": steps}, **members}


CHEAP = training(steps=1)


def post(queue, body=None, prefer="", path=PATH, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return queue.app.test_client().post(path, json=body or training(), headers=headers | {"Prefer": prefer})


def get(queue, path, prefer="", **headers):
    return queue.app.test_client().get(path, headers=headers | {"Prefer": prefer})


# ---------------------------------------------------------------------------------------------------- accepting


def test_a_job_that_is_not_cheap_is_accepted_and_run_elsewhere(queue):
    answer = post(queue)
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"{PATH}/{answer.json['id']}"
    assert (answer.json["state"], answer.json["queue_position"], answer.json["started_at"]) == ("queued", 0, None)
    assert (answer.json["progress"], answer.json["result"], answer.json["attempts"]) == (None, None, 0)
    assert "Preference-Applied" not in answer.headers
    later = post(queue).json
    assert later["queue_position"] == 1
    waiting = get(queue, answer.headers["Location"])
    assert (waiting.status_code, waiting.headers["Retry-After"], waiting.json) == (200, "1", answer.json)
    with queue.working():
        done = get(queue, later["links"]["self"], "wait=30").json
    assert (done["state"], done["queue_position"], done["attempts"]) == ("succeeded", None, 1)
    assert done["result"] == train(NETWORK_EXAMPLE | {"steps": 20_000})


def test_a_cheap_job_is_run_at_once_unless_it_is_not_to_be(queue):
    assert post(queue, CHEAP).status_code == 201
    answer = post(queue, CHEAP, "respond-async")
    assert (answer.status_code, answer.json["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "respond-async"


def test_what_is_cheap_is_a_limit(queue_with):
    assert post(queue_with(inline_work=10), CHEAP).status_code == 202
    assert post(queue_with(inline_work=10_000_000)).status_code == 201


def test_without_workers_every_job_runs_in_its_request(client, call):
    answer = client.post(PATH, json=training(), headers={"Prefer": "respond-async, wait=5"})
    assert (answer.status_code, answer.json["state"]) == (201, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=5"
    assert call(f"{PATH}?validate_only=true", training())["inline"]


def test_asking_what_a_job_would_take(queue):
    path = f"{PATH}?validate_only=true"
    estimate = queue.call(path, training())
    assert (estimate["type"], estimate["inline"]) == ("training", False)
    assert estimate["cost"] > 5_000
    assert estimate["memory"] > 0
    cheap = queue.call(path, CHEAP)
    assert cheap["inline"]
    assert cheap["cost"] < estimate["cost"]
    assert queue.call(path, {"type": "evaluation", "spec": {"graph": {"program": "y = 1 + 2"}}})["memory"] is None
    queue.call(path, training(steps=0), 422)
    problem = queue.call(f"{PATH}?validate_only=yes", training(), 422)
    assert problem["errors"][0]["parameter"] == "validate_only"
    assert queue.call(PATH)["data"] == []


def test_what_goes_with_a_job(queue):
    job = post(queue, training(labels={"course": "ml 1", "week": "3"}, priority=7, deadline_seconds=3600)).json
    assert (job["labels"], job["priority"]) == ({"course": "ml 1", "week": "3"}, 7)
    assert job["created_at"] < job["deadline_at"]
    assert (post(queue).json["labels"], post(queue).json["deadline_at"]) == ({}, None)


@pytest.mark.parametrize(
    ("members", "pointer", "words"),
    [
        ({"labels": []}, "#/labels", "a list"),
        ({"labels": {"a b": "c"}}, "#/labels/a%20b", "letters"),
        ({"labels": {"a": ""}}, "#/labels/a", "1 to 64"),
        ({"labels": {"a": "\x00"}}, "#/labels/a", "control"),
        ({"labels": {"a": 1}}, "#/labels/a", "string"),
        ({"labels": {str(k): "x" for k in range(17)}}, "#/labels", "17 labels"),
        ({"priority": 101}, "#/priority", "-100 to 100"),
        ({"priority": 1.5}, "#/priority", "whole"),
        ({"deadline_seconds": 0}, "#/deadline_seconds", "above 0"),
        ({"deadline_seconds": "soon"}, "#/deadline_seconds", "string"),
        ({"state": "succeeded"}, "#/state", "unknown field"),
        ({"owner": "somebody"}, "#/owner", "unknown field"),
    ],
)
def test_faults_in_what_goes_with_a_job(call, members, pointer, words):
    problem = call(PATH, training(**members), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert words in problem["errors"][0]["detail"]


def test_the_end_of_a_job_is_told_where_it_asks_for_that(queue_with):
    queue = queue_with(webhooks=True)
    hook = {"url": "https://example.com/hook"}
    done = post(queue, CHEAP | {"webhook": hook}).json
    waiting = post(queue, training(webhook=hook | {"events": ["job.cancelled"]})).json
    post(queue, path=waiting["links"]["cancel"])
    post(queue, CHEAP | {"webhook": hook | {"events": ["job.failed"]}})
    told = queue.call("/v1/webhook-deliveries")["data"]
    assert [(entry["type"], entry["job"]) for entry in told] == [
        ("job.cancelled", waiting["id"]), ("job.succeeded", done["id"]),
    ]  # fmt: skip
    problem = queue.call(PATH, CHEAP | {"webhook": {"url": "http://127.0.0.1/"}}, 422)
    assert problem["errors"][0]["pointer"] == "#/webhook/url"


def test_higher_priorities_start_first(queue):
    low, high = post(queue, training(priority=-1)).json, post(queue, training(priority=1)).json
    assert get(queue, low["links"]["self"]).json["queue_position"] == 1
    assert get(queue, high["links"]["self"]).json["queue_position"] == 0
    assert queue.store.claim("worker:1", 5).id == high["id"]


def test_a_job_past_its_deadline_expires(queue):
    job = post(queue, training(deadline_seconds=0.01)).json
    time.sleep(0.02)
    queue.store.sweep()
    expired = get(queue, job["links"]["self"]).json
    assert (expired["state"], expired["failure"]["code"]) == ("expired", "deadline-passed")


# ------------------------------------------------------------------------------------------------------ waiting


def test_a_post_that_waits_until_the_end(queue):
    with queue.working(after=0.2):
        answer = post(queue, prefer="wait=30")
    assert (answer.status_code, answer.json["state"]) == (201, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert "Retry-After" not in answer.headers
    assert answer.get_data() == get(queue, answer.headers["Location"]).get_data()


def test_a_post_that_waits_in_vain(queue):
    began = NOW()
    answer = post(queue, prefer="respond-async, wait=1")
    assert NOW() - began >= 1
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert answer.headers["Preference-Applied"] == "respond-async, wait=1"


def test_a_long_poll(queue):
    job = post(queue).json
    with queue.working(after=0.2):
        answer = get(queue, job["links"]["self"], "wait=30")
    assert (answer.json["state"], answer.headers["Preference-Applied"]) == ("succeeded", "wait=30")
    assert len(answer.json["result"]["loss_history"]) == 20_000
    again = get(queue, job["links"]["self"], "wait=30")
    assert again.headers["Preference-Applied"] == "wait=30"


def test_only_so_many_requests_wait_and_others_are_answered_at_once(queue_with):
    queue = queue_with(threads=2)  # one works, the other one stays free
    began = NOW()
    answer = post(queue, prefer="wait=30")
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    assert "Preference-Applied" not in get(queue, answer.headers["Location"], "wait=30").headers
    assert NOW() - began < 20


def test_places_for_waiting_are_given_back(queue):
    seats = queue.service.seats.free
    assert 0 < seats < queue.service.settings.threads
    job = post(queue, prefer="wait=1").json
    get(queue, job["links"]["self"], "wait=1")
    assert queue.service.seats.free == seats


def test_nothing_waits_for_a_server_that_stops(queue):
    threading.Timer(0.2, queue.service.draining.set).start()
    began = NOW()
    answer = post(queue, prefer="wait=30")
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    assert NOW() - began < 20


# -------------------------------------------------------------------------------------------------- remembering


def test_a_job_that_has_ended_can_be_kept(queue):
    job = post(queue, CHEAP).json
    answer = get(queue, job["links"]["self"])
    tag = answer.headers["ETag"]
    assert tag.startswith('"sha256-')
    assert answer.headers["Cache-Control"] == "private, no-cache"
    same = get(queue, job["links"]["self"], **{"If-None-Match": tag})
    assert (same.status_code, same.get_data(), same.headers["ETag"]) == (304, b"", tag)
    assert get(queue, job["links"]["self"], **{"If-None-Match": '"other"'}).status_code == 200
    waiting = get(queue, post(queue).json["links"]["self"])
    assert "ETag" not in waiting.headers
    assert waiting.headers["Cache-Control"] == "no-store"


# --------------------------------------------------------------------------------------------------- cancelling


def test_cancelling_a_job_that_waits(queue):
    job = post(queue).json
    answer = post(queue, path=job["links"]["cancel"])
    assert (answer.status_code, answer.json["state"]) == (200, "cancelled")
    assert queue.store.claim("worker:1", 5) is None
    again = post(queue, path=job["links"]["cancel"])
    assert (again.status_code, again.json) == (200, answer.json)


def test_cancelling_a_job_that_runs(queue):
    job = post(queue).json
    claim = queue.store.claim("worker:1", 5)
    answer = post(queue, path=job["links"]["cancel"])
    assert (answer.status_code, answer.json["state"], answer.headers["Retry-After"]) == (202, "cancelling", "1")
    assert [entry["id"] for entry in queue.call(f"{PATH}?state=cancelling")["data"]] == [job["id"]]
    assert queue.call(f"{PATH}?state=running")["data"] == []
    queue.store.finish(claim, state="cancelled")
    assert get(queue, job["links"]["self"]).json["state"] == "cancelled"


def test_a_running_job_stops_when_it_is_cancelled(queue):
    job = post(queue, training(steps=400_000)).json
    with queue.working():
        while get(queue, job["links"]["self"]).json["state"] == "queued":
            time.sleep(0.01)
        assert post(queue, path=job["links"]["cancel"]).status_code in (200, 202)
        assert get(queue, job["links"]["self"], "wait=30").json["state"] in ("cancelled", "succeeded")


def test_cancelling_leaves_an_ended_job_as_it_is(queue):
    job = post(queue, CHEAP).json
    answer = post(queue, path=job["links"]["cancel"])
    assert (answer.status_code, answer.json) == (200, job)


def test_a_job_that_waits_cannot_be_deleted(queue):
    job = post(queue).json
    problem = queue.call(job["links"]["self"], method="DELETE", status=409)
    assert "queued; cancel it" in problem["detail"]


# ------------------------------------------------------------------------------------------------------ finding


def ids(queue, query):
    return [job["id"] for job in queue.call(f"{PATH}?{query}")["data"]]


def test_a_list_can_be_kept_to_some_jobs(queue):
    done = post(queue, training(steps=1, labels={"course": "ml: 1"})).json
    middle = done["created_at"]
    other = post(queue, {"type": "evaluation", "spec": {"graph": {"program": "y = 1 + 2"}}}).json
    waiting = post(queue, training(labels={"course": "ai"})).json
    assert ids(queue, "") == [waiting["id"], other["id"], done["id"]]
    assert ids(queue, "state=queued") == [waiting["id"]]
    assert ids(queue, "state=expired") == []
    assert ids(queue, "type=evaluation") == [other["id"]]
    assert ids(queue, "label=course:ml:%201") == [done["id"]]
    assert ids(queue, "label=course:a") == ids(queue, "label=cours:ai") == []
    assert ids(queue, f"created_after={middle}") == [waiting["id"], other["id"]]
    assert ids(queue, "created_after=2000-01-01T00:00:00%2B01:00") == ids(queue, "")
    assert ids(queue, "state=succeeded&type=training") == [done["id"]]


def test_a_cursor_belongs_to_its_list(queue):
    made = [post(queue, training(labels={"course": "ml"})).json["id"] for _ in range(3)]
    first = queue.app.test_client().get(f"{PATH}?state=queued&label=course:ml&limit=2")
    link = first.headers["Link"].partition(">")[0].removeprefix("<")
    assert ids(queue, link.partition("?")[2]) == made[:1]
    cursor = first.json["next_cursor"]
    assert ids(queue, f"label=course:ml&state=queued&limit=1&cursor={cursor}") == made[:1]
    for others in ("", "state=queued&", "state=queued&label=course:ai&"):
        problem = queue.call(f"{PATH}?{others}cursor={cursor}", status=422)
        assert problem["errors"][0]["parameter"] == "cursor"
        assert "other parameters" in problem["detail"]


@pytest.mark.parametrize(
    "query",
    [
        *("state=gone", "state=", "type=marking", "label=course", "label=:x", "label=a:", "label=a:%00"),
        *("label=%C3%A9:x", "created_after=yesterday", "created_after=2026-01-01", "created_after=2026-01-01T00:00:00"),
        "created_after=",
    ],
)
def test_bad_filters(call, query):
    assert call(f"{PATH}?{query}", status=422)["errors"][0]["parameter"] == query.partition("=")[0]


def test_moments_at_the_edges_of_time(queue):
    post(queue)
    assert len(ids(queue, "created_after=0001-01-01T00:00:00%2B23:59")) == 1
    assert ids(queue, "created_after=9999-12-31T23:59:59-23:59") == []


def test_there_is_no_such_job(queue):
    for job_id in ("job_0", "%00", "job_%ff", "x" * 500, "job_" + "0" * 32):
        for rest, method in (("", "GET"), ("", "DELETE"), ("/cancel", "POST"), ("/metrics", "GET")):
            queue.call(f"{PATH}/{job_id}{rest}", {} if method == "POST" else None, 404, method)


def test_a_job_of_somebody_else_is_no_job(queue):
    spec = {"type": "training", "spec": {}, "spec_digest": "", "engine": {}}
    theirs = queue.store.submit(spec | {"owner": "somebody"}).job
    path = f"{PATH}/{theirs['id']}"
    for rest, method in (("", "GET"), ("", "DELETE"), ("/cancel", "POST"), ("/metrics", "GET")):
        assert queue.app.test_client().open(path + rest, method=method, json={}).status_code == 404
    assert queue.call(PATH)["data"] == []
    assert queue.store.get(theirs["id"])["state"] == "queued"
