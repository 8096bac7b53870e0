"""What tenants see of the workers."""

from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from jobs import attempts, transitions
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Worker
from jobs.watching import presence
from jobs.watching.devices import Gpu, make_slots
from jobs.watching.presence import Resources, owner_of
from tests.api.conftest import Submit
from tests.api.test_auth import key_of, with_key

WORKER = "01W"
GIB = 1024**3


@pytest.fixture
def announced(sessions: Sessions) -> None:
    slots = make_slots(Settings(cpu_slots=1), [Gpu(name="Card", memory_bytes=80 * GIB)])
    now = transitions.now()
    with sessions.begin() as session:
        presence.announce(
            session,
            Worker(
                id=WORKER, host="node-1", pid=1, version="1", slots=[slot.model_dump(mode="json") for slot in slots],
                queues=["scalpel.gpu"], memory_bytes=16 * GIB, memory_free_bytes=8 * GIB,
                disk_bytes=50 * GIB, disk_free_bytes=4 * GIB, is_draining=False, started_at=now, heartbeat_at=now,
            ),
        )  # fmt: skip


def take(sessions: Sessions, slot: int) -> None:
    with sessions.begin() as session:
        assert attempts.claim(session, owner_of(WORKER, slot), 60.0) is not None


def test_workers_are_shown_with_devices_and_own_jobs(
    announced: None, web: TestClient, sessions: Sessions, submit: Submit
) -> None:
    (idle,) = web.get("/v1/workers").json()
    assert (idle["state"], idle["host"], idle["memory_free_bytes"]) == ("idle", "node-1", 8 * GIB)
    job_id = submit()
    take(sessions, 0)
    (busy,) = web.get("/v1/workers").json()
    assert busy["state"] == "busy"
    gpu, cpu = busy["slots"]
    assert (gpu["device"], gpu["name"], gpu["memory_bytes"], gpu["is_busy"], gpu["job"]) == (
        "cuda:0",
        "Card",
        80 * GIB,
        True,
        job_id,
    )
    assert (cpu["device"], cpu["is_busy"], cpu["job"], cpu["needs"]) == ("cpu", False, None, ["any", "cpu"])


def test_job_of_another_tenant_is_a_busy_slot_and_no_more(
    announced: None, app: FastAPI, web: TestClient, sessions: Sessions, submit: Submit
) -> None:
    job_id = submit()
    take(sessions, 0)
    answer = with_key(app, key_of(sessions, "STRANGER", "read")).get("/v1/workers")
    assert answer.json()[0]["slots"][0]["is_busy"] is True
    assert job_id not in answer.text


def test_worker_that_is_not_heard_of_is_lost_and_later_forgotten(announced: None, web: TestClient, sessions: Sessions) -> None:
    def heard_of(ago: timedelta) -> None:
        with sessions.begin() as session:
            session.execute(update(Worker).values(heartbeat_at=transitions.now() - ago))

    heard_of(timedelta(minutes=2))
    assert web.get("/v1/workers").json()[0]["state"] == "lost"
    with sessions.begin() as session:
        assert presence.forget_lost(session) == 0
    heard_of(2 * presence.FORGOTTEN_AFTER)
    with sessions.begin() as session:
        assert presence.forget_lost(session) == 1
    assert web.get("/v1/workers").json() == []


def test_heartbeat_says_whether_the_row_is_still_there(announced: None, web: TestClient, sessions: Sessions) -> None:
    with sessions.begin() as session:
        assert presence.renew(session, WORKER, Resources(3, 2, 1, 0), is_draining=True)
    shown = web.get("/v1/workers").json()[0]
    assert (shown["state"], shown["memory_bytes"], shown["disk_bytes"]) == ("draining", 3, 1)
    with sessions.begin() as session:
        presence.leave(session, WORKER)
        assert not presence.renew(session, WORKER, Resources(3, 2, 1, 0), is_draining=False)
