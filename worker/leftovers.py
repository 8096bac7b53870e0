"""What killed workers have left on this host: job folders of jobs that have ended, and downloads that nobody finishes."""

import logging
import shutil
import time
from pathlib import Path

from jobs.database import Sessions
from jobs.settings import Settings
from worker.folder import remove_abandoned

DOWNLOADS = (
    ".fetch-*"  # temporary folders beside the file that they become, see jobs/sourcing/demo.py and jobs/sourcing/hub_texts.py
)
ABANDONED_AFTER_S = 6 * 3600.0  # without a write; another worker here may still be at it, and hubs can be slow

log = logging.getLogger(__name__)


def remove_leftovers(settings: Settings, sessions: Sessions) -> None:
    """To be called when a worker starts. What cannot be removed now, such as with a database that is not there, stays."""
    remove_abandoned_downloads(settings.cache_dir)
    try:
        remove_abandoned(settings.scratch_dir, sessions)
    except Exception:  # the boundary of the start: the next ring tries again
        log.warning("job folders of earlier runs could not be looked through", exc_info=True)


def remove_abandoned_downloads(cache_dir: Path) -> None:
    before = time.time() - ABANDONED_AFTER_S
    for folder in list(cache_dir.rglob(DOWNLOADS)):
        if folder.is_dir() and not folder.is_symlink() and _last_write(folder) < before:
            log.info("removing %s, which a download has left", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _last_write(folder: Path) -> float:
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:  # somebody is at work in it
            return time.time()
    return max(times)
