"""Gradings: from what was sent to reports, what they cost, and what is kept of them.

One grading, a batch, and a job of gradings (`grading_jobs`) go the same way: what was sent is read into entries
(`grading_reading`), each is graded by itself, and `conclude` compares regrades with what they supersede, and records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from chainrule_engine.diagnosis import catalogue, histories
from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading import Report, Task, compare_reports, grade
from chainrule_engine.grading.truth import TrainingTruth
from chainrule_service.exchange import charge, owner, service
from chainrule_service.fields import refuse
from chainrule_service.grading_reading import Entry, Read, count_values, entry_of, kind_of
from chainrule_service.gradings import Grading, Gradings
from chainrule_service.problems import problem_of
from chainrule_service.settings import Settings

#: In node evaluations, measured, roughly: a report, and each quantity in it; by the nodes of a graph its wrong runs and
#: the search among them for the mistakes of a submission, half of a class having some; a training's wrong runs.
_REPORT, _CHECK, _WRONG_RUNS, _LOOKING, _WRONG_TRAININGS = 500, 50, 4_000, 300, 20
#: Numbers that a report has of each quantity, besides the right ones: scores, tolerances, errors.
_MEMBERS = 9

ADVICE = "send fewer submissions, a smaller graph or a shorter training, or leave the diagnosis out"


@dataclass(frozen=True)
class Graded:
    """What became of an entry.

    Attributes:
        report: the report.
        new: whether it was recorded just now.
        superseded: the report that it replaces, as staff sees it, if it is a regrade.
        reason: why it does.
    """

    report: Report
    new: bool = False
    superseded: Mapping[str, Any] | None = None
    reason: str | None = None

    @classmethod
    def of(cls, kept: Grading, superseded: Grading | None) -> Graded:
        """Return what is recorded, with what it replaces."""
        before = None if superseded is None else superseded.report
        return cls(Report.from_dict(kept.report), superseded=before, reason=kept.reason)

    def to_dict(self, audience: str, phase: str) -> dict[str, Any]:
        """Return the report for an audience; that of a regrade has `regrade` besides, which no digest covers."""
        seen = self.report.to_dict(audience, phase)
        if self.superseded is None:
            return seen
        before = view(self.superseded, audience, phase)
        regrade = {"supersedes": before["id"], "changes": compare_reports(before, seen)}
        return seen | {"regrade": regrade | ({"reason": self.reason} if audience == "staff" else {})}

    def grading(self) -> Grading:
        """Return what is recorded of it. A regrade that has changed nothing supersedes nothing."""
        report = self.report.to_dict("staff")
        if self.superseded is None or self.superseded["id"] == report["id"]:
            return Grading(report)
        return Grading(report, self.superseded["id"], self.reason)


def view(report: Mapping[str, Any], audience: str, phase: str) -> dict[str, Any]:
    """Return a report, given as staff sees it, as an audience does."""
    return dict(report) if audience == "staff" else Report.from_dict(report).to_dict(audience, phase)


#: Tasks that a submission was graded by: what all submissions of one share is computed.
_WARM: WeakValueDictionary[int, Task] = WeakValueDictionary()


def grade_one(entry: Entry) -> Report:
    """Return the report on an entry, whatever its answers are."""
    report = grade(entry.task, entry.answers, entry.submission or None)
    _WARM[id(entry.task)] = entry.task
    return report


class _Costs(NamedTuple):
    """What a task costs.

    Attributes:
        once: its right answers and wrong runs, in node evaluations.
        each: a submission besides, in node evaluations.
        numbers: about as many are in a report, besides what was answered.
    """

    once: int
    each: int
    numbers: int


def _costs(task: Task) -> _Costs:
    keys = sum(len(check.keys) for check in task.checks)
    if isinstance(task.truth, TrainingTruth):
        trained = task.truth.training
        length = trained.steps + len(trained.model.initial) + count_values(task.source["training"].get("data"))
        once, wrong = trained.cost, min(_WRONG_TRAININGS * trained.cost, histories.MAX_WORK)
        each = keys * length + (wrong if task.diagnose else 0)
    else:
        assert task.graph is not None
        nodes, length = len(task.graph.inputs) + len(task.graph.nodes), task.graph.points or 1
        once, each = nodes * length, keys * length
        if task.diagnose and length == 1:
            diagnosed = min(nodes, catalogue.MAX_PAIR_NODES)  # in larger graphs less is looked for
            once, each = once + _WRONG_RUNS * diagnosed, each + _LOOKING * diagnosed
    return _Costs(once, each + _REPORT + _CHECK * keys, keys * (length + _MEMBERS))


def work_of(entries: Sequence[Entry], settings: Settings) -> int:
    """Return about how much work it is to grade entries, in node evaluations, besides what is remembered.

    Raises:
        LimitExceeded: the reports would be too large together.
    """
    tasks = {id(entry.task): entry.task for entry in entries}
    costs = {key: _costs(task) for key, task in tasks.items()}
    numbers, most = 0, settings.limits["answer_numbers"]
    work = sum(cost.once for key, cost in costs.items() if key not in _WARM)
    for entry in entries:
        cost = costs[id(entry.task)]
        work += cost.each
        numbers += cost.numbers + entry.size
    if numbers > most:
        advice = "send fewer submissions, or let the checks ask for fewer numbers"
        raise LimitExceeded("answer_numbers", most, numbers, (), advice)
    return work


def grade_now(
    entries: Sequence[Entry], *, store: bool = True, reason: str | None = None
) -> list[Graded | InvalidInput]:
    """Grade entries within the request that is being answered, for its key; see `conclude`.

    Raises:
        LimitExceeded: it is too much work for a request, or for the key's whole day.
        QuotaRefused, RequestError: it is more than is left of that day (429), or there is no room for it now (503).
        DatabaseUnavailable: the reports cannot be recorded now; none was.
    """
    shared = service()
    work = work_of(entries, shared.settings)
    most = shared.settings.limits["grading_work"]
    if work > most:
        raise LimitExceeded("grading_work", most, work, (), f"{ADVICE}, or submit a job of type grading")
    with shared.room_for(work):
        charge(work)
        reports = [grade_one(entry) for entry in entries]
    return conclude(Gradings(shared.store.database), owner(), entries, reports, store=store, reason=reason)


def grade_and_record(
    task: Task, answers: object, submission: Mapping[str, Any] | None = None, *, store: bool = True
) -> dict[str, Any]:
    """Grade answers within the request that is being answered, and return the report as staff sees it.

    Args:
        task: from `read_task_cached`.
        answers: whatever JSON data was sent; what is wrong with it is in the report.
        submission: `id` and `attempt`, those that are known.
        store: whether the report is recorded, as that of the request's key.

    Raises:
        as `grade_now` and `entry_of`.
    """
    members = {"answers": answers, "submission": submission or {}, "supersedes": None}
    (done,) = grade_now([entry_of(task, members, service().settings)], store=store)
    assert isinstance(done, Graded)  # it supersedes nothing
    return done.report.to_dict("staff")


def conclude(
    gradings: Gradings,
    of_owner: str,
    entries: Sequence[Entry],
    reports: Sequence[Report],
    *,
    store: bool,
    reason: str | None,
) -> list[Graded | InvalidInput]:
    """Find what each report supersedes, and record them together.

    An entry that supersedes what there is not becomes the error that says so, and is not recorded.

    Args:
        gradings: where they are recorded.
        of_owner: whose they are, and what they supersede must be.
        entries: what was graded.
        reports: the report on each.
        store: whether to record them.
        reason: why reports are superseded.

    Raises:
        DatabaseUnavailable: they cannot be recorded now; none was.
    """
    wanted = {entry.supersedes for entry in entries if entry.supersedes is not None}
    found = gradings.find(of_owner, wanted) if wanted else {}
    done: list[Graded | InvalidInput] = []
    for entry, report in zip(entries, reports, strict=True):
        if entry.supersedes is None:
            done.append(Graded(report))
        elif entry.supersedes in found:
            done.append(Graded(report, superseded=found[entry.supersedes].report, reason=reason))
        else:
            done.append(refuse(f"there is no grading {entry.supersedes!r}", ("supersedes",)))
    if not store:
        return done
    new = iter(gradings.record(of_owner, [each.grading() for each in done if isinstance(each, Graded)]))
    return [replace(each, new=next(new)) if isinstance(each, Graded) else each for each in done]


def told(
    loaded: Mapping[str, Any],
    entries: Sequence[Read],
    done: Sequence[Graded | InvalidInput],
    audience: str,
    phase: str,
) -> list[dict[str, Any]]:
    """Return what a batch is answered with: a report or a problem for each entry, in order."""
    kind, outcomes = kind_of(loaded), iter(done)
    data: list[dict[str, Any]] = []
    for place, entry in enumerate(entries):
        outcome = next(outcomes) if isinstance(entry, Entry) else entry
        if isinstance(outcome, InvalidInput):
            outcome = problem_of(outcome, under=(kind, place))
        if isinstance(outcome, Graded):
            data.append({"report": outcome.to_dict(audience, phase)})
        else:
            data.append({"problem": outcome})
    return data
