"""From groups in order to a schedule: places for numbers, rows for slots, operations forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chainrule_engine.fusion.grouping import Group
from chainrule_engine.fusion.sums import Program
from chainrule_engine.operations import Constant, Operand
from chainrule_engine.schedule import (
    Cleared,
    Copied,
    Dense,
    Pull,
    PullInputs,
    PullWeights,
    Schedule,
    Weights,
    Wide,
    padded,
)

#: A sum that starts with a product starts from the one number that an addition does not change.
_NOTHING = -0.0


class Writer:
    """Writes one schedule."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.out = Schedule(list(program.data), masked=program.masked)
        self.row: dict[int, int] = {}
        self.share: dict[tuple[int, int], int] = {}
        self.dense: dict[int, Dense] = {}
        self.sums: set[int] = set()

    def run(self, groups: Sequence[Group], order: Sequence[Group], outputs: Sequence[int]) -> Schedule:
        """Return the schedule.

        groups    members of one have consecutive rows, even where it was taken apart for `order`
        outputs   slots: the loss of a point, then the predictions
        """
        out = self.out
        self._place_numbers(order)
        self._place_rows(groups, order)
        for group in order:
            self._forward(group)
        self._backward(order)
        out.loss = self.row[outputs[0]]
        out.predictions = [self.row[slot] for slot in outputs[1:]]
        return out

    # -- places

    def _place_numbers(self, order: Sequence[Group]) -> None:
        """Give every number that is the same at every point its place: the weights first, each layer's side by side."""
        program, out = self.program, self.out
        place_of: dict[int, int] = {}
        for group in order:
            if not group.units:
                continue
            units, inputs = len(group.units), len(group.units[0].terms)
            wide_units, wide_inputs = padded(units), padded(inputs + 1)
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

    def _place_rows(self, groups: Sequence[Group], order: Sequence[Group]) -> None:
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

    def _forward(self, group: Group) -> None:
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

    def _backward(self, order: Sequence[Group]) -> None:
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

    def _dense_backward(self, group: Group) -> None:
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
