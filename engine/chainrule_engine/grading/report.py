"""Reports: what came of grading, for the staff and for students."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule_engine.grading.canonical import digest
from chainrule_engine.grading.scoring import Earned, add_up
from chainrule_engine.grading.tasks import PHASES, Group, exact, tidy

SCHEMA = "chainrule.report/1"
AUDIENCES = ("student", "staff")


class Report:
    """A report `chainrule.report/1`: plain data for the staff, from which the students' is made.

    It is a function of the task, the answers, the submission's id and attempt, and the engine's version alone.
    """

    def __init__(self, staff: Mapping[str, Any]) -> None:
        self._staff = dict(staff)

    @classmethod
    def from_dict(cls, staff: Mapping[str, Any]) -> Report:
        """Return the report that `to_dict("staff")` wrote."""
        return cls({name: entry for name, entry in staff.items() if name != "digest"})

    @property
    def id(self) -> str:
        """The same for the same task, answers, submission and engine."""
        return str(self._staff["id"])

    @property
    def outcome(self) -> str:
        """`graded`, `not_gradable` or `infrastructure_error`."""
        return str(self._staff["outcome"])

    @property
    def score(self) -> float:
        """What was earned."""
        return float(self._staff["score"])

    @property
    def max_score(self) -> float:
        """What could be."""
        return float(self._staff["max_score"])

    @property
    def fraction(self) -> float:
        """Between 0 and 1."""
        return float(self._staff["fraction"])

    def to_dict(self, audience: str = "student", phase: str = "open") -> dict[str, Any]:
        """Write the report: JSON-ready, numbers that are not finite being words.

        audience  student or staff
        phase     open, due or published: what students see of the checks; the staff sees all

        Raises ValueError for another word.
        """
        if audience not in AUDIENCES or phase not in PHASES:
            raise ValueError(f"an audience is one of {', '.join(AUDIENCES)}, a phase one of {', '.join(PHASES)}")
        report = self._staff if audience == "staff" else _for_students(self._staff, phase)
        return {**report, "digest": digest(report)}


def _for_students(staff: Mapping[str, Any], phase: str) -> dict[str, Any]:
    report = {name: entry for name, entry in staff.items() if name != "staff"}
    # A key that stands in the task could be tried until the digest is right.
    report["task"] = {name: entry for name, entry in staff["task"].items() if name != "digest"}
    # How near to the edge of the tolerance a number is, would be a hint.
    checks = [
        {name: entry for name, entry in check.items() if name != "borderline"}
        for check in staff["checks"]
        if check["visibility"] in PHASES[phase]
    ]
    ids = {check["id"] for check in checks}
    report["withheld"] = len(staff["checks"]) - len(checks)
    report["checks"] = checks
    # Of answers that are not gradable there are no checks, and what they are worth is kept for it.
    report |= staff.get("staff", {}).get("seen", {}).get(phase, {})
    if report["withheld"]:
        # Rounded is what all checks come to: of some it could not be whole, and would take from what is right.
        report |= totals(checks, staff["groups"], None)
        # Whether all is right in a group, a check that is not seen has its say in.
        unseen = {check.get("group") for check in staff["checks"] if check["id"] not in ids}
        report["groups"] = [
            {**group, "passed": None} if group["passed"] and group["id"] in unseen else group
            for group in report["groups"]
        ]
    report["mistakes"] = [
        {**mistake, "explains": [name for name in mistake["explains"] if name in ids]}
        for mistake in staff["mistakes"]
        if not ids.isdisjoint(mistake["explains"])
    ]
    return report


def totals(checks: list[dict[str, Any]], groups: list[dict[str, Any]], rounding: str | None) -> dict[str, Any]:
    """Add up some checks of a report, in its form: their scores by the rules of groups, and the members that follow."""
    rules = [
        Group(group["id"], group["title"], group["rule"], None if group["cap"] is None else exact(group["cap"]))
        for group in groups
    ]
    earned = [
        Earned(
            exact(check.get("earned", check["score"])), exact(check["max_score"]), check["passed"], check.get("group")
        )
        for check in checks
    ]
    scores = add_up(earned, rules, rounding)
    scored = []
    for check, score, before in zip(checks, scores.checks, earned, strict=True):
        fields = {name: entry for name, entry in check.items() if name != "earned"} | {"score": tidy(score)}
        if score != before.earned:
            fields["earned"] = tidy(before.earned)
        scored.append(fields)
    return {
        "score": tidy(scores.score),
        "max_score": tidy(scores.maximum),
        "fraction": tidy(scores.score / scores.maximum) if scores.maximum else 0,
        "checks": scored,
        "groups": [
            {**group, "score": tidy(score), "max_score": tidy(most), "passed": passed}
            for group in groups
            if group["id"] in scores.groups
            for score, most, passed in [scores.groups[group["id"]]]
        ],
    }
