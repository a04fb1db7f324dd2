"""The orders in which the rules of a graph run.

The right one is a reversed topological order; a mistake in the pass is another sequence of slots. Where an engine keeps
children in a set, their order is anybody's guess, so an order has variants: arguments from left to right, from right to
left, and mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, combinations, islice
from typing import NamedTuple

from chainrule_engine.diagnosis.forms import Form
from chainrule_engine.diagnosis.passes import Rules, Wanted, Work, run

#: So many visits of nodes are made where an order repeats them.
MAX_VISITS = 2_000

Children = Sequence[tuple[int, ...]]


class Sequenced(NamedTuple):
    """A sequence of slots, in words how its order came about, and how unusual that is."""

    variant: str
    slots: tuple[int, ...]
    oddity: int


def _postorder(roots: Sequence[int], children: Children) -> list[int]:
    order: list[int] = []
    seen: set[int] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        slot, complete = stack.pop()
        if complete:
            order.append(slot)
        elif slot not in seen:
            seen.add(slot)
            stack.append((slot, True))
            stack.extend((child, False) for child in reversed(children[slot]) if child not in seen)
    return order


def _topological(roots: Sequence[int], children: Children) -> list[int]:
    return _postorder(roots, children)[::-1]


def _preorder(roots: Sequence[int], children: Children) -> list[int]:
    order: dict[int, None] = {}
    stack = list(reversed(roots))
    while stack:
        slot = stack.pop()
        if slot not in order:
            order[slot] = None
            stack.extend(reversed(children[slot]))
    return list(order)


def _preorder_by_stack(roots: Sequence[int], children: Children) -> list[int]:
    # Marked when it is put on the stack, not when it is taken off.
    order: list[int] = []
    stack = list(roots)
    seen = set(stack)
    while stack:
        slot = stack.pop()
        order.append(slot)
        for child in children[slot]:
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return order


def _breadth_first(roots: Sequence[int], children: Children) -> list[int]:
    order = dict.fromkeys(roots)
    queue = list(roots)
    for slot in queue:
        for child in children[slot]:
            if child not in order:
                order[child] = None
                queue.append(child)
    return queue


def _every_path(roots: Sequence[int], children: Children) -> list[int]:
    """Visit a node once for every path that leads there."""
    order: list[int] = []
    stack = list(reversed(roots))
    while stack:
        slot = stack.pop()
        order.append(slot)
        if below := children[slot]:
            stack.extend(reversed(below))
    return order


def _visits(form: Form, children: Children) -> int:
    """Return how many rules `_every_path` runs."""
    visits = [0] * form.size
    for root in form.outputs:
        visits[root] += 1
    total = 0
    for slot in reversed(form.order):
        total += visits[slot]
        for child in children[slot]:
            visits[child] += visits[slot]
    return total


Walk = Callable[[Sequence[int], Children], list[int]]

#: The orders by their words: the walks that make them.
ORDERS: dict[str, tuple[Walk, ...]] = {
    "topological": (_topological,),
    "every path": (_every_path,),
    "breadth first": (_breadth_first,),
    "preorder": (_preorder, _preorder_by_stack),
    "not reversed": (_postorder,),
}
#: Those that come out the same whatever the order of the children, when every rule is linear and adds.
_UNMOVED = ("topological", "not reversed")
_RIGHT_ORDER = "topological"


def sequences(form: Form, order: str, *, sensitive: bool = False, mixtures: int = 0) -> list[Sequenced]:
    """Return the sequences that engines with this order may run, without repetitions.

    sensitive   a rule gives something else where the uses of its result, or of an input, ran in another order
    mixtures    how many are tried that have some children from left to right and others from right to left
    """
    roots = [slot for slot in form.outputs if form.operations[slot]]
    children = form.children
    if order in _UNMOVED and not sensitive:
        return [Sequenced("", tuple(form.order if order == "not reversed" else form.order[::-1]), 0)]
    if form.is_tree and not sensitive:
        return sequences(form, _RIGHT_ORDER)
    if order == "every path" and _visits(form, children) > MAX_VISITS:
        return []
    found: dict[tuple[int, ...], Sequenced] = {}
    pivots = _pivots(form, order, sensitive)
    for odd, walk in enumerate(ORDERS[order]):
        for variant, ordered, oddity in _arrangements(children, pivots, mixtures):
            slots = tuple(walk(roots, ordered))
            found.setdefault(slots, Sequenced(variant, slots, oddity + odd))
    if order == "every path":
        operations = form.operations
        repeated = [tuple(a for a in args if operations[a]) for args in form.args]
        if repeated != children and _visits(form, repeated) <= MAX_VISITS:
            # From right to left also without recursion: a topological sort with no set of visited nodes, reversed.
            for odd, ordered in enumerate((repeated, [below[::-1] for below in repeated]), start=1):
                slots = tuple(_every_path(roots, ordered))
                found.setdefault(slots, Sequenced("children in a list", slots, odd))
    return list(found.values())


def _arrangements(children: Children, pivots: Sequence[int], mixtures: int) -> Iterator[tuple[str, Children, int]]:
    """Yield orders of the children: left to right, right to left, and mixtures of the two."""
    yield "children from left to right", children, 0
    if not pivots:
        return
    yield "children from right to left", _turned(children, pivots), 1
    flips = (flipped for size in range(1, len(pivots)) for flipped in combinations(pivots, size))
    for flipped in islice(flips, mixtures):
        yield "children in a set", _turned(children, flipped), 2


def _turned(children: Children, flipped: Iterable[int]) -> Children:
    turned = list(children)
    for slot in flipped:
        turned[slot] = turned[slot][::-1]
    return turned


def _pivots(form: Form, order: str, sensitive: bool) -> list[int]:
    """Return the nodes where the order of the children can matter, those near the output first."""
    if order == "breadth first" or sensitive:
        return [slot for slot in reversed(form.order) if len(form.children[slot]) > 1]
    return [slot for slot in reversed(form.order) if form.shared[slot]]


def arranged(
    form: Form,
    rules: Rules,
    order: str,
    start: Sequence[float],
    accepts: Wanted,
    work: Work,
) -> list[float] | None:
    """Return gradients of an engine with this order that has the children of each node in an order that fits.

    The gradients that are wanted are looked at one after another, those first that fewest orders concern: only orders
    that give the first are tried with those that concern the second, and so on.

    work   nothing more comes when none is left
    """
    if order == "every path" and _visits(form, form.children) > MAX_VISITS:
        return None
    pivots = _pivots(form, order, sensitive=False)
    moved = _moved(form, order, pivots)
    wanted = sorted(accepts, key=lambda slot: sum(bits >> slot & 1 for bits in moved.values()))
    for walk in ORDERS[order]:
        search = _Search(form, rules, walk, start, work)
        fitting: list[tuple[int, ...]] = [()]
        decided: set[int] = set()
        for number, slot in enumerate(wanted):
            open_ = [pivot for pivot in pivots if moved[pivot] >> slot & 1 and pivot not in decided]
            if len(open_) > _FEW:
                open_ = search.concerned(slot, fitting[0], open_)
            decided.update(open_)
            flips = [(*chosen, *flipped) for chosen in fitting[:_MOST_KEPT] for flipped in _subsets(open_)]
            fitting = search.giving({known: accepts[known] for known in wanted[: number + 1]}, flips)
            if not fitting:
                break
        else:
            return search.gradients(fitting[0])
    return None


#: With more undecided orders, those that matter are found by trying each alone.
_FEW = 7
#: So many orders are kept that give what has been looked at; and so many are tried together at most.
_MOST_KEPT, _MOST_OPEN = 32, 11


class _Search:
    """Runs of one engine with the children of some nodes turned round."""

    def __init__(self, form: Form, rules: Rules, walk: Walk, start: Sequence[float], work: Work) -> None:
        self._form, self._rules, self._walk, self._start, self._work = form, rules, walk, start, work
        self._roots = [slot for slot in form.outputs if form.operations[slot]]

    def gradients(self, flipped: Sequence[int]) -> list[float]:
        """Return the gradients of all slots."""
        slots = self._walk(self._roots, _turned(self._form.children, flipped))
        self._work.left -= len(slots)
        gradients = list(self._start)
        run(slots, self._rules, gradients)
        return gradients

    def giving(self, accepts: Wanted, flips: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return those that give what is wanted, one of those with the same gradients; none when no work is left."""
        found: dict[tuple[float, ...], tuple[int, ...]] = {}
        for flipped in flips:
            gradients = self.gradients(flipped)
            if self._work.left < 0:
                return []
            if all(is_wanted(gradients[slot]) for slot, is_wanted in accepts.items()):
                found.setdefault(tuple(gradients), flipped)
        return list(found.values())

    def concerned(self, slot: int, chosen: tuple[int, ...], pivots: Sequence[int]) -> list[int]:
        """Return the pivots that, turned round alone, change the gradient of a slot; at most _MOST_OPEN."""
        found: dict[int, None] = {}
        for others in ((), pivots):
            base = self.gradients((*chosen, *others))[slot]
            for pivot in pivots:
                turned = {*others} ^ {pivot}
                if pivot not in found and self._work.left > 0 and self.gradients((*chosen, *turned))[slot] != base:
                    found[pivot] = None
        return list(found)[:_MOST_OPEN]


def _subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def _moved(form: Form, order: str, pivots: Sequence[int]) -> dict[int, int]:
    """Return for each pivot the set of bits of the slots whose gradient the order of its children may change."""
    children, under = form.children, form.under
    late = 0
    if order == "breadth first":
        # What is used by a node of its own level may run before that or after it.
        roots = [slot for slot in form.outputs if form.operations[slot]]
        level = _levels(roots, children)
        for slot in level:
            for child in children[slot]:
                if level[child] == level[slot]:
                    late |= under[child]
    moved = {}
    for pivot in pivots:
        bits = late
        if order != "breadth first":
            for slot in form.order:
                if form.shared[pivot] >> slot & 1:
                    bits |= under[slot]
        moved[pivot] = bits
    return moved


def _levels(roots: Sequence[int], children: Children) -> dict[int, int]:
    level = dict.fromkeys(roots, 0)
    for slot in (queue := list(roots)):
        for child in children[slot]:
            if child not in level:
                level[child] = level[slot] + 1
                queue.append(child)
    return level
