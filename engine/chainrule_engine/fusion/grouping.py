"""Which instructions are done at once, and in which order."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise

from chainrule_engine.fusion.sums import Program, Unit

#: After so many contradictions between the orders of uses, everything is taken apart; and sooner after so many
#: instructions were put in order (again and again), which takes some seconds.
_PATIENCE, _LONG_PATIENCE = 20, 500_000


@dataclass(eq=False)
class Group:
    """What is done at once: the units of a dense operation, or instructions (by position) of one kind."""

    members: list[int]
    units: list[Unit] = field(default_factory=list)

    @property
    def fused(self) -> bool:
        """Whether it is made of several instructions."""
        return bool(self.units) or len(self.members) > 1


class Grouping:
    """Fuses what a program has, as far as the order of its sums allows."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self) -> tuple[list[Group], list[Group]]:
        """Return the groups as they were found, side by side where they belong together, and in order."""
        program = self.program
        sorted_so_far = 0
        for attempt in range(_PATIENCE + 1):
            fusing = attempt < _PATIENCE and sorted_so_far <= _LONG_PATIENCE
            groups = self._groups(self._dense() if fusing and not program.masked else [], fusing=fusing)
            for tries in range(_PATIENCE):
                order, cycle = self._order(groups)
                sorted_so_far += len(program.instructions)
                # Something in the cycle has to go. A wide operation is the smaller loss.
                wide = [group for group in cycle if not group.units]
                if not wide:
                    break
                if tries == _PATIENCE - 2 or sorted_so_far > _LONG_PATIENCE:
                    wide = [group for group in groups if not group.units]
                apart = set(wide)
                groups = [group for group in groups if group not in apart]
                groups += [Group([position]) for group in wide for position in group.members]
            program.no_units.update(unit.position for group in cycle for unit in group.units)
            if not cycle:
                break
        return groups, order

    # -- grouping

    def _dense(self) -> list[Group]:
        """Find the sums of products and put those over the same xs together."""
        program = self.program
        by_xs: dict[tuple[object, ...], list[Unit]] = {}
        taken: set[int] = set()
        for top in range(len(program.instructions) - 1, -1, -1):
            # From the last: the longest sum comes before its parts.
            if top in taken or program.instructions[top].operation.name not in program.adding:
                continue
            unit = program.unit(top)
            if unit is None:
                continue
            taken.update(unit.inner)
            target = program.instructions[top].target
            key = (unit.xs, target in program.pulls or target == program.loss, target in program.wanted)
            by_xs.setdefault(key, []).append(unit)
        groups = []
        for units in by_xs.values():
            units.reverse()
            # The uses of each x must lie in the order of the units.
            ordered = all(
                earlier[2] < later[2]
                for one, next_ in pairwise(units)
                for earlier, later in zip(one.terms, next_.terms, strict=True)
            )
            if ordered:
                groups.append(Group([unit.position for unit in units], units))
            else:
                groups += [Group([unit.position], [unit]) for unit in units]
        return groups

    def _groups(self, dense: list[Group], *, fusing: bool) -> list[Group]:
        """Group the instructions that no dense operation covers: the same operation on consecutive rows."""
        program = self.program
        unit_at = {unit.position: unit for group in dense for unit in group.units}
        covered = {p for group in dense for unit in group.units for p in unit.inner}
        singles = [position for position in range(len(program.instructions)) if position not in covered]
        if not fusing:
            return [Group([position]) for position in singles]
        # Where a slot's row will lie: (group, place in it). Inputs that are data lie side by side as well.
        lies: dict[int, tuple[object, int]] = {slot: ("data", place) for slot, place in program.data.items()}
        for group in dense:
            for place, position in enumerate(group.members):
                lies[program.instructions[position].target] = (group, place)
        levels: dict[int, list[int]] = defaultdict(list)
        level: dict[int, int] = {}
        for position, (target, _, args) in enumerate(program.instructions):
            unit = unit_at.get(position)
            sources = unit.xs if unit else args
            level[target] = 1 + max((level.get(slot, 0) for slot in sources), default=0)
            if position not in covered:
                levels[level[target]].append(position)
        groups = list(dense)
        for _, positions in sorted(levels.items()):
            alike: dict[tuple[object, ...], list[int]] = {}
            for position in positions:
                target, operation, args = program.instructions[position]
                # A slot that stands alone is a group of its own, so that only equal slots are alike.
                where = tuple(lies[slot][0] if slot in lies else slot for slot in args)
                pulls = tuple((position, place) in program.pulling for place in range(len(args)))
                alike.setdefault((operation.name, where, pulls), []).append(position)
            for members in alike.values():
                for run in self._runs(members, lies):
                    group = Group(run)
                    groups.append(group)
                    for place, position in enumerate(run):
                        lies[program.instructions[position].target] = (group, place)
        return groups

    def _runs(self, members: list[int], lies: dict[int, tuple[object, int]]) -> list[list[int]]:
        """Cut instructions of one kind into runs that step through their arguments' rows one by one."""
        runs: list[list[int]] = []
        steps: tuple[bool, ...] | None = None
        # By slot, the first place at which a member of the last run adds to its gradient. A wide operation adds along
        # its first argument from the last member to the first, then along the next; the contract has all additions of
        # the last member before any of another. So no later member may add to the slot at a later place.
        first_place: dict[int, int] = {}
        for position in members:
            adds = self._additions(position)
            step = self._step(runs[-1][-1], position, lies) if runs else ()
            in_order = all(place <= first_place.get(slot, place) for place, slot in adds)
            if any(step) and steps in (None, step) and in_order:
                runs[-1].append(position)
                steps = step
            else:
                runs.append([position])
                steps = None
                first_place.clear()
            for place, slot in adds:
                first_place[slot] = min(place, first_place.get(slot, place))
        return runs

    def _step(self, one: int, next_: int, lies: dict[int, tuple[object, int]]) -> tuple[bool, ...]:
        """Tell which arguments lie a row further on; nothing where another is neither there nor the same."""
        before, args = self.program.instructions[one].args, self.program.instructions[next_].args
        follows = all(
            a == b or (a in lies and b in lies and lies[b][1] == lies[a][1] + 1)
            for a, b in zip(before, args, strict=True)
        )
        return tuple(a != b for a, b in zip(before, args, strict=True)) if follows else ()

    def _additions(self, position: int) -> list[tuple[int, int]]:
        """Return (place, slot) of the arguments to whose rows of gradients an instruction adds."""
        program = self.program
        return [
            (place, slot)
            for place, slot in enumerate(program.instructions[position].args)
            if (position, place) in program.pulling and slot not in program.uniform
        ]

    # -- order

    def _order(self, groups: list[Group]) -> tuple[list[Group], list[Group]]:
        """Sort the groups so that arguments come before results and earlier uses of a gradient's slot before later.

        Returns the order, or else the groups of a cycle that are made of several instructions.
        """
        program = self.program
        of: dict[int, int] = {}
        for number, group in enumerate(groups):
            for position in group.members:
                of[position] = number
            for unit in group.units:
                for position in unit.inner:
                    of[position] = number
        after: list[set[int]] = [set() for _ in groups]
        for position, (_, _, args) in enumerate(program.instructions):
            for slot in args:
                if slot in program.made_by:
                    after[of[program.made_by[slot]]].add(of[position])
        for slot, pulls in program.pulls.items():
            if slot in program.made_by:
                for (later, _), (earlier, _) in pairwise(pulls):
                    after[of[earlier]].add(of[later])
        before = [0] * len(groups)
        for number, followers in enumerate(after):
            followers.discard(number)
            for follower in followers:
                before[follower] += 1
        ready = [(group.members[0], number) for number, group in enumerate(groups) if not before[number]]
        heapq.heapify(ready)
        order = []
        while ready:
            _, number = heapq.heappop(ready)
            order.append(groups[number])
            for follower in after[number]:
                before[follower] -= 1
                if not before[follower]:
                    heapq.heappush(ready, (groups[follower].members[0], follower))
        if len(order) == len(groups):
            return order, []
        # Going back from group to group that could not come yet, one comes to a cycle.
        waiting_for = {follower: n for n, f in enumerate(after) if before[n] for follower in f if before[follower]}
        number = next(n for n, count in enumerate(before) if count)
        path: dict[int, None] = {}
        while number not in path:
            path[number] = None
            number = waiting_for[number]
        return [], [groups[n] for n in dropwhile(lambda n: n != number, path) if groups[n].fused]
