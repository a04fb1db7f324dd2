"""The `chainrule` command, against a real server on a real socket."""

import io
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chainrule import Client, __version__
from chainrule.cli import main

GRAPH = {"inputs": {"x": 2.0, "w": -3.0}, "nodes": [{"id": "y", "op": "mul", "args": ["x", "w"]}], "output": "y"}
SPEC = {
    "model": {"inputs": 1, "layers": [1]},
    "data": {"inputs": [[1.0], [2.0]], "targets": [0.5, 1.0]},
    "loss": {"name": "squared_error"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 3,
}


@pytest.fixture
def run(url, capsys, monkeypatch):
    """Run the command; returns its status, what it printed and what it complained of."""
    monkeypatch.setenv("CHAINRULE_URL", url)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def written(folder: Path, data) -> Path:
    path = folder / "in.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_evaluate_a_file(run, tmp_path):
    status, out, err = run("evaluate", written(tmp_path, GRAPH))
    assert (status, err) == (0, "")
    assert json.loads(out)["gradients"] == {"x": -3.0, "w": 2.0, "y": 1.0}


def test_evaluate_standard_input(run):
    assert json.loads(run("evaluate", "-", stdin=json.dumps(GRAPH))[1])["value"] == -6.0


def test_evaluate_a_program(run):
    status, out, _ = run("evaluate", "--program", "y = x*w", "--input", "x=2", "--input", "w=-3e0", "--trace")
    assert status == 0
    assert json.loads(out)["value"] == -6.0
    assert json.loads(out)["steps"][0]["to"] == "x"


def test_what_is_not_finite_is_printed_as_json(run):
    out = run("evaluate", "--program", "y = 1/x", "--input", "x=0")[1]
    assert json.loads(out, parse_constant=pytest.fail)["value"] == "Infinity"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate"], "give a FILE with a graph, or --program TEXT"),
        (["evaluate", "absent.json"], "absent.json"),
        (["evaluate", "-", "--program", "y = 1"], "not both"),
        (["evaluate", "-", "--input", "x=1"], "--input belongs to --program"),
        (["evaluate", "--program", "y = x", "--input", "x"], "not of the form NAME=NUMBER"),
        (["evaluate", "--program", "y = x", "--input", "x=one"], "not of the form NAME=NUMBER"),
        (["evaluate", "--program", "y = x", "--input", "x=nan"], "cannot be sent as JSON"),
        (["evaluate", "-"], "standard input is not JSON"),
        (["version", "--url", "nowhere"], "base_url must be an address"),
        (["draw", "--program", "y = 1*2", "-o", "no/such/folder.svg"], "no/such/folder.svg"),
    ],
)
def test_misuse_ends_with_status_2_and_says_why(run, arguments, words):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--port", "http"]])
def test_unknown_commands_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: chainrule" in capsys.readouterr().err


def test_what_the_service_refuses_ends_with_status_1(run, monkeypatch):
    status, out, err = run("evaluate", "--program", "y = tahn(x)", "--input", "x=1")
    assert (status, out) == (1, "")
    assert "#/graph/program" in err
    assert "tahn" in err
    monkeypatch.setenv("CHAINRULE_MAX_RETRIES", "0")
    status, _, err = run("version", "--url", "http://127.0.0.1:1")
    assert status == 1
    assert "chainrule serve" in err


def test_draw(run, tmp_path):
    out = run("draw", written(tmp_path, GRAPH))[1]
    assert ElementTree.fromstring(out).tag.endswith("svg")
    target = tmp_path / "out.svg"
    assert run("draw", tmp_path / "in.json", "-o", target) == (0, "", "")
    assert target.read_text(encoding="utf-8").strip() == out.strip()
    assert run("draw", tmp_path / "in.json", "-o", tmp_path / "out.dot")[0] == 0
    assert (tmp_path / "out.dot").read_text().startswith("digraph")
    assert run("draw", tmp_path / "in.json", "--format", "dot")[1].startswith("digraph")


def test_train(run, tmp_path):
    status, out, _ = run("train", written(tmp_path, SPEC))
    assert status == 0
    assert len(json.loads(out)["loss_history"]) == 3


def test_version(run, url):
    assert run("version")[:2] == (0, f"chainrule {__version__}\n")
    assert json.loads(run("version", "--url", url)[1])["service"]["name"] == "chainrule"


def test_openapi_is_the_services(run, url):
    status, out, _ = run("openapi")
    assert status == 0
    assert out.endswith("}\n")
    with Client(url) as client:
        assert json.loads(out) == client._transport.json("GET", "/openapi.json")


def test_local_and_remote_answers_are_the_same_bytes(url):
    request = {"graph": GRAPH, "trace": True}
    with Client(url) as remote, Client.local() as local:
        answers = [client._transport.send("POST", "/v1/evaluations", request) for client in (remote, local)]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["Content-Type"] == answers[1].headers["Content-Type"]


# serve


def test_serve_without_the_extra_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "chainrule_service.serving", None)
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    assert "chainrule serve" in error
    assert "pip install 'chainrule[service]'" in error


def test_openapi_without_the_extra_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "chainrule_service.app", None)
    assert main(["openapi"]) == 2
    assert "pip install 'chainrule[local]'" in capsys.readouterr().err


def test_serve_help_names_every_setting(capsys, monkeypatch):
    from chainrule_service.settings import LIMITS, Settings

    names = [name for name in Settings.__dataclass_fields__ if name != "limits"] + [f"limit_{name}" for name in LIMITS]
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    words = re.split(r"[\s=;,()]+", capsys.readouterr().out)
    assert {f"CHAINRULE_{name.upper()}" for name in names} <= set(words)
    monkeypatch.setitem(sys.modules, "chainrule_service.settings", None)
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "pip install 'chainrule[service]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--port", "99999"], "port must be from 0 to 65,535"),
        (["--workers", "0"], "workers must be from 1"),
    ],
)
def test_serve_refuses_settings_that_cannot_be(tmp_path, capsys, arguments, words):
    assert main(["serve", "--data", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_may_hold_the_body_of_a_request(run, tmp_path):
    body = {"graph": GRAPH, "seeds": {"y": 2.0}, "trace": True}
    status, out, _ = run("evaluate", written(tmp_path, body))
    assert (status, json.loads(out)["gradients"]["x"]) == (0, -6.0)
    assert json.loads(out)["steps"]
    assert run("draw", written(tmp_path, {"graph": GRAPH}))[1].startswith("<svg")
    status, _, err = run("draw", written(tmp_path, body))
    assert (status, "has the member 'seeds'; draw reads graph" in err) == (2, True)
    status, _, err = run("evaluate", written(tmp_path, {"graph": GRAPH, "sedes": {}}))
    assert (status, "reads graph, seeds, derivative, trace" in err) == (2, True)


def test_a_file_that_is_not_there(run, tmp_path):
    status, _, err = run("evaluate", tmp_path / "nofile")
    assert (status, err) == (2, f"chainrule evaluate: there is no file {tmp_path / 'nofile'}\n")


def test_an_unknown_option_is_told_with_the_options_there_are(run, capsys):
    with pytest.raises(SystemExit) as end:
        run("serve", "--foo")
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "usage: chainrule serve" in err
    assert "--workers" in err
    assert "--foo" in err
