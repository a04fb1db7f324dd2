"""Jobs handed out by messages, with Celery on Redis or RabbitMQ: workers need not ask the jobs table again and again.

A message is a doorbell. It has a job's id, and says nothing but that this job waits; it may be lost, doubled or late.
Whoever hears it asks the table which job is next, so that priorities, turns, limits and leases hold as they do without
messages; and goes on until none is left. For bells that nobody heard, `ring_again` rings anew.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chainrule_service import workers
from chainrule_service.database import DatabaseUnavailable
from chainrule_service.opening import open_store
from chainrule_service.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

#: How often `ring_again` looks for bells that were lost, and a worker whether it is to end.
SWEEP_SECONDS, LOOK_SECONDS = 1.0, 0.2
#: Seconds: how long an attempt to reach the broker may take, and after a failed one how long nobody tries again.
PATIENCE = 1.0

_TASK = "chainrule.job"
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "task_ignore_result": True,  # the table has it
        # A message counts as received once its work is done; else RabbitMQ would send a busy worker the next one.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "task_default_queue_type": "classic",  # of RabbitMQ
        "worker_enable_remote_control": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": PATIENCE,
        # No work runs while the loop that notices a loss does; but Celery warns of every other choice.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
    }
)
_REDIS_PATIENCE = MappingProxyType({"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE})
#: A connection that the broker has ended meanwhile is noticed at its next use.
_TWICE = MappingProxyType({"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0})

#: What Celery imports by name, when it first uses it.
_LATE = (
    "billiard.pool", "celery.app.control", "celery.app.events", "celery.concurrency.solo", "celery.events.receiver",
    "celery.loaders.default", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer.delayed_delivery", "celery.worker.strategy",
)  # fmt: skip

_log = logging.getLogger(__name__)


def load(settings: Settings) -> bool:
    """Import what a worker and a bell need of Celery, and return whether it is there.

    Celery imports most of itself, and the broker's library, when it first uses it, which takes half a second. Who does
    so before it forks shares the memory, and its children start at once.
    """
    try:
        for name in _LATE:
            import_module(name)
    except ModuleNotFoundError:
        return False
    app = _celery(settings)
    app.finalize()
    _ = app.connection_for_read().transport_cls  # nothing is connected
    return True


class Bell:
    """Tells workers of jobs that wait; safe to use from many threads. It opens nothing before it is first rung."""

    def __init__(self, settings: Settings) -> None:
        self._app = _celery(settings)
        self._app.conf.broker_transport_options = dict(_REDIS_PATIENCE) if _is_redis(settings) else {}
        self._quiet_until = float("-inf")

    def ring(self, job_id: str) -> bool:
        """Send a message about a job, and return whether the broker has it.

        If it has not, nothing is lost: the job is in the table, and `ring_again` rings for it.
        """
        if time.monotonic() < self._quiet_until:
            return False
        try:
            self._app.send_task(_TASK, task_id=job_id, retry=True, retry_policy=dict(_TWICE))
        except Exception as error:  # each of the transports has its own, and all of them mean the same
            self._quiet_until = time.monotonic() + PATIENCE
            _log.warning("the broker cannot be told of job %s now: %s", job_id, error)
            return False
        return True

    def is_silent(self) -> bool:
        """Return whether the broker answers, and has no message that waits for a worker."""
        queue = self._app.amqp.queues[self._app.conf.task_default_queue]
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
                return not queue(connection.default_channel).queue_declare().message_count
        except Exception as error:  # as above
            _log.warning("the broker does not answer: %s", error)
            return False


def ring_again(settings: Settings) -> None:
    """Ring for jobs that nobody came for, until a signal ends this process; it is for a child of the supervisor.

    While messages wait, no idle worker has not been told: more would only pile up, as would more than one for each
    worker, which goes on by itself.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(0))
    parent, bell = os.getppid(), Bell(settings)
    store = open_store(settings)
    while os.getppid() == parent:
        try:
            if bell.is_silent():
                for job_id in store.ring(most=max(workers.alive(store.database), 1)):
                    bell.ring(job_id)
        except DatabaseUnavailable as error:
            _log.warning("nobody can be told of waiting jobs now: %s", error)
        time.sleep(SWEEP_SECONDS)


def listen(settings: Settings, answer: Callable[[], bool], stop: threading.Event) -> None:
    """Call `answer` at every message until `stop` is set, or a signal comes, which sets it, or the parent is gone.

    It is a Celery worker without processes of its own: the supervisor has those, and knows at once when one dies.

    Args:
        settings: where the broker is.
        answer: does what is waiting, and returns whether some of it is left; then the message is passed on.
        stop: is set when the process is to end.
    """
    from celery.worker import state

    app, bell, parent = _celery(settings), Bell(settings), os.getppid()

    def job(task: Any) -> None:
        if answer():
            bell.ring(task.request.id)

    def end(*_: Any) -> None:
        stop.set()
        state.should_stop = 0

    def look() -> None:
        if os.getppid() != parent:
            end()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    app.task(job, name=_TASK, bind=True)
    worker = app.WorkController(
        pool_cls="solo", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True
    )
    worker.timer.call_repeatedly(LOOK_SECONDS, look)  # the loop wakes for it, and sees what `end` has set
    worker.start()


def _celery(settings: Settings) -> Celery:
    from celery import Celery

    app = Celery("chainrule", broker=settings.broker_url, set_as_current=False)
    app.conf.update(_SETTINGS, task_default_queue=settings.queue)
    if _is_redis(settings):
        # No limit: nobody takes a message from Redis before its last one is done with. With a limit, one that could not
        # be acknowledged because Redis was gone would count for ever, and its worker would not ask for another, nor
        # notice that it has to connect again.
        app.conf.worker_prefetch_multiplier = 0
    return app


def _is_redis(settings: Settings) -> bool:
    return (settings.broker_url or "").startswith("redis")
