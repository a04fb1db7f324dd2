"""Each example of examples/grading, run as its platform runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.engine.platforms import determine_grade, pl_data, pl_weighted, run_cell, run_otter
from tests.service.servers import Server

from chainrule_engine.exercises import examine
from chainrule_engine.grading import read_task
from chainrule_engine.testing import otter_test_file

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "grading"
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "service", "client"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/task.json")), ids=lambda path: path.parent.name)
def test_each_task_can_be_published(path):
    checked = examine(read_task(json.loads(path.read_text(encoding="utf-8")))).to_dict()
    assert checked["problems"] == []
    assert checked["publishable"] is True


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("README.md")), ids=lambda path: path.parent.name)
def test_each_file_that_a_readme_names_is_there(path):
    text = path.read_text(encoding="utf-8")
    assert [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not (path.parent / link).exists()] == []
    named = set(re.findall(r"`((?:tests/)?[a-z0-9_]+\.(?:json|py|sh|ipynb|html))`", text))
    missing = {name for name in named if not list(path.parent.rglob(name))}
    assert missing <= {"results.json", "server.py"}


# --------------------------------------------------------------------------------------------------- Gradescope

ANSWERS = {"value": 48.0, "gradients": {"d": 12.0, "e": 4.0, "f": -24.0, "a": -12.0, "b": 8.0, "c": 12.0}}
#: What Gradescope tells an autograder of a submission, as its documentation has it; the users are no business of ours.
METADATA = {
    "id": 123456,
    "created_at": "2026-11-22T20:00:00.123456-08:00",
    "assignment": {"due_date": "2026-11-30T20:00:00-08:00", "total_points": "8.0", "title": "Backprop", "id": 25828},
    "submission_method": "upload",
    "users": [{"email": "ann@example.org", "id": 1234, "name": "Ann Example"}],
    "previous_submissions": [],
}


@pytest.fixture
def autograder(tmp_path):
    """The tree that Gradescope makes of the zip, with what setup.sh installs: a command `chainrule`."""
    for folder in ("source", "submission", "results", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("setup.sh", "run_autograder", "task.json"):
        shutil.copy(EXAMPLES / "gradescope" / name, tmp_path / "source")
    shutil.copy(EXAMPLES / "gradescope" / "run_autograder", tmp_path)
    command = tmp_path / "venv" / "bin" / "chainrule"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{SOURCES}" exec "{sys.executable}" -m chainrule "$@"\n')
    command.chmod(0o755)
    (tmp_path / "submission_metadata.json").write_text(json.dumps(METADATA))
    return tmp_path


def run_autograder(folder, answers=None):
    if answers is not None:
        raw = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
        (folder / "submission" / "answers.json").write_bytes(raw)
    done = subprocess.run(
        ["./run_autograder"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "AUTOGRADER": str(folder), "CHAINRULE_ENGINE": "python"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    return json.loads((folder / "results" / "results.json").read_text(encoding="utf-8")), done


def test_the_autograder_grades(autograder):
    results, done = run_autograder(autograder, ANSWERS)
    assert (done.stdout, done.stderr) == ("", "")
    assert results["score"] == 8
    assert [test["visibility"] for test in results["tests"]] == ["visible"] * 6 + ["after_published"]
    assert "ann" not in json.dumps(results).lower()


def attempts(number):
    earlier = [{"submission_time": "2026-11-21T20:00:00-08:00", "score": 0.0, "autograder_error": False, "results": {}}]
    return METADATA | {"previous_submissions": earlier * (number - 1)}


def test_the_autograder_names_the_mistake_from_the_third_attempt_on(autograder):
    """`=` for `+=`: the value that is used twice has the gradient of one use."""
    wrong = ANSWERS | {"gradients": ANSWERS["gradients"] | {"e": 12.0, "a": -36.0, "b": 24.0}}
    told = {}
    for number in (1, 3):
        (autograder / "submission_metadata.json").write_text(json.dumps(attempts(number)))
        results, _ = run_autograder(autograder, wrong)
        assert results["score"] == 4
        told[number] = {test["name"]: test["output"] for test in results["tests"]}
    assert told[1]["∂L/∂e"] == "Not correct."
    assert "+=" in told[3]["∂L/∂e"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (None, "answers.json"),
        (b"{", "JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        ({"gradients": {"a": "six"}}, "/gradients/a"),
        ({}, "none of the numbers"),
    ],
)
def test_answers_that_cannot_be_read_are_told_to_the_student(autograder, answers, words):
    results, _ = run_autograder(autograder, answers)
    assert results["score"] == 0
    (test,) = results["tests"]
    assert test["status"] == "failed"
    assert test["visibility"] == "visible"
    if words != "answers.json":
        assert words in test["output"]


@pytest.mark.parametrize("fault", ["no command", "no task", "broken task", "broken metadata"])
def test_there_are_results_although_the_grader_fails(autograder, fault):
    if fault == "no command":
        (autograder / "venv" / "bin" / "chainrule").unlink()
    elif fault == "no task":
        (autograder / "source" / "task.json").unlink()
    elif fault == "broken task":
        (autograder / "source" / "task.json").write_text('{"evaluation": {}}')
    else:
        (autograder / "submission_metadata.json").write_text("[")
    results, done = run_autograder(autograder, ANSWERS)
    assert results["score"] == 0
    assert "tell the course staff" in results["output"]
    assert done.stderr


def test_what_students_get_to_fill_in_asks_for_what_the_task_asks(autograder):
    template = json.loads((EXAMPLES / "gradescope" / "answers.json").read_text(encoding="utf-8"))
    task = read_task(json.loads((EXAMPLES / "gradescope" / "task.json").read_text(encoding="utf-8")))
    keys = {"value"} | {f"gradients.{name}" for name in template["gradients"]}
    assert keys == {key for check in task.checks for key in check.keys}
    assert sum(check.points for check in task.checks) == 8
    assert "8 points" in (EXAMPLES / "gradescope" / "README.md").read_text(encoding="utf-8")
    results, _ = run_autograder(autograder, template)
    assert results["score"] == 0


def run_setup(folder, log, **environment):
    """Run setup.sh where `apt-get` is a stand-in that writes down what is asked of it, and one Python is new enough."""
    bin_ = folder / "bin"
    bin_.mkdir()
    stand_ins = {
        "apt-get": f'echo apt-get "$@" >> {log}',
        "python3.13": "exit 1",
        "python3.12": f'exec "{sys.executable}" "$@"',
    }
    for name, body in stand_ins.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    return subprocess.run(
        [folder / "source" / "setup.sh"],
        env={"PATH": f"{bin_}:/usr/bin:/bin", "AUTOGRADER": str(folder)} | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_setup_installs_the_wheel_and_the_autograder_grades_with_it(autograder, tmp_path):
    """Without a network, and so without what the wheel needs: that is lent by the environment of the tests."""
    shutil.rmtree(autograder / "venv")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", autograder / "source"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    log = tmp_path / "log"
    done = run_setup(autograder, log, PIP_NO_DEPS="1", PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert log.read_text().startswith("apt-get update\n")
    (site,) = (autograder / "venv").glob("lib/*/site-packages")
    assert (site / "chainrule_engine").is_dir()
    (entry,) = site.glob("chainrule-*.dist-info/direct_url.json")
    assert ".whl" in entry.read_text()
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    results, done = run_autograder(autograder, ANSWERS)
    assert (results["score"], done.stderr) == (8, "")


def test_the_setup_says_that_the_wheel_is_missing(autograder, tmp_path):
    done = run_setup(autograder, tmp_path / "log")
    assert done.returncode == 1
    assert "make wheel" in done.stderr
    assert not (tmp_path / "log").exists()


# ------------------------------------------------------------------------------------------------- PrairieLearn

QUESTION = EXAMPLES / "prairielearn" / "questions" / "backprop"

#: PrairieLearn's caller: the course's files are importable, and nothing but the standard library is besides.
CALLER = """
import importlib.util, json, sys
sys.path[:] = [sys.argv[1], *(path for path in sys.path if "site-packages" not in path)]
spec = importlib.util.spec_from_file_location("server", sys.argv[2])
server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(server)
data = json.load(sys.stdin)
getattr(server, sys.argv[3])(data)
json.dump(data, sys.stdout)
"""


@pytest.fixture
def course(tmp_path):
    """A course with the engine in its files, as the README has it copied."""
    files = tmp_path / "serverFilesCourse"
    shutil.copytree(
        ROOT / "engine" / "chainrule_engine", files / "chainrule_engine", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(QUESTION, tmp_path / "questions" / "backprop")
    return tmp_path


def call(course, function, data):
    question = course / "questions" / "backprop"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CALLER, course / "serverFilesCourse", question / "server.py", function],
        input=json.dumps(data),
        cwd=question,
        env={},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    after = json.loads(done.stdout)
    assert after.keys() == data.keys()
    return after


def right_answers(graph):
    truth = read_task({"evaluation": {"graph": graph}}).truth.evaluation
    return {"value": truth.value} | {f"gradients_{name}": truth.all_gradients[name] for name in graph["inputs"]}


def test_each_variant_has_a_graph_of_its_own_and_no_answers(course):
    variants = [call(course, "generate", pl_data() | {"variant_seed": seed}) for seed in (1, 1, 2)]
    assert variants[0] == variants[1]
    assert variants[0]["params"] != variants[2]["params"]
    for data in variants:
        assert data["correct_answers"] == {}
        assert len(data["params"]["inputs"]) == 3
        assert json.loads(json.dumps(data)) == data


def test_a_variant_is_graded(course):
    data = call(course, "generate", pl_data())
    answers = right_answers(data["params"]["graph"])
    graded = call(course, "grade", data | {"submitted_answers": answers})
    assert graded["score"] == 1.0
    assert graded["format_errors"] == {}
    wrong = answers | {"gradients_x1": answers["gradients_x1"] + 1.0}
    graded = call(course, "grade", data | {"submitted_answers": wrong})
    assert graded["score"] == pl_weighted(graded) == 0.75
    assert graded["partial_scores"]["gradients_x1"]["score"] == 0.0
    assert graded["partial_scores"]["gradients_x1"]["feedback"].startswith("∂y/∂x1: Not correct")


def test_answers_that_cannot_be_read_use_no_attempt(course):
    data = call(course, "generate", pl_data())
    graded = call(course, "grade", data | {"submitted_answers": {"value": [1]}})
    assert graded["format_errors"].keys() == {"value"}
    assert graded["partial_scores"] == {}


def test_the_page_has_an_input_for_each_number_and_shows_no_answer(course):
    page = (QUESTION / "question.html").read_text(encoding="utf-8")
    inputs = re.findall(r"<pl-number-input ([^>]*)>", page)
    data = call(course, "generate", pl_data())
    assert {re.search(r'answers-name="(\w+)"', each)[1] for each in inputs} == set(
        right_answers(data["params"]["graph"])
    )
    assert all('show-correct-answer="false"' in each for each in inputs)
    used = set(re.findall(r"\{\{[#/]?params\.(\w+)", page))
    assert used <= data["params"].keys()
    info = json.loads((QUESTION / "info.json").read_text(encoding="utf-8"))
    assert {"uuid", "title", "topic", "type"} <= info.keys()


# ---------------------------------------------------------------------------------------------------- notebooks

NOTEBOOK = EXAMPLES / "notebook"


def cells():
    notebook = json.loads((NOTEBOOK / "q1.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return [cell | {"source": "".join(cell["source"])} for cell in notebook["cells"]]


def run_notebook(monkeypatch, change=lambda source: source):
    """Run all cells, as nbgrader does; return the variables, and (points, the most) of each cell with a grade."""
    monkeypatch.chdir(NOTEBOOK)
    names, grades = {"__name__": "__main__"}, []
    for cell in cells():
        if cell["cell_type"] != "code":
            continue
        outputs = run_cell(change(cell["source"]), names)
        marks = cell["metadata"].get("nbgrader", {})
        if marks.get("grade"):
            grades.append((determine_grade(outputs, marks["points"]), marks["points"]))
        else:
            assert outputs[:2] == ("", None)
    return names, grades


def test_the_solution_has_all_points(monkeypatch):
    assert run_notebook(monkeypatch)[1] == [(6.0, 6)]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("+= other.data * out.grad", "= other.data * out.grad"),
        ("self.data * out.grad", "self.data"),
        ("self.grad += other.data * out.grad", "pass"),
    ],
)
def test_a_wrong_solution_has_fewer(monkeypatch, right, wrong):
    ((earned, most),) = run_notebook(monkeypatch, lambda source: source.replace(right, wrong))[1]
    assert most == 6
    assert 1.0 <= earned < 6.0


def test_the_notebook_that_students_get_runs(monkeypatch):
    """Without the solution, for which nbgrader puts a line that raises."""

    def change(source):
        return re.sub(r"### BEGIN SOLUTION.*### END SOLUTION", "raise NotImplementedError()", source, flags=re.DOTALL)

    names, grades = {"__name__": "__main__"}, []
    monkeypatch.chdir(NOTEBOOK)
    for cell in cells():
        if cell["cell_type"] == "code":
            outputs = run_cell(change(cell["source"]), names)
            if cell["metadata"].get("nbgrader", {}).get("grade"):
                grades.append(determine_grade(outputs, 6))
    (earned,) = grades
    assert 0 <= earned < 6


def test_otters_test_file_is_the_one_that_the_helper_writes(monkeypatch):
    text = (NOTEBOOK / "tests" / "q1.py").read_text(encoding="utf-8")
    assert text == otter_test_file(NOTEBOOK / "task.json", "task.json", name="q1")
    names, _ = run_notebook(monkeypatch)
    found = run_otter(text, names, monkeypatch)
    assert len(found) == 5
    assert all(passed for passed, *_ in found.values())
    names["a"].grad = 0.0
    failed = run_otter(text, names, monkeypatch)
    assert [name for name, (passed, *_) in failed.items() if not passed] == ["∂g/∂a"]
    assert failed["∂g/∂a"][1].startswith("AssertionError: ∂g/∂a: Not correct")


# --------------------------------------------------------------------------------------------------------- curl


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("data")) as running:
        yield running


def run_curl(server, *arguments, **environment):
    address = {"CHAINRULE_URL": f"http://127.0.0.1:{server.port}"}
    return subprocess.run(
        ["sh", EXAMPLES / "curl" / "grade.sh", *arguments],
        env={"PATH": os.environ["PATH"]} | address | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_script_grades_over_http(server, tmp_path):
    done = run_curl(server)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["outcome"] == "graded"
    assert (report["score"], report["max_score"]) == (7, 8)
    assert [check["id"] for check in report["checks"] if not check["passed"]] == ["grad.b"]
    assert "staff" not in report
    results = json.loads(run_curl(server, "gradescope", CHAINRULE_API_KEY="cr_unused").stdout)
    assert results["score"] == 7
    assert {"tests", "output"} <= results.keys()
    broken = tmp_path / "answers.json"
    broken.write_text('{"gradients": {"a": []}}')
    assert json.loads(run_curl(server, ANSWERS=str(broken)).stdout)["outcome"] == "not_gradable"
    for more in ("{", "", '{"value": 48.0}, "options": {"points": 900}'):
        broken.write_text(more)
        refused = run_curl(server, "xqueue", ANSWERS=str(broken))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "is not JSON" in refused.stderr
    broken.write_text('{"value": NaN}')
    assert json.loads(run_curl(server, ANSWERS=str(broken)).stdout)["outcome"] == "not_gradable"
