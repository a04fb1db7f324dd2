"""The right numbers of a task, by key: from one evaluation of a graph, or from a training.

A key names a quantity: `value`, `values.<id>`, `gradients.<id>`, `jacobian.<output>.<input>` of a graph;
`loss_history`, `parameters`, `predictions`, `gradients` and `metrics` of a training, each with the names or places
inside it behind dots (`parameters.layers.0.weights`). A quantity is a number, or lists and objects of numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chainrule_engine.derivatives import Evaluation, evaluate
from chainrule_engine.errors import LimitExceeded
from chainrule_engine.grading.kinks import Kinks, find_kinks
from chainrule_engine.graph import Graph, is_named
from chainrule_engine.lazily import lazy
from chainrule_engine.training import Training

#: A number, or an interval, or lists and objects of these.
Quantity = Any


def find(quantity: Quantity, path: str) -> Quantity:
    """Return what stands at a dotted path inside a quantity; a name may hold dots itself. Raises KeyError."""
    while path:
        if isinstance(quantity, dict):
            # The longest name that fits; names with dots are rare, and then the whole rest is one.
            name = path
            while name not in quantity:
                name, dot, _ = name.rpartition(".")
                if not dot:
                    raise KeyError(path)
        elif isinstance(quantity, list):
            name = path.partition(".")[0]
            if not (name.isdecimal() and name.isascii() and len(name) < 10 and int(name) < len(quantity)):
                raise KeyError(path)
        else:
            raise KeyError(path)
        quantity = quantity[name] if isinstance(quantity, dict) else quantity[int(name)]
        path = path[len(name) + 1 :]
    return quantity


class GraphTruth:
    """The right numbers of one evaluation. Nothing is computed before it is asked for.

    max_work   inputs and nodes times points; None for no limit. Where that is more, once for each output, there is no
               Jacobian.
    members    what answers may hold

    Raises EvaluationError, with paths into the evaluation, where the seeds do not fit the graph, LimitExceeded.
    """

    def __init__(self, graph: Graph, seeds: Mapping[str, object] | None, max_work: int | None = None) -> None:
        self.graph, self.seeds = graph, seeds
        work = (len(graph.nodes) + len(graph.inputs)) * (graph.points or 1)
        if max_work is not None and work > max_work:
            raise LimitExceeded("work", max_work, work, ("graph",), "grade a smaller graph, or fewer points")
        has_jacobian = max_work is None or work * len(graph.outputs) <= max_work
        self.members = ("value", "values", "gradients", *(("jacobian",) if has_jacobian else ()))

    @property
    def cost(self) -> int:
        """The work of an evaluation with its gradients, in evaluations of a node at a point by plain Python."""
        return 10 * (1 + len(self.graph.nodes) + len(self.graph.inputs)) * (self.graph.points or 1)

    @lazy
    def evaluation(self) -> Evaluation:
        """Values and gradients."""
        return evaluate(self.graph, seeds=self.seeds)

    @lazy
    def _values(self) -> dict[str, Any]:
        return _inputs_by_name(self.evaluation.all_values, self.graph)

    @lazy
    def _gradients(self) -> dict[str, Any]:
        return _inputs_by_name(self.evaluation.all_gradients, self.graph)

    @lazy
    def _jacobian(self) -> dict[str, Any]:
        found = evaluate(self.graph, derivative="jacobian").jacobian or {}
        return {name: _inputs_by_name(row, self.graph) for name, row in found.items()}

    @lazy
    def _kinks(self) -> Kinks:
        return find_kinks(self.graph, self.seeds, self.evaluation.all_gradients)

    @property
    def kinks(self) -> Sequence[str]:
        """The ids of the nodes exactly at a kink or a jump that a gradient passes through."""
        return self._kinks.nodes

    def member(self, name: str) -> Quantity:
        """Return the whole member of that name."""
        if name == "jacobian":
            return self._jacobian
        if name == "value":
            return self.evaluation.value
        return {"values": self._values, "gradients": self._gradients}[name]

    @lazy
    def _shapes(self) -> dict[str, Quantity]:
        graph = self.graph
        one = 0.0 if graph.points is None else [0.0] * graph.points
        of_inputs = dict.fromkeys(filter(is_named, graph.inputs), one)
        by_id = dict.fromkeys(graph.nodes.names, one)
        return {
            "value": one if graph.single else [one] * len(graph.outputs),
            "values": by_id,
            "gradients": by_id,
            "jacobian": dict.fromkeys(graph.outputs, of_inputs),
        }

    def shape(self, name: str) -> Quantity:
        """Return a quantity of the same shape as the member, without evaluating; equal parts of it are one object."""
        return self._shapes[name]

    @lazy
    def _open_gradients(self) -> dict[str, Any]:
        return self._open(self._kinks)

    @lazy
    def _open_jacobian(self) -> dict[str, dict[str, Any]]:
        found, outputs = {}, self.graph.outputs
        for output in outputs:
            seeds = {output: 1.0}
            gradients = evaluate(self.graph, seeds=seeds).all_gradients
            found[output] = self._open(find_kinks(self.graph, seeds, gradients, len(outputs)), self.graph.inputs)
        return found

    def _open(self, kinks: Kinks, names: Collection[str] | None = None) -> dict[str, Any]:
        """Return id → the interval, or one per point, of those gradients that depend on a choice."""
        found = {name: ends for name, ends in kinks.admissible.items() if names is None or name in names}
        return {name: ends[0] for name, ends in found.items()} if self.graph.points is None else dict(found)

    def intervals(self, key: str) -> Quantity:
        """Return what gradients may be where kinks leave a choice: an interval, or one per point; else None.

        Of several gradients as a whole: id → the same, of those that depend on a choice.
        """
        member, _, path = key.partition(".")
        if member == "gradients":
            return (self._open_gradients.get(path) if path else self._open_gradients) or None
        if member == "jacobian":
            try:
                found = find(self._open_jacobian, path)
            except KeyError:
                return None
            return (found if path else {name: row for name, row in found.items() if row}) or None
        return None

    @lazy
    def locals(self) -> dict[str, list[float]]:
        """Every id → the local derivatives of the operations that use it, one for each use on the way to an output.

        Of a graph at one point.
        """
        found: dict[str, list[float]] = {}
        for step in evaluate(self.graph, seeds=self.seeds, trace=True).steps or []:
            found.setdefault(step["to"], []).append(step["local"])
        return found


def _inputs_by_name(numbers: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """Return the numbers with those of inputs by name: inputs have no order on the wire, and credit may go by one."""
    return {name: numbers[name] for name in sorted(graph.inputs) if name in numbers} | dict(numbers)


class TrainingTruth:
    """The right numbers of a training, which runs when they are asked for."""

    kinks: Sequence[str] = ()

    def __init__(self, training: Training, max_work: int | None) -> None:
        if max_work is not None and training.cost > max_work:
            raise LimitExceeded("work", max_work, training.cost, ("steps",), "grade against a shorter training")
        self.training = training
        there = {"predictions": training.model.structure.predictions, "metrics": training.metrics}
        names = ("loss_history", "parameters", "predictions", "gradients", "metrics")
        self.members = tuple(name for name in names if there.get(name, True))

    @property
    def cost(self) -> int:
        """The work of the training, in evaluations of a node at a point by plain Python."""
        return self.training.cost

    @lazy
    def _result(self) -> dict[str, Any]:
        state = self.training.start()
        self.training.advance(state, self.training.steps)
        result = self.training.result(state)
        # No update was made where the first loss was infinite or NaN.
        return result | {"gradients": result["gradients"] or self.shape("gradients")}

    def member(self, name: str) -> Quantity:
        """Return the whole member of that name."""
        return self._result[name]

    def shape(self, name: str) -> Quantity:
        """Return a quantity of the member's shape without training; lists over steps or points are short."""
        model = self.training.model
        if name in ("parameters", "gradients"):
            return model.arrange(model.initial)
        if name == "metrics":
            return {metric: [0.0] for metric in self.training.metrics}
        return [0.0]

    def intervals(self, key: str) -> None:
        """A training follows the conventions at every kink."""


Truth = GraphTruth | TrainingTruth


def count(numbers: Quantity) -> int:
    """Return how many numbers a quantity holds."""
    if isinstance(numbers, dict):
        return sum(map(count, numbers.values()))
    return sum(map(count, numbers)) if isinstance(numbers, list) else 1


def quantity(truth: Truth, key: str, *, shape: bool = False) -> Quantity:
    """Return the right numbers of a key, or a quantity of the same shape. Raises KeyError where there is none."""
    member, _, path = key.partition(".")
    if member not in truth.members:
        raise KeyError(key)
    return find(truth.shape(member) if shape else truth.member(member), path)
