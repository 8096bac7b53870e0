"""Finished blocks from this host to the artifact store, as they are announced, by a thread beside the running child.

Nothing here holds up the child or fails the job: a store that is down is tried again and again, and what has not arrived when
the attempt ends is solved again, should another host take the job.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from compression.block_files import FINGERPRINT_FILE, block_path
from compression.events import BlockFinished
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.errors import StaleAttempt
from jobs.store import checkpoints
from jobs.store.artifacts import ArtifactStore
from worker.backoff import full_jitter_s

MAX_WAITING = 1024  # announcements; a model has fewer blocks
RETRY_DELAY_S = 1.0
MAX_RETRY_DELAY_S = 30.0

log = logging.getLogger(__name__)


class NotThere(Exception):
    """A block was announced and has no file: thrown away by now, or never written."""


class Uploads:
    """The uploads of one attempt.

    Args:
        folder: of the finished blocks.
        on_fault: told once in words when the store fails, and again only after it had recovered.
        draw: for the back-off; numbers from 0 to 1.
    """

    def __init__(
        self,
        sessions: Sessions,
        store: ArtifactStore,
        job_id: str,
        attempt: int,
        folder: Path,
        on_fault: Callable[[str], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._sessions, self._store, self._folder = sessions, store, folder
        self._job_id, self._attempt = job_id, attempt
        self._on_fault, self._draw = on_fault, draw
        self._waiting: deque[BlockFinished] = deque()
        self._changed = threading.Condition()
        self._is_idle = True
        self._ending, self._closed = threading.Event(), threading.Event()
        self._fingerprint: StoredFile | None = None
        self._held: set[str] = set()  # names of the manifest that need not be stored again
        threading.Thread(target=self._work, name=f"uploads-{job_id}", daemon=True).start()

    def block_finished(self, event: BlockFinished) -> None:
        """Have the block stored soon. Returns at once."""
        with self._changed:
            if len(self._waiting) == MAX_WAITING:
                log.warning("job %s: block %d will not be stored: too many wait", self._job_id, self._waiting.popleft().block)
            self._waiting.append(event)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything announced is stored, but not for a store that fails. Returns: whether it is."""
        self._ending.set()
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle and not self._waiting, timeout_s) and not self._closed.is_set()

    def close(self) -> None:
        """Store nothing more; an upload that runs is left behind, and nothing points at it."""
        self._ending.set()
        self._closed.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._store_block(event)
            except StaleAttempt:
                self.close()

    def _next(self) -> BlockFinished | None:
        with self._changed:
            self._is_idle = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
            if self._closed.is_set():
                return None
            self._is_idle = False
            return self._waiting.popleft()

    def _store_block(self, event: BlockFinished) -> None:
        failures, is_last_try = 0, False
        while not self._closed.is_set():
            try:
                self._store_once(event)
                return
            except StaleAttempt:
                raise
            except NotThere as error:
                log.info("job %s: %s", self._job_id, error)  # so are the blocks of what a goal does before its last pass
                return
            except Exception as error:  # the boundary: whatever the store or the database fails with, the job goes on
                failures += 1
                self._tell(event, failures, error)
                if is_last_try:
                    self.close()
                is_last_try = self._ending.wait(full_jitter_s(RETRY_DELAY_S, failures, MAX_RETRY_DELAY_S, self._draw))

    def _store_once(self, event: BlockFinished) -> None:
        if self._fingerprint is None:
            self._fingerprint = self._put(self._folder / FINGERPRINT_FILE)
            with self._sessions() as session:
                held = checkpoints.kept(session, self._job_id)
            self._held = {file.name for file in held if file.fingerprint == self._fingerprint.sha256}
        path = block_path(self._folder, event.block - 1)
        if event.is_replayed and path.name in self._held:
            return
        block = self._put(path)
        if not self._closed.is_set():
            with self._sessions.begin() as session:
                checkpoints.keep(session, self._job_id, self._attempt, self._fingerprint, block)

    def _put(self, path: Path) -> StoredFile:
        if path.is_symlink() or not path.is_file():
            raise NotThere(f"{path.name} was announced and is no file")
        sha256, size_bytes = self._store.put_file(path)
        return StoredFile(path.name, sha256, size_bytes)

    def _tell(self, event: BlockFinished, failures: int, error: Exception) -> None:
        log.warning("job %s: block %d could not be stored (%d)", self._job_id, event.block, failures, exc_info=error)
        if failures == 1 and not self._closed.is_set():
            try:
                self._on_fault(
                    f"block {event.block} is finished here but could not be stored elsewhere yet; it is tried again"
                )
            except Exception:  # the database may be what is down
                log.warning("job %s: and this could not be noted", self._job_id, exc_info=True)
