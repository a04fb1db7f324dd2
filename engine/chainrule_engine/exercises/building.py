"""One random graph of a given shape, built node by node with its numbers, so that every node suits an exercise.

`Builder.build` gives up, and says over what, where its choices have led into a corner; the caller tries again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chainrule_engine.exercises.numbers import could_be_clean, is_clean, suits
from chainrule_engine.exercises.randomness import SplitMix64
from chainrule_engine.nodes import Argument, Node
from chainrule_engine.operations import OPERATIONS

#: The magnitudes of inputs, coarse ones first; 1 is not among them, as a factor of 1 hides mistakes.
_MAGNITUDES = (0.5, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75)
#: So many of them are drawn from while there are few inputs.
_COARSE = 7
#: The exponents of powers are literal numbers, as in courses; with 2, mistakes look like each other: 3 comes twice.
_EXPONENTS = (3.0, 2.0, -1.0, 3.0)
#: So many times other operations and arguments are tried for a node; with few digits in the first half.
_TRIES = 40


@dataclass(frozen=True)
class Shape:
    """What a graph is to look like.

    operations  what the nodes are made of; each occurs
    depth       the number of operations on the longest way from an input to the output; None for any
    sharing     at least so many nodes, inputs not counted, are used more than once
    """

    nodes: int
    inputs: int
    operations: tuple[str, ...]
    depth: int | None
    sharing: int

    @property
    def needed(self) -> int:
        """How many arguments it takes: every input and node but the last is used, and so many once more."""
        return self.inputs + self.nodes - 1 + self.sharing

    @property
    def offered(self) -> int:
        """How many arguments the nodes can have at most."""
        forced = [moving_arguments(name) for name in self.operations]
        return sum(forced) + (self.nodes - len(forced)) * max(forced)

    @property
    def holds(self) -> int:
        """How many nodes a graph of this depth can have, if the output depends on all of them."""
        if self.depth is None:
            return self.nodes
        widest = max(map(moving_arguments, self.operations))
        total, row = 0, 1
        for _ in range(self.depth):
            total += row
            if total >= self.nodes:
                break
            row *= widest
        return total


def moving_arguments(operation: str) -> int:
    """Return how many arguments of an operation are inputs or nodes; an exponent is a literal number."""
    return 1 if operation == "pow" else OPERATIONS[operation].arity


class Corner(Exception):
    """The choices made so far cannot be completed, because of `reason`: a key of `generation`'s refusals."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass
class Builder:
    """The graph so far.

    values   id → number, of inputs and nodes
    levels   id → how many operations lie on the longest way to it
    uses     id → how often it is an argument
    left     the operations of the nodes to come
    """

    shape: Shape
    random: SplitMix64
    values: dict[str, float] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def build(self) -> tuple[dict[str, float], list[Node]]:
        """Return the inputs and the nodes, the last one being the output. Raises Corner."""
        self._draw_inputs()
        self._draw_operations()
        inputs = dict(self.values)
        while self.left:
            self._add_node()
        if self.shape.depth is not None and max(self.levels.values()) != self.shape.depth:
            raise Corner("depth")
        if self._shared() < self.shape.sharing:
            raise Corner("sharing")
        return inputs, self.nodes

    def _draw_inputs(self) -> None:
        magnitudes: list[float] = []
        coarse = self.shape.inputs <= _COARSE
        for number in range(1, self.shape.inputs + 1):
            # Distinct while there are enough: equal numbers hide mistakes.
            magnitudes = magnitudes or list(_MAGNITUDES[: _COARSE if coarse else None])
            magnitude = self.random.take(magnitudes)
            self.values[f"x{number}"] = magnitude if self.random.below(2) else -magnitude
        self.levels = dict.fromkeys(self.values, 0)

    def _draw_operations(self) -> None:
        shape, random = self.shape, self.random
        more = [random.pick(shape.operations) for _ in range(shape.nodes - len(shape.operations))]
        widest = max(shape.operations, key=moving_arguments)
        missing = shape.needed - sum(map(moving_arguments, [*shape.operations, *more]))
        for place, name in enumerate(more):
            if missing <= 0:
                break
            missing -= moving_arguments(widest) - moving_arguments(name)
            more[place] = widest
        self.left = [*shape.operations, *more]

    def _add_node(self) -> None:
        for attempt in range(_TRIES):
            place = self.random.below(len(self.left))
            operation = OPERATIONS[self.left[place]]
            moving = self._draw_arguments(moving_arguments(operation.name))
            args: list[Argument] = [*moving]
            if len(args) < operation.arity:
                args.append(self.random.pick(_EXPONENTS))
            numbers = [self.values[a] if isinstance(a, str) else a for a in args]
            result = operation.value(*numbers)
            if not suits(operation, numbers, result, [isinstance(a, str) for a in args]):
                continue
            if attempt < _TRIES // 2 and could_be_clean(operation, numbers) and not is_clean(result):
                continue
            break
        else:
            raise Corner("numbers")
        del self.left[place]
        name = f"n{len(self.nodes) + 1}" if self.left else "y"
        self.nodes.append(Node(name, operation.name, tuple(args)))
        self.values[name] = result
        self.levels[name] = 1 + max(self.levels[a] for a in moving)
        self.uses.update(moving)

    def _draw_arguments(self, count: int) -> list[str]:
        """Choose the arguments of the next node so that the nodes to come can use up what is unused."""
        unused = [name for name in self.values if not self.uses[name]]
        slots = sum(map(moving_arguments, self.left))
        # So many arguments may be what has been used before.
        spare = slots - (len(unused) + len(self.left) - 1)
        chosen: list[str] = []
        for _ in range(count):
            again = self._candidates([name for name in self.values if self.uses[name] and name not in chosen])
            once = self._candidates([name for name in unused if name not in chosen])
            if self.shape.depth is not None and not chosen:
                again, once = self._keep_to_depth(again), self._keep_to_depth(once)
            spend = self.random.below(slots) < spare
            if (spend or not once) and again:
                chosen.append(self._again(again))
                spare -= 1
            elif once:
                chosen.append(self.random.pick(once))
            elif chosen:
                chosen.append(chosen[0])
                spare -= 1
            else:
                raise Corner("depth")
            slots -= 1
        if spare < 0:
            raise Corner("sharing" if self.shape.depth is None else "depth")
        return chosen

    def _again(self, names: Sequence[str]) -> str:
        """Choose what is used once more: a node that was used once, while more of these are to be shared."""
        once = [name for name in names if self.uses[name] == 1 and self.levels[name]]
        return self.random.pick(once if once and self._shared() < self.shape.sharing else names)

    def _shared(self) -> int:
        return sum(count > 1 and self.levels[name] > 0 for name, count in self.uses.items())

    def _candidates(self, names: list[str]) -> list[str]:
        depth = self.shape.depth
        if depth is None:
            return names
        # Another node has to come on top of this one, unless it is the last.
        highest = depth - 1 if len(self.left) == 1 else depth - 2
        return [name for name in names if self.levels[name] <= highest]

    def _keep_to_depth(self, names: list[str]) -> list[str]:
        """Leave only the highest, where every node from here on has to add to the depth."""
        top = max(self.levels.values())
        assert self.shape.depth is not None
        if self.shape.depth - top < len(self.left):
            return names
        return [name for name in names if self.levels[name] == top]
