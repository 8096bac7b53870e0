"""What must hold after benchmarks/faults.py, whatever was killed; read from database, store and disk themselves."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import obstore
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.fault_run import Run
from compression.manifest import REPORT_FILE
from compression.report import Report
from jobs.errors import ArtifactCorrupt
from jobs.states import FINAL, State
from jobs.store.artifacts import DIGESTS, ROOT, ArtifactStore, artifact_store, object_store
from jobs.store.retention import referenced
from jobs.tables import Artifact, Checkpoint, Event, Job, Ring
from tests.stack import Stack


@dataclass(frozen=True)
class JobFacts:
    """One job as the database has it, and its report's digest."""

    attempts: int
    replayed_blocks: int
    digest: str


def facts(stack: Stack, run: Run) -> dict[int, JobFacts]:
    """By request; of jobs that have a report."""
    store, found = artifact_store(stack.settings), {}
    with stack.sessions() as session:
        for index, job_id in run.ids.items():
            report = session.get(Artifact, (job_id, REPORT_FILE))
            if report is not None:
                digest = Report.model_validate_json(b"".join(store.stream(report.sha256))).payload_digest
                job = session.get_one(Job, job_id)
                found[index] = JobFacts(job.attempt, _replayed(session, job_id), digest)
    return found


def _replayed(session: Session, job_id: str) -> int:
    events = session.scalars(select(Event).where(Event.job_id == job_id, Event.type == "block"))
    return sum(bool(event.data["is_replayed"]) for event in events)


def violations(stack: Stack, run: Run) -> Iterator[str]:
    """Sentences on what should not be; none where all is well."""
    with stack.sessions() as session:
        for index, job_id in run.ids.items():
            yield from _of_job(session, job_id, run.seen.get(index, []))
        jobs = session.scalar(select(func.count()).select_from(Job))
        if jobs != len(run.ids):
            yield f"{jobs} jobs for {len(run.ids)} requests"
        for table in (Checkpoint, Ring):
            if count := session.scalar(select(func.count()).select_from(table)):
                yield f"{count} rows left in {table.__tablename__}"
        yield from _of_artifacts(session, artifact_store(stack.settings))
    yield from _of_objects(stack)


def _of_job(session: Session, job_id: str, seen: list[int]) -> Iterator[str]:
    job = session.get_one(Job, job_id, populate_existing=True)
    events = session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.seq)).all()
    ends = [event.data["state"] for event in events if event.type == "state" and event.data["state"] in FINAL]
    if job.state is not State.SUCCEEDED or ends != [State.SUCCEEDED]:
        yield f"job {job_id} is {job.state}, its ends were {ends}: {job.error}"
    numbers = [event.seq for event in events]
    if numbers != list(range(1, job.last_seq + 1)):
        yield f"job {job_id} has events {numbers}, its last is {job.last_seq}"
    if seen != numbers:
        yield f"the watcher of job {job_id} was given {seen} of {job.last_seq} events"
    attempts = Counter(event.attempt for event in events if event.type == "state" and event.data["state"] == State.RUNNING)
    if attempts != Counter(range(1, job.attempt + 1)):
        yield f"job {job_id} ran as attempts {dict(attempts)}, and counts {job.attempt}"


def _of_artifacts(session: Session, store: ArtifactStore) -> Iterator[str]:
    """Every file that a row names is there and is what the row says; a report lists them all."""
    for file in session.scalars(select(Artifact)):
        try:
            size = sum(map(len, store.stream(file.sha256)))
        except ArtifactCorrupt as error:
            yield f"{file.job_id} {file.name}: {error}"
            continue
        if size != file.size_bytes:
            yield f"{file.job_id} {file.name}: {size} bytes, {file.size_bytes} by its row"


def _of_objects(stack: Stack) -> Iterator[str]:
    """Every object is whole: its content has the hash that its name says, and its chunk digests are there."""
    store = object_store(stack.settings)
    paths = {entry["path"] for page in obstore.list(store, ROOT) for entry in page}
    for path in sorted(path for path in paths if not path.endswith(DIGESTS)):
        sha256 = hashlib.sha256(bytes(obstore.get(store, path).bytes())).hexdigest()
        if sha256 != path.rpartition("/")[2]:
            yield f"object {path} holds something else"
        if path + DIGESTS not in paths:
            yield f"object {path} has no chunk digests"


def garbage(stack: Stack) -> int:
    """Stored files that no row names: of attempts that were killed, and of checkpoints whose job has ended."""
    with stack.sessions() as session:
        pages = artifact_store(stack.settings).stored_before(datetime.now(UTC))
        return sum(len(page - referenced(session, page)) for page in pages)
