"""Exports through the true supervisor and the true runner."""

import json
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete

from compression.recipe import parse_recipe, resolve
from compression.report import Report
from jobs import attempts, exports, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.exports import ExportRequest
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from jobs.tables import Job, Solution
from tests import tiny_models
from tests.worker.conftest import Submit, events, read_job
from worker.attempt import Host
from worker.supervisor import Supervisor


@pytest.fixture
def host(settings: Settings, sessions: Sessions) -> Host:
    return Host(settings, sessions, artifact_store(settings), os.environ, threading.Event())


@pytest.fixture
def solved(host: Host, submit: Submit) -> str:
    """A compression that has succeeded; its text is gone by now, as an export must do without."""
    root = host.settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    job_id = submit(
        model=str(tiny_models.save(root / "llama")),
        recipe={"bits": 4},
        calibration={"source": str(text), "nsamples": 2, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 1, "seqlen": 32},
    )
    Supervisor(host).work_off()
    assert read_job(host.sessions, job_id).state is State.SUCCEEDED
    text.unlink()
    return job_id


@pytest.fixture
def said_to_be_solved(host: Host, submit: Submit, tmp_path: Path) -> str:
    """As far as rows and stored files tell."""
    job_id = submit()
    solved = resolve(parse_recipe({"sparsity": 0.5})).model_dump(mode="json")
    (tmp_path / "report.json").write_text(json.dumps({"recipe": solved, "model": {"revision": None}, "output": {}}))
    report = StoredFile("report.json", *host.store.put_file(tmp_path / "report.json"))
    with host.sessions.begin() as session:
        attempts.claim(session, "another worker", 60.0)
        attempts.succeed(session, job_id, 1, [report], solutions=[report])
    return job_id


def export(host: Host, job_id: str, **fields: object) -> str:
    request = ExportRequest.model_validate({"output": {"format": "dense"}, **fields})
    with host.sessions.begin() as session:
        found = exports.find_exportable(session, OURS, host.store, job_id)
        return exports.submit_export(session, found, request, None, 3).id


def report_of(host: Host, job_id: str) -> Report:
    with host.sessions() as session:
        found = repository.report(session, OURS, job_id)
    return Report.model_validate_json(b"".join(host.store.stream(found.sha256)))


def test_an_export_is_published_without_solving_again(host: Host, solved: str) -> None:
    with host.sessions() as session:
        kept = exports.solutions(session, solved)
    assert [file.name for file in kept] == [
        *(f"block-{block:05d}.safetensors" for block in range(tiny_models.BLOCKS)), "probe.safetensors", "report.json",
    ]  # fmt: skip
    assert read_job(host.sessions, solved).solution_bytes == sum(file.size_bytes for file in kept)

    job_id = export(host, solved, labels={"team": "a"})
    assert Supervisor(host).work_off() == 1
    job = read_job(host.sessions, job_id)
    assert (job.state, job.task, job.parent_id, job.solution_bytes) == (State.SUCCEEDED, "export", solved, None), job.error
    stages = [event.data["stage"] for event in events(host.sessions, job_id) if event.type == "stage"]
    assert stages == ["fetching", "exporting", "verifying", "publishing"]
    with host.sessions() as session:
        files = [{file.name for file in repository.artifacts(session, OURS, each)} for each in (solved, job_id)]
    assert files[0] == files[1]  # and no solution among them
    before, after = report_of(host, solved), report_of(host, job_id)
    assert after.payload_digest == before.payload_digest
    assert after.layers == before.layers
    assert after.provenance == {"job_id": job_id, "attempt": 1, "labels": {"team": "a"}, "parent": solved}
    assert any(f"exported from job {solved}" in note for note in after.notes)
    assert list((host.settings.scratch_dir / "jobs").iterdir()) == []

    tiny_models.save(host.settings.model_roots[0] / "llama", "llama-wide")
    changed = export(host, solved)
    Supervisor(host).work_off()
    job = read_job(host.sessions, changed)
    assert job.error is not None and job.error["type"] == "invalid-options"
    assert "is not the model that was solved" in job.error["detail"]


@pytest.mark.parametrize("loss", ["rows", "bytes", "parent"])
def test_solutions_that_are_gone_end_the_export_with_the_reason(host: Host, said_to_be_solved: str, loss: str) -> None:
    job_id = export(host, said_to_be_solved)
    with host.sessions.begin() as session:
        if loss == "bytes":
            sha256 = exports.solutions(session, said_to_be_solved)[0].sha256
            (host.settings.data_dir / "artifacts" / "sha256" / sha256[:2] / sha256).unlink()
        elif loss == "rows":
            session.execute(delete(Solution))
        else:
            session.delete(session.get_one(Job, said_to_be_solved))
    assert Supervisor(host).work_off() == 1
    job = read_job(host.sessions, job_id)
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None and job.error["type"] == "solutions-gone"
    assert (job.parent_id is None) == (loss == "parent")
