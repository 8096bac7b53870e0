"""A tenant's hub token through the true supervisor: it opens the model, and is seen by no runner, log or event."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jobs import repository
from jobs.access.hub_access import HUB_TOKEN
from jobs.access.secrets import MasterKeys, new_master_key, put_secret
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.states import State
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub
from tests.jobs.sourcing.test_fetch_models import model_files
from tests.worker.conftest import MakeHost, events, read_job
from worker.supervisor import Supervisor

TOKEN = "hf_" + "PrivateOfOneTenant" * 2


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.models["owner/private"] = [Repository(model_files(), gated_for=TOKEN)]
        yield hub


@pytest.fixture
def settings(settings: Settings, hub: LocalHub) -> Settings:
    return settings.model_copy(update={"hub_endpoint": hub.url, "secret_keys": (SecretStr(new_master_key()),)})


def submit_for(sessions: Sessions, settings: Settings, name: str, token: str | None) -> str:
    request = JobRequest.model_validate({"model": "owner/private", "recipe": {"sparsity": 0.5}, "evaluation": {"sources": []}})
    with sessions.begin() as session:
        tenant_id = create_tenant(session, name).id
        if token is not None:
            put_secret(session, MasterKeys.of(settings), tenant_id, HUB_TOKEN, token)
        return repository.submit(session, tenant_id, request, check_request(request), max_attempts=1).id


def files_with(secret: str, *folders: Path) -> list[Path]:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in paths if secret.encode() in path.read_bytes()]


def test_token_opens_the_model_and_nobody_downstream_sees_it(
    sessions: Sessions, settings: Settings, hub: LocalHub, scripted: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job_id = submit_for(sessions, settings, "team", TOKEN)
    host = scripted("succeed-and-tell")
    assert Supervisor(host).work_off() == 1
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    assert TOKEN in hub.tokens, "it was needed, and used"
    with sessions() as session:
        report = repository.report(session, job.tenant_id, job_id)
    told = json.loads(b"".join(host.store.stream(report.sha256)))
    assert told["spec"]["model_name"] == "owner/private", "the runner's spec is in its report, so that it can be searched"
    assert told["environment"]["HOME"]
    assert TOKEN not in json.dumps(told)
    assert len(events(sessions, job_id)) > 5
    assert TOKEN not in str([event.data for event in events(sessions, job_id)])
    assert caplog.records
    assert TOKEN not in caplog.text
    assert files_with(TOKEN, settings.data_dir) == [], "not in the database, the cache, the scratch space or the store"


def test_job_of_a_tenant_without_the_token_fails_and_says_what_to_do(
    sessions: Sessions, settings: Settings, scripted: MakeHost
) -> None:
    submit_for(sessions, settings, "team", TOKEN)
    other = submit_for(sessions, settings, "other", None)
    assert Supervisor(scripted("succeed-and-tell")).work_off() == 2
    job = read_job(sessions, other)
    assert job.state is State.FAILED
    assert job.error is not None and job.error["type"] == "source-error"
    assert "/v1/secrets/hub-token" in job.error["detail"]


def test_refused_token_is_not_repeated_in_the_reason(
    sessions: Sessions, settings: Settings, scripted: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "hf_" + "Mistyped" * 4
    job_id = submit_for(sessions, settings, "team", wrong)
    Supervisor(scripted("succeed-and-tell")).work_off()
    assert read_job(sessions, job_id).state is State.FAILED
    assert wrong not in str([event.data for event in events(sessions, job_id)]) + caplog.text
    assert files_with(wrong, settings.data_dir) == []


def test_key_that_is_gone_is_named_in_the_reason(sessions: Sessions, settings: Settings, scripted: MakeHost) -> None:
    other_key = settings.model_copy(update={"secret_keys": (SecretStr(new_master_key()),)})
    job_id = submit_for(sessions, other_key, "team", TOKEN)
    Supervisor(scripted("succeed-and-tell")).work_off()
    job = read_job(sessions, job_id)
    assert job.error is not None
    assert MasterKeys.of(other_key).newest in job.error["detail"]
    assert "SCALPEL_SECRET_KEYS" in job.error["detail"]
