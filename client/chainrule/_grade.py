"""Grading from the command line: a task and answers in, the result as a platform reads it out, whatever happens.

A platform gets a result in its form in every case: where the answers cannot be read it says so, at no student's cost;
where anything is broken it says that nothing was graded, and the reason goes to standard error, for the staff.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _files, _local
from ._client import Client
from ._errors import APIConnectionError, APIResponseError, APITimeoutError, UnprocessableContentError
from ._transport import decoded

FAILED = 1
SCHEMA = "chainrule.report/1"
#: What follows in the place of answers says why they cannot be read, and is told as it is.
UNREADABLE = "unreadable: "
_SUFFIXES = {"application/json": ".json", "application/xml": ".xml", "text/plain": ".txt"}


@dataclass(frozen=True)
class Form:
    """How a result is wanted.

    Attributes:
        name: a format of the service; "json" is the report itself.
        audience: student or staff.
        phase: how far the work on the task has come.
        options: what the format is told besides.
    """

    name: str = "json"
    audience: str = "student"
    phase: str = "open"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: argparse.Namespace, environ: Mapping[str, str]) -> Form:
        """Return what a command line asks for.

        Raises:
            ValueError: there is no such format, or no such option of it.
        """
        platforms = _local.platforms()
        if options.format not in platforms.formats():
            raise ValueError(f"there is no format {options.format!r}; there are{format_lines()}")
        if options.audience == "staff" and options.format != "json":
            raise ValueError("--audience staff gives the report itself; a format is what students may see")
        given = dict(item.partition("=")[::2] for item in options.option)
        told = platforms.settle(options.format, given, environ)
        return cls(options.format, options.audience, options.phase, told)

    def failure(self, task: object, reason: str) -> Result:
        """Return what a platform is told when a task could not be graded; the reason is for staff alone."""
        platforms = _local.platforms()
        written = platforms.failure(self.name, phase=self.phase, options=self.options, task=task, reason=reason)
        return Result(written.text.encode(), written.content_type, written.exit_status)


@dataclass(frozen=True)
class Result:
    """What is handed to a platform."""

    text: bytes
    content_type: str
    exit_status: int = 0

    @property
    def suffix(self) -> str:
        """What the name of a file with it ends in."""
        kind = self.content_type.partition(";")[0]
        return ".json" if kind.endswith("+json") else _SUFFIXES.get(kind, ".txt")


def format_lines() -> str:
    """Return a line for each format, each after a line break."""
    return "".join(f"\n  {name:<14}{words}" for name, words in _local.platforms().formats().items())


def ask(
    client: Client,
    task: Any,
    answers: Any,
    submission: Mapping[str, Any],
    form: Form,
    **members: Any,
) -> Result:
    """Have answers graded.

    Args:
        client: who grades.
        task: the task, as JSON has it.
        answers: the answers; `Unreadable` stands for those that cannot be read.
        submission: `id` and `attempt`, those that are known.
        form: how the result is wanted.
        members: more of the request.

    Raises:
        ChainruleError: they were not graded, for no fault of theirs.
    """
    params = {"phase": form.phase, "audience": form.audience}
    if form.name != "json":
        params["format"] = form.name
        params.pop("audience")
        members |= {"options": form.options} if form.options else {}
    # In the place of answers that cannot be read stands why not, which the report repeats. The wire takes no null.
    wire = "null" if answers is None else f"{UNREADABLE}{answers}" if isinstance(answers, Exception) else answers
    body = {"task": task, "answers": wire, "submission": submission} | members
    try:
        response = client._transport.send("POST", "/v1/gradings", body, accept="*/*", params=params)
    except UnprocessableContentError as error:
        places = [each.pointer for each in error.problem.errors]
        if isinstance(wire, str) or not places or not all(place.startswith("#/answers") for place in places):
            raise
        # Too many of them, say: that is the student's to mend.
        return ask(client, task, _files.Unreadable(error.problem.detail), submission, form, **members)
    # Something between here and the service may answer as well, with a page of its own.
    if form.name == "json":
        told = decoded(response)
        is_result = isinstance(told, Mapping) and told.get("schema") == SCHEMA
    else:
        is_result = response.headers.get("Chainrule-Exit-Status", "").isdecimal()
    if not is_result:
        raise APIResponseError(f"{response.url} answered with no grading; is it a chainrule service?")
    status = int(response.headers.get("Chainrule-Exit-Status", "0"))
    return Result(response.content, response.headers["Content-Type"], status)


def grade(options: argparse.Namespace) -> int:
    """Run `chainrule grade`."""
    form = Form.of(options, os.environ)
    # What a student uploads under the name of a file is never taken for the staff's folder.
    if not options.answers.endswith(".json") and options.answers != "-" and Path(options.answers).is_dir():
        return _grade_folder(options, form)
    task: Any = None
    early = options.out not in (None, "-")
    if early:
        _files.expect_apart(options.out, options.spec, options.answers, options.metadata)
        # Whoever is stopped while grading, by a limit of time, leaves this behind, and no silence.
        _files.write(
            options.out,
            form.failure(None, "the grader was stopped before it was done, perhaps by a limit of time").text,
        )
    try:
        task = _files.read_json(options.spec)
        submission = _submission(options)
        with connect(options) as client:
            result = ask(client, task, _answers(options.answers, form), submission, form)
    except Exception as error:  # a platform wants its result whatever it was
        _tell(form, f"nothing was graded: {words_of(error)}")
        result = form.failure(task, words_of(error))
    _files.write(options.out, result.text)
    return result.exit_status


def _grade_folder(options: argparse.Namespace, form: Form) -> int:
    """Grade each file of a folder by itself."""
    if options.out in (None, "-") or Path(options.out).resolve() == Path(options.answers).resolve():
        raise ValueError("the answers are a folder: name another one for the results, with -o")
    if options.submission or options.metadata:
        raise ValueError("--submission and --metadata are about one submission, and the answers are a folder")
    task, submission = _files.read_json(options.spec), _submission(options)
    failed = 0
    with connect(options) as client:
        for path in files_of(options.answers):
            try:
                result = ask(client, task, _answers(str(path), form, f"{path.name} is "), submission, form)
            except Exception as error:  # the next one may do without it
                _tell(form, f"{path.name} was not graded: {words_of(error)}")
                result = form.failure(task, words_of(error))
                failed += 1
            _files.write(str(Path(options.out, path.stem + result.suffix)), result.text)
    return FAILED if failed else 0


def files_of(folder: str) -> list[Path]:
    """Return the JSON files of a folder, by name.

    Raises:
        ValueError: there is none.
    """
    found = sorted(path for path in Path(folder).iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    if not found:
        raise ValueError(f"there is no file NAME.json in {folder}")
    return found


def connect(options: argparse.Namespace, **more: Any) -> Client:
    """Return who grades: this process, or a service, with `more` arguments of the client."""
    if options.local:
        if options.url or options.api_key:
            raise ValueError("--local grades in this process; leave --url and --api-key out")
        return Client.local()
    return Client.from_env(base_url=options.url, api_key=options.api_key, **more)


def _answers(name: str, form: Form, which: str = "") -> Any:
    try:
        return _files.read_answers(name)
    except _files.Unreadable as error:
        _tell(form, f"{which}not gradable: {error}")
        return error


def _submission(options: argparse.Namespace) -> dict[str, Any]:
    """Return the submission's id and attempt: what the command or Gradescope's metadata says, of which no more is read.

    Raises:
        ValueError: the metadata has another form.
    """
    told: dict[str, Any] = {}
    if options.metadata:
        data = _files.read_json(options.metadata)
        if not isinstance(data, dict) or not isinstance(data.get("previous_submissions", []), list):
            raise ValueError(f"{options.metadata} is not Gradescope's submission_metadata.json")
        if isinstance(data.get("id"), int | str):
            told["id"] = str(data["id"])
        # Where the grader broke, no attempt was used.
        before = data.get("previous_submissions", [])
        told["attempt"] = 1 + sum(not (isinstance(one, dict) and one.get("autograder_error") is True) for one in before)
    given = {"id": options.submission, "attempt": options.attempt}
    return told | {name: value for name, value in given.items() if value is not None}


def words_of(error: Exception) -> str:
    """Return what staff is told of an error; --local does without whatever cannot be reached."""
    if isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError):
        return f"{str(error).partition(': ')[0]}: no service answers there; with --local this command needs none"
    if isinstance(error, UnprocessableContentError) and error.problem.errors:
        # Pointers are into what was sent, and people have the file.
        told = [(each.pointer, each.detail) for each in error.problem.errors]
        return "; ".join(
            f"in the task, at #{place.removeprefix('#/task')}: {detail}"
            if place.startswith("#/task")
            else f"{place}: {detail}"
            for place, detail in told
        )
    return str(error) or type(error).__name__


def _tell(form: Form, words: str) -> None:
    if not _local.platforms().is_silent(form.name):
        sys.stderr.write(f"chainrule grade: {words}\n")
