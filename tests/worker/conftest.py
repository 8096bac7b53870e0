"""A migrated SQLite database, a model folder to name, and hosts whose runner is a script that misbehaves on demand."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from jobs import database, repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.tables import Event, Job
from tests.jobs.conftest import valkey
from worker.attempt import Host

__all__ = ["MakeHost", "Submit", "events", "read_job", "valkey"]

SCRIPT = Path(__file__).with_name("scripted_runner.py")

MakeHost = Callable[..., Host]
Submit = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Enough of a model for the supervisor, which looks no further."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        model_roots=(model.parent,),
        device="cpu",
        lease_s=10.0,
        heartbeat_s=0.1,
        grace_s=0.5,
        drain_s=20.0,
        retry_delay_s=0.0,
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    database.migrate(settings)
    made = database.engine(settings)
    yield made
    made.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return database.sessions(engine)


@pytest.fixture
def submit(sessions: Sessions, model: Path) -> Submit:
    """Submits a job on the model folder, its request's fields as keywords; gives its id."""

    def submit(max_attempts: int = 3, **fields: object) -> str:
        recipe = {} if fields.get("task") == "evaluate" else {"recipe": {"sparsity": 0.5}}
        request = JobRequest.model_validate({"model": str(model), **recipe, **fields})
        with sessions.begin() as session:
            return repository.submit(session, LOCAL_TENANT_ID, request, check_request(request), max_attempts=max_attempts).id

    return submit


@pytest.fixture
def scripted(settings: Settings, sessions: Sessions) -> MakeHost:
    """A host whose runner is the script, told how to behave."""

    def scripted(behaviour: str) -> Host:
        return Host(
            settings=settings,
            sessions=sessions,
            store=artifact_store(settings),
            environment={"PATH": "/usr/bin:/bin", "SCALPEL_HUB_TOKEN": "secret", "SCALPEL_DATABASE_URL": "secret"},
            shutdown=threading.Event(),
            runner_command=(sys.executable, str(SCRIPT), behaviour),
        )

    return scripted


def read_job(sessions: Sessions, job_id: str) -> Job:
    with sessions() as session:
        return repository.find(session, job_id)


def events(sessions: Sessions, job_id: str) -> list[Event]:
    with sessions() as session:
        return list(repository.events_after(session, job_id, 0))
