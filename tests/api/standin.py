"""A worker's part, played by the test: it writes what a worker writes, through the repository."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import attempts
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.databases import chosen_from
from jobs.failure import Failure
from jobs.finished_report import read_report
from jobs.publications import Published
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.uploads.model_checks import tend_uploads

LEASE_S = 60.0
BROKE_DOWN = Failure(type="numerical-error", title="The mathematics broke down", detail="layer 3: NaN", layer="layer 3")


class Worker:
    def __init__(self, settings: Settings, sessions: Sessions, folder: Path) -> None:
        self._settings = settings
        self._sessions = sessions
        self._store = artifact_store(settings)
        self._folder = folder
        self._attempts: dict[str, int] = {}

    def claim(self) -> str:
        """Take the oldest queued job. Returns: its id."""
        with self._sessions.begin() as session:
            job = attempts.claim(session, "the test", LEASE_S)
        assert job is not None, "nothing is queued"
        self._attempts[job.id] = job.attempt
        return job.id

    def record(self, job_id: str, kind: str, **data: Any) -> None:
        with self._sessions.begin() as session:
            attempts.record(session, job_id, self._attempts[job_id], kind, data)

    def note(self, job_id: str, message: str) -> None:
        self.record(job_id, "note", level="info", message=message)

    def block(self, job_id: str, block: int, blocks: int = 30) -> None:
        data = {"block": block, "blocks": blocks, "fraction": block / blocks, "eta_s": 12.0, "mean_relative_error": 0.02}
        self.record(job_id, "block", **data, host_memory_bytes=1, device_memory_bytes=None, is_replayed=False)

    def succeed(self, job_id: str, files: Mapping[str, bytes], solutions: Mapping[str, bytes] | None = None) -> None:
        stored = [self._store_file(name, content) for name, content in files.items()]
        kept = [self._store_file(name, content) for name, content in (solutions or {}).items()]
        (self._folder / "report").write_bytes(files.get("report.json", b""))
        chosen = chosen_from(read_report(self._folder / "report"))
        with self._sessions.begin() as session:
            attempts.succeed(session, job_id, self._attempts[job_id], stored, solutions=kept, chosen=chosen)

    def publish(self, job_id: str, published: Published) -> None:
        """The end of a publication."""
        with self._sessions.begin() as session:
            attempts.succeed(session, job_id, self._attempts[job_id], [], published=published)

    def fail(self, job_id: str, failure: Failure = BROKE_DOWN) -> None:
        with self._sessions.begin() as session:
            attempts.fail(session, job_id, self._attempts[job_id], failure)

    def cancelled(self, job_id: str) -> None:
        with self._sessions.begin() as session:
            attempts.cancelled(session, job_id, self._attempts[job_id])

    def tend_uploads(self) -> None:
        """As the housekeeping does every second."""
        tend_uploads(self._sessions, self._store, self._settings, threading.Event())

    def _store_file(self, name: str, content: bytes) -> StoredFile:
        path = self._folder / "file"
        path.write_bytes(content)
        sha256, size_bytes = self._store.put_file(path)
        return StoredFile(name, sha256, size_bytes)
