"""Which job a free slot takes: the highest priority, then fairly between tenants, then the oldest.

The candidates are the best due job of each tenant for each need that the slot can serve, found by as many seeks in one index;
so a claim costs the same with ten jobs queued as with a hundred thousand. Between tenants the one with the fewest running jobs
comes first, of equals the one that was served longest ago. A tenant with as many jobs running as it may have is passed over.

Fairness and limits compare counts, so claims must not overlap. SQLite has one writer at a time; on PostgreSQL each claim holds
an advisory lock until its commit, a few milliseconds for work of minutes. SKIP LOCKED instead would let two slots that look at
once both see a tenant below its limit.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Integer, ScalarSelect, String, and_, func, literal, select, text, union_all, update
from sqlalchemy.orm import Session, aliased

from jobs import transitions
from jobs.access.quotas import running_limit
from jobs.access.tables import Tenant
from jobs.needs import NEEDS, Need
from jobs.states import State
from jobs.tables import Job

CLAIM_LOCK = 5_141_911  # PostgreSQL's advisory locks are numbers; beside that of migrations
FROZEN_AFTER_S = 10  # PostgreSQL takes the lock from a claimer that was stopped while it held it


def claim(
    session: Session, owner: str, lease_s: float, needs: Collection[Need] = NEEDS, max_running: int | None = None
) -> Job | None:
    """Take the best job that is due and asks for nothing but `needs`, or None. One UPDATE: of two workers, one gets it.

    Args: max_running: jobs that one tenant may have running, unless it has a limit of its own.
    """
    _take_turn(session)
    now = transitions.now()
    job = transitions.take(
        session,
        Job.id == _best(now, needs, max_running),
        Job.state == State.QUEUED,
        state=State.RUNNING,
        attempt=Job.attempt + 1,
        owner=owner,
        claimed_at=now,
        lease_expires_at=now + timedelta(seconds=lease_s),
    )
    if job is None:
        return None
    job.started_at = job.started_at or now
    session.execute(update(Tenant).where(Tenant.id == job.tenant_id).values(served_at=now))
    transitions.append(session, job, "state", {"state": State.RUNNING, "attempt": job.attempt})
    session.flush()
    return job


def _best(now: datetime, needs: Collection[Need], max_running: int | None) -> ScalarSelect[str]:
    """The id of the job to take."""
    need = union_all(*(select(literal(each, String(8)).label("need")) for each in sorted(needs))).subquery("needs")
    first_due = _first_due(now, need.c.need)
    busy = aliased(Job, name="busy")
    running = (
        select(func.count(busy.id, type_=Integer))
        .where(busy.state == State.RUNNING, busy.tenant_id == Tenant.id)
        .correlate(Tenant)
        .scalar_subquery()
    )
    candidates = (
        select(
            first_due.label("job_id"), running.label("running"), Tenant.served_at, running_limit(max_running).label("limit")
        )
        .select_from(Tenant)
        .join(need, literal(1) == 1)
        .subquery("candidates")
    )
    candidate = aliased(Job, name="candidate")
    below_limit = candidates.c.running < candidates.c.limit
    return (
        select(candidate.id)
        .select_from(candidates)
        .join(candidate, and_(candidate.id == candidates.c.job_id, below_limit))
        .order_by(
            candidate.priority.desc(),
            candidates.c.running,
            candidates.c.served_at.asc().nulls_first(),
            candidate.created_at,
            candidate.id,
        )
        .limit(1)
        .scalar_subquery()
    )


def _first_due(now: datetime, need: ColumnElement[str]) -> ScalarSelect[str]:
    """The best due job of one tenant and one need. Two seeks: a plain index runs one way in all columns."""
    top, due = aliased(Job, name="top"), aliased(Job, name="due")

    def is_due(job: type[Job]) -> ColumnElement[bool]:
        return and_(job.state == State.QUEUED, job.tenant_id == Tenant.id, job.need == need, job.claimable_at <= now)

    highest = select(top.priority).where(is_due(top)).order_by(top.priority.desc()).limit(1).correlate(Tenant, need.table)
    oldest = select(due.id).where(is_due(due), due.priority == highest.scalar_subquery())
    return oldest.order_by(due.created_at, due.id).limit(1).correlate(Tenant, need.table).scalar_subquery()


def _take_turn(session: Session) -> None:
    """Wait for other claims to be committed; on SQLite the UPDATE itself does."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{FROZEN_AFTER_S}s'"))
        session.execute(select(func.pg_advisory_xact_lock(CLAIM_LOCK)))
