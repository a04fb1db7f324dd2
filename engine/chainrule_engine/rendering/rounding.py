"""Whole points, for platforms that know no others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

#: Scores come as the nearest float64 of an exact one: within so much below a whole number, that is what they are.
_SNAP = Fraction(1, 10**9)


def whole(view_score: float, view_max: float, maximum: int | None) -> tuple[int, int]:
    """Return the score out of `maximum` whole points, rounded down, and that maximum.

    Left out, the maximum is the task's own, or the next whole number above it.
    """
    top = math.ceil(Fraction(view_max) - _SNAP) if maximum is None else maximum
    if not view_max > 0:
        return 0, top
    exact = Fraction(view_score) / Fraction(view_max) * top
    return min(top, max(0, math.floor(exact + _SNAP))), top


def share(total: int, weights: Sequence[float], caps: Sequence[int] | None = None) -> list[int]:
    """Divide a total by weights into whole parts: largest remainder first, the earlier of equals, none above its cap.

    Nothing goes to a weight of 0; what finds no room under the caps is left out.
    """
    exact = [Fraction(weight) for weight in weights]
    whole_weight = sum(exact, Fraction(0))
    if not whole_weight:
        return [0] * len(exact)
    quotas = [total * weight / whole_weight for weight in exact]
    room = [total if weight else 0 for weight in exact] if caps is None else list(caps)
    parts = [min(math.floor(quota), most) for quota, most in zip(quotas, room, strict=True)]
    order = sorted(range(len(parts)), key=lambda i: (parts[i] - quotas[i], i))
    left = total - sum(parts)
    while left:
        open_ = [i for i in order if exact[i] and parts[i] < room[i]]
        if not open_:
            break
        for i in open_[:left]:
            parts[i] += 1
        left -= len(open_[:left])
    return parts
