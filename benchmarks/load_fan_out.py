"""Many readers of events at once, for benchmarks/load.py: how late each event reaches each of them, and whether all do."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from httpx_sse import aconnect_sse

from jobs import attempts
from jobs.database import Sessions

CONNECT_TIMEOUT_S = 60.0
LAST = "the last one"


@dataclass(frozen=True)
class FanOut:
    """Delays from the write's begin to the reader, in seconds. Attributes: missing: events that a reader was not given."""

    delays_s: Sequence[float]
    deliveries: int
    missing: int
    seconds: float
    written: int

    @property
    def median_s(self) -> float:
        return statistics.median(self.delays_s)

    @property
    def p99_s(self) -> float:
        return statistics.quantiles(self.delays_s, n=100)[98]


async def fan_out(
    url: str, key: str, sessions: Sessions, held: Sequence[tuple[str, int]], watchers: int, rate: float, seconds: float
) -> FanOut:
    """Write events to the jobs in turn while `watchers` streams are open, spread evenly over the jobs.

    Args: held: (id, attempt) of running jobs. rate: events a second, of all jobs together.
    """
    last = {job_id: await asyncio.to_thread(_write, sessions, job_id, attempt, "0") for job_id, attempt in held}
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=CONNECT_TIMEOUT_S, limits=limits, trust_env=False
    ) as web:
        opened = [asyncio.Event() for _ in range(watchers)]
        jobs = [held[number % len(held)][0] for number in range(watchers)]
        reading = [
            asyncio.create_task(_read(web, job_id, last[job_id], is_open))
            for job_id, is_open in zip(jobs, opened, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in opened))
        await asyncio.sleep(1.0)  # until each stream has read the past and waits
        started = time.monotonic()
        written = await _write_all(sessions, held, rate, seconds)
        for job_id, attempt in held:
            await asyncio.to_thread(_write, sessions, job_id, attempt, LAST)
        delays = await asyncio.gather(*reading)
        took = time.monotonic() - started
    expected = sum(written[job_id] for job_id in jobs)
    deliveries = sum(map(len, delays))
    flat = [delay for each in delays for delay in each]
    return FanOut(flat, deliveries, expected - deliveries, took, sum(written.values()))


async def _write_all(sessions: Sessions, held: Sequence[tuple[str, int]], rate: float, seconds: float) -> dict[str, int]:
    """Returns: job -> events written."""
    written, started, number = dict.fromkeys((job_id for job_id, _ in held), 0), time.monotonic(), 0
    while (now := time.monotonic()) < started + seconds:
        await asyncio.sleep(max(0.0, started + number / rate - now))
        job_id, attempt = held[number % len(held)]
        await asyncio.to_thread(_write, sessions, job_id, attempt, repr(time.monotonic()))
        written[job_id] += 1
        number += 1
    return written


def _write(sessions: Sessions, job_id: str, attempt: int, message: str) -> int:
    """Returns: the event's number."""
    with sessions.begin() as session:
        return attempts.record(session, job_id, attempt, "note", {"level": "info", "message": message}).last_seq


async def _read(web: httpx.AsyncClient, job_id: str, after: int, is_open: asyncio.Event) -> list[float]:
    delays: list[float] = []
    async with aconnect_sse(web, "GET", f"/v1/jobs/{job_id}/events", params={"after": after}) as source:
        source.response.raise_for_status()
        is_open.set()
        async for event in source.aiter_sse():
            message = event.json()["data"]["message"]
            if message == LAST:
                break
            delays.append(time.monotonic() - float(message))
    return delays
