"""The nodes of a graph in columns, and the order of their evaluation.

A hundred thousand nodes are a few lists and arrays here; a `Node` is made for whoever asks for one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, overload

from chainrule_engine import acceleration
from chainrule_engine.operations import CODES, OPERATIONS

Argument = str | float

_NAMES = tuple(OPERATIONS)
#: So many items of a long list are looked at together: they stay in the processor's cache from one look to the next.
BLOCK = 256


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: `id` names its result, `args` are ids or literal numbers."""

    id: str
    op: str
    args: tuple[Argument, ...]


class Nodes(Sequence[Node]):
    """The nodes of a graph in the order of their declaration; equal to any sequence of equal nodes.

    names       the ids of the inputs, then those of the nodes
    slots       id → its position among the names
    first       the slot of the first node: how many inputs there are
    codes       the operation of each node, by its place in the table
    sources     the arguments of the first node, of the second, …: a slot, or -1 - k for the literal number k
    starts      where the sources of each node begin, and at last where they end
    literals    the distinct literal numbers; 0.0 and -0.0 are two
    """

    __slots__ = ("codes", "first", "literals", "names", "slots", "sources", "starts")

    def __init__(
        self,
        inputs: Iterable[str],
        ids: Iterable[str],
        codes: bytes,
        arities: Iterable[int],
        args: Sequence[Argument],
    ) -> None:
        """Take the columns of a node list, `args` being the arguments of the first node, of the second, and so on.

        Raises KeyError for an argument that is no id of an input or node.
        """
        self.names = [*inputs]
        self.first = len(self.names)
        self.names += ids
        self.slots = dict(zip(self.names, range(len(self.names)), strict=True))
        slot_of: Callable[[Argument], int | None] = self.slots.get  # type: ignore[assignment]  # a number is no id
        self.codes = codes
        self.starts = array("i", accumulate(arities, initial=0))
        self.sources = array("i")
        self.literals = array("d")
        places: dict[Argument, int] = {}  # among the literals
        for low in range(0, len(args), BLOCK):
            block = args[low : low + BLOCK]
            sources: list[Any] = list(map(slot_of, block))
            if None in sources:
                for k, (source, number) in enumerate(zip(sources, block, strict=True)):
                    if source is not None:
                        continue
                    if isinstance(number, str):
                        raise KeyError(number)
                    key = number if number else repr(number)
                    if key not in places:
                        places[key] = len(places)
                        self.literals.append(number)
                    sources[k] = -1 - places[key]
            self.sources.fromlist(sources)

    @classmethod
    def of(cls, inputs: Iterable[str], nodes: Sequence[Node]) -> Nodes:
        """Take nodes one by one."""
        args = [node.args for node in nodes]
        codes = bytes(CODES[node.op] for node in nodes)
        return cls(inputs, (node.id for node in nodes), codes, map(len, args), list(chain.from_iterable(args)))

    @property
    def ids(self) -> list[str]:
        """The ids of the nodes."""
        return self.names[self.first :]

    def __len__(self) -> int:
        return len(self.names) - self.first

    @overload
    def __getitem__(self, position: int) -> Node: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, position: int | slice) -> Node | tuple[Node, ...]:
        if isinstance(position, slice):
            return tuple(self[k] for k in range(*position.indices(len(self))))
        position = range(len(self))[position]
        sources = self.sources[self.starts[position] : self.starts[position + 1]]
        args = tuple(self.names[s] if s >= 0 else self.literals[-1 - s] for s in sources)
        return Node(self.names[self.first + position], _NAMES[self.codes[position]], args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Node.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(tuple(self))


def evaluation_order(nodes: Nodes, outputs: Iterable[str]) -> array[int] | None:
    """Return the positions of the nodes in the contract's order, None when there is a cycle."""
    first = nodes.first
    roots = [slot - first for slot in map(nodes.slots.__getitem__, outputs) if slot >= first]
    compiled = acceleration.find(len(nodes))
    if compiled is not None:
        found: array[int] | None = compiled.depth_first(nodes.starts, nodes.sources, first, roots)
        return found
    sources = nodes.sources.tolist()
    # Where the next argument of each node is, and where its last one ends.
    after, ends = nodes.starts.tolist(), nodes.starts[1:].tolist()
    new, open_, done = 0, 1, 2
    state = [new] * len(nodes)
    order = array("i")
    for root in chain(roots, range(len(nodes))):
        if state[root] != new:
            continue
        state[root] = open_
        stack = [root]
        while stack:
            node = stack[-1]
            place, end = after[node], ends[node]
            while place < end:
                argument = sources[place] - first
                place += 1
                if argument >= 0 and state[argument] != done:
                    if state[argument] == open_:
                        return None
                    state[argument] = open_
                    stack.append(argument)
                    break
            else:
                stack.pop()
                state[node] = done
                order.append(node)
                continue
            after[node] = place
    return order
