import pytest

from jobs import repository
from jobs.database import Sessions
from jobs.sweep import sweep
from tests.jobs.conftest import Submit


class Bell:
    def __init__(self, waiting: int = 0) -> None:
        self.waiting, self.rung = waiting, 0

    def ring(self) -> None:
        self.rung += 1

    def rings_waiting(self) -> int:
        return self.waiting


def test_a_job_left_queued_is_rung_for_again(sessions: Sessions, submit: Submit) -> None:
    submit()
    bell = Bell()
    assert sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=0.0) == 0
    assert bell.rung == 1


@pytest.mark.parametrize(
    ("waiting", "ring_again_s"), [(1, 0.0), (0, 60.0)], ids=["a-ring-is-on-its-way", "it-has-not-waited-long"]
)
def test_there_is_no_second_ring_without_need(sessions: Sessions, submit: Submit, waiting: int, ring_again_s: float) -> None:
    submit()
    bell = Bell(waiting)
    sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s)
    assert bell.rung == 0


def test_a_running_job_is_not_rung_for(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        repository.claim(session, "worker", 30.0)
    bell = Bell()
    sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=0.0)
    assert bell.rung == 0


def test_jobs_of_dead_workers_come_back(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        repository.claim(session, "worker", -1.0)
    bell = Bell()
    assert sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=60.0) == 1
