"""A job on the service: its record, and waiting for its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ._errors import APITimeoutError, JobFailedError
from ._results import JobMetrics, numbers_in

if TYPE_CHECKING:
    from ._client import Client

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired"})

#: The seconds for which one request waits for news of a job: less than what proxies allow.
LONG_POLL = 20


def path_of(job_id: str) -> str:
    """Return the path of a job on the service."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


@dataclass(frozen=True)
class Job:
    """The record of a job, as it was when the service sent it.

    Attributes:
        state: "queued", "running", "cancelling", "succeeded", "failed", "cancelled" or "expired".
        progress: how far it is, by name.
        result: what it came to, once it has succeeded.
        failure: why it failed, if it did.
        labels: what it was labelled with, by name.
        queue_position: how many jobs will be started before it, while it is queued.
        retry_after: the seconds after which the service would like to be asked again; 0 once it has waited itself.
    """

    id: str
    type: str
    state: str
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    failure: Mapping[str, Any] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    queue_position: int | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    retry_after: float | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Client | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, client: Client | None = None, retry_after: float | None = None
    ) -> Job:
        """Read the wire's form; `client` is the one to ask about it again."""
        return cls(
            id=data["id"],
            type=data.get("type", ""),
            state=data["state"],
            progress=numbers_in(data.get("progress")),
            result=data.get("result"),
            failure=data.get("failure"),
            labels=data.get("labels") or {},
            queue_position=data.get("queue_position"),
            created_at=data.get("created_at"),
            started_at=data.get("started_at"),
            finished_at=data.get("finished_at"),
            retry_after=retry_after,
            raw=data,
            client=client,
        )

    @property
    def done(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    def reload(self) -> Job:
        """Ask the service for the record as it is now."""
        return self._client().job(self.id)

    def cancel(self) -> Job:
        """Ask the service to end the job, and return its record: "cancelled", "cancelling" or what it was."""
        return self._client().cancel_job(self.id)

    def delete(self) -> None:
        """Delete the record from the service."""
        self._client().delete_job(self.id)

    def metrics(self, *, after: int | None = None, max_points: int | None = None, wait: float = 0) -> JobMetrics:
        """Return the losses and metrics of the steps so far.

        Args:
            after: leave out the steps up to this one: the `next` of the answer before.
            max_points: at most so many steps, evenly spread, the last one among them; all when left out.
            wait: the seconds to wait for a step that is new, as far as the service waits.
        """
        return self._client().job_metrics(self.id, after=after, max_points=max_points, wait=wait)

    def stream(self, *, after: int | None = None) -> Iterator[JobMetrics]:
        """Go through the losses and metrics as they come, until the job has ended.

        A broken connection is resumed; where the service keeps as many streams open as it may, it is asked by
        long poll.
        """
        return self._client().stream_metrics(self.id, after=after)

    def wait(self, timeout: float | None = None, *, sleep: Callable[[float], None] = time.sleep) -> Job:
        """Return the record once the job has succeeded.

        The service keeps each answer back until there is news; where it does not, it is asked as often as it says,
        else every second.

        Raises:
            JobFailedError: it ended in another way.
            APITimeoutError: it was not done after `timeout` seconds.
        """
        job, began = self, time.monotonic()
        while not job.done:
            left = math.inf if timeout is None else began + timeout - time.monotonic()
            pause = 0.0
            if left > 0:
                job = self._client().job(self.id, wait=min(left, LONG_POLL))
                pause = 1.0 if job.retry_after is None else job.retry_after
            if job.done:
                break
            if left <= pause:
                raise APITimeoutError(f"job {job.id} was still {job.state} after {timeout:g} s of waiting")
            sleep(pause)
        if job.state != "succeeded":
            raise JobFailedError(job)
        return job

    def _client(self) -> Client:
        if self.client is None:
            raise ValueError("this job was read from data and knows no client: use client.job(id)")
        return self.client

    def __getstate__(self) -> dict[str, Any]:
        # A client holds sockets; a job that travels (in an error, say) goes without it.
        return {**self.__dict__, "client": None}
