"""A relay that dies between publishing a ring and taking it out of the outbox: the bell rings twice, the job runs once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from jobs.database import Sessions
from jobs.housekeeping.outbox import relay
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings
from jobs.tables import Ring
from tests.broker import Broker, running
from tests.stack import environment_of
from tests.worker.conftest import MakeHost, Submit, events, read_job
from worker.supervisor import Supervisor

DYING_RELAY = """
import os, signal
from jobs import database, queue
from jobs.housekeeping import outbox
from jobs.settings import Settings

settings = Settings.from_mapping(os.environ)
celery = queue.make_celery(settings)
sessions = database.sessions(database.engine(settings))
with sessions.begin() as session:
    outbox.relay(session, lambda need: queue.ring(celery, need))
    os.kill(os.getpid(), signal.SIGKILL)  # published, and not yet committed
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def settings(settings: Settings, broker: Broker) -> Settings:
    return settings.model_copy(update={"broker_url": broker.url})


def test_a_ring_that_was_published_twice_runs_a_job_once(
    settings: Settings, sessions: Sessions, submit: Submit, scripted: MakeHost
) -> None:
    job_id = submit(max_attempts=1)
    died = subprocess.run([sys.executable, "-c", DYING_RELAY], env=environment_of(settings), check=False, capture_output=True)
    assert died.returncode == -9, died.stderr.decode()
    celery = make_celery(settings)
    assert rings_waiting(celery) == 1
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Ring)) == 1, "nothing is lost by the crash"
    with sessions.begin() as session:
        relay(session, lambda need: ring(celery, need))
    assert rings_waiting(celery) == 2
    celery.close()
    supervisor = Supervisor(scripted("succeed"))
    assert [supervisor.work_off(), supervisor.work_off()] == [1, 0], "as a worker that hears both"
    ends = [event.data["state"] for event in events(sessions, job_id) if event.type == "state"]
    assert (ends, read_job(sessions, job_id).attempt) == (["queued", "running", "succeeded"], 1)
