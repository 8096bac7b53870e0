"""Finished blocks from the artifact store to this host, so that an attempt continues where one on another host ended."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from compression.block_files import FINGERPRINT_FILE
from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt
from jobs.sourcing.fetch import OnNote
from jobs.store import checkpoints
from jobs.store.artifacts import ArtifactStore
from jobs.tables import Checkpoint
from worker.interruptible import interruptible

log = logging.getLogger(__name__)


def restore(
    sessions: Sessions, store: ArtifactStore, job_id: str, folder: Path, on_note: OnNote, check: Callable[[], None]
) -> None:
    """Bring every block of the job's manifest that is not here; whether they fit, the library judges by the fingerprint.

    Blocks of another pass that lie here already are left alone: only the library knows which of the two fits this host.

    Args: folder: of the finished blocks. check: raises when the attempt must stop.
    """
    with sessions() as session:
        manifest = checkpoints.kept(session, job_id)
    fingerprint = next((file for file in manifest if file.name == FINGERPRINT_FILE), None)
    if fingerprint is None:
        return
    here = folder / FINGERPRINT_FILE
    if not here.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # blocks that nobody can place: a removal was interrupted
    elif hashlib.sha256(here.read_bytes()).hexdigest() != fingerprint.sha256:
        return
    blocks = [file for file in manifest if file is not fingerprint and not (folder / file.name).exists()]
    # The fingerprint first: an interrupted restoration leaves a folder that the next one completes.
    if not _fetch(store, fingerprint, here, check):
        return
    count = sum(_fetch(store, file, folder / file.name, check) for file in blocks)
    if blocks:
        on_note(f"finished blocks brought here from the artifact store: {count}")


def _fetch(store: ArtifactStore, file: Checkpoint, path: Path, check: Callable[[], None]) -> bool:
    """Whether it is here, verified. One that is damaged is solved again, which costs less than the job."""
    try:
        interruptible(partial(store.fetch_file, file.sha256, path), check)
    except ArtifactCorrupt as error:
        log.warning("job %s: the checkpoint %s is left out: %s", file.job_id, file.name, error)
        return False
    return True
