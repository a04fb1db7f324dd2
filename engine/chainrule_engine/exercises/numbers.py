"""Which numbers suit an exercise: small, few digits, away from kinks, far from saturation.

One rule for the exercises that are generated and for the inputs that are suggested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from chainrule_engine.operations import Operation

#: How near an argument may come to a kink, a jump or a tie.
MARGIN = 0.1
#: The magnitudes of a node's value, and of the derivatives of one operation, unless they are exactly 0.
SMALLEST_VALUE, LARGEST_VALUE = 0.05, 20.0
SMALLEST_SLOPE, LARGEST_SLOPE = 0.02, 20.0
#: A result with so many significant digits can be written down by hand.
FEW_DIGITS = 5

#: Where a small decimal fraction can give another one.
_EXACT = frozenset({"add", "sub", "mul", "div", "neg", "pow", "abs", "relu", "max", "min", "where"})


def digits(number: float) -> int:
    """Return how many significant digits it takes to write a finite number: 2 for 0.25, 1 for 300.0."""
    return len(Decimal(repr(number)).normalize().as_tuple().digits)


def is_clean(number: float) -> bool:
    """Tell whether a finite number has few digits."""
    return digits(number) <= FEW_DIGITS


def could_be_clean(operation: Operation, args: Sequence[float]) -> bool:
    """Tell whether other arguments of the kind of these would give a result of few digits."""
    return operation.name in _EXACT and all(map(is_clean, args))


def near_kink(operation: Operation, args: Sequence[float], margin: float = MARGIN) -> bool:
    """Tell whether moving an argument by the margin reaches, or steps over, a kink or a jump of the operation."""
    if operation.kink is None:
        return False
    piece = _piece(operation, args)
    for place, number in enumerate(args):
        for moved in (number - margin, number + margin):
            there = [*args[:place], moved, *args[place + 1 :]]
            if operation.kink.at(*there) or _piece(operation, there) != piece:
                return True
    return operation.kink.at(*args)


def _piece(operation: Operation, args: Sequence[float]) -> tuple[float, ...]:
    # An operation with a kink or a jump is linear on either side: its derivatives tell one side from the other; those
    # of a comparison are 0, and its value tells, or, where both sides are unequal, which of the two is larger.
    z = operation.value(*args)
    slopes = tuple(partial(*args, z) for partial in operation.partials)
    return slopes if any(slopes) else (*slopes, z, *[float(args[0] > other) for other in args[1:]])


def suits(operation: Operation, args: Sequence[float], result: float, variable: Sequence[bool]) -> bool:
    """Tell whether an exercise may hold this node.

    variable  by argument: whether it is the value of an input or node, and not a literal number

    A result or a derivative of exactly 0 is allowed where the operation is flat by its nature: behind a relu's corner,
    on a branch that is not taken.
    """
    if not (math.isfinite(result) and abs(result) <= LARGEST_VALUE) or near_kink(operation, args):
        return False
    slopes = [partial(*args, result) for partial, moves in zip(operation.partials, variable, strict=True) if moves]
    may_be_flat = operation.kink is not None or operation.selective
    for slope in slopes:
        if not (SMALLEST_SLOPE <= abs(slope) <= LARGEST_SLOPE or (slope == 0.0 and may_be_flat)):
            return False
    return abs(result) >= SMALLEST_VALUE or (result == 0.0 and not any(slopes))
