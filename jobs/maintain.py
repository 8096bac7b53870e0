"""The service's housekeeping: one thread, in any process that has the database and the broker. Several do no harm."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jobs import database
from jobs.outbox import relay
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings
from jobs.sweep import sweep

MAX_BACKOFF_S = 30.0

log = logging.getLogger(__name__)


@dataclass
class Chore:
    """Something to do again and again. After a failure it waits longer and longer, but it never stops."""

    name: str
    work: Callable[[], object]
    period_s: float
    due_at: float = 0.0  # on the monotonic clock
    failures: int = 0

    def do(self) -> None:
        try:
            self.work()
            self.failures = 0
        except Exception:  # the boundary of the chore: the next one must still run
            self.failures += 1
            log.warning("%s failed %d times in a row", self.name, self.failures, exc_info=True)
        self.due_at = time.monotonic() + min(self.period_s * 2**self.failures, max(MAX_BACKOFF_S, self.period_s))


def run(settings: Settings, stop: threading.Event) -> None:
    """Relay the outbox and sweep until `stop` is set. The schema must be there already."""
    engine = database.engine(settings)
    sessions = database.sessions(engine)
    celery = make_celery(settings)
    bell = partial(ring, celery)

    def relay_outbox() -> None:
        with sessions.begin() as session:
            relay(session, bell)

    def sweep_lost() -> None:
        sweep(sessions, bell, partial(rings_waiting, celery), settings.ring_again_s)

    try:
        run_chores([Chore("relay", relay_outbox, settings.relay_s), Chore("sweep", sweep_lost, settings.sweep_s)], stop)
    finally:
        celery.close()
        engine.dispose()


def run_chores(chores: list[Chore], stop: threading.Event) -> None:
    """Do each chore when it is due, until `stop` is set."""
    while not stop.is_set():
        chore = min(chores, key=lambda each: each.due_at)
        if not stop.wait(max(0.0, chore.due_at - time.monotonic())):
            chore.do()
