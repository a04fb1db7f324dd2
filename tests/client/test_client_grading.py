"""Grading by the client: in this process, over a socket, and with neither gunicorn nor Numba."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from tests.service.servers import Server

from chainrule import (
    Client,
    ExerciseCheck,
    GradingRecord,
    NotFoundError,
    Problem,
    Rendering,
    Report,
    UnprocessableContentError,
    variables,
)
from chainrule._results import words_for


@pytest.fixture(scope="module")
def client():
    with Client.local() as client:
        yield client


def task(**changes):
    a, b = variables(a=3.0, b=2.0)
    c = (a * b).named("c")
    return {"id": "by-hand", "evaluation": {"graph": ((c + a) * c).named("e")}} | changes


RIGHT = {"value": 54.0, "gradients": {"a": 36.0, "b": 45.0}}
WRONG = {"value": 54.0, "gradients": {"a": 18.0, "b": 18.0}}


def test_a_report(client):
    report = client.grade(task(), WRONG, submission={"id": "s-1", "attempt": 2})
    assert isinstance(report, Report)
    assert (report.outcome, report.score, report.max_score, report.fraction) == ("graded", 1, 3, 1 / 3)
    value, a, b = report.checks
    assert (value.passed, a.passed, b.passed) == (True, False, False)
    assert (a.id, a.student, a.score, a.max_score, a.visibility) == ("grad.a", 18.0, 0, 1, "visible")
    assert report.mistakes[0].name
    assert set(report.mistakes[0].explains) <= {"grad.a", "grad.b"}
    assert report.submission["attempt"] == 2
    assert (report.staff, report.regrade, report.withheld) == (None, None, 0)
    assert client.grade(task(), WRONG, submission={"id": "s-1", "attempt": 2}) == report
    assert client.grading(report.id) == report
    assert client.grade(task(), RIGHT).fraction == 1


def test_a_report_for_staff_has_expected_numbers(client):
    report = client.grade(task(), WRONG, audience="staff", submission="s-2")
    assert report.staff["checks"]["grad.a"]["expected"] == 36.0
    assert client.grading(report.id, audience="staff") == report
    assert client.grading(report.id).staff is None


def test_numbers_of_all_kinds(client):
    answers = {"value": np.float64(54), "gradients": {"a": "36.0", "b": math.inf}}
    report = client.grade(task(), answers)
    assert [check.passed for check in report.checks] == [True, True, False]
    assert report.checks[2].student == math.inf
    words = words_for({"a": [math.nan, -math.inf, 1.5], "b": np.array([[1.0, math.inf]])})
    assert words == {"a": ["NaN", "-Infinity", 1.5], "b": [[1.0, "Infinity"]]}


def test_what_cannot_be_read_says_where(client):
    report = client.grade(task(), {"value": "fifty"})
    assert report.outcome == "not_gradable"
    assert report.format_errors[0].pointer == "#/value"
    assert report.format_errors[0].detail


def test_phases(client):
    hidden = task(checks=[{"of": "value"}, {"of": "gradients.a", "visibility": "after_due_date"}])
    assert [check.id for check in client.grade(hidden, RIGHT).checks] == ["value"]
    assert client.grade(hidden, RIGHT).withheld == 1
    assert len(client.grade(hidden, RIGHT, phase="due").checks) == 2


def test_a_format(client):
    rendering = client.grade(task(), WRONG, format="gradescope")
    assert isinstance(rendering, Rendering)
    assert json.loads(rendering.text)["score"] == 1
    assert (rendering.content_type, rendering.exit_status) == ("application/json", 0)
    junit = client.grade(task(), WRONG, format="junit")
    assert junit.text.startswith("<?xml")
    assert json.loads(client.grade(task(), WRONG, format="classroom50", options={"points": 9}).text)["max-score"] == 9
    with pytest.raises(UnprocessableContentError, match="format"):
        client.grade(task(), WRONG, format="none")


def test_a_batch(client):
    submissions = [
        {"answers": RIGHT, "submission": {"id": "b-1"}},
        {"answers": {"value": math.nan}, "submission": {"id": "b-2"}},
        {"answers": RIGHT, "submission": {"name": "Ada"}},
    ]
    right, wrong, refused = client.grade_batch(task(), submissions)
    assert (right.fraction, wrong.score) == (1, 0)
    assert isinstance(refused, Problem)
    assert refused.errors[0].pointer == "#/submissions/2/submission/name"
    other = {"evaluation": {"graph": {"inputs": {"x": 2}, "program": "y = x*x"}}}
    items = [{"task": task(), "answers": RIGHT}, {"task": other, "answers": {"value": 4}}]
    assert [report.score for report in client.grade_batch(None, items, audience="staff", store=False)] == [3, 1]


def test_a_regrade(client):
    old = client.grade(task(), WRONG, submission="r-1")
    lenient = task(checks=[{"of": "value"}])
    new = client.grade(lenient, WRONG, submission="r-1", supersedes=old.id, reason="the gradients were not asked for")
    assert new.regrade["supersedes"] == old.id
    assert new.regrade["changes"]["score"]["difference"] == 0
    (second, first) = client.gradings(submission="r-1")
    assert isinstance(first, GradingRecord)
    assert (second.id, second.supersedes, second.reason) == (new.id, old.id, "the gradients were not asked for")
    assert (first.id, first.superseded_by, first.score, first.max_score) == (old.id, new.id, 1, 3)
    batch = client.grade_batch(
        lenient,
        [{"answers": RIGHT, "submission": {"id": "r-1"}, "supersedes": old.id}],
        reason="twice",
        audience="staff",
    )
    assert batch[0].regrade["reason"] == "twice"


def test_all_pages_of_gradings_and_their_deletion(client):
    client.grade_batch(
        task(title="pages"), [{"answers": {"value": n}, "submission": {"id": "many"}} for n in range(45)]
    )
    assert len(list(client.gradings(submission="many"))) == 45
    assert [record.outcome for record in client.gradings(task="by-hand", outcome="not_gradable")].count("graded") == 0
    report = client.grade(task(title="pages"), {"value": 0}, submission="many")
    assert client.delete_gradings("many") == 45
    with pytest.raises(NotFoundError):
        client.grading(report.id)
    assert client.delete_gradings("many") == 0


def test_nothing_is_kept_where_it_is_not_to_be(client):
    report = client.grade(task(title="not kept"), RIGHT, store=False)
    with pytest.raises(NotFoundError):
        client.grading(report.id)


def test_a_job_of_gradings(client):
    submissions = [{"answers": RIGHT}, {"answers": WRONG}]
    job = client.submit("grading", {"task": task(), "submissions": submissions})
    reports = [Report.from_dict(entry["report"]) for entry in job.wait().result["data"]]
    assert [report.score for report in reports] == [3, 1]
    assert [report.raw for report in client.grade_batch(task(), submissions)] == [report.raw for report in reports]


def test_an_exercise_can_be_a_task(client):
    graph = client.generate_exercise(7, nodes=4, inputs=2, operations=["add", "mul"])
    assert graph == client.generate_exercise(7, nodes=4, inputs=2, operations=["add", "mul"])
    assert graph != client.generate_exercise(8, nodes=4, inputs=2, operations=["add", "mul"])
    truth = client.evaluate(graph)
    answers = {"value": truth.value, "gradients": truth.gradients}
    assert client.grade({"evaluation": {"graph": graph}}, answers).fraction == 1
    assert "program" in client.generate_exercise(7, form="program")


def test_an_exercise_check(client):
    a, b = variables(a=-2.0, b=3.0)
    exercise = ((a * b).named("c") * (a + b).named("d")).named("e")
    found = client.check_exercise(exercise)
    assert isinstance(found, ExerciseCheck)
    assert (found.publishable, found.key["passed"]) == (False, True)
    assert found.problems[0].pointer.startswith("#/evaluation/graph")
    (missed,) = (entry for entry in found.missed if entry.name == "mul_no_up")
    assert (missed.node, missed.reason) == ("c", "upstream_one")
    assert missed.why
    assert missed.advice
    assert "assign" in found.caught
    assert found.partly.keys().isdisjoint(found.caught)
    assert set(found.partly) == {entry["name"] for entry in found.raw["partly"]}
    assert all(found.partly.values())
    assert found.extension["output"] == found.extension["nodes"][-1]["id"]
    names = [entry.name for entry in found.missed]
    assert client.check_exercise({"evaluation": {"graph": exercise}}, accept_undetected=names).publishable
    better = client.check_exercise(exercise, inputs=found.suggestion["inputs"], suggestions=False)
    assert better.suggestion is None
    assert len(better.missed) <= len(found.missed)
    assert client.check_exercise("e = a*b", inputs={"a": 1.0, "b": 1.0}).missed
    with pytest.raises(ValueError, match="in its graph"):
        client.check_exercise({"evaluation": {"graph": exercise}}, inputs={"a": 1.0})


def test_members_that_are_not_known_are_kept():
    data = {"id": "sha256:0", "outcome": "graded", "score": 1, "max_score": 2, "fraction": 0.5, "colour": "blue"}
    assert Report.from_dict(data).raw["colour"] == "blue"
    assert GradingRecord.from_dict(data).raw["colour"] == "blue"


# ------------------------------------------------------------------------------------- the same bytes elsewhere

BODY = {"task": {"evaluation": {"graph": {"inputs": {"x": 0.7}, "program": "y = tanh(x*x) + exp(-x)"}}}}
BODIES = [
    BODY | {"answers": {"value": "0.95", "gradients": {"x": 1.5}}, "submission": {"id": "s", "attempt": 1}},
    BODY | {"answers": {"value": "x"}},
    {
        "task": {
            "training": {
                "model": {"inputs": 2, "layers": [3, 1], "init": {"scheme": "lecture", "seed": 3}},
                "data": {"inputs": [[0, 0], [0, 1], [1, 0]], "targets": [-1, 1, 1]},
                "loss": {"name": "squared_error"},
                "optimizer": {"name": "adam", "learning_rate": 0.1},
                "steps": 20,
            }
        },
        "answers": {"loss_history": [1.0, 0.5]},
    },
]
QUERIES = ["", "?audience=staff", "?phase=published", "?format=gradescope", "?format=junit", "?format=prairielearn"]

#: A process in which neither gunicorn nor Numba is installed, nor what comes with them.
ALONE = """
import json, sys
MISSING = {"gunicorn", "numba", "llvmlite", "numpy", "alembic", "prometheus_client", "structlog"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from chainrule import Client
bodies, queries = json.load(sys.stdin)
with Client.local() as client:
    for body in bodies:
        for query in queries:
            answer = client._transport.send("POST", "/v1/gradings" + query, body, accept="*/*")
            print(json.dumps([answer.content.decode(), answer.headers["Content-Type"]]))
"""


def asked(client):
    answers = [client._transport.send("POST", "/v1/gradings" + q, b, accept="*/*") for b in BODIES for q in QUERIES]
    return [[answer.content.decode(), answer.headers["Content-Type"]] for answer in answers]


def test_local_and_remote_reports_are_the_same_bytes(tmp_path, client):
    with Server(tmp_path) as server, Client(f"http://127.0.0.1:{server.port}") as remote:
        assert asked(remote) == asked(client)
        # A process of its own runs a job.
        spec = BODY | {"submissions": [{"answers": BODIES[0]["answers"], "submission": {"id": "of-a-job"}}]}
        job = remote.submit("grading", spec, queue=True).wait(timeout=60)
        assert job.result == client.submit("grading", spec).result
        assert [record.submission["id"] for record in remote.gradings(submission="of-a-job")] == ["of-a-job"]


def test_reports_need_neither_gunicorn_nor_numba(client):
    environ = {name: value for name, value in os.environ.items() if name != "CHAINRULE_ENGINE"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE],
        env=environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        input=json.dumps([BODIES, QUERIES]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == asked(client)
