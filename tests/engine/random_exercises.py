"""Exercises such as a course sets, one per integer: graphs of moderate numbers with few digits."""

from __future__ import annotations

import math
import random
from typing import Any

from tests.engine.wrong_engine import NoAnswer, Student, hand_in

Graph = dict[str, Any]

#: Operations by how often a course has them.
_WEIGHTS = {"add": 3.0, "mul": 3.0, "sub": 3.0, "div": 2.0, "pow": 2.0, "tanh": 2.0, "relu": 2.0, "neg": 1.0}
_WEIGHTS |= {"exp": 1.0, "log": 1.0, "sin": 1.0, "sigmoid": 1.0, "cos": 0.3, "sqrt": 0.3, "abs": 0.3}
_BINARY = {"add", "sub", "mul", "div"}
_EXPONENTS = [2.0, 2.0, 2.0, 3.0, 3.0, -1.0, -2.0, 4.0, 0.5, 1.5]
_LARGEST_VALUE, _LARGEST_GRADIENT, _LEAST_GRADIENT = 60.0, 1e6, 1e-3


class _Refused(Exception):
    """The numbers do not allow the exercise to be completed."""


def exercise(seed: int, operation: str | None = None, *, nodes: int | None = None, kink: bool = False) -> Graph:
    """Return the wire's form of a graph that has a node of this operation.

    nodes  how many operations; without, 3 to 12 mostly, 25 sometimes, 50 seldom
    kink   let a relu have the argument 0
    """
    chance = random.Random(f"{seed} {operation} {nodes} {kink}")
    while True:
        size = nodes or chance.choice(
            [chance.randint(3, 12)] * 14 + [chance.randint(13, 25)] * 5 + [chance.randint(26, 50)]
        )
        try:
            graph = _Draft(chance, size, operation, kink).graph()
            numbers = hand_in(graph, Student())
        except (_Refused, NoAnswer):
            continue
        gradients = [abs(number) for key, number in numbers.items() if key.startswith("gradients.")]
        of_inputs = [abs(numbers[f"gradients.{name}"]) for name in graph["inputs"]]
        if max(gradients) < _LARGEST_GRADIENT and max(of_inputs) > _LEAST_GRADIENT:
            return graph


class _Draft:
    """A graph that is being made, node by node, with its numbers at hand."""

    def __init__(self, chance: random.Random, size: int, operation: str | None, kink: bool) -> None:
        self.chance, self.size, self.kink = chance, size, kink
        kinds = chance.sample(list(_WEIGHTS), chance.randint(1, 6))
        self.kinds = ["add", "mul", *kinds, *([operation] if operation else [])]
        self.wanted = [] if operation is None else [operation] * (1 if size < 8 else chance.randint(1, 3))
        self.sharing = chance.choice([0.1, 0.2, 0.4])
        names = chance.choice(["abcde", "xyzuv", ["x1", "x2", "w1", "w2", "b"], ["p", "q", "r", "s", "t"]])
        self.inputs = {name: self._number() for name in names[: chance.randint(2, min(5, size + 1))]}
        if kink:
            self.inputs[names[0]] = 0.0
        self.data = dict(self.inputs)
        self.nodes: list[dict[str, Any]] = []
        self.loose = list(self.inputs)  # what nothing uses yet

    def graph(self) -> Graph:
        if self.kink:
            self._zero_to_relu()
        while len(self.nodes) < self.size or len(self.loose) > 1:
            left = self.size - len(self.nodes)
            if len(self.loose) - 1 >= left:
                self._join()
            elif self.wanted and self.chance.random() < 2.0 * len(self.wanted) / left:
                self._add_one([self.wanted.pop()])
            else:
                self._add_one(self.kinds)
        lacking = self.wanted and self.wanted[0] not in {node["op"] for node in self.nodes}
        if lacking or len(self.nodes) > self.size:
            raise _Refused
        return {"inputs": self.inputs, "nodes": self.nodes, "output": self.nodes[-1]["id"]}

    def _number(self) -> float:
        chance = self.chance
        if chance.random() < 0.03:
            return 0.0
        kind = chance.random()
        size = chance.randint(1, 4) if kind < 0.4 else round(chance.uniform(0.1, 3.0), 1 if kind < 0.85 else 2)
        return float(chance.choice([size, size, -size]))

    def _literal(self) -> float:
        return self.chance.choice([1.0, 1.0, 2.0, 2.0, 3.0, -1.0, 0.5, 4.0, 0.1, -2.0, 5.0])

    def _argument(self) -> str:
        if self.loose and self.chance.random() > self.sharing:
            return self.chance.choice(self.loose[-3:])
        return self.chance.choice(list(self.data))

    def _zero_to_relu(self) -> None:
        zero = next(iter(self.inputs))
        if self.chance.random() < 0.5:
            self._put("mul", [zero, self.chance.choice(list(self.inputs)[1:])], 0.0)
            zero = self.nodes[-1]["id"]
        elif self.chance.random() < 0.5:
            other = self.chance.choice(list(self.inputs)[1:])
            self._put("sub", [other, self.inputs[other]], 0.0)
            zero = self.nodes[-1]["id"]
        self._put("relu", [zero], 0.0)

    def _add_one(self, kinds: list[str]) -> None:
        for _ in range(30):
            op = self.chance.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]
            args: list[Any] = [self._argument()]
            if op in _BINARY:
                args.append(self._literal() if self.chance.random() < 0.15 else self._argument())
                self.chance.shuffle(args)
                if args[0] == args[1] and (op in {"sub", "div"} or self.chance.random() < 0.8):
                    continue
            if op == "pow":
                args.append(self.chance.choice(_EXPONENTS))
            if self._try(op, args):
                return
        raise _Refused

    def _join(self) -> None:
        """Use two that are loose."""
        args = self.chance.sample(self.loose, 2)
        wanted = [op for op in self.wanted if op in _BINARY]
        for op in [*wanted, *self.chance.sample(["add", "add", "mul", "sub", "div"], 5)]:
            if (op in self.kinds or op == "add") and self._try(op, args):
                if op in self.wanted:
                    self.wanted.remove(op)
                return
        raise _Refused

    def _try(self, op: str, args: list[Any]) -> bool:
        plain = [self.data[a] if isinstance(a, str) else a for a in args]
        result = _tame(op, *plain)
        if result is None:
            return False
        self._put(op, args, result)
        return True

    def _put(self, op: str, args: list[Any], result: float) -> None:
        name = f"n{len(self.nodes) + 1}"
        self.nodes.append({"id": name, "op": op, "args": args})
        self.data[name] = result
        self.loose = [*(other for other in self.loose if other not in args), name]


def _tame(op: str, x: float, y: float = 0.0) -> float | None:
    """Return the result of an operation, None where numbers there are of no use in an exercise."""
    good = {
        "div": abs(y) > 0.2,
        "pow": (x > 0.1 or y == int(y)) and abs(x) > 0.1 and abs(x) < 8.0,
        "exp": abs(x) < 4.0,
        "log": x > 0.1,
        "sqrt": x > 0.1,
        "tanh": abs(x) < 2.5,
        "sigmoid": abs(x) < 5.0,
        "relu": abs(x) > 0.01,
        "abs": abs(x) > 0.01,
    }
    if not good.get(op, True):
        return None
    results = {
        "add": lambda: x + y,
        "sub": lambda: x - y,
        "mul": lambda: x * y,
        "div": lambda: x / y,
        "neg": lambda: -x,
        "pow": lambda: x**y,
        "abs": lambda: abs(x),
        "relu": lambda: max(x, 0.0),
        "sigmoid": lambda: 1 / (1 + math.exp(-x)),
    }
    result = results[op]() if op in results else getattr(math, op)(x)
    return result if abs(result) < _LARGEST_VALUE else None
