import threading
from pathlib import Path

import pytest

from jobs import database
from jobs.settings import Settings
from tests.waiting import wait_until
from worker.lease import Interrupted, Lease, Reason


def test_a_database_that_stays_away_counts_as_a_lost_lease(tmp_path: Path) -> None:
    """Here every renewal fails, since nobody made the tables."""
    engine, stopped = database.engine(Settings(data_dir=tmp_path)), threading.Event()
    with Lease(database.sessions(engine), "01J", 1, lease_s=0.3, heartbeat_s=0.05, shutdown=threading.Event()) as lease:
        lease.check()
        lease.on_interrupt(stopped.set, lambda: None)
        wait_until(stopped.is_set)
        with pytest.raises(Interrupted) as interruption:
            lease.check()
    assert interruption.value.reason is Reason.LOST
    engine.dispose()


def test_what_registers_too_late_is_told_at_once(tmp_path: Path) -> None:
    engine, shutdown = database.engine(Settings(data_dir=tmp_path)), threading.Event()
    shutdown.set()
    with Lease(database.sessions(engine), "01J", 1, lease_s=30.0, heartbeat_s=0.05, shutdown=shutdown) as lease:

        def is_interrupted() -> bool:
            try:
                lease.on_interrupt(lambda: None, lambda: None)
            except Interrupted as interruption:
                return interruption.reason is Reason.SHUTDOWN
            return False

        wait_until(is_interrupted)
    engine.dispose()
