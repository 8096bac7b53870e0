"""What is not kept for ever: files of jobs that ended long ago, and stored objects that no row refers to.

Everything that a row names is kept: each column called `sha256`, in whatever table, is such a name; the hash of a key does no
harm. Whoever writes one must have put the file into the store shortly before, within half of the grace: a file that is put is
young, and young files stay.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select, union, update
from sqlalchemy.orm import Session, aliased

from compression.manifest import REPORT_FILE
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import FINAL
from jobs.store.artifacts import ArtifactStore
from jobs.tables import Artifact, Base, Job, Solution

BATCH = 100  # jobs in one transaction

log = logging.getLogger(__name__)


def retain(sessions: Sessions, store: ArtifactStore, settings: Settings, stop: threading.Event) -> None:
    """Apply the policy of the settings, then remove what nothing refers to. Args: stop: ends it early."""
    now = datetime.now(UTC)
    for days, expire in ((settings.keep_solutions_days, expire_solutions), (settings.keep_artifacts_days, expire_artifacts)):
        is_done = days is None
        while days is not None and not is_done and not stop.is_set():
            with sessions.begin() as session:
                is_done = expire(session, now - timedelta(days=days)) < BATCH
    collect_garbage(sessions, store, now - timedelta(seconds=settings.garbage_grace_s), stop)


def expire_solutions(session: Session, then: datetime) -> int:
    """Let go of the solutions of up to `BATCH` jobs that ended before `then`, but for those of which an export is under way.

    The caller commits. Returns: how many jobs.
    """
    ids = _ended_before(session, then, exists().where(Solution.job_id == Job.id), ~_is_needed())
    session.execute(delete(Solution).where(Solution.job_id.in_(ids)))
    session.execute(update(Job).where(Job.id.in_(ids)).values(solution_bytes=None, updated_at=datetime.now(UTC)))
    return len(ids)


def expire_artifacts(session: Session, then: datetime) -> int:
    """Let go of the files of up to `BATCH` jobs that ended before `then`; reports are small and stay.

    As with solutions, not while a publication is under way.

    The caller commits. Returns: how many jobs.
    """
    ids = _ended_before(session, then, exists().where(Artifact.job_id == Job.id, Artifact.name != REPORT_FILE), ~_is_needed())
    session.execute(delete(Artifact).where(Artifact.job_id.in_(ids), Artifact.name != REPORT_FILE))
    now = datetime.now(UTC)
    session.execute(update(Job).where(Job.id.in_(ids)).values(artifacts_expired_at=now, updated_at=now))
    return len(ids)


def _is_needed() -> ColumnElement[bool]:
    """Whether an export or a publication of the job is under way."""
    child = aliased(Job)
    return exists().where(child.parent_id == Job.id, child.state.not_in(FINAL))


def collect_garbage(sessions: Sessions, store: ArtifactStore, then: datetime, stop: threading.Event) -> int:
    """Remove stored files older than `then` that no row refers to. Returns: how many."""
    count = 0
    for page in store.stored_before(then):
        with sessions() as session:
            garbage = page - referenced(session, page)
        for sha256 in sorted(garbage):
            if stop.is_set():
                return count
            count += store.remove_if_older(sha256, then)
    if count:
        log.info("removed %d stored files that nothing referred to", count)
    return count


def referenced(session: Session, sha256s: set[str]) -> set[str]:
    """Those of them that a row of any table refers to."""
    columns = [table.c["sha256"] for table in Base.metadata.sorted_tables if "sha256" in table.c]
    return set(session.scalars(union(*(select(column).where(column.in_(sha256s)) for column in columns))))


def _ended_before(session: Session, then: datetime, *where: ColumnElement[Any]) -> Sequence[str]:
    ended = select(Job.id).where(Job.state.in_(FINAL), Job.finished_at < then, *where)
    return session.scalars(ended.order_by(Job.id).limit(BATCH)).all()
