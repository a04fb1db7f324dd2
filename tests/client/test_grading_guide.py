"""The guide to grading systems is true: what it tells people to type is run here, where each platform's files are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chainrule._local import platforms
from chainrule_service.app import create_app

GUIDE = (Path(__file__).parents[2] / "docs" / "grading-systems.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: (\S+) ?(\S*))?\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SHELL = [(how, target, text) for kind, how, target, text in BLOCKS if kind == "sh"]

GRAPH = {"inputs": {"a": -2.0, "b": 3.0}, "program": "c = a*b\nd = a + b\ne = c*d"}
TASK = {"id": "q3", "title": "Backprop by hand", "evaluation": {"graph": GRAPH}}
#: By hand: e = ab(a + b), ∂e/∂a = 2ab + b², ∂e/∂b = a² + 2ab.
ANSWERS = {"value": -6.0, "gradients": {"a": -3.0, "b": -7.9}}
METADATA = {"id": 7, "users": [{"email": "ada@example.org"}], "previous_submissions": []}


@pytest.fixture
def place(tmp_path):
    """A folder with the files of every platform, and their commands."""
    files = {
        "task.json": TASK, "new.json": TASK | {"diagnose": False}, "answers.json": ANSWERS, "answers/ada.json": ANSWERS,
        "autograder/source/task.json": TASK, "autograder/submission/answers.json": ANSWERS,
        "autograder/submission_metadata.json": METADATA, "grade/tests/task.json": TASK,
        "grade/student/answers.json": ANSWERS, "shared/submission/answers.json": ANSWERS,
    }  # fmt: skip
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
    commands = {
        "chainrule": f'exec "{sys.executable}" -m chainrule "$@"',
        "getinput": "cat answers.json",
        **{f"feedback-{what}": f'echo "{what} $*"' for what in ("result", "grade", "msg", "custom")},
    }
    for name, script in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    (tmp_path / "reports").mkdir()
    return tmp_path


def shell(place, text):
    for folder in ("autograder", "grade", "shared"):
        text = text.replace(f"/{folder}", str(place / folder))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAINRULE_")}
    environ |= {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["sh", "-e", "-c", text], cwd=place, env=environ, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "target", "text"), SHELL, ids=lambda value: value.strip()[:60])
def test_what_is_to_be_typed_works(place, how, target, text):
    if "regrade" in text:
        shell(place, "chainrule grade --spec task.json --answers answers --local -o reports")
    done = shell(place, text)
    assert (done.returncode, done.stderr) == (0, "")
    assert how in ("shows", "writes")
    if how == "writes":
        assert done.stdout == ""
        result = (place / target).read_text()
        assert "∂e/∂b" in result or "\\u2202e/\\u2202b" in result
    else:
        assert done.stdout


def test_the_guide_has_every_format_that_the_command_writes():
    named = set(re.findall(r"--format ([a-z0-9-]+)", GUIDE))
    assert named == platforms().formats().keys() - {"json", "mued", "mugrade", "nbgrader", "otter", "xqueue"}
    assert len(SHELL) >= 15


def test_links_within_the_guide_lead_somewhere():
    headings = re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


@pytest.mark.parametrize("body", [text for kind, how, target, text in BLOCKS if kind == "json"])
def test_bodies_are_answered(body):
    app = create_app()
    answer = app.test_client().post("/evaluate", data=body, content_type="application/json")
    app.extensions["chainrule"].store.close()
    assert answer.status_code == 200, answer.text
    told = answer.json
    if isinstance(told, list):
        assert [item["awardedPoints"] for item in told] == [1.0, 1.0, 1.0]
    else:
        assert told["result"]["feedback"] == "You forgot the factor 2."


@pytest.mark.parametrize("code", [text for kind, _, _, text in BLOCKS if kind == "python"])
def test_code_runs(place, code, monkeypatch):
    monkeypatch.chdir(place)
    *lines, last = code.rstrip().splitlines()
    names = ANSWERS | {}
    exec("\n".join(lines), names)
    value = eval(last, names)
    if "points" in code:
        assert value == pytest.approx(5 * 2 / 3)
    else:
        assert "OK_FORMAT = False" in (place / "q3.py").read_text()


def test_the_problem_of_open_edx_names_its_task():
    (problem,) = [text for kind, _, _, text in BLOCKS if kind == "xml"]
    payload = ElementTree.fromstring(problem).find(".//grader_payload").text
    assert json.loads(payload) == {"grader": "week1/q3"}
