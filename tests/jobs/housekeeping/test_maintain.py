import threading
import time

import pytest

from cli.embedded import ValkeyServer
from jobs.database import Sessions
from jobs.housekeeping import maintain
from jobs.housekeeping.chores import Chore, run_chores
from jobs.queue import make_celery, rings_waiting
from jobs.settings import Settings
from tests.jobs.conftest import Submit


def test_a_submitted_job_rings_through_the_broker(
    database_settings: Settings, sessions: Sessions, submit: Submit, valkey: ValkeyServer
) -> None:
    settings = database_settings.model_copy(update={"broker_url": valkey.url, "relay_s": 0.05})
    celery, stop = make_celery(settings), threading.Event()
    thread = threading.Thread(target=maintain.run, args=(settings, stop))
    thread.start()
    try:
        submit()
        deadline = time.monotonic() + 10
        while rings_waiting(celery) != 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rings_waiting(celery) == 1
    finally:
        stop.set()
        thread.join(10)
        celery.close()
    assert not thread.is_alive()


def test_a_chore_that_fails_is_tried_again_and_does_not_hinder_the_others(caplog: pytest.LogCaptureFixture) -> None:
    stop, counts = threading.Event(), {"fails": 0, "works": 0}

    def fails() -> None:
        counts["fails"] += 1
        raise ConnectionError("the broker is away")

    def works() -> None:
        counts["works"] += 1
        if counts["works"] > 3 and counts["fails"] > 1:
            stop.set()

    run_chores([Chore("fails", fails, 0.01), Chore("works", works, 0.01)], stop)
    assert "fails failed 2 times in a row" in caplog.text


def test_a_failing_chore_backs_off_and_recovers() -> None:
    is_away = True

    def work() -> None:
        if is_away:
            raise ConnectionError

    chore = Chore("relay", work, period_s=1.0)
    delays = []
    for _ in range(7):
        chore.do()
        delays.append(chore.due_at - time.monotonic())
    assert delays == pytest.approx([2, 4, 8, 16, 30, 30, 30], abs=0.1)
    is_away = False
    chore.do()
    assert chore.due_at - time.monotonic() == pytest.approx(1, abs=0.1)
