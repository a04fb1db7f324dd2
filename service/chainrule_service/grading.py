"""Gradings: from what was sent to reports, what they cost, and what is kept of them.

One grading, a batch, and a job of gradings (`grading_jobs`) go the same way: what was sent is read into entries
(`grading_reading`), each is graded by itself, and `conclude` compares regrades with what they supersede, and records.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from chainrule_engine.diagnosis import catalogue, histories
from chainrule_engine.errors import InvalidInput, LimitExceeded
from chainrule_engine.grading import Report, Task, compare_reports, grade
from chainrule_engine.grading.scoring import maximum
from chainrule_engine.grading.tasks import tidy
from chainrule_engine.grading.truth import TrainingTruth, quantity
from chainrule_engine.rendering import failed
from chainrule_service.exchange import charge, owner, service
from chainrule_service.fields import refuse
from chainrule_service.grading_reading import Entry, Read, count_values, entry_of, kind_of
from chainrule_service.gradings import Grading, Gradings
from chainrule_service.problems import problem_of
from chainrule_service.settings import Settings

_log = logging.getLogger(__name__)
# On standard error it would be in no form of the log's, and say nothing of the request: `grade_one` logs it instead.
warnings.filterwarnings("ignore", "the diagnosis failed", RuntimeWarning, "chainrule_engine")

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
        # What students see of a task does not tell whether it has changed.
        changes = compare_reports(
            before | {"task": self.superseded["task"]}, seen | {"task": self.report.to_dict("staff")["task"]}
        )
        regrade = {"supersedes": before["id"], "changes": changes}
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


#: Tasks that a submission was graded by, with a Jacobian or without: what all submissions of one share is computed.
_WARM: WeakValueDictionary[tuple[int, bool], Task] = WeakValueDictionary()


def grade_one(entry: Entry) -> Report:
    """Return the report on an entry, whatever its answers are."""
    report = grade(entry.task, entry.answers, entry.submission or None)
    _WARM[id(entry.task), _takes_jacobian(entry)] = entry.task
    failure = report.to_dict("staff")["staff"].get("diagnosis_failed")
    if failure is not None:
        _log.error("the diagnosis failed: %s", failure, extra={"task": entry.task.digest, "report": report.id})
    return report


def grade_or_fail(entry: Entry) -> Report:
    """Return the report on one entry of several: where it cannot be graded for a fault of ours, one that says so."""
    try:
        return grade_one(entry)
    except Exception:
        task, submission = entry.task, entry.submission
        _log.exception("a submission could not be graded", extra={"task": task.digest})
        report = failed(tidy(maximum(task.checks, task.groups)), task_id=task.id, title=task.title)
        named = {name: submission.get(name) for name in ("id", "attempt")}
        return Report(
            report
            | {"task": report["task"] | {"digest": task.digest}, "retryable": True}
            | {"submission": report["submission"] | named}
        )


def _has_failed(report: Report) -> bool:
    return report.outcome == "infrastructure_error"


class _Costs(NamedTuple):
    """What a task costs.

    Attributes:
        once: its right answers and wrong runs, in node evaluations.
        each: a submission besides, in node evaluations.
        numbers: about as many are in a report, besides what was answered.
        evaluated: nodes times points, once more for each output of a Jacobian: they are all in memory.
    """

    once: int
    each: int
    numbers: int
    evaluated: int = 0


def _costs(task: Task, with_jacobian: bool) -> _Costs:
    keys = [key for check in task.checks for key in check.keys]
    report = _REPORT + _CHECK * len(keys)
    if isinstance(task.truth, TrainingTruth):
        trained = task.truth.training
        length = trained.steps + len(trained.model.initial) + count_values(task.source["training"].get("data"))
        wrong = min(_WRONG_TRAININGS * trained.cost, histories.MAX_WORK) if task.diagnose else 0
        return _Costs(trained.cost, report + len(keys) * length + wrong, len(keys) * (length + _MEMBERS))
    graph = task.truth.graph
    nodes, points = len(graph.inputs) + len(graph.nodes), graph.points or 1
    asked = sum(_numbers_in(quantity(task.truth, key, shape=True)) for key in keys)
    evaluated, each, numbers = nodes * points, report + asked, asked + len(keys) * _MEMBERS
    if with_jacobian:
        evaluated += len(graph.outputs) * nodes * points
        numbers += _numbers_in(task.truth.shape("jacobian"))
    once = evaluated
    if task.diagnose and graph.points is None:
        diagnosed = min(nodes, catalogue.MAX_PAIR_NODES)  # in larger graphs less is looked for
        once, each = once + _WRONG_RUNS * diagnosed, each + _LOOKING * diagnosed
    return _Costs(once, each, numbers, evaluated)


def _numbers_in(shape: Any) -> int:
    """Return how many numbers are in a quantity of a graph, whose parts are all alike."""
    if isinstance(shape, dict):
        return len(shape) * _numbers_in(next(iter(shape.values()), ()))
    if isinstance(shape, list):
        return len(shape) * _numbers_in(shape[0])
    return 1


def _takes_jacobian(entry: Entry) -> bool:
    """Tell whether the Jacobian is computed for an entry: it is asked for, or given."""
    task, answers = entry.task, entry.answers
    if "jacobian" not in task.truth.members:
        return False
    given = isinstance(answers, dict) and answers.get("jacobian") is not None
    return given or any(key.partition(".")[0] == "jacobian" for check in task.checks for key in check.keys)


def work_of(entries: Sequence[Entry], settings: Settings) -> int:
    """Return about how much work it is to grade entries, in node evaluations, besides what is remembered.

    Raises:
        LimitExceeded: the tasks, or the reports, would be too large together.
    """
    costs: dict[tuple[int, bool], _Costs] = {}
    work = numbers = 0
    for entry in entries:
        key = id(entry.task), _takes_jacobian(entry)
        if key not in costs:
            costs[key] = _costs(entry.task, key[1])
            work += 0 if key in _WARM else costs[key].once
        work += costs[key].each
        numbers += costs[key].numbers + entry.size
    # The right numbers stay in memory until all is graded.
    evaluated, most = sum(cost.evaluated for cost in costs.values()), settings.limits["evaluation_work"]
    if evaluated > most:
        advice = "send several batches, or tasks of fewer nodes, points or outputs of a Jacobian"
        raise LimitExceeded("evaluation_work", most, evaluated, (), advice)
    most = settings.limits["answer_numbers"]
    if numbers > most:
        advice = "send fewer submissions, or let the checks ask for fewer numbers"
        raise LimitExceeded("answer_numbers", most, numbers, (), advice)
    return work


def grade_now(
    entries: Sequence[Entry],
    *,
    store: bool = True,
    reason: str | None = None,
    by: Callable[[Entry], Report] = grade_one,
) -> list[Graded | InvalidInput]:
    """Grade entries within the request that is being answered, for its key; see `conclude`.

    Args:
        entries: what is to be graded.
        store: whether the reports are recorded.
        reason: why reports are superseded.
        by: what grades one: `grade_or_fail` where a fault in one is not to spoil the others.

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
        reports = [by(entry) for entry in entries]
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

    An entry that supersedes what there is not, or the report on another submission, becomes the error that says so, and
    is not recorded. Nor is a report that says that we failed, which supersedes nothing: it is to be graded again.

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
            continue
        old = found.get(entry.supersedes)
        if old is None:
            done.append(refuse(f"there is no grading {entry.supersedes!r}", ("supersedes",)))
        elif old.report["submission"]["id"] != entry.submission.get("id"):
            detail = "this grading is of another submission: a regrade has the submission's id of what it supersedes"
            done.append(refuse(detail, ("supersedes",)))
        else:
            done.append(Graded(report) if _has_failed(report) else Graded(report, superseded=old.report, reason=reason))
    if not store:
        return done
    kept = [each for each in done if isinstance(each, Graded) and not _has_failed(each.report)]
    new = dict(zip(map(id, kept), gradings.record(of_owner, [each.grading() for each in kept]), strict=True))
    return [replace(each, new=new.get(id(each), False)) if isinstance(each, Graded) else each for each in done]


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
