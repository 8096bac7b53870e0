"""`scalpel cancel`, `pause`, `resume` and `retry`: what one does to a job that is there."""

from typing import TYPE_CHECKING

from cli.exits import CommandError, Exit
from cli.flags import Watched
from cli.jobs import JobId
from cli.listing import Json, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from cli.submit import tell_submitted

if TYPE_CHECKING:
    from client import Job, Scalpel

SOON = "; it stops at the worker's next heartbeat"


def cancel(job_id: JobId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop a job. A running one stops within a few seconds and keeps no artifact."""
    with connect(url, data_dir) as service:
        job = service.cancel(job_id)
    _tell(job, "" if job.is_final else SOON, is_json)


def pause(job_id: JobId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Let a job rest until `scalpel resume`. A running one stops within seconds and keeps its finished blocks."""
    with connect(url, data_dir) as service:
        job = service.pause(job_id)
    _tell(job, SOON if job.pause_requested else "", is_json)


def resume(job_id: JobId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Queue a paused job again; it continues after its last finished block."""
    with connect(url, data_dir) as service:
        job = service.resume(job_id)
    _tell(job, "", is_json)


def retry(
    job_id: JobId,
    is_watched: Watched = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Ask again for what a failed or cancelled job was asked for: a new job, from its first block. Prints its id.

    The old one stays. A worker that is lost needs no such help: its job goes on by itself.
    """
    with connect(url, data_dir) as service:
        job = service.job(job_id)
        if job.state not in ("failed", "cancelled"):
            words = f"job {job.id} is {job.state}; only one that failed or was cancelled is asked for again"
            raise CommandError(words, Exit.REFUSED)
        return tell_submitted(service, _asked_again(service, job), is_watched, is_json)


def _asked_again(service: "Scalpel", job: "Job") -> "Job":
    if job.task in ("compress", "evaluate"):
        return service.request(job.request)
    if job.parent is None:
        raise CommandError(f"the job that {job.id} was about is deleted", Exit.REFUSED)
    if job.task == "export":
        return service.export(job.parent, job.request["output"], labels=job.labels)
    return service.publish(job.parent, job.request["target"], labels=job.labels)


def _tell(job: "Job", more: str, is_json: bool) -> None:
    tell(job.model_dump(mode="json"), f"{job.id} is {job.state}{more}", is_json=is_json)
