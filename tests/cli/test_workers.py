import json
from datetime import UTC, datetime

from jobs import attempts
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Worker
from jobs.watching import presence
from jobs.watching.devices import Gpu, make_slots
from tests.api.serving import Served
from tests.cli.conftest import Scalpel

GIB = 1024**3


def test_workers_are_listed_with_devices_and_work(service: Served, scalpel: Scalpel, sessions: Sessions) -> None:
    assert scalpel("workers").out == "no workers\n"
    job_id = scalpel("submit", "demo:smollm2-135m", "--bits", "4", "--device", "cuda").out.strip()
    slots, now = make_slots(Settings(), [Gpu(name="Card", memory_bytes=80 * GIB)]), datetime.now(UTC)
    row = {"id": "01W", "host": "node-1", "pid": 1, "version": "1", "queues": ["scalpel.gpu"], "is_draining": False}
    sizes = {"memory_bytes": 16 * GIB, "memory_free_bytes": 8 * GIB, "disk_bytes": 50 * GIB, "disk_free_bytes": 4 * GIB}
    with sessions.begin() as session:
        dumped = [slot.model_dump(mode="json") for slot in slots]
        presence.announce(session, Worker(**row, **sizes, slots=dumped, started_at=now, heartbeat_at=now))
        assert attempts.claim(session, "01W/0", 60.0, ["any", "cpu"]) is None
        assert attempts.claim(session, "01W/0", 60.0, slots[0].needs) is not None
    listed = scalpel("workers").out
    for words in ("node-1", "busy", "cuda:0", "Card, 80 GiB", job_id, "8 of 16 GiB", "4 GiB"):
        assert words in listed
    assert json.loads(scalpel("workers", "--json").out)[0]["slots"][0]["job"] == job_id
