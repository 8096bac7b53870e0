"""The interface on a real PostgreSQL that goes away and comes back."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from jobs import database
from jobs.settings import Settings
from tests.api.conftest import NO_BROKER, NO_HUB
from tests.api.serving import Served, served
from tests.postgresql import OwnPostgresqlServer
from tests.waiting import wait_until

ASKED = {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}}


@pytest.fixture
def app(tmp_path: Path, fragile_postgresql: OwnPostgresqlServer) -> Iterator[FastAPI]:
    with fragile_postgresql.database() as url:
        settings = Settings(
            data_dir=tmp_path, database_url=url, broker_url=NO_BROKER, hub_endpoint=NO_HUB, authentication="off"
        )
        database.migrate(settings)
        yield create_app(settings)


@pytest.fixture
def service(app: FastAPI) -> Iterator[Served]:
    with served(app) as running:
        yield running


def test_requests_are_told_to_come_again_and_then_served(fragile_postgresql: OwnPostgresqlServer, service: Served) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as web:
        assert web.post("/v1/jobs", json=ASKED).status_code == 202
        fragile_postgresql.stop()
        for answer in (web.get("/v1/jobs"), web.post("/v1/jobs", json=ASKED), web.get("/readyz")):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "5"
            assert "postgres" not in answer.text.lower(), "no words of the driver's, which name hosts"
        assert web.get("/healthz").status_code == 200
        fragile_postgresql.restart("immediate")
        assert len(web.get("/v1/jobs").json()["items"]) == 1


def test_an_open_event_stream_outlives_the_database(fragile_postgresql: OwnPostgresqlServer, service: Served) -> None:
    heard: list[str] = []
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as web:
        job_id = web.post("/v1/jobs", json=ASKED).json()["id"]

        def listen() -> None:
            with web.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
                for line in stream.iter_lines():
                    if line.startswith("id:"):
                        heard.append(line)

        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: heard == ["id: 1"])
        fragile_postgresql.stop()
        assert web.get("/v1/jobs").status_code == 503
        fragile_postgresql.restart("immediate")
        assert web.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
        listener.join(30)
    assert heard == ["id: 1", "id: 2"]
