"""The mistakes behind loss histories: the published table, and loops written out on `Value`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chainrule_engine.diagnosis import LOOP_MISTAKES, diagnose_history
from chainrule_engine.errors import TrainingError
from chainrule_engine.nn import MLP
from chainrule_engine.training import train
from chainrule_engine.value import Value

ROWS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
TARGETS = [1.0, -1.0, -1.0, 1.0]


def lecture(**changes: Any) -> dict[str, Any]:
    """The lecture's training, with learning rate 0.05."""
    return {
        "model": {"inputs": 3, "layers": [4, 4, 1], "activation": "tanh", "init": {"scheme": "lecture", "seed": 0}},
        "data": {"inputs": ROWS, "targets": TARGETS},
        "loss": {"name": "squared_error", "reduction": "sum"},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": 6,
    } | changes


def line(**changes: Any) -> dict[str, Any]:
    """y = w·x + b on three points."""
    return {
        "model": {
            "graph": {"inputs": {"w": 0.5, "b": 0.25, "x": 0.0, "y": 0.0}, "program": "L = (w*x + b - y)**2\nL"},
            "parameters": ["w", "b"],
            "loss": "L",
        },
        "data": {"x": [1.0, 2.0, 4.0], "y": [1.0, 3.0, 2.0]},
        "loss": {"reduction": "mean"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 8,
    } | changes


#: Measured by others on the lecture's data: the losses to six decimals, and the first that is wrong.
PUBLISHED = [
    ("no_zero_grad", 2, [7.729795, 7.251381, 4.362216, 1.577850]),
    ("ascent", 1, [7.729795, 7.975495, 8.200828]),
    ("zero_before_step", 1, [7.729795, 7.729795, 7.729795]),
    ("mean_for_sum", 0, [1.932449]),
    ("half_loss", 0, [3.864897]),
    ("factor_two", 1, [7.729795, 7.531186]),
    ("bias_not_updated", 1, [7.729795, 7.269959]),
    ("no_bias", 0, [6.230904]),
    ("linear_output", 0, [15.765060]),
    ("bias_zero", 0, [3.590227]),
    ("per_sample", 1, [7.729795, 7.230407]),
    ("last_sample", 1, [7.729795, 7.670935]),
    ("loss_after_update", 0, [7.251381, 4.852756]),
    ("schedule", 2, [7.729795, 7.251381, 5.123762]),
]


@pytest.mark.parametrize(("mistake", "departure", "losses"), PUBLISHED, ids=[name for name, *_ in PUBLISHED])
def test_the_published_table(mistake: str, departure: int, losses: list[float]):
    found = diagnose_history(lecture(), losses)
    assert found.first_departure == departure
    assert (mistake,) in [one.names for one in found.explanations]
    if mistake != "no_bias":  # whose first loss is that of biases that begin at zero
        assert found.explanations[0].names == (mistake,)
    for one in found.explanations:
        assert one.explains == ("loss_history",)
        assert one.matches == one.of == len(losses)
        assert one.message == LOOP_MISTAKES[one.names[0]].hint


@pytest.mark.parametrize("spec", [lecture(), line()], ids=["network", "graph"])
@pytest.mark.parametrize("rounding", [lambda x: x, lambda x: round(x, 4), lambda x: float(f"{x:.4g}")])
def test_right_histories_are_left_alone(spec: dict[str, Any], rounding: Callable[[float], float]):
    losses = [rounding(loss) for loss in train(spec)["loss_history"]]
    for count in (1, 3, len(losses)):
        found = diagnose_history(spec, losses[:count])
        assert found.explanations == ()
        assert found.first_departure is None


def test_the_first_departure_alone_where_nothing_fits():
    losses = train(lecture())["loss_history"]
    found = diagnose_history(lecture(), [*losses[:3], losses[3] + 0.1, *losses[4:]])
    assert (found.first_departure, found.explanations) == (3, ())


def test_a_loss_more_than_there_are_steps_departs_at_the_end():
    losses = train(line())["loss_history"]
    assert diagnose_history(line(), [*losses, 0.5]).first_departure == len(losses)


def test_no_zero_grad_shows_from_the_third_loss_on():
    wrong = [7.729794845790028, 7.251380662235712, 4.36221578]
    assert diagnose_history(lecture(), wrong[:2]).first_departure is None
    assert diagnose_history(lecture(), [round(loss, 6) for loss in wrong]).first_departure == 2


# ---------------------------------------------------------------------------------- loops written out on Value


def straight_line(step: Callable[[list[Value], list[Callable[[], Value]], int], None], printed: int = 0) -> list[float]:
    """A student's loop over the line's points; `step` updates the parameters from the losses of the points."""
    w, b = Value(0.5), Value(0.25)
    points = list(zip([1.0, 2.0, 4.0], [1.0, 3.0, 2.0], strict=True))

    def loss_of(x: float, y: float) -> Callable[[], Value]:
        return lambda: (w * x + b - y) ** 2

    losses = [loss_of(x, y) for x, y in points]
    history = []
    for k in range(5 + printed):
        history.append(mean(losses).data)
        step([w, b], losses, k)
    return history[printed:]


def mean(losses: list[Callable[[], Value]]) -> Value:
    total = losses[0]()
    for loss in losses[1:]:
        total = total + loss()
    return total * (1.0 / len(losses))


def right_step(rate: float = 0.1, clears: bool = True, updates: slice = slice(None)) -> Any:
    def step(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
        for p in parameters if clears else []:
            p.grad = 0.0
        mean(losses).backward()
        for p in parameters[updates]:
            p.data -= rate * p.grad

    return step


def each_point(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
    for loss in losses:
        for p in parameters:
            p.grad = 0.0
        loss().backward()
        for p in parameters:
            p.data -= 0.1 * p.grad


def last_point(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
    for loss in losses:
        for p in parameters:
            p.grad = 0.0
        loss().backward()
    for p in parameters:
        p.data -= 0.1 * p.grad


def early_update(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
    total = mean(losses)
    for p in parameters:
        p.data -= 0.1 * p.grad
        p.grad = 0.0
    total.backward()


def sum_of_points(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
    for p in parameters:
        p.grad = 0.0
    (mean(losses) * len(losses)).backward()
    for p in parameters:
        p.data -= 0.1 * p.grad


def decaying(parameters: list[Value], losses: list[Callable[[], Value]], k: int) -> None:
    right_step(rate=0.1 * (1.0 - 0.9 * k / 8))(parameters, losses, k)


LOOPS = [
    ("no_zero_grad", straight_line(right_step(clears=False))),
    ("ascent", straight_line(right_step(rate=-0.1))),
    ("factor_two", straight_line(right_step(rate=0.2))),
    ("factor_two", straight_line(right_step(rate=0.05))),
    ("rate_power", straight_line(right_step(rate=0.01))),
    ("bias_not_updated", straight_line(right_step(updates=slice(1)))),
    ("per_sample", straight_line(each_point)),
    ("last_sample", straight_line(last_point)),
    ("update_before_backward", straight_line(early_update)),
    ("loss_after_update", straight_line(right_step(), printed=1)),
    ("schedule", straight_line(decaying)),
    ("zero_before_step", straight_line(right_step(rate=0.0))),
]


@pytest.mark.parametrize(("mistake", "losses"), LOOPS, ids=[name for name, _ in LOOPS])
def test_loops_on_a_graph(mistake: str, losses: list[float]):
    found = diagnose_history(line(), losses)
    assert found.explanations[0].names == (mistake,)
    assert found.first_departure is not None


def test_the_loop_itself_is_right():
    assert diagnose_history(line(), straight_line(right_step())).first_departure is None


def test_a_sum_for_a_mean():
    losses = [3.0 * loss for loss in straight_line(sum_of_points)]
    assert diagnose_history(line(), losses).explanations[0].names == ("sum_for_mean",)


def by_layer() -> Iterator[float]:
    """Two layers, the second updated before the gradients of the first are computed."""
    mlp = MLP.draw(3, [4, 4, 1], ["tanh"] * 3, "lecture", 0)
    while True:
        outputs = [mlp([Value(x) for x in row])[0] for row in ROWS]
        yield math.fsum((y.data - t) ** 2 for y, t in zip(outputs, TARGETS, strict=True))
        # By hand: δ of the outputs, then layer by layer with the weights that are already new.
        activations = []
        for row in ROWS:
            kept = [row]
            for layer in mlp.layers:
                kept.append(
                    [
                        math.tanh(n.bias.data + math.fsum(w.data * x for w, x in zip(n.weights, kept[-1], strict=True)))
                        for n in layer.neurons
                    ]
                )
            activations.append(kept)
        deltas = [
            [2.0 * (kept[-1][0] - t) * (1.0 - kept[-1][0] ** 2)] for kept, t in zip(activations, TARGETS, strict=True)
        ]
        for depth in reversed(range(len(mlp.layers))):
            layer = mlp.layers[depth]
            for j, neuron in enumerate(layer.neurons):
                for i, weight in enumerate(neuron.weights):
                    weight.data -= 0.05 * math.fsum(
                        d[j] * kept[depth][i] for d, kept in zip(deltas, activations, strict=True)
                    )
                neuron.bias.data -= 0.05 * math.fsum(d[j] for d in deltas)
            deltas = [
                [
                    math.fsum(n.weights[i].data * d[j] for j, n in enumerate(layer.neurons))
                    * (1.0 - kept[depth][i] ** 2)
                    for i in range(len(kept[depth]))
                ]
                for d, kept in zip(deltas, activations, strict=True)
            ]


def test_a_layer_updated_before_the_gradients_below_it():
    losses = [loss for loss, _ in zip(by_layer(), range(5), strict=False)]
    assert diagnose_history(lecture(), losses).explanations[0].names == ("update_before_backward",)


# ------------------------------------------------------------------------------------- what a specification allows


@pytest.mark.parametrize(
    ("mistake", "spec", "other"),
    [
        ("activated_output", {"output_activation": "linear"}, {"output_activation": "tanh"}),
        ("linear_output", {"output_activation": "tanh"}, {"output_activation": "linear"}),
    ],
)
def test_other_output_activations(mistake: str, spec: dict[str, str], other: dict[str, str]):
    task, done = lecture(), lecture()
    task["model"] = task["model"] | spec
    done["model"] = done["model"] | other
    found = diagnose_history(task, train(done)["loss_history"])
    assert found.explanations[0].names == (mistake,)


@pytest.mark.parametrize(
    ("mistake", "spec", "other"),
    [
        (
            "schedule",
            {"optimizer": {"name": "sgd", "learning_rate": {"schedule": "linear", "start": 0.1, "end": 0.01}}},
            {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
        ),
        (
            "no_momentum",
            {"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}},
            {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
        ),
        ("no_l2", {"loss": {"reduction": "mean", "l2": 0.5}}, {"loss": {"reduction": "mean"}}),
        ("mean_for_sum", {"loss": {"reduction": "sum"}}, {"loss": {"reduction": "mean"}}),
    ],
)
def test_what_the_student_left_out(mistake: str, spec: dict[str, Any], other: dict[str, Any]):
    found = diagnose_history(line(**spec), train(line(**other))["loss_history"])
    assert found.explanations[0].names == (mistake,)


def test_given_biases_that_begin_at_zero():
    layers = [{"weights": [[0.5, -0.25]], "biases": [0.75]}]
    model = {"inputs": 2, "layers": [1], "activation": "tanh", "parameters": {"layers": layers}}
    data = {"inputs": [[1.0, 2.0], [0.5, -1.0]], "targets": [1.0, -1.0]}
    zero = model | {"parameters": {"layers": [layers[0] | {"biases": [0.0]}]}}
    losses = train(lecture(model=zero, data=data))["loss_history"]
    assert diagnose_history(lecture(model=model, data=data), losses).explanations[0].names == ("bias_zero",)


def test_batches_are_not_diagnosed_but_the_departure_is_told():
    spec = line(batch_size=2, batch_seed=1)
    losses = train(spec)["loss_history"]
    assert diagnose_history(spec, losses).first_departure is None
    found = diagnose_history(spec, [*losses[:2], losses[2] * 2.0])
    assert (found.first_departure, found.explanations) == (2, ())
    assert "batches" in found.limited


def test_other_optimisers_and_network_losses():
    spec = lecture(optimizer={"name": "adam", "learning_rate": 0.01})
    other = lecture(optimizer={"name": "adam", "learning_rate": 0.1})
    assert diagnose_history(spec, train(other)["loss_history"]).explanations[0].names == ("rate_power",)
    hinge = lecture(loss={"name": "hinge", "reduction": "mean"})
    names = [one.names for one in diagnose_history(hinge, [2.0 * x for x in train(hinge)["loss_history"]]).explanations]
    assert names == []


def test_a_large_training_is_looked_at_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chainrule_engine.diagnosis.histories.MAX_WORK", 100)
    found = diagnose_history(line(), straight_line(each_point))
    assert found.explanations == ()
    assert "too large" in found.limited


@pytest.mark.parametrize("losses", [[math.nan], [math.inf, -math.inf], [1e308, -1e308], [0.0] * 500, [3.3] * 3])
def test_any_numbers_are_taken(losses: list[float]):
    for spec in (lecture(), line()):
        found = diagnose_history(spec, losses)
        assert found.first_departure == 0


def test_no_losses_are_no_mistake():
    assert diagnose_history(line(), []).first_departure is None


def test_a_training_that_diverges():
    spec = line(optimizer={"name": "sgd", "learning_rate": 1e200})
    losses = train(spec)["loss_history"]
    assert diagnose_history(spec, losses).first_departure is None
    assert diagnose_history(spec, [losses[0], 5.0]).first_departure == 1


def test_a_wrong_specification_is_refused():
    with pytest.raises(TrainingError):
        diagnose_history(line(batch_size=7), [1.0])


@pytest.mark.parametrize("mistake", LOOP_MISTAKES.values(), ids=lambda mistake: mistake.name)
def test_an_entry_is_whole(mistake: Any):
    assert mistake.title
    assert mistake.hint.endswith((".", "?", ".)"))
    assert mistake.changes
