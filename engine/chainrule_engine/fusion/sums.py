"""Sums of products in a graph: b + Σ wᵢ·xᵢ, with a bias and weights that are the same at every point."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from chainrule_engine.kernels import Instruction
from chainrule_engine.operations import ONE, Constant, Operand, Operation
from chainrule_engine.tape import Tape


@dataclass(eq=False)
class Unit:
    """A sum of products: the slot of its bias (None without) and (weight, x, position of the product) of each term.

    inner   the positions of the instructions that it takes the place of, the last addition included
    """

    position: int
    bias: int | None
    terms: list[tuple[int, int, int]]
    inner: list[int]

    @property
    def xs(self) -> tuple[int, ...]:
        """The slots of the rows that the weights multiply."""
        return tuple(x for _, x, _ in self.terms)


def _is_closed(operation: Operation, partial: Callable[..., float]) -> bool:
    """Tell whether no gradient ever flows back along an argument."""
    return operation.selective and isinstance(partial, Constant) and partial.number == 0.0


def _is_product(operation: Operation) -> bool:
    return operation.value is operator.mul and operation.partials == (Operand(1), Operand(0))


def _is_sum(operation: Operation) -> bool:
    return operation.value is operator.add and operation.partials == (ONE, ONE)


class Program:
    """What the tape says about the part that the loss and the predictions need."""

    def __init__(self, tape: Tape, parameters: Iterable[int], data: Iterable[int], outputs: Collection[int]) -> None:
        self.parameters = list(parameters)
        self.data = {slot: place for place, slot in enumerate(data)}
        self.outputs = set(outputs)
        self.loss = next(iter(outputs))
        needed = set(outputs)
        instructions: list[Instruction] = []
        for instruction in reversed(tape.instructions):
            if instruction.target in needed:
                instructions.append(instruction)
                needed.update(instruction.args)
        instructions.reverse()
        self.instructions = instructions
        # Dense operations know how to multiply and add; whether an operation does just that is the table's to say.
        operations = {instruction.operation.name: instruction.operation for instruction in instructions}
        self.multiplying = {name for name, operation in operations.items() if _is_product(operation)}
        self.adding = {name for name, operation in operations.items() if _is_sum(operation)}
        self.made_by = {instruction.target: position for position, instruction in enumerate(instructions)}
        self.literals: dict[int, float | int] = dict(tape.literals)
        varying = {*self.data, *self.made_by, *self.parameters}
        self.literals |= {slot: slot for slot in tape.slots.values() if slot in needed and slot not in varying}
        self.uniform = {*self.parameters, *self.literals}
        self.uses: dict[int, int] = defaultdict(int)
        # Slots whose gradient some parameter's depends on.
        wanted = set(self.parameters)
        for target, operation, args in instructions:
            for partial, slot in zip(operation.partials, args, strict=True):
                self.uses[slot] += 1
                if slot in wanted and not _is_closed(operation, partial):
                    wanted.add(target)
        self.wanted = wanted
        # By slot, (position, place) of each use that adds to its gradient, in the order in which they do.
        self.pulls: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.masked = False
        reached = {self.loss}
        for position in range(len(instructions) - 1, -1, -1):
            target, operation, args = instructions[position]
            if target not in reached or target not in wanted:
                continue
            for place, (partial, slot) in enumerate(zip(operation.partials, args, strict=True)):
                if slot not in wanted:
                    continue
                if _is_closed(operation, partial):
                    continue
                self.masked = self.masked or (operation.selective and not isinstance(partial, Constant))
                reached.add(slot)
                self.pulls[slot].append((position, place))
        self.pulling = {pull for pulls in self.pulls.values() for pull in pulls}
        #: Positions of additions that are known to end no sum of products, or none that can be used.
        self.no_units: set[int] = set()

    def _is_inner(self, slot: int) -> bool:
        return slot in self.made_by and self.uses[slot] == 1 and slot not in self.outputs

    def _product(self, slot: int) -> tuple[int, int, int] | None:
        """Return (weight, x, position) where the slot is a product that only one sum uses."""
        if not self._is_inner(slot):
            return None
        position = self.made_by[slot]
        _, operation, args = self.instructions[position]
        if operation.name not in self.multiplying:
            return None
        for weight, x in (args, args[::-1]):
            if self._is_weight(weight) and x not in self.uniform:
                return weight, x, position
        return None

    def _is_weight(self, slot: int) -> bool:
        return slot in self.literals or (slot in self.uniform and self.uses[slot] == 1 and slot not in self.outputs)

    def unit(self, top: int) -> Unit | None:
        """Return the sum of products whose last addition is at this position."""
        if top in self.no_units:
            return None
        terms: list[tuple[int, int, int]] = []
        additions: list[int] = []
        slot = self.instructions[top].target
        bias: int | None = None
        while True:
            position = self.made_by.get(slot)
            if position is None or self.instructions[position].operation.name not in self.adding:
                break
            if position != top and not self._is_inner(slot):
                break
            additions.append(position)
            left, right = self.instructions[position].args
            rest, term = left, self._product(right)
            if term is None:
                rest, term = right, self._product(left)
            if term is None:
                break
            terms.append(term)
            first = None
            if self._is_weight(rest):
                bias = rest
            elif (first := self._product(rest)) is not None:
                terms.append(first)
            else:
                slot = rest
                continue
            # One x in two terms of a sum would receive two additions, which a dense operation does not make.
            repeated = _repeated(terms)
            if repeated:
                additions = additions[:repeated]
                break
            terms.reverse()
            return Unit(top, bias, terms, additions + [place for _, _, place in terms])
        # Each of these would lead to the same end, and is not to be walked from again: a long sum has many.
        self.no_units.update(additions)
        return None


def _repeated(terms: Sequence[tuple[int, int, int]]) -> int:
    """Return how many terms have to go, from the first, until no x occurs twice in the rest."""
    seen: set[int] = set()
    for place in range(len(terms) - 1, -1, -1):
        x = terms[place][1]
        if x in seen:
            return place + 1
        seen.add(x)
    return 0
