import pytest
from kombu.exceptions import OperationalError

from cli.embedded import ValkeyServer
from jobs.errors import SettingsError
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings


def test_rings_wait_in_the_broker_until_they_are_answered(settings: Settings, valkey: ValkeyServer) -> None:
    celery = make_celery(settings.model_copy(update={"broker_url": valkey.url}))
    assert rings_waiting(celery) == 0
    ring(celery)
    ring(celery)
    assert rings_waiting(celery) == 2
    celery.close()


def test_a_broker_that_is_away_is_an_error_at_once(settings: Settings, valkey: ValkeyServer) -> None:
    celery = make_celery(settings.model_copy(update={"broker_url": valkey.url}))
    valkey.stop()
    with pytest.raises(OperationalError):
        ring(celery)
    celery.close()


def test_without_a_broker_there_is_no_queue(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="SCALPEL_BROKER_URL"):
        make_celery(settings)


def test_rings_go_to_the_workers_that_can_serve_the_job(settings: Settings, valkey: ValkeyServer) -> None:
    celery = make_celery(settings.model_copy(update={"broker_url": valkey.url}))
    ring(celery, "gpu")
    assert (rings_waiting(celery, "gpu"), rings_waiting(celery, "cpu")) == (1, 0)
    ring(celery, "any")
    assert (rings_waiting(celery, "gpu"), rings_waiting(celery, "cpu"), rings_waiting(celery, "any")) == (2, 1, 1)
    celery.close()


def test_rings_that_nobody_answers_do_not_fill_the_broker(
    settings: Settings, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.queue.MAX_WAITING", 3)
    celery = make_celery(settings.model_copy(update={"broker_url": valkey.url}))
    for _ in range(5):
        ring(celery, "gpu")
    assert rings_waiting(celery, "gpu") == 3
    celery.close()
