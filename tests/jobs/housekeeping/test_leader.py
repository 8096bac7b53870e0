"""Of several housekeepers one works; real processes, killed for real."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.embedded import ValkeyServer
from jobs import database
from jobs.database import Sessions
from jobs.housekeeping.beats import last_beat
from jobs.housekeeping.leader import lead
from jobs.queue import make_celery, rings_waiting
from jobs.settings import Settings
from tests.cli.process import ROOT
from tests.jobs.conftest import Submit
from tests.waiting import wait_until


@contextmanager
def housekeeper(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SCALPEL_DATA_DIR": str(settings.data_dir),
        "SCALPEL_DATABASE_URL": settings.database_url,
        "SCALPEL_BROKER_URL": settings.broker_url or "",
        "SCALPEL_LEADER_S": "0.1",
        "SCALPEL_RELAY_S": "0.1",
    }
    command = [sys.executable, "-m", "cli", "maintain"]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


def leader_pid(sessions: Sessions) -> int | None:
    with sessions() as session:
        life = last_beat(session)
    return None if life is None else int(life.owner.rpartition(":")[2])


def test_housekeeper_that_is_killed_is_replaced_by_one_that_stood_by(
    database_settings: Settings, sessions: Sessions, submit: Submit, valkey: ValkeyServer, tmp_path: Path
) -> None:
    settings = database_settings.model_copy(update={"broker_url": valkey.url})
    with housekeeper(settings, tmp_path / "a.log") as first, housekeeper(settings, tmp_path / "b.log") as second:
        wait_until(lambda: leader_pid(sessions) in (first.pid, second.pid))
        leader, other = (first, second) if leader_pid(sessions) == first.pid else (second, first)
        leader.send_signal(signal.SIGKILL)
        leader.wait()
        submit()
        celery = make_celery(settings)
        wait_until(lambda: rings_waiting(celery) == 1)
        celery.close()
        wait_until(lambda: leader_pid(sessions) == other.pid)
        other.terminate()
        assert other.wait(20) == 0


def test_only_one_leads_and_the_next_follows_when_it_gives_up(database_settings: Settings, sessions: Sessions) -> None:
    one, two = database.engine(database_settings), database.engine(database_settings)
    with lead(two) as second:
        with lead(one) as first:
            assert first.is_mine()
            assert first.is_mine()
            assert not second.is_mine()
        assert second.is_mine()
    one.dispose()
    two.dispose()


def test_connection_that_is_lost_is_the_lead_lost(database_settings: Settings, sessions: Sessions) -> None:
    if not database_settings.database_url.startswith("postgresql"):
        pytest.skip("a file's lock needs no connection")
    one, two = database.engine(database_settings), database.engine(database_settings)
    with lead(one) as first, lead(two) as second:
        assert first.is_mine()
        with sessions.begin() as session:
            session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"))
        wait_until(second.is_mine)
        assert not first.is_mine(), "it learns that its connection is gone"
        assert not first.is_mine(), "and does not get the lead back on a new one"
    one.dispose()
    two.dispose()
