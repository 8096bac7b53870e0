"""A table of jobs as a busy service has it after a while, for benchmarks/load.py; inserted in bulk, the same every time."""

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.facets import MODEL
from jobs.states import FINAL, State
from jobs.tables import Event, Facet, Job, Tenant

TENANTS = 50
BATCH = 2000
STATES = {State.SUCCEEDED: 930, State.FAILED: 40, State.CANCELLED: 20, State.PAUSED: 4, State.QUEUED: 5, State.RUNNING: 1}
MODELS = tuple(f"owner/model-{number}" for number in range(20))
RARE_MODEL = "owner/asked-for-once"
TEAMS = tuple(f"team-{number}" for number in range(10))
RARE_EVERY = 5000  # jobs of the tenant that is measured between two that are the only ones of their model and label
START = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = {"recipe": {"sparsity": 0.5, "pattern": "2:4"}}


def fill(sessions: Sessions, count: int, recipe: dict[str, Any]) -> None:
    """Bring the table up to `count` jobs of 50 tenants, half of them the measured tenant's own, with three events each.

    Args: recipe: as resolved.
    """
    with sessions.begin() as session:
        present = session.scalar(select(func.count()).select_from(Job)) or 0
        tenants = [LOCAL_TENANT_ID, *_other_tenants(session)]
    jobs = itertools.islice(_jobs(tenants, recipe), present, count)
    while batch := list(itertools.islice(jobs, BATCH)):
        with sessions.begin() as session:
            session.execute(insert(Job), batch)
            session.execute(insert(Facet), [facet for job in batch for facet in _facets(job)])
            session.execute(insert(Event), [event for job in batch for event in _events(job)])
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).execute(text("ANALYZE"))


def _other_tenants(session: Session) -> list[str]:
    ids = [str(ULID.from_int(number + 1)) for number in range(TENANTS - 1)]
    if session.get(Tenant, ids[0]) is None:
        rows = [{"id": each, "name": f"tenant-{each[-3:].lower()}", "quotas": {}, "created_at": START} for each in ids]
        session.execute(insert(Tenant), rows)
    return ids


def _jobs(tenants: list[str], recipe: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of jobs, a minute apart, without end."""
    draw = random.Random(0)
    for number in itertools.count():
        created_at = START + timedelta(minutes=number)
        state = draw.choices(list(STATES), list(STATES.values()))[0]
        is_rare, has_begun = number % RARE_EVERY == 0, state is not State.QUEUED
        model = RARE_MODEL if is_rare else MODELS[min(int(draw.expovariate(0.3)), len(MODELS) - 1)]
        yield {
            "id": str(ULID.from_int((int(created_at.timestamp() * 1000) << 80) + number)),
            "tenant_id": tenants[0] if number % 2 == 0 else draw.choice(tenants[1:]),
            "task": "compress",
            "state": state,
            "model": model,
            "request": {"model": model, **REQUEST},
            "recipe": recipe,
            "labels": {"team": draw.choice(TEAMS), "run": f"run-{number}"} | ({"rare": "yes"} if is_rare else {}),
            "attempt": int(has_begun),
            "max_attempts": 3,
            "claimable_at": created_at,
            "fraction": 1.0 if state is State.SUCCEEDED else None,
            "owner": "a-host:1" if state is State.RUNNING else None,
            "lease_expires_at": datetime(2100, 1, 1, tzinfo=UTC) if state is State.RUNNING else None,
            "last_seq": 3,
            "created_at": created_at,
            "updated_at": created_at,
            "started_at": created_at if has_begun else None,
            "finished_at": created_at + timedelta(hours=1) if state in FINAL else None,
        }


def _events(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for seq, kind, data in (
        (1, "state", {"state": State.QUEUED, "attempt": 0}),
        (2, "note", {"level": "info", "message": "A note."}),
        (3, "state", {"state": job["state"], "attempt": job["attempt"]}),
    ):
        yield {
            "job_id": job["id"],
            "seq": seq,
            "type": kind,
            "data": data,
            "attempt": job["attempt"],
            "created_at": job["created_at"],
        }


def _facets(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in {MODEL: job["model"], **job["labels"]}.items():
        yield {"id": job["id"], "name": name, "value": value, "tenant_id": job["tenant_id"], "created_at": job["created_at"]}
