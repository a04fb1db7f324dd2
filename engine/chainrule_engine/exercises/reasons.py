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
from chainrule_engine.graph import Graph, Numbers, is_named
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
    "not_finite": Kind(True, "choose inputs with which all numbers are finite"),
    "tree": Kind(False, "use the result of an operation twice"),
    "only_inputs_shared": Kind(False, "use the result of an operation, and not only an input, twice"),
    "order_coincides": Kind(False, "use an intermediate result both directly at the output and deep below it"),
    "one_level": Kind(False, "let the output be computed from results of other operations"),
    "not_asked": Kind(False, "ask for these numbers as well"),
    "too_few_losses": Kind(False, "train for more steps"),
    "losses_alone": Kind(False, "ask for more losses"),
    "tolerance": Kind(True, "compare more strictly, or choose inputs with which the numbers lie further apart"),
    "coincidence": Kind(True, "choose other inputs"),
}


#: Reasons for which a mistake may pass: it makes no difference, or a choice is accepted, or it may show elsewhere.
HARMLESS = ("kink", "kink_accepted", "literal_exponent", "losses_alone")


@dataclass(frozen=True)
class Reason:
    """Why a mistake does not show.

    kind    a word of REASONS
    why     the same in words
    node    the id of the node where it is, None for the whole graph
    fixed   whether it does not follow from the inputs: the seed or a literal number is special
    """

    kind: str
    why: str
    node: str | None = None
    fixed: bool = False

    @property
    def by_inputs(self) -> bool:
        """Whether other inputs may lift it."""
        return REASONS[self.kind].by_inputs and not self.fixed


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
    if not all(map(math.isfinite, (*place.numbers, place.upstream))):
        return Reason("not_finite", f"numbers at {place.label} are not finite", place.id)
    for reason, changed in _changes(place, point):
        if _shows(mistake, changed):
            return reason
    return Reason("coincidence", f"at {place.label} the mistaken rule happens to give the same numbers", place.id)


#: What a number is replaced by; nothing about these is special.
_OTHER, _ANOTHER = 1.7, 3.3
_ORDINALS = ("first", "second", "third")


def _changes(place: Place, point: Point) -> Iterator[tuple[Reason, Place]]:
    """Yield what may hide a mistake at a node, and the place without it."""
    numbers, operands, node = place.numbers, place.operands, place.label

    def because(kind: str, why: str, fixed: bool = False) -> Reason:
        return Reason(kind, why, place.id, fixed)

    if place.upstream == 0.0:
        place = place._replace(upstream=_OTHER)
        # What else there may be is looked at as if a gradient arrived.
        yield because("no_gradient", f"no gradient reaches {node}"), place
    if place.upstream == 1.0:
        why = f"upstream is 1 at node {node}{_factor_of_one(place, point)}"
        fixed = place.id in point.cotangents
        yield because("upstream_one", why, fixed), place._replace(upstream=_OTHER)
    for k, name in enumerate(operands):
        if name is None:
            freed = place._replace(operands=(*operands[:k], f"the {_ORDINALS[k]}", *operands[k + 1 :]))
            kind, what = "constant_operand", f"the {_ORDINALS[k]} operand of {node}"
            if _is_exponent(place, k):
                kind, what = "literal_exponent", f"the exponent at {node}"
            yield because(kind, f"{what} is the number {numbers[k]:g}, which takes no gradient"), freed
    for k, name in enumerate(operands[1:], 1):
        moved = _with(place, k, numbers[k] * _OTHER + 0.1)
        if name is not None and name in operands[:k]:
            apart = moved._replace(operands=(*operands[:k], f"another {name}", *operands[k + 1 :]))
            yield because("same_operand", f"both operands of {node} are {name}"), apart
        elif numbers[k] in numbers[:k]:
            why = f"operand equals coefficient at node {node}: both are {numbers[k]:g}"
            yield because("equal_operands", why), moved
    for k, number in enumerate(numbers):
        if number in (0.0, 1.0, -1.0, 2.0):
            kind, what = "special_operand", f"the {_ORDINALS[k]} operand of {node}"
            if _is_exponent(place, k):
                kind, what = "exponent", f"the exponent at {node}"
            elif place.op == "div":
                what = f"the {('numerator', 'denominator')[k]} at {node}"
            moved = _with(place, k, _ANOTHER if number else _OTHER)
            yield because(kind, f"{what} is {number:g}", fixed=operands[k] is None), moved
    if place.upstream > 0.0:
        why = f"the upstream gradient at {node} is positive"
        yield because("upstream_positive", why), place._replace(upstream=-place.upstream)
    if OPERATIONS[place.op].kink is not None:
        # Its kink, or its jump, is where its argument is 0, or where its two are equal.
        first, second = numbers if len(numbers) == 2 else (numbers[0], 0.0)
        side = "above" if first > second else "below"
        why = f"{node} is evaluated {side} its kink alone"
        yield because("side", why), place._replace(numbers=(second, first) if len(numbers) == 2 else (-first,))
        there = place._replace(numbers=(second,) * len(numbers))
        yield because("kink", f"{node} is not exactly at its kink"), there


def _is_exponent(place: Place, k: int) -> bool:
    return place.op == "pow" and k == 1


def _factor_of_one(place: Place, point: Point) -> str:
    """Say which factor makes an upstream gradient 1, where one does."""
    users = [user for user in point.places if place.id in user.operands]
    if len(users) != 1 or users[0].op != "mul" or users[0].upstream != 1.0:
        return ""
    others = [name for name in users[0].operands if name not in (None, place.id)]
    made = [f" = {other.formula}" for other in point.places if other.id in others and is_named(other.id)]
    return f", because {others[0]}{''.join(made)} = 1" if others else ""


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
