"""What Prometheus reads: read back with its own parser."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from jobs.database import Sessions
from jobs.housekeeping.tallies import tally
from jobs.settings import Settings
from tests.api.conftest import Submit
from tests.api.standin import Worker
from tests.api.test_auth import key_of, with_key

Scrape = Callable[..., float]


@pytest.fixture
def scrape(web: TestClient) -> Scrape:
    """The value of one sample."""

    def scrape(name: str, **labels: str) -> float:
        answer = web.get("/metrics")
        assert answer.status_code == 200
        samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        (found,) = [sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)]
        return found

    return scrape


def test_jobs_are_counted_by_state(scrape: Scrape, submit: Submit, worker: Worker) -> None:
    submit()
    submit()
    worker.claim()
    assert scrape("scalpel_jobs", state="queued") == 1
    assert scrape("scalpel_jobs", state="running") == 1
    assert scrape("scalpel_jobs", state="failed") == 0
    assert 0 < scrape("scalpel_queue_oldest_age_seconds", need="any") < 60
    assert scrape("scalpel_queue_oldest_age_seconds", need="gpu") == 0


def test_ended_jobs_are_counted_once_and_stages_timed(
    scrape: Scrape, submit: Submit, worker: Worker, sessions: Sessions
) -> None:
    for end in (worker.fail, lambda job_id: worker.succeed(job_id, {"report.json": b"{}"})):
        submit()
        job_id = worker.claim()
        worker.record(job_id, "stage", stage="fetching")
        worker.record(job_id, "stage", stage="compressing")
        end(job_id)
    for _ in range(2):
        with sessions.begin() as session:
            tally(session)
    assert scrape("scalpel_jobs_finished_total", outcome="succeeded") == 1
    assert scrape("scalpel_jobs_finished_total", outcome="failed") == 1
    assert scrape("scalpel_jobs_finished_total", outcome="cancelled") == 0
    assert scrape("scalpel_stage_seconds_count", stage="compressing") == 2
    assert scrape("scalpel_stage_seconds_bucket", stage="fetching", le="60.0") == 2
    assert 0 < scrape("scalpel_stage_seconds_sum", stage="fetching") < 60


def test_requests_are_counted_by_route_and_not_by_path(web: TestClient, scrape: Scrape, submit: Submit) -> None:
    for job_id in (submit(), submit()):
        web.get(f"/v1/jobs/{job_id}")
    for path in ("/v1/jobs/unknown", "/nothing/here", "/nor/here"):
        web.get(path)
    assert scrape("scalpel_http_requests_total", method="GET", route="/v1/jobs/{job_id}", status="200") == 2
    assert scrape("scalpel_http_requests_total", method="GET", route="/v1/jobs/{job_id}", status="404") == 1
    assert scrape("scalpel_http_requests_total", method="GET", route="unmatched", status="404") == 2
    assert scrape("scalpel_http_request_seconds_count", method="POST", route="/v1/jobs") == 2


def test_figures_are_for_administrators(app: FastAPI, web: TestClient, sessions: Sessions) -> None:
    assert TestClient(app, base_url="http://127.0.0.1:8321").get("/metrics").status_code == 401
    assert with_key(app, key_of(sessions, "READER", "read", "write")).get("/metrics").status_code == 403


@pytest.fixture
def opened(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update={"metrics": "open"})), base_url="http://127.0.0.1") as web:
        yield web


def test_operator_may_open_them(opened: TestClient) -> None:
    assert "scalpel_workers" in opened.get("/metrics").text
