"""What a backward pass does: the rules of some slots run one after another, adding to the gradients or writing over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chainrule_engine.diagnosis.forms import Edges

#: A mistaken rule that is not linear in the upstream gradient: (gradients, upstream) → (slot, contribution) for each
#: argument.
Rule = Callable[[list[float], float], Sequence[tuple[int, float]]]
Rules = Sequence[Edges | Rule]
#: Slot → whether a gradient is the one that is wanted there.
Wanted = Mapping[int, Callable[[float], bool]]


@dataclass
class Work:
    """What is left to be spent, in rules that are run."""

    left: int


def run(slots: Sequence[int], rules: Rules, gradients: list[float]) -> None:
    """Run the rules of these slots in turn, adding to the gradients."""
    for slot in slots:
        rule = rules[slot]
        upstream = gradients[slot]
        if rule.__class__ is tuple:
            for target, local in rule:
                gradients[target] += local * upstream
        else:
            for target, contribution in rule(gradients, upstream):  # type: ignore[operator]  # a rule
                gradients[target] += contribution


def run_assigning(slots: Sequence[int], rules: Rules, gradients: list[float], assigns: Sequence[int]) -> None:
    """Run the rules; those of the slots that `assigns` marks write over the gradient that was there."""
    for slot in slots:
        rule = rules[slot]
        upstream = gradients[slot]
        if rule.__class__ is tuple:
            shares: Sequence[tuple[int, float]] = [(target, local * upstream) for target, local in rule]
        else:
            shares = rule(gradients, upstream)  # type: ignore[operator]  # no edges
        if assigns[slot]:
            for target, contribution in shares:
                gradients[target] = contribution
        else:
            for target, contribution in shares:
                gradients[target] += contribution
