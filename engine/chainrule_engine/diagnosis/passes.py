"""The backward pass as a student's engine may run it: in which order, how often, and writing `=` or `+=`.

A pass is a sequence of slots whose rules run one after another. The right one is a reversed topological order; a
mistake in the pass is another sequence. Where an engine keeps children in a set, their order is anybody's guess, so an
order has variants: arguments from left to right, from right to left, and mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
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
    """A sequence of slots, and in words how its order came about."""

    variant: str
    slots: tuple[int, ...]


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

#: What an engine does before its second pass.
AGAIN = ("nothing cleared", "inputs cleared")


def sequences(form: Form, order: str, *, overwriting: bool = False) -> list[Sequenced]:
    """Return the sequences that engines with this order may run, without repetitions, at most MAX_VARIANTS.

    overwriting   the rules write `=`, so that it matters which use of an input comes last
    """
    roots = [slot for slot in form.outputs if form.operations[slot]]
    children = form.children
    found: dict[tuple[int, ...], str] = {}
    for walk in ORDERS[order]:
        if order in _UNMOVED and not overwriting:
            slots = tuple(walk(roots, children.__getitem__))
            found.setdefault(slots, "")
            continue
        for variant, ordered in _arrangements(form, order, overwriting):
            slots = tuple(walk(roots, ordered))
            if slots and len(found) < MAX_VARIANTS:
                found.setdefault(slots, variant)
        if order == "every path":
            operations = form.operations
            repeated = [tuple(a for a in args if operations[a]) for args in form.args]
            if slots := tuple(walk(roots, repeated.__getitem__)):
                found.setdefault(slots, "children in a list")
    return [Sequenced(variant, slots) for slots, variant in found.items()]


def _arrangements(form: Form, order: str, overwriting: bool) -> Iterator[tuple[str, Children]]:
    """Yield orders of the children: left to right, right to left, and mixtures of the two."""
    children = form.children
    backwards = [args[::-1] for args in children]
    yield "children from left to right", children.__getitem__
    pivots = _pivots(form, order, overwriting)
    if not pivots:
        return
    yield "children from right to left", backwards.__getitem__
    count = 0
    for size in range(1, len(pivots)):
        for flipped in combinations(pivots, size):
            count += 1
            if count > 2 * MAX_VARIANTS:
                return
            turned = set(flipped)
            yield (
                "children in a set",
                lambda slot, turned=turned: backwards[slot] if slot in turned else children[slot],  # type: ignore[misc]
            )


def _pivots(form: Form, order: str, overwriting: bool) -> list[int]:
    """Return the nodes where the order of the children can matter, those near the output first."""
    below, children = form.below, form.children
    pivots = []
    for slot in reversed(form.order):
        args = children[slot]
        if len(args) < 2:
            continue
        if order == "breadth first" or overwriting:
            pivots.append(slot)
            continue
        seen = 0
        for child in args:
            if seen & below[child]:
                pivots.append(slot)
                break
            seen |= below[child]
    return pivots


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
        for a in form.args[user]:
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
