"""The same client in an event loop."""

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI

from client import ApiError, AsyncJob, AsyncScalpel, Job, Scalpel, ServiceUnreachable, download
from client.problems import JobNotFound
from tests.api.serving import Served, served
from tests.api.standin import Worker
from tests.client.cutting_proxy import cutting

MODEL = "demo:smollm2-135m"
FILES = {f"part-{number}": bytes([number]) * 200_000 for number in range(6)}


def test_job_goes_from_its_submission_to_its_files(service: Served, api_key: str, worker: Worker, tmp_path: Path) -> None:
    async def go() -> AsyncJob:
        async with AsyncScalpel(service.url, api_key=api_key) as scalpel:
            job = await scalpel.submit(MODEL, {"bits": 4}, labels={"team": "search"})
            assert [found.id async for found in scalpel.jobs(page_size=1)] == [job.id]
            async for event in job.events():
                if event.seq == 1:
                    await asyncio.to_thread(lambda: worker.succeed(worker.claim(), FILES))
            paths = await job.download(tmp_path / "out")
            assert {path.name: path.read_bytes() for path in paths} == FILES
            return await job.wait()

    assert asyncio.run(go()).state == "succeeded"


def test_errors_are_those_of_the_other_client(service: Served, api_key: str) -> None:
    async def go() -> None:
        async with AsyncScalpel(service.url, api_key=api_key) as scalpel:
            with pytest.raises(JobNotFound):
                await scalpel.job("nobody")
            with pytest.raises(ApiError, match=r"recipe\.sparsity"):
                await scalpel.submit(MODEL, {"sparsity": 2})
        async with AsyncScalpel("http://127.0.0.1:1", retries=0) as nowhere:
            with pytest.raises(ServiceUnreachable):
                await nowhere.methods()

    asyncio.run(go())


def test_downloads_and_uploads_go_on_over_connections_that_break(
    service: Served, api_key: str, scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RECONNECT_DELAYS_S", (0.01,) * 3)
    worker.succeed(worker.claim(), FILES)
    text = tmp_path / "text.txt"
    text.write_text("words " * 100_000)

    async def go(url: str) -> None:
        async with AsyncScalpel(url, api_key=api_key) as through:
            received: list[int] = []
            await through.download(job.id, tmp_path / "out", on_bytes=received.append)
            assert sum(received) == sum(map(len, FILES.values()))
            dataset = await through.upload_dataset(text)
            assert (dataset.size_bytes, dataset.name) == (600_000, "text.txt")
            assert [found.id async for found in through.datasets()] == [dataset.id]

    with cutting(service.port, 90_000, of_answers=True) as (url, cuts):
        asyncio.run(go(url))
    assert len(cuts) > 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == FILES


def test_events_go_on_after_the_server_was_restarted(app: FastAPI, api_key: str, worker: Worker) -> None:
    async def go() -> list[int]:
        first = served(app)
        running = first.__enter__()
        async with AsyncScalpel(running.url, api_key=api_key) as scalpel:
            events = (await scalpel.submit(MODEL, {"bits": 4})).events()
            numbers = [(await anext(events)).seq]
            await asyncio.to_thread(first.__exit__, None, None, None)
            worker.note(worker.claim(), "written while the server was away")
            with served(app, port=running.port):
                numbers += [(await anext(events)).seq for _ in range(2)]
                await events.aclose()
        return numbers

    assert asyncio.run(go()) == [1, 2, 3]


def test_stream_that_is_left_is_let_go(service: Served, api_key: str) -> None:
    async def go() -> int:
        async with AsyncScalpel(service.url, api_key=api_key) as scalpel:
            job = await scalpel.submit(MODEL, {"bits": 4})
            events = job.events()
            await anext(events)
            await events.aclose()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await job.wait()
            assert isinstance(await scalpel.webhooks.list(), tuple)
            pool = scalpel._http._transport._pool  # type: ignore[attr-defined]
            return sum(not connection.is_idle() for connection in pool.connections)

    assert asyncio.run(go()) == 0


def test_model_is_brought(service: Served, api_key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    async def go() -> None:
        async with AsyncScalpel(service.url, api_key=api_key) as scalpel:
            upload = scalpel.upload_model(tmp_path)
            with pytest.raises(ApiError, match="weights"):
                await upload

    asyncio.run(go())
