"""Many workers, each a process of its own with several slots, on one queue."""

import subprocess
import sys
from collections import Counter

from sqlalchemy import select

from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job
from tests.jobs.conftest import Submit

JOBS, PROCESSES, SLOTS = 40, 3, 4

WORKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from jobs import attempts, database
from jobs.settings import Settings

engine = database.engine(Settings(data_dir=sys.argv[1], database_url=sys.argv[2]))
sessions = database.sessions(engine)

def claim_all(owner):
    claimed = []
    while True:
        with sessions.begin() as session:
            job = attempts.claim(session, owner, 60.0)
        if job is None:
            return claimed
        claimed.append(f"{job.id} {job.attempt}")

print("ready", flush=True)
sys.stdin.readline()  # all begin at once
with ThreadPoolExecutor(int(sys.argv[3])) as pool:
    for claimed in pool.map(claim_all, [f"{sys.argv[4]}-{slot}" for slot in range(int(sys.argv[3]))]):
        print(*claimed, sep="\\n", flush=True)
"""


def test_each_job_is_claimed_exactly_once(database_settings: Settings, sessions: Sessions, submit: Submit) -> None:
    submitted = {submit().id for _ in range(JOBS)}
    arguments = [str(database_settings.data_dir), database_settings.database_url, str(SLOTS)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments, f"worker-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    claims = [line for worker in workers for line in worker.communicate(timeout=60)[0].split("\n") if line]
    assert Counter(claims) == {f"{job_id} 1": 1 for job_id in submitted}
    with sessions() as session:
        assert {state for (state,) in session.execute(select(Job.state))} == {State.RUNNING}
