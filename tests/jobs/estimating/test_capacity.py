"""What a job is held against: the settings, else what the workers tell."""

from datetime import timedelta

import pytest

from jobs import transitions
from jobs.database import Sessions
from jobs.estimating.capacity import Limits, limits_of_server
from jobs.settings import Settings
from jobs.tables import Worker
from jobs.watching import presence
from jobs.watching.devices import Gpu, make_slots


def announce(sessions: Sessions, name: str, gpus: list[Gpu], memory: int, disk: int, ago: timedelta = timedelta(0)) -> None:
    now = transitions.now()
    slots = [slot.model_dump(mode="json") for slot in make_slots(Settings(), gpus)]
    with sessions.begin() as session:
        presence.announce(
            session,
            Worker(
                id=name, host=name, pid=1, version="1", slots=slots, queues=[], memory_bytes=memory, memory_free_bytes=1,
                disk_bytes=disk, disk_free_bytes=1, is_draining=False, started_at=now, heartbeat_at=now - ago,
            ),
        )  # fmt: skip


def limits(sessions: Sessions, **settings: int) -> Limits:
    with sessions() as session:
        return limits_of_server(session, Settings.model_validate(settings))


def test_without_workers_nothing_is_known(sessions: Sessions) -> None:
    assert limits(sessions) == Limits()


def test_each_limit_is_that_of_the_largest_worker_that_is_there(sessions: Sessions) -> None:
    announce(sessions, "a", [], memory=10, disk=300)
    announce(sessions, "b", [Gpu(memory_bytes=16), Gpu(memory_bytes=80)], memory=20, disk=200)
    announce(sessions, "lost", [Gpu(memory_bytes=999)], memory=999, disk=999, ago=timedelta(hours=1))
    assert limits(sessions) == Limits(memory_bytes=20, disk_bytes=300, device_memory_bytes=80)


def test_device_that_does_not_tell_its_memory_refuses_nothing(sessions: Sessions) -> None:
    announce(sessions, "a", [Gpu(memory_bytes=16), Gpu()], memory=10, disk=30)
    assert limits(sessions).device_memory_bytes is None


@pytest.mark.parametrize("name", ["memory_bytes", "disk_bytes", "device_memory_bytes"])
def test_setting_goes_before_what_workers_tell(sessions: Sessions, name: str) -> None:
    announce(sessions, "a", [Gpu(memory_bytes=16)], memory=10, disk=30)
    assert getattr(limits(sessions, **{f"max_{name}": 5}), name) == 5
