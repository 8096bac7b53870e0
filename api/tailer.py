"""One task per process watches the events table and hands what is new to every open stream.

A stream reads the past from the table itself, in pages, and takes the present from its queue. Events are numbered, so joining
the two is a comparison of numbers. A reader that is too slow for its queue loses the queue, not events: it is sent back to the
table.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import Enum

from api.event_log import EventLog
from api.views import EventView

POLL_S = 0.25
QUEUE_EVENTS = 256
PAGE_EVENTS = 500

log = logging.getLogger(__name__)


class Signal(Enum):
    """What a queue carries beside events."""

    READ_TABLE = "read the table from where you are"
    CLOSED = "the process stops"


Queue = asyncio.Queue[EventView | Signal]


class Watch:
    """The streams of one job, and how far they were told."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.queues: set[Queue] = set()

    def tell(self, events: list[EventView]) -> None:
        for event in events:
            self.seq = event.seq
            for queue in self.queues:
                if queue.full():
                    _replace(queue, Signal.READ_TABLE)
                else:
                    queue.put_nowait(event)


class Tailer:
    """`run` is the task; `follow` is one stream."""

    def __init__(self, events: EventLog, poll_s: float = POLL_S) -> None:
        self._log = events
        self._poll_s = poll_s
        self._watches: dict[str, Watch] = {}
        self._is_watching = asyncio.Event()
        self._is_closed = False

    @property
    def watched(self) -> frozenset[str]:
        """The jobs that have streams open."""
        return frozenset(self._watches)

    @property
    def is_closed(self) -> bool:
        """Whether the process stops, so that no stream should go on."""
        return self._is_closed

    async def run(self) -> None:
        """Poll while anybody watches, until cancelled."""
        while True:
            await self._is_watching.wait()
            try:
                await self._poll()
            except Exception:  # the database may be away for a while; the streams stay open and catch up
                log.exception("cannot read new events")
            await asyncio.sleep(self._poll_s)

    def close(self) -> None:
        """End every stream, now and to come: the process stops. Clients take up where they were, elsewhere or later."""
        self._is_closed = True
        for watch in self._watches.values():
            for queue in watch.queues:
                _replace(queue, Signal.CLOSED)

    async def follow(self, job_id: str, after: int) -> AsyncIterator[EventView]:
        """The job's events from the one after `after` on, past and coming; ends with its final state.

        Raises: JobNotFound.
        """
        newest = await asyncio.to_thread(self._log.newest, job_id)
        with self._watched(job_id, newest) as queue:
            async for event in self._joined(job_id, after, queue):
                yield event
                if event.is_final:
                    return

    async def _joined(self, job_id: str, after: int, queue: Queue) -> AsyncIterator[EventView]:
        """The table's events and the queue's as one line, each once."""
        while (item := await queue.get()) is not Signal.CLOSED:
            if isinstance(item, EventView):
                if item.seq > after:
                    after = item.seq
                    yield item
                continue
            is_over = await asyncio.to_thread(self._log.is_over, job_id)  # asked first: then the pages hold the end
            while page := await asyncio.to_thread(self._log.after, job_id, after, PAGE_EVENTS):
                for event in page:
                    after = event.seq
                    yield event
            if is_over:
                return

    async def _poll(self) -> None:
        """One look at every watched job; most have nothing new, which one query tells of all of them."""
        seqs = {job_id: watch.seq for job_id, watch in self._watches.items()}
        for job_id in await asyncio.to_thread(self._log.with_news, seqs):
            if (watch := self._watches.get(job_id)) is not None:  # else the last reader has left meanwhile
                watch.tell(await asyncio.to_thread(self._log.after, job_id, watch.seq, PAGE_EVENTS))

    @contextmanager
    def _watched(self, job_id: str, newest: int) -> Iterator[Queue]:
        """A queue that gets every event after `newest`, and first of all the order to read what came before."""
        queue: Queue = asyncio.Queue(QUEUE_EVENTS)
        queue.put_nowait(Signal.CLOSED if self._is_closed else Signal.READ_TABLE)
        watch = self._watches.setdefault(job_id, Watch(newest))
        watch.queues.add(queue)
        self._is_watching.set()
        try:
            yield queue
        finally:
            watch.queues.discard(queue)
            if not watch.queues:
                del self._watches[job_id]
            if not self._watches:
                self._is_watching.clear()


def _replace(queue: Queue, signal: Signal) -> None:
    """Empty the queue but for `signal`."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(signal)
