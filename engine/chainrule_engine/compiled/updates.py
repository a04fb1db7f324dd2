"""The optimisers and the schedules of learning rates in machine code, each folded into one function of its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule_engine.compiled.lanes import get, put
from chainrule_engine.compiled.products import called, inner
from chainrule_engine.compiled.table import in_machine_code, inlined
from chainrule_engine.optimisers import OPTIMISERS, SCHEDULES, Optimiser, Schedule

Array = Any
Pointer = Any

_FIRST_NUMBERS = {
    2: inlined(lambda s: (get(s, 0), get(s, 1))),
    3: inlined(lambda s: (get(s, 0), get(s, 1), get(s, 2))),
    4: inlined(lambda s: (get(s, 0), get(s, 1), get(s, 2), get(s, 3))),
}


def _update_run(optimiser: Optimiser) -> Any:
    prepare, apply = in_machine_code(optimiser.prepare), in_machine_code(optimiser.apply)
    first_numbers = _FIRST_NUMBERS[len(optimiser.settings)]

    @called
    def one_slot(
        code: int, count: int, p: Pointer, g: Pointer, first: Pointer, second: Pointer, rate: float, step: float,
        s: Pointer,
    ) -> None:  # fmt: skip
        settings = first_numbers(s)
        prepared = prepare(rate, step, settings)
        for k in range(count):
            new, kept = apply(get(p, k), get(g, k), (get(first, k),), prepared, settings)
            put(p, k, new)
            put(first, k, kept[0])

    @called
    def two_slots(
        code: int, count: int, p: Pointer, g: Pointer, first: Pointer, second: Pointer, rate: float, step: float,
        s: Pointer,
    ) -> None:  # fmt: skip
        settings = first_numbers(s)
        prepared = prepare(rate, step, settings)
        for k in range(count):
            slots = get(first, k), get(second, k)
            new, kept = apply(get(p, k), get(g, k), slots, prepared, settings)
            put(p, k, new)
            put(first, k, kept[0])
            put(second, k, kept[1])

    return one_slot if len(optimiser.slots) == 1 else two_slots


def _fold(arms: Sequence[Any], first: int = 0) -> Any:
    """Fold functions into one that takes the number of the one to call before their arguments."""
    if len(arms) == 1:
        return arms[0]
    half = len(arms) // 2
    below, above = _fold(arms[:half], first), _fold(arms[half:], first + half)
    middle = first + half

    @inlined
    def choose(code: int, *arguments: Any) -> None:
        if code < middle:
            below(code, *arguments)
        else:
            above(code, *arguments)

    return choose


update = _fold([_update_run(optimiser) for optimiser in OPTIMISERS.values()])


def _rates_run(schedule: Schedule) -> Any:
    rate = in_machine_code(schedule.formula)
    first_numbers = _FIRST_NUMBERS[len(schedule.settings)]

    @inner
    def run(code: int, rates: Array, step: int, s: Pointer) -> None:
        settings = first_numbers(s)
        for k in range(rates.size):
            rates[k] = rate(float(step + k), settings)

    return run


rates = _fold([_rates_run(schedule) for schedule in SCHEDULES.values()])
