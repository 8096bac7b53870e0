"""The real application on a migrated SQLite database, and a stand-in for the worker that writes through the repository."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from jobs import database
from jobs.access.keys import local_key
from jobs.access.secrets import new_master_key
from jobs.database import Sessions
from jobs.settings import Settings
from tests.api.documented import Documented
from tests.api.standin import Worker

NO_BROKER = "redis://127.0.0.1:1/0"  # nothing listens on port 1; the API writes rows and needs no broker for that

UNLIMITED = {"reads_per_minute": 0, "writes_per_minute": 0, "failed_keys_per_minute": 0}
NO_HUB = "http://127.0.0.1:1"  # so that no test asks the real one

Submit = Callable[..., str]


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """A test may give more of them, as an indirect parameter."""
    given = {"secret_keys": (SecretStr(new_master_key()),), **UNLIMITED} | getattr(request, "param", {})
    made = Settings(data_dir=tmp_path / "data", broker_url=NO_BROKER, hub_endpoint=NO_HUB, **given)
    database.migrate(made)
    return made


@pytest.fixture
def sessions(settings: Settings) -> Iterator[Sessions]:
    engine = database.engine(settings)
    yield database.sessions(engine)
    engine.dispose()


@pytest.fixture
def api_key(settings: Settings, sessions: Sessions) -> str:
    """The key of this machine's own user, as `scalpel serve` makes it."""
    with sessions.begin() as session:
        return local_key(session, settings.local_key_file)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def web(app: FastAPI, api_key: str) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {api_key}"}
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=headers, raise_server_exceptions=False) as client:
        client.event_hooks = {"response": [Documented(app).check]}
        yield client


@pytest.fixture
def worker(settings: Settings, sessions: Sessions, tmp_path: Path) -> Worker:
    return Worker(settings, sessions, tmp_path)


@pytest.fixture
def submit(web: TestClient) -> Submit:
    """Submits a job over HTTP, its request's fields as keywords; gives its id."""

    def submit(**fields: object) -> str:
        answer = web.post("/v1/jobs", json={"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    return submit
