"""The catalogue, the limits, the health checks and the pages."""

from __future__ import annotations

import re
from contextlib import closing
from html.parser import HTMLParser

import pytest

from chainrule_engine import ENGINE, acceleration
from chainrule_engine.operations import OPERATIONS
from chainrule_service import workers
from chainrule_service.app import create_app
from chainrule_service.database import Database
from chainrule_service.problems import PROBLEM_TYPES
from chainrule_service.settings import FILE, FIXED_LIMITS, LIMITS


def test_the_catalogue_is_the_engines_table(call):
    answer = call("/v1/operations")
    assert answer["conventions"] == ENGINE["conventions"]
    assert {entry["name"]: entry["arity"] for entry in answer["data"]} == {
        name: operation.arity for name, operation in OPERATIONS.items()
    }
    for entry in answer["data"]:
        formula = entry["latex"].format(*"xyz"[: entry["arity"]])
        assert all(letter in formula for letter in "xyz"[: entry["arity"]])
        assert entry["description"]


def test_every_limit_of_an_answer_is_listed(call):
    listed = {entry["name"]: entry["value"] for entry in call("/v1/limits")["data"]}
    graph = {"inputs": {"x": 1.0}, "program": "y = x\n" + "y = y*x\n" * 1500}
    problem = call("/v1/evaluations", {"graph": graph}, 422, headers={"Accept": "image/svg+xml"})
    assert listed[problem["limit"]] == problem["maximum"]
    assert {"drawing_size", "drawing_lines"} < listed.keys()


def test_limits_show_value_default_and_maximum(call_with):
    data = {entry["name"]: entry for entry in call_with(limits={"nodes": 7})("/v1/limits")["data"]}
    assert data.keys() == {*LIMITS, *(limit.name for limit in FIXED_LIMITS)}
    assert data["nodes"]["value"] == 7
    assert (data["nodes"]["default"], data["nodes"]["maximum"]) == (100_000, 1_000_000)
    for name, entry in data.items():
        assert 1 <= entry["default"] <= entry["maximum"], name
        assert entry["description"]


def test_version(call):
    kernels = "compiled" if acceleration.load() else "python"
    assert call("/v1/version") == {"name": "chainrule", "engine": ENGINE, "kernels": kernels}


def test_home_leads_to_the_rest(call):
    for link in call("/")["links"].values():
        call(link)


def test_it_lives_and_is_ready(call):
    assert call("/livez") == call("/readyz") == {"status": "ok"}


def test_not_ready_without_its_folder(call_with, tmp_path, caplog):
    folder = tmp_path / "data"
    call = call_with(data=folder)
    with closing(Database(f"sqlite:///{folder / FILE}")) as database:
        workers.announce(database, "here:1", 1)
    assert call("/readyz") == {"status": "ok"}
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    problem = call("/readyz", status=503)
    assert problem["type"] == "/problems/service-unavailable"
    assert str(tmp_path) not in str(problem)
    assert "not ready" in caplog.text
    assert call("/livez") == {"status": "ok"}


def test_not_ready_when_the_database_is_no_database(call_with, tmp_path, caplog):
    (tmp_path / "chainrule.sqlite3").write_bytes(b"this is no database" * 100)
    call = call_with(data=tmp_path)
    call("/readyz", status=503)
    problem = call("/v1/jobs", status=503)
    assert "file is not a database" not in problem["detail"]
    assert "file is not a database" in caplog.text
    # Whether there are keys cannot be known either, so nobody is let in without one.
    call("/v1/evaluations", {"graph": {"inputs": {"x": 1}, "program": "y = -x"}}, status=503)
    assert call("/livez") == {"status": "ok"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.loads, self.inline = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "link", "img"):
            self.loads.append(attributes.get("src") or attributes.get("href"))
        self.inline += [name for name in attributes if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in attributes):
            self.inline.append(tag)


def test_the_docs_page_loads_its_own_files_only(client):
    answer = client.get("/docs")
    assert answer.mimetype == "text/html"
    page = Page(answer.get_data(as_text=True))
    assert page.inline == []
    assert 'data-spec="/openapi.json"' in answer.get_data(as_text=True)
    files = [url for url in page.loads if url != "data:,"]
    assert len(files) == 4
    for url in files:
        assert url.startswith("/static/")
        loaded = client.get(url)
        assert loaded.status_code == 200, url
        assert loaded.headers["X-Content-Type-Options"] == "nosniff"
        assert loaded.headers["Cache-Control"] != "no-store"
        loaded.close()


@pytest.mark.parametrize("path", ["/docs", "/problems/conflict"])
def test_pages_have_a_strict_policy(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
def test_every_type_of_problem_has_a_page(client, slug):
    answer = client.get(f"/problems/{slug}")
    text = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert PROBLEM_TYPES[slug].title in text
    assert re.search(rf"\b{PROBLEM_TYPES[slug].status}\b", text)
    assert Page(text).inline == []


def test_no_other_type_has_one(call):
    problem = call("/problems/<script>", status=404)
    assert "conflict" in problem["detail"]


def test_options_lists_the_methods_and_nothing_else(client):
    answer = client.options("/v1/jobs")
    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (200, b"", None)
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_no_answer_depends_on_the_host(client):
    answers = [client.get("/livez", headers={"Host": host}) for host in ("localhost", "a..b", "a b", "x" * 300)]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert len({answer.data for answer in answers}) == 1


def test_pages_lead_to_each_other_below_a_prefix(client):
    page = client.get("/docs", environ_overrides={"SCRIPT_NAME": "/math"}).get_data(as_text=True)
    assert 'data-spec="/math/openapi.json"' in page
    assert 'src="/math/static/docs.js"' in page
    home = client.get("/", environ_overrides={"SCRIPT_NAME": "/math", "PATH_INFO": ""})
    assert home.json["name"] == "chainrule"


@pytest.mark.parametrize("path", ["/v1//jobs", "/livez/", "/LIVEZ", "/l\xefvez", "*"])
def test_a_path_is_taken_as_it_is(call, path):
    call(path, status=404)


@pytest.mark.parametrize("path", ["/livez", "/openapi.json", "/docs", "/v1/operations"])
def test_head_is_get_without_its_body(client, path):
    got, head = client.get(path), client.head(path)
    differing = {"X-Request-Id"}
    assert {k: v for k, v in head.headers if k not in differing} == {k: v for k, v in got.headers if k not in differing}
    assert int(head.headers["Content-Length"]) == len(got.data) > len(head.data) == 0


def test_a_view_that_answers_nothing_is_a_mistake_of_ours(caplog):
    app = create_app()  # of its own: this one has a view more
    app.add_url_rule("/nothing", view_func=lambda: None)
    answer = app.test_client().get("/nothing")
    assert answer.status_code == 500
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert answer.json["request_id"] in caplog.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
