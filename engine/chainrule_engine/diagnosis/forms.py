"""A graph as different students build it: subtraction as the sum with a negation, division as a product with a power.

A mistake in multiplication shows in a quotient only where the student's engine divides by multiplying. So a graph has
several *forms*: one for each choice of how `sub`, `neg`, `div`, `tanh` and `sigmoid` are made. All forms of a graph
keep the slots of its tape for what it names itself; what an engine makes in between has slots behind these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from chainrule_engine.elementary import divide
from chainrule_engine.lazily import lazy
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.tape import Tape

#: (slot, local derivative) for each argument that takes a gradient.
Edges = tuple[tuple[int, float], ...]


class Choice(NamedTuple):
    """How an engine makes one operation of others: `build` emits the nodes, `uses` are the operations it takes."""

    name: str
    uses: tuple[str, ...]
    build: Callable[[Form, int, tuple[int, ...]], None]


def _sub_by_neg(form: Form, target: int, args: tuple[int, ...]) -> None:
    x, y = args
    form.emit("add", (x, form.make("neg", (y,))), target)


def _neg_by_mul(form: Form, target: int, args: tuple[int, ...]) -> None:
    form.emit("mul", (args[0], form.constant(-1.0)), target)


def _div_by_pow(form: Form, target: int, args: tuple[int, ...]) -> None:
    x, y = args
    if form.constants[y]:
        # In Python `x * 2.0 ** -1`: the power of two plain numbers makes no node.
        form.emit("mul", (x, form.constant(divide(1.0, form.values[y]))), target)
    else:
        form.emit("mul", (x, form.make("pow", (y, form.constant(-1.0)))), target)


def _tanh_by_exp(form: Form, target: int, args: tuple[int, ...]) -> None:
    e = form.make("exp", (form.make("mul", (form.constant(2.0), args[0])),))
    below = form.make("add", (e, form.constant(1.0)))
    form.apply("div", (form.make("sub", (e, form.constant(1.0))), below), target)


def _sigmoid_by_exp(form: Form, target: int, args: tuple[int, ...]) -> None:
    e = form.make("exp", (form.make("neg", (args[0],)),))
    form.apply("div", (form.constant(1.0), form.make("add", (form.constant(1.0), e))), target)


#: Besides having a rule of its own, an operation may be made of others.
CHOICES: dict[str, tuple[Choice, ...]] = {
    "sub": (Choice("x + (-y)", ("add", "neg"), _sub_by_neg),),
    "neg": (Choice("x * -1", ("mul",), _neg_by_mul),),
    "div": (Choice("x * y**-1", ("mul", "pow"), _div_by_pow),),
    "tanh": (Choice("(e - 1)/(e + 1)", ("mul", "exp", "sub", "add", "div"), _tanh_by_exp),),
    "sigmoid": (Choice("1/(1 + exp(-x))", ("neg", "exp", "add", "div"), _sigmoid_by_exp),),
}

#: Operation → its choice, for those that do not have a rule of their own.
Style = Mapping[str, Choice]


#: Seldom made of others; so only where everything is.
_SELDOM = "sigmoid"


def styles(operations: frozenset[str]) -> list[Style]:
    """Return the ways to build a graph with these operations, those with most rules of their own first."""
    found: dict[frozenset[str], Style] = {}
    for picked in product(*((None, *choices) for choices in CHOICES.values())):
        style = {name: choice for name, choice in zip(CHOICES, picked, strict=True) if choice is not None}
        if _SELDOM in style and len(style) < len(CHOICES):
            continue
        used = occurring(operations, style)
        relevant = {name: choice for name, choice in style.items() if name in used}
        found.setdefault(frozenset(relevant), relevant)
    return sorted(found.values(), key=len)


def occurring(operations: frozenset[str], style: Style) -> frozenset[str]:
    """Return these operations and all that the style makes them of."""
    used: set[str] = set()
    stack = list(operations)
    while stack:
        name = stack.pop()
        if name not in used:
            used.add(name)
            if name in style:
                stack.extend(style[name].uses)
    return frozenset(used)


class Form:
    """A graph in one style, with its values and its right local derivatives.

    style       of the engine
    wraps       whether the engine makes a node of a number on the left of + and *; otherwise, as Python has it, 2 * x
                is x.__rmul__(2), that is x * 2
    known       a form of the same graph with the same values, whose rules need not be made again
    operations  by slot: the name, "" for an input or a constant
    args        by slot
    values      by slot
    constants   by slot: whether it takes no gradient
    order       the slots of the operations below the outputs, arguments before results
    outputs     slot → seed
    """

    def __init__(
        self,
        tape: Tape,
        values: Sequence[float],
        seeds: Mapping[int, float],
        style: Style,
        forward: Mapping[str, Callable[..., float]] | None = None,
        *,
        wraps: bool = False,
        known: Form | None = None,
    ) -> None:
        size = tape.size
        self.style, self.size = style, size
        self.operations = [""] * size
        self.args: list[tuple[int, ...]] = [()] * size
        self.values = list(values)
        inputs = len(tape.graph.inputs)
        self.constants = [inputs <= slot < inputs + len(tape.graph.nodes.literals) for slot in range(size)]
        self.outputs = dict(seeds)
        self._wraps, self._known = wraps, known
        self._forward = forward or {}
        self._emitted: list[int] = []
        for target, operation, args in tape.instructions:
            self.apply(operation.name, args, target)
        self.order = self._below_outputs()

    def apply(self, name: str, args: tuple[int, ...], target: int) -> None:
        """Add an operation in this style."""
        choice = self.style.get(name)
        if choice is None:
            self.emit(name, args, target)
        else:
            choice.build(self, target, args)

    def make(self, name: str, args: tuple[int, ...]) -> int:
        """Add an operation of the engine's own and return its slot."""
        target = self._slot(0.0, constant=False)
        self.apply(name, args, target)
        return target

    def constant(self, number: float) -> int:
        """Add a constant and return its slot."""
        return self._slot(number, constant=True)

    def emit(self, name: str, args: tuple[int, ...], target: int) -> None:
        """Add an operation that has a rule."""
        if name in ("add", "mul") and self.constants[args[0]] and not self._wraps:
            args = args[1], args[0]
        self.operations[target], self.args[target] = name, args
        if self._known is None or target >= self._known.size:
            value = self._forward.get(name, OPERATIONS[name].value)
            self.values[target] = value(*[self.values[a] for a in args])
        self._emitted.append(target)

    def _slot(self, number: float, constant: bool) -> int:
        self.operations.append("")
        self.args.append(())
        self.values.append(number)
        self.constants.append(constant)
        self.size += 1
        return self.size - 1

    def _below_outputs(self) -> list[int]:
        wanted = bytearray(self.size)
        for output in self.outputs:
            wanted[output] = 1
        order = []
        for target in reversed(self._emitted):
            if wanted[target]:
                order.append(target)
                for a in self.args[target]:
                    wanted[a] = 1
        order.reverse()
        return order

    @lazy
    def rules(self) -> list[Edges]:
        """The right rule of every slot."""
        known = self._known
        if known is None:
            return self.rules_at(self.values)
        same = {
            slot: known.rules[slot]
            for slot in known.order
            if self.operations[slot] == known.operations[slot] and self.args[slot] == known.args[slot]
        }
        rules = self.rules_at(self.values, [slot for slot in self.order if slot not in same])
        for slot, edges in same.items():
            rules[slot] = edges
        return rules

    def rules_at(self, values: Sequence[float], slots: Sequence[int] | None = None) -> list[Edges]:
        """Return the rule of every slot, or of these, where the slots have these values."""
        rules: list[Edges] = [()] * self.size
        constants = self.constants
        for target in self.order if slots is None else slots:
            operation, args = OPERATIONS[self.operations[target]], self.args[target]
            numbers = [*[values[a] for a in args], values[target]]
            edges = [
                (a, partial(*numbers)) for a, partial in zip(args, operation.partials, strict=True) if not constants[a]
            ]
            rules[target] = tuple(e for e in edges if e[1] != 0.0) if operation.selective else tuple(edges)
        return rules

    @lazy
    def by_operation(self) -> dict[str, list[int]]:
        """Operation → the slots of its nodes, in the order of evaluation."""
        found: dict[str, list[int]] = {}
        for target in self.order:
            found.setdefault(self.operations[target], []).append(target)
        return found

    @lazy
    def users(self) -> dict[int, list[int]]:
        """Slot of what takes a gradient → the operations that use it, in the order of evaluation."""
        found: dict[int, list[int]] = {}
        for target in self.order:
            for used in dict.fromkeys(self.args[target]):
                if not self.constants[used]:
                    found.setdefault(used, []).append(target)
        return found

    @lazy
    def children(self) -> list[tuple[int, ...]]:
        """By slot: the distinct arguments that are results of operations, in their order."""
        operations = self.operations
        return [tuple(dict.fromkeys(a for a in args if operations[a])) for args in self.args]

    @lazy
    def below(self) -> list[int]:
        """By slot: a set of bits, those of the slots of operations that it is computed from, itself included."""
        found = [0] * self.size
        for target in self.order:
            bits = 1 << target
            for child in self.children[target]:
                bits |= found[child]
            found[target] = bits
        return found

    @lazy
    def shared(self) -> list[int]:
        """By slot: the set of bits of those that more than one of its children are computed from."""
        found = [0] * self.size
        for target in self.order:
            seen = 0
            for child in self.children[target]:
                found[target] |= seen & self.below[child]
                seen |= self.below[child]
        return found

    @lazy
    def under(self) -> list[int]:
        """By slot: the set of bits of everything that it is computed from, inputs included and itself not."""
        found = [0] * self.size
        for target in self.order:
            for a in self.args[target]:
                found[target] |= found[a] | 1 << a
        return found

    @lazy
    def is_tree(self) -> bool:
        """Whether no result of an operation is used by two others: then the order of the rules does not matter."""
        seen: set[int] = set()
        for target in self.order:
            for child in self.children[target]:
                if child in seen:
                    return False
                seen.add(child)
        return True
