"""Totals over all jobs that have ended: outcomes, and how long each stage took, read from the jobs' events.

The leader alone writes them, each job once, in the transaction that marks it as counted. So they are right with any number of
API processes, never fall when jobs are deleted, and no worker waits for a row that all of them would write.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs.states import FINAL, State
from jobs.tables import Event, Job, Tally

BATCH = 500  # jobs in one transaction
FINISHED, STAGE = "finished", "stage_seconds"
SUM = "sum"
BUCKETS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 48 * 3600.0, float("inf"))

Key = tuple[str, str, str]


def tally(session: Session) -> int:
    """Count jobs that have ended and are not counted yet. Returns: how many."""
    ended = select(Job.id, Job.state).where(Job.is_tallied.is_(False), Job.state.in_(FINAL)).limit(BATCH)
    jobs = session.execute(ended).all()
    if not jobs:
        return 0
    ids = [job_id for job_id, _ in jobs]
    totals: defaultdict[Key, float] = defaultdict(float)
    for _, state in jobs:
        totals[FINISHED, State(state).value, ""] += 1
    for stage, seconds in _stages(session, ids):
        totals[STAGE, stage, bucket_of(seconds)] += 1
        totals[STAGE, stage, SUM] += seconds
    for key, amount in totals.items():
        _add(session, key, amount)
    session.execute(update(Job).where(Job.id.in_(ids)).values(is_tallied=True))
    return len(jobs)


def bucket_of(seconds: float) -> str:
    """The upper bound of the bucket that a duration falls into, as Prometheus writes it."""
    return bucket_name(next(bound for bound in BUCKETS_S if seconds <= bound))


def bucket_name(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)


def _stages(session: Session, ids: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Each stage of each attempt and the seconds until the next stage, or until the attempt's end."""
    query = (
        select(Event.job_id, Event.type, Event.data, Event.created_at)
        .where(Event.job_id.in_(ids), Event.type.in_(("stage", "state")))
        .order_by(Event.job_id, Event.seq)
    )
    for _, events in groupby(session.execute(query), key=lambda row: row.job_id):
        stage: str | None = None
        began: datetime | None = None
        for _, event_type, data, at in events:
            if stage is not None and began is not None:
                yield stage, max(0.0, (at - began).total_seconds())
            stage, began = (str(data["stage"]), at) if event_type == "stage" else (None, None)


def _add(session: Session, key: Key, amount: float) -> None:
    row = session.get(Tally, key)
    if row is None:
        metric, label, bucket = key
        session.add(Tally(metric=metric, label=label, bucket=bucket, value=amount))
    else:
        row.value += amount
