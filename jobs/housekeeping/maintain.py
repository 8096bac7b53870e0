"""The service's housekeeping, in any process that has database, broker and store: one leads, others stand by."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from celery import Celery
from sqlalchemy.orm import Session

from jobs import database
from jobs.database import Sessions
from jobs.housekeeping.beats import beat
from jobs.housekeeping.chores import Chore, run_chores
from jobs.housekeeping.leader import Lead, lead
from jobs.housekeeping.outbox import relay
from jobs.housekeeping.sweep import sweep
from jobs.housekeeping.tallies import tally
from jobs.idempotency import forget_expired
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.store.retention import retain
from jobs.uploads.model_checks import tend_uploads
from jobs.watching import presence
from jobs.webhooks.deliveries import forget_old
from jobs.webhooks.sending import Postman

BEAT_S = 5.0
FORGET_S = 600.0

log = logging.getLogger(__name__)


def chores(settings: Settings, sessions: Sessions, celery: Celery, postman: Postman, stop: threading.Event) -> list[Chore]:
    """All that the leader does; a new chore is one line here."""
    bell, store = partial(ring, celery), artifact_store(settings)
    return [
        Chore("relay", _in_session(sessions, lambda session: relay(session, bell)), settings.relay_s),
        Chore("sweep", lambda: sweep(sessions, bell, partial(rings_waiting, celery), settings.ring_again_s), settings.sweep_s),
        Chore("beat", _in_session(sessions, beat), BEAT_S),
        Chore("tally", _in_session(sessions, tally), settings.sweep_s),
        Chore("forget lost workers", _in_session(sessions, presence.forget_lost), FORGET_S),
        Chore("forget idempotency keys", _in_session(sessions, forget_expired), FORGET_S),
        Chore("webhooks", postman.start_due, settings.relay_s),
        Chore("forget deliveries", _in_session(sessions, forget_old), FORGET_S),
        Chore("retention", lambda: retain(sessions, store, settings, stop), settings.retention_s, is_slow=True),
        Chore("uploads", lambda: tend_uploads(sessions, store, settings, stop), settings.uploads_s, is_slow=True),
    ]


def run(settings: Settings, stop: threading.Event) -> None:
    """Keep house until `stop` is set, for as long as nobody else does. The schema must be there already."""
    engine = database.engine(settings)
    celery = make_celery(settings)
    sessions = database.sessions(engine)
    try:
        with Postman(sessions, settings) as postman, lead(engine) as striving:
            _run(chores(settings, sessions, celery, postman, stop), stop, striving, settings.leader_s)
    finally:
        celery.close()
        engine.dispose()


def _run(wanted: list[Chore], stop: threading.Event, striving: Lead, wait_s: float) -> None:
    """Each slow chore has a thread of its own; the lead is asked for in this one alone."""
    is_leader = threading.Event()

    def leads() -> bool:
        is_mine = striving.is_mine()
        if is_mine and not is_leader.is_set():
            log.info("this process keeps house now")
            is_leader.set()
        elif not is_mine:
            is_leader.clear()
        return is_mine

    apart = [
        threading.Thread(target=run_chores, args=([chore], stop, is_leader.is_set, wait_s), name=chore.name)
        for chore in wanted
        if chore.is_slow
    ]
    for thread in apart:
        thread.start()
    try:
        run_chores([chore for chore in wanted if not chore.is_slow], stop, leads, wait_s)
    finally:
        stop.set()
        for thread in apart:
            thread.join()


def _in_session(sessions: Sessions, work: Callable[[Session], object]) -> Callable[[], None]:
    """The work as one transaction."""

    def do() -> None:
        with sessions.begin() as session:
            work(session)

    return do
