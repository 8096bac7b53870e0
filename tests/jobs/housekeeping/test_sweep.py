import pytest

from jobs import attempts
from jobs.database import Sessions
from jobs.housekeeping.sweep import sweep
from jobs.needs import Need
from tests.jobs.conftest import Submit


class Bell:
    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        self.rung: list[Need] = []

    def ring(self, need: Need) -> None:
        self.rung.append(need)

    def rings_waiting(self, _: Need) -> int:
        return self.waiting


def test_a_job_left_queued_is_rung_for_again(sessions: Sessions, submit: Submit) -> None:
    submit()
    bell = Bell()
    assert sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=0.0) == 0
    assert bell.rung == ["any"]


def test_each_kind_of_worker_is_rung_for_what_it_can_serve(sessions: Sessions, submit: Submit) -> None:
    submit(device="cuda")
    submit(device="cpu")
    bell = Bell()
    sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=0.0)
    assert bell.rung == ["cpu", "gpu"]


@pytest.mark.parametrize(
    ("waiting", "ring_again_s"), [(1, 0.0), (0, 60.0)], ids=["a-ring-is-on-its-way", "it-has-not-waited-long"]
)
def test_there_is_no_second_ring_without_need(sessions: Sessions, submit: Submit, waiting: int, ring_again_s: float) -> None:
    submit()
    bell = Bell(waiting)
    sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s)
    assert bell.rung == []


def test_a_running_job_is_not_rung_for(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", 30.0)
    bell = Bell()
    sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=0.0)
    assert bell.rung == []


def test_jobs_of_dead_workers_come_back(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", -1.0)
    bell = Bell()
    assert sweep(sessions, bell.ring, bell.rings_waiting, ring_again_s=60.0) == 1
