"""Figures of the whole service from its database: right with any number of processes, and cheap with many jobs.

Counts by state are read from an index alone, ages from the ends of one, totals from the rows of jobs/housekeeping/tallies.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.housekeeping.tallies import BUCKETS_S, FINISHED, STAGE, SUM, bucket_name
from jobs.needs import NEEDS, Need
from jobs.states import FINAL, State
from jobs.tables import Job, Tally


@dataclass(frozen=True)
class StageTimes:
    """A histogram in seconds. Args: buckets: (upper bound, jobs up to it), rising."""

    buckets: tuple[tuple[str, float], ...]
    sum_s: float


@dataclass(frozen=True)
class Figures:
    """Ages in seconds; 0 where there is nothing that could be old."""

    jobs: Mapping[State, int]
    oldest_age_s: Mapping[Need, float]
    lease_age_s: float
    finished: Mapping[str, float]
    stages: Mapping[str, StageTimes]


def figures(session: Session, lease_s: float) -> Figures:
    """Read them all. Args: lease_s: as the workers have it; a lease's age counts from its last renewal."""
    now = transitions.now()
    totals = {(row.metric, row.label, row.bucket): row.value for row in session.scalars(select(Tally))}
    oldest = session.execute(
        select(Job.need, func.min(Job.claimable_at)).where(Job.state == State.QUEUED).group_by(Job.need)
    ).all()
    first_to_end: datetime | None = session.scalar(select(func.min(Job.lease_expires_at)).where(Job.state == State.RUNNING))
    return Figures(
        jobs=_by_state(session),
        oldest_age_s=dict.fromkeys(NEEDS, 0.0) | {need: _age(now, at) for need, at in oldest},
        lease_age_s=0.0 if first_to_end is None else max(0.0, lease_s - (first_to_end - now).total_seconds()),
        finished={state.value: totals.get((FINISHED, state.value, ""), 0.0) for state in sorted(FINAL)},
        stages={stage: _stage_times(totals, stage) for stage in sorted({key[1] for key in totals if key[0] == STAGE})},
    )


def _by_state(session: Session) -> dict[State, int]:
    counted = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    return dict.fromkeys(State, 0) | {State(state): count for state, count in counted}


def _age(now: datetime, at: datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _stage_times(totals: Mapping[tuple[str, str, str], float], stage: str) -> StageTimes:
    buckets, below = [], 0.0
    for bound in map(bucket_name, BUCKETS_S):
        below += totals.get((STAGE, stage, bound), 0.0)
        buckets.append((bound, below))
    return StageTimes(tuple(buckets), totals.get((STAGE, stage, SUM), 0.0))
