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
