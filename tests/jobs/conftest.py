"""A real database for every test, migrated: SQLite always, PostgreSQL where SCALPEL_TEST_POSTGRESQL_URL names a server."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from ulid import ULID

from cli.embedded import ValkeyServer
from jobs import database, repository
from jobs.database import Sessions
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.tables import Job

POSTGRESQL = "SCALPEL_TEST_POSTGRESQL_URL"

Submit = Callable[..., Job]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRESQL in os.environ else ["sqlite"])
def database_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings that name an empty database, on each kind of server that is at hand."""
    if request.param == "sqlite":
        yield settings
        return
    with _fresh_database(Settings(database_url=os.environ[POSTGRESQL]).database_url) as url:
        yield settings.model_copy(update={"database_url": url})


@pytest.fixture
def sessions(database_settings: Settings) -> Iterator[Sessions]:
    database.migrate(database_settings)
    engine = database.engine(database_settings)
    yield database.sessions(engine)
    engine.dispose()


@pytest.fixture
def submit(sessions: Sessions) -> Submit:
    """Submits a job, its request's fields as keywords."""

    def submit(max_attempts: int = 3, **fields: object) -> Job:
        request = JobRequest.model_validate({"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}, **fields})
        with sessions.begin() as session:
            return repository.submit(session, request, check_request(request), max_attempts)

    return submit


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey.log") as server:
        yield server


@contextmanager
def _fresh_database(server: str) -> Iterator[str]:
    name = f"scalpel_test_{ULID()}".lower()
    administrator = create_engine(server, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    administrator.dispose()
