"""The client: one method for each thing that the service does."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self, TypedDict, Unpack, overload
from urllib.parse import quote

from ._drawing import Drawing
from ._errors import APIConnectionError, Problem, ServiceUnavailableError
from ._expression import Expression, Numbers, to_graph
from ._jobs import FINAL_STATES, LONG_POLL, Job, path_of
from ._reports import ExerciseCheck, GradingRecord, Rendering, Report
from ._results import Evaluation, GradientCheck, JobMetrics, Limit, OperationInfo, TrainingResult, words_for
from ._retries import retry_after
from ._transport import Timeout, Transport, decoded

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = (5.0, 600.0)

#: A graph: an expression, several as its outputs, the wire's object, or program text.
GraphLike = Expression | Sequence[Expression] | Mapping[str, Any] | str
#: Who a report is for, and how far the work on its task has come.
Audience = Literal["student", "staff"]
Phase = Literal["open", "due", "published"]
_DRAWINGS = {"svg": "image/svg+xml", "dot": "text/vnd.graphviz"}


class _Grading(TypedDict, total=False):
    submission: str | Mapping[str, Any] | None
    audience: Audience
    phase: Phase
    options: Mapping[str, Any] | None
    store: bool
    supersedes: str | None
    reason: str | None


class Client:
    """Talks to one chainrule service.

    Args:
        base_url: the service's address.
        api_key: the key to send, if the service asks for one.
        timeout: seconds to wait for a connection and for an answer, or one number for both, or None for ever.
        max_retries: how often a request is sent again after a passing trouble, where that does no harm.

    Every method raises `APIStatusError` (by one class for each status), `APIConnectionError` or `APIResponseError`.
    Wherever a request holds a graph it may be an expression, and wherever it holds numbers, a NumPy array.
    A client is also a context manager, which closes its connections.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
        max_retries: int = 2,
    ) -> None:
        self._transport = Transport(base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Return a client that is set up by environment variables.

        They are CHAINRULE_URL, CHAINRULE_API_KEY, CHAINRULE_TIMEOUT and CHAINRULE_MAX_RETRIES; `overrides` are
        arguments of `Client` that win over them, bar those that are None.
        """
        environ = os.environ if environ is None else environ
        settings: dict[str, Any] = {}
        for key, variable, read in (
            ("base_url", "CHAINRULE_URL", str),
            ("api_key", "CHAINRULE_API_KEY", str.strip),  # a variable filled from a file often ends in a line break
            ("timeout", "CHAINRULE_TIMEOUT", float),
            ("max_retries", "CHAINRULE_MAX_RETRIES", int),
        ):
            text = environ.get(variable)
            if text:
                try:
                    settings[key] = read(text)
                except ValueError:
                    raise ValueError(f"{variable} must be a number, not {text!r}") from None
        settings.update({key: value for key, value in overrides.items() if value is not None})
        return cls(**settings)

    @classmethod
    def local(cls) -> Self:
        """Return a client of a service inside this process.

        No socket is opened, and jobs live until the client is closed. The answers are those of a remote service, to the
        byte. Needs `pip install 'chainrule[local]'`.

        Raises:
            MissingExtraError: the `local` extra is not installed.
        """
        from ._local import WSGIAdapter, application

        client = cls("http://127.0.0.1")
        client._transport.session.mount("http://", WSGIAdapter(*application()))
        return client

    def close(self) -> None:
        """Close the connections; the client can still be used and then opens new ones."""
        self._transport.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<chainrule client of {self._transport.base_url}>"

    # Evaluation

    def evaluate(
        self,
        graph: GraphLike,
        *,
        inputs: Mapping[str, Numbers] | None = None,
        output: str | Sequence[str] | None = None,
        seeds: Mapping[str, Numbers] | None = None,
        trace: bool = False,
        derivative: str = "gradient",
        tangent: Mapping[str, Numbers] | None = None,
    ) -> Evaluation:
        """Return the values and gradients of a graph, or other derivatives.

        Args:
            graph: an expression, a list of them, the wire's object, or program text (`"y = x*x"`).
            inputs: numbers for the inputs, by name: all of them for program text, other ones for any other
                graph.
            output: the id of the output, or a list of ids, where the graph does not say.
            seeds: by output id, the number that its gradient starts from; 1 where it is left out.
            trace: whether the answer lists each addition of the backward pass.
            derivative: "gradient"; "none" for the values alone; "jacobian", "jvp", "hessian" or "hvp".
            tangent: for "jvp" and "hvp", by input, how it moves along the direction; one that is left out does not.
        """
        request = {"graph": _graph(graph, inputs, output), "derivative": derivative, "trace": trace}
        vectors = {"seeds": seeds, "tangent": tangent}
        request |= {name: dict(vector) for name, vector in vectors.items() if vector is not None}
        return Evaluation.from_dict(self._transport.json("POST", "/v1/evaluations", request))

    def evaluate_batch(self, graphs: Sequence[GraphLike]) -> list[Evaluation | Problem]:
        """Return the evaluation of each graph in order, or the problem that it has; one never spoils another.

        An item may also be a whole request of its own: `{"graph": ..., "trace": True}`.
        """
        items = [
            {**item, "graph": _graph(item["graph"])}
            if isinstance(item, Mapping) and "graph" in item
            else {"graph": _graph(item)}
            for item in graphs
        ]
        answer = self._transport.json("POST", "/v1/evaluations/batch", {"items": items})
        return [
            Evaluation.from_dict(item["result"]) if "result" in item else Problem.from_dict(item["problem"])
            for item in answer["data"]
        ]

    def check_gradients(
        self,
        graph: GraphLike,
        *,
        inputs: Mapping[str, Numbers] | None = None,
        output: str | Sequence[str] | None = None,
        step: float | None = None,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> GradientCheck:
        """Compare the gradients of a graph with central differences, kinks left aside."""
        request = {"graph": _graph(graph, inputs, output), "step": step, "rtol": rtol, "atol": atol}
        given = {name: value for name, value in request.items() if value is not None}
        return GradientCheck.from_dict(self._transport.json("POST", "/v1/gradient-checks", given))

    def draw(
        self,
        graph: GraphLike,
        *,
        inputs: Mapping[str, Numbers] | None = None,
        output: str | Sequence[str] | None = None,
        format: Literal["svg", "dot"] = "svg",  # noqa: A002  # as other libraries call it
        focus: str | None = None,
        depth: int | None = None,
    ) -> Drawing:
        """Return the drawing of a graph with its values and gradients, as SVG or as Graphviz DOT text.

        Args:
            graph: as for `evaluate`.
            inputs: as for `evaluate`.
            output: as for `evaluate`.
            format: "svg" or "dot".
            focus: the id of a node to draw the neighbourhood of, where the whole graph is too large.
            depth: how many edges away from `focus` the neighbourhood reaches.
        """
        if format not in _DRAWINGS:
            raise ValueError(f"format must be one of {', '.join(map(repr, _DRAWINGS))}, not {format!r}")
        given = {"focus": focus, "depth": depth}
        response = self._transport.send(
            "POST",
            "/v1/evaluations",
            {"graph": _graph(graph, inputs, output)},
            accept=_DRAWINGS[format],
            params={name: value for name, value in given.items() if value is not None},
        )
        return Drawing(response.content.decode(), format)

    # Jobs

    def train(
        self,
        spec: Mapping[str, Any] | None = None,
        /,
        *,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        **members: Any,
    ) -> TrainingResult:
        """Train a model and return the result, once it is there.

        The specification is given as one dictionary, as keyword arguments, or as both:

            client.train(
                model={"inputs": 2, "layers": [16, 16, 1], "init": {"scheme": "lecture", "seed": 0}},
                data={"inputs": [[...], ...], "targets": [...]},
                loss={"name": "squared_error", "reduction": "sum"},
                optimizer={"name": "sgd", "learning_rate": 0.1},
                steps=100,
            )

        `labels`, `priority` and `deadline` are those of `submit`.

        Raises:
            JobFailedError: the training was accepted, and failed or ran into its deadline.
        """
        whole = {**(spec or {}), **members}
        options = {"labels": labels, "priority": priority, "deadline": deadline}
        job = self.submit("training", whole, wait=LONG_POLL, **options).wait()  # type: ignore[arg-type]  # options of several types
        # A record that repeats the specification has its defaults filled in.
        model = (job.raw.get("spec") or whole).get("model", {})
        return TrainingResult.from_dict(job.result or {}, job=job.id, model=model)

    def submit(
        self,
        kind: str,
        spec: Mapping[str, Any],
        *,
        wait: float = 0,
        queue: bool = False,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        webhook: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Hand in a job ("training" or "evaluation") and return its record, which may already be finished.

        Args:
            kind: the type of the job.
            spec: its specification.
            wait: the seconds to wait for its end at most, as far as the service waits.
            queue: whether to leave even a cheap job to a worker, and not to have it run before the answer.
            labels: short texts by name, to find the job by.
            priority: from -100 to 100; those with higher ones start first.
            deadline: the seconds after which the job is given up, whether it runs or not.
            webhook: `{"url": ..., "events": [...]}`, to be told of its end.
            idempotency_key: one job comes of all requests that carry the same. Left out, each call has its own, with
                which it is sent again after a passing trouble.
        """
        request = {
            "type": kind, "spec": spec, "labels": labels, "priority": priority, "deadline_seconds": deadline,
            "webhook": webhook,
        }  # fmt: skip
        given = {name: value for name, value in request.items() if value is not None}
        headers = _key(idempotency_key) | _prefer(wait=wait, queue=queue)
        return self._job("POST", "/v1/jobs", given, wait=wait, headers=headers)

    def submit_many(
        self, jobs: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Job | Problem]:
        """Queue several jobs, each as the body of a request (`{"type": ..., "spec": ..., "labels": ...}`).

        Returns the record of each in order, or the problem that it has; one never spoils another.
        """
        body = {"items": list(jobs)}
        answer = self._transport.json("POST", "/v1/jobs/batch", body, headers=_key(idempotency_key))
        return [
            Job.from_dict(item["job"], client=self) if "job" in item else Problem.from_dict(item["problem"])
            for item in answer["data"]
        ]

    def job(self, job_id: str, *, wait: float = 0) -> Job:
        """Return the record of a job, as soon as it has ended, and after so many seconds at the latest."""
        return self._job("GET", path_of(job_id), wait=wait, headers=_prefer(wait=wait))

    def jobs(
        self,
        *,
        state: str | None = None,
        type: str | None = None,  # noqa: A002  # as the wire calls it
        label: str | None = None,
        created_after: str | datetime | None = None,
    ) -> Iterator[Job]:
        """Go through the jobs, newest first, without their specifications and results.

        Further pages are fetched as they are needed.

        Args:
            state: only those in this state.
            type: only those of this type.
            label: only those with this label, as "name:text".
            created_after: only those that are newer.
        """
        if isinstance(created_after, datetime):
            if created_after.tzinfo is None:
                raise ValueError("created_after needs a time zone, such as datetime.now(UTC) has")
            created_after = created_after.isoformat()
        filters = {"state": state, "type": type, "label": label, "created_after": created_after}
        for record in self._pages("/v1/jobs", filters):
            yield Job.from_dict(record, client=self)

    def cancel_job(self, job_id: str) -> Job:
        """Ask for the end of a job, and return its record: a job that runs is "cancelling" for a moment."""
        return self._job("POST", path_of(job_id) + "/cancel")

    def delete_job(self, job_id: str) -> None:
        """Delete the record of a finished job."""
        self._transport.json("DELETE", path_of(job_id), safe=False)

    def job_metrics(
        self, job_id: str, *, after: int | None = None, max_points: int | None = None, wait: float = 0
    ) -> JobMetrics:
        """Return the losses and metrics of a job's steps; the arguments are those of `Job.metrics`."""
        given = {"after": after, "max_points": max_points}
        params = {name: value for name, value in given.items() if value is not None}
        path = path_of(job_id) + "/metrics"
        answer = self._transport.json("GET", path, params=params, headers=_prefer(wait=wait), wait=wait)
        return JobMetrics.from_dict(answer)

    def stream_metrics(self, job_id: str, *, after: int | None = None) -> Iterator[JobMetrics]:
        """Go through the losses and metrics of a job as they come; see `Job.stream`."""
        last = "" if after is None else str(after)
        try:
            for event in self._transport.events(path_of(job_id) + "/metrics", last):
                if event.name == "end":
                    return
                if event.name == "progress":
                    part = JobMetrics.from_dict(event.data)
                    after = part.next
                    yield part
        except ServiceUnavailableError:
            # As many streams are open as may be; a plain question is answered all the same.
            yield from self._polled_metrics(job_id, after)

    def _polled_metrics(self, job_id: str, after: int | None) -> Iterator[JobMetrics]:
        """Go through the same by one request after another."""
        state = ""
        while state not in FINAL_STATES:
            part = self.job_metrics(job_id, after=after, wait=LONG_POLL)
            after, state = part.next, part.state
            if part.steps:
                yield part
            elif state not in FINAL_STATES:  # where as many wait as may, the answer came at once
                self._transport.sleep(1.0)

    def _pages(self, path: str, filters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Go through the entries of a list, page by page."""
        params = {name: value for name, value in filters.items() if value is not None}
        while True:
            page = self._transport.json("GET", path, params=params)
            yield from page["data"]
            if not page.get("next_cursor"):
                return
            params["cursor"] = page["next_cursor"]

    def _job(
        self, method: str, path: str, body: Any = None, *, wait: float = 0, headers: Mapping[str, str] | None = None
    ) -> Job:
        response = self._transport.send(method, path, body, headers=headers, wait=wait)
        waited = "wait" in response.headers.get("Preference-Applied", "")
        pause = 0.0 if waited else retry_after(response.headers)
        return Job.from_dict(decoded(response), client=self, retry_after=pause)

    # Grading

    @overload
    def grade(
        self, task: Mapping[str, Any], answers: Any, *, format: None = None, **more: Unpack[_Grading]
    ) -> Report: ...

    @overload
    def grade(self, task: Mapping[str, Any], answers: Any, *, format: str, **more: Unpack[_Grading]) -> Rendering: ...

    def grade(
        self,
        task: Mapping[str, Any],
        answers: Any,
        *,
        submission: str | Mapping[str, Any] | None = None,
        audience: Audience = "student",
        phase: Phase = "open",
        format: str | None = None,  # noqa: A002  # as the wire calls it
        options: Mapping[str, Any] | None = None,
        store: bool = True,
        supersedes: str | None = None,
        reason: str | None = None,
    ) -> Report | Rendering:
        """Grade answers against a task; the same again gives the same report.

        Args:
            task: the wire's object; wherever it holds a graph, that may be an expression.
            answers: `{"value": ..., "gradients": {"a": ...}}` and the like, of numbers, decimal text or arrays.
            submission: its opaque id, or `{"id": ..., "attempt": ...}`.
            audience: who the report is for; "staff" sees the expected numbers.
            phase: how far the work on the task has come: which checks students may see depends on it.
            format: the platform that is to read the answer, such as "gradescope".
            options: what that format is told.
            store: whether the service keeps the report.
            supersedes: the id of the report that this one is to replace.
            reason: why it does, for staff.
        """
        request = {
            "task": task, "answers": words_for(answers), "submission": _submission(submission), "options": options,
            "supersedes": supersedes, "reason": reason,
        }  # fmt: skip
        given = {name: value for name, value in request.items() if value is not None}
        return self._report("POST", "/v1/gradings", {**given, "store": store}, audience, phase, format)

    def grade_batch(
        self,
        task: Mapping[str, Any] | None,
        submissions: Sequence[Mapping[str, Any]],
        *,
        audience: Audience = "student",
        phase: Phase = "open",
        store: bool = True,
        reason: str | None = None,
    ) -> list[Report | Problem]:
        """Grade several submissions, and return the report on each in order, or the problem that it has.

        Args:
            task: what all of them answer; None where each has a `task` of its own.
            submissions: `{"answers": ..., "submission": {"id": ..., "attempt": ...}, "supersedes": ...}` each.
            audience: as for `grade`.
            phase: as for `grade`.
            store: as for `grade`.
            reason: as for `grade`.
        """
        each = [{**item, "answers": words_for(item.get("answers"))} for item in submissions]
        body: dict[str, Any] = {"items": each} if task is None else {"task": task, "submissions": each}
        body |= {"store": store} | ({} if reason is None else {"reason": reason})
        params = {"audience": audience, "phase": phase}
        answer = self._transport.json("POST", "/v1/gradings/batch", body, params=params)
        return [
            Report.from_dict(item["report"]) if "report" in item else Problem.from_dict(item["problem"])
            for item in answer["data"]
        ]

    def grading(
        self,
        report_id: str,
        *,
        audience: Audience = "student",
        phase: Phase = "open",
    ) -> Report:
        """Return a report that the service keeps."""
        report = self._report("GET", f"/v1/gradings/{quote(report_id, safe=':')}", None, audience, phase, None)
        assert isinstance(report, Report)
        return report

    def gradings(
        self, *, task: str | None = None, submission: str | None = None, outcome: str | None = None
    ) -> Iterator[GradingRecord]:
        """Go through the gradings that the service keeps, newest first; further pages are fetched as they are needed.

        Args:
            task: only those of this task: its id, or its digest for one version of it.
            submission: only those of this submission.
            outcome: only those with this outcome.
        """
        filters = {"task": task, "submission": submission, "outcome": outcome}
        for record in self._pages("/v1/gradings", filters):
            yield GradingRecord.from_dict(record)

    def delete_gradings(self, submission: str) -> int:
        """Delete all gradings of a submission, and return how many there were."""
        answer = self._transport.json("DELETE", "/v1/gradings", params={"submission": submission})
        return int(answer["deleted"])

    def check_exercise(
        self,
        task: Mapping[str, Any] | Expression | str,
        *,
        inputs: Mapping[str, Numbers] | None = None,
        accept_undetected: Sequence[str] = (),
        suggestions: bool = True,
    ) -> ExerciseCheck:
        """Say which known mistakes an exercise can tell from a right answer, and which inputs would tell more.

        Args:
            task: a task, or a graph in any form, which stands for the task that asks for its value and gradients.
            inputs: for a graph, as for `evaluate`.
            accept_undetected: names of mistakes that are meant to go unnoticed.
            suggestions: whether to look for better inputs.
        """
        # What has none of a graph's members is no graph, but may be a task in which a name is misspelt.
        if not isinstance(task, Mapping) or (
            not task.keys() & {"evaluation", "training"} and (not task or task.keys() & {"inputs", "nodes", "program"})
        ):
            task = {"evaluation": {"graph": _graph(task, inputs)}}
        elif inputs:
            raise ValueError("a task has its inputs in its graph; change them there")
        body = {"task": task, "accept_undetected": list(accept_undetected), "suggestions": suggestions}
        return ExerciseCheck.from_dict(self._transport.json("POST", "/v1/exercise-checks", body))

    def generate_exercise(self, seed: int, **wishes: Any) -> dict[str, Any]:
        """Return a random graph in the form of the wire: the same for the same seed and wishes, on every machine.

        Args:
            seed: a whole number; another is another exercise.
            wishes: `nodes`, `inputs`, `operations`, `depth`, `sharing`, `form` ("nodes" or "program").
        """
        graph: dict[str, Any] = self._transport.json("POST", "/v1/exercises", {"seed": seed, **wishes})["graph"]
        return graph

    def _report(
        self, method: str, path: str, body: Any, audience: str, phase: str, form: str | None
    ) -> Report | Rendering:
        params = {"phase": phase} | ({"audience": audience} if form is None or audience != "student" else {})
        params |= {} if form is None else {"format": form}
        response = self._transport.send(method, path, body, accept="*/*", params=params)
        if form is None:
            return Report.from_dict(decoded(response))
        status = int(response.headers.get("Chainrule-Exit-Status", 0))
        return Rendering(response.content.decode(), response.headers.get("Content-Type", ""), status)

    # The service itself

    def operations(self) -> list[OperationInfo]:
        """Return what the service can compute."""
        return [OperationInfo.from_dict(item) for item in self._transport.json("GET", "/v1/operations")["data"]]

    def limits(self) -> dict[str, Limit]:
        """Return how large a request may be, by the name of the limit."""
        limits = map(Limit.from_dict, self._transport.json("GET", "/v1/limits")["data"])
        return {limit.name: limit for limit in limits}

    def version(self) -> dict[str, Any]:
        """Return the versions of the service and its engine."""
        answer: dict[str, Any] = self._transport.json("GET", "/v1/version")
        return answer

    def ready(self) -> bool:
        """Whether the service is there and takes work; False too while nothing listens at its address."""
        try:
            self._transport.send("GET", "/readyz", max_retries=0)
        except (APIConnectionError, ServiceUnavailableError):
            return False
        return True


def _prefer(*, wait: float = 0, queue: bool = False) -> dict[str, str]:
    """Return the header that asks the service to wait, or to leave a job to a worker."""
    wishes = ["respond-async"] * queue + [f"wait={math.ceil(wait)}"] * (wait > 0)
    return {"Prefer": ", ".join(wishes)} if wishes else {}


def _key(given: str | None) -> dict[str, str]:
    """Return the header by which the service knows a request again that is sent twice."""
    return {"Idempotency-Key": json.dumps(given or str(uuid.uuid4()))}


def _submission(given: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return {"id": given} if isinstance(given, str) else given


def _graph(
    graph: GraphLike, inputs: Mapping[str, Numbers] | None = None, output: str | Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the wire's object for any form of graph."""
    if isinstance(graph, str):
        wire: dict[str, Any] = {"inputs": dict(inputs or {}), "program": graph}
    else:
        wire = dict(graph) if isinstance(graph, Mapping) else to_graph(graph)
        if inputs:
            own = wire.get("inputs", {})
            strange = [name for name in inputs if name not in own]
            if strange:
                raise ValueError(f"the graph has no input named {strange[0]!r}; it has {', '.join(own) or 'none'}")
            wire["inputs"] = {**own, **inputs}
    if output is not None:
        wire["output"] = output if isinstance(output, str) else list(output)
    return wire
