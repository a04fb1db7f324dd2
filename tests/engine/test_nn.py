"""Networks, losses, optimisers and schedules, each against its formula."""

from __future__ import annotations

import math
import random
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import seed_notebook

from chainrule_engine.elementary import cos
from chainrule_engine.losses import LOSSES
from chainrule_engine.nn import ACTIVATIONS, INIT_SCHEMES, MLP, Layer, Module, Neuron
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.value import Value

# ------------------------------------------------------------------------------------------------ networks


def numbers(mlp: MLP) -> list[float]:
    return [parameter.data for parameter in mlp.parameters()]


def test_the_lectures_parameters_are_drawn_in_the_notebooks_order() -> None:
    random.seed(7)
    theirs = seed_notebook.MLP(3, [4, 4, 1])
    ours = MLP.draw(3, [4, 4, 1], ["tanh"] * 3, "lecture", 7)
    assert numbers(ours) == [parameter.data for parameter in theirs.parameters()]
    assert len(numbers(ours)) == 41


def test_micrograds_biases_are_zero_and_not_drawn() -> None:
    rng = random.Random(1337)
    mlp = MLP.draw(2, [3, 1], ["relu", "linear"], "micrograd", 1337)
    weights = [weight.data for layer in mlp.layers for neuron in layer.neurons for weight in neuron.weights]
    assert weights == [rng.uniform(-1, 1) for _ in range(9)]
    assert {neuron.bias.data for layer in mlp.layers for neuron in layer.neurons} == {0.0}
    assert set(INIT_SCHEMES) == {"lecture", "micrograd"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_neuron_is_its_activation_of_the_weighted_sum(activation: str) -> None:
    neuron = Neuron([0.3, -0.7], 0.2, activation)
    total = 0.2 + 0.3 * 1.5 + -0.7 * 0.5
    expected = total if activation == "linear" else OPERATIONS[activation].value(total)
    assert neuron([Value(1.5), Value(0.5)]).data == expected
    assert [parameter.label for parameter in neuron.parameters()] == ["w_1", "w_2", "b"]


def test_a_network_is_its_layers_one_after_the_other() -> None:
    mlp = MLP.of([([[0.5, -1.0], [0.25, 2.0]], [0.1, -0.2]), ([[1.5, -0.5]], [0.3])], ["tanh", "linear"])
    h1, h2 = math.tanh(0.1 + 0.5 * 1.0 + -1.0 * 2.0), math.tanh(-0.2 + 0.25 * 1.0 + 2.0 * 2.0)
    (output,) = mlp([Value(1.0), Value(2.0)])
    assert output.data == pytest.approx(0.3 + 1.5 * h1 - 0.5 * h2, rel=1e-15)
    assert [p.label for p in mlp.parameters()] == [
        "w1_1_1", "w1_1_2", "b1_1", "w1_2_1", "w1_2_2", "b1_2", "w2_1_1", "w2_1_2", "b2_1",
    ]  # fmt: skip
    assert mlp.arrange(numbers(mlp)) == {
        "layers": [
            {"weights": [[0.5, -1.0], [0.25, 2.0]], "biases": [0.1, -0.2]},
            {"weights": [[1.5, -0.5]], "biases": [0.3]},
        ]
    }


def test_labels_are_unique_in_a_wide_network() -> None:
    mlp = MLP.draw(12, [12, 11, 1], ["relu"] * 3, "lecture", 0)
    labels = [parameter.label for parameter in mlp.parameters()]
    assert len(set(labels)) == len(labels)


def test_gradients_of_all_parameters_are_zeroed() -> None:
    mlp = MLP.draw(2, [2, 1], ["tanh"] * 2, "lecture", 0)
    (output,) = mlp([Value(1.0), Value(-1.0)])
    output.backward()
    assert all(parameter.grad != 0.0 for parameter in mlp.parameters())
    mlp.zero_grad()
    assert {parameter.grad for parameter in mlp.parameters()} == {0.0}
    assert Module().parameters() == []


def test_a_point_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Layer([Neuron([1.0, 2.0], 0.0, "tanh")])([Value(1.0)])


# ------------------------------------------------------------------------------------------------ losses


def values(*data: float) -> list[Value]:
    return [Value(x) for x in data]


scores = st.floats(-30.0, 30.0)


@given(scores, scores, st.floats(-5, 5), st.floats(-5, 5))
def test_squared_and_absolute_error(y1: float, y2: float, t1: float, t2: float) -> None:
    outputs, targets = values(y1, y2), values(t1, t2)
    assert LOSSES["squared_error"].value(outputs, targets).data == (y1 - t1) * (y1 - t1) + (y2 - t2) * (y2 - t2)
    assert LOSSES["absolute_error"].value(outputs, targets).data == abs(y1 - t1) + abs(y2 - t2)


@given(scores, st.sampled_from([-1.0, 1.0]))
def test_hinge(score: float, target: float) -> None:
    assert LOSSES["hinge"].value(values(score), values(target)).data == max(0.0, 1.0 - target * score)


@given(scores, st.floats(0.0, 1.0))
def test_binary_cross_entropy_is_that_of_the_probability(logit: float, target: float) -> None:
    output = Value(logit)
    loss = LOSSES["binary_cross_entropy"].value([output], values(target))
    loss.backward()
    p = 1.0 / (1.0 + math.exp(-logit))
    expected = -target * math.log(p) - (1.0 - target) * math.log(1.0 / (1.0 + math.exp(logit)))
    assert loss.data == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert output.grad == pytest.approx(p - target, rel=1e-12, abs=1e-12)


@given(st.lists(scores, min_size=2, max_size=4), st.data())
def test_cross_entropy_is_that_of_the_softmax(logits: list[float], data: st.DataObject) -> None:
    target = data.draw(st.integers(0, len(logits) - 1))
    outputs = values(*logits)
    loss = LOSSES["cross_entropy"].value(outputs, values(*(float(i == target) for i in range(len(logits)))))
    loss.backward()
    total = math.fsum(map(math.exp, logits))
    assert loss.data == pytest.approx(math.log(total) - logits[target], rel=1e-12, abs=1e-11)
    expected = [math.exp(z) / total - (i == target) for i, z in enumerate(logits)]
    assert [output.grad for output in outputs] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_logits_of_any_size_are_harmless() -> None:
    assert LOSSES["binary_cross_entropy"].value(values(1000.0), values(0.0)).data == 1000.0
    assert LOSSES["binary_cross_entropy"].value(values(-1000.0), values(0.0)).data == 0.0
    assert LOSSES["cross_entropy"].value(values(1000.0, -1000.0), values(0.0, 1.0)).data == 2000.0
    assert LOSSES["cross_entropy"].value(values(-1000.0, -1000.0), values(0.0, 1.0)).data == math.log(2.0)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("squared_error", ([0.3, -2.0], [1.0, -1.0]), ([0.3, 2.0], [1.0, -1.0])),
        ("absolute_error", ([0.3], [5.0]), ([-0.3], [5.0])),
        ("hinge", ([0.3], [1.0]), ([0.0], [1.0])),
        ("binary_cross_entropy", ([0.3], [0.9]), ([0.3], [0.4])),
        ("cross_entropy", ([0.1, 0.3, 0.2], [0.0, 1.0, 0.0]), ([0.1, 0.3, 0.2], [0.0, 0.0, 1.0])),
    ],
)
def test_what_counts_as_right(name: str, right: tuple, wrong: tuple) -> None:
    assert LOSSES[name].correct(*right)
    assert not LOSSES[name].correct(*wrong)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("squared_error", [-3.5, 0.0], []),
        ("absolute_error", [-3.5, 0.0], []),
        ("hinge", [-1.0, 1.0], [0.0, 2.0, 0.5]),
        ("binary_cross_entropy", [0.0, 1.0, 0.5], [-0.1, 1.1]),
        ("cross_entropy", [0.0, 7.0], [-1.0, 0.5]),
    ],
)
def test_what_a_target_may_be(name: str, good: list[float], bad: list[float]) -> None:
    accepts = LOSSES[name].accepts
    assert [accepts(t) for t in good + bad] == [True] * len(good) + [False] * len(bad)


# ------------------------------------------------------------------------------------------------ optimisers


def gradient(p: list[float]) -> list[float]:
    """That of Σ i·(p - 1)² + p₁·p₂: no two parameters behave alike."""
    g = [2.0 * i * (x - 1.0) for i, x in enumerate(p, 1)]
    return [g[0] + p[1], g[1] + p[0], *g[2:]]


def run(name: str, rate: float, steps: int, **settings: float) -> list[list[float]]:
    optimiser = OPTIMISERS[name]
    parameters, slots = [0.5, -1.5, 4.0], {slot: [0.0] * 3 for slot in optimiser.slots}
    history = []
    for step in range(1, steps + 1):
        full = {**optimiser.settings, **settings}
        parameters = optimiser.update(parameters, gradient(parameters), slots, rate, step, full)
        history.append(parameters)
    return history


def published(name: str, rate: float, steps: int, **settings: float) -> list[list[float]]:
    """The algorithms as PyTorch's documentation boxes them, one parameter at a time."""
    o = {**OPTIMISERS[name].settings, **settings}
    p, m, v = [0.5, -1.5, 4.0], [0.0] * 3, [0.0] * 3
    history = []
    for t in range(1, steps + 1):
        g, new = gradient(p), []
        for i in range(3):
            theta, d = p[i], g[i]
            if name == "sgd":
                if o["momentum"]:
                    m[i] = o["momentum"] * m[i] + d
                    d = d + o["momentum"] * m[i] if o["nesterov"] else m[i]
                new.append(theta - rate * d)
            elif name == "rmsprop":
                v[i] = o["alpha"] * v[i] + (1 - o["alpha"]) * d**2
                m[i] = o["momentum"] * m[i] + d / (math.sqrt(v[i]) + o["epsilon"])
                new.append(theta - rate * m[i])
            else:
                if name == "adamw":
                    theta -= rate * o["weight_decay"] * theta
                else:
                    d += o["weight_decay"] * theta
                m[i] = o["beta1"] * m[i] + (1 - o["beta1"]) * d
                v[i] = o["beta2"] * v[i] + (1 - o["beta2"]) * d**2
                mean, square = m[i] / (1 - o["beta1"] ** t), v[i] / (1 - o["beta2"] ** t)
                new.append(theta - rate * mean / (math.sqrt(square) + o["epsilon"]))
        p = new
        history.append(p)
    return history


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("adam", {}),
        ("adam", {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.1}),
        ("adam", {"beta1": 0.0, "beta2": 0.0}),
        ("adamw", {}),
        ("adamw", {"weight_decay": 0.0}),
        ("adamw", {"weight_decay": 0.3}),
        ("rmsprop", {}),
        ("rmsprop", {"alpha": 0.5, "epsilon": 1e-2, "momentum": 0.9}),
    ],
)
def test_an_optimiser_is_its_published_algorithm(name: str, settings: dict) -> None:
    for ours, theirs in zip(run(name, 0.05, 30, **settings), published(name, 0.05, 30, **settings), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-11)


def test_the_first_step_of_adam_is_the_learning_rate_along_the_sign() -> None:
    (first,) = run("adam", 0.01, 1, epsilon=1e-30)
    signs = [math.copysign(0.01, g) for g in gradient([0.5, -1.5, 4.0])]
    assert first == pytest.approx([p - s for p, s in zip([0.5, -1.5, 4.0], signs, strict=True)], rel=1e-12)


def test_the_settings_of_the_optimisers() -> None:
    assert {name: dict(optimiser.settings) for name, optimiser in OPTIMISERS.items()} == {
        "sgd": {"momentum": 0.0, "nesterov": False},
        "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0},
        "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01},
        "rmsprop": {"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0},
    }


# ------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("linear", {"start": 1.0, "end": 0.1, "steps": 4}, [1.0, 0.775, 0.55, 0.325, 0.1, 0.1]),
        ("step", {"start": 1.0, "factor": 0.5, "every": 2}, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
        ("exponential", {"start": 2.0, "factor": 0.5}, [2.0, 1.0, 0.5, 0.25, 0.125, 0.0625]),
        ("cosine", {"start": 1.0, "end": 0.0, "steps": 4}, [1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]),
    ],
)
def test_a_schedule_from_its_start_to_past_its_end(name: str, settings: dict, expected: list[float]) -> None:
    assert [SCHEDULES[name].rate(k, settings) for k in range(6)] == pytest.approx(expected, abs=1e-6)
    assert set(SCHEDULES[name].settings) == settings.keys()


def test_the_linear_schedule_is_micrograds_to_the_bit() -> None:
    settings = {"start": 1.0, "end": 0.1, "steps": 100}
    assert [SCHEDULES["linear"].rate(k, settings) for k in range(100)] == [1.0 - 0.9 * k / 100 for k in range(100)]


def test_the_cosine_schedule_is_the_engines_cosine() -> None:
    settings = {"start": 0.3, "end": 0.01, "steps": 7}
    assert SCHEDULES["cosine"].rate(3, settings) == 0.01 + (0.3 - 0.01) * (1.0 + cos(math.pi * (3 / 7))) / 2.0
    assert reduce(add, [SCHEDULES["cosine"].rate(k, settings) for k in range(8)]) == pytest.approx(8 * 0.155)
