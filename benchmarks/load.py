"""The interface under load on a table that grows: latencies, requests a second, claims, and events to many readers.

    python -m benchmarks.load --json load.json

Protocol: `scalpel api` as one process, the client beside it on the same machine. The table is filled with jobs of 50 tenants
(half of the jobs are the measured tenant's, three events each), to each of `--sizes` in turn, and analysed. At each size every
request is sent one after the other over one connection: what it costs, latencies included those of the client. At the largest
size they are sent over 8 connections at once: what the service takes. Claims are timed without HTTP, each with its commit.
Then `--watchers` readers follow running jobs while events are written; the delay is from the beginning of the write to the
reader. Percentiles are over all requests of a case after 10 for warming up; `processor` is time of the interface's process a
request, without the database server's.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import torch
from sqlalchemy import select

from benchmarks.load_fan_out import fan_out
from benchmarks.load_rows import MODELS, RARE_MODEL, TEAMS, fill
from benchmarks.results import Row, print_table, write_json
from compression import environment
from compression.recipe import Recipe, resolve
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.claim import claim
from jobs.cursor import encode_cursor
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Job
from tests.postgresql import own_postgresql
from tests.stack import Stack

BACKENDS = ("postgresql", "sqlite")
WARM_UP = 10
CONNECTIONS = 8
SUBMISSION = {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5, "pattern": "2:4"}, "labels": {"team": "search"}}
CLAIMS = 50
FAN_OUT_JOBS = (20, 200)
EVENTS_PER_S = 40.0

Send = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def main() -> None:
    args = _arguments()
    rows: list[Row] = []
    for backend in args.backend or BACKENDS:
        with tempfile.TemporaryDirectory(prefix="scalpel-load-") as folder, _served(backend, Path(folder)) as stack:
            rows += measure(backend, stack, args)
    print_table(rows)
    if args.json:
        machine = environment.describe(torch.device("cpu"), torch.float32).model_dump()
        conditions = {"sizes": args.sizes, "requests": args.requests, "watchers": args.watchers, "connections": CONNECTIONS}
        write_json(args.json, "load", {**machine, **conditions}, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tables of 200 and 1000 jobs, few requests, 20 readers")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="default: both")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0, help="for which events are written")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.requests, args.watchers, args.seconds = [200, 1000], 20, 20, 1.0
    return args


@contextmanager
def _served(backend: str, folder: Path) -> Iterator[Stack]:
    settings = Settings(data_dir=folder / "data")
    own = {"artifact_url": (folder / "artifacts").as_uri(), "hub_endpoint": "http://127.0.0.1:1"}  # it needs no hub
    if backend == "sqlite":
        with Stack(folder / "stack", settings, folder, workers=0, maintains=False, **own) as stack:
            yield stack
        return
    with own_postgresql() as server, server.database() as url:
        named = settings.model_copy(update={"database_url": url})
        with Stack(folder / "stack", named, folder, workers=0, maintains=False, **own) as stack:
            yield stack


def measure(backend: str, stack: Stack, args: argparse.Namespace) -> list[Row]:
    """Every figure of one kind of database."""
    rows: list[Row] = []
    key = stack.settings.local_key_file.read_text().strip()
    recipe = resolve(Recipe.model_validate(SUBMISSION["recipe"]), "dense").model_dump(mode="json")
    for size in sorted(args.sizes):
        started = time.monotonic()
        fill(stack.sessions, size, recipe)
        print(f"{backend}: {size} jobs after {time.monotonic() - started:.0f} s", flush=True)
        new = asyncio.run(_requests(f"{backend} {size}", stack, key, args.requests, connections=1))
        new += _claims(f"{backend} {size}", stack.sessions)
        print_table(new)
        rows += new
    at_once = f"{backend} {size}, {CONNECTIONS} at once"
    rows += asyncio.run(_requests(at_once, stack, key, args.requests, connections=CONNECTIONS))
    for jobs in FAN_OUT_JOBS:
        rows += _fan_out(backend, stack, key, min(jobs, args.watchers), args)
    return rows


def sends(sessions: Sessions) -> dict[str, Send]:
    """Each kind of request."""

    def listing(**params: str | int) -> Send:
        return lambda web: web.get("/v1/jobs", params=params)

    with sessions() as session:
        mine = select(Job.created_at, Job.id).where(Job.tenant_id == LOCAL_TENANT_ID).order_by(Job.created_at, Job.id)
        deep, job_id = session.execute(mine.offset(60).limit(1)).one()
    return {
        "submit": lambda web: web.post("/v1/jobs", json=SUBMISSION),
        "read": lambda web: web.get(f"/v1/jobs/{job_id}"),
        "list, first page": listing(),
        "list, deep page": listing(cursor=encode_cursor([deep, job_id])),
        "list, one state": listing(state="paused"),
        "list, common model": listing(model=MODELS[0]),
        "list, rare model": listing(model=RARE_MODEL),
        "list, common label": listing(label=f"team:{TEAMS[0]}"),
        "list, rare label": listing(label="rare:yes"),
        "list, no such label": listing(label="team:nobody"),
    }


async def _requests(case: str, stack: Stack, key: str, count: int, connections: int) -> list[Row]:
    headers = {"Authorization": f"Bearer {key}"}
    api = psutil.Process(stack.kept["api"].process.pid)
    rows: list[Row] = []
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as web:
        for name, send in sends(stack.sessions).items():
            await _latencies(web, send, WARM_UP, connections)
            started, used_s = time.monotonic(), _processor_s(api)
            latencies_ms = await _latencies(web, send, count, connections)
            took_s, used_s = time.monotonic() - started, _processor_s(api) - used_s
            rows += [
                Row(case, f"{name}: p50", statistics.median(latencies_ms), "ms"),
                Row(case, f"{name}: p99", statistics.quantiles(latencies_ms, n=100)[98], "ms"),
                Row(case, f"{name}: processor", 1000 * used_s / count, "ms"),
            ]
            if connections > 1:
                rows.append(Row(case, f"{name}: rate", count / took_s, "requests/s"))
    return rows


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _latencies(web: httpx.AsyncClient, send: Send, count: int, connections: int) -> list[float]:
    """In milliseconds."""
    found: list[float] = []

    async def one_after_the_other() -> None:
        while len(found) < count:
            index = len(found)
            found.append(0.0)
            started = time.monotonic()
            answer = await send(web)
            found[index] = 1000 * (time.monotonic() - started)
            answer.raise_for_status()

    await asyncio.gather(*(one_after_the_other() for _ in range(connections)))
    return found


def _claims(case: str, sessions: Sessions) -> list[Row]:
    found: list[float] = []
    for _ in range(CLAIMS):
        started = time.monotonic()
        with sessions.begin() as session:
            if claim(session, "benchmark", 3600) is None:
                break
        found.append(1000 * (time.monotonic() - started))
    return [
        Row(case, "claim: p50", statistics.median(found), "ms"),
        Row(case, "claim: p99", statistics.quantiles(found, n=100)[98], "ms"),
    ]


def _held(sessions: Sessions, count: int) -> list[tuple[str, int]]:
    """(id, attempt) of running jobs of the measured tenant, which are claimed until there are enough."""
    mine = select(Job.id, Job.attempt).where(Job.tenant_id == LOCAL_TENANT_ID, Job.owner == "benchmark").limit(count)
    while True:
        with sessions.begin() as session:
            found = session.execute(mine).all()
            if len(found) == count or claim(session, "benchmark", 3600) is None:
                return [(row.id, row.attempt) for row in found]


def _fan_out(backend: str, stack: Stack, key: str, jobs: int, args: argparse.Namespace) -> list[Row]:
    held: Sequence[tuple[str, int]] = _held(stack.sessions, jobs)
    api = psutil.Process(stack.kept["api"].process.pid)
    used_s = _processor_s(api)
    found = asyncio.run(fan_out(stack.url, key, stack.sessions, held, args.watchers, EVENTS_PER_S, args.seconds))
    case = f"{backend}, {args.watchers} readers of {len(held)} jobs"
    return [
        Row(case, "event to reader: p50", 1000 * found.median_s, "ms"),
        Row(case, "event to reader: p99", 1000 * found.p99_s, "ms"),
        Row(case, "processor", 100 * (_processor_s(api) - used_s) / found.seconds, "% of one"),
        Row(case, "events written", found.written / args.seconds, "events/s"),
        Row(case, "deliveries", found.deliveries / found.seconds, "events/s"),
        Row(case, "events missed", found.missing, "events"),
    ]


if __name__ == "__main__":
    main()
