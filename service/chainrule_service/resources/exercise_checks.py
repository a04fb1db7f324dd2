"""Exercise checks: what an exercise can tell, and whether it may be published."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from flask_smorest import Blueprint

from chainrule_engine import ENGINE
from chainrule_engine.checking import OUTCOMES, cost
from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.exercises import examine
from chainrule_engine.grading import Task
from chainrule_service.documented import documented, or_null, record, ref
from chainrule_service.exchange import answer, charge, needs, read_body, service
from chainrule_service.fields import Envelope, Flag, JsonSchema, ListOf, Raw, Text
from chainrule_service.grading_reading import read_task_cached

blueprint = Blueprint("exercise-checks", __name__, description="What exercises can tell.")

#: What it takes, in node evaluations: a search for better inputs; and for each point, and each node at it, besides.
#: Measured, roughly.
_SEARCH, _POINT, _NODE = 100_000, 4_000, 1_000


class ExerciseCheckRequest(Envelope):
    """What an exercise check takes."""

    task = Raw(ref("GradingTask"), required=True)
    accept_undetected = ListOf(
        Text(most=100),
        "Names of mistakes that are meant to go unnoticed.",
        most=100,
        load_default=list,
    )
    suggestions = Flag("Whether to look for inputs that tell more.", load_default=True)


_REQUEST = ExerciseCheckRequest()

_TEXT: JsonSchema = {"type": "string"}
_NAMES: JsonSchema = {"type": "array", "items": _TEXT}
_FINDINGS: JsonSchema = {
    "type": "array",
    "items": record("What was found, and where in the task.", {"detail": _TEXT, "pointer": _TEXT}),
}
_KEY = record(
    "The right gradients against central differences, as a gradient check has them.",
    {
        "passed": {"type": "boolean"},
        "checks": {
            "type": "array",
            "items": {"type": "object", "properties": {"outcome": {"type": "string", "enum": list(OUTCOMES)}}},
        },
    },
)
_MISSED = record(
    "A mistake with which an engine gets full marks, and why.",
    {"name": _TEXT, "reason": _TEXT, "node": {"type": ["string", "null"]}, "why": _TEXT, "advice": _TEXT},
)
SCHEMAS: Mapping[str, JsonSchema] = {
    "ExerciseCheck": record(
        "What a task can tell from a right answer.",
        {
            "publishable": {"type": "boolean", "description": "Whether there is no problem."},
            "problems": _FINDINGS,
            "warnings": _FINDINGS,
            "key": or_null(_KEY),
            "caught": _NAMES,
            "partly": {
                "type": "array",
                "description": "Mistakes that are caught or not by how the engine that has them works.",
                "items": record("One.", {"name": _TEXT, "passes_with": _TEXT}),
            },
            "missed": {"type": "array", "items": _MISSED},
            "not_applicable": _NAMES,
            "ambiguous": {
                "type": "array",
                "items": _NAMES,
                "description": "Mistakes that give the same numbers: which one it was cannot be told.",
            },
            "suggestion": or_null(
                record(
                    "Inputs that tell more.",
                    {
                        "inputs": {"type": "object", "additionalProperties": ref("Number")},
                        "seeds": {"type": "object", "additionalProperties": ref("Number")},
                        "caught": {"type": "integer"},
                        "newly_caught": _NAMES,
                        "still_missed": _NAMES,
                    },
                    optional=("seeds",),
                )
            ),
            "extension": or_null(
                record(
                    "Nodes on top of the graph with which it tells more.",
                    {
                        "nodes": {
                            "type": "array",
                            "description": "In the order of evaluation.",
                            "items": record("One.", {"id": _TEXT, "op": _TEXT, "args": _NAMES}),
                        },
                        "output": {"type": "string", "description": "The last one, which is the new output."},
                        "newly_caught": _NAMES,
                        "still_missed": _NAMES,
                    },
                )
            ),
            "engine": ref("Engine"),
        },
    )
}


@blueprint.post("/v1/exercise-checks")
@documented(
    body=ExerciseCheckRequest,
    examples={
        "a node whose upstream gradient is 1": {
            "task": {
                "evaluation": {"graph": {"inputs": {"a": -2.0, "b": 3.0}, "program": "c = a * b\nd = a + b\ne = c * d"}}
            }
        }
    },
    answers={200: ("What the exercise can and cannot tell.", ref("ExerciseCheck"))},
)
@needs("staff")
def check_exercise() -> Response:
    """Say which known mistakes a task would catch, and which inputs would catch more."""
    loaded = read_body(_REQUEST)
    try:
        task = read_task_cached(loaded["task"])
    except (InvalidInput, LimitExceeded) as error:
        raise error.under("task") from None
    work, most = _work(task), service().settings.limits["grading_work"]
    if work > most:
        raise LimitExceeded("grading_work", most, work, ("task",), "check a smaller graph, or fewer points")
    with service().room_for(work):
        charge(work)
        found = examine(
            task,
            accept_undetected=loaded["accept_undetected"],
            suggestions=loaded["suggestions"],
            program=task.graph is not None and "program" in loaded["task"]["evaluation"]["graph"],
        ).to_dict()
    return answer(found | {"engine": ENGINE})


def _work(task: Task) -> int:
    if task.graph is None:
        return _SEARCH + task.cost  # it is trained, for its right numbers to be compared with themselves
    # Where there are many points, the gradients are compared with differences at the first of them alone.
    points = task.graph.points or 1
    wrong = (_POINT + _NODE * len(task.graph.nodes)) * points
    return _SEARCH + wrong + cost(task.graph) * min(points, 20)
