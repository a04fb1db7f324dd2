"""From a tape to a schedule for training: few wide operations over rows of numbers, in place of many narrow ones.

What is fused:

- *dense*: sums b₁ + Σ w₁ᵢ·xᵢ, b₂ + Σ w₂ᵢ·xᵢ, … over the same xs, with weights and biases that are the same at every
  point: a layer, wherever it was found in the graph;
- *wide*: the same operation on consecutive rows: a layer's activation.

Fusion changes the order in which independent things are computed, and no rounding. A gradient is a sum, whose order is
the contract's: from the last use of a number to the first. So of two uses of one number the later one comes later in
the schedule too; where fused operations cannot be put in such an order, they are taken apart again.
"""

from __future__ import annotations

import heapq
import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise

from chainrule_engine.kernels import Instruction
from chainrule_engine.operations import ONE, Constant, Operand, Operation
from chainrule_engine.schedule import (
    LANES,
    Cleared,
    Copied,
    Dense,
    Pull,
    PullInputs,
    PullWeights,
    Schedule,
    Weights,
    Wide,
)
from chainrule_engine.tape import Tape

#: After so many contradictions between the orders of uses, everything is taken apart; and sooner after so many
#: instructions were put in order (again and again), which takes some seconds.
_PATIENCE, _LONG_PATIENCE = 20, 500_000
#: A sum that starts with a product starts from the one number that an addition does not change.
_NOTHING = -0.0

# -------------------------------------------------------------------------------------------------- what can be fused


@dataclass(eq=False)
class _Unit:
    """A sum of products: the slot of its bias (None without) and (weight, x, position of the product) of each term.

    inner   the positions of the instructions that it takes the place of, the last addition included
    """

    position: int
    bias: int | None
    terms: list[tuple[int, int, int]]
    inner: list[int]

    @property
    def xs(self) -> tuple[int, ...]:
        return tuple(x for _, x, _ in self.terms)


@dataclass(eq=False)
class _Group:
    """What is done at once: the units of a dense operation, or instructions (by position) of one kind."""

    members: list[int]
    units: list[_Unit] = field(default_factory=list)

    @property
    def fused(self) -> bool:
        return bool(self.units) or len(self.members) > 1


def _is_closed(operation: Operation, partial: Callable[..., float]) -> bool:
    """Tell whether no gradient ever flows back along an argument."""
    return operation.selective and isinstance(partial, Constant) and partial.number == 0.0


def _is_product(operation: Operation) -> bool:
    return operation.value is operator.mul and operation.partials == (Operand(1), Operand(0))


def _is_sum(operation: Operation) -> bool:
    return operation.value is operator.add and operation.partials == (ONE, ONE)


class _Program:
    """What the tape says about the part that the loss and the predictions need."""

    def __init__(self, tape: Tape, parameters: Iterable[int], data: Iterable[int], outputs: Collection[int]) -> None:
        self.parameters = list(parameters)
        self.data = {slot: place for place, slot in enumerate(data)}
        self.outputs = set(outputs)
        self.loss = next(iter(outputs))
        needed = set(outputs)
        instructions: list[Instruction] = []
        for instruction in reversed(tape.instructions):
            if instruction.target in needed:
                instructions.append(instruction)
                needed.update(instruction.args)
        instructions.reverse()
        self.instructions = instructions
        # Dense operations know how to multiply and add; whether an operation does just that is the table's to say.
        operations = {instruction.operation.name: instruction.operation for instruction in instructions}
        self.multiplying = {name for name, operation in operations.items() if _is_product(operation)}
        self.adding = {name for name, operation in operations.items() if _is_sum(operation)}
        self.made_by = {instruction.target: position for position, instruction in enumerate(instructions)}
        self.literals: dict[int, float | int] = dict(tape.literals)
        varying = {*self.data, *self.made_by, *self.parameters}
        self.literals |= {slot: slot for slot in tape.slots.values() if slot in needed and slot not in varying}
        self.uniform = {*self.parameters, *self.literals}
        self.uses: dict[int, int] = defaultdict(int)
        # Slots whose gradient some parameter's depends on.
        wanted = set(self.parameters)
        for target, operation, args in instructions:
            for partial, slot in zip(operation.partials, args, strict=True):
                self.uses[slot] += 1
                if slot in wanted and not _is_closed(operation, partial):
                    wanted.add(target)
        self.wanted = wanted
        # By slot, (position, place) of each use that adds to its gradient, in the order in which they do.
        self.pulls: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.masked = False
        reached = {self.loss}
        for position in range(len(instructions) - 1, -1, -1):
            target, operation, args = instructions[position]
            if target not in reached or target not in wanted:
                continue
            for place, (partial, slot) in enumerate(zip(operation.partials, args, strict=True)):
                if slot not in wanted:
                    continue
                if _is_closed(operation, partial):
                    continue
                self.masked = self.masked or (operation.selective and not isinstance(partial, Constant))
                reached.add(slot)
                self.pulls[slot].append((position, place))
        self.pulling = {pull for pulls in self.pulls.values() for pull in pulls}
        #: Positions of additions that are known to end no sum of products, or none that can be used.
        self.no_units: set[int] = set()

    def _is_inner(self, slot: int) -> bool:
        return slot in self.made_by and self.uses[slot] == 1 and slot not in self.outputs

    def _product(self, slot: int) -> tuple[int, int, int] | None:
        """Return (weight, x, position) where the slot is a product that only one sum uses."""
        if not self._is_inner(slot):
            return None
        position = self.made_by[slot]
        _, operation, args = self.instructions[position]
        if operation.name not in self.multiplying:
            return None
        for weight, x in (args, args[::-1]):
            if self._is_weight(weight) and x not in self.uniform:
                return weight, x, position
        return None

    def _is_weight(self, slot: int) -> bool:
        return slot in self.literals or (slot in self.uniform and self.uses[slot] == 1 and slot not in self.outputs)

    def unit(self, top: int) -> _Unit | None:
        """Return the sum of products whose last addition is at this position."""
        if top in self.no_units:
            return None
        terms: list[tuple[int, int, int]] = []
        additions: list[int] = []
        slot = self.instructions[top].target
        bias: int | None = None
        while True:
            position = self.made_by.get(slot)
            if position is None or self.instructions[position].operation.name not in self.adding:
                break
            if position != top and not self._is_inner(slot):
                break
            additions.append(position)
            left, right = self.instructions[position].args
            rest, term = left, self._product(right)
            if term is None:
                rest, term = right, self._product(left)
            if term is None:
                break
            terms.append(term)
            first = None
            if self._is_weight(rest):
                bias = rest
            elif (first := self._product(rest)) is not None:
                terms.append(first)
            else:
                slot = rest
                continue
            # One x in two terms of a sum would receive two additions, which a dense operation does not make.
            repeated = _repeated(terms)
            if repeated:
                additions = additions[:repeated]
                break
            terms.reverse()
            return _Unit(top, bias, terms, additions + [place for _, _, place in terms])
        # Each of these would lead to the same end, and is not to be walked from again: a long sum has many.
        self.no_units.update(additions)
        return None


def _repeated(terms: Sequence[tuple[int, int, int]]) -> int:
    """Return how many terms have to go, from the first, until no x occurs twice in the rest."""
    seen: set[int] = set()
    for place in range(len(terms) - 1, -1, -1):
        x = terms[place][1]
        if x in seen:
            return place + 1
        seen.add(x)
    return 0


def schedule(tape: Tape, parameters: Sequence[int], data: Sequence[int], outputs: Sequence[int]) -> Schedule:
    """Make the schedule of a graph.

    parameters, data   slots of inputs: those that are trained, and those that differ from point to point
    outputs   slots of nodes: the loss of a point, then the predictions
    """
    program = _Program(tape, parameters, data, tuple(dict.fromkeys(outputs)))
    return _Scheduler(program).run(outputs)


class _Scheduler:
    def __init__(self, program: _Program) -> None:
        self.program = program
        self.out = Schedule(list(program.data), masked=program.masked)
        self.row: dict[int, int] = {}
        self.share: dict[tuple[int, int], int] = {}
        self.dense: dict[int, Dense] = {}
        self.sums: set[int] = set()

    def run(self, outputs: Sequence[int]) -> Schedule:
        program, out = self.program, self.out
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
                groups += [_Group([position]) for group in wide for position in group.members]
            program.no_units.update(unit.position for group in cycle for unit in group.units)
            if not cycle:
                break
        self._place_numbers(order)
        self._place_rows(groups, order)
        for group in order:
            self._forward(group)
        self._backward(order)
        out.loss = self.row[outputs[0]]
        out.predictions = [self.row[slot] for slot in outputs[1:]]
        return out

    # -- grouping

    def _dense(self) -> list[_Group]:
        """Find the sums of products and put those over the same xs together."""
        program = self.program
        by_xs: dict[tuple[object, ...], list[_Unit]] = {}
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
                groups.append(_Group([unit.position for unit in units], units))
            else:
                groups += [_Group([unit.position], [unit]) for unit in units]
        return groups

    def _groups(self, dense: list[_Group], *, fusing: bool) -> list[_Group]:
        """Group the instructions that no dense operation covers: the same operation on consecutive rows."""
        program = self.program
        unit_at = {unit.position: unit for group in dense for unit in group.units}
        covered = {p for group in dense for unit in group.units for p in unit.inner}
        singles = [position for position in range(len(program.instructions)) if position not in covered]
        if not fusing:
            return [_Group([position]) for position in singles]
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
                    group = _Group(run)
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

    def _order(self, groups: list[_Group]) -> tuple[list[_Group], list[_Group]]:
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

    # -- places

    def _place_numbers(self, order: list[_Group]) -> None:
        """Give every number that is the same at every point its place: the weights first, each layer's side by side."""
        program, out = self.program, self.out
        place_of: dict[int, int] = {}
        for group in order:
            if not group.units:
                continue
            units, inputs = len(group.units), len(group.units[0].terms)
            wide_units, wide_inputs = self._padded(units), self._padded(inputs + 1)
            if wide_units * (inputs + 1) < wide_inputs * units:
                weights = Weights(units, inputs, out.size, 1, wide_units)
                out.size += wide_units * (inputs + 1)
            else:
                weights = Weights(units, inputs, out.size, wide_inputs, 1)
                out.size += wide_inputs * units
            out.weights.append(weights)
            for u, unit in enumerate(group.units):
                slots = [*(weight for weight, _, _ in unit.terms), unit.bias]
                for i, slot in enumerate(slots):
                    place = weights.place(u, i)
                    if slot is None:
                        out.literals[place] = _NOTHING
                    elif slot in program.literals:
                        out.literals[place] = program.literals[slot]
                    else:
                        place_of[slot] = place
        for slot in program.parameters:
            if slot not in place_of:
                place_of[slot] = out.size
                out.size += 1
        self.place_of = place_of
        out.parameters = [place_of[slot] for slot in program.parameters]

    def _padded(self, count: int) -> int:
        return -(-count // LANES) * LANES

    def _place_rows(self, groups: list[_Group], order: list[_Group]) -> None:
        """Give every slot its row. Members of a group have consecutive ones, even where it was taken apart."""
        program, out = self.program, self.out
        for group in groups:
            for position in group.members:
                self.row[program.instructions[position].target] = out.rows
                out.rows += 1
        covered = {p for group in order for unit in group.units for p in unit.inner}
        for position, (_, _, args) in enumerate(program.instructions):
            if position in covered:
                continue
            for slot in args:
                if slot in program.uniform and slot not in self.row:
                    self._spread(slot)
        # The xs of a dense operation that do not lie side by side are copied to rows that do.
        self.staged: dict[int, int] = {}
        for group in order:
            if group.units:
                xs = group.units[0].xs
                if any(x in program.data for x in xs) != all(x in program.data for x in xs) or not self._in_line(xs):
                    self.staged[id(group)] = out.rows
                    out.rows += len(xs)
        for slot, place in program.data.items():
            self.row[slot] = out.rows + place

    def _in_line(self, xs: Sequence[int]) -> bool:
        if xs[0] in self.program.data:
            places = [self.program.data[x] for x in xs]
        else:
            places = [self.row[x] for x in xs]
        return places == list(range(places[0], places[0] + len(places)))

    def _spread(self, slot: int) -> None:
        """Give a number that is the same at every point a row that it fills."""
        out = self.out
        place = self.place_of.get(slot)
        if place is None:
            place = self.place_of[slot] = out.size
            out.size += 1
            out.literals[place] = self.program.literals[slot]
        self.row[slot] = out.rows
        out.spread[out.rows] = place
        out.rows += 1

    # -- operations

    def _forward(self, group: _Group) -> None:
        program, out = self.program, self.out
        if group.units:
            xs = group.units[0].xs
            x = self.staged.get(id(group))
            if x is None:
                x = self.row[xs[0]]
            else:
                out.forward += [Copied(self.row[slot], x + i) for i, slot in enumerate(xs)]
            dense = Dense(len(self.dense), self._target(group.members[0]), x)
            self.dense[id(group)] = dense
            self.sums.update(program.instructions[position].target for position in group.members)
            out.forward.append(dense)
            return
        private = self._is_private(group.members)
        for run in self._steps(group.members, needed=None):
            target, operation, args = program.instructions[run[0]]
            rows = tuple(self.row[slot] for slot in args)
            out.forward.append(Wide(operation.name, len(run), self.row[target], rows, private))

    def _is_private(self, members: list[int]) -> bool:
        """Tell whether the arguments are sums of dense operations, which only these members and their pulls read."""
        program = self.program
        return all(
            len(args) == 1 and args[0] in self.sums and program.uses[args[0]] == 1 and args[0] not in program.outputs
            for args in (program.instructions[position].args for position in members)
        )

    def _target(self, position: int) -> int:
        return self.row[self.program.instructions[position].target]

    def _steps(self, members: list[int], needed: Collection[int] | None) -> list[list[int]]:
        """Return the members as one run, if each argument's rows are consecutive; else each for itself.

        needed   only these arguments count
        """
        places = range(len(self.program.instructions[members[0]].args)) if needed is None else needed
        for place in places:
            rows = [self.row[self.program.instructions[position].args[place]] for position in members]
            if rows != list(range(rows[0], rows[0] + len(rows))):
                return [[position] for position in members]
        return [members]

    def _backward(self, order: list[_Group]) -> None:
        program, out = self.program, self.out
        self.touched = {self.row[program.loss]}
        count = len(out.data) + out.rows
        for group in reversed(order):
            if group.units:
                self._dense_backward(group)
                continue
            for place in range(len(program.instructions[group.members[0]].args)):
                if (group.members[0], place) not in program.pulling:
                    continue
                for position in group.members:
                    slot = program.instructions[position].args[place]
                    if slot in program.uniform:
                        self.share[position, place] = count
                        count += 1
                self._pull(group.members, place)
        for slot in program.parameters:
            for use in program.pulls.get(slot, ()):
                if use in self.share:
                    out.shares.append((self.share[use], self.place_of[slot]))

    def _pull(self, members: list[int], place: int) -> None:
        program, out = self.program, self.out
        partial = program.instructions[members[0]].operation.partials[place]
        arity = len(program.instructions[members[0]].args)
        if isinstance(partial, Constant):
            needed: Collection[int] = ()
        elif isinstance(partial, Operand):
            needed = () if partial.position in (-1, arity) else (partial.position,)
        else:
            needed = range(arity)
        to = [self._gradient_row(position, place) for position in members]
        runs = self._steps(members, needed)
        firsts = {row not in self.touched for row in to}
        private = self._is_private(members)
        if to != list(range(to[0], to[0] + len(to))) or len(firsts) > 1:
            runs = [[position] for position in members]
        for run in reversed(runs):
            target, operation, args = program.instructions[run[0]]
            rows = (*(self.row[slot] for slot in args), self.row[target])
            at = self._gradient_row(run[0], place)
            first = at not in self.touched
            self.touched.update(range(at, at + len(run)))
            out.backward.append(Pull(operation.name, place, len(run), self.row[target], at, rows, first, private))

    def _gradient_row(self, position: int, place: int) -> int:
        if (position, place) in self.share:
            return self.share[position, place]
        return self.row[self.program.instructions[position].args[place]]

    def _dense_backward(self, group: _Group) -> None:
        program, out = self.program, self.out
        target = program.instructions[group.members[0]].target
        if target not in program.pulls and target != program.loss:
            return
        if target not in program.wanted:
            return
        forward = self.dense[id(group)]
        slots = [slot for unit in group.units for slot in (unit.bias, *(weight for weight, _, _ in unit.terms))]
        if any(slot in self.place_of and slot not in program.literals for slot in slots if slot is not None):
            out.backward.append(PullWeights(forward))
        wanted = [(i, x) for i, x in enumerate(group.units[0].xs) if x in program.wanted]
        if not wanted:
            return
        rows = [self.row[x] for _, x in wanted]
        firsts = [row not in self.touched for row in rows]
        staged = id(group) in self.staged
        if staged or len(wanted) < len(group.units[0].xs) or len(set(firsts)) > 1:
            out.backward += [Cleared(row) for row, first in zip(rows, firsts, strict=True) if first]
            firsts = [False]
        self.touched.update(rows)
        if staged:
            out.backward += [Copied(row, forward.x + i) for (i, _), row in zip(wanted, rows, strict=True)]
        out.backward.append(PullInputs(forward, firsts[0]))
        if staged:
            out.backward += [Copied(forward.x + i, row) for (i, _), row in zip(wanted, rows, strict=True)]
