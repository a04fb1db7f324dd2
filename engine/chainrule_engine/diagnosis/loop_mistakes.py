"""The table of mistakes in training loops: to add one, add one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chainrule_engine.diagnosis.loops import Changes, Spec
from chainrule_engine.training import Training


@dataclass(frozen=True)
class LoopMistake:
    """A mistake in a training loop.

    name, title, hint   as of `Mistake`
    changes             what the loop does otherwise, in the ways in which it may be meant
    """

    name: str
    title: str
    hint: str
    changes: tuple[Changes, ...]


def _reduction(spec: Spec) -> Spec | None:
    loss = dict(spec.get("loss") or {})
    loss["reduction"] = "sum" if loss.get("reduction", "mean") == "mean" else "mean"
    return {**spec, "loss": loss}


def _sums(spec: Spec) -> bool:
    return bool((spec.get("loss") or {}).get("reduction", "mean") == "sum")


def _mean_for_sum(spec: Spec) -> Spec | None:
    return _reduction(spec) if _sums(spec) else None


def _sum_for_mean(spec: Spec) -> Spec | None:
    return None if _sums(spec) else _reduction(spec)


def _network(spec: Spec) -> Mapping[str, Any] | None:
    return None if "graph" in spec["model"] else spec["model"]


def _linear_output(spec: Spec) -> Spec | None:
    model = _network(spec)
    return None if model is None else {**spec, "model": {**model, "output_activation": "linear"}}


def _curved_output(spec: Spec) -> Spec | None:
    model = _network(spec)
    if model is None or not isinstance(activation := model.get("activation", "tanh"), str):
        return None
    return {**spec, "model": {**model, "output_activation": activation}}


def _zero_biases(spec: Spec) -> Spec | None:
    if _network(spec) is None:
        return None
    training = Training(spec, plain=True)
    parameters = training.model.arrange(training.model.initial)
    for layer in parameters["layers"]:
        layer["biases"] = [0.0] * len(layer["biases"])
    model = {name: entry for name, entry in spec["model"].items() if name != "init"}
    return {**spec, "model": {**model, "parameters": parameters}}


def _undrawn_biases(spec: Spec) -> Spec | None:
    """Where the biases are not drawn, the weights after them are other numbers as well."""
    model = _network(spec)
    if model is None or "parameters" in model:
        return None
    init = model.get("init") or {}
    return {**spec, "model": {**model, "init": {**init, "scheme": "micrograd"}}}


def _no_l2(spec: Spec) -> Spec | None:
    loss = spec.get("loss") or {}
    return {**spec, "loss": {**loss, "l2": 0.0}} if loss.get("l2") else None


def _no_schedule(spec: Spec) -> Spec | None:
    optimiser = spec["optimizer"]
    rate = optimiser["learning_rate"]
    if not isinstance(rate, Mapping):
        return None
    return {**spec, "optimizer": {**optimiser, "learning_rate": rate["start"]}}


def _no_momentum(spec: Spec) -> Spec | None:
    optimiser = spec["optimizer"]
    if not optimiser.get("momentum"):
        return None
    return {**spec, "optimizer": {**optimiser, "momentum": 0.0, "nesterov": False}}


def _constant_rate(spec: Spec) -> Spec | None:
    return None if isinstance(spec["optimizer"]["learning_rate"], Mapping) else spec


_TABLE = (
    LoopMistake(
        "no_zero_grad",
        "gradients are never set to zero",
        "Each step seems to use the sum of all gradients so far. Set the gradients to zero before each backward pass. "
        "(The first two losses cannot show it.)",
        (Changes(accumulates=True),),
    ),
    LoopMistake(
        "ascent",
        "the update goes uphill",
        "The parameters seem to move along the gradient, so that the loss grows. Which sign has the update?",
        (Changes(gradient=-1.0),),
    ),
    LoopMistake(
        "mean_for_sum",
        "mean in place of the sum",
        "The losses of the points seem to be averaged where the task adds them up.",
        (Changes(spec=_mean_for_sum),),
    ),
    LoopMistake(
        "sum_for_mean",
        "sum in place of the mean",
        "The losses of the points seem to be added up where the task averages them.",
        (Changes(spec=_sum_for_mean),),
    ),
    LoopMistake(
        "half_loss",
        "half of the loss",
        "The loss seems to be halved, as some books define it. The task's has no such factor.",
        (Changes(printed=0.5, gradient=0.5), Changes(printed=0.5)),
    ),
    LoopMistake(
        "factor_two",
        "factor of two in the gradient or the learning rate",
        "The updates seem to be off by a factor of two. Either the gradient of the square lacks its two (or has it "
        "twice), or the learning rate is not the task's: the losses cannot tell which.",
        (Changes(gradient=0.5), Changes(gradient=2.0)),
    ),
    LoopMistake(
        "bias_not_updated",
        "biases are not updated",
        "The biases seem to stay as they were. Are they among the parameters that are updated?",
        (Changes(frozen=True),),
    ),
    LoopMistake(
        "no_bias",
        "the bias is left out",
        "The neurons seem to have no bias. Does the sum begin with it?",
        (Changes(no_bias=True),),
    ),
    LoopMistake(
        "bias_zero",
        "biases begin at zero",
        "The biases seem to begin at zero, where the task draws them or gives them.",
        (Changes(spec=_undrawn_biases), Changes(spec=_zero_biases)),
    ),
    LoopMistake(
        "linear_output",
        "no activation on the output",
        "The last layer seems to be linear, where the task has an activation on it.",
        (Changes(spec=_linear_output),),
    ),
    LoopMistake(
        "activated_output",
        "an activation on the output",
        "The last layer seems to have an activation, where the task's is linear.",
        (Changes(spec=_curved_output),),
    ),
    LoopMistake(
        "zero_before_step",
        "nothing is updated",
        "The loss stays the same. Gradients that are set to zero between backward and the update change nothing; nor "
        "does an update that is written to a copy.",
        (Changes(gradient=0.0),),
    ),
    LoopMistake(
        "update_before_backward",
        "the update comes before backward",
        "Each update seems to come too early: before backward, with the gradients of the step before, or with the "
        "weights of a layer changed before the gradients of the layer below are computed. First all gradients, then "
        "the update.",
        (Changes(delayed=True), Changes(by_layer=True)),
    ),
    LoopMistake(
        "per_sample",
        "an update after each point",
        "The parameters seem to be updated after every single point. The task takes one step for all points together.",
        (Changes(points="each"), Changes(points="each", running=True)),
    ),
    LoopMistake(
        "last_sample",
        "the gradient of the last point alone",
        "Only the last point seems to count for the update: its gradient takes the place of the sum over the points.",
        (Changes(points="last"),),
    ),
    LoopMistake(
        "loss_after_update",
        "the loss is printed after the update",
        "The losses are right but come one step early: the loss of a step is that before its update.",
        (Changes(skipped=1),),
    ),
    LoopMistake(
        "schedule",
        "another learning rate from step to step",
        "The learning rate seems to change from step to step otherwise than the task says: it falls where it should "
        "stay, or stays where it should fall.",
        (
            Changes(spec=_no_schedule),
            Changes(spec=_constant_rate, rates=lambda rate, step, steps: rate * (1.0 - 0.9 * step / steps)),
            Changes(spec=_constant_rate, rates=lambda rate, step, steps: rate * (1.0 - step / steps)),
        ),
    ),
    LoopMistake(
        "rate_power",
        "the learning rate is off by a power of ten",
        "The updates seem to be too large or too small by a power of ten: look at the learning rate.",
        tuple(
            Changes(rates=lambda rate, step, steps, factor=factor: rate * factor)  # type: ignore[misc]  # a default
            for factor in (0.1, 10.0, 0.01, 100.0)
        ),
    ),
    LoopMistake(
        "no_l2",
        "the penalty is left out",
        "The penalty on the size of the parameters seems to be missing.",
        (Changes(spec=_no_l2),),
    ),
    LoopMistake(
        "no_momentum",
        "the momentum is left out",
        "The updates seem to be made without momentum.",
        (Changes(spec=_no_momentum),),
    ),
)

#: Every mistake in a training loop by its name.
LOOP_MISTAKES: dict[str, LoopMistake] = {mistake.name: mistake for mistake in _TABLE}
