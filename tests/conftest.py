"""Real servers for every test that asks: started once a session, and only then."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import database
from jobs.settings import Settings
from tests.postgresql import POSTGRESQL, OwnPostgresqlServer, PostgresqlServer, own_postgresql
from tests.s3 import S3Server, s3_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: processes take a file at a time, and one begun last would be waited for."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    if given := os.environ.get(POSTGRESQL):
        with PostgresqlServer(given) as server:
            yield server
        return
    with own_postgresql() as own:
        yield own


@pytest.fixture(scope="session")
def fragile_postgresql() -> Iterator[OwnPostgresqlServer]:
    """A server of our own that tests may stop and crash; they leave it running."""
    with own_postgresql() as own:
        yield own


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: PostgresqlServer) -> Iterator[str]:
    """The name of a migrated database that others are copied from: a copy takes 30 ms, a migration many times that."""
    with postgresql.database() as url:
        database.migrate(Settings(database_url=url))
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file to copy."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("template"))
    database.migrate(settings)
    return settings.data_dir / "scalpel.db"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server
