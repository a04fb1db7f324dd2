"""Exercises from a seed: a random graph for each student, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from flask_smorest import Blueprint

from chainrule_engine import ENGINE
from chainrule_engine.exercises.generation import DEFAULT_OPERATIONS, FORMS, MAX_NODES, generate
from chainrule_engine.operations import OPERATIONS
from chainrule_service.documented import documented, record, ref
from chainrule_service.exchange import answer, charge, needs, read_body, service
from chainrule_service.fields import Choice, Envelope, JsonSchema, ListOf, WholeNumber

blueprint = Blueprint("exercises", __name__, description="Random graphs to differentiate by hand.")

#: What it takes to draw an exercise, in node evaluations: at most, and more for each node squared. Measured, roughly.
_DRAWING, _LOOKING = 20_000, 200


class ExerciseRequest(Envelope):
    """What an exercise is to be like."""

    seed = WholeNumber("Another seed is another exercise.", least=-(2**53), required=True)
    nodes = WholeNumber("Operations, the output's included.", least=1, most=MAX_NODES, load_default=8)
    inputs = WholeNumber("Each has a gradient that is not 0.", least=1, most=MAX_NODES, load_default=3)
    operations = ListOf(
        Choice(OPERATIONS),
        f"What the nodes are; each occurs. {', '.join(DEFAULT_OPERATIONS)} when left out.",
        least=1,
        most=len(OPERATIONS),
        load_default=DEFAULT_OPERATIONS,
    )
    depth = WholeNumber(
        "Operations on the longest way from an input to the output; any when left out.",
        least=1,
        most=MAX_NODES,
        load_default=None,
    )
    sharing = WholeNumber(
        "At least so many nodes are used more than once: else mistakes in the order of the backward pass do not show.",
        least=0,
        most=MAX_NODES,
        load_default=1,
    )
    form = Choice(FORMS, "Whether the graph is a list of nodes, or program text.", load_default=FORMS[0])


_REQUEST = ExerciseRequest()

SCHEMAS: Mapping[str, JsonSchema] = {
    "Exercise": record(
        "An exercise: the same for the same request from the same engine.",
        {"seed": {"type": "integer"}, "graph": ref("Graph"), "engine": ref("Engine")},
    )
}


@blueprint.post("/v1/exercises")
@documented(
    body=ExerciseRequest,
    examples={
        "an exercise for one student": {"seed": 20_261_130},
        "a small one, as program text": {"seed": 7, "nodes": 4, "inputs": 2, "operations": ["mul"], "form": "program"},
    },
    answers={200: ("The exercise, as the graph of an evaluation or of a task.", ref("Exercise"))},
)
@needs("grade")
def create_exercise() -> Response:
    """Draw a random graph: away from kinks, with numbers that a person can work with."""
    loaded = read_body(_REQUEST)
    work = _DRAWING + _LOOKING * loaded["nodes"] ** 2
    with service().room_for(work):
        charge(work)
        graph = generate(**loaded)
    return answer({"seed": loaded["seed"], "graph": graph, "engine": ENGINE})
