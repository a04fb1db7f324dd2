"""The examples run, and come to the numbers of the lecture and of micrograd's demonstration."""

import contextlib
import importlib.util
import io
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from chainrule import Client

ROOT = Path(__file__).resolve().parent.parent
#: So that programs find the packages although nothing need be installed.
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "service", "client"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lecture = load(ROOT / "examples" / "lecture.py")
moons = load(ROOT / "examples" / "moons.py")
seed = load(ROOT / "tests" / "seed_notebook.py")


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def close(expected):
    return pytest.approx(expected, rel=1e-13, abs=1e-15)


@pytest.fixture(scope="module")
def cells():
    """Run every cell once; by the name of its function, what it returned and what it printed."""
    results = {}
    with Client.local() as client:
        for cell in lecture.CELLS:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                result = cell(client)
            results[cell.__name__] = result, printed.getvalue()
    return results


def test_empty_module(cells):
    assert cells["empty_module"][0] == []


def test_parabola(cells):
    curve, printed = cells["parabola"]
    assert printed.startswith("20.0\n")
    xs = [-5 + 0.25 * k for k in range(40)]
    assert curve.values["x"] == xs
    assert curve.value == close([3 * x**2 - 4 * x + 5 for x in xs])
    assert curve.gradients["x"] == close([6 * x - 4 for x in xs])


def test_every_method_of_the_notebooks_class_has_its_operation(cells):
    results = cells["value_class"][0]
    for text, answer in results.items():
        a, b = seed.Value(2.0), seed.Value(3.0)
        theirs = eval(text, {"a": a, "b": b})
        theirs.backward()
        assert answer.value == close(theirs.data), text
        assert answer.gradients["a"] == close(a.grad), text
        assert answer.gradients.get("b", 0.0) == close(b.grad), text
    covered = {"add", "radd", "neg", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "abs", "pow", "rpow"}
    methods = {name.strip("_") for name in vars(seed.Value) if callable(vars(seed.Value)[name])}
    assert methods - {"init", "repr", "backward"} == covered | {"tanh", "exp"}
    assert len(results) == len(covered) + 2


def test_first_graph(cells):
    (answer, drawing), printed = cells["first_graph"]
    assert answer.value == -8.0
    assert answer.gradients == {"a": 6.0, "b": -4.0, "c": -2.0, "d": -2.0, "e": -2.0, "f": 4.0, "L": 1.0}
    assert "L             | data -8           | grad  1" in printed
    assert drawing.svg.startswith("<svg")


@pytest.mark.parametrize("cell", ["neuron_by_hand", "neuron_step_by_step", "neuron_backward", "tanh_broken_down"])
def test_the_neuron_comes_out_the_same_however_it_is_done(cells, cell):
    first, second = cells[cell][0]
    by_hand, answer = (first, second) if isinstance(first, dict) else (first.gradients, first)
    expected = {"x1": -1.5, "w1": 1.0, "x2": 0.5, "w2": 0.0, "b": 0.5, "n": 0.5}
    assert answer.value == close(math.sqrt(0.5))
    for name, gradient in expected.items():
        assert by_hand[name] == pytest.approx(gradient, abs=1e-14), name
        assert answer.gradients[name] == pytest.approx(gradient, abs=1e-14), name


def test_the_steps_of_the_backward_pass_add_up_to_the_bit(cells):
    by_hand, answer = cells["neuron_step_by_step"][0]
    assert by_hand == answer.gradients
    assert "n -> b             add  += 0.5 * 1" in cells["neuron_step_by_step"][1]


def test_a_plus_a(cells):
    answer, drawing = cells["a_plus_a"][0]
    assert answer.gradients == {"a": 2.0, "b": 1.0}
    assert drawing.svg


def test_product_of_sum(cells):
    answer, _ = cells["product_of_sum"][0]
    assert (answer.value, answer.gradients["a"], answer.gradients["b"]) == (-6.0, -3.0, -8.0)


def test_drawings_are_whole_pictures(cells):
    drawn = [result[-1] for result, _ in cells.values() if isinstance(result, tuple) and hasattr(result[-1], "svg")]
    assert len(drawn) == 6
    for drawing in drawn:
        assert ElementTree.fromstring(drawing.svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_pytorch_agrees(cells):
    ours, theirs = cells["torch_neuron"][0]
    assert ours == {name: close(number) for name, number in theirs.items()}
    answer, theirs = cells["torch_power"][0]
    assert (answer.value, answer.gradients["a"]) == (theirs["c"], theirs["a"]) == (-8.0, 12.0)
    assert math.isnan(answer.gradients["b"])
    assert math.isnan(theirs["b"])
    assert answer.warnings[0].code == "non_finite_gradient"


def test_network_classes(cells):
    assert cells["network_classes"][0] == {"Neuron": 4, "Layer": 16, "MLP": 41}


def test_network_output_is_the_notebooks(cells):
    answer = cells["network_output"][0]
    random.seed(0)
    network = seed.MLP(3, [4, 4, 1])
    output = network([2.0, 3.0, -1])
    output.backward()
    assert answer.value == close(output.data)
    named = lecture.MLP(3, [4, 4, 1], seed=0).parameters()
    assert [answer.values[p.name] for p in named] == [p.data for p in network.parameters()]
    assert [answer.gradients[p.name] for p in named] == close([p.grad for p in network.parameters()])


@pytest.mark.slow
def test_training_is_the_notebooks(cells):
    """All 1000 losses and the 41 numbers that come of them, against the notebook's own classes."""
    result, printed = cells["training"]
    random.seed(0)
    network = seed.MLP(3, [4, 4, 1])
    losses = []
    for _ in range(1000):
        predictions = [network(x) for x in lecture.XS]
        loss = sum(abs(out - target) ** 2 for out, target in zip(predictions, lecture.YS, strict=True))
        losses.append(loss.data)
        for parameter in network.parameters():
            parameter.grad = 0
        loss.backward()
        for parameter in network.parameters():
            parameter.data -= 0.001 * parameter.grad
    assert result.loss_history == pytest.approx(losses, rel=1e-12)
    layers = result.parameters["layers"]
    ours = [n for layer in layers for row, b in zip(layer["weights"], layer["biases"], strict=True) for n in (*row, b)]
    assert ours == pytest.approx([parameter.data for parameter in network.parameters()], rel=1e-12)
    assert f"Initial loss : {result.loss_history[0]}" in printed
    assert losses[0] == pytest.approx(7.729794845790026)
    assert losses[-1] < 0.05


def test_choices(cells):
    answer, printed = cells["choices"]
    assert answer.gradients["d"] == [-1.0, -1.0, 1.0]
    assert any(warning.code in ("kink", "jump") for warning in answer.warnings)
    assert "warning" in printed


def test_power_and_the_nudge(cells):
    answer, _ = cells["power"][0]
    assert (answer.value, answer.gradients["a"]) == (8.0, -12.0)
    assert answer.gradients["b"] == close(8 * math.log(2))
    before, after = cells["nudge"][0]
    assert before.value == 8.0
    assert after.value == close(2 ** (3 + 0.01 * 8 * math.log(2)))
    before, after = cells["nudge_all"][0]
    assert (before.value, after.value) == (-8.0, close(-7.286496))


def test_the_lecture_runs_as_a_program(tmp_path):
    done = run("lecture.py", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n# ") == len(lecture.CELLS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a_plus_a.svg",
        "first_graph.svg",
        "neuron_backward.svg",
        "power.svg",
        "product_of_sum.svg",
        "tanh_broken_down.svg",
    ]


# micrograd's moons


def test_the_data_are_100_points_in_two_halves():
    assert len(moons.DATA["inputs"]) == len(moons.DATA["numpy_losses"]) == 100
    assert sorted(moons.DATA["targets"]) == [-1] * 50 + [1] * 50
    for step, loss in moons.PUBLISHED.items():
        assert moons.DATA["numpy_losses"][step] == pytest.approx(loss, abs=4.5e-16)


@pytest.mark.slow
def test_the_demonstration_runs_against_a_real_server(tmp_path):
    done = run("moons.py", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.010978370135492717" in done.stdout
    assert "WRONG" not in done.stdout
    for name in ("moons-loss.svg", "moons-boundary.svg"):
        assert ElementTree.fromstring((tmp_path / name).read_text(encoding="utf-8")).tag.endswith("svg")


def test_a_demonstration_that_is_told_to_stop_stops_its_service(tmp_path):
    command = [sys.executable, "-u", ROOT / "examples" / "moons.py", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    url = first.split()[2].rstrip(":")
    with Client(url) as client:
        assert client.ready() is False


def test_the_demonstration_notices_a_wrong_loss():
    with Client.local() as client:
        spec = {**moons.SPEC, "steps": 3, "metrics": ["accuracy"]}
        result = client.train(spec)
    assert moons.differences(result)[0] == "3 losses instead of 100"
    result.loss_history[1] += 1e-11
    found = moons.differences(result)
    assert found[1].startswith("the loss of step 1 is 1.72359053370")
    assert found[-1].startswith("the last accuracy is")


def test_a_service_that_does_not_start_is_reported(monkeypatch):
    monkeypatch.setenv("CHAINRULE_WORKERS", "none")
    monkeypatch.setenv("PYTHONPATH", SOURCES)
    with pytest.raises(SystemExit) as caught, moons.service():
        pass
    assert "workers must be a whole number" in str(caught.value)
