"""The store against a model of it: whatever workers, clients and clocks do, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chainrule_service.database import Database
from chainrule_service.settings import Settings
from chainrule_service.store import TERMINAL, LeaseLost, Store

LEASE = 5.0
ATTEMPTS, CONCURRENT = 3, 2

owners = st.sampled_from("ab")
workers = st.sampled_from(["host:1", "host:2", "host:3"])


class Expected:
    """What is known of a job."""

    def __init__(self, owner, priority):
        self.owner, self.priority = owner, priority
        self.state, self.cancel = "queued", False
        self.worker, self.claim, self.lease_end = None, None, 0.0
        self.attempts, self.tries, self.losses = 0, 0, []

    @property
    def on_the_wire(self):
        return "cancelling" if self.state == "running" and self.cancel else self.state


class StoreMachine(RuleBasedStateMachine):
    """Claims may be held by workers that are dead, stopped or late: all of them are used again at any time."""

    @initialize()
    def begin(self):
        self.time = 1_000_000.0
        self.store = Store(
            Database(None, now=lambda: self.time),
            Settings(limits={"attempts": ATTEMPTS, "concurrent_jobs": CONCURRENT}),
        )
        self.jobs: dict[str, Expected] = {}
        self.claims = []

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    def running(self, job):
        return job.state == "running" and job.lease_end > self.time

    def may_run(self, job):
        others = sum(self.running(other) for other in self.jobs.values() if other.owner == job.owner)
        waits = job.state == "queued" or (job.state == "running" and not self.running(job) and not job.cancel)
        return waits and job.tries < ATTEMPTS and others < CONCURRENT

    def use(self, claim, work):
        """Do what only the holder of a job may do, and return its model if that went well."""
        job = self.jobs[claim.id]
        if job.state == "running" and job.claim is claim:
            return job, work()
        with pytest.raises(LeaseLost):
            work()
        return None, None

    @rule(owner=owners, priority=st.integers(0, 1))
    def submit(self, owner, priority):
        job = {"type": "t", "spec": {}, "spec_digest": "", "engine": {}, "owner": owner, "priority": priority}
        self.jobs[self.store.submit(job).job["id"]] = Expected(owner, priority)

    @rule(worker=workers)
    def claim(self, worker):
        claim = self.store.claim(worker, LEASE)
        candidates = [job for job in self.jobs.values() if self.may_run(job)]
        if claim is None:
            assert not candidates
            return
        job = self.jobs[claim.id]
        assert job in candidates
        assert job.priority == max(other.priority for other in candidates)
        assert claim.step == len(job.losses)
        assert claim.checkpoint == ({"losses": job.losses} if job.losses else None)
        job.attempts, job.tries = job.attempts + 1, job.tries + 1
        assert claim.attempt == job.attempts
        job.state, job.worker, job.claim, job.lease_end = "running", worker, claim, self.time + LEASE
        self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), losses=st.lists(st.integers(0, 9).map(float), min_size=1, max_size=3))
    def checkpoint(self, data, losses):
        claim = data.draw(st.sampled_from(self.claims))
        made = [*self.jobs[claim.id].losses, *losses]

        def work():
            values = {"state": {"losses": made}, "progress": {}, "metrics": {}}
            return self.store.checkpoint(claim, LEASE, step=len(made), losses=losses, **values)

        job, cancel = self.use(claim, work)
        if job is not None:
            assert cancel == job.cancel
            job.losses, job.lease_end, job.tries = made, self.time + LEASE, 1

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def heartbeat(self, data):
        claim = data.draw(st.sampled_from(self.claims))
        job, cancel = self.use(claim, lambda: self.store.heartbeat(claim, LEASE))
        if job is not None:
            assert cancel == job.cancel
            job.lease_end = self.time + LEASE

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), state=st.sampled_from(TERMINAL))
    def finish(self, data, state):
        claim = data.draw(st.sampled_from(self.claims))
        job, _ = self.use(claim, lambda: self.store.finish(claim, state=state))
        if job is not None:
            job.state = state

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data):
        claim = data.draw(st.sampled_from(self.claims))
        job, _ = self.use(claim, lambda: self.store.release(claim))
        if job is not None:
            job.state, job.worker, job.claim = "cancelled" if job.cancel else "queued", None, None
            job.attempts, job.tries = job.attempts - 1, job.tries - 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data):
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        job = self.jobs[job_id]
        if job.state == "queued":
            job.state = "cancelled"
        elif job.state == "running":
            job.cancel = True
        assert self.store.cancel(job_id)["state"] == job.on_the_wire

    @rule(worker=workers)
    def worker_dies(self, worker):
        theirs = [job_id for job_id, job in self.jobs.items() if job.state == "running" and job.worker == worker]
        assert set(self.store.expire_worker(worker)) == set(theirs)
        for job_id in theirs:
            self.jobs[job_id].lease_end = 0.0

    @rule(seconds=st.sampled_from([1.0, 4.0, 6.0]))
    def time_passes(self, seconds):
        self.time += seconds

    @rule()
    def sweep(self):
        self.store.sweep()
        for job in self.jobs.values():
            if job.state == "running" and not self.running(job):
                if job.cancel:
                    job.state = "cancelled"
                elif job.tries >= ATTEMPTS:
                    job.state = "failed"

    @invariant()
    def all_is_as_it_should_be(self):
        if not hasattr(self, "jobs"):
            return
        told = {job["id"]: job["state"] for job in self.store.page(1000)}
        assert told == {job_id: job.on_the_wire for job_id, job in self.jobs.items()}
        for job_id, job in self.jobs.items():
            assert list(self.store.history(job_id).losses) == job.losses
        assert sum(self.store.counts().states.values()) == len(self.jobs)


TestStoreMachine = pytest.mark.slow(StoreMachine.TestCase)
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
