"""The commands of grading, as `cli` lists them: grade, regrade, lint, xqueue-worker."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from . import _files
from ._client import Client
from ._errors import MissingExtraError
from ._grade import FAILED, Form, ask, connect, format_lines, grade
from ._lint import lint
from ._regrade import regrade
from ._xqueue import XQueue
from ._xqueue_worker import Attempts, DeadLetters, Tasks, Worker

#: Seconds for a connection and an answer: a queue serves a submission again after some minutes.
_TIMEOUT = (5.0, 120.0)


class _GradeHelp(argparse.Action):
    """The `--help` of `chainrule grade`: it ends with the formats, which the engine knows."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the help and end; without the formats where even the engine is not installed."""
        try:
            known = format_lines()
        except MissingExtraError as error:
            known = f"\n  {error}"
        sys.stdout.write(f"{parser.format_help()}\nformats, and where each platform looks for the result:{known}\n")
        parser.exit()


def add_to(commands: Any) -> None:
    """Add the commands to the parser's."""
    _add_grade(commands.add_parser("grade", help="grade answers, in the form that a platform reads", add_help=False))
    _add_regrade(commands.add_parser("regrade", help="grade anew, and say first which scores would change"))
    _add_lint(commands.add_parser("lint", help="check a task: which known mistakes it cannot tell from right answers"))
    _add_worker(commands.add_parser("xqueue-worker", help="grade what comes from a queue of Open edX"))


def _add_grade(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Grade answers and write the result. Whatever the answers are, and whatever breaks, the platform gets a result "
        "in its form; what broke is said on standard error."
    )
    command.add_argument("-h", "--help", action=_GradeHelp, nargs=0, help="show this help message and exit")
    _takes_task(command)
    command.add_argument(
        "--answers", required=True, metavar="FILE", help="the student's answers; a folder of them; - is standard input"
    )
    command.add_argument(
        "--metadata",
        metavar="FILE",
        help="Gradescope's submission_metadata.json: the submission's id and the number of the attempt are read of it",
    )
    command.add_argument("--submission", metavar="ID", help="an id that only your own side can trace back to somebody")
    command.add_argument("--attempt", type=int, metavar="N", help="which try it is: feedback may depend on it")
    command.add_argument("--format", default="json", help="the platform (default json, the report itself)")
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="something that the format is to be told, where the platform's environment does not; may be repeated",
    )
    command.add_argument(
        "--audience",
        choices=["student", "staff"],
        default="student",
        help="staff: with the expected numbers and all checks, as JSON (default student)",
    )
    command.add_argument(
        "--phase",
        choices=["open", "due", "published"],
        default="open",
        help="how far the work on the task has come: which checks students may see (default open)",
    )
    command.add_argument(
        "-o", "--out", metavar="FILE", help="where the result goes; a folder, if the answers are one (default: printed)"
    )
    _takes_service(command)
    command.set_defaults(run=grade)


def _add_regrade(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Grade the answers of a folder anew, print whose score changes, and write the new reports. The files of "
        "--answers and --reports have the same names; the reports are those that `chainrule grade` wrote as JSON."
    )
    _takes_task(command)
    command.add_argument("--answers", required=True, metavar="DIR", help="the answers")
    command.add_argument("--reports", required=True, metavar="DIR", help="the reports on them; they stay as they are")
    command.add_argument("-o", "--out", metavar="DIR", help="where the reports go that count from now on")
    command.add_argument("--diff", action="store_true", help="only say what would change")
    command.add_argument("--json", action="store_true", help="say it as JSON")
    command.add_argument(
        "--policy",
        choices=["new", "max"],
        default="new",
        help="max: whoever would lose keeps the old report (default new)",
    )
    command.add_argument("--reason", metavar="TEXT", help="why; it stands in the new reports")
    _takes_service(command)
    command.set_defaults(run=regrade)


def _add_lint(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Check a task before students see it: whether its right answers hold against finite differences, which known "
        "mistakes give right answers all the same and why, and which inputs would tell more. Exit status 1: do not "
        "publish it."
    )
    command.add_argument("spec", metavar="TASK.json", help="the task; - reads standard input")
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="MISTAKE",
        help="a mistake that is meant to go unnoticed; may be repeated",
    )
    command.add_argument("--quick", action="store_true", help="do not look for inputs that tell more")
    command.add_argument("--json", action="store_true", help="print all that was found as JSON")
    _takes_service(command)
    command.set_defaults(run=lint)


def _add_worker(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Pull submissions from a queue of Open edX, grade them, and put the results back, until it is stopped: then "
        'the one at hand is finished. The problem names its task: grader_payload is {"grader": "NAME"}.'
    )
    command.add_argument("--server", required=True, metavar="URL", help="the server, in front of /xqueue/")
    command.add_argument("--queue", required=True, metavar="NAME", help="the queue")
    command.add_argument("--spec-dir", required=True, metavar="DIR", help="the tasks: NAME.json, folders allowed")
    command.add_argument("--user", help="who pulls (CHAINRULE_XQUEUE_USER)")
    command.add_argument(
        "--password", help="that user's; on a shared machine, better in CHAINRULE_XQUEUE_PASSWORD, which nobody sees"
    )
    command.add_argument(
        "--dead-letters",
        metavar="FILE",
        default="dead-letters.jsonl",
        help="where submissions are listed that cannot be graded; take a line out to have its submission tried again. "
        "FILE.attempts holds how often others were tried (default dead-letters.jsonl)",
    )
    command.add_argument(
        "--idle", type=float, default=5.0, metavar="SECONDS", help="between two looks at an empty queue (default 5)"
    )
    command.add_argument("--once", action="store_true", help="end when the queue is empty; exit status 1 if any failed")
    _takes_service(command)
    command.set_defaults(run=_work)


def _takes_task(command: argparse.ArgumentParser) -> None:
    command.add_argument("--spec", required=True, metavar="TASK.json", help="the task")


def _takes_service(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--local", action="store_true", help="grade in this process: no service and no network; the bytes are the same"
    )
    command.add_argument("--url", help="address of the service (CHAINRULE_URL; default http://127.0.0.1:8000)")
    command.add_argument("--api-key", metavar="KEY", help="its key; better in CHAINRULE_API_KEY, which nobody sees")


def _work(options: argparse.Namespace) -> int:
    """Run `chainrule xqueue-worker`."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    user = options.user or os.environ.get("CHAINRULE_XQUEUE_USER", "")
    password = options.password or os.environ.get("CHAINRULE_XQUEUE_PASSWORD", "")
    queue = XQueue(options.server, options.queue, user=user, password=password)
    form = Form("xqueue")
    with connect(options, timeout=None if os.environ.get("CHAINRULE_TIMEOUT") else _TIMEOUT) as client:
        worker = Worker(
            queue,
            Tasks(Path(options.spec_dir)),
            lambda task, response, submission: _result(client, task, response, submission, form),
            DeadLetters(Path(options.dead_letters)),
            Attempts(Path(f"{options.dead_letters}.attempts")),
            idle=max(options.idle, 0.01),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop.set())
        try:
            counts = worker.run(once=options.once)
        finally:
            queue.close()
    logging.getLogger(__name__).info("graded %d, failed %d", counts.graded, counts.failed)
    return FAILED if options.once and (counts.failed or counts.troubles) else 0


def _result(client: Client, task: Any, response: str, submission: str, form: Form) -> str:
    try:
        answers = _files.parse_answers(response)
    except _files.Unreadable as error:
        answers = error
    result = ask(client, task, answers, {"id": submission}, form)
    if result.exit_status:
        raise ValueError("the service has no result for a queue")
    return result.text.decode()
