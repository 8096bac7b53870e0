"""One job's folder on this host. It outlives an attempt, so that the next one here continues from the finished blocks."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from compression.block_files import BLOCKS_FOLDER
from jobs.database import Sessions
from jobs.states import FINAL
from jobs.tables import Job


@dataclass(frozen=True)
class JobFolder:
    """Where an attempt works. `work`, `out` and `solutions` are the library's; `lock` admits one runner at a time."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def blocks(self) -> Path:
        """The finished blocks in `work`."""
        return self.work / BLOCKS_FOLDER

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def solutions(self) -> Path:
        """What a compression keeps for exports, or what an export was given."""
        return self.root / "solutions"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def make(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def job_folder(scratch_dir: Path, job_id: str) -> JobFolder:
    return JobFolder(scratch_dir / "jobs" / job_id)


def remove_abandoned(scratch_dir: Path, sessions: Sessions) -> None:
    """Remove the folders of jobs that have ended elsewhere: on another host, or while nobody was working on them."""
    parent = scratch_dir / "jobs"
    found = {folder.name for folder in parent.iterdir()} if parent.is_dir() else set()
    if not found:
        return
    with sessions.begin() as session:
        alive = set(session.scalars(select(Job.id).where(Job.id.in_(found), Job.state.not_in(FINAL))))
    for job_id in found - alive:
        job_folder(scratch_dir, job_id).remove()
