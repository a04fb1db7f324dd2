"""Quotas: what several processes take out of one bucket together."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sql
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule_service.database import Database
from chainrule_service.rates import RATES, Policy, QuotaExceeded, Rates

DAY = 86_400


def takes(rates, policy, amount=1, owner="ada"):
    """Tell whether so much was to be had."""
    try:
        rates.take(owner, policy, amount)
    except QuotaExceeded:
        return False
    return True


@pytest.mark.parametrize("quota", [1, 7, 49, 250, 6_000])
def test_the_whole_quota_at_once_and_not_one_more(database, quota):
    rates, policy = Rates(database), Policy("requests", quota, DAY * 1_000)
    assert [rates.take("ada", policy).left for _ in range(quota)] == list(range(quota))[::-1]
    with pytest.raises(QuotaExceeded) as refused:
        rates.take("ada", policy)
    standing = refused.value.standing
    assert (standing.policy, standing.left) == (policy, 0)
    assert 0 < standing.seconds <= policy.window / quota + 1
    assert takes(rates, policy, owner="bob")
    assert takes(rates, Policy("work", quota, DAY))


def test_it_comes_back_with_time(database):
    rates, policy = Rates(database), Policy("requests", 20, 2)
    start = time.monotonic()
    taken, deadline = 0, start + 3
    while time.monotonic() < deadline:
        taken += takes(rates, policy)
        time.sleep(0.001)
    # So much there was at first, and so much came since; at the end a bound time is asked about from outside.
    assert 40 <= taken <= 20 + 10 * (time.monotonic() - start)


def test_after_the_seconds_that_a_refusal_tells_there_is_as_much_as_was_asked_for(database):
    rates, policy = Rates(database), Policy("work", 300, 6)
    assert takes(rates, policy, 300)
    with pytest.raises(QuotaExceeded) as refused:
        rates.take("ada", policy, 100)
    assert refused.value.standing.seconds == 2
    time.sleep(2)
    assert takes(rates, policy, 100)


def test_what_is_given_back_is_everybodys_again(database):
    here, there, policy = Rates(database), Rates(database), Policy("work", 1_000, DAY)
    assert here.take("ada", policy, 900).left == 100
    assert here.give_back("ada", policy, 900).left == 1_000
    assert takes(there, policy, 990)  # all but the hundredth that the other process holds
    assert takes(here, policy, 10)
    assert not takes(here, policy, 10)


@pytest.mark.parametrize("away", [False, True])
def test_what_was_given_back_is_not_had_twice_a_day_later(monkeypatch, away):
    """Not even where the database was away when it was given back, so that the process had to keep it."""
    clock = [0.0]
    monkeypatch.setattr("chainrule_service.rates.time", SimpleNamespace(monotonic=lambda: clock[0]))
    with contextlib.closing(Database(None, now=lambda: 1_800_000_000 + clock[0])) as database:
        process, policy = Rates(database), Policy("work", 1_000, DAY)
        for _ in range(9):
            process.take("ada", policy, 100)
        process._database = Database("sqlite:////nowhere/chainrule.sqlite3") if away else database
        for _ in range(9):
            process.give_back("ada", policy, 100)
        process._database = database
        clock[0] += DAY
        had = 0
        for _ in range(20):
            had += takes(process, policy, 100)
            clock[0] += 1  # a hundredth of a unit: less than nothing is never left by the rounding of times
        assert had == 10


def test_more_than_there_ever_is(database):
    with pytest.raises(ValueError, match="101 units are more than the 100 that there ever are"):
        Rates(database).take("ada", Policy("work", 100, 60), 101)


@settings(max_examples=60, deadline=None)
@given(
    quota=st.integers(1, 2_000),
    asked=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), max_size=60),
)
def test_processes_never_take_more_together_than_there_is(quota, asked):
    """Each `Rates` holds what a process would; a refusal is right to within what the others hold."""
    policy = Policy("work", quota, DAY * 10_000)
    with contextlib.closing(Database(None)) as database:
        processes, taken = [Rates(database) for _ in range(4)], 0
        for process, amount in asked:
            if amount > quota:
                continue
            if takes(processes[process], policy, amount):
                taken += amount
            else:
                assert taken + amount > quota - 3 * max(quota // 100, 1)
            assert taken <= quota


def spend(url, policy, taken):
    """Take until there is nothing left, in a process of its own, which then holds nothing either."""
    count = 0
    with contextlib.closing(Database(url)) as database:
        rates = Rates(database)
        while takes(rates, policy):
            count += 1
    taken.put(count)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("quota", [99, 3_000])
def test_four_processes_share_a_quota(url, database, quota):
    context, policy = multiprocessing.get_context("spawn"), Policy("requests", quota, DAY * 1_000)
    taken = context.Queue()
    processes = [context.Process(target=spend, args=(url, policy, taken)) for _ in range(4)]
    for process in processes:
        process.start()
    total = sum(taken.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(10)
    assert total == quota


def test_few_requests_write(database):
    rates, policy = Rates(database), Policy("requests", 10_000, 60)
    seen = set()
    for _ in range(1_000):
        rates.take("ada", policy)
        with database.transaction(reads=True) as connection:
            seen.add(connection.scalar(sql.select(RATES.c.full_at)))
    assert len(seen) == 10


def test_refusals_do_not_write_and_hardly_read(database):
    rates, policy = Rates(database), Policy("requests", 10, DAY)
    for _ in range(10):
        rates.take("ada", policy)
    database.close()
    gone = Database("sqlite:////nowhere/chainrule.sqlite3")
    rates._database = gone  # it would raise
    assert not any(takes(rates, policy) for _ in range(100))


@pytest.mark.parametrize("shift", [-3_600, 3_600])
def test_a_clock_that_is_set_costs_at_most_one_window(tmp_path, shift):
    now = [1_800_000_000.0]
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'db'}", now=lambda: now[0])) as database:
        policy = Policy("requests", 60, 60)
        assert takes(Rates(database), policy, 60)
        now[0] += shift
        assert takes(Rates(database), policy) is (shift > 0)
        now[0] += 60
        assert takes(Rates(database), policy, 59)


def test_a_quota_that_is_set_counts_at_once(database):
    assert takes(Rates(database), Policy("work", 1_000, DAY), 1_000)
    assert not takes(Rates(database), Policy("work", 1_000, DAY), 500)
    assert not takes(Rates(database), Policy("work", 100_000, DAY), 99_000)
    time.sleep(0.1)
    assert not takes(Rates(database), Policy("work", 10, DAY), 10)
