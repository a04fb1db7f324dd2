"""Losses, optimisers, schedules and the training of networks against PyTorch's own."""

from __future__ import annotations

import itertools
import random

import pytest

from chainrule_engine.losses import LOSSES, REDUCTIONS
from chainrule_engine.nn import ACTIVATIONS
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.training import Training, train

pytestmark = pytest.mark.torch

#: Float64 on both sides; only the order of the additions differs.
CLOSE = {"rel": 1e-10, "abs": 1e-13}

# ------------------------------------------------------------------------------------------ a network on both sides


def network(widths, seed, low=-1.0, high=1.0):
    """Random parameters in the form of the wire: widths[0] inputs, then one layer per width."""
    rng = random.Random(seed)
    return {
        "layers": [
            {
                "weights": [[rng.uniform(low, high) for _ in range(fan_in)] for _ in range(width)],
                "biases": [rng.uniform(low, high) for _ in range(width)],
            }
            for fan_in, width in itertools.pairwise(widths)
        ]
    }


def points(count, width, seed):
    rng = random.Random(seed)
    return [[rng.gauss(0.0, 1.0) for _ in range(width)] for _ in range(count)]


def targets(loss, count, width, seed):
    rng = random.Random(seed)
    if loss == "cross_entropy":
        return [rng.randrange(width) for _ in range(count)]
    draw = {
        "hinge": lambda: rng.choice((-1.0, 1.0)),
        "binary_cross_entropy": lambda: rng.choice((0.0, 1.0, rng.random())),
    }.get(loss, lambda: rng.gauss(0.0, 1.0))
    return [[draw() for _ in range(width)] for _ in range(count)]


def nested(parameters):
    return [layer[part] for layer in parameters["layers"] for part in ("weights", "biases")]


def tensors(torch, parameters):
    """The parameters as PyTorch's, weights and biases of each layer in turn."""
    return [torch.tensor(numbers, requires_grad=True) for numbers in nested(parameters)]


def plain(values):
    """The wire's form, flattened: weights and biases of each layer in turn."""
    flat = []
    for layer in values["layers"]:
        flat += [w for row in layer["weights"] for w in row] + layer["biases"]
    return flat


def flat(tensor_list):
    return [number for tensor in tensor_list for number in tensor.flatten().tolist()]


def forward(torch, parameters, activations, x):
    functions = {
        "tanh": torch.tanh,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
        "linear": lambda z: z,
    }
    assert functions.keys() == ACTIVATIONS.keys()
    for weights, biases, name in zip(parameters[::2], parameters[1::2], activations, strict=True):
        x = functions[name](x @ weights.T + biases)
    return x


def torch_loss(torch, name, reduction, outputs, wanted):
    """The loss of PyTorch. `mean` is over the points: a point's loss is the sum over its outputs."""
    F = torch.nn.functional
    elementwise = {
        "squared_error": F.mse_loss,
        "absolute_error": F.l1_loss,
        "hinge": lambda y, t, reduction: torch.relu(1.0 - t * y),
        "binary_cross_entropy": F.binary_cross_entropy_with_logits,
    }
    assert elementwise.keys() | {"cross_entropy"} == LOSSES.keys()
    if name == "cross_entropy":
        return F.cross_entropy(outputs, torch.tensor(wanted), reduction=reduction)
    per_point = elementwise[name](outputs, torch.tensor(wanted), reduction="none").sum(dim=1)
    return {"sum": per_point.sum, "mean": per_point.mean}[reduction]()


def spec(widths, activations, parameters, data, loss, optimizer, **more):
    return {
        "model": {"inputs": widths[0], "layers": widths[1:], "activation": activations, "parameters": parameters},
        "data": data,
        "loss": loss,
        "optimizer": optimizer,
        **more,
    }


# ---------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_its_gradients(torch, name, reduction, l2):
    widths, activations = [3, 4, 2], ["tanh", "linear"]
    # Large parameters, so that some logits are far out.
    start = network(widths, seed=5, low=-8.0, high=8.0)
    data = {"inputs": points(12, 3, seed=6), "targets": targets(name, 12, 2, seed=7)}
    loss = {"name": name, "reduction": reduction, "l2": l2}
    ours = train(spec(widths, activations, start, data, loss, {"name": "sgd", "learning_rate": 0.1}, steps=1))
    parameters = tensors(torch, start)
    outputs = forward(torch, parameters, activations, torch.tensor(data["inputs"]))
    theirs = torch_loss(torch, name, reduction, outputs, data["targets"])
    theirs = theirs + l2 * sum((p * p).sum() for p in parameters)
    theirs.backward()
    assert ours["loss_history"] == pytest.approx([theirs.item()], **CLOSE)
    assert plain(ours["gradients"]) == pytest.approx(flat([p.grad for p in parameters]), **CLOSE)
    assert plain(ours["parameters"]) == pytest.approx(flat([p - 0.1 * p.grad for p in parameters]), **CLOSE)


@pytest.mark.parametrize("logit", [-800.0, -40.0, 0.0, 40.0, 800.0])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_binary_cross_entropy_far_out(torch, logit, target):
    start = {"layers": [{"weights": [[logit]], "biases": [0.0]}]}
    data = {"inputs": [[1.0]], "targets": [target]}
    loss = {"name": "binary_cross_entropy"}
    ours = train(spec([1, 1], "linear", start, data, loss, {"name": "sgd", "learning_rate": 0.1}, steps=1))
    z = torch.tensor(logit, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(target))
    theirs.backward()
    assert ours["loss_history"] == pytest.approx([theirs.item()], rel=1e-12, abs=1e-16)
    assert ours["gradients"]["layers"][0]["biases"] == pytest.approx([z.grad.item()], rel=1e-12, abs=1e-16)


# ------------------------------------------------------------------------------------------------------- optimisers

#: Settings of ours; PyTorch's are the same but for the names in RENAMED.
SETTINGS = {
    "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    "adam": [{}, {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4}, {"weight_decay": 0.1}],
    "adamw": [{}, {"weight_decay": 0.0}, {"beta1": 0.5, "weight_decay": 0.3}],
    "rmsprop": [{}, {"alpha": 0.9, "epsilon": 1e-3}, {"momentum": 0.9}],
}


def torch_optimiser(torch, name, parameters, settings, rate):
    settings = dict(settings)
    if "epsilon" in settings:
        settings["eps"] = settings.pop("epsilon")
    if name in ("adam", "adamw"):
        settings["betas"] = (settings.pop("beta1", 0.9), settings.pop("beta2", 0.999))
    kinds = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
    # One parameter at a time, as its documentation writes it down.
    return getattr(torch.optim, kinds[name])(parameters, lr=rate, foreach=False, **settings)


def torch_training(torch, start, activations, data, loss, optimiser, steps, schedule=None):
    """PyTorch's loop: losses before each update, the rates, and the parameters at the end."""
    parameters = tensors(torch, start)
    optimiser = optimiser(parameters)
    scheduler = schedule(optimiser) if schedule else None
    losses, rates = [], []
    for _ in range(steps):
        optimiser.zero_grad()
        value = torch_loss(
            torch,
            loss["name"],
            loss.get("reduction", "mean"),
            forward(torch, parameters, activations, torch.tensor(data["inputs"])),
            data["targets"],
        )
        value = value + loss.get("l2", 0.0) * sum((p * p).sum() for p in parameters)
        value.backward()
        losses.append(value.item())
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if scheduler:
            scheduler.step()
    return losses, rates, flat(parameters)


WIDTHS, ACTIVATIONS_USED = [2, 5, 1], ["tanh", "linear"]
START = network(WIDTHS, seed=1)
DATA = {"inputs": points(10, 2, seed=2), "targets": targets("squared_error", 10, 1, seed=3)}
LOSS = {"name": "squared_error"}


def test_every_optimiser_and_schedule_is_compared():
    assert SETTINGS.keys() == OPTIMISERS.keys()
    assert SCHEDULE_PAIRS.keys() == SCHEDULES.keys()
    for name, rows in SETTINGS.items():
        # Each setting is moved from its default at least once.
        moved = {setting for row in rows for setting in row}
        assert moved == OPTIMISERS[name].settings.keys() - UNMOVED.get(name, set())


#: AdamW shares its step with Adam, where these are moved.
UNMOVED = {"adamw": {"beta2", "epsilon"}}


@pytest.mark.parametrize(
    ("name", "settings"), [pytest.param(n, s, id=f"{n} {s}") for n, rows in SETTINGS.items() for s in rows]
)
def test_optimiser_over_fifty_steps(torch, name, settings):
    rate = 0.05
    ours = train(
        spec(
            WIDTHS,
            ACTIVATIONS_USED,
            START,
            DATA,
            LOSS,
            {"name": name, "learning_rate": rate, **settings},
            steps=50,
        )
    )
    losses, _, parameters = torch_training(
        torch,
        START,
        ACTIVATIONS_USED,
        DATA,
        LOSS,
        lambda tensors: torch_optimiser(torch, name, tensors, settings, rate),
        steps=50,
    )
    assert ours["loss_history"] == pytest.approx(losses, **CLOSE)
    assert plain(ours["parameters"]) == pytest.approx(parameters, **CLOSE)


# -------------------------------------------------------------------------------------------------------- schedules

#: Ours, and PyTorch's over the same steps. (Its CosineAnnealingLR climbs again after T_max; ours stays at `end`.)
SCHEDULE_PAIRS = {
    "linear": (
        {"start": 0.2, "end": 0.02, "steps": 30},
        lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=30),
    ),
    "step": ({"start": 0.2, "factor": 0.5, "every": 7}, lambda s, o: s.StepLR(o, step_size=7, gamma=0.5)),
    "exponential": ({"start": 0.2, "factor": 0.95}, lambda s, o: s.ExponentialLR(o, gamma=0.95)),
    "cosine": (
        {"start": 0.2, "end": 0.01, "steps": 50},
        lambda s, o: s.CosineAnnealingLR(o, T_max=50, eta_min=0.01),
    ),
}


@pytest.mark.parametrize("name", SCHEDULE_PAIRS)
def test_schedule_over_fifty_steps(torch, name):
    ours, theirs = SCHEDULE_PAIRS[name]
    optimizer = {"name": "sgd", "learning_rate": {"schedule": name, **ours}}
    training = Training(spec(WIDTHS, ACTIVATIONS_USED, START, DATA, LOSS, optimizer, steps=50))
    state = training.start()
    records = training.advance(state, 50)
    losses, rates, parameters = torch_training(
        torch,
        START,
        ACTIVATIONS_USED,
        DATA,
        LOSS,
        lambda tensors: torch_optimiser(torch, "sgd", tensors, {}, 0.2),
        steps=50,
        schedule=lambda optimiser: theirs(torch.optim.lr_scheduler, optimiser),
    )
    assert [record.learning_rate for record in records] == pytest.approx(rates, rel=1e-12)
    assert [record.loss for record in records] == pytest.approx(losses, **CLOSE)
    assert plain(training.result(state)["parameters"]) == pytest.approx(parameters, **CLOSE)


# --------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("widths", "activations", "loss", "settings"),
    [
        ([3, 4, 4, 1], ["tanh", "tanh", "tanh"], {"name": "squared_error", "reduction": "sum"}, {"name": "sgd"}),
        ([2, 8, 8, 1], ["relu", "relu", "linear"], {"name": "hinge", "l2": 1e-4}, {"name": "sgd"}),
        ([2, 6, 3], ["sigmoid", "linear"], {"name": "cross_entropy"}, {"name": "adam"}),
        ([2, 6, 2], ["softplus", "linear"], {"name": "binary_cross_entropy", "l2": 1e-3}, {"name": "rmsprop"}),
        ([4, 3, 2], ["tanh", "softplus"], {"name": "absolute_error", "reduction": "sum"}, {"name": "adamw"}),
    ],
)
def test_training_of_a_network(torch, widths, activations, loss, settings):
    start = network(widths, seed=11)
    data = {"inputs": points(16, widths[0], seed=12), "targets": targets(loss["name"], 16, widths[-1], seed=13)}
    rate = 0.01
    ours = train(spec(widths, activations, start, data, loss, {**settings, "learning_rate": rate}, steps=60))
    losses, _, parameters = torch_training(
        torch,
        start,
        activations,
        data,
        loss,
        lambda tensors: torch_optimiser(torch, settings["name"], tensors, {}, rate),
        steps=60,
    )
    assert ours["stop_reason"] == "completed"
    # Rounding differences grow from step to step.
    assert ours["loss_history"] == pytest.approx(losses, rel=1e-9)
    assert plain(ours["parameters"]) == pytest.approx(parameters, rel=1e-8, abs=1e-11)
    trained = [torch.tensor(numbers) for numbers in nested(ours["parameters"])]
    outputs = forward(torch, trained, activations, torch.tensor(data["inputs"]))
    predictions = outputs.squeeze(1).tolist() if widths[-1] == 1 else outputs.tolist()
    for row, theirs in zip(ours["predictions"], predictions, strict=True):
        assert row == pytest.approx(theirs, **CLOSE)
