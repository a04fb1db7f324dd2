"""Places for requests that wait, and how callers share them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainrule_service.seats import Seats

CALLERS = "", "ada", "bob", "eve"


def taken(seats, caller):
    """Take all that a caller gets, and return how many that were."""
    number = 0
    while seats.take(caller):
        number += 1
    return number


def test_whoever_comes_later_finds_some():
    seats = Seats(12)
    assert [taken(seats, caller) for caller in CALLERS[1:]] == [6, 3, 2]
    assert seats.free == 1


def test_those_without_a_name_have_what_is_free():
    seats = Seats(12)
    assert (taken(seats, ""), seats.free) == (12, 0)


def test_the_only_place_is_for_anybody():
    for caller in CALLERS:
        assert taken(Seats(1), caller) == 1
        assert taken(Seats(0), caller) == 0


@given(number=st.integers(0, 9), steps=st.lists(st.tuples(st.booleans(), st.sampled_from(CALLERS))))
def test_no_place_is_lost_or_given_twice(number, steps):
    seats, held = Seats(number), []
    for takes, caller in steps:
        if takes:
            wanted = seats.free and (not caller or held.count(caller) < seats.free)
            assert seats.take(caller) == bool(wanted)
            held += [caller] if wanted else []
        elif caller in held:
            seats.leave(caller)
            held.remove(caller)
        assert seats.free == number - len(held)
