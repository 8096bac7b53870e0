"""What killed workers have left is removed when the next one starts."""

import os
import time
from pathlib import Path

from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from tests.worker.conftest import Submit
from worker.leftovers import ABANDONED_AFTER_S, remove_leftovers


def download(folder: Path, age_s: float) -> Path:
    """A folder of a download that was last written to so long ago."""
    made = folder / ".fetch-abc"
    made.mkdir(parents=True)
    (made / "part").write_bytes(b"x")
    then = time.time() - age_s
    for path in (made / "part", made):
        os.utime(path, (then, then))
    return made


def test_downloads_that_nobody_finishes_are_removed(settings: Settings, sessions: Sessions) -> None:
    old = download(settings.cache_dir / "demo" / "model", ABANDONED_AFTER_S + 60)
    at_work = download(settings.cache_dir / "texts", 60)
    kept = settings.cache_dir / "texts" / "wiki.jsonl"
    kept.write_bytes(b"x")
    os.utime(kept, (0, 0))
    remove_leftovers(settings, sessions)
    assert (old.exists(), at_work.exists(), kept.exists()) == (False, True, True)


def test_folders_of_ended_jobs_are_removed_with_what_a_killed_fetch_left_in_them(
    settings: Settings, sessions: Sessions, submit: Submit
) -> None:
    ended, waiting = submit(), submit()
    with sessions.begin() as session:
        repository.request_cancel(session, LOCAL_TENANT_ID, ended)
    folders = [settings.scratch_dir / "jobs" / job_id for job_id in (ended, waiting)]
    for folder in folders:
        download(folder / "solutions", 0)
    remove_leftovers(settings, sessions)
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_start_without_a_database_is_none_the_worse(settings: Settings, tmp_path: Path) -> None:
    from jobs import database

    (settings.scratch_dir / "jobs" / "01J").mkdir(parents=True)
    unmigrated = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'none.db'}"})
    engine = database.engine(unmigrated)
    remove_leftovers(settings, database.sessions(engine))
    assert (settings.scratch_dir / "jobs" / "01J").exists()
    engine.dispose()
