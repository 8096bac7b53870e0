"""The doorbell: Celery carries one task without arguments, and losing every message loses no job."""

from collections.abc import Callable

from celery import Celery

from jobs.errors import SettingsError
from jobs.settings import Settings

QUEUE = "scalpel"
WAKE = "scalpel.wake"

RingBell = Callable[[], None]


def make_celery(settings: Settings) -> Celery:
    """The app that both sides share. Raises: SettingsError: no broker is named."""
    if settings.broker_url is None:
        raise SettingsError("SCALPEL_BROKER_URL is not set; `scalpel serve` sets it to the Valkey that it starts")
    celery = Celery("scalpel", broker=settings.broker_url)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,  # a job is brought back by its lease; a message that comes back would only ring twice
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a busy worker must not hold a ring that an idle one could answer
        worker_pool="threads",
        worker_concurrency=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": 5, "socket_timeout": 15, "connect_retries_timeout": 2},
    )
    return celery


def ring(celery: Celery) -> None:
    """Wake one idle worker. Raises: kombu's OperationalError where the broker cannot be reached."""
    celery.send_task(WAKE, queue=QUEUE, retry=False)


def rings_waiting(celery: Celery) -> int:
    """Rings in the broker that no worker has answered yet."""
    with celery.connection_for_write() as connection, connection.channel() as channel:
        return int(channel.queue_declare(QUEUE, passive=False, durable=True).message_count)
