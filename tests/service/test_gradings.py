"""POST /v1/gradings and its like: reports, regrades, batches, lists, deletion, formats, jobs."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import re
import sqlite3
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.service.queued import until

from chainrule_engine.exercises import generate
from chainrule_engine.grading import canonical, grade, read_task
from chainrule_engine.rendering import FORMATS
from chainrule_service import grading, grading_jobs, grading_reading, runner
from chainrule_service.app import create_app
from chainrule_service.database import Database, DatabaseUnavailable
from chainrule_service.grading_fields import GradingBatchRequest
from chainrule_service.grading_schemas import EXAMPLE
from chainrule_service.gradings import Gradings
from chainrule_service.keys import SCOPES, Keys
from chainrule_service.settings import Settings
from chainrule_service.task_cache import TaskCache
from chainrule_service.training import NETWORK_EXAMPLE

PATH = "/v1/gradings"
#: The right numbers, which no student is to see: nobody meets them by chance.
PROGRAM = "c = a * b\nd = c + a\ne = d * c"
SECRETS = ("138.375", "219.9375", "-180.84375")  # of the graph below, in the form of JSON
TASK = {
    "id": "secret",
    "title": "Backprop by hand",
    "evaluation": {"graph": {"inputs": {"a": 2.25, "b": -3.5}, "program": PROGRAM}},
}


def submission(name, **changes):
    return EXAMPLE | {"submission": {"id": name}} | changes


def entries(**changes):
    return EXAMPLE["task"] | changes


class Keyed:
    """A service of its own with keys."""

    def __init__(self, folder, **limits):
        self.app = create_app(Settings(data=folder, limits=limits))
        self.shared = self.app.extensions["chainrule"]
        self.database = Database(self.shared.settings.database)
        self.keys = Keys(self.database)

    def key(self, *scopes, **options):
        return self.keys.create("a test", scopes or SCOPES, **options)[1]

    def call(self, method, path, key, status, data=None):
        headers = {"Authorization": f"Bearer {key}"}
        answer = self.app.test_client().open(path, method=method, headers=headers, json=data)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer

    def close(self):
        self.database.close()
        self.shared.store.close()


@pytest.fixture
def keyed(tmp_path):
    with contextlib.closing(Keyed(tmp_path)) as service:
        yield service


@pytest.fixture
def own(tmp_path):
    """An application of its own, over a file."""
    app = create_app(Settings(data=tmp_path))
    yield app.test_client()
    app.extensions["chainrule"].store.close()


# ------------------------------------------------------------------------------------------------------- one


def test_a_report_comes_of_it_and_is_kept(own):
    made = own.post(PATH, json=EXAMPLE)
    assert made.status_code == 201
    report = made.json
    assert (report["schema"], report["outcome"], report["score"], report["max_score"]) == (
        "chainrule.report/1", "graded", 1, 3,
    )  # fmt: skip
    assert [(check["id"], check["passed"]) for check in report["checks"]] == [
        ("value", True), ("grad.a", False), ("grad.b", False),
    ]  # fmt: skip
    assert made.headers["Location"] == f"/v1/gradings/{report['id']}"
    again = own.get(made.headers["Location"])
    assert (again.status_code, again.data) == (200, made.data)


def test_the_same_again_is_the_same_in_every_byte_and_is_no_second_one(own):
    first, second = own.post(PATH, json=EXAMPLE), own.post(PATH, json=EXAMPLE)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.data == second.data
    assert "Location" not in second.headers
    assert len(own.get(PATH).json["data"]) == 1
    another = own.post(PATH, json=submission("s-2"))
    assert another.status_code == 201
    assert another.json["id"] != first.json["id"]


def test_the_digest_is_that_of_the_bytes(own):
    for audience in ("student", "staff"):
        report = own.post(f"{PATH}?audience={audience}", json=EXAMPLE).json
        claimed = report.pop("digest")
        assert claimed == "sha256:" + hashlib.sha256(canonical(report).encode()).hexdigest()


def test_what_is_not_to_be_kept_is_not(own):
    answer = own.post(PATH, json=EXAMPLE | {"store": False})
    assert (answer.status_code, answer.json["outcome"]) == (200, "graded")
    assert own.get(PATH).json["data"] == []
    assert own.get(f"{PATH}/{answer.json['id']}").status_code == 404
    assert own.post(PATH, json=EXAMPLE).data == answer.data


def test_expected_numbers_are_for_staff(own):
    student = own.post(PATH, json=EXAMPLE)
    staff = own.post(f"{PATH}?audience=staff", json=EXAMPLE)
    assert "staff" not in student.json
    assert {name: entry["expected"] for name, entry in staff.json["staff"]["checks"].items()} == {
        "value": 54.0, "grad.a": 36.0, "grad.b": 45.0,
    }  # fmt: skip
    assert own.get(f"{PATH}/{staff.json['id']}?audience=staff").data == staff.data


@pytest.mark.parametrize("level", ["pass_fail", "hint", "full"])
def test_no_answer_to_a_student_holds_an_expected_number(call, level):
    """In no format, phase or visibility, whatever they have sent, to three digits."""
    task = TASK | {"feedback": level}
    expected = call(f"{PATH}?audience=staff", {"task": task, "answers": {"value": 1}, "store": False})["staff"][
        "checks"
    ]
    secrets = {f"{abs(entry['expected']):.6g}"[:4] for entry in expected.values()}
    assert all(len(secret.replace(".", "")) >= 3 for secret in secrets)
    task |= {
        "checks": [
            {"of": of, "visibility": visibility, "id": f"{of} {visibility}"}
            for of in ("value", "gradients.a", "gradients.b")
            for visibility in ("visible", "after_due_date", "after_published", "hidden", "staff")
        ]
    }
    options = {"lti-ags": {"user": "u", "timestamp": "2026-11-30T00:00:00Z"}}
    wrong = ({"value": 1, "gradients": {"a": 7, "b": 1e9}}, {"gradients": {"a": 0}}, {"value": "NaN"}, {"value": []})
    for answers, phase, form in itertools.product(wrong, ("open", "due", "published"), (None, *FORMATS)):
        body = {"task": task, "answers": answers, "store": False}
        query = f"?phase={phase}" + (f"&format={form}" if form else "")
        answer = call(PATH + query, body | {"options": options.get(form, {})})
        text = answer.get_data(as_text=True) if form and not isinstance(answer, dict | list) else json.dumps(answer)
        text = text.replace("sha256:", "\n").splitlines()
        shown = "\n".join(
            line[64:] if len(line) > 64 and set(line[:64]) <= set("0123456789abcdef") else line for line in text
        )
        assert not [secret for secret in secrets if secret in shown], (form, phase, answers)


def test_phases_show_more_and_more(call):
    checks = [
        {"of": "value", "visibility": visibility, "id": visibility}
        for visibility in ("visible", "after_due_date", "after_published", "hidden", "staff")
    ]
    body = EXAMPLE | {"task": entries(checks=checks), "store": False}
    seen = [
        [check["id"] for check in call(f"{PATH}?phase={phase}", body)["checks"]]
        for phase in ("open", "due", "published")
    ]
    assert seen == [["visible"], ["visible", "after_due_date"], ["visible", "after_due_date", "after_published"]]
    staff = call(f"{PATH}?audience=staff", body)
    assert [check["id"] for check in staff["checks"]] == [check["id"] for check in checks]
    assert call(PATH, body)["withheld"] == 4


@pytest.mark.parametrize(
    "answers", [None, 1, "x", [], {}, {"value": "nine"}, {"value": None}, {"gradients": []}, {"value": {}}]
)
def test_answers_that_cannot_be_read_are_no_attempt_and_no_zero(call, answers):
    report = call(PATH, EXAMPLE | {"answers": answers, "store": False})
    assert report["outcome"] == "not_gradable"
    assert report["format_errors"]
    assert all(fault["pointer"].startswith("#") for fault in report["format_errors"])
    assert report["checks"] == []


def test_a_training_is_graded_too(call):
    spec = {
        "model": {
            "graph": {"inputs": {"w": 0, "x": 0, "y": 0}, "program": "L = (w*x - y)**2"},
            "parameters": ["w"],
            "loss": "L",
        },
        "data": {"x": [1, 2], "y": [2, 4]},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 5,
    }
    job = call("/v1/jobs", {"type": "training", "spec": spec}, 201)["result"]
    answers = {name: job[name] for name in ("loss_history", "parameters")}
    report = call(PATH, {"task": {"training": spec}, "answers": answers, "store": False})
    assert (report["score"], report["max_score"]) == (2, 2)
    answers["loss_history"] = [2 * loss for loss in answers["loss_history"]]
    report = call(PATH, {"task": {"training": spec}, "answers": answers, "store": False})
    assert (report["score"], report["max_score"]) == (1, 2)


# --------------------------------------------------------------------------------------------------- the task


def test_the_second_submission_of_a_task_reads_and_computes_nothing(call, monkeypatch):
    reads = []
    monkeypatch.setattr(
        grading_reading, "read_task", lambda *a, _read=grading_reading.read_task, **k: reads.append(1) or _read(*a, **k)
    )
    task = entries(title="read once")
    bounds = grading_reading.Bounds(Settings(), lambda _: contextlib.nullcontext())
    tasks = [grading_reading.read_task_cached(task, bounds) for _ in range(2)]
    assert tasks[0] is tasks[1]
    for name in "abc":
        call(PATH, submission(name, task=task, store=False))
    assert reads == [1]


def test_many_threads_grade_one_task_as_one_does(app):
    """What a task computes when it is first asked for, many ask for at once."""
    exercise = generate(11, nodes=12, inputs=4)
    names, wrong = list(exercise["inputs"]), range(24)

    def body(title, number):
        answers = {"value": number, "gradients": {name: number + place for place, name in enumerate(names)}}
        return {"task": {"title": title, "evaluation": {"graph": exercise}}, "answers": answers, "store": False}

    def ask(number):
        return app.test_client().post(f"{PATH}?audience=staff", json=body("threads", number)).json

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(ask, wrong))
    finally:
        sys.setswitchinterval(interval)
    for number, report in zip(wrong, together, strict=True):
        alone = grade(read_task(body("threads", number)["task"]), body("threads", number)["answers"])
        assert report == json.loads(canonical(alone.to_dict("staff")))


def test_limits_are_part_of_what_is_remembered(call, call_with):
    task = entries(title="small")
    call(PATH, EXAMPLE | {"task": task, "store": False})
    problem = call_with(limits={"nodes": 2})(PATH, EXAMPLE | {"task": task}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("nodes", "#/task/evaluation/graph/program")


def test_a_task_has_the_same_digest_in_the_service_and_outside(call):
    for task in (EXAMPLE["task"], {"training": NETWORK_EXAMPLE | {"steps": 3}}):
        answers = {"value": 1, "loss_history": [1]}
        report = call(f"{PATH}?audience=staff", {"task": task, "answers": answers, "store": False})
        assert report["task"]["digest"] == read_task(task).digest


# -------------------------------------------------------------------------------------------------- regrades


def test_a_regrade_names_what_it_supersedes_and_shows_what_has_changed(own):
    old = own.post(PATH, json=EXAMPLE).json
    mended = EXAMPLE | {
        "task": entries(checks=[{"of": "value"}, {"of": "gradients.a", "compare": {"mode": "range", "low": 0}}]),
        "supersedes": old["id"],
        "reason": "any positive gradient will do",
    }
    preview = own.post(PATH, json=mended | {"store": False})
    assert len(own.get(PATH).json["data"]) == 1
    made = own.post(PATH, json=mended)
    assert (preview.status_code, made.status_code) == (200, 201)
    regrade = made.json["regrade"]
    assert preview.json["regrade"] == regrade
    assert regrade["supersedes"] == old["id"]
    assert "reason" not in regrade
    assert regrade["changes"]["score"] == {"old": 1, "new": 2, "difference": 1}
    assert [(check["id"], check["old"], check["new"]) for check in regrade["changes"]["checks"]] == [
        ("grad.a", 0, 1), ("grad.b", 0, None),
    ]  # fmt: skip
    link = own.get(f"{PATH}/{old['id']}").headers["Link"]
    assert link == f'</v1/gradings/{made.json["id"]}>; rel="successor-version"'
    staff = own.get(f"{PATH}/{made.json['id']}?audience=staff").json
    assert staff["regrade"]["reason"] == "any positive gradient will do"
    assert own.get(f"{PATH}/{made.json['id']}").data == made.data
    again = own.post(PATH, json=mended)
    assert (again.status_code, again.data) == (200, made.data)
    new, first = own.get(PATH).json["data"]
    assert (new["supersedes"], first["superseded_by"]) == (old["id"], new["id"])
    assert new["reason"] == "any positive gradient will do"


def test_a_regrade_that_changes_nothing_is_the_same_grading(own):
    old = own.post(PATH, json=EXAMPLE).json
    again = own.post(PATH, json=EXAMPLE | {"supersedes": old["id"]})
    assert again.status_code == 200
    assert again.json["regrade"]["changes"]["changed"] is False
    assert len(own.get(PATH).json["data"]) == 1


def test_what_is_not_there_cannot_be_superseded(own):
    problem = own.post(PATH, json=EXAMPLE | {"supersedes": "sha256:" + "0" * 64})
    assert (problem.status_code, problem.json["errors"][0]["pointer"]) == (422, "#/supersedes")
    assert own.get(PATH).json["data"] == []


@pytest.mark.parametrize("mine", [{"id": "s-2"}, {"attempt": 1}, {}])
def test_the_report_on_another_submission_cannot_be_superseded(own, mine):
    old = own.post(PATH, json=EXAMPLE).json
    other = EXAMPLE | {"submission": mine, "supersedes": old["id"]}
    problem = own.post(PATH, json=other)
    assert (problem.status_code, problem.json["errors"][0]["pointer"]) == (422, "#/supersedes")
    data = own.post(f"{PATH}/batch", json={"items": [other, EXAMPLE | {"supersedes": old["id"]}]}).json["data"]
    assert data[0]["problem"]["errors"][0]["pointer"] == "#/items/0/supersedes"
    assert "report" in data[1]
    assert len(own.get(PATH).json["data"]) == 1
    assert own.post(PATH, json=other | {"submission": {"id": "s-1", "attempt": 2}}).status_code == 201


# ---------------------------------------------------------------------------------------------------- batches


@pytest.fixture
def faulty(monkeypatch):
    """The engine cannot grade the submission s-2."""

    def graded(task, answers, submission, _grade=grading.grade):
        if submission and submission.get("id") == "s-2":
            raise ZeroDivisionError("a bug")
        return _grade(task, answers, submission)

    monkeypatch.setattr(grading, "grade", graded)


def test_a_fault_of_ours_in_one_of_a_batch_spoils_no_other(own, faulty, caplog):
    old = own.post(PATH, json=submission("s-1")).json
    items = [submission("s-1", supersedes=old["id"]), submission("s-2"), submission("s-3")]
    for kind in ("staff", "student"):
        first, second, third = own.post(f"{PATH}/batch?audience={kind}", json={"items": items}).json["data"]
        assert [each["report"]["outcome"] for each in (first, third)] == ["graded"] * 2
        report = second["report"]
        assert (report["outcome"], report["retryable"]) == ("infrastructure_error", True)
        assert (report["score"], report["max_score"], report["checks"]) == (0, 3, [])
        assert report["submission"] == {"id": "s-2", "attempt": None, "digest": None}
        assert report["task"] == first["report"]["task"]
        assert ("staff" in report) == (kind == "staff")
    assert {entry["submission"]["id"] for entry in own.get(PATH).json["data"]} == {"s-1", "s-3"}
    assert "a bug" in caplog.text
    assert own.post(PATH, json=submission("s-2")).status_code == 500


def test_a_fault_of_ours_in_one_of_a_job_spoils_no_other(own, faulty):
    spec = {"items": [submission("s-1"), submission("s-2", supersedes="sha256:" + "0" * 64), submission("s-2")]}
    job = own.post("/v1/jobs", json={"type": "grading", "spec": spec}).json
    assert job["state"] == "succeeded", job["failure"]
    first, second, third = job["result"]["data"]
    assert first["report"]["outcome"] == "graded"
    assert second["problem"]["errors"][0]["pointer"] == "#/items/1/supersedes"
    assert third["report"]["retryable"] is True
    assert own.get(f"/v1/jobs/{job['id']}/metrics").json["loss"][1:] == ["NaN", "NaN"]


@pytest.mark.filterwarnings("ignore:the diagnosis failed")
def test_a_diagnosis_that_fails_is_logged(own, monkeypatch, caplog):
    monkeypatch.setattr("chainrule_engine.diagnosis.Catalogue.diagnose", None)
    body = EXAMPLE | {"task": entries(title="no diagnosis")}
    report = own.post(f"{PATH}?audience=staff", json=body).json
    assert report["outcome"] == "graded"
    (line,) = (line for line in caplog.records if "diagnosis failed" in line.message)
    assert (line.levelname, line.report, line.task) == ("ERROR", report["id"], report["task"]["digest"])
    assert "TypeError" in line.message


def test_a_batch_has_an_entry_for_each_in_order(own):
    batch = {
        "task": EXAMPLE["task"],
        "submissions": [
            {"answers": EXAMPLE["answers"], "submission": {"id": "s-1", "attempt": 1}},
            {"answers": {"value": "x"}, "submission": {"id": "s-2"}},
            {"submission": {"id": "s-3"}},
            {"answers": {"value": 54}, "submission": {"id": "s-4", "email": "ada@example.com"}},
            {"answers": {"value": 54}},
            7,
        ],
    }
    data = own.post(f"{PATH}/batch", json=batch).json["data"]
    assert [entry["report"]["outcome"] if "report" in entry else entry["problem"]["status"] for entry in data] == [
        "graded", "not_gradable", 422, 422, "graded", 422,
    ]  # fmt: skip
    assert data[0]["report"] == own.post(PATH, json=EXAMPLE).json
    assert data[2]["problem"]["errors"][0]["pointer"] == "#/submissions/2/answers"
    assert data[3]["problem"]["errors"][0]["pointer"] == "#/submissions/3/submission/email"
    assert [entry["submission"]["id"] for entry in own.get(PATH).json["data"]] == [None, "s-2", "s-1"]


def test_items_have_tasks_of_their_own(own):
    items = [
        EXAMPLE,
        EXAMPLE | {"task": {"title": "none"}},
        {"task": {"evaluation": {"graph": {"inputs": {"x": 2}, "program": "y = x*x"}}}, "answers": {"value": 4}},
    ]
    data = own.post(f"{PATH}/batch?audience=staff", json={"items": items}).json["data"]
    assert data[0]["report"]["staff"]
    assert data[1]["problem"]["errors"][0]["pointer"].startswith("#/items/1/task")
    assert data[2]["report"]["score"] == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"task": EXAMPLE["task"]}, {"submissions": [{"answers": {}}]},
     {"task": EXAMPLE["task"], "submissions": [{"answers": {}}], "items": [EXAMPLE]},
     {"task": EXAMPLE["task"], "items": [EXAMPLE]}],
)  # fmt: skip
def test_a_batch_is_of_one_kind(call, body):
    assert "not both" in call(f"{PATH}/batch", body, 422)["detail"]


def test_a_bad_task_spoils_the_batch_that_shares_it(call):
    body = {"task": {"evaluation": {"graph": {}}}, "submissions": [{"answers": {}}]}
    assert call(f"{PATH}/batch", body, 422)["errors"][0]["pointer"] == "#/task/evaluation/graph"


def test_regrades_in_a_batch(own):
    old = own.post(PATH, json=EXAMPLE).json
    submissions = [
        {"answers": EXAMPLE["answers"], "submission": EXAMPLE["submission"], "supersedes": old["id"]},
        {"answers": EXAMPLE["answers"], "supersedes": "sha256:" + "1" * 64},
        {"answers": EXAMPLE["answers"]},
    ]
    body = {"task": entries(title="2"), "submissions": submissions, "reason": "why"}
    data = own.post(f"{PATH}/batch?audience=staff", json=body).json["data"]
    assert (data[0]["report"]["regrade"]["supersedes"], data[0]["report"]["regrade"]["reason"]) == (old["id"], "why")
    assert data[1]["problem"]["errors"][0]["pointer"] == "#/submissions/1/supersedes"
    assert "regrade" not in data[2]["report"]
    assert len(own.get(PATH).json["data"]) == 3


# --------------------------------------------------------------------------------------------- lists, deletion


def test_pages_of_a_list(own):
    for number in range(5):
        own.post(PATH, json=submission(f"s-{number}"))
    seen, path = [], f"{PATH}?limit=2&task=backprop-1"
    while path:
        page = own.get(path)
        assert len(page.json["data"]) <= 2
        seen += [entry["submission"]["id"] for entry in page.json["data"]]
        path = page.headers.get("Link", "<").split(">")[0][1:]
        assert bool(path) == bool(page.json["next_cursor"])
    assert seen == [f"s-{number}" for number in (4, 3, 2, 1, 0)]


def test_a_list_can_be_kept_to_some(own):
    own.post(PATH, json=EXAMPLE)
    own.post(PATH, json=submission("s-2", answers={}))
    other = own.post(f"{PATH}?audience=staff", json=submission("s-2", task=entries(title="other"))).json

    def listed(query):
        return [(entry["submission"]["id"], entry["outcome"]) for entry in own.get(f"{PATH}?{query}").json["data"]]

    assert listed("submission=s-2") == [("s-2", "graded"), ("s-2", "not_gradable")]
    assert listed("outcome=not_gradable") == [("s-2", "not_gradable")]
    assert listed(f"task={other['task']['digest']}") == [("s-2", "graded")]
    assert listed("submission=s-2&task=backprop-1&outcome=graded") == [("s-2", "graded")]
    assert listed("task=none") == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("outcome=great", "outcome"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("task=", "task"),
     ("submission=a%00b", "submission"), ("submission=" + "x" * 501, "submission"), ("colour=1", "colour")],
)  # fmt: skip
def test_bad_parameters_of_a_list(call, query, parameter):
    assert call(f"{PATH}?{query}", status=422)["errors"][0]["parameter"] == parameter


def test_all_of_a_submission_is_deleted(own):
    reports = [own.post(PATH, json=submission("s-1", task=entries(title=title))).json for title in "ab"]
    kept = own.post(PATH, json=submission("s-2")).json
    assert own.delete(f"{PATH}?submission=s-1").json == {"deleted": 2}
    assert own.delete(f"{PATH}?submission=s-1").json == {"deleted": 0}
    assert [own.get(f"{PATH}/{report['id']}").status_code for report in (*reports, kept)] == [404, 404, 200]
    answer = own.delete(PATH)
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (422, "submission")


def test_a_cursor_belongs_to_its_list(own):
    for number in range(3):
        own.post(PATH, json=submission(f"s-{number}"))
    cursor = own.get(f"{PATH}?task=backprop-1&limit=1").json["next_cursor"]
    assert len(own.get(f"{PATH}?task=backprop-1&limit=2&cursor={cursor}").json["data"]) == 2
    for others in ("", "task=backprop-2&", "task=backprop-1&outcome=graded&"):
        problem = own.get(f"{PATH}?{others}cursor={cursor}")
        assert (problem.status_code, problem.json["errors"][0]["parameter"]) == (422, "cursor")


def test_a_regrade_outlives_what_it_superseded(own, tmp_path):
    old = own.post(PATH, json=submission("old")).json
    new = own.post(PATH, json=submission("old", task=entries(title="mended"), supersedes=old["id"])).json
    with contextlib.closing(sqlite3.connect(next(tmp_path.glob("*.sqlite3")))) as database, database:
        database.execute("DELETE FROM gradings WHERE id = ?", (old["id"],))
    told = own.get(f"{PATH}/{new['id']}").json
    assert told == {name: entry for name, entry in new.items() if name != "regrade"}
    assert own.get(PATH).json["data"][0]["supersedes"] == old["id"]


@pytest.mark.parametrize("name", ["x", "sha256:", "sha256:" + "g" * 64, "sha256:" + "0" * 64, "job_" + "0" * 32, "%00"])
def test_what_is_not_there(call, name):
    assert call(f"{PATH}/{name}", status=404)["type"] == "/problems/not-found"


# ---------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(own, name):
    needed = {option.name: "2026-11-30T00:00:00Z" for option in FORMATS[name].options if option.required}
    made = own.post(f"{PATH}?format={name}", json=EXAMPLE | {"options": needed})
    assert made.status_code == 201
    assert made.headers["Chainrule-Exit-Status"] == "0"
    told = own.get(f"{made.headers['Location']}?format={name}")
    if needed:
        assert (told.status_code, told.json["errors"][0]["parameter"]) == (422, "format")
    else:
        assert (told.status_code, told.data, told.content_type) == (200, made.data, made.content_type)


def test_what_a_format_is_told(own):
    body = own.post(f"{PATH}?format=classroom50", json=EXAMPLE | {"options": {"points": 9, "username": "u"}})
    assert (body.json["score"], body.json["max-score"]) == (3, 9)


@pytest.mark.parametrize(
    ("query", "options", "place"),
    [
        ("", {"points": 1}, "#/options"),
        ("?format=gradescope", {"colour": 1}, "#/options/colour"),
        ("?format=gradescope", {"phase": "due"}, "#/options/phase"),
        ("?format=gradescope", {"report": 1}, "#/options/report"),
        ("?format=gradescope", {"format": 1}, "#/options/format"),
        ("?format=classroom50", {"points": "many"}, "#/options/points"),
        ("?format=classroom50", {"points": 10**400}, "#/options/points"),
        ("?format=classroom50", [], "#/options"),
        ("?format=none", {}, "format"),
        ("?audience=staff&format=json", {}, "audience"),
        ("?audience=everybody", {}, "audience"),
        ("?phase=never", {}, "phase"),
        ("?phase=open&phase=due", {}, "phase"),
    ],
)
def test_bad_options_and_parameters(call, query, options, place):
    status = 400 if "1000000" in json.dumps(options) else 422
    fault = call(PATH + query, EXAMPLE | {"options": options}, status)["errors"][0]
    assert fault.get("pointer", fault.get("parameter")) == place


# ------------------------------------------------------------------------------------------------- who may what


def test_what_each_scope_opens(keyed):
    grade, staff = keyed.key("grade"), keyed.key("grade", "staff")
    report = keyed.call("POST", PATH, grade, 201, EXAMPLE).json
    keyed.call("GET", f"{PATH}/{report['id']}", grade, 200)
    keyed.call("POST", f"{PATH}?format=gradescope", grade, 200, EXAMPLE)
    own = keyed.call("POST", PATH, staff, 201, EXAMPLE).json["id"]
    another = EXAMPLE | {"task": entries(title="mended"), "supersedes": own}
    for method, path, data, status in (
        ("POST", f"{PATH}?audience=staff", EXAMPLE, 200),
        ("POST", f"{PATH}/batch?audience=staff", {"items": [EXAMPLE]}, 200),
        ("GET", f"{PATH}/{own}?audience=staff", None, 200),
        ("POST", PATH, another, 201),
        ("POST", f"{PATH}/batch", {"items": [another]}, 200),
        ("GET", PATH, None, 200),
        ("DELETE", f"{PATH}?submission=s-1", None, 200),
    ):
        told = keyed.call(method, path, grade, 403, data).json
        assert (told["type"], told["scope"]) == ("/problems/forbidden", "staff")
        keyed.call(method, path, staff, status, data)
    keyed.call("POST", PATH, keyed.key("staff", "jobs", "evaluate"), 403, EXAMPLE)


def test_what_a_key_graded_is_its_own(keyed):
    ours, theirs = keyed.key(), keyed.key()
    report = keyed.call("POST", PATH, ours, 201, EXAMPLE).json
    keyed.call("GET", f"{PATH}/{report['id']}", theirs, 404)
    keyed.call("GET", f"{PATH}/{report['id']}?audience=staff", theirs, 404)
    assert keyed.call("GET", PATH, theirs, 200).json["data"] == []
    assert keyed.call("DELETE", f"{PATH}?submission=s-1", theirs, 200).json == {"deleted": 0}
    keyed.call("POST", PATH, theirs, 422, EXAMPLE | {"supersedes": report["id"]})
    assert keyed.call("POST", PATH, theirs, 201, EXAMPLE).json == report
    keyed.call("GET", f"{PATH}/{report['id']}", ours, 200)


def test_work_is_charged_and_refused_beyond_the_day(keyed):
    answer = keyed.call("POST", PATH, keyed.key(), 201, EXAMPLE)
    assert '"work"' in answer.headers["RateLimit"]
    told = keyed.call("POST", PATH, keyed.key(limits={"work_per_day": 5}), 422, EXAMPLE).json
    assert told["limit"] == "work_per_day"


def test_a_job_of_gradings_needs_its_scopes_too(keyed):
    spec = {"task": EXAMPLE["task"], "submissions": [{"answers": EXAMPLE["answers"]}]}
    for scopes, change, scope in (
        (("jobs",), {}, "grade"),
        (("jobs", "grade"), {"audience": "staff"}, "staff"),
        (("jobs", "grade"), {"submissions": [{"answers": {}, "supersedes": "sha256:" + "0" * 64}]}, "staff"),
    ):
        body = {"type": "grading", "spec": spec | change}
        assert keyed.call("POST", "/v1/jobs", keyed.key(*scopes), 403, body).json["scope"] == scope
    keyed.call("POST", "/v1/jobs", keyed.key("jobs", "grade"), 201, {"type": "grading", "spec": spec})


# --------------------------------------------------------------------------------------- personal data, limits


@pytest.mark.parametrize("member", ["name", "email", "user", "student", "submitted_at"])
def test_who_somebody_is_has_no_place_here(call, member):
    fault = call(PATH, EXAMPLE | {"submission": {"id": "s", member: "Ada"}}, 422)["errors"][0]
    assert fault["pointer"] == f"#/submission/{member}"
    assert "have no place here" in fault["detail"]


@pytest.mark.parametrize(
    "identity",
    ["ada@example.com", " ", 7, "", "x" * 201, "a\nb", "s\n", "a\x00", "a\u202eb", ["s"], True, "Ada Lovelace",
     "<script>", "Ada Lovelace <ada@x.org>", "mailto:ada@x.org", "Müller", "a@b@c.de", "x?y"],
)  # fmt: skip
def test_an_id_is_opaque_text(call, identity):
    fault = call(PATH, EXAMPLE | {"submission": {"id": identity}}, 422)["errors"][0]
    assert fault["pointer"] == "#/submission/id"


@pytest.mark.parametrize("identity", ["s-5f31", "https://lms/x/7:8", "a.b@c", "YWJj+/=", "9", "x" * 200, "sha256:0a_1"])
def test_ids_that_systems_give_are_taken(call, identity):
    report = call(PATH, EXAMPLE | {"submission": {"id": identity}, "store": False})
    assert report["submission"]["id"] == identity


@pytest.mark.parametrize("attempt", [0, -1, 1.5, "1", True, 2**53 + 2, [1]])
def test_attempts_are_counted_from_1(call, attempt):
    status = 400 if attempt == 2**53 + 2 else 422
    assert (
        call(PATH, EXAMPLE | {"submission": {"attempt": attempt}}, status)["errors"][0]["pointer"]
        == "#/submission/attempt"
    )


def test_a_submission_may_be_left_out_or_null_in_its_parts(call):
    without = {name: entry for name, entry in EXAMPLE.items() if name != "submission"} | {"store": False}
    report = call(PATH, without)
    assert (report["submission"]["id"], report["submission"]["attempt"]) == (None, None)
    assert call(PATH, without | {"submission": {"id": None, "attempt": None}}) == report


@pytest.mark.parametrize(
    ("limits", "path", "body", "pointer"),
    [
        ({"submissions": 1}, "/batch", {"items": [EXAMPLE] * 2}, "#/items"),
        (
            {"submissions": 1},
            "/batch",
            {"task": EXAMPLE["task"], "submissions": [{"answers": {}}] * 2},
            "#/submissions",
        ),
        ({"submission_values": 3}, "", EXAMPLE, "#/answers"),
        ({"grading_work": 10}, "", EXAMPLE, "#"),
        ({"answer_numbers": 20}, "", EXAMPLE, "#"),
        ({"answer_numbers": 60}, "/batch", {"items": [EXAMPLE] * 2}, "#"),
        ({"nodes": 2}, "", EXAMPLE, "#/task/evaluation/graph/program"),
    ],
)
def test_limits(call_with, limits, path, body, pointer):
    problem = call_with(limits=limits)(PATH + path, body, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == (next(iter(limits)), pointer)


#: A Jacobian of 40 outputs by 2 inputs, over 42 nodes at 3 points.
WIDE = {
    "inputs": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]},
    "nodes": [{"id": f"n{k}", "op": "mul", "args": ["a", "b"]} for k in range(40)],
    "output": [f"n{k}" for k in range(40)],
}


@pytest.mark.parametrize(
    ("asked", "answers"),
    [(["jacobian.n3.a"], {}), (["jacobian.n3"], {}), (["gradients.a"], {"jacobian": {"n3": {"a": [1, 1, 1]}}})],
)
def test_a_jacobian_counts_once_for_each_output(call_with, monkeypatch, asked, answers):
    body = {"task": {"evaluation": {"graph": WIDE}, "checks": [{"of": key} for key in asked]}, "answers": answers}
    work, numbers = 42 * 3 * (1 + 40), 40 * 2 * 3
    for limits in ({"evaluation_work": work - 1}, {"answer_numbers": numbers}, {"grading_work": work}):
        problem = call_with(limits=limits)(PATH, body, 422)
        assert (problem["limit"], problem["errors"][0]["pointer"]) == (next(iter(limits)), "#")
    call = call_with(limits={"evaluation_work": work, "answer_numbers": 2 * numbers, "grading_work": 2 * work})
    assert call(PATH, body, 201)["outcome"] in ("graded", "not_gradable")


def test_a_graph_is_bounded_as_an_evaluation_is(call_with):
    task = {"evaluation": {"graph": {"inputs": {"a": [1.0] * 50}, "program": "a*a*a"}}}
    problem = call_with(limits={"evaluation_work": 149})(PATH, {"task": task, "answers": {}}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("evaluation_work", "#/task/evaluation/graph")
    body = {"items": [{"task": task | {"title": title}, "answers": {}} for title in "abc"]}
    call = call_with(limits={"evaluation_work": 450, "inline_work": 10**6})
    call(f"{PATH}/batch", body)
    call("/v1/jobs", {"type": "grading", "spec": body}, 201)
    call = call_with(limits={"evaluation_work": 449})
    problem = call(f"{PATH}/batch", body, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("evaluation_work", "#")
    assert call("/v1/jobs", {"type": "grading", "spec": body}, 422)["limit"] == "evaluation_work"


def test_a_whole_member_counts_all_its_numbers(call_with):
    task = {"evaluation": {"graph": {"inputs": {"a": [1.0] * 50}, "program": "b = a*a"}}, "checks": [{"of": "values"}]}
    assert call_with(limits={"answer_numbers": 100})(PATH, {"task": task, "answers": {}}, 422)["requested"] > 100


@pytest.mark.parametrize(
    ("graph", "seeds", "kink", "most"),
    [
        ({"program": "relu(a) + a*a"}, None, "zero", 0),
        ({"program": "relu(a) + a*a"}, None, "avoid", 50 * 14),
        ({"nodes": [{"id": "b", "op": "mul", "args": ["a", "a"]}]}, {"b": 2.0}, "zero", 50 * 2),
    ],
)
def test_there_must_be_room_for_what_is_evaluated_while_a_task_is_read(graph, seeds, kink, most):
    held = []
    bounds = grading_reading.Bounds(Settings(), lambda work: held.append(work) or contextlib.nullcontext())
    evaluation = {"graph": {"inputs": {"a": [1.0 + k for k in range(50)]}, **graph}, "seeds": seeds}
    grading_reading.read_task_cached(
        {"evaluation": evaluation, "checks": [{"of": "gradients.a", "kink": kink}]}, bounds
    )
    assert held == [most]


def test_a_long_training_is_no_task_for_a_request(call_with):
    body = {"task": {"training": NETWORK_EXAMPLE | {"steps": 100_000}}, "answers": {}}
    problem = call_with(limits={"grading_work": 100_000})(PATH, body, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("grading_work", "#/task/training/steps")


def test_histories_of_very_many_steps_are_too_much_together(call_with):
    task = {"training": NETWORK_EXAMPLE | {"steps": 400}, "diagnose": False}
    body = {"task": task, "submissions": [{"answers": {"loss_history": [1.0]}}] * 3, "store": False}
    call = call_with(limits={"answer_numbers": 2_000})
    assert call(f"{PATH}/batch", body | {"submissions": body["submissions"][:1]})["data"][0]["report"]
    assert call(f"{PATH}/batch", body, 422)["limit"] == "answer_numbers"
    problem = call("/v1/jobs", {"type": "grading", "spec": body}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("answer_numbers", "#/spec")


def test_a_job_may_train_for_longer(call_with):
    task = {"training": NETWORK_EXAMPLE | {"steps": 2_000}}
    spec = {"task": task, "submissions": [{"answers": {"loss_history": [1.0]}}]}
    call = call_with(limits={"grading_work": 1_000})
    call(PATH, {"task": task, "answers": {}}, 422)
    job = call("/v1/jobs", {"type": "grading", "spec": spec}, 201)
    assert job["result"]["data"][0]["report"]["outcome"] == "graded"
    call = call_with(limits={"job_work": 1_000})
    problem = call("/v1/jobs", {"type": "grading", "spec": spec}, 422)
    assert (problem["limit"], problem["errors"][0]["pointer"]) == ("job_work", "#/spec/task/training/steps")


def test_what_is_remembered_of_a_task_costs_nothing(keyed):
    def left(answer):
        return int(re.search(r'"work";r=(\d+)', answer.headers["RateLimit"])[1])

    exercise = generate(5, nodes=40, inputs=4)
    key, body = keyed.key(limits={"work_per_day": 10**6}), {"task": {"evaluation": {"graph": exercise}}, "answers": {}}
    first, second, third = (left(keyed.call("POST", PATH, key, 200, body | {"store": False})) for _ in range(3))
    assert 10**6 - first > 10 * (first - second)
    assert first - second == pytest.approx(second - third, abs=20)  # some comes back meanwhile


# --------------------------------------------------------------------------------------------- a database away


def test_what_cannot_be_recorded_is_not_answered(own, tmp_path):
    kept = own.post(PATH, json=EXAMPLE).json
    (file,) = tmp_path.glob("*.sqlite3")
    with contextlib.closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        refused = own.post(PATH, json=submission("s-2"))
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert own.post(f"{PATH}/batch", json={"items": [submission("s-3")]}).status_code == 503
        assert own.post(PATH, json=submission("s-2", store=False)).status_code == 200
        assert own.post(PATH, json=EXAMPLE).json == kept  # it is recorded already
    assert own.post(PATH, json=submission("s-2")).status_code == 201


# ------------------------------------------------------------------------------------------------------- jobs

BATCH = {
    "task": EXAMPLE["task"],
    "submissions": [{"answers": {"value": number}, "submission": {"id": f"s-{number}"}} for number in range(54, 60)],
}


def test_a_job_of_gradings_comes_to_the_answer_of_a_batch(own):
    body = BATCH | {"submissions": [*BATCH["submissions"], {"answers": {}, "colour": 1}]}
    job = own.post("/v1/jobs", json={"type": "grading", "spec": body}).json
    assert job["state"] == "succeeded", job["failure"]
    assert [entry["submission"]["id"] for entry in own.get(PATH).json["data"]] == [f"s-{n}" for n in range(59, 53, -1)]
    assert job["result"] == own.post(f"{PATH}/batch", json=body).json
    assert job["progress"]["step"] == job["progress"]["steps"] == 7 if job["progress"] else True
    metrics = own.get(f"/v1/jobs/{job['id']}/metrics").json
    assert metrics["loss"][:2] == pytest.approx([2 / 3, 1.0])
    assert metrics["loss"][6] == "NaN"


def test_a_job_has_an_audience_and_may_keep_nothing(own):
    spec = BATCH | {"audience": "staff", "store": False}
    job = own.post("/v1/jobs", json={"type": "grading", "spec": spec}).json
    assert job["result"]["data"][0]["report"]["staff"]["checks"]["grad.a"]["expected"] == 36.0
    assert own.get(PATH).json["data"] == []


def test_a_job_of_gradings_is_checked_as_a_batch_is(call):
    for change, pointer in (
        ({"submissions": []}, "#/spec/submissions"),
        ({"task": {}}, "#/spec/task"),
        ({"audience": "all"}, "#/spec/audience"),
        ({"items": []}, "#/spec/items"),
    ):
        body = {"type": "grading", "spec": BATCH | change}
        assert call("/v1/jobs", body, 422)["errors"][0]["pointer"].startswith(pointer)


def test_a_job_lets_go_of_the_wrong_runs_of_what_it_has_graded(monkeypatch):
    """Each of 20,000 exercises of 45 nodes would hold some three megabytes until all are graded."""
    monkeypatch.setattr(grading_reading, "_TASKS", TaskCache(size=0))
    own = weakref.WeakSet()

    def graded(entry, _one=grading_jobs.grade_or_fail):
        report = _one(entry)
        assert entry.task.catalogue
        own.add(entry.task.catalogue)
        return report

    monkeypatch.setattr(grading_jobs, "grade_or_fail", graded)
    bounds = grading_reading.Bounds(Settings(), lambda _: contextlib.nullcontext())
    items = [submission(f"s-{k}", task=entries(title=f"of its own {k}")) for k in range(6)]
    read = grading_reading.read_batch(GradingBatchRequest().load({"items": items}), bounds)
    chunks = list(grading_jobs.run(read))
    assert len(chunks[-1].result["reports"]) == 6
    gc.collect()
    assert len(own) == 0
    assert all(entry.submission["id"] == f"s-{k}" for k, entry in enumerate(read))


def test_a_job_that_is_interrupted_goes_on_where_it_was(queue, monkeypatch):
    """Given back after each submission, it comes to the same result, and none is graded twice."""
    graded = []
    monkeypatch.setattr(grading_jobs, "_CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(
        grading_jobs,
        "grade_or_fail",
        lambda entry, _one=grading_jobs.grade_or_fail: graded.append(entry) or _one(entry),
    )
    job = queue.call("/v1/jobs", {"type": "grading", "spec": BATCH}, 202, headers={"Prefer": "respond-async"})
    stop = threading.Event()
    stop.set()
    for _ in range(5):
        claim = queue.store.claim("worker:1", 5)
        assert runner.run(claim, queue.store, queue.service.settings, stop) == runner.RELEASED
    progress = queue.call(f"/v1/jobs/{job['id']}")["progress"]
    assert (progress["step"], progress["steps"]) == (5, 6)
    with queue.working():
        job = until(lambda: (j := queue.call(f"/v1/jobs/{job['id']}"))["state"] == "succeeded" and j, "it ends")
    assert len(graded) == 6
    assert job["result"] == queue.call(f"{PATH}/batch", BATCH)
    assert len(queue.call(PATH)["data"]) == 6


def test_a_job_whose_reports_cannot_be_recorded_is_done_again(queue, monkeypatch):
    record, away = Gradings.record, [True]

    def recorded(*arguments):
        if away.pop() if away else False:
            raise DatabaseUnavailable("for a moment")
        return record(*arguments)

    monkeypatch.setattr(Gradings, "record", recorded)
    job = queue.call("/v1/jobs", {"type": "grading", "spec": BATCH}, 202, headers={"Prefer": "respond-async"})
    claim = queue.store.claim("worker:1", 0.1)
    assert runner.run(claim, queue.store, queue.service.settings, threading.Event()) == runner.LOST
    assert queue.call(f"/v1/jobs/{job['id']}")["result"] is None
    with queue.working():
        job = until(lambda: (j := queue.call(f"/v1/jobs/{job['id']}"))["state"] == "succeeded" and j, "it ends")
    assert job["attempts"] == 2
    assert len(queue.call(PATH)["data"]) == 6
