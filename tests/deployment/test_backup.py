"""Backup and restore as docs/operations.md describes them, with PostgreSQL's own tools."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text

from jobs import database, repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.tables import Artifact, Job
from tests.api.standin import Worker
from tests.deployment.composition import ROOT
from tests.postgresql import OwnPostgresqlServer

PAGE = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture
def settings(fragile_postgresql: OwnPostgresqlServer, tmp_path: Path) -> Iterator[Settings]:
    with fragile_postgresql.database() as url:
        settings = Settings(data_dir=tmp_path / "data", database_url=url)
        database.migrate(settings)
        yield settings


@pytest.fixture
def sessions(settings: Settings) -> Iterator[Sessions]:
    engine = database.engine(settings)
    yield database.sessions(engine)
    engine.dispose()


def finished_job(settings: Settings, sessions: Sessions, folder: Path, content: bytes) -> str:
    request = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}})
    with sessions.begin() as session:
        repository.submit(session, LOCAL_TENANT_ID, request, check_request(request), max_attempts=3)
    worker = Worker(settings, sessions, folder)
    job_id = worker.claim()
    worker.succeed(job_id, {"model.safetensors": content, "report.json": b"{}"})
    return job_id


def name_of(settings: Settings) -> str:
    return str(make_url(settings.database_url).database)


def test_what_was_saved_is_there_again(
    fragile_postgresql: OwnPostgresqlServer, settings: Settings, sessions: Sessions, tmp_path: Path
) -> None:
    """A job that ends between the two copies leaves files in the store that no row names, and that is all."""
    saved = finished_job(settings, sessions, tmp_path, b"first")
    fragile_postgresql.tool("pg_dump", "--format", "custom", "--file", str(tmp_path / "dump"), name_of(settings))
    later = finished_job(settings, sessions, tmp_path, b"second")
    shutil.copytree(tmp_path / "data" / "artifacts", tmp_path / "restored" / "artifacts")
    with fragile_postgresql.database() as url:
        restored = Settings(data_dir=tmp_path / "restored", database_url=url)
        tool = ("--clean", "--if-exists", "--no-owner", "--dbname", name_of(restored), str(tmp_path / "dump"))
        fragile_postgresql.tool("pg_restore", *tool)
        database.migrate(restored)
        assert database.revision(restored) == database.revision(settings)
        engine = database.engine(restored)
        store = artifact_store(restored)
        with database.sessions(engine)() as session:
            assert session.scalars(select(Job.id)).all() == [saved]
            files = {file.name: b"".join(store.stream(file.sha256)) for file in session.scalars(select(Artifact))}
        engine.dispose()
    assert later != saved
    assert files == {"model.safetensors": b"first", "report.json": b"{}"}


def test_queries_of_the_page_can_be_asked(sessions: Sessions, settings: Settings, tmp_path: Path) -> None:
    finished_job(settings, sessions, tmp_path, b"done")
    request = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}})
    with sessions.begin() as session:
        repository.submit(session, LOCAL_TENANT_ID, request, check_request(request), max_attempts=3)
    blocks = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    statements = [statement for block in blocks for statement in block.split(";") if statement.strip()]
    assert len(statements) == 2
    with sessions() as session:
        ((waiting, oldest_s),) = session.execute(text(statements[0])).all()
        owners = session.execute(text(statements[1])).all()
    assert (waiting, owners) == (1, [])
    assert 0 <= oldest_s < 60
