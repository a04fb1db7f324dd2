"""The layered layout: what holds for every graph, and the shapes that make layouts explode."""

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_engine.drawing.layout import (
    BOX_HEIGHT,
    BUS_HEIGHT,
    COLUMN_GAP,
    MAX_LINES,
    MAX_VALUES,
    ROW_GAP,
    WIDEST_GAP,
    arrange,
    ports,
)
from chainrule_engine.errors import LimitExceeded

NEARLY = 1e-6

# No test here depends on the time that it takes.
untimed = settings(deadline=None)


def laid_out(args, outside=None):
    return arrange([80.0 + 7 * (value % 5) for value in range(len(args))], args, outside)


@st.composite
def graphs(draw):
    """Arguments of each value, among those before it; some values are leaves, some are used by nobody."""
    args = []
    for value in range(draw(st.integers(1, 30))):
        args.append(draw(st.lists(st.integers(0, value - 1), max_size=3, unique=True)) if value else [])
    return args


def random_graph(size, seed):
    generator = random.Random(seed)
    leaves = size // 20
    return [[]] * leaves + [
        sorted({generator.randrange(value), generator.randrange(value)}) for value in range(leaves, size)
    ]


def lines(layout):
    return sum(len(bus) for bus in layout.bus)


@untimed
@given(graphs())
def test_columns_follow_the_arguments_and_buses_end_before_their_farthest_user(args):
    layout = laid_out(args)
    farthest = {}
    for value, values in enumerate(args):
        for arg in values:
            assert layout.column[arg] < layout.column[value]
            farthest[arg] = max(farthest.get(arg, 0), layout.column[value])
    for value, bus in enumerate(layout.bus):
        start = layout.column[value]
        assert len(bus) == farthest.get(value, start + 1) - start - 1


@untimed
@given(graphs())
def test_nothing_overlaps(args):
    layout = laid_out(args)
    columns = [[] for _ in layout.left]
    for value, y in enumerate(layout.y):
        columns[layout.column[value]].append((y, BOX_HEIGHT / 2))
        for distance, height in enumerate(layout.bus[value], start=1):
            columns[layout.column[value] + distance].append((height, BUS_HEIGHT / 2))
    for members in columns:
        members.sort()
        assert members[0][0] - members[0][1] >= -NEARLY
        assert members[-1][0] + members[-1][1] <= layout.height + NEARLY
        for (upper, half_upper), (lower, half_lower) in pairwise(members):
            assert lower - upper >= half_upper + half_lower + ROW_GAP - NEARLY
    for value in range(len(args)):
        column = layout.column[value]
        assert layout.right[column] - layout.left[column] >= 80.0 + 7 * (value % 5) - NEARLY
    for right, left in zip(layout.right, layout.left[1:], strict=False):
        assert left - right + NEARLY >= COLUMN_GAP
        assert left - right <= WIDEST_GAP + NEARLY
    assert layout.left[0] == 0.0
    assert layout.width == layout.right[-1]


@untimed
@given(graphs())
def test_edges_arrive_in_the_order_in_which_they_come(args):
    layout = laid_out(args)
    for value, values in enumerate(args):
        heights = {}
        for arg in values:
            span = layout.column[value] - layout.column[arg]
            heights[arg] = layout.y[arg] if span == 1 else layout.bus[arg][span - 2]
        ordered = sorted(values, key=heights.__getitem__)
        assert [layout.ports[value][arg] for arg in ordered] == ports(len(values))


@untimed
@given(graphs())
def test_crossings_are_those_of_the_drawing(args):
    layout = laid_out(args)
    gaps = [set() for _ in layout.left]
    for value, values in enumerate(args):
        for arg in values:
            start = layout.column[arg]
            heights = [layout.y[arg], *layout.bus[arg][: layout.column[value] - start - 1], layout.y[value]]
            for distance, edge in enumerate(pairwise(heights)):
                gaps[start + distance].add(edge)
    crossings = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for edges in gaps for a, b in combinations(edges, 2))
    assert layout.crossings == crossings


@untimed
@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_a_tree_has_no_crossings(choices):
    # Built from the root: each further value feeds one of those before it, and has no other user.
    users = [choice % (position + 1) for position, choice in enumerate(choices)]
    args = [[] for _ in range(len(users) + 1)]
    for value, user in enumerate(users, start=1):
        args[len(users) - user].append(len(users) - value)
    assert laid_out(args).crossings == 0


def test_arguments_outside_the_drawing_get_the_lowest_ports():
    layout = laid_out([[], [0]], outside=[0, 2])
    assert layout.ports[1] == {0: ports(3)[0]}


def test_two_alike_neurons_line_up():
    # x, then per neuron: w, w*x, b, w*x + b, tanh.
    args = [[], [], [0, 1], [], [2, 3], [4], [], [0, 6], [], [7, 8], [9]]
    column = laid_out(args).column
    assert column[1:6] == column[6:11]


def test_a_product_stands_beside_the_sum_that_uses_it():
    # s = s + w*x, ten times, with the products listed first.
    terms = 10
    products = [args for first in range(0, 3 * terms, 3) for args in ([], [], [first, first + 1])]
    args = [*products, []]
    for term in range(terms):
        args.append([len(args) - 1, 3 * term + 2])
    layout = laid_out(args)
    assert lines(layout) == 0


def test_a_power_chain_has_one_line_per_column():
    args = [[], [0], *([value, 0] for value in range(1, MAX_VALUES - 1))]
    layout = laid_out(args)
    assert lines(layout) == MAX_VALUES - 2
    assert layout.crossings == 0


@pytest.mark.parametrize("shared", [False, True], ids=["own factors", "shared factors"])
def test_a_long_sum_of_deep_terms_stays_linear(shared):
    # s = s + tanh(w*x), all the terms before the sums: in columns by depth these would be 11,000 lines.
    terms, args = 150, [[], []]
    ends = []
    for _ in range(terms):
        factors = [0, 1] if shared else [len(args), len(args) + 1]
        args += [] if shared else [[], []]
        args += [factors, [len(args)]]
        ends.append(len(args) - 1)
    for previous, end in enumerate(ends[1:]):
        args.append([ends[0] if not previous else len(args) - 1, end])
    assert lines(laid_out(args)) <= 2 * len(args)


def test_a_random_graph_of_the_largest_size_is_bounded():
    layout = laid_out(random_graph(MAX_VALUES, seed=1))
    assert len(layout.y) == MAX_VALUES
    assert lines(layout) <= MAX_LINES


def test_many_early_values_that_are_all_used_late_are_refused():
    # Each value is used by an early chain and by a late one, so nothing can move: half a million lines.
    early, args = 300, [[]]
    args += [[0] for _ in range(early)]
    for _ in range(2):
        for value in range(1, early + 1):
            args.append([len(args) - 1, value])
    with pytest.raises(LimitExceeded) as refused:
        laid_out(args)
    assert refused.value.limit == "drawing_lines"
    assert refused.value.maximum == MAX_LINES
    assert refused.value.requested > MAX_LINES
    assert "focus and depth" in str(refused.value)


def test_too_many_values_are_refused():
    with pytest.raises(LimitExceeded, match="focus and depth") as refused:
        laid_out([[]] * (MAX_VALUES + 1))
    assert (refused.value.limit, refused.value.requested) == ("drawing_size", MAX_VALUES + 1)


def test_nothing_is_laid_out_as_nothing():
    layout = arrange([], [])
    assert (layout.width, layout.height, layout.crossings) == (0.0, 0.0, 0)
