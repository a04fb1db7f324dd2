"""Finding a job that a request names: one that its sender may see."""

from __future__ import annotations

import re

from chainrule_service.exchange import owner, service
from chainrule_service.problems import RequestError
from chainrule_service.store import JOB_ID, Job


def find(job_id: str, *, brief: bool = False) -> Job:
    """Return a job; a brief one has neither spec nor result.

    Raises:
        RequestError: there is none, or it is somebody else's, which makes no difference to who asks (404).
    """
    job = service().store.get(job_id, owner(), brief=brief) if re.fullmatch(JOB_ID, job_id) else None
    if job is None:
        raise RequestError("not-found", f"there is no job {job_id[:60]!r}")
    return job
