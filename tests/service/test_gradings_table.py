"""The gradings table, on each kind of database; and the tasks that are remembered."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sql
from tests.service.databases import start

from chainrule_engine.grading import Report, grade, read_task
from chainrule_engine.grading.fields import MAX_TEXT
from chainrule_engine.grading.grader import MAX_ID
from chainrule_service import grading_reading
from chainrule_service.database import Database
from chainrule_service.gradings import GRADINGS, Grading, Gradings
from chainrule_service.settings import Settings
from chainrule_service.store import Store
from chainrule_service.task_cache import TaskCache
from chainrule_service.upkeep import _Upkeep

TASK = read_task({"id": "t", "evaluation": {"graph": {"inputs": {"x": 3.0}, "program": "y = x*x"}}})
OTHER = read_task({"id": "t", "title": "2", "evaluation": {"graph": {"inputs": {"x": 3.0}, "program": "y = x*x"}}})
ANSWERS = {"value": 9, "gradients": {"x": 5}}


def report(submission=None, attempt=None, task=TASK, answers=ANSWERS):
    return grade(task, answers, {"id": submission, "attempt": attempt}).to_dict("staff")


@pytest.fixture
def gradings(database):
    return Gradings(database)


def rows(gradings):
    with gradings._database.transaction(reads=True) as connection:
        return connection.scalar(sql.select(sql.func.count()).select_from(GRADINGS))


def test_what_is_recorded_comes_back(gradings):
    one = report("s", 2)
    assert gradings.record("ada", [Grading(one)]) == [True]
    assert gradings.get("ada", one["id"]) == Grading(one)
    assert gradings.get("ada", "sha256:" + "0" * 64) is None
    (entry,) = gradings.page("ada", 5)
    assert entry["task"] == {"id": "t", "digest": TASK.digest}
    assert entry["submission"] == {"id": "s", "attempt": 2}
    assert (entry["outcome"], entry["score"], entry["max_score"]) == ("graded", 1, 2)
    assert (entry["supersedes"], entry["superseded_by"], entry["reason"]) == (None, None, None)
    assert Report.from_dict(gradings.get("ada", one["id"]).report).to_dict("staff") == one


def test_the_same_again_makes_no_second_row(gradings):
    one, two = report("s", 1), report("s", 2)
    assert gradings.record("", [Grading(one)]) == [True]
    assert gradings.record("", [Grading(two), Grading(one), Grading(two)]) == [True, False, True]
    assert rows(gradings) == 2


def test_of_each_owner_its_own(gradings):
    one = report("s")
    assert gradings.record("ada", [Grading(one)]) == gradings.record("bob", [Grading(one)]) == [True]
    assert gradings.delete("ada", "s") == 1
    assert gradings.get("ada", one["id"]) is None
    assert gradings.get("bob", one["id"]) is not None
    assert gradings.page("ada", 5) == []
    assert gradings.find("ada", [one["id"]]) == {}


def test_a_regrade_and_the_way_back_are_rows_of_their_own(gradings):
    first, second = report("s"), report("s", task=OTHER)
    gradings.record("", [Grading(first)])
    assert gradings.record("", [Grading(second, first["id"], "a mistake in the task")]) == [True]
    assert gradings.record("", [Grading(second, first["id"], "again")]) == [False]
    assert gradings.get("", first["id"]).superseded_by == second["id"]
    assert gradings.get("", second["id"]) == Grading(second, first["id"], "a mistake in the task")
    # The mistake was none.
    assert gradings.record("", [Grading(first, second["id"])]) == [True]
    assert gradings.get("", first["id"]) == Grading(first, second["id"])
    assert gradings.get("", second["id"]).superseded_by == first["id"]
    told = [(entry["id"], entry["supersedes"], entry["superseded_by"]) for entry in gradings.page("", 5)]
    one, two = first["id"], second["id"]
    assert told == [(one, two, None), (two, one, one), (one, None, two)]


def test_pages_and_filters(gradings):
    made = [report(f"s{number % 2}", number + 1, task) for number in range(6) for task in (TASK, OTHER)]
    made.append(report("s0", answers={"value": "nine"}))
    gradings.record("", [Grading(each) for each in made])
    ids = [entry["id"] for entry in gradings.page("", 100)]
    assert ids == [each["id"] for each in made][::-1]
    first = gradings.page("", 5)
    second = gradings.page("", 100, first[-1]["seq"])
    assert [entry["id"] for entry in first + second] == ids
    assert len(gradings.page("", 100, task="t")) == 13
    assert {entry["id"] for entry in gradings.page("", 100, task=OTHER.digest)} == {
        each["id"] for each in made if each["task"]["digest"] == OTHER.digest
    }
    assert {entry["submission"]["id"] for entry in gradings.page("", 100, submission="s1")} == {"s1"}
    assert [entry["id"] for entry in gradings.page("", 100, outcome="not_gradable")] == [made[-1]["id"]]
    assert gradings.delete("", "s1") == 6
    assert gradings.delete("", "s1") == 0
    assert len(gradings.page("", 100)) == 7


def test_many_at_once_record_each_report_once(database, gradings):
    made = [Grading(report(f"s{number}")) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(Gradings(database).record, "", made) for _ in range(8)]:
            future.result()
    assert rows(gradings) == 8


def test_a_thousand_together(gradings):
    one = report()
    many = [Grading({**one, "id": f"sha256:{number:064x}"}) for number in range(1000)]
    assert gradings.record("", many) == [True] * 1000
    assert gradings.record("", many) == [False] * 1000
    assert rows(gradings) == 1000


def test_text_of_all_kinds_is_kept(gradings):
    strange = "é \U0001d6fc \\u0000 ' \" % ?"
    one = report(None, answers={"value": "\x00 <b>", "gradients": {}})
    gradings.record("", [Grading(one, None, strange)])
    assert gradings.get("", one["id"]).report == one
    assert gradings.page("", 1)[0]["reason"] == strange


def test_the_longest_ids_fit(gradings):
    graph = {"evaluation": {"graph": {"inputs": {"x": 3.0}, "program": "y = x*x"}}}
    one = report("s" * MAX_ID, 2**53 - 1, read_task({"id": "ü" * MAX_TEXT, "title": "ß" * MAX_TEXT} | graph))
    gradings.record("k" * 16, [Grading(one, "sha256:" + "f" * 64, "\U0001d6fc" * 1000)])
    (entry,) = gradings.page("k" * 16, 5, task="ü" * MAX_TEXT, submission="s" * MAX_ID)
    assert (entry["task"]["id"], entry["submission"]["attempt"]) == ("ü" * MAX_TEXT, 2**53 - 1)


def test_the_oldest_are_swept_away(gradings, database):
    old, new = report("old"), report("new")
    gradings.record("", [Grading(old), Grading(new)])
    gradings.sweep(90)
    assert rows(gradings) == 2
    with database.transaction() as connection:
        aged = (
            sql.update(GRADINGS).where(GRADINGS.c.submission == "old").values(created=GRADINGS.c.created - 91 * 86_400)
        )
        connection.execute(aged)
    gradings.sweep(90)
    assert [entry["submission"]["id"] for entry in gradings.page("", 5)] == ["new"]


def test_the_upkeep_sweeps(database, gradings):
    gradings.record("", [Grading(report("s"))])
    with database.transaction() as connection:
        connection.execute(sql.update(GRADINGS).values(created=GRADINGS.c.created - 3 * 86_400))
    store = Store(database)
    _Upkeep(store, Settings(limits={"retention_days": 4}), "host:1").do()
    assert rows(gradings) == 1
    _Upkeep(store, Settings(limits={"retention_days": 2}), "host:1").do()
    assert rows(gradings) == 0


def test_a_process_that_dies_after_the_answer_has_recorded_it(tmp_path):
    """What was told is kept is on the disk: the process is killed the moment that `record` returns."""
    script = (
        "import json, os, signal, sys\n"
        "from chainrule_service.database import Database\n"
        "from chainrule_service.gradings import Grading, Gradings\n"
        "Gradings(Database(sys.argv[1])).record('', [Grading(json.loads(sys.stdin.read()))])\n"
        "print('recorded', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    one, url = report("s"), f"sqlite:///{tmp_path / 'chainrule.sqlite3'}"
    process = start(script, url)
    written, _ = process.communicate(json.dumps(one), timeout=60)
    assert written == "recorded\n"
    database = Database(url)
    assert Gradings(database).get("", one["id"]).report == one
    database.close()


# ---------------------------------------------------------------------------------------------- remembered tasks


def test_a_task_is_read_once():
    cache, reads = TaskCache(), []
    assert cache.get(b"a", lambda: reads.append(1) or "A") == "A"
    assert cache.get(b"a", lambda: reads.append(1) or "another") == "A"
    assert reads == [1]


def test_the_one_that_was_used_the_longest_ago_is_forgotten():
    cache = TaskCache(most=2)
    for text in (b"a", b"b", b"a", b"c"):
        cache.get(text, lambda text=text: text)
    assert len(cache) == 2
    assert cache.get(b"a", lambda: "read again") == b"a"
    assert cache.get(b"b", lambda: "read again") == "read again"


def test_so_many_bytes_are_remembered_and_no_more():
    cache = TaskCache(int, size=20, largest=10)
    for text in (b"aaaa", b"bbbb", b"cccc"):
        cache.get(text, lambda: "5")
    assert len(cache) == 2
    assert cache.get(b"aaaa", lambda: "3") == "3"
    assert cache._held == 16


@pytest.mark.parametrize(("text", "task"), [(b"x" * 11, "0"), (b"x", "10")])
def test_what_is_too_large_is_not_remembered_and_nothing_is_forgotten_for_it(text, task):
    cache = TaskCache(int, size=20, largest=10)
    cache.get(b"aaaa", lambda: "5")
    cache.get(b"bbbb", lambda: "5")
    assert cache.get(text, lambda: task) == task
    assert cache.get(text, lambda: "0") == "0"
    assert cache.get(b"aaaa", lambda: "6") == cache.get(b"bbbb", lambda: "6") == "5"


def test_a_task_weighs_what_is_computed_of_it_too():
    """Each bound is of memory that was measured with tracemalloc, rounded down."""

    def weight(nodes, points=None, **members):
        x = 0.5 if points is None else [0.5] * points
        program = "\n".join(f"x{k + 1} = tanh(x{k})" for k in range(nodes))
        task = {"evaluation": {"graph": {"inputs": {"x0": x}, "program": program}}} | members
        return grading_reading.weight(read_task(task))

    assert weight(1_500, 2_000) > 230_000_000
    assert weight(50) > 3_000_000
    assert weight(1_000) > 100_000_000
    assert weight(50, diagnose=False) < 500_000


def test_what_cannot_be_read_is_not_remembered():
    cache = TaskCache()

    def fail():
        raise ValueError("no task")

    for _ in range(2):
        with pytest.raises(ValueError, match="no task"):
            cache.get(b"a", fail)
    assert len(cache) == 0
    assert cache.get(b"a", lambda: "A") == "A"
    assert cache._held == 1


def test_who_comes_meanwhile_waits_and_reads_nothing():
    cache, reads, begun = TaskCache(), [], threading.Event()

    def read():
        begun.set()
        reads.append(1)
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(cache.get, b"a", read)
        begun.wait()
        rest = [threads.submit(cache.get, b"a", read) for _ in range(7)]
        assert {id(future.result()) for future in rest} == {id(first.result())}
    assert reads == [1]


def test_a_slow_task_holds_up_no_other():
    cache, go = TaskCache(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(cache.get, b"slow", lambda: go.wait(60) and "slow")
        assert cache.get(b"quick", lambda: "quick") == "quick"
        go.set()
        assert slow.result() == "slow"
