"""The `chainrule` command: run the service, or ask one from the shell.

Answers go to standard output as JSON; whatever went wrong goes to standard error with exit status 1, or 2
where the command itself was given something that it cannot use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from . import _grading_commands, _local
from ._client import Client
from ._errors import ChainruleError, MissingExtraError
from ._grade import FAILED, words_of
from ._version import __version__

MISUSED = 2
_GRAPH_FILE = "a graph as JSON, or the body of a POST to /v1/evaluations; - reads standard input"


_ENGINE_HELP = """
what computes, with the same bits either way:
  CHAINRULE_ENGINE
      python (plain Python alone) or compiled (machine code, made at the start where it must be); left out, machine code
      where `python -m chainrule_engine.warm` has made it
  NUMBA_CACHE_DIR
      folder in which the machine code is kept
"""


_VARIABLES_HELP = """
more variables, which have no option:
  CHAINRULE_DATABASE_URL
      PostgreSQL instead of the data folder's file: postgresql+psycopg://user@host/name
  CHAINRULE_BROKER_URL
      Redis or RabbitMQ by which Celery hands out jobs: redis://host:6379/0, amqp://user@host//
  CHAINRULE_QUEUE
      the name of the queue there: services that share a broker have different ones (default chainrule)
  CHAINRULE_LEASE_SECONDS
      seconds after which a worker that falls silent is taken for dead (default 5)
  CHAINRULE_LOG_LEVEL
      debug, info (a line for each request), warning or error (default warning)
  CHAINRULE_METRICS_PORT, CHAINRULE_METRICS_HOST
      where Prometheus scrapes (default nowhere, and 127.0.0.1)
  CHAINRULE_WEBHOOKS, CHAINRULE_WEBHOOK_NETWORKS
      1 lets jobs name a URL that is told of their end; private networks that it may lead to, separated by commas
"""


class _ServeHelp(argparse.Action):
    """The `--help` of `chainrule serve`: it ends with the limits, which the service knows."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the help and end; without the limits where the service is not installed."""
        try:
            limits = _local.limits_help()
        except MissingExtraError as error:
            limits = f"  {error}\n"
        parser.print_help()
        print(_ENGINE_HELP + _VARIABLES_HELP, end="")
        print(f"\nlimits, each an environment variable (GET /v1/limits shows those in force):\n{limits}", end="")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit status."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except MissingExtraError as error:
        return _fail(f"chainrule {options.command}: {error}", MISUSED)
    except BrokenPipeError:  # nobody reads on, as behind `| head`; nor is there anybody at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except ChainruleError as error:
        return _fail(words_of(error) if hasattr(options, "local") else str(error), FAILED)
    except FileNotFoundError as error:
        return _fail(f"chainrule {options.command}: there is no file {error.filename}", MISUSED)
    except (ValueError, TypeError, OSError) as error:
        return _fail(f"chainrule {options.command}: {error}", MISUSED)


def _fail(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chainrule", description="Autograd as a service.")
    parser.add_argument("--version", action="version", version=f"chainrule {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service until it is stopped. Each option is an environment variable too; the option wins.",
        add_help=False,
    )
    serve.add_argument("-h", "--help", action=_ServeHelp, nargs=0, help="show this help message and exit")
    serve.add_argument("--host", help="address to listen on (CHAINRULE_HOST; default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (CHAINRULE_PORT; default 8000)")
    _takes_database(serve)
    serve.add_argument(
        "--workers", type=int, metavar="N", help="server processes (CHAINRULE_WORKERS; default one per core, at most 8)"
    )
    _takes_job_workers(serve)
    serve.add_argument(
        "--threads", type=int, metavar="N", help="threads in each process (CHAINRULE_THREADS; default 16)"
    )
    # None and not False when it is absent, so that CHAINRULE_INSECURE still counts.
    serve.add_argument(
        "--insecure",
        action="store_true",
        default=None,
        help="listen beyond this machine although no API key exists and anyone may call (CHAINRULE_INSECURE=1)",
    )
    serve.set_defaults(run=_serve)

    worker = commands.add_parser(
        "worker",
        help="run job workers alone",
        description="Run jobs of a database, beside a server or without one, until it is stopped: then the jobs that "
        "run go back to the queue.",
    )
    _takes_database(worker)
    _takes_job_workers(worker)
    worker.set_defaults(run=_worker)

    database = commands.add_parser("db", help="look after the database")
    upgrade = database.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "upgrade",
        help="bring its tables to what this version needs",
        description="Bring the database's tables to what this version needs, with what is in them. A server does it by "
        "itself to the file in its data folder; a database of CHAINRULE_DATABASE_URL wants it before each new version.",
    )
    _takes_database(upgrade)
    upgrade.set_defaults(run=_upgrade)

    doctor = commands.add_parser(
        "doctor",
        help="check a deployment and say what mends it",
        description="Look at the settings, the database, the broker, the workers and the server from where this is "
        "called, and say what mends whatever is wrong. It changes nothing. Exit status 1: something is broken.",
    )
    doctor.add_argument("--host", help="address that the server listens on (CHAINRULE_HOST)")
    doctor.add_argument("--port", type=int, help="port that the server listens on (CHAINRULE_PORT)")
    _takes_database(doctor)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    openapi = commands.add_parser("openapi", help="print the service's OpenAPI description")
    openapi.set_defaults(run=_openapi)

    _keys_parsers(commands.add_parser("keys", help="make, list and revoke the API keys of a service"))

    version = commands.add_parser("version", help="print the client's version, and a service's with --url")
    version.set_defaults(run=_version)

    evaluate = commands.add_parser("evaluate", help="values and gradients of a graph")
    _takes_graph(evaluate)
    evaluate.add_argument("--trace", action="store_true", help="list every addition of the backward pass")
    evaluate.set_defaults(run=_evaluate)

    draw = commands.add_parser("draw", help="draw a graph with its values and gradients")
    _takes_graph(draw)
    draw.add_argument("-o", "--out", metavar="FILE", help="write FILE (.svg or .dot) instead of standard output")
    draw.add_argument("--format", choices=["svg", "dot"], help="default: what FILE's name says, else svg")
    draw.set_defaults(run=_draw)

    train = commands.add_parser("train", help="train a model and print the result")
    train.add_argument("file", metavar="SPEC.json", help="the training's specification; - reads standard input")
    train.set_defaults(run=_train)

    _grading_commands.add_to(commands)

    for command in (version, evaluate, draw, train):
        command.add_argument("--url", help="address of the service (CHAINRULE_URL; default http://127.0.0.1:8000)")
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _takes_database(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        metavar="DIR",
        help="folder for the jobs database (CHAINRULE_DATA; default ~/.local/share/chainrule), "
        "unless CHAINRULE_DATABASE_URL names a server's",
    )


def _takes_job_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--job-workers",
        type=int,
        metavar="N",
        help="processes that run the jobs of the queue (CHAINRULE_JOB_WORKERS; default one per core, at most 8)",
    )


def _keys_parsers(keys: argparse.ArgumentParser) -> None:
    commands = keys.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser(
        "create",
        help="make a key and print it: it is shown this once",
        description="Make an API key and print it; nobody can find it out afterwards. From the first key on, the "
        "service asks everybody for one.",
    )
    create.add_argument("name", metavar="NAME", help="who or what it is for")
    create.add_argument(
        "--scopes",
        default="evaluate,jobs,grade",
        help="what it may do, of evaluate, jobs, grade, staff (default all but staff)",
    )
    create.add_argument(
        "--days", type=float, metavar="N", help="days for which it is good (default: until it is revoked)"
    )
    create.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="its own requests_per_minute, work_per_day or concurrent_jobs, where they differ from the service's; may "
        "be repeated",
    )
    create.set_defaults(run=_create_key)
    listing = commands.add_parser("list", help="print all keys, without their secrets")
    listing.set_defaults(run=_list_keys)
    revoke = commands.add_parser("revoke", help="end a key: all servers refuse it within a second")
    revoke.add_argument("id", metavar="ID", help="as `chainrule keys list` shows it")
    revoke.set_defaults(run=_revoke_key)
    for command in (create, listing, revoke):
        _takes_database(command)
        command.set_defaults(parser=command)


def _takes_graph(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="?", metavar="FILE", help=_GRAPH_FILE)
    command.add_argument("--program", metavar="TEXT", help="the graph as text instead, e.g. 'y = x*x'")
    command.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an input of --program; may be repeated",
    )


def _serve(options: argparse.Namespace) -> int:
    names = ("host", "port", "data", "workers", "job_workers", "threads", "insecure")
    return _local.serve(os.environ, **{name: getattr(options, name) for name in names})


def _worker(options: argparse.Namespace) -> int:
    return _local.run_job_workers(os.environ, data=options.data, job_workers=options.job_workers)


def _upgrade(options: argparse.Namespace) -> int:
    _local.upgrade(os.environ, data=options.data)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    asked = {name: getattr(options, name) for name in ("host", "port", "data")}
    text, sound = _local.examine(os.environ, as_json=options.json, **asked)
    print(text)
    return 0 if sound else FAILED


def _openapi(options: argparse.Namespace) -> int:
    print(_local.openapi_json().rstrip("\n"))
    return 0


def _create_key(options: argparse.Namespace) -> int:
    limits = {name: _whole(text, item) for item in options.limit for name, _, text in (item.partition("="),)}
    with _local.keys(os.environ, data=options.data, upgrades=True) as keys:
        key, text = keys.create(options.name, options.scopes.split(","), days=options.days, limits=limits)
    print(f"key {key.id}, for {', '.join(key.scopes)}; it is shown this once:", file=sys.stderr)
    print(text)
    return 0


def _whole(text: str, item: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"--limit {item!r} is not of the form NAME=NUMBER, e.g. requests_per_minute=600")
    return int(text)


def _list_keys(options: argparse.Namespace) -> int:
    with _local.keys(os.environ, data=options.data) as keys:
        return _show([key.to_dict() for key in keys.listed()])


def _revoke_key(options: argparse.Namespace) -> int:
    with _local.keys(os.environ, data=options.data) as keys:
        key = keys.revoke(options.id)
    if key is None:
        raise ValueError(f"there is no key {options.id!r}; `chainrule keys list` shows all")
    return _show(key.to_dict())


def _version(options: argparse.Namespace) -> int:
    if not options.url:
        print(f"chainrule {__version__}")
        return 0
    with _client(options) as client:
        return _show({"client": __version__, "service": client.version()})


def _evaluate(options: argparse.Namespace) -> int:
    with _client(options) as client:
        graph, asked = _request(options, ("seeds", "derivative", "trace"))
        asked |= {"trace": True} if options.trace else {}
        return _show(client.evaluate(graph, **asked).raw)


def _draw(options: argparse.Namespace) -> int:
    suffix = Path(options.out).suffix[1:] if options.out else ""
    form: Literal["svg", "dot"] = options.format or ("dot" if suffix == "dot" else "svg")
    with _client(options) as client:
        graph, _ = _request(options, ())
        drawing = client.draw(graph, format=form)
    if options.out:
        drawing.save(options.out)
    else:
        print(drawing.text)
    return 0


def _train(options: argparse.Namespace) -> int:
    with _client(options) as client:
        return _show(client.train(_read(options.file)).raw)


def _client(options: argparse.Namespace) -> Client:
    return Client.from_env(base_url=options.url)


def _request(options: argparse.Namespace, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Return the graph that the command is given, and what its file asks for besides."""
    graph = _graph(options)
    if not (isinstance(graph, dict) and "graph" in graph):
        return graph, {}
    asked = dict(graph)
    graph = asked.pop("graph")
    if unknown := asked.keys() - set(names):
        listed = ", ".join(("graph", *names))
        raise ValueError(f"{options.file} has the member {min(unknown)!r}; {options.command} reads {listed}")
    return graph, asked


def _graph(options: argparse.Namespace) -> Any:
    if options.program is None:
        if options.input:
            raise ValueError("--input belongs to --program; a graph in a file brings its own inputs")
        if options.file is None:
            raise ValueError("give a FILE with a graph, or --program TEXT")
        return _read(options.file)
    if options.file is not None:
        raise ValueError("give a FILE or --program, not both")
    inputs = {}
    for item in options.input:
        name, equals, number = item.partition("=")
        try:
            inputs[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--input {item!r} is not of the form NAME=NUMBER, e.g. x=2.0")
    return {"inputs": inputs, "program": options.program}


def _read(name: str) -> Any:
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{'standard input' if name == '-' else name} is not JSON: {error}") from error


def _show(answer: Any) -> int:
    print(json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
