"""The header Idempotency-Key of requests that make jobs, and batches of them."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.service.databases import output, start

from chainrule_service.training import GRAPH_EXAMPLE, NETWORK_EXAMPLE

PATH = "/v1/jobs"
CHEAP = {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 1}}
LONG = {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 20_000}}
#: Posts the same request over and over, from a process of its own, and writes what it was told.
POSTING = """
import json, sys
from pathlib import Path
from chainrule_service.app import create_app
from chainrule_service.settings import Settings

data, body = json.loads(sys.argv[1])
app = create_app(Settings(**data if "database_url" in data else {"data": Path(data["data"])}))
http = app.test_client()
print("ready", flush=True)
sys.stdin.readline()
answers = [http.post("/v1/jobs", json=body, headers={"Idempotency-Key": f'"{k}"', "Prefer": "respond-async"})
           for k in range(20)]
print(json.dumps([(answer.status_code, answer.json["id"], answer.headers.get("Idempotency-Replayed"))
                  for answer in answers]))
app.extensions["chainrule"].store.close()
"""


def post(queue, body, key, path=PATH, **headers):
    return queue.app.test_client().post(path, json=body, headers={"Idempotency-Key": key, **headers})


def listed(queue):
    return [job["id"] for job in queue.call(PATH)["data"]]


def test_a_request_that_is_repeated_makes_one_job(queue):
    first, again, bare = post(queue, CHEAP, '"a"'), post(queue, CHEAP, '"a"'), post(queue, CHEAP, "a")
    assert [answer.status_code for answer in (first, again, bare)] == [201] * 3
    assert first.get_data() == again.get_data() == bare.get_data()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == bare.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert post(queue, CHEAP, '"b"').json["id"] != first.json["id"]
    assert len(listed(queue)) == 2


def test_the_answer_tells_of_the_job_as_it_is_now(queue):
    first = post(queue, LONG, '"a"')
    assert (first.status_code, first.json["state"]) == (202, "queued")
    assert post(queue, LONG, '"a"').status_code == 202
    with queue.working():
        again = post(queue, LONG, '"a"', Prefer="wait=30")
    assert (again.status_code, again.json["id"], again.json["state"]) == (201, first.json["id"], "succeeded")
    assert again.headers["Idempotency-Replayed"] == "true"


def test_another_body_needs_another_key(queue):
    post(queue, CHEAP, '"a"')
    for other in (LONG, CHEAP | {"priority": 0}):
        answer = post(queue, other, '"a"')
        assert (answer.status_code, answer.json["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(listed(queue)) == 1


def in_progress(queue):
    """Do what a request does whose job still runs in it; return its claim, and a way to repeat the request."""
    body = json.dumps(CHEAP).encode()
    row = CHEAP | {"spec_digest": "", "engine": {"version": "0", "conventions": 1}}
    key = ("a", hashlib.sha256(body).hexdigest())
    claim = queue.store.submit(row, idempotency=key, claimed_by="here:1", lease=60).claim
    headers = {"Idempotency-Key": "a", "Content-Type": "application/json"}
    return claim, lambda: queue.app.test_client().post(PATH, data=body, headers=headers)


def test_a_request_that_is_still_being_answered(queue):
    claim, repeat = in_progress(queue)
    answer = repeat()
    assert (answer.status_code, answer.json["type"]) == (409, "/problems/request-in-progress")
    assert answer.headers["Retry-After"] == "1"
    queue.store.finish(claim, result={})
    assert (repeat().status_code, repeat().json["id"]) == (201, claim.id)


def test_once_a_worker_has_taken_it_over_the_request_is_answered_no_more(queue):
    _, repeat = in_progress(queue)
    queue.store.expire_worker("here:1")
    assert queue.store.claim("here:2", 60)
    answer = repeat()
    assert (answer.status_code, answer.json["state"]) == (202, "running")


def test_a_key_goes_with_its_job(queue):
    first = post(queue, CHEAP, '"a"')
    queue.call(first.headers["Location"], method="DELETE", status=204)
    again = post(queue, LONG, '"a"')
    assert again.json["id"] != first.json["id"]
    assert "Idempotency-Replayed" not in again.headers


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "x" * 129])
def test_what_is_no_key_is_refused_before_anything_is_done(call_with, key):
    call = call_with()
    problem = call(PATH, CHEAP, 422, headers={"Idempotency-Key": key})
    assert "Idempotency-Key" in problem["detail"]
    assert call(PATH)["data"] == []


def test_a_refused_request_leaves_its_key_free(queue):
    bad = {"type": "training", "spec": NETWORK_EXAMPLE | {"steps": 0}}
    assert post(queue, bad, '"a"').status_code == 422
    assert post(queue, CHEAP, '"a"').status_code == 201


@pytest.mark.slow
def test_the_same_requests_from_several_processes(queue, settings_of_a_queue):
    argument = json.dumps([settings_of_a_queue, CHEAP], default=str)
    processes = [start(POSTING, argument) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(output(process)) for process in processes]
    assert {status for answers in told for status, *_ in answers} == {202}
    assert len(listed(queue)) == 20
    for same in zip(*told, strict=True):
        assert len({job_id for _, job_id, _ in same}) == 1
        assert [replayed for *_, replayed in same].count(None) == 1


# ------------------------------------------------------------------------------------------------------ batches

BATCH = {
    "items": [
        LONG | {"labels": {"item": "0"}},
        {"type": "training", "spec": {}},
        CHEAP,
        [],
        {"type": "evaluation", "spec": {"graph": {"program": "y = 1 + + + 2 +"}}},
        {"type": "training", "spec": GRAPH_EXAMPLE, "priority": 5},
    ]
}


def test_a_batch_has_a_job_or_a_problem_for_each_item(queue):
    data = queue.call(f"{PATH}/batch", BATCH)["data"]
    assert [list(entry) for entry in data] == [["job"], ["problem"], ["job"], ["problem"], ["problem"], ["job"]]
    jobs = [entry["job"] for entry in data if "job" in entry]
    assert [job["state"] for job in jobs] == ["queued"] * 3  # the cheap one too
    assert [job["queue_position"] for job in jobs] == [1, 2, 0]
    assert jobs[0]["labels"] == {"item": "0"}
    assert listed(queue) == [job["id"] for job in reversed(jobs)]
    pointers = [entry["problem"]["errors"][0]["pointer"] for entry in data if "problem" in entry]
    assert pointers == ["#/items/1/spec/optimizer", "#/items/3", "#/items/4/spec/graph/program"]


def test_a_batch_that_is_repeated(queue):
    first, again = (post(queue, BATCH, '"a"', f"{PATH}/batch") for _ in range(2))
    assert first.json == again.json
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
    assert len(listed(queue)) == 3
    assert post(queue, {"items": [CHEAP]}, '"a"', f"{PATH}/batch").status_code == 422
    # The key of a batch is not that of a job, nor are those of its items anybody's.
    assert post(queue, CHEAP, '"a"').status_code == 201
    assert len(listed(queue)) == 4


def test_a_batch_that_was_broken_off_goes_on(queue):
    whole = post(queue, BATCH, '"a"', f"{PATH}/batch").json["data"]
    last = whole[-1]["job"]
    queue.call(last["links"]["cancel"], {})
    queue.call(last["links"]["self"], method="DELETE", status=204)  # as if it had never come so far
    again = post(queue, BATCH, '"a"', f"{PATH}/batch").json["data"]
    assert [entry["job"]["id"] for entry in again[:3] if "job" in entry] == [
        entry["job"]["id"] for entry in whole[:3] if "job" in entry
    ]
    assert again[-1]["job"]["id"] != last["id"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "#/items"), ({"items": []}, "#/items"), ({"items": [CHEAP] * 21}, "#/items"), ({"jobs": []}, "#/items")],
)
def test_faults_in_a_batch(call, body, pointer):
    assert call(f"{PATH}/batch", body, 422)["errors"][0]["pointer"] == pointer


def test_a_batch_without_workers_is_run_at_once(call):
    data = call(f"{PATH}/batch", {"items": [CHEAP, LONG]})["data"]
    assert [entry["job"]["state"] for entry in data] == ["succeeded", "succeeded"]
