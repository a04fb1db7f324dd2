"""What remains of the gradients where `=` stands for `+=`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

from chainrule_engine.diagnosis.forms import Edges, Form
from chainrule_engine.diagnosis.passes import Rule, Rules, Wanted, Work

#: So many choices of last uses are kept that agree with what has been looked at.
_MOST_TAKEN = 24


def survivors(
    form: Form,
    rules: Rules,
    start: Sequence[float],
    accepts: Wanted,
    work: Work,
) -> list[float] | None:
    """Return the gradients of an engine that writes `=` in every rule, if one gives what is wanted.

    Of a value with several uses the term of the last one remains. Every engine that keeps children in a set runs some
    topological order, so which use that is depends on chance, but it is none that must come before another. A gradient
    is then what comes down one path from an output: for each that is wanted the paths are tried, of those that agree
    with the paths that were taken for others.

    work   None comes when nothing is left
    """
    uses = _last_uses(form, rules)
    fitting: list[dict[int, int]] = [{}]
    for slot, is_wanted in accepts.items():
        before, fitting = fitting, []
        for taken in before:
            for path in _paths(slot, uses, taken):
                work.left -= 5 * len(path)
                if work.left < 0:
                    return None
                upstream = start[path[-1]]
                for user, target in zip(path[:0:-1], path[-2::-1], strict=True):
                    upstream = _term(rules[user], target, upstream)
                if is_wanted(upstream):
                    fitting.append(taken | dict(pairwise(path)))
                if len(fitting) > _MOST_TAKEN:
                    break
        if not fitting:
            return None
    taken = fitting[0]
    gradients = list(start)
    inputs = [slot for slot in uses if not form.operations[slot]]
    for slot in [*reversed(form.order), *inputs]:
        if slot in uses:
            user = taken.get(slot, uses[slot][0])
            gradients[slot] = _term(rules[user], slot, gradients[user])
    return gradients


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
