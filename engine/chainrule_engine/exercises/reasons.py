"""Why a mistake looks like a right answer: which coincidence at which node hides it.

Found by trial. For a mistaken rule one thing at a node is changed at a time, in a fixed order: its upstream gradient,
that an operand is a constant, that two operands are equal, a number that is 0, 1 or 2, the side of its kink. The first
change with which the mistaken rule passes on other numbers than the right one is the reason. So whatever is told was
tried on the actual numbers, and a new mistake in the table of `diagnosis` needs nothing here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chainrule_engine.diagnosis.mistakes import Mistake
from chainrule_engine.exercises.point import Place, Point
from chainrule_engine.exercises.wrong import WrongEngines
from chainrule_engine.graph import Graph, Numbers
from chainrule_engine.nodes import Node, Nodes
from chainrule_engine.operations import OPERATIONS


class Kind(NamedTuple):
    """A kind of reason.

    by_inputs  whether other numbers as inputs may lift it
    advice     what to change besides, or instead
    """

    by_inputs: bool
    advice: str


#: Every kind of reason by its word on the wire.
REASONS = {
    "no_gradient": Kind(True, "choose inputs with which a gradient reaches the node, or use its result elsewhere too"),
    "upstream_one": Kind(
        True, "compute with the result once more, for example multiply it or square it, or seed the output with 2"
    ),
    "constant_operand": Kind(False, "make the number an input, so that its gradient is asked for"),
    "literal_exponent": Kind(False, "where exponents are to be differentiated too, make one an input"),
    "same_operand": Kind(False, "give the node two different operands"),
    "equal_operands": Kind(True, "choose numbers that differ"),
    "special_operand": Kind(True, "choose a number other than 0, 1 and 2"),
    "exponent": Kind(False, "choose another exponent, such as 3"),
    "upstream_positive": Kind(True, "let a negative gradient arrive, for example through a subtraction"),
    "side": Kind(True, "choose inputs on the other side of the kink, or use the operation on both sides"),
    "kink": Kind(False, "it shows exactly at the kink alone, and only where one convention is asked for"),
    "kink_accepted": Kind(False, "ask for the convention: the check's kink is zero"),
    "tree": Kind(False, "use the result of an operation twice"),
    "only_inputs_shared": Kind(False, "use the result of an operation, and not only an input, twice"),
    "order_coincides": Kind(False, "use an intermediate result both directly at the output and deep below it"),
    "one_level": Kind(False, "let the output be computed from results of other operations"),
    "not_asked": Kind(False, "ask for these numbers as well"),
    "tolerance": Kind(True, "compare more strictly, or choose inputs with which the numbers lie further apart"),
    "coincidence": Kind(True, "choose other inputs"),
}


#: Reasons for which a mistake may pass: it makes no difference in the graph, or only where a choice is accepted.
HARMLESS = ("kink", "kink_accepted", "literal_exponent")


@dataclass(frozen=True)
class Reason:
    """Why a mistake does not show.

    kind    a word of REASONS
    why     the same in words
    node    the id of the node where it is, None for the whole graph
    seeded  whether it is the seed that is special, and not a number that follows from the inputs
    """

    kind: str
    why: str
    node: str | None = None
    seeded: bool = False

    @property
    def by_inputs(self) -> bool:
        """Whether other inputs may lift it."""
        return REASONS[self.kind].by_inputs and not self.seeded


def differ(one: float, other: float) -> bool:
    """Tell whether two numbers are further apart than rounding brings them."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) != math.isnan(other)
    return not math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def explain(mistake: Mistake, point: Point) -> Reason:
    """Say why this mistake gives every number of the exercise as it should be."""
    return _in_the_pass(mistake, point) if mistake.in_the_pass else _in_a_rule(mistake, point)


# ------------------------------------------------------------------------------------------------ mistaken rules


def _shows(mistake: Mistake, place: Place) -> bool:
    """Tell whether the mistaken rule passes other numbers on than the right one: the node alone is the exercise."""
    inputs: dict[str, Numbers] = {
        name: number for name, number in zip(place.operands, place.numbers, strict=True) if name is not None
    }
    if not inputs:
        return False
    args = tuple(number if name is None else name for name, number in zip(place.operands, place.numbers, strict=True))
    # An id that no operand has.
    result = "".join(inputs) + "'"
    graph = Graph(inputs, Nodes.of(inputs, [Node(result, place.op, args)]), (result,), order=(0,))
    alone = Point(graph, {result: place.upstream})
    return any(
        differ(alone.gradient(name), wrong.gradients[name])
        for wrong in WrongEngines(alone).runs(mistake)
        for name in inputs
    )


def _in_a_rule(mistake: Mistake, point: Point) -> Reason:
    found = [_at(mistake, place, point) for place in point.places if place.op in mistake.operations]
    # Said is what can be changed with the least: inputs before the graph, and a node that a gradient reaches.
    return min(found, key=lambda reason: (not reason.by_inputs, reason.kind == "no_gradient"))


def _at(mistake: Mistake, place: Place, point: Point) -> Reason:
    for kind, why, changed in _changes(place):
        if not _shows(mistake, changed):
            continue
        if kind != "upstream_one":
            return Reason(kind, why, place.id)
        seeded = place.id in point.cotangents
        return Reason(kind, why if seeded else why + _because(place, point), place.id, seeded)
    return Reason("coincidence", f"at {place.label} the mistaken rule happens to give the same numbers", place.id)


def _because(place: Place, point: Point) -> str:
    """Say which factor makes an upstream gradient 1, where one does."""
    users = [user for user in point.places if place.id in user.operands]
    if len(users) != 1 or users[0].op != "mul" or users[0].upstream != 1.0:
        return ""
    others = [name for name in users[0].operands if name not in (None, place.id)]
    return f", because {others[0]} = 1" if others else ""


#: What a number is replaced by; nothing about it is special.
_OTHER = 1.7
_ORDINALS = ("first", "second", "third")


def _changes(place: Place) -> Iterator[tuple[str, str, Place]]:
    """Yield what may hide a mistake at a node: the reason, in words, and the place without it."""
    numbers, operands = place.numbers, place.operands
    if place.upstream == 0.0:
        yield "no_gradient", f"no gradient reaches {place.label}", place._replace(upstream=_OTHER)
        # What else there may be is looked at as if one did.
        place = place._replace(upstream=_OTHER)
    if place.upstream == 1.0:
        yield "upstream_one", f"upstream is 1 at node {place.label}", place._replace(upstream=_OTHER)
    is_power = place.op == "pow"
    for k, name in enumerate(operands):
        if name is None:
            freed = place._replace(operands=(*operands[:k], f"the {_ORDINALS[k]}", *operands[k + 1 :]))
            what = f"is the number {numbers[k]:g}, which takes no gradient"
            if is_power and k == 1:
                yield "literal_exponent", f"the exponent at {place.label} {what}", freed
            else:
                yield "constant_operand", f"the {_ORDINALS[k]} operand of {place.label} {what}", freed
    for k, name in enumerate(operands[1:], 1):
        moved = _with(place, k, numbers[k] * _OTHER + 0.1)
        if name is not None and name in operands[:k]:
            apart = [*operands[:k], f"another {name}", *operands[k + 1 :]]
            yield "same_operand", f"both operands of {place.label} are {name}", moved._replace(operands=tuple(apart))
        elif numbers[k] in numbers[:k]:
            what = f"operand equals coefficient at node {place.label}: both are {numbers[k]:g}"
            yield "equal_operands", what, moved
    for k, name in enumerate(operands):
        if numbers[k] not in (0.0, 1.0, -1.0, 2.0):
            continue
        moved = _with(place, k, 3.3 if numbers[k] != 0.0 else _OTHER)
        if is_power and k == 1:
            yield "exponent", f"the exponent at {place.label} is {numbers[k]:g}", moved
        else:
            word = {"div": ("numerator", "denominator")}.get(place.op, _ORDINALS)[k]
            what = f"the {word}{'' if place.op == 'div' else ' operand'} at {place.label} is {numbers[k]:g}"
            # A literal number cannot be chosen with the inputs.
            yield ("special_operand" if name is not None else "constant_operand"), what, moved
    if place.upstream > 0.0:
        what = f"the upstream gradient at {place.label} is positive"
        yield "upstream_positive", what, place._replace(upstream=-place.upstream)
    yield from _around_a_kink(place)


def _around_a_kink(place: Place) -> Iterator[tuple[str, str, Place]]:
    kink = OPERATIONS[place.op].kink
    if kink is None:
        return
    numbers = place.numbers
    x, y = (numbers[0], 0.0) if len(numbers) == 1 else numbers
    mirrored = (-x,) if len(numbers) == 1 else (y, x)
    side = "positive" if x > y else "negative"
    what = (
        f"the argument of {place.label} is {side}" if len(numbers) == 1 else f"{place.label} sees one of its sides only"
    )
    yield "side", what, place._replace(numbers=mirrored)
    there = (0.0,) if len(numbers) == 1 else (y, y)
    yield "kink", f"{place.label} is not exactly at its kink", place._replace(numbers=there)


def _with(place: Place, k: int, number: float) -> Place:
    return place._replace(numbers=(*place.numbers[:k], number, *place.numbers[k + 1 :]))


# ---------------------------------------------------------------------------------------- mistakes in the pass


def _in_the_pass(mistake: Mistake, point: Point) -> Reason:
    if all(place.upstream == 0.0 for place in point.places):
        return Reason("no_gradient", "no gradient reaches any node")
    found = None
    if mistake.assigns is not None:
        found = _used_once(point, mistake.assigns, inputs=True)
    elif mistake.order == "not reversed" or mistake.again == "inputs cleared":
        found = _one_level(point)
    elif mistake.order != "topological":
        found = _used_once(point, (), inputs=False)
        found = found or Reason("order_coincides", "what is shared has its gradients in time even in this order")
    return found or Reason("coincidence", "the shares that this mistake changes happen to be 0")


def _used_once(point: Point, operations: Collection[str], *, inputs: bool) -> Reason | None:
    """Explain by what is used once only.

    operations  whose uses count; all, if there are none
    inputs      whether an input that is used twice would show the mistake, and a node that uses a value twice
    """
    uses: Counter[str] = Counter()
    for place in point.places:
        if not operations or place.op in operations:
            names = [name for name in place.operands if name is not None]
            uses.update(names if inputs else set(names))
    nodes = {place.id for place in point.places}
    shared = sorted(name for name, count in uses.items() if count > 1)
    if nodes.intersection(shared) or (inputs and shared):
        return None
    if shared:
        some = ", ".join(shared[:3])
        return Reason("only_inputs_shared", f"a tree but for its inputs: only inputs ({some}) are used more than once")
    if operations:
        return Reason("tree", f"no number is used more than once by {' or '.join(operations)}")
    return Reason("tree", "a tree has no sharing: no result is used more than once")


def _one_level(point: Point) -> Reason | None:
    nodes = {place.id for place in point.places}
    deep = any(name in nodes for place in point.places for name in place.operands)
    return None if deep else Reason("one_level", "every operand of the output is an input")
