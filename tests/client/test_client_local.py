"""The real client against the real service in this process: each side holds the other to the wire format."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from chainrule import (
    BadRequestError,
    Client,
    ContentTooLargeError,
    Evaluation,
    MissingExtraError,
    NotFoundError,
    Problem,
    UnprocessableContentError,
    op,
    variable,
    variables,
)
from chainrule._local import WSGIAdapter
from chainrule._transport import _status_error
from chainrule.nn import MLP


@pytest.fixture(scope="module")
def client():
    with Client.local() as client:
        yield client


def neuron():
    x1, w1, b = variables(x1=2.0, w1=-3.0, b=6.5)
    return (x1 * w1 + b).named("n").tanh().named("o")


def test_values_and_gradients(client):
    answer = client.evaluate(neuron())
    assert answer.output == "o"
    assert answer.value == answer.values["o"] == pytest.approx(math.tanh(0.5))
    slope = 1 - math.tanh(0.5) ** 2
    assert answer.gradients == pytest.approx({"x1": -3 * slope, "w1": 2 * slope, "b": slope, "n": slope, "o": 1.0})
    assert answer.warnings == ()
    assert answer.steps is None
    assert answer.digest.startswith("sha256:")
    assert set(answer.engine) == {"version", "conventions"}


def test_every_form_of_a_graph_gives_the_same_bytes(client):
    program = "n = x1*w1 + b\no = tanh(n)"
    inputs = {"x1": 2.0, "w1": -3.0, "b": 6.5}
    forms = [
        client.evaluate(program, inputs=inputs),
        client.evaluate({"inputs": inputs, "program": program, "output": "o"}),
        client.evaluate(neuron(), inputs={"x1": 2.0}),
        client.evaluate(neuron(), output="o"),
    ]
    first, *others = [form.raw["values"] | {"gradients": form.raw["gradients"]} for form in forms]
    for other in others:
        assert other == first


def test_other_inputs_and_outputs(client):
    answer = client.evaluate(neuron(), inputs={"x1": 0.0}, output=["n", "b"])
    assert answer.output == ["n", "b"]
    assert answer.value == [6.5, 6.5]
    assert answer.gradients["b"] == 2.0


def test_seeds_and_no_derivative(client):
    assert client.evaluate(neuron(), seeds={"o": 2.0}).gradients["o"] == 2.0
    assert client.evaluate(neuron(), derivative="none").gradients == {}


def test_matrices_and_their_products(client):
    x, y = variables(x=2.0, y=3.0)
    f = (x * x * y + y**3).named("f")
    answer = client.evaluate(f, derivative="hessian")
    assert answer.hessian == {"x": {"x": 6.0, "y": 4.0}, "y": {"x": 4.0, "y": 18.0}}
    assert answer.gradients == {"x": 12.0, "y": 31.0, "f": 1.0}
    assert (answer.jacobian, answer.jvp, answer.hvp) == (None, None, None)
    assert client.evaluate(f, derivative="jacobian").jacobian == {"f": {"x": 12.0, "y": 31.0}}
    assert client.evaluate(f, derivative="jvp", tangent={"y": 1.0}).jvp == {"f": 31.0}
    assert client.evaluate(f, derivative="hvp", tangent={"y": 1.0}, seeds={"f": 2.0}).hvp == {"x": 8.0, "y": 36.0}
    assert client.evaluate("y = sqrt(x)", inputs={"x": 0.0}, derivative="hessian").hessian == {"x": {"x": -math.inf}}


def test_a_batch_of_points(client):
    (w,) = variables(w=3.0)
    answer = client.evaluate((variable("x", [1.0, 2.0]) * w).named("y"))
    assert answer.value == [3.0, 6.0]
    assert answer.gradients["w"] == [1.0, 2.0]


def test_trace(client):
    steps = client.evaluate(neuron(), trace=True).steps
    assert [(step.source, step.target) for step in steps[:2]] == [("o", "n"), ("n", "_1")]
    assert steps[-1].target == "w1"
    assert steps[-1].contribution == steps[-1].upstream * steps[-1].local


def test_what_is_not_finite_comes_back_as_floats(client):
    (x,) = variables(x=0.0)
    answer = client.evaluate([(1 / x).named("inf"), (-1 / x).named("minus"), x.sqrt().sub(x).div(x).named("nan")])
    assert answer.values["inf"] == math.inf
    assert answer.values["minus"] == -math.inf
    assert math.isnan(answer.value[2])
    assert {warning.code for warning in answer.warnings} >= {"non_finite_value"}


def test_a_kink_brings_its_interval(client):
    (x,) = variables(x=0.0)
    (warning,) = client.evaluate(x.relu().named("r")).warnings
    assert (warning.code, warning.node, warning.interval) == ("kink", "r", (0, 1))


def test_names_are_free_text(client):
    a, b = variables(a=1.0, b=2.0)
    assert client.evaluate((a * b).named("a*b + é \U0001d6fc")).values["a*b + é \U0001d6fc"] == 2.0


def test_a_batch_of_evaluations_keeps_order_and_problems(client):
    x, y = variables(x=1.0, y=2.0)
    good, bad, also_good = client.evaluate_batch([x + y, x.no_such_operation(), {"graph": "z = 2*3", "trace": True}])
    assert isinstance(good, Evaluation)
    assert isinstance(bad, Problem)
    assert bad.status == 422
    assert bad.errors[0].pointer == "#/items/1/graph/nodes/0/op"
    assert isinstance(also_good, Evaluation)
    assert also_good.value == 6.0


def test_gradient_checks(client):
    check = client.check_gradients(neuron())
    assert check.passed
    assert [(item.input, item.outcome) for item in check.checks] == [(n, "passed") for n in ("x1", "w1", "b")]
    (x,) = variables(x=0.0)
    (kink,) = client.check_gradients(x.relu(), rtol=1e-4, atol=1e-6).checks
    assert kink.outcome == "kink"
    assert kink.interval == pytest.approx((0, 1))
    assert not client.check_gradients(op.stop_gradient(x) + x * x * x, step=0.5).passed


def test_drawings(client):
    drawing = client.draw(neuron())
    assert drawing.svg.startswith("<svg")
    assert drawing._repr_svg_() == drawing.text
    dot = client.draw(neuron(), format="dot")
    assert dot.text.startswith("digraph")
    assert dot._repr_svg_() is None
    with pytest.raises(ValueError, match="ask for format='svg'"):
        _ = dot.svg
    near = client.draw(neuron(), focus="o", depth=1)
    assert 0 < len(near.text) < len(drawing.text)


def test_the_service_itself(client):
    assert client.ready() is True
    assert client.version()["name"] == "chainrule"
    operations = {operation.name: operation for operation in client.operations()}
    assert operations["where"].arity == 3
    assert operations["tanh"].description
    limits = client.limits()
    assert 1 <= limits["nodes"].default <= limits["nodes"].maximum


# Jobs

XOR = {
    "model": {"inputs": 2, "layers": [3, 1], "init": {"scheme": "lecture", "seed": 3}},
    "data": {"inputs": [[0, 0], [0, 1], [1, 0], [1, 1]], "targets": [-1, 1, 1, -1]},
    "loss": {"name": "squared_error"},
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "steps": 5,
}


def test_training_by_dictionary_and_by_keywords(client):
    first, second = client.train(XOR), client.train(**XOR)
    assert len(first.loss_history) == 5
    assert first.loss_history == second.loss_history
    assert client.train(XOR, steps=2).loss_history == first.loss_history[:2]
    assert first.stop_reason == "completed"


@pytest.mark.parametrize("activation", [None, "relu", ["softplus", "sigmoid"]])
@pytest.mark.parametrize("output_activation", [None, "linear"])
def test_the_trained_network_predicts_what_the_service_predicted(client, activation, output_activation):
    given = {"activation": activation, "output_activation": output_activation}
    model = XOR["model"] | {name: value for name, value in given.items() if value is not None}
    result = client.train(XOR, model=model)
    x, y = (variable(name, column) for name, column in zip("xy", zip(*XOR["data"]["inputs"], strict=True), strict=True))
    assert client.evaluate(result.network(x, y)).value == result.predictions


def test_several_outputs(client):
    spec = XOR | {"model": {"inputs": 2, "layers": [2]}, "loss": {"name": "cross_entropy"}}
    spec["data"] = {"inputs": [[0.0, 1.0], [1.0, 0.0]], "targets": [0, 1]}
    result = client.train(spec)
    outputs = [client.evaluate(result.network(*row)).value for row in spec["data"]["inputs"]]
    assert outputs == result.predictions


def test_a_network_of_ones_own_starts_a_training(client):
    network = MLP(2, [3, 1], seed=3)
    model = {"inputs": 2, "layers": [3, 1], "parameters": network.parameter_values()}
    assert client.train(XOR, model=model).loss_history == client.train(XOR).loss_history


def test_a_graph_of_ones_own_is_trained_but_is_no_network(client):
    w, x, y = variables(w=0.0, x=1.0, y=2.0)
    loss = ((w * x - y) ** 2).named("L")
    result = client.train(
        model={"graph": loss, "parameters": ["w"], "loss": "L"},
        data={"x": np.array([1.0, 2.0]), "y": np.array([2.0, 4.0])},
        optimizer={"name": "sgd", "learning_rate": 0.1},
        steps=50,
    )
    assert result.parameters["w"] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="this one is a graph"):
        _ = result.network


def test_divergence_is_a_result(client):
    result = client.train(
        XOR,
        model=XOR["model"] | {"activation": "linear"},
        optimizer={"name": "sgd", "learning_rate": 1e200},
    )
    assert result.stop_reason == "diverged"
    assert not math.isfinite(result.loss_history[-1])


def test_records_of_jobs(client):
    job = client.submit("training", XOR)
    assert job.done
    assert job.wait() is job
    assert job.reload() == job
    assert client.job(job.id).result == job.result
    assert next(iter(client.jobs())).id == job.id
    job.delete()
    with pytest.raises(NotFoundError):
        client.job(job.id)


def test_an_evaluation_can_be_a_job(client):
    job = client.submit("evaluation", {"graph": {"inputs": {"x": 3.0}, "program": "y = x*x"}})
    assert Evaluation.from_dict(job.result).gradients["x"] == 6.0


def test_all_pages_of_jobs(client):
    ids = [client.submit("evaluation", {"graph": {"inputs": {}, "program": f"y = {n}*1"}}).id for n in range(101)]
    listed = [job.id for job in client.jobs()]
    assert listed[:101] == ids[::-1]


# Errors


@pytest.mark.parametrize(
    ("build", "pointer", "words"),
    [
        (lambda x: x.tahn(), "#/graph/nodes/0/op", "tahn"),
        (lambda x: x.add(), "#/graph/nodes/0/args", "2"),
        (lambda x: {"inputs": {}, "nodes": [], "output": "x"}, "#/graph/output", "x"),
        (lambda x: {"inputs": {"x": True}, "nodes": [], "output": "x"}, "#/graph/inputs/x", "number"),
        (lambda x: "y = x +", "#/graph/program", "line 1"),
        (lambda x: {"graph": {}}, "#/graph/graph", ""),
    ],
)
def test_what_the_service_refuses_says_where_and_why(client, build, pointer, words):
    (x,) = variables(x=1.0)
    with pytest.raises(UnprocessableContentError) as caught:
        client.evaluate(build(x))
    assert pointer in [error.pointer for error in caught.value.problem.errors]
    assert words in str(caught.value)
    assert caught.value.request_id in str(caught.value)


def test_a_job_over_the_limit(client):
    with pytest.raises(UnprocessableContentError) as caught:
        client.train(XOR, model={"inputs": 2, "layers": [200, 200, 1]}, steps=900_000)
    assert caught.value.problem.raw["limit"] == "job_work"


def test_unknown_members_and_jobs(client):
    with pytest.raises(UnprocessableContentError, match="#/spec/stepz"):
        client.train(XOR, stepz=3)
    with pytest.raises(NotFoundError):
        client.delete_job("job_none")


def test_a_body_over_the_limit():
    from chainrule_service.app import create_app
    from chainrule_service.settings import Settings

    with Client("http://127.0.0.1") as client:
        small = create_app(Settings(limits={"body_bytes": 100}))
        client._transport.session.mount("http://", WSGIAdapter(small, lambda: None))
        with pytest.raises(ContentTooLargeError):
            client.evaluate("y = 1" + "+1" * 100)


def test_a_body_that_is_not_json(client):
    response = client._transport.session.post(
        "http://127.0.0.1/v1/evaluations", data=b"{", headers={"Content-Type": "application/json"}
    )
    assert isinstance(_status_error(response), BadRequestError)


def test_local_and_remote_are_told_apart_only_by_the_socket(client):
    """What the adapter hands on is what a socket would: status, headers and body."""
    answer = client._transport.send("POST", "/v1/evaluations", {"graph": {"inputs": {"x": 1}, "program": "y = x*2"}})
    assert answer.headers["content-type"] == "application/json"
    assert answer.reason == "OK"
    assert json.loads(answer.content)["value"] == 2.0


# What the client does without


def test_the_client_alone_needs_requests_only():
    """Importing everything but the local mode brings in no server, no engine and no NumPy."""
    code = (
        "import sys, chainrule, chainrule.cli, chainrule.nn, chainrule.plots\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'chainrule_engine', 'chainrule_service', 'flask', 'werkzeug', 'numpy', 'marshmallow'}))"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, check=True)
    assert done.stdout.strip() == b""


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "chainrule_service.app", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'chainrule\[local\]'"):
        Client.local()


# Jobs, without workers: each has run when the answer comes.


def test_all_that_can_be_done_with_a_job(client):
    job = client.submit("training", XOR, labels={"week": "3 b"}, priority=2, deadline=60, queue=True, wait=5)
    assert (job.state, job.labels, job.queue_position) == ("succeeded", {"week": "3 b"}, None)
    assert job.wait(timeout=0).result == job.result
    metrics = job.metrics(wait=5)
    assert metrics.loss == job.result["loss_history"]
    assert metrics.state == "succeeded"
    assert [part.loss for part in job.stream()] == [metrics.loss]
    assert [part.steps for part in job.stream(after=metrics.next - 2)] == [[metrics.next - 1, metrics.next]]
    assert job.metrics(max_points=1).steps == [metrics.next]
    assert job.cancel().state == "succeeded"
    assert [found.id for found in client.jobs(label="week:3 b", state="succeeded", type="training")] == [job.id]
    assert not list(client.jobs(created_after=job.created_at, label="week:3 b"))
    job.delete()
    with pytest.raises(NotFoundError):
        job.reload()


def test_one_job_comes_of_all_requests_with_one_key(client):
    first, again = (client.submit("training", XOR, idempotency_key="one") for _ in range(2))
    assert first == again
    with pytest.raises(UnprocessableContentError, match="another body"):
        client.submit("training", XOR, idempotency_key="one", priority=1)
    assert client.submit("training", XOR).id != client.submit("training", XOR).id


def test_several_jobs_at_once(client):
    good, bad = client.submit_many([{"type": "training", "spec": XOR}, {"type": "training", "spec": {}}])
    assert good.wait().state == "succeeded"
    assert isinstance(bad, Problem)
    assert bad.errors[0].pointer.startswith("#/items/1/spec")


def test_a_service_without_webhooks_says_so(client):
    with pytest.raises(UnprocessableContentError, match="#/webhook: this service sends no webhooks"):
        client.submit("training", XOR, webhook={"url": "https://example.com/"})
