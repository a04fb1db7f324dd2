"""The backward pass as a student's engine may run it: in which order, how often, and writing `=` or `+=`.

A pass is a sequence of slots whose rules run one after another. The right one is a reversed topological order; a
mistake in the pass is another sequence. Where an engine keeps children in a set, their order is anybody's guess, so an
order has variants: arguments from left to right, from right to left, and mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, combinations, islice, pairwise
from operator import or_
from typing import Any, NamedTuple

from chainrule_engine.diagnosis.forms import Edges, Form

#: A mistaken rule that is not linear in the upstream gradient: (gradients, upstream) → (slot, contribution) for each
#: argument.
Rule = Callable[[list[float], float], Sequence[tuple[int, float]]]
Rules = Sequence[Edges | Rule]

#: So many visits of nodes are made where an order repeats them.
MAX_VISITS = 2_000
#: So many mixtures of orders are tried where these cannot be chosen to fit.
MIXTURES = 12

Children = Sequence[tuple[int, ...]]


@dataclass
class Work:
    """What is left to be spent."""

    left: int


class Sequenced(NamedTuple):
    """A sequence of slots, in words how its order came about, and how unusual that is."""

    variant: str
    slots: tuple[int, ...]
    oddity: int


def run(slots: Sequence[int], rules: Rules, gradients: list[float]) -> None:
    """Run the rules of these slots in turn, adding to the gradients."""
    for slot in slots:
        rule = rules[slot]
        upstream = gradients[slot]
        if rule.__class__ is tuple:
            for target, local in rule:
                gradients[target] += local * upstream
        else:
            for target, contribution in rule(gradients, upstream):  # type: ignore[operator]  # a rule
                gradients[target] += contribution


def run_assigning(slots: Sequence[int], rules: Rules, gradients: list[float], assigns: Sequence[int]) -> None:
    """Run the rules; those of the slots that `assigns` marks write over the gradient that was there."""
    for slot in slots:
        rule = rules[slot]
        upstream = gradients[slot]
        if rule.__class__ is tuple:
            shares: Sequence[tuple[int, float]] = [(target, local * upstream) for target, local in rule]
        else:
            shares = rule(gradients, upstream)  # type: ignore[operator]
        if assigns[slot]:
            for target, contribution in shares:
                gradients[target] = contribution
        else:
            for target, contribution in shares:
                gradients[target] += contribution


# ------------------------------------------------------------------------------------------------------- orders


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

#: What an engine does before its second pass.
AGAIN = ("nothing cleared", "inputs cleared")


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
        if _visits(form, repeated) <= MAX_VISITS:
            slots = tuple(_every_path(roots, repeated))
            found.setdefault(slots, Sequenced("children in a list", slots, 1))
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
    accepts: Mapping[int, Callable[[float], bool]],
    work: Work,
) -> Iterator[list[float]]:
    """Yield gradients of engines with this order that have the children of each node in an order that fits.

    The gradients that are wanted are looked at one after another, those first that fewest orders concern: only orders
    that give the first are tried with those that concern the second, and so on.

    accepts   slot → whether a gradient is the one that is wanted there
    work      is counted in rules that are run; nothing more comes when none is left
    """
    roots = [slot for slot in form.outputs if form.operations[slot]]
    if order == "every path" and _visits(form, form.children) > MAX_VISITS:
        return
    pivots = _pivots(form, order, sensitive=False)
    moved = _moved(form, order, pivots)
    wanted = sorted(accepts, key=lambda slot: sum(bits >> slot & 1 for bits in moved.values()))
    children = form.children
    for walk in ORDERS[order]:
        fitting: list[tuple[int, ...]] = [()]
        decided: set[int] = set()
        gradients: list[float] = []
        checked: list[int] = []
        for slot in wanted:
            undecided = [pivot for pivot in pivots if moved[pivot] >> slot & 1 and pivot not in decided]
            decided.update(undecided)
            checked.append(slot)
            before, fitting = fitting, []
            for chosen in before:
                for flipped in _subsets(undecided):
                    slots = walk(roots, _turned(children, (*chosen, *flipped)))
                    work.left -= len(slots)
                    if work.left < 0:
                        return
                    gradients = list(start)
                    run(slots, rules, gradients)
                    if all(accepts[known](gradients[known]) for known in checked):
                        fitting.append((*chosen, *flipped))
            if not fitting:
                break
        else:
            for chosen in fitting[:1]:
                gradients = list(start)
                run(walk(roots, _turned(children, chosen)), rules, gradients)
                yield gradients


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


# ------------------------------------------------------------------------------------------------- = for +=


def survivors(
    form: Form,
    rules: Rules,
    start: Sequence[float],
    accepts: Mapping[int, Callable[[float], bool]],
    work: Work,
) -> Iterator[list[float]]:
    """Yield gradients of an engine that writes `=` in every rule, if one gives what is wanted.

    Of a value with several uses the term of the last one remains. Every engine that keeps children in a set runs some
    topological order, so which use that is depends on chance, but it is none that must come before another. A gradient
    is then what comes down one path from an output: for each that is wanted the paths are tried, of those that agree
    with the paths that were taken for others.

    accepts   slot → whether a gradient is the one that is wanted there
    work      is counted in rules that are run; nothing comes when none is left
    """
    uses = _last_uses(form, rules)
    fitting: list[dict[int, int]] = [{}]
    for slot, is_wanted in accepts.items():
        before, fitting = fitting, []
        for taken in before:
            for path in _paths(slot, uses, taken):
                work.left -= 5 * len(path)
                if work.left < 0:
                    return
                upstream = start[path[-1]]
                for user, target in zip(path[:0:-1], path[-2::-1], strict=True):
                    upstream = _term(rules[user], target, upstream)
                if is_wanted(upstream):
                    fitting.append(taken | dict(pairwise(path)))
                if len(fitting) > _MOST_TAKEN:
                    break
        if not fitting:
            return
    taken = fitting[0]
    gradients = list(start)
    inputs = [slot for slot in uses if not form.operations[slot]]
    for slot in [*reversed(form.order), *inputs]:
        if slot in uses:
            user = taken.get(slot, uses[slot][0])
            gradients[slot] = _term(rules[user], slot, gradients[user])
    yield gradients


#: So many choices of last uses are kept that agree with what has been looked at.
_MOST_TAKEN = 24


def _last_uses(form: Form, rules: Rules) -> dict[int, list[int]]:
    """Return by slot the operations that use it and may be the last to run."""
    uses: dict[int, dict[int, None]] = {}
    constants = form.constants
    for user in form.order:
        rule = rules[user]
        targets = [a for a, _ in rule] if rule.__class__ is tuple else form.args[user]
        for a in targets:
            if not constants[a]:
                uses.setdefault(a, {})[user] = None
    below = form.below
    last = {}
    for slot, users in uses.items():
        if len(users) > 1:
            bits = reduce(or_, [1 << user for user in users])
            last[slot] = [user for user in users if below[user] & bits == 1 << user]
        else:
            last[slot] = list(users)
    return last


def _paths(slot: int, uses: Mapping[int, Sequence[int]], taken: Mapping[int, int]) -> Iterator[list[int]]:
    """Yield the ways from a slot through a last use, a last use of that, and so on, to one that has none."""
    stack = [[slot]]
    while stack:
        path = stack.pop()
        end = path[-1]
        while end in uses:
            if end in taken:
                end = taken[end]
            else:
                end, *others = uses[end]
                stack.extend([*path, other] for other in others)
            path.append(end)
        yield path


def _term(rule: Edges | Rule, slot: int, upstream: float) -> float:
    """Return the last thing that a rule writes to the gradient of a slot."""
    shares = (
        [(target, local * upstream) for target, local in rule] if isinstance(rule, tuple) else rule(_NONE, upstream)
    )
    return next((share for target, share in reversed(shares) if target == slot), 0.0)


class _Nothing(list[float]):
    """The gradients before any is written."""

    def __getitem__(self, slot: object) -> Any:
        return 0.0


_NONE = _Nothing()
