"""Reading where the right numbers of a task come from: an evaluation of a graph, or a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading.fields import Reader
from chainrule_engine.grading.training_form import read_training
from chainrule_engine.grading.truth import GraphTruth, TrainingTruth, Truth
from chainrule_engine.graph import Graph, describe
from chainrule_engine.training import Training

#: The member of a task in the form that is read, by its name; and the right numbers, None where something is wrong.
Source = tuple[dict[str, Any], Truth | None]


class Limits(NamedTuple):
    """What a source may be at most; None for no limit.

    nodes, points   of a graph
    work            of a training, in evaluations of a node at a point by plain Python; of a graph, nodes times points
    """

    nodes: int | None = None
    points: int | None = None
    work: int | None = None


def read_source(reader: Reader, fields: Mapping[str, Any], limits: Limits) -> Source:
    """Read the evaluation or the training of a task; its faults are problems of the reader.

    Raises LimitExceeded.
    """
    if ("evaluation" in fields) == ("training" in fields):
        reader.problem((), "give the evaluation or the training that the right numbers come from, and not both")
        return {}, None
    name, read = ("evaluation", _evaluation) if "evaluation" in fields else ("training", _training)
    try:
        return read(reader, fields[name], limits)
    except InvalidInput as error:
        reader.problems_under((name,), error)
    except LimitExceeded as error:
        raise error.under(name) from None
    return {}, None


def _evaluation(reader: Reader, data: object, limits: Limits) -> Source:
    fields = reader.mapping(data, ("evaluation",), ("graph", "seeds"), "an evaluation")
    if "graph" not in fields:
        reader.problem(("evaluation",), "give the graph")
        return {}, None
    seeds = fields.get("seeds")
    if seeds is not None and not isinstance(seeds, dict):
        reader.problem(("evaluation", "seeds"), f"the seeds are an object, and this is {describe(seeds)}")
        seeds = None
    try:
        graph = Graph.from_dict(fields["graph"], max_nodes=limits.nodes, max_points=limits.points)
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("graph") from None
    truth = GraphTruth(graph, seeds, limits.work)
    if seeds is not None:
        truth.evaluation  # noqa: B018 - says whether the seeds fit the graph
        seeds = {
            name: list(map(float, seed)) if isinstance(seed, list) else float(seed) for name, seed in seeds.items()
        }
    return {"evaluation": {"graph": graph.to_dict(), "seeds": seeds}}, truth


def _training(reader: Reader, data: object, limits: Limits) -> Source:
    spec = read_training(reader, data, ("training",))
    if reader.problems:
        return {}, None
    training = Training(spec, max_nodes=limits.nodes, max_points=limits.points)
    return {"training": spec}, TrainingTruth(training, limits.work)
