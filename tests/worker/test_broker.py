"""What Celery does with our messages, on a real Valkey with a password: a message is a doorbell, and nothing hangs on it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs.database import Sessions
from jobs.needs import CPU_QUEUE
from jobs.queue import WAKE, make_celery, ring
from jobs.settings import Settings
from jobs.states import State
from tests.broker import PASSWORD, Broker, running
from tests.waiting import wait_until
from tests.worker.conftest import Submit, read_job
from tests.worker.test_app import locked, ring_for, runner_of, waiting, worker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def served(settings: Settings, broker: Broker) -> Settings:
    return settings.model_copy(update={"broker_url": broker.url})


def messages(broker: Broker) -> list[dict[str, object]]:
    with broker.client() as client:
        return [json.loads(raw) for raw in client.lrange(CPU_QUEUE, 0, -1)]


def test_a_message_is_json_and_carries_nothing(served: Settings, broker: Broker) -> None:
    celery = make_celery(served)
    ring(celery)
    celery.close()
    (message,) = messages(broker)
    assert message["content-type"] == "application/json"
    headers = message["headers"]
    assert isinstance(headers, dict)
    assert (headers["task"], headers["argsrepr"], headers["kwargsrepr"]) == (WAKE, "()", "{}")


def test_messages_outlive_a_crash_of_the_broker(served: Settings, broker: Broker) -> None:
    ring_for(served)
    broker.client().execute_command("WAITAOF", 1, 0, 5000)  # type: ignore[no-untyped-call]  # on disk: else a crash may cost a second's
    broker.kill()
    broker.start()
    assert waiting(served) == 1


def test_a_message_is_gone_once_it_was_heard_and_its_worker_s_death_brings_none_back(
    served: Settings, broker: Broker, submit: Submit, tmp_path: Path
) -> None:
    job_id = submit()
    with locked(served, job_id), worker(served, tmp_path / "log") as process:
        ring_for(served)
        runner_of(process)
        with broker.client() as client:
            assert client.hlen("unacked") == 0, "acknowledged before the work"
        process.kill()
        process.wait()
    assert waiting(served) == 0


def test_a_worker_outlives_its_broker(
    served: Settings, broker: Broker, sessions: Sessions, submit: Submit, tmp_path: Path
) -> None:
    """The broker crashes while a job runs and comes back empty; the job goes on, and the worker hears the next ring."""
    job_id = submit()
    with worker(served, tmp_path / "log") as process:
        with locked(served, job_id):
            ring_for(served)
            runner = runner_of(process)
            broker.kill()
            (tmp_path / "appendonlydir").rename(tmp_path / "lost")
            broker.start()
            assert runner.is_running()
        wait_until(lambda: read_job(sessions, job_id).state is not State.RUNNING, timeout_s=60)
        second = submit()
        ring_for(served)
        wait_until(lambda: read_job(sessions, second).attempt == 1, timeout_s=60)


def test_a_wrong_password_opens_nothing(served: Settings) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url((served.broker_url or "").replace(PASSWORD, "guessed")).ping()
