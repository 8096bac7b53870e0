"""The worker's one task, and how a shutdown of Celery reaches the running job."""

import threading
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down

from jobs import database
from jobs.artifacts import artifact_store
from jobs.queue import WAKE, make_celery
from jobs.settings import Settings
from worker.attempt import Host
from worker.supervisor import Supervisor


def make_worker(environment: Mapping[str, str]) -> Celery:
    """The Celery app of a worker process, with its task registered.

    Args:
        environment: the process's; settings are read from it, and the runner gets an allowlist of it.
    """
    settings = Settings.from_mapping(environment)
    celery = make_celery(settings)
    shutdown = threading.Event()
    host = Host(
        settings=settings,
        sessions=database.sessions(database.engine(settings)),
        store=artifact_store(settings),
        environment=environment,
        shutdown=shutdown,
    )
    supervisor = Supervisor(host)

    @celery.task(name=WAKE)  # type: ignore[untyped-decorator]  # celery has no types
    def wake() -> None:
        supervisor.work_off()

    def shut_down(**_: Any) -> None:
        shutdown.set()  # the running job is given back within moments, so that a warm shutdown does not take hours

    worker_shutting_down.connect(shut_down, weak=False)
    return celery
