"""Real servers under everything: a database on PostgreSQL for each test, and one whole service for the slow ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests import tiny_models
from tests.postgresql import PostgresqlServer
from tests.s3 import S3Server
from tests.stack import Stack
from tests.worker.conftest import engine, model, scripted, sessions, submit

__all__ = ["engine", "model", "scripted", "sessions", "submit"]


@pytest.fixture
def settings(tmp_path: Path, model: Path, postgresql: PostgresqlServer, migrated_postgresql: str) -> Iterator[Settings]:
    with postgresql.database(migrated_postgresql) as url:
        yield Settings(
            data_dir=tmp_path / "data",
            database_url=url,
            model_roots=(model.parent,),
            device="cpu",
            lease_s=2.0,
            heartbeat_s=0.1,
            grace_s=0.5,
            retry_delay_s=0.0,
        )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a text."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.save(folder / "model", "llama-deep")
    (folder / "text.txt").write_text(tiny_models.text(20_000))
    return folder


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: PostgresqlServer,
    migrated_postgresql: str,
    s3: S3Server,
    models: Path,
) -> Iterator[Stack]:
    """Interface, housekeeper and two workers, as processes, on PostgreSQL, S3 and Valkey."""
    with postgresql.database(migrated_postgresql) as url:
        settings = s3.settings(Settings(database_url=url))
        with Stack(tmp_path_factory.mktemp("stack") / "service", settings, models, workers=2) as made:
            yield made
