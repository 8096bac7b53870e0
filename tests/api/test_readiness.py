"""What /readyz tells beyond up and down."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import create_app
from cli.embedded import ValkeyServer
from jobs.database import Sessions
from jobs.housekeeping.beats import beat
from jobs.settings import Settings
from tests.jobs.conftest import valkey  # noqa: F401  a fixture


@pytest.fixture
def ready(settings: Settings, valkey: ValkeyServer) -> Iterator[TestClient]:  # noqa: F811
    app = create_app(settings.model_copy(update={"broker_url": valkey.url}))
    with TestClient(app, base_url="http://127.0.0.1") as web:
        yield web


def test_database_of_another_version_is_not_ready(ready: TestClient, sessions: Sessions) -> None:
    assert ready.get("/readyz").status_code == 200
    with sessions.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = ready.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "down: schema")


def test_housekeeping_is_told_but_not_needed(ready: TestClient, sessions: Sessions) -> None:
    assert ready.get("/readyz").json()["maintain_age_s"] is None
    with sessions.begin() as session:
        beat(session)
    assert 0 <= ready.get("/readyz").json()["maintain_age_s"] < 60
