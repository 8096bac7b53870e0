from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.rate_limiter import RateLimiter, rate_limiter
from cli.embedded import ValkeyServer
from jobs.database import Sessions
from jobs.settings import Settings
from tests.api.documented import Documented
from tests.api.test_auth import key_of, with_key
from tests.jobs.conftest import valkey  # noqa: F401  a fixture

LIMITED = {"reads_per_minute": 3, "writes_per_minute": 2, "failed_keys_per_minute": 2}


@contextmanager
def limited(settings: Settings, api_key: str, **limits: int) -> Iterator[tuple[FastAPI, TestClient]]:
    app = create_app(settings.model_copy(update={**LIMITED, **limits}))
    headers = {"Authorization": f"Bearer {api_key}"}
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=headers) as web:
        web.event_hooks = {"response": [Documented(app).check]}
        yield app, web


def test_who_asks_too_often_is_told_when_to_go_on(settings: Settings, api_key: str) -> None:
    with limited(settings, api_key) as (_, web):
        answers = [web.get("/v1/jobs") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"reads";q=3;w=60'
        assert answers[0].headers["ratelimit"].startswith('"reads";r=2;t=')
        assert answers[3].json()["type"] == "rate-limited"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert answers[3].headers["ratelimit"].startswith('"reads";r=0;t=')


def test_reads_and_writes_are_counted_apart(settings: Settings, api_key: str) -> None:
    with limited(settings, api_key) as (_, web):
        assert [web.post("/v1/jobs/x/cancel").status_code for _ in range(3)] == [404, 404, 429]
        assert web.get("/v1/jobs").status_code == 200


def test_each_key_has_its_own_count(settings: Settings, api_key: str, sessions: Sessions) -> None:
    with limited(settings, api_key) as (app, web):
        other = with_key(app, key_of(sessions, "0" * 26, "read"))
        while web.get("/v1/jobs").status_code == 200:
            pass
        assert other.get("/v1/jobs").status_code == 200


def test_an_address_without_good_keys_is_stopped_early_but_good_keys_of_it_are_not(settings: Settings, api_key: str) -> None:
    with limited(settings, api_key) as (app, web):
        guesser = with_key(app, "scalpel_guess")
        assert [guesser.get("/v1/jobs").status_code for _ in range(4)] == [401, 401, 429, 429]
        assert web.get("/v1/jobs").status_code == 200


def test_zero_is_no_limit_and_probes_are_never_limited(settings: Settings, api_key: str) -> None:
    with limited(settings, api_key, reads_per_minute=0) as (_, web):
        answers = [web.get("/v1/jobs") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
        assert {web.get("/healthz").status_code for _ in range(5)} == {200}


def test_all_processes_count_together_in_the_broker(settings: Settings, valkey: ValkeyServer) -> None:  # noqa: F811
    told = settings.model_copy(update={**LIMITED, "broker_url": valkey.url})
    first, second = rate_limiter(told), rate_limiter(told)
    assert [first.spend("reads", "me").remaining, second.spend("reads", "me").remaining] == [2, 1]


def test_without_the_broker_each_process_counts_for_itself(
    settings: Settings,
    valkey: ValkeyServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter: RateLimiter = rate_limiter(settings.model_copy(update={**LIMITED, "broker_url": valkey.url}))
    limiter.spend("writes", "me")
    valkey.stop()
    spent = [limiter.spend("writes", "me") for _ in range(3)]
    assert [allowance.is_exceeded for allowance in spent] == [False, False, True]
    assert len([line for line in caplog.messages if "counts its own" in line]) == 1, "not with every request"
