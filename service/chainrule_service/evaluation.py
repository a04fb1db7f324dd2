"""One evaluation: what a request for it may hold, how large it may be, and its answer."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from chainrule_engine import ENGINE
from chainrule_engine.derivatives import DERIVATIVES, Evaluation, evaluate
from chainrule_engine.errors import LimitExceeded
from chainrule_engine.graph import Graph, count_named
from chainrule_service import jsonio
from chainrule_service.data_fields import GraphField, Seeds, Tangent
from chainrule_service.fields import Choice, Envelope, Flag
from chainrule_service.settings import Settings


class EvaluationRequest(Envelope):
    """What an evaluation takes."""

    graph = GraphField(required=True)
    seeds = Seeds("Output id: the weight of that output in the sum that is differentiated; 1 for each when left out.")
    tangent = Tangent(
        "For jvp and hvp, by input id: how that input moves along the direction; an input that is left out does not."
    )
    trace = Flag("Also list the steps of the backward pass; for one point only.", load_default=False)
    derivative = Choice(
        DERIVATIVES,
        "What to compute besides the values. "
        + "; ".join(f"{name}: {derivative.description}" for name, derivative in DERIVATIVES.items()),
        load_default="gradient",
    )


class Size(NamedTuple):
    """How large an evaluation is: inputs and nodes times points, once more per direction, and numbers in its answer."""

    work: int
    numbers: int

    def plus(self, other: Size) -> Size:
        """Return the size of both together."""
        return Size(self.work + other.work, self.numbers + other.numbers)


def size_of(request: dict[str, Any]) -> Size:
    """Return the size of an evaluation that has been read."""
    graph: Graph = request["graph"]
    derivative = DERIVATIVES[request["derivative"]]
    points = graph.points or 1
    inputs, named = count_named(list(graph.inputs)), count_named(graph.nodes.names)
    more_passes, more_numbers = derivative.cost(inputs, len(graph.outputs))
    numbers = (named * (2 if derivative.gradients else 1) + more_numbers) * points
    if not graph.single:
        numbers += len(graph.outputs) * points
    if request["trace"]:
        numbers += 4 * len(graph.nodes.sources)
    return Size((len(graph.inputs) + len(graph.nodes)) * points * (1 + more_passes), numbers)


def check_size(size: Size, settings: Settings) -> None:
    """Refuse evaluations that are too large, alone or together.

    Raises:
        LimitExceeded: they are; the path is relative to a request for one.
    """
    limits, path = settings.limits, ("graph",)
    if size.work > limits["evaluation_work"]:
        advice = "send fewer points or a smaller graph, several requests, or ask for hvp in place of hessian"
        raise LimitExceeded("evaluation_work", limits["evaluation_work"], size.work, path, advice)
    if size.numbers > limits["answer_numbers"]:
        advice = "send fewer points, or let ids that you do not need begin with _: they are left out of the answer"
        raise LimitExceeded("answer_numbers", limits["answer_numbers"], size.numbers, path, advice)


def run(request: dict[str, Any]) -> Evaluation:
    """Evaluate what `EvaluationRequest` has loaded.

    Raises:
        EvaluationError: what is asked does not fit the graph.
    """
    return evaluate(
        request["graph"],
        derivative=request["derivative"],
        seeds=request.get("seeds"),
        tangent=request.get("tangent"),
        trace=request["trace"],
    )


def answer_text(evaluation: Evaluation) -> str:
    """Return the answer as JSON text. Its last member is the digest of the text of all members before it."""
    text = jsonio.dumps(evaluation.to_dict() | {"engine": ENGINE})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]},"digest":"sha256:{digest}"}}'
