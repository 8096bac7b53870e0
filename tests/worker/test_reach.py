"""What a job's runner can get at, tried by a runner that looks around."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compression.isolation import evidence
from compression.protocol import Output
from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.errors import SettingsError
from jobs.settings import Settings
from jobs.states import State
from tests.compression.isolation.test_isolation import needs_landlock, needs_root
from tests.worker.conftest import MakeHost, Submit, read_job
from worker.attempt import Host
from worker.folder import JobFolder
from worker.reach import hand_over, reach_of
from worker.spec import ExportSpec
from worker.supervisor import Supervisor


def seen(host: Host, sessions: Sessions, job_id: str) -> dict[str, Any]:
    Supervisor(host).work_off()
    assert read_job(sessions, job_id).state is State.SUCCEEDED
    with sessions() as session:
        report = next(file for file in repository.artifacts(session, OURS, job_id) if file.name == "report.json")
    found: dict[str, Any] = json.loads(b"".join(host.store.stream(report.sha256)))
    return found


@pytest.fixture
def spec(tmp_path: Path, settings: Settings, model: Path) -> ExportSpec:
    folder = JobFolder(tmp_path / "job")
    return ExportSpec(
        model_path=model,
        model_name="tiny",
        model_revision=None,
        model_notes=(),
        out=folder.out,
        lock=folder.lock,
        lock_timeout_s=1.0,
        cache=settings.cache_dir / "kept" / "tenant" / "models",
        device="cpu",
        provenance={},
        output=Output(),
        solutions=folder.solutions,
        origin="a job",
    )


@pytest.mark.parametrize(
    ("device", "has_gpu", "names_threads"), [("cuda:0", True, True), ("cpu", True, False), ("auto", False, False)]
)
def test_only_beside_a_gpu_does_a_runner_name_its_threads(
    device: str,
    has_gpu: bool,
    names_threads: bool,
    spec: ExportSpec,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.reach.NVIDIA", tmp_path if has_gpu else tmp_path / "none")
    given = spec.model_copy(update={"device": device})
    assert reach_of(given, JobFolder(tmp_path / "job"), settings).names_threads is names_threads


@needs_landlock
def test_runner_reaches_neither_network_nor_secrets_nor_other_jobs(
    sessions: Sessions, submit: Submit, scripted: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALPEL_HUB_TOKEN", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        job_id = submit()
        report = seen(scripted(f"look-around:{server.getsockname()[1]}"), sessions, job_id)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "reached" not in report["seen"].values()
    refused = {"supervisor", "database", "other job", "what others kept", "planting for others"}
    assert {report["seen"][name] for name in refused} == {"PermissionError"}
    assert "secret" not in json.dumps(report["environment"])
    assert {evidence.NO_NEW_PRIVILEGES, evidence.FEW_FILES, evidence.BLIND} <= set(report["seen"]["isolation"])


def test_isolation_can_be_switched_off_and_is_not_claimed_then(
    sessions: Sessions, submit: Submit, scripted: MakeHost, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = scripted(f"look-around:{server.getsockname()[1]}")
        host = replace(host, settings=settings.model_copy(update={"runner_isolation": False}))
        report = seen(host, sessions, submit())
    assert report["seen"]["network"] == "reached"
    assert not {evidence.NO_NETWORK, evidence.NO_TCP, evidence.FEW_FILES} & set(report["seen"]["isolation"])


def test_files_behind_the_links_of_a_cached_model_are_named(
    tmp_path: Path, spec: ExportSpec, model: Path, settings: Settings
) -> None:
    blob = tmp_path / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_text("{}")
    (model / "tokenizer.json").symlink_to(blob)
    reach = reach_of(spec, JobFolder(tmp_path / "job"), settings, "/opt/cuda/lib:relative")
    assert reach.read == (Path("/opt/cuda/lib"), model, blob)
    assert reach.write == (tmp_path / "job", spec.cache)


@needs_root
class TestHandOver:
    def test_the_folder_is_the_user_s_but_not_what_links_lead_to(self, tmp_path: Path, spec: ExportSpec) -> None:
        folder, foreign = JobFolder(tmp_path / "job"), tmp_path / "foreign"
        folder.make()
        foreign.write_text("x")
        (folder.root / "link").symlink_to(foreign)
        os.link(foreign, folder.root / "hard")
        spec.cache.mkdir(parents=True)
        settings = Settings(data_dir=tmp_path, runner_user="nobody")
        hand_over(folder, spec, settings)
        assert {path.stat().st_uid for path in (folder.root, folder.home, spec.cache)} == {65534}
        assert foreign.stat().st_uid == 0
        assert reach_of(spec, folder, settings).user == "nobody"

    def test_an_unknown_user_is_refused(self, tmp_path: Path, spec: ExportSpec) -> None:
        folder = JobFolder(tmp_path / "job")
        with pytest.raises(SettingsError, match="no-such-user"):
            hand_over(folder, spec, Settings(data_dir=tmp_path, runner_user="no-such-user"))
