"""The true runner, its device out of memory in the middle of the pass, and what its supervisor then does."""

import os
import sys
import threading

from compression.report import Report
from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from tests import tiny_models
from tests.worker.conftest import Submit, events, read_job
from worker.attempt import Host
from worker.supervisor import Supervisor

# No device is at hand. What torch raises when one is full is raised in the second block, unless the plan saves memory.
SHORT_OF_MEMORY = """
import torch
from compression import pipeline
from worker import runner

solve, compress = pipeline.solve_readers, runner._compress

def fail(block, layers, *args):
    if layers[0].block == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return solve(block, layers, *args)

def patched(spec, send, *args):
    pipeline.solve_readers = solve if spec.low_memory else fail
    compress(spec, send, *args)

runner._compress = patched
runner.main()
"""


def test_the_job_goes_on_from_its_finished_block_with_the_plan_that_saves_memory(
    settings: Settings, sessions: Sessions, submit: Submit
) -> None:
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    job_id = submit(
        model=str(tiny_models.save(root / "llama")),
        recipe={"pattern": "2:4"},
        calibration={"source": str(text), "nsamples": 4, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
        max_attempts=1,
    )
    store, command = artifact_store(settings), (sys.executable, "-c", SHORT_OF_MEMORY)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event(), command)).work_off()
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with sessions() as session:
        found = repository.report(session, LOCAL_TENANT_ID, job_id)
    report = Report.model_validate_json(b"".join(store.stream(found.sha256)))
    assert (report.memory.mode, report.resumed_blocks) == ("low-memory", 1)
    warned = [event.data["message"] for event in events(sessions, job_id) if event.data.get("level") == "warning"]
    assert len(warned) == 1
    assert "CUDA out of memory. Tried to allocate 20.00 MiB." in warned[0] and "low-memory plan" in warned[0]
