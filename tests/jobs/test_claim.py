"""Which job a slot gets: needs, priorities, fairness between tenants, limits, and many claims at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from jobs import attempts, repository
from jobs.access.tables import Tenant
from jobs.claim import claim
from jobs.database import Sessions
from jobs.needs import NEEDS, Need
from jobs.request import JobRequest, check_request
from jobs.tables import Job

SubmitAs = Callable[..., str]


@pytest.fixture
def submit_as(sessions: Sessions) -> SubmitAs:
    """Submits a job of a tenant; makes the tenant where it is new."""

    def submit_as(tenant: str, *, priority: int = 0, max_running: int | None = None, **fields: object) -> str:
        request = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"bits": 4}, **fields})
        with sessions.begin() as session:
            if session.get(Tenant, tenant) is None:
                session.add(Tenant(id=tenant, name=tenant.lower(), max_running=max_running, created_at=datetime.now(UTC)))
                session.flush()
            job = repository.submit(session, tenant, request, check_request(request), max_attempts=3)
            job.priority = priority
            return job.id

    return submit_as


def take(sessions: Sessions, *needs: Need) -> Job | None:
    with sessions.begin() as session:
        return claim(session, "worker", 60.0, needs or NEEDS)


def take_id(sessions: Sessions, *needs: Need) -> str | None:
    job = take(sessions, *needs)
    return None if job is None else job.id


def finish(sessions: Sessions, job: Job) -> None:
    with sessions.begin() as session:
        attempts.cancelled(session, job.id, job.attempt)


def test_slot_gets_nothing_that_it_cannot_serve(sessions: Sessions, submit_as: SubmitAs) -> None:
    on_gpu, anywhere, on_cpu = (submit_as("A", device=device) for device in ("cuda", "auto", "cpu"))
    assert take_id(sessions, "any", "cpu") == anywhere
    assert take_id(sessions, "any", "cpu") == on_cpu
    assert take_id(sessions, "any", "cpu") is None
    assert take_id(sessions, "any", "gpu") == on_gpu


def test_higher_priority_goes_first_then_the_older_job(sessions: Sessions, submit_as: SubmitAs) -> None:
    low, first, second = submit_as("A", priority=-1), submit_as("A"), submit_as("A")
    urgent = submit_as("A", priority=5, device="cpu")
    assert [take_id(sessions) for _ in range(4)] == [urgent, first, second, low]


def test_priority_goes_before_fairness(sessions: Sessions, submit_as: SubmitAs) -> None:
    urgent = [submit_as("A", priority=1), submit_as("A", priority=1)]
    submit_as("B")
    assert [take_id(sessions), take_id(sessions)] == urgent


def test_tenant_that_floods_the_queue_does_not_hold_up_another(sessions: Sessions, submit_as: SubmitAs) -> None:
    for _ in range(20):
        submit_as("FLOOD")
    for _ in range(4):
        submit_as("QUIET")
    served = [job.tenant_id for _ in range(10) if (job := take(sessions)) is not None]
    assert served[:8] in (["FLOOD", "QUIET"] * 4, ["QUIET", "FLOOD"] * 4)
    assert served[8:] == ["FLOOD", "FLOOD"]


def test_tenants_take_turns_on_a_single_slot(sessions: Sessions, submit_as: SubmitAs) -> None:
    """Nobody has a job running when the slot asks; who was served longest ago is next."""
    for tenant in ("A", "A", "A", "B", "C", "B", "C"):
        submit_as(tenant)
    served = []
    while (job := take(sessions)) is not None:
        served.append(job.tenant_id)
        finish(sessions, job)
    assert sorted(served[:3]) == sorted(served[3:6]) == ["A", "B", "C"]
    assert served[:3] == served[3:6]


def test_tenant_at_its_limit_waits_and_its_place_is_free_again_after_a_job(sessions: Sessions, submit_as: SubmitAs) -> None:
    for _ in range(3):
        submit_as("A", max_running=2)
    first, second = take(sessions), take(sessions)
    assert first is not None
    assert second is not None
    assert take(sessions) is None
    finish(sessions, first)
    assert take(sessions) is not None


def test_job_that_backs_off_hides_none_behind_it(sessions: Sessions, submit_as: SubmitAs) -> None:
    later, now = submit_as("A", priority=9), submit_as("A")
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == later).values(claimable_at=datetime(2999, 1, 1, tzinfo=UTC)))
    assert [take_id(sessions), take_id(sessions)] == [now, None]


def test_slots_that_claim_at_once_share_the_queue_and_keep_the_limits(sessions: Sessions, submit_as: SubmitAs) -> None:
    ids = {submit_as(tenant) for tenant in ("A", "B") for _ in range(8)}
    ids |= {submit_as("LIMITED", max_running=3) for _ in range(8)}
    with ThreadPoolExecutor(6) as pool:
        taken = [job for job in pool.map(lambda _: take(sessions), range(30)) if job is not None]
    assert len({job.id for job in taken}) == len(taken) == 19
    assert {job.id for job in taken} < ids
    assert sum(job.tenant_id == "LIMITED" for job in taken) == 3
