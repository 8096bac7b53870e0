"""What a tenant may have: refused at submit, waited for at the claim, and exact when many ask at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import BigInteger, delete

from jobs import attempts, repository
from jobs.access import usage
from jobs.access.quotas import UNLIMITED, Quotas, check_submit, quotas_of, set_quotas, use_of
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.errors import QuotaExceeded
from jobs.failure import Failure
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.tables import Base, Job, Tenant, Usage
from tests.jobs.conftest import Submit

LEASE_S = 60.0
REQUEST = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}})
FAILURE = Failure(type="x", title="x", detail="x")


def limited(settings: Settings, **quotas: int) -> Settings:
    return settings.model_copy(update={f"quota_{name}": limit for name, limit in quotas.items()})


def submit_within(sessions: Sessions, settings: Settings, tenant_id: str = OURS) -> str:
    with sessions.begin() as session:
        check_submit(session, tenant_id, settings)
        return repository.submit(session, tenant_id, REQUEST, None, max_attempts=3).id


def claim(sessions: Sessions, max_running: int | None = None) -> Job | None:
    with sessions.begin() as session:
        return attempts.claim(session, "host:1", LEASE_S, max_running=max_running)


def other_tenant(sessions: Sessions, **quotas: int) -> str:
    with sessions.begin() as session:
        tenant = create_tenant(session, "other")
        set_quotas(tenant, quotas)
        return tenant.id


def test_limit_of_its_own_counts_more_than_the_server_s(sessions: Sessions, settings: Settings) -> None:
    server = limited(settings, running=4, queued=9)
    with sessions.begin() as session:
        tenant = session.get_one(Tenant, OURS)
        assert quotas_of(tenant, server) == Quotas(running=4, queued=9)
        set_quotas(tenant, {"running": 0, "queued": UNLIMITED, "device_s": 60})
        assert quotas_of(tenant, server) == Quotas(running=0, device_s=60)
        set_quotas(tenant, {"running": None, "queued": None, "device_s": None})
        assert quotas_of(tenant, server) == Quotas(running=4, queued=9)


def test_one_job_too_many_is_refused_with_limit_use_and_cure(sessions: Sessions, settings: Settings) -> None:
    two = limited(settings, queued=2)
    submit_within(sessions, two)
    submit_within(sessions, two)
    with pytest.raises(QuotaExceeded, match=r"`queued` is 2 and 2 are used; .*cancel"):
        submit_within(sessions, two)
    submit_within(sessions, two, other_tenant(sessions))  # whose limit is its own
    claimed = claim(sessions)
    assert claimed is not None  # one is no longer waiting
    last = submit_within(sessions, two)
    with sessions.begin() as session:
        repository.request_pause(session, OURS, last)
    with pytest.raises(QuotaExceeded, match="`queued` is 2 and 2 are used"):
        submit_within(sessions, two)  # else pausing and resuming would get around it


def test_of_many_who_ask_at_once_no_more_than_the_limit_get_in(sessions: Sessions, settings: Settings) -> None:
    three = limited(settings, queued=3)

    def ask(_: int) -> bool:
        try:
            submit_within(sessions, three)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(16))) == 3


def test_tenant_with_enough_running_waits_and_the_next_one_is_served(sessions: Sessions, settings: Settings) -> None:
    ours, ours_too = submit_within(sessions, settings), submit_within(sessions, settings)
    theirs = submit_within(sessions, settings, other_tenant(sessions))
    claimed = [claim(sessions, max_running=1) for _ in range(3)]
    assert [job and job.id for job in claimed] == [ours, theirs, None]
    with sessions.begin() as session:
        attempts.fail(session, ours, 1, FAILURE)
    job = claim(sessions, max_running=1)
    assert job is not None and job.id == ours_too


@pytest.mark.parametrize(("own", "is_served"), [(0, False), (1, True), (UNLIMITED, True)])
def test_claim_heeds_the_tenant_s_own_limit(sessions: Sessions, settings: Settings, own: int, is_served: bool) -> None:
    submit_within(sessions, settings, other_tenant(sessions, running=own))
    assert (claim(sessions, max_running=None if own == 0 else 0) is not None) is is_served


Ends = Callable[..., object]


@pytest.mark.parametrize(
    "end",
    [
        lambda session, job_id: attempts.succeed(session, job_id, 1, []),
        lambda session, job_id: attempts.fail(session, job_id, 1, FAILURE),
        lambda session, job_id: attempts.cancelled(session, job_id, 1),
        lambda session, job_id: attempts.retry(session, job_id, 1, "x"),
        lambda session, job_id: attempts.hand_back(session, job_id, 1),
        lambda session, _: attempts.requeue_expired(session, datetime.now(UTC) + timedelta(days=1)),
    ],
    ids=["succeed", "fail", "cancelled", "retry", "hand back", "lost"],
)
def test_seconds_are_written_down_however_an_attempt_ends(sessions: Sessions, submit: Submit, end: Ends) -> None:
    job_id = submit().id
    claim(sessions)
    with sessions.begin() as session:
        attempts.record(session, job_id, 1, "stage", {"stage": "compressing"})  # newer than the event that began it
        end(session, job_id)
    with sessions.begin() as session:
        held = session.query(Usage).one()
        assert (held.job_id, held.tenant_id) == (job_id, OURS)
        assert 0 < held.device_s < LEASE_S
        assert usage.device_seconds(session, OURS) == held.device_s
        session.execute(delete(Job))
    with sessions() as session:
        assert usage.device_seconds(session, OURS) == held.device_s, "deleting a job gives no time back"


def test_job_cancelled_while_it_waits_has_held_nothing(sessions: Sessions, submit: Submit) -> None:
    with sessions.begin() as session:
        repository.request_cancel(session, OURS, submit().id)
        assert session.query(Usage).count() == 0


def test_spent_seconds_count_for_thirty_days(sessions: Sessions, settings: Settings) -> None:
    hour = limited(settings, device_s=3600)

    def spend(days_ago: float, device_s: float) -> None:
        ended_at = datetime.now(UTC) - timedelta(days=days_ago)
        with sessions.begin() as session:
            session.add(Usage(job_id="J" * 26, ended_at=ended_at, tenant_id=OURS, device_s=device_s))

    spend(31, 1e6)
    spend(29, 3599.0)
    submit_within(sessions, hour)
    spend(0, 1.5)
    with pytest.raises(QuotaExceeded, match=r"`device_s` is 3600 and 3600\.5 are used"):
        submit_within(sessions, hour)


def test_stored_bytes_are_those_of_artifacts_and_solutions(sessions: Sessions, settings: Settings, submit: Submit) -> None:
    job_id = submit().id
    claim(sessions)
    with sessions.begin() as session:
        files = [StoredFile("a", "0" * 64, 2**40), StoredFile("b", "0" * 64, 5)]
        attempts.succeed(session, job_id, 1, files, solutions=[StoredFile("s", "1" * 64, 7)])
        assert use_of(session, OURS).stored_bytes == 2**40 + 12
        assert use_of(session, other_tenant_in := create_tenant(session, "other").id).stored_bytes == 0
        assert other_tenant_in != OURS
    with pytest.raises(QuotaExceeded, match="`stored_bytes`"):
        submit_within(sessions, limited(settings, stored_bytes=2**40 + 12))
    submit_within(sessions, limited(settings, stored_bytes=2**40 + 13))


def test_every_table_of_stored_files_is_counted() -> None:
    sized = {
        table.name
        for table in Base.metadata.sorted_tables
        if "sha256" in table.columns and any(isinstance(column.type, BigInteger) for column in table.columns)
    }
    assert sized <= usage.STORED.keys(), "give jobs/access/usage.py a query that sums what a tenant keeps there"
