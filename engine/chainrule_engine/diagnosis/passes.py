"""The backward pass as a student's engine may run it: in which order, how often, and writing `=` or `+=`.

A pass is a sequence of slots whose rules run one after another. The right one is a reversed topological order; a
mistake in the pass is another sequence. Where an engine keeps children in a set, their order is anybody's guess, so an
order has variants: arguments from left to right, from right to left, and mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice
from typing import NamedTuple

from chainrule_engine.diagnosis.forms import Edges, Form

#: A mistaken rule that is not linear in the upstream gradient: (gradients, upstream) → (slot, contribution) for each
#: argument.
Rule = Callable[[list[float], float], Sequence[tuple[int, float]]]
Rules = Sequence[Edges | Rule]

#: So many variants of one order are tried; so many visits of nodes where an order repeats them.
MAX_VARIANTS, MAX_VISITS = 40, 4_000

Children = Callable[[int], tuple[int, ...]]


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
            stack.extend((child, False) for child in reversed(children(slot)) if child not in seen)
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
            stack.extend(reversed(children(slot)))
    return list(order)


def _preorder_by_stack(roots: Sequence[int], children: Children) -> list[int]:
    # Marked when it is put on the stack, not when it is taken off.
    order: list[int] = []
    stack = list(roots)
    seen = set(stack)
    while stack:
        slot = stack.pop()
        order.append(slot)
        for child in children(slot):
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return order


def _breadth_first(roots: Sequence[int], children: Children) -> list[int]:
    order = dict.fromkeys(roots)
    queue = list(roots)
    for slot in queue:
        for child in children(slot):
            if child not in order:
                order[child] = None
                queue.append(child)
    return queue


def _every_path(roots: Sequence[int], children: Children) -> list[int]:
    """Visit a node once for every path that leads there; an empty list where these are too many."""
    order: list[int] = []
    stack = list(reversed(roots))
    while stack:
        slot = stack.pop()
        order.append(slot)
        if len(order) > MAX_VISITS:
            return []
        stack.extend(reversed(children(slot)))
    return order


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


def sequences(form: Form, order: str, *, sensitive: bool = False) -> list[Sequenced]:
    """Return the sequences that engines with this order may run, without repetitions, at most MAX_VARIANTS.

    sensitive   a rule gives something else where the uses of its result, or of an input, ran in another order
    """
    roots = [slot for slot in form.outputs if form.operations[slot]]
    children = form.children
    if order in _UNMOVED and not sensitive:
        return [Sequenced("", tuple(walk(roots, children.__getitem__)), 0) for walk in ORDERS[order]]
    if form.is_tree and not sensitive:
        return sequences(form, _RIGHT_ORDER)
    found: dict[tuple[int, ...], Sequenced] = {}
    pivots = _pivots(form, order, sensitive)
    for odd, walk in enumerate(ORDERS[order]):
        for variant, ordered, oddity in _arrangements(form, pivots):
            if len(found) >= MAX_VARIANTS:
                break
            if slots := tuple(walk(roots, ordered)):
                found.setdefault(slots, Sequenced(variant, slots, oddity + odd))
    if order == "every path":
        operations = form.operations
        repeated = [tuple(a for a in args if operations[a]) for args in form.args]
        if slots := tuple(_every_path(roots, repeated.__getitem__)):
            found.setdefault(slots, Sequenced("children in a list", slots, 1))
    return list(found.values())


def _arrangements(form: Form, pivots: Sequence[int]) -> Iterator[tuple[str, Children, int]]:
    """Yield orders of the children: left to right, right to left, and mixtures of the two."""
    children = form.children
    yield "children from left to right", children.__getitem__, 0
    if not pivots:
        return
    backwards = [args[::-1] for args in children]
    yield "children from right to left", backwards.__getitem__, 1
    mixtures = (flipped for size in range(1, len(pivots)) for flipped in combinations(pivots, size))
    for flipped in islice(mixtures, MAX_VARIANTS):
        yield "children in a set", _turned(children, flipped), 2


def _turned(children: Sequence[tuple[int, ...]], flipped: Collection[int]) -> Children:
    return lambda slot: children[slot][::-1] if slot in flipped else children[slot]


def _pivots(form: Form, order: str, sensitive: bool) -> list[int]:
    """Return the nodes where the order of the children can matter, those near the output first."""
    below, children = form.below, form.children
    pivots = []
    for slot in reversed(form.order):
        args = children[slot]
        shared = seen = 0
        for child in args:
            shared |= seen & below[child]
            seen |= below[child]
        if shared or (len(args) > 1 and (order == "breadth first" or sensitive)):
            pivots.append(slot)
    return pivots


def arranged(
    form: Form,
    rules: Rules,
    order: str,
    start: Sequence[float],
    accepts: Mapping[int, Callable[[float], bool]],
    work: int = 60_000,
) -> Iterator[list[float]]:
    """Yield gradients of engines with this order that have the children of each node in an order that fits.

    The gradients that are wanted are looked at one after another, those first that fewest orders concern: only orders
    that give the first are tried with those that concern the second, and so on.

    accepts   slot → whether a gradient is the one that is wanted there
    work      so many rules are run
    """
    roots = [slot for slot in form.outputs if form.operations[slot]]
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
                    slots = walk(roots, _turned(children, {*chosen, *flipped}))
                    work -= len(slots)
                    if work < 0 or not slots:
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
                run(walk(roots, _turned(children, set(chosen))), rules, gradients)
                yield gradients


def _subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def _moved(form: Form, order: str, pivots: Sequence[int]) -> dict[int, int]:
    """Return for each pivot the set of bits of the slots whose gradient the order of its children may change."""
    below, children = form.below, form.children
    under = [0] * form.size
    for slot in form.order:
        for a in form.args[slot]:
            under[slot] |= under[a] | 1 << a
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
            seen = shared = 0
            for child in children[pivot]:
                shared |= seen & below[child]
                seen |= below[child]
            for slot in form.order:
                if shared >> slot & 1:
                    bits |= under[slot]
        moved[pivot] = bits
    return moved


def _levels(roots: Sequence[int], children: Sequence[tuple[int, ...]]) -> dict[int, int]:
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
    gradients: list[float],
    accepts: Mapping[int, Callable[[float], bool]],
    limit: int = 256,
) -> Iterator[list[float]]:
    """Yield gradients of engines that write `=` in every rule, one for each way in which uses may come last.

    Of a value with several uses the term of the last one remains. Every engine that keeps children in a set runs some
    topological order, so which use that is depends on chance, but not one that must come before another.

    accepts   slot → whether a number is the one that is wanted there; a way that gives another is left. Where several
              terms of an input may remain, one that is wanted is taken
    limit     so many ways are tried
    """
    options = _last_uses(form, rules)
    order = form.order[::-1]
    inputs = [slot for slot in options if not form.operations[slot]]
    stack = [(0, gradients)]
    while stack and limit > 0:
        place, gradients = stack.pop()
        while place < len(order):
            slot = order[place]
            place += 1
            terms = [_term(use, slot, rules, gradients) for use in options.get(slot, ())]
            if slot in accepts and terms:
                terms = list(filter(accepts[slot], terms))
                if not terms:
                    break
            for other in terms[1:]:
                if other != terms[0]:
                    branch = gradients.copy()
                    branch[slot] = other
                    stack.append((place, branch))
            if terms:
                gradients[slot] = terms[0]
        else:
            limit -= 1
            for slot in inputs:
                terms = [_term(use, slot, rules, gradients) for use in options[slot]]
                wanted = list(filter(accepts[slot], terms)) if slot in accepts else terms
                gradients[slot] = (wanted or terms)[0]
            yield gradients
            continue
        limit -= 1


def _last_uses(form: Form, rules: Rules) -> dict[int, list[int]]:
    """Return by slot the operations that use it and may be the last to run."""
    uses: dict[int, dict[int, None]] = {}
    for user in form.order:
        rule = rules[user]
        targets = [a for a, _ in rule] if isinstance(rule, tuple) else form.args[user]
        for a in targets:
            if not form.constants[a]:
                uses.setdefault(a, {})[user] = None
    below = form.below
    return {
        slot: [user for user in users if not any(other != user and below[user] >> other & 1 for other in users)]
        for slot, users in uses.items()
    }


def _term(use: int, slot: int, rules: Rules, gradients: list[float]) -> float:
    rule = rules[use]
    shares = (
        [(target, local * gradients[use]) for target, local in rule]
        if isinstance(rule, tuple)
        else rule(gradients, gradients[use])
    )
    for target, contribution in reversed(shares):
        if target == slot:
            return contribution
    return 0.0
