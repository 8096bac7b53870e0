"""A model that is several times larger than the memory that its runner may have."""

import os
import sys
import threading
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from compression.models.checkpoint import Checkpoint
from compression.report import Report
from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from tests import tiny_models
from tests.worker.conftest import Submit, read_job
from worker.attempt import Host
from worker.supervisor import Supervisor

LIMIT_BYTES = 640_000_000
TIMES = 3
WIDTH, FFN, BLOCKS = 768, 2048, 138


def _save_large(folder: Path) -> int:
    """A llama of many blocks, in bfloat16; its weights' bytes."""
    tiny_models.save(folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    sizes = {"hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": BLOCKS, "head_dim": 64}
    config = AutoConfig.from_pretrained(folder, **sizes, num_attention_heads=12, num_key_value_heads=12)
    AutoModelForCausalLM.from_config(config, dtype="bfloat16").save_pretrained(folder, max_shard_size="100MB")
    return Checkpoint(folder).size_bytes


@pytest.mark.slow
def test_model_three_times_as_large_as_its_memory_is_compressed(
    settings: Settings, sessions: Sessions, submit: Submit
) -> None:
    settings = settings.model_copy(update={"memory_limit_bytes": LIMIT_BYTES})
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    size_bytes = _save_large(root / "large")
    assert size_bytes > TIMES * LIMIT_BYTES
    job_id = submit(
        model=str(root / "large"),
        recipe={"method": "wanda", "pattern": "2:4"},
        calibration={"source": str(text), "nsamples": 2, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 1, "seqlen": 32},
        max_attempts=1,
    )
    store = artifact_store(settings)
    command = (sys.executable, "-m", "worker.runner")
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event(), command)).work_off()
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with sessions() as session:
        found = repository.report(session, LOCAL_TENANT_ID, job_id)
    report = Report.model_validate_json(b"".join(store.stream(found.sha256)))
    assert report.memory.host_peak_bytes < LIMIT_BYTES
    assert report.memory.mode == "standard"
    assert report.verification.verdict == "not verified" and "does not fit" in (report.verification.detail or "")
