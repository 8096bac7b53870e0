"""The doorbell: Celery carries one task without arguments, and losing every message loses no job."""

from collections.abc import Callable, Iterable

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from jobs.errors import SettingsError
from jobs.needs import CPU_QUEUE, GPU_QUEUE, QUEUES_OF, Need
from jobs.settings import Settings

WAKE = "scalpel.wake"
MAX_WAITING = 1000  # rings in one queue; more wake nobody sooner, and where no worker of a kind runs they would only gather

RingBell = Callable[[Need], None]
RingsWaiting = Callable[[Need], int]


def make_celery(settings: Settings) -> Celery:
    """The app that both sides share. Raises: SettingsError: no broker is named."""
    if settings.broker_url is None:
        raise SettingsError("SCALPEL_BROKER_URL is not set; `scalpel serve` sets it to the Valkey that it starts")
    celery = Celery("scalpel", broker=settings.broker_url)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_queues=queues((CPU_QUEUE, GPU_QUEUE)),
        task_default_queue=CPU_QUEUE,
        task_ignore_result=True,
        task_acks_late=False,  # a job is brought back by its lease; a message that comes back would only ring twice
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a busy worker must not hold a ring that an idle one could answer
        worker_pool="threads",
        worker_concurrency=1,  # a worker sets it to the number of its slots
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": 5, "socket_timeout": 15, "connect_retries_timeout": 2},
    )
    return celery


def queues(names: Iterable[str]) -> list[Queue]:
    """What a worker listens to."""
    return [Queue(name) for name in names]  # type: ignore[no-untyped-call]  # kombu has no types


def ring(celery: Celery, need: Need = "any") -> None:
    """Wake one idle worker of each kind that can serve `need`.

    Raises: kombu's OperationalError where the broker cannot be reached.
    """
    for queue in QUEUES_OF[need]:
        if _count(celery, queue) < MAX_WAITING:
            celery.send_task(WAKE, queue=queue, retry=False)


def rings_waiting(celery: Celery, need: Need = "any") -> int:
    """Rings in the broker that no worker has answered yet: of the queue that has fewest among those that serve `need`."""
    return min(_count(celery, queue) for queue in QUEUES_OF[need])


def _count(celery: Celery, queue: str) -> int:
    """Raises: kombu's OperationalError."""
    with celery.connection_for_write() as connection:
        try:
            with connection.channel() as channel:
                return int(channel.queue_declare(queue, passive=False, durable=True).message_count)
        except connection.recoverable_connection_errors as error:
            raise OperationalError(str(error)) from error
