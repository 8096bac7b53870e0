"""Two jobs on one model through the true runner, isolated as the host allows: the second reuses what the first has kept."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from compression.events import Note
from compression.report import Report
from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.estimating.rates import SPARED, rates_of
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from tests import tiny_models
from tests.worker.conftest import events, read_job
from worker.attempt import Host
from worker.supervisor import Supervisor

Ask = Callable[..., tuple[Report, list[str]]]


@pytest.fixture
def text(settings: Settings) -> Path:
    text = settings.model_roots[0] / "text.txt"
    text.write_text(tiny_models.text())
    return text


@pytest.fixture
def ask(settings: Settings, sessions: Sessions, text: Path) -> Ask:
    """Runs the same compression each time; gives its report, and its notes of what was reused."""
    model = str(tiny_models.save(settings.model_roots[0] / "llama"))

    def ask(tenant_id: str = OURS, method: str = "sparsegpt", **changed: object) -> tuple[Report, list[str]]:
        request = JobRequest.model_validate(
            {
                "model": model,
                "recipe": {"sparsity": 0.5, "method": method},
                "calibration": {"source": str(text), "nsamples": 4, "seqlen": 32},
                "evaluation": {"sources": [str(text)], "windows": 2, "seqlen": 32},
            }
        )
        with sessions.begin() as session:
            job_id = repository.submit(session, tenant_id, request, check_request(request), max_attempts=1).id
        told, store = settings.model_copy(update=changed), artifact_store(settings)
        Supervisor(Host(told, sessions, store, os.environ, threading.Event())).work_off()
        job = read_job(sessions, job_id)
        assert job.state is State.SUCCEEDED, job.error
        with sessions() as session:
            found = repository.report(session, tenant_id, job_id)
        notes = [Note.model_validate(event.data).message for event in events(sessions, job_id) if event.type == "note"]
        return Report.model_validate_json(b"".join(store.stream(found.sha256))), [note for note in notes if "reused" in note]

    return ask


def test_the_second_job_reuses_and_another_tenant_does_not(
    ask: Ask, sessions: Sessions, settings: Settings, text: Path
) -> None:
    with sessions.begin() as session:
        other = create_tenant(session, "other").id
    first, notes = ask()
    assert (first.reused, notes) == ((), [])
    second, notes = ask()
    expected = (f"calibration windows of {text}", f"evaluation windows of {text}", "dense evaluation")
    assert (second.reused, notes) == (expected, [f"{what}: reused from an earlier job" for what in expected])
    assert (second.results, second.payload_digest) == (first.results, first.payload_digest)
    assert second.environment.isolation == first.environment.isolation
    assert {rate.activity for rate in rates_of(first)} - {rate.activity for rate in rates_of(second)} == set(SPARED)

    foreign, notes = ask(other)
    assert (foreign.reused, notes) == ((), [])
    assert foreign.payload_digest == first.payload_digest
    kept = settings.cache_dir / "kept"
    assert {folder.name for folder in kept.iterdir()} == {OURS, other}

    another, _ = ask(method="wanda", kept_bytes=0)
    assert another.reused == expected, "it was pruned after the job, not before"
    assert list(kept.glob("*/*/results/*")) == []
