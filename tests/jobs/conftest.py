"""A real database for every test: each test that asks for one runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded import ValkeyServer
from jobs import database, repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.tables import Job
from tests.postgresql import PostgresqlServer

KINDS = ["sqlite", "postgresql"]

Submit = Callable[..., Job]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings that name a database without tables, on each kind of server."""
    if request.param == "sqlite":
        yield settings
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield settings.model_copy(update={"database_url": url})


@pytest.fixture(params=KINDS)
def database_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings that name a migrated, empty database, on each kind of server."""
    template = request.getfixturevalue(f"migrated_{request.param}")
    if request.param == "sqlite":
        settings.data_dir.mkdir(parents=True)
        shutil.copy(template, settings.data_dir / "scalpel.db")
        yield settings
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with server.database(template) as url:
        yield settings.model_copy(update={"database_url": url})


@pytest.fixture
def sessions(database_settings: Settings) -> Iterator[Sessions]:
    engine = database.engine(database_settings)
    yield database.sessions(engine)
    engine.dispose()


@pytest.fixture
def submit(sessions: Sessions) -> Submit:
    """Submits a job, its request's fields as keywords."""

    def submit(max_attempts: int = 3, **fields: object) -> Job:
        request = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}, **fields})
        with sessions.begin() as session:
            return repository.submit(session, LOCAL_TENANT_ID, request, check_request(request), max_attempts=max_attempts)

    return submit


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey.log") as server:
        yield server
