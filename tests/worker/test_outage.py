"""The supervisor on a real PostgreSQL that goes away in mid-job."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.embedded import ValkeyServer
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from tests.jobs.conftest import valkey  # noqa: F401  a fixture
from tests.postgresql import OwnPostgresqlServer
from tests.waiting import wait_until
from tests.worker.conftest import MakeHost, Submit, events, read_job
from tests.worker.test_app import ring_for, worker
from worker.supervisor import Supervisor


@pytest.fixture
def settings(settings: Settings, fragile_postgresql: OwnPostgresqlServer) -> Iterator[Settings]:
    with fragile_postgresql.database() as url:
        yield settings.model_copy(update={"database_url": url})


def notes(sessions: Sessions, job_id: str) -> list[str]:
    return [event.data["message"] for event in events(sessions, job_id) if event.type == "note"]


@pytest.mark.parametrize("absences_s", [(0.0, 0.0), (2.0,)], ids=["two-crashes", "away-for-a-while"])
def test_a_job_outlives_its_database(
    fragile_postgresql: OwnPostgresqlServer,
    settings: Settings,
    sessions: Sessions,
    submit: Submit,
    scripted: MakeHost,
    absences_s: tuple[float, ...],
) -> None:
    job_id = submit(max_attempts=1)

    def has_more_than(count: int) -> bool:
        return len(notes(sessions, job_id)) > count

    thread = threading.Thread(target=Supervisor(scripted("count")).work_off)
    thread.start()
    for absence_s in absences_s:
        seen = len(notes(sessions, job_id)) if read_job(sessions, job_id).state is State.RUNNING else 0
        wait_until(partial(has_more_than, seen + 3))
        fragile_postgresql.stop()
        time.sleep(absence_s)  # its length is what is tried, not a wait for something
        fragile_postgresql.restart("immediate")
    lease = read_job(sessions, job_id).lease_expires_at
    wait_until(lambda: read_job(sessions, job_id).lease_expires_at != lease)
    (settings.scratch_dir / "jobs" / job_id / "go").touch()
    thread.join(20)
    job, told = read_job(sessions, job_id), events(sessions, job_id)
    assert (job.state, job.attempt, job.error) == (State.SUCCEEDED, 1, None)
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    said = notes(sessions, job_id)
    assert said == [f"note {number + 1}" for number in range(len(said))], "each once, none lost"
    assert [event.data["state"] for event in told if event.type == "state"] == ["queued", "running", "succeeded"]


def test_a_job_whose_end_cannot_be_written_at_first_still_ends_once(
    fragile_postgresql: OwnPostgresqlServer,
    settings: Settings,
    sessions: Sessions,
    submit: Submit,
    scripted: MakeHost,
    tmp_path: Path,
) -> None:
    job_id = submit(max_attempts=1)
    thread = threading.Thread(target=Supervisor(scripted("count")).work_off)
    thread.start()
    wait_until(lambda: notes(sessions, job_id))
    fragile_postgresql.stop()
    (settings.scratch_dir / "jobs" / job_id / "go").touch()
    wait_until(lambda: (settings.scratch_dir / "jobs" / job_id / "out" / "report.json").exists())
    fragile_postgresql.restart("immediate")
    thread.join(20)
    assert read_job(sessions, job_id).state is State.SUCCEEDED


def test_a_worker_that_is_rung_for_while_the_database_is_away_hears_the_next_ring(
    fragile_postgresql: OwnPostgresqlServer,
    settings: Settings,
    sessions: Sessions,
    submit: Submit,
    valkey: ValkeyServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    served = settings.model_copy(update={"broker_url": valkey.url})
    job_id = submit()
    log = tmp_path / "log"
    fragile_postgresql.stop()
    with worker(served, log):
        ring_for(served)
        wait_until(lambda: "the database is away" in log.read_text())
        fragile_postgresql.restart("immediate")
        ring_for(served)
        wait_until(lambda: read_job(sessions, job_id).attempt == 1)
    assert "Traceback" not in log.read_text()
