"""What a task means that leaves something out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from chainrule_engine.grading.comparison import read_compare
from chainrule_engine.grading.fields import Reader
from chainrule_engine.grading.tasks import Check
from chainrule_engine.grading.truth import GraphTruth, Truth
from chainrule_engine.graph import is_named


def default_checks(truth: Truth) -> list[Check]:
    """Ask for the value and the gradient of every input; of a training for the losses and the parameters."""
    if isinstance(truth, GraphTruth):
        keys = ["value", *(f"gradients.{name}" for name in truth.graph.inputs if is_named(name))]
    else:
        keys = ["loss_history", "parameters"]
    return [
        Check(
            default_id([key]) or key,
            default_title([key], truth),
            (key,),
            Fraction(1),
            read_compare(Reader(), preset := default_preset([key]), (), preset),
        )
        for key in keys
    ]


def default_preset(keys: Sequence[str]) -> str:
    """Return the name of the comparison that fits a quantity."""
    member = keys[0].partition(".")[0] if keys else ""
    return member if member in ("loss_history", "parameters") else "numbers"


def default_id(keys: Sequence[str]) -> str | None:
    """Return the id of a check of these quantities; None where there are none."""
    if not keys:
        return None
    member, dot, name = keys[0].partition(".")
    return {"gradients": "grad", "values": "value"}.get(member, member) + dot + name


def default_title(keys: Sequence[str], truth: Truth) -> str:
    """Return the title of a check of these quantities."""
    if len(keys) != 1:
        return ", ".join(keys)[:100]
    member, _, name = keys[0].partition(".")
    if not isinstance(truth, GraphTruth):
        return keys[0].replace("_", " ")
    outputs = [output for output in truth.graph.outputs if is_named(output)]
    output = outputs[0] if len(truth.graph.outputs) == len(outputs) == 1 else None
    if member == "gradients":
        return f"∂{output}/∂{name}" if output else f"gradient of {name}"
    if member == "values":
        return f"value of {name}"
    return f"value of {output}" if output and member == "value" else keys[0]


def what_there_is(truth: Truth) -> str:
    """Say which quantities a task can ask for."""
    if isinstance(truth, GraphTruth):
        return "value, values.<id>, gradients.<id> or jacobian.<output>.<input>, with an id of the graph"
    return "loss_history, parameters, predictions, gradients or metrics.<name>, and what is inside them behind dots"
