"""The worker's one task, and how the start and the shutdown of Celery reach the slots."""

import logging
import threading
from collections.abc import Mapping
from typing import Any

from celery import Celery, Task
from celery.signals import setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError
from ulid import ULID

from jobs import database
from jobs.needs import CPU_QUEUE
from jobs.queue import WAKE, make_celery, queues
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.watching.devices import find_gpus, make_slots, queues_of
from jobs.watching.logs import configure_logging
from jobs.watching.tracing import make_tracing
from worker.attempt import Host
from worker.journal import is_outage
from worker.leftovers import remove_leftovers
from worker.presence import Presence
from worker.slots import Slots
from worker.supervisor import Supervisor

log = logging.getLogger(__name__)


def make_worker(environment: Mapping[str, str]) -> Celery:
    """The Celery app of a worker process, with its task registered: one thread for each slot.

    Args:
        environment: the process's; settings are read from it, and the runner gets an allowlist of it.
    """
    settings = Settings.from_mapping(environment)
    celery = make_celery(settings)
    found = make_slots(settings, find_gpus(environment))
    celery.conf.update(worker_concurrency=len(found), task_queues=queues(queues_of(found)))
    shutdown = threading.Event()
    host = Host(
        settings=settings,
        sessions=database.sessions(database.engine(settings)),
        store=artifact_store(settings),
        environment=environment,
        shutdown=shutdown,
        tracing=make_tracing(settings, "scalpel-worker"),
    )
    worker_id, slots = str(ULID()), Slots(found)
    supervisors = [Supervisor(host, slot, worker_id, number) for number, slot in enumerate(found)]
    presence = Presence(host.sessions, settings, worker_id, found, shutdown)

    @celery.task(name=WAKE, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
    def wake(task: Task) -> None:
        with slots.free((task.request.delivery_info or {}).get("routing_key", CPU_QUEUE)) as number:
            if number is not None:
                _work_off(supervisors[number])

    def shut_down(**_: Any) -> None:
        shutdown.set()  # the running jobs finish their block and are given back, so that a warm shutdown does not take hours

    def tidy_up(**_: Any) -> None:
        remove_leftovers(settings, host.sessions)

    worker_ready.connect(tidy_up, weak=False)
    setup_logging.connect(lambda **_: configure_logging(settings), weak=False)  # in place of Celery's own
    worker_ready.connect(lambda **_: presence.start(), weak=False)
    worker_shutting_down.connect(shut_down, weak=False)
    worker_shutdown.connect(lambda **_: presence.stop(), weak=False)
    worker_shutdown.connect(lambda **_: host.tracing.close(), weak=False)
    return celery


def _work_off(supervisor: Supervisor) -> None:
    try:
        supervisor.work_off()
    except SQLAlchemyError as error:
        if not is_outage(error):
            raise
        log.warning("the database is away; a sweep rings again once it is back: %s", error)
