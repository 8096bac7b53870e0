"""The tailer alone, where a test must know when it reads."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.exc import OperationalError

from api.event_log import EventLog
from api.tailer import QUEUE_EVENTS, Tailer
from api.views import EventView
from jobs.database import Sessions
from jobs.errors import JobNotFound
from tests.api.conftest import Submit
from tests.api.standin import Worker

TIMEOUT_S = 20


class FailingLog(EventLog):
    """A table that cannot be read for the next few times."""

    failures_left = 0

    def after(self, job_id: str, seq: int, limit: int) -> list[EventView]:
        if self.failures_left:
            self.failures_left -= 1
            raise OperationalError("SELECT", {}, Exception("the database is away"))
        return super().after(job_id, seq, limit)


class CountingLog(EventLog):
    """Counts the looks for news, and the pages that are read."""

    looks = 0
    pages = 0

    def with_news(self, seqs: Mapping[str, int]) -> list[str]:
        self.looks += 1
        return super().with_news(seqs)

    def after(self, job_id: str, seq: int, limit: int) -> list[EventView]:
        self.pages += 1
        return super().after(job_id, seq, limit)


@asynccontextmanager
async def tailing(log: EventLog) -> AsyncIterator[Tailer]:
    tailer = Tailer(log, poll_s=0.01)
    task = asyncio.create_task(tailer.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield tailer
    finally:
        task.cancel()


def test_reader_slower_than_its_queue_still_gets_every_event_once(sessions: Sessions, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.claim()
    burst = 2 * QUEUE_EVENTS

    async def scenario() -> list[int]:
        async with tailing(EventLog(sessions)) as tailer:
            stream = tailer.follow(job_id, 0)
            seen = [(await anext(stream)).seq]
            for number in range(burst):
                await asyncio.to_thread(worker.note, job_id, str(number))
            await asyncio.to_thread(worker.succeed, job_id, {})
            return seen + [event.seq async for event in stream]

    assert asyncio.run(scenario()) == list(range(1, 2 + burst + 1 + 1))


def test_streams_outlive_a_database_that_is_away_for_a_while(
    sessions: Sessions, submit: Submit, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit()
    log = FailingLog(sessions)

    async def scenario() -> list[int]:
        async with tailing(log) as tailer:
            stream = tailer.follow(job_id, 0)
            seen = [(await anext(stream)).seq]
            coming = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.1)  # the reader has read the past and waits; from here on it is the poll that fails
            log.failures_left = 3
            await asyncio.to_thread(worker.claim)
            await asyncio.to_thread(worker.succeed, job_id, {})
            return [*seen, (await coming).seq, *[event.seq async for event in stream]]

    assert asyncio.run(scenario()) == [1, 2, 3]
    assert "cannot read new events" in caplog.text


def test_unknown_job_cannot_be_followed(sessions: Sessions) -> None:
    async def scenario() -> None:
        async with tailing(EventLog(sessions)) as tailer:
            await anext(tailer.follow("nobody", 0))

    with pytest.raises(JobNotFound):
        asyncio.run(scenario())


def test_closed_tailer_ends_streams_old_and_new(sessions: Sessions, submit: Submit) -> None:
    job_id = submit()

    async def scenario() -> tuple[list[int], list[int]]:
        async with tailing(EventLog(sessions)) as tailer:
            old = tailer.follow(job_id, 0)
            await anext(old)
            tailer.close()
            return [event.seq async for event in old], [event.seq async for event in tailer.follow(job_id, 0)]

    assert asyncio.run(scenario()) == ([], [])


def test_jobs_without_news_cost_one_look_for_all_of_them(sessions: Sessions, submit: Submit, worker: Worker) -> None:
    ids = [submit() for _ in range(5)]
    log = CountingLog(sessions)

    async def scenario() -> list[int]:
        async with tailing(log) as tailer:
            streams = [tailer.follow(job_id, 0) for job_id in ids]
            for stream in streams:
                await anext(stream)
            waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]  # each has read the past and waits
            while log.pages < 2 * len(ids):
                await asyncio.sleep(0.01)
            looks, pages = log.looks, log.pages
            while log.looks < looks + 10:
                await asyncio.sleep(0.01)
            quiet = log.pages - pages
            claimed = await asyncio.to_thread(worker.claim)
            event = await waiting[ids.index(claimed)]
            for task in waiting:
                task.cancel()
            return [quiet, log.pages - pages, event.seq]

    assert asyncio.run(scenario()) == [0, 1, 2]
