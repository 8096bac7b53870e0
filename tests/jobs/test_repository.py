from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select, update

from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.errors import ArtifactNotFound, IllegalTransition, InvalidCursor, JobNotFound, ReportNotReady, StaleAttempt
from jobs.failure import Failure
from jobs.request import EXAMPLES, JobRequest, check_request
from jobs.states import State, Wish
from jobs.tables import Job, Ring
from tests.jobs.conftest import Submit

FAILURE = Failure(type="numerical-error", title="The mathematics broke down", detail="seen", layer="model.layers.0")
REPORT = StoredFile("report.json", "ab" * 32, 5_000_000_000)


def claim(sessions: Sessions, lease_s: float = 30.0) -> Job:
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", lease_s)
    assert job is not None
    return job


def states(sessions: Sessions, job_id: str) -> list[str]:
    with sessions() as session:
        return [event.data["state"] for event in repository.events_after(session, job_id, 0) if event.type == "state"]


class TestSubmit:
    def test_job_ring_and_first_event_are_written_together(self, sessions: Sessions, submit: Submit) -> None:
        job = submit()
        with sessions() as session:
            assert repository.get(session, OURS, job.id).state is State.QUEUED
            assert session.scalars(select(Ring.job_id)).all() == [job.id]
            (event,) = repository.events_after(session, job.id, 0)
        assert (event.seq, event.type, event.data) == (1, "state", {"state": "queued", "attempt": 0})

    def test_nothing_is_left_of_a_submit_that_is_rolled_back(self, sessions: Sessions) -> None:
        request = JobRequest.model_validate(EXAMPLES[0])
        with sessions() as session:
            job_id = repository.submit(session, OURS, request, check_request(request), max_attempts=1).id
            session.rollback()
            assert session.get(Job, job_id) is None
            assert session.scalars(select(Ring)).all() == []

    def test_the_request_is_kept_as_sent(self, sessions: Sessions, submit: Submit) -> None:
        sent = {"recipe": {"bits": 4, "overrides": {"*.q_proj": None}}, "labels": {"team": "a"}}
        with sessions() as session:
            assert repository.get(session, OURS, submit(**sent).id).request == {
                "model": "demo:smollm2-135m",
                **sent,
            }

    def test_times_are_aware_and_utc(self, sessions: Sessions, submit: Submit) -> None:
        job = submit()
        with sessions() as session:
            created_at = repository.get(session, OURS, job.id).created_at
        assert created_at.tzinfo is UTC
        assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)


class TestClaim:
    def test_it_starts_a_numbered_attempt_under_a_lease(self, sessions: Sessions, submit: Submit) -> None:
        submitted = submit()
        job = claim(sessions)
        assert (job.id, job.state, job.attempt, job.owner) == (submitted.id, State.RUNNING, 1, "worker")
        assert job.lease_expires_at is not None and job.started_at is not None
        assert states(sessions, job.id) == ["queued", "running"]

    def test_it_takes_the_highest_priority_and_then_the_oldest(self, sessions: Sessions, submit: Submit) -> None:
        first, second, urgent = submit(), submit(), submit()
        with sessions.begin() as session:
            session.execute(update(Job).where(Job.id == urgent.id).values(priority=1))
        assert [claim(sessions).id for _ in range(3)] == [urgent.id, first.id, second.id]

    def test_it_finds_nothing_when_nothing_is_queued(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        claim(sessions)
        with sessions.begin() as session:
            assert attempts.claim(session, "worker", 30.0) is None

    def test_concurrent_workers_get_different_jobs(self, sessions: Sessions, submit: Submit) -> None:
        jobs = {submit().id for _ in range(6)}
        barrier = Barrier(4)

        def worker(_: int) -> list[str]:
            barrier.wait()
            mine: list[str] = []
            while True:
                with sessions.begin() as session:
                    job = attempts.claim(session, "worker", 30.0)
                if job is None:
                    return mine
                mine.append(job.id)

        with ThreadPoolExecutor(4) as pool:
            claimed = [job_id for mine in pool.map(worker, range(4)) for job_id in mine]
        assert sorted(claimed) == sorted(jobs)

    def test_a_job_that_backs_off_is_left_alone_until_it_is_due(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job = claim(sessions)
        with sessions.begin() as session:
            attempts.retry(session, job.id, 1, "the network failed", delay_s=60.0)
            assert attempts.claim(session, "worker", 30.0) is None


class TestFence:
    @pytest.mark.parametrize("attempt", [0, 2], ids=["older", "newer"])
    def test_every_write_of_another_attempt_is_refused(self, sessions: Sessions, submit: Submit, attempt: int) -> None:
        job = submit()
        claim(sessions)
        for write in (
            lambda session: attempts.renew(session, job.id, attempt, 30.0),
            lambda session: attempts.record(session, job.id, attempt, "note", {}),
            lambda session: attempts.succeed(session, job.id, attempt, [REPORT]),
            lambda session: attempts.fail(session, job.id, attempt, FAILURE),
            lambda session: attempts.cancelled(session, job.id, attempt),
            lambda session: attempts.retry(session, job.id, attempt, "because"),
            lambda session: attempts.hand_back(session, job.id, attempt),
        ):
            with sessions.begin() as session, pytest.raises(StaleAttempt):
                write(session)
        with sessions() as session:
            found = repository.get(session, OURS, job.id)
            assert (found.state, found.attempt, found.last_seq) == (State.RUNNING, 1, 2)
            assert repository.artifacts(session, OURS, job.id) == []

    def test_a_lost_worker_cannot_end_a_job_that_another_one_has(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        lost = claim(sessions, lease_s=0.0)
        with sessions.begin() as session:
            attempts.requeue_expired(session, datetime.now(UTC) + timedelta(seconds=1))
        claim(sessions)
        with sessions.begin() as session, pytest.raises(StaleAttempt):
            attempts.succeed(session, lost.id, lost.attempt, [REPORT])

    def test_an_ended_job_takes_no_more_writes(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job = claim(sessions)
        with sessions.begin() as session:
            attempts.succeed(session, job.id, 1, [REPORT])
        with sessions.begin() as session, pytest.raises(StaleAttempt):
            attempts.record(session, job.id, 1, "note", {})


class TestRenew:
    def test_it_moves_the_lease_and_tells_of_the_user_s_wish(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job = claim(sessions, lease_s=1.0)
        with sessions.begin() as session:
            assert attempts.renew(session, job.id, 1, 600.0) is None
            repository.request_pause(session, OURS, job.id)
            assert attempts.renew(session, job.id, 1, 600.0) is Wish.PAUSE
            repository.request_cancel(session, OURS, job.id)
            assert attempts.renew(session, job.id, 1, 600.0) is Wish.CANCEL
            assert attempts.requeue_expired(session, datetime.now(UTC) + timedelta(seconds=300)) == []


class TestRecord:
    def test_events_bring_the_progress_columns_up_to_date(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions).id
        with sessions.begin() as session:
            attempts.record(session, job_id, 1, "stage", {"stage": "compressing"})
            attempts.record(session, job_id, 1, "activity", {"activity": "solving", "block": 2, "blocks": 30})
            attempts.record(session, job_id, 1, "layer", {"result": {"name": "q"}})
            attempts.record(session, job_id, 1, "block", {"block": 2, "blocks": 30, "fraction": 0.07, "eta_s": 12.5})
        with sessions() as session:
            job = repository.get(session, OURS, job_id)
        assert (job.stage, job.activity) == ("compressing", "solving")
        assert (job.block, job.blocks, job.fraction, job.eta_s) == (2, 30, 0.07, 12.5)

    def test_concurrent_writers_number_the_events_without_gaps(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions).id

        def write(_: int) -> None:
            with sessions.begin() as session:
                attempts.record(session, job_id, 1, "note", {"message": "x"})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(20)))
        with sessions() as session:
            events = repository.events_after(session, job_id, 0)
            assert [event.seq for event in events] == list(range(1, 23))
            assert [event.seq for event in repository.events_after(session, job_id, 20, limit=1)] == [21]


class TestEnd:
    def test_success_shows_files_and_state_together(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions).id
        with sessions() as session, pytest.raises(ReportNotReady):
            repository.report(session, OURS, job_id)
        with sessions.begin() as session:
            attempts.succeed(session, job_id, 1, [REPORT, StoredFile("config.json", "cd" * 32, 7)])
        with sessions() as session:
            job = repository.get(session, OURS, job_id)
            assert (job.state, job.fraction, job.owner, job.stage) == (State.SUCCEEDED, 1.0, None, None)
            assert job.finished_at is not None
            assert [file.name for file in repository.artifacts(session, OURS, job_id)] == [
                "config.json",
                "report.json",
            ]
            assert repository.report(session, OURS, job_id).size_bytes == REPORT.size_bytes
            with pytest.raises(ArtifactNotFound):
                repository.artifact(session, OURS, job_id, "weights")

    def test_failure_keeps_its_typed_reason(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions).id
        with sessions.begin() as session:
            attempts.fail(session, job_id, 1, FAILURE)
        with sessions() as session:
            assert repository.get(session, OURS, job_id).error == FAILURE.model_dump()
            assert repository.events_after(session, job_id, 2)[0].data["error"]["layer"] == "model.layers.0"

    def test_unknown_jobs_are_not_found(self, sessions: Sessions) -> None:
        with sessions() as session:
            for ask in (repository.get, repository.artifacts, repository.report, repository.request_cancel, repository.resume):
                with pytest.raises(JobNotFound):
                    ask(session, OURS, "01J0000000000000000000000")
            assert repository.events_after(session, "01J0000000000000000000000", 0) == []


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, sessions: Sessions, submit: Submit) -> None:
        job_id = submit().id
        with sessions.begin() as session:
            assert repository.request_cancel(session, OURS, job_id).state is State.CANCELLED
            assert attempts.claim(session, "worker", 30.0) is None
        assert states(sessions, job_id) == ["queued", "cancelled"]

    def test_a_running_job_is_flagged_and_ends_when_its_worker_says_so(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions).id
        with sessions.begin() as session:
            flagged = repository.request_cancel(session, OURS, job_id)
            assert (flagged.state, flagged.cancel_requested) == (State.RUNNING, True)
        with sessions.begin() as session:
            assert attempts.cancelled(session, job_id, 1).state is State.CANCELLED

    @pytest.mark.parametrize("end", ["expiry", "retry", "hand_back"])
    def test_a_flagged_job_does_not_return_to_the_queue(self, sessions: Sessions, submit: Submit, end: str) -> None:
        submit()
        job_id = claim(sessions, lease_s=0.0).id
        with sessions.begin() as session:
            repository.request_cancel(session, OURS, job_id)
        with sessions.begin() as session:
            match end:
                case "expiry":
                    attempts.requeue_expired(session, datetime.now(UTC) + timedelta(seconds=1))
                case "retry":
                    attempts.retry(session, job_id, 1, "because")
                case _:
                    attempts.hand_back(session, job_id, 1)
            assert repository.get(session, OURS, job_id).state is State.CANCELLED

    def test_an_ended_job_cannot_be_cancelled(self, sessions: Sessions, submit: Submit) -> None:
        job_id = submit().id
        with sessions.begin() as session:
            repository.request_cancel(session, OURS, job_id)
        with sessions.begin() as session, pytest.raises(IllegalTransition):
            repository.request_cancel(session, OURS, job_id)


class TestReturnToTheQueue:
    def test_an_expired_lease_brings_the_job_back_and_rings(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        job_id = claim(sessions, lease_s=0.0).id
        with sessions.begin() as session:
            (job,) = attempts.requeue_expired(session, datetime.now(UTC) + timedelta(seconds=1))
            assert (job.state, job.owner, job.lease_expires_at) == (State.QUEUED, None, None)
            assert session.scalar(select(func.count()).where(Ring.job_id == job_id)) == 2
        assert claim(sessions).attempt == 2
        assert states(sessions, job_id) == ["queued", "running", "queued", "running"]

    def test_a_lease_that_has_not_expired_is_left_alone(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        claim(sessions, lease_s=30.0)
        with sessions.begin() as session:
            assert attempts.requeue_expired(session, datetime.now(UTC)) == []

    def test_the_last_attempt_fails_the_job_with_the_reason(self, sessions: Sessions, submit: Submit) -> None:
        submit(max_attempts=2)
        for attempt in (1, 2):
            job_id = claim(sessions).id
            with sessions.begin() as session:
                job = attempts.retry(session, job_id, attempt, "The runner was killed by SIGKILL.")
        assert job.state is State.FAILED
        assert job.error is not None and job.error["type"] == "attempts-exhausted"
        assert "SIGKILL" in job.error["detail"]

    def test_a_job_handed_back_has_lost_no_attempt(self, sessions: Sessions, submit: Submit) -> None:
        submit(max_attempts=1)
        job_id = claim(sessions).id
        with sessions.begin() as session:
            job = attempts.hand_back(session, job_id, 1)
            assert (job.state, job.max_attempts - job.attempt) == (State.QUEUED, 1)
        assert claim(sessions).attempt == 2

    def test_the_first_start_is_kept(self, sessions: Sessions, submit: Submit) -> None:
        submit()
        first = claim(sessions)
        with sessions.begin() as session:
            attempts.retry(session, first.id, 1, "because")
        assert claim(sessions).started_at == first.started_at


class TestPages:
    def test_pages_go_from_the_newest_to_the_oldest_each_job_once(self, sessions: Sessions, submit: Submit) -> None:
        jobs = [submit().id for _ in range(5)]
        found, cursor = [], None
        with sessions() as session:
            while True:
                page = repository.list_jobs(session, OURS, cursor=cursor, limit=2)
                found += [job.id for job in page.rows]
                if (cursor := page.next_cursor) is None:
                    break
        assert found == jobs[::-1]

    def test_jobs_of_the_same_instant_are_paged_by_id(self, sessions: Sessions, submit: Submit) -> None:
        jobs = [submit().id for _ in range(3)]
        with sessions.begin() as session:
            session.execute(update(Job).values(created_at=datetime(2026, 1, 1, tzinfo=UTC)))
            first = repository.list_jobs(session, OURS, limit=2)
            second = repository.list_jobs(session, OURS, limit=2, cursor=first.next_cursor)
        assert [job.id for job in (*first.rows, *second.rows)] == sorted(jobs, reverse=True)

    def test_filters_narrow_the_list_together(self, sessions: Sessions, submit: Submit) -> None:
        wanted = submit(labels={"team/a.b": "x"}, model="owner/name")
        submit(labels={"team/a.b": "y"}, model="owner/name")
        submit(labels={"team/a.b": "x"})
        with sessions() as session:
            page = repository.list_jobs(session, OURS, state=State.QUEUED, model="owner/name", label=("team/a.b", "x"))
            assert [job.id for job in page.rows] == [wanted.id]
            assert repository.list_jobs(session, OURS, state=State.RUNNING).rows == []

    @pytest.mark.parametrize("key", ['"', "a b", "", "a' OR 1"])
    def test_a_label_that_nothing_can_carry_finds_nothing(self, sessions: Sessions, submit: Submit, key: str) -> None:
        submit()
        with sessions() as session:
            assert repository.list_jobs(session, OURS, label=(key, "")).rows == []

    def test_a_broken_cursor_is_refused(self, sessions: Sessions) -> None:
        with sessions() as session, pytest.raises(InvalidCursor):
            repository.list_jobs(session, OURS, cursor="broken")
