"""The log: one JSON object a line, which says what it is about and holds no secret."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from chainrule_service import logs
from chainrule_service.app import create_app
from chainrule_service.settings import Settings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(request):
    """What is logged while the test runs; logging is afterwards as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = getattr(request, "param", io.StringIO)()
    logs.configure("info", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(written):
    logging.getLogger("sqlalchemy.pool").warning("two\nlines and %s", "a number", extra={"number": 3})
    (line,) = lines(written)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "two\nlines and a number", "level": "warning", "logger": "sqlalchemy.pool", "number": 3}


def test_what_is_below_the_level_is_left_out(written):
    logging.getLogger("gunicorn.error").debug("hardly of interest")
    assert lines(written) == []


def test_a_traceback_stays_in_its_line(written):
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("no luck")
    (line,) = lines(written)
    assert "Traceback" in line["exception"]
    assert "ValueError: broken" in line["exception"]


@pytest.mark.parametrize("written", [Terminal], indirect=True)
def test_a_terminal_gets_lines_for_people(written):
    logging.getLogger("x").warning("look at %s", "this")
    assert "look at this" in written.getvalue()
    assert "{" not in written.getvalue()


def test_a_job_s_lines_carry_its_ids(written):
    with logs.job_lines(job_id="job_1", attempt=2, request_id="r1"):
        logging.getLogger("x").info("within")
        other = threading.Thread(target=logging.getLogger("x").info, args=("elsewhere",))
        other.start()
        other.join()
    logging.getLogger("x").info("after")
    within, elsewhere, after = lines(written)
    assert (within["job_id"], within["attempt"], within["request_id"]) == ("job_1", 2, "r1")
    assert "job_id" not in elsewhere
    assert "job_id" not in after


def test_each_request_has_a_line(written):
    app = create_app(Settings(log_level="info"))
    app.test_client().get("/v1/jobs/nobody?", headers={"X-Request-Id": "mine"})
    (line,) = lines(written)
    assert line["request_id"] == "mine"
    assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "GET", "/v1/jobs/nobody", 404)
    assert line["milliseconds"] >= 0


def test_at_the_level_of_warnings_a_request_has_none(written):
    logs.configure("warning", written)
    create_app(Settings()).test_client().get("/livez")
    assert lines(written) == []


def test_what_goes_wrong_in_a_request_carries_its_id(written):
    app: Flask = create_app(Settings())

    def fail():
        raise RuntimeError("a mistake")

    app.view_functions["server.livez"] = fail
    answer = app.test_client().get("/livez", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    (line,) = lines(written)
    assert line["request_id"] == "mine"
    assert "a mistake" in line["exception"]


SECRET = "0123456789abcdefghijABCDEFGHIJ01"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Authorization: Bearer cr_live_k3yid_{SECRET}_0a1b2c3d", "cr_live_k3yid_[redacted]"),
        (
            f"Invalid HTTP request line: '/mugrade/submit?user_key=cr%5Flive%5fk3yid%5F{SECRET}%5F0a1b2c3d&problem=p'",
            "user_key=cr%5Flive%5fk3yid%5F[redacted]&problem=p",
        ),
        ("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==", "whsec_[redacted]"),
        ("postgresql+psycopg://ada:s3cret@db.example/chainrule", "postgresql+psycopg://ada:[redacted]@db.example/"),
        ("postgresql://ada:s3cret@s3cret/s3cret@db.example/name", "postgresql://ada:[redacted]@db.example/"),
        ("redis://:s3cret@queue:6379/0", "redis://:[redacted]@queue:6379/0"),
    ],
)
def test_secrets_are_taken_out_wherever_they_stand(written, text, left):
    logging.getLogger("x").error("it was %s", text, extra={"headers": {"given": text}})
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("x").exception("failed")
    output = written.getvalue()
    assert output.count(left) >= 3
    assert SECRET not in output
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in output
    assert "s3cret" not in output
    assert len(lines(written)) == 2


@given(st.text(), st.text())
def test_any_text_is_one_line_of_json(message, value):
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info", stream)
        logging.getLogger("x").info("%s", message, extra={"value": value})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = stream.getvalue().split("\n")[:-1]
    json.loads(line)
