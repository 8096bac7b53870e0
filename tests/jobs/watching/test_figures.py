from sqlalchemy import delete, select

from jobs import attempts
from jobs.database import Sessions
from jobs.housekeeping.chores import Chore
from jobs.housekeeping.tallies import bucket_of, tally
from jobs.tables import Event, Job
from jobs.watching.figures import figures
from tests.jobs.conftest import Submit


def cancel_one(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", 60.0)
        assert job is not None
        attempts.record(session, job.id, job.attempt, "stage", {"stage": "fetching"})
        attempts.cancelled(session, job.id, job.attempt)


def test_totals_outlive_the_jobs(sessions: Sessions, submit: Submit) -> None:
    for _ in range(3):
        cancel_one(sessions, submit)
    with sessions.begin() as session:
        assert (tally(session), tally(session)) == (3, 0)
        session.execute(delete(Event))
        session.execute(delete(Job))
    cancel_one(sessions, submit)
    with sessions.begin() as session:
        assert tally(session) == 1
    with sessions() as session:
        found = figures(session, lease_s=60.0)
    assert found.finished == {"cancelled": 4, "failed": 0, "succeeded": 0}
    assert found.stages["fetching"].buckets[-1] == ("+Inf", 4)
    assert [count for _, count in found.stages["fetching"].buckets] == sorted(
        count for _, count in found.stages["fetching"].buckets
    )


def test_count_that_fails_midway_is_made_anew(sessions: Sessions, submit: Submit) -> None:
    cancel_one(sessions, submit)

    def work() -> None:
        with sessions.begin() as session:
            tally(session)
            raise ConnectionError

    chore = Chore("tally", work, 1.0)
    chore.do()
    assert chore.failures == 1
    with sessions.begin() as session:
        assert session.scalars(select(Job.is_tallied)).all() == [False]
        assert tally(session) == 1


def test_age_of_a_lease_counts_from_its_renewal(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", 40.0)
    with sessions() as session:
        assert 20 <= figures(session, lease_s=60.0).lease_age_s < 40


def test_durations_fall_into_the_first_bucket_that_holds_them() -> None:
    assert [bucket_of(seconds) for seconds in (0.0, 1.0, 1.1, 3600.0, 1e9)] == ["1.0", "1.0", "5.0", "3600.0", "+Inf"]
