"""What a request for gradings may hold. The engine reads tasks and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chainrule_engine.errors import InvalidInput, Problem
from chainrule_engine.grading import AUDIENCES, PHASES
from chainrule_engine.grading.grader import MAX_ID, SUBMISSION_ID, is_submission_id
from chainrule_engine.graph import describe
from chainrule_service.documented import ref
from chainrule_service.fields import (
    Choice,
    Envelope,
    Field,
    Flag,
    JsonSchema,
    ListOf,
    Raw,
    RawObject,
    WholeNumber,
    refuse,
)
from chainrule_service.gradings import REPORT_ID

_IMPERSONAL = (
    "names, e-mail addresses and whatever else tells who somebody is have no place here; send an id that only your own "
    "side can trace back"
)


class SubmissionField(Field):
    """Which submission it is, without a word about whose."""

    json_schema: Mapping[str, Any] = ref("Submission")
    attempt = WholeNumber(least=1)

    def read(self, value: Any) -> dict[str, Any]:
        """Return `id` and `attempt`, as far as they are given.

        Raises:
            InvalidInput: one of them is none, or there is something else.
        """
        if type(value) is not dict:
            raise refuse(f"an object with id and attempt is needed here, and this is {describe(value)}")
        problems = [
            Problem((name,), f"only id and attempt are taken: {_IMPERSONAL}")
            for name in value
            if name not in ("id", "attempt")
        ]
        given = {name: value[name] for name in ("id", "attempt") if value.get(name) is not None}
        if (text := given.get("id")) is not None and not is_submission_id(text):
            detail = f"an id is 1 to {MAX_ID} of the letters A to Z and a to z, digits, and . _ : @ / + = -"
            problems.append(Problem(("id",), f"{detail}, and no e-mail address: {_IMPERSONAL}"))
        if (attempt := given.get("attempt")) is not None:
            try:
                self.attempt.read(attempt)
            except InvalidInput as error:
                problems.extend(error.under("attempt").problems)
        if problems:
            raise InvalidInput(problems)
        return given


class ReportId(Field):
    """The id of a report."""

    json_schema: Mapping[str, Any] = {"type": "string", "pattern": f"^{REPORT_ID}$"}

    def read(self, value: Any) -> str:
        """Return the id.

        Raises:
            InvalidInput: it is none.
        """
        if type(value) is not str or not re.fullmatch(REPORT_ID, value):
            raise refuse("this is the id of no report: sha256: and 64 hexadecimal digits")
        return value


class Reason(Field):
    """Why something was done: a sentence for those who read it later."""

    json_schema: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1000}

    def read(self, value: Any) -> str:
        """Return the text.

        Raises:
            InvalidInput: it is none, or too long.
        """
        if type(value) is not str or not 0 < len(value) <= 1000 or "\0" in value:
            raise refuse("a string of 1 to 1,000 characters is needed here, none of them NUL")
        return value


def _answers(**options: Any) -> Field:
    return Raw(ref("Answers"), allow_none=True, **options)  # it is not_gradable


def _task(**options: Any) -> Field:
    return Raw(ref("GradingTask"), **options)


_SUPERSEDES = "The id of the report that this one is to replace, of a key with the scope staff."


class SubmittedAnswers(Envelope):
    """The answers of one submission."""

    answers = _answers(required=True)
    submission = SubmissionField(load_default=dict)
    supersedes = ReportId(_SUPERSEDES, load_default=None)


class GradingRequest(Envelope):
    """What a grading takes."""

    answer_places = (("answers",),)

    task = _task(required=True)
    answers = _answers(required=True)
    submission = SubmissionField(load_default=dict)
    supersedes = ReportId(_SUPERSEDES, load_default=None)
    reason = Reason("Why it does: for staff.", load_default=None)
    store = Flag("Whether the report is kept.", load_default=True)
    options = RawObject(
        {"type": "object"}, "What a format can be told, e.g. the points of the problem.", load_default=dict
    )


class GradingItem(Envelope):
    """One of several gradings, each of a task of its own."""

    task = _task(required=True)
    answers = _answers(required=True)
    submission = SubmissionField(load_default=dict)
    supersedes = ReportId(_SUPERSEDES, load_default=None)


class GradingBatchRequest(Envelope):
    """What a batch of gradings takes: one task and the submissions of it, or items that each have their own.

    Each submission or item is read on its own, so that a bad one spoils no other.
    """

    answer_places = (("submissions", None, "answers"), ("items", None, "answers"))

    task = _task()
    submissions = ListOf(Raw(ref("SubmittedAnswers")), least=1)
    items = ListOf(Raw(ref("GradingItem")), least=1)
    reason = Reason("Why reports are superseded: for staff.", load_default=None)
    store = Flag("Whether the reports are kept.", load_default=True)

    def load(self, data: Any, **options: Any) -> dict[str, Any]:
        """Return the fields: `task` and `submissions`, or `items`.

        Raises:
            InvalidInput: as the base, or neither is there, or both.
        """
        loaded = super().load(data, **options)
        if (
            {"task", "submissions"} - loaded.keys()
            if "items" not in loaded
            else {"task", "submissions"} & loaded.keys()
        ):
            raise refuse("send a task and its submissions, or items; not both")
        return loaded


class GradingJobRequest(GradingBatchRequest):
    """What a job of gradings takes."""

    audience = Choice(AUDIENCES, "Who the reports in the result are for.", load_default="student")
    phase = Choice(tuple(PHASES), "How far the work on the task has come.", load_default="open")


_NUMBER: JsonSchema = {
    "anyOf": [{"type": "number"}, {"type": "string", "maxLength": 40, "examples": ["0.50", "NaN", "-Infinity"]}]
}
_NUMBERS: JsonSchema = {"anyOf": [_NUMBER, {"type": "array"}]}
_BY_ID: JsonSchema = {"type": "object", "additionalProperties": _NUMBERS}

#: The named schemas of what may be in them; those of tasks and reports are with the endpoint.
SCHEMAS: Mapping[str, JsonSchema | type[Envelope]] = {
    "Submission": {
        "type": "object",
        "description": f"Which submission it is; {_IMPERSONAL}.",
        "properties": {
            "id": {"type": ["string", "null"], "pattern": f"^{SUBMISSION_ID}$", "examples": ["s-5f31"]},
            "attempt": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "Which try it is: feedback may depend on it.",
            },
        },
        "additionalProperties": False,
    },
    "Answers": {
        "type": "object",
        "description": (
            "The numbers of a submission. Decimal text is taken as well: its digits count for significant figures. "
            "What is not a number makes the submission not_gradable; ids that nobody asked for are named in notes."
        ),
        "properties": {
            "value": _NUMBERS,
            "values": _BY_ID,
            "gradients": _BY_ID,
            "loss_history": _NUMBERS,
            "parameters": {"type": "object"},
        },
    },
    "GradingItem": GradingItem,
    "SubmittedAnswers": SubmittedAnswers,
}
