"""The worker for Open edX's queues, against a server that speaks their protocol."""

import json
import random
import threading
from xml.etree import ElementTree

import pytest
from tests.client.xqueues import MAX_FAILURES, PASSWORD, USER, Queue

from chainrule import APIConnectionError, APIResponseError, APITimeoutError, MissingExtraError, _xqueue
from chainrule._errors import Problem, status_error
from chainrule._xqueue import QueueError, Superseded, Unreadable, XQueue, _pulled
from chainrule._xqueue_worker import Attempts, DeadLetters, TaskMissing, Tasks, Tried, Worker, check_result

TASK = {"id": "q3", "evaluation": {"graph": {"inputs": {"x": 2.0}, "program": "y = x*x"}}}
RESULT = json.dumps({"correct": True, "score": 2, "msg": "<div>é &amp; &lt;b&gt;</div>"})


@pytest.fixture
def server():
    with Queue() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "q3.json").write_text(json.dumps(TASK))
    return folder


class Grader:
    """Gives `RESULT`, or raises what it is told to, and notes what it was asked."""

    def __init__(self, *troubles):
        self.troubles, self.asked = list(troubles), []

    def __call__(self, task, response, submission):
        self.asked.append((task["id"], response, submission))
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        return RESULT


@pytest.fixture
def worker(server, folder, tmp_path):
    made = []

    def make(grade=None, **options):
        queue = XQueue(server.url, "my queue", user=USER, password=options.pop("password", PASSWORD))
        made.append(queue)
        dead = DeadLetters(tmp_path / "dead.jsonl")
        tried = Attempts(tmp_path / "dead.jsonl.attempts")
        worker = Worker(queue, Tasks(folder), grade or Grader(), dead, tried, **options)
        worker.pauses = []
        worker._pause = lambda count, longest: worker.pauses.append(count)
        return worker

    yield make
    for queue in made:
        queue.close()


def letters(tmp_path):
    file = tmp_path / "dead.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def tried(tmp_path):
    folder = tmp_path / "dead.jsonl.attempts"
    return [json.loads(file.read_text()) for file in folder.iterdir()] if folder.exists() else []


# ------------------------------------------------------------------------------------------------------ the protocol


def test_each_submission_is_graded_once_and_answered_in_order(server, worker):
    items = [server.add('{"value": 4}'), server.add('{"value": 5, "é": "\\n&="}')]
    grade = Grader()
    counts = worker(grade).run(once=True)
    assert (counts.graded, counts.failed, counts.troubles) == (2, 0, 0)
    assert grade.asked == [("q3", item.response, str(item.number)) for item in items]
    assert [item.results for item in items] == [[json.loads(RESULT)]] * 2
    assert server.calls[:2] == ["GET login", "POST login"]
    assert server.calls.count("POST login") == 1


def test_an_address_that_ends_in_the_path_of_the_queue_is_understood(server):
    with_path = XQueue(server.url + "/xqueue/", "my queue", user=USER, password=PASSWORD)
    assert with_path.take() is None
    with_path.close()


@pytest.mark.parametrize("address", ["nowhere", "ftp://host", "https://"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="address such as"):
        XQueue(address, "q")


def test_a_session_that_has_ended_is_begun_anew(server, worker):
    server.add('{"value": 4}')
    one = worker()
    assert one.run(once=True).graded == 1
    server.sessions.clear()
    server.add('{"value": 4}')
    assert one.run(once=True).graded == 2
    assert server.calls.count("POST login") == 2


def test_a_session_may_end_between_pull_and_result(server, worker):
    item = server.add('{"value": 4}')

    def grade(*_):
        server.sessions.clear()
        return RESULT

    assert worker(grade).run(once=True).graded == 1
    assert len(item.results) == 1


def test_a_wrong_password_is_trouble_and_is_not_shown(server, worker, caplog):
    counts = worker(password="wrong one").run(once=True)
    assert (counts.graded, counts.troubles) == (0, 1)
    assert "check user and password" in caplog.text
    assert "wrong one" not in caplog.text


@pytest.mark.parametrize("fault", [500, 503, 429, "hang up", 404])
def test_a_queue_that_is_away_is_trouble(server, worker, fault):
    server.add('{"value": 4}')
    server.faults["get_submission"] = [fault]
    assert worker().run(once=True).troubles == 1


def test_nothing_listens_there(worker, server):
    queue = XQueue("http://127.0.0.1:1", "q")
    with pytest.raises(QueueError, match="no answer"):
        queue.take()


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"3", b'{"code": 0}', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_not_a_queues_is_trouble(answer, monkeypatch):
    class Response:
        status_code, headers, cookies = 200, {"Content-Type": "text/html"}, []

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def iter_content(self, _):
            yield answer

    queue = XQueue("http://127.0.0.1:1", "q")
    monkeypatch.setattr(queue._session, "request", lambda *_, **__: Response())
    with pytest.raises(QueueError, match="not that of a queue"):
        queue.take()


@pytest.mark.parametrize("fault", [500, "hang up", 503])
def test_a_result_is_put_again_until_it_arrives(server, worker, fault):
    item = server.add('{"value": 4}')
    server.faults["put_result"] = [fault] * 3
    one = worker()
    counts = one.run(once=True)
    assert (counts.graded, counts.troubles) == (1, 0)
    assert one.pauses[:3] == [1, 2, 3]
    assert len(item.results) == 1


def test_a_result_that_cannot_be_put_is_left_to_the_next_time(server, worker):
    item = server.add('{"value": 4}')
    server.faults["put_result"] = [500] * 5
    one = worker()
    counts = one.run(once=True)
    assert (counts.graded, counts.failed, counts.troubles) == (0, 0, 1)
    server.lapse(item)
    assert one.run(once=True).graded == 1
    assert item.pulls == 2


def test_what_somebody_else_has_answered_is_left(server, worker):
    item = server.add('{"value": 4}')

    def grade(*_):
        item.key = "of another pull"
        return RESULT

    counts = worker(grade).run(once=True)
    assert (counts.graded, counts.failed, counts.dead) == (0, 0, 0)
    assert item.results == []


@pytest.mark.parametrize("seed", range(5))
def test_whatever_breaks_on_the_way_every_submission_is_answered_and_always_the_same(server, worker, tmp_path, seed):
    """A result may arrive twice, when its first arrival was not heard of; then both are equal."""
    chance = random.Random(seed)
    faults = [None, None, None, 500, 503, 429, "hang up", "lose", "refuse"]
    server.patience = 0.0
    items = [server.add(json.dumps({"value": number})) for number in range(12)]
    for what in ("login", "get_submission", "put_result"):
        server.faults[what] = [chance.choice(faults) for _ in range(60)]
    one = worker(
        lambda task, response, _: json.dumps({"correct": False, "score": json.loads(response)["value"], "msg": "<p/>"})
    )
    for _ in range(300):
        one.run(once=True)
        if all(item.results for item in items):
            break
    assert [{json.dumps(result) for result in item.results} for item in items] == [
        {json.dumps({"correct": False, "score": number, "msg": "<p/>"})} for number in range(12)
    ]
    assert (one.counts.failed, letters(tmp_path)) == (0, [])


def test_a_refusal_that_is_not_the_queues_loses_no_result(server, worker, tmp_path):
    """A proxy or a missing token answers 403 too; nobody has answered the submission then."""
    item = server.add('{"value": 4}')
    server.faults["put_result"] = ["refuse"] * 20
    counts = worker().run(once=True)
    assert (counts.graded, counts.failed, counts.troubles) == (0, 0, 1)
    assert letters(tmp_path) == []
    server.faults.clear()
    server.lapse(item)
    assert worker().run(once=True).graded == 1


def test_a_result_that_is_refused_counts_against_the_submission(server, worker):
    server.add('{"value": 4}')
    server.faults["put_result"] = [400]
    counts = worker().run(once=True)
    assert (counts.graded, counts.failed) == (0, 1)


def test_a_queue_may_need_no_login(server, monkeypatch):
    queue = XQueue(server.url, "my queue")
    with pytest.raises(QueueError, match="does not know who asks"):
        queue.take()
    assert "POST login" not in server.calls
    queue.close()


# ------------------------------------------------------------------------------------------ what cannot be graded


BAD_PAYLOADS = ["", "not json", "[]", '"q3"', '{"grader": 3}', '{"grader": ""}', "{}", "[" * 10_000]


@pytest.mark.parametrize("payload", BAD_PAYLOADS)
def test_a_submission_without_a_task_is_not_answered(server, worker, payload):
    item = server.add('{"value": 4}', payload=payload)
    counts = worker().run(once=True)
    assert (counts.graded, counts.failed) == (0, 1)
    assert item.results == []


@pytest.mark.parametrize(
    "content",
    [
        None,
        3,
        "",
        "x",
        "[]",
        "{}",
        '{"xqueue_header": "{}"}',
        "[" * 100_000,
        '{"xqueue_header": "{\\"submission_id\\": true}", "xqueue_body": "{}"}',
    ],
)
def test_what_is_no_submission_is_said_so(content):
    with pytest.raises(Unreadable):
        _pulled(content)


NAMES = [
    "../secret",
    "q3/../../secret",
    "/etc/passwd",
    "..",
    ".",
    "a\\..\\b",
    "q\0",
    ".hidden",
    "link",
    "no",
    "a//q3",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder(folder, name):
    secret = folder.parent / "secret.json"
    secret.write_text("{}")
    (folder / "link.json").symlink_to(secret)
    (folder / ".hidden.json").write_text("{}")
    with pytest.raises(TaskMissing):
        Tasks(folder)[name]


def test_tasks_lie_in_folders_too_and_are_read_anew_when_they_change(folder):
    (folder / "week 1").mkdir()
    file = folder / "week 1" / "q1.json"
    file.write_text('{"id": "first"}')
    tasks = Tasks(folder)
    assert tasks["week 1/q1"] == tasks["week 1/q1.json"] == {"id": "first"}
    file.write_text('{"id": "second one"}')
    assert tasks["week 1/q1"] == {"id": "second one"}
    file.write_text("{")
    with pytest.raises(TaskMissing, match=r"q1\.json"):
        tasks["week 1/q1"]


@pytest.mark.parametrize(
    "trouble",
    [
        ValueError("task: no"), MissingExtraError("x"), RuntimeError("a defect"), KeyError("q"),
        *(status_error(Problem(status), {}) for status in (400, 413, 422, 500)),
    ],
)  # fmt: skip
def test_a_submission_that_fails_by_itself_is_tried_some_times_and_given_up(server, worker, tmp_path, trouble, caplog):
    bad, good = server.add("bad"), server.add('{"value": 4}')

    def grade(task, response, _):
        if response == "bad":
            raise trouble
        return RESULT

    one = worker(grade, attempts=3)
    for _ in range(5):
        one.run(once=True)
        server.lapse(bad)
        one._held.clear()
    assert (one.counts.graded, one.counts.failed, one.counts.dead) == (1, 3, 1)
    assert bad.results == []
    assert tried(tmp_path) == []
    assert len(good.results) == 1
    (letter,) = letters(tmp_path)
    assert letter["submission"] == str(bad.number)
    assert letter["grader"] == "q3"
    assert letter.keys() == {"time", "queue", "submission", "grader", "reason"}
    # Another worker leaves it alone too, and says so, until somebody takes it off the list.
    caplog.clear()
    server.lapse(bad)
    assert worker().run(once=True).graded == 0
    assert f"submission {bad.number}: NOT GRADED, a dead letter" in caplog.text
    (tmp_path / "dead.jsonl").unlink()
    server.lapse(bad)
    assert worker().run(once=True).graded == 1


def test_a_dead_letter_does_not_block_the_queue(server, worker, tmp_path, caplog):
    """edx-submissions serves what was pulled and not answered before all that came later."""
    server.patience = 0.0
    bad = server.add("x", payload={"grader": "no such task"})
    one = worker(attempts=1)
    assert one.run(once=True).dead == 1
    good = server.add('{"value": 4}')
    one.run(once=True)
    assert len(good.results) == 1
    for _ in range(MAX_FAILURES):
        one.run(once=True)
    assert (bad.status, bad.results) == ("failed", [])
    for result in bad.unscored:
        assert (result["correct"], result["score"]) == (False, None)
        assert "not about your answer" in "".join(ElementTree.fromstring(result["msg"]).itertext())
    assert (one.counts.graded, one.counts.failed, one.counts.dead) == (1, 1, 1)
    assert f"submission {bad.number}: graded" not in caplog.text
    assert f"submission {bad.number}: NOT GRADED" in caplog.text
    assert len(letters(tmp_path)) == 1
    # Staff mends the task, takes the line out, and resets the submission.
    (tmp_path / "tasks" / "no such task.json").write_text(json.dumps(TASK))
    (tmp_path / "dead.jsonl").unlink()
    bad.turn("pending")
    assert worker().run(once=True).graded == 1


def test_a_dead_letter_that_the_queue_does_not_take_back_is_said_so(server, worker, caplog):
    server.add("x", payload={"grader": "no such task"})
    server.faults["put_result"] = [400]
    assert worker(attempts=1).run(once=True).dead == 1
    assert "NOT GRADED, and the queue does not take it back" in caplog.text


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_submission_that_kills_the_worker_is_given_up_too(server, worker, tmp_path):
    item = server.add('{"value": 4}')
    for count in range(1, 6):
        with pytest.raises(Killed):
            worker(Grader(Killed())).run(once=True)
        assert tried(tmp_path) == [{"submission": str(item.number), "begun": count, "timeouts": 0}]
        server.lapse(item)
    grade = Grader()
    counts = worker(grade).run(once=True)
    assert (counts.graded, counts.dead, grade.asked) == (0, 1, [])
    assert "did not survive" in letters(tmp_path)[0]["reason"]
    assert tried(tmp_path) == []
    assert (item.status, len(item.unscored)) == ("pulled", 1)  # it is back, and pulled once more


def test_attempts_are_counted_across_processes_and_forgotten_when_one_succeeds(server, worker, tmp_path):
    item = server.add('{"value": 4}')
    for _ in range(4):
        assert worker(Grader(ValueError("task: no"))).run(once=True).failed == 1
        server.lapse(item)
    assert tried(tmp_path) == [{"submission": str(item.number), "begun": 4, "timeouts": 0}]
    assert worker().run(once=True).graded == 1
    assert tried(tmp_path) == []
    item.turn("pending")
    for _ in range(5):
        worker(Grader(ValueError("task: no"))).run(once=True)
        server.lapse(item)
    assert len(letters(tmp_path)) == 1


def test_one_that_always_takes_too_long_is_given_up_at_last(server, worker, tmp_path):
    item, good = server.add("slow"), server.add('{"value": 4}')

    def grade(task, response, _):
        if response == "slow":
            raise APITimeoutError("no answer in time")
        return RESULT

    for _ in range(20):
        assert letters(tmp_path) == []
        worker(grade).run(once=True)
        server.lapse(item)
    (letter,) = letters(tmp_path)
    assert "20 times" in letter["reason"]
    worker(grade).run(once=True)
    assert len(good.results) == 1


def test_without_a_folder_attempts_are_kept_in_memory():
    kept = Attempts(None)
    kept["a"] = Tried(2, 1)
    assert (kept["a"], kept["b"]) == (Tried(2, 1), Tried())
    kept["a"] = Tried()
    assert kept["a"] == Tried()
    del kept["a"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"begun": "x", "timeouts": 0}', b"\xff"])
def test_a_file_of_attempts_that_is_broken_counts_as_none(tmp_path, content):
    kept = Attempts(tmp_path / "attempts")
    kept["../a/\udfff"] = Tried(1)
    (file,) = (tmp_path / "attempts").iterdir()
    assert kept["../a/\udfff"] == Tried(1)
    file.write_bytes(content)
    assert kept["../a/\udfff"] == Tried()


def test_a_full_disk_is_to_blame_on_no_submission(server, worker, tmp_path):
    item = server.add('{"value": 4}')
    (tmp_path / "dead.jsonl.attempts").write_text("in the way of the folder")
    counts = worker().run(once=True)
    assert (counts.graded, counts.failed, counts.troubles) == (0, 0, 1)
    assert item.results == []


def test_a_submission_without_an_id_is_held_too(server, worker, tmp_path, monkeypatch):
    server.patience = 0.0
    monkeypatch.setattr("tests.client.xqueues.Item.content", lambda _: '{"xqueue_body": "{}"}')
    server.add("x")
    for _ in range(7):
        worker(attempts=2).run(once=True)
    (letter,) = letters(tmp_path)
    assert letter["submission"].startswith("sha256:")


def test_no_more_is_read_of_an_answer_than_a_bound(server, worker, tmp_path, monkeypatch):
    monkeypatch.setattr(_xqueue, "MAX_REPLY", 10_000)
    server.add("x" * 20_000)
    assert worker(attempts=1).run(once=True).dead == 1
    assert "more than 10,000 bytes" in letters(tmp_path)[0]["reason"]


def test_a_bad_one_does_not_hold_up_the_others(server, worker):
    server.patience = 0.0  # the queue serves it again at once
    _bad, good = server.add("x", payload={"grader": "no such task"}), server.add('{"value": 4}')
    one = worker(attempts=3)

    def pause(count, _):
        assert count < 50
        if good.results:
            one.stop.set()

    one._pause = pause
    one.run()
    assert len(good.results) == 1
    assert one.counts.failed == 1  # held for a while, however often it is served


def test_many_bad_ones_do_not_either(server, worker):
    for _ in range(30):
        server.add("x", payload={"grader": "no such task"})
        server.add("x", payload="no task at all")
    good = server.add('{"value": 4}')
    one = worker(attempts=1)

    def pause(*_):
        assert len(good.results) == 1
        one.stop.set()

    one._pause = pause
    one.run()
    assert (one.counts.graded, one.counts.dead) == (1, 60)


PASSING = [
    APIConnectionError("away"),
    APIResponseError("a page about maintenance"),
    *(status_error(Problem(status), {}) for status in (301, 401, 403, 404, 405, 429, 502, 503, 504)),
]


@pytest.mark.parametrize("trouble", PASSING)
def test_while_the_grading_service_is_away_no_submission_is_to_blame(server, worker, tmp_path, trouble):
    item = server.add('{"value": 4}')
    one = worker(Grader(*[trouble] * 20), attempts=2)
    for _ in range(20):
        one.run(once=True)
        server.lapse(item)
    assert (one.counts.failed, one.counts.troubles) == (0, 20)
    assert letters(tmp_path) == []
    assert one.run(once=True).graded == 1


def test_pauses_grow_and_end_with_success(server, worker):
    one = worker(idle=5.0)
    longest = []

    def pause(count, most):
        longest.append((count, most))
        if len(longest) == 4:
            server.add('{"value": 4}')
        if len(longest) == 6:
            one.stop.set()

    one._pause = pause
    one.run()
    assert longest == [(1, 5.0), (2, 5.0), (3, 5.0), (4, 5.0), (1, 5.0), (2, 5.0)]


def test_a_pause_has_a_bound_and_jitter(server, folder):
    queue = XQueue(server.url, "my queue", user=USER, password=PASSWORD)
    waited = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return False

    jitters = iter([0.0, 1.0, 0.0, 0.5])
    worker = Worker(queue, Tasks(folder), Grader(), DeadLetters(None), stop=Stop(), jitter=lambda: next(jitters))
    for count in (1, 1, 4, 10_000):
        worker._pause(count, 60.0)
    assert waited == [1.0, 0.5, 8.0, 45.0]


def test_a_stop_lets_the_submission_at_hand_finish(server, worker):
    first, second = server.add('{"value": 4}'), server.add('{"value": 4}')
    one = worker()

    def grade(*_):
        one.stop.set()
        return RESULT

    one.grade = grade
    one.run()
    assert (len(first.results), second.pulls) == (1, 0)


# ------------------------------------------------------------------------------------------------------- the results


GOOD = {"correct": False, "score": 0, "msg": "<p>é</p>"}


def test_results_are_what_open_edx_keeps():
    check_result(json.dumps(GOOD))


@pytest.mark.parametrize(
    "change",
    [{"score": 1.0}, {"score": True}, {"score": "1"}, {"score": -1}, {"score": None},
     {"correct": 1}, {"correct": None}, {"msg": "<p>"},
     {"msg": "plain"}, {"msg": None}, {"msg": "<p>&nbsp;</p>"}, {"msg": "<p>\0</p>"}, {"msg": "<p/><p/>"}],
)  # fmt: skip
def test_what_open_edx_would_drop_is_not_sent(server, worker, change):
    body = json.dumps(GOOD | change)
    with pytest.raises(ValueError, match=r"the result has|message of the result"):
        check_result(body)
    item = server.add('{"value": 4}')
    assert worker(lambda *_: body).run(once=True).failed == 1
    assert item.results == []


def test_a_letter_is_no_more_than_the_list_says(tmp_path):
    file = tmp_path / "dead.jsonl"
    file.write_bytes(b'not json\n{"other": 1}\n[]\n\xff\xc3\n{"submission": "7"}\n')
    dead = DeadLetters(file)
    assert "7" in dead
    assert "" not in dead
    dead.add({"submission": "8"})
    assert "8" in DeadLetters(file)
    file.unlink()
    assert "8" not in dead
    assert "x" not in DeadLetters(None)


def test_superseded_is_a_refusal(server):
    queue = XQueue(server.url, "my queue", user=USER, password=PASSWORD)
    with pytest.raises(Superseded):
        queue.put('{"submission_id": 1, "submission_key": ""}', RESULT)
    queue.close()
