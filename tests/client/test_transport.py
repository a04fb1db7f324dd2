"""The client over a real socket, against a server that answers as each test tells it to."""

import json

import pytest

from chainrule import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    Client,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    variables,
)

EVALUATION = {
    "output": "y",
    "value": "NaN",
    "values": {"x": [1.0, "-Infinity"]},
    "gradients": {"x": "Infinity"},
    "warnings": [{"code": "kink", "node": "y", "detail": "at 0", "interval": [-1, 1], "new": 1}],
    "steps": [
        {"from": "y", "to": "x", "op": "abs", "upstream": 1.0, "local": "NaN", "contribution": 0.0, "total": 0.0}
    ],
    "engine": {"version": "9"},
    "digest": "sha256:0",
    "a member of tomorrow": True,
}


def problem(status, **members):
    return status, {"Content-Type": "application/problem+json"}, {"status": status, "detail": "no", **members}


def test_a_request_and_its_answer(server, client):
    server.answers = [(200, {}, EVALUATION)]
    x, w = variables(x=2.0, w=3.0)
    answer = client.evaluate((x * w).named("y"), seeds={"y": 2.0})
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("POST", "/v1/evaluations")
    assert headers["Authorization"] == "Bearer cr_key"
    assert headers["Content-Type"] == headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("chainrule/")
    assert json.loads(body) == {
        "graph": {
            "inputs": {"x": 2.0, "w": 3.0},
            "nodes": [{"id": "y", "op": "mul", "args": ["x", "w"]}],
            "output": "y",
        },
        "seeds": {"y": 2.0},
        "trace": False,
        "derivative": "gradient",
    }
    assert answer.value != answer.value
    assert answer.values == {"x": [1.0, float("-inf")]}
    assert answer.gradients == {"x": float("inf")}
    assert answer.warnings[0].interval == (-1, 1)
    assert answer.steps[0].source == "y"
    assert answer.steps[0].local != answer.steps[0].local
    assert answer.raw == EVALUATION


def test_no_key_is_sent_where_there_is_none(server):
    server.answers = [(200, {}, {"name": "chainrule"})]
    with Client(server.url) as client:
        assert client.version() == {"name": "chainrule"}
    assert "Authorization" not in server.requests[0][2]


def test_a_computation_is_sent_again_after_a_passing_trouble(server, client):
    server.answers = ["hang up", problem(503), (200, {}, EVALUATION)]
    assert client.evaluate("y = x", inputs={"x": 1.0}).output == "y"
    assert client.slept == [0.5, 1.0]
    assert len({body for *_, body in server.requests}) == 1


def test_retry_after_decides_the_pause_and_retries_end(server, client):
    server.answers = [(429, {"Retry-After": "7"}, {"detail": "slowly"})] * 3
    with pytest.raises(RateLimitError, match="slowly") as caught:
        client.version()
    assert client.slept == [7.0, 7.0]
    assert caught.value.headers["Retry-After"] == "7"


def test_what_changes_something_is_not_sent_twice_when_its_answer_is_lost(server, client):
    server.answers = ["hang up"]
    with pytest.raises(APIConnectionError, match="broken"):
        client.delete_job("job_1")
    server.answers = [problem(502)]
    with pytest.raises(ServerError):
        client.delete_job("job_1")
    assert len(server.requests) == 2
    assert client.slept == []


def test_it_is_sent_again_when_the_service_did_not_take_it(server, client):
    server.answers = [(503, {"Retry-After": "2"}, {}), (204, {}, b"")]
    client.delete_job("job_1")
    assert client.slept == [2.0]


def test_no_answer_in_time(server):
    server.answers = ["stay silent"]
    with (
        Client(server.url, timeout=0.05, max_retries=0) as client,
        pytest.raises(APITimeoutError, match=r"timeout of 0\.05 s"),
    ):
        client.version()


def test_a_computation_that_takes_too_long_is_not_sent_again(server):
    server.answers = ["stay silent", (200, {}, {"output": "y", "value": 1.0})]
    with Client(server.url, timeout=0.05) as client, pytest.raises(APITimeoutError):
        client.evaluate({"inputs": {"x": 1}, "program": "y = x"})
    assert len(server.requests) == 1


def test_nothing_listens():
    with Client("http://127.0.0.1:1", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match=r"`chainrule serve` starts one\. \("):
            client.version()
        assert client.ready() is False


def test_ready(server, client):
    server.answers = [problem(503), (200, {}, {"status": "ok"}), problem(404)]
    assert client.ready() is False
    assert client.ready() is True
    with pytest.raises(APIStatusError):
        client.ready()
    assert client.slept == []


@pytest.mark.parametrize("content", [b"<html>", b"\xff\xfe", b""])
def test_an_answer_that_is_not_json(server, client, content):
    server.answers = [(200, {"Content-Type": "text/html"}, content)]
    with pytest.raises(APIResponseError, match="text/html instead of JSON"):
        client.version()


@pytest.mark.parametrize("content", [b"<html>Bad Gateway</html>", b"", b"[1]", b"{"])
def test_an_error_that_is_not_the_services(server, client, content):
    server.answers = [(502, {"X-Request-Id": "r1"}, content)] * 3
    with pytest.raises(ServerError) as caught:
        client.version()
    assert caught.value.status == 502
    assert caught.value.request_id == "r1"


def test_a_redirect_is_not_followed(server, client):
    server.answers = [(302, {"Location": "/elsewhere"}, {})]
    with pytest.raises(APIStatusError) as caught:
        client.version()
    assert caught.value.status == 302
    assert len(server.requests) == 1


def test_the_proxy_of_the_environment_does_not_stand_before_loopback(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answers = [(200, {}, {})]
    with Client(server.url, max_retries=0) as client:
        assert client.version() == {}


# Jobs


def test_settings_from_the_environment():
    client = Client.from_env({"CHAINRULE_URL": "https://example.org/chainrule/", "CHAINRULE_MAX_RETRIES": "5"})
    assert client._transport.base_url == "https://example.org/chainrule"
    assert client._transport.max_retries == 5
    assert Client.from_env({"CHAINRULE_TIMEOUT": "3"}, base_url=None)._transport.timeout == 3.0
    assert Client.from_env({"CHAINRULE_URL": "http://a"}, base_url="http://b")._transport.base_url == "http://b"
    assert repr(Client.from_env({})) == "<chainrule client of http://127.0.0.1:8000>"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CHAINRULE_URL": "localhost:8000"}, "base_url must be an address such as"),
        ({"CHAINRULE_TIMEOUT": "long"}, "CHAINRULE_TIMEOUT must be a number, not 'long'"),
        ({"CHAINRULE_MAX_RETRIES": "-1"}, "max_retries must be 0 or more"),
    ],
)
def test_settings_that_cannot_be(environ, words):
    with pytest.raises(ValueError, match=words):
        Client.from_env(environ)


def test_numbers_that_are_not_finite_are_not_sent():
    with Client() as client, pytest.raises(ValueError, match="cannot be sent as JSON"):
        client.evaluate({"inputs": {"x": float("nan")}, "nodes": [], "output": "x"})


def test_what_is_no_data_is_not_sent():
    with Client() as client, pytest.raises(TypeError, match="cannot be sent: a request is made of"):
        client.submit("training", {"steps": {1, 2}})


def test_inputs_that_the_graph_has_not():
    (x,) = variables(x=1.0)
    with Client() as client, pytest.raises(ValueError, match="no input named 'z'; it has x"):
        client.evaluate(x + 1, inputs={"z": 2.0})


def test_a_drawing_has_a_known_format():
    with Client() as client, pytest.raises(ValueError, match="'svg', 'dot', not 'png'"):
        client.draw("y = x", inputs={"x": 1.0}, format="png")


def test_unavailable_is_a_server_error():
    assert issubclass(ServiceUnavailableError, ServerError)
