import io
import json
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from jobs.settings import Settings
from jobs.watching.log_context import bound
from jobs.watching.logs import configure_logging

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Sets logging up, and puts it back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def configure(**settings: str) -> io.StringIO:
        root.handlers = []  # those of the test runner are not ours to close
        stream = io.StringIO()
        configure_logging(Settings.model_validate(settings), stream=stream)
        return stream

    yield configure
    root.handlers, root.level = before, level
    logging.captureWarnings(False)


def test_each_line_is_an_object_with_the_job_that_it_belongs_to(configured: Configure) -> None:
    stream = configured(log_format="json")
    with bound(job="01J", attempt=2), bound(tenant="A"):
        logging.getLogger("worker").info("block %d is done", 3)
    logging.getLogger("worker").warning("nothing is bound")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {name: first[name] for name in ("level", "logger", "message", "job", "attempt", "tenant")} == {
        "level": "info", "logger": "worker", "message": "block 3 is done", "job": "01J", "attempt": 2, "tenant": "A",
    }  # fmt: skip
    assert first["time"].endswith("+00:00")
    assert "job" not in second


def test_threads_do_not_mix_their_jobs(configured: Configure) -> None:
    stream, both = configured(log_format="json"), threading.Barrier(2)

    def work(job: str) -> None:
        with bound(job=job):
            both.wait(10)
            logging.getLogger("worker").info("of %s", job)

    threads = [threading.Thread(target=work, args=(job,)) for job in ("A", "B")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted((line["job"], line["message"]) for line in lines) == [("A", "of A"), ("B", "of B")]


def test_exception_is_part_of_its_line(configured: Configure) -> None:
    stream = configured(log_format="json")
    try:
        raise ValueError("seen")
    except ValueError:
        logging.getLogger("worker").exception("broke")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert "ValueError: seen" in line["exception"]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "secret",
    [
        "postgresql://scalpel:hunter2hunter2@db/scalpel",
        "redis://:hunter2hunter2@valkey:6379/0",
        "redis+socket://:hunter2hunter2@/tmp/valkey.sock",
        "Authorization: Bearer hunter2hunter2",
        "scalpel_hunter2hunter2hunter2hunter2",
        "hf_hunter2hunter2hunter2hunter2",
        "password=hunter2hunter2",
        '"api_key": "hunter2hunter2"',
    ],
)
def test_no_secret_reaches_a_line(configured: Configure, log_format: str, secret: str) -> None:
    stream = configured(log_format=log_format)
    try:
        raise ConnectionError(f"cannot reach {secret}")
    except ConnectionError as error:
        logging.getLogger("jobs").warning("failed: %s", error, exc_info=True)
    assert "hunter2" not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()


def test_level_is_the_settings_own(configured: Configure) -> None:
    stream = configured(log_level="error")
    logging.getLogger("jobs").warning("not worth it")
    assert stream.getvalue() == ""
