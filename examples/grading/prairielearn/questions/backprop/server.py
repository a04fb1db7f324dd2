"""Backpropagation by hand: a graph of its own for every student, graded by chainrule in this process."""

from chainrule_engine.exercises import generate as generate_graph
from chainrule_engine.testing import grade_prairielearn

OPERATIONS = ("add", "sub", "mul")


def generate(data):
    # The same seed gives the same graph on every machine, so the graph is all that needs to be kept.
    graph = generate_graph(data["variant_seed"], nodes=6, inputs=3, operations=OPERATIONS, form="program")
    data["params"]["graph"] = graph
    data["params"]["program"] = graph["program"]
    data["params"]["inputs"] = [{"name": name, "value": value} for name, value in graph["inputs"].items()]


def grade(data):
    # Left out, the checks are the value and the gradient by each input, for one point each.
    task = {"id": "backprop", "title": "Backpropagation", "evaluation": {"graph": data["params"]["graph"]}}
    grade_prairielearn(data, task | {"feedback": "hint"})
