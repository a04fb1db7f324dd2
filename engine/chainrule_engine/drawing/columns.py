"""The columns of a layout."""

from __future__ import annotations

from collections.abc import Sequence


def choose_columns(args: Sequence[Sequence[int]], users: Sequence[Sequence[int]]) -> list[int]:
    """Choose a column for each value, after those of its arguments: alike parts line up, or else the buses are short.

    `args` holds the arguments of each value, `users` the values that use it; both only by position, each once.
    """
    early: list[int] = []
    for values in args:
        early.append(1 + max((early[arg] for arg in values), default=-1))
    # What is alike and as deep stands in one column; only leaves, and what one user makes of them, go to their user.
    aligned = list(early)
    for value in reversed(range(len(args))):
        alone = len(users[value]) == 1 and any(not args[arg] for arg in args[value])
        if alone or (users[value] and not args[value]):
            aligned[value] = min(aligned[user] for user in users[value]) - 1
    late = list(early)
    for value in reversed(range(len(args))):
        if users[value]:
            late[value] = min(late[user] for user in users[value]) - 1
    # Improving goes one value at a time, so it stops at different places from the two ends.
    for column in (early, late):
        for _ in range(3):
            _shorten_buses(column, args, users)
    short = min(early, late, key=lambda column: sum(bus_lengths(column, users)))
    # A long sum of deep terms is the case where lining up would cost more than it shows.
    extra = sum(bus_lengths(aligned, users)) - sum(bus_lengths(short, users))
    return aligned if extra <= len(args) else short


def _shorten_buses(column: list[int], args: Sequence[Sequence[int]], users: Sequence[Sequence[int]]) -> None:
    """Move each value, from the last to the first, to the column where its bus and those it ends are shortest."""
    farthest = [max((column[user] for user in users[value]), default=0) for value in range(len(args))]
    for value in reversed(range(len(args))):
        if not users[value]:
            continue
        lowest = 1 + max((column[arg] for arg in args[value]), default=-1)
        highest = min(column[user] for user in users[value]) - 1
        # One column to the right shortens the value's own bus by one and lengthens the bus of each argument whose
        # other users are all before: worth it, or neutral, up to the second such argument.
        others = {}
        for arg in args[value]:
            others[arg] = farthest[arg]
            if farthest[arg] == column[value]:
                others[arg] = max((column[user] for user in users[arg] if user != value), default=-1)
        # An argument that nobody else uses can come along.
        ends = sorted(end if end >= 0 else highest for end in others.values())
        column[value] = max(lowest, min(highest, ends[1] if len(ends) > 1 else highest))
        for arg, end in others.items():
            farthest[arg] = max(end, column[value])


def bus_lengths(column: Sequence[int], users: Sequence[Sequence[int]]) -> list[int]:
    """Count the columns between each value and its farthest user."""
    return [
        max((column[user] for user in users[value]), default=start + 1) - start - 1
        for value, start in enumerate(column)
    ]
