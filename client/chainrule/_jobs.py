"""A job on the service: its record, and waiting for its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._errors import APITimeoutError, JobFailedError
from ._results import numbers_in

if TYPE_CHECKING:
    from ._client import Client

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True)
class Job:
    """The record of a job, as it was when the service sent it.

    Attributes:
        state: "queued", "running", "cancelling", "succeeded", "failed", "cancelled" or "expired".
        progress: how far it is, by name.
        result: what it came to, once it has succeeded.
        failure: why it failed, if it did.
        retry_after: the seconds after which the service would like to be asked again.
    """

    id: str
    type: str
    state: str
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    failure: Mapping[str, Any] | None = None
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

    def delete(self) -> None:
        """Delete the record from the service."""
        self._client().delete_job(self.id)

    def wait(self, timeout: float | None = None, *, sleep: Callable[[float], None] = time.sleep) -> Job:
        """Return the record once the job has succeeded, asking as often as the service says (else every
        second).

        Raises:
            JobFailedError: it ended in another way.
            APITimeoutError: it was not done after `timeout` seconds of waiting.
        """
        job, waited = self, 0.0
        while not job.done:
            pause = 1.0 if job.retry_after is None else job.retry_after
            if timeout is not None and waited + pause > timeout:
                raise APITimeoutError(f"job {job.id} was still {job.state} after {waited:g} s of waiting")
            sleep(pause)
            waited += pause
            job = job.reload()
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
