"""The service's answers as typed values. Members that this version does not know are kept in `raw`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .nn import Network

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def numbers_in(value: Any) -> Any:
    """Return `value` with "NaN", "Infinity" and "-Infinity" made floats throughout its lists and objects."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [item if type(item) is float else numbers_in(item) for item in value]
    if isinstance(value, Mapping):
        return {name: numbers_in(item) for name, item in value.items()}
    return value


def words_for(value: Any) -> Any:
    """Return `value` with floats that are not finite made the words that `numbers_in` reads, and arrays lists."""
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list | tuple):
        return [words_for(item) for item in value]
    if isinstance(value, Mapping):
        return {name: words_for(item) for name, item in value.items()}
    return value


def _interval(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = numbers_in(value)
    return low, high


@dataclass(frozen=True)
class NodeWarning:
    """Something to know about one node: it is at a kink (`interval`: admissible slopes), or not finite."""

    code: str
    node: str | None
    detail: str
    interval: tuple[float, float] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeWarning:
        """Read the wire's form."""
        return cls(
            code=str(data.get("code", "")),
            node=data.get("node"),
            detail=str(data.get("detail", "")),
            interval=_interval(data.get("interval")),
            raw=data,
        )


@dataclass(frozen=True)
class Step:
    """One addition of the backward pass: to `target`'s gradient, `contribution` = `upstream` * `local`."""

    source: str
    target: str
    op: str
    upstream: float
    local: float
    contribution: float
    total: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Step:
        """Read the wire's form, in which `source` and `target` are called `from` and `to`."""
        upstream, local, contribution, total = (
            numbers_in(data[name]) for name in ("upstream", "local", "contribution", "total")
        )
        return cls(data["from"], data["to"], data["op"], upstream, local, contribution, total, raw=data)


@dataclass(frozen=True)
class Evaluation:
    """The values and gradients of a graph.

    Attributes:
        output: the id of the output, or a list of ids.
        value: the output's value; a list of them for a list of outputs.
        values: by id, the value of every input and named node.
        gradients: by id, the derivative of the output (of the seeded sum of outputs) with respect to it.
        jacobian: by output and input, the derivative; this and the next three only if asked for.
        jvp: by output, its derivative along the tangent.
        hessian: by input and input, the second derivative of the output (of the seeded sum of outputs).
        hvp: by input, the product of the Hessian and the tangent.
        warnings: nodes at a kink, and the first node that is not finite.
        steps: the backward pass, addition by addition, if it was asked for.
        digest: the fingerprint of the answer's text: the same request gives the same one from the same engine, on
            every machine; a graph that lists its nodes in another order has another.

    Where an input is a list of numbers (a batch of points), every number here is a list of that length.
    """

    output: str | list[str]
    value: Any
    values: dict[str, Any]
    gradients: dict[str, Any]
    jacobian: dict[str, dict[str, Any]] | None = None
    jvp: dict[str, Any] | None = None
    hessian: dict[str, dict[str, Any]] | None = None
    hvp: dict[str, Any] | None = None
    warnings: tuple[NodeWarning, ...] = ()
    steps: tuple[Step, ...] | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read the wire's form."""
        steps = data.get("steps")
        return cls(
            output=data["output"],
            value=numbers_in(data["value"]),
            values=numbers_in(data.get("values", {})),
            gradients=numbers_in(data.get("gradients", {})),
            jacobian=numbers_in(data.get("jacobian")),
            jvp=numbers_in(data.get("jvp")),
            hessian=numbers_in(data.get("hessian")),
            hvp=numbers_in(data.get("hvp")),
            warnings=tuple(NodeWarning.from_dict(item) for item in data.get("warnings", ())),
            steps=None if steps is None else tuple(Step.from_dict(item) for item in steps),
            engine=data.get("engine", {}),
            digest=data.get("digest", ""),
            raw=data,
        )


@dataclass(frozen=True)
class InputCheck:
    """The gradient of one input against its central difference.

    `outcome` is "passed", "failed", "kink" (no derivative exists here, and any number in `interval` is right), or
    "undecided" (the differences cannot tell: the function jumps here, or is not finite on both sides).
    """

    input: str
    gradient: float
    numeric: float
    error: float
    allowed: float
    outcome: str
    interval: tuple[float, float] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputCheck:
        """Read the wire's form."""
        gradient, numeric, error, allowed = (
            numbers_in(data[name]) for name in ("gradient", "numeric", "error", "allowed")
        )
        interval = _interval(data.get("interval"))
        return cls(data["input"], gradient, numeric, error, allowed, data["outcome"], interval)


@dataclass(frozen=True)
class GradientCheck:
    """The gradients of a graph's inputs against central differences; `passed` unless one failed."""

    passed: bool
    step: float
    checks: tuple[InputCheck, ...]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GradientCheck:
        """Read the wire's form."""
        return cls(data["passed"], data["step"], tuple(map(InputCheck.from_dict, data["checks"])), raw=data)


@dataclass(frozen=True)
class OperationInfo:
    """One operation of the service: its name, how many arguments it takes, and what it computes."""

    name: str
    arity: int
    description: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OperationInfo:
        """Read the wire's form."""
        return cls(data["name"], data["arity"], data.get("description", ""), raw=data)


@dataclass(frozen=True)
class Limit:
    """One limit of the service: its `value` there, the `default`, and the `maximum` that may be set."""

    name: str
    value: int
    default: int
    maximum: int
    description: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limit:
        """Read the wire's form."""
        return cls(data["name"], data["value"], data["default"], data["maximum"], data.get("description", ""))


@dataclass(frozen=True)
class JobMetrics:
    """What the steps of a training came to, as far as it has come.

    Attributes:
        steps: the numbers of the steps, from 0; each of the lists below has one entry for each of them.
        loss: the loss before the update of the step.
        metrics: the other metrics, by name.
        next: what to pass as `after` to leave these steps out of the next answer; None before the first step.
        state: the job's state.
    """

    steps: list[int]
    loss: list[float]
    metrics: dict[str, list[float]]
    next: int | None
    state: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobMetrics:
        """Read the wire's form, in which `steps` is called `step`."""
        metrics = {name: numbers_in(column) for name, column in data.get("metrics", {}).items()}
        return cls(data["step"], numbers_in(data["loss"]), metrics, data.get("next"), data.get("state", ""), raw=data)


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        loss_history: the loss before each update.
        metrics: by name, one number for each step.
        parameters: after the last update, in the shape of the specification's `model.parameters`.
        gradients: of the last step, in the same shape.
        predictions: the outputs for the training data, after the last update.
        stop_reason: "completed", "diverged" or "target_loss".
        job: the id of the job that ran it.
    """

    loss_history: list[float]
    metrics: dict[str, list[float]]
    parameters: dict[str, Any]
    gradients: dict[str, Any]
    predictions: Any
    stop_reason: str
    job: str = ""
    model: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, job: str = "", model: Mapping[str, Any] | None = None
    ) -> TrainingResult:
        """Read the wire's form; `model` is the specification's, which the result alone does not repeat."""
        return cls(
            loss_history=numbers_in(data["loss_history"]),
            metrics=numbers_in(data.get("metrics") or {}),
            parameters=numbers_in(data.get("parameters") or {}),
            gradients=numbers_in(data.get("gradients") or {}),
            predictions=numbers_in(data.get("predictions")),
            stop_reason=data.get("stop_reason", ""),
            job=job,
            model=model or {},
            raw=data,
        )

    @property
    def network(self) -> Network:
        """The trained network: call it with numbers or expressions and evaluate what it returns.

        Raises:
            ValueError: the model is a graph of your own, not layers.
        """
        if "layers" not in self.parameters:
            raise ValueError("only a model that is given by its layers has a network: this one is a graph")
        return Network.from_model(self.model, self.parameters)
