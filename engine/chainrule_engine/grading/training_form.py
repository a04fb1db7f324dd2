"""The form of a training's specification: types and bounds of its fields. What they mean together, `Training` checks.

Numbers become float64, so that equal specifications are equal data, however their numbers were written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any

from chainrule_engine.errors import Path
from chainrule_engine.grading.fields import Reader
from chainrule_engine.graph import finite_numbers
from chainrule_engine.losses import LOSSES, REDUCTIONS
from chainrule_engine.nn import ACTIVATIONS, INIT_SCHEMES
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES
from chainrule_engine.training import METRICS

#: Reads a field: (reader, what it holds, its path) → what is meant.
Rule = Callable[[Reader, Any, Path], Any]

#: Layers, and the items of any other list; the parameters of a network.
_MOST_LAYERS, _MOST, _MOST_PARAMETERS = 100, 10_000_000, 1_000_000


def read_training(reader: Reader, data: object, path: Path) -> dict[str, Any]:
    """Read a specification: that of a graph if its model has one, else of a network; nothing is added to it."""
    model = data.get("model") if isinstance(data, dict) else None
    is_graph = isinstance(model, dict) and "graph" in model
    spec: dict[str, Any] = (_GRAPH_TRAINING if is_graph else _NETWORK_TRAINING)(reader, data, path)
    if not reader.problems and not is_graph:
        widths = [spec["model"]["inputs"], *spec["model"]["layers"]]
        parameters = sum((before + 1) * width for before, width in pairwise(widths))
        if parameters > _MOST_PARAMETERS:
            detail = f"there are {_MOST_PARAMETERS:,} parameters at most, and this has {parameters:,}"
            reader.problem((*path, "model", "layers"), detail)
    return spec


def _number(**bounds: float) -> Rule:
    return lambda reader, value, path: reader.number(value, path, whole=False, **bounds)


def _whole(least: int, most: int = 2**53) -> Rule:
    def read(reader: Reader, value: Any, path: Path) -> int:
        number = reader.number(value, path, least=least, most=most, whole=True)
        return least if number is None else int(number)

    return read


def _word(words: Collection[str]) -> Rule:
    return lambda reader, value, path: reader.choice(value, path, words)


def _id(reader: Reader, value: Any, path: Path) -> str:
    return reader.text(value, path, "an id")


def _list(item: Rule, *, least: int = 1, most: int = _MOST) -> Rule:
    def read(reader: Reader, value: Any, path: Path) -> list[Any]:
        items = reader.items(value, path, "this", least=least, most=most)
        return [item(reader, entry, place) for place, entry in items]

    return read


def _numbers(reader: Reader, value: Any, path: Path) -> list[Any]:
    # Data may be long: a list in which nothing is wrong is read at once.
    numbers = finite_numbers(value) if isinstance(value, list) else None
    return _list(_number(), least=0)(reader, value, path) if numbers is None else numbers


def _either(is_first: Callable[[Any], bool], first: Rule, second: Rule) -> Rule:
    return lambda reader, value, path: (first if is_first(value) else second)(reader, value, path)


def _or_null(rule: Rule) -> Rule:
    return lambda reader, value, path: None if value is None else rule(reader, value, path)


def _record(what: str, required: Mapping[str, Rule], optional: Mapping[str, Rule]) -> Rule:
    rules = {**required, **optional}

    def read(reader: Reader, value: Any, path: Path) -> dict[str, Any]:
        fields = reader.mapping(value, path, rules, what)
        for name in required:
            if isinstance(value, dict) and name not in fields:
                reader.problem(path, f"{name} is missing: {what} needs {', '.join(required)}")
        return {name: rules[name](reader, entry, (*path, name)) for name, entry in fields.items() if name in rules}

    return read


def _columns(reader: Reader, value: Any, path: Path) -> dict[str, Any]:
    names = list(value) if isinstance(value, dict) else []
    columns: dict[str, Any] = _record("the data", {}, dict.fromkeys(names, _numbers))(reader, value, path)
    return columns


def _graph(reader: Reader, value: Any, path: Path) -> Any:
    # What is in it, the graph's own reader checks.
    return reader.mapping(value, path, value if isinstance(value, dict) else (), "a graph")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


_ACTIVATION = _word(ACTIVATIONS)
_INIT = _record("the drawing of parameters", {}, {"scheme": _word(INIT_SCHEMES), "seed": _whole(0)})
_LAYER = _record("a layer", {"weights": _list(_numbers), "biases": _numbers}, {})
_NETWORK = _record(
    "a network",
    {"inputs": _whole(1, 1_000_000), "layers": _list(_whole(1, 1_000_000), most=_MOST_LAYERS)},
    {
        "activation": _either(_is_list, _list(_ACTIVATION, most=_MOST_LAYERS), _ACTIVATION),
        "output_activation": _or_null(_ACTIVATION),
        "init": _INIT,
        "parameters": _record("the parameters", {"layers": _list(_LAYER, most=_MOST_LAYERS)}, {}),
    },
)
_GRAPH_MODEL = _record(
    "a graph model", {"graph": _graph, "parameters": _list(_id), "loss": _id}, {"prediction": _or_null(_id)}
)
_NETWORK_DATA = _record(
    "the data",
    {"inputs": _list(_numbers), "targets": _list(_either(_is_list, _numbers, _number()))},
    {},
)
_LOSS_REST: dict[str, Rule] = {"reduction": _word(REDUCTIONS), "l2": _number(least=0.0)}
_SCHEDULE = _record(
    "a schedule",
    {"schedule": _word(SCHEDULES)},
    {
        "start": _number(least=0.0),
        "end": _number(least=0.0),
        "factor": _number(above=0.0),
        "every": _whole(1),
        "steps": _whole(1),
    },
)
_OPTIMIZER = _record(
    "an optimizer",
    {"name": _word(OPTIMISERS), "learning_rate": _either(_is_object, _SCHEDULE, _number(least=0.0))},
    {
        "momentum": _number(least=0.0, below=1.0),
        "nesterov": Reader.flag,
        "beta1": _number(least=0.0, below=1.0),
        "beta2": _number(least=0.0, below=1.0),
        "alpha": _number(least=0.0, below=1.0),
        "epsilon": _number(above=0.0),
        "weight_decay": _number(least=0.0),
    },
)
_NEEDED: dict[str, Rule] = {"optimizer": _OPTIMIZER, "steps": _whole(1)}
_REST: dict[str, Rule] = {
    "batch_size": _or_null(_whole(1)),
    "batch_seed": _whole(0),
    "target_loss": _or_null(_number()),
    "metrics": _list(_word(METRICS), least=0, most=len(METRICS)),
}
_NETWORK_TRAINING = _record(
    "a training of a network",
    {
        "model": _NETWORK,
        "data": _NETWORK_DATA,
        "loss": _record("a loss", {"name": _word(LOSSES)}, _LOSS_REST),
        **_NEEDED,
    },
    _REST,
)
_GRAPH_TRAINING = _record(
    "a training of a graph",
    {"model": _GRAPH_MODEL, **_NEEDED},
    {"data": _columns, "loss": _record("a loss", {}, {"name": _word(LOSSES), **_LOSS_REST}), **_REST},
)
