"""The commands of grading, as real processes: what a grading container has is this command and its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import get_args
from xml.etree import ElementTree

import pytest
from tests.client.xqueues import PASSWORD, USER, Queue

from chainrule import _client, _files, _grade
from chainrule._local import platforms
from chainrule.cli import main
from chainrule_engine import grading

TASK = {
    "id": "q3",
    "title": "Backprop by hand <é>",
    "evaluation": {"graph": {"inputs": {"a": -2.0, "b": 3.0}, "program": "y = (a*b)*(a + 2*b)"}},
    "checks": [
        {"id": "value", "of": "value", "points": 1},
        {"id": "grad.a", "of": "gradients.a", "points": 2},
        {"id": "grad.b", "of": "gradients.b", "points": 2, "visibility": "hidden"},
    ],
}
#: By hand: y = ab(a + 2b), ∂y/∂a = 2ab + 2b², ∂y/∂b = a² + 4ab.
RIGHT = {"value": -24.0, "gradients": {"a": 6.0, "b": -20.0}}
WRONG = {"value": -24.0, "gradients": {"a": 7.0, "b": -20.0}}
FORMATS = sorted(platforms().formats())
OPTIONS = {"lti-ags": ["--option", "user=42", "--option", "timestamp=2026-11-30T12:00:00.000+00:00"],
           "classroom50": ["--option", "datetime=2026-11-30T12:00:00Z"]}  # fmt: skip

#: Runs the command where neither a web server nor a compiler is installed, and any connection is an error.
ALONE = """
import socket, sys
for name in ("gunicorn", "numba", "llvmlite", "numpy", "celery", "psycopg", "alembic", "structlog"):
    sys.modules[name] = None
def refuse(*_, **__):
    raise AssertionError("there is no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from chainrule.cli import main
sys.exit(main())
"""
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CHAINRULE_")} | {
    "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error",
}  # fmt: skip


def command(*arguments, stdin=b"", environ=None, cwd=None):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)],
        input=stdin, capture_output=True, env=ENVIRON | (environ or {}), cwd=cwd, timeout=100, check=False,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Return a function that writes a file, of JSON or of bytes, and returns its path."""

    def write(name, data):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return path

    return write


@pytest.fixture
def task(files):
    return files("task.json", TASK)


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Run the command in this process; returns its status, what it printed and what it complained of."""
    for name in [name for name in os.environ if name.startswith("CHAINRULE_")]:
        monkeypatch.delenv(name)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capfdbinary.readouterr()
        return status, printed.out, printed.err.decode()

    return run


def expect_in_form(name, text):
    """Hold a result to the form of its platform, as far as one can tell without it."""
    if name == "junit":
        ElementTree.fromstring(text)
    elif name in ("codegrade", "inginious"):
        assert text
    elif name == "nbgrader":
        float(text)
    elif name == "autolab":
        assert json.loads(text.splitlines()[-1])["scores"]
    else:
        json.loads(text, parse_constant=pytest.fail)


# --------------------------------------------------------------------------------------------------- chainrule grade


@pytest.mark.slow
def test_it_needs_neither_server_nor_compiler_nor_network(task, files, tmp_path):
    out = tmp_path / "results" / "results.json"
    done = command("grade", "--spec", task, "--answers", files("a.json", RIGHT), "--local", "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    report = json.loads(out.read_bytes())
    assert (report["outcome"], report["score"], report["max_score"]) == ("graded", 3, 3)
    assert [check["id"] for check in report["checks"]] == ["value", "grad.a"]
    assert oct(out.stat().st_mode & 0o777) == "0o644"
    assert [path.name for path in out.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("answers", [RIGHT, WRONG, {"value": "x"}], ids=["right", "wrong", "unreadable"])
def test_in_process_and_over_http_the_bytes_are_the_same(run, url, task, files, name, answers):
    file = files("a.json", answers)
    asked = ["grade", "--spec", task, "--answers", file, "--format", name, *OPTIONS.get(name, [])]
    local, remote = run(*asked, "--local"), run(*asked, "--url", url)
    assert local == remote
    status, out, err = local
    assert (status, err) == (0, "")
    expect_in_form(name, out.decode())


@pytest.mark.parametrize("audience", ["student", "staff"])
def test_reports_are_the_same_bytes_too(run, url, task, files, audience):
    asked = ["grade", "--spec", task, "--answers", files("a.json", WRONG), "--audience", audience]
    local, remote = run(*asked, "--local"), run(*asked, "--url", url)
    assert local == remote
    report = json.loads(local[1])
    assert ("staff" in report) is (audience == "staff")
    assert (b"645" in local[1]) is False
    if audience == "staff":
        assert report["staff"]["checks"]["grad.a"]["expected"] == 6.0


UNREADABLE = {
    "nothing": b"", "no JSON": b'{"value": ', "a word": b"secret answers", "null": b"null", "a list": b"[1]",
    "a text": b'"-24"',
    "NaN": b'{"value": NaN}', "too large": b'{"value": 1e999}', "twice": b'{"value": 1, "value": -24}',
    "not UTF-8": b'{"value": "\xff"}', "half a pair": b'{"value": "\\ud800"}', "deep": b"[" * 100_000,
    "deep in bounds": b'{"value": ' + b"[" * 31 + b"]" * 31 + b"}", "many": b'{"value": [' + b"1," * 200_000 + b"1]}",
    "long": b" " * (_files.ANSWER_BYTES + 1), "a pickle": b"\x80\x04\x95\x0c\x00\x00\x00", "NUL": b"\0",
}  # fmt: skip


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_not_gradable(run, task, files, raw):
    status, out, err = run("grade", "--spec", task, "--answers", files("a.json", raw), "--local")
    assert status == 0, err
    report = json.loads(out)
    assert (report["outcome"], report["score"]) == ("not_gradable", 0)
    assert report["format_errors"]
    if "not gradable: " in err:  # the student is told what the staff is
        words = err.partition("not gradable: ")[2].strip()
        assert words in report["format_errors"][0]["detail"]
    assert "secret" not in out.decode() + err


@pytest.mark.parametrize("name", FORMATS)
def test_answers_that_are_not_there_are_not_gradable_in_every_format(run, task, tmp_path, name):
    asked = ["grade", "--spec", task, "--answers", tmp_path / "no.json", "--local", "--format", name]
    status, out, err = run(*asked, *OPTIONS.get(name, []))
    assert status == 0
    expect_in_form(name, out.decode())
    assert ("there is no file no.json" in err) is (name != "coderunner")


def test_a_file_may_begin_with_a_mark_and_numbers_may_be_large(run, task, files):
    file = files("a.json", b'\xef\xbb\xbf{"value": -24.0, "gradients": {"a": 123456789012345678901234567890}}')
    report = json.loads(run("grade", "--spec", task, "--answers", file, "--local")[1])
    assert [check["passed"] for check in report["checks"]] == [True, False]


def test_a_link_leads_to_no_answers(run, task, files, tmp_path):
    """A submission can hold a link to whatever lies in the grader, the right answers among it, or a folder."""
    files("right.json", RIGHT)
    (tmp_path / "link.json").symlink_to(tmp_path / "right.json")
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "a.json").write_text(json.dumps(RIGHT))
    (tmp_path / "folders.json").symlink_to(tmp_path / "right")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link", "folders", "folder", "pipe"):
        out = tmp_path / "out" / name
        asked = ["grade", "--spec", task, "--answers", tmp_path / f"{name}.json", "--local", "-o", out]
        assert run(*asked)[0] == 0
        assert json.loads(out.read_bytes())["outcome"] == "not_gradable"


BROKEN = {
    "no task": ("absent.json", []),
    "a task that is none": ("bad.json", []),
    "a task that is no JSON": ("text.json", []),
    "no service": ("task.json", ["--url", "http://127.0.0.1:1"]),
    "a bad address": ("task.json", ["--url", "nowhere"]),
    "bad metadata": ("task.json", ["--local", "--metadata", "text.json"]),
    "a person": ("task.json", ["--local", "--submission", "ada@example.org"]),
    "two of them": ("task.json", ["--local", "--url", "http://127.0.0.1:1"]),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("what", BROKEN)
def test_whatever_breaks_the_platform_has_its_result(run, task, files, tmp_path, monkeypatch, what, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHAINRULE_MAX_RETRIES", "0")
    files("bad.json", {"id": "bad", "evaluation": {"graph": {"inputs": {}, "program": "y = nothing"}}})
    files("text.json", b"no JSON")
    spec, more = BROKEN[what]
    local = [] if more else ["--local"]
    file = files("a.json", RIGHT)
    asked = ["grade", "--spec", spec, "--answers", file, *more, *local, "--format", name, *OPTIONS.get(name, [])]
    status, out, err = run(*asked, "-o", tmp_path / "out" / "result")
    text = (tmp_path / "out" / "result").read_text()
    wanted = platforms().failure(name, phase="open", options={}, task=None) if name not in OPTIONS else None
    assert status == (wanted.exit_status if wanted else status)
    assert out == b""
    assert ("chainrule grade: nothing was graded" in err) is (name != "coderunner")
    if name not in ("mugrade", "xqueue", "codegrade", "autolab", "inginious", "nbgrader", "lti-ags"):
        expect_in_form(name, text)
    if name == "json":
        assert status == 1
        report = json.loads(text)
        assert (report["outcome"], report["score"]) == ("infrastructure_error", 0)
    if name == "gradescope":
        assert (status, json.loads(text)["score"]) == (0, 0)


@pytest.mark.parametrize("name", ["json", "gradescope", "coursera"])
@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b'{"score": 1e9}', b"[]"])
def test_what_another_server_answers_is_no_result(run, server, task, files, name, content):
    server.answers = [(200, {"Content-Type": "application/json"}, content)]
    asked = ["grade", "--spec", task, "--answers", files("a.json", RIGHT), "--format", name, "--url", server.url]
    status, out, err = run(*asked)
    assert content != out.strip()
    assert "is it a chainrule service?" in err
    assert status == (0 if name == "gradescope" else 1)


@pytest.mark.slow
def test_who_is_killed_leaves_a_result_behind(task, files, tmp_path):
    """A container ends at its limit of time without a word; then the result says so, and not nothing."""
    out = tmp_path / "results.json"
    endless = "import time\nfrom chainrule import _grade\n_grade.ask = lambda *_: time.sleep(100)\nsys.exit(main())"
    script = ALONE.replace("sys.exit(main())", endless)
    arguments = ["grade", "--spec", task, "--answers", files("a.json", RIGHT), "--local", "--format", "gradescope"]
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments), "-o", out], env=ENVIRON)
    try:
        until = time.monotonic() + 60
        while not out.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    result = json.loads(out.read_bytes())
    assert result["score"] == 0
    assert "not about your answers" in result["output"]


def test_without_a_service_the_advice_is_to_need_none(run, task, files, tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_MAX_RETRIES", "0")
    nowhere = ["--url", "http://127.0.0.1:1"]
    answers = ["--spec", task, "--answers", files("a.json", RIGHT)]
    assert run("grade", *answers, "--local", "-o", tmp_path / "reports" / "a.json")[0] == 0
    for asked in (
        ["lint", task],
        ["grade", *answers],
        ["regrade", "--spec", task, "--answers", tmp_path, "--reports", tmp_path / "reports", "--diff"],
    ):
        status, _, err = run(*asked, *nowhere)
        assert status == 1
        assert "no service answers there; with --local this command needs none" in err
        assert "HTTPConnectionPool" not in err


def test_nobody_has_to_read_to_the_end(task, files):
    """`chainrule lint … | head -1`: the rest has no reader, and no complaint."""
    answers = files("a.json", RIGHT)
    for asked in (["lint", task, "--local", "--json"], ["grade", "--spec", task, "--answers", answers, "--local"]):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-c", ALONE, *map(str, asked)],
                stdout=writer, stderr=subprocess.PIPE, env=ENVIRON, timeout=100, check=False,
            )  # fmt: skip
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")


def test_misuse_ends_with_status_2(run, task, files, tmp_path):
    file = files("a.json", RIGHT)
    for more, words in (
        (["--format", "gradscope"], "there are"),
        (["--format", "gradescope", "--audience", "staff"], "--audience staff"),
        (["--format", "gradescope", "--option", "colour=red"], "no such option"),
        (["--format", "lti-ags"], "missing"),
    ):
        status, out, err = run("grade", "--spec", task, "--answers", file, "--local", *more)
        assert (status, out) == (2, b"")
        assert words in err
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.json").write_text("{}")
    for more, words in (
        ([], "another one for the results"),
        (["-o", tmp_path / "x" / ".." / "many"], "another one for the results"),
        (["-o", tmp_path, "--submission", "s"], "one submission"),
    ):
        status, out, err = run("grade", "--spec", task, "--answers", tmp_path / "many", "--local", *more)
        assert (status, out) == (2, b"")
        assert words in err
    assert (tmp_path / "many" / "a.json").read_text() == "{}"


@pytest.mark.parametrize("what", ["task.json", "a.json", "metadata.json"])
def test_a_result_never_takes_the_place_of_what_it_is_made_of(run, task, files, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    asked = ["--answers", files("a.json", RIGHT), "--metadata", files("metadata.json", METADATA)]
    before = (tmp_path / what).read_bytes()
    status, out, err = run("grade", "--spec", task, *asked, "--local", "-o", f"./{what}")
    assert (status, out) == (2, b"")
    assert what in err
    assert (tmp_path / what).read_bytes() == before


def test_a_link_to_the_result_is_not_gradable_and_no_misuse(run, task, tmp_path):
    """A student can name the platform's file; what was refused for that would leave no result."""
    out = tmp_path / "results.json"
    out.write_text("{}")
    (tmp_path / "a.json").symlink_to(out)
    asked = ["grade", "--spec", task, "--answers", tmp_path / "a.json", "--local", "-o", out]
    assert run(*asked)[0] == 0
    assert json.loads(out.read_bytes())["outcome"] == "not_gradable"


# ----------------------------------------------------------------------------------------------------- submissions


METADATA = {
    "id": 123456,
    "created_at": "2026-11-30T12:00:00.000000-08:00",
    "assignment": {"title": "HW", "total_points": "20.0"},
    "submission_method": "upload",
    "users": [{"email": "ada@example.org", "id": 9, "name": "Ada Lovelace"}],
    "previous_submissions": [
        {"score": 1.0, "autograder_error": False},
        {"score": 0.0, "autograder_error": True},
        {"score": 2.0, "results": {"tests": []}},
    ],
}


def test_of_gradescopes_metadata_the_id_and_the_attempt_are_read_and_nothing_else(run, task, files, monkeypatch):
    sent = []
    from chainrule._transport import Transport

    real = Transport.send
    monkeypatch.setattr(
        Transport, "send", lambda self, *given, **named: sent.append((given, named)) or real(self, *given, **named)
    )
    metadata = files("submission_metadata.json", METADATA)
    asked = ["grade", "--spec", task, "--answers", files("a.json", RIGHT), "--metadata", metadata, "--local"]
    report = json.loads(run(*asked)[1])
    assert {name: report["submission"][name] for name in ("id", "attempt")} == {"id": "123456", "attempt": 3}
    assert "Ada" not in str(sent)
    assert "ada@" not in str(sent)
    report = json.loads(run(*asked, "--attempt", 7, "--submission", "s-1")[1])
    assert {name: report["submission"][name] for name in ("id", "attempt")} == {"id": "s-1", "attempt": 7}


def test_feedback_goes_by_the_attempt(run, files):
    levels = {"level": "full", "attempts": [{"from": 1, "level": "pass_fail"}, {"from": 3, "level": "hint"}]}
    task = files("task.json", TASK | {"feedback": levels})
    asked = ["grade", "--spec", task, "--answers", files("a.json", WRONG), "--local", "--attempt"]
    assert [json.loads(run(*asked, attempt)[1])["feedback"] for attempt in (1, 2, 3)] == [
        "pass_fail",
        "pass_fail",
        "hint",
    ]


def test_answers_may_come_from_standard_input(task):
    done = command("grade", "--spec", task, "--answers", "-", "--local", stdin=json.dumps(RIGHT).encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["score"] == 3


def test_a_platform_may_tell_options_in_its_environment(run, task, files, monkeypatch):
    monkeypatch.setenv("ASSIGNMENT", "hw1")
    monkeypatch.setenv("USERNAME", "octocat")
    asked = ["grade", "--spec", task, "--answers", files("a.json", RIGHT), "--local", "--format", "classroom50"]
    result = json.loads(run(*asked)[1])
    assert (result["assignment"], result["usernames"]) == ("hw1", ["octocat"])
    assert json.loads(run(*asked, "--option", "assignment=hw2")[1])["assignment"] == "hw2"
    now = datetime.strptime(result["datetime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta() <= datetime.now(UTC) - now < timedelta(minutes=1)
    then = "2026-11-30T12:00:00Z"
    assert json.loads(run(*asked, "--option", f"datetime={then}")[1])["datetime"] == then


def test_coderunner_tells_the_staff_what_broke(run, task, files, tmp_path):
    """It takes a word on standard error for a crash, so the reason has its place in the result."""
    answers, out = files("a.json", RIGHT), tmp_path / "out.json"
    asked = ["grade", "--answers", answers, "--local", "--format", "coderunner", "-o", out]
    status, _, err = run(*asked, "--spec", tmp_path / "<no>.json")
    assert (status, err) == (0, "")
    assert "&lt;no&gt;.json" in json.loads(out.read_bytes())["instructorhtml"]
    assert run(*asked, "--spec", task)[0] == 0
    assert "instructorhtml" not in json.loads(out.read_bytes())


def test_the_words_of_the_client_are_those_of_the_engine():
    assert _grade.SCHEMA == grading.SCHEMA
    assert grading.answers.UNREADABLE == _grade.UNREADABLE
    assert get_args(_client.Audience) == grading.AUDIENCES
    assert get_args(_client.Phase) == tuple(grading.PHASES)


def test_a_folder_gives_a_result_for_each_file(run, task, files, tmp_path):
    for name, data in (("a", RIGHT), ("b", WRONG), ("c", b"no JSON"), (".hidden", RIGHT)):
        files(f"answers/{name}.json", data)
    files("answers/notes.txt", b"")
    out = tmp_path / "out"
    status, printed, err = run("grade", "--spec", task, "--answers", tmp_path / "answers", "--local", "-o", out)
    assert (status, printed) == (0, b"")
    assert "c.json is not gradable: c.json is not JSON" in err
    reports = {path.name: json.loads(path.read_bytes()) for path in out.iterdir()}
    assert {name: (report["outcome"], report["score"]) for name, report in reports.items()} == {
        "a.json": ("graded", 3), "b.json": ("graded", 1), "c.json": ("not_gradable", 0),
    }  # fmt: skip
    asked = ["grade", "--spec", task, "--answers", tmp_path / "answers", "--local", "-o", out, "--format", "junit"]
    assert run(*asked)[0] == 0
    assert (out / "a.xml").exists()


# -------------------------------------------------------------------------------------------------- chainrule regrade


@pytest.fixture
def graded(run, task, files, tmp_path):
    """A folder of answers and one of reports on them."""
    for name, data in (("ada", RIGHT), ("bob", WRONG), ("eve", b"no JSON"), ("ida", {"value": 0.0})):
        files(f"answers/{name}.json", data)
    asked = ["grade", "--spec", task, "--answers", tmp_path / "answers", "--local", "-o", tmp_path / "reports"]
    assert run(*asked)[0] == 0
    return ["--answers", tmp_path / "answers", "--reports", tmp_path / "reports", "--local"]


def lenient():
    """The task with a wider tolerance for ∂y/∂a, and a value that must be exact and nobody has."""
    return TASK | {
        "checks": [
            {"id": "value", "of": "value", "points": 1, "compare": {"mode": "range", "low": -1, "high": 1}},
            {"id": "grad.a", "of": "gradients.a", "points": 2, "compare": {"mode": "absolute", "atol": 1.5}},
            TASK["checks"][2],
        ]
    }


def test_a_diff_says_whose_score_would_change_and_writes_nothing(run, graded, files, tmp_path):
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.json")}
    status, out, err = run("regrade", "--spec", files("new.json", lenient()), *graded, "--diff")
    assert (status, err.count("\n")) == (0, 0)
    lines = out.decode().splitlines()
    assert lines == [
        "ada: 3/3 → 2/3 (value 1 → 0)",
        "bob: 1/3 → 2/3 (value 1 → 0, grad.a 0 → 2)",
        "ida: 0/3 → 1/3 (value 0 → 1)",
        "3 of 4 scores change",
    ]
    after = {path.name: path.read_bytes() for path in tmp_path.rglob("*.json") if path.name != "new.json"}
    assert after == before


def test_new_reports_say_what_they_supersede(run, graded, files, tmp_path):
    out = tmp_path / "out"
    spec = files("new.json", lenient())
    status, _, err = run("regrade", "--spec", spec, *graded, "-o", out, "--reason", "the tolerance was too narrow")
    assert (status, err) == (0, "")
    old, new = (json.loads((tmp_path / folder / "bob.json").read_bytes()) for folder in ("reports", "out"))
    assert new["score"] == 2
    assert new["regrade"]["supersedes"] == old["id"] != new["id"]
    assert new["regrade"]["reason"] == "the tolerance was too narrow"
    assert new["regrade"]["changes"]["score"] == {"old": 1, "new": 2, "difference": 1}
    assert (out / "eve.json").exists()
    assert len(list(out.iterdir())) == 4


def test_nobody_loses_with_policy_max(run, graded, files, tmp_path):
    out = tmp_path / "out"
    told = run("regrade", "--spec", files("new.json", lenient()), *graded, "-o", out, "--policy", "max")
    assert b"ada: 3/3 \xe2\x86\x92 2/3 (value 1 \xe2\x86\x92 0), kept as it was" in told[1]
    assert (out / "ada.json").read_bytes() == (tmp_path / "reports" / "ada.json").read_bytes()
    assert json.loads((out / "bob.json").read_bytes())["score"] == 2
    told = run("regrade", "--spec", tmp_path / "new.json", *graded, "--diff", "--policy", "max", "--json")
    assert {entry["name"]: entry["kept"] for entry in json.loads(told[1])["data"]} == {
        "ada": True, "bob": False, "eve": False, "ida": False,
    }  # fmt: skip


def test_the_same_task_changes_nothing(run, graded, task, tmp_path):
    assert run("regrade", "--spec", task, *graded, "--diff")[:2] == (0, b"0 of 4 scores change\n")
    assert run("regrade", "--spec", task, *graded, "-o", tmp_path / "out")[0] == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "reports" / path.name).read_bytes()


def test_what_was_regraded_can_be_regraded(run, graded, task, files, tmp_path):
    assert run("regrade", "--spec", files("new.json", lenient()), *graded, "-o", tmp_path / "second")[0] == 0
    asked = ["--answers", tmp_path / "answers", "--reports", tmp_path / "second", "--local", "-o", tmp_path / "third"]
    status, out, _ = run("regrade", "--spec", task, *asked)
    assert (status, out.splitlines()[-1]) == (0, b"3 of 4 scores change")
    folders = ("reports", "second", "third")
    first, second, third = (json.loads((tmp_path / name / "bob.json").read_bytes()) for name in folders)
    assert third["regrade"]["supersedes"] == second["id"]
    del third["regrade"]
    assert third == first


def test_a_service_is_told_what_a_regrade_supersedes(run, url, task, files, tmp_path):
    files("answers/ada.json", WRONG)
    files("answers/bob.json", {"value": 1.0})
    asked = ["--answers", tmp_path / "answers", "--url", url]
    assert run("grade", "--spec", task, *asked, "-o", tmp_path / "reports", "--attempt", 2)[0] == 0
    local = ["--answers", tmp_path / "answers" / "bob.json", "--local", "--attempt", 5]
    assert run("grade", "--spec", task, *local, "-o", tmp_path / "reports" / "bob.json")[0] == 0
    asked = [*asked, "--reports", tmp_path / "reports", "-o", tmp_path / "out"]
    status, _, err = run("regrade", "--spec", files("new.json", lenient()), *asked)
    assert (status, err) == (0, "")
    for name in ("ada", "bob"):  # the service has never heard of the report on bob
        old, new = (json.loads((tmp_path / folder / f"{name}.json").read_bytes()) for folder in ("reports", "out"))
        assert new["regrade"]["supersedes"] == old["id"]
        assert new["submission"]["attempt"] == old["submission"]["attempt"]


def test_misuse_of_regrade(run, graded, task, files, tmp_path):
    for more, words in (
        ([], "look first with --diff"),
        (["-o", tmp_path / "reports"], "another folder"),
        (["-o", tmp_path / "answers"], "another folder"),
    ):
        status, out, err = run("regrade", "--spec", task, *graded, *more)
        assert (status, out) == (2, b"")
        assert words in err
    files("reports/zoe.json", json.loads((tmp_path / "reports" / "ada.json").read_bytes()))
    status, out, err = run("regrade", "--spec", task, *graded, "--diff")
    assert (status, out) == (1, b"0 of 4 scores change\n")
    assert "zoe has no answers" in err
    files("answers/zoe.json", RIGHT)
    whole = json.loads((tmp_path / "reports" / "ada.json").read_bytes())
    for broken in ({"schema": "another"}, [], *({**whole, name: None} for name in ("submission", "checks", "task"))):
        files("reports/zoe.json", broken)
        status, out, err = run("regrade", "--spec", task, *graded, "--diff")
        assert (status, out) == (2, b"")
        assert "zoe.json is" in err


# ----------------------------------------------------------------------------------------------------- chainrule lint

#: Published in many places: a + b = 1, so that a multiplication without its upstream factor gives the right numbers.
WEAK = {"evaluation": {"graph": {"inputs": {"a": -2.0, "b": 3.0}, "program": "c = a*b\nd = a + b\ne = c*d"}}}
#: A node is used twice, and no number stands for another.
STRONG = {"evaluation": {"graph": {"inputs": {"a": 2.0, "b": 3.0}, "program": "c = a*b\nd = c + a\ne = c*d\nf = e*d"}}}


def test_a_weak_exercise_is_refused_and_better_inputs_are_named(run, files):
    status, out, err = run("lint", files("weak.json", WEAK), "--local")
    text = out.decode()
    assert (status, err) == (1, "")
    assert text.startswith("This task must not be published as it is:\n")
    assert "  not told: mul_no_up: upstream is 1 at node c" in text
    assert "With a = " in text.splitlines()[-1]
    assert "mul_no_up" in text.splitlines()[-1]
    found = json.loads(run("lint", files("weak.json", WEAK), "--local", "--json")[1])
    graph = WEAK["evaluation"]["graph"]
    better = {"evaluation": {"graph": graph | {"inputs": graph["inputs"] | found["suggestion"]["inputs"]}}}
    told = json.loads(run("lint", files("better.json", better), "--local", "--json", "--quick")[1])
    assert "mul_no_up" in told["caught"]
    assert told["suggestion"] is None


def test_what_is_meant_to_go_unnoticed_can_be_accepted(run, url, files):
    missed = [item["name"] for item in json.loads(run("lint", files("t.json", WEAK), "--local", "--json")[1])["missed"]]
    accepted = [word for name in missed for word in ("--accept", name)]
    status, out, _ = run("lint", files("t.json", WEAK), "--url", url, "--quick", *accepted)
    assert (status, out.splitlines()[0]) == (0, b"This task can be published.")


def test_a_strong_exercise_can_be_published(run, files):
    assert run("lint", files("strong.json", STRONG), "--local")[0] == 0


def test_a_task_that_is_none_is_not_publishable(run, files):
    for data in ({}, {"evaluation": {"graph": {"inputs": {}, "program": "y = x"}}}, WEAK | {"checks": 3}):
        status, out, err = run("lint", files("t.json", data), "--local")
        assert (status, out) == (1, b"")
        assert "in the task, at #" in err


def test_a_name_that_is_misspelt_is_pointed_at_in_the_file(run, files):
    graph = {"inputs": {"x": 3.0}, "program": "y = x*x"}
    for data, words in (
        ({"evalution": {"graph": graph}}, "in the task, at #/evalution: unknown field (did you mean evaluation?)"),
        ({"evaluation": {"grpah": graph}}, "in the task, at #/evaluation/grpah: unknown field (did you mean graph?)"),
    ):
        status, _, err = run("lint", files("bad.json", data), "--local")
        assert status == 1
        assert err.startswith(words)
        assert "request id" not in err
    assert run("lint", files("t.json", b"no JSON"), "--local")[0] == 2


# -------------------------------------------------------------------------------------------- chainrule xqueue-worker


@pytest.fixture
def tasks(files):
    whole = [check | {"visibility": "visible"} for check in TASK["checks"]]
    return files("tasks/q3.json", TASK | {"checks": whole}).parent


@pytest.fixture
def queue():
    with Queue() as queue:
        yield queue


#: Runs the command with a grading that takes its time, and says when it begins.
SLOW = """
import sys, time
from chainrule import _grading_commands as commands
from chainrule.cli import main
real = commands.ask
def slow(*given, **named):
    print("grading", flush=True)
    time.sleep({seconds})
    return real(*given, **named)
commands.ask = slow
sys.exit(main())
"""


def worker(queue, tasks, *more):
    return ["xqueue-worker", "--server", queue.url, "--queue", "my queue", "--spec-dir", tasks, "--user", USER,
            "--dead-letters", tasks.parent / "dead.jsonl", *more]  # fmt: skip


@pytest.mark.slow
def test_a_worker_grades_in_its_own_process(queue, tasks):
    right = queue.add(json.dumps(RIGHT))
    wrong = queue.add(json.dumps(WRONG))
    bad = queue.add('{"value": NaN} <b>')
    # The worker needs its connection to the queue; everything else is as in a container.
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", *map(str, worker(queue, tasks, "--local", "--once"))],
        env=ENVIRON | {"CHAINRULE_XQUEUE_PASSWORD": PASSWORD}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [item.results[0] for item in (right, wrong, bad)]
    assert [(result["correct"], result["score"]) for result in results] == [(True, 5), (False, 3), (False, 0)]
    for result in results:
        ElementTree.fromstring(result["msg"])
    assert right.results == [
        {
            "correct": True,
            "score": 5,
            "msg": "<div><ul><li>value of y: 1 of 1. Correct.</li><li>∂y/∂a: 2 of 2. Correct.</li>"
            "<li>∂y/∂b: 2 of 2. Correct.</li><li>Total: 5 of 5.</li></ul></div>",
        }
    ]
    assert PASSWORD not in done.stderr
    assert "gradients" not in done.stderr  # no answers in the log


def test_a_worker_grades_by_a_service(run, queue, tasks, url, monkeypatch):
    monkeypatch.setenv("CHAINRULE_XQUEUE_PASSWORD", PASSWORD)
    item, none = queue.add(json.dumps(RIGHT)), queue.add("{}", grader="../task")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert run(*worker(queue, tasks, "--once", "--url", url))[0] == 1
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert item.results[0]["correct"] is True
    assert none.results == []


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_finishes_the_submission_at_hand(queue, tasks):
    """SIGTERM while it grades: the result of that one arrives, and no other is pulled."""
    first, second = queue.add(json.dumps(RIGHT)), queue.add(json.dumps(RIGHT))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(seconds=1), *map(str, worker(queue, tasks, "--local"))],
        env=ENVIRON | {"CHAINRULE_XQUEUE_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "grading\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert (len(first.results), second.pulls) == (1, 0)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_submission_to_the_next(queue, tasks):
    queue.patience = 1.0
    item = queue.add(json.dumps(RIGHT))
    environ = ENVIRON | {"CHAINRULE_XQUEUE_PASSWORD": PASSWORD}
    arguments = list(map(str, worker(queue, tasks, "--local")))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(seconds=100), *arguments], env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "grading\n"
    process.kill()
    process.communicate()
    assert item.results == []
    until = time.monotonic() + 30
    while not item.results:
        assert time.monotonic() < until
        subprocess.run([sys.executable, "-m", "chainrule", *arguments, "--once"], env=environ, capture_output=True,
                       timeout=60, check=True)  # fmt: skip
    assert item.pulls == 2
    assert item.results[0]["score"] == 5
